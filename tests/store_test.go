package clients

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// static is what was there before the fault and nobody touches: every listing must have it.
type static struct {
	s      *server
	etags  map[string]string
	tokens map[string]string // collection to sync token
}

// preload puts 25 cards, 10 events and 10 files into each account.
func preload(t *testing.T, s *server, j *journal) *static {
	t.Helper()
	for account := range s.passwords {
		c := s.client(account)
		home := "/dav/" + account + "/"
		for i := range 25 {
			uid := fmt.Sprintf("static-%d", i)
			bodies := map[string]string{home + "contacts/" + uid + ".vcf": card(uid, "Static", account)}
			if i < 10 {
				bodies[home+"calendar/"+uid+".ics"] = event(uid, "Static", "20261201")
				bodies[home+"Files/"+uid+".bin"] = fmt.Sprint(uid, account)
			}
			for path, body := range bodies {
				if err := j.write(c, path, version{body: body}, false); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	st := &static{s: s, etags: j.etags(t, s), tokens: map[string]string{}}
	for account := range s.passwords {
		for _, name := range []string{"contacts/", "calendar/", "Files/"} {
			collection := "/dav/" + account + "/" + name
			st.tokens[collection] = s.client(account).mustSync(t, collection, "").token
		}
	}
	return st
}

// check asks for every listing, and for what changed since before the fault. Each answer must be true,
// or "wait", which is counted.
func (st *static) check(t *testing.T) (waits int) {
	t.Helper()
	for collection, token := range st.tokens {
		c := st.s.client(accountOf(collection))
		members, err := c.list(collection)
		if wait, bad := waiting(err); bad != nil {
			t.Errorf("list %s: neither true nor 503 with Retry-After: %v", collection, bad)
		} else if wait {
			waits++
		} else if err != nil {
			t.Errorf("list %s: %v", collection, err)
		} else {
			for path, etag := range st.etags {
				if filepath.Dir(path)+"/" == collection && members[path] != etag {
					t.Errorf("listing of %s: %s has ETag %q, want %q", collection, path, members[path], etag)
				}
			}
		}
		d, err := c.sync(collection, token)
		if wait, bad := waiting(err); bad != nil {
			t.Errorf("sync of %s: neither true nor 503 with Retry-After: %v", collection, bad)
		} else if wait {
			waits++
		} else if err != nil {
			t.Errorf("sync of %s: %v", collection, err)
		} else {
			for path := range st.etags {
				if d.removed[path] {
					t.Errorf("sync of %s tells the phone to delete %s, which nobody deleted", collection, path)
				}
			}
		}
	}
	return waits
}

// TestStoreDeleted deletes the store under a running server, as a storage upgrade once did. Clients that
// write and read meanwhile see only true answers or "wait"; the server heals by itself from the mirror;
// ETags and sync tokens from before stay valid; an incident report says what happened.
func TestStoreDeleted(t *testing.T) {
	for name, destroy := range map[string]func(*testing.T, string){
		"contents": func(t *testing.T, store string) {
			files, err := filepath.Glob(filepath.Join(store, "*"))
			if err != nil || len(files) == 0 {
				t.Fatalf("nothing in the store to delete: %v", err)
			}
			for _, file := range files {
				if err := os.RemoveAll(file); err != nil {
					t.Fatal(err)
				}
			}
		},
		"directory": func(t *testing.T, store string) {
			if err := os.RemoveAll(store); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) { testStoreDeleted(t, destroy) })
	}
}

func testStoreDeleted(t *testing.T, destroy func(*testing.T, string)) {
	r := seeded(t)
	s := newServer(t)
	j := newJournal()
	before := preload(t, s, j)
	incidents := dirNames(t, filepath.Join(s.data, "incidents"))

	l := startLoad(s, j, r, 3, false)
	l.waitAcks(40, 60*time.Second)
	destroy(t, filepath.Join(s.data, "store"))
	waits := before.check(t)
	l.waitAcks(60, 60*time.Second) // writes are acknowledged again, so it has healed or held
	waits += before.check(t)
	l.stop()
	s.alive()
	t.Logf("%d writes acknowledged, %d answers were wait, %d listings were wait", l.acks.Load(), l.waits.Load(), waits)

	j.verify(t, s)
	if n := before.check(t); n > 0 {
		t.Errorf("%d listings still answer wait after the heal", n)
	}
	if files := dirNames(t, filepath.Join(s.data, "store")); len(files) == 0 {
		t.Errorf("DIR/store is empty after the heal")
	}
	s.eventually(10*time.Second, "there is an incident report", func() error {
		for _, name := range dirNames(t, filepath.Join(s.data, "incidents")) {
			if strings.HasSuffix(name, "-heal.md") && !slices.Contains(incidents, name) {
				return nil
			}
		}
		return errors.New("DIR/incidents has no new report of a heal")
	})

	etags := j.etags(t, s)
	s.stop()
	s.start()
	j.verify(t, s)
	before.check(t)
	if diff := cmp.Diff(etags, j.etags(t, s)); diff != "" {
		t.Errorf("ETags changed over a restart (-before +after):\n%s", diff)
	}
}

// TestStoreDeletedWhileStopped is the same for a server that was not running.
func TestStoreDeletedWhileStopped(t *testing.T) {
	s := newServer(t)
	j := newJournal()
	before := preload(t, s, j)
	s.stop()
	if err := os.RemoveAll(filepath.Join(s.data, "store")); err != nil {
		t.Fatal(err)
	}
	s.start()
	j.verify(t, s)
	before.check(t)
	for path, etag := range before.etags {
		// A write that names the old ETag must be accepted: a wrong 412 loses a phone's edit.
		if filepath.Ext(path) == ".bin" {
			s.client(accountOf(path)).must(t, written, "PUT", path, []byte("edited"), "If-Match", etag)
			break
		}
	}
}

// TestBothGone starts a server whose store and mirror are both missing: it must not serve an empty
// account in their place.
func TestBothGone(t *testing.T) {
	s := newServer(t)
	s.client("alice").put(t, "/dav/alice/contacts/a.vcf", card("a", "A", "1"))
	s.stop()
	for _, dir := range []string{filepath.Join(s.data, "store"), s.mirror} {
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
	}
	s.launch()
	c := s.client("alice")
	s.eventually(30*time.Second, "the server refuses to start or answers wait", func() error {
		select {
		case <-s.exited:
			if code := s.cmd.ProcessState.ExitCode(); code == 0 {
				return fatalError{errors.New("serve ended with code 0")}
			}
			return nil
		default:
		}
		a, err := c.do("PROPFIND", "/dav/alice/contacts/", []byte(propfindETag), "Depth", "1")
		if err != nil {
			return err
		}
		if bad := a.wait(); bad != nil {
			return fatalError{bad}
		}
		return nil
	})
	for _, dir := range []string{filepath.Join(s.data, "store"), s.mirror} {
		if names := dirNames(t, dir); len(names) > 0 {
			t.Errorf("%s was made anew: %v", filepath.Base(dir), names)
		}
	}
}

// dirNames lists a directory; one that is not there has no names.
func dirNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
