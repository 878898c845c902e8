package dav

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

// Whatever one person asks for at another's paths, in a target, in an href, as a Destination or in an If header, is
// answered as if that other person did not exist, and changes nothing of theirs. The requests are made from the router's
// own tables: a method or a REPORT that is added later is among them.
func TestNothingOfOthers(t *testing.T) {
	s := newServer(t)
	var etag string
	for _, who := range []string{"anna", "ben"} {
		for name, body := range map[string]string{
			"calendar/1.ics": event("1", "20270301T100000Z", "first"), "contacts/1.vcf": card("1", "First"), "Files/a.txt": "first",
		} {
			a := s.as(who, "PUT", "/dav/"+who+"/"+name, strings.NewReader(body)).want(http.StatusCreated)
			if who == "anna" && name == "calendar/1.ics" {
				etag = a.header.Get("ETag")
			}
		}
	}
	const other, nobody = "anna", "zora" // of one length: a Content-Length tells nothing of the name
	all := walk(t, etag)
	for _, p := range []string{"/dav/anna/", "/dav/anna/calendar", "/dav/principals/anna/", "/remote.php/dav/files/anna/a.txt", "/remote.php/dav/uploads/anna/x/"} {
		for _, method := range []string{"GET", "PROPFIND", "OPTIONS", "MKCOL", "POST", "LOCK", "UNLOCK", "DELETE"} {
			all = append(all, walked{name: method + " " + p, method: method, target: p, headers: []string{"Depth: 0"}})
		}
	}
	for _, w := range slices.Clone(all) {
		if w.writes && w.method != "COPY" && w.method != "MOVE" {
			all = append(all, walked{name: w.name + ", if", method: w.method, target: strings.ReplaceAll(w.target, other, "ben"), body: w.body, headers: []string{"If: </dav/anna/calendar/1.ics> ([" + etag + "])"}})
		}
		if strings.Contains(w.body+strings.Join(w.headers, " "), other) {
			w.name, w.target = w.name+", from their own", strings.ReplaceAll(w.target, other, "ben")
			all = append(all, w)
		}
	}
	ask := func(w walked, name string) *answer {
		to := func(v string) string { return strings.ReplaceAll(v, other, name) }
		headers := make([]string, len(w.headers))
		for i := range headers {
			headers[i] = to(w.headers[i])
		}
		a := s.as("ben", w.method, to(w.target), strings.NewReader(to(w.body)), headers...)
		a.body = strings.ReplaceAll(a.body, name, "NAME")
		a.header.Del("Date")
		return a
	}
	before := s.do("PROPFIND", "/dav/anna/calendar/", "", "Depth: 1").body + s.do("PROPFIND", "/dav/anna/Files/", "", "Depth: 1").body
	for _, w := range all {
		got, want := ask(w, other), ask(w, nobody)
		if got.status != want.status || got.body != want.body || len(got.header) != len(want.header) {
			t.Errorf("%s tells of another account: %d %v %.300q, and of nobody %d %v %.300q", w.name, got.status, got.header, got.body, want.status, want.header, want.body)
		}
		if strings.HasPrefix(w.target, "/dav/anna") && got.status < 300 && w.method != "OPTIONS" {
			t.Errorf("%s: %d for another's path", w.name, got.status)
		}
	}
	if after := s.do("PROPFIND", "/dav/anna/calendar/", "", "Depth: 1").body + s.do("PROPFIND", "/dav/anna/Files/", "", "Depth: 1").body; after != before {
		t.Errorf("anna had\n%s\nand has\n%s", before, after)
	}
}
