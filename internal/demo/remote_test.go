package demo

import (
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"testing"

	"holdfast"
)

func hash(s string) holdfast.Hash { return sha256.Sum256([]byte(s)) }

const sampleMultistatus = `<?xml version="1.0"?><D:multistatus xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav" xmlns:A="urn:ietf:params:xml:ns:carddav">
<D:response><D:href>/dav/demo/contacts/a%20b.vcf</D:href><D:propstat><D:prop><D:getetag>"1"</D:getetag><A:address-data>BEGIN:VCARD&#13;
END:VCARD&#13;
</A:address-data></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>
<D:response><D:href>/dav/demo/contacts/gone.vcf</D:href><D:status>HTTP/1.1 404 Not Found</D:status></D:response>
<D:sync-token>data:,1</D:sync-token></D:multistatus>`

func TestParseMultistatus(t *testing.T) {
	m, err := parseMultistatus([]byte(sampleMultistatus))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Responses) != 2 || m.SyncToken != "data:,1" {
		t.Fatalf("got %d responses and token %q", len(m.Responses), m.SyncToken)
	}
	a, gone := &m.Responses[0], &m.Responses[1]
	if p := a.props(); !a.ok() || p.ETag != `"1"` || p.AddressData == nil || *p.AddressData != "BEGIN:VCARD\r\nEND:VCARD\r\n" || lastSegment(a.Href) != "a b.vcf" {
		t.Errorf("first response: %+v", p)
	}
	if gone.ok() || code(gone.Status) != http.StatusNotFound {
		t.Errorf("second response: %+v", gone)
	}
}

func FuzzParseMultistatus(f *testing.F) {
	f.Add([]byte(sampleMultistatus))
	f.Add([]byte(`<multistatus xmlns="DAV:"><response><href>%zz</href></response></multistatus>`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMultistatus(b)
		if err != nil {
			return
		}
		for i := range m.Responses {
			r := &m.Responses[i]
			if r.Status == "" && !r.ok() {
				t.Errorf("response without status is not a success: %+v", r)
			}
			_ = r.props().canSync()
			if !samePath(r.Href, r.Href) && lastSegment(r.Href) != "" {
				t.Errorf("href %q differs from itself", r.Href)
			}
		}
	})
}

func TestRemoteReadsErrors(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/moved":
			w.Header().Set("Location", "/new/")
			w.WriteHeader(http.StatusMovedPermanently)
		case "/loop":
			w.Header().Set("Location", "/loop")
			w.WriteHeader(http.StatusFound)
		case "/token":
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`<error xmlns="DAV:"><valid-sync-token/></error>`))
		case "/new/":
			if r.Method != "PROPFIND" {
				w.WriteHeader(http.StatusMethodNotAllowed)
			}
		}
	}))
	defer s.Close()
	r, err := newRemote(s.URL, "u", "p")
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	if a, err := r.do(t.Context(), "PROPFIND", "/moved", nil, nil); err != nil || a.path != "/new/" {
		t.Errorf("redirected PROPFIND: %+v, %v; want the same method at /new/", a, err)
	}
	if _, err := r.do(t.Context(), "GET", "/loop", nil, nil); err == nil {
		t.Error("a redirect to itself ends without an error")
	}
	_, err = r.do(t.Context(), "REPORT", "/token", nil, nil)
	if e, ok := err.(*statusError); !ok || !e.ValidSyncToken || e.NeedPrivileges || !gone(err) {
		t.Errorf("got %#v, want 403 with valid-sync-token", err)
	}
}
