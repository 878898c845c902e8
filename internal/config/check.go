package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"

	"holdfast"
)

// Check says what is wrong in the settings taken together: nil, or joined LineErrors that wrap
// holdfast.ErrInvalid, or holdfast.ErrDenied for what would be unsafe.
func (c *Config) Check() error {
	var errs []error
	bad := func(kind error, format string, args ...any) {
		errs = append(errs, &LineError{0, fmt.Errorf(format+": %w", append(args, kind)...)})
	}
	if c.ServerID == (holdfast.ServerID{}) {
		bad(holdfast.ErrInvalid, "server_id is missing; holdfast init made one, and the marker file in each mirror still has it")
	}
	if len(c.Mirrors) == 0 {
		bad(holdfast.ErrInvalid, "mirror is missing: without a second copy nothing may be acknowledged; add a line `mirror = NAME PATH`")
	}
	for i, m := range c.Mirrors {
		for _, o := range c.Mirrors[:i] {
			if m.Name == o.Name {
				bad(holdfast.ErrInvalid, "two mirrors are called %s", m.Name)
			}
			if Inside(m.Path, o.Path) || Inside(o.Path, m.Path) {
				bad(holdfast.ErrDenied, "mirror %s lies inside mirror %s: that is one copy, not two", m.Name, o.Name)
			}
		}
	}
	for _, m := range c.Mirrors {
		if c.Witness != "" && (Inside(m.Path, c.Witness) || Inside(c.Witness, m.Path)) {
			bad(holdfast.ErrDenied, "the witness lies inside mirror %s or around it: that is no third place", m.Name)
		}
	}
	if c.Copies > len(c.Mirrors) && len(c.Mirrors) > 0 {
		bad(holdfast.ErrInvalid, "copies = %d, but there are %d mirrors", c.Copies, len(c.Mirrors))
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		bad(holdfast.ErrInvalid, "tls_cert and tls_key belong together")
	}
	if c.TLSCert != "" && len(c.ACMEDomains) > 0 {
		bad(holdfast.ErrInvalid, "tls_cert and acme_domain exclude each other")
	}
	if len(c.Listen) == 0 {
		bad(holdfast.ErrInvalid, "listen is missing")
	}
	if c.PlainHTTPFromProxy && len(c.TrustedProxies) == 0 {
		bad(holdfast.ErrDenied, "plain_http_from_proxy needs trusted_proxy: name the proxy that may speak without TLS")
	}
	for _, l := range c.Listen {
		if !Loopback(l) && !c.TLS() && !c.PlainHTTPFromProxy {
			bad(holdfast.ErrDenied, "listen = %s would send passwords over the network unencrypted: set tls_cert and tls_key, or acme_domain, or listen on 127.0.0.1 behind a reverse proxy, or see plain_http_from_proxy", l)
		}
	}
	c.Watch.check(bad)
	return errors.Join(errs...)
}

// TLS reports whether the server speaks TLS on its listen addresses.
func (c *Config) TLS() bool { return c.TLSCert != "" || len(c.ACMEDomains) > 0 }

// Loopback reports whether a listen address can be reached from this machine only.
func Loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// Inside reports whether path is dir or lies below it. Both are absolute and free of links.
func Inside(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
