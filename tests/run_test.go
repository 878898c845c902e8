package clients

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRun is `make run` without the build: the first start makes an account and shows its password once,
// the second finds the same data, and Ctrl-C ends each of them with exit code 0.
func TestRun(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := &server{t: t, addr: freeAddr(t), passwords: map[string]string{}}
	s.data, s.mirror = filepath.Join(root, "data"), filepath.Join(root, "data-mirror")
	t.Cleanup(s.end)
	start := func() string {
		s.out, s.exited = &output{}, make(chan struct{})
		s.cmd = exec.Command(filepath.Join("..", "scripts", "run"), s.addr, s.data, s.mirror)
		s.cmd.Env = append(s.cmd.Environ(), "HOLDFAST_BIN="+binary)
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		s.cmd.Stdout, s.cmd.Stderr = s.out, s.out
		if err := s.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func(cmd *exec.Cmd, exited chan struct{}) {
			_ = cmd.Wait() // the state is read from ProcessState
			close(exited)
		}(s.cmd, s.exited)
		nobody := s.client("nobody")
		s.eventually(30*time.Second, "the server asks for a password", func() error {
			a, err := nobody.do("PROPFIND", "/dav/owner/", nil, "Depth", "0")
			if err != nil {
				return err
			}
			return a.want(401)
		})
		return s.out.last(1000)
	}
	interrupt := func() {
		s.signal(syscall.SIGINT)
		if code := s.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d after Ctrl-C, want 0", code)
		}
	}
	shown := regexp.MustCompile(`password  (\S+)`)

	first := start()
	found := shown.FindStringSubmatch(first)
	if found == nil || !strings.Contains(first, "http://"+s.addr) {
		t.Fatalf("the first start shows no password or address:\n%s", first)
	}
	s.passwords["owner"] = found[1]
	s.client("owner").put(t, "/dav/owner/Files/kept.txt", "kept")
	interrupt()
	if second := start(); shown.MatchString(second) {
		t.Errorf("the second start shows a password again:\n%s", second)
	}
	s.client("owner").get(t, "/dav/owner/Files/kept.txt", "kept")
	interrupt()
}
