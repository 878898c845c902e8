package demo

import (
	"crypto/sha256"
	"sync"
	"time"

	"holdfast"
)

// journal remembers what the server acknowledged. It is the demo's only judge of loss.
// It is safe for concurrent use.
//
// Each item has one writing device, so its writes come one after another: what may be there in the
// end is the last acknowledged version or one that was tried after it and never answered.
type journal struct {
	mu    sync.Mutex
	items map[string]*record // by path of the resource
	acked []ack              // every acknowledgement, by the time at which it arrived
}

// ack is one acknowledgement: by whom, and when the request left and the answer arrived.
type ack struct {
	host        string
	began, came time.Time
}

type record struct {
	kind    kind
	acked   bool                   // a PUT was acknowledged and no DELETE tried since
	last    holdfast.Hash          // body of the last acknowledged PUT
	tried   map[holdfast.Hash]bool // bodies of later PUTs without an acknowledgement
	removed bool                   // the last thing acknowledged was a DELETE
	unsure  bool                   // a DELETE was tried and not acknowledged: it may be there or not
}

func newJournal() *journal { return &journal{items: make(map[string]*record)} }

func (j *journal) record(path string, k kind) *record {
	r := j.items[path]
	if r == nil {
		r = &record{kind: k, tried: make(map[holdfast.Hash]bool)}
		j.items[path] = r
	}
	return r
}

// putTried is called before a PUT leaves.
func (j *journal) putTried(path string, k kind, body []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.record(path, k).tried[sha256.Sum256(body)] = true
}

// putAcked is called when a PUT was answered with 2xx.
func (j *journal) putAcked(path string, k kind, body []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.record(path, k)
	r.acked, r.removed, r.unsure = true, false, false
	r.last = sha256.Sum256(body)
	clear(r.tried)
}

// deleteTried is called before a DELETE leaves; from here on the item's absence proves nothing.
func (j *journal) deleteTried(path string, k kind) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.record(path, k)
	r.acked, r.unsure = false, true
}

// deleteAcked is called when a DELETE was answered with 2xx.
func (j *journal) deleteAcked(path string, k kind) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.record(path, k)
	r.acked, r.unsure, r.removed = false, false, true
	clear(r.tried)
}

// owed reports whether the item was acknowledged and nobody asked for its deletion.
func (j *journal) owed(path string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.items[path]
	return r != nil && r.acked
}

// fine reports whether hash is a body that may be there now.
func (r *record) fine(h holdfast.Hash) bool { return h == r.last || r.tried[h] }

// snapshot returns a copy of all records by path.
func (j *journal) snapshot() map[string]record {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := make(map[string]record, len(j.items))
	for path, r := range j.items {
		c := *r
		c.tried = make(map[holdfast.Hash]bool, len(r.tried))
		for h := range r.tried {
			c.tried[h] = true
		}
		all[path] = c
	}
	return all
}

// acknowledged returns how many items the server owes.
func (j *journal) acknowledged() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for _, r := range j.items {
		if r.acked {
			n++
		}
	}
	return n
}

// snapshotOne returns a copy of the record of one path.
func (j *journal) snapshotOne(path string) record {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.items[path]
	if r == nil {
		return record{}
	}
	return *r // its map is not used by another version of the thing: the caller compares an unedited one
}

// acknowledgedBy notes who acknowledged a write that left at began.
func (j *journal) acknowledgedBy(host string, began time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.acked = append(j.acked, ack{host, began, time.Now()})
}

// count returns how many acknowledgements match.
func (j *journal) count(match func(ack) bool) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for _, a := range j.acked {
		if match(a) {
			n++
		}
	}
	return n
}

// first returns the first acknowledgement that matches, or the zero ack.
func (j *journal) first(match func(ack) bool) ack {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, a := range j.acked {
		if match(a) {
			return a
		}
	}
	return ack{}
}

func by(host string) func(ack) bool { return func(a ack) bool { return a.host == host } }
