package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/server"
)

// made is a data directory with a mirror.
func made(t *testing.T) server.Config {
	t.Helper()
	root := t.TempDir()
	c := config.Default()
	c.ServerID = holdfast.ServerID{7}
	c.Mirrors = []config.Mirror{{Name: "usb", Path: filepath.Join(root, "mirror")}}
	c.Listen = []string{"127.0.0.1:0"}
	cfg := server.Config{Dir: filepath.Join(root, "data"), Settings: c, Version: "test", Log: slog.New(slog.DiscardHandler)}
	if err := server.Create(t.Context(), cfg.Dir, c, cfg.Log); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// start runs a server until the test ends and returns its address.
func start(t *testing.T, cfg server.Config) string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ready, done := make(chan string, 1), make(chan error, 1)
	cfg.Ready = func(urls []string) { ready <- urls[0] }
	go func() { done <- server.Run(ctx, cfg) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	select {
	case u := <-ready:
		for tick, end := time.NewTicker(10*time.Millisecond), time.After(30*time.Second); ; {
			if res, _, err := get(t.Context(), newClient(nil), u+"readyz"); err == nil && res.StatusCode == http.StatusOK {
				return u
			}
			select {
			case <-tick.C:
			case <-end:
				t.Fatal("the fence does not open")
			}
		}
	case err := <-done:
		t.Fatal(err)
	}
	return ""
}

func examine(t *testing.T, cfg server.Config) []Finding {
	t.Helper()
	return Examine(t.Context(), Options{Dir: cfg.Dir, Version: "test"})
}

// want finds a finding of a check with a level and a text.
func want(t *testing.T, found []Finding, check string, level Level, text string) {
	t.Helper()
	for _, f := range found {
		if f.Check == check && f.Level == level && strings.Contains(f.Text, text) {
			if level != OK && f.Todo == "" {
				t.Errorf("%s: nothing is said to do about %q", check, f.Text)
			}
			return
		}
	}
	t.Errorf("no %s of %s with %q in", level, check, text)
	for _, f := range found {
		t.Logf("%-8s %-12s %s", f.Level, f.Check, f.Text)
	}
}

func problems(found []Finding) (all []Finding) {
	for _, f := range found {
		if f.Level == Problem {
			all = append(all, f)
		}
	}
	return all
}

// snapshot is every file below dir with its size and time, to see that doctor changes nothing.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			b.WriteString(path + " " + info.ModTime().String() + " " + info.Mode().String() + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Without a server doctor takes no term, opens no ledger and changes no file.
func TestWithoutServer(t *testing.T) {
	cfg := made(t)
	before := snapshot(t, filepath.Dir(cfg.Dir))
	found := examine(t, cfg)
	want(t, found, "data", OK, "is there")
	want(t, found, "server", Warning, "not running")
	want(t, found, "mirror usb", OK, "is there")
	want(t, found, "disks", Warning, "same file system")
	want(t, found, "listen", OK, "is free")
	want(t, found, "alerts", Warning, "nobody is told")
	if p := problems(found); len(p) > 0 {
		t.Errorf("problems: %+v", p)
	}
	if after := snapshot(t, filepath.Dir(cfg.Dir)); after != before {
		t.Errorf("doctor changed something:\n%s\n%s", before, after)
	}
}

// Each thing that can be wrong in the places is found and named.
func TestPlaces(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(cfg server.Config) error
		check string
		level Level
		text  string
	}{
		{"no data directory", func(cfg server.Config) error { return os.Rename(cfg.Dir, cfg.Dir+"x") }, "data", Problem, "it is not there"},
		{"a file", func(cfg server.Config) error {
			if err := os.Rename(cfg.Dir, cfg.Dir+"x"); err != nil {
				return err
			}
			return os.WriteFile(cfg.Dir, nil, 0o600)
		}, "data", Problem, "is a file"},
		{"not mounted", func(cfg server.Config) error {
			if err := os.Rename(cfg.Dir, cfg.Dir+"x"); err != nil {
				return err
			}
			return os.Mkdir(cfg.Dir, 0o700)
		}, "data", Problem, "so it is no data directory"},
		{"no head file", func(cfg server.Config) error { return os.Remove(filepath.Join(cfg.Dir, "heads")) }, "data", Problem, "not whole"},
		{"open to others", func(cfg server.Config) error { return os.Chmod(cfg.Dir, 0o755) }, "data", Warning, "mode 0755"},
		{"settings", func(cfg server.Config) error {
			return os.WriteFile(filepath.Join(cfg.Dir, config.FileName), []byte("colour = red"), 0o600)
		}, "settings", Problem, "colour"},
		{"mirror away", func(cfg server.Config) error { return os.Rename(cfg.Settings.Mirrors[0].Path, cfg.Dir+"y") }, "mirror usb", Problem, "it is not there"},
		{"empty mount point", func(cfg server.Config) error {
			if err := os.Rename(cfg.Settings.Mirrors[0].Path, cfg.Dir+"y"); err != nil {
				return err
			}
			return os.Mkdir(cfg.Settings.Mirrors[0].Path, 0o700)
		}, "mirror usb", Problem, "has no holdfast-mirror.json"},
		{"another server's", func(cfg server.Config) error {
			return replace(filepath.Join(cfg.Settings.Mirrors[0].Path, markerName), `{"format":1,"server":"ff","mirror":"ee"}`)
		}, "mirror usb", Problem, "another server"},
		{"marker damaged", func(cfg server.Config) error {
			return replace(filepath.Join(cfg.Settings.Mirrors[0].Path, markerName), "\x00\x00")
		}, "mirror usb", Problem, "cannot be read"},
		{"clock went back", func(cfg server.Config) error {
			late := time.Now().Add(48 * time.Hour)
			return os.Chtimes(filepath.Join(cfg.Settings.Mirrors[0].Path, "term"), late, late)
		}, "clock", Problem, "the clock went back"},
		{"secret is open", func(cfg server.Config) error {
			if err := os.WriteFile(filepath.Join(cfg.Dir, "tok"), []byte("0123456789abcdef"), 0o644); err != nil {
				return err
			}
			return add(cfg, "metrics_token_file = tok")
		}, "settings", Warning, "can be read by others"},
		{"secret is short", func(cfg server.Config) error {
			if err := os.WriteFile(filepath.Join(cfg.Dir, "tok"), []byte("01234"), 0o600); err != nil {
				return err
			}
			return add(cfg, "metrics_token_file = tok")
		}, "settings", Problem, "less than 16"},
		{"fresh incident", func(cfg server.Config) error {
			return os.WriteFile(filepath.Join(cfg.Dir, "incidents", time.Now().UTC().Format("20060102T150405.000Z")+"-heal.md"), nil, 0o600)
		}, "incidents", Warning, "1 reports"},
		{"alerts", func(cfg server.Config) error {
			return add(cfg, "alert_webhook = https://alerts.example.org/\nheartbeat_url = https://watcher.example.org/")
		}, "alerts", OK, "a webhook"},
		{"no certificate", func(cfg server.Config) error { return add(cfg, "tls_cert = c.pem\ntls_key = k.pem") }, "certificate", Problem, "c.pem"},
	} {
		cfg := made(t)
		if err := c.spoil(cfg); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		t.Run(c.name, func(t *testing.T) { want(t, examine(t, cfg), c.check, c.level, c.text) })
	}
}

// replace writes a file that is read-only.
func replace(name, text string) error {
	if err := os.Remove(name); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text), 0o600)
}

func add(cfg server.Config, lines string) error {
	name := filepath.Join(cfg.Dir, config.FileName)
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, "\n"+lines+"\n"...), 0o600)
}

// A taken port is named.
func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := made(t)
	if err := add(cfg, "listen = "+l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	// The settings have a listen line already: it is repeatable.
	want(t, examine(t, cfg), "listen", Problem, "is taken by another program")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// proxyTo is a reverse proxy that a test may bend.
func proxyTo(t *testing.T, target string, bend func(p *httputil.ReverseProxy)) string {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = u.Scheme, u.Host
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0),
	}
	if bend != nil {
		bend(p)
	}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	return srv.URL
}

// Beside a server: it is asked, its port answers, and what a proxy does to requests and answers is found.
func TestProxy(t *testing.T) {
	for _, c := range []struct {
		name    string
		trusted bool
		bend    func(p *httputil.ReverseProxy)
		level   Level
		text    string
	}{
		{"well", true, nil, OK, "pass unchanged"},
		{"not trusted", false, nil, Warning, "no trusted_proxy"},
		{"error page", true, func(p *httputil.ReverseProxy) {
			p.ModifyResponse = func(r *http.Response) error {
				if r.StatusCode == http.StatusServiceUnavailable {
					r.StatusCode, r.Status, r.Body = 200, "200 OK", io.NopCloser(strings.NewReader("sorry"))
					r.Header.Del("Content-Length")
					r.ContentLength = -1
				}
				return nil
			}
		}, Problem, "does not hand on the server's 503"},
		{"Host changed", true, func(p *httputil.ReverseProxy) {
			rw := p.Rewrite
			p.Rewrite = func(r *httputil.ProxyRequest) { rw(r); r.Out.Host = "backend" }
		}, Problem, "changes the Host header"},
		{"path cleaned", true, func(p *httputil.ReverseProxy) {
			rw := p.Rewrite
			p.Rewrite = func(r *httputil.ProxyRequest) { rw(r); r.Out.URL.RawPath = "" }
		}, Problem, "changes paths"},
		{"login taken", true, func(p *httputil.ReverseProxy) {
			rw := p.Rewrite
			p.Rewrite = func(r *httputil.ProxyRequest) { rw(r); r.Out.Header.Del("Authorization") }
		}, Problem, "keeps the Authorization header"},
		{"header taken", true, func(p *httputil.ReverseProxy) {
			rw := p.Rewrite
			p.Rewrite = func(r *httputil.ProxyRequest) { rw(r); r.Out.Header.Del(server.ProbeHeader) }
		}, Problem, "did not arrive"},
		{"well-known taken", true, func(p *httputil.ReverseProxy) {
			rw := p.Rewrite
			p.Rewrite = func(r *httputil.ProxyRequest) {
				rw(r)
				if r.In.URL.Path == "/.well-known/carddav" {
					r.Out.URL.Path = "/nothing"
				}
			}
		}, Problem, "do not find contacts"},
		{"something else", true, func(p *httputil.ReverseProxy) {
			p.ModifyResponse = func(r *http.Response) error { r.StatusCode, r.Status = 404, "404 Not Found"; return nil }
		}, Problem, "something else is there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := made(t)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			address := l.Addr().String()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			public := proxyTo(t, "http://"+address, c.bend)
			if err := cfg.Settings.Set("listen", address); err != nil {
				t.Fatal(err)
			}
			if err := cfg.Settings.Set("public_url", public); err != nil {
				t.Fatal(err)
			}
			if c.trusted {
				if err := cfg.Settings.Set("trusted_proxy", "127.0.0.1"); err != nil {
					t.Fatal(err)
				}
			}
			start(t, cfg)
			found := examine(t, cfg)
			want(t, found, "server", OK, "running")
			want(t, found, "listen", OK, "answers")
			want(t, found, "public url", c.level, c.text)
		})
	}
}

// TestCertificates: ended, ending, of another name.
func TestCertificates(t *testing.T) {
	now := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "c.pem")
	for _, c := range []struct {
		name        string
		begins, end time.Time
		host        string
		level       Level
		text        string
	}{
		{"good", now.Add(-time.Hour), now.Add(90 * 24 * time.Hour), "cloud.example.org", OK, "is good until"},
		{"ends soon", now.Add(-time.Hour), now.Add(3 * 24 * time.Hour), "cloud.example.org", Warning, "in 3 days"},
		{"ended", now.Add(-time.Hour), now.Add(-time.Minute), "cloud.example.org", Problem, "ended on"},
		{"not yet", now.Add(time.Hour), now.Add(90 * 24 * time.Hour), "cloud.example.org", Problem, "begins on"},
		{"another name", now.Add(-time.Hour), now.Add(90 * 24 * time.Hour), "other.example.org", Problem, "is not for other.example.org"},
	} {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: c.begins, NotAfter: c.end, DNSNames: []string{"cloud.example.org"}}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		p := &patient{Options: Options{Now: func() time.Time { return now }}}
		found := p.expiry(file, soonExpired, "renew it", c.host)
		for i := range found {
			found[i].Check = c.name
		}
		want(t, found, c.name, c.level, c.text)
	}
}

// A check that hangs is a finding, and keeps nobody waiting.
func TestHang(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	p := &patient{Options: Options{Patience: 20 * time.Millisecond}}
	found, late := p.each(t.Context(), []check{
		{"hung", func(context.Context) []Finding { <-stop; return nil }},
		{"quick", func(context.Context) []Finding { return []Finding{ok("well")} }},
	})
	if !late || len(found) != 2 || found[0].Level != Problem || found[0].Check != "hung" || found[1].Level != OK {
		t.Errorf("got %+v", found)
	}
}
