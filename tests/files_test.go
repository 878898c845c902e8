package clients

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestCadaver: put, ls, mkcol, move, get and delete with cadaver; plain HTTP sees the same.
func TestCadaver(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p := newProgram(t)
	host, _, _ := strings.Cut(s.addr, ":")
	p.write(".netrc", fmt.Sprintf("machine %s login alice password %q\n", host, s.passwords["alice"]))
	cadaver := func(script ...string) string {
		out := p.run(strings.Join(append(script, "quit"), "\n")+"\n", "cadaver", "http://"+s.addr+"/dav/alice/Files/")
		if strings.Contains(out, "failed") {
			t.Fatalf("cadaver %q:\n%s", script, out)
		}
		return out
	}
	letter := "Dear all,\nå 🥪\n"
	p.write("letter.txt", letter)
	cadaver("mkcol old", "put letter.txt", "put letter.txt old/copy.txt")
	c := s.client("alice")
	c.get(t, "/dav/alice/Files/letter.txt", letter)
	c.get(t, "/dav/alice/Files/old/copy.txt", letter)
	if out := cadaver("ls"); !strings.Contains(out, "letter.txt") || !strings.Contains(out, "old") {
		t.Errorf("ls: %s", out)
	}
	c.put(t, "/dav/alice/Files/letter.txt", "changed elsewhere")
	cadaver("get letter.txt back.txt", "move old/copy.txt moved.txt", "delete letter.txt", "rmcol old")
	if got, err := os.ReadFile(p.path("back.txt")); err != nil || string(got) != "changed elsewhere" {
		t.Errorf("get: %q, %v", got, err)
	}
	c.get(t, "/dav/alice/Files/moved.txt", letter)
	for _, path := range []string{"letter.txt", "old/", "old/copy.txt"} {
		c.must(t, []int{404}, "GET", "/dav/alice/Files/"+path, nil)
	}
}

// TestRclone: copy a tree up, check it, sync a changed tree, and bring it down on another device.
func TestRclone(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	a, b := newRclone(t, s), newRclone(t, s)
	big := bytes.Repeat([]byte("0123456789abcdef"), 300_000) // 4.8 MB: a blob
	a.write("tree/big.bin", string(big))
	a.write("tree/deep/er/odd name + 100% å.txt", "odd")
	a.write("tree/empty.txt", "")
	for i := range 40 {
		a.write(fmt.Sprintf("tree/many/%d.txt", i), fmt.Sprint("file ", i))
	}
	a.rclone("copy", a.path("tree"), "hf:tree")
	a.rclone("check", "--download", a.path("tree"), "hf:tree")

	if err := os.Remove(a.path("tree/many/7.txt")); err != nil {
		t.Fatal(err)
	}
	a.write("tree/many/8.txt", "changed and longer than before")
	a.write("tree/new.txt", "new")
	a.rclone("sync", a.path("tree"), "hf:tree")
	b.rclone("sync", "hf:tree", b.path("tree"))
	want, got := readTree(t, a.path("tree")), readTree(t, b.path("tree"))
	if len(got) != len(want) {
		t.Errorf("the other device has %d files, want %d", len(got), len(want))
	}
	for name, body := range want {
		if !bytes.Equal(got[name], body) {
			t.Errorf("%s on the other device: %d bytes %.60q, want %d bytes %.60q", name, len(got[name]), got[name], len(body), body)
		}
	}
	b.rclone("check", "--download", b.path("tree"), "hf:tree")
	b.rclone("purge", "hf:tree")
	s.client("alice").must(t, []int{404}, "GET", "/dav/alice/Files/tree/new.txt", nil)
}

// TestRcloneVendors: rclone as the client of a Nextcloud and of an ownCloud. It takes files up with their
// time and checksum and compares both, so a second run and another device's check find nothing to do.
// rclone 1.60.1 sends no pieces, and a file again whose time alone changed; later ones do otherwise, and
// internal/dav plays their requests.
func TestRcloneVendors(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for vendor, url := range map[string]string{
		"nextcloud": "/remote.php/dav/files/alice/Files", "owncloud": "/dav/alice/Files",
	} {
		device := func() *program {
			p := newProgram(t)
			hidden := strings.TrimSpace(p.run("", "rclone", "obscure", s.passwords["alice"]))
			p.write("rclone.conf", fmt.Sprintf("[hf]\ntype = webdav\nvendor = %s\nurl = http://%s%s\nuser = alice\npass = %s\n", vendor, s.addr, url, hidden))
			return p
		}
		rclone := func(p *program, args ...string) string {
			return p.run("", append([]string{"rclone", "--config", p.path("rclone.conf"), "--retries", "1", "-v"}, args...)...)
		}
		a, b := device(), device()
		at := time.Date(2009, 10, 2, 3, 4, 5, 0, time.UTC)
		for name, body := range map[string]string{"small.txt": "small " + vendor, "big.bin": strings.Repeat(vendor+" 0123456789", 30_000), "deep/er/å 100%.txt": ""} {
			a.write("tree/"+name, body)
			if err := os.Chtimes(a.path("tree/"+name), at, at); err != nil {
				t.Fatal(err)
			}
		}
		tree := "hf:" + vendor
		rclone(a, "copy", a.path("tree"), tree)
		if out := rclone(a, "lsl", tree); strings.Count(out, "2009-10-02") != 3 {
			t.Errorf("%s: times are not kept:\n%s", vendor, out)
		}
		if out := rclone(a, "sha1sum", tree); !strings.Contains(out, fmt.Sprintf("%x  small.txt", sha1.Sum([]byte("small "+vendor)))) {
			t.Errorf("%s: no checksums:\n%s", vendor, out)
		}
		rclone(b, "copy", tree, b.path("tree"))
		for _, p := range []*program{a, b} {
			rclone(p, "check", p.path("tree"), tree) // by checksum, without downloading
			if out := rclone(p, "sync", p.path("tree"), tree); strings.Contains(out, "Copied") {
				t.Errorf("%s: a second run copies:\n%s", vendor, out)
			}
		}
		if err := os.Chtimes(b.path("tree/small.txt"), at.Add(time.Hour), at.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		rclone(b, "sync", b.path("tree"), tree)
		if out := rclone(a, "lsl", tree); !strings.Contains(out, "2009-10-02 04:04:05") {
			t.Errorf("%s: the new time is not there:\n%s", vendor, out)
		}
	}
}

// readTree returns every file below a directory by its path.
func readTree(t *testing.T, root string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		files[rel], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// mountDavfs mounts alice's files as a disk whose locks have their own owner; what it returns last
// unmounts it and waits until everything has been uploaded.
func mountDavfs(t *testing.T, s *server, p *program, name string) (at string, unmount func()) {
	t.Helper()
	at = p.path(name)
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	url := "http://" + s.addr + "/dav/alice/Files/"
	cache := dirOf(t, "davfs2") // mount.davfs gives up root for this user
	p.write("secrets", fmt.Sprintf("%s alice %q\n", url, s.passwords["alice"]))
	p.write(name+".conf", fmt.Sprintf("secrets %s\ncache_dir %s\ndelay_upload 0\nuse_locks 1\nlock_owner %s\nask_auth 0\n",
		p.path("secrets"), cache, name))
	if out, code := p.try("", "mount.davfs", "-o", "conf="+p.path(name+".conf"), url, at); code != 0 {
		t.Fatalf("this test needs root, /dev/fuse and davfs2; mount.davfs: %s", out)
	}
	mounted := true
	t.Cleanup(func() {
		if mounted {
			_ = exec.Command("umount", "-l", at).Run() // the test has failed already
		}
	})
	return at, func() {
		t.Helper()
		mounted = false
		p.run("", "umount", at)
	}
}

// TestDavfs: the files as a mounted disk.
func TestDavfs(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p := newProgram(t)
	c := s.client("alice")
	c.put(t, "/dav/alice/Files/there.txt", "from elsewhere")
	at, unmount := mountDavfs(t, s, p, "disk")
	if got, err := os.ReadFile(filepath.Join(at, "there.txt")); err != nil || string(got) != "from elsewhere" {
		t.Errorf("read through the disk: %q, %v", got, err)
	}
	if err := os.Mkdir(filepath.Join(at, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(at, "folder", "a file.txt"), []byte("written through the disk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(at, "there.txt"), filepath.Join(at, "folder", "moved.txt")); err != nil {
		t.Fatal(err)
	}
	unmount() // waits until everything has been uploaded
	c.get(t, "/dav/alice/Files/folder/a file.txt", "written through the disk")
	c.get(t, "/dav/alice/Files/folder/moved.txt", "from elsewhere")
	c.must(t, []int{404}, "GET", "/dav/alice/Files/there.txt", nil)
}

// dirOf makes a temporary directory shared with the group of a user of the system.
func dirOf(t *testing.T, name string) string {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatalf("%v (make deps installs it)", err)
	}
	dir, err := os.MkdirTemp("", "holdfast-"+name+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chown(dir, -1, gid), os.Chmod(dir, 0o770)); err != nil {
		t.Fatalf("this test needs root: %v", err)
	}
	return dir
}

// TestLitmus runs the public WebDAV suite: all of its tests pass.
func TestLitmus(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p := newProgram(t)
	out, _ := p.try("", "env", "TESTS=basic copymove props locks http", "litmus", "-k", "http://"+s.addr+"/dav/alice/Files/", "alice", s.passwords["alice"])
	suites := regexp.MustCompile(`(?m)^<- summary for .*: of (\d+) tests run: (\d+) passed, (\d+) failed`).FindAllStringSubmatch(out, -1)
	passed, failed := 0, 0 // its exit code tells only of the last suite
	for _, suite := range suites {
		ok, err1 := strconv.Atoi(suite[2])
		bad, err2 := strconv.Atoi(suite[3])
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		passed, failed = passed+ok, failed+bad
	}
	t.Logf("litmus: %d passed, %d failed", passed, failed)
	const all = 104 // of litmus 0.13: basic 16, copymove 13, props 30, locks 41, http 4
	if passed != all || failed != 0 {
		lines := regexp.MustCompile(`(?m)^.*(FAIL|WARNING).*$`).FindAllString(out, -1)
		t.Errorf("litmus: %d passed, %d failed; want %d and 0:\n%s", passed, failed, all, strings.Join(lines, "\n"))
	}
}

// TestAccountsApart: one account neither reads nor changes another's, and a wrong password gets nowhere.
func TestAccountsApart(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	alice, bob := s.client("alice"), s.client("bob")
	secret := card("secret", "Secret", "of alice")
	alice.put(t, "/dav/alice/contacts/secret.vcf", secret)
	refused := []int{403, 404, 405, 501} // 405, 501: a method that nobody has gives nothing away either
	for _, method := range []string{"GET", "PUT", "DELETE", "PROPFIND", "PROPPATCH", "MKCOL", "REPORT", "LOCK"} {
		for _, path := range []string{"/dav/alice/contacts/secret.vcf", "/dav/alice/contacts/", "/dav/alice/"} {
			a := bob.must(t, refused, method, path, nil)
			if bytes.Contains(a.body, []byte("of alice")) || bytes.Contains(a.body, []byte("secret.vcf</")) {
				t.Errorf("%s %s as bob shows alice's data: %q", method, path, a.body)
			}
		}
	}
	for _, method := range []string{"COPY", "MOVE"} {
		bob.must(t, refused, method, "/dav/alice/contacts/secret.vcf", nil, "Destination", bob.base+"/dav/bob/contacts/stolen.vcf")
		bob.put(t, "/dav/bob/contacts/own.vcf", card("own", "Own", "of bob"))
		bob.must(t, refused, method, "/dav/bob/contacts/own.vcf", nil, "Destination", bob.base+"/dav/alice/contacts/planted.vcf")
	}
	alice.get(t, "/dav/alice/contacts/secret.vcf", secret)
	if members, err := alice.list("/dav/alice/contacts/"); err != nil || len(members) != 1 {
		t.Errorf("alice's address book after bob's tries: %v, %v", members, err)
	}

	wrong := s.client("alice")
	wrong.password = "wrong"
	a := wrong.must(t, []int{401}, "PROPFIND", "/dav/alice/contacts/", nil, "Depth", "1")
	if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic ") {
		t.Errorf("401 with WWW-Authenticate %q, want Basic", a.header.Get("WWW-Authenticate"))
	}
	s.eventually(30*time.Second, "the right password still works", func() error {
		a, err := alice.do("GET", "/dav/alice/contacts/secret.vcf", nil)
		if err != nil {
			return err
		}
		return a.want(200)
	})
}
