package demo

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// maxAnswer bounds what a device reads of one answer, in bytes.
const maxAnswer = 64 << 20

// remote speaks WebDAV to one server as one account. It is safe for concurrent use.
type remote struct {
	base           atomic.Pointer[url.URL]
	http           *http.Client
	user, password string
	refused        atomic.Int64 // answers 503
}

func newRemote(base, user, password string) (*remote, error) {
	r := &remote{
		user: user, password: password,
		http: &http.Client{
			Transport:     &http.Transport{MaxIdleConnsPerHost: 4},
			Timeout:       30 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	return r, r.move(base)
}

// move has the next request go to another address, as when a name in the DNS was changed.
func (r *remote) move(base string) error {
	u, err := url.Parse(base)
	if err != nil {
		return fmt.Errorf("parse address %q: %w", base, err)
	}
	r.base.Store(u)
	return nil
}

func (r *remote) close() { r.http.CloseIdleConnections() }

// statusError is an answer outside 2xx, as far as a device looks at it.
type statusError struct {
	Method, Path   string
	Status         int
	RetryAfter     string // the header as it came
	ValidSyncToken bool   // DAV:valid-sync-token is in the body (RFC 6578, 3.2)
	NeedPrivileges bool   // DAV:need-privileges is in the body (RFC 3744, 7.1.1)
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s %s: status %d", e.Method, e.Path, e.Status)
}

// status returns the HTTP status an error came from, 0 for any other error.
func status(err error) int {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.Status
	}
	return 0
}

// gone reports a status that DAVx5 takes for "this collection is not there any more"
// (HomeSetRefresher.kt:109, CollectionsWithoutHomeSetRefresher.kt:70).
func gone(err error) bool {
	s := status(err)
	return s == http.StatusForbidden || s == http.StatusNotFound || s == http.StatusGone
}

// answer is a 2xx answer.
type answer struct {
	host   string // that answered
	path   string // encoded path that answered, after redirects
	header http.Header
	body   []byte
}

// do sends one request and follows at most five redirects itself with the same method and body, as
// dav4jvm does (ktor/DavResource.kt). Any answer outside 2xx is a *statusError.
func (r *remote) do(ctx context.Context, method, at string, header map[string]string, body []byte) (*answer, error) {
	base := r.base.Load()
	for range 6 {
		u, err := base.Parse(at)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, at, err)
		}
		a, next, err := r.once(ctx, method, u, header, body)
		if err != nil || next == "" {
			return a, err
		}
		target, err := u.Parse(next)
		if err != nil || target.Host != base.Host {
			return nil, fmt.Errorf("%s %s: redirect to %q", method, at, next)
		}
		at = target.EscapedPath()
	}
	return nil, fmt.Errorf("%s %s: too many redirects", method, at)
}

func (r *remote) once(ctx context.Context, method string, u *url.URL, header map[string]string, body []byte) (a *answer, redirect string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, "", fmt.Errorf("%s %s: %w", method, u.Path, err)
	}
	req.SetBasicAuth(r.user, r.password)
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, "", fmt.Errorf("%s %s: read answer: %w", method, u.Path, err)
	}
	if len(got) > maxAnswer {
		return nil, "", fmt.Errorf("%s %s: answer of more than %d bytes", method, u.Path, maxAnswer)
	}
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.Header.Get("Location") != "":
		return nil, resp.Header.Get("Location"), nil
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		if resp.StatusCode == http.StatusServiceUnavailable {
			r.refused.Add(1)
		}
		return nil, "", newStatusError(method, u.Path, resp, got)
	}
	return &answer{host: u.Host, path: u.EscapedPath(), header: resp.Header, body: got}, "", nil
}

func newStatusError(method, at string, resp *http.Response, body []byte) *statusError {
	e := &statusError{Method: method, Path: at, Status: resp.StatusCode, RetryAfter: resp.Header.Get("Retry-After")}
	var x struct {
		XMLName        xml.Name  `xml:"DAV: error"`
		ValidSyncToken *struct{} `xml:"DAV: valid-sync-token"`
		NeedPrivileges *struct{} `xml:"DAV: need-privileges"`
	}
	if xml.Unmarshal(body, &x) == nil {
		e.ValidSyncToken, e.NeedPrivileges = x.ValidSyncToken != nil, x.NeedPrivileges != nil
	}
	return e
}

// multistatus is what a device reads of a 207 (RFC 4918, 14.16).
type multistatus struct {
	XMLName   xml.Name   `xml:"DAV: multistatus"`
	Responses []response `xml:"DAV: response"`
	SyncToken string     `xml:"DAV: sync-token"` // RFC 6578, 6.4
}

type response struct {
	Href      string     `xml:"DAV: href"`
	Status    string     `xml:"DAV: status"`
	Propstats []propstat `xml:"DAV: propstat"`
}

type propstat struct {
	Status string `xml:"DAV: status"`
	Prop   prop   `xml:"DAV: prop"`
}

type hrefs struct {
	Hrefs []string `xml:"DAV: href"`
}

type prop struct {
	ETag      string `xml:"DAV: getetag"`
	SyncToken string `xml:"DAV: sync-token"`
	Type      struct {
		Collection  *struct{} `xml:"DAV: collection"`
		Addressbook *struct{} `xml:"urn:ietf:params:xml:ns:carddav addressbook"`
		Calendar    *struct{} `xml:"urn:ietf:params:xml:ns:caldav calendar"`
	} `xml:"DAV: resourcetype"`
	Principal    hrefs `xml:"DAV: current-user-principal"`
	AddressHomes hrefs `xml:"urn:ietf:params:xml:ns:carddav addressbook-home-set"`
	CalHomes     hrefs `xml:"urn:ietf:params:xml:ns:caldav calendar-home-set"`
	Components   struct {
		Comps []struct {
			Name string `xml:"name,attr"`
		} `xml:"urn:ietf:params:xml:ns:caldav comp"`
	} `xml:"urn:ietf:params:xml:ns:caldav supported-calendar-component-set"`
	Reports struct {
		Supported []struct {
			Report struct {
				Sync *struct{} `xml:"DAV: sync-collection"`
			} `xml:"DAV: report"`
		} `xml:"DAV: supported-report"`
	} `xml:"DAV: supported-report-set"`
	AddressData  *string `xml:"urn:ietf:params:xml:ns:carddav address-data"`
	CalendarData *string `xml:"urn:ietf:params:xml:ns:caldav calendar-data"`
}

// parseMultistatus reads the body of a 207. Its size was bounded when it was read.
func parseMultistatus(body []byte) (*multistatus, error) {
	var m multistatus
	if err := xml.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("parse multistatus: %w", err)
	}
	return &m, nil
}

// code returns the number in a status line such as "HTTP/1.1 404 Not Found", 0 for none.
func code(line string) int {
	f := strings.Fields(line)
	if len(f) < 2 {
		return 0
	}
	n, err := strconv.Atoi(f[1])
	if err != nil {
		return 0
	}
	return n
}

// ok reports success of a response as a whole (dav4jvm Response.isSuccess: no status, or 2xx).
func (r *response) ok() bool {
	n := code(r.Status)
	return r.Status == "" || n >= 200 && n < 300
}

// props returns the properties of the propstat that says 2xx.
func (r *response) props() *prop {
	for i := range r.Propstats {
		if n := code(r.Propstats[i].Status); n >= 200 && n < 300 {
			return &r.Propstats[i].Prop
		}
	}
	return &prop{}
}

// canSync reports whether the collection offers sync-collection.
func (p *prop) canSync() bool {
	for _, s := range p.Reports.Supported {
		if s.Report.Sync != nil {
			return true
		}
	}
	return false
}

// holds reports whether a calendar takes the component; without a list it takes all (RFC 4791, 5.2.3).
func (p *prop) holds(component string) bool {
	for _, c := range p.Components.Comps {
		if c.Name == component {
			return true
		}
	}
	return len(p.Components.Comps) == 0
}

// encodedPath brings an href, absolute or not, to its encoded path.
func encodedPath(href string) string {
	u, err := url.Parse(strings.TrimSpace(href))
	if err != nil {
		return href
	}
	return u.EscapedPath()
}

// lastSegment returns the decoded name of the member an href leads to.
func lastSegment(href string) string {
	p, err := url.PathUnescape(encodedPath(href))
	if err != nil {
		return ""
	}
	return path.Base(p)
}

// samePath compares two hrefs by their decoded paths, without regard to a slash at the end.
func samePath(a, b string) bool {
	ua, err1 := url.PathUnescape(encodedPath(a))
	ub, err2 := url.PathUnescape(encodedPath(b))
	return err1 == nil && err2 == nil && strings.TrimSuffix(ua, "/") == strings.TrimSuffix(ub, "/")
}

func withSlash(p string) string {
	if strings.HasSuffix(p, "/") {
		return p
	}
	return p + "/"
}

// The properties of dav4jvm's queries. All namespaces are declared on the outermost element.
const xmlNS = `xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav" xmlns:CARD="urn:ietf:params:xml:ns:carddav" xmlns:CS="http://calendarserver.org/ns/"`

// propfind asks for props, given as XML, at depth 0 or 1.
func (r *remote) propfind(ctx context.Context, at string, depth int, props string) (*multistatus, string, error) {
	body := `<?xml version="1.0" encoding="UTF-8"?><propfind ` + xmlNS + `><prop>` + props + `</prop></propfind>`
	a, err := r.do(ctx, "PROPFIND", at, xmlHeader(depth), []byte(body))
	if err != nil {
		return nil, "", err
	}
	m, err := parseMultistatus(a.body)
	return m, a.path, err
}

func xmlHeader(depth int) map[string]string {
	return map[string]string{
		"Depth":        strconv.Itoa(depth),
		"Content-Type": "application/xml; charset=utf-8",
		"Accept":       "text/xml, application/xml;q=0.9, */*;q=0.8",
	}
}

// reportChanges sends sync-collection with Depth 0 and level 1, asking for ETag and type
// (dav4jvm ktor/DavCollection.kt:55-108, BaseWebDavCollection.kt:99-106).
func (r *remote) reportChanges(ctx context.Context, at, token string) (*multistatus, error) {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><sync-collection ` + xmlNS + `><sync-token>`)
	if err := xml.EscapeText(&b, []byte(token)); err != nil {
		return nil, fmt.Errorf("write sync token: %w", err)
	}
	b.WriteString(`</sync-token><sync-level>1</sync-level><prop><getetag/><resourcetype/></prop></sync-collection>`)
	return r.report(ctx, at, b.Bytes())
}

// multiget fetches members in one request (dav4jvm ktor/DavAddressBook.kt:94-139, Depth 0).
func (r *remote) multiget(ctx context.Context, at string, addressbook bool, members []string) (*multistatus, error) {
	name, data := "C:calendar-multiget", "<C:calendar-data/>"
	if addressbook {
		name, data = "CARD:addressbook-multiget", `<CARD:address-data content-type="text/vcard"/>`
	}
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><` + name + ` ` + xmlNS + `><prop><getcontenttype/><getetag/>` + data + `</prop>`)
	for _, m := range members {
		b.WriteString("<href>")
		if err := xml.EscapeText(&b, []byte(encodedPath(m))); err != nil {
			return nil, fmt.Errorf("write href: %w", err)
		}
		b.WriteString("</href>")
	}
	b.WriteString("</" + name + ">")
	return r.report(ctx, at, b.Bytes())
}

func (r *remote) report(ctx context.Context, at string, body []byte) (*multistatus, error) {
	a, err := r.do(ctx, "REPORT", at, xmlHeader(0), body)
	if err != nil {
		return nil, err
	}
	return parseMultistatus(a.body)
}
