package config

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdfast"
)

const least = "server_id = 000102030405060708090a0b0c0d0e0f\nmirror = usb /mnt/usb/mirror\n"

var compare = cmp.Options{cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty()}

func full() *Config {
	return &Config{
		ServerID: holdfast.ServerID{1, 2, 3}, Mirrors: []Mirror{{"usb", "/mnt/usb/with space"}, {"nas", "/mnt/nas"}},
		Witness: "/mnt/third", Policy: "degraded", Copies: 1, MirrorTimeout: 1500 * time.Millisecond,
		Listen: []string{"[::1]:0", "localhost:80", ":443"}, PublicURL: "https://cloud.example.org:8443",
		TLSCert: "cert.pem", TLSKey: "/k", ACMEDirectory: "https://ca.example.org/dir", ACMEEmail: "a@b",
		TrustedProxies:     []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		PlainHTTPFromProxy: true, LogLevel: slog.LevelDebug, MaxConnections: 77, MaxUpload: 3 << 20, UploadKeep: 90 * time.Hour, Quota: 5 << 30, ScrubRate: 5 << 20,
		ProgressTimeout: 7 * time.Second, DrainTimeout: 0,
		Push:   Push{PushAllow: []PushAllow{{netip.MustParsePrefix("192.168.1.20/32"), 8080}, {netip.MustParsePrefix("fd00::/8"), 0}}, MaxStreams: 9},
		Limits: Limits{MaxRequests: 99, AccountRequests: 7, RequestMemory: 48 << 20},
		Watch: Watch{
			MetricsTokenFile: "/t", AlertAfter: 0, AlertWebhook: "http://192.0.2.1/x?a=b", AlertWebhookSecret: "s",
			AlertMailServer: "mail.example.org:25", AlertMailTLS: MailPlain, AlertMailFrom: "a@example.org", AlertMailTo: []string{"b@example.org", "c@example.org"},
			AlertMailUser: "a b", AlertMailPassword: "p", AlertPlain: true, HeartbeatURL: "file:beat", HeartbeatEvery: time.Hour,
		},
	}
}

func TestRenderParse(t *testing.T) {
	for name, c := range map[string]*Config{"full": full(), "least": mustParse(t, least)} {
		text := Render(c)
		got, err := Parse(text)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		if d := cmp.Diff(c, got, compare); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		for i := range keys {
			if !strings.Contains(string(text), keys[i].name+" = ") {
				t.Errorf("%s: the file does not show %s", name, keys[i].name)
			}
		}
	}
}

// Every example and default that a new file shows as a comment is valid when the # is taken away.
func TestCommentsAreValid(t *testing.T) {
	for line := range strings.SplitSeq(string(Render(mustParse(t, least))), "\n") {
		name, v, ok := strings.Cut(strings.TrimPrefix(line, "#"), " = ")
		if !ok || strings.HasPrefix(line, "# ") {
			continue
		}
		if err := Default().Set(name, v); err != nil {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func mustParse(t *testing.T, s string) *Config {
	t.Helper()
	c, err := Parse([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{least + "nonsense", "line 3: \"nonsense\" is not `key = value`"},
		{least + "\n\ncolour = red", `line 5: no setting is called "colour"`},
		{least + "log-level = info", "did you mean log_level?"},
		{least + "log_level = info\nlog_level = info", "line 4: log_level stands on line 3 already"},
		{least + "log_level = loud", "log_level = loud: want debug"},
		{least + "log_level = info # quiet", "a comment stands on a line of its own"},
		{least + "max_connections = 1", "from 16 to 100000"},
		{least + "max_upload = 10", "want a size"},
		{least + "max_requests = 15", "from 16 to 100000"},
		{least + "account_requests = 3", "from 4 to 10000"},
		{least + "request_memory = 31 MiB", "from 32 MiB"},
		{least + "max_upload = 9999999 TiB", "want a size"},
		{least + "quota = 5", "want none, or a size"},
		{least + "upload_keep = 10m", "from 1h0m0s to 720h0m0s"},
		{least + "progress_timeout = 1ms", "from 5s to 1h"},
		{least + "mirror_timeout = 1ms", "from 100ms to 10m"},
		{least + "listen = 0.0.0.0:80", "unencrypted"},
		{least + "listen = [::]:80", "unencrypted"},
		{least + "listen = :80", "unencrypted"},
		{least + "listen = 127.0.0.1", "want HOST:PORT"},
		{least + "listen = 127.0.0.1:99999", "port is a number"},
		{least + "listen = nas.local:80", "the host is an IP address"},
		{least + "plain_http_from_proxy = yes", "needs trusted_proxy"},
		{least + "trusted_proxy = 0.0.0.0/0", "everybody"},
		{least + "trusted_proxy = 10.1.0.0/8", "10.0.0.0/8 is that network"},
		{least + "tls_cert = a.pem", "tls_cert and tls_key belong together"},
		{least + "tls_cert = a\ntls_key = b\nacme_domain = a.example", "exclude each other"},
		{least + "acme_domain = -a.example", "DNS name"},
		{least + "public_url = cloud.example.org", "want https://HOST"},
		{least + "public_url = https://a.example/dav", "ends with the host"},
		{least + "public_url =", "want https://HOST"},
		{least + "mirror = usb /other", "two mirrors are called usb"},
		{least + "mirror = two /mnt/usb/mirror/deeper", "that is one copy"},
		{least + "mirror = two relative/path", "must begin with /"},
		{least + "mirror = /mnt/x", "want a name and a path"},
		{least + "acme_email = a\x00@b", "control character"},
		{least + "log_level = \xff", "not UTF-8"},
		{"mirror = usb /mnt", "server_id is missing"},
		{"server_id = 00", "server_id = 00"},
		{"server_id = 00000000000000000000000000000000", "all zero"},
		{"server_id = 000102030405060708090a0b0c0d0e0f", "without a second copy"},
		{least + "alert_webhook = http://192.0.2.1/", "unencrypted"},
		{least + "alert_webhook = https://user:pass@example.org/", "want https://HOST"},
		{least + "alert_webhook = file:", "alert_webhook = file:"},
		{least + "alert_webhook = ftp://example.org/", "want https://HOST"},
		{least + "heartbeat_url = http://example.org/", "heartbeat_url: it would leave this machine unencrypted"},
		{least + "heartbeat_every = 1s", "from 10s"},
		{least + "alert_after = 2h", "to 1h"},
		{least + "alert_webhook_secret = s", "needs alert_webhook"},
		{least + "alert_mail_to = a@example.org", "need alert_mail_server"},
		{least + "alert_mail_server = mail.example.org:25", "needs alert_mail_from"},
		{least + "alert_mail_server = mail.example.org", "want HOST:PORT"},
		{least + "alert_mail_server = ma_il:25", "want a host name"},
		{least + "alert_mail_from = a@example.org\nalert_mail_to = a@example.org\nalert_mail_server = 192.0.2.1:25\nalert_mail_tls = none", "unencrypted"},
		{least + "alert_mail_from = a@example.org\nalert_mail_to = a@example.org\nalert_mail_server = mail:25\nalert_mail_user = a", "belong together"},
		{least + "alert_mail_to = \"a b\"@example.org", "plain ASCII"},
		{least + "alert_mail_tls = ssl", "want starttls"},
		{least + strings.Repeat("a", maxLine+1), "longer than"},
		{least + strings.Repeat("trusted_proxy = 10.0.0.1\n", maxRepeat+1), "more than 64 values"},
		{strings.Repeat("x\n", 1000), "reading stopped"},
		{strings.Repeat("#", maxFile+1), "more than"},
	} {
		_, err := Parse([]byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.200q: got %v, want an error with %q", c.text, err, c.want)
		}
		if le := (*LineError)(nil); err != nil && !errors.As(err, &le) {
			t.Errorf("%.200q: %T holds no LineError", c.text, err)
		}
	}
}

func TestParseTolerates(t *testing.T) {
	c := mustParse(t, "\r\n  # comment\r\n"+strings.ReplaceAll(least, "\n", "\r\n")+"listen=[::1]:1\nlisten =\t127.0.0.1:2 \ntrusted_proxy = ::ffff:10.0.0.1")
	if d := cmp.Diff([]string{"[::1]:1", "127.0.0.1:2"}, c.Listen); d != "" {
		t.Errorf("listen (-want +got):\n%s", d)
	}
	if want := netip.MustParsePrefix("10.0.0.1/32"); len(c.TrustedProxies) != 1 || c.TrustedProxies[0] != want {
		t.Errorf("trusted_proxy: got %v, want %v", c.TrustedProxies, want)
	}
}

func TestSet(t *testing.T) {
	c := full()
	if err := c.Set("listen", "127.0.0.1:0"); err != nil || len(c.Listen) != 1 {
		t.Errorf("listen: %v, %v", c.Listen, err)
	}
	for _, bad := range [][]string{{"nothing", "x"}, {"log_level", "info", "info"}, {"listen", "a\nb"}, {"listen", ""}} {
		if err := c.Set(bad[0], bad[1:]...); !errors.Is(err, holdfast.ErrInvalid) {
			t.Errorf("%q: got %v, want ErrInvalid", bad, err)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir); !errors.Is(err, holdfast.ErrAbsent) {
		t.Errorf("no file: got %v, want ErrAbsent", err)
	}
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte(least), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(dir)
	if err != nil || c.Mirrors[0] != (Mirror{"usb", "/mnt/usb/mirror"}) {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestInside(t *testing.T) {
	for _, c := range []struct {
		path, dir string
		want      bool
	}{{"/a/b", "/a", true}, {"/a", "/a", true}, {"/a", "/a/b", false}, {"/ab", "/a", false}, {"/a/..b", "/a", true}, {"/x", "/", true}} {
		if got := Inside(c.path, c.dir); got != c.want {
			t.Errorf("Inside(%q, %q) = %v, want %v", c.path, c.dir, got, c.want)
		}
	}
}

func TestDescribe(t *testing.T) {
	for _, s := range Describe(full()) {
		if s.About == "" || len(s.Effective) == 0 && s.Key != "acme_domain" {
			t.Errorf("%+v", s)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(least))
	f.Add(Render(full()))
	f.Add([]byte("listen = [fe80::1%x #]:1\ntrusted_proxy=1.2.3.4/31\nmax_upload = 1025 KiB"))
	f.Add([]byte(least + "alert_webhook = file:x y\nheartbeat_url = http://[::1]:1/?q\nalert_mail_server = Mail.Example.org:1\nalert_mail_user =  a b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		if err != nil {
			return
		}
		again, err := Parse(Render(c))
		if err != nil {
			t.Fatalf("rendered, but not read: %v\n%s", err, Render(c))
		}
		if d := cmp.Diff(c, again, compare); d != "" {
			t.Fatalf("(-first +again):\n%s", d)
		}
	})
}
