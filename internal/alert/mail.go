package alert

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/smtp"
	"os"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/config"
)

// maxTalk bounds what a mail server may say in one talk, in bytes.
const maxTalk = 1 << 20

// mail sends messages to one recipient, so that one address that is refused keeps nobody else from hearing.
type mail struct {
	cfg       *Config
	recipient string
}

func (m *mail) name() string { return "mail" }
func (m *mail) to() string   { return m.recipient }

// talk is a connection that ends when the other side says too much.
type talk struct {
	net.Conn
	left int
}

func (t *talk) Read(p []byte) (int, error) {
	if t.left <= 0 {
		return 0, fmt.Errorf("the mail server says more than %d bytes: %w", maxTalk, holdfast.ErrTooLarge)
	}
	n, err := t.Conn.Read(p[:min(len(p), t.left)])
	t.left -= n
	return n, err
}

func (m *mail) send(ctx context.Context, msg *Message) error {
	w := m.cfg.Settings
	host, _, err := net.SplitHostPort(w.AlertMailServer)
	if err != nil {
		return fmt.Errorf("alert_mail_server: %w", err)
	}
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", w.AlertMailServer)
	if err != nil {
		return fmt.Errorf("reach the mail server: %w", err)
	}
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { _ = raw.Close() })() // the talk has no other end
	if deadline, ok := ctx.Deadline(); ok {
		if err := raw.SetDeadline(deadline); err != nil {
			return fmt.Errorf("set deadline: %w", err)
		}
	}
	tc := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, RootCAs: m.cfg.roots}
	var conn net.Conn = &talk{raw, maxTalk}
	if w.AlertMailTLS == config.MailTLS {
		conn = tls.Client(conn, tc)
	}
	c, err := smtp.NewClient(conn, host)
	if err != nil {
		return fmt.Errorf("greet the mail server: %w", err)
	}
	if err := m.login(c, host, tc); err != nil {
		return err
	}
	return m.hand(c, msg)
}

// login encrypts and proves who we are.
func (m *mail) login(c *smtp.Client, host string, tc *tls.Config) error {
	w := m.cfg.Settings
	if name, err := os.Hostname(); err == nil && name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == "" {
		if err := c.Hello(name); err != nil {
			return fmt.Errorf("greet the mail server: %w", err)
		}
	}
	if w.AlertMailTLS == config.MailStartTLS {
		if ok, _ := c.Extension("STARTTLS"); !ok {
			return fmt.Errorf("the mail server does not offer STARTTLS, so nothing is sent; see alert_mail_tls: %w", holdfast.ErrDenied)
		}
		if err := c.StartTLS(tc); err != nil {
			return fmt.Errorf("encrypt the talk with the mail server: %w", err)
		}
	}
	if w.AlertMailUser == "" {
		return nil
	}
	password, err := config.ReadSecret(m.cfg.Dir, w.AlertMailPassword, 1)
	if err != nil {
		return err
	}
	if err := c.Auth(smtp.PlainAuth("", w.AlertMailUser, password, host)); err != nil { // refuses to speak in clear
		return fmt.Errorf("log in at the mail server: %w", err)
	}
	return nil
}

// hand gives the message over. Once the server has taken the text, a failed goodbye changes nothing.
func (m *mail) hand(c *smtp.Client, msg *Message) error {
	if err := c.Mail(m.cfg.Settings.AlertMailFrom); err != nil {
		return fmt.Errorf("mail server, sender: %w", err)
	}
	if err := c.Rcpt(m.recipient); err != nil {
		return fmt.Errorf("mail server, recipient: %w", err)
	}
	wc, err := c.Data()
	if err != nil {
		return fmt.Errorf("mail server, text: %w", err)
	}
	if _, err := wc.Write(m.text(msg)); err != nil {
		return fmt.Errorf("mail server, text: %w", err)
	}
	if err := wc.Close(); err != nil {
		return fmt.Errorf("mail server, text: %w", err)
	}
	_ = c.Quit() // it was taken
	return nil
}

// subject says the most important in a few words.
func subject(m *Message) string {
	what := map[string]string{
		"fence": "fence " + m.State, KindAccounts: "accounts closed", KindWrite: "writes hang", "mirror": "mirror", "healed": "the store was healed",
		"damage": "damage", "mass-change": "much was deleted or overwritten", KindTest: "test of the alerts",
	}[m.Kind]
	if what == "" {
		what = m.Kind
	}
	switch m.Phase {
	case PhaseOver:
		what = "over: " + what
	case PhaseLasts:
		what = "still: " + what
	}
	name := m.URL
	if _, host, ok := strings.Cut(m.URL, "://"); ok {
		name = host
	}
	if name == "" && len(m.Server) >= 8 {
		name = m.Server[:8]
	}
	return strings.TrimSpace("Holdfast " + name + ": " + what)
}

// text returns the mail: headers and body, lines ended by CR LF (RFC 5322).
func (m *mail) text(msg *Message) []byte {
	var b bytes.Buffer
	header := func(name, value string) { b.WriteString(name + ": " + value + "\r\n") }
	_, domain, _ := strings.Cut(m.cfg.Settings.AlertMailFrom, "@")
	header("From", "<"+m.cfg.Settings.AlertMailFrom+">")
	header("To", "<"+m.recipient+">")
	header("Subject", mime.QEncoding.Encode("utf-8", oneLine(subject(msg))))
	header("Date", time.Now().Format(time.RFC1123Z))
	header("Message-ID", "<"+msg.ID+"@"+domain+">")
	header("Auto-Submitted", "auto-generated") // RFC 3834: no answers by machines
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	q := quotedprintable.NewWriter(&b)
	_, _ = io.WriteString(q, strings.ReplaceAll(plain(msg), "\n", "\r\n")) // into memory
	_ = q.Close()
	return b.Bytes()
}

// plain is the body for people.
func plain(m *Message) string {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(oneLine(fmt.Sprintf(format, args...)) + "\n") }
	line("%s", m.Text)
	if m.Todo != "" {
		b.WriteByte('\n')
		line("What to do: %s", m.Todo)
	}
	b.WriteByte('\n')
	if m.State != "" {
		line("Fence:     %s", m.State)
	}
	if !m.Since.IsZero() {
		line("Since:     %s", m.Since.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	line("Told:      %s (message %d about this)", m.At.UTC().Format("2006-01-02 15:04:05 UTC"), m.Number)
	if len(m.Accounts) > 0 {
		line("Accounts:  %s", strings.Join(m.Accounts, ", "))
	}
	if m.Missed > 0 {
		line("Missing:   %d earlier messages could not be kept", m.Missed)
	}
	line("Server:    %s %s", m.Server, m.URL)
	return b.String()
}

// oneLine replaces what would begin a new line or a new header.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
