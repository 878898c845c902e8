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
	"holdfast/internal/store"
)

// settle decides about accounts of which two copies have different histories (R6), before the witnesses are
// asked. By itself it decides only what is certain; docs/decisions/20261121-which-history-goes-on.md:
//
//   - A history of a higher epoch goes on: an operator has decided before.
//   - The end of the store's history is given up where it certainly was never acknowledged nor shown: see
//     neverShown.
//   - All else is the operator's (AdoptHistory); then the account begins a new epoch, because the other end may
//     have been acknowledged.
//
// Nothing is thrown away: the end that does not go on is a branch file before anything is changed (F6).
func (p *proof) settle(ctx context.Context) error {
	for _, a := range slices.Sorted(maps.Keys(p.shut)) {
		if c := p.shut[a].Code; c != fence.Forked && c != fence.Unreadable {
			continue
		}
		if err := p.settleAccount(ctx, a); err != nil {
			return err
		}
	}
	for a, d := range p.decisions {
		if _, closed := p.shut[a]; d.adopt != "" && !closed && !d.did && d.err == nil {
			d.err = fmt.Errorf("account %d is not closed by a fork any more: %w", a, holdfast.ErrInvalid)
		}
	}
	return nil
}

// storeWins stands for the store among the mirrors' indexes.
const storeWins = -1

func (p *proof) settleAccount(ctx context.Context, a holdfast.AccountID) error {
	forks, err := p.forksOf(ctx, a)
	if err != nil {
		return err
	}
	winner, why := p.winner(ctx, a, forks)
	if why == "" {
		return nil
	}
	d := p.decisions[a]
	if d != nil && d.adopt == "" {
		d = nil // it is about a loss
	}
	var lost []fence.Witness // heads of histories that may have been acknowledged
	if at := slices.IndexFunc(forks, func(f *forkState) bool { return f.mirror == winner }); at >= 0 {
		if broken := forks[at].broken; broken != nil {
			if d != nil {
				d.err = fmt.Errorf("mirror %s cannot be read to the end of its history: %w", p.session.mirrors[winner].Name(), broken)
			}
			return nil
		}
		if lost, err = p.adoptMirror(ctx, a, forks[at], why, d != nil); err != nil {
			return err
		}
	}
	if err := p.giveUpMirrors(ctx, a, why, &lost); err != nil {
		return err
	}
	if d != nil && winner == storeWins {
		if err := p.ledger.step("accept", func() error { return p.beginEpoch(ctx, a, lost, p.commonOf(forks)) }); err != nil {
			return storeError("begin an epoch", err)
		}
	}
	if d != nil {
		d.did = true
	}
	delete(p.shut, a)
	return p.readStoreHeads(ctx)
}

// winner returns whose history of an account goes on, and why; no words: nobody can tell.
func (p *proof) winner(ctx context.Context, a holdfast.AccountID, forks []*forkState) (int, string) {
	if d := p.decisions[a]; d != nil && d.adopt != "" {
		if d.adopt == "store" {
			return storeWins, "an operator decided for the store"
		}
		for i, m := range p.session.mirrors {
			if d.adopt == m.Name() {
				return i, "an operator decided for mirror " + m.Name()
			}
		}
		d.err = fmt.Errorf("there is no copy %q; the copies are: store, %s: %w", d.adopt, strings.Join(p.mirrorNames(), ", "), holdfast.ErrNotFound)
	}
	best := p.store[a].Epoch
	at, unique := storeWins, true
	for _, f := range forks {
		switch e := f.theirs.head.Epoch; {
		case e > best:
			best, at, unique = e, f.mirror, true
		case e == best && (at == storeWins || f.theirs.head != p.recovered[at].Heads[a]):
			unique = false
		}
	}
	if unique && len(forks) > 0 {
		return at, "its epoch is higher: an operator has decided before"
	}
	if len(forks) > 0 && p.neverShown(ctx, a, forks) {
		return forks[0].mirror, "what the store has was never acknowledged: its term ended before the other one began"
	}
	return storeWins, ""
}

func (p *proof) mirrorNames() []string {
	var names []string
	for _, m := range p.session.mirrors {
		names = append(names, m.Name())
	}
	return names
}

// neverShown reports whether the end of the store's history was certainly never acknowledged nor shown, so that
// nobody misses it. Every mirror has to show it: all have the other history, whole, of a later term; all took
// part in the store's term and lack its end, in logs without damage. The head file must be of the same term as
// the store, so that it is not another disk's; and no witness may know a change of the store's end.
func (p *proof) neverShown(ctx context.Context, a holdfast.AccountID, forks []*forkState) bool {
	if len(forks) != len(p.session.mirrors) || !p.allComplete() {
		return false
	}
	term, err := p.session.db.Term(ctx)
	if err != nil || p.heads.Term != term.String() {
		return false
	}
	for _, f := range forks {
		head := p.recovered[f.mirror].Heads[a]
		switch {
		case f.broken != nil, head != forks[0].theirs.head, f.theirs.head != head, f.common != forks[0].common,
			f.ours.lowest != term, f.ours.highest != term, f.ours.changes > 2*maxBatch,
			f.theirs.lowest.Number <= term.Number, !p.tookPart(ctx, f.mirror, term):
			return false
		}
	}
	for _, w := range p.witnesses() {
		if w.Account != a || w.Epoch < forks[0].theirs.head.Epoch || w.Seq <= forks[0].common.Seq {
			continue
		}
		if h, ok := forks[0].hashes[w.Seq]; !ok || !strings.HasPrefix(string(h[:]), string(w.Prefix)) {
			return false
		}
	}
	return true
}

// allComplete reports whether every configured mirror is there and was complete when it was seen last: whatever was
// acknowledged, with however few copies, is in one of them.
func (p *proof) allComplete() bool {
	p.ledger.mu.RLock()
	n := len(p.ledger.mirrorsAt)
	p.ledger.mu.RUnlock()
	return len(p.chosen) == n && !slices.ContainsFunc(p.chosen, func(c *candidate) bool { return c.grade != complete })
}

// tookPart reports whether a mirror has the claim and the log of a term, and lost nothing of any log.
func (p *proof) tookPart(ctx context.Context, i int, t holdfast.Term) bool {
	rec := p.recovered[i]
	if !slices.ContainsFunc(rec.Logs, func(l mirror.LogInfo) bool { return l.Term == t }) {
		return false
	}
	if slices.ContainsFunc(rec.Damage, func(d mirror.Damage) bool { return d.Kind != mirror.Torn }) {
		return false
	}
	claims, err := p.session.mirrors[i].Terms(ctx)
	return err == nil && slices.ContainsFunc(claims, func(c mirror.Claim) bool { return c.Term == t && !c.Damaged })
}

// adoptMirror makes a mirror's history that of the store: the store's end is a branch first, then, in
// one transaction, it is undone and the mirror's changes are put in its place. It returns what may have been
// acknowledged of the store's end.
func (p *proof) adoptMirror(ctx context.Context, a holdfast.AccountID, f *forkState, why string, decided bool) ([]fence.Witness, error) {
	var lost []fence.Witness
	if f.ours.changes > 0 {
		name, err := p.branchOfStore(ctx, a, f.common, why)
		if err != nil {
			return nil, err
		}
		lost = append(lost, witnessOf(p.store[a], "branch "+name))
	}
	err := p.ledger.step("adopt", func() error { return p.replaceTail(ctx, a, f, decided, lost) })
	if err != nil {
		return nil, storeError("adopt a history", err)
	}
	p.report.settled = append(p.report.settled, fmt.Sprintf("account %d: the history of mirror %s goes on after change %d, because %s", a, p.session.mirrors[f.mirror].Name(), f.common.Seq, why))
	return lost, p.readStoreHeads(ctx)
}

// replaceTail undoes the store's end of an account and applies that of a mirror.
func (p *proof) replaceTail(ctx context.Context, a holdfast.AccountID, f *forkState, decided bool, lost []fence.Witness) error {
	tx, err := p.session.db.Begin(ctx)
	if err != nil {
		return err
	}
	err = tx.Rewind(ctx, a, f.common.Seq)
	if err == nil {
		err = p.applyTail(ctx, tx, a, f)
	}
	var loss *Loss
	if err == nil && decided {
		loss, err = p.raiseEpoch(tx, a, lost, f.common.Seq)
	}
	if err == nil {
		err = tx.Commit()
	}
	if err := errors.Join(err, tx.Rollback()); err != nil {
		return err
	}
	if loss != nil {
		p.report.accepted = append(p.report.accepted, loss)
	}
	return nil
}

// applyTail puts what a mirror has of an account above the common change on the store.
func (p *proof) applyTail(ctx context.Context, tx *store.Tx, a holdfast.AccountID, f *forkState) error {
	h := &healer{proof: p, mirror: p.session.mirrors[f.mirror], done: &HealProgress{}}
	reached := f.common
	err := p.replayAccount(ctx, f.mirror, a, f.common, func(r *mirror.Record) error {
		c, err := frame.ParseChange(r.Payload)
		if err != nil {
			return err
		}
		for _, o := range c.Ops {
			if o.Blob == nil {
				continue
			}
			if err := h.blob(ctx, a, *o.Blob); err != nil {
				return err
			}
		}
		reached = holdfast.Head{Seq: r.Seq, Hash: r.Hash}
		return tx.Apply(c, r.Payload, r.Hash)
	})
	if err != nil && !lasting(err) {
		return err
	}
	if reached != f.theirs.head.Head {
		return fmt.Errorf("mirror %s gave %s, it had %s: %w", p.session.mirrors[f.mirror].Name(), reached, f.theirs.head.Head, errors.Join(holdfast.ErrCorrupt, err))
	}
	return nil
}

// giveUpMirrors gives up the ends of mirrors that differ from the store now: each is a branch first; then the
// mirror's new log begins below it, and gets the store's end like any other tail.
func (p *proof) giveUpMirrors(ctx context.Context, a holdfast.AccountID, why string, lost *[]fence.Witness) error {
	forks, err := p.forksOf(ctx, a)
	if err != nil {
		return err
	}
	for _, f := range forks {
		name := "of nothing that could be read"
		if f.theirs.changes > 0 {
			if name, err = p.branchOfMirror(ctx, a, f, why); err != nil {
				return err
			}
		}
		*lost = append(*lost, witnessOf(p.recovered[f.mirror].Heads[a], "branch "+name))
		p.lower(f.mirror, a, f.common)
		p.report.settled = append(p.report.settled, fmt.Sprintf("account %d: the history of the store goes on after change %d in mirror %s too, because %s", a, f.common.Seq, p.session.mirrors[f.mirror].Name(), why))
	}
	return nil
}

// lower has the new log of mirror i begin with an older head of an account.
func (p *proof) lower(i int, a holdfast.AccountID, to holdfast.Head) {
	low := *p.recovered[i]
	low.Heads = maps.Clone(low.Heads)
	h := low.Heads[a]
	h.Head = to
	if low.Heads[a] = h; to.Seq == 0 {
		delete(low.Heads, a)
	}
	p.recovered[i] = &low
}

// lowerTo lowers, for the new logs, the heads of mirrors that promise more of an account than the store has,
// after what can be read of it was kept as a branch.
func (p *proof) lowerTo(ctx context.Context, a holdfast.AccountID) error {
	var lost []fence.Witness
	return p.giveUpMirrors(ctx, a, "an operator accepted the loss of what cannot be read back", &lost)
}

// holder names the mirror that has head m of an account.
func (p *proof) holder(a holdfast.AccountID, m holdfast.AccountHead) string {
	for i, rec := range p.recovered {
		if rec.Heads[a] == m {
			return "mirror " + p.session.mirrors[i].Name()
		}
	}
	return "a mirror"
}

func (p *proof) commonOf(forks []*forkState) holdfast.Seq {
	common := holdfast.Seq(store.Newest)
	for _, f := range forks {
		common = min(common, f.common.Seq)
	}
	return common
}
