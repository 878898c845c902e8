package clients

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMirrorAway takes the mirror away from a running server and brings it back. Meanwhile the server is
// held: reads are true, writes are asked to wait. Afterwards it goes on by itself.
func TestMirrorAway(t *testing.T) {
	r := seeded(t)
	s := newServer(t)
	j := newJournal()
	before := preload(t, s, j)

	l := startLoad(s, j, r, 2, false)
	l.waitAcks(20, 60*time.Second)
	away := s.mirror + ".away"
	if err := os.Rename(s.mirror, away); err != nil {
		t.Fatal(err)
	}
	c := s.client("alice")
	s.eventually(20*time.Second, "a write is asked to wait", func() error { return mustWait(j, c, "/dav/alice/Files/while-away") })
	acked := l.acks.Load()
	for i := range 10 { // held: no write gets through, every read is true
		if err := mustWait(j, c, fmt.Sprintf("/dav/alice/Files/while-away-%d", i)); err != nil {
			t.Error(err)
		}
		if waits := before.check(t); waits > 0 {
			t.Errorf("%d listings were refused while held, want true answers", waits)
		}
	}
	if now := l.acks.Load(); now > acked+4 { // each of the 4 writers may have had an answer on its way
		t.Errorf("%d writes were acknowledged without the mirror", now-acked)
	}
	if _, err := os.Stat(s.mirror); err == nil {
		t.Errorf("the server made a mirror in the place of the one that is away")
	}
	s.alive()
	if err := os.Rename(away, s.mirror); err != nil {
		t.Fatal(err)
	}
	l.waitAcks(20, 60*time.Second)
	l.stop()
	j.verify(t, s)

	s.stop()
	if err := os.RemoveAll(filepath.Join(s.data, "store")); err != nil { // so all must have come from the mirror
		t.Fatal(err)
	}
	s.start()
	j.verify(t, s)
	before.check(t)
}

// TestMirrorAwayAtStart starts a server without its mirror: it must neither acknowledge nor make a new one.
func TestMirrorAwayAtStart(t *testing.T) {
	s := newServer(t)
	j := newJournal()
	c := s.client("alice")
	if err := j.write(c, "/dav/alice/Files/a", version{body: "a"}, false); err != nil {
		t.Fatal(err)
	}
	s.stop()
	away := s.mirror + ".away"
	if err := os.Rename(s.mirror, away); err != nil {
		t.Fatal(err)
	}
	s.launch()
	s.eventually(30*time.Second, "a write is asked to wait, or the server says why it does not start", func() error {
		select {
		case <-s.exited:
			if s.cmd.ProcessState.ExitCode() == 0 {
				return fatalError{fmt.Errorf("serve ended with code 0")}
			}
			return nil
		default:
		}
		err := mustWait(j, c, "/dav/alice/Files/b")
		if err != nil && !isLost(err) {
			return fatalError{err}
		}
		return err
	})
	if _, err := os.Stat(s.mirror); err == nil {
		t.Errorf("the server made a mirror in the place of the one that is away")
	}
	if err := os.Rename(away, s.mirror); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.exited:
		s.launch()
	default:
	}
	s.eventually(60*time.Second, "a write is acknowledged", func() error {
		return j.write(c, "/dav/alice/Files/c", version{body: "c"}, true)
	})
	j.verify(t, s)
}

// mustWait writes a file and returns nil if the answer was "wait".
func mustWait(j *journal, c *client, path string) error {
	switch err := j.write(c, path, version{body: path}, false, 507); err {
	case nil:
		return fmt.Errorf("PUT %s was acknowledged", path)
	case errWait:
		return nil
	default:
		return err
	}
}

// TestFullDisk fills the disk of the store, then that of the mirror. A write that does not fit is answered
// 507 and leaves nothing behind; reads go on; once there is room again writes go on without a hand.
func TestFullDisk(t *testing.T) {
	for _, which := range []string{"store", "mirror"} {
		t.Run(which, func(t *testing.T) { testFullDisk(t, which) })
	}
}

func testFullDisk(t *testing.T, which string) {
	root := t.TempDir()
	small := filepath.Join(root, "small")
	mountSmall(t, small, "600m")
	dirs := map[string]string{"store": filepath.Join(root, "data"), "mirror": filepath.Join(root, "mirror")}
	dirs[which] = filepath.Join(small, "holdfast")
	s := prepareServer(t, dirs["store"], dirs["mirror"])
	s.start()
	j := newJournal()
	before := preload(t, s, j)

	ballast := filepath.Join(small, "ballast")
	fill(t, ballast)
	c := s.client("alice")
	big := strings.Repeat("x", 1<<20)
	a := c.must(t, []int{507}, "PUT", "/dav/alice/Files/big", []byte(big))
	t.Logf("a big file: %d %.200s", a.status, a.body)
	c.must(t, []int{404}, "GET", "/dav/alice/Files/big", nil)
	full := 0
	for i := range 3000 { // small writes fit until what was set aside is used up
		path := fmt.Sprintf("/dav/alice/contacts/full-%d.vcf", i)
		err := j.write(c, path, version{body: card(fmt.Sprintf("full-%d", i), "Full", big[:30_000])}, false, 507)
		if err == errWait {
			if full++; full == 5 {
				break
			}
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if full == 0 && which == "store" {
		t.Errorf("3000 cards of 30 kB were acknowledged on a full disk")
	}
	if waits := before.check(t); waits > 0 {
		t.Errorf("%d listings were refused on a full disk, want true answers", waits)
	}
	s.alive()
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s.eventually(60*time.Second, "a write is acknowledged again", func() error {
		return j.write(c, "/dav/alice/Files/big", version{body: big}, false, 507)
	})
	j.verify(t, s)
	s.stop()
	s.start()
	j.verify(t, s)
	before.check(t)
}

// fill writes a file until the disk has no room.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10, 1} {
		for block := make([]byte, size); err == nil; {
			_, err = f.Write(block)
		}
		err = nil
	}
}

// mountSmall mounts a file system in memory of the size given.
func mountSmall(t *testing.T, at, size string) {
	t.Helper()
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "holdfast-test", at).CombinedOutput(); err != nil {
		t.Fatalf("this test needs root and the right to mount a tmpfs; mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", at).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
}
