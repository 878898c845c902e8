package ledger

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"holdfast"
)

// What is remembered of collections never differs from what the store says, for the newest state
// and for the durable one, while collections come, move and go.
func TestPathsAgreeWithStore(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	rng := rand.New(rand.NewPCG(1, 2))
	ids := []holdfast.CollectionID{holdfast.Root, r.cards}
	names := []string{"a", "b", "c"}
	compare := func(remembered, fresh *reads) {
		for _, id := range ids {
			got, err := remembered.Collection(id)
			want, werr := fresh.Collection(id)
			if same(got, err) != same(want, werr) {
				t.Fatalf("collection %d: %s; the store says %s", id, same(got, err), same(want, werr))
			}
			for _, n := range names {
				got, err := remembered.Child(id, n)
				want, werr := fresh.Child(id, n)
				if same(got, err) != same(want, werr) {
					t.Fatalf("child %s of %d: %s; the store says %s", n, id, same(got, err), same(want, werr))
				}
			}
		}
	}
	for range 300 {
		_, err := r.Update(t.Context(), person, 0, func(tx *Tx) error {
			fresh := tx.reads
			fresh.paths = newPaths()
			compare(&tx.reads, &fresh)
			parent, name := ids[rng.IntN(len(ids))], names[rng.IntN(len(names))]
			if _, err := tx.Collection(parent); err != nil {
				return nil
			}
			if c, err := tx.Child(parent, name); err == nil {
				if rng.IntN(2) == 0 {
					tx.DeleteCollection(c.ID)
				} else {
					c.Props = []holdfast.Property{{Name: "{DAV:}displayname", Value: fmt.Sprint(rng.Int())}}
					tx.PutCollection(c)
				}
				return nil
			}
			if len(ids) < 12 {
				ids = append(ids, tx.NewCollection(parent, name, holdfast.KindFile, nil))
			}
			return nil
		})
		must(t, err)
		must(t, r.View(t.Context(), person, func(v *View) error {
			fresh := v.reads
			fresh.paths = newPaths()
			compare(&v.reads, &fresh)
			return nil
		}))
	}
}

func same(c *Collection, err error) string {
	if errors.Is(err, holdfast.ErrNotFound) {
		return "not found"
	}
	return fmt.Sprintf("%+v %v", c, err)
}

// A folder's sync tells of subfolders that came, changed and went.
func TestChangedCollections(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var kept, gone, moved holdfast.CollectionID
	update := func(fn func(tx *Tx)) holdfast.Seq {
		t.Helper()
		h, err := r.Update(t.Context(), person, 0, func(tx *Tx) error { fn(tx); return nil })
		must(t, err)
		return h.Seq
	}
	since := update(func(tx *Tx) {
		kept = tx.NewCollection(r.cards, "kept", holdfast.KindFile, nil)
		gone = tx.NewCollection(r.cards, "gone", holdfast.KindFile, nil)
		moved = tx.NewCollection(r.cards, "moved", holdfast.KindFile, nil)
	})
	update(func(tx *Tx) {
		tx.DeleteCollection(gone)
		tx.PutCollection(&Collection{ID: moved, Parent: r.cards, Name: "renamed", Kind: holdfast.KindFile})
		tx.NewCollection(r.cards, "passing", holdfast.KindFile, nil)
	})
	update(func(tx *Tx) {
		c, err := tx.Child(r.cards, "passing")
		must(t, err)
		tx.DeleteCollection(c.ID)
		tx.NewCollection(r.cards, "new", holdfast.KindFile, nil)
	})
	must(t, r.View(t.Context(), person, func(v *View) error {
		present, removed, err := v.ChangedCollections(r.cards, since)
		var names []string
		for _, c := range present {
			names = append(names, c.Name)
		}
		if got := fmt.Sprint(names, removed, err); got != "[new renamed] [gone moved] <nil>" {
			t.Errorf("got %s (kept is %d)", got, kept)
		}
		return nil
	}))
}

// Before finds what a body replaced.
func TestBefore(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	r.mustPut("a", "2")
	_, err := r.Update(t.Context(), person, 0, func(tx *Tx) error {
		now, err := tx.Resource(r.cards, "a")
		must(t, err)
		before, err := tx.Before(now)
		must(t, err)
		if b, err := tx.Body(before); string(b) != "1" {
			t.Errorf("before is %q, %v; want 1", b, err)
		}
		if _, err := tx.Before(before); !errors.Is(err, holdfast.ErrNotFound) {
			t.Errorf("before the first: %v, want ErrNotFound", err)
		}
		return nil
	})
	must(t, err)
}
