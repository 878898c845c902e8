package ledger

import (
	"context"
	"errors"
	"maps"
	"slices"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/fence"
	"holdfast/internal/mirror"
)

// The planted bugs that are more than a condition. Nothing here runs in a real ledger.

// plantReadThenClaim believes what it read before the claim.
func (p *proof) plantReadThenClaim(ctx context.Context) error {
	if err := p.readMirrors(ctx); err != nil {
		return err
	}
	early, merged := p.recovered, p.merged
	if err := p.claim(ctx); err != nil {
		return err
	}
	p.recovered = nil
	err := p.readMirrors(ctx) // the mirrors insist on it
	p.recovered, p.merged = early, merged
	return err
}

// plantServeEarly opens, then ships the tails.
func (p *proof) plantServeEarly(ctx context.Context) error {
	if err := p.open(ctx); err != nil {
		return err
	}
	p.ledger.setState(fence.Open, fence.Reason{})
	p.ledger.gate("serve early")
	return p.shipTails(ctx)
}

// plantRedo does the last change again that a mirror lacks.
func (p *proof) plantRedo(ctx context.Context) (err error) {
	for _, a := range slices.Sorted(maps.Keys(p.store)) {
		h := p.store[a]
		if h.Head.Seq <= p.merged[a].Head.Seq {
			continue
		}
		var c *frame.Change
		r, err := p.session.db.Read(ctx)
		if err != nil {
			return err
		}
		err = r.Changes(a, h.Head.Seq, h.Head.Seq, func(_ holdfast.Seq, _ holdfast.Hash, payload []byte) (err error) {
			c, err = frame.ParseChange(slices.Clone(payload))
			return err
		})
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
		c.Seq++
		payload, err := c.Encode(nil)
		if err != nil {
			return err
		}
		hash, err := frame.ChainHash(h.Head.Hash, payload)
		if err != nil {
			return err
		}
		tx, err := p.session.db.Begin(ctx)
		if err != nil {
			return err
		}
		if err := tx.Apply(c, payload, hash); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return p.readStoreHeads(ctx)
}

// plantBelieve gives a mirror no more than the first one has.
func plantBelieve(rec, first *mirror.Recovered) *mirror.Recovered {
	low := *rec
	low.Heads = maps.Clone(rec.Heads)
	for a, h := range rec.Heads {
		f, ok := first.Heads[a]
		switch {
		case !ok:
			delete(low.Heads, a)
		case f.Head.Seq < h.Head.Seq:
			low.Heads[a] = f
		}
	}
	return &low
}

// plantShip ships in a wrong order, or without the look at the claims.
func (s *session) plantShip(b *batch) error {
	look := func() error { return s.ledger.step("look", func() error { return s.look(context.Background()) }) }
	ship := func() error { return s.ledger.step("append", func() error { return s.append(b.frames) }) }
	if len(b.frames) == 0 {
		return look()
	}
	switch s.ledger.cfg.hooks.plant {
	case checkEarly:
		if err := look(); err != nil {
			return err
		}
		return ship()
	case ackEarly:
		s.ledger.publish(b, s.positions())
		b.answer(nil)
		b.requests = nil
		if err := ship(); err != nil {
			return err
		}
		return look()
	}
	return ship() // noCheck
}

// plantCommitted does too early what must wait for the mirrors.
func (s *session) plantCommitted(b *batch) {
	l := s.ledger
	switch l.cfg.hooks.plant {
	case exposeEarly:
		l.mu.RLock()
		positions := l.positions
		l.mu.RUnlock()
		l.publish(b, positions)
	case eagerHeads:
		l.mu.Lock()
		defer l.mu.Unlock()
		maps.Copy(l.lost, b.heads)
		l.headsDue = true
	case refuseEarly:
		b.requests = slices.DeleteFunc(b.requests, func(r *request) bool {
			if r.err != nil {
				close(r.done)
			}
			return r.err != nil
		})
	}
}
