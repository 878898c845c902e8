package server

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/setup"
)

// plain sends a request without a password.
func (r *running) plain(method, path string, header ...string) *http.Response {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if req.Header.Set(header[i], header[i+1]); header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

// The page is there for everybody and knows nobody; name and profile need a login; all of it waits with the fence.
func TestSetup(t *testing.T) {
	cfg := made(t, filepath.Join(t.TempDir(), "data"))
	r := start(t, cfg).open()
	res := r.plain("GET", "setup")
	body := text(res)
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Security-Policy") != setup.Policy || strings.Contains(body, "alice") {
		t.Errorf("the page for everybody: %d, %v\n%.300s", res.StatusCode, res.Header, body)
	}
	if !strings.Contains(body, "<code>"+r.url+"</code>") {
		t.Errorf("the page does not name the address %s it was asked at", r.url)
	}
	for _, path := range []string{"setup/account", "setup/account/holdfast.mobileconfig"} {
		if res := r.plain("GET", path); res.StatusCode != http.StatusUnauthorized || !strings.HasPrefix(res.Header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%s without a password: %d", path, res.StatusCode)
		}
		if res := r.do("PUT", path, nil); res.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("PUT %s: %d", path, res.StatusCode)
		}
	}
	if res := r.do("GET", "setup/account", nil); res.StatusCode != http.StatusOK || !strings.Contains(text(res), r.url+"dav/alice/Files/") {
		t.Errorf("alice's page: %d", res.StatusCode)
	}
	res = r.do("GET", "setup/account/holdfast.mobileconfig", nil)
	body = text(res)
	if res.Header.Get("Content-Type") != setup.ProfileType || !strings.Contains(body, "<string>alice</string>") || strings.Contains(body, password) {
		t.Errorf("alice's profile: %v\n%s", res.Header, body)
	}
	if res := r.plain("HEAD", "setup"); res.StatusCode != http.StatusOK || res.ContentLength < 1000 || text(res) != "" {
		t.Errorf("HEAD: %d, %d bytes", res.StatusCode, res.ContentLength)
	}
	if res := r.plain("GET", "setup/none"); res.StatusCode != http.StatusNotFound {
		t.Errorf("setup/none: %d", res.StatusCode)
	}
	for header, want := range map[string]string{
		`evil"><b>.example`: "://127.0.0.1:", "cloud.example.org": "://cloud.example.org/",
	} {
		if body := text(r.plain("GET", "setup", "Host", header)); !strings.Contains(body, want) || strings.Contains(body, "><b>.example") {
			t.Errorf("Host %s: %q is not on the page", header, want)
		}
	}
	r.stop()
	if err := <-r.done; err != nil {
		t.Fatal(err)
	}
	r.done <- nil

	if err := os.Rename(cfg.Settings.Mirrors[0].Path, cfg.Settings.Mirrors[0].Path+".away"); err != nil {
		t.Fatal(err)
	}
	cfg.Settings.PublicURL = "https://cloud.example.org"
	r = start(t, cfg)
	for _, path := range []string{"setup", "setup/account", "setup/account/holdfast.mobileconfig"} {
		for _, method := range []string{"GET", "PROPFIND"} {
			if res := r.do(method, path, nil); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
				t.Errorf("%s %s while closed: %d, want 503 with Retry-After", method, path, res.StatusCode)
			}
		}
	}
	if body := text(r.do("GET", "setup", nil)); !strings.Contains(body, "Please wait") || !strings.Contains(body, "cloud.example.org") {
		t.Errorf("the page while closed:\n%s", body)
	}
}
