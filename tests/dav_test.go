package clients

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A client is one device's view of the server: plain HTTP with a name and a password.
type client struct {
	base, user, password string
	http                 *http.Client
}

// client returns a new client of an account.
func (s *server) client(account string) *client {
	return &client{
		base: "http://" + s.addr, user: account, password: s.passwords[account],
		http: &http.Client{
			Timeout:   60 * time.Second,
			Transport: &http.Transport{MaxIdleConnsPerHost: 4},
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return http.ErrUseLastResponse
			},
		},
	}
}

// An answer is a whole HTTP response.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	request string // method and path, for failure texts
}

// do sends one request; headers are pairs of name and value.
func (c *client) do(method, path string, body []byte, headers ...string) (*answer, error) {
	req, err := http.NewRequest(method, c.base+escape(path), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(c.user, c.password)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s %s: %w", method, path, err)
	}
	return &answer{res.StatusCode, res.Header, got, method + " " + path}, nil
}

// escape percent-encodes a path, slashes excepted.
func escape(path string) string { return (&url.URL{Path: path}).EscapedPath() }

// must sends one request that has to be answered with one of the statuses.
func (c *client) must(t *testing.T, want []int, method, path string, body []byte, headers ...string) *answer {
	t.Helper()
	a, err := c.do(method, path, body, headers...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if err := a.want(want...); err != nil {
		t.Fatal(err)
	}
	return a
}

var (
	written = []int{http.StatusCreated, http.StatusNoContent}
	read    = []int{http.StatusOK}
)

// put stores a body and returns the ETag a GET gives for it.
func (c *client) put(t *testing.T, path, body string, headers ...string) string {
	t.Helper()
	c.must(t, written, "PUT", path, []byte(body), headers...)
	return c.get(t, path, body)
}

// get wants exactly this body and returns its ETag.
func (c *client) get(t *testing.T, path, body string) string {
	t.Helper()
	a := c.must(t, read, "GET", path, nil)
	if string(a.body) != body {
		t.Fatalf("GET %s: got %d bytes %.80q, want %d bytes %.80q", path, len(a.body), a.body, len(body), body)
	}
	etag := a.header.Get("ETag")
	if !strings.HasPrefix(etag, `"`) {
		t.Fatalf("GET %s: ETag %q is not a strong entity tag", path, etag)
	}
	return etag
}

// want says what is wrong if the status is none of those.
func (a *answer) want(status ...int) error {
	for _, s := range status {
		if a.status == s {
			return nil
		}
	}
	return fmt.Errorf("%s: got status %d, want %v; body %.400q", a.request, a.status, status, a.body)
}

// wait says what is wrong if this is not a proper "wait": 503 (or 507 where a disk is full) with Retry-After.
func (a *answer) wait() error {
	if a.status != http.StatusServiceUnavailable {
		return fmt.Errorf("%s: got status %d, want 503; body %.400q", a.request, a.status, a.body)
	}
	if n, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || n < 1 {
		return fmt.Errorf("%s: 503 with Retry-After %q, want a number of seconds", a.request, a.header.Get("Retry-After"))
	}
	return nil
}

// The parts of a multistatus (RFC 4918, 13) that the tests look at.
type multistatus struct {
	XMLName   xml.Name      `xml:"DAV: multistatus"`
	Responses []davResponse `xml:"DAV: response"`
	SyncToken string        `xml:"DAV: sync-token"`
}

type davResponse struct {
	Href     string     `xml:"DAV: href"`
	Status   string     `xml:"DAV: status"`
	Propstat []propstat `xml:"DAV: propstat"`
}

type propstat struct {
	Status string `xml:"DAV: status"`
	Prop   struct {
		ETag         string    `xml:"DAV: getetag"`
		SyncToken    string    `xml:"DAV: sync-token"`
		DisplayName  string    `xml:"DAV: displayname"`
		ResourceType *struct{} `xml:"DAV: resourcetype>collection"`
	} `xml:"DAV: prop"`
}

// etag returns the getetag that was answered with 200.
func (r *davResponse) etag() string {
	for _, p := range r.Propstat {
		if strings.Contains(p.Status, " 200 ") && p.Prop.ETag != "" {
			return p.Prop.ETag
		}
	}
	return ""
}

// path returns the href's path, unescaped.
func (r *davResponse) path() string {
	u, err := url.Parse(strings.TrimSpace(r.Href))
	if err != nil {
		return r.Href
	}
	return u.Path
}

// errStatus carries an answer that was no multistatus.
type errStatus struct{ *answer }

func (e errStatus) Error() string {
	return fmt.Sprintf("%s: status %d, body %.400q", e.request, e.status, e.body)
}

// multistatus sends a request and parses the 207; any other status is an errStatus.
func (c *client) multistatus(method, path string, body string, headers ...string) (*multistatus, error) {
	a, err := c.do(method, path, []byte(body), append(headers, "Content-Type", "application/xml; charset=utf-8")...)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusMultiStatus {
		return nil, errStatus{a}
	}
	m := new(multistatus)
	if err := xml.Unmarshal(a.body, m); err != nil {
		return nil, fmt.Errorf("%s: parse multistatus: %w", a.request, err)
	}
	return m, nil
}

const propfindETag = `<?xml version="1.0" encoding="utf-8"?>
<D:propfind xmlns:D="DAV:"><D:prop><D:getetag/><D:resourcetype/></D:prop></D:propfind>`

// list returns path to ETag of a collection's members that are resources.
func (c *client) list(collection string) (map[string]string, error) {
	m, err := c.multistatus("PROPFIND", collection, propfindETag, "Depth", "1")
	if err != nil {
		return nil, err
	}
	members := map[string]string{}
	for i := range m.Responses {
		if tag := m.Responses[i].etag(); tag != "" && !strings.HasSuffix(m.Responses[i].path(), "/") {
			members[m.Responses[i].path()] = tag
		}
	}
	return members, nil
}

// A delta is what a sync-collection report (RFC 6578) told.
type delta struct {
	token   string
	changed map[string]string // path to ETag
	removed map[string]bool
}

// sync asks for what changed since a token, all pages of it; the empty token asks for everything.
func (c *client) sync(collection, token string) (*delta, error) {
	d := &delta{token: token, changed: map[string]string{}, removed: map[string]bool{}}
	for range 10_000 {
		m, err := c.multistatus("REPORT", collection, `<?xml version="1.0" encoding="utf-8"?>
<D:sync-collection xmlns:D="DAV:"><D:sync-token>`+d.token+`</D:sync-token><D:sync-level>1</D:sync-level>
<D:prop><D:getetag/></D:prop></D:sync-collection>`, "Depth", "0")
		if err != nil {
			return nil, err
		}
		if m.SyncToken == "" {
			return nil, fmt.Errorf("sync of %s: the answer has no sync-token", collection)
		}
		d.token = m.SyncToken
		more := false
		for i := range m.Responses {
			r := &m.Responses[i]
			switch path := r.path(); {
			case strings.Contains(r.Status, " 404"):
				d.removed[path] = true
				delete(d.changed, path)
			case strings.Contains(r.Status, " 507"):
				more = true
			case r.etag() != "":
				d.changed[path] = r.etag()
				delete(d.removed, path)
			}
		}
		if !more {
			return d, nil
		}
	}
	return nil, fmt.Errorf("sync of %s: no end of pages", collection)
}

// mustSync is sync that has to succeed.
func (c *client) mustSync(t *testing.T, collection, token string) *delta {
	t.Helper()
	d, err := c.sync(collection, token)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// waiting reports whether err is the answer "wait": 503 with Retry-After. Another status is returned as an error.
func waiting(err error) (bool, error) {
	if s := (errStatus{}); errors.As(err, &s) {
		bad := s.wait()
		return bad == nil, bad
	}
	return false, nil
}

// card returns a vCard 3.0 (RFC 2426) with CRLF line ends.
func card(uid, name, note string) string {
	return crlf("BEGIN:VCARD", "VERSION:3.0", "UID:"+uid, "FN:"+name, "N:"+name+";;;;", "NOTE:"+note,
		"EMAIL;TYPE=INTERNET:"+uid+"@example.org", "END:VCARD")
}

// event returns a calendar object with one VEVENT (RFC 5545).
func event(uid, summary, day string) string {
	return crlf("BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//example.org//clients test//EN", "BEGIN:VEVENT", "UID:"+uid,
		"DTSTAMP:20261101T000000Z", "DTSTART:"+day+"T100000Z", "DTEND:"+day+"T110000Z", "SUMMARY:"+summary,
		"END:VEVENT", "END:VCALENDAR")
}

// task returns a calendar object with one VTODO.
func task(uid, summary string) string {
	return crlf("BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//example.org//clients test//EN", "BEGIN:VTODO", "UID:"+uid,
		"DTSTAMP:20261101T000000Z", "SUMMARY:"+summary, "STATUS:NEEDS-ACTION", "END:VTODO", "END:VCALENDAR")
}

func crlf(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n" }
