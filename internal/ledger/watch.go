package ledger

import (
	"errors"
	"fmt"
	"iter"

	"holdfast"
	"holdfast/internal/fence"
)

// Watcher tells that something is new in one account: its durable head moved, or its fence closed or
// opened. It holds no news, only that there are some, so one that nobody listens to costs nothing that
// grows, and the ledger never waits for it. What is new is asked for: State, then View.ChangedSince
// with the seq that the listener knows.
type Watcher struct {
	C       <-chan struct{} // has one item when there is something new since the last one was taken
	c       chan struct{}
	ledger  *Ledger
	account holdfast.AccountID
}

// audience is an account that somebody watches, and what changed in it since. The ledger's lock guards it.
type audience struct {
	by      map[*Watcher]struct{}
	from    holdfast.Seq                           // touched is complete after this seq
	upTo    holdfast.Seq                           // and up to this one
	touched map[holdfast.CollectionID]holdfast.Seq // the newest change of each collection in between
}

// maxTouched bounds the collections that are remembered of an account; who asks further back, or for
// more, is answered from the store.
const maxTouched = 1024

// touchedBy is what one change of a batch touched.
type touchedBy struct {
	seq  holdfast.Seq
	coll holdfast.CollectionID
}

// Watch begins to tell of an account. The first item is there at once if the account has anything.
// Stop must be called.
func (l *Ledger) Watch(a holdfast.AccountID) *Watcher {
	c := make(chan struct{}, 1)
	w := &Watcher{C: c, c: c, ledger: l, account: a}
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.audiences[a]
	if d == nil {
		d = &audience{by: map[*Watcher]struct{}{}}
		d.forget(l.heads[a].Head.Seq)
		l.audiences[a] = d
	}
	d.by[w] = struct{}{}
	if l.heads[a].Head.Seq > 0 {
		w.wake()
	}
	return w
}

// Stop ends the watch.
func (w *Watcher) Stop() {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	d := w.ledger.audiences[w.account]
	if d == nil {
		return
	}
	if delete(d.by, w); len(d.by) == 0 {
		delete(w.ledger.audiences, w.account)
	}
}

// State returns the durable head of the account, or ErrFenced while its fence or the server's is
// closed: then nothing can be said about it but that it has to be asked for again later.
func (w *Watcher) State() (holdfast.AccountHead, error) {
	l := w.ledger
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.state == fence.Closed {
		return holdfast.AccountHead{}, fmt.Errorf("fence closed: %s: %w", l.reason.Full(), holdfast.ErrFenced)
	}
	if why, ok := l.shut[w.account]; ok {
		return holdfast.AccountHead{}, fmt.Errorf("fence of account %s closed: %s: %w", w.account, why.Full(), holdfast.ErrFenced)
	}
	return l.heads[w.account], nil
}

func (w *Watcher) wake() {
	select {
	case w.c <- struct{}{}:
	default: // it knows that there is something
	}
}

// wakeOf tells the watchers of one account; the caller holds the lock.
func (l *Ledger) wakeOf(a holdfast.AccountID) {
	if d := l.audiences[a]; d != nil {
		d.wake()
	}
}

// wakeAll tells all watchers that the fence moved; the caller holds the lock.
func (l *Ledger) wakeAll() {
	for _, d := range l.audiences {
		d.wake()
	}
}

func (d *audience) wake() {
	for w := range d.by {
		w.wake()
	}
}

// isWatched reports whether what a change touches is to be remembered.
func (l *Ledger) isWatched(a holdfast.AccountID) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.audiences[a] != nil
}

func (b *batch) touch(a holdfast.AccountID, seq holdfast.Seq, colls iter.Seq[holdfast.CollectionID]) {
	if b.touched == nil {
		b.touched = map[holdfast.AccountID][]touchedBy{}
	}
	for c := range colls {
		b.touched[a] = append(b.touched[a], touchedBy{seq, c})
	}
}

// publish moves the durable head to seq and tells the watchers. A change that is missing in by was made while
// nobody watched: what was before it is not known.
func (d *audience) publish(seq holdfast.Seq, by []touchedBy) {
	for _, t := range by {
		if t.seq > d.upTo+1 {
			d.forget(t.seq - 1)
		}
		d.upTo, d.touched[t.coll] = t.seq, t.seq
	}
	if d.upTo != seq || len(d.touched) > maxTouched {
		d.forget(seq)
	}
	d.wake()
}

// forget drops what is known of changes up to seq.
func (d *audience) forget(seq holdfast.Seq) {
	d.from, d.upTo, d.touched = seq, seq, map[holdfast.CollectionID]holdfast.Seq{}
}

// forgetTouched begins anew for a session whose heads may be others; the caller holds the lock.
func (l *Ledger) forgetTouched() {
	for a, d := range l.audiences {
		d.forget(l.heads[a].Head.Seq)
		d.wake()
	}
}

// touchedSince returns the collections that may have changed since, if memory knows all of them.
func (l *Ledger) touchedSince(a holdfast.AccountID, since holdfast.Seq) (ids []holdfast.CollectionID, known bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	d := l.audiences[a]
	if d == nil || since < d.from {
		return nil, false
	}
	for id, seq := range d.touched {
		if seq > since {
			ids = append(ids, id)
		}
	}
	return ids, true
}

// Changed is a collection that changed, or that a direct member of changed, and the head of its newest change.
type Changed struct {
	Collection Collection
	Last       holdfast.Head
}

// ChangedSince returns the collections of this view that changed since a seq. Of one that is gone only the
// collection it was in is named. It costs by the collections that changed if the account was watched since
// then, else by all that the account has.
func (v *View) ChangedSince(since holdfast.Seq) ([]Changed, error) {
	if since >= v.seq {
		return nil, nil
	}
	ids, known := v.ledger.touchedSince(v.account, since)
	if !known {
		var err error
		if ids, err = v.tree(); err != nil {
			return nil, err
		}
	}
	r, err := v.open()
	if err != nil {
		return nil, err
	}
	var out []Changed
	for _, id := range ids {
		c, err := v.Collection(id)
		if errors.Is(err, holdfast.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		seq, err := r.LastChange(v.account, id, v.seq)
		if err != nil {
			return nil, err
		}
		if seq <= since {
			continue
		}
		h, err := v.headAt(seq)
		if err != nil {
			return nil, err
		}
		out = append(out, Changed{*c, h})
	}
	return out, nil
}

// tree returns the ids of all collections of this view.
func (v *View) tree() ([]holdfast.CollectionID, error) {
	if _, err := v.Collection(holdfast.Root); err != nil {
		return nil, err
	}
	ids := []holdfast.CollectionID{holdfast.Root}
	for i := 0; i < len(ids); i++ {
		below, err := v.Children(ids[i])
		if err != nil {
			return nil, err
		}
		for _, c := range below {
			ids = append(ids, c.ID)
		}
	}
	return ids, nil
}

// Touches returns the first changes, at most limit, that touched collection c since a seq.
func (v *View) Touches(c holdfast.CollectionID, since holdfast.Seq, limit int) ([]Touch, error) {
	r, err := v.open()
	if err != nil {
		return nil, err
	}
	return r.Touches(v.account, c, since, v.seq, limit)
}
