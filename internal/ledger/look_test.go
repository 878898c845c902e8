package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
)

// tree lists a directory with sizes and times: what was not touched is the same.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := e.Info()
		if err == nil && !e.IsDir() {
			fmt.Fprintln(&b, path, i.Size(), i.ModTime(), i.Mode())
		}
		return err
	}))
	return b.String()
}

// look opens a data directory as a command that only reads does, and waits until it has looked.
func (r *rig) look(cfg Config) *Ledger {
	r.t.Helper()
	cfg.Visit, cfg.Look = true, true
	l, err := Open(context.Background(), cfg)
	must(r.t, err)
	r.t.Cleanup(func() { r.close(l) })
	until(r.t, "it has looked", func() bool { return l.Status().Code != "starting" })
	return l
}

func body(l *Ledger, r *rig, name string) (string, error) {
	n := &rig{Ledger: l, t: r.t, cards: r.cards}
	return n.get(name)
}

// A command that only reads claims nothing, heals nothing and writes nothing to a mirror, and its answers are true.
func TestLook(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	r.blob("photo", 200_000)
	r.close(r.Ledger)
	before, term := tree(t, r.cfg.Mirrors[0].Path), r.Status().Term
	l := r.look(r.cfg)
	if s := l.Status(); s.State != "open" || s.Accounts != 2 || s.Term != term || s.Mirrors[0].State != "complete" || s.Live != 1 || len(s.Troubles()) > 0 {
		t.Errorf("status: %+v", s)
	}
	for name, want := range r.acked {
		if got, err := body(l, r, name); err != nil || got != want {
			t.Errorf("%s: %.20q, %v", name, got, err)
		}
	}
	if _, err := l.Update(t.Context(), person, 0, func(*Tx) error { return nil }); !errors.Is(err, holdfast.ErrDenied) {
		t.Errorf("update: got %v, want ErrDenied", err)
	}
	r.close(l)
	if after := tree(t, r.cfg.Mirrors[0].Path); after != before {
		t.Errorf("the mirror was touched:\n%s\nbefore:\n%s", after, before)
	}
	r.open()
	r.verify()
	r.mustPut("a", "2")
}

// What a start would heal or fill up is said, and left alone.
func TestLookAtUnequalCopies(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	r.close(r.Ledger)
	old := r.snapshot()
	r.open()
	r.mustPut("a", "2")
	r.mustPut("b", "2")
	r.close(r.Ledger)
	newer := r.snapshot()
	put := func(from, to string) {
		must(t, os.RemoveAll(to))
		must(t, os.CopyFS(to, os.DirFS(from)))
	}
	store, mirror := filepath.Join(r.cfg.Dir, "store"), r.cfg.Mirrors[0].Path
	for name, c := range map[string]struct {
		do     func()
		state  string
		detail string
	}{
		"store old":    {func() { put(filepath.Join(old, "data", "store"), store) }, "closed", "2 changes of 1 accounts that the store has not"},
		"store gone":   {func() { must(t, os.RemoveAll(store)) }, "closed", "absent"},
		"store zeroed": {func() { must(t, os.Truncate(filepath.Join(store, "holdfast.db"), 0)) }, "closed", "corrupt"},
		"mirror old":   {func() { put(filepath.Join(old, "disk2"), mirror) }, "held", "mirror disk2: it lacks 2 changes"},
	} {
		r.rollBack(newer)
		c.do()
		before := tree(t, mirror)
		l := r.look(r.cfg)
		s := l.Status()
		if s.State != c.state || s.Code != "unequal" || !strings.Contains(s.Detail, c.detail) || !strings.Contains(s.Todo, "holdfast serve") {
			t.Errorf("%s: %s %s, %q; want %s, %q", name, s.State, s.Code, s.Detail, c.state, c.detail)
		}
		got, err := body(l, r, "a")
		if c.state == "closed" && !errors.Is(err, holdfast.ErrFenced) || c.state == "held" && got != "1" { // what both have
			t.Errorf("%s: a is %q, %v", name, got, err)
		}
		r.close(l)
		if after := tree(t, mirror); after != before {
			t.Errorf("%s: the mirror was touched", name)
		}
		r.open()
		r.verify()
		r.close(r.Ledger)
	}
}

// On a copy of the data directory, on another machine: looking disturbs no server that runs, and a command that would
// have to claim is refused while that one may be running, and not once it has ended in good order.
func TestCopyOnAnotherMachine(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	twin := r.cfg
	twin.Dir = filepath.Join(filepath.Dir(r.cfg.Dir), "copy")
	r.close(r.Ledger)
	r.open()
	r.Ledger.mu.Lock()
	r.headsDue = true
	r.Ledger.mu.Unlock()
	must(t, r.writeHeads(t.Context()))
	must(t, os.CopyFS(twin.Dir, os.DirFS(r.cfg.Dir))) // of the running server: it knows the very claim
	twin.host = "elsewhere"

	l := r.look(twin)
	if s := l.Status(); s.State != "open" {
		t.Errorf("the copy looks: %s %s %s", s.State, s.Code, s.Detail)
	}
	r.mustPut("b", "2") // the copy's look does not know it, and does not disturb it
	if got, err := body(l, r, "a"); err != nil || got != "1" {
		t.Errorf("the copy shows %q, %v", got, err)
	}
	r.close(l)

	visit := twin
	visit.Visit = true
	l, err := Open(context.Background(), visit)
	must(t, err)
	until(t, "the command is refused", func() bool { return len(l.Status().Claimants) > 0 })
	if s := l.Status(); s.Code != "taken-over" || !strings.Contains(s.Detail, "may be running") {
		t.Errorf("the copy: %s %s", s.Code, s.Detail)
	}
	r.close(l)
	r.mustPut("c", "3")
	if s := r.Status(); s.Conflicts != 0 {
		t.Errorf("the server lost its mirrors %d times", s.Conflicts)
	}

	r.close(r.Ledger) // in good order
	l, err = Open(context.Background(), visit)
	must(t, err)
	must(t, l.WaitOpen(t.Context()))
	r.close(l)
}

// A claim while a command looks: what it shows from then on may be old, so it says so.
func TestLookIsOvertaken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	r.close(r.Ledger)
	l := r.look(r.cfg)
	if _, err := body(l, r, "a"); err != nil {
		t.Fatal(err)
	}
	r.claimAs("instance aaaa; another server")
	if _, err := body(l, r, "a"); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("after another server's claim: got %v, want ErrFenced", err)
	}
}
