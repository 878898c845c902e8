package setup

import (
	"fmt"
	"strings"

	"holdfast"
	"holdfast/internal/dav"
)

// Records returns what to publish in the zone of a domain, so that programs find the server by the part of a
// person's address behind the @ (RFC 6764, 3 and 4; a target of "." says that there is no such service).
func (f Facts) Records(domain string) (string, error) {
	domain = strings.ToLower(strings.Trim(domain, "."))
	if domain == "" {
		domain = f.hostname()
	}
	if !isDomain(domain) || !isDomain(f.hostname()) {
		return "", fmt.Errorf("records are for names in the DNS, not for %q and %q: %w", domain, f.hostname(), holdfast.ErrInvalid)
	}
	there, away := "s", ""
	if !f.Secure() {
		there, away = "", "s"
	}
	var b strings.Builder
	for _, service := range []string{"carddav", "caldav"} {
		fmt.Fprintf(&b, "_%s%s._tcp.%s. 3600 IN SRV 0 1 %s %s.\n", service, there, domain, f.port(), f.hostname())
		fmt.Fprintf(&b, "_%s%s._tcp.%s. 3600 IN TXT \"path=%s\"\n", service, there, domain, dav.Base)
		fmt.Fprintf(&b, "_%s%s._tcp.%s. 3600 IN SRV 0 0 0 .\n", service, away, domain)
	}
	return b.String(), nil
}

// isDomain reports whether s is a name of letters, digits and hyphens with a dot in it, and no IP address.
func isDomain(s string) bool {
	labels := strings.Split(s, ".")
	if len(s) > 253 || len(labels) < 2 {
		return false
	}
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}
