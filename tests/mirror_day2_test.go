package clients

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// command runs a subcommand beside the server and hands back what it printed and its exit code.
func (s *server) command(args ...string) (string, int) {
	out, err := exec.Command(binary, append(args, "--data", s.data)...).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return string(out), exit.ExitCode()
	case err != nil:
		return string(out) + err.Error(), -1
	}
	return string(out), 0
}

// TestMirrorVerbsKilled kills the server with SIGKILL while a mirror is added, replaced and removed and the
// policy is changed, under load. The same command then ends well, nothing acknowledged is lost, and in the end
// the mirrors that are left give everything back without the store.
func TestMirrorVerbsKilled(t *testing.T) {
	r := seeded(t)
	s := newServer(t)
	j := newJournal()
	root := filepath.Dir(s.data)
	at := func(name string) string { return filepath.Join(root, name) }
	verbs := [][]string{
		{"mirror", "add", "attic", at("attic")},
		{"mirror", "policy", "degraded", "--yes"},
		{"mirror", "replace", "attic", at("attic2")},
		{"mirror", "policy", "strict"},
		{"mirror", "remove", "mirror"},
		{"mirror", "add", "mirror", at("mirror-again")},
		{"mirror", "replace", "attic", at("attic3")},
		{"mirror", "remove", "mirror"},
	}
	kills := 0
	for _, verb := range verbs {
		for range 2 {
			l := startLoad(s, j, r, 2, true)
			l.waitAcks(5, 60*time.Second)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				s.command(verb...)
			}()
			moment := time.NewTimer(time.Duration(r.IntN(400)) * time.Millisecond)
			select {
			case <-moment.C:
			case <-ended:
			}
			s.kill()
			kills++
			l.stop()
			<-ended
			s.start()
			j.verify(t, s)
		}
		s.eventually(60*time.Second, strings.Join(verb, " "), func() error {
			out, code := s.command(verb...)
			if code != 0 && !strings.Contains(out, "no mirror is called") {
				return fmt.Errorf("code %d: %s", code, out)
			}
			return nil
		})
		j.verify(t, s)
	}
	s.eventually(60*time.Second, "the fence is open", func() error {
		if out, code := s.command("status"); code != 0 {
			return errors.New(out)
		}
		return nil
	})
	s.stop()
	for _, gone := range []string{filepath.Join(s.data, "store"), s.mirror, at("attic"), at("attic2"), at("mirror-again")} {
		if err := os.RemoveAll(gone); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	j.verify(t, s)
	t.Logf("%d kills", kills)
}

// TestMirrorAddWhileServing adds a mirror to a server with some hundred MB while clients write. Writes are
// acknowledged before, meanwhile and afterwards, and the new mirror alone gives all of it back.
func TestMirrorAddWhileServing(t *testing.T) {
	r := seeded(t)
	s := newServer(t)
	j := newJournal()
	c := s.client("alice")
	big := strings.Repeat("0123456789abcdef", 1<<20) // 16 MiB
	for i := range 14 {
		if err := j.write(c, fmt.Sprintf("/dav/alice/Files/big-%d", i), version{body: fmt.Sprint(i) + big}, false); err != nil {
			t.Fatal(err)
		}
	}
	l := startLoad(s, j, r, 2, false)
	l.waitAcks(20, 60*time.Second)
	before := l.acks.Load()
	if out, code := s.command("mirror", "add", "attic", filepath.Join(filepath.Dir(s.data), "attic")); code != 0 || !strings.Contains(out, "Mirror attic counts") {
		t.Fatalf("mirror add: code %d: %s", code, out)
	}
	if now := l.acks.Load(); now == before {
		t.Error("no write was acknowledged while the mirror was being added")
	} else {
		t.Logf("%d writes were acknowledged meanwhile", now-before)
	}
	l.waitAcks(20, 60*time.Second)
	l.stop()
	j.verify(t, s)
	if out, code := s.command("mirror", "remove", "mirror"); code != 0 {
		t.Fatalf("mirror remove: code %d: %s", code, out)
	}
	s.stop()
	for _, gone := range []string{"store", "blobs/1", "blobs/2"} {
		if err := os.RemoveAll(filepath.Join(s.data, gone)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(s.mirror); err != nil {
		t.Fatal(err)
	}
	s.start()
	j.verify(t, s)
}
