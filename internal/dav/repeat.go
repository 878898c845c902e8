package dav

import (
	"sync"

	"holdfast"
)

// maxRepeats is how many of the newest PUTs are remembered.
const maxRepeats = 4096

// repeats knows what the newest PUTs replaced, so that one sent again because its answer was lost is
// told from one that comes too late (DESIGN.md 3, "Repeats"). It is passing state: without it, as
// after a restart, a repeat is answered 412, and the bytes the client wanted are there all the same.
type repeats struct {
	mu     sync.Mutex
	before map[version]state
	ring   []version // the oldest is at next once it is full
	next   int
}

// version is one body of one resource.
type version struct {
	account    holdfast.AccountID
	collection holdfast.CollectionID
	name       string
	body       holdfast.Hash
}

// add notes that v is about to replace what was in state before. If v never comes to be, nothing
// asks for it: only the body that is there now is looked up.
func (r *repeats) add(v version, before state) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.before == nil {
		r.before = make(map[version]state)
	}
	if _, ok := r.before[v]; !ok {
		if len(r.ring) < maxRepeats {
			r.ring = append(r.ring, v)
		} else {
			delete(r.before, r.ring[r.next])
			r.ring[r.next] = v
			r.next = (r.next + 1) % maxRepeats
		}
	}
	r.before[v] = before
}

// replaced returns the state that v replaced, if that is known.
func (r *repeats) replaced(v version) (state, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.before[v]
	return s, ok
}
