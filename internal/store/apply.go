package store

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"holdfast"
	"holdfast/frame"
)

// Apply does one change: it stores the payload, moves the resources and collections it names to their
// new versions, and moves the head. It is the same for live writes, replay and refill.
//
// c is what payload encodes and hash the chain's after it. Nothing of a change is done if it does not
// fit: ErrInvalid if it is not the next of its account, its epoch falls, or an operation cannot be
// done (no such collection or resource, a name taken, a collection moved into itself); ErrCorrupt if
// hash does not continue the chain. After ErrInvalid from the check of an operation and after ErrCorrupt
// from the check of the hash the Tx can go on; after any other error it can only be rolled back.
//
// A body that does not parse is stored like any other; it has no UID then, and no bounds in time.
func (t *Tx) Apply(c *frame.Change, payload []byte, hash holdfast.Hash) error {
	if t.ended || t.err != nil {
		return fmt.Errorf("apply to a transaction that has ended: %w", errors.Join(holdfast.ErrInvalid, t.err))
	}
	t.losses = t.losses[:0]
	st, err := t.account(c.Account)
	if err != nil {
		return t.condemn(err)
	}
	if err := st.fits(c, payload, hash); err != nil {
		return err
	}
	a := &applier{t: t, c: c, st: st, resources: st.resources, bytes: st.bytes, erased: st.erased, touched: map[holdfast.CollectionID]*touch{}}
	t.touched = a.touched
	if len(c.Ops) == 1 { // each operation checks all it needs before it writes
		return a.run(payload, hash)
	}
	if _, err := t.c.exec("SAVEPOINT change"); err != nil {
		return t.condemn(err)
	}
	members := t.keepMembers()
	err = a.run(payload, hash)
	if err != nil && t.err == nil {
		if _, rerr := t.c.exec("ROLLBACK TO change"); rerr != nil {
			return t.condemn(errors.Join(err, rerr))
		}
		t.members = members
	}
	if t.err == nil {
		if _, rerr := t.c.exec("RELEASE change"); rerr != nil {
			return t.condemn(errors.Join(err, rerr))
		}
	}
	return err
}

// keepMembers copies what is known of collections, for the case that the change is taken back.
func (t *Tx) keepMembers() map[place]*membership {
	kept := make(map[place]*membership, len(t.members))
	for k, v := range t.members {
		m := *v
		kept[k] = &m
	}
	return kept
}

// condemn remembers an error after which this Tx cannot be committed.
func (t *Tx) condemn(err error) error {
	if t.err == nil {
		t.err = err
	}
	return t.s.note(err)
}

// fits checks that a change is the next of its account.
func (st *account) fits(c *frame.Change, payload []byte, hash holdfast.Hash) error {
	switch {
	case c.Seq != st.head.Seq+1:
		return fmt.Errorf("change %s does not follow head %s: %w", c.Seq, st.head, holdfast.ErrInvalid)
	case c.Epoch < st.epoch || c.Epoch == 0, c.RaisesEpoch() != (c.Epoch > max(st.epoch, 1)):
		return fmt.Errorf("change %s has epoch %d, the account %d: %w", c.Seq, c.Epoch, st.epoch, holdfast.ErrInvalid)
	case len(c.Ops) == 0:
		return fmt.Errorf("change %s has no operations: %w", c.Seq, holdfast.ErrInvalid)
	}
	want, err := frame.ChainHash(st.head.Hash, payload)
	if err != nil {
		return err
	}
	if want != hash {
		return fmt.Errorf("change %s has the chain hash %s, its payload gives %s: %w", c.Seq, hash, want, holdfast.ErrCorrupt)
	}
	return nil
}

// applier does the operations of one change.
type applier struct {
	t         *Tx
	c         *frame.Change
	st        *account
	resources int64
	bytes     int64
	erased    int64                 // operations of this account so far that are known by their commitment only
	history   int64                 // bytes that this change adds to the history
	blobs     map[holdfast.Hash]int // put by this change
	touched   map[holdfast.CollectionID]*touch
	wrote     bool // something was written
}

// Touched yields the collections that the last change that was applied touched: those it changed, and
// those with a direct member that it changed or removed.
func (t *Tx) Touched() iter.Seq[holdfast.CollectionID] { return maps.Keys(t.touched) }

// touch is what a change did to one collection.
type touch struct {
	names []string // members, in order of first touch; "" is the collection itself
	dead  bool     // the collection is gone: members need no row, its digest is zero
}

func (a *applier) run(payload []byte, hash holdfast.Hash) error {
	for i := range a.c.Ops {
		if err := a.op(&a.c.Ops[i]); err != nil {
			err = fmt.Errorf("operation %d: %w", i, err)
			if errors.Is(err, holdfast.ErrInvalid) && (!a.wrote || len(a.c.Ops) > 1) {
				return err // nothing was written, or the savepoint takes it back
			}
			return a.t.condemn(err)
		}
	}
	if err := a.finish(payload, hash); err != nil {
		return a.t.condemn(err)
	}
	a.st.head = holdfast.Head{Seq: a.c.Seq, Hash: hash}
	a.st.epoch = a.c.Epoch
	a.st.resources, a.st.bytes, a.st.erased, a.st.dirty = a.resources, a.bytes, a.erased, true
	a.st.history += a.history
	return nil
}

func (a *applier) op(o *frame.Op) error {
	if o.Type == frame.OpAcceptLoss {
		return a.acceptLoss(o)
	}
	if o.Erased { // its name is gone too: the version it made stays unknown, and so do operations that need it
		a.erased++
		return nil
	}
	if err := CheckProps(o.Props); err != nil {
		return err
	}
	switch o.Type {
	case frame.OpPut:
		return a.put(o)
	case frame.OpDelete:
		return a.remove(o)
	case frame.OpSetProperties:
		return a.setProperties(o)
	case frame.OpPutCollection:
		return a.putCollection(o)
	case frame.OpDeleteCollection:
		return a.deleteCollection(o)
	}
	return fmt.Errorf("type %d: %w", o.Type, holdfast.ErrInvalid)
}

// touch records that a member of a collection has changed.
func (a *applier) touch(c holdfast.CollectionID, name string) {
	t := a.touched[c]
	if t == nil {
		t = &touch{}
		a.touched[c] = t
	}
	if len(t.names) < 8 { // few: without a map
		if slices.Contains(t.names, name) {
			return
		}
	}
	t.names = append(t.names, name)
}

// finish writes what touched collections look like now, and the change itself.
func (a *applier) finish(payload []byte, hash holdfast.Hash) error {
	for id, tc := range a.touched {
		slices.Sort(tc.names)
		tc.names = slices.Compact(tc.names)
		var sum digest
		if tc.dead {
			tc.names = []string{""}
		} else {
			m, err := a.t.membership(a.c.Account, id)
			if err != nil {
				return err
			}
			sum = m.digest
		}
		for i, name := range tc.names {
			d := []byte{}
			if i == len(tc.names)-1 {
				h := sum.hash()
				d = h[:]
			}
			if err := a.t.c.one("INSERT INTO changed (account_id, collection_id, seq, name, digest) VALUES (?1, ?2, ?3, ?4, ?5)",
				int64(a.c.Account), int64(id), int64(a.c.Seq), name, d); err != nil {
				return err
			}
		}
	}
	if a.t.fold {
		return nil
	}
	return a.t.insertChange(a.c, payload, hash)
}

// insertChange writes the change itself.
func (t *Tx) insertChange(c *frame.Change, payload []byte, hash holdfast.Hash) error {
	first := payload[:min(len(payload), partSize)]
	if err := t.c.one("INSERT INTO change (account_id, seq, hash, term_number, term_random, time, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
		int64(c.Account), int64(c.Seq), hash[:], int64(c.Term.Number), int64(c.Term.Random), c.Time, first); err != nil {
		return err
	}
	for part := 1; part*partSize < len(payload); part++ {
		b := payload[part*partSize : min(len(payload), (part+1)*partSize)]
		if err := t.c.one("INSERT INTO change_part (account_id, seq, part, bytes) VALUES (?1, ?2, ?3, ?4)",
			int64(c.Account), int64(c.Seq), part, b); err != nil {
			return err
		}
	}
	return nil
}

// membership returns kind and digest of a collection that is there now, else ErrInvalid.
func (t *Tx) membership(a holdfast.AccountID, c holdfast.CollectionID) (*membership, error) {
	at := place{a, c}
	if m, ok := t.members[at]; ok {
		return m, nil
	}
	k, err := t.c.liveCollection(a, c)
	if err != nil {
		return nil, err
	}
	if k == nil {
		return nil, fmt.Errorf("there is no collection %d: %w", c, holdfast.ErrInvalid)
	}
	m := &membership{kind: k.Kind}
	if m.digest, err = t.c.digestAt(a, c, Newest); err != nil {
		return nil, err
	}
	t.members[at] = m
	return m, nil
}
