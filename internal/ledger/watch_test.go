package ledger

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/fence"
)

// changedSince returns the seqs of the newest changes by name of collection, and the durable head.
func (r *rig) changedSince(since holdfast.Seq) (map[string]holdfast.Seq, holdfast.Seq) {
	r.t.Helper()
	out := map[string]holdfast.Seq{}
	var head holdfast.Seq
	err := r.View(r.t.Context(), person, func(v *View) error {
		head = v.Head().Head.Seq
		list, err := v.ChangedSince(since)
		for _, c := range list {
			out[c.Collection.Name] = c.Last.Seq
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return out, head
}

func (r *rig) await(w *Watcher) {
	r.t.Helper()
	select {
	case <-w.C:
	case <-time.After(30 * time.Second):
		r.t.Fatal("the watcher was told nothing")
	}
}

// A watcher hears of each durable head, and of nothing beyond it; what is new is what the view says.
func TestWatch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.Watch(person)
	defer w.Stop()
	r.await(w)
	_, since := r.changedSince(0)
	for i := range 5 {
		r.mustPut(fmt.Sprint("a", i), "1")
		r.await(w)
		h, err := w.State()
		if err != nil || h.Head.Seq != since+1 {
			t.Fatalf("state %v, %v; want head %d", h, err, since+1)
		}
		got, head := r.changedSince(since)
		if want := (map[string]holdfast.Seq{"contacts": since + 1}); !maps.Equal(got, want) || head != h.Head.Seq {
			t.Fatalf("changed since %d: %v at %d; want %v", since, got, head, want)
		}
		since = head
	}
	if got, _ := r.changedSince(since); len(got) > 0 {
		t.Errorf("nothing changed, but told of %v", got)
	}
}

// One that takes nothing holds one item whatever happens, and writes go on.
func TestWatcherThatSleeps(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, since := r.changedSince(0)
	w := r.Watch(person)
	for i := range 50 {
		r.mustPut(fmt.Sprint("a", i), "1")
	}
	if len(w.C) != 1 {
		t.Errorf("%d items wait, want 1", len(w.C))
	}
	if got, _ := r.changedSince(since); !maps.Equal(got, map[string]holdfast.Seq{"contacts": since + 50}) {
		t.Errorf("changed: %v", got)
	}
	w.Stop()
	w.Stop()
	r.Ledger.mu.RLock()
	defer r.Ledger.mu.RUnlock()
	if len(r.audiences) > 0 {
		t.Errorf("nobody watches, but %v is kept", r.audiences)
	}
}

// A fence that closes is told as such, and that it is open again too.
func TestWatchClosed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.Watch(person)
	defer w.Stop()
	r.await(w)
	r.closeAccount(person, fence.Reason{Code: fence.Loss})
	r.await(w)
	if _, err := w.State(); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("a closed account: %v, want ErrFenced", err)
	}
	other := r.Watch(holdfast.Server)
	defer other.Stop()
	r.await(other)
	r.raise(errors.New("a test saw something"))
	r.await(other)
	for {
		if _, err := other.State(); err == nil {
			break
		}
		r.await(other) // until it was proven again
	}
}

// What memory says of what changed is what the store says, whoever begins and stops to watch meanwhile.
func TestChangedSinceModel(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	var open []*Watcher
	colls := []holdfast.CollectionID{r.cards}
	for i := range 300 {
		switch n := rnd.IntN(10); {
		case n == 0:
			open = append(open, r.Watch(person))
		case n == 1 && len(open) > 0:
			open[0].Stop()
			open = open[1:]
		default:
			c := colls[rnd.IntN(len(colls))]
			var made holdfast.CollectionID
			if _, err := r.Update(t.Context(), person, 0, func(tx *Tx) error {
				switch {
				case n == 2:
					made = tx.NewCollection(holdfast.Root, fmt.Sprint("c", i), holdfast.KindCard, nil)
				case n == 3 && c != r.cards:
					tx.DeleteCollection(c)
				default:
					tx.Put(c, fmt.Sprint(i), "", 0, InlineBody([]byte("x")))
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if made != 0 {
				colls = append(colls, made)
			} else if n == 3 && c != r.cards {
				colls = slices.DeleteFunc(colls, func(o holdfast.CollectionID) bool { return o == c })
			}
		}
		_, head := r.changedSince(0)
		since := holdfast.Seq(rnd.IntN(int(head)))
		got, _ := r.changedSince(since)
		r.Ledger.mu.Lock()
		kept := r.audiences
		r.audiences = nil
		r.Ledger.mu.Unlock()
		want, _ := r.changedSince(since)
		r.Ledger.mu.Lock()
		r.audiences = kept
		r.Ledger.mu.Unlock()
		if !maps.Equal(got, want) {
			t.Fatalf("step %d, since %d of %d: memory says %v, the store %v", i, since, head, got, want)
		}
	}
	for _, w := range open {
		w.Stop()
	}
}

// Changes that a watcher was too late for make memory say that it does not know.
func TestAudienceGaps(t *testing.T) {
	t.Parallel()
	one := func(seqs ...holdfast.Seq) (by []touchedBy) {
		for _, s := range seqs {
			by = append(by, touchedBy{s, holdfast.CollectionID(s)})
		}
		return by
	}
	for name, c := range map[string]struct {
		head, seq holdfast.Seq
		by        []touchedBy
		from      holdfast.Seq
		known     int
	}{
		"whole":              {4, 6, one(5, 6), 4, 2},
		"two of one":         {4, 5, one(5, 5), 4, 1},
		"began late":         {4, 6, one(6), 5, 1},
		"hole in the middle": {4, 7, one(5, 7), 6, 1},
		"end is missing":     {4, 7, one(5, 6), 7, 0},
		"nothing":            {4, 5, nil, 5, 0},
		"a new epoch":        {4, 6, one(5), 6, 0},
	} {
		d := &audience{}
		d.forget(c.head)
		d.publish(c.seq, c.by)
		n := 0
		for _, s := range d.touched {
			if s > d.from {
				n++
			}
		}
		if d.from != c.from || d.upTo != c.seq || n != c.known || len(d.touched) != n {
			t.Errorf("%s: from %d, up to %d, %d known; want %+v", name, d.from, d.upTo, n, c)
		}
	}
}
