package dav

import (
	"encoding/base64"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// One account's paths say nothing of another's: there or not, the answer is the same.
func TestOtherAccounts(t *testing.T) {
	s := newServer(t)
	if a := s.as("ben", "PUT", "/dav/ben/Files/secret.txt", strings.NewReader("secret")); a.status != 201 {
		t.Fatal(a.status)
	}
	s.put("/dav/anna/Files/x", "x")
	for _, method := range []string{"OPTIONS", "GET", "HEAD", "PROPFIND", "PROPPATCH", "MKCOL", "MKCALENDAR", "PUT", "DELETE", "COPY", "MOVE", "REPORT"} {
		for _, pair := range [][2]string{
			{"/dav/ben/Files/secret.txt", "/dav/ben/Files/none.txt"},
			{"/dav/ben/", "/dav/nobody/"},
			{"/dav/principals/ben/", "/dav/principals/nobody/"},
			{"/dav/ben/Files/", "/dav/Anna/Files/"},
		} {
			one := s.do(method, pair[0], "", "Depth: 0", "Destination: /dav/anna/Files/y")
			two := s.do(method, pair[1], "", "Depth: 0", "Destination: /dav/anna/Files/y")
			if one.want(404); two.status != 404 || one.body != two.body {
				t.Errorf("%s: %d %q, %s: %d %q", one.what, one.status, one.body, two.what, two.status, two.body)
			}
		}
	}
	for _, to := range []string{"/dav/ben/Files/secret.txt", "/dav/ben/Files/none.txt", "/dav/nobody/x"} {
		s.do("COPY", "/dav/anna/Files/x", "", "Destination: "+to).want(403)
		s.do("MOVE", "/dav/anna/Files/x", "", "Destination: "+to).want(403)
	}
	s.do("PROPFIND", "/dav/", "", "Depth: 1").want(207).lacks("ben")
	s.do("PROPFIND", "/dav/principals/", "", "Depth: 1").want(207).has("/dav/principals/anna/").lacks("ben")
	s.do("REPORT", "/dav/anna/contacts/", multigetBody("card", "/dav/ben/Files/secret.txt")).want(207).lacks("secret</", "ETag")
	if got := s.as("ben", "GET", "/dav/ben/Files/secret.txt", nil).want(200).body; got != "secret" {
		t.Errorf("ben reads %q", got)
	}
	// An account that is gone is an outage to its devices, not an empty account; so is a request that nobody authenticated.
	s.as("ghost", "PROPFIND", "/dav/ghost/", nil, "Depth: 1").want(503)
	s.as("stranger", "PROPFIND", "/dav/stranger/", nil, "Depth: 1").want(503)
	w := httptest.NewRecorder()
	if s.dav.ServeHTTP(w, httptest.NewRequest("GET", "/dav/anna/Files/x", nil)); w.Code != 503 {
		t.Errorf("without a principal: %d", w.Code)
	}
}

// A body is served whole, in ranges, conditionally, and never as a page of this server.
func TestGet(t *testing.T) {
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	s := newServer(t, func(c *Config) { c.Now = func() time.Time { return now } })
	for name, body := range map[string]string{"small.txt": "0123456789", "large.txt": strings.Repeat("0123456789", 20_000), "empty.txt": ""} {
		at := "/dav/anna/Files/" + name
		etag := s.put(at, body)
		a := s.do("GET", at, "").want(200)
		if a.body != body || a.header.Get("ETag") != etag || a.header.Get("Content-Length") != fmt.Sprint(len(body)) || a.header.Get("Last-Modified") != "Sun, 01 Mar 2026 10:00:00 GMT" {
			t.Errorf("%s: %d bytes, %v", name, len(a.body), a.header)
		}
		if h := s.do("HEAD", at, "").want(200); h.body != "" || h.header.Get("Content-Length") != fmt.Sprint(len(body)) {
			t.Errorf("HEAD %s: %q %v", name, h.body, h.header)
		}
		s.do("GET", at, "", "If-None-Match: "+etag).want(304)
		s.do("GET", at, "", "If-None-Match: *").want(304)
		s.do("GET", at, "", "If-Match: \"x\"").want(412)
		s.do("GET", at, "", "If-Modified-Since: Sun, 01 Mar 2026 10:00:00 GMT").want(304)
		s.do("GET", at, "", "If-Modified-Since: Sun, 01 Mar 2026 09:59:59 GMT").want(200)
		s.do("GET", at, "", "If-Unmodified-Since: Sun, 01 Mar 2026 09:59:59 GMT").want(412)
		if body == "" {
			continue
		}
		if a := s.do("GET", at, "", "Range: bytes=2-4").want(206); a.body != "234" || a.header.Get("Content-Range") != fmt.Sprintf("bytes 2-4/%d", len(body)) {
			t.Errorf("%s range: %q %v", name, a.body, a.header)
		}
		if a := s.do("GET", at, "", "Range: bytes=-3").want(206); a.body != "789" {
			t.Errorf("%s suffix range: %q", name, a.body)
		}
		s.do("GET", at, "", "Range: bytes=900000-").want(416)
		if a := s.do("GET", at, "", "Range: bytes=0-0", `If-Range: "x"`).want(200); a.body != body {
			t.Errorf("%s If-Range: %d bytes", name, len(a.body))
		}
	}
	s.do("GET", "/dav/anna/Files/none", "").want(404)
	s.do("GET", "/dav/anna/Files/", "").want(200)
	if got := s.do("GET", "/dav/anna/Files", "").want(200).header.Get("Content-Location"); got != "/dav/anna/Files/" {
		t.Errorf("Content-Location %q", got)
	}
}

func TestRangeOfUnknownUnit(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/Files/x", "all of it")
	s.do("GET", "/dav/anna/Files/x", "", "Range: lines=1-2").want(200).has("all of it")
	s.do("GET", "/dav/anna/Files/x", "", "Range: bytes=0-2").want(206)
}

func TestGetIsHarmless(t *testing.T) {
	s := newServer(t)
	for name, c := range map[string]struct {
		typ, want  string
		attachment bool
	}{
		"page.html": {"", "text/html; charset=utf-8", true},
		"p":         {"text/html", "text/html", true},
		"x.svg":     {"image/svg+xml", "image/svg+xml", true},
		"a.pdf":     {"", "application/pdf", true},
		"photo.jpg": {"", "image/jpeg", false},
		"note.txt":  {"text/plain; charset=utf-8", "text/plain; charset=utf-8", false},
		"form":      {"application/x-www-form-urlencoded", "application/octet-stream", true},
		"bad":       {"not a type", "application/octet-stream", true},
		"ü\" x":     {"", "application/octet-stream", true},
	} {
		at := "/dav/anna/Files/" + string(appendEscaped(nil, name))
		s.put(at, "<script>alert(1)</script>", "Content-Type: "+c.typ)
		h := s.do("GET", at, "").want(200).header
		if h.Get("Content-Type") != c.want || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Security-Policy") != "sandbox; default-src 'none'" {
			t.Errorf("%s: %v", name, h)
		}
		if got := strings.HasPrefix(h.Get("Content-Disposition"), "attachment"); got != c.attachment {
			t.Errorf("%s: Content-Disposition %q", name, h.Get("Content-Disposition"))
		}
	}
	if got := s.do("GET", "/dav/anna/Files/%C3%BC%22%20x", "").header.Get("Content-Disposition"); got != "attachment; filename*=UTF-8''%C3%BC%22%20x" {
		t.Errorf("Content-Disposition %q", got)
	}
}

func TestPropfindForms(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/Files/x.txt", "12345")
	s.do("PROPPATCH", "/dav/anna/Files/x.txt", `<D:propertyupdate`+declared+`><D:set><D:prop><q:own xmlns:q="urn:q">v</q:own></D:prop></D:set></D:propertyupdate>`).want(207)
	for _, body := range []string{"", `<propfind xmlns="DAV:"><allprop/></propfind>`} {
		s.do("PROPFIND", "/dav/anna/Files/x.txt", body, "Depth: 0").want(207).
			has("<D:getcontentlength>5<", "<D:getetag>", "<D:resourcetype></D:resourcetype>", "<D:creationdate>", `xmlns:x="urn:q">v</x:own>`).
			lacks("404", "current-user-privilege-set", "quota")
	}
	s.do("PROPFIND", "/dav/anna/Files/x.txt", `<propfind xmlns="DAV:"><allprop/><include><owner/><odd/></include></propfind>`, "Depth: 0").want(207).
		has("<D:owner><D:href>/dav/principals/anna/</D:href></D:owner>", "404 Not Found", "<D:odd/>")
	s.do("PROPFIND", "/dav/anna/Files/x.txt", `<propfind xmlns="DAV:"><propname/></propfind>`, "Depth: 0").want(207).
		has("<D:getetag/>", `<x:own xmlns:x="urn:q"/>`, "<D:owner/>").lacks("12345", ">v<", "404")
	s.do("PROPFIND", "/dav/anna/Files/x.txt", "").want(207) // Depth infinity of something without members
	s.do("PROPFIND", "/dav/anna/Files/", "").want(403).has("<D:propfind-finite-depth/>")
	s.do("PROPFIND", "/dav/anna/Files/", "", "Depth: 2").want(400)
	s.do("PROPFIND", "/dav/anna/none", "", "Depth: 0").want(404)
	if got := s.do("PROPFIND", "/dav/anna/Files", "", "Depth: 0").want(207).has("<D:href>/dav/anna/Files/</D:href>").header.Get("Content-Location"); got != "/dav/anna/Files/" {
		t.Errorf("Content-Location %q", got)
	}
	s.propfind("/dav/anna/", "0", "<D:quota-used-bytes/><D:quota-available-bytes/>").want(207).has("<D:quota-used-bytes>5</D:quota-used-bytes>", "<D:quota-available-bytes/>", "404")
	for _, body := range []string{"<", "<propfind/>", `<propfind xmlns="DAV:"/>`, `<propfind xmlns="DAV:"><prop/><allprop/></propfind>`, `<propfind xmlns="DAV:"><include/></propfind>`, `<propfind xmlns="DAV:"><prop><x:y xmlns:x=""/></prop></propfind>`} {
		s.do("PROPFIND", "/dav/anna/Files/", body, "Depth: 0").want(400)
	}
	s.propfind("/dav/anna/calendar/", "0", "<D:supported-report-set/>").want(207).has("sync-collection", "calendar-query", "calendar-multiget").lacks("addressbook-query")
	s.propfind("/dav/anna/Files/", "0", "<D:supported-report-set/>").want(207).has("sync-collection").lacks("query")
	for _, p := range []string{"/dav/", "/dav/principals/"} {
		if got := len(s.propfind(p, "1", "<D:resourcetype/>").multi().Responses); got < 2 {
			t.Errorf("%s: %d responses", p, got)
		}
	}
}

// PROPPATCH does all or nothing, and says of each property which.
func TestProppatch(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/Files/x", "x")
	update := func(at, body string) *answer {
		return s.do("PROPPATCH", at, `<D:propertyupdate`+declared+`>`+body+`</D:propertyupdate>`)
	}
	set := func(p string) string { return "<D:set><D:prop>" + p + "</D:prop></D:set>" }
	remove := func(p string) string { return "<D:remove><D:prop>" + p + "</D:prop></D:remove>" }
	for _, at := range []string{"/dav/anna/Files/x", "/dav/anna/Files/", "/dav/anna/"} {
		update(at, set(`<a xmlns="">1</a><b xmlns="urn:b" k="v">t<c/>u</b>`)+set(`<a xmlns="">2</a>`)+remove(`<never xmlns="urn:n"/>`)).want(207).lacks("403", "424")
		s.propfind(at, "0", `<a/><b xmlns="urn:b"/>`).want(207).has(`<a>2</a>`, `>t<c xmlns="urn:b"/>u</x:b>`).lacks("404")
		update(at, set(`<d xmlns="urn:d">1</d><D:getetag>"x"</D:getetag>`)+remove(`<a xmlns=""/>`)).want(207).
			has("403 Forbidden", "cannot-modify-protected-property", "424 Failed Dependency").lacks("200 OK")
		s.propfind(at, "0", `<a/><d xmlns="urn:d"/>`).want(207).has(`<a>2</a>`, "404")
		update(at, set(`<e xmlns="urn:e">1</e>`)+remove(`<e xmlns="urn:e"/><a xmlns=""/>`)).want(207).lacks("403")
		update(at, remove(`<f xmlns="urn:e"/>`)+set(`<f xmlns="urn:e">1</f>`)).want(207).lacks("403")
		s.propfind(at, "0", `<a/><e xmlns="urn:e"/><f xmlns="urn:e"/>`).want(207).has(`<a/>`, `<x:e xmlns:x="urn:e"/>`, ">1</x:f>")
		update(at, set(`<big xmlns="urn:b">`+strings.Repeat("x", maxProperties)+`</big>`)).want(207).has("507 Insufficient Storage")
	}
	for _, p := range []string{"<D:resourcetype/>", "<D:sync-token>x</D:sync-token>", "<CS:getctag>x</CS:getctag>", "<C:supported-calendar-component-set/>", "<D:owner/>", "<D:lockdiscovery/>"} {
		update("/dav/anna/calendar/", set(p)).want(207).has("403 Forbidden", "cannot-modify-protected-property")
	}
	update("/dav/principals/anna/", set("<D:displayname>x</D:displayname>")).want(207).has("403 Forbidden")
	update("/dav/anna/none", set("<D:displayname>x</D:displayname>")).want(404)
	update("/dav/anna/Files/x", "").want(400)
	s.do("PROPPATCH", "/dav/anna/Files/x", "").want(400)
	s.do("PROPPATCH", "/dav/anna/Files/x", `<D:propertyupdate`+declared+`>`+set(`<z xmlns="urn:z"/>`)+`</D:propertyupdate>`, `If-Match: "no"`).want(412)
	// A property does not change the body or its ETag.
	etag := s.do("GET", "/dav/anna/Files/x", "").header.Get("ETag")
	update("/dav/anna/Files/x", set(`<g xmlns="urn:g">1</g>`)).want(207)
	if got := s.do("GET", "/dav/anna/Files/x", "").header.Get("ETag"); got != etag {
		t.Errorf("ETag %s, was %s", got, etag)
	}
	// It outlives a PUT.
	s.put("/dav/anna/Files/x", "y")
	s.propfind("/dav/anna/Files/x", "0", `<g xmlns="urn:g"/>`).want(207).has(">1</x:g>")
}

func TestMkcol(t *testing.T) {
	s := newServer(t)
	s.do("MKCOL", "/dav/anna/Files/a", "").want(201)
	s.do("MKCOL", "/dav/anna/Files/a/b/", "").want(201)
	s.do("MKCOL", "/dav/anna/Files/a/b/", "").want(405)
	s.do("MKCOL", "/dav/anna/Files/none/b/", "").want(409)
	s.put("/dav/anna/Files/x", "x")
	s.do("MKCOL", "/dav/anna/Files/x", "").want(405)
	s.do("MKCOL", "/dav/anna/Files/x/y", "").want(409)
	s.do("MKCOL", "/dav/anna/Files/c", "afafafaf", "Content-Type: xzy-foo/bar-512").want(415)
	s.do("MKCOL", "/dav/anna/Files/c", "afafafaf").want(415)
	s.do("MKCOL", "/dav/anna/Files/c", "<x/>", "Content-Type: text/xml").want(415)
	s.do("MKCOL", "/dav/anna/.snapshots", "").want(403)
	s.do("MKCOL", "/dav/", "").want(405)
	s.put("/dav/anna/Files/a/b/deep.txt", "deep")
	if got, want := s.propfind("/dav/anna/Files/", "1", "<D:resourcetype/>").multi().hrefs(), []string{"/dav/anna/Files/", "/dav/anna/Files/a/", "/dav/anna/Files/x"}; !cmp.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	s.do("PUT", "/dav/anna/Files/a", "x").want(405)
	s.do("PUT", "/dav/anna/Files/new/", "x").want(405)
}

func TestCopyMove(t *testing.T) {
	s := newServer(t)
	to := func(p string) string { return "Destination: " + p }
	s.put("/dav/anna/Files/a.txt", "a", "Content-Type: text/plain")
	s.put("/dav/anna/Files/b.txt", strings.Repeat("b", 100_000))
	s.do("PROPPATCH", "/dav/anna/Files/a.txt", `<D:propertyupdate`+declared+`><D:set><D:prop><p xmlns="urn:p">v</p></D:prop></D:set></D:propertyupdate>`).want(207)
	s.do("COPY", "/dav/anna/Files/a.txt", "", to("/dav/anna/Files/c.txt")).want(201)
	s.propfind("/dav/anna/Files/c.txt", "0", `<p xmlns="urn:p"/><D:getcontenttype/>`).want(207).has(">v<", "text/plain")
	s.do("COPY", "/dav/anna/Files/b.txt", "", to(s.URL+"/dav/anna/Files/c.txt"), "Overwrite: F").want(412)
	s.do("COPY", "/dav/anna/Files/b.txt", "", to(s.URL+"/dav/anna/Files/c.txt")).want(204)
	if got := len(s.do("GET", "/dav/anna/Files/c.txt", "").body); got != 100_000 {
		t.Errorf("copy of a blob has %d bytes", got)
	}
	s.do("MOVE", "/dav/anna/Files/a.txt", "", to("/dav/anna/Files/new%20name.txt")).want(201)
	s.do("GET", "/dav/anna/Files/a.txt", "").want(404)
	s.do("GET", "/dav/anna/Files/new%20name.txt", "").want(200).has("a")

	s.do("MKCOL", "/dav/anna/Files/d/", "").want(201)
	s.do("MKCOL", "/dav/anna/Files/d/e/", "").want(201)
	s.put("/dav/anna/Files/d/1", "1")
	s.put("/dav/anna/Files/d/e/2", "2")
	s.do("COPY", "/dav/anna/Files/d/", "", to("/dav/anna/Files/f/")).want(201)
	s.do("GET", "/dav/anna/Files/f/e/2", "").want(200).has("2")
	s.do("COPY", "/dav/anna/Files/d/", "", to("/dav/anna/Files/g"), "Depth: 0").want(201)
	s.do("GET", "/dav/anna/Files/g/1", "").want(404)
	s.do("MOVE", "/dav/anna/Files/d", "", to("/dav/anna/Files/h")).want(201)
	s.do("GET", "/dav/anna/Files/h/e/2", "").want(200)
	s.do("GET", "/dav/anna/Files/d/1", "").want(404)
	s.do("MOVE", "/dav/anna/Files/h/", "", to("/dav/anna/Files/f/"), "Overwrite: F").want(412)
	s.do("MOVE", "/dav/anna/Files/h/", "", to("/dav/anna/Files/f/")).want(204)
	s.do("COPY", "/dav/anna/Files/b.txt", "", to("/dav/anna/Files/f/")).want(204) // a file takes the folder's place
	s.do("GET", "/dav/anna/Files/f/e/2", "").want(404)
	s.do("COPY", "/dav/anna/Files/g/", "", to("/dav/anna/Files/f")).want(204)
	s.propfind("/dav/anna/Files/f", "0", "<D:resourcetype/>").want(207).has("<D:collection/>")

	for dest, status := range map[string]int{
		"":                               400,
		"/dav/anna/Files/x#y":            400,
		"/web/x":                         400,
		"/dav/anna/../x":                 400,
		"http://else.example/dav/anna/x": 502,
		"/dav/anna/none/x":               409,
		"/dav/anna/Files/b.txt":          403,
		"/dav/anna/":                     403,
		"/dav/principals/anna/":          403,
		"/dav/anna/calendar/b.ics":       403,
	} {
		s.do("MOVE", "/dav/anna/Files/b.txt", "", to(dest)).want(status)
	}
	s.do("MOVE", "/dav/anna/Files/g/", "", to("/dav/anna/Files/g/in/")).want(409)
	s.do("MOVE", "/dav/anna/Files/none", "", to("/dav/anna/Files/x")).want(404)
	s.do("MOVE", "/dav/anna/", "", to("/dav/anna/Files/x")).want(403)
	s.do("MOVE", "/dav/anna/calendar/", "", to("/dav/anna/Files/calendar/")).want(403)
	s.do("MOVE", "/dav/anna/calendar/", "", to("/dav/anna/renamed/")).want(201)
	s.propfind("/dav/anna/renamed/", "0", "<D:resourcetype/>").want(207).has("<C:calendar/>")
}

// Broken and hostile requests are 400, 413 or 415, and cost little.
func TestHostileXML(t *testing.T) {
	s := newServer(t)
	bomb := `<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><propfind xmlns="DAV:"><prop><x>&b;</x></prop></propfind>`
	for name, body := range map[string]string{
		"bomb":   bomb,
		"deep":   strings.Repeat("<a>", 20_000),
		"wide":   `<propfind xmlns="DAV:"><prop>` + strings.Repeat("<a/>", 150_000) + "</prop></propfind>",
		"latin":  `<?xml version="1.0" encoding="latin1"?><propfind xmlns="DAV:"><allprop/></propfind>`,
		"binary": "\x00\x01\x02",
		"bytes":  "<propfind xmlns='DAV:'><allprop/>\xff</propfind>",
	} {
		for _, method := range []string{"PROPFIND", "PROPPATCH", "REPORT"} {
			if a := s.do(method, "/dav/anna/calendar/", body, "Depth: 0"); a.status != 400 {
				t.Errorf("%s %s: %d %s", method, name, a.status, a.body)
			}
		}
	}
	s.do("PROPFIND", "/dav/anna/calendar/", strings.Repeat(" ", maxXML+1), "Depth: 0").want(413)
	s.do("REPORT", "/dav/anna/calendar/", strings.Repeat(" ", maxReport+1), "Depth: 0").want(413)
	s.do("REPORT", "/dav/anna/calendar/", "", "Depth: 0").want(400)
	s.do("REPORT", "/dav/anna/calendar/", strings.Repeat("<C:comp-filter name='x'>", 3)).want(400)
}

// Lines of 10 MB are stored, found and given back.
func TestLongLines(t *testing.T) {
	s := newServer(t)
	line := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("photo!", 1_250_000)))
	body := card("1", "Long", "PHOTO;ENCODING=b:"+line+"\r\n")
	s.put("/dav/anna/contacts/1.vcf", body)
	s.do("PUT", "/dav/anna/contacts/2.vcf", body+line).want(413)
	if got := s.do("GET", "/dav/anna/contacts/1.vcf", "").want(200).body; got != body {
		t.Error("GET changed it")
	}
	a := s.do("REPORT", "/dav/anna/contacts/", `<CR:addressbook-query`+declared+`><D:prop><CR:address-data/></D:prop><CR:filter><CR:prop-filter name="FN"><CR:text-match>long</CR:text-match></CR:prop-filter></CR:filter></CR:addressbook-query>`, "Depth: 1")
	if got := a.multi().Responses[0].Propstats[0].Prop.Card; got != body {
		t.Error("REPORT changed it")
	}
}

// An answer larger than the buffer comes in pieces and is whole; one that fits has its length.
func TestLargeAnswers(t *testing.T) {
	s := newServer(t)
	const n = 60
	var hrefs []string
	note := "NOTE:" + strings.Repeat("x", 200_000) + "\r\n"
	for i := range n {
		at := fmt.Sprintf("/dav/anna/contacts/%03d.vcf", i)
		s.put(at, card(fmt.Sprint(i), "N", note))
		hrefs = append(hrefs, at)
	}
	for name, a := range map[string]*answer{
		"multiget": s.do("REPORT", "/dav/anna/contacts/", multigetBody("card", hrefs...)),
		"query":    s.do("REPORT", "/dav/anna/contacts/", `<CR:addressbook-query`+declared+`><D:prop><CR:address-data/></D:prop></CR:addressbook-query>`, "Depth: 1"),
	} {
		m := a.multi()
		if got := m.hrefs(); !cmp.Equal(got, hrefs) {
			t.Errorf("%s: %d members, want %d", name, len(got), n)
		}
		if a.header.Get("Content-Length") != "" {
			t.Errorf("%s: %d bytes were collected before the first went out", name, len(a.body))
		}
		for _, r := range m.Responses {
			if len(r.Propstats[0].Prop.Card) < 200_000 {
				t.Errorf("%s: %s has %d bytes", name, r.Href, len(r.Propstats[0].Prop.Card))
			}
		}
	}
	if a := s.propfind("/dav/anna/contacts/", "1", "<D:getetag/>"); a.header.Get("Content-Length") != fmt.Sprint(len(a.body)) || len(a.multi().Responses) != n+1 {
		t.Errorf("listing: %v", a.header)
	}
}
