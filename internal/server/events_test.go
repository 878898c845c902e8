package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/internal/auth"
)

// listener is a client of /events.
type listener struct {
	t    *testing.T
	res  *http.Response
	in   *bufio.Scanner
	stop context.CancelFunc
	id   string // of the last event
	wait string // the last retry
}

// told is one event.
type told struct {
	name string
	data struct {
		All         bool
		Collections []struct {
			Href  string
			Token string `json:"sync_token"`
		}
		Reason     string
		RetryAfter int `json:"retry_after"`
	}
}

func (e told) hrefs() string {
	var out []string
	for _, c := range e.data.Collections {
		out = append(out, c.Href)
	}
	return strings.Join(out, " ")
}

// listen opens a stream, after the event with an id.
func listen(t *testing.T, client *http.Client, url, pass, id string) *listener {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(stop)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("alice", pass)
	if id != "" {
		req.Header.Set("Last-Event-ID", id)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return &listener{t: t, res: res, in: bufio.NewScanner(res.Body), stop: stop}
}

// next returns the next event; its name is empty at the end of the stream.
func (l *listener) next() (e told) {
	l.t.Helper()
	for l.in.Scan() {
		field, value, _ := strings.Cut(l.in.Text(), ": ")
		switch field {
		case "id":
			l.id = value
		case "retry":
			l.wait = value
		case "event":
			e.name = value
		case "data":
			if err := json.Unmarshal([]byte(value), &e.data); err != nil {
				l.t.Fatalf("data %q: %v", value, err)
			}
		case "":
			if e.name != "" {
				return e
			}
		}
	}
	return told{}
}

func (l *listener) want(name, hrefs string) told {
	l.t.Helper()
	e := l.next()
	if e.name != name || e.hrefs() != hrefs {
		l.t.Fatalf("got event %q of %q, want %q of %q", e.name, e.hrefs(), name, hrefs)
	}
	return e
}

func (l *listener) wantEnd(name, reason string) {
	l.t.Helper()
	if e := l.next(); e.name != name || e.data.Reason != reason {
		l.t.Errorf("got event %+v, want %s %s", e, name, reason)
	}
	if e := l.next(); e.name != "" {
		l.t.Errorf("after the last event: %+v", e)
	}
}

func (r *running) put(name string) {
	r.t.Helper()
	if res := r.do(http.MethodPut, "dav/alice/"+name, strings.NewReader("hello")); res.StatusCode != http.StatusCreated {
		r.t.Fatalf("put: %s", res.Status)
	}
}

func (r *running) syncToken(path string) string {
	r.t.Helper()
	body := text(r.do("PROPFIND", path, strings.NewReader(`<propfind xmlns="DAV:"><prop><sync-token/></prop></propfind>`)))
	m := regexp.MustCompile("sync-token>([^<]+)<").FindStringSubmatch(body)
	if m == nil {
		r.t.Fatalf("no sync token in %s", body)
	}
	return m[1]
}

// A stream tells each change of the account by collection and sync token, and one that comes again is told
// what it missed, after a restart too.
func TestEvents(t *testing.T) {
	cfg := made(t, filepath.Join(t.TempDir(), "data"))
	r := start(t, cfg).open()
	l := listen(t, http.DefaultClient, r.url, password, "")
	if ct := l.res.Header.Get("Content-Type"); l.res.StatusCode != http.StatusOK || ct != "text/event-stream" || l.res.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Fatalf("%s, %v", l.res.Status, l.res.Header)
	}
	l.want("ready", "")
	r.put("Files/a.txt")
	e := l.want("change", "/dav/alice/Files/")
	if got, want := e.data.Collections[0].Token, r.syncToken("dav/alice/Files/"); got != want {
		t.Errorf("token %s, PROPFIND says %s", got, want)
	}
	l.stop()
	r.put("Photos/b.jpg")
	r.do("MKCOL", "dav/alice/New/", nil)
	again := listen(t, http.DefaultClient, r.url, password, l.id)
	again.want("change", "/dav/alice/ /dav/alice/New/ /dav/alice/Photos/")
	if err := r.end(); err != nil {
		t.Errorf("stop with an open stream: %v", err)
	}
	again.wantEnd("wait", "")
	if again.wait == "" {
		t.Error("a stream ended without a word when to come again")
	}
	r = start(t, cfg).open()
	last := listen(t, http.DefaultClient, r.url, password, again.id)
	last.want("ready", "")
	r.put("Files/c.txt")
	last.want("change", "/dav/alice/Files/")
}

// Ids that are not ours say nothing; those that prove a loss, or are of another server, are answered 503.
func TestEventIDs(t *testing.T) {
	r := start(t, made(t, filepath.Join(t.TempDir(), "data"))).open()
	l := listen(t, http.DefaultClient, r.url, password, "not one of ours")
	l.want("change", "/dav/alice/ /dav/alice/Files/ /dav/alice/Photos/ /dav/alice/calendar/ /dav/alice/contacts/ /dav/alice/tasks/")
	forged := l.id[:len(l.id)-1] + "x"
	if res := listen(t, http.DefaultClient, r.url, password, forged).res; res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("a wrong MAC: %s", res.Status)
	}
	if res := listen(t, http.DefaultClient, r.url, "wrong", "").res; res.StatusCode != http.StatusUnauthorized {
		t.Errorf("a wrong password: %s", res.Status)
	}
	if res := r.do(http.MethodPost, "events", nil); res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != "GET" {
		t.Errorf("POST: %s", res.Status)
	}
}

// Who must not come in any more hears nothing more; others go on.
func TestEventsOfWhoIsGone(t *testing.T) {
	cfg := made(t, filepath.Join(t.TempDir(), "data"))
	r := start(t, cfg).open()
	device := func(name string) string {
		var a NewDevice
		call(t, cfg, "device/add", DeviceRequest{Account: "alice", Device: name}, &a)
		return a.Password
	}
	phone, tablet := device("phone"), device("tablet")
	owner := listen(t, http.DefaultClient, r.url, password, "")
	lost, kept := listen(t, http.DefaultClient, r.url, phone, ""), listen(t, http.DefaultClient, r.url, tablet, "")
	for _, l := range []*listener{owner, lost, kept} {
		l.want("ready", "")
	}
	call(t, cfg, "device/revoke", DeviceRequest{Account: "alice", Device: "phone"}, &auth.Device{})
	lost.wantEnd("end", "credentials")
	call(t, cfg, "account/set-password", AccountRequest{Name: "alice", Password: "another horse"}, &Nothing{})
	owner.wantEnd("end", "credentials")
	call(t, cfg, "account/add", AccountRequest{Name: "bob", Password: password}, &auth.Account{})
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, r.url+"dav/alice/Files/a", strings.NewReader("1"))
	req.SetBasicAuth("alice", tablet)
	if res, err := http.DefaultClient.Do(req); err != nil || res.StatusCode != http.StatusCreated {
		t.Fatalf("put: %v, %v", res, err)
	}
	kept.want("change", "/dav/alice/Files/")
	call(t, cfg, "account/remove", AccountRequest{Name: "alice"}, &Nothing{})
	kept.wantEnd("end", "credentials")
}

// A fence that closes ends streams with a word to wait, and what was missed is told afterwards.
func TestEventsFenced(t *testing.T) {
	cfg := made(t, filepath.Join(t.TempDir(), "data"))
	r := start(t, cfg).open()
	l := listen(t, http.DefaultClient, r.url, password, "")
	l.want("ready", "")
	r.put("Files/a.txt")
	l.want("change", "/dav/alice/Files/")
	if err := os.RemoveAll(filepath.Join(cfg.Dir, "store")); err != nil {
		t.Fatal(err)
	}
	if e := l.next(); e.name != "wait" || e.data.RetryAfter != 30 || l.wait != "30000" {
		t.Errorf("got %+v, retry %s", e, l.wait)
	}
	r.open()
	r.put("Files/b.txt")
	listen(t, http.DefaultClient, r.url, password, l.id).want("change", "/dav/alice/Files/")
}

// An account has as many streams as the settings allow: the oldest ends for the newest.
func TestEventsCrowd(t *testing.T) {
	cfg := made(t, filepath.Join(t.TempDir(), "data"))
	cfg.Settings.MaxStreams = 2
	r := start(t, cfg).open()
	var all []*listener
	for range 3 {
		l := listen(t, http.DefaultClient, r.url, password, "")
		l.want("ready", "")
		all = append(all, l)
	}
	all[0].wantEnd("end", "too many streams")
	if all[0].wait != "60000" {
		t.Errorf("retry %s", all[0].wait)
	}
	r.put("Files/a.txt")
	for _, l := range all[1:] {
		l.want("change", "/dav/alice/Files/")
	}
}

// Many changes become few events, none is forgotten, and the heart beats in between.
func TestEventsCoalesced(t *testing.T) {
	r := start(t, made(t, filepath.Join(t.TempDir(), "data"))).open()
	l := listen(t, http.DefaultClient, r.url, password, "")
	l.want("ready", "")
	const puts = 100
	for i := range puts {
		r.put(fmt.Sprintf("Files/%d.txt", i))
	}
	want := r.syncToken("dav/alice/Files/")
	for n := 1; ; n++ {
		if e := l.want("change", "/dav/alice/Files/"); e.data.Collections[0].Token == want {
			t.Logf("%d changes, %d events", puts, n)
			if n >= puts {
				t.Errorf("%d events for %d changes", n, puts)
			}
			return
		}
	}
}

// Over HTTP/2 a stream is one of many of a connection; it tells the same, and ends when the client leaves.
func TestEventsHTTP2(t *testing.T) {
	cfg := made(t, filepath.Join(t.TempDir(), "data"))
	cfg.Settings.TLSCert, cfg.Settings.TLSKey = "cert.pem", "key.pem"
	cfg.Settings.ProgressTimeout = 5 * time.Second
	writeCert(t, cfg.Dir, 1)
	r := start(t, cfg)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	defer c.CloseIdleConnections()
	r.client = c
	r.open()
	l := listen(t, c, r.url, password, "")
	if l.res.ProtoMajor != 2 {
		t.Fatalf("%s", l.res.Proto)
	}
	l.want("ready", "")
	for _, name := range []string{"a", "b"} {
		r.put("Files/" + name)
		l.want("change", "/dav/alice/Files/")
	}
	call(t, cfg, "account/remove", AccountRequest{Name: "alice"}, &Nothing{})
	l.wantEnd("end", "credentials")
}
