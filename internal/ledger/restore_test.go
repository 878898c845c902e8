package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"holdfast"
)

// newBox returns a rig's configuration on a box that has nothing but the mirrors.
func (r *rig) newBox() Config {
	r.t.Helper()
	c := r.cfg
	c.Dir = filepath.Join(r.t.TempDir(), "box")
	must(r.t, os.MkdirAll(c.Dir, 0o700))
	return c
}

// adopted opens what a restore made, as the rig of the same person.
func (r *rig) adopted(cfg Config) *rig {
	r.t.Helper()
	n := &rig{t: r.t, cfg: cfg, cards: r.cards, acked: r.acked}
	n.open()
	return n
}

func (r *rig) blob(name string, size int) {
	r.t.Helper()
	body, err := r.PutBlob(r.t.Context(), person, strings.NewReader(strings.Repeat(name, size/len(name))), 1<<20)
	must(r.t, err)
	_, err = r.Update(r.t.Context(), person, 1, func(tx *Tx) error {
		tx.Put(r.cards, name, "image/jpeg", 0, body)
		return nil
	})
	must(r.t, err)
	r.acked[name] = strings.Repeat(name, size/len(name))
}

// Faults 18 and 23: a new box is made from the mirror alone while the old one runs. The new one has
// everything, with the same tokens; the old one is fenced and says by whom, and keeps what it has.
func TestRestoreTakesOver(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 30 {
		r.mustPut(fmt.Sprint("card", i), fmt.Sprint("body", i))
	}
	r.mustPut("card3", "another body")
	r.blob("photo", 200_000)
	token, head := r.token()
	box := r.newBox()
	told := 0
	got, err := Restore(t.Context(), box, "taken over by restore on newbox", func(RestoreProgress) { told++ })
	must(t, err)
	if got.Heads[person].Head != head || got.Blobs != 1 || len(got.Closed) > 0 || got.MissingBlobs > 0 || told == 0 {
		t.Errorf("restored %+v, want head %s and one blob", got, head)
	}
	if err := r.put("late", "x"); err == nil {
		t.Error("the old box still acknowledges")
	}
	r.waitReason("taken over by restore on newbox")
	if _, err := r.get("card1"); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("the old box still shows data: %v", err)
	}
	n := r.adopted(box)
	n.verify()
	if seq, err := n.parse(token); err != nil || seq != head.Seq {
		t.Errorf("a device's token: %d, %v; want %d", seq, err, head.Seq)
	}
	if again, h := n.token(); again != token || h != head {
		t.Errorf("token %s, want %s", again, token)
	}
	must(t, n.View(t.Context(), person, func(v *View) error {
		d, _, err := v.Changed(n.cards, head.Seq, 10)
		if len(d) > 0 {
			t.Errorf("a device would be told of %d changes", len(d))
		}
		return err
	}))
	n.mustPut("new", "1")
	// The old box, started again: still fenced, nothing of it was touched.
	r.close(r.Ledger)
	l, err := Open(context.Background(), r.cfg)
	must(t, err)
	r.Ledger = l
	defer r.close(l)
	r.waitReason("taken over by restore on newbox")
	n.mustPut("newer", "1")
	n.close(n.Ledger)
	n.open()
	n.verify()
}

// A box that was taken over by a restore, and then the restore's box is restored again elsewhere: each
// claims once. One that lost its mirrors to another does not take them back by itself.
func TestRestoreTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	first, second := r.newBox(), r.newBox()
	_, err := Restore(t.Context(), first, "one", nil)
	must(t, err)
	n := r.adopted(first)
	n.mustPut("b", "2")
	_, err = Restore(t.Context(), second, "two", nil)
	must(t, err)
	n.waitReason("(two)")
	m := r.adopted(second)
	m.verify()
}

// Fault 23: a restore that was interrupted while it healed goes on where it was, under the same instance.
func TestRestoreInterrupted(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.SegmentSize = 96 << 10 }) // a restore ends between two segments
	const writers = 16                                           // each has cards of its own, so that each card's last body is known
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; i < healBatch+500; i += writers {
				if err := r.put(fmt.Sprint("card", i%(44*writers)), fmt.Sprint("body", i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	_, head := r.token()
	r.close(r.Ledger)
	box := r.newBox()
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Restore(ctx, box, "note", func(p RestoreProgress) {
		if p.Changes > 0 {
			cancel()
		}
	})
	if err == nil {
		t.Fatal("a cancelled restore finished")
	}
	before, err := os.ReadFile(filepath.Join(box.Dir, "heads"))
	must(t, err)
	got, err := Restore(t.Context(), box, "note", nil)
	must(t, err)
	if got.Changes == 0 || got.Changes > 1000 || got.Heads[person].Head != head {
		t.Errorf("the second attempt put %d changes back, want the rest; head %s, want %s", got.Changes, got.Heads[person].Head, head)
	}
	after, err := readHeadFile(box.withDefaults())
	must(t, err)
	if !strings.Contains(string(before), after.Instance) {
		t.Error("the second attempt has another instance")
	}
	r.adopted(box).verify()
}

// A mirror that is absent ends a restore with an error; nothing is made in its place, and it can go on later.
func TestRestoreWithoutMirror(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	r.close(r.Ledger)
	box, place := r.newBox(), r.cfg.Mirrors[0].Path
	must(t, os.Rename(place, place+".away"))
	if _, err := Restore(t.Context(), box, "note", nil); !errors.Is(err, holdfast.ErrAbsent) {
		t.Errorf("got %v, want ErrAbsent", err)
	}
	if _, err := os.Stat(place); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was made in the mirror's place: %v", err)
	}
	must(t, os.Rename(place+".away", place))
	_, err := Restore(t.Context(), box, "note", nil)
	must(t, err)
	r.adopted(box).verify()
}

// The mirror has lost its end, and its own head file knows: the account stays closed in the new box.
func TestRestoreKnowsWhatIsMissing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	r.close(r.Ledger)
	log, err := filepath.Glob(filepath.Join(r.cfg.Mirrors[0].Path, "log", "*"))
	must(t, err)
	kept := t.TempDir()
	must(t, os.CopyFS(kept, os.DirFS(log[0])))
	r.open()
	r.mustPut("b", "2")
	r.close(r.Ledger)
	logs, err := filepath.Glob(filepath.Join(r.cfg.Mirrors[0].Path, "log", "*"))
	must(t, err)
	for _, l := range logs[len(log):] {
		must(t, os.RemoveAll(l))
	}
	box := r.newBox()
	got, err := Restore(t.Context(), box, "note", nil)
	must(t, err)
	if len(got.Closed) != 1 || got.Closed[uint64(person)] == "" {
		t.Errorf("closed accounts: %v, want that of the person", got.Closed)
	}
}

// The mirrors say which others there are.
func TestMembersAreTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) {
		c.Mirrors = append(c.Mirrors, MirrorConfig{Name: "disk3", Path: filepath.Join(filepath.Dir(c.Dir), "mirror3")})
	})
	for _, mc := range r.cfg.Mirrors {
		m, b, err := openMirror(t.Context(), r.cfg.withDefaults(), mc)
		must(t, err)
		all, err := m.Members(t.Context())
		must(t, err)
		if len(all) != 2 || all[0].Name != "disk2" || all[1].Path != r.cfg.Mirrors[1].Path || all[0].ID == all[1].ID {
			t.Errorf("%s names %v", mc.Name, all)
		}
		must(t, b.Close())
	}
}

// A claim's words are for people: who, when, and that a person ordered it.
func TestClaimNote(t *testing.T) {
	t.Parallel()
	l := &Ledger{instance: "abc"}
	if got := l.claimNote(); got != "instance abc" {
		t.Errorf("got %q", got)
	}
	l.takeOver = &takeOver{note: "taken over by restore on x"}
	if got := l.claimNote(); got != "instance abc; taken over by restore on x" {
		t.Errorf("got %q", got)
	}
	l.takeOver.done()
	if got := l.claimNote(); got != "instance abc" || l.takeOver.allowed() {
		t.Errorf("after all were claimed: %q, allowed %v", got, l.takeOver.allowed())
	}
}
