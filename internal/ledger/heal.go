package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/fence"
	"holdfast/internal/mirror"
	"holdfast/internal/store"
)

// Changes are put into a store being healed in transactions of at most so many, or so many bytes.
const (
	healBatch      = 2000
	healBatchBytes = 32 << 20
)

// heal brings the store to what the mirrors have. It goes through the same Apply as a live write, so
// bodies, names and ETags are identical and devices notice nothing (F5).
func (p *proof) heal(ctx context.Context) error {
	p.report.healBegan = p.ledger.now()
	p.ledger.setState(fence.Closed, fence.Reason{Code: fence.Healing})
	var failed error
	done := HealProgress{Total: p.toHeal()}
	for i, m := range p.session.mirrors {
		if p.chosen[i].grade != complete || !p.ahead(p.recovered[i]) {
			continue
		}
		h := &healer{proof: p, mirror: m, done: &done}
		err := h.replay(ctx)
		p.report.healed(m.Name(), h.changes, h.blobs)
		if err != nil { // not a mirrorError: this store is behind, it must not be served meanwhile
			err = fmt.Errorf("heal from mirror %s: %w", m.Name(), err)
			p.ledger.log.Error("heal", "err", err)
		}
		if err != nil && !lasting(err) {
			failed = errors.Join(failed, err)
		}
		if err := p.readStoreHeads(ctx); err != nil {
			return err
		}
	}
	p.report.healEnded = p.ledger.now()
	for a, m := range p.merged {
		if _, closed := p.shut[a]; closed || p.store[a].Head == m.Head || p.store[a].Head.Seq > m.Head.Seq {
			continue
		}
		if failed != nil {
			return failed // another attempt, or another mirror, may do it
		}
		p.close(a, fence.Reason{Code: fence.Unreadable, Subject: p.holder(a, m), Detail: fmt.Sprintf("the mirrors end at change %d, but only %d could be read back", m.Head.Seq, p.store[a].Head.Seq)})
	}
	return nil
}

// lasting reports whether another attempt would fail alike, because of what the mirror holds. It
// concerns the accounts that were not reached; the others go on (F8).
func lasting(err error) bool {
	var fork *holdfast.HeadMismatchError
	return !errors.Is(err, errStoreGone) && (errors.Is(err, holdfast.ErrCorrupt) || errors.As(err, &fork))
}

// ahead reports whether a mirror has changes that the store lacks.
func (p *proof) ahead(rec *mirror.Recovered) bool {
	for a, h := range rec.Heads {
		if h.Head.Seq > p.store[a].Head.Seq {
			return true
		}
	}
	return false
}

// toHeal counts the changes that the mirrors have and the store has not.
func (p *proof) toHeal() (n int) {
	for a, h := range p.merged {
		if have := p.store[a].Head.Seq; h.Head.Seq > have {
			n += int(h.Head.Seq - have)
		}
	}
	return n
}

// healer replays one mirror into the store.
type healer struct {
	proof   *proof
	mirror  *mirror.Mirror
	done    *HealProgress // of all mirrors
	told    time.Time     // when of a large body last
	tx      *store.Tx
	pending int
	bytes   int
	changes int
	blobs   int
}

func (h *healer) replay(ctx context.Context) error {
	have := func(a holdfast.AccountID) holdfast.AccountHead { return h.proof.store[a] }
	err := h.mirror.Replay(ctx, have, func(r *mirror.Record) error { return h.apply(ctx, r) })
	if h.tx == nil {
		return err
	}
	// What was read before an error is good: each change was checked against the chain.
	if cerr := h.tx.Commit(); cerr != nil {
		return errors.Join(err, storeError("commit", cerr))
	}
	return err
}

// apply puts one change on the store, after its blobs.
func (h *healer) apply(ctx context.Context, r *mirror.Record) error {
	if _, closed := h.proof.shut[r.Account]; closed {
		return nil
	}
	c, err := frame.ParseChange(r.Payload)
	if err != nil {
		return err
	}
	if h.proof.ledger.planted(healSkips) && r.Seq%2 == 1 {
		c.Ops = c.Ops[1:]
	}
	for _, o := range c.Ops {
		if o.Blob == nil {
			continue
		}
		if err := h.blob(ctx, c.Account, *o.Blob); err != nil {
			return err
		}
	}
	if h.tx == nil {
		if h.tx, err = h.proof.session.db.Begin(ctx); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
	}
	if err := h.tx.Apply(c, r.Payload, r.Hash); err != nil {
		err = storeError(fmt.Sprintf("apply change %s of account %s", r.Seq, r.Account), err)
		err = errors.Join(err, h.tx.Rollback())
		h.tx = nil
		return err
	}
	h.changes++
	h.pending++
	h.done.Changes++
	h.done.Bytes += int64(len(r.Payload))
	if h.bytes += len(r.Payload); h.pending < healBatch && h.bytes < healBatchBytes {
		return nil
	}
	tx := h.tx
	h.tx, h.pending, h.bytes = nil, 0, 0
	h.proof.ledger.progress(*h.done)
	if err := tx.Commit(); err != nil {
		return storeError("commit", err)
	}
	return nil
}

// blob fetches a blob that the store lacks, or has cut. One that no copy has is reported, not hidden: the
// resource answers with an error until it is back, and the change keeps its place in the chain.
func (h *healer) blob(ctx context.Context, a holdfast.AccountID, b frame.Blob) error {
	l := h.proof.ledger
	has, err := l.blobs.Has(ctx, a, b)
	if err != nil && !errors.Is(err, holdfast.ErrCorrupt) { // a cut one is fetched again
		return fmt.Errorf("look for blob %s: %w", b.Hash, err)
	}
	if has && err == nil {
		return nil
	}
	found, err := h.proof.fetchBlob(ctx, a, b)
	if err != nil {
		return err
	}
	if found {
		h.blobs++
		h.done.Blobs++
		h.done.Bytes += b.Size
	}
	if time.Since(h.told) > time.Second {
		h.told = time.Now()
		l.progress(*h.done)
	}
	return nil
}

// fetchBlob copies a blob into the store from the first mirror that has it whole. One that none has is
// counted and reported; an error means that nobody knows yet.
func (p *proof) fetchBlob(ctx context.Context, a holdfast.AccountID, b frame.Blob) (found bool, err error) {
	l := p.ledger
	var all error
	for _, m := range p.session.mirrors {
		err := l.healBlobFrom(ctx, m, a, b)
		if err == nil {
			return true, nil
		}
		err = &mirrorError{m.Name(), fmt.Errorf("heal blob %s: %w", b.Hash, err)}
		if errors.Is(err, holdfast.ErrAbsent) || !errors.Is(err, holdfast.ErrNotFound) && !errors.Is(err, holdfast.ErrCorrupt) {
			return false, err
		}
		all = errors.Join(all, err)
	}
	p.report.missingBlobs++
	l.log.Error("blob is in no readable copy", "account", a.String(), "blob", b.Hash.String(), "err", all)
	return false, nil
}
