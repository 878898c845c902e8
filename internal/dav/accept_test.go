package dav

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast"
)

// lose rolls store, mirror and head files of a server back to before what, which is what devices do.
func (s *server) lose(what func()) {
	s.t.Helper()
	night := filepath.Join(s.dir, "night")
	places := []string{"data", "mirror"}
	s.restart(func() {
		for _, d := range places {
			if err := os.CopyFS(filepath.Join(night, d), os.DirFS(filepath.Join(s.dir, d))); err != nil {
				s.t.Fatal(err)
			}
		}
	})
	what()
	s.restart(func() {
		for _, d := range places {
			if err := errors.Join(os.RemoveAll(filepath.Join(s.dir, d)), os.Rename(filepath.Join(night, d), filepath.Join(s.dir, d))); err != nil {
				s.t.Fatal(err)
			}
		}
	})
}

func (s *server) accept(token string) {
	s.t.Helper()
	s.sync("/dav/anna/contacts/", token, 0).want(503).lacks("valid-sync-token")
	if _, err := s.ledger.AcceptLoss(s.t.Context(), anna); err != nil {
		s.t.Fatal(err)
	}
}

// A1, as DAVx5 does it (CLIENTS.md 29, 30): after an accepted loss three devices come back with what they know. None is
// told of a deletion, no edit is refused for good, and where device and server differ both versions are kept.
func TestClient30AcceptedLoss(t *testing.T) {
	s := newServer(t)
	const book = "/dav/anna/contacts/"
	s.put(book+"a.vcf", card("a", "first"))
	kept := s.put(book+"b.vcf", card("b", "first"))
	old := s.sync(book, "", 0).multi().Token
	var etagA, etagN, token string
	s.lose(func() {
		etagA = s.put(book+"a.vcf", card("a", "lost edit"))
		etagN = s.put(book+"n.vcf", card("n", "lost contact"))
		token = s.sync(book, "", 0).multi().Token
	})
	s.put(book+"w.vcf", card("w", "written before anybody noticed"))
	s.accept(token)

	for name, known := range map[string]string{"up to date with the lost": token, "that saw nothing of it": old} {
		m := s.sync(book, known, 0).multi()
		if got := m.hrefs(); !slices.Equal(got, []string{book + "w.vcf"}) {
			t.Errorf("a device %s hears %v", name, got)
		}
		if m.Token == known || m.Token != s.sync(book, m.Token, 0).multi().Token {
			t.Errorf("a device %s got the token %s for %s", name, m.Token, known)
		}
	}
	// An edit of a contact that was lost: 404, and the device uploads it again (DAVx5 does).
	s.do("PUT", book+"n.vcf", card("n", "edited"), "If-Match: "+etagN).want(404)
	s.do("PUT", book+"n.vcf", card("n", "edited"), "If-None-Match: *").want(201)
	// An edit of a version that was lost: stored, and the server's version is kept beside it under a UID of its own.
	for range 2 { // the answer may be lost, then it comes again
		s.do("PUT", book+"a.vcf", card("a", "edit of the lost edit"), "If-Match: "+etagA).want(204)
	}
	s.do("GET", book+"a.vcf", "").want(200).has("edit of the lost edit")
	var copies []string
	for _, h := range s.sync(book, "", 0).multi().hrefs() {
		if strings.Contains(h, "-conflict-") {
			copies = append(copies, h)
		}
	}
	if len(copies) != 1 {
		t.Fatalf("copies of the server's version: %v", copies)
	}
	s.do("GET", copies[0], "").want(200).has("FN:first\r\n").lacks("UID:a\r\n")
	// What the history knows is an ordinary conflict.
	s.put(book+"b.vcf", card("b", "second"))
	s.do("PUT", book+"b.vcf", card("b", "late"), "If-Match: "+kept).want(412)
	s.do("PUT", book+"b.vcf", card("b", "late"), `If-Match: "another-server"`).want(412)
	s.do("DELETE", book+"b.vcf", "", "If-Match: "+etagA).want(412)
	// A calendar that nobody deleted is not "gone": on 404 DAVx5 drops it with all that is in it. One that was deleted is.
	for _, path := range []string{"/dav/anna/lost/", "/dav/anna/lost"} {
		s.propfind(path, "0", "<D:resourcetype/>").want(503)
		s.sync(path, token, 0).want(503)
	}
	s.do("PUT", "/dav/anna/lost/x.ics", event("x", "20260301T100000Z", "x"), `If-None-Match: *`).want(503)
	s.do("MKCALENDAR", "/dav/anna/lost/", "").want(201)
	m := s.sync("/dav/anna/lost/", strings.Split(token, "?")[0]+"?collection=ffff", 0).multi()
	if len(m.hrefs()) != 0 || m.Token == "" {
		t.Errorf("a token of the lost calendar in its successor: %v", m.hrefs())
	}
	s.do("DELETE", "/dav/anna/lost/", "").want(204)
	s.propfind("/dav/anna/lost/", "0", "<D:resourcetype/>").want(404)
	s.propfind("/dav/anna/contacts/none.vcf", "0", "<D:getetag/>").want(404)
	s.as("ben", "PROPFIND", "/dav/ben/none/", nil, "Depth: 0").want(404)
	// An account without an accepted loss is as ever.
	s.as("ben", "PUT", "/dav/ben/contacts/x.vcf", strings.NewReader(card("x", "1"))).want(201)
	s.as("ben", "PUT", "/dav/ben/contacts/x.vcf", strings.NewReader(card("x", "2")), "If-Match: "+etagA).want(412)
	s.as("ben", "PUT", "/dav/ben/contacts/y.vcf", strings.NewReader(card("y", "2")), "If-Match: "+etagA).want(412)
}

// Both versions of an event with an override, of one that is a blob, and of a file.
func TestBothVersionsKept(t *testing.T) {
	s := newServer(t)
	const cal, files = "/dav/anna/calendar/", "/dav/anna/Files/"
	big := strings.Repeat("x", holdfast.MaxInline)
	override := strings.Replace(event("o", "20260301T100000Z", "server"), "END:VCALENDAR\r\n",
		"BEGIN:VEVENT\r\nUID:o\r\nRECURRENCE-ID:20260302T100000Z\r\nDTSTAMP:20260101T000000Z\r\nDTSTART:20260302T110000Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n", 1)
	s.put(cal+"o.ics", override)
	s.put(cal+"big.ics", event("big", "20260301T100000Z", "server "+big))
	s.put(files+"photo.jpg", "server's bytes")
	s.put(files+"big", "server's "+big)
	etags := map[string]string{}
	var token string
	s.lose(func() {
		etags[cal+"o.ics"] = s.put(cal+"o.ics", event("o", "20260301T100000Z", "lost"))
		etags[cal+"big.ics"] = s.put(cal+"big.ics", event("big", "20260301T100000Z", "lost"))
		etags[files+"photo.jpg"] = s.put(files+"photo.jpg", "lost")
		etags[files+"big"] = s.put(files+"big", "lost")
		token = s.sync(files, "", 0).multi().Token
	})
	s.sync(files, token, 0).want(503)
	if _, err := s.ledger.AcceptLoss(t.Context(), anna); err != nil {
		t.Fatal(err)
	}
	for target, etag := range etags {
		body := "device"
		if strings.HasSuffix(target, ".ics") {
			body = event(strings.TrimSuffix(filepath.Base(target), ".ics"), "20260301T100000Z", "device")
		}
		s.do("PUT", target, body, "If-Match: "+etag).want(204)
		s.do("GET", target, "").want(200).has("device")
		dir, name := filepath.Split(target)
		ext := filepath.Ext(name)
		var found string
		for _, h := range s.sync(dir, "", 0).multi().hrefs() {
			if strings.HasPrefix(h, strings.TrimSuffix(target, ext)+"-conflict-") && strings.HasSuffix(h, ext) {
				found = h
			}
		}
		got := s.do("GET", found, "").want(200).has("server")
		if name == "o.ics" {
			got.lacks("UID:o\r\n").has("RECURRENCE-ID")
			if n := strings.Count(string(got.body), conflictUID(hashOf(override))); n != 2 {
				t.Errorf("%d components have the new UID, want 2", n)
			}
		}
		if want := map[string]int{files + "big": len("server's " + big), files + "photo.jpg": len("server's bytes")}[target]; want > 0 && len(got.body) != want {
			t.Errorf("%s has %d bytes, want %d", found, len(got.body), want)
		}
	}
}

func TestWithUID(t *testing.T) {
	for name, c := range map[string]struct {
		kind     holdfast.Kind
		in, want string
	}{
		"card":         {holdfast.KindCard, "BEGIN:VCARD\r\nVERSION:4.0\r\nUID;X=1:urn:\r\n old\r\nFN:x\r\nEND:VCARD\r\n", "BEGIN:VCARD\r\nVERSION:4.0\r\nUID:new\r\nFN:x\r\nEND:VCARD\r\n"},
		"card without": {holdfast.KindCard, "BEGIN:VCARD\nVERSION:3.0\nFN:x\nEND:VCARD\n", "BEGIN:VCARD\nVERSION:3.0\nUID:new\nFN:x\nEND:VCARD\n"},
		"event":        {holdfast.KindCalendar, "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:old\r\nBEGIN:VALARM\r\nUID:alarm\r\nEND:VALARM\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n", "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:new\r\nBEGIN:VALARM\r\nUID:alarm\r\nEND:VALARM\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"},
	} {
		if got := string(withUID(c.kind, []byte(c.in), "new")); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// FuzzWithUID: whatever the body is, only lines that name a UID differ.
func FuzzWithUID(f *testing.F) {
	f.Add([]byte(card("a", "b")), true)
	f.Add([]byte(event("a", "20260301T100000Z", "b")), false)
	f.Fuzz(func(t *testing.T, b []byte, isCard bool) {
		k := holdfast.KindCalendar
		if isCard {
			k = holdfast.KindCard
		}
		out := withUID(k, b, "new")
		if len(out) > len(b)+len(b)*len("UID:new\r\n")+len("UID:new\r\n") {
			t.Errorf("%d bytes became %d", len(b), len(out))
		}
	})
}

func hashOf(s string) holdfast.Hash { return sha256.Sum256([]byte(s)) }
