package dav

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast"
)

func multigetBody(kind string, hrefs ...string) string {
	name, data := "CR:addressbook-multiget", "CR:address-data"
	if kind == "calendar" {
		name, data = "C:calendar-multiget", "C:calendar-data"
	}
	b := "<" + name + declared + "><D:prop><D:getetag/><" + data + "/></D:prop>"
	for _, h := range hrefs {
		b += "<D:href>" + h + "</D:href>"
	}
	return b + "</" + name + ">"
}

// 27. multiget takes any Depth, and hrefs escaped or not.
func TestClient27Multiget(t *testing.T) {
	s := newServer(t)
	one, two := event("1", "20260301T100000Z", "ü <&> \u2028"), event("2", "20260301T100000Z", "two")
	s.put("/dav/anna/calendar/a%20b%40c.ics", one)
	s.put("/dav/anna/calendar/2.ics", two)
	for _, depth := range [][]string{{"Depth: 0"}, {"Depth: 1"}, {"Depth: infinity"}, {}} {
		m := s.do("REPORT", "/dav/anna/calendar/", multigetBody("calendar", "/dav/anna/calendar/a%20b%40c.ics", "/dav/anna/calendar/none.ics", s.URL+"/dav/anna/calendar/2.ics", "/dav/ben/calendar/1.ics", "/dav/../x"), depth...).multi()
		want := []string{"/dav/anna/calendar/a%20b@c.ics", "-/dav/anna/calendar/none.ics", "/dav/anna/calendar/2.ics", "-/dav/ben/calendar/1.ics", "-/dav/../x"}
		if got := m.hrefs(); !cmp.Equal(got, want) {
			t.Fatalf("%v: %v, want %v", depth, got, want)
		}
		if got := m.Responses[0].Propstats[0].Prop.Cal; got != one {
			t.Errorf("%v: body %q, want %q", depth, got, one)
		}
	}
	for _, href := range []string{"/dav/anna/calendar/a b@c.ics", "/dav/anna/calendar/a%20b@c.ics", "a%20b@c.ics", " /dav/anna/calendar/a b@c.ics\n"} {
		m := s.do("REPORT", "/dav/anna/calendar/", multigetBody("calendar", href)).multi()
		if got := m.Responses[0].Propstats[0].Prop.Cal; got != one {
			t.Errorf("%q: %q", href, got)
		}
	}
	s.do("REPORT", "/dav/anna/contacts/", multigetBody("calendar", "/dav/anna/calendar/2.ics")).want(403).has("supported-report")
	s.do("REPORT", "/dav/anna/Files/", multigetBody("calendar", "/dav/anna/calendar/2.ics")).want(403).has("supported-report")
}

func calendarQueryBody(filter string) string {
	return `<C:calendar-query` + declared + `><D:prop><D:getetag/><C:calendar-data/></D:prop><C:filter><C:comp-filter name="VCALENDAR">` + filter + `</C:comp-filter></C:filter></C:calendar-query>`
}

// 28. calendar-query with only a start, with exact borders, with recurrences, on events and tasks.
func TestClient28CalendarQuery(t *testing.T) {
	s := newServer(t)
	put := func(name, start, rule string) {
		s.put("/dav/anna/calendar/"+name, strings.Replace(event(name, start, "Title "+name), "SUMMARY", rule+"SUMMARY", 1))
	}
	put("past", "20200101T100000Z", "")
	put("march", "20260301T100000Z", "")
	put("daily", "20250101T090000Z", "RRULE:FREQ=DAILY;UNTIL=20260301T090000Z\r\n")
	put("ever", "20250102T090000Z", "RRULE:FREQ=WEEKLY\r\n")
	put("future", "20300101T100000Z", "")
	ask := func(filter string, headers ...string) []string {
		t.Helper()
		if headers == nil {
			headers = []string{"Depth: 1"}
		}
		var names []string
		for _, r := range s.do("REPORT", "/dav/anna/calendar/", calendarQueryBody(filter), headers...).multi().Responses {
			if r.Propstats[0].Prop.Cal == "" || r.Propstats[0].Prop.ETag == "" {
				t.Errorf("%s without data", r.Href)
			}
			names = append(names, strings.TrimPrefix(r.Href, "/dav/anna/calendar/"))
		}
		return names
	}
	vevent := func(inner string) string { return `<C:comp-filter name="VEVENT">` + inner + `</C:comp-filter>` }
	for _, c := range []struct {
		filter string
		want   []string
	}{
		{vevent(`<C:time-range start="20260301T000000Z"/>`), []string{"daily", "ever", "future", "march"}},
		{vevent(`<C:time-range start="20260301T110000Z" end="20260302T000000Z"/>`), nil}, // march ends at the start: outside
		{vevent(`<C:time-range start="20260301T105959Z" end="20260302T000000Z"/>`), []string{"march"}},
		{vevent(`<C:time-range start="20260228T000000Z" end="20260301T100000Z"/>`), []string{"daily"}}, // march starts at the end: outside
		{vevent(`<C:time-range end="20210101T000000Z"/>`), []string{"past"}},
		{vevent(`<C:prop-filter name="SUMMARY"><C:text-match collation="i;ascii-casemap">TITLE M</C:text-match></C:prop-filter>`), []string{"march"}},
		{vevent(`<C:prop-filter name="UID"><C:text-match collation="i;octet">future</C:text-match></C:prop-filter>`), []string{"future"}},
		{vevent(`<C:prop-filter name="RRULE"><C:is-not-defined/></C:prop-filter>`), []string{"future", "march", "past"}},
		{vevent(""), []string{"daily", "ever", "future", "march", "past"}},
		{"", []string{"daily", "ever", "future", "march", "past"}},
		{`<C:comp-filter name="VTODO"/>`, nil},
		{`<C:comp-filter name="VTODO"><C:is-not-defined/></C:comp-filter>`, []string{"daily", "ever", "future", "march", "past"}},
	} {
		if got := ask(c.filter); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.filter, got, c.want)
		}
	}
	for _, depth := range []string{"Depth: 0", "Depth: infinity", "X-None: "} {
		if got := ask("", depth); len(got) != 5 {
			t.Errorf("%s: %v", depth, got)
		}
	}
	s.do("REPORT", "/dav/anna/calendar/march", calendarQueryBody(vevent("")), "Depth: 0").want(207).has("Title march")
	for body, condition := range map[string]string{
		calendarQueryBody(vevent(`<C:time-range start="2026-03-01"/>`)):                                                                                   "valid-filter",
		calendarQueryBody(vevent(`<C:time-range/>`)):                                                                                                      "valid-filter",
		calendarQueryBody(vevent(`<C:prop-filter name="SUMMARY"><C:text-match collation="i;unknown">x</C:text-match></C:prop-filter>`)):                   "<C:supported-collation/>",
		calendarQueryBody(vevent(`<C:odd/>`)):                                                                                                             "<C:supported-filter/>",
		`<C:calendar-query` + declared + `><D:prop/></C:calendar-query>`:                                                                                  "valid-filter",
		strings.Replace(calendarQueryBody(""), "<C:calendar-data/>", `<C:calendar-data content-type="application/calendar+json"/>`, 1):                    "supported-calendar-data",
		strings.Replace(calendarQueryBody(""), "</C:filter>", `</C:filter><C:timezone>BEGIN:VCALENDAR&#13;&#10;END:VCALENDAR</C:timezone>`, 1):            "valid-calendar-data",
		strings.Replace(calendarQueryBody(""), "</C:filter>", `</C:filter><C:timezone-id xmlns="x">Mars/Olympus</C:timezone-id>`, 1):                      "valid-timezone",
		strings.Replace(calendarQueryBody(""), `name="VCALENDAR"`, `name="VCARD"`, 1):                                                                     "valid-filter",
		strings.Replace(calendarQueryBody(""), `<C:filter>`, `<C:filter><C:comp-filter name="VCALENDAR"/>`, 1):                                            "valid-filter",
		calendarQueryBody(vevent(`<C:prop-filter name="DTSTART"><C:time-range start="20260101T000000Z"/><C:text-match>x</C:text-match></C:prop-filter>`)): "<C:supported-filter/>",
	} {
		s.do("REPORT", "/dav/anna/calendar/", body, "Depth: 1").want(403).has(condition)
	}
}

func TestAddressbookQuery(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/contacts/1.vcf", card("1", "Ärmel Zoe", "EMAIL;TYPE=work:zoe@work.example\r\n"))
	s.put("/dav/anna/contacts/2.vcf", card("2", "Bob", "EMAIL;TYPE=home:bob@home.example\r\n", "NICKNAME:Zoe\r\n"))
	s.put("/dav/anna/contacts/3.vcf", card("3", "Carl"))
	ask := func(filter, rest string) *answer {
		return s.do("REPORT", "/dav/anna/contacts/", `<CR:addressbook-query`+declared+`><D:prop><D:getetag/><CR:address-data><CR:prop name="FN"/></CR:address-data></D:prop>`+filter+rest+`</CR:addressbook-query>`, "Depth: 1")
	}
	for filter, want := range map[string][]string{
		`<CR:filter><CR:prop-filter name="FN"><CR:text-match match-type="starts-with">ärmel</CR:text-match></CR:prop-filter></CR:filter>`:                                                                      {"1"},
		`<CR:filter test="anyof"><CR:prop-filter name="FN"><CR:text-match>zoe</CR:text-match></CR:prop-filter><CR:prop-filter name="NICKNAME"><CR:text-match>zoe</CR:text-match></CR:prop-filter></CR:filter>`: {"1", "2"},
		`<CR:filter><CR:prop-filter name="EMAIL"><CR:is-not-defined/></CR:prop-filter></CR:filter>`:                                                                                                            {"3"},
		`<CR:filter><CR:prop-filter name="EMAIL"><CR:param-filter name="TYPE"><CR:text-match>HOME</CR:text-match></CR:param-filter></CR:prop-filter></CR:filter>`:                                              {"2"},
		`<CR:filter><CR:prop-filter name="FN"><CR:text-match negate-condition="yes">b</CR:text-match></CR:prop-filter></CR:filter>`:                                                                            {"1", "3"},
		`<CR:filter/>`: {"1", "2", "3"},
		``:             {"1", "2", "3"},
	} {
		var got []string
		for _, r := range ask(filter, "").multi().Responses {
			got = append(got, strings.TrimSuffix(strings.TrimPrefix(r.Href, "/dav/anna/contacts/"), ".vcf"))
			if c := r.Propstats[0].Prop.Card; !strings.Contains(c, "FN:") || strings.Contains(c, "EMAIL") {
				t.Errorf("part of a card: %q", c)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", filter, got, want)
		}
	}
	limit := func(n string) string { return "<CR:limit><CR:nresults>" + n + "</CR:nresults></CR:limit>" }
	if got, want := ask("", limit("2")).multi().hrefs(), []string{"/dav/anna/contacts/1.vcf", "/dav/anna/contacts/2.vcf", "507 /dav/anna/contacts/"}; !cmp.Equal(got, want) {
		t.Errorf("limit: %v, want %v", got, want)
	}
	if got := ask("", limit("3")).multi().hrefs(); len(got) != 3 {
		t.Errorf("limit that is enough: %v", got)
	}
	ask("", limit("x")).want(400)
	ask(`<CR:filter><CR:prop-filter name="FN"><CR:text-match collation="i;odd">x</CR:text-match></CR:prop-filter></CR:filter>`, "").want(403).has("<CR:supported-collation/>")
	ask(`<CR:filter><CR:prop-filter name="FN"><CR:text-match match-type="odd">x</CR:text-match></CR:prop-filter></CR:filter>`, "").want(403).has("<CR:supported-filter/>")
	ask(`<CR:filter><CR:prop-filter/></CR:filter>`, "").want(403).has("valid-filter")
}

// 29. If-None-Match and If-Match decide, and the repeat of a request whose answer was lost succeeds.
func TestClient29Preconditions(t *testing.T) {
	s := newServer(t)
	at := "/dav/anna/calendar/1.ics"
	v1, v2, v3 := event("1", "20260301T100000Z", "one"), event("1", "20260301T100000Z", "two"), event("1", "20260301T100000Z", "three")
	e1 := s.do("PUT", at, v1, "If-None-Match: *").want(201).header.Get("ETag")
	if got := s.do("PUT", at, v1, "If-None-Match: *").want(204).header.Get("ETag"); got != e1 { // the answer was lost
		t.Errorf("repeat: ETag %s, want %s", got, e1)
	}
	s.do("PUT", at, v2, "If-None-Match: *").want(412)
	s.do("PUT", at, v2, `If-Match: "0123456789abcdef0123456789abcdef"`).want(412)
	e2 := s.do("PUT", at, v2, "If-Match: "+e1).want(204).header.Get("ETag")
	if e2 == e1 {
		t.Error("another body has the same ETag")
	}
	s.do("PUT", at, v2, "If-Match: "+e1).want(204)                                // the answer was lost
	s.do("PUT", at, v2, "If-None-Match: *").want(412)                             // it was not new: no repeat
	s.do("PUT", at, v2, `If-Match: "0123456789abcdef0123456789abcdef"`).want(412) // the same body, but never true
	s.do("PUT", at, v3, "If-Match: "+e1).want(412)
	s.do("GET", at, "").want(200).has("SUMMARY:two")
	s.do("PUT", at, v3, "If-Match: *").want(204)
	s.do("PUT", "/dav/anna/calendar/none.ics", event("n", "20260301T100000Z", "n"), "If-Match: *").want(412)
	s.do("PUT", "/dav/anna/calendar/none.ics", event("n", "20260301T100000Z", "n"), "If-Match: "+e1).want(412)
	s.do("GET", "/dav/anna/calendar/none.ics", "").want(404)
	s.do("PUT", at, v1, `If-Match: "unclosed`).want(400)
	s.do("PUT", at, v1, "If: (<urn:uuid:nobody-holds-this>)").want(412)
	s.do("PUT", at, v1, "If: (Not <DAV:no-lock>)").want(204)
	s.do("PUT", at, v2, "If: <"+s.URL+"/dav/anna/calendar/none.ics> ("+`["x"])`).want(412)
}

// 30. 403 on an upload says need-privileges where it is about rights; a body that cannot be stored
// says why, and leaves what was there.
func TestClient30Refusals(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/calendar/1.ics", event("1", "20260301T100000Z", "x"))
	for _, c := range []struct{ path, body, headers, condition string }{
		{"/dav/anna/calendar/1.ics", "HAHA:YES", "", "<C:valid-calendar-data/>"},
		{"/dav/anna/calendar/1.ics", "", "", "<C:valid-calendar-data/>"},
		{"/dav/anna/calendar/1.ics", card("1", "x"), "Content-Type: text/vcard", "<C:supported-calendar-data/>"},
		{"/dav/anna/calendar/1.ics", "[]", "Content-Type: application/calendar+json", "<C:supported-calendar-data/>"},
		{"/dav/anna/calendar/1.ics", todo("1", "x"), "", "<C:supported-calendar-component/>"},
		{"/dav/anna/tasks/1.ics", event("1", "20260301T100000Z", "x"), "", "<C:supported-calendar-component/>"},
		{"/dav/anna/calendar/2.ics", strings.Replace(event("2", "20260301T100000Z", "x"), "END:VCALENDAR", "BEGIN:VTODO\r\nUID:2\r\nEND:VTODO\r\nEND:VCALENDAR", 1), "", "<C:valid-calendar-object-resource/>"},
		{"/dav/anna/calendar/2.ics", "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nEND:VCALENDAR\r\n", "", "<C:valid-calendar-object-resource/>"},
		{"/dav/anna/contacts/1.vcf", "nothing", "", "<CR:valid-address-data/>"},
		{"/dav/anna/contacts/1.vcf", "{}", "Content-Type: application/json", "<CR:supported-address-data/>"},
		{"/dav/anna/.snapshots", "x", "", "<D:need-privileges><D:resource>"},
	} {
		h := []string{}
		if c.headers != "" {
			h = append(h, c.headers)
		}
		s.do("PUT", c.path, c.body, h...).want(403).has("<D:error", c.condition)
	}
	s.do("GET", "/dav/anna/calendar/1.ics", "").want(200).has("SUMMARY:x")
	s.do("PUT", "/dav/anna/calendar/", event("2", "20260301T100000Z", "x")).want(405)
	s.do("PUT", "/dav/anna/none/1.ics", event("2", "20260301T100000Z", "x")).want(409)
	s.do("PUT", "/dav/anna/", "x").want(405)
	s.do("PUT", "/dav/", "x").want(405)
	s.do("PUT", "/dav/anna/Files/x", "x", "Content-Range: bytes 0-0/1").want(400)
	s.do("PUT", "/dav/anna/Files/x", "x", "Content-Encoding: gzip").want(415)
}

// One UID is one resource, and a resource keeps its UID.
func TestUIDConflict(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/calendar/a%20b.ics", event("1", "20260301T100000Z", "x"))
	s.do("PUT", "/dav/anna/calendar/2.ics", event("1", "20260301T100000Z", "y")).want(409).has("<C:no-uid-conflict><D:href>/dav/anna/calendar/a%20b.ics</D:href></C:no-uid-conflict>")
	s.do("PUT", "/dav/anna/calendar/a%20b.ics", event("2", "20260301T100000Z", "y")).want(409).has("no-uid-conflict")
	s.do("MKCALENDAR", "/dav/anna/other/", "").want(201)
	s.put("/dav/anna/other/1.ics", event("1", "20260301T100000Z", "the same UID in another calendar"))
	s.do("MOVE", "/dav/anna/other/1.ics", "", "Destination: /dav/anna/calendar/2.ics").want(409).has("no-uid-conflict")
	s.do("COPY", "/dav/anna/calendar/a%20b.ics", "", "Destination: /dav/anna/calendar/2.ics").want(409).has("no-uid-conflict")
	s.do("MOVE", "/dav/anna/calendar/a%20b.ics", "", "Destination: /dav/anna/calendar/2.ics").want(201)
	s.put("/dav/anna/contacts/1.vcf", card("1", "x"))
	s.do("PUT", "/dav/anna/contacts/2.vcf", card("1", "y")).want(409).has("<CR:no-uid-conflict><D:href>/dav/anna/contacts/1.vcf</D:href>")
	s.do("DELETE", "/dav/anna/contacts/1.vcf", "").want(204)
	s.put("/dav/anna/contacts/2.vcf", card("1", "y"))
}

// 31. One strong ETag, of the stored bytes, in PUT, GET, HEAD, PROPFIND and REPORT.
func TestClient31ETag(t *testing.T) {
	s := newServer(t)
	body := card("1", "x")
	want := holdfast.ETag(sha256.Sum256([]byte(body)))
	got := []string{
		s.put("/dav/anna/contacts/1.vcf", body),
		s.do("GET", "/dav/anna/contacts/1.vcf", "").header.Get("ETag"),
		s.do("HEAD", "/dav/anna/contacts/1.vcf", "").want(200).header.Get("ETag"),
		s.propfind("/dav/anna/contacts/1.vcf", "0", "<D:getetag/>").multi().Responses[0].Propstats[0].Prop.ETag,
		s.propfind("/dav/anna/contacts/", "1", "<D:getetag/>").multi().Responses[1].Propstats[0].Prop.ETag,
		s.sync("/dav/anna/contacts/", "", 0).multi().Responses[0].Propstats[0].Prop.ETag,
		s.do("REPORT", "/dav/anna/contacts/", multigetBody("card", "/dav/anna/contacts/1.vcf")).multi().Responses[0].Propstats[0].Prop.ETag,
	}
	for i, e := range got {
		if e != want {
			t.Errorf("%d: %s, want %s", i, e, want)
		}
	}
}

// 32. DELETE honours If-Match; a second one is 404.
func TestClient32Delete(t *testing.T) {
	s := newServer(t)
	e := s.put("/dav/anna/contacts/1.vcf", card("1", "x"))
	s.do("DELETE", "/dav/anna/contacts/1.vcf", "", `If-Match: "0123456789abcdef0123456789abcdef"`).want(412)
	s.do("DELETE", "/dav/anna/contacts/1.vcf", "", "If-Match: "+e).want(204)
	s.do("DELETE", "/dav/anna/contacts/1.vcf", "", "If-Match: "+e).want(404)
	s.do("DELETE", "/dav/anna/contacts/1.vcf", "").want(404)
	s.do("DELETE", "/dav/anna/contacts/", "", "Depth: 0").want(400)
	s.do("DELETE", "/dav/anna/contacts/#x", "").want(400)
	s.put("/dav/anna/contacts/2.vcf", card("2", "x"))
	s.do("DELETE", "/dav/anna/contacts/", "").want(204)
	s.propfind("/dav/anna/contacts/2.vcf", "0", "<D:getetag/>").want(404)
	for _, p := range []string{"/dav/", "/dav/principals/", "/dav/principals/anna/", "/dav/anna/"} {
		s.do("DELETE", p, "").want(403).has("need-privileges")
	}
}

// 33. Bytes are kept as they are, whatever is in them. 34. vCard 3.0 and 4.0 are both stored.
// 35. So are Apple's groups, and they can be asked for.
func TestClient33To35Bytes(t *testing.T) {
	s := newServer(t)
	photo := "PHOTO;ENCODING=b;TYPE=JPEG:" + strings.Repeat("QUJD\r\n ", 40_000) + "QUI=\r\n"
	for name, body := range map[string]string{
		"apple.vcf": card("1", "x", "item1.TEL:1\r\nitem1.X-ABLabel:_$!<Mobile>!$_\r\nBDAY;X-APPLE-OMIT-YEAR=1604:1604-03-01\r\nX-APPLE-ODD;A=\"b:c\":\\;,\r\n"),
		"four.vcf":  strings.Replace(card("2", "x", "KIND:individual\r\n"), "3.0", "4.0", 1),
		"group.vcf": card("3", "Friends", "X-ADDRESSBOOKSERVER-KIND:group\r\nX-ADDRESSBOOKSERVER-MEMBER:urn:uuid:1\r\n"),
		"photo.vcf": card("4", "x", photo),
		"lf.vcf":    strings.ReplaceAll(card("5", "x"), "\r\n", "\n"),
		"odd.vcf":   card("6", "a\tb \u200b\U0001F600", "NOTE:\\n\\,\\;\\\\ <![CDATA[]]> &amp; \r\n  folded \r\n"),
		"ws.vcf":    card("7", "x") + "\r\n\r\n",
	} {
		s.put("/dav/anna/contacts/"+name, body)
		if a := s.do("GET", "/dav/anna/contacts/"+name, "").want(200); a.body != body {
			t.Errorf("%s: GET changed the body", name)
		}
		m := s.do("REPORT", "/dav/anna/contacts/", multigetBody("card", "/dav/anna/contacts/"+name)).multi()
		if got := m.Responses[0].Propstats[0].Prop.Card; got != body {
			t.Errorf("%s: REPORT changed the body:\n%.200q\n%.200q", name, got, body)
		}
	}
	s.propfind("/dav/anna/contacts/", "0", "<CR:supported-address-data/>").want(207).
		has(`<CR:address-data-type content-type="text/vcard" version="3.0"/><CR:address-data-type content-type="text/vcard" version="4.0"/>`)
	a := s.do("REPORT", "/dav/anna/contacts/", `<CR:addressbook-query`+declared+`><D:prop><D:getetag/></D:prop><CR:filter><CR:prop-filter name="X-ADDRESSBOOKSERVER-KIND"><CR:text-match>group</CR:text-match></CR:prop-filter></CR:filter></CR:addressbook-query>`, "Depth: 1")
	if got := a.multi().hrefs(); !cmp.Equal(got, []string{"/dav/anna/contacts/group.vcf"}) {
		t.Errorf("groups: %v", got)
	}
}

// 36. Any name works, in every method, and so does a chunked PUT.
func TestClient36Names(t *testing.T) {
	s := newServer(t)
	names := []string{
		"a b.vcf", "a+b.vcf", "a@b.vcf", "ü\u0308.vcf", "A.VCF", "a.vcf", "100%.vcf", "a%20b.vcf", "q?x=1.vcf", "h#1.vcf", "semi;colon,comma.vcf",
		"quote'\"<>&.vcf", "日本語.vcf", "\U0001F600", "...", ".hidden", " lead", "trail ", "back\\slash", "*", "~", strings.Repeat("x", 255), "no-ext", "0F-%C3", "[a]{b}|^`",
	}
	for i, name := range names {
		at := "/dav/anna/contacts/" + url.PathEscape(name)
		body := card(fmt.Sprint(i), "x")
		// A reader of unknown length goes out chunked.
		a := s.as("anna", "PUT", at, io.MultiReader(strings.NewReader(body[:10]), strings.NewReader(body[10:])), "If-None-Match: *")
		if a.status != 201 {
			t.Errorf("PUT %q: %d %s", name, a.status, a.body)
			continue
		}
		if got := s.do("GET", at, "").want(200).body; got != body {
			t.Errorf("GET %q: %q", name, got)
		}
	}
	m := s.propfind("/dav/anna/contacts/", "1", "<D:getetag/>").multi()
	if len(m.Responses) != len(names)+1 {
		t.Fatalf("%d members, want %d", len(m.Responses)-1, len(names))
	}
	for _, r := range m.Responses[1:] {
		name, err := url.PathUnescape(strings.TrimPrefix(r.Href, "/dav/anna/contacts/"))
		if err != nil || !slices.Contains(names, name) {
			t.Errorf("href %q is %q, %v", r.Href, name, err)
		}
		s.do("REPORT", "/dav/anna/contacts/", multigetBody("card", r.Href)).want(207).has("BEGIN:VCARD")
		s.do("DELETE", r.Href, "").want(204)
	}
	for _, p := range []string{"/dav/anna/contacts/..", "/dav/anna/contacts/%2e%2e", "/dav/anna/contacts/.", "/dav/anna/contacts//x", "/dav/anna/contacts/a%2fb", "/dav/anna/contacts/a%00b", "/dav/anna/contacts/a%0ab", "/dav/anna/contacts/%ff", "/dav/anna/contacts/" + strings.Repeat("y", 256)} {
		s.do("PUT", p, card("z", "z")).want(400)
	}
}

// A body that ends early or is larger than allowed leaves nothing behind.
func TestPutBounds(t *testing.T) {
	s := newServer(t, func(c *Config) { c.MaxObject, c.MaxFile = 20_000, 300_000 })
	big := card("1", "x", "NOTE:"+strings.Repeat("x", 20_000)+"\r\n")
	s.do("PUT", "/dav/anna/contacts/1.vcf", big).want(413).has("<CR:max-resource-size/>")
	s.do("PUT", "/dav/anna/calendar/1.ics", big).want(413).has("<C:max-resource-size/>")
	s.as("anna", "PUT", "/dav/anna/contacts/1.vcf", io.MultiReader(strings.NewReader(big))).want(413)
	s.do("PUT", "/dav/anna/Files/big", strings.Repeat("x", 300_001)).want(413)
	s.as("anna", "PUT", "/dav/anna/Files/big", io.MultiReader(strings.NewReader(strings.Repeat("x", 300_001)))).want(413)
	s.do("PUT", "/dav/anna/Files/big", strings.Repeat("x", 300_000)).want(201)
	s.propfind("/dav/anna/contacts/", "0", "<CR:max-resource-size/>").want(207).has("<CR:max-resource-size>20000<")
	for _, p := range []string{"/dav/anna/contacts/1.vcf", "/dav/anna/Files/short"} {
		for _, size := range []int{1000, 250_000} {
			r := &failingReader{left: size / 2}
			req, err := http.NewRequest("PUT", s.URL+p, r)
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = int64(size)
			req.SetBasicAuth("anna", "anna")
			if resp, err := s.Client().Do(req); err == nil {
				_ = resp.Body.Close()
				if resp.StatusCode < 400 {
					t.Errorf("%s: half a body was answered %d", p, resp.StatusCode)
				}
			}
			s.do("GET", p, "").want(404)
		}
	}
}

type failingReader struct{ left int }

func (r *failingReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.ErrClosedPipe
	}
	n := min(len(p), r.left)
	copy(p, bytes.Repeat([]byte{'x'}, n))
	r.left -= n
	return n, nil
}
