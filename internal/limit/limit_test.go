package limit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast"
)

var (
	alice  = Who{1, 1}
	tablet = Who{1, 2} // hers too
	bob    = Who{2, 1}
	carol  = Who{3, 1}
)

// Who has the fewest is served first, whatever order they came in.
func TestFewestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(4, 3, 8)
		for range 3 {
			take(t, p, alice, 1)
		}
		take(t, p, bob, 1)
		var order []Who
		var mu sync.Mutex
		for _, w := range []Who{alice, alice, tablet, bob, carol} {
			go func() {
				if err := p.Take(t.Context(), w, 1, time.Hour); err != nil {
					t.Errorf("take: %v", err)
				}
				mu.Lock()
				order = append(order, w)
				mu.Unlock()
			}()
			synctest.Wait()
		}
		for _, w := range []Who{alice, alice, alice, carol, bob} {
			p.Give(w, 1)
			synctest.Wait()
		}
		// carol has nothing; then alice's tablet has less than her phone; then bob less than she has.
		if want := []Who{carol, tablet, alice, bob, alice}; !slices.Equal(order, want) {
			t.Errorf("served in the order %v, want %v", order, want)
		}
	})
}

func take(t *testing.T, p *Pool, w Who, n int64) {
	t.Helper()
	if err := p.Take(t.Context(), w, n, time.Second); err != nil {
		t.Fatalf("take %d for %v: %v", n, w, err)
	}
}

// A full queue refuses the device that has the most, not the one that came last.
func TestGreedyRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(8, 2, 3)
		take(t, p, alice, 1)
		take(t, p, alice, 1)
		errs := make(chan error, 8)
		for range 3 {
			go func() { errs <- p.Take(t.Context(), alice, 1, time.Hour) }()
		}
		synctest.Wait()
		quiet := make(chan error, 1)
		go func() { quiet <- p.Take(t.Context(), tablet, 1, time.Hour) }()
		synctest.Wait()
		var r *Refusal
		select {
		case err := <-errs:
			if !errors.As(err, &r) || !r.Greedy || !errors.Is(err, holdfast.ErrBusy) {
				t.Fatalf("got %v, want a greedy refusal", err)
			}
		default:
			t.Fatal("nobody was refused")
		}
		take(t, p, bob, 1) // others do not notice
		p.Give(alice, 1)
		synctest.Wait()
		if err := <-quiet; err != nil {
			t.Errorf("the tablet got %v", err)
		}
		p.Give(alice, 1)
		if err := <-errs; err != nil {
			t.Errorf("the next one of alice got %v", err)
		}
		p.Give(tablet, 1)
		if err := <-errs; err != nil {
			t.Errorf("the last one of alice got %v", err)
		}
	})
}

// A wait ends with the patience, with the context, and leaves nothing behind.
func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(1, 1, 4)
		take(t, p, alice, 1)
		var r *Refusal
		if err := p.Take(t.Context(), bob, 1, time.Second); !errors.As(err, &r) || r.Greedy {
			t.Errorf("got %v, want a refusal that blames nobody", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Take(ctx, bob, 1, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want that of the context", err)
		}
		p.Give(alice, 1)
		take(t, p, bob, 1)
		p.Give(bob, 1)
		if p.used != 0 || p.line != 0 || len(p.devices) != 0 {
			t.Errorf("left: %d units, %d waiting, %v", p.used, p.line, p.devices)
		}
	})
}

// When all wait, the account with the longest line loses one.
func TestCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(1, 1, 3)
		take(t, p, bob, 1)
		refused := map[holdfast.AccountID]*atomic.Int32{}
		for a := holdfast.AccountID(10); a < 20; a++ {
			refused[a] = &atomic.Int32{}
		}
		ask := func(a holdfast.AccountID) {
			go func() {
				if err := p.Take(t.Context(), Who{a, 1}, 1, time.Hour); err != nil {
					refused[a].Add(1)
				} else {
					p.Give(Who{a, 1}, 1)
				}
			}()
			synctest.Wait()
		}
		for range 3 {
			ask(10)
		}
		for a := holdfast.AccountID(11); a < 20; a++ {
			ask(a)
		}
		ask(19) // one more than may wait in all
		if refused[10].Load() != 1 {
			t.Errorf("account 10 has the longest line and lost %d", refused[10].Load())
		}
		p.Give(bob, 1)
		synctest.Wait()
		for a, n := range refused {
			if a != 10 && n.Load() != 0 {
				t.Errorf("account %d lost %d", a, n.Load())
			}
		}
	})
}

// However many take, wait and give, no more is given than there is, and all of it comes back.
func TestPoolRandom(t *testing.T) {
	p := NewPool(20, 8, 16)
	var used, most atomic.Int64
	var group sync.WaitGroup
	for i := range 40 {
		group.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 7))
			for range 300 {
				who := Who{holdfast.AccountID(r.IntN(5)), holdfast.DeviceID(r.IntN(3))}
				n := 1 + r.Int64N(10)
				got := p.Try(who, n)
				if !got {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.IntN(300))*time.Microsecond)
					got = p.Take(ctx, who, n, time.Duration(r.IntN(300))*time.Microsecond) == nil
					cancel()
				}
				if got {
					if u := used.Add(min(n, 8)); u > 20 {
						t.Errorf("%d units given of 20", u)
					} else if u > most.Load() {
						most.Store(u)
					}
					for range 3 {
						runtime.Gosched() // the others ask meanwhile
					}
					used.Add(-min(n, 8))
					p.Give(who, n)
				}
			}
		})
	}
	group.Wait()
	if most.Load() < 10 {
		t.Errorf("at most %d of 20 units were ever in use: nothing was tried", most.Load())
	}
	if p.used != 0 || p.line != 0 || len(p.devices) != 0 {
		t.Errorf("left: %d units, %d waiting, %v", p.used, p.line, p.devices)
	}
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Requests: 4, AccountRequests: 2, Memory: 1000})
		enter := func() (context.Context, *Slot) {
			t.Helper()
			s, err := g.Enter(t.Context(), alice)
			if err != nil {
				t.Fatal(err)
			}
			return With(t.Context(), s), s
		}
		ctx1, s1 := enter()
		ctx3, s3 := enter()
		_, err := g.Enter(t.Context(), alice)
		res := httptest.NewRecorder()
		Refuse(res, err)
		if res.Code != http.StatusServiceUnavailable || res.Header().Get("Retry-After") == "" {
			t.Errorf("no turn: %v, answered %d", err, res.Code)
		}
		res = httptest.NewRecorder()
		Refuse(res, fmt.Errorf("enter: %w", &Refusal{Greedy: true}))
		if res.Code != http.StatusTooManyRequests || res.Header().Get("Retry-After") == "" {
			t.Errorf("too many: answered %d", res.Code)
		}
		if !TryHold(ctx3, 400) || TryHold(ctx1, 400) {
			t.Error("500 bytes are an account's half of the memory")
		}
		if err := Hold(ctx3, 5000); err != nil { // what is left of the half
			t.Errorf("hold: %v", err)
		}
		err = Hold(ctx1, 10)
		res = httptest.NewRecorder()
		Refuse(res, err)
		if res.Code != http.StatusServiceUnavailable || res.Header().Get("Retry-After") == "" {
			t.Errorf("no memory: %v, answered %d", err, res.Code)
		}
		s1.Leave()
		s3.Leave()
		if g.requests.used != 0 || g.memory.used != 0 {
			t.Errorf("left: %d requests, %d bytes", g.requests.used, g.memory.used)
		}
		if err := Hold(t.Context(), 1<<40); err != nil || !TryHold(t.Context(), 1<<40) {
			t.Error("without a slot there are no limits")
		}
	})
}

func BenchmarkEnter(b *testing.B) {
	g := New(Config{Requests: 512, AccountRequests: 64, Memory: 1 << 20})
	b.ReportAllocs()
	for b.Loop() {
		s, err := g.Enter(b.Context(), alice)
		if err != nil {
			b.Fatal(err)
		}
		s.Leave()
	}
}
