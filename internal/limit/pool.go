package limit

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast"
)

// Who takes units: an account, and which of its devices; 0 is a password, or no matter.
type Who struct {
	Account holdfast.AccountID
	Device  holdfast.DeviceID
}

// Pool is a number of units that accounts share: slots of requests, bytes of memory, connections to the
// store. While there are enough, whoever asks gets them at once, as far as its account's most. When they
// are short the account that has the fewest is served next, and within an account the device that has
// the fewest: one that takes much waits for itself, not the others for it.
//
// A nil Pool has no limits.
type Pool struct {
	size    int64 // units in all
	most    int64 // of one account
	waiters int   // that may wait, of one account
	crowd   int   // that may wait, of all

	mu      sync.Mutex
	used    int64
	owners  map[holdfast.AccountID]*owner
	devices map[Who]int64 // units of each device, those it waits for too; never zero
	queued  []*owner      // those with somebody who waits
	line    int           // waiting in all
	tickets uint64
}

// owner is what one account has of a pool.
type owner struct {
	used    int64
	waiting []*waiter
}

type waiter struct {
	who    Who
	n      int64
	ticket uint64
	done   chan error // has one item when the wait is over
}

// remembered is how many accounts keep their place in a pool although they use nothing of it.
const remembered = 4096

// NewPool returns a pool of size units, of which one account may have most. At most waiters requests of one
// account wait, and four times as many of all.
func NewPool(size, most int64, waiters int) *Pool {
	return &Pool{
		size: size, most: min(most, size), waiters: waiters, crowd: 4 * waiters,
		owners: map[holdfast.AccountID]*owner{}, devices: map[Who]int64{},
	}
}

// Most returns how many units one account may have.
func (p *Pool) Most() int64 { return p.most }

// Take takes n units, more than an account may have as that many. It waits for them at most for as long as
// given, and until ctx is done. Give them back.
//
// Errors: a *Refusal, or that of ctx.
func (p *Pool) Take(ctx context.Context, who Who, n int64, wait time.Duration) error {
	if p == nil {
		return nil
	}
	n = min(n, p.most)
	p.mu.Lock()
	o := p.owner(who.Account)
	if p.fits(o, n) {
		p.charge(o, who, n)
		p.mu.Unlock()
		return nil
	}
	w := &waiter{who: who, n: n, done: make(chan error, 1)}
	p.join(o, w)
	p.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return p.giveUp(w, fmt.Errorf("wait for others: %w", ctx.Err()))
	case <-timer.C:
		return p.giveUp(w, &Refusal{})
	}
}

// Try is Take without the wait; false: there are none now.
func (p *Pool) Try(who Who, n int64) bool {
	if p == nil {
		return true
	}
	n = min(n, p.most)
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.owner(who.Account)
	if !p.fits(o, n) {
		return false
	}
	p.charge(o, who, n)
	return true
}

// Give returns what Take or Try took.
func (p *Pool) Give(who Who, n int64) {
	if p == nil {
		return
	}
	n = min(n, p.most)
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.owners[who.Account]
	p.used, o.used = p.used-n, o.used-n
	p.count(who, -n)
	p.serve()
	if o.used == 0 && len(o.waiting) == 0 && len(p.owners) > remembered {
		delete(p.owners, who.Account)
	}
}

func (p *Pool) owner(a holdfast.AccountID) *owner {
	o := p.owners[a]
	if o == nil {
		o = &owner{}
		p.owners[a] = o
	}
	return o
}

// fits reports whether somebody who comes now need not wait: nobody who waits could have the units instead.
func (p *Pool) fits(o *owner, n int64) bool {
	if o.used+n > p.most || p.used+n > p.size || len(o.waiting) > 0 {
		return false
	}
	return p.line == 0 || p.next() == nil
}

func (p *Pool) charge(o *owner, who Who, n int64) {
	p.used, o.used = p.used+n, o.used+n
	p.count(who, n)
}

func (p *Pool) count(who Who, n int64) {
	if p.devices[who] += n; p.devices[who] == 0 {
		delete(p.devices, who)
	}
}

// join adds w to those who wait. If too many of its account do, or of all, the newest wait of whoever has the
// most ends in a refusal; that may be w itself.
func (p *Pool) join(o *owner, w *waiter) {
	p.tickets++
	w.ticket = p.tickets
	if o.waiting = append(o.waiting, w); len(o.waiting) == 1 {
		p.queued = append(p.queued, o)
	}
	p.line++
	p.count(w.who, w.n)
	switch {
	case len(o.waiting) > p.waiters:
		p.refuse(o, &Refusal{Greedy: true})
	case p.line > p.crowd:
		most := o
		for _, other := range p.queued {
			if l := len(other.waiting); l > len(most.waiting) {
				most = other
			}
		}
		p.refuse(most, &Refusal{})
	}
}

// refuse ends the newest wait of the device of o that has the most.
func (p *Pool) refuse(o *owner, why *Refusal) {
	var worst *waiter
	for _, w := range o.waiting {
		if worst == nil || p.devices[w.who] > p.devices[worst.who] || w.who == worst.who {
			worst = w
		}
	}
	p.leave(o, worst)
	worst.done <- why
}

// leave takes w out of those who wait; false: it does not wait any more.
func (p *Pool) leave(o *owner, w *waiter) bool {
	for i := range o.waiting {
		if o.waiting[i] == w {
			if o.waiting = slices.Delete(o.waiting, i, i+1); len(o.waiting) == 0 {
				at := slices.Index(p.queued, o)
				p.queued = slices.Delete(p.queued, at, at+1)
			}
			p.line--
			p.count(w.who, -w.n)
			return true
		}
	}
	return false
}

// giveUp ends a wait with err, unless it has ended meanwhile.
func (p *Pool) giveUp(w *waiter, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o := p.owners[w.who.Account]; o != nil && p.leave(o, w) {
		p.serve() // those behind it may fit
		return err
	}
	return <-w.done
}

// serve gives free units to those who wait, as far as they go.
func (p *Pool) serve() {
	for p.line > 0 {
		w := p.next()
		if w == nil || p.used+w.n > p.size {
			return // whoever has the fewest is not overtaken by who needs less
		}
		o := p.owners[w.who.Account]
		p.leave(o, w)
		p.charge(o, w.who, w.n)
		w.done <- nil
	}
}

// next returns who is served next: of the accounts that may have more the one that has the fewest units.
func (p *Pool) next() *waiter {
	var best *waiter
	var from *owner
	for _, o := range p.queued {
		w := p.nextOf(o)
		if o.used+w.n > p.most {
			continue
		}
		if best == nil || o.used < from.used || o.used == from.used && w.ticket < best.ticket {
			best, from = w, o
		}
	}
	return best
}

// nextOf returns which wait of an account ends first: that of the device that has and wants the fewest.
func (p *Pool) nextOf(o *owner) *waiter {
	best := o.waiting[0]
	for _, w := range o.waiting[1:] {
		if p.devices[w.who] < p.devices[best.who] {
			best = w
		}
	}
	return best
}
