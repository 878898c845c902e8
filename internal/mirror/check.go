package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/bucket"
)

// Report is what Check found.
type Report struct {
	Logs, Segments, Batches, Changes, Orphans int
	Blobs                                     int // bodies read and verified
	Bytes                                     int64
	Heads                                     map[holdfast.AccountID]holdfast.AccountHead // that Replay gives
	Damage                                    []Damage                                    // Torn ends are listed, but no fault
	More                                      int                                         // damages that were not listed
	Refilled                                  []Damage                                    // of logs, of which nothing is lacking: newer segments have it too
}

// maxDamage bounds the list of damages in a report.
const maxDamage = 1000

// Bad reports whether there is damage to anything that was durable.
func (r *Report) Bad() bool {
	for _, d := range r.Damage {
		if d.Kind != Torn {
			return true
		}
	}
	return r.More > 0
}

func (r *Report) add(damage ...Damage) {
	for _, d := range damage {
		if len(r.Damage) == maxDamage {
			r.More++
			continue
		}
		r.Damage = append(r.Damage, d)
	}
}

// Check reads the whole mirror from the medium and verifies it: marker, claims, head file, every
// frame, chain, commit, footer and link, every operation against its commitment, every blob, and that
// Replay gives every change. It changes nothing and may run beside an open log. progress, which may be
// nil, is told the bytes done of the total. Damage is in the report; an error says that it could not
// be finished.
func (m *Mirror) Check(ctx context.Context, progress func(done, total int64)) (*Report, error) {
	c := &checker{m: m, progress: progress, Report: &Report{Heads: map[holdfast.AccountID]holdfast.AccountHead{}}}
	if err := c.run(ctx); err != nil {
		return nil, fmt.Errorf("check mirror %s: %w", m.cfg.Name, err)
	}
	return c.Report, nil
}

// checker is one call of Check.
type checker struct {
	*Report
	m        *Mirror
	progress func(done, total int64)
	total    int64

	blob func(holdfast.AccountID, frame.Blob) error  // instead of a look at a blob that a change names; may be nil
	last map[holdfast.AccountID]holdfast.AccountHead // that the last segment read ends with
}

func (c *checker) run(ctx context.Context) error {
	id, err := c.m.readMarker(ctx)
	if err == nil && id != c.m.id {
		err = fmt.Errorf("another mirror is in its place: %w", holdfast.ErrAbsent)
	}
	if err != nil {
		return err
	}
	for info, err := range c.m.cfg.Bucket.List(ctx, "") {
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		c.total += info.Size
	}
	rec, _, err := c.m.recover(ctx)
	if err != nil {
		return err
	}
	hf, damage, err := c.m.readHeads(ctx)
	if err != nil {
		return err
	}
	c.add(damage...)
	if err := c.claims(ctx); err != nil {
		return err
	}
	if err := c.logs(ctx, hf); err != nil {
		return err
	}
	if err := c.blobs(ctx); err != nil {
		return err
	}
	return c.replay(ctx, rec)
}

func (c *checker) advance(n int64) {
	if c.Bytes += n; c.progress != nil {
		c.progress(min(c.Bytes, c.total), c.total)
	}
}

func (c *checker) claims(ctx context.Context) error {
	claims, err := c.m.claims(ctx)
	if errors.Is(err, holdfast.ErrCorrupt) {
		c.add(Damage{Kind: Corrupt, Object: claimPrefix, Err: err})
		return nil
	}
	if err != nil {
		return err
	}
	highest := uint64(0)
	for n := range claims {
		highest = max(highest, n)
	}
	for n := uint64(1); n <= highest; n++ {
		cl, ok := claims[n]
		switch {
		case !ok && highest-n < maxSmallFiles:
			c.add(Damage{Kind: Missing, Object: claimName(n), Err: fmt.Errorf("claim %d: %w", n, holdfast.ErrNotFound)})
		case cl.Damaged:
			c.add(Damage{Kind: Corrupt, Object: claimName(n), Err: errors.New(cl.Note)})
		}
	}
	return nil
}

func (c *checker) logs(ctx context.Context, hf *headFile) error {
	logs, strange, err := c.m.logs(ctx)
	if err != nil {
		return err
	}
	c.add(strange...)
	c.Logs = len(logs)
	for i := range logs {
		if err := c.log(ctx, &logs[i], hf); err != nil {
			return err
		}
	}
	return nil
}

// log reads the segments of one log and compares each with the one before.
func (c *checker) log(ctx context.Context, l *logFiles, hf *headFile) error {
	if l.segments[0].first != 1 {
		c.add(Damage{Kind: Missing, Object: segmentName(l.term, 1, true), Pos: 1, Err: fmt.Errorf("first segment of the log: %w", holdfast.ErrNotFound)})
	}
	var before *reading
	for k := range l.segments {
		s := &l.segments[k]
		if err := ctx.Err(); err != nil {
			return err
		}
		t := tail{heads: map[holdfast.AccountID]holdfast.AccountHead{}}
		g, err := c.m.readSegment(ctx, s, hf, func(r *frame.Reader, b *frame.Batch, gap bool) error { return c.batch(ctx, s, r, b, gap, &t) })
		if err != nil {
			return err
		}
		c.Segments++
		c.advance(s.size)
		c.add(g.damage...)
		c.add(t.damage(s)...)
		if before != nil && before.footer != nil {
			c.add(link(&l.segments[k-1], before.footer, g.header)...)
			if g.header != nil && g.header.Chain != before.chain {
				c.add(Damage{Kind: Corrupt, Object: s.name, Pos: s.first, Err: fmt.Errorf("the log chain does not continue the segment before: %w", holdfast.ErrCorrupt)})
			}
		}
		before, c.last = g, t.heads
	}
	return nil
}

func (c *checker) batch(ctx context.Context, s *segment, r *frame.Reader, b *frame.Batch, gap bool, t *tail) error {
	c.Batches++
	if err := t.take(r, b, gap); err != nil {
		c.add(Damage{Kind: Corrupt, Object: s.name, Pos: b.Commit.First, Err: err})
	}
	for i := range b.Frames {
		f := &b.Frames[i]
		if !f.IsChange() {
			continue
		}
		c.Changes++
		payload, err := r.Load(f)
		if err != nil {
			return err
		}
		ch, err := frame.ParseChange(payload)
		if err != nil {
			c.add(Damage{Kind: Corrupt, Object: s.name, Offset: f.Offset, Pos: f.Pos, Err: err})
			continue
		}
		for k := range ch.Ops {
			if bl := ch.Ops[k].Blob; bl != nil {
				if err := c.named(ctx, ch.Account, *bl); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// named looks for a blob that a change names.
func (c *checker) named(ctx context.Context, a holdfast.AccountID, b frame.Blob) error {
	if c.blob != nil {
		return c.blob(a, b)
	}
	ok, err := c.m.HasBlob(ctx, a, b)
	if err != nil {
		return err
	}
	if !ok {
		c.add(Damage{Kind: Missing, Object: bucket.BlobName(a, b.Hash), Err: fmt.Errorf("blob of %d bytes: %w", b.Size, holdfast.ErrNotFound)})
	}
	return nil
}

// blobs reads every blob that is there.
func (c *checker) blobs(ctx context.Context) error {
	for info, err := range c.m.cfg.Bucket.List(ctx, "blobs/") {
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		a, h, err := bucket.ParseBlobName(info.Name)
		if err == nil {
			err = c.m.verifyBlob(ctx, a, frame.Blob{Hash: h, Size: info.Size})
		}
		c.Blobs++
		c.advance(info.Size)
		switch {
		case errors.Is(err, holdfast.ErrCorrupt), errors.Is(err, holdfast.ErrInvalid):
			c.add(Damage{Kind: Corrupt, Object: info.Name, Err: err})
		case err != nil:
			return err
		}
	}
	return nil
}

// replay proves that all that was promised can be had.
func (c *checker) replay(ctx context.Context, rec *Recovered) error {
	p := &replay{m: c.m, state: c.Heads, have: func(holdfast.AccountID) holdfast.AccountHead { return holdfast.AccountHead{} }}
	p.fn = func(*Record) error { return nil }
	err := p.run(ctx)
	c.Orphans = p.orphans
	var mismatch *holdfast.HeadMismatchError
	switch {
	case errors.Is(err, holdfast.ErrCorrupt) || errors.As(err, &mismatch):
		c.add(Damage{Kind: Corrupt, Object: logPrefix, Err: fmt.Errorf("replay: %w", err)})
	case err != nil:
		return err
	}
	found := len(c.Damage)
	for a, w := range rec.Witness {
		got := c.Heads[a]
		if got.Epoch < w.Epoch || got.Epoch == w.Epoch && got.Head.Seq < w.Head.Seq || got.Head.Seq == w.Head.Seq && got.Head.Hash != w.Head.Hash {
			c.add(Damage{Kind: Missing, Object: logPrefix, Err: fmt.Errorf("account %s ends at %s, but %s was durable: %w", a, got.Head, w.Head, holdfast.ErrNotFound)})
		}
	}
	if err == nil && len(c.Damage) == found {
		c.refilled()
	}
	return nil
}

// refilled takes the damage of logs from the list: Replay gave every change although it is there. Segments are never repaired in
// place; what one lost is appended again.
func (c *checker) refilled() {
	c.Damage = slices.DeleteFunc(c.Damage, func(d Damage) bool {
		if d.Kind == Torn || !strings.HasPrefix(d.Object, logPrefix) {
			return false
		}
		c.Refilled = append(c.Refilled, d)
		return true
	})
}
