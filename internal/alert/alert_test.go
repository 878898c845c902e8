package alert

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/internal/config"
	"holdfast/internal/ledger"
)

func watchOf(server string) *config.Watch {
	w := config.Default().Watch
	w.AlertMailServer, w.AlertMailTLS, w.AlertMailFrom, w.AlertMailTo = server, config.MailPlain, "a@example.org", []string{"b@example.org"}
	return &w
}

// fake is a way whose answers a test gives.
type fake struct {
	answer func(n int) error
	mu     sync.Mutex
	got    []Message
	tries  int
}

func (f *fake) name() string { return "fake" }
func (f *fake) to() string   { return "nobody" }

func (f *fake) send(_ context.Context, m *Message) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tries++
	if err := f.answer(f.tries); err != nil {
		return err
	}
	f.got = append(f.got, *m)
	return nil
}

// The whole alerter over two hours of a clock of its own: a webhook that is down at first, no goroutine left behind.
func TestAlerter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var st atomic.Pointer[ledger.Status]
		set := func(s ledger.Status) { st.Store(&s) }
		set(state("open"))
		results := map[string]int{}
		var mu sync.Mutex
		a := New(Config{Settings: watchOf(""), Server: "00ff", PublicURL: "https://cloud.example.org", Sent: func(way, result string) {
			mu.Lock()
			defer mu.Unlock()
			results[way+" "+result]++
		}})
		w := &fake{answer: func(n int) error {
			if n <= 3 {
				return errors.New("down")
			}
			return nil
		}}
		a.senders = []*sender{{way: w, queue: make(chan Message, maxQueue), sent: a.cfg.Sent, log: a.log}}
		a.Start(t.Context(), func() ledger.Status { return *st.Load() })
		time.Sleep(10 * time.Second)
		set(state("closed"))
		time.Sleep(40 * time.Second)
		a.Event(ledger.Event{Kind: ledger.EventDamage, Bad: true, State: "closed", Text: "segment 3"})
		time.Sleep(10 * time.Second)
		set(state("open"))
		time.Sleep(2 * time.Hour)
		a.Stop()
		var said []string
		for _, m := range w.got {
			said = append(said, m.Kind+" "+m.Phase)
			if m.ID == "" || m.Server != "00ff" || m.URL == "" || m.Missed != 0 {
				t.Errorf("%+v", m)
			}
		}
		if d := cmp.Diff([]string{"fence begins", "damage happened", "fence over"}, said); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		if results["fake sent"] != 3 || results["fake failed"] != 3 {
			t.Errorf("results: %v", results)
		}
		a.Event(ledger.Event{Kind: ledger.EventDamage}) // after the end: nobody waits
	})
}

// A way that never works: nothing waits for it, the queue stays bounded, and what was dropped is counted.
func TestAlerterWithoutAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := 0
		f := &fake{}
		var up atomic.Bool
		f.answer = func(int) error {
			if up.Load() {
				return nil
			}
			return errors.New("down")
		}
		a := New(Config{Settings: watchOf(""), Sent: func(_, result string) {
			if result == "lost" {
				lost++ // one goroutine at a time: the bubble runs them in turn
			}
		}})
		s := &sender{way: f, queue: make(chan Message, 2), sent: a.cfg.Sent, log: a.log}
		a.senders = []*sender{s}
		a.Start(t.Context(), func() ledger.Status { return state("open") })
		for i := range 1000 {
			a.Event(ledger.Event{Kind: ledger.EventDamage, Text: fmt.Sprint(i)})
		}
		time.Sleep(time.Hour)
		a.Event(ledger.Event{Kind: ledger.EventDamage, Text: "last"})
		up.Store(true)
		time.Sleep(time.Hour)
		a.Stop()
		missed := 0
		for _, m := range f.got {
			missed += m.Missed
		}
		// 1001 events: each was sent, or is counted in a message.
		if len(f.got)+missed != 1001 || lost == 0 {
			t.Errorf("%d sent, %d said to be missing, %d lost of the queue", len(f.got), missed, lost)
		}
	})
}

// A message that nobody takes for a day is given up.
func TestGiveUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{answer: func(int) error { return errors.New("down") }}
		var results []string
		s := &sender{way: f, sent: func(_, r string) { results = append(results, r) }, log: New(Config{Settings: watchOf("")}).log}
		s.deliver(t.Context(), &Message{At: time.Now()})
		if n := len(results); n < 200 || n > 400 || results[n-1] != "lost" {
			t.Errorf("%d attempts in a day", n)
		}
	})
}

func TestHeartbeat(t *testing.T) {
	beats := make(chan string, 100)
	var refuse atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.String() != "/ping?x=1" || refuse.Load() {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	defer srv.Close()
	w := config.Default().Watch
	w.HeartbeatURL, w.HeartbeatEvery = srv.URL+"/ping?x=1", time.Millisecond
	var st atomic.Pointer[ledger.Status]
	open, held := state("open"), state("held")
	st.Store(&open)
	a := New(Config{Settings: &w, Beat: func(r string) {
		select {
		case beats <- r:
		default:
		}
	}})
	a.Start(t.Context(), func() ledger.Status { return *st.Load() })
	defer a.Stop()
	until := func(want string) {
		t.Helper()
		for end := time.After(10 * time.Second); ; {
			select {
			case got := <-beats:
				if got == want {
					return
				}
			case <-end:
				t.Fatalf("no heartbeat was %s", want)
			}
		}
	}
	until("sent")
	st.Store(&held)
	until("withheld")
	st.Store(&open)
	refuse.Store(true)
	until("failed")
}

func TestWebhook(t *testing.T) {
	dir := t.TempDir()
	const key = "0123456789abcdef"
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("key", key+"\n")
	var got Message
	elsewhere := 0
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if sig := r.Header.Get(SignatureHeader); err != nil || sig != Sign(key, body) || r.Header.Get("Content-Type") != "application/json" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if err := json.Unmarshal(body, &got); err != nil {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/elsewhere", func(http.ResponseWriter, *http.Request) { elsewhere++ })
	mux.HandleFunc("/bad", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	plain := httptest.NewServer(mux)
	defer plain.Close()
	secure := httptest.NewTLSServer(mux)
	defer secure.Close()
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0) // it refuses, as it should
	pool := x509.NewCertPool()
	pool.AddCert(secure.Certificate())
	write("url", secure.URL+"/ok\n")
	write("leak", "http://192.0.2.1/hush\n")
	for _, c := range []struct {
		name, hook string
		roots      *x509.CertPool
		want       string
	}{
		{"plain", plain.URL + "/ok", nil, ""},
		{"TLS", secure.URL + "/ok", pool, ""},
		{"a file", "file:url", pool, ""},
		{"endless", plain.URL + "/endless", nil, ""},
		{"not trusted", secure.URL + "/ok", nil, "certificate"},
		{"redirect", plain.URL + "/away", nil, "not followed"},
		{"error", plain.URL + "/bad", nil, "answered 500"},
		{"nobody", "http://127.0.0.1:1/hush", nil, "refused"},
		{"no file", "file:gone", nil, "no such file"},
		{"unencrypted in a file", "file:leak", nil, "unencrypted"},
	} {
		w := config.Default().Watch
		w.AlertWebhook, w.AlertWebhookSecret = c.hook, "key"
		got = Message{}
		res := Test(t.Context(), Config{Dir: dir, Settings: &w, Server: "00ff", roots: c.roots})
		if len(res) != 1 || res[0].Way != "webhook" {
			t.Fatalf("%s: %+v", c.name, res)
		}
		if c.want == "" && res[0].Err != "" || !strings.Contains(res[0].Err, c.want) || strings.Contains(res[0].Err, "hush") {
			t.Errorf("%s: got %q, want %q", c.name, res[0].Err, c.want)
		}
		if strings.HasSuffix(c.hook, "/ok") && c.want == "" && (got.Kind != KindTest || got.Server != "00ff" || got.Format != Format || got.Number != 1) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	if elsewhere > 0 {
		t.Error("a redirect was followed")
	}
}

// TestDocument: the example and the table of docs/monitoring.md are a message.
func TestDocument(t *testing.T) {
	b, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(b), "<!-- example alert -->\n```json\n")
	example, rest, _ := strings.Cut(example, "```")
	var m Message
	d := json.NewDecoder(strings.NewReader(example))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil || m.Format != Format {
		t.Fatalf("%+v, %v", m, err)
	}
	again, err := json.MarshalIndent(m, "", "  ")
	if err != nil || string(again)+"\n" != example {
		t.Errorf("the example is written otherwise:\n%s", again)
	}
	table, _, _ := strings.Cut(rest, "With `alert_webhook_secret`")
	m.Accounts, m.Missed = []string{"1"}, 1
	var members map[string]any
	if err := json.Unmarshal(m.json(), &members); err != nil {
		t.Fatal(err)
	}
	for name := range members {
		if !strings.Contains(table, "`"+name+"`") {
			t.Errorf("the table lacks %s", name)
		}
	}
}

// mailServer is a small SMTP server. script changes its answers: command to answer.
type mailServer struct {
	net.Listener
	script map[string]string
	cert   *tls.Config // STARTTLS, or TLS at once
	atOnce bool
	mu     sync.Mutex
	heard  []string
	text   string
}

func (s *mailServer) serve() {
	for {
		c, err := s.Accept()
		if err != nil {
			return
		}
		if s.atOnce {
			c = tls.Server(c, s.cert)
		}
		s.talk(c)
		_ = c.Close() // the other side judges
	}
}

func (s *mailServer) talk(c net.Conn) {
	r := bufio.NewReader(c)
	say := func(text string) { _, _ = io.WriteString(c, text+"\r\n") }
	say("220 mail.example.org")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		verb, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		verb = strings.ToUpper(verb)
		s.mu.Lock()
		s.heard = append(s.heard, strings.TrimSpace(line))
		s.mu.Unlock()
		answer, ok := s.script[verb]
		switch {
		case ok && answer == "hang":
			_, _ = io.Copy(io.Discard, c)
			return
		case ok && answer == "flood":
			for {
				if _, err := io.WriteString(c, "250-"+strings.Repeat("x", 500)+"\r\n"); err != nil {
					return
				}
			}
		case ok:
			say(answer)
		case verb == "EHLO":
			if s.cert != nil && !s.atOnce {
				say("250-mail.example.org\r\n250-AUTH PLAIN\r\n250 STARTTLS")
			} else {
				say("250-mail.example.org\r\n250 AUTH PLAIN")
			}
		case verb == "STARTTLS":
			say("220 go on")
			c = tls.Server(c, s.cert)
			r = bufio.NewReader(c)
		case verb == "AUTH":
			say("235 well")
		case verb == "DATA":
			say("354 go on")
			var text strings.Builder
			for {
				l, err := r.ReadString('\n')
				if err != nil || l == ".\r\n" {
					break
				}
				text.WriteString(l)
			}
			s.mu.Lock()
			s.text = text.String()
			s.mu.Unlock()
			say("250 taken")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func TestMail(t *testing.T) {
	certs := httptest.NewTLSServer(nil)
	defer certs.Close()
	pool := x509.NewCertPool()
	pool.AddCert(certs.Certificate())
	server := &tls.Config{Certificates: certs.TLS.Certificates, MinVersion: tls.VersionTLS12}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte("pass word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, mode string
		cert       *tls.Config
		script     map[string]string
		login      bool
		want       string
	}{
		{"plain", config.MailPlain, nil, nil, false, ""},
		{"plain, login to this machine", config.MailPlain, nil, nil, true, ""},
		{"starttls", config.MailStartTLS, server, nil, true, ""},
		{"tls", config.MailTLS, server, nil, true, ""},
		{"no starttls", config.MailStartTLS, nil, nil, false, "does not offer STARTTLS"},
		{"wrong password", config.MailStartTLS, server, map[string]string{"AUTH": "535 no"}, true, "log in"},
		{"refused recipient", config.MailPlain, nil, map[string]string{"RCPT": "550 unknown"}, false, "recipient"},
		{"refused sender", config.MailPlain, nil, map[string]string{"MAIL": "550 no"}, false, "sender"},
		{"refused text", config.MailPlain, nil, map[string]string{"DATA": "554 no"}, false, "text"},
		{"goodbye fails", config.MailPlain, nil, map[string]string{"QUIT": "500 no"}, false, ""},
		{"flood", config.MailPlain, nil, map[string]string{"EHLO": "flood"}, false, "greet"},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &mailServer{Listener: l, script: c.script, cert: c.cert, atOnce: c.mode == config.MailTLS}
		done := make(chan struct{})
		go func() { defer close(done); s.serve() }()
		w := watchOf(l.Addr().String())
		w.AlertMailTLS = c.mode
		if c.login {
			w.AlertMailUser, w.AlertMailPassword = "user", "password"
		}
		res := Test(t.Context(), Config{Dir: dir, Settings: w, Server: "00112233445566778899aabbccddeeff", PublicURL: "https://cloud.example.org", roots: pool})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		<-done
		if len(res) != 1 || c.want == "" && res[0].Err != "" || !strings.Contains(res[0].Err, c.want) || res[0].To != "b@example.org" {
			t.Errorf("%s: got %+v, want %q", c.name, res, c.want)
		}
		heard := strings.Join(s.heard, "\n")
		if c.want == "" && (!strings.Contains(heard, "MAIL FROM:<a@example.org>") || !strings.Contains(heard, "RCPT TO:<b@example.org>") || strings.Contains(heard, "AUTH PLAIN") != c.login) {
			t.Errorf("%s: heard\n%s", c.name, heard)
		}
		for _, want := range []string{"Subject: Holdfast cloud.example.org: test of the alerts\r\n", "Auto-Submitted: auto-generated\r\n", "Nothing is wrong."} {
			if c.want == "" && !strings.Contains(s.text, want) {
				t.Errorf("%s: no %q in\n%s", c.name, want, s.text)
			}
		}
	}
}

// A mail server that hangs is left after a while; an untrusted one gets no password.
func TestMailServerHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &mailServer{Listener: l, script: map[string]string{"MAIL": "hang"}}
	done := make(chan struct{})
	go func() { defer close(done); s.serve() }()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	m := &mail{cfg: &Config{Settings: watchOf(l.Addr().String())}, recipient: "b@example.org"}
	if err := m.send(ctx, &Message{ID: "1"}); err == nil {
		t.Error("a server that hangs took it")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	<-done

	certs := httptest.NewTLSServer(nil)
	defer certs.Close()
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s = &mailServer{Listener: l, cert: &tls.Config{Certificates: certs.TLS.Certificates, MinVersion: tls.VersionTLS12}}
	done = make(chan struct{})
	go func() { defer close(done); s.serve() }()
	w := watchOf(l.Addr().String())
	w.AlertMailTLS, w.AlertMailUser, w.AlertMailPassword = config.MailStartTLS, "user", "password"
	res := Test(t.Context(), Config{Settings: w})
	if !strings.Contains(res[0].Err, "certificate") {
		t.Errorf("an untrusted server: %+v", res)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
	if heard := strings.Join(s.heard, "\n"); strings.Contains(heard, "AUTH") || strings.Contains(heard, "MAIL") {
		t.Errorf("it heard\n%s", heard)
	}
}
