package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/config"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestClient(t *testing.T) {
	s := &server{cfg: Config{Settings: &config.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}}}}
	for _, c := range []struct {
		remote, forwarded, want string
	}{
		{"192.0.2.1:5", "", "192.0.2.1"},
		{"192.0.2.1:5", "203.0.113.9", "192.0.2.1"}, // a claim
		{"127.0.0.1:5", "203.0.113.9", "203.0.113.9"},
		{"127.0.0.1:5", "1.1.1.1, 203.0.113.9", "203.0.113.9"},
		{"127.0.0.1:5", "1.1.1.1, 203.0.113.9, 10.2.3.4", "203.0.113.9"},
		{"127.0.0.1:5", "garbage, 10.2.3.4", "10.2.3.4"},
		{"127.0.0.1:5", "", "127.0.0.1"},
		{"[::1]:5", "[2001:db8::1]:443", "2001:db8::1"},
		{"[::ffff:127.0.0.1]:5", "::ffff:203.0.113.9", "203.0.113.9"},
		{"[fe80::1%eth0]:5", "203.0.113.9", "fe80::1"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.remote
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if got := s.client(r).String(); got != c.want {
			t.Errorf("from %s, forwarded for %q: got %s, want %s", c.remote, c.forwarded, got, c.want)
		}
	}
}

func FuzzClient(f *testing.F) {
	s := &server{cfg: Config{Settings: &config.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}}
	f.Add("10.0.0.1:1", "1.2.3.4, 10.0.0.2")
	f.Add("1.2.3.4:1", "5.6.7.8")
	f.Fuzz(func(t *testing.T, remote, forwarded string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = remote
		r.Header["X-Forwarded-For"] = []string{forwarded}
		direct := addrOf(remote)
		if got := s.client(r); got != direct && !within(s.cfg.Settings.TrustedProxies, direct) {
			t.Fatalf("%q was believed to come from %s", remote, got)
		}
	})
}

func TestPanic(t *testing.T) {
	s := &server{cfg: Config{Settings: config.Default()}, log: quiet()}
	s.dav = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/dav/late" {
			_, _ = io.WriteString(w, "half")
			w.(*response).ResponseWriter.(http.Flusher).Flush()
		}
		panic("boom")
	})
	srv := httptest.NewServer(s.handler())
	defer srv.Close()
	res, err := http.Get(srv.URL + "/dav/early")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusInternalServerError {
		t.Errorf("got %d, want 500", res.StatusCode)
	}
	res, err = http.Get(srv.URL + "/dav/late")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("half an answer looks whole: %q", b)
	}
	res.Body.Close()
}

// A client that takes nothing is let go.
func TestStalledDownload(t *testing.T) {
	settings := config.Default()
	settings.ProgressTimeout = 200 * time.Millisecond
	s := &server{cfg: Config{Settings: settings}, log: quiet()}
	failed := make(chan error, 1)
	s.dav = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, err := w.Write(make([]byte, 64<<20))
		failed <- err
	})
	srv := httptest.NewServer(s.handler())
	defer srv.Close()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /dav/x HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failed:
		if err == nil {
			t.Error("64 MiB were written to nobody")
		}
	case <-time.After(20 * time.Second):
		t.Error("the handler still waits")
	}
}

// A handler that thinks for longer than the progress timeout, before or after it read the body, is not cut off.
func TestSlowHandler(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		settings := config.Default()
		settings.ProgressTimeout = 100 * time.Millisecond
		s := &server{cfg: Config{Settings: settings}, log: quiet()}
		s.dav = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			<-time.After(400 * time.Millisecond)
			if err != nil || r.Context().Err() != nil {
				http.Error(w, "cut off", http.StatusTeapot)
				return
			}
			_, _ = w.Write(b)
		})
		srv := httptest.NewUnstartedServer(s.handler())
		srv.EnableHTTP2 = http2
		srv.StartTLS()
		for range 2 { // the second one on the same connection
			res, err := srv.Client().Post(srv.URL+"/dav/x", "", strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || string(b) != "body" || (res.ProtoMajor == 2) != http2 {
				t.Errorf("%s: %d %q, %v", res.Proto, res.StatusCode, b, err)
			}
		}
		srv.Close()
	}
}

func TestGuard(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &guard{Listener: l, slots: make(chan struct{}, 1), shares: newShares(1, nil), ended: make(chan struct{})}
	accepted := make(chan net.Conn, 2)
	go func() {
		for {
			c, err := g.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	for range 2 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first := <-accepted
	select {
	case <-accepted:
		t.Error("two connections where one may be open")
	case <-time.After(50 * time.Millisecond):
	}
	first.Close()
	first.Close() // twice gives back one slot only
	second := <-accepted
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	second.Close()
	if _, more := <-accepted; more {
		t.Error("accepted after the end")
	}
}

func TestGuardStrangers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &guard{Listener: l, slots: make(chan struct{}, 1), shares: newShares(1, nil), ended: make(chan struct{}), only: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if c, err := g.Accept(); err == nil {
			t.Errorf("a stranger from %s was let in", c.RemoteAddr())
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("a stranger was told %d bytes", n)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	<-ended
}

func TestShares(t *testing.T) {
	s := newShares(100, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})
	var gives []func()
	for i := range 25 {
		give, ok := s.take(netip.MustParseAddr("2001:db8::" + strconv.Itoa(i)))
		if !ok {
			t.Fatalf("connection %d of 25 refused", i)
		}
		gives = append(gives, give)
	}
	if _, ok := s.take(netip.MustParseAddr("2001:db8::ffff:1")); ok {
		t.Error("the 26th of 100 connections from one /64 was let in")
	}
	for _, a := range []string{"2001:db8:0:1::1", "192.0.2.1"} {
		give, ok := s.take(netip.MustParseAddr(a))
		if !ok {
			t.Errorf("%s has to suffer for another network", a)
			continue
		}
		give()
	}
	for _, a := range []string{"10.1.2.3", "127.0.0.1", "::1"} { // bring the connections of many
		for range 60 {
			if _, ok := s.take(netip.MustParseAddr(a)); !ok {
				t.Fatalf("%s is counted", a)
			}
		}
	}
	for _, give := range gives {
		give()
	}
	if len(s.open) != 0 {
		t.Errorf("after the end %v are counted", s.open)
	}
}

// writeCert makes a certificate for 127.0.0.1 with a serial number.
func writeCert(t *testing.T, dir string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, name), time.Time{}, time.Unix(1_700_000_000+serial, 0)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTLSFiles(t *testing.T) {
	cfg := made(t, filepath.Join(t.TempDir(), "data"))
	cfg.Settings.TLSCert, cfg.Settings.TLSKey = "cert.pem", "key.pem"
	if err := CheckTLS(cfg.Dir, cfg.Settings); err == nil {
		t.Error("no certificate, no error")
	}
	writeCert(t, cfg.Dir, 1)
	cfg.Settings.Listen = []string{"127.0.0.1:0", "0.0.0.0:0"} // TLS may be reached from everywhere
	r := start(t, cfg)
	if !strings.HasPrefix(r.url, "https://127.0.0.1:") {
		t.Fatalf("url %s", r.url)
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	defer c.CloseIdleConnections()
	res, err := c.Get(r.url + "healthz")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.ProtoMajor != 2 || res.TLS.PeerCertificates[0].SerialNumber.Int64() != 1 {
		t.Errorf("%s, serial %s", res.Proto, res.TLS.PeerCertificates[0].SerialNumber)
	}
}

func TestCertFileReload(t *testing.T) {
	dir := t.TempDir()
	writeCert(t, dir, 1)
	f := &certFile{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), log: quiet()}
	serial := func() int64 {
		t.Helper()
		f.looked = time.Time{}
		c, err := f.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		x, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return x.SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Errorf("serial %d, want 1", got)
	}
	writeCert(t, dir, 2)
	if got := serial(); got != 2 {
		t.Errorf("serial %d after renewal, want 2", got)
	}
	if err := os.Remove(f.key); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != 2 {
		t.Errorf("serial %d without a key file, want the last good one", got)
	}
}

// ACME is set up without asking anybody; the challenge protocol is offered.
func TestACMEConfig(t *testing.T) {
	c := config.Default()
	c.ACMEDomains = []string{"cloud.example.org"}
	src, err := newTLS(t.TempDir(), c, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer src.stop()
	if got := strings.Join(src.config.NextProtos, " "); !strings.Contains(got, "h2 http/1.1") || !strings.Contains(got, "acme-tls/1") {
		t.Errorf("protocols %q", got)
	}
}

func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "20000")
	r := start(t, made(t, filepath.Join(t.TempDir(), "data")))
	next := func(want string) {
		t.Helper()
		buf := make([]byte, 4096)
		for {
			if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("wait for %s: %v", want, err)
			}
			if strings.Contains(string(buf[:n]), want) {
				return
			}
		}
	}
	next("READY=1")
	next("WATCHDOG=1")
	next("STATUS=fence open")
	go r.stop()
	next("STOPPING=1")
	if err := r.end(); err != nil {
		t.Error(err)
	}
}
