package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/fence"
	"holdfast/internal/store"
)

// Loss is what is known to be lost of one account, and what is there. It is for the operator who decides.
type Loss struct {
	Account   holdfast.AccountID `json:"account"`
	Closed    bool               `json:"closed"`         // by a loss; false: there is nothing to accept
	Fork      bool               `json:"fork,omitempty"` // closed because two copies differ: AdoptHistory
	Epoch     holdfast.Epoch     `json:"epoch"`          // of what is there
	Head      holdfast.Seq       `json:"head"`           // the last change that is there
	HeadTime  time.Time          `json:"head_time"`
	Common    holdfast.Seq       `json:"common"` // up to which, as far as is known, lost and present history are one
	Witnesses []LossWitness      `json:"witnesses"`
}

// LossWitness is one witness of a loss.
type LossWitness struct {
	Source string         `json:"source"`
	Epoch  holdfast.Epoch `json:"epoch"`
	Seq    holdfast.Seq   `json:"seq"` // the change it knows; the account had at least so many
	Hash   string         `json:"hash"`
	Differ bool           `json:"differs"` // it knows another change under a number that is there
}

// Changes returns how many changes are known to be lost: from Common on, as far as the witnesses know.
func (l *Loss) Changes() uint64 {
	var last holdfast.Seq
	for _, w := range l.Witnesses {
		last = max(last, w.Seq)
	}
	return uint64(max(last, l.Common) - l.Common)
}

// Loss says what is known to be lost of an account. ErrNotFound: there is no such account, nor was one.
func (l *Ledger) Loss(ctx context.Context, a holdfast.AccountID) (*Loss, error) {
	l.mu.RLock()
	c, closed := l.shut[a]
	db, state, why := l.db, l.state, l.reason
	_, known := l.heads[a]
	l.mu.RUnlock()
	if state == fence.Closed || db == nil || !db.acquire() {
		return nil, fmt.Errorf("fence closed: %s: %w", why.Full(), holdfast.ErrFenced)
	}
	defer db.release()
	if !closed && !known {
		return nil, fmt.Errorf("account %d: %w", a, holdfast.ErrNotFound)
	}
	r, err := db.Read(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at account %d: %w", a, err)
	}
	loss, err := lossOf(r, a, c.witnesses)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("look at account %d: %w", a, err)
	}
	loss.Fork = closed && c.Code == fence.Forked
	loss.Closed = closed && !loss.Fork
	return loss, nil
}

// lossOf judges the witnesses of an account by what the store has.
func lossOf(r *store.Reader, a holdfast.AccountID, ws []fence.Witness) (*Loss, error) {
	h, err := r.Head(a)
	if err != nil {
		return nil, err
	}
	l := &Loss{Account: a, Epoch: h.Epoch, Head: h.Head.Seq, Common: h.Head.Seq}
	if h.Head.Seq > 0 {
		last, err := r.ChangeAt(a, h.Head.Seq)
		if err != nil {
			return nil, err
		}
		l.HeadTime = time.UnixMilli(last.Time).UTC()
	}
	for _, w := range ws {
		l.Witnesses = append(l.Witnesses, LossWitness{w.Source, w.Epoch, w.Seq, fmt.Sprintf("%x", w.Prefix), w.Seq <= h.Head.Seq && w.Epoch <= h.Epoch})
		if w.Seq <= l.Common && w.Epoch <= h.Epoch {
			l.Common = w.Seq - 1
		}
		if w.Found == 0 {
			continue // it was judged before anything was written on what is there
		}
		// The account was put back before this term, and went on in it until the token came.
		before, err := r.LastBefore(a, w.Found)
		if err != nil {
			return nil, err
		}
		l.Common = min(l.Common, before)
	}
	return l, nil
}

// AcceptLoss opens an account that a witness keeps closed: what the witnesses know and no copy has is given
// up. The account begins a new epoch with a change that records what was accepted; devices that know the
// lost changes keep what they have and are told what changed since (A1). It returns what was accepted; of an
// account that is open it returns that nothing is closed, and does nothing. ErrDenied: the account is closed
// because two copies differ, which AdoptHistory settles.
func (l *Ledger) AcceptLoss(ctx context.Context, a holdfast.AccountID) (*Loss, error) {
	loss, err := l.Loss(ctx, a)
	if err != nil {
		return nil, err
	}
	if !loss.Closed {
		if c, closed := l.closures()[a]; closed {
			return loss, fmt.Errorf("account %d: %s; look with: holdfast fence diff, decide with: holdfast fence adopt: %w", a, c.Full(), holdfast.ErrDenied)
		}
		return loss, nil
	}
	if err := l.decide(ctx, a, &decision{}); err != nil {
		return loss, fmt.Errorf("accept the loss of account %d: %w", a, err)
	}
	return loss, nil
}

// acceptLosses carries out what an operator decided about accounts that a witness keeps closed.
func (p *proof) acceptLosses(ctx context.Context) error {
	wrote := false
	for a, d := range p.decisions {
		c, closed := p.shut[a]
		if d.adopt != "" || !closed {
			continue // settled, or it is open by itself: a newer copy was found
		}
		if c.Code == fence.Forked {
			d.err = fmt.Errorf("account %d: %s; compare with: holdfast fence diff: %w", a, c.Full(), holdfast.ErrDenied)
			continue
		}
		if err := p.lowerTo(ctx, a); err != nil {
			return err
		}
		if err := p.ledger.step("accept", func() error { return p.beginEpoch(ctx, a, c.witnesses, store.Newest) }); err != nil {
			return storeError("begin an epoch", err)
		}
		wrote = true
		delete(p.shut, a)
		delete(p.lost, a)
	}
	if !wrote {
		return nil
	}
	return p.readStoreHeads(ctx)
}

// beginEpoch writes the change that accepts what the witnesses know as lost. It is as durable as any other
// when the proof is done: the tail is shipped to every mirror before the fence opens.
func (p *proof) beginEpoch(ctx context.Context, a holdfast.AccountID, ws []fence.Witness, common holdfast.Seq) error {
	tx, err := p.session.db.Begin(ctx)
	if err != nil {
		return err
	}
	loss, err := p.raiseEpoch(tx, a, ws, common)
	if err == nil {
		err = tx.Commit()
	}
	if err := errors.Join(err, tx.Rollback()); err != nil { // nothing after a commit
		return err
	}
	p.report.accepted = append(p.report.accepted, loss)
	p.ledger.log.Warn("a loss was accepted", "account", a.String(), "head", loss.Head.String(), "common", loss.Common.String(), "changes", loss.Changes())
	return nil
}

// raiseEpoch applies the change that begins the next epoch of an account: above that of everything anybody
// knows. common is a bound for where the lost history parted from this one.
func (p *proof) raiseEpoch(tx *store.Tx, a holdfast.AccountID, ws []fence.Witness, common holdfast.Seq) (*Loss, error) {
	loss, err := lossOf(tx.Reader, a, ws)
	if err != nil {
		return nil, err
	}
	loss.Common = min(loss.Common, common)
	head, err := tx.Head(a)
	if err != nil {
		return nil, err
	}
	epoch := max(head.Epoch, 1)
	rec := &frame.Loss{Common: loss.Common}
	for _, w := range p.witnesses() {
		if w.Account == a {
			epoch = max(epoch, w.Epoch)
		}
	}
	for _, w := range ws {
		epoch = max(epoch, w.Epoch)
		rec.Witnesses = append(rec.Witnesses, frame.LossWitness{Epoch: w.Epoch, Seq: w.Seq, Prefix: w.Prefix, Source: w.Source})
	}
	c := &frame.Change{
		Account: a, Epoch: epoch + 1, Seq: head.Head.Seq + 1, Term: p.session.term, Time: p.ledger.now().UnixMilli(),
		Ops: []frame.Op{frame.LossOp(rec)},
	}
	payload, err := c.Encode(nil)
	if err != nil {
		return nil, err
	}
	hash, err := frame.ChainHash(head.Head.Hash, payload)
	if err != nil {
		return nil, err
	}
	return loss, tx.Apply(c, payload, hash)
}
