package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast"
)

// Watch holds the settings of who is told how the server is: metrics, alerts, a heartbeat.
type Watch struct {
	MetricsTokenFile string // a relative path is below the data directory, in the files below too

	AlertAfter         time.Duration // how long a trouble lasts before it is told
	AlertWebhook       string        // URL, or FilePrefix and the path of a file whose first line is the URL; empty: none
	AlertWebhookSecret string        // file with the key that signs the bodies; empty: unsigned
	AlertMailServer    string        // HOST:PORT; empty: no mail
	AlertMailTLS       string        // MailStartTLS, MailTLS or MailPlain
	AlertMailFrom      string
	AlertMailTo        []string
	AlertMailUser      string // empty: no login
	AlertMailPassword  string // file
	AlertPlain         bool   // alerts and heartbeats may leave this machine unencrypted

	HeartbeatURL   string // as AlertWebhook
	HeartbeatEvery time.Duration
}

// Ways to encrypt the talk with the mail server.
const (
	MailStartTLS = "starttls" // begin in clear, then TLS or nothing (RFC 3207)
	MailTLS      = "tls"      // TLS from the first byte (RFC 8314)
	MailPlain    = "none"     // this machine only, unless AlertPlain
)

// FilePrefix begins a URL that stands in a file, because whoever knows it may use it.
const FilePrefix = "file:"

var defaultWatch = Watch{AlertAfter: 30 * time.Second, AlertMailTLS: MailStartTLS, HeartbeatEvery: 5 * time.Minute}

// Alerts reports whether any way to tell somebody is set.
func (w *Watch) Alerts() bool { return w.AlertWebhook != "" || w.AlertMailServer != "" }

var watchKeys = []key{
	text("metrics_token_file", "File whose first line lets a program on another machine read /metrics (Authorization:\nBearer TOKEN); at least 16 characters. Without it only this machine may.",
		"metrics-token", func(c *Config) *string { return &c.MetricsTokenFile }, checkPath),
	value("alert_after", "How long the fence is not open, or a copy not complete, before somebody is told; 0s to\n1h. Short ones are restarts.",
		func(c *Config) *time.Duration { return &c.AlertAfter },
		func(v string) (time.Duration, error) { return duration(v, 0, time.Hour) }, time.Duration.String),
	text("alert_webhook", "Where alerts are sent by HTTP POST as JSON (docs/monitoring.md); https, or http to this\nmachine. Or file:PATH of a file whose first line is the URL, if nobody else may know it.",
		"https://alerts.example.org/holdfast", func(c *Config) *string { return &c.AlertWebhook }, checkHook),
	text("alert_webhook_secret", "File whose first line is the key that signs the JSON (HMAC-SHA256, in the header\nHoldfast-Signature); at least 16 characters.",
		"webhook-secret", func(c *Config) *string { return &c.AlertWebhookSecret }, checkPath),
	text("alert_mail_server", "HOST:PORT of the mail server that takes alerts by e-mail. Needs alert_mail_from and\nalert_mail_to.",
		"mail.example.org:587", func(c *Config) *string { return &c.AlertMailServer }, checkHostPort),
	value("alert_mail_tls", "starttls (port 587), tls (port 465), or none (a mail server on this machine).",
		func(c *Config) *string { return &c.AlertMailTLS }, parseMailTLS, same),
	text("alert_mail_from", "The sender's address of alerts.",
		"holdfast@example.org", func(c *Config) *string { return &c.AlertMailFrom }, checkMailbox),
	list("alert_mail_to", "Who gets alerts by e-mail. May be given more than once.",
		"you@example.org", func(c *Config) *[]string { return &c.AlertMailTo }, checkMailbox, same),
	text("alert_mail_user", "The name to log in with at the mail server. Needs alert_mail_password.",
		"holdfast@example.org", func(c *Config) *string { return &c.AlertMailUser }, checkWord),
	text("alert_mail_password", "File whose first line is the password of alert_mail_user.",
		"mail-password", func(c *Config) *string { return &c.AlertMailPassword }, checkPath),
	value("alert_plain", "yes: alerts and heartbeats may leave this machine without TLS.",
		func(c *Config) *bool { return &c.AlertPlain }, parseBool, formatBool),
	text("heartbeat_url", "Fetched by HTTP GET every heartbeat_every while the fence is open and every copy is\ncomplete: a watcher elsewhere that misses it tells you, also when this machine is dead.\nOr file:PATH, as in alert_webhook.",
		"https://watcher.example.org/ping/holdfast", func(c *Config) *string { return &c.HeartbeatURL }, checkHook),
	value("heartbeat_every", "Time between heartbeats, 10s to 24h.",
		func(c *Config) *time.Duration { return &c.HeartbeatEvery },
		func(v string) (time.Duration, error) { return duration(v, 10*time.Second, 24*time.Hour) }, time.Duration.String),
}

// check says what does not go together.
func (w *Watch) check(bad func(kind error, format string, args ...any)) {
	for _, u := range [][2]string{{"alert_webhook", w.AlertWebhook}, {"heartbeat_url", w.HeartbeatURL}} {
		if u[1] == "" || strings.HasPrefix(u[1], FilePrefix) {
			continue
		}
		if err := w.CheckURL(u[1]); err != nil {
			bad(holdfast.ErrDenied, "%s: %v", u[0], err)
		}
	}
	if w.AlertWebhookSecret != "" && w.AlertWebhook == "" {
		bad(holdfast.ErrInvalid, "alert_webhook_secret needs alert_webhook")
	}
	if (w.AlertMailUser == "") != (w.AlertMailPassword == "") {
		bad(holdfast.ErrInvalid, "alert_mail_user and alert_mail_password belong together")
	}
	if w.AlertMailServer == "" {
		if w.AlertMailFrom != "" || len(w.AlertMailTo) > 0 || w.AlertMailUser != "" {
			bad(holdfast.ErrInvalid, "alert_mail_from, alert_mail_to and alert_mail_user need alert_mail_server")
		}
		return
	}
	if w.AlertMailFrom == "" || len(w.AlertMailTo) == 0 {
		bad(holdfast.ErrInvalid, "alert_mail_server needs alert_mail_from and alert_mail_to")
	}
	if w.AlertMailTLS == MailPlain && !w.AlertPlain && !Loopback(w.AlertMailServer) {
		bad(holdfast.ErrDenied, "alert_mail_tls = none would send alerts over the network unencrypted: use starttls or tls, or set alert_plain = yes")
	}
}

// CheckURL says why nothing may be sent to a URL.
func (w *Watch) CheckURL(v string) error {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" {
		return fmt.Errorf("want https://HOST/PATH, or file:PATH of a file with it")
	}
	if u.Scheme == "http" && !w.AlertPlain && !Loopback(net.JoinHostPort(u.Hostname(), "0")) {
		return fmt.Errorf("it would leave this machine unencrypted: use https, or set alert_plain = yes")
	}
	return nil
}

// checkHook accepts a URL, with a query, or a file that has it.
func checkHook(v string) (string, error) {
	if path, ok := strings.CutPrefix(v, FilePrefix); ok {
		path, err := checkPath(path)
		return FilePrefix + path, err
	}
	for _, r := range v {
		if r <= ' ' || r > 0x7e || strings.ContainsRune(`"<>\`+"`", r) {
			return "", fmt.Errorf("a URL has printable ASCII characters only")
		}
	}
	return v, (&Watch{AlertPlain: true}).CheckURL(v)
}

func checkHostPort(v string) (string, error) {
	host, port, err := net.SplitHostPort(v)
	if err != nil || host == "" {
		return "", fmt.Errorf("want HOST:PORT, as mail.example.org:587")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return "", fmt.Errorf("the port is a number from 1 to 65535")
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" {
		return v, nil
	}
	if strings.Contains(host, ".") {
		host, err = parseDomain(host)
		return net.JoinHostPort(host, port), err
	}
	return v, checkLabel(host)
}

// checkLabel accepts a name of the local network.
func checkLabel(host string) error {
	if _, err := parseDomain(host + ".lan"); err != nil {
		return fmt.Errorf("want a host name or an IP address")
	}
	return nil
}

func parseMailTLS(v string) (string, error) {
	switch v {
	case MailStartTLS, MailTLS, MailPlain:
		return v, nil
	}
	return "", fmt.Errorf("want starttls, tls or none")
}

// checkMailbox is checkEmail for an address that goes into the commands and headers of a mail.
func checkMailbox(v string) (string, error) {
	for _, r := range v {
		if r <= ' ' || r > 0x7e || strings.ContainsRune(`"\()[]:`, r) {
			return "", fmt.Errorf("want an e-mail address of plain ASCII characters")
		}
	}
	return checkEmail(v)
}

func checkWord(v string) (string, error) {
	if v == "" || strings.Contains(v, " #") {
		return "", fmt.Errorf("want a name")
	}
	return v, nil
}
