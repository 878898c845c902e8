package ledger

import (
	"context"
	"errors"
	"fmt"

	"holdfast"
	"holdfast/internal/fence"
	"holdfast/internal/limit"
	"holdfast/internal/store"
)

// View shows fn one account at its durable head, in one consistent snapshot. Nothing else reads the
// store. Errors before fn runs: ErrFenced (the store may be false: answer 503) and ErrNotFound (no
// such account). fn must not keep the view while bytes go to a slow client.
func (l *Ledger) View(ctx context.Context, a holdfast.AccountID, fn func(v *View) error) error {
	v, err := l.reading(ctx, a)
	if err != nil {
		return err
	}
	defer v.db.release()
	if err := v.proven(); err != nil {
		return err
	}
	err = fn(v)
	if v.r != nil {
		err = errors.Join(err, v.r.Close())
		l.readers.Give(limit.Who{Account: a}, 1)
	}
	return l.readFailed(a, err)
}

// snapshot takes the store's snapshot when it is first needed, and verifies it (R8).
func (v *View) snapshot() (*store.Reader, error) {
	if v.r != nil {
		return v.r, nil
	}
	readers, who := v.ledger.readers, limit.Who{Account: v.account}
	if err := readers.Take(v.ctx, who, 1, limit.Patience); err != nil { // one account's listings do not take all connections
		return nil, fmt.Errorf("begin read: %w", err)
	}
	r, err := v.db.Read(v.ctx)
	if err != nil {
		readers.Give(who, 1)
		return nil, fmt.Errorf("begin read: %w", err)
	}
	if err := v.verify(r); err != nil {
		err = errors.Join(err, r.Close())
		readers.Give(who, 1)
		return nil, err
	}
	v.r = r
	return r, nil
}

// reading returns a view with the store acquired.
func (l *Ledger) reading(ctx context.Context, a holdfast.AccountID) (*View, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.state == fence.Closed || l.db == nil {
		return nil, fmt.Errorf("fence closed: %s: %w", l.reason.Full(), holdfast.ErrFenced)
	}
	if why, ok := l.shut[a]; ok {
		return nil, fmt.Errorf("fence of account %s closed: %s: %w", a, why.Full(), holdfast.ErrFenced)
	}
	h, ok := l.heads[a]
	if !ok || h.Head.Seq == 0 {
		return nil, fmt.Errorf("account %s: %w", a, holdfast.ErrNotFound)
	}
	if !l.db.acquire() {
		return nil, fmt.Errorf("store is being closed: %w", holdfast.ErrFenced)
	}
	v := &View{head: h, db: l.db, ctx: ctx, mirrors: l.mirrors, term: l.term}
	v.reads = reads{open: v.snapshot, account: a, seq: h.Head.Seq, at: h.Head.Seq, ledger: l, paths: l.paths}
	return v, nil
}

// proven is R2 and R5: the path still leads to the store that was verified, and nobody has claimed
// the mirrors since. A mirror that cannot be read makes the server held, not its reads false.
func (v *View) proven() error {
	l := v.ledger
	if err := v.db.Linked(); err != nil && l.planted(emptyListing) {
		v.gone = true
	} else if err != nil {
		err = fmt.Errorf("store: %w", err)
		l.raise(err)
		return fmt.Errorf("%w: %w", err, holdfast.ErrFenced)
	}
	for _, m := range v.mirrors {
		if l.planted(noLease) {
			break
		}
		if err := m.CheckTerm(v.ctx, v.term); errors.Is(err, holdfast.ErrFenced) && l.currentTerm() == v.term {
			err = &mirrorError{m.Name(), err}
			l.raise(err)
			return err
		}
	}
	return nil
}

func (l *Ledger) currentTerm() holdfast.Term {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.term
}

// verify is R8: the snapshot's head is at or above the durable head, with its hash below it.
func (v *View) verify(r *store.Reader) error {
	if v.ledger.planted(noReadCheck) {
		return nil
	}
	got, err := r.Head(v.account)
	if err != nil {
		return fmt.Errorf("read head: %w", err)
	}
	hash := got.Head.Hash
	if got.Head.Seq > v.head.Head.Seq {
		if hash, err = r.HashAt(v.account, v.head.Head.Seq); err != nil {
			return fmt.Errorf("read hash at the durable head: %w", err)
		}
	}
	if got.Head.Seq < v.head.Head.Seq || hash != v.head.Head.Hash {
		err := storeError("read", &holdfast.HeadMismatchError{Account: v.account, Store: got.Head, Mirror: v.head.Head, Where: "the durable head"})
		v.ledger.raise(err)
		return err
	}
	if got.Head == v.head.Head {
		v.at = store.Newest // nothing in the snapshot is newer than what is shown
	}
	return nil
}

// readFailed has an account proven, and repaired, when an error of a read means that the store is damaged
// there. What is damaged answers with its error until then; the rest is served. A head that is not the
// durable one has raised the alarm already.
func (l *Ledger) readFailed(a holdfast.AccountID, err error) error {
	var blob *blobError
	switch {
	case errors.Is(err, holdfast.ErrFatal):
		l.raise(err)
	case errors.Is(err, holdfast.ErrCorrupt) && !errors.As(err, &blob):
		l.scrub.suspect(a)
	}
	return err
}
