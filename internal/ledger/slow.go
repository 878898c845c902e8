package ledger

import (
	"cmp"
	"fmt"
	"sync"
	"time"

	"holdfast/internal/durable"
	"holdfast/internal/mirror"
)

// Slow mirrors (fault 15). Every call to a mirror or to the head witness goes through the durable.Bound of its
// directory; one that is late is an error like that of an absent mirror. All that was opened there (mirror, log,
// bucket) is dead from that moment on, so the session ends as for a mirror that cannot be reached: held under strict,
// and under degraded or K of m the next one goes on without it. The directory is opened anew only after the late
// call has returned.
//
// What a late call does is harmless whenever it happens. It is one system call of a dead term: an append to that
// term's log, a claim, a head file. Nothing was acknowledged by it, because the look at the claims did not follow it
// (R3); here the next term is claimed and the logs are read after it (F10); and what another server finds of it,
// later than that server's own claim, is the end of an older term, which loses (R6).

// defaultMirrorTimeout is how long a step may wait for a mirror.
const defaultMirrorTimeout = 5 * time.Second

// bounds holds the bound of every directory outside the data directory.
type bounds struct {
	cfg  Config
	told func(name string, n durable.BoundNews)

	mu   sync.Mutex
	of   map[string]*durable.Bound // by path
	over bool                      // the process ends: see giveUp
}

func newBounds(cfg Config) *bounds {
	return &bounds{cfg: cfg, of: map[string]*durable.Bound{}}
}

// at returns the bound of the mirror of a name, or the witness ("").
func (b *bounds) at(name, path string) *durable.Bound {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.of[path]
	if d == nil {
		d = durable.NewBound(b.cfg.FS, b.cfg.MirrorTimeout, func(n durable.BoundNews) { b.told(name, n) }, b.after(path))
		if b.of[path] = d; b.over {
			d.GiveUp()
		}
	}
	return d
}

// after returns what makes the timers for a directory.
func (b *bounds) after(path string) func(time.Duration) (<-chan time.Time, func() bool) {
	return func(d time.Duration) (<-chan time.Time, func() bool) {
		if b.cfg.hooks.after != nil {
			return b.cfg.hooks.after(path, d), func() bool { return true }
		}
		t := time.NewTimer(d)
		return t.C, t.Stop
	}
}

// known returns the bound of a directory that was used before, or nil.
func (b *bounds) known(path string) *durable.Bound {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.of[path]
}

// giveUp ends all use of all mirrors: a process that ends waits no longer.
func (b *bounds) giveUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
	for _, d := range b.of {
		d.GiveUp()
	}
}

// place returns the file system to use a mirror's or the witness's ("") directory by. ErrSlow: a call there has not
// returned yet.
func (c *Config) place(name, path string) (durable.FS, error) {
	if c.bounds == nil || c.MirrorTimeout < 0 {
		return c.FS, nil
	}
	return c.bounds.at(name, path).Use()
}

// within limits a step of several calls to a directory.
func (l *Ledger) within(step, path string) (stop func()) {
	b := l.cfg.bounds.known(path)
	if b == nil {
		return func() {}
	}
	return b.Within(step)
}

// within limits a step of one of the session's mirrors.
func (s *session) within(step string, m *mirror.Mirror) (stop func()) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i, have := range s.mirrors {
		if have == m && i < len(s.buckets) {
			return s.ledger.within(step, s.buckets[i].Path())
		}
	}
	return func() {}
}

// slow returns how often a directory did not answer in time since the start.
func (l *Ledger) slow(path string) int {
	b := l.cfg.bounds.known(path)
	if b == nil {
		return 0
	}
	n, _ := b.Slow()
	return n
}

// tellSlow tells people that a mirror or the witness stopped answering, or answers again; then it is tried at once.
func (l *Ledger) tellSlow(name string, n durable.BoundNews) {
	what := "mirror " + name
	if name == "" {
		what = "the head witness"
	}
	if n.Err != nil {
		l.log.Error("too slow", "mirror", cmp.Or(name, "(the head witness)"), "err", n.Err)
		l.emit(Event{
			Kind: EventMirror, Bad: true, Text: fmt.Sprintf("%s did not answer in time: %s", what, n.Err),
			Todo: "look at its disk, its mount and the network to it; nothing is lost, and it goes on by itself when it answers. docs/runbooks/mirror.md",
		})
		return
	}
	l.log.Info("answers again", "mirror", cmp.Or(name, "(the head witness)"), "took", n.Took)
	l.emit(Event{Kind: EventMirror, Text: fmt.Sprintf("%s answers again, after %v", what, n.Took.Round(time.Millisecond))})
	l.wake()
}

// deviceOf returns the device of a mirror's directory.
func (l *Ledger) deviceOf(name, path string) (uint64, error) {
	fsys, err := l.cfg.place(name, path)
	if err != nil {
		return 0, err
	}
	i, err := fsys.Stat(path)
	return i.Dev, err
}

// closeSoon has Close wait for no mirror longer than the bound.
func (l *Ledger) closeSoon() {
	if l.cfg.bounds == nil || l.cfg.MirrorTimeout < 0 {
		return
	}
	c, stop := l.cfg.bounds.after("")(l.cfg.MirrorTimeout)
	go func() {
		defer stop()
		select {
		case <-c:
			l.cfg.bounds.giveUp()
		case <-l.ended:
		}
	}()
}
