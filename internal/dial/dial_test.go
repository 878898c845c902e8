package dial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"holdfast"
)

func TestCheckURL(t *testing.T) {
	t.Parallel()
	lan := Policy{Allow: []Allow{{netip.MustParsePrefix("192.168.1.20/32"), 8080}, {netip.MustParsePrefix("fd00::/8"), 0}}}
	for _, c := range []struct {
		policy Policy
		url    string
		ok     bool
	}{
		{Policy{}, "https://push.example.org/x?y=z", true},
		{Policy{}, "https://push.example.org:443/", true},
		{Policy{}, "https://8.8.8.8/", true},
		{Policy{}, "https://[2606:4700::1111]/", true},
		{Policy{}, "http://push.example.org/", false},
		{Policy{}, "https://push.example.org:8443/", false},
		{Policy{}, "https://push.example.org:22/", false},
		{Policy{}, "https://push.example.org:/", false},
		{Policy{}, "https://push.example.org:0/", false},
		{Policy{}, "https://push.example.org:70000/", false},
		{Policy{}, "https://user:pass@push.example.org/", false},
		{Policy{}, "https://push.example.org/#x", false},
		{Policy{}, "ftp://push.example.org/", false},
		{Policy{}, "file:///etc/passwd", false},
		{Policy{}, "gopher://127.0.0.1:25/x", false},
		{Policy{}, "https:push.example.org", false},
		{Policy{}, "//push.example.org/", false},
		{Policy{}, "https:///x", false},
		{Policy{}, "", false},
		{Policy{}, "https://localhost/", false},
		{Policy{}, "https://LOCALHOST./", false},
		{Policy{}, "https://a.localhost/", false},
		{Policy{}, "https://127.0.0.1/", false},
		{Policy{}, "https://127.1/", false},
		{Policy{}, "https://2130706433/", false},
		{Policy{}, "https://0x7f000001/", false},
		{Policy{}, "https://0x7f.0.0.1/", false},
		{Policy{}, "https://0177.0.0.1/", false},
		{Policy{}, "https://127.0.0.1./", false},
		{Policy{}, "https://0/", false},
		{Policy{}, "https://[::1]/", false},
		{Policy{}, "https://[::]/", false},
		{Policy{}, "https://[::ffff:8.8.8.8]/", false},
		{Policy{}, "https://[::ffff:7f00:1]/", false},
		{Policy{}, "https://[::127.0.0.1]/", false},
		{Policy{}, "https://[64:ff9b::7f00:1]/", false},
		{Policy{}, "https://[64:ff9b::808:808]/", false},
		{Policy{}, "https://[2002:7f00:1::]/", false},
		{Policy{}, "https://[2001::1]/", false},
		{Policy{}, "https://[fe80::1%25eth0]/", false},
		{Policy{}, "https://[2606:4700::1111%25eth0]/", false},
		{Policy{}, "https://10.0.0.1/", false},
		{Policy{}, "https://100.64.0.1/", false},
		{Policy{}, "https://169.254.169.254/latest/meta-data/", false},
		{Policy{}, "https://192.168.1.1/", false},
		{Policy{}, "https://224.0.0.1/", false},
		{Policy{}, "https://255.255.255.255/", false},
		{Policy{}, "https://[fc00::1]/", false},
		{Policy{}, "https://exa mple.org/", false},
		{Policy{}, "https://example.org%2e/", false},
		{Policy{}, "https://example.org\x00/", false},
		{Policy{}, "https://127.0.0.1/", false},
		{lan, "http://192.168.1.20:8080/up", true},
		{lan, "https://192.168.1.20:8080/up", true},
		{lan, "http://192.168.1.20/up", false},
		{lan, "http://192.168.1.21:8080/up", false},
		{lan, "http://[fd00::7]/up", true},
		{lan, "http://ntfy.lan:8080/up", true}, // where it leads is judged when it is connected to
		{lan, "http://ntfy.lan:8081/up", false},
		{lan, "https://push.example.org/", true},
	} {
		if err := c.policy.CheckURL(c.url); (err == nil) != c.ok || err != nil && !Refused(err) {
			t.Errorf("%q with %v: %v, want ok %t", c.url, c.policy.Allow, err, c.ok)
		}
	}
}

func TestCheckAddress(t *testing.T) {
	t.Parallel()
	own := netip.MustParseAddrPort("127.0.0.1:8480")
	p := Policy{
		Allow: []Allow{{netip.MustParsePrefix("127.0.0.0/8"), 8480}, {netip.MustParsePrefix("10.1.0.0/16"), 0}},
		Own:   func(ap netip.AddrPort) bool { return ap == own },
	}
	for address, ok := range map[string]bool{
		"1.1.1.1:443": true, "[2606:4700::1]:443": true, "[::ffff:1.1.1.1]:443": true,
		"1.1.1.1:80": false, "1.1.1.1:25": false,
		"127.0.0.1:8480": false, "[::ffff:127.0.0.1]:8480": false, "127.0.0.2:8480": true, "127.0.0.1:443": false, "[::1]:8480": false,
		"10.1.2.3:443": true, "10.1.2.3:80": true, "10.1.2.3:8080": false, "10.2.0.1:443": false,
		"[fe80::1%lo]:443": false, "[64:ff9b::a00:1]:443": false, "[64:ff9b:1::1]:443": false, "[2002:a00:1::]:443": false, "[3fff::1]:443": false,
		"[100::1]:443": false, "[5f00::1]:443": false, "[ff02::1]:443": false, "[fec0::1]:443": false, "[::a00:1]:443": false,
		"0.1.2.3:443": false, "192.0.0.8:443": false, "192.0.2.1:443": false, "198.18.0.1:443": false, "240.0.0.1:443": false, "172.16.0.1:443": false,
	} {
		if err := p.checkConnection("tcp"+map[bool]string{true: "6", false: "4"}[strings.HasPrefix(address, "[")], address); (err == nil) != ok {
			t.Errorf("%s: %v, want ok %t", address, err, ok)
		}
	}
	for _, network := range []string{"udp4", "unix", "tcp"} {
		if err := p.checkConnection(network, "1.1.1.1:443"); !errors.Is(err, holdfast.ErrDenied) {
			t.Errorf("network %s: %v", network, err)
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			ip, _ := netip.AddrFromSlice(n.IP)
			if err := (&Policy{}).check(netip.AddrPortFrom(ip.Unmap(), 443)); err == nil {
				t.Errorf("%v is of this machine, and may be reached", ip)
			}
		}
	}
}

// resolver answers each question for an address of IPv4 with the next of some; the last one stays.
func resolver(t *testing.T, answers ...string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		next, buf := 0, make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			end := 12 // of the one question: labels, type, class
			for end < n && buf[end] != 0 {
				end += 1 + int(buf[end])
			}
			end += 5
			out := append([]byte{}, buf[:end]...)
			binary.BigEndian.PutUint16(out[2:], 0x8180)
			clear(out[6:12])
			if binary.BigEndian.Uint16(buf[end-4:]) == 1 {
				out[7] = 1
				out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
				ip := netip.MustParseAddr(answers[min(next, len(answers)-1)]).As4()
				out = append(out, ip[:]...)
				next++
			}
			_, _ = conn.WriteTo(out, from)
		}
	}()
	var d net.Dialer
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// place is a TLS server at an address of this machine.
type place struct {
	*httptest.Server
	conns atomic.Int64
	port  uint16
}

func serveAt(t *testing.T, address string, h http.HandlerFunc) *place {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	p := &place{Server: &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}}
	p.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			p.conns.Add(1)
		}
	}
	p.port = netip.MustParseAddrPort(l.Addr().String()).Port()
	p.Config.ErrorLog = log.New(io.Discard, "", 0)
	p.StartTLS()
	t.Cleanup(p.Close)
	return p
}

func trust(places ...*place) *tls.Config {
	pool := x509.NewCertPool()
	for _, p := range places {
		pool.AddCert(p.Certificate())
	}
	return &tls.Config{RootCAs: pool}
}

func get(t *testing.T, c *Client, url string) (string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(r)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.Status + " " + string(b), err
}

// A name that leads to an allowed address when it is first asked, and to this machine afterwards, gains nothing.
func TestRebinding(t *testing.T) {
	good := serveAt(t, "127.0.0.1:0", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "good") })
	evil := serveAt(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), good.port).String(), func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "evil") })
	c := New(Policy{
		Allow: []Allow{{netip.MustParsePrefix("127.0.0.1/32"), good.port}}, TLS: trust(good, evil),
		Resolver: resolver(t, "127.0.0.1", "127.0.0.2"),
	})
	u := "https://example.com:" + strings.TrimPrefix(good.URL, "https://127.0.0.1:") + "/"
	if got, err := get(t, c, u); err != nil || got != "200 OK good" {
		t.Fatalf("the allowed address: %q, %v", got, err)
	}
	c.Close()
	if got, err := get(t, c, u); !errors.Is(err, holdfast.ErrDenied) {
		t.Errorf("the name leads elsewhere now: %q, %v; want ErrDenied", got, err)
	}
	if n := evil.conns.Load(); n != 0 {
		t.Errorf("%d connections were made to what may not be reached", n)
	}
}

// Each redirect is judged like the first request; without leave to follow it, it is the answer.
func TestRedirects(t *testing.T) {
	evil := serveAt(t, "127.0.0.2:0", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "evil") })
	var to atomic.Value
	good := serveAt(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/end" {
			_, _ = io.WriteString(w, "end")
			return
		}
		http.Redirect(w, r, to.Load().(string), http.StatusTemporaryRedirect)
	})
	policy := Policy{
		Allow: []Allow{{netip.MustParsePrefix("127.0.0.1/32"), good.port}, {netip.MustParsePrefix("192.0.2.1/32"), evil.port}},
		TLS:   trust(good, evil), Resolver: resolver(t, "127.0.0.2"), Redirect: 3,
	}
	c := New(policy)
	evilPort := strings.TrimPrefix(evil.URL, "https://127.0.0.2:")
	for _, target := range []string{evil.URL, "https://example.com:" + evilPort, "http://127.0.0.2:" + evilPort, "file:///etc/passwd", "https://[::1]:" + evilPort, "https://user@127.0.0.1/"} {
		to.Store(target)
		if got, err := get(t, c, good.URL); err == nil {
			t.Errorf("redirected to %s: %q, want an error", target, got)
		}
	}
	if n := evil.conns.Load(); n != 0 {
		t.Errorf("%d connections were made to what may not be reached", n)
	}
	to.Store("/end")
	if got, err := get(t, c, good.URL); err != nil || got != "200 OK end" {
		t.Errorf("within the allowed address: %q, %v", got, err)
	}
	to.Store("/again")
	if got, err := get(t, c, good.URL); err != nil || !strings.HasPrefix(got, "307") {
		t.Errorf("for ever: %q, %v", got, err)
	}
	policy.Redirect = 0
	to.Store("/end")
	if got, err := get(t, New(policy), good.URL); err != nil || !strings.HasPrefix(got, "307") {
		t.Errorf("not followed: %q, %v", got, err)
	}
}

// What a target answers takes no more memory than the policy says.
func TestBoundedAnswer(t *testing.T) {
	p := serveAt(t, "127.0.0.1:0", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/header" {
			w.Header().Set("X", strings.Repeat("x", 2*maxHeader))
		}
		_, _ = io.WriteString(w, strings.Repeat("y", 1<<20))
	})
	c := New(Policy{Allow: []Allow{{netip.MustParsePrefix("127.0.0.1/32"), p.port}}, TLS: trust(p), MaxBody: 1000})
	if got, err := get(t, c, p.URL); err != nil || len(got) != len("200 OK ")+1000 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := get(t, c, p.URL+"/header"); err == nil {
		t.Error("a header without end was taken")
	}
}

// A target that accepts and says nothing is left after the timeout, and the environment's proxy is not asked.
func TestSilence(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://192.0.2.9:1")
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	defer open.Wait()
	defer l.Close()
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { _, _ = io.Copy(io.Discard, c) })
		}
	})
	c := New(Policy{Allow: []Allow{{netip.MustParsePrefix("127.0.0.2/32"), netip.MustParseAddrPort(l.Addr().String()).Port()}}, Timeout: 200e6})
	_, err = get(t, c, "https://"+l.Addr().String())
	var timeout interface{ Timeout() bool }
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("got %v, want a timeout", err)
	}
}

// Whatever passes with nothing allowed is https at port 443, and an address in it is public.
func FuzzCheckURL(f *testing.F) {
	for _, s := range []string{"https://push.example.org/x", "https://127.0.0.1/", "https://[::1%25lo]:443/", "https://0x7f.1/", "http://1.1.1.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if (&Policy{}).CheckURL(s) != nil {
			return
		}
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "https" || u.Port() != "" && u.Port() != "443" && strings.TrimLeft(u.Port(), "0") != "443" || u.User != nil {
			t.Fatalf("%q passed: %+v, %v", s, u, err)
		}
		if a, err := netip.ParseAddr(u.Hostname()); err == nil && notPublic(a) != "" {
			t.Fatalf("%q passed: %s is %s", s, a, notPublic(a))
		}
	})
}
