package dav

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"holdfast/internal/limit"
)

// While others have all the memory, small requests go on and large ones are told to come again; nothing of them is
// kept. When it is free they are answered.
func TestNoMemory(t *testing.T) {
	s := newServer(t)
	large := card("large", "Large", "NOTE:"+strings.Repeat("x", 150<<10)+"\r\n")
	s.put("/dav/anna/contacts/large.vcf", large)
	for i := range 150 {
		s.put(fmt.Sprintf("/dav/anna/Files/%0100d", i), "x")
	}
	gate := limit.New(limit.Config{Requests: 100, AccountRequests: 50, Memory: 128 << 20})
	enter := func(who limit.Who) (context.Context, *limit.Slot) {
		slot, err := gate.Enter(t.Context(), who)
		if err != nil {
			t.Fatal(err)
		}
		return limit.With(t.Context(), slot), slot
	}
	var others []*limit.Slot
	for _, who := range []limit.Who{{Account: 100}, {Account: 101}} { // each has its half
		ctx, slot := enter(who)
		if err := limit.Hold(ctx, 64<<20); err != nil {
			t.Fatal(err)
		}
		others = append(others, slot)
	}
	try := func(wait time.Duration, method, target string, body io.Reader) *httptest.ResponseRecorder {
		ctx, slot := enter(limit.Who{Account: anna, Device: 5})
		defer slot.Leave()
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		r := httptest.NewRequest(method, target, body).WithContext(WithPrincipal(ctx, Principal{Account: anna, Name: "anna", Device: 5}))
		r.Header.Set("Depth", "1")
		w := httptest.NewRecorder()
		s.dav.ServeHTTP(w, r)
		return w
	}
	unknown := func(b string) io.Reader { return io.MultiReader(strings.NewReader(b)) } // no length, as chunked
	big := card("new", "New", "NOTE:"+strings.Repeat("y", 150<<10)+"\r\n")
	multiget := `<C:addressbook-multiget xmlns:C="urn:ietf:params:xml:ns:carddav" xmlns:D="DAV:"><D:prop><C:address-data/></D:prop><D:href>/dav/anna/contacts/large.vcf</D:href></C:addressbook-multiget>`
	report := strings.Replace(multiget, "<D:href>", strings.Repeat("<!-- -->", 10<<10)+"<D:href>", 1)
	cases := []struct {
		name, method, target string
		body                 func() io.Reader
		large                bool
		status               int
	}{
		{"small PUT", "PUT", "/dav/anna/contacts/small.vcf", func() io.Reader { return strings.NewReader(card("small", "Small")) }, false, 201},
		{"small PUT without a length", "PUT", "/dav/anna/contacts/small2.vcf", func() io.Reader { return unknown(card("small2", "Small")) }, false, 201},
		{"file of any size", "PUT", "/dav/anna/Files/large", func() io.Reader { return unknown(big) }, false, 201},
		{"GET", "GET", "/dav/anna/contacts/large.vcf", func() io.Reader { return http.NoBody }, false, 200},
		{"short listing", "PROPFIND", "/dav/anna/contacts/", func() io.Reader { return http.NoBody }, false, 207},
		{"large PUT", "PUT", "/dav/anna/contacts/new.vcf", func() io.Reader { return strings.NewReader(big) }, true, 201},
		{"large PUT without a length", "PUT", "/dav/anna/contacts/new2.vcf", func() io.Reader { return unknown(strings.ReplaceAll(big, "UID:new", "UID:new2")) }, true, 201},
		{"multiget of a large card", "REPORT", "/dav/anna/contacts/", func() io.Reader { return strings.NewReader(multiget) }, true, 207},
		{"large REPORT", "REPORT", "/dav/anna/contacts/", func() io.Reader { return strings.NewReader(report) }, true, 207},
		{"long listing", "PROPFIND", "/dav/anna/Files/", func() io.Reader { return http.NoBody }, true, 207},
	}
	for _, c := range cases {
		wait := time.Minute
		if c.large {
			wait = 50 * time.Millisecond
		}
		w := try(wait, c.method, c.target, c.body())
		switch {
		case c.large && (w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == ""):
			t.Errorf("%s without memory: got %d, want 503 with Retry-After", c.name, w.Code)
		case !c.large && w.Code != c.status:
			t.Errorf("%s: got %d, want %d: %.300s", c.name, w.Code, c.status, w.Body)
		}
	}
	s.do("GET", "/dav/anna/contacts/new.vcf", "").want(404)
	for _, o := range others {
		o.Leave()
	}
	for _, c := range cases {
		if !c.large {
			continue
		}
		if w := try(time.Minute, c.method, c.target, c.body()); w.Code != c.status || c.name == "long listing" && bytes.Count(w.Body.Bytes(), []byte("<D:response>")) != 152 {
			t.Errorf("%s: got %d with %d responses, want %d", c.name, w.Code, bytes.Count(w.Body.Bytes(), []byte("<D:response>")), c.status)
		}
	}
}
