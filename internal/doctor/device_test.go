package doctor

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"holdfast/internal/dav"
)

// phoneServer answers what a device asks, as a Holdfast server does.
func phoneServer(w http.ResponseWriter, r *http.Request) {
	const ms = `<multistatus xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav" xmlns:A="urn:ietf:params:xml:ns:carddav">`
	multi := func(body string) {
		w.WriteHeader(http.StatusMultiStatus)
		_, _ = w.Write([]byte(ms + body + "</multistatus>"))
	}
	name, password, _ := r.BasicAuth()
	switch {
	case r.URL.Path == "/healthz":
		_, _ = w.Write([]byte("alive\n"))
	case strings.HasPrefix(r.URL.Path, "/.well-known/"):
		dav.WellKnown(w, r)
	case name != "alice" || password != "right":
		w.Header().Set("WWW-Authenticate", `Basic realm="Holdfast"`)
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Path == dav.Base:
		multi(`<response><href>/dav/</href><propstat><prop><current-user-principal><href>/dav/principals/alice/</href></current-user-principal></prop></propstat></response>`)
	case r.URL.Path == "/dav/principals/alice/":
		multi(`<response><href>/dav/principals/alice/</href><propstat><prop><C:calendar-home-set><href>/dav/alice/</href></C:calendar-home-set><A:addressbook-home-set><href>/dav/alice/</href></A:addressbook-home-set></prop></propstat></response>`)
	case r.URL.Path == "/dav/alice/":
		multi(`<response><href>/dav/alice/c/</href><propstat><prop><resourcetype><collection/><A:addressbook/></resourcetype></prop></propstat></response><response><href>/dav/alice/k/</href><propstat><prop><resourcetype><collection/><C:calendar/></resourcetype></prop></propstat></response>`)
	case r.Method == "REPORT":
		multi(`<sync-token>http://holdfast/1</sync-token>`)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// TestAsDevice: each thing that a proxy, a certificate or a fence does to a device is found and named, and nothing
// is wrong when nothing is.
func TestAsDevice(t *testing.T) {
	answer := func(status int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
		}
	}
	for name, c := range map[string]struct {
		at     string // "METHOD /path" or a prefix of a path that is answered otherwise
		as     http.HandlerFunc
		secret string
		strict bool // the system's authorities, not the test's
		want   string
	}{
		"all well":          {secret: "right"},
		"before the login":  {},
		"another program":   {at: "/healthz", as: answer(404), want: "not answered by a Holdfast server"},
		"unknown authority": {strict: true, want: "nobody whom devices trust"},
		"well-known 404":    {at: "/.well-known/", as: answer(404), want: "answers 404, not where to look"},
		"PROPFIND refused":  {at: "/.well-known/", as: answer(405), want: "refuses PROPFIND"},
		"downgrade":         {at: "/.well-known/", as: answer(301, "Location", "http://cloud.example.org/dav/"), want: "from https to http"},
		"elsewhere":         {at: "/.well-known/", as: answer(301, "Location", "/remote.php/dav/"), want: "not this server's"},
		"closed":            {at: "/.well-known/", as: answer(503), want: "its fence is closed"},
		"no challenge":      {at: "/dav/", as: answer(403), want: "answers 403, and not 401"},
		"login of a proxy":  {at: "/dav/", as: answer(401, "WWW-Authenticate", "Digest"), want: "answers 401, and not 401 with a question"},
		"wrong password":    {secret: "wrong", want: "is not taken (401)"},
		"principal closed":  {at: "PROPFIND /dav/principals/", as: answer(503), secret: "right", want: "the server says wait (503) for"},
		"home gone":         {at: "PROPFIND /dav/alice/", as: answer(404), secret: "right", want: "answers 404"},
		"REPORT refused":    {at: "REPORT /dav/alice/", as: answer(405), secret: "right", want: "REPORT is refused (405)"},
		"answer cut": {at: "REPORT /dav/alice/", as: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(207)
			_, _ = w.Write([]byte("<multistatus"))
		}, secret: "right", want: "not what the server sent"},
		"token taken away": {at: "REPORT /dav/alice/", as: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(207)
			_, _ = w.Write([]byte(`<multistatus xmlns="DAV:"/>`))
		}, secret: "right", want: "ends without a token"},
		"too many": {at: "/dav/", as: answer(429), secret: "right", want: "answers 429, and not 401"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if c.at != "" && (strings.HasPrefix(r.URL.Path, c.at) || strings.HasPrefix(r.Method+" "+r.URL.Path, c.at)) {
					c.as(w, r)
					return
				}
				phoneServer(w, r)
			}))
			defer s.Close()
			roots := x509.NewCertPool()
			if !c.strict {
				roots.AddCert(s.Certificate())
			}
			found := AsDevice(t.Context(), DeviceOptions{Origin: s.URL, Name: "alice", Password: c.secret, Roots: roots})
			var problems []string
			for _, f := range found {
				if f.Level == Problem {
					problems = append(problems, f.Text)
					if f.Todo == "" || f.Check == "" {
						t.Errorf("%q does not say what to do", f.Text)
					}
				}
			}
			if c.want == "" && len(problems) > 0 || c.want != "" && (len(problems) != 1 || !strings.Contains(problems[0], c.want)) {
				t.Errorf("got %q, want %q", problems, c.want)
			}
			if last := found[len(found)-1]; c.want == "" && c.secret != "" && last.Check != "sync" {
				t.Errorf("the last step was %v", last)
			}
		})
	}
	for origin, want := range map[string]string{
		"https://127.0.0.1:1":           "nothing listens",
		"https://cloud.example.invalid": "cloud.example.invalid",
	} {
		found := AsDevice(t.Context(), DeviceOptions{Origin: origin})
		if len(found) != 1 || found[0].Level != Problem || !strings.Contains(found[0].Text, want) {
			t.Errorf("%s: %v", origin, found)
		}
	}
}

// A password goes to the server that was named and to nobody it leads to.
func TestAsDevicePasswordStays(t *testing.T) {
	told := false
	other := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { told = told || r.Header.Get("Authorization") != "" }))
	defer other.Close()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); ok && r.URL.Path == dav.Base {
			w.WriteHeader(http.StatusMultiStatus)
			_, _ = w.Write([]byte(`<multistatus xmlns="DAV:"><response><href>/</href><propstat><prop><current-user-principal><href>` + other.URL + `/p/</href></current-user-principal></prop></propstat></response></multistatus>`))
			return
		}
		phoneServer(w, r)
	}))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	found := AsDevice(t.Context(), DeviceOptions{Origin: s.URL, Name: "alice", Password: "right", Roots: roots})
	if told || found[len(found)-1].Level != Problem {
		t.Errorf("told another server the password: %v; %v", told, found)
	}
}
