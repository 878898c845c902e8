package ledger

import (
	"sync"

	"holdfast"
)

// maxPaths bounds the collections that are remembered, of all accounts together.
const maxPaths = 1 << 16

// paths remembers collections by id and by parent and name, so that a request finds its collection
// without a query. It belongs to one session, so it knows of every change of a collection: entries
// from before the newest one of their account are not used.
type paths struct {
	mu      sync.RWMutex
	known   map[pathKey]pathEntry
	changed map[holdfast.AccountID]holdfast.Seq // of the newest change of a collection; absent: none in this session
}

// pathKey is a collection by id (name empty, parent 0), or a name below a parent.
type pathKey struct {
	account holdfast.AccountID
	parent  holdfast.CollectionID
	id      holdfast.CollectionID
	name    string
}

type pathEntry struct {
	at holdfast.Seq // the state it was read from
	c  Collection
}

func newPaths() *paths {
	return &paths{known: map[pathKey]pathEntry{}, changed: map[holdfast.AccountID]holdfast.Seq{}}
}

// get returns what is known of key as of at. Nobody may change what Props points to.
func (p *paths) get(key pathKey, at holdfast.Seq) (*Collection, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	e, ok := p.known[key]
	if !ok || at < e.at || e.at < p.changed[key.account] {
		return nil, false
	}
	c := e.c
	return &c, true
}

// put remembers what was read as of at.
func (p *paths) put(key pathKey, c *Collection, at holdfast.Seq) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at < p.changed[key.account] {
		return
	}
	if len(p.known) >= maxPaths {
		clear(p.known) // rare, and cheap to fill again
	}
	p.known[key] = pathEntry{at, *c}
}

// forget drops all that is remembered: a batch that was rolled back may have left what never was.
func (p *paths) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.known)
}

// change says that collections of an account differ from seq on.
func (p *paths) change(a holdfast.AccountID, s holdfast.Seq) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed[a] = s
}
