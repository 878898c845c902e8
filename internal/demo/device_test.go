package demo

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// faulty stands before a real server and answers in its place when fault says so.
type faulty struct {
	next  http.Handler
	fault atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool]
	seen  atomic.Pointer[func(r *http.Request)]
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if seen := f.seen.Load(); seen != nil {
		(*seen)(r)
	}
	if fault := f.fault.Load(); fault != nil && (*fault)(w, r) {
		return
	}
	f.next.ServeHTTP(w, r)
}

func (f *faulty) set(fault func(w http.ResponseWriter, r *http.Request) bool) {
	if fault == nil {
		f.fault.Store(nil)
		return
	}
	f.fault.Store(&fault)
}

// stand is a real server with a faulty front, and devices that have discovered it.
func stand(t *testing.T, names ...string) (*faulty, *journal, []*device) {
	t.Helper()
	ctx := t.Context()
	cfg := Config{}
	cfg.fill(table[0])
	h, err := newHost(ctx, t.TempDir(), cfg, nil)
	if err != nil {
		t.Fatalf("start server: %v", err)
	}
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Errorf("stop server: %v", err)
		}
	})
	f := &faulty{next: h.http.Handler}
	front := httptest.NewServer(f)
	t.Cleanup(front.Close)
	j := newJournal()
	var all []*device
	for _, name := range names {
		r, err := h.addDevice(ctx, account, name)
		if err == nil {
			err = r.move(front.URL)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.close)
		d := newDevice(name, r, j, maker{7})
		d.tell = func(_, format string, args ...any) { t.Logf(format, args...) }
		if err := d.discover(ctx); err != nil {
			t.Fatalf("%s: discover: %v", name, err)
		}
		all = append(all, d)
	}
	return f, j, all
}

// fillDevice writes n contacts, one photo, and syncs until all is acknowledged.
func fillDevice(t *testing.T, d *device, n int) {
	t.Helper()
	for i := range n {
		d.write(contacts, i, 0)
	}
	d.write(photos, 0, 0)
	d.sync(t.Context(), false)
	if held, dirty := d.total(); held != n+1 || dirty != 0 {
		t.Fatalf("%s holds %d things, %d of them dirty; want %d and 0", d.name, held, dirty, n+1)
	}
}

func TestDevicesShareAnAccount(t *testing.T) {
	_, j, all := stand(t, "one", "two")
	one, two := all[0], all[1]
	fillDevice(t, one, 25)
	two.sync(t.Context(), true)
	one.write(contacts, 3, 1)
	one.remove(contacts, 4)
	one.sync(t.Context(), false)
	two.sync(t.Context(), false)
	if got := two.lost; got != [kinds]int{} {
		t.Errorf("a deletion that a person wanted counts as lost: %v", got)
	}
	if held, _ := two.total(); held != 25 || j.acknowledged() != 25 {
		t.Errorf("second device holds %d of %d things, want 25 of 25", held, j.acknowledged())
	}
	for _, d := range all {
		p := d.judge(j.snapshot())
		if p.have != [kinds]int{24, 0, 0, 1} || sum(p.unequal)+p.back+p.unknown != 0 {
			t.Errorf("%s: %+v, want 24 contacts and 1 photo and nothing else", d.name, p)
		}
	}
}

func TestDeviceKeepsEverythingWhenToldToWait(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		retry  string
		wait   time.Duration
		hard   bool
	}{
		{"503 with seconds", 503, "90", 1500 * time.Millisecond, false},
		{"503 without", 503, "", 15 * time.Second, false},
		{"503 below the least", 503, "1", time.Second, false},
		{"500", 500, "", 0, true},
		{"401", 401, "", 0, true},
		{"507", 507, "", 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, _, all := stand(t, "phone")
			fillDevice(t, all[0], 5)
			f.set(func(w http.ResponseWriter, _ *http.Request) bool {
				if tc.retry != "" {
					w.Header().Set("Retry-After", tc.retry)
				}
				w.WriteHeader(tc.status)
				return true
			})
			all[0].write(contacts, 0, 1)
			if got := all[0].sync(t.Context(), true); got != tc.wait {
				t.Errorf("stays away %v, want %v", got, tc.wait)
			}
			if held, dirty := all[0].total(); held != 6 || dirty != 1 {
				t.Errorf("holds %d things, %d dirty; want 6 and 1", held, dirty)
			}
			if (all[0].hard > 0) != tc.hard {
				t.Errorf("%d hard errors, want any: %v", all[0].hard, tc.hard)
			}
			f.set(nil)
			all[0].sync(t.Context(), true)
			if held, dirty := all[0].total(); held != 6 || dirty != 0 {
				t.Errorf("afterwards holds %d things, %d dirty; want 6 and 0", held, dirty)
			}
		})
	}
}

// TestDeviceDeletesWhenCollectionIsGone shows why an outage must never look like 404.
func TestDeviceDeletesWhenCollectionIsGone(t *testing.T) {
	for _, status := range []int{403, 404, 410} {
		f, _, all := stand(t, "phone")
		d := all[0]
		fillDevice(t, d, 5)
		f.set(func(w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(status)
			return true
		})
		d.sync(t.Context(), false)
		if held, _ := d.total(); held != 6 {
			t.Errorf("%d without a refresh: holds %d things, want 6: a sync alone keeps them", status, held)
		}
		d.sync(t.Context(), true)
		if held, _ := d.total(); held != 0 || d.lost != [kinds]int{5, 0, 0, 1} {
			t.Errorf("%d: holds %d things and lost %v, want 0 and 5 contacts, 1 photo", status, held, d.lost)
		}
	}
}

// TestDeviceStartsOverOnInvalidToken shows what "valid-sync-token" does to a phone when the server
// has lost things: clean ones go, dirty ones stay and are sent again.
func TestDeviceStartsOverOnInvalidToken(t *testing.T) {
	f, j, all := stand(t, "phone")
	d := all[0]
	fillDevice(t, d, 5)
	lost := make(map[string]bool)
	for n := range 3 {
		lost[d.shelves[contacts].path(d.maker.name(contacts, n))] = true
	}
	f.set(func(w http.ResponseWriter, r *http.Request) bool {
		if lost[r.URL.EscapedPath()] && r.Method == http.MethodPut && r.Header.Get("If-Match") != "" {
			http.Error(w, "gone", http.StatusNotFound)
			return true
		}
		if r.Method != "REPORT" || !strings.HasSuffix(r.URL.Path, "/contacts/") {
			return false
		}
		w.Header().Set("Content-Type", "application/xml")
		if d.shelves[contacts].token != "" && r.ContentLength > 300 { // with the old token
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`<?xml version="1.0"?><D:error xmlns:D="DAV:"><D:valid-sync-token/></D:error>`))
			return true
		}
		w.WriteHeader(http.StatusMultiStatus)
		_, _ = w.Write([]byte(`<?xml version="1.0"?><D:multistatus xmlns:D="DAV:"><D:sync-token>data:new</D:sync-token></D:multistatus>`))
		return true
	})
	var again atomic.Int64
	seen := func(r *http.Request) {
		if r.Method == http.MethodPut && r.Header.Get("If-None-Match") == "*" {
			again.Add(1)
		}
	}
	f.seen.Store(&seen)
	d.write(contacts, 0, 1)
	d.sync(t.Context(), false)
	if again.Load() != 1 {
		t.Errorf("%d uploads as new, want 1: the update that met 404", again.Load())
	}
	if d.restart != 1 || d.lost[contacts] == 0 {
		t.Errorf("started over %d times and deleted %d, want 1 and more than 0", d.restart, d.lost[contacts])
	}
	if j.acknowledged() != 6 {
		t.Errorf("%d acknowledged, want 6", j.acknowledged())
	}
}

func TestDeviceIgnoresConflict(t *testing.T) {
	f, _, all := stand(t, "one", "two")
	one, two := all[0], all[1]
	fillDevice(t, one, 2)
	two.sync(t.Context(), true)
	one.write(contacts, 0, 1)
	one.sync(t.Context(), false)
	two.write(contacts, 0, 2) // from a version that is not the newest
	var statuses []string
	seen := func(r *http.Request) {
		if r.Method == http.MethodPut {
			statuses = append(statuses, r.Header.Get("If-Match"))
		}
	}
	f.seen.Store(&seen)
	two.sync(t.Context(), false)
	if len(statuses) != 1 || statuses[0] == "" {
		t.Errorf("uploads with If-Match: %q, want one", statuses)
	}
	got := two.shelves[contacts].items[two.maker.name(contacts, 0)]
	if string(got.body) != string(two.maker.body(contacts, 0, 1)) || got.dirty {
		t.Errorf("after 412 the device has %q (dirty %v), want what the server has", got.body, got.dirty)
	}
}

func TestDelay(t *testing.T) {
	for _, tc := range []struct {
		header string
		want   time.Duration
	}{
		{"", 15 * time.Minute},
		{"0", time.Minute},
		{"-5", time.Minute},
		{"120", 2 * time.Minute},
		{"1000000", 2 * time.Hour},
		{"soon", 15 * time.Minute},
		{time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat), time.Minute},
	} {
		if got := delay(tc.header); got != tc.want {
			t.Errorf("Retry-After %q: %v, want %v", tc.header, got, tc.want)
		}
	}
}

func TestUnreachableServerKeepsEverything(t *testing.T) {
	r, err := newRemote("http://127.0.0.1:1/", "demo", "x")
	if err != nil {
		t.Fatal(err)
	}
	d := newDevice("phone", r, newJournal(), maker{1})
	c := &collection{url: "/c/", kind: contacts, items: map[string]*item{"a": {name: "a", body: []byte("x"), uploaded: true}}}
	d.services[0] = &service{feature: "addressbook", colls: map[string]*collection{c.url: c}}
	d.shelves[contacts] = c
	if wait := d.sync(context.Background(), false); wait != 0 || len(c.items) != 1 || d.hard != 0 {
		t.Errorf("stays away %v with %d things and %d hard errors, want 0, 1 and 0", wait, len(c.items), d.hard)
	}
}
