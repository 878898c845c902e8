package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/auth"
	"holdfast/internal/config"
	"holdfast/internal/durable"
)

const password = "correct horse"

// made is a data directory with an account alice.
func made(t *testing.T, dir string) Config {
	t.Helper()
	c := config.Default()
	c.ServerID = holdfast.ServerID{7}
	c.Mirrors = []config.Mirror{{Name: "mirror", Path: filepath.Join(t.TempDir(), "mirror")}}
	c.Listen = []string{"127.0.0.1:0"}
	cfg := Config{Dir: dir, Settings: c, Version: "test", Log: slog.New(slog.DiscardHandler)}
	if err := Create(t.Context(), dir, c, cfg.Log); err != nil {
		t.Fatal(err)
	}
	call(t, cfg, "account/add", AccountRequest{Name: "alice", Password: password}, &auth.Account{})
	return cfg
}

// call runs one admin operation that must succeed, and says whether a server answered.
func call(t *testing.T, cfg Config, op string, in, out any) (beside bool) {
	t.Helper()
	c, err := Connect(t.Context(), cfg, func(string) {})
	if err != nil {
		t.Fatalf("%s: %v", op, err)
	}
	if err := errors.Join(c.Call(t.Context(), op, in, out), c.Close()); err != nil {
		t.Fatalf("%s: %v", op, err)
	}
	return c.Beside()
}

// running is a server in this process.
type running struct {
	t    *testing.T
	cfg  Config
	url  string
	stop context.CancelFunc
	done chan error

	client *http.Client // nil: one for each request
}

func start(t *testing.T, cfg Config) *running {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	r := &running{t: t, cfg: cfg, stop: stop, done: make(chan error, 1)}
	ready := make(chan string, 1)
	cfg.Ready = func(urls []string) { ready <- urls[0] }
	go func() { r.done <- Run(ctx, cfg) }()
	select {
	case r.url = <-ready:
	case err := <-r.done:
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() {
		stop()
		<-r.done
	})
	return r
}

// open waits until the fence is open.
func (r *running) open() *running {
	r.t.Helper()
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		if res := r.do(http.MethodGet, "readyz", nil); res.StatusCode == http.StatusOK {
			return r
		}
	}
}

func (r *running) end() error {
	r.stop()
	err := <-r.done
	r.done <- nil // for the cleanup
	return err
}

// do sends a request with alice's password and returns the answer, its body read.
func (r *running) do(method, path string, body io.Reader) *http.Response {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	req.SetBasicAuth("alice", password)
	req.Header.Set("Depth", "1")
	c := r.client
	if c == nil {
		c = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		defer c.CloseIdleConnections()
	}
	res, err := c.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	res.Body = io.NopCloser(strings.NewReader(string(b)))
	return res
}

func text(res *http.Response) string {
	b, _ := io.ReadAll(res.Body)
	return string(b)
}

func TestServe(t *testing.T) {
	r := start(t, made(t, filepath.Join(t.TempDir(), "data"))).open()
	for _, c := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"PROPFIND", "dav/alice/", 207, "/dav/alice/contacts/"},
		{"PUT", "dav/alice/Files/a.txt", 201, ""},
		{"GET", "dav/alice/Files/a.txt", 200, "hello"},
		{"GET", "healthz", 200, "alive"},
		{"GET", "readyz", 200, "open"},
		{"HEAD", "readyz", 200, ""},
		{"GET", "", 200, "does not lose what it has acknowledged"},
		{"POST", "", 405, ""},
		{"GET", "nothing", 404, ""},
		{"PROPFIND", ".well-known/caldav", 301, ""},
		{"PROPFIND", "dav", 308, ""},
		{"GET", "dav/alice/%2e%2e/x", 400, ""},
	} {
		var body io.Reader
		if c.method == "PUT" {
			body = strings.NewReader("hello")
		}
		res := r.do(c.method, c.path, body)
		if got := text(res); res.StatusCode != c.status || !strings.Contains(got, c.want) {
			t.Errorf("%s /%s: got %d %q, want %d with %q", c.method, c.path, res.StatusCode, got, c.status, c.want)
		}
	}
	if loc := r.do("GET", ".well-known/carddav", nil).Header.Get("Location"); loc != "/dav/" {
		t.Errorf("Location %q, want a path", loc)
	}
	var p PublicStatus
	body := text(r.do("GET", "status.json", nil))
	if err := json.Unmarshal([]byte(body), &p); err != nil || p.State != "open" || len(p.Mirrors) != 1 || p.Mirrors[0].State != "complete" {
		t.Errorf("status.json: %+v, %v", p, err)
	}
	if strings.Contains(body, r.cfg.Dir) || strings.Contains(body, "alice") {
		t.Errorf("status.json tells too much: %s", body)
	}
	if err := r.end(); err != nil {
		t.Errorf("end: %v", err)
	}
}

// The same operations answer the same beside a server and without one, also where the path of the
// data directory is too long for a socket.
func TestAdminBesideAndWithout(t *testing.T) {
	deep := filepath.Join(t.TempDir(), strings.Repeat("deep/", 30))
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	cfg := made(t, filepath.Join(deep, "data"))
	if n := len(filepath.Join(cfg.Dir, runName, socketName)); n < 150 {
		t.Fatalf("path of %d bytes is not deep", n)
	}
	work := func(name string, want bool) {
		var d NewDevice
		if got := call(t, cfg, "device/add", DeviceRequest{Account: "alice", Device: name}, &d); got != want || d.Password == "" || len(d.URLs) != 1 {
			t.Errorf("device %s: beside %v, want %v: %+v", name, got, want, d)
		}
		var st Status
		call(t, cfg, "status", Nothing{}, &st)
		if st.State != "open" || st.Running != want || st.People != 1 {
			t.Errorf("status: %+v, want open, running %v, 1 account", st, want)
		}
		c, err := Connect(t.Context(), cfg, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		for op, kind := range map[string]error{"account/add": holdfast.ErrExists, "account/remove": holdfast.ErrNotFound, "nonsense": holdfast.ErrInvalid} {
			in := AccountRequest{Name: "alice", Password: "x"}
			if op == "account/remove" {
				in = AccountRequest{Name: "nobody"}
			}
			if err := c.Call(t.Context(), op, in, &Nothing{}); !errors.Is(err, kind) {
				t.Errorf("%s (beside %v): got %v, want %v", op, want, err, kind)
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	work("before", false)
	r := start(t, cfg).open()
	work("beside", true)
	info, err := os.Stat(filepath.Join(cfg.Dir, runName, socketName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v; want mode 0600", info, err)
	}
	if err := Run(t.Context(), cfg); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("second server: got %v, want ErrLocked", err)
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, runName, socketName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	work("after", false)
}

// A socket that a killed server left does not matter.
func TestStaleSocket(t *testing.T) {
	cfg := made(t, filepath.Join(t.TempDir(), "data"))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(cfg.Dir, runName, socketName)})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if beside := call(t, cfg, "account/list", AccountRequest{}, &[]auth.Account{}); beside {
		t.Error("a dead socket was taken for a server")
	}
	r := start(t, cfg)
	if beside := call(t, cfg, "account/list", AccountRequest{}, &[]auth.Account{}); !beside {
		t.Error("the server was not asked")
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}
}

// While a mirror is away every data verb is told to wait; nothing is denied or missing.
func TestFenced(t *testing.T) {
	cfg := made(t, filepath.Join(t.TempDir(), "data"))
	if err := os.Rename(cfg.Settings.Mirrors[0].Path, cfg.Settings.Mirrors[0].Path+".away"); err != nil {
		t.Fatal(err)
	}
	r := start(t, cfg)
	for _, method := range []string{"GET", "PUT", "PROPFIND", "DELETE", "REPORT", "OPTIONS"} {
		for _, path := range []string{
			"dav/alice/contacts/", "dav/alice/none", "dav/", "dav/principals/alice/", "dav/bob/", "dav/../x", "dav", "none",
			".well-known/caldav", ".well-known/carddav", ".well-known/none",
		} {
			if res := r.do(method, path, nil); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
				t.Errorf("%s /%s: got %d, want 503 with Retry-After", method, path, res.StatusCode)
			}
		}
	}
	if res := r.do("PROPFIND", "", nil); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("PROPFIND /: got %d, want 503 with Retry-After", res.StatusCode)
	}
	if res := r.do("GET", "readyz", nil); res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(text(res), "closed") {
		t.Errorf("readyz: got %d", res.StatusCode)
	}
	if res := r.do("GET", "healthz", nil); res.StatusCode != http.StatusOK {
		t.Errorf("healthz: got %d", res.StatusCode)
	}
	if body := text(r.do("GET", "status.json", nil)); strings.Contains(body, cfg.Settings.Mirrors[0].Path) || !strings.Contains(body, `"closed"`) {
		t.Errorf("status.json: %s", body)
	}
	c, err := Connect(t.Context(), cfg, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Call(t.Context(), "account/list", AccountRequest{}, &Nothing{}); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("account/list: got %v, want ErrFenced", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := os.Rename(cfg.Settings.Mirrors[0].Path+".away", cfg.Settings.Mirrors[0].Path); err != nil {
		t.Fatal(err)
	}
	r.open()
	if res := r.do("PROPFIND", "dav/alice/", nil); res.StatusCode != http.StatusMultiStatus {
		t.Errorf("with the mirror back: got %d, want 207", res.StatusCode)
	}
}

// A request that is under way when SIGTERM comes is finished and acknowledged.
func TestDrain(t *testing.T) {
	cfg := made(t, filepath.Join(t.TempDir(), "data"))
	r := start(t, cfg).open()
	pr, pw := io.Pipe()
	status := make(chan int, 1)
	go func() { status <- r.do("PUT", "dav/alice/Files/slow.txt", pr).StatusCode }()
	if _, err := pw.Write([]byte("first half, ")); err != nil { // taken by the connection: the request is under way
		t.Fatal(err)
	}
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C { // until its connection is not a new one any more
		if res := r.do("GET", "healthz", nil); res.StatusCode == http.StatusOK {
			tick.Stop()
			break
		}
	}
	r.stop()
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		c, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(r.url, "http://"), "/"))
		if err != nil {
			break // nobody new is taken
		}
		c.Close()
	}
	if _, err := pw.Write([]byte("second half")); err != nil {
		t.Fatal(err)
	}
	pw.Close()
	if got := <-status; got != http.StatusCreated {
		t.Errorf("the running PUT got %d, want 201", got)
	}
	if err := r.end(); err != nil {
		t.Errorf("end: %v", err)
	}
	r = start(t, cfg).open()
	if got := text(r.do("GET", "dav/alice/Files/slow.txt", nil)); got != "first half, second half" {
		t.Errorf("after the restart: %q", got)
	}
}

// A client that stops sending, or never ends its header, is let go.
func TestStalledUpload(t *testing.T) {
	cfg := made(t, filepath.Join(t.TempDir(), "data"))
	cfg.Settings.ProgressTimeout = 300 * time.Millisecond
	r := start(t, cfg).open()
	c, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(r.url, "http://"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "PUT /dav/alice/Files/never.txt HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==\r\nContent-Length: 1000\r\n\r\nabc")
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(bufio.NewReader(c))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the connection was kept")
	}
	if strings.HasPrefix(string(answer), "HTTP/1.1 2") {
		t.Errorf("half an upload was acknowledged: %s", answer)
	}
	if res := r.do("GET", "dav/alice/Files/never.txt", nil); res.StatusCode != http.StatusNotFound {
		t.Errorf("half an upload is there: %d", res.StatusCode)
	}
}

// An answer does not wait for a body that nobody reads: whoever holds a connection open by that would
// keep everybody else out, without a password.
func TestUnreadBody(t *testing.T) {
	cfg := made(t, filepath.Join(t.TempDir(), "data"))
	cfg.Settings.ProgressTimeout = 300 * time.Millisecond
	r := start(t, cfg).open()
	const mine = "Authorization: Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==\r\n"
	for _, c := range []struct{ head, want string }{
		{"PUT /dav/alice/Files/x HTTP/1.1\r\nContent-Length: 1000\r\n", "401"},
		{"PUT /dav/alice/Files/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", "401"},
		{"GET / HTTP/1.1\r\nContent-Length: 1000\r\n", "200"},
		{"GET /none HTTP/1.1\r\nContent-Length: 1000\r\n", "404"},
		{"DELETE /dav/alice/Files/none HTTP/1.1\r\nContent-Length: 1000\r\n" + mine, "404"},
		{"PUT /dav/alice/none/x HTTP/1.1\r\nContent-Length: 1000\r\n" + mine, "409"},
		{"PUT /dav/alice/none/x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n" + mine, "409"},
		{"PUT /dav/alice/Files/x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n", "401"},
	} {
		conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(r.url, "http://"), "/"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%sHost: x\r\n\r\n", c.head)
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: no answer, or the connection was kept", c.head)
		}
		if !strings.HasPrefix(string(answer), "HTTP/1.1 "+c.want) { // no 100 before it
			t.Errorf("%q: got %.40q, want %s", c.head, answer, c.want)
		}
		conn.Close()
	}
}

func TestRefusals(t *testing.T) {
	cfg := made(t, filepath.Join(t.TempDir(), "data"))
	unsafe := *cfg.Settings
	unsafe.Listen = []string{"0.0.0.0:0"}
	if err := Run(t.Context(), Config{Dir: cfg.Dir, Settings: &unsafe, Log: cfg.Log}); !errors.Is(err, holdfast.ErrDenied) {
		t.Errorf("plain HTTP for everybody: got %v, want ErrDenied", err)
	}
	if err := Run(t.Context(), Config{Dir: t.TempDir(), Settings: cfg.Settings, Log: cfg.Log}); !errors.Is(err, holdfast.ErrAbsent) {
		t.Errorf("no data directory: got %v, want ErrAbsent", err)
	}
	if err := Create(t.Context(), cfg.Dir, cfg.Settings, cfg.Log); !errors.Is(err, holdfast.ErrExists) {
		t.Errorf("create again: got %v, want ErrExists", err)
	}
	root := t.TempDir()
	for dir, mirror := range map[string]string{"a": "a/b", "c/d": "c", "e": "e"} {
		c := *cfg.Settings
		c.Mirrors = []config.Mirror{{Name: "m", Path: filepath.Join(root, mirror)}}
		if err := Create(t.Context(), filepath.Join(root, dir), &c, cfg.Log); !errors.Is(err, holdfast.ErrDenied) {
			t.Errorf("data in %s, mirror in %s: got %v, want ErrDenied", dir, mirror, err)
		}
	}
	if left, err := os.ReadDir(root); err != nil || len(left) != 0 {
		t.Errorf("refused, but made %v, %v", left, err)
	}
}

// A data directory can be moved.
func TestMove(t *testing.T) {
	root := t.TempDir()
	cfg := made(t, filepath.Join(root, "old"))
	if err := os.Rename(cfg.Dir, filepath.Join(root, "new")); err != nil {
		t.Fatal(err)
	}
	cfg.Dir = filepath.Join(root, "new")
	r := start(t, cfg).open()
	if res := r.do("PROPFIND", "dav/alice/", nil); res.StatusCode != http.StatusMultiStatus {
		t.Errorf("got %d, want 207", res.StatusCode)
	}
}

// When the ledger does not know any more what is true, the server ends in good order and says so: exit code 75.
func TestFatal(t *testing.T) {
	cfg := made(t, filepath.Join(t.TempDir(), "data"))
	s := newServer(cfg)
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	fatal := make(chan error, 1)
	fatal <- errors.New("sync segment: input/output error")
	s.fatal = fatal
	if err := s.wait(t.Context()); !errors.Is(err, holdfast.ErrFatal) {
		t.Errorf("got %v, want ErrFatal", err)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	lock, err := durable.Lock(filepath.Join(cfg.Dir, lockName))
	if err != nil {
		t.Fatalf("the lock was not given back: %v", err)
	}
	if err := lock.Unlock(); err != nil {
		t.Error(err)
	}
}
