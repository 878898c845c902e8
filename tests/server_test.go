package clients

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	update   = flag.Bool("update", false, "rewrite the golden files")
	crashFor = flag.Duration("crash", 0, "keep the kill -9 test going for this long")
	seedFlag = flag.Uint64("seed", 0, "seed of the random parts; 0 takes a new one")
)

// seeded returns a random source and says how to repeat the run.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d (repeat with -seed)", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	if binary = os.Getenv("HOLDFAST_BIN"); binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "holdfast-clients-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a directory for the binary:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "holdfast")
	build := exec.Command("go", "build", "-trimpath", "-o", binary, "holdfast/cmd/holdfast")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build holdfast: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// A server is one Holdfast with two accounts, alice and bob, in a directory of the test.
type server struct {
	t            *testing.T
	data, mirror string            // DIR and its mirror
	addr         string            // host:port; the same after each restart
	passwords    map[string]string // account to password
	wrap         []string          // a program that runs the server, as strace
	cmd          *exec.Cmd
	exited       chan struct{} // closed when the process is gone
	out          *output
}

// newServer makes and starts a server in a temporary directory.
func newServer(t *testing.T) *server {
	t.Helper()
	root := t.TempDir()
	s := prepareServer(t, filepath.Join(root, "data"), filepath.Join(root, "mirror"))
	s.start()
	return s
}

// prepareServer makes a server in the directories given, which must not exist yet, and does not start it.
func prepareServer(t *testing.T, data, mirror string) *server {
	t.Helper()
	s := &server{t: t, data: data, mirror: mirror, addr: freeAddr(t), passwords: map[string]string{}}
	s.holdfast("", "init", "--data", data, "--mirror", mirror)
	for _, name := range []string{"alice", "bob"} {
		password := "correct horse of " + name
		s.holdfast(password+"\n", "account", "add", name, "--password-stdin", "--data", data)
		s.passwords[name] = password
	}
	t.Cleanup(s.end)
	return s
}

// freeAddr finds a port nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	defer l.Close()
	return l.Addr().String()
}

// holdfast runs a subcommand that must succeed, and returns what it printed.
func (s *server) holdfast(stdin string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("holdfast %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// start runs the server and waits until it answers as the owner of the data.
func (s *server) start() {
	s.t.Helper()
	s.launch()
	alice := s.client("alice")
	s.eventually(60*time.Second, "the server answers a PROPFIND with 207", func() error {
		select {
		case <-s.exited:
			return fatalError{fmt.Errorf("the server ended by itself: %s", s.cmd.ProcessState)}
		default:
		}
		a, err := alice.do("PROPFIND", "/dav/alice/", nil, "Depth", "0")
		if err != nil {
			return err
		}
		return a.want(http.StatusMultiStatus)
	})
}

// launch runs the server and does not wait for it.
func (s *server) launch() {
	s.t.Helper()
	args := append(append([]string{}, s.wrap...), binary, "serve", "--data", s.data, "--listen", s.addr)
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if s.out == nil {
		s.out = &output{}
	}
	s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("start %v: %v", args, err)
	}
	exited, cmd := make(chan struct{}), s.cmd
	s.exited = exited
	go func() {
		_ = cmd.Wait() // the state is read from ProcessState
		close(exited)
	}()
}

// stop asks the server to end and wants exit code 0.
func (s *server) stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.t.Fatalf("serve ended with code %d after SIGTERM, want 0", code)
	}
}

// kill ends the server as a power cut of the process would.
func (s *server) kill() {
	s.t.Helper()
	s.signal(syscall.SIGKILL)
}

// signal sends a signal to the server, and whatever runs it, and waits for the end.
func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(-s.cmd.Process.Pid, sig); err != nil {
		s.t.Fatalf("send %s to the server: %v", sig, err)
	}
	select {
	case <-s.exited:
	case <-time.After(30 * time.Second):
		s.t.Fatalf("the server did not end within 30 s of %s", sig)
	}
}

// end is the cleanup: no server outlives its test; the log of a failed one is shown.
func (s *server) end() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // may be gone already
		<-s.exited
	}
	if s.t.Failed() && s.out != nil {
		s.t.Logf("the server's last words:\n%s", s.out.last(80))
	}
}

// alive fails the test if the server has ended.
func (s *server) alive() {
	s.t.Helper()
	select {
	case <-s.exited:
		s.t.Fatalf("the server ended by itself: %s", s.cmd.ProcessState)
	default:
	}
}

// A fatalError ends eventually at once.
type fatalError struct{ error }

// eventually asks again and again until check returns nil.
func (s *server) eventually(limit time.Duration, what string, check func() error) {
	s.t.Helper()
	eventually(s.t, limit, what, check)
}

func eventually(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if f := (fatalError{}); errors.As(err, &f) {
			t.Fatalf("waiting until %s: %v", what, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("after %s still not so: %s: %v", limit, what, err)
		}
	}
}

// An output keeps the last lines a process wrote.
type output struct {
	mu    sync.Mutex
	lines []string
	rest  []byte
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rest = append(o.rest, p...)
	r := bufio.NewReader(bytes.NewReader(o.rest))
	for {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) {
			o.rest = []byte(line)
			return len(p), nil
		}
		o.lines = append(o.lines, strings.TrimSuffix(line, "\n"))
		if len(o.lines) > 2000 {
			o.lines = append([]string{}, o.lines[1000:]...)
		}
	}
}

func (o *output) last(n int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.lines[max(0, len(o.lines)-n):], "\n")
}

// A program is a stock client, run in a home directory of its own.
type program struct {
	t    *testing.T
	home string
	env  []string
}

// newProgram makes a home directory.
func newProgram(t *testing.T, env ...string) *program {
	t.Helper()
	home := t.TempDir()
	base := []string{
		"HOME=" + home, "TZ=UTC", "LC_ALL=C.UTF-8", "LANG=C.UTF-8", "TERM=dumb",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"XDG_CONFIG_HOME=" + filepath.Join(home, ".config"), "XDG_CACHE_HOME=" + filepath.Join(home, ".cache"),
		"XDG_DATA_HOME=" + filepath.Join(home, ".local/share"),
	}
	return &program{t: t, home: home, env: append(base, env...)}
}

// path returns a path in the home directory.
func (p *program) path(elem ...string) string {
	return filepath.Join(append([]string{p.home}, elem...)...)
}

// write makes a file in the home directory.
func (p *program) write(name, content string) string {
	p.t.Helper()
	full := p.path(name)
	if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return full
}

// try runs a command and returns its output and exit code.
func (p *program) try(stdin string, args ...string) (string, int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdin = p.home, p.env, strings.NewReader(stdin)
	cmd.WaitDelay = 5 * time.Second
	if full := lookPath(args[0]); full != "" {
		cmd.Path, cmd.Err = full, nil
	}
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		p.t.Fatalf("run %s: %v (make deps installs it)", args[0], err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// lookPath finds a program where Debian puts it, before anything else on the caller's path.
func lookPath(name string) string {
	for _, dir := range []string{"/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"} {
		full := filepath.Join(dir, name)
		if info, err := os.Stat(full); err == nil && !info.IsDir() {
			return full
		}
	}
	return ""
}

// run runs a command that must succeed and returns its output.
func (p *program) run(stdin string, args ...string) string {
	p.t.Helper()
	out, code := p.try(stdin, args...)
	if code != 0 {
		p.t.Fatalf("%s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}
