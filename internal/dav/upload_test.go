package dav

import (
	"crypto/sha1"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const nextcloud = "/remote.php/dav/files/anna/"

func to(p string) string { return "Destination: " + p }

// pieces begins an upload and sends a body in pieces of n bytes, from the given one on. It returns
// how many pieces there are.
func (s *server) pieces(id, body string, n, from int) int {
	s.t.Helper()
	if from == 0 {
		s.do("MKCOL", uploadsBase+"anna/"+id, "", to(s.URL+nextcloud+"x")).want(201)
	}
	i := 0
	for at := 0; at < len(body); at += n {
		if i >= from {
			s.do("PUT", fmt.Sprintf("%sanna/%s/%05d", uploadsBase, id, i+1), body[at:min(at+n, len(body))]).want(201)
		}
		i++
	}
	return i
}

// A file in pieces, over a restart: PROPFIND says what is here, nothing of it can be seen before the
// end, and the end is one change like that of a PUT, with times and checksums.
func TestUploadInPieces(t *testing.T) {
	s := newServer(t)
	body := strings.Repeat("0123456789", 50_000)
	at := uploadsBase + "anna/upload-1"
	s.do("PUT", at+"/00001", "x").want(404)
	s.do("PROPFIND", at, "").want(404)
	s.do("MKCOL", at, "", to(nextcloud+"Files/big.bin"), "OC-Total-Length: 500000").want(201)
	s.do("MKCOL", at, "").want(405)
	for _, n := range []int{2, 1} {
		s.do("PUT", fmt.Sprintf("%s/%05d", at, n), body[(n-1)*200_000:n*200_000], to(nextcloud+"Files/big.bin"), "OC-Total-Length: 500000").want(201)
	}
	token := s.sync("/dav/anna/Files/", "", 0).multi().Token
	s.do("MOVE", at+"/.file", "", to(nextcloud+"Files/big.bin"), "OC-Total-Length: 500000").want(409).has("not all pieces")
	s.restart(func() {})
	a := s.do("PROPFIND", at+"/", `<D:propfind`+declared+`><D:prop><D:getcontentlength/><D:resourcetype/><D:getetag/></D:prop></D:propfind>`, "Depth: 1").want(207)
	if got, want := a.multi().hrefs(), []string{at + "/", at + "/00001", at + "/00002"}; !cmp.Equal(got, want) {
		t.Errorf("pieces %q, want %q", got, want)
	}
	a.has("<D:getcontentlength>200000</D:getcontentlength>", "<D:collection/>", "<D:getetag/>")
	s.do("PUT", at+"/3", body[400_000:]).want(201)
	s.do("PUT", at+"/3", body[400_000:]).want(204)
	if got := s.propfind(nextcloud+"Files/", "1", "<D:getetag/>").multi().hrefs(); len(got) != 1 {
		t.Errorf("seen before the end: %q", got)
	}
	sum := sha1.Sum([]byte(body))
	move := func() *answer {
		return s.do("MOVE", at+"/.file", "", to(s.URL+nextcloud+"Files/big.bin"), "OC-Total-Length: 500000", "X-OC-Mtime: 1234567890", fmt.Sprintf("OC-Checksum: SHA1:%x", sum))
	}
	a = move().want(201)
	if a.header.Get("X-OC-Mtime") != "accepted" || a.header.Get("ETag") == "" {
		t.Errorf("headers %v", a.header)
	}
	got := s.do("GET", "/dav/anna/Files/big.bin", "").want(200)
	if got.body != body || got.header.Get("ETag") != a.header.Get("ETag") || got.header.Get("Last-Modified") != "Fri, 13 Feb 2009 23:31:30 GMT" || got.header.Get("OC-Checksum") != fmt.Sprintf("SHA1:%x", sum) {
		t.Errorf("%d bytes, headers %v", len(got.body), got.header)
	}
	if got := s.sync("/dav/anna/Files/", token, 0).multi().hrefs(); len(got) != 1 {
		t.Errorf("changes %v", got)
	}
	// The answer was lost: the same again is fine and changes nothing, also in another process.
	token = s.sync("/dav/anna/Files/", "", 0).multi().Token
	etag := a.header.Get("ETag")
	for range 2 {
		if a := move().want(204); a.header.Get("ETag") != etag || a.header.Get("X-OC-Mtime") != "accepted" {
			t.Errorf("asked again: %v", a.header)
		}
		s.do("PROPFIND", at, "").want(404)
		s.restart(func() {})
	}
	if got := s.sync("/dav/anna/Files/", token, 0).multi().hrefs(); len(got) != 0 {
		t.Errorf("asking again changed %v", got)
	}
	s.put("/dav/anna/Files/big.bin", "replaced since")
	move().want(404)
	s.do("DELETE", at+"/", "").want(204)
	s.do("DELETE", at+"/", "").want(404)
	if fs, err := filepath.Glob(filepath.Join(s.cfg.Dir, "uploads", "*", "*")); err != nil || len(fs) != 0 {
		t.Errorf("left: %q, %v", fs, err)
	}
}

// What cannot become a file is refused as a PUT of the whole would be, and the pieces stay.
func TestUploadRefused(t *testing.T) {
	s := newServer(t, func(c *Config) { c.MaxFile = 1 << 20 })
	at := uploadsBase + "anna/u"
	s.pieces("u", strings.Repeat("x", 300_000), 100_000, 0)
	etag := s.put("/dav/anna/Files/there", "there")
	for _, c := range []struct {
		status int
		dest   string
		h      []string
	}{
		{409, nextcloud + "none/x", nil},
		{405, nextcloud, nil},
		{405, nextcloud + "Files", nil},
		{409, nextcloud + "contacts/x.vcf", nil},
		{403, "/dav/anna/contacts/x.vcf", nil},
		{403, "/dav/anna/.snapshots", nil},
		{403, "/remote.php/dav/files/ben/x", nil},
		{403, "/dav/ben/Files/x", nil},
		{502, "http://elsewhere.example" + nextcloud + "x", nil},
		{400, "", nil},
		{400, nextcloud + "Files/x", []string{"OC-Checksum: MD5:d41d8cd98f00b204e9800998ecf8427e"}},
		{400, nextcloud + "Files/x", []string{"X-OC-Mtime: never"}},
		{400, nextcloud + "Files/x", []string{"OC-Total-Length: -1"}},
		{409, nextcloud + "Files/x", []string{"OC-Total-Length: 300001"}},
		{413, nextcloud + "Files/x", []string{"OC-Total-Length: 1048577"}},
		{412, nextcloud + "Files/there", []string{"Overwrite: F"}},
		{412, nextcloud + "Files/there", []string{"If-None-Match: *"}},
		{412, nextcloud + "Files/there", []string{`If-Match: "other"`}},
		{412, nextcloud + "Files/there", []string{`If: <` + nextcloud + `Files/there> (["other"])`}},
		{412, nextcloud + "Files/x", []string{`If-Match: ` + etag}},
	} {
		s.do("MOVE", at+"/.file", "", append(c.h, to(c.dest))...).want(c.status)
	}
	s.do("GET", "/dav/anna/Files/x", "").want(404)
	s.do("GET", "/dav/anna/Files/there", "").want(200).has("there")

	for _, c := range []struct {
		status         int
		method, target string
		h              string
	}{
		{404, "PROPFIND", uploadsBase + "ben/u", ""},
		{404, "MKCOL", uploadsBase + "ben/mine", ""},
		{404, "MKCOL", uploadsBase + "anna", ""},
		{404, "PUT", uploadsBase + "anna/u/1/2", ""},
		{400, "PUT", at + "/.file", ""},
		{400, "PUT", at + "/..", ""},
		{400, "PUT", at + "/one", ""},
		{400, "PUT", at + "/9", "OC-Checksum: MD5:d41d8cd98f00b204e9800998ecf8427e"},
		{400, "PUT", at + "/9", "OC-Total-Length: many"},
		{413, "MKCOL", uploadsBase + "anna/large", "OC-Total-Length: 1048577"},
		{405, "GET", at, ""},
		{405, "GET", at + "/1", ""},
		{405, "MOVE", at + "/00001", to(nextcloud + "Files/x")},
		{405, "COPY", at + "/.file", to(nextcloud + "Files/x")},
		{405, "DELETE", at + "/00001", ""},
		{404, "MOVE", uploadsBase + "anna/none/.file", to(nextcloud + "Files/x")},
		{501, "LOOK", at, ""},
	} {
		body, headers := "", []string{}
		if c.method == "PUT" {
			body = "not empty"
		}
		if c.h != "" {
			headers = append(headers, c.h)
		}
		s.do(c.method, c.target, body, headers...).want(c.status)
	}
	s.do("MKCOL", uploadsBase+"anna/body", "<x/>").want(415)
	// Nothing was lost by all that, and with the right condition the file is replaced.
	s.do("MOVE", at+"/.file", "", to(nextcloud+"Files/there"), `If: <`+nextcloud+`Files/there> ([`+etag+`])`).want(204)
	if got := len(s.do("GET", "/dav/anna/Files/there", "").want(200).body); got != 300_000 {
		t.Errorf("%d bytes", got)
	}
	if got := s.do("OPTIONS", at, "").want(200).header.Get("Allow"); !strings.Contains(got, "MOVE") {
		t.Errorf("Allow: %q", got)
	}
}

// rclone names pieces by the places of their bytes, and begins with DELETE.
func TestUploadByPlaces(t *testing.T) {
	s := newServer(t)
	at := uploadsBase + "anna/rclone-chunked-upload-00"
	s.do("DELETE", at+"/", "").want(404)
	s.do("MKCOL", at+"/", "").want(201)
	s.do("PUT", at+"/000000000000000-000000000000003", "0123").want(201)
	s.do("PUT", at+"/000000000000008-000000000000009", "89").want(201)
	s.do("PUT", at+"/000000000000004-000000000000007", "456").want(400) // cut short
	s.do("MOVE", at+"/.file", "", to(nextcloud+"Files/n"), "OC-Total-Length: 10").want(409)
	s.do("PUT", at+"/000000000000004-000000000000007", "4567").want(201)
	s.do("MOVE", at+"/.file", "", to(nextcloud+"Files/n")).want(201)
	s.do("GET", nextcloud+"Files/n", "").want(200).has("0123456789")
}

// A fence that is not open answers 503 to uploads too, and pieces that are lost are 404, never a file
// that lacks them.
func TestUploadOutage(t *testing.T) {
	s := newServer(t)
	at := uploadsBase + "anna/u"
	s.pieces("u", "0123456789", 4, 0)
	s.restart(func() {
		if err := os.RemoveAll(filepath.Join(s.cfg.Dir, "uploads")); err != nil {
			t.Fatal(err)
		}
	})
	s.do("MOVE", at+"/.file", "", to(nextcloud+"Files/x")).want(404)
	s.do("PUT", at+"/4", "x").want(404)
	s.pieces("u", "0123456789", 4, 0)
	s.do("MOVE", at+"/.file", "", to(nextcloud+"Files/x")).want(201)
	s.do("GET", nextcloud+"Files/x", "").want(200).has("0123456789")

	s.close()
	for method, target := range map[string]string{"MKCOL": at + "x", "PUT": at + "/5", "PROPFIND": at, "MOVE": at + "/.file", "DELETE": at} {
		if a := s.do(method, target, "", to(nextcloud+"Files/y")); a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("%s while the fence is closed: %d", method, a.status)
		}
	}
	s.open()
	s.config.Ledger = s.ledger
	s.dav = New(s.config)
}

// Below filesBase the files are seen as below Base, under the paths that were asked for, and nothing but files.
func TestNextcloudPaths(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/contacts/1.vcf", card("1", "One"))
	s.do("MKCOL", nextcloud+"Files/a%20b/", "").want(201)
	s.do("PUT", nextcloud+"Files/a%20b/x", "x").want(201)
	s.do("GET", "/dav/anna/Files/a%20b/x", "").want(200).has("x")
	if got, want := s.propfind(nextcloud, "1", "<D:resourcetype/>").multi().hrefs(), []string{nextcloud, nextcloud + "Files/"}; !cmp.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := s.propfind(nextcloud+"Files/a%20b/", "1", "<D:resourcetype/>").multi().hrefs(), []string{nextcloud + "Files/a%20b/", nextcloud + "Files/a%20b/x"}; !cmp.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	s.do("PROPPATCH", nextcloud+"Files/a%20b/x", `<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><D:lastmodified>5</D:lastmodified></D:prop></D:set></D:propertyupdate>`).want(207).has("<D:href>" + nextcloud + "Files/a%20b/x</D:href>")
	if got := s.do("MOVE", nextcloud+"Files/a%20b/x", "", to(s.URL+nextcloud+"Files/y")).want(201).header.Get("Location"); got != nextcloud+"Files/y" {
		t.Errorf("Location %q", got)
	}
	m := s.sync(nextcloud, "", 0).multi()
	if got, want := m.hrefs(), []string{nextcloud + "Files/"}; !cmp.Equal(got, want) {
		t.Errorf("sync: %q, want %q", got, want)
	}
	for _, method := range []string{"PROPFIND", "GET", "DELETE", "PUT", "MKCOL", "REPORT", "PROPPATCH"} {
		for _, p := range []string{"contacts", "contacts/1.vcf", "calendar/"} {
			if a := s.do(method, nextcloud+p, "", "Depth: 0"); a.status < 400 || a.status >= 500 {
				t.Errorf("%s %s: %d", method, p, a.status)
			}
		}
	}
	s.do("GET", "/dav/anna/contacts/1.vcf", "").want(200)
	for _, p := range []string{"/remote.php/dav/files/", "/remote.php/dav/files/ben/", "/remote.php/dav/files/principals/anna/", "/remote.php/dav/files/principals/"} {
		s.do("PROPFIND", p, "", "Depth: 0").want(404)
	}
	s.do("DELETE", nextcloud, "").want(403)
}
