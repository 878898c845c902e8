package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"holdfast"
	"holdfast/frame"
)

// faultRun is one life of a store on a disk with a fault: some commits with a checkpoint in between.
type faultRun struct {
	d     *disk
	s     *Store
	cfg   Config
	heads []holdfast.Head // of account 1, by seq; heads[0] is empty
	acked holdfast.Seq
	fatal bool
	errs  []error
}

func newFaultRun(t *testing.T, d *disk) *faultRun {
	t.Helper()
	faultSetUp()
	cfg := Config{Path: t.TempDir(), Server: testServer, Readers: 1, VFS: faultVFS}
	s, err := Create(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &faultRun{d: d, s: s, cfg: cfg, heads: []holdfast.Head{{}}}
	r.commit(root(), mkcol(2, 1, "a"), put(2, "kept", "before the fault"))
	if r.acked != 1 {
		t.Fatalf("first commit: %v", r.errs)
	}
	d.arm(t, cfg.Path)
	return r
}

// commit tries one change and remembers what was promised.
func (r *faultRun) commit(ops ...frame.Op) {
	tx, err := r.s.Begin(context.Background())
	if err == nil {
		var h holdfast.Head
		if h, err = change(tx, 1, ops...); err == nil {
			r.heads = append(r.heads[:h.Seq], h)
			if err = tx.Commit(); err == nil {
				r.acked = h.Seq
			}
		} else {
			err = errors.Join(err, tx.Rollback())
		}
	}
	r.fatal = r.fatal || errors.Is(err, holdfast.ErrFatal)
	if err != nil {
		r.errs = append(r.errs, err)
	}
}

// live does the work; it returns early if after returns true.
func (r *faultRun) live(after func() bool) {
	for i := range 4 {
		r.commit(put(2, fmt.Sprint("r", i%3), strings.Repeat(fmt.Sprint(i), 3000)))
		if after() {
			return
		}
		if i == 1 {
			err := r.s.check.checkpoint("RESTART")
			if err != nil {
				r.errs = append(r.errs, r.s.note(err))
			}
			if after() {
				return
			}
		}
	}
}

// verify opens what is left and compares it with what was promised.
func (r *faultRun) verify(t *testing.T, dir, what string) {
	t.Helper()
	s, err := Open(context.Background(), Config{Path: dir, Server: testServer, Readers: 1})
	if err != nil {
		t.Fatalf("%s: open: %v (errors before: %v)", what, err, r.errs)
	}
	defer s.Close()
	if err := s.Check(context.Background(), nil); err != nil {
		t.Fatalf("%s: %v (errors before: %v)", what, err, r.errs)
	}
	rd := read(t, s)
	defer rd.Close()
	h, err := rd.Head(1)
	if err != nil || h.Head.Seq < r.acked || int(h.Head.Seq) >= len(r.heads) || r.heads[h.Head.Seq] != h.Head {
		t.Fatalf("%s: head %v, %v; acknowledged %d of %v (errors before: %v)", what, h, err, r.acked, r.heads, r.errs)
	}
}

// TestFaultTable fails every write, sync and truncate of a run in every way, goes on, and then looks
// at the files as they are and as a power cut would leave them.
func TestFaultTable(t *testing.T) {
	count := &disk{}
	r := newFaultRun(t, count)
	r.live(func() bool { return false })
	steps := count.step
	if len(r.errs) > 0 || steps < 30 {
		t.Fatalf("run without fault: %d steps, %v", steps, r.errs)
	}
	setDisk(nil)
	if err := r.s.Close(); err != nil {
		t.Fatal(err)
	}
	outcomes := map[string]int{}
	for at := 1; at <= steps; at++ {
		for what := failClean; what <= failTorn; what++ {
			name := fmt.Sprintf("step %d of %d %s", at, steps, faultNames[what])
			d := &disk{at: at, what: what}
			r := newFaultRun(t, d)
			r.live(func() bool { return false })
			if !d.fired || len(r.errs) == 0 {
				t.Fatalf("%s: nobody noticed", name)
			}
			first := r.errs[0]
			switch {
			case errors.Is(first, holdfast.ErrFatal):
				outcomes["fatal"]++
				if _, err := r.s.Begin(context.Background()); !errors.Is(err, holdfast.ErrFatal) {
					t.Fatalf("%s: Begin after ErrFatal: %v", name, err)
				}
			case errors.Is(first, holdfast.ErrFull):
				outcomes["full"]++
				if len(r.errs) > 1 {
					t.Fatalf("%s: the store does not go on: %v", name, r.errs)
				}
			default:
				t.Fatalf("%s: %v is neither ErrFatal nor ErrFull", name, first)
			}
			cut := d.cut(t, rand.New(rand.NewPCG(uint64(at), uint64(what))))
			setDisk(nil)
			if err := r.s.Close(); err != nil && !r.fatal {
				t.Fatalf("%s: close: %v", name, err)
			}
			r.verify(t, cut, name+", power cut at the end")
			r.verify(t, r.cfg.Path, name+", files as they are")
		}
	}
	t.Logf("%d steps, outcomes %v", steps, outcomes)
	if outcomes["full"] == 0 || outcomes["fatal"] == 0 {
		t.Errorf("outcomes %v", outcomes)
	}
}

// TestPowerCut cuts the power after every commit and checkpoint of a run, each time with other sectors lost.
func TestPowerCut(t *testing.T) {
	d := &disk{}
	r := newFaultRun(t, d)
	rnd := rand.New(rand.NewPCG(1, 2))
	cuts := 0
	r.live(func() bool {
		for range 8 {
			r.verify(t, d.cut(t, rnd), fmt.Sprintf("cut %d after step %d", cuts, d.step))
			cuts++
		}
		return false
	})
	setDisk(nil)
	if err := r.s.Close(); err != nil || cuts < 40 {
		t.Fatalf("%d cuts, %v", cuts, err)
	}
}
