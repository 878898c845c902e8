package dav

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/ical"
)

func TestPrefer(t *testing.T) {
	s := newServer(t)
	body := event("1", "20260301T100000Z", "first")
	a := s.do("PUT", "/dav/anna/calendar/1.ics", body, "Prefer: x-foo").want(201)
	if a.body != "" || a.header.Get("Preference-Applied") != "" {
		t.Errorf("an unknown preference: %q, %v", a.body, a.header)
	}
	for i, prefer := range []string{"return=representation", `handling=lenient, return = "representation"; x=y`} {
		body = event("1", "20260301T100000Z", fmt.Sprint("title", i))
		a = s.do("PUT", "/dav/anna/calendar/1.ics", body, "Prefer: "+prefer).want(200)
		if a.body != body || a.header.Get("Content-Location") != "/dav/anna/calendar/1.ics" || a.header.Get("Preference-Applied") != "return=representation" ||
			a.header.Get("ETag") != s.do("GET", "/dav/anna/calendar/1.ics", "").header.Get("ETag") || !strings.HasPrefix(a.header.Get("Content-Type"), "text/calendar") {
			t.Errorf("%s: %v %q", prefer, a.header, a.body)
		}
	}
	if a = s.do("PUT", "/dav/anna/contacts/2.vcf", card("2", "B"), "Prefer: return=representation").want(201); a.body != card("2", "B") {
		t.Errorf("got %q", a.body)
	}
	// 412 brings what is there, so that the client can merge at once.
	a = s.do("PUT", "/dav/anna/calendar/1.ics", event("1", "20260301T100000Z", "mine"), "Prefer: return=representation", `If-Match: "1234"`).want(412)
	if a.body != body || a.header.Get("ETag") == "" {
		t.Errorf("412: %v %q", a.header, a.body)
	}
	s.do("PUT", "/dav/anna/calendar/none.ics", body, "Prefer: return=representation", `If-Match: "1234"`).want(412).lacks("BEGIN")
	s.do("PUT", "/dav/anna/Files/f", "file", "Prefer: return=representation").want(201).lacks("file")

	const set = `<D:propertyupdate` + declared + `><D:set><D:prop>%s</D:prop></D:set></D:propertyupdate>`
	a = s.do("PROPPATCH", "/dav/anna/calendar/", fmt.Sprintf(set, "<A:calendar-color>#ff0000</A:calendar-color>"), "Prefer: return=minimal").want(200)
	if a.body != "" || a.header.Get("Preference-Applied") != "return=minimal" {
		t.Errorf("PROPPATCH: %v %q", a.header, a.body)
	}
	s.do("PROPPATCH", "/dav/anna/calendar/", fmt.Sprintf(set, "<D:getetag>x</D:getetag>"), "Prefer: return=minimal").want(207).has("cannot-modify-protected-property")
	a = s.do("PROPFIND", "/dav/anna/calendar/", `<D:propfind`+declared+`><D:prop><D:nothing/></D:prop></D:propfind>`, "Depth: 0", "Prefer: return=minimal").want(207)
	if a.lacks("nothing", "404").header.Get("Preference-Applied") != "return=minimal" {
		t.Error("PROPFIND does not say that it applied return=minimal")
	}
	for depth, want := range map[string][]string{"0": {"/dav/anna/calendar/"}, "1": {"/dav/anna/calendar/1.ics"}} {
		a = s.do("PROPFIND", "/dav/anna/calendar/", "", "Depth: "+depth, "Prefer: depth-noroot")
		if got := a.multi().hrefs(); !slices.Equal(got, want) || (a.header.Get("Preference-Applied") == "depth-noroot") != (depth == "1") {
			t.Errorf("depth-noroot at %s: %v, %v", depth, got, a.header)
		}
	}
}

// RFC 5995: POST makes a member whose name the server chooses.
func TestAddMember(t *testing.T) {
	s := newServer(t)
	for target, body := range map[string]string{"/dav/anna/calendar/": event("1", "20260301T100000Z", "first"), "/dav/anna/contacts/": card("1", "A")} {
		s.propfind(target, "0", "<D:add-member/>").want(207).has("<D:add-member><D:href>" + target + "?add-member</D:href></D:add-member>")
		a := s.do("POST", target+"?add-member", body).want(201)
		at := a.header.Get("Location")
		if !strings.HasPrefix(at, target) || a.body != "" || a.header.Get("Content-Location") != "" {
			t.Errorf("Location %q, body %q", at, a.body)
		}
		if got := s.do("GET", at, "").want(200); got.body != body || got.header.Get("ETag") != a.header.Get("ETag") {
			t.Errorf("stored %q, ETag %s; want ETag %s", got.body, got.header.Get("ETag"), a.header.Get("ETag"))
		}
		// A repeat whose first answer was lost learns where it is.
		s.do("POST", target+"?add-member", body).want(409).has("no-uid-conflict><D:href>" + at)
		s.do("POST", target, body).want(405)
		s.do("POST", at+"?add-member", body).want(405)
	}
	if a := s.do("POST", "/dav/anna/calendar/?add-member", event("2", "20260301T100000Z", "x"), "Prefer: return=representation").want(201); a.header.Get("Content-Location") != a.header.Get("Location") || !strings.Contains(a.body, "UID:2") {
		t.Errorf("representation: %v %q", a.header, a.body)
	}
	s.do("POST", "/dav/anna/calendar/?add-member", "no calendar").want(403).has("valid-calendar-data")
	s.do("POST", "/dav/anna/Files/?add-member", "x").want(405)
	s.do("POST", "/dav/anna/none/?add-member", "x").want(404)
	s.do("POST", "/dav/ben/calendar/?add-member", event("3", "20260301T100000Z", "x")).want(404)
	s.propfind("/dav/anna/", "0", "<D:add-member/>").has("<D:add-member/></D:prop><D:status>HTTP/1.1 404")
}

// RFC 4791, 5.2.6-5.2.9: what a calendar announces is enforced.
func TestCalendarLimits(t *testing.T) {
	s := newServer(t)
	s.propfind("/dav/anna/calendar/", "0", "<C:min-date-time/><C:max-date-time/><C:max-instances/><C:max-attendees-per-instance/>").
		has(">00010101T000000Z<", ">99991231T235959Z<", fmt.Sprintf("<C:max-instances>%d<", ical.MaxInstances), fmt.Sprintf("<C:max-attendees-per-instance>%d<", ical.MaxAttendees)).lacks(" 404 ")
	put := func(extra string) *answer {
		return s.do("PUT", "/dav/anna/calendar/1.ics", strings.Replace(event("1", "20260301T100000Z", "x"), "SUMMARY", extra+"SUMMARY", 1))
	}
	put(fmt.Sprintf("RRULE:FREQ=DAILY;COUNT=%d\r\n", ical.MaxInstances+1)).want(403).has("<C:max-instances/>")
	put(strings.Repeat("ATTENDEE:mailto:a@example.com\r\n", ical.MaxAttendees+1)).want(403).has("<C:max-attendees-per-instance/>")
	s.do("PUT", "/dav/anna/calendar/1.ics", event("1", "00000301T100000Z", "x")).want(403).has("<C:min-date-time/>")
	s.do("GET", "/dav/anna/calendar/1.ics", "").want(404)
	put(fmt.Sprintf("RRULE:FREQ=DAILY;COUNT=%d\r\n", ical.MaxInstances)).want(201)
	s.do("PUT", "/dav/anna/calendar/2.ics", event("2", "00010101T100000Z", "x")).want(201)
}

// RFC 4918, 4.3: the attributes of a property element are a part of it, and so is xml:lang around it.
func TestPropertyAttributes(t *testing.T) {
	s := newServer(t)
	set := func(target, xml string) {
		t.Helper()
		s.do("PROPPATCH", target, `<D:propertyupdate`+declared+` xml:lang="fr"><D:set xml:lang="de"><D:prop>`+xml+`</D:prop></D:set><D:set><D:prop><D:third>trois</D:third></D:prop></D:set></D:propertyupdate>`).want(207).lacks("403")
	}
	s.put("/dav/anna/Files/f", "x")
	for _, target := range []string{"/dav/anna/calendar/", "/dav/anna/Files/f"} {
		set(target, `<D:displayname>Kalender</D:displayname><y:a xmlns:y="urn:y" y:b="1 &lt; 2" c="&quot;"><D:x xml:lang="en">t</D:x></y:a><D:empty xml:lang="en"/>`)
		for name, q := range map[string]*answer{
			"named": s.propfind(target, "0", `<D:displayname/><a xmlns="urn:y"/><D:third/><D:empty/>`),
			"all":   s.do("PROPFIND", target, "", "Depth: 0"),
		} {
			q.want(207).has(`<D:displayname xml:lang="de">Kalender</D:displayname>`, `<x:a xmlns:x="urn:y" xml:lang="de" xmlns:nb="urn:y" nb:b="1 &lt; 2" c="&quot;"><x xmlns="DAV:" xml:lang="en">t</x></x:a>`,
				`<D:third xml:lang="fr">trois</D:third>`, `<D:empty xml:lang="en"></D:empty>`).lacks("holdfast:", "attributes").multi()
			if n := strings.Count(q.body, "<D:displayname"); n != 1 {
				t.Errorf("%s %s: displayname %d times", target, name, n)
			}
		}
		s.do("PROPFIND", target, `<D:propfind xmlns:D="DAV:"><D:propname/></D:propfind>`, "Depth: 0").has("<D:displayname/>").lacks("Kalender")
	}
	s.do("MKCOL", "/dav/anna/made/", `<D:mkcol`+declared+`><D:set><D:prop xml:lang="en"><D:resourcetype><D:collection/><C:calendar/></D:resourcetype><D:displayname>Made</D:displayname></D:prop></D:set></D:mkcol>`).want(201)
	s.propfind("/dav/anna/made/", "0", "<D:displayname/>").has(`<D:displayname xml:lang="en">Made<`)
	s.do("COPY", "/dav/anna/made/", "", "Destination: /dav/anna/copy/").want(201)
	s.restart(func() {})
	s.propfind("/dav/anna/copy/", "0", "<D:displayname/>").has(`<D:displayname xml:lang="en">Made<`)
	// A time zone is read whatever attributes it has, and one that is none is refused.
	zone := "<C:calendar-timezone>BEGIN:VCALENDAR&#13;\nBEGIN:VTIMEZONE&#13;\nTZID:X&#13;\nEND:VTIMEZONE&#13;\nEND:VCALENDAR&#13;\n</C:calendar-timezone>"
	set("/dav/anna/calendar/", zone+"<C:calendar-timezone-id>Europe/Berlin</C:calendar-timezone-id>")
	for xml, condition := range map[string]string{"<C:calendar-timezone>x</C:calendar-timezone>": "<C:valid-calendar-data/>", "<C:calendar-timezone-id>Mars/Olympus</C:calendar-timezone-id>": "<C:valid-timezone/>"} {
		s.do("PROPPATCH", "/dav/anna/calendar/", `<D:propertyupdate`+declared+`><D:set><D:prop>`+xml+`</D:prop></D:set></D:propertyupdate>`).want(207).has(condition)
		s.do("MKCALENDAR", "/dav/anna/bad/", `<C:mkcalendar`+declared+`><D:set><D:prop>`+xml+`</D:prop></D:set></C:mkcalendar>`).want(403).has(condition)
	}
	s.do("PROPPATCH", "/dav/anna/Files/f", `<D:propertyupdate`+declared+`><D:set><D:prop><D:getcontentlanguage>de, en-US</D:getcontentlanguage></D:prop></D:set></D:propertyupdate>`).want(207)
	if got := s.do("GET", "/dav/anna/Files/f", "").header.Get("Content-Language"); got != "de, en-US" {
		t.Errorf("Content-Language %q", got)
	}
}
