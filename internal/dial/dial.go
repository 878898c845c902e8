// Package dial is the one way to targets that a user chose: the push service of a phone. Whoever may
// name a target could otherwise make this server speak to what only this server can reach.
//
// Invariant: a connection is made to an address on the public Internet, or to one that the operator
// allowed, and to nothing else. What is judged is the address that is connected to, after names were
// resolved, at each connection of each redirect, so a name that leads elsewhere the next time gains nothing.
package dial

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"holdfast"
)

// Allow is a network that the operator lets users reach although it is not public, and at which port.
type Allow struct {
	Network netip.Prefix
	Port    uint16 // 0: 80 and 443
}

// Policy says what may be reached.
type Policy struct {
	Allow []Allow
	// Own reports an address that this server listens on: it is never reached, whatever is allowed. nil: none.
	Own func(netip.AddrPort) bool

	Resolver *net.Resolver // nil: the system's
	TLS      *tls.Config   // nil: the system's certificate authorities; tests have their own
	Redirect int           // how many are followed; 0: none, the redirect is the answer

	Timeout time.Duration // of a request with its answer; 0: 30 s
	MaxBody int64         // bytes of an answer's body that can be read; 0: 64 KiB
}

// RefusedError is a target that may not be reached. It wraps holdfast.ErrDenied.
type RefusedError struct {
	Target string
	Why    string
}

func (e *RefusedError) Error() string { return fmt.Sprintf("%s: %s", e.Target, e.Why) }

// Unwrap returns ErrDenied.
func (e *RefusedError) Unwrap() error { return holdfast.ErrDenied }

// Client sends requests under a policy.
type Client struct {
	policy Policy
	http   *http.Client
}

// Bounds of a connection.
const (
	connectTimeout = 10 * time.Second
	maxHeader      = 16 << 10
	maxIdle        = 64 // connections kept
	maxURL         = 2048
)

// New makes a client. Proxies of the environment are not used: they would do the resolving.
func New(p Policy) *Client {
	p.Timeout, p.MaxBody = cmp.Or(p.Timeout, 30*time.Second), cmp.Or(p.MaxBody, 64<<10)
	d := &net.Dialer{Timeout: min(connectTimeout, p.Timeout), Resolver: p.Resolver, Control: func(network, address string, _ syscall.RawConn) error {
		return p.checkConnection(network, address)
	}}
	t := &http.Transport{
		DialContext: d.DialContext, TLSClientConfig: p.TLS, TLSHandshakeTimeout: min(connectTimeout, p.Timeout), ForceAttemptHTTP2: true,
		ResponseHeaderTimeout: p.Timeout, MaxResponseHeaderBytes: maxHeader, DisableCompression: true,
		MaxIdleConns: maxIdle, MaxIdleConnsPerHost: 2, MaxConnsPerHost: 8, IdleConnTimeout: time.Minute,
	}
	c := &Client{policy: p}
	c.http = &http.Client{Transport: t, Timeout: p.Timeout, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > p.Redirect {
			return http.ErrUseLastResponse
		}
		return p.CheckURL(r.URL.String())
	}}
	return c
}

// Do sends a request. The answer's body ends after Policy.MaxBody bytes.
func (c *Client) Do(r *http.Request) (*http.Response, error) {
	if err := c.policy.CheckURL(r.URL.String()); err != nil {
		return nil, err
	}
	res, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	res.Body = &boundedBody{io.LimitReader(res.Body, c.policy.MaxBody), res.Body}
	return res, nil
}

type boundedBody struct {
	io.Reader
	io.Closer
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// CheckURL says what is wrong with a URL before anything is resolved: then ErrDenied, it may never be
// reached, or ErrInvalid. It is no proof that the target may be reached: a connection is judged by its address.
func (p *Policy) CheckURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || len(s) > maxURL || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Opaque != "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("not a URL of the form https://HOST/PATH: %w", holdfast.ErrInvalid)
	}
	host, port := u.Hostname(), u.Port()
	if host == "" || strings.HasSuffix(u.Host, ":") || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '%' }) {
		return &RefusedError{s, "the host is neither a plain name nor an address"}
	}
	n := map[string]uint16{"https": 443, "http": 80}[u.Scheme]
	if port != "" {
		v, err := strconv.ParseUint(port, 10, 16)
		if err != nil || v == 0 {
			return &RefusedError{s, "the port is not a number from 1 to 65535"}
		}
		n = uint16(v)
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return p.checkName(u.Scheme, host, n)
	}
	if addr.Is4In6() {
		return &RefusedError{host, "an IPv4 address in the form of an IPv6 address"}
	}
	if u.Scheme == "http" && !p.allowed(netip.AddrPortFrom(addr, n)) {
		return &RefusedError{host, "https only"}
	}
	return p.check(netip.AddrPortFrom(addr, n))
}

// checkName judges what can be told from a name: only an allowed network may be spoken to in clear or at
// another port, and whether the name leads there is seen when it is connected to.
func (p *Policy) checkName(scheme, host string, port uint16) error {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" || strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") {
		return &RefusedError{host, "an address in a form of its own"} // as 127.1, 0x7f.1 and 2130706433
	}
	if host == "localhost" || last == "localhost" {
		return p.orSome(host, "this machine", port)
	}
	if scheme == "http" || port != 443 {
		return p.orSome(host, "https at port 443 only", port)
	}
	return nil
}

// orSome refuses, unless some network is allowed at that port.
func (p *Policy) orSome(target, why string, port uint16) error {
	for _, a := range p.Allow {
		if a.admits(port) {
			return nil
		}
	}
	return &RefusedError{target, why}
}

// checkConnection is asked by the dialer right before it connects.
func (p *Policy) checkConnection(network, address string) error {
	if network != "tcp4" && network != "tcp6" {
		return &RefusedError{address, "not TCP"}
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return &RefusedError{address, "not an address"}
	}
	return p.check(ap)
}

func (a Allow) admits(port uint16) bool {
	if a.Port == 0 {
		return port == 80 || port == 443
	}
	return a.Port == port
}

func (p *Policy) allowed(ap netip.AddrPort) bool {
	for _, a := range p.Allow {
		if a.Network.Contains(ap.Addr().Unmap()) && a.admits(ap.Port()) {
			return true
		}
	}
	return false
}

// check judges an address.
func (p *Policy) check(ap netip.AddrPort) error {
	a := ap.Addr().Unmap()
	ap = netip.AddrPortFrom(a, ap.Port())
	refuse := func(why string) error { return &RefusedError{ap.String(), why} }
	switch {
	case a.Zone() != "":
		return refuse("an address of one link")
	case p.Own != nil && p.Own(ap):
		return refuse("this server itself")
	case p.allowed(ap):
		return nil
	case ap.Port() != 443:
		return refuse("a port other than 443")
	}
	if why := notPublic(a); why != "" {
		return refuse(why)
	}
	if OfThisMachine(a) {
		return refuse("an address of this machine")
	}
	return nil
}

// special are the networks of the registries of special-purpose addresses (RFC 6890) that are not public,
// and those that carry an address of IPv4 inside.
var special = []struct {
	network netip.Prefix
	why     string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "an address of this network"},
	{netip.MustParsePrefix("100.64.0.0/10"), "an address behind a carrier's translation"}, // RFC 6598
	{netip.MustParsePrefix("192.0.0.0/24"), "an address for protocols"},
	{netip.MustParsePrefix("192.0.2.0/24"), "an address for documentation"},
	{netip.MustParsePrefix("192.88.99.0/24"), "a relay"},
	{netip.MustParsePrefix("198.18.0.0/15"), "an address for measurements"},
	{netip.MustParsePrefix("198.51.100.0/24"), "an address for documentation"},
	{netip.MustParsePrefix("203.0.113.0/24"), "an address for documentation"},
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved address"},
	{netip.MustParsePrefix("64:ff9b::/96"), "an IPv4 address in the form of an IPv6 address"}, // NAT64, RFC 6052
	{netip.MustParsePrefix("64:ff9b:1::/48"), "an IPv4 address in the form of an IPv6 address"},
	{netip.MustParsePrefix("2002::/16"), "an IPv4 address in the form of an IPv6 address"}, // 6to4
	{netip.MustParsePrefix("2001::/32"), "an IPv4 address in the form of an IPv6 address"}, // Teredo
	{netip.MustParsePrefix("2001::/23"), "an address for protocols"},
	{netip.MustParsePrefix("2001:db8::/32"), "an address for documentation"},
	{netip.MustParsePrefix("3fff::/20"), "an address for documentation"},
}

// public6 is all of IPv6 that was given out so far.
var public6 = netip.MustParsePrefix("2000::/3")

// notPublic says why an address is not one of the public Internet; empty: it is.
func notPublic(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "not an address"
	case a.IsUnspecified():
		return "an address of this network"
	case a.IsLoopback():
		return "this machine"
	case a.IsMulticast():
		return "many machines"
	case a.IsLinkLocalUnicast():
		return "an address of one link"
	case a.IsPrivate():
		return "a private address"
	}
	for _, s := range special {
		if s.network.Contains(a) {
			return s.why
		}
	}
	if a.Is6() && !public6.Contains(a) {
		return "not a public address"
	}
	return ""
}

// OfThisMachine reports whether an address is loopback or one of an interface; if that cannot be found out it is.
func OfThisMachine(a netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	if err != nil || a.IsLoopback() {
		return true
	}
	for _, o := range all {
		if n, ok := o.(*net.IPNet); ok {
			if own, ok := netip.AddrFromSlice(n.IP); ok && own.Unmap() == a {
				return true
			}
		}
	}
	return false
}

// Refused reports whether an error says that a target may not be reached, now or ever.
func Refused(err error) bool {
	return errors.Is(err, holdfast.ErrDenied) || errors.Is(err, holdfast.ErrInvalid)
}

// Gone reports whether a name of the target does not exist.
func Gone(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}
