// Package limit shares what a server has among its accounts: requests that are answered at once,
// and memory for what is received and sent. It keeps nothing and writes nothing; a restart
// begins anew.
//
// Invariant: an account that uses little never waits for one that uses much, beyond what that one has in
// its hands at the moment; what waits is bounded, and is refused in the protocol's own words.
package limit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"holdfast"
)

// Patience is how long a request waits for its turn before it is told to come again.
const Patience = 10 * time.Second

// Free is how many bytes of a body every request may hold in memory without asking.
const Free = 64 << 10

// Config says how much there is.
type Config struct {
	Requests        int   // answered at once, of all accounts
	AccountRequests int   // of one account; as many more wait
	Memory          int64 // bytes that requests hold beyond Free each; one account has at most half of them
}

// Gate lets requests in.
type Gate struct {
	requests *Pool
	memory   *Pool
}

// New returns a gate.
func New(cfg Config) *Gate {
	return &Gate{
		requests: NewPool(int64(cfg.Requests), int64(cfg.AccountRequests), cfg.AccountRequests),
		memory:   NewPool(cfg.Memory, cfg.Memory/2, cfg.AccountRequests),
	}
}

// Slot is one request that was let in. The goroutine that answers the request owns it.
type Slot struct {
	gate *Gate
	who  Who
	held int64
}

// Enter lets a request in, perhaps after a wait. Leave must be called. Errors: a *Refusal, or that of ctx.
func (g *Gate) Enter(ctx context.Context, who Who) (*Slot, error) {
	if err := g.requests.Take(ctx, who, 1, Patience); err != nil {
		return nil, fmt.Errorf("wait for a turn: %w", err)
	}
	return &Slot{gate: g, who: who}, nil
}

// Leave ends the request: all it had is free again.
func (s *Slot) Leave() {
	if s.held > 0 {
		s.gate.memory.Give(s.who, s.held)
		s.held = 0
	}
	s.gate.requests.Give(s.who, 1)
}

type slotKey struct{}

// With returns a context that carries a request's slot.
func With(ctx context.Context, s *Slot) context.Context { return context.WithValue(ctx, slotKey{}, s) }

// Hold takes n bytes of memory for the request that ctx belongs to, until it ends. It may wait: never call it
// while a view is open. The error is a *Refusal, or that of ctx.
func Hold(ctx context.Context, n int64) error {
	s, _ := ctx.Value(slotKey{}).(*Slot)
	if s == nil || n <= 0 {
		return nil
	}
	n = min(n, s.gate.memory.Most()-s.held) // what it has it does not wait for
	if n <= 0 {
		return nil
	}
	if err := s.gate.memory.Take(ctx, s.who, n, Patience); err != nil {
		return fmt.Errorf("wait for memory: %w", err)
	}
	s.held += n
	return nil
}

// TryHold is Hold without the wait; false: there is no memory now.
func TryHold(ctx context.Context, n int64) bool {
	s, _ := ctx.Value(slotKey{}).(*Slot)
	if s == nil || n <= 0 {
		return true
	}
	if n = min(n, s.gate.memory.Most()-s.held); n <= 0 {
		return true
	}
	if !s.gate.memory.Try(s.who, n) {
		return false
	}
	s.held += n
	return true
}

// Refusal says that a request was not let in. It wraps holdfast.ErrBusy.
type Refusal struct {
	// Greedy: the device that asks has the most of its account's requests, and there is no room for more.
	Greedy bool
}

func (r *Refusal) Error() string {
	if r.Greedy {
		return "too many at once of one account"
	}
	return "no turn came in time"
}

// Unwrap makes it ErrBusy.
func (r *Refusal) Unwrap() error { return holdfast.ErrBusy }

// retry is what a refused client is told to wait, in seconds.
const retry = 30

// Refuse answers a request that was not let in. 429 (RFC 6585, 4) is for a client that has too many open itself:
// Thunderbird slows down on it. DAVx5 shows its owner an error on 429, and waits quietly on 503 with Retry-After,
// which is what everybody else gets, who only came at a bad time.
func Refuse(w http.ResponseWriter, err error) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Retry-After", strconv.Itoa(retry))
	var r *Refusal
	if errors.As(err, &r) && r.Greedy {
		http.Error(w, "Too many requests at once. Wait for some of them to end, then try again.", http.StatusTooManyRequests)
		return
	}
	http.Error(w, "Too busy at the moment. Nothing is lost; try again in a while.", http.StatusServiceUnavailable)
}
