package demo

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// usualPace is how much faster a device's clock runs than ours.
const usualPace = 60

// device is a phone, tablet or laptop: what it holds, and how it keeps it equal with the server.
// Its person writes from one goroutine while another one syncs.
type device struct {
	name     string
	remote   *remote
	journal  *journal
	maker    maker
	tell     func(who, format string, args ...any) // one line of the timeline; may be nil
	poke     chan struct{}                         // "something is dirty": asks for a sync soon
	services [3]*service                           // the syncing goroutine's own
	pace     time.Duration                         // how much faster its clock runs than ours
	off      atomic.Bool                           // switched off: run does not sync

	mu      sync.Mutex
	shelves map[kind]*collection // where the person's new things go
	lost    [kinds]int           // items deleted here that nobody had asked to delete
	waits   int                  // answers 503
	hard    int                  // hard errors
	restart int                  // initial syncs forced by valid-sync-token
	synced  time.Time            // start of the last sync without an error
	waiting time.Time            // since when every sync has ended in an error; zero: none
	acks    int                  // writes acknowledged
}

// collection is a device's copy of one collection of the server.
type collection struct {
	url     string // encoded path, with a slash at the end
	kind    kind
	home    string // the home set that listed it; empty once one did not (HomeSetRefresher.kt:113-117)
	token   string // sync token stored; the syncing goroutine's own
	initial bool   // the token belongs to an initial sync that has not ended
	items   map[string]*item
}

// item is one thing on a device. Fields are owned by device.mu.
type item struct {
	name     string
	body     []byte // replaced, never changed in place
	etag     string // of the server's version this came from
	uploaded bool   // the server has, or had, it under its name
	dirty    bool
	deleted  bool // by the person; goes away once the server was told
	present  bool // seen in the listing of this initial sync (LocalResource.FLAG_REMOTELY_PRESENT)
}

func (c *collection) path(name string) string { return c.url + url.PathEscape(name) }

func newDevice(name string, r *remote, j *journal, m maker) *device {
	return &device{
		name: name, remote: r, journal: j, maker: m, pace: usualPace,
		poke: make(chan struct{}, 1), shelves: make(map[kind]*collection),
	}
}

func (d *device) say(format string, args ...any) {
	if d.tell != nil {
		d.tell(d.name, format, args...)
	}
}

// write puts a new version of thing n on the device, as its person does. It reports false when the
// device has no collection for it (any more).
func (d *device) write(k kind, n, revision int) bool {
	body, name := d.maker.body(k, n, revision), d.maker.name(k, n)
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.shelves[k]
	if c == nil {
		return false
	}
	it := c.items[name]
	if it == nil {
		it = &item{name: name}
		c.items[name] = it
	}
	it.body, it.dirty, it.deleted = body, true, false
	d.changed()
	return true
}

// remove deletes thing n on the device, as its person does.
func (d *device) remove(k kind, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.shelves[k]; c != nil {
		if it := c.items[d.maker.name(k, n)]; it != nil {
			it.deleted = true
			d.changed()
		}
	}
}

// has reports whether thing n is on the device.
func (d *device) has(k kind, n int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.shelves[k]
	return c != nil && c.items[d.maker.name(k, n)] != nil
}

// count returns how many things of a kind the device holds and how many wait for the server.
func (d *device) count(k kind) (held, dirty int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.shelves[k]
	if c == nil {
		return 0, 0
	}
	for _, it := range c.items {
		if it.dirty || it.deleted {
			dirty++
		}
	}
	return len(c.items), dirty
}

// total sums count over all kinds.
func (d *device) total() (held, dirty int) {
	for k := range kinds {
		h, w := d.count(k)
		held, dirty = held+h, dirty+w
	}
	return held, dirty
}

func (d *device) changed() {
	select {
	case d.poke <- struct{}{}:
	default:
	}
}

// run keeps the device in touch until ctx ends: soon after a local change, and every interval. The
// list of collections is read again at every eighth sync.
func (d *device) run(ctx context.Context, interval time.Duration) {
	for n := 1; ctx.Err() == nil; n++ {
		var wait time.Duration
		if !d.off.Load() {
			wait = d.sync(ctx, n%8 == 0)
		}
		poke := d.poke
		if wait > 0 {
			poke = nil // told to wait: a local change does not shorten that
		}
		t := time.NewTimer(max(wait, interval))
		select {
		case <-ctx.Done():
		case <-poke:
		case <-t.C:
		}
		t.Stop()
	}
}

// sync brings every collection up to date and returns how long the server asked to stay away, on our clock.
func (d *device) sync(ctx context.Context, refresh bool) (wait time.Duration) {
	start := time.Now()
	good := true
	note := func(err error) {
		if err == nil || ctx.Err() != nil {
			return
		}
		good = false
		wait = max(wait, d.failed(err))
	}
	for _, s := range d.services {
		if s == nil {
			continue
		}
		if refresh {
			note(d.refresh(ctx, s))
		}
		d.deleteOrphans(s)
		for _, c := range s.sorted() {
			note(d.syncCollection(ctx, c))
		}
	}
	if good && ctx.Err() == nil {
		d.succeeded(start)
	}
	return wait
}

// failed sorts an error as SyncExceptionHandler.kt:157-237 does and returns how long to stay away.
// Nothing is deleted on any error.
func (d *device) failed(err error) time.Duration {
	d.mu.Lock()
	first := d.waiting.IsZero()
	if first {
		d.waiting = time.Now()
	}
	held := 0
	for _, c := range d.shelves {
		held += len(c.items)
	}
	e, isStatus := errors.AsType[*statusError](err)
	soft := !isStatus && !errors.Is(err, errDAV) // an I/O error; it names no delay
	var wait time.Duration
	switch {
	case soft:
	case isStatus && e.Status == http.StatusServiceUnavailable:
		d.waits++
		wait = delay(e.RetryAfter) / d.pace
	default:
		d.hard++
	}
	d.mu.Unlock()
	if first {
		switch {
		case soft:
			d.say("cannot reach the server; keeps its %d things and tries again", held)
		case wait > 0:
			d.say("told to wait (503); keeps its %d things and writes on", held)
		default:
			d.say("does not understand the server (%v); shows an error, keeps its %d things", err, held)
		}
	}
	return wait
}

func (d *device) succeeded(start time.Time) {
	d.mu.Lock()
	since := d.waiting
	d.waiting, d.synced = time.Time{}, start
	d.mu.Unlock()
	if !since.IsZero() {
		d.say("in touch again after %.1f s", time.Since(since).Seconds())
	}
}

// delay turns Retry-After into a stay on the device's clock (dav4jvm ktor/exception/ServiceUnavailableException.kt:69-88:
// 15 minutes if not given, between 1 minute and 2 hours).
func delay(retryAfter string) time.Duration {
	stay := 15 * time.Minute
	if at, err := http.ParseTime(retryAfter); err == nil {
		stay = time.Until(at)
	} else if s, err := strconv.Atoi(retryAfter); err == nil {
		stay = time.Duration(s) * time.Second
	}
	return min(max(stay, time.Minute), 2*time.Hour)
}

// deleteLocal removes an item because the server said so, and counts it if nobody had asked for that.
// device.mu is held.
func (d *device) deleteLocal(c *collection, it *item) {
	if d.journal.owed(c.path(it.name)) {
		d.lost[c.kind]++
	}
	delete(c.items, it.name)
}

func (d *device) shelf(k kind) *collection {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.shelves[k]
}

// syncedSince reports whether a sync that began after t ended well.
func (d *device) syncedSince(t time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.synced.After(t)
}
