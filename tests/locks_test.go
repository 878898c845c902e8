package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestCadaverLocks: lock, discover, steal and unlock with cadaver. Another cadaver cannot write meanwhile.
func TestCadaverLocks(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	host, _, _ := strings.Cut(s.addr, ":")
	device := func(body string) func(script ...string) string {
		p := newProgram(t)
		p.write(".netrc", fmt.Sprintf("machine %s login alice password %q\n", host, s.passwords["alice"]))
		p.write("letter.txt", body)
		return func(script ...string) string {
			return p.run(strings.Join(append(script, "quit"), "\n")+"\n", "cadaver", "http://"+s.addr+"/dav/alice/Files/")
		}
	}
	c := s.client("alice")
	c.put(t, "/dav/alice/Files/letter.txt", "first")
	one, two := device("by one"), device("by two")

	// cadaver ends its own locks when it quits, so the one that stays is taken over plain HTTP.
	if out := one("lock letter.txt", "put letter.txt", "showlocks", "unlock letter.txt"); strings.Contains(out, "failed") || !strings.Contains(out, "opaquelocktoken:") {
		t.Errorf("lock, put and unlock: %s", out)
	}
	c.get(t, "/dav/alice/Files/letter.txt", "by one")
	info := []byte(`<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype><D:owner>a program that crashed</D:owner></D:lockinfo>`)
	c.must(t, []int{200}, "LOCK", "/dav/alice/Files/letter.txt", info)
	if out := two("put letter.txt", "lock letter.txt"); !strings.Contains(out, "423 Locked") {
		t.Errorf("put and lock of what another has locked: %s", out)
	}
	c.get(t, "/dav/alice/Files/letter.txt", "by one")
	if out := two("discover letter.txt"); !strings.Contains(out, "a program that crashed") {
		t.Errorf("discover: %s", out)
	}
	if out := two("steal letter.txt", "put letter.txt", "unlock letter.txt"); strings.Contains(out, "failed") {
		t.Errorf("steal, put and unlock: %s", out)
	}
	c.get(t, "/dav/alice/Files/letter.txt", "by two")
	c.put(t, "/dav/alice/Files/letter.txt", "free")
}

// TestDavfsLocks: a file that is open on one disk cannot be opened for writing on another one, also after the server was
// killed and started again, and what was written is saved.
func TestDavfsLocks(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := s.client("alice")
	const letter = "/dav/alice/Files/letter.txt"
	c.put(t, letter, "first")
	p := newProgram(t)
	one, unmountOne := mountDavfs(t, s, p, "one")
	two, unmountTwo := mountDavfs(t, s, p, "two")

	f, err := os.OpenFile(filepath.Join(one, "letter.txt"), os.O_RDWR|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("on disk one"); err != nil {
		t.Fatal(err)
	}
	a := c.must(t, []int{207}, "PROPFIND", letter, []byte(`<D:propfind xmlns:D="DAV:"><D:prop><D:lockdiscovery/></D:prop></D:propfind>`), "Depth", "0")
	if !strings.Contains(string(a.body), "<D:owner>one</D:owner>") {
		t.Errorf("the file that is open is not locked: %s", a.body)
	}
	if g, err := os.OpenFile(filepath.Join(two, "letter.txt"), os.O_RDWR, 0); err == nil {
		t.Errorf("the other disk opened it, too (close: %v)", g.Close())
	}
	if got, err := os.ReadFile(filepath.Join(two, "letter.txt")); err != nil || string(got) != "first" {
		t.Errorf("reading on the other disk: %q, %v", got, err)
	}
	c.must(t, []int{423}, "PUT", letter, []byte("by another program"))

	s.kill()
	s.start()
	if err := f.Close(); err != nil {
		t.Errorf("close after the server came back: %v", err)
	}
	s.eventually(30*time.Second, "what was written on disk one is there", func() error {
		a, err := c.do("GET", letter, nil)
		if err == nil && string(a.body) != "on disk one" {
			err = fmt.Errorf("it is %q", a.body)
		}
		return err
	})
	unmountOne()
	s.eventually(30*time.Second, "the lock is gone", func() error {
		a, err := c.do("PUT", letter, []byte("free"))
		if err != nil {
			return err
		}
		return a.want(204)
	})
	unmountTwo()
}

// TestLocksRunbook runs docs/runbooks/locks.md.
func TestLocksRunbook(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	c := s.client("alice")
	c.put(t, "/dav/alice/Files/letter.txt", "first")
	c.must(t, []int{200}, "LOCK", "/dav/alice/Files/letter.txt",
		[]byte(`<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>`), "Timeout", "Infinite")
	c.must(t, []int{423}, "PUT", "/dav/alice/Files/letter.txt", []byte("x"))
	runBlocks(newProgram(t, "ADDRESS=http://"+s.addr, "NAME=alice", "PASSWORD="+s.passwords["alice"]), filepath.Join("docs", "runbooks", "locks.md"))
	c.put(t, "/dav/alice/Files/letter.txt", "free")

	// A device that is revoked holds nothing any more.
	out := s.holdfast("", "device", "add", "alice", "laptop", "--data", s.data)
	laptop := s.client("alice")
	laptop.password = regexp.MustCompile(`password +(\S+)`).FindStringSubmatch(out)[1]
	laptop.must(t, []int{201}, "LOCK", "/dav/alice/Files/of-laptop.txt",
		[]byte(`<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>`))
	c.must(t, []int{423}, "PUT", "/dav/alice/Files/of-laptop.txt", []byte("x"))
	s.holdfast("", "device", "revoke", "alice", "laptop", "--data", s.data)
	c.put(t, "/dav/alice/Files/of-laptop.txt", "free")
}
