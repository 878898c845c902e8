package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast"
)

// snapshot copies store, mirrors and head files of a rig that is closed: last night's image of all disks.
func (r *rig) snapshot() string {
	r.t.Helper()
	old := r.t.TempDir()
	must(r.t, os.CopyFS(filepath.Join(old, "data"), os.DirFS(r.cfg.Dir)))
	for _, m := range r.cfg.Mirrors {
		must(r.t, os.CopyFS(filepath.Join(old, m.Name), os.DirFS(m.Path)))
	}
	return old
}

// rollBack puts the image back, all of it together: nothing on the server knows what was lost.
func (r *rig) rollBack(old string) {
	r.t.Helper()
	must(r.t, os.RemoveAll(r.cfg.Dir))
	must(r.t, os.CopyFS(r.cfg.Dir, os.DirFS(filepath.Join(old, "data"))))
	for _, m := range r.cfg.Mirrors {
		must(r.t, os.RemoveAll(m.Path))
		must(r.t, os.CopyFS(m.Path, os.DirFS(filepath.Join(old, m.Name))))
	}
}

// lostRig has a, b; then c, a changed and d, e were acknowledged and rolled back. It returns the tokens of
// a device that saw none, one or all of the lost changes.
func lostRig(t *testing.T) (r *rig, none, some, all string) {
	t.Helper()
	r = newRig(t)
	r.mustPut("a", "1")
	r.mustPut("b", "1")
	none, _ = r.token()
	r.close(r.Ledger)
	old := r.snapshot()
	r.open()
	r.mustPut("c", "lost")
	some, _ = r.token()
	r.mustPut("a", "lost")
	r.mustPut("d", "lost")
	r.mustPut("e", "lost")
	all, _ = r.token()
	r.close(r.Ledger)
	r.rollBack(old)
	r.acked = map[string]string{"a": "1", "b": "1"}
	r.open()
	return r, none, some, all
}

func (r *rig) point(token string) (p SyncPoint, err error) {
	err = r.View(context.Background(), person, func(v *View) (err error) {
		p, err = v.ParseSyncToken(token, 3)
		return err
	})
	return p, err
}

// hears returns what a device hears that shows a token: the names present, and those deleted.
func (r *rig) hears(token string) (present, deleted []string) {
	r.t.Helper()
	must(r.t, r.View(context.Background(), person, func(v *View) error {
		p, err := v.ParseSyncToken(token, 3)
		if err != nil {
			return err
		}
		deltas, _, err := v.Changed(r.cards, p.Since, 1000)
		for _, d := range deltas {
			if d.Deleted {
				deleted = append(deleted, d.Name)
			} else {
				present = append(present, d.Name)
			}
		}
		return err
	}))
	slices.Sort(present)
	return present, deleted
}

// Faults 1 to 5 at once: store, mirror and head files are rolled back together. A device's newer token closes the
// account alone; accept-loss opens it; no device is told of a deletion, and each hears what is new.
func TestAcceptLoss(t *testing.T) {
	t.Parallel()
	r, none, some, all := lostRig(t)
	r.mustPut("n", "after the rollback") // by a device that noticed nothing
	if _, err := r.point(all); !errors.Is(err, holdfast.ErrFenced) {
		t.Fatalf("a token from the future: got %v, want ErrFenced", err)
	}
	if _, err := r.get("a"); !errors.Is(err, holdfast.ErrFenced) {
		t.Fatalf("after it the account answers %v, want ErrFenced", err)
	}
	must(t, r.View(t.Context(), holdfast.Server, func(*View) error { return nil }))

	loss, err := r.Loss(t.Context(), person)
	must(t, err)
	// The account's first change made its collections; a and b follow, then n.
	if !loss.Closed || loss.Head != 4 || loss.Common != 3 || loss.Changes() != 4 || len(loss.Witnesses) != 1 ||
		loss.Witnesses[0].Source != "the sync token of device 3" || loss.Witnesses[0].Seq != 7 {
		t.Errorf("known of the loss: %+v", loss)
	}
	if _, err := r.AcceptLoss(t.Context(), person); err != nil {
		t.Fatal(err)
	}
	r.verify()
	h, _ := r.AccountHead(person)
	if h.Epoch != 2 || h.Head.Seq != 5 {
		t.Errorf("the account is at %+v", h)
	}
	if loss, err := r.AcceptLoss(t.Context(), person); err != nil || loss.Closed { // idempotent
		t.Errorf("a second time: %+v, %v", loss, err)
	}
	if h2, _ := r.AccountHead(person); h2 != h {
		t.Errorf("the second time wrote: %+v", h2)
	}
	check := func() {
		t.Helper()
		for name, c := range map[string]struct {
			token string
			lost  bool
		}{"that saw nothing of it": {none, false}, "that saw some": {some, true}, "that saw all": {all, true}} {
			p, err := r.point(c.token)
			present, deleted := r.hears(c.token)
			if err != nil || p.Lost != c.lost || !p.Renew || len(deleted) > 0 || !slices.Equal(present, []string{"n"}) {
				t.Errorf("a device %s: %+v, %v, hears %v and that %v are deleted", name, p, err, present, deleted)
			}
		}
	}
	check()
	if got := reportText(t, r); !strings.Contains(got, "accepted the loss of account 7") || !strings.Contains(got, "device 3 knew change 7 of epoch 1") {
		t.Errorf("report:\n%s", got)
	}
	r.close(r.Ledger)
	r.open()
	check()
	r.verify()
	must(t, r.cfg.removeStore()) // the mirror alone has the epoch too
	r.close(r.Ledger)
	r.open()
	check()
	r.verify()
}

func (c Config) removeStore() error { return os.RemoveAll(filepath.Join(c.Dir, "store")) }

func reportText(t *testing.T, r *rig) string {
	t.Helper()
	var all strings.Builder
	for _, name := range r.incidents() {
		b, err := os.ReadFile(filepath.Join(r.cfg.Dir, "incidents", name))
		must(t, err)
		all.Write(b)
	}
	return all.String()
}

// A deletion that a device made after the loss is told to those that know what was lost; what was lost is not.
func TestAcceptLossDeletions(t *testing.T) {
	t.Parallel()
	r, none, _, all := lostRig(t)
	_, err := r.point(all)
	if !errors.Is(err, holdfast.ErrFenced) {
		t.Fatal(err)
	}
	_, err = r.AcceptLoss(t.Context(), person)
	must(t, err)
	_, err = r.Update(t.Context(), person, 2, func(tx *Tx) error { tx.Delete(r.cards, "b"); return nil })
	must(t, err)
	r.mustPut("a", "edited") // the device that has the lost version hears of it as of any edit
	for _, token := range []string{none, all} {
		present, deleted := r.hears(token)
		if !slices.Equal(present, []string{"a"}) || !slices.Equal(deleted, []string{"b"}) {
			t.Errorf("hears %v and that %v are deleted", present, deleted)
		}
	}
}

// Several losses in a row, of which the second takes the first epoch's beginning with it.
func TestAcceptLossAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	r.close(r.Ledger)
	first := r.snapshot()
	r.open()
	r.mustPut("b", "1")
	ofOne, _ := r.token()
	r.close(r.Ledger)
	r.rollBack(first)
	r.open()
	accept := func(token string, epoch holdfast.Epoch) {
		t.Helper()
		if _, err := r.point(token); !errors.Is(err, holdfast.ErrFenced) {
			t.Fatalf("got %v, want ErrFenced", err)
		}
		if _, err := r.AcceptLoss(t.Context(), person); err != nil {
			t.Fatal(err)
		}
		if h, _ := r.AccountHead(person); h.Epoch != epoch {
			t.Errorf("epoch %d, want %d", h.Epoch, epoch)
		}
	}
	accept(ofOne, 2)
	r.mustPut("c", "1")
	ofTwo, _ := r.token()
	r.close(r.Ledger)
	second := r.snapshot()
	r.rollBack(first) // before epoch 2
	r.open()
	accept(ofTwo, 3)
	r.mustPut("d", "1")
	ofThree, _ := r.token()
	if p, err := r.point(ofThree); err != nil || p.Renew {
		t.Errorf("a token of this epoch: %+v, %v", p, err)
	}
	for _, token := range []string{ofOne, ofTwo} {
		p, err := r.point(token)
		present, deleted := r.hears(token)
		if err != nil || !p.Lost || !slices.Equal(present, []string{"d"}) || len(deleted) > 0 {
			t.Errorf("%+v, %v: hears %v, %v deleted", p, err, present, deleted)
		}
	}
	r.close(r.Ledger)
	r.rollBack(second) // to epoch 2, before epoch 3
	r.open()
	accept(ofThree, 4)
	if p, err := r.point(ofTwo); err != nil || p.Lost {
		t.Errorf("what epoch 2 knew is there again: %+v, %v", p, err)
	}
	if p, err := r.point(ofOne); err != nil || !p.Lost {
		t.Errorf("epoch 1's is lost: %+v, %v", p, err)
	}
}

// Every step of accept-loss fails before it, after it, or is the last one before a kill: nothing, or all of it.
func TestAcceptLossFaults(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"before accept", "after accept", "before accepted", "after accepted"} {
		t.Run(strings.ReplaceAll(at, " ", "-"), func(t *testing.T) {
			t.Parallel()
			r, _, _, all := lostRig(t)
			_, err := r.point(all)
			if !errors.Is(err, holdfast.ErrFenced) {
				t.Fatal(err)
			}
			until(t, "the head file knows the token", func() bool {
				b, err := os.ReadFile(filepath.Join(r.cfg.Dir, "heads"))
				return err == nil && strings.Contains(string(b), `"tokens"`)
			})
			var once sync.Once
			r.fault = func(step string) (err error) {
				if step == at {
					once.Do(func() { err = fmt.Errorf("the power fails: %w", holdfast.ErrFatal) })
				}
				return err
			}
			if _, err := r.AcceptLoss(t.Context(), person); err == nil {
				t.Error("it was well")
			}
			<-r.ended
			r.open()
			_, err = r.get("a")
			h, _ := r.AccountHead(person)
			switch {
			case at == "before accept" && !errors.Is(err, holdfast.ErrFenced):
				t.Errorf("nothing was done, but the account answers %v", err)
			case at != "before accept" && (err != nil || h.Epoch != 2):
				t.Errorf("it was done, but the account answers %v in epoch %d", err, h.Epoch)
			}
			if _, err := r.AcceptLoss(t.Context(), person); err != nil {
				t.Error(err)
			}
			r.verify()
			if h, _ := r.AccountHead(person); h.Epoch != 2 {
				t.Errorf("epoch %d, want 2", h.Epoch)
			}
		})
	}
}

// The head file of DIR, and that of a mirror, are witnesses too; what they know is accepted alike.
func TestAcceptLossOfHeadFile(t *testing.T) {
	t.Parallel()
	for _, which := range []string{"data", "disk2"} {
		t.Run(which, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.mustPut("a", "1")
			r.close(r.Ledger)
			old := r.snapshot()
			r.open()
			r.mustPut("b", "lost")
			r.close(r.Ledger)
			place := map[string]string{"data": r.cfg.Dir, "disk2": r.cfg.Mirrors[0].Path}[which]
			kept, err := os.ReadFile(filepath.Join(place, "heads"))
			must(t, err)
			r.rollBack(old)
			must(t, os.WriteFile(filepath.Join(place, "heads"), kept, 0o600))
			r.acked = map[string]string{"a": "1"}
			r.open()
			if _, err := r.get("a"); !errors.Is(err, holdfast.ErrFenced) {
				t.Fatalf("got %v, want ErrFenced", err)
			}
			_, err = r.AcceptLoss(t.Context(), person)
			must(t, err)
			r.verify()
			r.mustPut("c", "1")
			r.close(r.Ledger)
			r.open()
			r.verify()
		})
	}
}
