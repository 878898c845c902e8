package dav

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
)

// The answer to a PUT was lost, the server was started anew, the phone sends it again: no conflict.
func TestRepeatAfterRestart(t *testing.T) {
	s := newServer(t)
	const at = "/dav/anna/contacts/1.vcf"
	etag := s.put(at, card("1", "first"))
	s.put(at, card("1", "second"), "If-Match: "+etag)
	s.put("/dav/anna/contacts/2.vcf", card("2", "new"), "If-None-Match: *")
	s.restart(func() {})
	s.do("PROPPATCH", at, `<D:propertyupdate`+declared+`><D:set><D:prop><D:displayname>x</D:displayname></D:prop></D:set></D:propertyupdate>`).want(207)
	s.do("PUT", at, card("1", "second"), "If-Match: "+etag).want(204)
	s.do("PUT", "/dav/anna/contacts/2.vcf", card("2", "new"), "If-None-Match: *").want(204)
	s.do("PUT", at, card("1", "third"), "If-Match: "+etag).want(412)
	s.do("PUT", at, card("1", "second"), "If-None-Match: *").want(412)
	s.do("PUT", at, card("1", "second"), `If-Match: "0123"`).want(412)
}

// An empty body must be meant: without a length there may be one that nobody sees.
func TestPutWithoutLength(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/Files/x", "precious")
	for _, version := range []string{"1.0", "1.1"} {
		c, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "PUT /dav/anna/Files/x HTTP/%s\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic YW5uYTphbm5h\r\n\r\nnew bytes", version)
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || !strings.Contains(line, " 411 ") {
			t.Errorf("HTTP/%s: got %q, %v; want 411", version, line, err)
		}
		c.Close()
	}
	s.do("GET", "/dav/anna/Files/x", "").want(200).has("precious")
	s.as("anna", "PUT", "/dav/anna/Files/empty", nil, "Content-Length: 0").want(201)
	s.as("anna", "PUT", "/dav/anna/Files/chunked", io.MultiReader(strings.NewReader("piece"))).want(201)
}

// Programs that quote the star mean it.
func TestQuotedStar(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/Files/x", "precious")
	s.do("PUT", "/dav/anna/Files/x", "other", `If-None-Match: "*"`).want(412)
	s.do("PUT", "/dav/anna/Files/y", "other", `If-None-Match: "*"`).want(201)
	s.do("PUT", "/dav/anna/Files/z", "other", `If-Match: "*"`).want(412)
}

func TestDoubtfulMoves(t *testing.T) {
	s := newServer(t, func(c *Config) { c.Host = "cloud.example:8443" })
	s.put("/dav/anna/Files/x", "x")
	s.put("/dav/anna/Files/y", "precious")
	s.do("MOVE", "/dav/anna/Files/x", "", "Destination: /dav/anna/Files/y", "Overwrite: false").want(400)
	s.do("GET", "/dav/anna/Files/y", "").has("precious")
	s.do("MKCOL", "/dav/anna/Files/c/", "").want(201)
	s.do("MOVE", "/dav/anna/Files/c/", "", "Destination: /dav/anna/Files/d/", "Depth: 0").want(400)
	// Behind a proxy that does not pass the Host on, clients name the public one.
	s.do("MOVE", "/dav/anna/Files/x", "", "Destination: https://cloud.example:8443/dav/anna/Files/z").want(201)
	s.do("MOVE", "/dav/anna/Files/z", "", "Destination: https://other.example/dav/anna/Files/x").want(502)
}

// A copy takes into memory no more than one change can hold.
func TestCopyTooLarge(t *testing.T) {
	s := newServer(t)
	s.do("MKCOL", "/dav/anna/Files/c/", "").want(201)
	b := strings.Repeat("x", 60<<10)
	for i := range 210 {
		s.put(fmt.Sprintf("/dav/anna/Files/c/%d", i), b)
	}
	s.do("COPY", "/dav/anna/Files/c/", "", "Destination: /dav/anna/Files/d/").want(507)
	s.do("GET", "/dav/anna/Files/d/", "").want(404)
	s.do("DELETE", "/dav/anna/Files/c/209", "").want(204)
}

// What a PUT is told when a copy is missing or a disk is full: wait, and nothing that a client takes
// for a verdict on its data. Reads go on.
func TestPutOutages(t *testing.T) {
	s := newServer(t)
	const at = "/dav/anna/Files/x"
	etag := s.put(at, "x")
	large := strings.Repeat("x", holdfast.MaxInline+1)
	s.cfg.MinFree = 1 << 60
	s.restart(func() {})
	s.do("PUT", at, "y", "If-Match: "+etag).want(507).has("<D:sufficient-disk-space/>")
	s.do("PUT", "/dav/anna/contacts/1.vcf", card("1", "x")).want(507)
	s.do("PUT", at, "y", `If-Match: "other"`).want(507)
	if a := s.do("PUT", at, large); a.status != 507 && a.status != 503 {
		t.Errorf("a large PUT without space: %d", a.status)
	}
	s.do("DELETE", at, "").want(507)
	s.do("GET", at, "").want(200).has("x")
	s.cfg.MinFree = 1
	s.restart(func() {})
	s.put(at, "y", "If-Match: "+etag)

	mirror := filepath.Join(s.dir, "mirror")
	if err := os.Rename(mirror, mirror+".away"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first finds it out, the second is told
		for _, body := range []string{"z", large} {
			a := s.do("PUT", at, body).want(503).lacks("<D:error")
			if a.header.Get("Retry-After") == "" || a.header.Get("ETag") != "" {
				t.Errorf("503 with %v", a.header)
			}
		}
		s.do("PUT", at, "z", `If-None-Match: *`).want(503)
		s.do("GET", at, "").want(200).has("y")
	}
	if err := os.Rename(mirror+".away", mirror); err != nil {
		t.Fatal(err)
	}
}

// Errors that cannot be forced from outside are mapped alike, whatever else they wrap.
func TestStatusOfOutages(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{fmt.Errorf("x: %w: %w", holdfast.ErrNotFound, holdfast.ErrFatal), 503},
		{fmt.Errorf("x: %w: %w", holdfast.ErrFull, holdfast.ErrNotDurable), 503},
		{fmt.Errorf("x: %w: %w", holdfast.ErrPrecondition, holdfast.ErrFenced), 503},
		{fmt.Errorf("x: %w: %w", errNotFound, holdfast.ErrAbsent), 503},
		{fmt.Errorf("x: %w: %w", holdfast.ErrInvalid, holdfast.ErrCorrupt), 503},
		{fmt.Errorf("x: %w", holdfast.ErrQuota), 507},
		{fmt.Errorf("x: %w", holdfast.ErrFull), 507},
	} {
		w := httptest.NewRecorder()
		statusOf(c.err).write(w, false)
		if w.Code != c.want || (w.Code == 503) != (w.Header().Get("Retry-After") != "") {
			t.Errorf("%v: got %d with %v, want %d", c.err, w.Code, w.Header(), c.want)
		}
	}
}
