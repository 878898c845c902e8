package ledger

import (
	"crypto/sha256"
	"maps"
	"slices"
	"sync"

	"holdfast"
)

// oracle knows what the ledger promised: every change that anybody attempted, and of each account what was
// acknowledged or shown.
type oracle struct {
	mu       sync.Mutex
	attempts map[holdfast.Hash]*simChange
	accounts map[holdfast.AccountID]*promised
	deletes  map[string]bool // names whose deletion some device asked for
}

// simChange is one change as a device asked for it.
type simChange struct {
	head   holdfast.Head
	parent holdfast.Hash
	name   string
	body   []byte // nil: a deletion
	state  map[string]holdfast.Hash
}

// promised is what was acknowledged or shown of one account.
type promised struct {
	top   holdfast.Head
	known map[holdfast.Seq]holdfast.Hash
	acked map[holdfast.Seq]bool
}

func newOracle(heads map[holdfast.AccountID]holdfast.Head) *oracle {
	o := &oracle{attempts: map[holdfast.Hash]*simChange{}, accounts: map[holdfast.AccountID]*promised{}, deletes: map[string]bool{}}
	for a, h := range heads {
		o.accounts[a] = &promised{top: h, known: map[holdfast.Seq]holdfast.Hash{h.Seq: h.Hash}, acked: map[holdfast.Seq]bool{}}
		o.attempts[h.Hash] = &simChange{head: h, state: map[string]holdfast.Hash{}}
	}
	return o
}

// attempted records a change that may exist from now on.
func (o *oracle) attempted(c *simChange) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.attempts[c.head.Hash] = c
}

// floor is the head that every later answer must be at or above.
func (o *oracle) floor(a holdfast.AccountID) holdfast.Head {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.accounts[a].top
}

func (o *oracle) willDelete(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.deletes[name] = true
}

func (o *oracle) mayDelete(name string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.deletes[name]
}

// promise records a head that was acknowledged or shown by an answer to a request that began when the floor was as
// given. It returns what is wrong with it, or "".
func (o *oracle) promise(a holdfast.AccountID, h, floor holdfast.Head) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.accounts[a]
	switch c := o.attempts[h.Hash]; {
	case c == nil || c.head != h:
		return "P4: a head that nobody wrote is shown"
	case h.Seq < floor.Seq:
		return "P1: a head below what was acknowledged or shown before"
	}
	for c := o.attempts[h.Hash]; c != nil; c = o.attempts[c.parent] {
		was, ok := p.known[c.head.Seq]
		if ok && was != c.head.Hash {
			return "P3: two hashes under one number were acknowledged or shown"
		}
		if ok {
			break // what is below was compared when it was recorded
		}
		p.known[c.head.Seq] = c.head.Hash
	}
	if h.Seq > p.top.Seq {
		p.top = h
	}
	return ""
}

// state returns the names and bodies at a head that was attempted.
func (o *oracle) state(h holdfast.Hash) map[string]holdfast.Hash {
	o.mu.Lock()
	defer o.mu.Unlock()
	var todo []*simChange
	c := o.attempts[h]
	for ; c != nil && c.state == nil; c = o.attempts[c.parent] {
		todo = append(todo, c)
	}
	if c == nil {
		return nil
	}
	state := c.state
	for _, c := range slices.Backward(todo) {
		state = maps.Clone(state)
		if c.body == nil {
			delete(state, c.name)
		} else {
			state[c.name] = sha256.Sum256(c.body)
		}
		c.state = state
	}
	return state
}
