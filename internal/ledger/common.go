package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/mirror"
	"holdfast/internal/store"
)

// commonWith finds what a mirror that was not complete has in common with the store. What it has beyond
// that was never acknowledged: a session that it was in ended before all its mirrors had it (R6). It stays
// in the mirror's old logs, nothing is put on it, and it is kept as a branch (F6).
type commonWith struct {
	ledger *Ledger
	db     *sharedStore
	whole  bool // read all of it, not only its ends
	stray  int  // changes that the store does not have

	r    *store.Reader
	used int
}

// readerUses is after how many questions a snapshot of the store is given back: an old one keeps the
// store's log from being cleared.
const readerUses = 4096

// heads returns rec with its heads lowered to the last change of each account that the store has too.
func (c *commonWith) heads(ctx context.Context, m *mirror.Mirror, rec *mirror.Recovered) (low *mirror.Recovered, err error) {
	if !c.db.acquire() {
		return nil, fmt.Errorf("store is being closed: %w", holdfast.ErrFenced)
	}
	defer c.db.release()
	defer func() {
		if c.r != nil {
			err = errors.Join(err, c.r.Close())
		}
	}()
	out := *rec
	out.Heads = maps.Clone(rec.Heads)
	for _, h := range rec.Heads {
		if c.whole {
			break
		}
		same, err := c.same(ctx, h)
		if err != nil {
			return nil, storeError("compare with mirror "+m.Name(), err)
		}
		c.whole = !same
	}
	if !c.whole {
		return &out, nil
	}
	got, err := c.read(ctx, m)
	if err != nil {
		return nil, err
	}
	for a, h := range rec.Heads {
		switch g := got[a]; {
		case g.Head.Seq >= h.Head.Seq:
			out.Heads[a] = h
		case g.Head.Seq == 0:
			delete(out.Heads, a)
		default:
			out.Heads[a] = g
		}
	}
	return &out, nil
}

// read replays the mirror and returns the last change of each account up to which it agrees with the store.
func (c *commonWith) read(ctx context.Context, m *mirror.Mirror) (map[holdfast.AccountID]holdfast.AccountHead, error) {
	got := map[holdfast.AccountID]holdfast.AccountHead{}
	var fromStore error
	none := func(holdfast.AccountID) holdfast.AccountHead { return holdfast.AccountHead{} }
	err := m.Replay(ctx, none, func(r *mirror.Record) error {
		h := holdfast.AccountHead{Account: r.Account, Epoch: r.Epoch, Head: holdfast.Head{Seq: r.Seq, Hash: r.Hash}}
		same, err := c.same(ctx, h)
		if err != nil {
			fromStore = err
			return err
		}
		if !same || got[r.Account].Head.Seq != r.Seq-1 {
			c.stray++
			return nil
		}
		got[r.Account] = h
		return nil
	})
	switch {
	case fromStore != nil:
		return nil, storeError("compare with mirror "+m.Name(), fromStore)
	case err != nil && !lasting(err):
		return nil, &mirrorError{m.Name(), err}
	case err != nil:
		c.ledger.log.Warn("a mirror that is being filled is damaged; what it cannot give back is written again", "mirror", m.Name(), "err", err)
	}
	return got, nil
}

// same reports whether the store has this head in its chain.
func (c *commonWith) same(ctx context.Context, h holdfast.AccountHead) (same bool, err error) {
	if c.used++; c.r != nil && c.used%readerUses == 0 {
		r := c.r
		c.r = nil
		if err := r.Close(); err != nil {
			return false, err
		}
	}
	if c.r == nil {
		if c.r, err = c.db.Read(ctx); err != nil {
			return false, err
		}
	}
	hash, err := c.r.HashAt(h.Account, h.Head.Seq)
	if errors.Is(err, holdfast.ErrNotFound) {
		return false, nil
	}
	return hash == h.Head.Hash, err
}

// verifyLog reads what was written to a mirror in one term from its medium, bodies included. A body that
// does not read back is written once more.
func (l *Ledger) verifyLog(ctx context.Context, m *mirror.Mirror, t holdfast.Term, want map[holdfast.AccountID]holdfast.AccountHead) error {
	got, err := m.VerifyLog(ctx, t, func(a holdfast.AccountID, b frame.Blob) error {
		err := m.VerifyBlob(ctx, a, b)
		if errors.Is(err, holdfast.ErrAbsent) || !errors.Is(err, holdfast.ErrCorrupt) && !errors.Is(err, holdfast.ErrNotFound) {
			return err
		}
		missing, err := l.fillBlob(ctx, m, a, b)
		if err != nil || missing { // in no copy: that is reported where it was looked for
			return err
		}
		return m.VerifyBlob(ctx, a, b)
	})
	if err != nil {
		return fmt.Errorf("read back what was copied: %w", err)
	}
	for a, h := range want {
		if got[a].Head != h.Head {
			return fmt.Errorf("read back what was copied: account %s ends at %s, %s was written: %w", a, got[a].Head, h.Head, holdfast.ErrCorrupt)
		}
	}
	return nil
}

// fillBlob copies a body into m, from the store or, if that has lost it, from a live mirror. missing: every
// copy was asked, and none has it whole.
func (l *Ledger) fillBlob(ctx context.Context, m *mirror.Mirror, a holdfast.AccountID, b frame.Blob) (missing bool, err error) {
	err = l.mirrorBlob(ctx, m, a, b)
	lost := func(err error) bool {
		return !errors.Is(err, holdfast.ErrAbsent) && (errors.Is(err, holdfast.ErrNotFound) || errors.Is(err, holdfast.ErrCorrupt))
	}
	if err == nil || !lost(err) {
		return false, err
	}
	l.mu.RLock()
	mirrors := l.mirrors
	l.mu.RUnlock()
	for _, from := range mirrors {
		switch err := l.healBlobFrom(ctx, from, a, b); {
		case err == nil:
			return false, l.mirrorBlob(ctx, m, a, b)
		case !lost(err):
			return false, &mirrorError{from.Name(), err}
		}
	}
	l.log.Error("blob is in no readable copy", "account", a.String(), "blob", b.Hash.String(), "err", err)
	return true, nil
}
