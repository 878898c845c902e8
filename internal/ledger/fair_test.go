package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"holdfast"
	"holdfast/internal/store"
)

// queueOf makes a queue of requests, one for each account named; their heads say in which order they came.
func queueOf(accounts ...holdfast.AccountID) []*request {
	var out []*request
	for i, a := range accounts {
		out = append(out, &request{account: a, head: holdfast.Head{Seq: holdfast.Seq(i)}})
	}
	return out
}

func many(n int, a holdfast.AccountID) []holdfast.AccountID {
	return slices.Repeat([]holdfast.AccountID{a}, n)
}

func counted(reqs []*request) map[holdfast.AccountID]int {
	n := map[holdfast.AccountID]int{}
	for _, r := range reqs {
		n[r.account]++
	}
	return n
}

func TestFairly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		waiting []holdfast.AccountID
		n       int
		want    map[holdfast.AccountID]int
	}{
		{"alone, all", many(100, 1), 512, map[holdfast.AccountID]int{1: 100}},
		{"alone, as many as fit", many(600, 1), 512, map[holdfast.AccountID]int{1: 512}},
		{"small enough", slices.Concat(many(16, 1), many(1, 2)), 512, map[holdfast.AccountID]int{1: 16, 2: 1}},
		{"not more than half", slices.Concat(many(100, 1), many(40, 2)), 512, map[holdfast.AccountID]int{1: 40, 2: 40}},
		{"one comes late", slices.Concat(many(500, 1), many(1, 2)), 512, map[holdfast.AccountID]int{1: 16, 2: 1}},
		{"half of a full one", slices.Concat(many(600, 1), many(600, 2)), 512, map[holdfast.AccountID]int{1: 256, 2: 256}},
		{"three", slices.Concat(many(600, 1), many(600, 2), many(2, 3)), 512, map[holdfast.AccountID]int{1: 170, 2: 170, 3: 2}},
	} {
		taken, rest := fairly(queueOf(c.waiting...), c.n)
		if got := counted(taken); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
		if len(taken)+len(rest) != len(c.waiting) {
			t.Errorf("%s: %d taken and %d left of %d", c.name, len(taken), len(rest), len(c.waiting))
		}
	}
}

// Whatever waits: nobody is lost or doubled, each account keeps its order, and everybody who waits is taken after a
// number of batches that the others cannot raise.
func TestFairlyRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		accounts := 1 + r.IntN(20)
		var of []holdfast.AccountID
		for range 1 + r.IntN(900) {
			a := r.IntN(accounts)
			if r.IntN(2) == 0 {
				a = 0 // a greedy one
			}
			of = append(of, holdfast.AccountID(a))
		}
		n := 1 + r.IntN(600)
		waiting := queueOf(of...)
		seen, last := 0, map[holdfast.AccountID]holdfast.Seq{}
		for len(waiting) > 0 {
			total := counted(waiting)
			taken, rest := fairly(waiting, n)
			if len(taken) == 0 || len(taken) > n {
				t.Fatalf("seed %d: %d taken of %d, at most %d", seed, len(taken), len(waiting), n)
			}
			got := counted(taken)
			for a, k := range got {
				if len(total) > 1 && k > leastRequests && k > len(waiting)-total[a] {
					t.Fatalf("seed %d: account %d has %d of a batch of %d", seed, a, k, len(taken))
				}
			}
			for a := range total {
				if got[a] == 0 && len(total) <= n {
					t.Fatalf("seed %d: account %d waits and is not in a batch of %d", seed, a, len(taken))
				}
			}
			for _, q := range taken {
				if at, ok := last[q.account]; ok && q.head.Seq < at {
					t.Fatalf("seed %d: account %d: %d after %d", seed, q.account, q.head.Seq, at)
				}
				last[q.account] = q.head.Seq
				seen++
			}
			waiting = rest
		}
		if seen != len(of) {
			t.Fatalf("seed %d: %d of %d were taken", seed, seen, len(of))
		}
	}
}

// waiting returns how many requests are in the queue.
func (r *rig) waiting() int {
	r.queue.mu.Lock()
	defer r.queue.mu.Unlock()
	return len(r.queue.waiting)
}

// However many views of one account are open, another account's is not kept waiting.
func TestManyViewsOfOneAccount(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const other = person + 1
	_, err := r.Update(t.Context(), other, 1, func(tx *Tx) error {
		tx.PutCollection(&Collection{ID: holdfast.Root, Kind: holdfast.KindFile})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	defer group.Wait()
	goOn := make(chan struct{})
	defer close(goOn)
	reading := make(chan struct{}, 20)
	for range 20 {
		group.Go(func() {
			err := r.View(context.Background(), person, func(v *View) error {
				if _, err := v.Children(holdfast.Root); err != nil {
					return err
				}
				reading <- struct{}{}
				<-goOn
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range store.Readers - 1 {
		<-reading
	}
	for range 100 { // with all connections taken this would wait for ever
		if err := r.View(t.Context(), other, func(v *View) error {
			_, err := v.Children(holdfast.Root)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if len(reading) > 0 {
		t.Errorf("%d views of one account are open at once, want %d", store.Readers-1+len(reading), store.Readers-1)
	}
}

// An account that writes much waits for its next batch when others are there: a single write of another is never
// behind more than a few of its own. All are acknowledged, each account's in its order.
func TestManyWritesOfOneAccount(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const other = person + 1
	_, err := r.Update(t.Context(), other, 1, func(tx *Tx) error {
		tx.PutCollection(&Collection{ID: holdfast.Root, Kind: holdfast.KindFile})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// The committer is held by the first write until all others wait.
	inside, goOn := make(chan struct{}), make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		if _, err := r.Update(context.Background(), person, 1, func(*Tx) error { close(inside); <-goOn; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-inside
	var mu sync.Mutex
	var order []holdfast.AccountID
	write := func(a holdfast.AccountID, name string, size int) {
		before := r.waiting()
		group.Go(func() {
			_, err := r.Update(context.Background(), a, 1, func(tx *Tx) error {
				mu.Lock()
				order = append(order, a)
				mu.Unlock()
				tx.Put(holdfast.Root, name, "", 0, InlineBody(make([]byte, size)))
				return nil
			})
			if err != nil {
				t.Errorf("write %s: %v", name, err)
			}
		})
		for r.waiting() == before {
			runtime.Gosched()
		}
	}
	for i := range 100 {
		write(person, fmt.Sprintf("many-%d", i), 60<<10)
	}
	write(other, "one", 10)
	close(goOn)
	group.Wait()
	at := slices.Index(order, other)
	if at > leastRequests {
		t.Errorf("the other account's write came after %d of the many", at)
	}
	if len(order) != 101 {
		t.Errorf("%d writes ran, want 101", len(order))
	}
	r.verify()
}
