package dav

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// walk is one request of each kind that the router knows.
type walked struct {
	name, method, target, body string
	headers                    []string
	writes                     bool
}

// walk makes a request for every method and every REPORT of the router's own tables, each of which an open server
// would carry out, and for those that it does not know how to make, one that any server would refuse: closed, both get
// the same answer.
func walk(t *testing.T, etag string) []walked {
	t.Helper()
	const cal, files = "/dav/anna/calendar/", "/dav/anna/Files/"
	known := map[string]walked{
		"OPTIONS":    {target: cal},
		"GET":        {target: cal + "1.ics"},
		"HEAD":       {target: cal + "1.ics"},
		"PROPFIND":   {target: cal, headers: []string{"Depth: 1"}},
		"PUT":        {target: cal + "1.ics", body: event("1", "20270301T100000Z", "new"), headers: []string{"If-Match: " + etag}, writes: true},
		"DELETE":     {target: cal + "1.ics", writes: true},
		"MKCOL":      {target: files + "new/", writes: true},
		"MKCALENDAR": {target: "/dav/anna/new/", writes: true},
		"PROPPATCH":  {target: cal, body: `<propertyupdate xmlns="DAV:"><set><prop><displayname>new</displayname></prop></set></propertyupdate>`, writes: true},
		"COPY":       {target: files + "a.txt", headers: []string{"Destination: " + files + "b.txt"}, writes: true},
		"MOVE":       {target: files + "a.txt", headers: []string{"Destination: " + files + "c.txt"}, writes: true},
	}
	var out []walked
	for _, method := range slices.Sorted(maps.Keys(methods)) {
		w, ok := known[method]
		if !ok {
			w = walked{target: cal}
		}
		w.name, w.method = method, method
		if method != "REPORT" {
			out = append(out, w)
		}
	}
	queries := map[string]string{
		"sync-collection":      `<D:sync-token/><D:sync-level>1</D:sync-level><D:prop><D:getetag/></D:prop>`,
		"calendar-multiget":    `<D:prop><D:getetag/></D:prop><D:href>` + cal + `1.ics</D:href>`,
		"calendar-query":       `<D:prop><D:getetag/></D:prop><C:filter><C:comp-filter name="VCALENDAR"/></C:filter>`,
		"free-busy-query":      `<C:time-range start="20270101T000000Z" end="20280101T000000Z"/>`,
		"addressbook-multiget": `<D:prop><D:getetag/></D:prop><D:href>/dav/anna/contacts/1.vcf</D:href>`,
		"addressbook-query":    `<D:prop><D:getetag/></D:prop><CR:filter/>`,

		"expand-property":               `<D:property name="owner"/>`,
		"principal-property-search":     `<D:property-search><D:prop><D:displayname/></D:prop><D:match>a</D:match></D:property-search><D:prop><D:displayname/></D:prop>`,
		"principal-search-property-set": ``,
		"principal-match":               `<D:self/>`,
		"acl-principal-prop-set":        `<D:prop><D:displayname/></D:prop>`,
	}
	for _, r := range reports {
		target := cal
		if r.name.Space == nsCard {
			target = "/dav/anna/contacts/"
		}
		depth := "1"
		if r.name.Space == nsDAV && r.depth == "0" {
			depth = "0" // RFC 3744, 9 wants no other
		}
		open, end := tags(r.name)
		body := open + declared + ">" + queries[r.name.Local] + end
		out = append(out, walked{name: "REPORT " + r.name.Local, method: "REPORT", target: target, body: body, headers: []string{"Depth: " + depth}})
	}
	return out
}

// Issue 4, 4: every method and report, in every state of the fence. Closed, the server's or the account's own: 503 with
// Retry-After and nothing else, whatever is asked. Held: reads are true, writes wait.
func TestFencedAnswers(t *testing.T) {
	s := newServer(t)
	etag := s.put("/dav/anna/calendar/1.ics", event("1", "20270301T100000Z", "first"))
	s.put("/dav/anna/contacts/1.vcf", card("1", "First"))
	s.put("/dav/anna/Files/a.txt", "first")
	all := walk(t, etag)
	if len(all) < len(methods)+len(reports)-1 || len(reports) < 5 {
		t.Fatalf("%d requests for %d methods and %d reports", len(all), len(methods), len(reports))
	}
	waits := func(state string, w walked) {
		t.Helper()
		a := s.do(w.method, w.target, w.body, w.headers...)
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || a.header.Get("ETag") != "" || strings.Contains(a.body, "DAV:") {
			t.Errorf("%s, %s: %d, Retry-After %q, ETag %q, %q; want 503 and when to come again", state, w.name, a.status, a.header.Get("Retry-After"), a.header.Get("ETag"), a.body)
		}
	}
	for _, w := range all { // so that the table is right: open, nothing but a method it cannot make is refused
		if a := s.do(w.method, w.target, w.body, w.headers...); a.status >= 300 && !w.writes && w.method == "REPORT" && w.body != "" && !strings.Contains(a.body, "DAV:") {
			t.Errorf("open, %s: %d %s", w.name, a.status, a.body)
		}
	}

	// Held. The writes of the table were carried out above, so they are made again under other names.
	s.put("/dav/anna/calendar/1.ics", event("1", "20270301T100000Z", "second"))
	s.put("/dav/anna/Files/a.txt", "second")
	s.mirrorAway(true)
	s.do("PUT", "/dav/anna/Files/probe", "x").want(http.StatusServiceUnavailable)
	for _, w := range all {
		switch {
		case w.method == "GET", w.method == "HEAD", w.method == "OPTIONS":
			s.do(w.method, w.target, w.body, w.headers...).want(http.StatusOK)
		case w.method == "PROPFIND", strings.HasSuffix(w.name, "multiget"), strings.HasSuffix(w.name, "sync-collection"):
			s.do(w.method, w.target, w.body, w.headers...).want(http.StatusMultiStatus).has("<D:getetag>")
		case w.writes:
			w.headers = slices.DeleteFunc(slices.Clone(w.headers), func(h string) bool { return strings.HasPrefix(h, "If-Match") })
			if strings.HasPrefix(w.method, "MK") {
				w.target = strings.TrimSuffix(w.target, "/") + "-held/"
			}
			waits("held", w)
		}
	}
	s.mirrorAway(false)
	s.waitOpen()

	// One account closed, by a token from what was lost.
	var token string
	s.lose(func() {
		s.put("/dav/anna/calendar/lost.ics", event("lost", "20270301T100000Z", "lost"))
		token = s.sync("/dav/anna/calendar/", "", 0).multi().Token
	})
	s.sync("/dav/anna/calendar/", token, 0).want(http.StatusServiceUnavailable)
	for _, w := range all {
		waits("account closed", w)
	}
	s.as("ben", "PROPFIND", "/dav/ben/", nil, "Depth: 1").want(http.StatusMultiStatus)

	// All closed: the store is gone, and what could heal it too. At every kind of place, and also what is wrong.
	if err := os.RemoveAll(filepath.Join(s.cfg.Dir, "store")); err != nil {
		t.Fatal(err)
	}
	s.mirrorAway(true)
	places := []string{"", "/dav/", "/dav/principals/", "/dav/principals/anna/", "/dav/anna/", "/dav/anna/none/", "/dav/anna/calendar/none.ics", "/dav/ben/", "/dav/nobody/"}
	for _, w := range all {
		for _, p := range places {
			if p != "" {
				w.name, w.target = fmt.Sprintf("%s %s", w.method, p), p
			}
			waits("closed", w)
		}
		w.name, w.body, w.headers = w.method+" with nonsense", "<nonsense", []string{"Depth: 7", "If: (", "Destination: nowhere"}
		waits("closed", w)
	}
}
