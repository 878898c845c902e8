package ledger

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/fence"
	"holdfast/internal/mirror"
	"holdfast/internal/store"
)

// Bounds of what Diff lists of one copy.
const (
	diffChanges = 200
	diffOps     = 20
)

// Diff is what each copy of an account has that another has not.
type Diff struct {
	Account  holdfast.AccountID `json:"account"`
	Common   holdfast.Seq       `json:"common"` // the last change that all copies have
	Copies   []DiffCopy         `json:"copies"` // the store first
	Branches []Branch           `json:"branches,omitempty"`
}

// DiffCopy is one copy in a Diff.
type DiffCopy struct {
	Name    string         `json:"name"` // "store", or the mirror's
	Epoch   holdfast.Epoch `json:"epoch"`
	Head    holdfast.Seq   `json:"head"`
	Hash    string         `json:"hash"`              // chain hash at its head
	Common  holdfast.Seq   `json:"common"`            // the last change it has in common with the store
	Changes []DiffChange   `json:"changes,omitempty"` // above Diff.Common, the first 200
	Total   int            `json:"total"`             // of such changes
	Error   string         `json:"error,omitempty"`   // why it could not be read to its end
}

// DiffChange is one change of a copy.
type DiffChange struct {
	Seq    holdfast.Seq      `json:"seq"`
	Hash   string            `json:"hash"`
	Term   uint64            `json:"term"`
	Time   time.Time         `json:"time"`
	Device holdfast.DeviceID `json:"device"`
	Ops    []string          `json:"operations"` // the first 20, in words, with names
}

// Diff compares the copies of an account change by change, without changing anything. It reads the mirrors
// whole. ErrFenced: the fence is closed, so there is no store to compare with.
func (l *Ledger) Diff(ctx context.Context, a holdfast.AccountID) (d *Diff, err error) {
	l.mu.RLock()
	db, mirrors, state, why := l.db, l.mirrors, l.state, l.reason
	l.mu.RUnlock()
	if state == fence.Closed || db == nil || !db.acquire() {
		return nil, fmt.Errorf("fence closed: %s: %w", why.Full(), holdfast.ErrFenced)
	}
	defer db.release()
	r, err := db.Read(ctx)
	if err != nil {
		return nil, fmt.Errorf("compare account %d: %w", a, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	head, err := r.Head(a)
	if err != nil {
		return nil, fmt.Errorf("compare account %d: %w", a, err)
	}
	n := &namer{account: a, learned: map[holdfast.CollectionID]*frame.Op{}, r: r}
	own := DiffCopy{Name: "store", Epoch: head.Epoch, Head: head.Head.Seq, Hash: head.Head.Hash.String(), Common: head.Head.Seq}
	d = &Diff{Account: a, Common: head.Head.Seq, Copies: []DiffCopy{own}}
	for _, m := range mirrors {
		c, err := diffMirror(ctx, r, m, head, n)
		if err != nil {
			return nil, fmt.Errorf("compare account %d with mirror %s: %w", a, m.Name(), err)
		}
		d.Copies = append(d.Copies, c)
		d.Common = min(d.Common, c.Common)
	}
	if head.Head.Seq == 0 && len(d.Copies) > 0 && d.Copies[len(d.Copies)-1].Head == 0 {
		return nil, fmt.Errorf("account %d: %w", a, holdfast.ErrNotFound)
	}
	if err := d.Copies[0].takeStore(ctx, r, a, d.Common, n); err != nil {
		return nil, fmt.Errorf("compare account %d: %w", a, err)
	}
	branches, err := l.Branches(ctx)
	for _, b := range branches {
		if b.Account == a && b.Damage == "" {
			d.Branches = append(d.Branches, b)
		}
	}
	return d, err
}

func (c *DiffCopy) take(f *frame.Change, hash holdfast.Hash, n *namer) {
	for i := range f.Ops {
		n.learn(&f.Ops[i])
	}
	if c.Total++; len(c.Changes) >= diffChanges {
		return
	}
	k := DiffChange{Seq: f.Seq, Hash: hash.String(), Term: f.Term.Number, Time: time.UnixMilli(f.Time).UTC(), Device: f.Device}
	for i := range f.Ops[:min(len(f.Ops), diffOps)] {
		k.Ops = append(k.Ops, n.words(&f.Ops[i]))
	}
	if more := len(f.Ops) - diffOps; more > 0 {
		k.Ops = append(k.Ops, fmt.Sprintf("and %d more", more))
	}
	c.Changes = append(c.Changes, k)
}

func (c *DiffCopy) takeStore(_ context.Context, r *store.Reader, a holdfast.AccountID, common holdfast.Seq, n *namer) error {
	return r.Changes(a, common+1, c.Head, func(_ holdfast.Seq, hash holdfast.Hash, payload []byte) error {
		f, err := frame.ParseChange(payload)
		if err != nil {
			return err
		}
		c.take(f, hash, n)
		return nil
	})
}

// diffMirror compares one mirror with the store.
func diffMirror(ctx context.Context, r *store.Reader, m *mirror.Mirror, head holdfast.AccountHead, n *namer) (DiffCopy, error) {
	c := DiffCopy{Name: m.Name()}
	have := func(b holdfast.AccountID) holdfast.AccountHead { // nothing of the others
		if b == head.Account {
			return holdfast.AccountHead{}
		}
		return holdfast.AccountHead{Head: holdfast.Head{Seq: math.MaxInt64}}
	}
	own := *n
	own.learned = map[holdfast.CollectionID]*frame.Op{}
	parted := false
	err := m.Replay(ctx, have, func(rec *mirror.Record) error {
		c.Epoch, c.Head, c.Hash = rec.Epoch, rec.Seq, rec.Hash.String()
		if !parted && rec.Seq <= head.Head.Seq {
			h, err := r.HashAt(head.Account, rec.Seq)
			if err != nil {
				return storeError("compare", err)
			}
			if h == rec.Hash {
				c.Common = rec.Seq
				return nil
			}
		}
		parted = true
		f, err := frame.ParseChange(rec.Payload)
		if err != nil {
			return err
		}
		c.take(f, rec.Hash, &own)
		return nil
	})
	if err != nil && !lasting(err) {
		return c, err
	}
	if err != nil {
		c.Error = err.Error()
	}
	return c, nil
}
