package server

import (
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast/internal/auth"
	"holdfast/internal/config"
	"holdfast/internal/push/pushtest"
)

// pushing is a server that may reach a push service on this machine.
func pushing(t *testing.T, service *pushtest.Service) Config {
	t.Helper()
	cfg := made(t, filepath.Join(t.TempDir(), "data"))
	at := netip.MustParseAddrPort(strings.TrimPrefix(service.URL, "http://"))
	cfg.Settings.PushAllow = []config.PushAllow{{Network: netip.PrefixFrom(at.Addr(), 32), Port: at.Port()}}
	return cfg
}

// ask is do with the password of a device, headers and a body.
func (r *running) ask(method, path, pass, body string, header ...string) *http.Response {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+strings.TrimPrefix(path, r.url), strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.SetBasicAuth("alice", pass)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	res.Body = io.NopCloser(strings.NewReader(string(b)))
	return res
}

const xmlBody = "application/xml; charset=utf-8"

// register registers a phone for a collection, as DAVx5 does, and returns the registration's URL.
func (r *running) register(p *pushtest.Phone, path, pass string, want int) string {
	r.t.Helper()
	res := r.ask(http.MethodPost, path, pass, p.Register(""), "Content-Type", xmlBody)
	at := res.Header.Get("Location")
	ends, err := http.ParseTime(res.Header.Get("Expires"))
	if res.StatusCode != want || !strings.HasPrefix(at, r.url+"dav/principals/alice/push/") || err != nil || time.Until(ends) < 72*time.Hour || time.Until(ends) > 170*time.Hour {
		r.t.Fatalf("register: %s, Location %q, Expires %q: %s", res.Status, at, res.Header.Get("Expires"), text(res))
	}
	return at
}

func (r *running) pushProps(path string) (key, topic string) {
	r.t.Helper()
	res := r.ask("PROPFIND", path, password, `<propfind xmlns="DAV:" xmlns:P="https://bitfire.at/webdav-push"><prop><P:transports/><P:topic/><P:supported-triggers/></prop></propfind>`, "Depth", "0")
	m := regexp.MustCompile(`transports[^>]*><x:web-push><x:vapid-public-key type="p256ecdsa">([\w-]{87})</.*topic[^>]*>([\w-]{22})</.*content-update><D:depth>1<.*property-update><D:depth>0<`).FindStringSubmatch(text(res))
	if m == nil {
		return "", ""
	}
	return m[1], m[2]
}

// awaitKey waits until the server has its key for push services.
func (r *running) awaitKey() (key string) {
	r.t.Helper()
	for tick := time.NewTicker(5 * time.Millisecond); key == ""; <-tick.C {
		key, _ = r.pushProps("dav/alice/contacts/")
	}
	return key
}

func (r *running) write(pass, path string, header ...string) {
	r.t.Helper()
	if res := r.ask(http.MethodPut, path, pass, "hello", header...); res.StatusCode != http.StatusCreated && res.StatusCode != http.StatusNoContent {
		r.t.Fatalf("put %s: %s", path, res.Status)
	}
}

func wantMessage(t *testing.T, m pushtest.Message, topic, token string) {
	t.Helper()
	want := `<?xml version="1.0" encoding="utf-8"?><push-message xmlns="https://bitfire.at/webdav-push" xmlns:D="DAV:"><topic>` + topic +
		`</topic><content-update><D:sync-token>` + token + `</D:sync-token></content-update></push-message>`
	if m.Text != want {
		t.Errorf("message\n%s\nwant\n%s", m.Text, want)
	}
	h := m.Header
	if h.Get("Content-Encoding") != "aes128gcm" || h.Get("Ttl") == "" || h.Get("Urgency") != "normal" || len(h.Get("Topic")) != 32 {
		t.Errorf("header %v", h)
	}
}

// Two phones are told of each other's changes and not of their own, across a restart, until they unregister.
func TestWebPush(t *testing.T) {
	service := pushtest.New(t)
	cfg := pushing(t, service)
	r := start(t, cfg).open()
	key := r.awaitKey()
	service.Restrict(key)
	if res := r.ask(http.MethodOptions, "dav/alice/Files/", password, ""); !strings.Contains(res.Header.Get("Dav"), "webdav-push") {
		t.Errorf("DAV: %s", res.Header.Get("Dav"))
	}
	one, two := service.Phone(t), service.Phone(t)
	at1 := r.register(one, "dav/alice/Files/", password, http.StatusCreated)
	at2 := r.register(two, "dav/alice/Files/", password, http.StatusCreated)
	_, topic := r.pushProps("dav/alice/Files/")

	r.write(password, "dav/alice/Files/a", "Push-Dont-Notify", `"`+at1+`"`)
	wantMessage(t, two.Next(t), topic, r.syncToken("dav/alice/Files/"))
	r.write(password, "dav/alice/Files/b", "Push-Dont-Notify", `"`+at2+`"`)
	wantMessage(t, one.Next(t), topic, r.syncToken("dav/alice/Files/"))
	if len(one.Messages)+len(two.Messages) > 0 {
		t.Error("a phone was told of its own change")
	}
	r.write(password, "dav/alice/Photos/c")
	r.write(password, "dav/alice/Files/d", "Push-Dont-Notify", "*")
	if res := r.ask(http.MethodDelete, "dav/alice/Files/a", password, ""); res.StatusCode != http.StatusNoContent {
		t.Errorf("delete: %s", res.Status)
	}
	token := r.syncToken("dav/alice/Files/")
	wantMessage(t, one.Next(t), topic, token)
	wantMessage(t, two.Next(t), topic, token)

	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	r = start(t, cfg).open()
	if again := r.awaitKey(); again != key {
		t.Errorf("the key is another one after a restart")
	}
	r.ask("PROPPATCH", "dav/alice/Files/", password, `<propertyupdate xmlns="DAV:"><set><prop><displayname>Papers</displayname></prop></set></propertyupdate>`)
	if m := one.Next(t); !strings.Contains(m.Text, "</topic><property-update/></push-message>") {
		t.Errorf("of a property: %s", m.Text)
	}
	two.Next(t)
	at1 = strings.Replace(at1, at1[:strings.Index(at1, "dav/")], r.url, 1)
	if got := r.register(one, "dav/alice/Files/", password, http.StatusNoContent); got != at1 {
		t.Errorf("registered again: %s, want %s", got, at1)
	}
	for _, want := range []int{http.StatusNoContent, http.StatusNotFound} {
		if res := r.ask(http.MethodDelete, at1, password, ""); res.StatusCode != want {
			t.Errorf("unregister: %s, want %d", res.Status, want)
		}
	}
	r.write(password, "dav/alice/Files/e")
	two.Next(t)
	if res := r.ask(http.MethodDelete, "dav/alice/Photos/", password, ""); res.StatusCode != http.StatusNoContent {
		t.Errorf("delete: %s", res.Status)
	}
	if len(one.Messages) > 0 {
		t.Error("told after it unregistered")
	}
}

// A subscription that its push service does not know any more, a device that was revoked, and a collection that
// is gone end their registrations.
func TestWebPushEnds(t *testing.T) {
	service := pushtest.New(t)
	cfg := pushing(t, service)
	r := start(t, cfg).open()
	r.awaitKey()
	var lost NewDevice
	call(t, cfg, "device/add", DeviceRequest{Account: "alice", Device: "phone"}, &lost)
	gone, revoked, kept := service.Phone(t), service.Phone(t), service.Phone(t)
	r.ask("MKCOL", "dav/alice/New/", password, "")
	r.register(gone, "dav/alice/Files/", password, http.StatusCreated)
	r.register(revoked, "dav/alice/Files/", lost.Password, http.StatusCreated)
	r.register(kept, "dav/alice/New/", password, http.StatusCreated)
	r.register(kept, "dav/alice/Files/", password, http.StatusCreated)
	r.register(kept, "dav/alice/", password, http.StatusCreated)

	r.awaitRegistrations("5")
	gone.Answer(http.StatusGone)
	call(t, cfg, "device/revoke", DeviceRequest{Account: "alice", Device: "phone"}, &auth.Device{})
	r.awaitRegistrations("4")
	r.write(password, "dav/alice/Files/a")
	gone.Next(t)
	kept.Next(t)
	r.awaitRegistrations("3")
	if len(revoked.Messages) > 0 {
		t.Error("a revoked device was told of a change")
	}
	r.ask(http.MethodDelete, "dav/alice/New/", password, "")
	last := kept.Next(t).Text + kept.Next(t).Text // of the home, and of the collection that is gone
	if strings.Count(last, "<content-update>") != 2 || strings.Count(last, "sync-token") != 2 {
		t.Errorf("of a collection that is gone: %s", last)
	}
	r.awaitRegistrations("2")
}

// registrations returns how many there are.
func (r *running) registrations() string {
	r.t.Helper()
	m := regexp.MustCompile(`(?m)^holdfast_push_registrations (\d+)$`).FindStringSubmatch(text(r.do(http.MethodGet, "metrics", nil)))
	if m == nil {
		r.t.Fatal("no number of registrations in the metrics")
	}
	return m[1]
}

// awaitRegistrations waits until there are so many.
func (r *running) awaitRegistrations(want string) {
	r.t.Helper()
	for tick := time.NewTicker(5 * time.Millisecond); r.registrations() != want; {
		<-tick.C
	}
}

func TestWebPushRefused(t *testing.T) {
	service := pushtest.New(t)
	r := start(t, pushing(t, service)).open()
	r.awaitKey()
	r.write(password, "dav/alice/Files/a")
	p := service.Phone(t)
	good := p.Register("")
	own := strings.Replace(good, p.URL, r.url+"dav/alice/Files/a", 1)
	for name, c := range map[string]struct {
		path, body string
		status     int
		has        string
	}{
		"this server itself":       {"dav/alice/Files/", own, 403, "invalid-subscription"},
		"a private address":        {"dav/alice/Files/", strings.Replace(good, p.URL, "https://10.0.0.1/x", 1), 403, "invalid-subscription"},
		"metadata of a cloud":      {"dav/alice/Files/", strings.Replace(good, p.URL, "http://169.254.169.254/latest", 1), 403, "invalid-subscription"},
		"no https":                 {"dav/alice/Files/", strings.Replace(good, p.URL, "http://push.example.org/x", 1), 403, "invalid-subscription"},
		"no endpoint":              {"dav/alice/Files/", strings.Replace(good, p.URL, "", 1), 403, "invalid-subscription"},
		"another kind of key":      {"dav/alice/Files/", strings.Replace(good, "p256dh", "x25519", 1), 403, "invalid-subscription"},
		"a short secret":           {"dav/alice/Files/", regexp.MustCompile("<auth-secret>....").ReplaceAllString(good, "<auth-secret>"), 403, "invalid-subscription"},
		"no secret":                {"dav/alice/Files/", regexp.MustCompile("<auth-secret>.*</auth-secret>").ReplaceAllString(good, ""), 403, "invalid-subscription"},
		"an encoding of old":       {"dav/alice/Files/", strings.Replace(good, "<subscription-public-key", "<content-encoding>aesgcm</content-encoding><subscription-public-key", 1), 403, "invalid-subscription"},
		"no subscription":          {"dav/alice/Files/", `<push-register xmlns="https://bitfire.at/webdav-push"/>`, 403, "invalid-subscription"},
		"no trigger that there is": {"dav/alice/Files/", p.Register("<trigger><moon-phase/></trigger>"), 403, "no-supported-trigger"},
		"a resource":               {"dav/alice/Files/a", good, 403, "push-not-available"},
		"the principal":            {"dav/principals/alice/", good, 403, "push-not-available"},
		"nothing there":            {"dav/alice/None/", good, 404, ""},
		"somebody else":            {"dav/bob/Files/", good, 404, ""},
		"another document":         {"dav/alice/Files/", `<mkcol xmlns="DAV:"/>`, 400, ""},
		"no document":              {"dav/alice/Files/", ``, 400, ""},
		"broken":                   {"dav/alice/Files/", good[:100], 400, ""},
		"large":                    {"dav/alice/Files/", good + strings.Repeat(" ", 1<<17), 413, ""},
	} {
		res := r.ask(http.MethodPost, c.path, password, c.body, "Content-Type", xmlBody)
		if b := text(res); res.StatusCode != c.status || !strings.Contains(b, c.has) {
			t.Errorf("%s: %s %s; want %d with %s", name, res.Status, b, c.status, c.has)
		}
	}
	if res := r.ask(http.MethodPost, "dav/alice/Files/", password, good, "Content-Type", "text/plain"); res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("text: %s", res.Status)
	}
	for method, want := range map[string]int{http.MethodGet: 405, http.MethodDelete: 404} {
		if res := r.ask(method, "dav/principals/alice/push/0123456789abcdef0123456789abcdef", password, ""); res.StatusCode != want {
			t.Errorf("%s of a registration that is not there: %s", method, res.Status)
		}
	}
	if res := r.ask(http.MethodDelete, "dav/principals/bob/push/0123456789abcdef0123456789abcdef", password, ""); res.StatusCode != 404 {
		t.Errorf("of somebody else: %s", res.Status)
	}
	if r.registrations() != "0" {
		t.Error("something was registered")
	}
}

// Switched off there is neither a word of it nor a way in.
func TestWebPushOff(t *testing.T) {
	cfg := made(t, filepath.Join(t.TempDir(), "data"))
	cfg.Settings.WebPush = false
	r := start(t, cfg).open()
	res := r.ask(http.MethodOptions, "dav/alice/Files/", password, "")
	if key, _ := r.pushProps("dav/alice/Files/"); key != "" || strings.Contains(res.Header.Get("Dav"), "push") {
		t.Errorf("key %q, DAV: %s", key, res.Header.Get("Dav"))
	}
	p := pushtest.New(t).Phone(t)
	if res := r.ask(http.MethodPost, "dav/alice/Files/", password, p.Register(""), "Content-Type", xmlBody); res.StatusCode != http.StatusForbidden {
		t.Errorf("registered: %s", res.Status)
	}
}
