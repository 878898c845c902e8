package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/config"
	"holdfast/internal/dav"
	"holdfast/internal/server"
)

// listen says whether the ports are ours or free.
func (p *patient) listen(ctx context.Context) []Finding {
	var out []Finding
	if p.status != nil {
		for _, u := range p.status.URLs {
			out = append(out, p.alive(ctx, u))
		}
		return out
	}
	for _, addr := range p.settings.Listen {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", addr)
		switch {
		case err == nil:
			out = append(out, ok("%s is free for the server", addr))
			_ = l.Close()
		case errors.Is(err, syscall.EADDRINUSE):
			out = append(out, bad("choose another port in holdfast.conf (listen), or stop that program: ss -ltnp", "%s is taken by another program", addr))
		case errors.Is(err, syscall.EACCES):
			out = append(out, warn("the systemd unit in contrib has the capability for it; by hand use a port from 1024 on", "this user may not listen on %s", addr))
		default:
			out = append(out, bad("is that address one of this machine?", "%s: %v", addr, err))
		}
	}
	if len(out) == 0 {
		return []Finding{bad("set listen in holdfast.conf", "no address to listen on")}
	}
	return out
}

// alive asks one listener whether it answers. Its certificate is not looked at here.
func (p *patient) alive(ctx context.Context, base string) Finding {
	u, err := url.Parse(base)
	if err != nil {
		return bad("", "%s is no URL", base)
	}
	if a, err := net.ResolveTCPAddr("tcp", u.Host); err == nil && a.IP.IsUnspecified() {
		u.Host = net.JoinHostPort("localhost", fmt.Sprint(a.Port))
	}
	c := newClient(&tls.Config{InsecureSkipVerify: true, ServerName: p.publicHost()}) //nolint:gosec // only: does it answer?
	res, body, err := get(ctx, c, u.String()+"healthz")
	switch {
	case err != nil && p.settings.PlainHTTPFromProxy:
		return ok("%s serves its trusted proxies only", base)
	case err != nil:
		return bad("is it overloaded (max_connections)? Look at the server's log", "the server does not answer on %s: %v", base, err)
	case res.StatusCode != http.StatusOK || body != "alive\n":
		return bad("ss -ltnp shows which program has the port", "something else answers on %s (%s)", base, res.Status)
	}
	return ok("%s answers", base)
}

// publicOrigin is what the running server was told, or what the settings say.
func (p *patient) publicOrigin() string {
	if p.status != nil && p.status.PublicURL != "" {
		return p.status.PublicURL
	}
	return p.settings.PublicURL
}

func (p *patient) publicHost() string {
	if u, err := url.Parse(p.publicOrigin()); err == nil {
		return u.Hostname()
	}
	return ""
}

const maxBody = 64 << 10

// newClient follows no redirects.
func newClient(c *tls.Config) *http.Client {
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{TLSClientConfig: c, DisableKeepAlives: true, MaxResponseHeaderBytes: maxBody},
	}
}

func get(ctx context.Context, c *http.Client, target string) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, "", err
	}
	return send(c, req)
}

func send(c *http.Client, req *http.Request) (*http.Response, string, error) {
	res, err := c.Do(req)
	if err != nil {
		if ue := (*url.Error)(nil); errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxBody))
	return res, string(b), err
}

const (
	soonExpired = 14 * 24 * time.Hour
	acmeExpired = 7 * 24 * time.Hour // it should have been renewed long before
)

// certificate looks at the certificate in files, or at those that ACME got.
func (p *patient) certificate(context.Context) []Finding {
	c := p.settings
	switch {
	case c.TLSCert != "":
		if err := server.CheckTLS(p.Dir, c); err != nil {
			return []Finding{bad("make tls_cert and tls_key name a certificate and its key", "%v", err)}
		}
		return p.expiry(server.Below(p.Dir, c.TLSCert), soonExpired, "renew it; the server reads the file again by itself", p.publicHost())
	case len(c.ACMEDomains) > 0:
		var out []Finding
		for _, d := range c.ACMEDomains {
			found, _ := filepath.Glob(filepath.Join(p.Dir, "run/acme/certificates/*", d, d+".crt")) // the pattern is right
			if len(found) == 0 {
				out = append(out, warn("start the server; port 443 of that name must lead to a listen address of it", "there is no certificate for %s yet", d))
				continue
			}
			out = append(out, p.expiry(found[0], acmeExpired, "it is renewed a month before; is port 443 of that name still led here? Look at the server's log", d)...)
		}
		return out
	case c.PublicURL != "":
		return []Finding{ok("none here: the proxy before public_url has it")}
	}
	return []Finding{ok("none: plain HTTP for programs on this machine only")}
}

// expiry looks at the first certificate of a PEM file.
func (p *patient) expiry(file string, soon time.Duration, todo, host string) []Finding {
	b, err := os.ReadFile(file)
	if err != nil {
		return []Finding{bad("", "%v", err)}
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return []Finding{bad("", "%s holds no certificate", file)}
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return []Finding{bad("", "%s: %v", file, err)}
	}
	day := func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
	var out []Finding
	switch left := cert.NotAfter.Sub(p.Now()); {
	case left <= 0:
		out = append(out, bad(todo, "the certificate in %s ended on %s: phones refuse to connect", file, day(cert.NotAfter)))
	case p.Now().Before(cert.NotBefore):
		out = append(out, bad("is the clock right?", "the certificate in %s begins on %s only", file, day(cert.NotBefore)))
	case left < soon:
		out = append(out, warn(todo, "the certificate in %s ends on %s, in %d days", file, day(cert.NotAfter), int(left.Hours()/24)))
	default:
		out = append(out, ok("%s is good until %s", file, day(cert.NotAfter)))
	}
	if host != "" && cert.VerifyHostname(host) != nil {
		out = append(out, bad("get a certificate for that name, or correct public_url", "the certificate in %s is not for %s (it is for %s)", file, host, strings.Join(cert.DNSNames, ", ")))
	}
	return out
}

// publicURL looks at the server from where clients do: whether it is reached, and what a proxy makes of
// requests and answers.
func (p *patient) publicURL(ctx context.Context) []Finding {
	base := p.publicOrigin()
	if base == "" {
		for _, l := range p.settings.Listen {
			if !config.Loopback(l) {
				return []Finding{warn("set public_url = https://NAME in holdfast.conf", "not set: how clients reach the server is not known, so it cannot be tried")}
			}
		}
		return []Finding{warn("set tls_cert or acme_domain, or put a proxy before it and set public_url: docs/runbooks/reverse-proxy.md", "not set, and the server listens on this machine only: no phone reaches it")}
	}
	c := newClient(nil)
	var out []Finding
	if !strings.HasPrefix(base, "https://") && !loopback(base) {
		out = append(out, warn("use https", "%s is not encrypted: passwords can be read on the way", base))
	}
	if p.conn == nil {
		return append(out, ok("%s is tried while the server runs", base))
	}
	res, body, err := get(ctx, c, base+"/healthz")
	switch {
	case err != nil:
		return append(out, bad("does the name lead to this machine, is the proxy running, is its certificate valid? A router may only not lead back from inside: then try from a phone on mobile data", "%s cannot be reached from here: %v", base, err))
	case res.StatusCode != http.StatusOK || body != "alive\n":
		return append(out, bad("docs/runbooks/reverse-proxy.md", "%s/healthz answered %s, not this server's answer: something else is there", base, res.Status))
	}
	out = append(out, ok("%s leads to a Holdfast server", base))
	out = append(out, wellKnown(ctx, c, base)...)
	return append(out, p.throughProxy(ctx, c, base)...)
}

// wellKnown tries how phones find their address book (RFC 6764, 5).
func wellKnown(ctx context.Context, c *http.Client, base string) []Finding {
	res, _, err := get(ctx, c, base+"/.well-known/carddav")
	if err != nil {
		return []Finding{bad("docs/runbooks/reverse-proxy.md", "%s/.well-known/carddav: %v", base, err)}
	}
	to := strings.TrimPrefix(res.Header.Get("Location"), base)
	switch {
	case res.StatusCode == http.StatusServiceUnavailable:
		return []Finding{ok("%s/.well-known/carddav: waits while the fence is closed", base)}
	case res.StatusCode/100 == 3 && strings.HasPrefix(to, dav.Base):
		return []Finding{ok("%s/.well-known/carddav leads to %s", base, to)}
	}
	return []Finding{bad("the proxy must pass /.well-known/ on: docs/runbooks/reverse-proxy.md", "%s/.well-known/carddav answered %s: phones do not find contacts and calendars by the server's name alone", base, res.Status)}
}

// throughProxy sends a probe that the server knows, and compares what was sent with what arrived.
func (p *patient) throughProxy(ctx context.Context, c *http.Client, base string) []Finding {
	var probe server.ProbeSeen
	if err := p.conn.Call(ctx, "probe/begin", server.Nothing{}, &probe); err != nil {
		return []Finding{warn("restart the server with this program", "the running server cannot be probed: %v", err)}
	}
	req, err := http.NewRequestWithContext(ctx, "PROPFIND", base+server.ProbePath, strings.NewReader("<x/>"))
	if err != nil {
		return []Finding{bad("", "%v", err)}
	}
	req.Header.Set(server.ProbeHeader, probe.Nonce)
	req.SetBasicAuth("doctor", "no password")
	res, body, err := send(c, req)
	if err != nil {
		return []Finding{bad("docs/runbooks/reverse-proxy.md", "a PROPFIND through %s: %v", base, err)}
	}
	var seen server.ProbeSeen
	if err := p.conn.Call(ctx, "probe/end", server.ProbeRequest{Nonce: probe.Nonce}, &seen); err != nil {
		return []Finding{warn("run doctor again", "%v", err)}
	}
	return judgeProbe(p.settings, base, &seen, res, body)
}

// loopback reports whether an origin leads to this machine by its name, so that no proxy is expected.
func loopback(origin string) bool {
	u, err := url.Parse(origin)
	return err == nil && config.Loopback(net.JoinHostPort(u.Hostname(), "0"))
}

const proxyTodo = "docs/runbooks/reverse-proxy.md has a configuration that does it"

func judgeProbe(c *config.Config, base string, seen *server.ProbeSeen, res *http.Response, body string) []Finding {
	if !seen.Arrived {
		return []Finding{bad("does it lead to another server? Does the proxy pass PROPFIND and every header on? "+proxyTodo, "a PROPFIND sent to %s did not arrive at this server (%s)", base, res.Status)}
	}
	var out []Finding
	say := func(wrong bool, format string, args ...any) {
		if wrong {
			out = append(out, bad(proxyTodo, format, args...))
		}
	}
	say(res.StatusCode != http.StatusServiceUnavailable || body != server.ProbeBody || res.Header.Get("Retry-After") == "",
		"the proxy does not hand on the server's 503 as it is (%s): phones that see another answer may delete what they have", res.Status)
	say(seen.URI != server.ProbePath, "the proxy changes paths: %s arrived as %q", server.ProbePath, seen.URI)
	say(!seen.Authorization, "the proxy keeps the Authorization header: no device can log in")
	host := strings.TrimPrefix(strings.TrimPrefix(base, "https://"), "http://")
	say(!strings.EqualFold(seen.Host, host), "the proxy changes the Host header to %q: moving and copying files fails", seen.Host)
	if seen.Forwarded && !seen.Trusted {
		out = append(out, warn("set trusted_proxy to the proxy's address, then restart the server", "a proxy passes requests on, but is no trusted_proxy: wrong passwords of one device slow all devices down"))
	}
	if !seen.Forwarded && !seen.TLS && !loopback(base) {
		out = append(out, warn(proxyTodo, "the proxy does not say for whom it asks (X-Forwarded-For): wrong passwords of one device slow all devices down"))
	}
	if len(out) == 0 {
		return []Finding{ok("requests and answers pass unchanged, a 503 too")}
	}
	return out
}
