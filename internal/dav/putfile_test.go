package dav

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash/adler32"
	"net/http"
	"strings"
	"testing"
	"time"
)

const (
	windowsNS = ` xmlns:Z="urn:schemas-microsoft-com:"`
	ocNS      = ` xmlns:oc="http://owncloud.org/ns"`
)

// proppatchSet sets properties, given as XML with the prefixes D, Z and oc.
func (s *server) proppatchSet(target, props string) *answer {
	s.t.Helper()
	return s.do("PROPPATCH", target, `<D:propertyupdate xmlns:D="DAV:"`+windowsNS+ocNS+`><D:set><D:prop>`+props+`</D:prop></D:set></D:propertyupdate>`)
}

// times returns what every place says of a file's time of change.
func (s *server) times(target string) []string {
	s.t.Helper()
	var out []string
	for _, method := range []string{"GET", "HEAD"} {
		out = append(out, s.do(method, target, "").want(200).header.Get("Last-Modified"))
	}
	m := s.propfind(target, "0", `<D:getlastmodified/><Z:Win32LastModifiedTime`+windowsNS+`/>`).multi()
	for _, p := range m.Responses[0].Propstats[0].Prop.Any {
		out = append(out, p.Inner)
	}
	return out
}

// A file keeps the time a client gives it, with the PUT or afterwards, and it is the same everywhere.
func TestFileTimes(t *testing.T) {
	s := newServer(t)
	same := func(target string, at int64) {
		t.Helper()
		want := time.Unix(at, 0).UTC().Format(http.TimeFormat)
		got := s.times(target)
		if len(got) != 4 {
			t.Fatalf("%s: %q, want four times", target, got)
		}
		for _, g := range got {
			if g != want {
				t.Errorf("%s: %q, want %q everywhere", target, got, want)
				break
			}
		}
	}
	for i, body := range []string{"small", strings.Repeat("large", 30_000)} {
		f := fmt.Sprintf("/dav/anna/Files/%d.bin", i)
		a := s.do("PUT", f, body, "X-OC-Mtime: 1234567890").want(201)
		if got := a.header.Get("X-OC-Mtime"); got != "accepted" {
			t.Errorf("X-OC-Mtime: %q, want accepted", got)
		}
		same(f, 1234567890)
		etag := a.header.Get("ETag")

		// The same bytes with another time: only the time changes, and devices hear of it.
		token := s.sync("/dav/anna/Files/", "", 0).multi().Token
		s.do("PUT", f, body, "X-OC-Mtime: 1234567999.5").want(204)
		same(f, 1234567999)
		if got := s.sync("/dav/anna/Files/", token, 0).multi().hrefs(); len(got) != 1 {
			t.Errorf("a new time tells %v", got)
		}
		token = s.sync("/dav/anna/Files/", "", 0).multi().Token
		s.do("PUT", f, body, "X-OC-Mtime: 1234567999.5").want(204) // and not again
		s.do("PUT", f, body).want(204)
		if got := s.sync("/dav/anna/Files/", token, 0).multi().hrefs(); len(got) != 0 {
			t.Errorf("a repeat tells %v", got)
		}

		for value, at := range map[string]int64{
			"<D:lastmodified>1500000000</D:lastmodified>":                                                1500000000, // rclone
			"<D:getlastmodified>Thu, 01 Jan 1970 00:00:00 GMT</D:getlastmodified>":                       0,
			"<D:getlastmodified>1969-07-20T20:17:40Z</D:getlastmodified>":                                -14182940,
			"<Z:Win32LastModifiedTime>Sat, 14 Nov 2026 09:00:01 GMT</Z:Win32LastModifiedTime>":           1794646801,
			"<Z:Win32FileAttributes>00000020</Z:Win32FileAttributes><D:lastmodified>5</D:lastmodified>":  5,
			"<D:lastmodified>7</D:lastmodified><oc:checksums><oc:checksum></oc:checksum></oc:checksums>": 7,
		} {
			s.proppatchSet(f, value).want(207).has("200 OK").lacks("403", "409", "424")
			same(f, at)
		}
		if got := s.do("GET", f, "").want(200); got.header.Get("ETag") != etag || got.body != body {
			t.Errorf("a time changed the body or its ETag: %s, was %s", got.header.Get("ETag"), etag)
		}
		s.propfind(f, "0", `<Z:Win32FileAttributes`+windowsNS+`/>`).want(207).has("00000020")
	}

	// What cannot be read changes nothing; nor does any other property of that request.
	f := "/dav/anna/Files/0.bin"
	before := s.times(f)
	s.proppatchSet(f, "<D:getlastmodified>yesterday</D:getlastmodified><Z:x>1</Z:x>").want(207).has("409 Conflict", "424").lacks("200 OK")
	s.proppatchSet(f, "<D:getlastmodified>99999999999999</D:getlastmodified>").want(207).has("409 Conflict")
	s.do("PUT", f, "new", "X-OC-Mtime: soon").want(400)
	s.do("PUT", f, "new", "X-OC-Mtime: 0x5").want(400)
	s.do("PROPPATCH", f, `<D:propertyupdate xmlns:D="DAV:"><D:remove><D:prop><D:getlastmodified/></D:prop></D:remove></D:propertyupdate>`).want(207).has("403 Forbidden")
	if got := s.times(f); fmt.Sprint(got) != fmt.Sprint(before) || s.do("GET", f, "").body != "small" {
		t.Errorf("refused changes left %v, was %v", got, before)
	}
	// A calendar object's time is the server's: nobody sets it.
	s.put("/dav/anna/calendar/1.ics", event("1", "20260301T100000Z", "x"), "X-OC-Mtime: 5")
	s.proppatchSet("/dav/anna/calendar/1.ics", "<D:getlastmodified>5</D:getlastmodified>").want(207).has("403 Forbidden")
	if got := s.do("GET", "/dav/anna/calendar/1.ics", "").header.Get("Last-Modified"); strings.Contains(got, "1970") {
		t.Errorf("calendar object of %s", got)
	}
}

// The time of creation is a client's too, and stays over a PUT and a COPY.
func TestFileCreated(t *testing.T) {
	s := newServer(t)
	f := "/dav/anna/Files/x"
	if got := s.do("PUT", f, "x", "X-OC-CTime: 1000000000", "X-OC-Mtime: 1000000001").want(201).header.Get("X-OC-CTime"); got != "accepted" {
		t.Errorf("X-OC-CTime: %q", got)
	}
	want := func(at string) {
		t.Helper()
		s.propfind(f, "0", `<D:creationdate/><Z:Win32CreationTime`+windowsNS+`/>`).want(207).has(at).lacks("404")
	}
	want("2001-09-09T01:46:40Z")
	s.put(f, "y")
	want("Sun, 09 Sep 2001 01:46:40 GMT")
	s.proppatchSet(f, "<Z:Win32CreationTime>Mon, 10 Sep 2001 01:46:40 GMT</Z:Win32CreationTime>").want(207).has("200 OK")
	want("2001-09-10T01:46:40Z")
	s.do("COPY", f, "", "Destination: /dav/anna/Files/z").want(201)
	f = "/dav/anna/Files/z"
	want("2001-09-10T01:46:40Z")
	// A folder has what was stored for it; its own times are the server's.
	s.proppatchSet("/dav/anna/Files/", "<Z:Win32CreationTime>Mon, 10 Sep 2001 01:46:40 GMT</Z:Win32CreationTime>").want(207).has("200 OK")
	s.propfind("/dav/anna/Files/", "0", `<Z:Win32CreationTime`+windowsNS+`/>`).want(207).has("Mon, 10 Sep 2001")
}

// sums returns headers with the right checksums of a body.
func sums(body string) map[string]string {
	b := []byte(body)
	h1, h5, h256, h512 := sha1.Sum(b), md5.Sum(b), sha256.Sum256(b), sha512.Sum512(b)
	b64 := base64.StdEncoding.EncodeToString
	return map[string]string{
		"sha1":        "OC-Checksum: SHA1:" + hex.EncodeToString(h1[:]),
		"md5":         "OC-Checksum: md5:" + strings.ToUpper(hex.EncodeToString(h5[:])),
		"sha256":      "OC-Checksum: SHA256:" + hex.EncodeToString(h256[:]),
		"adler":       fmt.Sprintf("OC-Checksum: ADLER32:%08x", adler32.Checksum(b)),
		"two":         fmt.Sprintf("OC-Checksum: ADLER32:%08x SHA1:%x", adler32.Checksum(b), h1),
		"content":     "Content-Digest: sha-256=:" + b64(h256[:]) + ":",
		"repr":        "Repr-Digest: unknown=:AAAA:, sha-512=:" + b64(h512[:]) + ":",
		"parameter":   "Repr-Digest: md5=:" + b64(h5[:]) + ":;a=1",
		"not known":   "OC-Checksum: CRC64:0011",
		"not known 2": "Content-Digest: crc64=:AAAA:",
	}
}

// A body whose checksum is wrong is not stored, whatever its kind and size, and what was there stays.
func TestChecksumVerified(t *testing.T) {
	s := newServer(t)
	bodies := map[string]string{
		"/dav/anna/Files/small": "small", "/dav/anna/Files/empty": "", "/dav/anna/Files/limit": strings.Repeat("x", 65537), "/dav/anna/Files/big": strings.Repeat("0123456789", 50_000),
		"/dav/anna/contacts/1.vcf": card("1", "One"), "/dav/anna/calendar/1.ics": event("1", "20260301T100000Z", "x"),
	}
	for target, body := range bodies {
		right, wrong := sums(body), sums(body+"?")
		for name, h := range wrong {
			if strings.HasPrefix(name, "not known") {
				continue
			}
			s.do("PUT", target, body, h).want(400)
			s.do("GET", target, "").want(404)
		}
		for _, h := range right {
			if a := s.do("PUT", target, body, h); a.status != 201 && a.status != 204 {
				t.Fatalf("%s with %s: %d %s", target, h, a.status, a.body)
			}
		}
		s.do("PUT", target, body+"\r\n", wrong["sha1"]).want(400)
		if got := s.do("GET", target, "").want(200).body; got != body {
			t.Errorf("%s: a refused PUT left %.60q", target, got)
		}
	}
	for _, bad := range []string{
		"OC-Checksum: SHA1", "OC-Checksum: SHA1:zz", "OC-Checksum: MD5:00", "Content-Digest: sha-256=AAAA", "Content-Digest: sha-256=:AAAA:", "Repr-Digest: sha-256=:!:", "Repr-Digest: x",
		"OC-Checksum: " + strings.Repeat("MD5:d41d8cd98f00b204e9800998ecf8427e ", maxDigests+1),
	} {
		s.do("PUT", "/dav/anna/Files/bad", "x", bad).want(400)
		s.do("GET", "/dav/anna/Files/bad", "").want(404)
	}
}

// What a client gave is told again as long as it is true, with the hash the server has anyway.
func TestChecksumShown(t *testing.T) {
	s := newServer(t)
	f, body := "/dav/anna/Files/x", "some bytes"
	ask := func(target string) string {
		t.Helper()
		a := s.propfind(target, "0", `<oc:checksums`+ocNS+`/>`).want(207)
		_, rest, _ := strings.Cut(a.body, `<checksum xmlns="http://owncloud.org/ns">`)
		got, _, _ := strings.Cut(rest, "<")
		return got
	}
	sha := func(b string) string { return fmt.Sprintf("SHA256:%x", sha256.Sum256([]byte(b))) }
	s.put(f, body)
	if got := ask(f); got != sha(body) {
		t.Errorf("checksums %q, want %q", got, sha(body))
	}
	s.put(f, body+"1", sums(body + "1")["two"])
	want := fmt.Sprintf("ADLER32:%08x SHA1:%x ", adler32.Checksum([]byte(body+"1")), sha1.Sum([]byte(body+"1"))) + sha(body+"1")
	if got := ask(f); got != want {
		t.Errorf("checksums %q, want %q", got, want)
	}
	a := s.do("GET", f, "", "Want-Repr-Digest: sha-512=9, sha-256=1", "Range: bytes=2-4").want(206)
	sum := sha256.Sum256([]byte(body + "1"))
	if got, want := a.header.Get("Repr-Digest"), "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":"; got != want {
		t.Errorf("Repr-Digest %q, want %q", got, want)
	}
	if got := a.header.Get("OC-Checksum"); !strings.HasPrefix(got, "ADLER32:") {
		t.Errorf("OC-Checksum %q", got)
	}
	for _, no := range []string{"Want-Repr-Digest: sha-256=0", "Want-Repr-Digest: sha-512=5", "Want-Content-Digest: sha-256=1", "Want-Repr-Digest: sha-256"} {
		if got := s.do("GET", f, "", no).want(200).header.Get("Repr-Digest"); got != "" {
			t.Errorf("%s: Repr-Digest %q", no, got)
		}
	}
	// They go along with a copy, and with the properties; another body has none of them.
	s.do("COPY", f, "", "Destination: /dav/anna/Files/y").want(201)
	if got := ask("/dav/anna/Files/y"); got != want {
		t.Errorf("copied: %q, want %q", got, want)
	}
	s.proppatchSet(f, "<Z:x>1</Z:x><oc:checksums><oc:checksum>"+strings.Fields(want)[1]+"</oc:checksum></oc:checksums>").want(207).lacks("403")
	s.proppatchSet(f, "<oc:checksums><oc:checksum>SHA1:da39a3ee5e6b4b0d3255bfef95601890afd80709</oc:checksum></oc:checksums>").want(207).has("403")
	if got := ask(f); got != want {
		t.Errorf("after PROPPATCH: %q, want %q", got, want)
	}
	s.put(f, body)
	if got := ask(f); got != sha(body) {
		t.Errorf("after another body: %q, want %q", got, sha(body))
	}
	s.propfind(f, "0", `<Z:x`+windowsNS+`/>`).want(207).has(">1</x:x>")
	s.propfind("/dav/anna/Files/", "0", `<oc:checksums`+ocNS+`/>`).want(207).has("404")
}

func FuzzDigestFields(f *testing.F) {
	for _, h := range sums("seed") {
		_, v, _ := strings.Cut(h, ": ")
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) ([]claim, error){parseChecksum, parseDigestField} {
			claims, err := parse(s)
			for _, c := range claims {
				if err != nil || len(c.want) != c.new().Size() {
					t.Errorf("%q: %d bytes of %s, %v", s, len(c.want), c.sf, err)
				}
			}
		}
		wantsSHA256(s)
	})
}

func FuzzClientTime(f *testing.F) {
	for _, s := range []string{"0", "-1.5", "1234567890", "Thu, 01 Jan 1970 00:00:00 GMT", "2026-11-30T00:00:00Z", "253402300799.999", "1."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ms, ok := parseDate(s)
		if !ok {
			return
		}
		shown := time.UnixMilli(ms).UTC().Format(http.TimeFormat)
		if back, ok := parseDate(shown); !ok || back/1000 != ms/1000 && back > ms {
			t.Errorf("%q is %d, shown as %q, read back as %d, %v", s, ms, shown, back, ok)
		}
	})
}
