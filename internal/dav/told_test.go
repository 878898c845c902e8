package dav

import (
	"context"
	"crypto/sha256"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"holdfast"
)

// If-None-Match: * is 412 for a body that is there, where the client knows that it is; where the answer may
// have been lost, on another connection, the repeat succeeds.
func TestToldOnThisConnection(t *testing.T) {
	s := newServer(t)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.dav.ServeHTTP(w, r.WithContext(WithPrincipal(r.Context(), Principal{Account: anna, Name: "anna", Device: 5})))
	}))
	srv.Config.ConnContext = ConnContext
	srv.Start()
	defer srv.Close()
	conn := func() *http.Client {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1, DialContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }}}
	}
	put := func(c *http.Client, name, body string, want int, headers ...string) {
		t.Helper()
		r, err := http.NewRequest("PUT", srv.URL+"/dav/anna/calendar/"+name, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range headers {
			k, v, _ := strings.Cut(h, ": ")
			r.Header.Set(k, v)
		}
		a, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, a.Body); err != nil { // else the connection is not used again
			t.Fatal(err)
		}
		if err := a.Body.Close(); err != nil || a.StatusCode != want {
			t.Errorf("PUT %s %v: got %d, %v, want %d", name, headers, a.StatusCode, err, want)
		}
	}
	const create = "If-None-Match: *"
	first, second := conn(), conn()
	body := event("1", "20260301T100000Z", "x")
	put(first, "1.ics", body, 201, create)
	put(second, "1.ics", body, 204, create)                              // its answer may have been lost
	put(second, "1.ics", body, 412, create)                              // this one was not
	put(first, "1.ics", body, 204, create, "X-Forwarded-For: 192.0.2.1") // whose connection that is nobody knows
	put(first, "1.ics", body, 412, create)
	put(first, "1.ics", event("1", "20260301T100000Z", "y"), 412, create)
	put(first, "2.ics", event("2", "20260301T100000Z", "x"), 201, create)
	before := holdfast.ETag(sha256.Sum256([]byte(event("2", "20260301T100000Z", "x"))))
	put(first, "2.ics", event("2", "20260301T100000Z", "y"), 204, "If-Match: "+before)
	put(first, "2.ics", event("2", "20260301T100000Z", "y"), 204, "If-Match: "+before) // RFC 9110, 13.1.1 allows it
	for i := range maxTold + 1 {
		name := "many" + string(rune('a'+i))
		put(first, name, event(name, "20260301T100000Z", "x"), 201)
	}
	put(first, "1.ics", body, 204, create) // forgotten: nothing is lost by that
}
