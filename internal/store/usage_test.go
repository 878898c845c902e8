package store

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"holdfast"
	"holdfast/frame"
)

// What every change adds to the history is what a count of all its rows finds, whatever the changes are;
// a transaction that is taken back leaves the number alone, and another process finds the same.
func TestHistoryCounted(t *testing.T) {
	s, cfg := newStore(t)
	rng := rand.New(rand.NewPCG(3, 4))
	write(t, s, 7, root(), mkcol(2, 1, "c"))
	there := map[string]frame.Op{}
	name := func() string { return fmt.Sprint(rng.IntN(6)) }
	check := func(s *Store, what string) int64 {
		t.Helper()
		r := read(t, s)
		defer r.Close()
		got, err := r.History(7)
		want, werr := r.c.history(7)
		if err != nil || werr != nil || got != want {
			t.Fatalf("%s: history of %d bytes, %v; its rows have %d, %v", what, got, err, want, werr)
		}
		return got
	}
	done := map[string]int{}
	for range 400 {
		n, to := name(), name()
		old, had := there[n]
		var ops []frame.Op
		var then func()
		what := []string{"put", "put blob", "delete", "properties", "move", "touch"}[rng.IntN(6)]
		switch what {
		case "put", "put blob":
			op := put(2, n, fmt.Sprintf("%0*d", rng.IntN(50), 1))
			if what == "put blob" {
				op.Body, op.Blob = nil, &frame.Blob{Hash: holdfast.Hash{byte(rng.IntN(3) + 1)}, Size: 100_000}
			}
			ops, then = []frame.Op{op}, func() { there[n] = op }
		case "delete":
			ops, then = []frame.Op{remove(2, n)}, func() { delete(there, n) }
		case "properties":
			ops = []frame.Op{{Type: frame.OpSetProperties, Collection: 2, Name: n, Props: []holdfast.Property{{Name: "{x}y", Value: to}}}}
		case "move":
			moved := old
			moved.Name = to
			ops, then = []frame.Op{moved, remove(2, n)}, func() { delete(there, n); there[to] = moved }
		case "touch":
			ops = []frame.Op{old, {Type: frame.OpSetProperties, Collection: 2, Name: n, Props: []holdfast.Property{}}}
		}
		if what != "put" && what != "put blob" && !had || what == "move" && n == to {
			continue
		}
		done[what]++
		if rng.IntN(10) == 0 {
			before := check(s, "before")
			tx := begin(t, s)
			if _, err := change(tx, 7, ops...); err != nil {
				t.Fatal(err)
			}
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
			if got := check(s, "taken back"); got != before {
				t.Fatalf("a change that was taken back left %d bytes, before it were %d", got, before)
			}
			continue
		}
		write(t, s, 7, ops...)
		if then != nil {
			then()
		}
		check(s, what)
	}
	write(t, s, 7, frameDelete(2))
	want := check(s, "delete the collection")
	if len(done) != 6 || want == 0 {
		t.Errorf("did %v, %d bytes", done, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got := check(again, "another process"); got != want {
		t.Errorf("another process counts %d, the first %d", got, want)
	}
	write(t, again, 7, mkcol(3, 1, "d"), put(3, "x", "12345"))
	write(t, again, 7, remove(3, "x"))
	if got := check(again, "after that"); got != want+5 {
		t.Errorf("history of %d bytes, want %d", got, want+5)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}
