package store

import (
	"errors"
	"testing"

	"holdfast"
	"holdfast/frame"
)

// What changes took out of sight, told at once by Apply and again from the history.
func TestLosses(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	write(t, s, 1, root(), mkcol(2, 1, "a"), mkcol(3, 2, "b"))
	write(t, s, 1, put(2, "x", "1"), put(2, "y", "2"), put(3, "z", "3"))
	tx := begin(t, s)

	apply := func(want []Loss, ops ...frame.Op) {
		t.Helper()
		if _, err := change(tx, 1, ops...); err != nil {
			t.Fatal(err)
		}
		got := tx.Losses()
		if len(got) != len(want) {
			t.Fatalf("lost %+v, want %+v", got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("lost %+v, want %+v", got[i], want[i])
			}
		}
	}
	apply(nil, put(2, "new", "n"))
	apply(nil, put(2, "x", "1")) // the same body again
	apply([]Loss{{Collection: 2, BodySeq: 4}}, put(2, "x", "other"))
	apply([]Loss{{Collection: 2, BodySeq: 2, Deleted: true}}, remove(2, "y"))
	if n, err := tx.Survivors(1, 2, 5, 100, 10); err != nil || n != 1 { // new
		t.Errorf("%d survivors, %v; want 1", n, err)
	}
	if n, err := tx.Survivors(1, 2, 100, 1, 10); err != nil || n != 1 {
		t.Errorf("%d survivors in the first member, %v; want 1", n, err)
	}
	past, err := tx.LossesSince(1, 2, 1, 100)
	if err != nil || len(past) != 2 || past[0].At != 5 || past[0].Deleted || past[0].BodySeq != 4 || past[1].At != 6 || !past[1].Deleted {
		t.Errorf("past losses %+v, %v", past, err)
	}
	if past, err = tx.LossesSince(1, 2, 6, 100); err != nil || len(past) != 1 {
		t.Errorf("past losses from 6 %+v, %v", past, err)
	}
	if at, err := tx.Gone(1, 2, "y"); err != nil || at != 6 {
		t.Errorf("gone at %s, %v; want 6", at, err)
	}
	if _, err := tx.Gone(1, 2, "never"); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("never there: got %v, want ErrNotFound", err)
	}
	apply([]Loss{{Collection: 2, Deleted: true, Whole: true, Members: 3}}, frameDelete(2))
	stamps, err := tx.Stamps(1, 6, 3)
	if err != nil || len(stamps) != 3 || stamps[0].Seq != 6 || stamps[2].Seq != 4 || stamps[0].Bytes == 0 {
		t.Errorf("stamps %+v, %v", stamps, err)
	}
}
