package config

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast"
)

// key is one setting: how it is called, what it means, and how its text and its field in Config go together.
type key struct {
	name   string
	about  string // for the file and for `config describe`, wrapped by hand
	sample string // for a key that has no default: shown as a comment in a new file
	repeat bool
	clear  func(c *Config)
	set    func(c *Config, v string) error
	get    func(c *Config) []string // empty: not set
}

// text makes a key of a string field; check returns the value in its canonical form.
func text(name, about, sample string, field func(c *Config) *string, check func(v string) (string, error)) key {
	return key{
		name: name, about: about, sample: sample,
		clear: func(c *Config) { *field(c) = "" },
		set: func(c *Config, v string) (err error) {
			*field(c), err = check(v)
			return wrong(name, v, err)
		},
		get: func(c *Config) []string {
			if *field(c) == "" {
				return nil
			}
			return []string{*field(c)}
		},
	}
}

// list makes a repeatable key of a slice field.
func list[T any](name, about, sample string, field func(c *Config) *[]T, parse func(v string) (T, error), format func(T) string) key {
	return key{
		name: name, about: about, sample: sample, repeat: true,
		clear: func(c *Config) { *field(c) = nil },
		set: func(c *Config, v string) error {
			t, err := parse(v)
			if err == nil {
				*field(c) = append(*field(c), t)
			}
			return wrong(name, v, err)
		},
		get: func(c *Config) []string {
			var out []string
			for _, t := range *field(c) {
				out = append(out, format(t))
			}
			return out
		},
	}
}

// value makes a key of a field that always has a value.
func value[T any](name, about string, field func(c *Config) *T, parse func(v string) (T, error), format func(T) string) key {
	return key{
		name: name, about: about,
		clear: func(*Config) {},
		set: func(c *Config, v string) error {
			t, err := parse(v)
			if err == nil {
				*field(c) = t
			}
			return wrong(name, v, err)
		},
		get: func(c *Config) []string { return []string{format(*field(c))} },
	}
}

func wrong(name, v string, err error) error {
	if err == nil {
		return nil
	}
	hint := ""
	if strings.Contains(v, " #") || strings.Contains(v, "\t#") {
		hint = " (a comment stands on a line of its own)"
	}
	return fmt.Errorf("%s = %s: %w%s: %w", name, clip(v), err, hint, holdfast.ErrInvalid)
}

func same(s string) string { return s }

// keys in the order of the file. Never rename one: files in the field hold it.
var keys = slices.Concat(serverKeys, limitKeys, pushKeys, watchKeys)

var serverKeys = []key{
	{
		name:  "server_id",
		about: "Names this server for ever; holdfast init made it. A store or mirror with another\nserver id is refused. Never change it.",
		clear: func(c *Config) { c.ServerID = holdfast.ServerID{} },
		set: func(c *Config, v string) (err error) {
			c.ServerID, err = holdfast.ParseServerID(v)
			if err == nil && c.ServerID == (holdfast.ServerID{}) {
				err = fmt.Errorf("all zero")
			}
			return wrong("server_id", v, err)
		},
		get: func(c *Config) []string {
			if c.ServerID == (holdfast.ServerID{}) {
				return nil
			}
			return []string{c.ServerID.String()}
		},
	},
	list("mirror", "A name and the absolute path of a directory that gets a second copy of every change\nbefore the change is acknowledged. Put it on another disk than the data directory. May be\ngiven more than once. Change it with holdfast mirror add, replace and remove.",
		"usb /mnt/usb/holdfast-mirror", func(c *Config) *[]Mirror { return &c.Mirrors }, parseMirror,
		func(m Mirror) string { return m.Name + " " + m.Path }),
	text("witness", "The absolute path of a directory in a third place, neither on the disk of the data nor on\nthat of a mirror. A small record there is moved before each acknowledgement, so that\nstore and mirrors that were put back to an older state together are noticed. Make it\nwith: holdfast witness add.",
		"/mnt/nas/holdfast-witness", func(c *Config) *string { return &c.Witness }, checkAbsolute),
	value("policy", "What to do while a mirror is away. strict: devices wait with what they want to send.\ndegraded: it is acknowledged with fewer copies than configured, never with none.",
		func(c *Config) *string { return &c.Policy }, parsePolicy, same),
	value("copies", "How many mirrors must have a change before it is acknowledged: all, or a number. With\nfewer than all, as many may be away as still leave a majority and every change readable.",
		func(c *Config) *int { return &c.Copies }, parseCopies, formatCopies),
	value("mirror_timeout", "How long a step of a write waits for a mirror, or for the witness; 100ms to 10m. One that\nhas not answered by then counts as away until it does: see policy. Raise it for a disk\nthat is slow to wake up.",
		func(c *Config) *time.Duration { return &c.MirrorTimeout },
		func(v string) (time.Duration, error) { return duration(v, 100*time.Millisecond, 10*time.Minute) }, time.Duration.String),
	list("listen", "HOST:PORT to listen on; [HOST]:PORT for IPv6. Other than loopback addresses need TLS\n(tls_cert, acme_domain) or plain_http_from_proxy. May be given more than once.",
		"", func(c *Config) *[]string { return &c.Listen }, parseListen, same),
	text("public_url", "How clients reach this server, scheme and host: printed for people who connect a\ndevice. Needed behind a reverse proxy.",
		"https://cloud.example.org", func(c *Config) *string { return &c.PublicURL }, checkOrigin),
	text("tls_cert", "PEM file with the certificate and its chain. It is read again when it changes. A\nrelative path is below the data directory. Needs tls_key.",
		"/etc/ssl/holdfast/fullchain.pem", func(c *Config) *string { return &c.TLSCert }, checkPath),
	text("tls_key", "PEM file with the private key of tls_cert. Keep it readable by the server alone.",
		"/etc/ssl/holdfast/privkey.pem", func(c *Config) *string { return &c.TLSKey }, checkPath),
	list("acme_domain", "A DNS name to get a certificate for by ACME (RFC 8555), proven by the TLS-ALPN\nchallenge: port 443 of that name must lead to a listen address. Using it accepts the\nterms of the certificate authority. May be given more than once.",
		"cloud.example.org", func(c *Config) *[]string { return &c.ACMEDomains }, parseDomain, same),
	text("acme_email", "Where the certificate authority may write to when something is wrong.",
		"you@example.org", func(c *Config) *string { return &c.ACMEEmail }, checkEmail),
	text("acme_directory", "The certificate authority's ACME directory.",
		"", func(c *Config) *string { return &c.ACMEDirectory }, checkURL),
	list("trusted_proxy", "Address or network (CIDR) of a reverse proxy whose X-Forwarded-For and\nX-Forwarded-Proto are believed. May be given more than once.",
		"127.0.0.1", func(c *Config) *[]netip.Prefix { return &c.TrustedProxies }, parsePrefix, formatPrefix),
	value("plain_http_from_proxy", "yes: listen without TLS on addresses that are not loopback, and serve there only peers\nthat are a trusted_proxy. Passwords then cross that network unencrypted.",
		func(c *Config) *bool { return &c.PlainHTTPFromProxy }, parseBool, formatBool),
	value("log_level", "debug (each request), info (starts, heals), warn or error.",
		func(c *Config) *slog.Level { return &c.LogLevel }, parseLevel, func(l slog.Level) string { return strings.ToLower(l.String()) }),
	value("max_connections", "Connections open at once, 16 to 100000; further ones wait.",
		func(c *Config) *int { return &c.MaxConnections }, func(v string) (int, error) { return number(v, 16, 100000) }, strconv.Itoa),
	value("max_upload", "Largest body of one request, with KiB, MiB, GiB or TiB; at least 1 MiB.",
		func(c *Config) *int64 { return &c.MaxUpload }, parseSize, FormatSize),
	value("quota", "How much one account may keep, the history included, unless holdfast account quota says\notherwise: none, or a size with MiB, GiB or TiB. Beyond it nothing new is taken; deletions are.",
		func(c *Config) *int64 { return &c.Quota }, ParseQuota, FormatQuota),
	value("upload_keep", "A large file that comes in pieces: how long the pieces are kept when nothing more of it\narrives; 1h to 720h. All pieces of one account together may take twice max_upload.",
		func(c *Config) *time.Duration { return &c.UploadKeep },
		func(v string) (time.Duration, error) { return duration(v, time.Hour, 720*time.Hour) }, time.Duration.String),
	value("scrub_rate", "Bytes a second, at least, at which all copies are read again and compared, all the time; the\nserver reads faster if rows and logs would take more than a week, or large bodies a\nmonth. With MiB or GiB.",
		func(c *Config) *int64 { return &c.ScrubRate }, parseSize, FormatSize),
	value("progress_timeout", "A request that sends or takes nothing for so long is ended; 5s to 1h.",
		func(c *Config) *time.Duration { return &c.ProgressTimeout },
		func(v string) (time.Duration, error) { return duration(v, 5*time.Second, time.Hour) }, time.Duration.String),
	value("drain_timeout", "After SIGTERM, how long running requests may take to finish; 0s to 10m.",
		func(c *Config) *time.Duration { return &c.DrainTimeout },
		func(v string) (time.Duration, error) { return duration(v, 0, 10*time.Minute) }, time.Duration.String),
}

func find(name string) *key {
	for i := range keys {
		if keys[i].name == name {
			return &keys[i]
		}
	}
	return nil
}

func parseMirror(v string) (Mirror, error) {
	name, path, ok := strings.Cut(v, " ")
	path = strings.Trim(path, " \t")
	if !ok || path == "" {
		return Mirror{}, fmt.Errorf("want a name and a path")
	}
	if !validWord(name) {
		return Mirror{}, fmt.Errorf("a mirror's name is 1 to 64 letters, digits, `.`, `_`, `-`")
	}
	path, err := checkAbsolute(path)
	return Mirror{name, path}, err
}

func checkAbsolute(v string) (string, error) {
	v, err := checkPath(v)
	if err == nil && !filepath.IsAbs(v) {
		err = fmt.Errorf("the path must begin with /")
	}
	return v, err
}

func parsePolicy(v string) (string, error) {
	if v != "strict" && v != "degraded" {
		return "", fmt.Errorf("want strict or degraded")
	}
	return v, nil
}

func parseCopies(v string) (int, error) {
	if v == "all" {
		return 0, nil
	}
	n, err := number(v, 1, maxRepeat)
	if err != nil {
		return 0, fmt.Errorf("want all, or a whole number from 1 to %d", maxRepeat)
	}
	return n, nil
}

func formatCopies(n int) string {
	if n == 0 {
		return "all"
	}
	return strconv.Itoa(n)
}

func validWord(s string) bool {
	const extra = "._-"
	if s == "" || len(s) > 64 {
		return false
	}
	for _, r := range s {
		if !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(extra, r)) {
			return false
		}
	}
	return true
}

func checkPath(v string) (string, error) {
	if v == "" {
		return "", fmt.Errorf("empty")
	}
	for _, r := range v {
		if r < ' ' || r == 0x7f {
			return "", fmt.Errorf("a control character in a path")
		}
	}
	v = filepath.Clean(v)
	if strings.Contains(v, " #") || strings.HasPrefix(v, "~") || v != strings.Trim(v, " ") {
		return "", fmt.Errorf("a path has no ` #`, does not begin with ~ and does not end with a space")
	}
	return v, nil
}

func parseListen(v string) (string, error) {
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		return "", fmt.Errorf("want HOST:PORT, as 127.0.0.1:8480 or [::1]:8480")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return "", fmt.Errorf("the port is a number from 0 to 65535")
	}
	if host == "" || host == "localhost" {
		return v, nil
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return "", fmt.Errorf("the host is an IP address, localhost, or empty for all addresses")
	}
	return net.JoinHostPort(a.String(), port), nil
}

func checkURL(v string) (string, error) {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "" {
		return "", fmt.Errorf("want https://HOST")
	}
	for _, r := range v {
		if r <= ' ' || r > 0x7e || strings.ContainsRune(`"<>\`+"`", r) {
			return "", fmt.Errorf("a URL has printable ASCII characters only")
		}
	}
	return strings.TrimRight(v, "/"), nil
}

// checkOrigin is checkURL for an address that may not have a path: Holdfast's own paths follow it.
func checkOrigin(v string) (string, error) {
	v, err := checkURL(v)
	if err == nil && strings.Count(v, "/") > 2 {
		err = fmt.Errorf("the paths of Holdfast begin at /, so the URL ends with the host")
	}
	return v, err
}

func parseDomain(v string) (string, error) {
	v = strings.ToLower(v)
	if len(v) > 253 || !strings.Contains(v, ".") {
		return "", fmt.Errorf("want a full DNS name")
	}
	for label := range strings.SplitSeq(v, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || label[0] == '-' || label[len(label)-1] == '-' {
			return "", fmt.Errorf("want a full DNS name")
		}
	}
	return v, nil
}

func checkEmail(v string) (string, error) {
	at := strings.LastIndexByte(v, '@')
	if at < 1 || at == len(v)-1 || strings.ContainsAny(v, " \t<>,;") {
		return "", fmt.Errorf("want an e-mail address")
	}
	return v, nil
}

func parsePrefix(v string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(v); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(v)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("want an IP address or a network as 10.0.0.0/8")
	}
	if p.Masked() != p {
		return netip.Prefix{}, fmt.Errorf("bits are set beyond the prefix; %s is that network", p.Masked())
	}
	if p.Bits() == 0 {
		return netip.Prefix{}, fmt.Errorf("everybody would be a trusted proxy")
	}
	return p, nil
}

func formatPrefix(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func parseBool(v string) (bool, error) {
	switch v {
	case "yes":
		return true, nil
	case "no":
		return false, nil
	}
	return false, fmt.Errorf("want yes or no")
}

func formatBool(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func parseLevel(v string) (slog.Level, error) {
	switch v {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("want debug, info, warn or error")
}

func number(v string, least, most int) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("want a whole number from %d to %d", least, most)
	}
	return n, nil
}

func duration(v string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil || d < least || d > most {
		return 0, fmt.Errorf("want a time from %s to %s, as 90s or 2m", least, most)
	}
	return d, nil
}

var units = []struct {
	name string
	size int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

func parseSize(v string) (int64, error) {
	for _, u := range units {
		if s, ok := strings.CutSuffix(v, u.name); ok {
			n, err := strconv.ParseInt(strings.Trim(s, " "), 10, 64)
			if err != nil || n < 1 || n > (1<<50)/u.size || n*u.size < 1<<20 {
				break
			}
			return n * u.size, nil
		}
	}
	return 0, fmt.Errorf("want a size from 1 MiB to 1024 TiB, as 512 MiB or 16 GiB")
}

// ParseQuota reads a size, or none: 0.
func ParseQuota(v string) (int64, error) {
	if v == "none" {
		return 0, nil
	}
	n, err := parseSize(v)
	if err != nil {
		return 0, fmt.Errorf("want none, or a size from 1 MiB to 1024 TiB, as 512 MiB or 16 GiB")
	}
	return n, nil
}

func parseMemory(v string) (int64, error) {
	n, err := parseSize(v)
	if err != nil || n < 32<<20 {
		return 0, fmt.Errorf("want a size from 32 MiB, as 64 MiB or 1 GiB")
	}
	return n, nil
}

// FormatQuota writes what ParseQuota reads.
func FormatQuota(n int64) string {
	if n == 0 {
		return "none"
	}
	return FormatSize(n)
}

// FormatSize writes bytes for people, in the largest binary unit that keeps them whole; parseSize reads it.
func FormatSize(n int64) string {
	for _, u := range units {
		if n >= u.size && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + " " + u.name
		}
	}
	return strconv.FormatInt(n, 10) + " B"
}
