package ledger

import (
	"context"
	"errors"
	"maps"
	"slices"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/mirror"
)

// scrubRows reads every change of every account and proves its chain and commitments, and that the
// bodies it names are there in every copy.
func (s *scrubber) scrubRows(ctx context.Context, p *lap, c *copies, pace *pacer) error {
	n := &notice{copyName: p.Copy, part: p.Part}
	s.l.mu.RLock()
	heads := maps.Clone(s.l.heads)
	s.l.mu.RUnlock()
	w := &logWalk{s: s, lap: p, c: c}
	for _, a := range slices.Sorted(maps.Keys(heads)) {
		if a.String() <= p.Cursor && p.Cursor != "" || s.l.isShut(a) {
			continue
		}
		err := w.whole(ctx, a, 1, heads[a].Head.Seq, func(ch *frame.Change, f mirror.Frame) error {
			if err := pace.pay(ctx, int64(len(f.Payload))); err != nil {
				return err
			}
			return s.named(ctx, n, c, ch)
		})
		if errors.Is(err, holdfast.ErrCorrupt) {
			err = storeError("scrub", err)
			s.l.raise(err)
		}
		if err != nil {
			return err
		}
		s.moved(p, a.String(), 0)
	}
	return s.conclude(n)
}

// named proves that the bodies of a change are in every copy. Their bytes are read by a lap of their own.
func (s *scrubber) named(ctx context.Context, n *notice, c *copies, ch *frame.Change) error {
	for i := range ch.Ops {
		b := ch.Ops[i].Blob
		if b == nil {
			continue
		}
		has, err := s.l.blobs.Has(ctx, ch.Account, *b)
		if err == nil && !has || errors.Is(err, holdfast.ErrCorrupt) {
			n.damage = append(n.damage, "body "+b.Hash.String()+" is missing or cut in the store")
			err = s.healBlobOf(ctx, n, storeCopy, c, ch.Account, b.Hash)
		}
		if err != nil {
			return err
		}
		for _, m := range c.mirrors {
			has, err := m.HasBlob(ctx, ch.Account, *b)
			if err == nil && !has {
				n.damage = append(n.damage, "body "+b.Hash.String()+" is missing or cut in mirror "+m.Name())
				err = s.healBlobOf(ctx, n, m.Name(), c, ch.Account, b.Hash)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
