package dav

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// withData is a calendar-query for events in a range, with what calendar-data has inside.
func withData(inner, start, end string) string {
	b := calendarQueryBody(`<C:comp-filter name="VEVENT"><C:time-range start="` + start + `" end="` + end + `"/></C:comp-filter>`)
	return strings.Replace(b, "<C:calendar-data/>", "<C:calendar-data>"+inner+"</C:calendar-data>", 1)
}

// weekly is an event with an override and a time zone, as clients write them.
const weekly = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//test//EN\r\nBEGIN:VEVENT\r\nUID:weekly\r\nDTSTAMP:20260101T000000Z\r\n" +
	"DTSTART;TZID=Europe/Berlin:20260302T100000\r\nDTEND;TZID=Europe/Berlin:20260302T110000\r\nRRULE:FREQ=WEEKLY\r\nSUMMARY:series\r\nEND:VEVENT\r\n" +
	"BEGIN:VEVENT\r\nUID:weekly\r\nDTSTAMP:20260101T000000Z\r\nRECURRENCE-ID;TZID=Europe/Berlin:20260316T100000\r\n" +
	"DTSTART;TZID=Europe/Berlin:20260317T120000\r\nDTEND;TZID=Europe/Berlin:20260317T130000\r\nSUMMARY:moved\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"

func TestCalendarData(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/calendar/w.ics", weekly)
	s.put("/dav/anna/calendar/broken.ics", strings.Replace(event("broken", "20260310T100000Z", "x"), "SUMMARY", "RRULE:FREQ=NEVER\r\nSUMMARY", 1))
	s.put("/dav/anna/calendar/many.ics", strings.Replace(event("many", "20260310T100000Z", "x"), "SUMMARY", "RRULE:FREQ=SECONDLY\r\nSUMMARY", 1))
	const start, end = "20260315T000000Z", "20260401T000000Z"
	const expand = `<C:expand start="` + start + `" end="` + end + `"/>`
	m := s.do("REPORT", "/dav/anna/calendar/", withData(expand, start, end), "Depth: 1").multi()
	got := m.find(t, "/dav/anna/calendar/w.ics").Propstats[0].Prop.Cal
	for _, want := range []string{"DTSTART:20260317T110000Z", "RECURRENCE-ID:20260316T090000Z", "SUMMARY:moved", "DTSTART:20260323T090000Z", "DTSTART:20260330T080000Z"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing in %s", want, got)
		}
	}
	if strings.Contains(got, "RRULE") || strings.Contains(got, "TZID") || strings.Count(got, "BEGIN:VEVENT") != 3 {
		t.Errorf("got %s", got)
	}
	// What cannot be expanded is refused by itself: the answer has the rest.
	a := s.do("REPORT", "/dav/anna/calendar/", withData(expand, start, end), "Depth: 1").has("<D:status>HTTP/1.1 507 Insufficient Storage</D:status><D:error><C:max-instances/></D:error>")
	for name, status := range map[string]string{"broken": " 404 ", "many": " 507 "} {
		r := a.multi().find(t, "/dav/anna/calendar/"+name+".ics")
		if len(r.Propstats) != 2 || !strings.Contains(r.Propstats[1].Status, status) || r.Propstats[0].Prop.Cal != "" || r.Propstats[0].Prop.ETag == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	multiget := `<C:calendar-multiget` + declared + `><D:prop><C:calendar-data>INNER</C:calendar-data></D:prop><D:href>/dav/anna/calendar/w.ics</D:href></C:calendar-multiget>`
	ask := func(inner string) *answer {
		return s.do("REPORT", "/dav/anna/calendar/", strings.Replace(multiget, "INNER", inner, 1))
	}
	ask(`<C:comp name="VCALENDAR"><C:prop name="VERSION"/><C:comp name="VEVENT"><C:prop name="SUMMARY"/><C:prop name="UID" novalue="yes"/></C:comp></C:comp>`).
		want(207).has("VERSION:2.0", "SUMMARY:series", "UID:&#13;\n").lacks("PRODID", "DTSTART", "UID:weekly")
	ask(`<C:limit-recurrence-set start="20260301T000000Z" end="20260303T000000Z"/>`).want(207).has("SUMMARY:series", "RRULE").lacks("SUMMARY:moved")
	ask(`<C:limit-freebusy-set start="20260301T000000Z" end="20260303T000000Z"/>`).want(207).has("SUMMARY:series", "SUMMARY:moved")
	ask(strings.Replace(expand, start, "20260301T000000Z", 1)).want(207).has("DTSTART:20260302T090000Z").lacks("TZID")
	ask(`<C:comp name="VCALENDAR"/>`+expand).want(207).has("PRODID", "SUMMARY:moved").lacks("TZID")
	sync := `<D:sync-collection` + declared + `><D:sync-token/><D:sync-level>1</D:sync-level><D:prop><C:calendar-data>` + expand + `</C:calendar-data></D:prop></D:sync-collection>`
	s.do("REPORT", "/dav/anna/calendar/", sync).want(207).has("DTSTART:20260317T110000Z").lacks("FREQ=WEEKLY")
	for _, inner := range []string{
		`<C:expand start="20260301T000000Z"/>`, `<C:expand end="20260301T000000Z"/>`, `<C:expand start="20260301" end="20260302"/>`,
		`<C:expand start="20260302T000000Z" end="20260301T000000Z"/>`, `<C:limit-recurrence-set/>`, `<C:limit-freebusy-set start="x" end="y"/>`,
		`<C:comp/>`, `<C:comp name="VCALENDAR"><C:comp/></C:comp>`, expand + `<C:limit-recurrence-set start="20260301T000000Z" end="20260303T000000Z"/>`,
		`<C:comp name="VCALENDAR">` + strings.Repeat(`<C:comp name="X">`, 20) + strings.Repeat(`</C:comp>`, 20) + `</C:comp>`,
	} {
		ask(inner).want(400)
	}
}

// The time zone of dates and floating times is the query's, else the collection's.
func TestFloatingZone(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/calendar/day.ics", strings.Replace(event("day", "20260310T100000Z", "x"), "DTSTART:20260310T100000Z\r\nDURATION:PT1H", "DTSTART;VALUE=DATE:20260310", 1))
	in := func(extra string) bool {
		b := strings.Replace(withData("", "20260309T230000Z", "20260310T000000Z"), "</C:filter>", "</C:filter>"+extra, 1)
		return len(s.do("REPORT", "/dav/anna/calendar/", b, "Depth: 1").multi().Responses) == 1
	}
	if in("") {
		t.Error("in UTC the day has begun an hour early")
	}
	if !in("<C:timezone-id>Europe/Berlin</C:timezone-id>") {
		t.Error("the zone of the query does not count")
	}
	s.do("PROPPATCH", "/dav/anna/calendar/", `<D:propertyupdate`+declared+`><D:set><D:prop><C:calendar-timezone-id>Europe/Berlin</C:calendar-timezone-id></D:prop></D:set></D:propertyupdate>`).want(207)
	if !in("") {
		t.Error("the zone of the collection does not count")
	}
	if in("<C:timezone-id>America/New_York</C:timezone-id>") {
		t.Error("the zone of the collection counts before that of the query")
	}
}

func TestFreeBusyQuery(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := newServer(t, func(c *Config) { c.Now = func() time.Time { return now } })
	s.put("/dav/anna/calendar/w.ics", weekly)
	s.put("/dav/anna/calendar/one.ics", event("one", "20260323T093000Z", "x"))
	s.put("/dav/anna/calendar/free.ics", strings.Replace(event("free", "20260323T150000Z", "x"), "SUMMARY", "TRANSP:TRANSPARENT\r\nSUMMARY", 1))
	s.put("/dav/anna/tasks/t.ics", todo("t", "x"))
	s.do("MKCALENDAR", "/dav/anna/second/", "").want(201)
	s.put("/dav/anna/second/m.ics", strings.Replace(event("maybe", "20260323T180000Z", "x"), "SUMMARY", "STATUS:TENTATIVE\r\nSUMMARY", 1))
	const query = `<C:free-busy-query` + declared + `><C:time-range start="20260316T000000Z" end="20260324T000000Z"/></C:free-busy-query>`
	busy := func(target string, headers ...string) []string {
		t.Helper()
		a := s.do("REPORT", target, query, headers...).want(200).has("BEGIN:VFREEBUSY\r\nDTSTAMP:20260301T120000Z\r\nDTSTART:20260316T000000Z\r\nDTEND:20260324T000000Z\r\n").lacks("METHOD")
		if got := a.header.Get("Content-Type"); got != "text/calendar; charset=utf-8" {
			t.Errorf("Content-Type %s", got)
		}
		var out []string
		for line := range strings.Lines(a.body) {
			if v, ok := strings.CutPrefix(line, "FREEBUSY;FBTYPE="); ok {
				out = append(out, strings.TrimSpace(v))
			}
		}
		return out
	}
	first := []string{"BUSY:20260317T110000Z/20260317T120000Z", "BUSY:20260323T090000Z/20260323T103000Z"}
	for _, headers := range [][]string{nil, {"Depth: 0"}, {"Depth: 1"}, {"Depth: infinity"}} {
		if got := busy("/dav/anna/calendar/", headers...); !slices.Equal(got, first) {
			t.Errorf("%v: got %v", headers, got)
		}
	}
	if got, want := busy("/dav/anna/", "Depth: infinity"), append(first, "BUSY-TENTATIVE:20260323T180000Z/20260323T190000Z"); !slices.Equal(got, want) {
		t.Errorf("home: got %v, want %v", got, want)
	}
	if got := busy("/dav/anna/tasks/"); got != nil {
		t.Errorf("tasks: %v", got)
	}
	if got := busy("/dav/anna/calendar/one.ics"); !slices.Equal(got, []string{"BUSY:20260323T093000Z/20260323T103000Z"}) {
		t.Errorf("one: %v", got)
	}
	for _, bad := range []string{
		"", `<C:time-range start="20260316T000000Z"/>`, `<C:time-range end="20260316T000000Z"/>`, `<C:time-range start="20260316" end="20260317"/>`,
		`<C:time-range start="20260317T000000Z" end="20260316T000000Z"/>`, `<C:filter/>`,
	} {
		s.do("REPORT", "/dav/anna/calendar/", `<C:free-busy-query`+declared+`>`+bad+`</C:free-busy-query>`).want(400)
	}
	s.do("REPORT", "/dav/anna/contacts/", query).want(403).has("<D:supported-report/>")
	s.do("REPORT", "/dav/ben/calendar/", query).want(404)
	s.propfind("/dav/anna/calendar/", "0", "<D:current-user-privilege-set/><D:supported-report-set/>").has("<C:read-free-busy/>", "<C:free-busy-query/>")
	s.restart(func() {})
	if got := busy("/dav/anna/calendar/"); !slices.Equal(got, first) {
		t.Errorf("after a restart: %v", got)
	}
}

// A query of the home asks all its calendars; so does a multiget that names members of them.
func TestQueryHome(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/calendar/a.ics", event("a", "20260310T100000Z", "a"))
	s.do("MKCALENDAR", "/dav/anna/zz/", "").want(201)
	s.put("/dav/anna/zz/b.ics", event("b", "20260310T100000Z", "b"))
	s.put("/dav/anna/tasks/t.ics", todo("t", "t"))
	s.put("/dav/anna/Files/f.ics", event("f", "20260310T100000Z", "f"))
	s.put("/dav/anna/contacts/c.vcf", card("c", "C"))
	body := withData("", "20260301T000000Z", "20260401T000000Z")
	for depth, want := range map[string][]string{
		"1": {"/dav/anna/calendar/a.ics", "/dav/anna/zz/b.ics"}, "infinity": {"/dav/anna/calendar/a.ics", "/dav/anna/zz/b.ics"}, "0": {},
	} {
		if got := s.do("REPORT", "/dav/anna/", body, "Depth: "+depth).multi().hrefs(); !slices.Equal(got, want) {
			t.Errorf("Depth %s: got %v, want %v", depth, got, want)
		}
	}
	cards := `<CR:addressbook-query` + declared + `><D:prop><D:getetag/></D:prop><CR:filter/></CR:addressbook-query>`
	if got := s.do("REPORT", "/dav/anna/", cards, "Depth: infinity").multi().hrefs(); !slices.Equal(got, []string{"/dav/anna/contacts/c.vcf"}) {
		t.Errorf("cards: got %v", got)
	}
	get := func(target string, hrefs ...string) []string {
		b := `<C:calendar-multiget` + declared + `><D:prop><D:getetag/></D:prop>`
		for _, h := range hrefs {
			b += "<D:href>" + h + "</D:href>"
		}
		return s.do("REPORT", target, b+"</C:calendar-multiget>").multi().hrefs()
	}
	if got := get("/dav/anna/", "/dav/anna/calendar/a.ics", "/dav/anna/zz/b.ics", "/dav/anna/contacts/c.vcf", "/dav/anna/Files/f.ics", "/dav/anna/zz/"); !slices.Equal(got, []string{
		"/dav/anna/calendar/a.ics", "/dav/anna/zz/b.ics", "-/dav/anna/contacts/c.vcf", "-/dav/anna/Files/f.ics", "-/dav/anna/zz/",
	}) {
		t.Errorf("home: got %v", got)
	}
	if got := get("/dav/anna/zz/b.ics", "/dav/anna/calendar/a.ics", "/dav/anna/zz/b.ics"); !slices.Equal(got, []string{"-/dav/anna/calendar/a.ics", "/dav/anna/zz/b.ics"}) {
		t.Errorf("one resource: got %v", got)
	}
	s.do("REPORT", "/dav/anna/Files/f.ics", strings.Replace(body, "calendar-query", "calendar-multiget", 2)).want(http.StatusForbidden)
}

// A query of the home that takes several views asks every calendar to its end, and none twice.
func TestQueryHomeLong(t *testing.T) {
	s := newServer(t)
	long := strings.Repeat("x", 60<<10)
	want := []string{}
	for _, name := range []string{"a", "b", "c"} {
		s.do("MKCALENDAR", "/dav/anna/"+name+"/", "").want(201)
		for i := range 9 {
			href := "/dav/anna/" + name + "/" + string(rune('0'+i))
			s.put(href, event(name+href[len(href)-1:], "20260310T100000Z", long))
			want = append(want, href)
		}
	}
	a := s.do("REPORT", "/dav/anna/", withData("", "20260301T000000Z", "20260401T000000Z"), "Depth: infinity")
	if got := a.multi().hrefs(); !slices.Equal(got, want) || a.header.Get("Content-Length") != "" {
		t.Errorf("got %v, length %q", got, a.header.Get("Content-Length"))
	}
}
