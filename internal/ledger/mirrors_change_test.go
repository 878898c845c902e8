package ledger

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast"
)

// Fault 9: the only mirror is dead. A new one takes its place by the operator's word, before and after a restart,
// and while the store is served on; without the word the server waits.
func TestReplaceDead(t *testing.T) {
	t.Parallel()
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprint("restarted ", restarted), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, withMirrors(1, Strict, 0))
			r.mustPut("a", "1")
			r.putLarge("large", strings.Repeat("z", 100_000))
			must(t, os.RemoveAll(r.path("m1")))
			if restarted {
				r.close(r.Ledger)
				l, err := Open(t.Context(), r.cfg)
				must(t, err)
				r.Ledger = l
				defer func() { r.close(l) }()
				r.waitReason("m1")
			} else {
				if err := r.put("b", "2"); err == nil {
					t.Error("acknowledged without a mirror")
				}
				r.waitState("held")
				r.verify()
			}
			if err := r.MirrorReadable(t.Context(), "m1"); err == nil {
				t.Error("a removed mirror is said to be readable")
			}
			r.replace("m1", true)
			r.counts("m1")
			r.mustPut("c", "3")
			r.verify()
			r.alone("m1")
		})
	}
}

// replace does what `holdfast mirror replace` does.
func (r *rig) replace(name string, giveUp bool) {
	r.t.Helper()
	c := MirrorConfig{Name: name, Path: filepath.Join(filepath.Dir(r.cfg.Dir), "instead-"+name)}
	id, err := r.CreateMirror(r.t.Context(), c)
	must(r.t, err)
	must(r.t, r.ReplaceMirror(c, id, giveUp, func() error {
		r.cfg.Mirrors = slices.Clone(r.cfg.Mirrors)
		for i := range r.cfg.Mirrors {
			if r.cfg.Mirrors[i].Name == name {
				r.cfg.Mirrors[i] = c
			}
		}
		return nil
	}))
}

// A replacement of a dead mirror is not taken for a copy while the store is lost too.
func TestReplaceDeadWithoutStore(t *testing.T) {
	t.Parallel()
	r := newRig(t, withMirrors(1, Strict, 0))
	r.mustPut("a", "1")
	must(t, os.RemoveAll(r.path("m1")))
	if err := r.put("b", "2"); err == nil {
		t.Error("acknowledged without a mirror")
	}
	r.waitState("held")
	r.close(r.Ledger)
	must(t, os.RemoveAll(filepath.Join(r.cfg.Dir, "store")))
	l, err := Open(t.Context(), r.cfg)
	must(t, err)
	r.Ledger = l
	defer func() { r.close(l) }()
	r.waitReason("m1")
	r.replace("m1", true)
	r.waitReason("nothing can be served")
	if _, err := os.Stat(filepath.Join(r.cfg.Dir, "store")); err == nil {
		t.Error("an empty store was made")
	}
}

// A mirror moves to a larger disk while writes go on: the old one counts until the new one does.
func TestReplaceLiving(t *testing.T) {
	t.Parallel()
	r := newRig(t, withMirrors(2, Strict, 0))
	for i := range 100 {
		r.mustPut(fmt.Sprint("c", i), fmt.Sprint(i))
	}
	old := r.path("m1")
	r.replace("m1", false)
	s := r.until("the new one counts", func(s Status) bool {
		m := s.mirror("m1")
		return m.Counts && m.Path == r.path("m1") && s.State == "open"
	})
	if len(s.Mirrors) != 2 || s.Live != 2 || s.Copies != 2 {
		t.Errorf("status %+v, want two mirrors", s)
	}
	r.mustPut("after", "x")
	must(t, os.RemoveAll(old))
	r.mustPut("after2", "x")
	r.restart(func() {})
	r.verify()
	r.alone("m1")
}

// Remove falls below neither the policy nor one, and leaves the directory as it is.
func TestMirrorRemove(t *testing.T) {
	t.Parallel()
	r := newRig(t, withMirrors(3, Strict, 2))
	r.mustPut("a", "1")
	must(t, r.RemoveMirror("m1"))
	r.cfg.Mirrors = r.cfg.Mirrors[1:]
	r.mustPut("b", "2")
	if s := r.Status(); len(s.Mirrors) != 2 || s.Copies != 2 || s.Live != 2 {
		t.Errorf("status %+v, want two mirrors", s)
	}
	if err := r.RemoveMirror("m2"); !errors.Is(err, holdfast.ErrDenied) {
		t.Errorf("below the policy: %v, want ErrDenied", err)
	}
	if err := r.RemoveMirror("m1"); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("twice: %v, want ErrNotFound", err)
	}
	must(t, r.SetPolicy(Strict, 0))
	must(t, r.RemoveMirror("m2"))
	r.cfg.Mirrors, r.cfg.Copies = r.cfg.Mirrors[1:], 0
	if err := r.RemoveMirror("m3"); !errors.Is(err, holdfast.ErrDenied) {
		t.Errorf("the last: %v, want ErrDenied", err)
	}
	r.mustPut("c", "3")
	r.restart(func() {})
	r.verify()
	if _, err := os.Stat(filepath.Join(filepath.Dir(r.cfg.Dir), "mirror1", "holdfast-mirror.json")); err != nil {
		t.Errorf("the removed mirror: %v", err)
	}
	// Of two mirrors the one that is behind cannot be the one that is left.
	must(t, r.SetPolicy(Degraded, 0))
	r.cfg.Policy = Degraded
	c := r.addMirror("new")
	r.counts("new")
	must(t, os.Rename(c.Path, c.Path+".away"))
	r.putAgain("d", "4")
	if err := r.RemoveMirror("m3"); !errors.Is(err, holdfast.ErrDenied) {
		t.Errorf("the only complete one: %v, want ErrDenied", err)
	}
	must(t, r.RemoveMirror("new"))
	r.mustPut("e", "5")
}
