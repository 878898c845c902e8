package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/mirror"
)

// forkState is how a mirror's history of an account differs from the store's.
type forkState struct {
	mirror int           // index among the session's
	common holdfast.Head // the last change that both have; Seq 0: none
	ours   side          // what the store has above it
	theirs side          // what the mirror has above it
	broken error         // why the mirror's history could not be read to its end
	hashes map[holdfast.Seq]holdfast.Hash
}

// side is the end of one history.
type side struct {
	head            holdfast.AccountHead
	changes         int
	lowest, highest holdfast.Term // that committed its changes
	first, last     time.Time     // of its changes
}

func (s *side) take(h holdfast.AccountHead, t holdfast.Term, at int64) {
	when := time.UnixMilli(at).UTC()
	if s.changes == 0 || t.Number < s.lowest.Number {
		s.lowest = t
	}
	if s.changes == 0 || t.Number > s.highest.Number || t.Number == s.highest.Number && t != s.highest {
		s.highest = t
	}
	if s.changes == 0 {
		s.first = when
	}
	s.last = when
	s.head = h
	s.changes++
}

// forksOf compares the store with every mirror, change by change, and returns those that differ or promise
// more than can be read. It reads the mirrors whole.
func (p *proof) forksOf(ctx context.Context, a holdfast.AccountID) ([]*forkState, error) {
	var forks []*forkState
	for i, rec := range p.recovered {
		head, ok := rec.Heads[a]
		if !ok || head == p.store[a] {
			continue
		}
		f, err := p.forkWith(ctx, i, a)
		if err != nil {
			return nil, err
		}
		if f.theirs.changes > 0 || f.broken != nil {
			forks = append(forks, f)
		}
	}
	return forks, nil
}

// forkWith compares the store's history of an account with that of mirror i.
func (p *proof) forkWith(ctx context.Context, i int, a holdfast.AccountID) (f *forkState, err error) {
	r, err := p.session.db.Read(ctx)
	if err != nil {
		return nil, storeError("compare", err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	f = &forkState{mirror: i, hashes: map[holdfast.Seq]holdfast.Hash{}}
	wanted := map[holdfast.Seq]bool{}
	for _, w := range p.witnesses() {
		wanted[w.Seq] = wanted[w.Seq] || w.Account == a
	}
	end := p.store[a].Head.Seq
	f.broken = p.replayAccount(ctx, i, a, holdfast.Head{}, func(rec *mirror.Record) error {
		if wanted[rec.Seq] {
			f.hashes[rec.Seq] = rec.Hash
		}
		if f.theirs.changes == 0 && rec.Seq <= end {
			h, err := r.HashAt(a, rec.Seq)
			if err != nil {
				return storeError("compare", err)
			}
			if h == rec.Hash {
				f.common = holdfast.Head{Seq: rec.Seq, Hash: rec.Hash}
				return nil
			}
		}
		c, err := frame.ParseChange(rec.Payload)
		if err != nil {
			return err
		}
		f.theirs.take(holdfast.AccountHead{Account: a, Epoch: rec.Epoch, Head: holdfast.Head{Seq: rec.Seq, Hash: rec.Hash}}, c.Term, c.Time)
		return nil
	})
	if f.broken != nil && !lasting(f.broken) {
		if errors.Is(f.broken, errStoreGone) {
			return nil, f.broken
		}
		return nil, &mirrorError{p.session.mirrors[i].Name(), f.broken}
	}
	if head := p.recovered[i].Heads[a]; f.broken == nil && f.theirs.changes > 0 && f.theirs.head.Head != head.Head {
		f.broken = fmt.Errorf("its history ends at %s, it should at %s: %w", f.theirs.head.Head, head.Head, holdfast.ErrCorrupt)
	}
	for seq := f.common.Seq + 1; seq <= end; seq++ {
		k, err := r.ChangeAt(a, seq)
		if err != nil {
			return nil, storeError("compare", err)
		}
		f.ours.take(holdfast.AccountHead{Account: a, Epoch: p.store[a].Epoch, Head: k.Head}, k.Term, k.Time)
	}
	return f, nil
}

// replayAccount gives fn the changes that a mirror has of one account above from.
func (p *proof) replayAccount(ctx context.Context, i int, a holdfast.AccountID, from holdfast.Head, fn func(r *mirror.Record) error) error {
	return replayOne(ctx, p.session.mirrors[i], p.recovered[i].Heads, a, from, fn)
}

// replayOne gives fn the changes that a mirror has of account a above from. heads are those of the mirror; what is
// wrong with other accounts is not told.
func replayOne(ctx context.Context, m *mirror.Mirror, heads map[holdfast.AccountID]holdfast.AccountHead, a holdfast.AccountID, from holdfast.Head, fn func(r *mirror.Record) error) error {
	have := func(b holdfast.AccountID) holdfast.AccountHead {
		if b == a {
			return holdfast.AccountHead{Account: a, Head: from}
		}
		return heads[b]
	}
	var last holdfast.Head
	err := m.Replay(ctx, have, func(r *mirror.Record) error {
		if r.Account != a {
			return nil
		}
		last = holdfast.Head{Seq: r.Seq, Hash: r.Hash}
		return fn(r)
	})
	if err != nil && last == heads[a].Head && lasting(err) {
		return nil // all of this account was there
	}
	return err
}
