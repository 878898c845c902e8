package ledger

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast"
)

// guarded is a rig with a clock of its own and what was told.
type guarded struct {
	*rig
	mu   sync.Mutex
	now  time.Duration
	wall time.Time
	told []Event
}

func newGuarded(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{now: time.Hour, wall: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)}
	g.rig = newRig(t, func(c *Config) {
		c.elapsed = func() time.Duration { g.mu.Lock(); defer g.mu.Unlock(); return g.now }
		c.Now = func() time.Time { g.mu.Lock(); defer g.mu.Unlock(); return g.wall }
		c.Notify = func(e Event) {
			if e.Kind == EventMassChange {
				g.mu.Lock()
				g.told = append(g.told, e)
				g.mu.Unlock()
			}
		}
	})
	return g
}

// pass lets time go by, on both clocks.
func (g *guarded) pass(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now += d
	g.wall = g.wall.Add(d)
}

func (g *guarded) events() []Event {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]Event(nil), g.told...)
}

// by runs one change of a device.
func (g *guarded) by(d holdfast.DeviceID, fn func(tx *Tx)) {
	g.t.Helper()
	_, err := g.Update(context.Background(), person, d, func(tx *Tx) error { fn(tx); return nil })
	must(g.t, err)
}

// fill makes members from..to-1 by one change of device 9.
func (g *guarded) fill(c holdfast.CollectionID, from, to int) {
	g.by(9, func(tx *Tx) {
		for i := from; i < to; i++ {
			tx.Put(c, fmt.Sprintf("%05d", i), "text/plain", 0, InlineBody(fmt.Appendf(nil, "body %d", i)))
		}
	})
}

func (g *guarded) over(d holdfast.DeviceID, c holdfast.CollectionID, from, to int, body string) {
	for i := from; i < to; i++ {
		g.by(d, func(tx *Tx) { tx.Put(c, fmt.Sprintf("%05d", i), "text/plain", 0, InlineBody([]byte(body))) })
	}
}

func (g *guarded) remove(d holdfast.DeviceID, c holdfast.CollectionID, from, to int) {
	for i := from; i < to; i++ {
		g.by(d, func(tx *Tx) { tx.Delete(c, fmt.Sprintf("%05d", i)) })
	}
}

func (g *guarded) head() holdfast.Head {
	h, _ := g.AccountHead(person)
	return h.Head
}

func (g *guarded) snaps() []Snapshot {
	g.t.Helper()
	all, err := g.Snapshots(context.Background(), person)
	must(g.t, err)
	return all
}

// none wants no snapshot and no event so far.
func (g *guarded) none(what string) {
	g.t.Helper()
	if all, told := g.snaps(), g.events(); len(all) > 0 || len(told) > 0 {
		g.t.Errorf("%s: snapshots %+v, events %+v; want none", what, all, told)
	}
}

// once wants one snapshot of the state at a head, and n events that name it.
func (g *guarded) once(what string, at holdfast.Head, n int) {
	g.t.Helper()
	all := g.snaps()
	until(g.t, what+": told", func() bool { return len(g.events()) >= n })
	told := g.events()
	if len(all) != 1 || all[0].Seq != at.Seq || all[0].Hash != at.Hash.String() || !all[0].Automatic {
		g.t.Fatalf("%s: snapshots %+v, want one at %s", what, all, at)
	}
	if len(told) != n || !strings.Contains(told[0].Text, all[0].Name) || told[0].Account != person || !told[0].Bad || !strings.Contains(told[0].Todo, all[0].Name) {
		g.t.Errorf("%s: told %+v, want %d", what, told, n)
	}
}

// Fault 20, what is ordinary: no snapshot, nobody told.
func TestGuardOrdinary(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	for i := 0; i < 5000; i += 500 {
		g.fill(g.cards, i, i+500) // an import of what is new
	}
	g.none("an import of 5,000")
	g.over(1, g.cards, 0, 19, "edited")
	g.none("a sync of 19 edits")
	g.over(2, g.cards, 100, 599, "edited") // 499 of 5,000, below a tenth
	g.none("a tenth by another device")
	for i := range 60 {
		g.over(1, g.cards, 4000, 4001, fmt.Sprint("saved again ", i)) // a program that saves one thing again and again
	}
	g.none("one thing saved 60 times")
	var few holdfast.CollectionID
	g.by(1, func(tx *Tx) { few = tx.NewCollection(holdfast.Root, "few", holdfast.KindFile, nil) })
	g.fill(few, 0, 2)
	g.remove(1, few, 0, 2)
	g.none("two of two deleted")
	g.fill(few, 0, 100)
	g.remove(3, few, 0, 3)
	g.none("3 of 100 deleted")
	g.remove(3, few, 3, 19)
	g.pass(guardWindow + guardSlot)
	g.remove(3, few, 19, 39)
	g.none("39 of 100 in twice ten minutes")
	g.by(3, func(tx *Tx) {
		empty := tx.NewCollection(holdfast.Root, "empty", holdfast.KindFile, nil)
		tx.DeleteCollection(empty)
	})
	g.none("an empty collection deleted")
	_, err := g.Update(t.Context(), person, 1, func(tx *Tx) error {
		for i := 200; i < 300; i++ {
			tx.SetProperties(g.cards, fmt.Sprintf("%05d", i), []holdfast.Property{{Name: "{x}a", Value: "b"}})
		}
		return nil
	})
	must(t, err)
	g.none("properties of 100")
}

// Fault 20, each line of A3.
func TestGuardLines(t *testing.T) {
	t.Parallel()
	type line struct {
		name  string
		cross func(g *guarded, c holdfast.CollectionID)
	}
	for _, l := range []line{
		{"21 of 100 overwritten", func(g *guarded, c holdfast.CollectionID) { g.over(1, c, 0, 21, "encrypted") }},
		{"21 of 100 deleted", func(g *guarded, c holdfast.CollectionID) { g.remove(1, c, 0, 21) }},
		{"21 of 100 deleted in one change", func(g *guarded, c holdfast.CollectionID) {
			g.by(1, func(tx *Tx) {
				for i := range 30 {
					tx.Delete(c, fmt.Sprintf("%05d", i))
				}
			})
		}},
		{"by a program with the account's password", func(g *guarded, c holdfast.CollectionID) { g.remove(0, c, 0, 21) }},
		{"over nine minutes, the wall clock jumping ten years", func(g *guarded, c holdfast.CollectionID) {
			g.remove(1, c, 0, 7)
			g.mu.Lock()
			g.wall = g.wall.AddDate(10, 0, 0)
			g.mu.Unlock()
			g.pass(4 * time.Minute)
			g.remove(1, c, 7, 14)
			g.mu.Lock()
			g.wall = g.wall.AddDate(-20, 0, 0)
			g.mu.Unlock()
			g.pass(4 * time.Minute)
			g.over(1, c, 14, 21, "encrypted")
		}},
		{"a whole collection", func(g *guarded, c holdfast.CollectionID) {
			g.by(1, func(tx *Tx) { tx.DeleteCollection(c) })
		}},
		{"moved out", func(g *guarded, c holdfast.CollectionID) {
			for i := range 21 {
				g.by(1, func(tx *Tx) {
					name := fmt.Sprintf("%05d", i)
					r, err := tx.Resource(c, name)
					must(g.t, err)
					tx.PutCopy(g.cards, name, r)
					tx.Delete(c, name)
				})
			}
		}},
	} {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			g := newGuarded(t)
			var c holdfast.CollectionID
			g.by(9, func(tx *Tx) { c = tx.NewCollection(holdfast.Root, "many", holdfast.KindFile, nil) })
			g.fill(c, 0, 100)
			before := g.head()
			l.cross(g, c)
			g.once(l.name, before, 1)
		})
	}
}

// All of a small collection; and a tenth, not less and not much more, of a large one.
func TestGuardAllAndTenth(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	g.fill(g.cards, 0, 3)
	before := g.head()
	g.remove(1, g.cards, 0, 2)
	g.none("two of three")
	g.remove(1, g.cards, 2, 3)
	g.once("three of three", before, 1)

	g = newGuarded(t)
	n := 3000 // resources
	if testing.Short() {
		n = 300
	}
	for i := 0; i < n; i += n / 6 {
		g.fill(g.cards, i, i+n/6)
	}
	before = g.head()
	third, tenth := n/3, n/10
	g.over(1, g.cards, third, third+tenth, "encrypted")
	g.none("a tenth")
	g.over(1, g.cards, third+tenth, third+tenth+1, "encrypted")
	g.once("one more than a tenth", before, 1)
	// It goes on: the same incident. When it was quiet for the window, another.
	g.over(1, g.cards, third+tenth+1, third+2*tenth, "encrypted")
	g.remove(1, g.cards, 0, 3*tenth)
	g.once("it goes on", before, 1)
	g.pass(guardWindow + guardSlot)
	g.remove(1, g.cards, third+2*tenth, 2*third+2*tenth)
	if all := g.snaps(); len(all) != 2 {
		t.Errorf("%d snapshots after the second incident, want 2", len(all))
	}
}

// What is deleted right after it was made is counted too, from a later seq; and a second collection of the
// same incident joins its snapshot if all that was lost is in it.
func TestGuardErasAndCollections(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	var other holdfast.CollectionID
	g.by(9, func(tx *Tx) { other = tx.NewCollection(holdfast.Root, "other", holdfast.KindFile, nil) })
	g.fill(other, 0, 100)
	g.fill(g.cards, 0, 200)
	g.remove(1, g.cards, 0, 1)
	g.fill(g.cards, 200, 400)
	before := g.head()
	g.remove(1, g.cards, 200, 250)
	g.once("what was new", before, 1)
	g.remove(1, other, 0, 21)
	g.once("another collection", before, 2)
	g.fill(other, 500, 600) // younger than the snapshot
	g.by(1, func(tx *Tx) { tx.DeleteCollection(other) })
	if all := g.snaps(); len(all) > 2 {
		t.Errorf("snapshots %+v", all)
	}
}

// A restart in the middle does not blind it, nor does it tell twice what was told.
func TestGuardRestart(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	g.fill(g.cards, 0, 100)
	before := g.head()
	g.remove(1, g.cards, 0, 10)
	g.pass(time.Minute)
	g.over(1, g.cards, 10, 20, "encrypted")
	g.remove(2, g.cards, 90, 92) // another device
	g.none("20")
	g.close(g.Ledger)
	g.pass(time.Minute)
	g.mu.Lock()
	g.wall = g.wall.AddDate(3, 0, 0) // the clock is set while it is down
	g.mu.Unlock()
	g.open()
	g.remove(1, g.cards, 20, 21)
	g.once("after a restart", before, 1)
	g.close(g.Ledger)
	g.pass(time.Minute)
	g.open()
	// A new process cannot know what was told: rather twice than never. But it names no other snapshot.
	g.remove(1, g.cards, 21, 50)
	g.once("after another restart", before, 2)
}

// The step of the write path that names the snapshot: if the commit fails, neither is there; if it was done
// and the answer was lost, both are.
func TestGuardFaults(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"full commit", "before commit", "after commit", "before append", "after append"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			g := newGuarded(t)
			g.fill(g.cards, 0, 100)
			before := g.head()
			g.remove(1, g.cards, 0, 20)
			g.fault = func(s string) error {
				switch {
				case s == step:
					return fmt.Errorf("injected: %w", holdfast.ErrFatal)
				case s == "before commit" && step == "full commit": // clean: the store goes on
					return fmt.Errorf("injected: %w", holdfast.ErrFull)
				}
				return nil
			}
			_, err := g.Update(context.Background(), person, 1, func(tx *Tx) error { tx.Delete(g.cards, "00020"); return nil })
			if err == nil {
				t.Fatal("acknowledged")
			}
			clean := step == "before commit" || step == "full commit"
			if step == "full commit" {
				g.fault = nil
			} else {
				g.close(g.Ledger)
				g.open()
			}
			_, err = g.get("00020")
			if there := err == nil; there != clean {
				t.Errorf("the 21st is there: %v", there)
			}
			if n := len(g.snaps()); (n == 1) == clean {
				t.Errorf("%d snapshots", n)
			}
			if clean {
				g.remove(1, g.cards, 20, 21)
			}
			g.once("in the end", before, 1)
		})
	}
}

// A device that makes collections and deletes them for ever fills account 0 with no more than a few names, and
// hides nothing by it: what it takes away of what was there before is in a snapshot, and so is the first thing
// that it takes away after a quiet time.
func TestGuardFlood(t *testing.T) {
	t.Parallel()
	g := newGuarded(t)
	c := g.cards
	g.fill(c, 0, 40)
	churn := func(n int) {
		for i := range n {
			var id holdfast.CollectionID
			g.by(5, func(tx *Tx) { id = tx.NewCollection(holdfast.Root, fmt.Sprint("junk", i), holdfast.KindFile, nil) })
			g.by(5, func(tx *Tx) { tx.Put(id, "x", "text/plain", 0, InlineBody([]byte("x"))) })
			g.by(5, func(tx *Tx) { tx.DeleteCollection(id) })
		}
	}
	churn(60)
	if n := len(g.snaps()); n != guardNamed {
		t.Errorf("%d snapshots after 60 incidents at once, want %d", n, guardNamed)
	}
	g.remove(5, c, 0, 40)
	if all := g.snaps(); len(all) != guardNamed || all[0].Seq < 2 {
		t.Errorf("the old members are in no snapshot: %+v", all)
	}
	for range 5 {
		g.pass(guardWindow + guardSlot)
		churn(5)
	}
	if n := len(g.snaps()); n > guardNamed+5 || n < guardNamed+5 {
		t.Errorf("%d snapshots, want %d and one for each window", n, guardNamed)
	}
	if n := len(g.events()); n > guardTold*6 {
		t.Errorf("%d events", n)
	}
}
