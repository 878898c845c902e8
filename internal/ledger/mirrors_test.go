package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast"
)

// withMirrors gives a rig n mirrors, called m1, m2, ...
func withMirrors(n int, p Policy, copies int) func(*Config) {
	return func(c *Config) {
		root := filepath.Dir(c.Dir)
		c.Mirrors, c.Policy, c.Copies = nil, p, copies
		for i := range n {
			c.Mirrors = append(c.Mirrors, MirrorConfig{Name: fmt.Sprintf("m%d", i+1), Path: filepath.Join(root, fmt.Sprintf("mirror%d", i+1))})
		}
	}
}

func (r *rig) path(name string) string {
	for _, m := range r.cfg.Mirrors {
		if m.Name == name {
			return m.Path
		}
	}
	r.t.Fatalf("no mirror %s", name)
	return ""
}

// away takes a mirror's directory away, as an unmounted disk is; back brings it back.
func (r *rig) away(name string) {
	r.t.Helper()
	must(r.t, os.Rename(r.path(name), r.path(name)+".away"))
}

func (r *rig) back(name string) {
	r.t.Helper()
	must(r.t, os.Rename(r.path(name)+".away", r.path(name)))
}

// until waits until the status is as wanted.
func (r *rig) until(what string, ok func(Status) bool) Status {
	r.t.Helper()
	end := time.Now().Add(60 * time.Second)
	for t := time.NewTicker(5 * time.Millisecond); ; <-t.C {
		s := r.Status()
		if ok(s) {
			t.Stop()
			return s
		}
		if time.Now().After(end) {
			r.t.Fatalf("waiting until %s: %+v", what, s)
		}
	}
}

func (s Status) mirror(name string) MirrorStatus {
	for _, m := range s.Mirrors {
		if m.Name == name {
			return m
		}
	}
	return MirrorStatus{}
}

func (r *rig) counts(names ...string) Status {
	r.t.Helper()
	return r.until(fmt.Sprint(names, " count"), func(s Status) bool {
		for _, n := range names {
			if m := s.mirror(n); !m.Counts || m.Path != r.path(n) {
				return false
			}
		}
		return s.State == "open"
	})
}

// putAgain writes until it is acknowledged: a server that changes its mirrors asks to wait for a moment.
func (r *rig) putAgain(name, body string) {
	r.t.Helper()
	end := time.Now().Add(30 * time.Second)
	for t := time.NewTicker(5 * time.Millisecond); ; <-t.C {
		err := r.put(name, body)
		if err == nil {
			t.Stop()
			return
		}
		if !errors.Is(err, holdfast.ErrNotDurable) && !errors.Is(err, holdfast.ErrFenced) || time.Now().After(end) {
			r.t.Fatalf("put %s: %v", name, err)
		}
	}
}

// addMirror does what `holdfast mirror add` does.
func (r *rig) addMirror(name string) MirrorConfig {
	r.t.Helper()
	c := MirrorConfig{Name: name, Path: filepath.Join(filepath.Dir(r.cfg.Dir), "added-"+name)}
	_, err := r.CreateMirror(r.t.Context(), c)
	must(r.t, err)
	r.cfg.Mirrors = append(slices.Clone(r.cfg.Mirrors), c)
	must(r.t, r.AddMirror(c))
	return c
}

// alone proves that one mirror gives back everything acknowledged: all else is taken away, the store too.
func (r *rig) alone(name string) {
	r.t.Helper()
	r.close(r.Ledger)
	dir := filepath.Join(r.t.TempDir(), "alone")
	must(r.t, os.CopyFS(dir, os.DirFS(r.cfg.Dir)))
	must(r.t, os.RemoveAll(filepath.Join(dir, "store")))
	must(r.t, os.RemoveAll(filepath.Join(dir, "blobs")))
	must(r.t, os.Mkdir(filepath.Join(dir, "blobs"), 0o700))
	must(r.t, editMembers(dir, func(members []member) []member {
		return slices.DeleteFunc(members, func(m member) bool { return m.Name != name })
	}))
	copied := filepath.Join(r.t.TempDir(), "copied")
	must(r.t, os.CopyFS(copied, os.DirFS(r.path(name))))
	s := &rig{t: r.t, cfg: r.cfg, cards: r.cards, acked: r.acked}
	s.cfg.Dir, s.cfg.Copies, s.cfg.Mirrors = dir, 0, []MirrorConfig{{name, copied}}
	s.open()
	s.verify()
	if got := s.Status(); len(got.Closed) > 0 {
		r.t.Errorf("mirror %s alone: closed %+v", name, got.Closed)
	}
	s.close(s.Ledger)
}

// putLarge writes a body over 64 KiB.
func (r *rig) putLarge(name, body string) {
	r.t.Helper()
	b, err := r.PutBlob(context.Background(), person, strings.NewReader(body), 1<<30)
	must(r.t, err)
	_, err = r.Update(context.Background(), person, 1, func(tx *Tx) error {
		tx.Put(r.cards, name, "text/vcard", 0, b)
		return nil
	})
	must(r.t, err)
	r.mu.Lock()
	r.acked[name] = body
	r.mu.Unlock()
}

// R12: a mirror is added while writes go on, counts when it has all, and alone gives everything back.
func TestMirrorAdd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 300 {
		r.mustPut(fmt.Sprint("c", i), fmt.Sprint(i))
	}
	large := strings.Repeat("photo ", 40_000)
	r.putLarge("large", large)
	var stop atomic.Bool
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			for i := 0; !stop.Load(); i++ {
				r.mustPut(fmt.Sprintf("w%d-%d", w, i%50), fmt.Sprint(i))
			}
		})
	}
	r.addMirror("new")
	s := r.counts("new")
	if s.Copies != 2 || s.Live != 2 || s.Degraded {
		t.Errorf("status %+v, want two copies, both there", s)
	}
	for i := range 20 {
		r.mustPut(fmt.Sprint("after", i), "x")
	}
	stop.Store(true)
	writers.Wait()
	r.putLarge("large2", large+"2")
	r.verify()
	r.alone("new")
	r.open()
	if got := r.counts("new", "disk2"); got.Term == 0 {
		t.Error("no term")
	}
	r.verify()
}

// Fault 14, degraded: one of two mirrors goes away, writes go on and everybody hears of it; it comes back
// and joins by itself, with what it lacks. Without any mirror nothing is acknowledged.
func TestDegraded(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var events []Event
	r := newRig(t, withMirrors(2, Degraded, 0), func(c *Config) {
		c.Notify = func(e Event) { mu.Lock(); events = append(events, e); mu.Unlock() }
	})
	r.mustPut("a", "1")
	r.away("m2")
	r.putAgain("b", "2")
	s := r.Status()
	if !s.Degraded || s.Live != 1 || s.Copies != 2 || s.mirror("m2").Counts {
		t.Errorf("status %+v, want degraded", s)
	}
	mu.Lock()
	if !slices.ContainsFunc(events, func(e Event) bool { return e.Kind == EventMirror && e.Bad && strings.Contains(e.Text, "m2") }) {
		t.Errorf("nobody was told: %+v", events)
	}
	mu.Unlock()
	r.putLarge("large", strings.Repeat("z", 100_000))
	r.restart(func() {}) // a restart knows that m2 is behind, and goes on without it
	r.mustPut("c", "3")
	if !r.Status().Degraded {
		t.Error("after a restart it is not degraded any more")
	}
	r.away("m1")
	if err := r.put("d", "4"); err == nil {
		t.Error("acknowledged with no second copy")
	}
	r.waitState("held")
	if err := r.put("d", "4"); err == nil {
		t.Error("acknowledged with no second copy")
	}
	r.verify()
	r.back("m1")
	r.putAgain("d", "5")
	r.back("m2")
	if s := r.counts("m1", "m2"); s.Degraded {
		t.Errorf("still degraded: %+v", s)
	}
	r.mustPut("e", "6")
	r.verify()
	r.alone("m2")
}

// A mirror that is behind never decides: with the other one away and the store lost, nothing is served;
// also with the store there, because nothing that could know better has been asked.
func TestBehindProvesNothing(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{true, false} {
		t.Run(fmt.Sprint("store lost ", lost), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, withMirrors(2, Degraded, 0))
			r.mustPut("a", "1")
			r.away("m2")
			r.putAgain("b", "2")
			r.close(r.Ledger)
			r.away("m1")
			r.back("m2")
			if lost {
				must(t, os.RemoveAll(filepath.Join(r.cfg.Dir, "store")))
			}
			l, err := Open(t.Context(), r.cfg)
			must(t, err)
			r.Ledger = l
			defer func() { r.close(l) }()
			r.waitReason("prove nothing")
			if _, err := r.get("a"); !errors.Is(err, holdfast.ErrFenced) {
				t.Errorf("read: %v, want ErrFenced", err)
			}
			r.back("m1")
			r.waitOpen()
			r.counts("m1", "m2")
			r.verify()
		})
	}
}

// K of m: with three mirrors and two copies one may be away; with two away writes wait.
func TestTwoOfThree(t *testing.T) {
	t.Parallel()
	r := newRig(t, withMirrors(3, Strict, 2))
	r.mustPut("a", "1")
	r.away("m3")
	r.putAgain("b", "2")
	if s := r.Status(); s.Degraded || s.Live != 2 || s.Copies != 2 {
		t.Errorf("status %+v, want two of two copies", s)
	}
	r.away("m1")
	if err := r.put("c", "3"); err == nil {
		t.Error("acknowledged with one copy")
	}
	r.waitState("held")
	r.verify()
	r.back("m3") // behind: it is filled first
	r.putAgain("c", "4")
	r.restart(func() {})
	r.mustPut("d", "5")
	r.back("m1")
	r.counts("m1", "m2", "m3")
	r.away("m2")
	r.putAgain("e", "6")
	r.verify()
	r.alone("m1")
	r.alone("m3")
}

// A line that is gone from the settings is no fewer copies: the server says so and serves nothing.
func TestMirrorVanishedFromSettings(t *testing.T) {
	t.Parallel()
	r := newRig(t, withMirrors(2, Strict, 0))
	r.mustPut("a", "1")
	r.close(r.Ledger)
	one := r.cfg
	one.Mirrors = one.Mirrors[:1]
	l, err := Open(t.Context(), one)
	must(t, err)
	whole := r.cfg
	r.Ledger, r.cfg = l, one
	r.waitReason("the configuration does not name it any more")
	if _, err := r.get("a"); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("read: %v, want ErrFenced", err)
	}
	must(t, r.RemoveMirror("m2")) // said with a command it is
	r.waitOpen()
	r.mustPut("b", "2")
	r.close(l)
	r.cfg = whole // and a line for what was taken out makes it join again
	r.open()
	r.counts("m1", "m2")
	r.verify()
	r.alone("m2")
}

// Fault 11, K: last month's copy is mounted in the place of a mirror, at a start and under a running server.
// It is found by what the head file knows of it, refilled and reported.
func TestMirrorOfLastMonth(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprint("running ", running), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, withMirrors(2, Strict, 0))
			r.mustPut("a", "1")
			last := filepath.Join(t.TempDir(), "last")
			r.restart(func() { must(t, os.CopyFS(last, os.DirFS(r.path("m2")))) })
			for i := range 50 {
				r.mustPut(fmt.Sprint("b", i), "2")
			}
			swap := func() {
				must(t, os.Rename(r.path("m2"), r.path("m2")+".now"))
				must(t, os.CopyFS(r.path("m2"), os.DirFS(last)))
			}
			if running {
				must(t, r.writeHeads(t.Context()))
				swap()
			} else {
				r.restart(swap)
			}
			r.putAgain("c", "3")
			r.counts("m1", "m2")
			r.verify()
			found := false
			for _, name := range r.incidents() {
				b, err := os.ReadFile(filepath.Join(r.cfg.Dir, "incidents", name))
				must(t, err)
				found = found || bytes.Contains(b, []byte("an older copy was put in its place"))
			}
			if !found {
				t.Errorf("no incident report says so: %v", r.incidents())
			}
			r.alone("m2")
		})
	}
}

// Another mirror in the place of one is absent; so is another server's. Nothing is written to either.
func TestWrongDisk(t *testing.T) {
	t.Parallel()
	r := newRig(t, withMirrors(2, Strict, 0))
	r.mustPut("a", "1")
	for name, server := range map[string]holdfast.ServerID{"of this server": r.cfg.Server, "of another server": {9}} {
		other := filepath.Join(t.TempDir(), "other")
		cfg := r.cfg
		cfg.Server = server
		must(t, createMirror(t.Context(), cfg.withDefaults(), MirrorConfig{"x", other}))
		r.close(r.Ledger)
		r.away("m2")
		must(t, os.Rename(other, r.path("m2")))
		l, err := Open(t.Context(), r.cfg)
		must(t, err)
		r.Ledger = l
		r.waitReason("m2")
		if entries, err := os.ReadDir(r.path("m2")); err != nil || len(entries) != 1 {
			t.Errorf("%s: it has %v (%v), want the marker only", name, entries, err)
		}
		must(t, os.Rename(r.path("m2"), other))
		r.back("m2")
		r.waitOpen()
		r.close(l)
		r.open()
	}
	r.verify()
}

// Two mirrors disagree: one that was left out has a change that was never acknowledged and that the others
// went on without. It loses (R6), is kept as a branch (F6), is said aloud, and joins.
func TestMirrorsDisagree(t *testing.T) {
	for _, atStart := range []bool{false, true} {
		t.Run(fmt.Sprint("at start ", atStart), func(t *testing.T) { t.Parallel(); mirrorsDisagree(t, atStart) })
	}
}

// mirrorsDisagree brings the mirror back while the server serves, or has it wanted by a start.
func mirrorsDisagree(t *testing.T, atStart bool) {
	r := newRig(t, withMirrors(3, Strict, 2))
	r.mustPut("a", "1")
	r.close(r.Ledger)
	// m3 alone gets a change, as when a process dies between two appends, and the store is rolled back with
	// the others: nobody was told of it.
	image := filepath.Join(t.TempDir(), "image")
	must(t, os.CopyFS(image, os.DirFS(filepath.Dir(r.cfg.Dir))))
	s := &rig{t: t, cfg: r.cfg, cards: r.cards, acked: map[string]string{}}
	s.cfg.Dir, s.cfg.Copies, s.cfg.Mirrors = filepath.Join(image, "data"), 0, []MirrorConfig{{"m3", filepath.Join(image, "mirror3")}}
	must(t, editMembers(s.cfg.Dir, func(m []member) []member { return m[2:] }))
	s.open()
	s.mustPut("stray", "never acknowledged")
	s.Ledger.cancel() // killed: its head file knows nothing of the change
	<-s.Ledger.ended
	must(t, os.RemoveAll(r.path("m3")))
	must(t, os.CopyFS(r.path("m3")+".away", os.DirFS(filepath.Join(image, "mirror3"))))
	must(t, os.Remove(filepath.Join(r.path("m3")+".away", "heads")))
	r.open()
	r.mustPut("b", "2")
	r.mustPut("c", "3")
	if atStart {
		r.cfg.Copies = 0
		r.restart(func() { r.back("m3") })
	} else {
		r.back("m3")
	}
	r.counts("m1", "m2", "m3")
	if names := r.glob(branchDir(r.cfg), "*"+branchSuffix); len(names) != 1 {
		t.Errorf("branches: %v, want the change that did not go on", names)
	} else if h, last, err := readBranchFile(r.cfg.withDefaults(), filepath.Base(names[0]), nil); err != nil || h.Account != person || last.Seq != h.Common.Seq+1 {
		t.Errorf("branch %+v up to %v, %v", h, last, err)
	}
	if _, err := r.get("stray"); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("a change that was never acknowledged: %v", err)
	}
	r.verify()
	r.alone("m3")
}

// A mirror that is behind and was told of changes that store and other mirrors have lost together is believed.
func TestBehindKnowsMore(t *testing.T) {
	t.Parallel()
	r := newRig(t, withMirrors(2, Degraded, 0))
	r.mustPut("a", "1")
	old := filepath.Join(t.TempDir(), "old")
	r.restart(func() { must(t, os.CopyFS(old, os.DirFS(filepath.Dir(r.cfg.Dir)))) })
	for i := range 20 {
		r.mustPut(fmt.Sprint("b", i), "2")
	}
	r.close(r.Ledger)
	// Data directory and m1 are rolled back together; m2 was left out when that copy was made.
	must(t, os.RemoveAll(r.cfg.Dir))
	must(t, os.RemoveAll(r.path("m1")))
	must(t, os.CopyFS(r.cfg.Dir, os.DirFS(filepath.Join(old, "data"))))
	must(t, os.CopyFS(r.path("m1"), os.DirFS(filepath.Join(old, "mirror1"))))
	must(t, editMembers(r.cfg.Dir, func(m []member) []member { m[1].Behind = 1; return m }))
	r.open()
	r.counts("m1", "m2")
	r.verify()
}

// The disk of one of three mirrors fails an fsync: the process ends as it must, and the one that comes
// next goes on without that mirror and fills it again.
func TestFailedDiskIsLeftOut(t *testing.T) {
	t.Parallel()
	r := newRig(t, withMirrors(3, Strict, 2))
	r.mustPut("a", "1")
	var once sync.Once
	r.Ledger.fault = func(step string) (err error) {
		if step == "after append" {
			once.Do(func() { err = &mirrorError{"m2", holdfast.ErrFatal} })
		}
		return err
	}
	if err := r.put("b", "2"); !errors.Is(err, holdfast.ErrNotDurable) {
		t.Errorf("got %v, want ErrNotDurable", err)
	}
	<-r.Fatal()
	r.close(r.Ledger)
	hf, err := readHeadFile(r.cfg.withDefaults())
	must(t, err)
	if m := memberByName(hf.Members, "m2"); m == nil || m.Behind == 0 {
		t.Errorf("members %+v, want m2 behind", hf.Members)
	}
	r.open()
	r.counts("m1", "m2", "m3")
	r.mustPut("c", "3")
	r.verify()
	r.alone("m2")
}
