package dav

import (
	"fmt"
	"strings"
	"testing"
)

// bounded serves anna with a quota.
func bounded(t *testing.T, quota int64) *server {
	t.Helper()
	s := newServer(t)
	s.quota = quota
	return s
}

// kept returns what the quota properties say; left is -1 without one.
func (s *server) kept() (used, left int64) {
	s.t.Helper()
	left = -1
	a := s.propfind("/dav/anna/", "0", "<D:quota-used-bytes/><D:quota-available-bytes/>").want(207)
	if _, rest, ok := strings.Cut(a.body, "<D:quota-used-bytes>"); ok {
		if _, err := fmt.Sscan(rest[:strings.IndexByte(rest, '<')], &used); err != nil {
			s.t.Fatal(err)
		}
	}
	if _, rest, ok := strings.Cut(a.body, "<D:quota-available-bytes>"); ok {
		if _, err := fmt.Sscan(rest[:strings.IndexByte(rest, '<')], &left); err != nil {
			s.t.Fatal(err)
		}
	}
	return used, left
}

// An account keeps no more than its quota, old versions included; what is refused changes nothing, and
// deleting, moving and reading always work.
func TestQuota(t *testing.T) {
	const quota = 1_000_000
	s := bounded(t, quota)
	body := strings.Repeat("x", 300_000)
	full := func(a *answer) {
		t.Helper()
		a.want(507).has("<D:quota-not-exceeded/>")
	}
	want := func(used int64) {
		t.Helper()
		if u, left := s.kept(); u != used || left != max(0, quota-used) {
			t.Fatalf("used %d, left %d; want %d and %d", u, left, used, max(0, quota-used))
		}
	}
	want(0)
	s.put("/dav/anna/Files/a", body)
	s.put("/dav/anna/Files/a", body+"!") // the first version is history now
	want(600_001)
	s.do("COPY", "/dav/anna/Files/a", "", to("/dav/anna/Files/b")).want(201)
	want(900_002)
	full(s.do("COPY", "/dav/anna/Files/a", "", to("/dav/anna/Files/c")))
	full(s.do("PUT", "/dav/anna/Files/c", body))
	full(s.as("anna", "PUT", "/dav/anna/Files/c", struct{ *strings.Reader }{strings.NewReader(body)})) // chunked: nobody knew
	s.do("GET", "/dav/anna/Files/c", "").want(404)
	s.do("MKCOL", "/dav/anna/Files/d/", "").want(201)
	s.do("MOVE", "/dav/anna/Files/b", "", to("/dav/anna/Files/d/e")).want(201)
	full(s.do("COPY", "/dav/anna/Files/d/", "", to("/dav/anna/Files/f/")))
	s.do("MOVE", "/dav/anna/Files/d/", "", to("/dav/anna/Files/f/")).want(201)
	s.do("PUT", "/dav/anna/Files/a", body+"!", "X-OC-Mtime: 5").want(507) // no room for it, if it were new
	want(900_002)                                                         // moving kept nothing twice
	s.do("PUT", "/dav/anna/Files/a", body+"!").want(204)                  // a repeat is no new version
	s.put("/dav/anna/Files/small", strings.Repeat("y", 99_998))
	full(s.do("PUT", "/dav/anna/contacts/1.vcf", card("1", "One")))
	s.do("PUT", "/dav/anna/Files/empty", "").want(201)
	s.do("DELETE", "/dav/anna/Files/f/", "").want(204)
	s.do("DELETE", "/dav/anna/Files/a", "").want(204)
	want(quota) // they can be brought back
	full(s.do("PUT", "/dav/anna/Files/c", "x"))
	s.quota = quota + 1
	s.do("PUT", "/dav/anna/Files/c", "x").want(201)
	s.quota = 0
	s.do("PUT", "/dav/anna/Files/c", body).want(204)
	if used, left := s.kept(); used != quota+1+300_000 || left != -1 {
		t.Errorf("without a quota: used %d, left %d", used, left)
	}
	s.quota = quota
	if _, left := s.kept(); left != 0 {
		t.Errorf("over the quota: left %d", left)
	}
	s.as("ben", "PUT", "/dav/ben/Files/x", strings.NewReader("x")).want(201) // has none
}

// Pieces count while they are pieces, and the whole when it becomes a file.
func TestQuotaOfUploads(t *testing.T) {
	s := bounded(t, 100_000)
	at := uploadsBase + "anna/u"
	s.do("MKCOL", at, "", "OC-Total-Length: 100001").want(507).has("quota-not-exceeded")
	s.do("MKCOL", at, "", "OC-Total-Length: 100000").want(201)
	s.do("PUT", at+"/1", strings.Repeat("x", 60_000)).want(201)
	s.do("PUT", at+"/2", strings.Repeat("x", 50_000)).want(507)
	s.do("PUT", at+"/2", strings.Repeat("x", 40_000)).want(201)
	s.put("/dav/anna/Files/other", "y")
	s.do("MOVE", at+"/.file", "", to(nextcloud+"Files/x")).want(507)
	s.quota++
	s.do("MOVE", at+"/.file", "", to(nextcloud+"Files/x"), "OC-Total-Length: 100000").want(201)
	s.do("MOVE", at+"/.file", "", to(nextcloud+"Files/x"), "OC-Total-Length: 100000").want(204) // a repeat, with no room left
	if used, left := s.kept(); used != 100_001 || left != 0 {
		t.Errorf("used %d, left %d", used, left)
	}
}
