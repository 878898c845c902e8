package dav

import (
	"context"
	"crypto/rand"
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
	"holdfast/internal/upload"
)

// The accounts of every test server.
const (
	anna holdfast.AccountID = 1
	ben  holdfast.AccountID = 2
)

// server is a real ledger behind a real listener.
type server struct {
	*httptest.Server
	t      testing.TB
	ledger *ledger.Ledger
	dav    *Handler
	config Config
	cfg    ledger.Config
	dir    string
	quota  int64 // of anna
}

// newServer makes a store, one mirror and the accounts anna and ben, and serves them. The password
// is the name: package auth is not what is tested here.
func newServer(t testing.TB, edit ...func(*Config)) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir()}
	s.cfg = ledger.Config{
		Dir: filepath.Join(s.dir, "data"), MinFree: 1, SegmentSize: 1 << 20,
		Mirrors: []ledger.MirrorConfig{{Name: "one", Path: filepath.Join(s.dir, "mirror")}},
		Log:     slog.New(slog.DiscardHandler),
	}
	_, _ = rand.Read(s.cfg.Server[:])
	if err := os.Mkdir(s.cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := ledger.Create(ctx, s.cfg); err != nil {
		t.Fatal(err)
	}
	s.open()
	for a, name := range map[holdfast.AccountID]string{anna: "anna", ben: "ben"} {
		if _, err := s.ledger.Update(ctx, a, 0, newAccount); err != nil {
			t.Fatalf("make account %s: %v", name, err)
		}
	}
	s.config = Config{Log: s.cfg.Log, Domain: "cloud.example", Uploads: s.uploads()}
	for _, e := range edit {
		e(&s.config)
	}
	s.config.Ledger = s.ledger
	s.dav = New(s.config)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/.well-known/") {
			WellKnown(w, r)
			return
		}
		name, _, ok := r.BasicAuth()
		ids := map[string]holdfast.AccountID{"anna": anna, "ben": ben, "ghost": 77}
		if !ok { // programs wait for the challenge
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		s.dav.ServeHTTP(w, r.WithContext(WithPrincipal(r.Context(), Principal{Account: ids[name], Name: name, Device: deviceOf(r), Quota: map[string]int64{"anna": s.quota}[name]})))
	}))
	t.Cleanup(func() {
		s.Server.Close()
		s.close()
	})
	return s
}

// uploads returns the area for pieces, as a process that has just begun has it.
func (s *server) uploads() *upload.Area {
	return upload.New(upload.Config{Dir: s.cfg.Dir, Keep: time.Hour, MaxBytes: 64 << 20, MinFree: 1})
}

// deviceOf is the device that a test sends its request from, 5 if it does not say.
func deviceOf(r *http.Request) holdfast.DeviceID {
	if n, err := strconv.Atoi(r.Header.Get("Test-Device")); err == nil {
		return holdfast.DeviceID(n)
	}
	return 5
}

// restart closes the ledger, lets what happen to its files, and opens it again.
func (s *server) restart(what func()) {
	s.t.Helper()
	s.close()
	what()
	s.open()
	s.config.Ledger, s.config.Uploads = s.ledger, s.uploads()
	s.dav = New(s.config)
}

func (s *server) close() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.ledger.Close(ctx); err != nil {
		s.t.Errorf("close ledger: %v", err)
	}
}

func (s *server) open() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	l, err := ledger.Open(ctx, s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := l.WaitOpen(ctx); err != nil {
		s.t.Fatal(err)
	}
	s.ledger = l
}

// newAccount makes the collections every person begins with.
func newAccount(tx *ledger.Tx) error {
	named := func(n string, more ...holdfast.Property) []holdfast.Property {
		return append([]holdfast.Property{{Name: "{DAV:}displayname", Value: n}}, more...)
	}
	comp := func(c string) holdfast.Property {
		return holdfast.Property{Name: "{urn:ietf:params:xml:ns:caldav}supported-calendar-component-set", Value: `<comp xmlns="urn:ietf:params:xml:ns:caldav" name="` + c + `"/>`}
	}
	tx.PutCollection(&ledger.Collection{ID: holdfast.Root, Kind: holdfast.KindFile})
	tx.NewCollection(holdfast.Root, "contacts", holdfast.KindCard, named("Contacts"))
	tx.NewCollection(holdfast.Root, "calendar", holdfast.KindCalendar, named("Calendar", comp("VEVENT")))
	tx.NewCollection(holdfast.Root, "tasks", holdfast.KindCalendar, named("Tasks", comp("VTODO")))
	tx.NewCollection(holdfast.Root, "Files", holdfast.KindFile, named("Files"))
	return nil
}

// answer is what came back.
type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	body   string
}

// do sends a request as anna. headers are "Name: value".
func (s *server) do(method, target, body string, headers ...string) *answer {
	s.t.Helper()
	return s.as("anna", method, target, strings.NewReader(body), headers...)
}

func (s *server) as(user, method, target string, body io.Reader, headers ...string) *answer {
	s.t.Helper()
	a, err := s.try(user, method, target, body, headers...)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, target, err)
	}
	return a
}

// try is as for requests whose connection may be cut.
func (s *server) try(user, method, target string, body io.Reader, headers ...string) (*answer, error) {
	s.t.Helper()
	r, err := http.NewRequest(method, s.URL, body)
	if err != nil {
		return nil, err
	}
	r.URL.Opaque = target // as written, not cleaned
	r.SetBasicAuth(user, user)
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		if r.Header.Set(k, v); k == "Host" {
			r.Host = v
		}
	}
	client := &http.Client{
		Transport:     s.Client().Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	if cerr := resp.Body.Close(); err == nil {
		err = cerr
	}
	return &answer{s.t, method + " " + target, resp.StatusCode, resp.Header, string(b)}, err
}

// want checks the status.
func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: got %d, want %d\n%.2000s", a.what, a.status, status, a.body)
	}
	return a
}

// has checks that the body holds texts.
func (a *answer) has(texts ...string) *answer {
	a.t.Helper()
	for _, s := range texts {
		if !strings.Contains(a.body, s) {
			a.t.Fatalf("%s: %q is not in\n%.3000s", a.what, s, a.body)
		}
	}
	return a
}

// lacks checks that the body does not hold texts.
func (a *answer) lacks(texts ...string) *answer {
	a.t.Helper()
	for _, s := range texts {
		if strings.Contains(a.body, s) {
			a.t.Fatalf("%s: %q is in\n%.3000s", a.what, s, a.body)
		}
	}
	return a
}

// msResponse is one DAV:response as a client sees it.
type msResponse struct {
	Href      string `xml:"DAV: href"`
	Status    string `xml:"DAV: status"`
	Error     string `xml:"-"`
	Propstats []struct {
		Status string `xml:"DAV: status"`
		Prop   struct {
			ETag  string `xml:"DAV: getetag"`
			Type  string `xml:"DAV: getcontenttype"`
			Name  string `xml:"DAV: displayname"`
			Token string `xml:"DAV: sync-token"`
			CTag  string `xml:"http://calendarserver.org/ns/ getctag"`
			Cal   string `xml:"urn:ietf:params:xml:ns:caldav calendar-data"`
			Card  string `xml:"urn:ietf:params:xml:ns:carddav address-data"`
			Any   []struct {
				XMLName xml.Name
				Inner   string `xml:",innerxml"`
			} `xml:",any"`
		} `xml:"DAV: prop"`
	} `xml:"DAV: propstat"`
}

type multiStatus struct {
	XMLName   xml.Name     `xml:"DAV: multistatus"`
	Responses []msResponse `xml:"DAV: response"`
	Token     string       `xml:"DAV: sync-token"`
}

// multi parses a 207 with a parser that is not ours.
func (a *answer) multi() *multiStatus {
	a.t.Helper()
	a.want(http.StatusMultiStatus)
	var m multiStatus
	if err := xml.Unmarshal([]byte(a.body), &m); err != nil {
		a.t.Fatalf("%s: %v\n%.2000s", a.what, err, a.body)
	}
	return &m
}

// hrefs returns the members of a multistatus in order, with a "-" before those that are gone.
func (m *multiStatus) hrefs() []string {
	out := []string{}
	for _, r := range m.Responses {
		h := r.Href
		if strings.Contains(r.Status, " 404 ") {
			h = "-" + h
		} else if strings.Contains(r.Status, " 507 ") {
			h = "507 " + h
		}
		out = append(out, h)
	}
	return out
}

// find returns the response for a path.
func (m *multiStatus) find(t testing.TB, href string) *msResponse {
	t.Helper()
	for i := range m.Responses {
		if m.Responses[i].Href == href {
			return &m.Responses[i]
		}
	}
	t.Fatalf("no response for %s in %v", href, m.hrefs())
	return nil
}

// event returns a calendar object of one hour.
func event(uid, start, summary string) string {
	return "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//test//EN\r\nBEGIN:VEVENT\r\nUID:" + uid + "\r\nDTSTAMP:20260101T000000Z\r\nDTSTART:" + start +
		"\r\nDURATION:PT1H\r\nSUMMARY:" + summary + "\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
}

func todo(uid, summary string) string {
	return "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//test//EN\r\nBEGIN:VTODO\r\nUID:" + uid + "\r\nDTSTAMP:20260101T000000Z\r\nSUMMARY:" + summary +
		"\r\nEND:VTODO\r\nEND:VCALENDAR\r\n"
}

func card(uid, name string, lines ...string) string {
	return "BEGIN:VCARD\r\nVERSION:3.0\r\nUID:" + uid + "\r\nFN:" + name + "\r\nN:" + name + ";;;;\r\n" + strings.Join(lines, "") + "END:VCARD\r\n"
}

// put stores a body and returns its ETag.
func (s *server) put(target, body string, headers ...string) string {
	s.t.Helper()
	a := s.do("PUT", target, body, headers...)
	if a.status != http.StatusCreated && a.status != http.StatusNoContent {
		s.t.Fatalf("%s: %d\n%s", a.what, a.status, a.body)
	}
	return a.header.Get("ETag")
}

// propfind asks for named properties, given as XML with the prefixes D, C, CR, CS and A.
func (s *server) propfind(target, depth, props string) *answer {
	s.t.Helper()
	return s.do("PROPFIND", target, `<D:propfind`+declared+`><D:prop>`+props+`</D:prop></D:propfind>`, "Depth: "+depth)
}

const declared = ` xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav" xmlns:CR="urn:ietf:params:xml:ns:carddav" xmlns:CS="http://calendarserver.org/ns/" xmlns:A="http://apple.com/ns/ical/"`

// sync sends a sync-collection; limit 0 is none.
func (s *server) sync(target, token string, limit int, headers ...string) *answer {
	s.t.Helper()
	l := ""
	if limit > 0 {
		l = fmt.Sprintf("<D:limit><D:nresults>%d</D:nresults></D:limit>", limit)
	}
	return s.do("REPORT", target, `<D:sync-collection`+declared+`><D:sync-token>`+token+`</D:sync-token><D:sync-level>1</D:sync-level>`+l+
		`<D:prop><D:getetag/><D:getcontenttype/></D:prop></D:sync-collection>`, headers...)
}

func TestFirstPut(t *testing.T) {
	s := newServer(t)
	body := event("1", "20260301T100000Z", "first")
	etag := s.put("/dav/anna/calendar/1.ics", body, "Content-Type: text/calendar")
	a := s.do("GET", "/dav/anna/calendar/1.ics", "").want(200)
	if a.body != body || a.header.Get("ETag") != etag {
		t.Errorf("got %q, ETag %s; want %q, %s", a.body, a.header.Get("ETag"), body, etag)
	}
}
