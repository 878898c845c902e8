package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/durable"
)

// stuck is a disk of which some calls do not return until they are let go. No time passes: the bound of the
// directory is over as soon as a call there is stuck, and not before.
type stuck struct {
	durable.FS
	dir string

	mu   sync.Mutex
	at   func(call, name string) bool // nil: none is stuck
	over chan time.Time               // closed when one is
	free chan struct{}                // closed to let them go
	end  error                        // what they return then

	now, all, most atomic.Int64 // calls that are stuck, that ever were, and the most at once
}

func newStuck(dir string) *stuck {
	return &stuck{FS: durable.Disk, dir: dir, over: make(chan time.Time), free: make(chan struct{})}
}

// after is hooks.after.
func (s *stuck) after(path string, _ time.Duration) <-chan time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if path == s.dir || path == "" && s.at != nil {
		return s.over
	}
	return nil
}

// hang makes the calls hang that at says.
func (s *stuck) hang(at func(call, name string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = at
}

// answer lets all calls return, with an error if one is given.
func (s *stuck) answer(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		return
	}
	s.at, s.end = nil, err
	close(s.free)
	s.free, s.over = make(chan struct{}), make(chan time.Time)
}

func (s *stuck) call(call, name string) error {
	s.mu.Lock()
	if s.at == nil || name != s.dir && !strings.HasPrefix(name, s.dir+"/") || !s.at(call, name) {
		s.mu.Unlock()
		return nil
	}
	s.all.Add(1)
	s.most.Store(max(s.most.Load(), s.now.Add(1)))
	defer s.now.Add(-1)
	free := s.free
	select {
	case <-s.over:
	default:
		close(s.over)
	}
	s.mu.Unlock()
	<-free
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

func (s *stuck) Stat(name string) (durable.Info, error) {
	if err := s.call("stat", name); err != nil {
		return durable.Info{}, err
	}
	return s.FS.Stat(name)
}

func (s *stuck) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if err := s.call("open", name); err != nil {
		return nil, err
	}
	f, err := s.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &stuckFile{File: f, s: s, name: name}, nil
}

func (s *stuck) Rename(from, to string, replace bool) error {
	if err := s.call("rename", to); err != nil {
		return err
	}
	return s.FS.Rename(from, to, replace)
}

func (s *stuck) FreeBytes(name string) (int64, error) { return durable.FreeOf(s.FS, name) }

type stuckFile struct {
	durable.File
	s    *stuck
	name string
}

func (f *stuckFile) Sync() error {
	if err := f.s.call("sync", f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *stuckFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.s.call("read", f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

// withStuck puts a disk that may hang under a mirror, or the witness ("").
func withStuck(to **stuck, mirror string) func(*Config) {
	return func(c *Config) {
		dir := c.Witness
		for _, m := range c.Mirrors {
			if m.Name == mirror {
				dir = m.Path
			}
		}
		*to = newStuck(dir)
		c.FS, c.hooks.after, c.MirrorTimeout = *to, (*to).after, time.Hour
	}
}

// any call, or one of a kind.
func anyCall(string, string) bool { return true }

func calls(kind string) func(string, string) bool {
	return func(call, _ string) bool { return call == kind }
}

var hangs = []struct {
	name string
	at   func(call, name string) bool
}{
	{"append", calls("sync")},
	{"look", func(call, name string) bool { return call == "stat" && strings.Contains(name, "/term/") }},
	{"all", anyCall},
}

// Fault 15, strict: a mirror stops answering in the append, in the look at the claims, or altogether. The write hears
// 503 when the bound is over, reads go on, the mirror is left alone, and when it answers all goes on by itself.
func TestSlowMirrorHeld(t *testing.T) {
	for _, h := range hangs {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			var s *stuck
			var mu sync.Mutex
			var events []Event
			r := newRig(t, func(c *Config) { withStuck(&s, "disk2")(c) }, func(c *Config) {
				c.Notify = func(e Event) { mu.Lock(); events = append(events, e); mu.Unlock() }
			})
			r.mustPut("a", "1")
			s.hang(h.at)
			t.Cleanup(func() { s.answer(nil) })
			if err := r.put("b", "2"); !errors.Is(err, holdfast.ErrNotDurable) {
				t.Errorf("got %v, want ErrNotDurable", err)
			}
			r.waitState("held")
			st := r.until("the mirror is said to be slow", func(s Status) bool { return s.Code == "mirror-slow" && s.Mirrors[0].Slow == 1 && !s.Mirrors[0].Counts })
			if !strings.Contains(st.Reason, "mirror disk2 does not answer in time") {
				t.Errorf("status %+v", st)
			}
			for range 100 { // however many read
				r.verify()
			}
			if err := r.put("b", "3"); !errors.Is(err, holdfast.ErrNotDurable) {
				t.Errorf("while it hangs: got %v, want ErrNotDurable", err)
			}
			if s.most.Load() > 2 {
				t.Errorf("%d calls hang at once", s.most.Load())
			}
			s.answer(nil)
			r.waitOpen()
			if got, err := r.get("b"); err != nil && !errors.Is(err, holdfast.ErrNotFound) || err == nil && got != "2" {
				t.Errorf("b: got %q, %v", got, err)
			}
			r.mustPut("b", "4")
			mu.Lock()
			for _, want := range []string{"mirror disk2 did not answer in time", "mirror disk2 answers again"} {
				if !slices.ContainsFunc(events, func(e Event) bool { return e.Kind == EventMirror && strings.Contains(e.Text, want) }) {
					t.Errorf("nobody was told: %s: %+v", want, events)
				}
			}
			mu.Unlock()
			r.verify()
			r.alone("disk2")
		})
	}
}

// Fault 15, degraded: one of two mirrors stops answering; writes go on with the other, and it joins by itself later.
func TestSlowMirrorLeftOut(t *testing.T) {
	for _, h := range hangs {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			var s *stuck
			r := newRig(t, withMirrors(2, Degraded, 0), withStuck(&s, "m2"))
			r.mustPut("a", "1")
			s.hang(h.at)
			t.Cleanup(func() { s.answer(nil) })
			r.putAgain("b", "2")
			st := r.Status()
			if !st.Degraded || st.mirror("m2").Counts || st.mirror("m2").Slow == 0 || st.mirror("m1").Slow != 0 {
				t.Errorf("status %+v, want degraded for m2", st)
			}
			for i := range 50 {
				r.mustPut(fmt.Sprint("c", i), "x")
			}
			if s.most.Load() > 2 {
				t.Errorf("%d calls hang at once", s.most.Load())
			}
			s.answer(nil)
			r.counts("m1", "m2")
			r.putAgain("d", "3")
			r.verify()
			r.alone("m2")
		})
	}
}

// Fault 15: the head witness stops answering: held, as if it were away.
func TestSlowWitness(t *testing.T) {
	t.Parallel()
	var s *stuck
	r := newRig(t, func(c *Config) {
		c.Witness = filepath.Join(filepath.Dir(c.Dir), "witness")
		must(t, createWitness(t.Context(), c.withDefaults(), c.Witness))
	}, withStuck(&s, ""))
	r.mustPut("a", "1")
	s.hang(calls("sync"))
	t.Cleanup(func() { s.answer(nil) })
	if err := r.put("b", "2"); !errors.Is(err, holdfast.ErrNotDurable) {
		t.Errorf("got %v, want ErrNotDurable", err)
	}
	r.until("held for the witness", func(s Status) bool { return s.Code == "witness-away" && s.Witness.Slow == 1 })
	r.verify()
	s.answer(nil)
	r.waitOpen()
	r.putAgain("b", "3")
	r.verify()
}

// Fault 15: a mirror that hangs when a server starts keeps it closed, not waiting for ever; and it opens later.
func TestSlowMirrorAtStart(t *testing.T) {
	for _, kind := range []string{"open", "stat", "read", "sync", "rename"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var s *stuck
			r := newRig(t, func(c *Config) { withStuck(&s, "disk2")(c) })
			r.mustPut("a", "1")
			r.close(r.Ledger)
			s.hang(calls(kind))
			l, err := Open(context.Background(), r.cfg)
			must(t, err)
			r.Ledger = l
			t.Cleanup(func() { s.answer(nil); r.close(l) })
			r.until("closed for a slow mirror", func(s Status) bool { return s.State == "closed" && s.Code == "mirror-slow" })
			s.answer(nil)
			r.waitOpen()
			r.verify()
			r.mustPut("b", "2")
		})
	}
}

// Fault 15: however many readers look at the claims of a mirror that hangs, few of them are stuck in the system, and
// all are answered.
func TestSlowMirrorReaders(t *testing.T) {
	t.Parallel()
	var s *stuck
	r := newRig(t, func(c *Config) { withStuck(&s, "disk2")(c) })
	r.mustPut("a", "1")
	s.hang(calls("stat"))
	t.Cleanup(func() { s.answer(nil) })
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if got, err := r.get("a"); err != nil || got != "1" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	wg.Wait()
	if n := s.most.Load(); n > 16 {
		t.Errorf("%d calls hang at once", n)
	}
	r.waitState("held")
	s.answer(nil)
	r.waitOpen()
	r.mustPut("b", "2")
	r.verify()
}

// Fault 15: the end of a process does not wait for a mirror that hangs, and loses nothing.
func TestSlowMirrorAtClose(t *testing.T) {
	for _, kind := range []string{"sync", "stat", "rename", "open"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var s *stuck
			r := newRig(t, func(c *Config) { withStuck(&s, "disk2")(c) })
			r.mustPut("a", "1")
			s.hang(calls(kind))
			t.Cleanup(func() { s.answer(nil) })
			r.close(r.Ledger)
			s.answer(nil)
			r.open()
			r.verify()
		})
	}
}

// Fault 15, rows of failed syncs: a sync that was given up as too slow fails later. Only another process may
// believe that disk.
func TestSlowSyncFailsLater(t *testing.T) {
	t.Parallel()
	var s *stuck
	r := newRig(t, func(c *Config) { withStuck(&s, "disk2")(c) })
	r.mustPut("a", "1")
	s.hang(calls("sync"))
	t.Cleanup(func() { s.answer(nil) })
	if err := r.put("b", "2"); !errors.Is(err, holdfast.ErrNotDurable) {
		t.Errorf("got %v, want ErrNotDurable", err)
	}
	r.waitState("held")
	s.answer(durable.Fatal("sync", "the log", syscall.EIO))
	if err := <-r.Fatal(); !errors.Is(err, holdfast.ErrFatal) {
		t.Errorf("fatal: %v", err)
	}
	r.close(r.Ledger)
	s.answer(nil)
	r.open()
	r.verify()
}
