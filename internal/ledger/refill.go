package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/fence"
	"holdfast/internal/mirror"
)

// shipTails appends to each mirror what the store has and it lacks (R10, R12), blobs first (L7).
func (p *proof) shipTails(ctx context.Context) error {
	for i, m := range p.session.mirrors {
		for _, a := range slices.Sorted(maps.Keys(p.store)) {
			h := p.store[a]
			if _, closed := p.shut[a]; closed {
				continue
			}
			from := p.recovered[i].Heads[a].Head.Seq + 1
			if p.ledger.planted(oneMirrored) {
				from = p.merged[a].Head.Seq + 1
			}
			if from > h.Head.Seq {
				continue
			}
			n, err := p.shipTail(ctx, i, h, from)
			if err != nil {
				var own *mirrorError
				if errors.As(err, &own) {
					return err
				}
				if errors.Is(err, holdfast.ErrCorrupt) && !errors.Is(err, holdfast.ErrFatal) { // F8: it concerns nobody else
					p.close(a, fence.Reason{Code: fence.Unreadable, Subject: "mirror " + m.Name(), Detail: fmt.Sprintf("from change %d on, nor does the store give them: %s", from+holdfast.Seq(n), err)})
					continue
				}
				return storeError("read tail", err)
			}
			p.report.shipped(m.Name(), n)
		}
	}
	return nil
}

// shipTail appends changes from..head of one account to the log of mirror i.
func (p *proof) shipTail(ctx context.Context, i int, h holdfast.AccountHead, from holdfast.Seq) (n int, err error) {
	r, err := p.session.db.Read(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var frames []mirror.Frame
	size := 0
	flush := func() error {
		if len(frames) == 0 {
			return nil
		}
		if err := p.session.logs[i].Append(ctx, frames); err != nil {
			return &mirrorError{p.session.mirrors[i].Name(), err}
		}
		n, frames, size = n+len(frames), nil, 0
		return nil
	}
	err = r.Changes(h.Account, from, h.Head.Seq, func(seq holdfast.Seq, hash holdfast.Hash, payload []byte) error {
		c, err := frame.ParseChange(payload)
		if err != nil {
			return err
		}
		if err := p.shipBlobs(ctx, p.session.mirrors[i], c); err != nil {
			return err
		}
		frames = append(frames, mirror.Frame{Account: h.Account, Epoch: c.Epoch, Seq: seq, Hash: hash, Term: c.Term, Payload: payload})
		if size += len(payload); len(frames) >= maxBatch || size >= maxBatchBytes {
			return flush()
		}
		return nil
	})
	if err != nil {
		return n, err
	}
	return n, flush()
}

func (p *proof) shipBlobs(ctx context.Context, m *mirror.Mirror, c *frame.Change) error {
	for _, o := range c.Ops {
		if o.Blob == nil {
			continue
		}
		has, err := m.HasBlob(ctx, c.Account, *o.Blob)
		if err != nil {
			return &mirrorError{m.Name(), err}
		}
		if has {
			continue
		}
		if err := p.shipBlob(ctx, m, c.Account, *o.Blob); err != nil {
			return err
		}
	}
	return nil
}

// shipBlob copies one blob into mirror m. What the store lost of it comes from another mirror; what no
// copy has is reported and does not keep all accounts closed.
func (p *proof) shipBlob(ctx context.Context, m *mirror.Mirror, a holdfast.AccountID, b frame.Blob) error {
	err := p.ledger.mirrorBlob(ctx, m, a, b)
	if !errors.Is(err, holdfast.ErrAbsent) && (errors.Is(err, holdfast.ErrNotFound) || errors.Is(err, holdfast.ErrCorrupt)) {
		found, ferr := p.fetchBlob(ctx, a, b)
		if ferr != nil || !found {
			return ferr
		}
		err = p.ledger.mirrorBlob(ctx, m, a, b)
	}
	if err != nil {
		return &mirrorError{m.Name(), err}
	}
	return nil
}

// lowerDamaged reads a mirror whole that lost something of its last logs, and lowers its heads to what
// came back, as far as the store has the rest: that is refilled into the new log, and only then does the
// mirror count again (R12). What the store lacks too keeps its head, so that nobody forgets it.
func (p *proof) lowerDamaged(ctx context.Context) error {
	for i, rec := range p.recovered {
		m := p.session.mirrors[i]
		if p.chosen[i].grade != complete || !incomplete(rec) && !p.ledger.doubts(m.Name()) {
			continue
		}
		p.ledger.log.Warn("mirror is damaged: reading all of it", "mirror", m.Name())
		got, err := readWhole(ctx, m)
		if err != nil && !lasting(err) {
			return &mirrorError{m.Name(), err}
		}
		low := *rec
		low.Heads = maps.Clone(rec.Heads)
		for a, h := range rec.Heads {
			if _, closed := p.shut[a]; closed || got[a].Head.Seq >= h.Head.Seq || p.store[a].Head.Seq < h.Head.Seq {
				continue
			}
			if low.Heads[a] = got[a]; got[a].Head.Seq == 0 {
				delete(low.Heads, a)
			}
		}
		p.recovered[i] = &low
	}
	return nil
}

// doubts reports whether a mirror gave what is false and was not refilled since.
func (l *Ledger) doubts(name string) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.doubted[name]
}

// readWhole returns the heads that a mirror can be replayed to, verified from the first change on.
func readWhole(ctx context.Context, m *mirror.Mirror) (map[holdfast.AccountID]holdfast.AccountHead, error) {
	got := map[holdfast.AccountID]holdfast.AccountHead{}
	none := func(holdfast.AccountID) holdfast.AccountHead { return holdfast.AccountHead{} }
	err := m.Replay(ctx, none, func(r *mirror.Record) error {
		got[r.Account] = holdfast.AccountHead{Account: r.Account, Epoch: r.Epoch, Head: holdfast.Head{Seq: r.Seq, Hash: r.Hash}}
		return nil
	})
	return got, err
}

// rebuildable reports whether the mirrors together give back every change that they should have. A
// damaged store is better than none, so this is asked before it is given up.
func (p *proof) rebuildable(ctx context.Context) error {
	lacking := maps.Clone(p.merged)
	var failed error
	for _, m := range p.session.mirrors {
		got, err := readWhole(ctx, m)
		failed = errors.Join(failed, err)
		maps.DeleteFunc(lacking, func(a holdfast.AccountID, h holdfast.AccountHead) bool { return got[a].Head == h.Head })
	}
	if len(lacking) > 0 {
		return fmt.Errorf("%d accounts cannot be rebuilt from the mirrors: %w: %w", len(lacking), holdfast.ErrCorrupt, failed)
	}
	return nil
}

// incomplete reports whether Recover found damage in the log that the heads come from, or in a later
// one. An earlier log's was refilled when it was found.
func incomplete(rec *mirror.Recovered) bool {
	from := "log/"
	for _, l := range rec.Logs {
		if l.Used {
			from = "log/" + l.Term.String()
		}
	}
	return slices.ContainsFunc(rec.Damage, func(d mirror.Damage) bool {
		return d.Kind != mirror.Torn && strings.HasPrefix(d.Object, "log/") && d.Object >= from
	})
}
