package demo

import (
	"context"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The request sequences of DAVx5 2534c16b0: the devices of this package follow its source line by line (discover.go,
// sync.go; the lines are cited there). Here it is said which requests that makes, and what becomes of a device while the
// fence of a real server is closed or held, and after.

// requests notes what a device sends.
type requests struct {
	mu   sync.Mutex
	list []string
}

func (r *requests) note(_ http.ResponseWriter, q *http.Request) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := q.Method + " " + q.URL.Path
	if d := q.Header.Get("Depth"); d != "" {
		s += " " + d
	}
	for _, h := range []string{"If-Match", "If-None-Match"} {
		if v := q.Header.Get(h); v != "" {
			s += " " + h
		}
	}
	r.list = append(r.list, s)
	return false
}

func (r *requests) took() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.list
	r.list = nil
	return l
}

func TestDAVx5Sequence(t *testing.T) {
	f, _, all := stand(t, "phone", "tablet")
	phone, tablet := all[0], all[1]
	var seen requests
	f.set(seen.note)

	// Account setup: the address, the well-known one, the principal with its features, the homes (DavResourceFinder.kt:119-187).
	if err := phone.discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(seen.took(), "\n")
	for _, want := range []string{
		"PROPFIND / 0\nPROPFIND /.well-known/carddav 0\nPROPFIND /dav/ 0\nOPTIONS /dav/principals/demo/\n",
		"PROPFIND /.well-known/caldav 0\nPROPFIND /dav/ 0\nOPTIONS /dav/principals/demo/\n",
		"PROPFIND /dav/principals/demo/ 0\nPROPFIND /dav/demo/ 1\n",
	} {
		if !strings.Contains(got+"\n", want) {
			t.Errorf("discovery: no\n%sin\n%s", want, got)
		}
	}

	// A contact made here: capabilities, PUT, then the delta with the new ETag known, so nothing is fetched.
	fillDevice(t, tablet, 12)
	seen.took()
	book := phone.shelf(contacts)
	one := func(d *device) []string {
		t.Helper()
		seen.took()
		if err := d.syncCollection(t.Context(), d.shelf(contacts)); err != nil {
			t.Fatal(err)
		}
		return seen.took()
	}
	capabilities, delta, multiget := "PROPFIND "+book.url+" 0", "REPORT "+book.url+" 0", "REPORT "+book.url
	check := func(what string, got, want []string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	first := one(phone)
	if len(first) != 4 || first[0] != capabilities || first[1] != delta || !strings.HasPrefix(first[2], multiget) || !strings.HasPrefix(first[3], multiget) {
		t.Errorf("first sync of 12 contacts, ten a multiget: %v", first)
	}
	check("nothing changed", one(phone), []string{capabilities})
	phone.write(contacts, 50, 0)
	check("made here", one(phone), []string{capabilities, "PUT " + book.path(phone.maker.name(contacts, 50)) + " If-None-Match", delta})
	phone.write(contacts, 50, 1)
	check("changed here", one(phone), []string{capabilities, "PUT " + book.path(phone.maker.name(contacts, 50)) + " If-Match", delta})
	phone.remove(contacts, 50)
	check("deleted here", one(phone), []string{capabilities, "DELETE " + book.path(phone.maker.name(contacts, 50)) + " If-Match", delta})
	check("heard elsewhere", one(tablet)[:2], []string{capabilities, delta})
}

// What DAVx5 has and wants to send outlives a closed and a held fence, and a heal brings it nothing.
func TestDAVx5Fences(t *testing.T) {
	cfg := Config{}
	cfg.fill(table[0])
	h, err := newHost(t.Context(), t.TempDir(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	})
	r, err := h.addDevice(t.Context(), account, "phone")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	d := newDevice("phone", r, newJournal(), maker{7})
	if err := d.discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	fillDevice(t, d, 12)
	etags := func() map[string]string {
		out := map[string]string{}
		for name, it := range d.shelf(contacts).items {
			out[name] = it.etag
		}
		return out
	}
	for n, state := range []string{"closed", "held"} {
		before, restarts := etags(), d.restart
		if state == "closed" {
			if err := os.RemoveAll(h.storeDir()); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(h.mirrorDir(), h.mirrorDir()+".away"); err != nil {
			t.Fatal(err)
		}
		d.write(contacts, 100+n, 0)
		d.waits, d.hard = 0, 0
		for range 3 {
			d.sync(t.Context(), true) // the list of collections is read again too
		}
		if held, dirty := d.count(contacts); held != 13+n || dirty != 1 || d.lost != [kinds]int{} {
			t.Errorf("%s: holds %d contacts, %d unsent, lost %v", state, held, dirty, d.lost)
		}
		if d.waits == 0 || d.hard > 0 {
			t.Errorf("%s: told to wait %d times, took %d answers for errors", state, d.waits, d.hard)
		}
		if err := os.Rename(h.mirrorDir()+".away", h.mirrorDir()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := h.ledger.WaitOpen(ctx); err != nil {
			t.Fatal(err)
		}
		cancel()
		d.sync(t.Context(), true)
		if held, dirty := d.total(); held != 14+n || dirty != 0 || d.restart != restarts {
			t.Errorf("after %s: holds %d things, %d unsent, started over %d times", state, held, dirty, d.restart-restarts)
		}
		after := etags()
		delete(after, d.maker.name(contacts, 100+n))
		if !maps.Equal(before, after) {
			t.Errorf("after %s other ETags: %v, were %v", state, after, before)
		}
	}
}
