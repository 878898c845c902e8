package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/dav"
)

// DeviceOptions say which device to be.
type DeviceOptions struct {
	Origin         string // scheme, host and port
	Name, Password string // without a password only what comes before the login is tried
	Domain         string // look for SRV and TXT records there; empty: do not

	Patience time.Duration  // for all of it; 0 = 1 min
	Roots    *x509.CertPool // tests: who vouches for certificates; nil = the system's
}

// device is one that connects for the first time, as DAVx5 and iOS do (RFC 6764, 6): well-known address,
// principal, homes, collections, and the first page of a sync. It changes nothing.
type device struct {
	DeviceOptions
	http  *http.Client
	found []Finding
}

const proxyPage = "docs/runbooks/reverse-proxy.md has a configuration that passes everything on"

// AsDevice does what a device does and returns what came of each step, up to one without which no device goes on.
func AsDevice(ctx context.Context, o DeviceOptions) []Finding {
	if o.Patience == 0 {
		o.Patience = time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, o.Patience)
	defer cancel()
	d := &device{DeviceOptions: o, http: newClient(&tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12})}
	if o.Domain != "" {
		d.records(ctx)
	}
	_ = d.reach(ctx) && d.wellKnown(ctx, "carddav") && d.wellKnown(ctx, "caldav") && d.challenge(ctx) && o.Password != "" && d.behindLogin(ctx)
	return d.found
}

// note keeps a finding and reports whether a device would go on after it.
func (d *device) note(check string, f Finding) bool {
	f.Check = check
	d.found = append(d.found, f)
	return f.Level != Problem
}

// reach finds the machine and looks at its certificate.
func (d *device) reach(ctx context.Context) bool {
	res, body, err := get(ctx, d.http, d.Origin+"/healthz")
	if err != nil {
		return d.note("connection", d.unreachable(err))
	}
	if res.StatusCode != http.StatusOK || body != "alive\n" {
		return d.note("connection", bad("does the name lead to another machine or program? "+proxyPage, "%s is not answered by a Holdfast server (%s)", d.Origin, res.Status))
	}
	if res.TLS == nil {
		if loopback(d.Origin) {
			return d.note("connection", warn("for other devices set public_url to an https address", "%s answers; only programs on this machine reach it, and phones refuse http", d.Origin))
		}
		return d.note("connection", bad("get a certificate (acme_domain, or a proxy that has one) and set public_url to the https address", "%s is not encrypted: phones refuse it, and passwords could be read on the way", d.Origin))
	}
	end := res.TLS.PeerCertificates[0].NotAfter
	if left := time.Until(end); left < soonExpired {
		return d.note("connection", warn("renew it now", "the certificate ends on %s; from then on devices refuse to connect", end.UTC().Format("2006-01-02")))
	}
	return d.note("connection", ok("%s answers, and its certificate is good until %s", d.Origin, end.UTC().Format("2006-01-02")))
}

// unreachable says in plain words why there was no answer.
func (d *device) unreachable(err error) Finding {
	u, uerr := url.Parse(d.Origin)
	if uerr != nil {
		return bad("", "%s is no address", d.Origin)
	}
	host := u.Hostname()
	if dns, is := errors.AsType[*net.DNSError](err); is {
		if dns.IsNotFound {
			return bad("publish an A or AAAA record for it, or correct public_url", "the name %s leads nowhere (no address in the DNS)", host)
		}
		return bad("look at this machine's resolver", "the DNS could not be asked for %s: %v", host, err)
	}
	if wrong, is := errors.AsType[x509.HostnameError](err); is {
		return bad("get a certificate for that name, or use the name it is for", "the certificate is for %s, not for %s: devices refuse it", strings.Join(wrong.Certificate.DNSNames, ", "), host)
	}
	if old, is := errors.AsType[x509.CertificateInvalidError](err); is && old.Reason == x509.Expired {
		return bad("renew it; is this machine's clock right?", "the certificate has ended (or not begun): devices refuse it")
	}
	if _, is := errors.AsType[x509.UnknownAuthorityError](err); is {
		return bad("use acme_domain, or send the whole chain: the certificate and those between it and the authority", "nobody whom devices trust vouches for the certificate of %s: they refuse it, or ask a question that nobody can answer", host)
	}
	if _, is := errors.AsType[tls.RecordHeaderError](err); is {
		return bad("set tls_cert or acme_domain, or correct the port", "%s does not speak TLS", d.Origin)
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return bad("is it running? Is the port forwarded to it?", "nothing listens on %s", u.Host)
	case errors.Is(err, context.DeadlineExceeded):
		return bad("does the firewall or the router let that port in? A router may only not lead back from inside: then try from a phone on mobile data", "%s does not answer in time", d.Origin)
	}
	return bad("", "%s cannot be reached: %v", d.Origin, err)
}

// wellKnown is how a device finds the server's part for it from the name alone (RFC 6764, 5).
func (d *device) wellKnown(ctx context.Context, service string) bool {
	check, at := service+" address", d.Origin+"/.well-known/"+service
	a, err := d.ask(ctx, "PROPFIND", at, propPrincipal, "0")
	if err != nil {
		return d.note(check, bad(proxyPage, "%s: %v", at, err))
	}
	to, err := a.url.Parse(a.header.Get("Location"))
	switch {
	case a.status == http.StatusServiceUnavailable:
		return d.waits(check)
	case a.status == http.StatusMethodNotAllowed, a.status == http.StatusNotImplemented:
		return d.note(check, bad("the proxy must pass the methods of WebDAV on (PROPFIND, REPORT, MKCOL ...): "+proxyPage, "%s refuses PROPFIND (%d)", at, a.status))
	case a.status/100 != 3 || err != nil:
		return d.note(check, bad("the proxy must pass /.well-known/ on: "+proxyPage, "%s answers %d, not where to look: devices do not find anything by the server's name alone", at, a.status))
	case to.Scheme != a.url.Scheme:
		return d.note(check, bad("the proxy must not change the Location header: "+proxyPage, "%s leads from %s to %s: devices refuse that", at, a.url.Scheme, to.Scheme))
	case !strings.HasPrefix(to.Path, dav.Base) || to.Host != a.url.Host:
		return d.note(check, bad(proxyPage, "%s leads to %s, which is not this server's %s", at, to, dav.Base))
	}
	return d.note(check, ok("%s leads to %s", at, to))
}

// waits is what a closed fence looks like.
func (d *device) waits(check string) bool {
	return d.note(check, bad("holdfast fence status; then try again", "the server says wait (503): its fence is closed, or an account's. Devices keep what they have and try again"))
}

// challenge: without a password the server asks for one, in the one way that all devices know.
func (d *device) challenge(ctx context.Context) bool {
	anonymous := *d
	anonymous.Name = ""
	a, err := anonymous.ask(ctx, "PROPFIND", d.Origin+dav.Base, propPrincipal, "0")
	switch {
	case err != nil:
		return d.note("login", bad(proxyPage, "PROPFIND %s: %v", dav.Base, err))
	case a.status == http.StatusServiceUnavailable:
		return d.waits("login")
	case a.status != http.StatusUnauthorized || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic"):
		return d.note("login", bad("a proxy must not have a login of its own, nor take the header WWW-Authenticate away: "+proxyPage, "PROPFIND %s without a password answers %d, and not 401 with a question for it", dav.Base, a.status))
	}
	return d.note("login", ok("name and password are asked for"))
}

// behindLogin is the part that needs a password.
func (d *device) behindLogin(ctx context.Context) bool {
	a, err := d.ask(ctx, "PROPFIND", d.Origin+dav.Base, propPrincipal, "0")
	switch {
	case err != nil:
		return d.note("account", bad(proxyPage, "PROPFIND %s: %v", dav.Base, err))
	case a.status == http.StatusServiceUnavailable:
		return d.waits("account")
	case a.status == http.StatusUnauthorized:
		return d.note("account", bad("make an app password: holdfast device add "+d.Name+" NAME. If it is right the proxy keeps the header Authorization: "+proxyPage, "the password of %s is not taken (401)", d.Name))
	case a.status == http.StatusTooManyRequests:
		return d.note("account", bad("wait some minutes. If you have not tried wrong passwords the proxy is no trusted_proxy, and somebody else has", "too many wrong passwords have come from here (429)"))
	}
	principal := a.href(func(p *deviceProp) string { return p.Principal.Href })
	if principal == "" {
		return d.note("account", bad(proxyPage, "the server does not say who %s is (%d)", d.Name, a.status))
	}
	a, err = d.ask(ctx, "PROPFIND", principal, propHomes, "0")
	if err != nil || a.status != http.StatusMultiStatus {
		return d.note("account", d.failed("PROPFIND", principal, a, err))
	}
	books, calendars := a.href(func(p *deviceProp) string { return p.Books.Href }), a.href(func(p *deviceProp) string { return p.Calendars.Href })
	if books == "" || calendars == "" {
		return d.note("account", bad(proxyPage, "the account has no place for contacts or for calendars in %s", principal))
	}
	d.note("account", ok("%s is known, and has a place for contacts and for calendars", d.Name))
	return d.collections(ctx, books, calendars)
}

// collections lists what is there, and syncs the first of each kind as a new device does.
func (d *device) collections(ctx context.Context, homes ...string) bool {
	var first [2]string
	var n [2]int
	for _, home := range homes {
		a, err := d.ask(ctx, "PROPFIND", home, propCollections, "1")
		if err != nil || a.status != http.StatusMultiStatus {
			return d.note("collections", d.failed("PROPFIND", home, a, err))
		}
		n = [2]int{}
		for i := range a.multi.Responses {
			r := &a.multi.Responses[i]
			for kind, is := range [2]bool{r.has(func(p *deviceProp) bool { return p.Type.Book != nil }), r.has(func(p *deviceProp) bool { return p.Type.Calendar != nil })} {
				if is {
					n[kind]++
					if u, err := a.url.Parse(r.Href); err == nil && first[kind] == "" {
						first[kind] = u.String()
					}
				}
			}
		}
	}
	if n[0] == 0 || n[1] == 0 {
		return d.note("collections", warn("devices make one, or show an empty account", "%d address books, %d calendars", n[0], n[1]))
	}
	d.note("collections", ok("address books: %d; calendars and task lists: %d", n[0], n[1]))
	for _, u := range first {
		a, err := d.ask(ctx, "REPORT", u, syncEmpty, "0")
		if err != nil || a.status != http.StatusMultiStatus {
			return d.note("sync", d.failed("REPORT", u, a, err))
		}
		if a.multi.Token == "" {
			return d.note("sync", bad(proxyPage, "a sync of %s ends without a token: something on the way changed the answer", u))
		}
	}
	return d.note("sync", ok("contacts and a calendar are synchronized as on a new device"))
}

// failed says what came instead of an answer.
func (d *device) failed(method, at string, a *deviceAnswer, err error) Finding {
	switch {
	case err != nil:
		return bad(proxyPage, "%s %s: %v", method, at, err)
	case a.status == http.StatusServiceUnavailable:
		return bad("holdfast fence status; then try again", "the server says wait (503) for %s", at)
	case a.status == http.StatusMethodNotAllowed, a.status == http.StatusNotImplemented:
		return bad("the proxy must pass the methods of WebDAV on: "+proxyPage, "%s is refused (%d)", method, a.status)
	}
	return bad(proxyPage, "%s %s answers %d", method, at, a.status)
}

// records looks for what programs find by the domain behind the @ (RFC 6764, 3).
func (d *device) records(ctx context.Context) {
	u, err := url.Parse(d.Origin)
	if err != nil || u.Scheme != "https" {
		d.note("records", warn("set public_url to an https address", "records in the DNS make sense for https only"))
		return
	}
	for _, service := range []string{"carddavs", "caldavs"} {
		name := "_" + service + "._tcp." + d.Domain
		_, found, err := net.DefaultResolver.LookupSRV(ctx, service, "tcp", d.Domain)
		dns, isDNS := errors.AsType[*net.DNSError](err)
		switch {
		case isDNS && dns.IsNotFound, err == nil && len(found) == 0:
			d.note("records", warn("publish what holdfast client-setup --records --domain "+d.Domain+" prints; or let people enter the server's own name", "there is no %s: programs that are given an address @%s do not find the server", name, d.Domain))
		case err != nil:
			d.note("records", warn("look at this machine's resolver", "%s: %v", name, err))
		case strings.TrimSuffix(found[0].Target, ".") != u.Hostname() || fmt.Sprint(found[0].Port) != portOf(u):
			d.note("records", bad("publish what holdfast client-setup --records --domain "+d.Domain+" prints", "%s leads to %s:%d, not to %s", name, strings.TrimSuffix(found[0].Target, "."), found[0].Port, u.Host))
		default:
			d.note("records", ok("%s leads to this server", name))
		}
	}
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return "443"
}

const (
	propPrincipal   = `<propfind xmlns="DAV:"><prop><current-user-principal/></prop></propfind>`
	propHomes       = `<propfind xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav" xmlns:A="urn:ietf:params:xml:ns:carddav"><prop><C:calendar-home-set/><A:addressbook-home-set/></prop></propfind>`
	propCollections = `<propfind xmlns="DAV:"><prop><resourcetype/><displayname/></prop></propfind>`
	syncEmpty       = `<sync-collection xmlns="DAV:"><sync-token/><sync-level>1</sync-level><limit><nresults>10</nresults></limit><prop><getetag/></prop></sync-collection>`
)

type deviceHref struct {
	Href string `xml:"DAV: href"`
}

// deviceProp are the properties that are looked at.
type deviceProp struct {
	Principal deviceHref `xml:"DAV: current-user-principal"`
	Books     deviceHref `xml:"urn:ietf:params:xml:ns:carddav addressbook-home-set"`
	Calendars deviceHref `xml:"urn:ietf:params:xml:ns:caldav calendar-home-set"`
	Type      struct {
		Book     *struct{} `xml:"urn:ietf:params:xml:ns:carddav addressbook"`
		Calendar *struct{} `xml:"urn:ietf:params:xml:ns:caldav calendar"`
	} `xml:"DAV: resourcetype"`
}

type deviceResponse struct {
	Href  string       `xml:"DAV: href"`
	Props []deviceProp `xml:"DAV: propstat>prop"`
}

func (r *deviceResponse) has(test func(*deviceProp) bool) bool {
	for i := range r.Props {
		if test(&r.Props[i]) {
			return true
		}
	}
	return false
}

type deviceAnswer struct {
	status int
	header http.Header
	url    *url.URL
	multi  struct {
		Responses []deviceResponse `xml:"DAV: response"`
		Token     string           `xml:"DAV: sync-token"`
	}
}

// href returns the first address that pick finds in a property, as an absolute one.
func (a *deviceAnswer) href(pick func(*deviceProp) string) string {
	for i := range a.multi.Responses {
		for j := range a.multi.Responses[i].Props {
			if h := strings.TrimSpace(pick(&a.multi.Responses[i].Props[j])); h != "" {
				if u, err := a.url.Parse(h); err == nil {
					return u.String()
				}
			}
		}
	}
	return ""
}

// ask sends one request, with the password if there is one, and reads what a 207 says.
func (d *device) ask(ctx context.Context, method, at, body, depth string) (*deviceAnswer, error) {
	req, err := http.NewRequestWithContext(ctx, method, at, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/xml; charset=utf-8")
	req.Header.Set("Depth", depth)
	if own, err := url.Parse(d.Origin); err == nil && d.Name != "" && d.Password != "" && req.URL.Host == own.Host && req.URL.Scheme == own.Scheme {
		req.SetBasicAuth(d.Name, d.Password) // to nobody else, wherever an answer leads
	}
	res, err := d.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	a := &deviceAnswer{status: res.StatusCode, header: res.Header, url: req.URL}
	if res.StatusCode != http.StatusMultiStatus {
		return a, nil
	}
	if err := xml.NewDecoder(io.LimitReader(res.Body, 16*maxBody)).Decode(&a.multi); err != nil {
		return nil, fmt.Errorf("the answer is not what the server sent: %w", err)
	}
	return a, nil
}
