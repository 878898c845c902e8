package server

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"holdfast/internal/config"
	"holdfast/internal/ledger"
	"holdfast/internal/push"
)

// everything is a collector's status with a value for each metric.
func everything() ledger.Status {
	missing := time.Now().Add(-time.Minute)
	return ledger.Status{
		State: "held", Code: "mirror-absent", Reason: "/mnt/secret", Changes: 12, Term: 3, Witness: &ledger.WitnessStatus{State: "complete"},
		Mirrors: []ledger.MirrorStatus{
			{Name: "usb", Path: "/mnt/secret", State: "absent", Changes: 5, FreeBytes: -1, Missing: &missing},
			{Name: "store", Path: "/mnt/secret2", State: "complete", Changes: 12, FreeBytes: 7},
		},
	}
}

// described returns name and labels of each of our metrics, from the registry's own descriptions.
func described(m *metrics) map[string]string {
	ch := make(chan *prometheus.Desc, 1000)
	m.registry.Describe(ch)
	close(ch)
	one := regexp.MustCompile(`fqName: "(holdfast_[a-z_]+)".*variableLabels: \{([^}]*)\}`)
	all := map[string]string{}
	for d := range ch {
		if f := one.FindStringSubmatch(d.String()); f != nil {
			all[f[1]] = strings.ReplaceAll(f[2], ",", ", ")
		}
	}
	return all
}

func watched(status ledger.Status) *metrics {
	m := newMetrics("test")
	m.registry.MustRegister(&statusCollector{status: func() ledger.Status { return status }, incidents: func() (int, error) { return 2, nil }})
	m.watchPush(func() push.Stats { return push.Stats{} })
	return m
}

func monitoringDoc(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestMetricsTable holds the registry and the table of docs/monitoring.md together, names, types and labels.
func TestMetricsTable(t *testing.T) {
	m := watched(everything())
	doc := monitoringDoc(t)
	listed := map[string]string{}
	types := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(holdfast_[a-z_]+)` \\| ([a-z]+) \\|([^|]*)\\|").FindAllStringSubmatch(doc, -1) {
		listed[row[1]], types[row[1]] = strings.TrimSpace(row[3]), row[2]
	}
	if d := cmp.Diff(described(m), listed); d != "" {
		t.Errorf("registry and docs/monitoring.md differ (-registry +table):\n%s", d)
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if want, ok := types[f.GetName()]; ok && strings.ToLower(f.GetType().String()) != want {
			t.Errorf("%s is a %s, the table says %s", f.GetName(), f.GetType(), want)
		}
	}
	_, rules, _ := strings.Cut(doc, "### Rules")
	for _, name := range regexp.MustCompile(`holdfast_[a-z_]+`).FindAllString(rules, -1) {
		name = strings.TrimSuffix(name, "_bucket")
		if _, ok := listed[name]; !ok {
			t.Errorf("a rule names %s, which is no metric", name)
		}
	}
}

// TestMetricsValues: what a scrape says, and what it never says.
func TestMetricsValues(t *testing.T) {
	m := watched(everything())
	m.request("GET", 207, time.Second)
	for _, method := range []string{"ALICE", "x", strings.Repeat("A", 100)} {
		m.request(method, 400, 0)
	}
	for i := range 100 {
		m.observe(strings.Repeat("s", i), time.Millisecond)
	}
	m.observe("ack", time.Millisecond)
	m.event(ledger.Event{Kind: "invented", Text: "secret"})
	m.event(ledger.Event{Kind: ledger.EventDamage, Bad: true, Account: 0xabcdef})
	body := scrape(t, m.handler, nil)
	for _, want := range []string{
		"holdfast_fence_state 1\n", `holdfast_fence_reason{code="mirror-absent"} 1`, `holdfast_fence{state="held"} 1`, `holdfast_fence{state="open"} 0`, "holdfast_copies 2\n", "holdfast_copies_required 3\n",
		`holdfast_head_seq{copy="store"} 12`, `holdfast_head_seq{copy="usb"} 5`, `holdfast_copy_lag_seq{copy="usb"} 7`, `holdfast_copy_complete{copy="usb"} 0`,
		`holdfast_free_bytes{copy="mirror store"} 7`, "holdfast_witness_complete 1", "holdfast_incidents 2",
		`holdfast_http_requests_total{code="4xx",method="other"} 3`, `holdfast_http_requests_total{code="2xx",method="GET"} 1`,
		`holdfast_events_total{bad="false",kind="other"} 1`, `holdfast_events_total{bad="true",kind="damage"} 1`, "holdfast_ack_wait_seconds_count 1",
		"go_goroutines ", "process_start_time_seconds ", `holdfast_build_info{go="go`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in the scrape", want)
		}
	}
	for _, never := range []string{"secret", "abcdef", "ALICE", `holdfast_free_bytes{copy="usb"}`} {
		if strings.Contains(body, never) {
			t.Errorf("the scrape says %q", never)
		}
	}
	if n := strings.Count(body, "holdfast_step_seconds_count"); n != maxSteps+1 {
		t.Errorf("%d steps have a number of their own, want %d and one for the others", n, maxSteps)
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "holdfast_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func scrape(t *testing.T, h http.Handler, edit func(*http.Request)) string {
	t.Helper()
	r := httptest.NewRequest("GET", "/metrics", nil)
	if edit != nil {
		edit(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Body.String()
}

// TestMetricsAccess: this machine, or the token; a proxy on this machine is not this machine.
func TestMetricsAccess(t *testing.T) {
	dir := t.TempDir()
	const token = "0123456789abcdef-token"
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte(token+"\nsecond line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "short"), []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, file, remote, host, header, value string
		want                                    int
	}{
		{"loopback", "", "127.0.0.1:5", "127.0.0.1:8480", "", "", 200},
		{"loopback by name", "", "[::1]:5", "localhost:8480", "", "", 200},
		{"loopback IPv6", "", "[::1]:5", "[::1]:8480", "", "", 200},
		{"loopback, without port", "", "[::1]:5", "[::1]", "", "", 200},
		{"mapped", "", "[::ffff:127.0.0.1]:5", "127.0.0.1", "", "", 200},
		{"a stranger", "", "192.0.2.1:5", "127.0.0.1", "", "", 403},
		{"no address", "", "@", "127.0.0.1", "", "", 403},
		{"a name led here by DNS", "", "127.0.0.1:5", "evil.example.org", "", "", 403},
		{"no host", "", "127.0.0.1:5", "", "", "", 403},
		{"through a proxy", "", "127.0.0.1:5", "127.0.0.1", "X-Forwarded-For", "127.0.0.1", 403},
		{"through another", "", "127.0.0.1:5", "127.0.0.1", "Forwarded", "for=127.0.0.1", 403},
		{"token", "token", "192.0.2.1:5", "cloud.example.org", "Authorization", "Bearer " + token, 200},
		{"token, lower case", "token", "192.0.2.1:5", "cloud.example.org", "Authorization", "bearer " + token, 200},
		{"wrong token", "token", "192.0.2.1:5", "cloud.example.org", "Authorization", "Bearer " + token + "x", 401},
		{"part of it", "token", "192.0.2.1:5", "cloud.example.org", "Authorization", "Bearer 0123", 401},
		{"basic", "token", "192.0.2.1:5", "cloud.example.org", "Authorization", "Basic " + token, 401},
		{"none", "token", "192.0.2.1:5", "cloud.example.org", "", "", 401},
		{"empty", "token", "192.0.2.1:5", "cloud.example.org", "Authorization", "Bearer ", 401},
		{"no token is set", "", "192.0.2.1:5", "cloud.example.org", "Authorization", "Bearer ", 403},
		{"a short token", "short", "192.0.2.1:5", "cloud.example.org", "Authorization", "Bearer short", 503},
		{"a file that is not there", "gone", "192.0.2.1:5", "cloud.example.org", "Authorization", "Bearer ", 503},
	} {
		s := &server{cfg: Config{Dir: dir, Settings: config.Default()}, log: quiet(), metrics: watched(everything())}
		s.cfg.Settings.MetricsTokenFile = c.file
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.RemoteAddr, r.Host = c.remote, c.host
		if c.header != "" {
			r.Header.Set(c.header, c.value)
		}
		w := httptest.NewRecorder()
		s.handler().ServeHTTP(w, r)
		if w.Code != c.want || strings.Contains(w.Body.String(), "holdfast_") != (c.want == 200) {
			t.Errorf("%s: got %d %.60q, want %d", c.name, w.Code, w.Body, c.want)
		}
		if strings.Contains(w.Body.String(), dir) {
			t.Errorf("%s: the answer names a directory", c.name)
		}
	}
}

// TestMetricsOfServer: a running server counts what it does, on its listener and on the admin socket.
func TestMetricsOfServer(t *testing.T) {
	cfg := made(t, filepath.Join(t.TempDir(), "data"))
	r := start(t, cfg).open()
	r.do("PUT", "dav/alice/Files/private-name.txt", strings.NewReader("hello"))
	body := text(r.do("GET", "metrics", nil))
	for _, want := range []string{"holdfast_fence_state 0\n", `holdfast_http_requests_total{code="2xx",method="PUT"} 1`, `holdfast_step_seconds_count{step="append"} `, `holdfast_events_total{bad="false",kind="fence"} 1`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q", want)
		}
	}
	for _, never := range []string{"alice", "private-name", cfg.Dir, cfg.Settings.Mirrors[0].Path} {
		if strings.Contains(body, never) {
			t.Errorf("it says %q", never)
		}
	}
	if res := r.do("POST", "metrics", nil); res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: got %s", res.Status)
	}
	socket := filepath.Join(cfg.Dir, runName, socketName)
	if len(socket) > maxSocketPath {
		return // a deep temporary directory: TestAdminBesideAndWithout has the way
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	res, err := c.Get("http://admin/metrics")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err := res.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil || !strings.Contains(string(b), "holdfast_fence_state 0\n") {
		t.Errorf("admin socket: %.100q, %v", b, err)
	}
}

// TestStatusDocument: docs/formats/status.md names every member, and its example is one.
func TestStatusDocument(t *testing.T) {
	b, err := os.ReadFile("../../docs/formats/status.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	listed := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(doc, -1) {
		listed[row[1]] = true
	}
	enc, err := json.Marshal(publicStatus(everything(), nil))
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(enc, &members); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(slices.Sorted(maps.Keys(members)), slices.Sorted(maps.Keys(listed))); d != "" {
		t.Errorf("status.json and its table differ (-code +table):\n%s", d)
	}
	_, example, _ := strings.Cut(doc, "```json\n")
	example, _, _ = strings.Cut(example, "```")
	var p PublicStatus
	d := json.NewDecoder(strings.NewReader(example))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil || !p.Well || p.Means != Words("open") || p.Events[0].What != publicWords(ledger.Event{Kind: ledger.EventFence, State: "open"}) {
		t.Errorf("the example: %+v, %v", p, err)
	}
	again, err := json.MarshalIndent(p, "", "  ")
	if err != nil || string(again)+"\n" != example {
		t.Errorf("the example is written otherwise:\n%s", again)
	}
}

// TestHistory: bounded, newest first, one line for what repeats, and nothing of an event's own words.
func TestHistory(t *testing.T) {
	var h history
	for i := range 50 {
		h.add(ledger.Event{Kind: ledger.EventFence, State: []string{"open", "closed"}[i%2], Text: "/mnt/secret", At: time.Unix(int64(i), 0)})
		h.add(ledger.Event{Kind: ledger.EventFence, State: []string{"open", "closed"}[i%2], Text: "healing: 5 changes so far", At: time.Unix(int64(i), 0)})
	}
	h.add(ledger.Event{Kind: ledger.EventMassChange, Bad: true, Account: 7, Text: "secret"})
	h.add(ledger.Event{Kind: ledger.EventDamage, Bad: true, Text: "secret"})
	got := h.list()
	if len(got) != maxHistory || got[0].Kind != "damage" || got[1].At.Unix() != 49 || got[2].At.Unix() != 48 {
		t.Errorf("got %+v", got)
	}
	page := string(page(publicStatus(everything(), got)))
	if strings.Contains(page, "secret") || !strings.Contains(page, "Damage was found in a copy") || strings.Count(page, "<li>") != maxHistory {
		t.Errorf("the page:\n%s", page)
	}
}

// TestProbe: what doctor sends is answered only to the one who began it, and what arrived is told.
func TestProbe(t *testing.T) {
	cfg := made(t, filepath.Join(t.TempDir(), "data"))
	r := start(t, cfg).open()
	var p ProbeSeen
	call(t, cfg, "probe/begin", Nothing{}, &p)
	send := func(nonce string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), "PROPFIND", strings.TrimSuffix(r.url, "/")+ProbePath, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(ProbeHeader, nonce)
		req.SetBasicAuth("doctor", "x")
		res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
		return res
	}
	if res := send("ff"); res.StatusCode == http.StatusServiceUnavailable {
		t.Error("a stranger's probe was answered")
	}
	var seen ProbeSeen
	call(t, cfg, "probe/end", ProbeRequest{p.Nonce}, &seen)
	if seen.Arrived {
		t.Error("a stranger's probe counts")
	}
	if res := send(p.Nonce); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("got %s", res.Status)
	}
	call(t, cfg, "probe/end", ProbeRequest{p.Nonce}, &seen)
	want := ProbeSeen{Nonce: p.Nonce, Arrived: true, Method: "PROPFIND", URI: ProbePath, Host: strings.TrimSuffix(strings.TrimPrefix(r.url, "http://"), "/"), Authorization: true}
	if d := cmp.Diff(want, seen); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
