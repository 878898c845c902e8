package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"holdfast"
	"holdfast/internal/fence"
	"holdfast/internal/store"
)

// Looking (Config.Look). A command that only reads proves what is there as a start does, but claims nothing and
// heals nothing: it may be run on a copy of the data directory, beside a server on another machine, and nobody
// hears of it. Claims are read before the logs, and looked at again before anything is shown (R5, F10). What is
// shown of an account is what the store and every complete mirror have in common. Where a start would have to
// make copies equal first, the fence is held, or closed if it is the store that lacks something.

// keepLooking is the life of a ledger that only looks.
func (l *Ledger) keepLooking(ctx context.Context) {
	l.queue.stop(fmt.Errorf("this command only reads: %w", holdfast.ErrDenied))
	l.setState(l.look(ctx))
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case err := <-l.alarm: // somebody claimed the mirrors, or the store was replaced
			l.setState(fence.Closed, whyOf(err))
		}
	}
	l.setState(fence.Closed, fence.Reason{Code: fence.Stopping})
	l.dropStore()
	closeBuckets(l, append(l.buckets, l.blobs.home))
}

// look compares the copies once.
func (l *Ledger) look(ctx context.Context) (fence.State, fence.Reason) {
	p := l.newProof()
	hf, err := readHeadFile(l.cfg)
	if err == nil {
		p.heads = hf
		err = p.lookAtAll(ctx)
	}
	p.session.third.close(l) // what it knows was asked
	p.session.third = nil
	if err != nil {
		p.abandon(err)
		return fence.Closed, whyOf(err)
	}
	shown, lacks, err := p.lookAtHeads(ctx)
	if err == nil {
		err = p.lookAgain(ctx)
	}
	if err == nil {
		err = p.show(ctx, shown)
	}
	if err != nil {
		p.abandon(err)
		return fence.Closed, whyOf(err)
	}
	l.noteLive(p)
	return l.noteLacks(lacks)
}

// lookAtAll opens and reads every copy, in the order of a proof.
func (p *proof) lookAtAll(ctx context.Context) error {
	for _, step := range []func(context.Context) error{p.openMirrors, p.openWitness, p.lookAtClaims, p.readMirrors, p.lookAtStore} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// lookAtClaims finds out whose the mirrors are. The newest claim is the term that is looked at.
func (p *proof) lookAtClaims(ctx context.Context) error {
	for _, m := range p.session.mirrors {
		claims, err := m.Terms(ctx)
		if err != nil {
			return &mirrorError{m.Name(), err}
		}
		if err := p.ours(m.Name(), claims); err != nil {
			return err
		}
		if n := len(claims); n > 0 && claims[n-1].Term.Number > p.session.term.Number {
			p.session.term = claims[n-1].Term
		}
	}
	return nil
}

// lookAtStore opens the store as it is. What a start would make anew is left alone.
func (p *proof) lookAtStore(ctx context.Context) error {
	st, err := store.Open(ctx, storeConfig(p.ledger.cfg))
	if errors.Is(err, holdfast.ErrAbsent) || errors.Is(err, holdfast.ErrCorrupt) {
		return &unhealedError{fmt.Errorf("open store: %w", err)}
	}
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	p.session.db = share(st)
	return nil
}

// unhealedError says that the store cannot be shown before a start has healed it.
type unhealedError struct{ err error }

func (e *unhealedError) Error() string { return e.err.Error() }
func (e *unhealedError) Unwrap() error { return e.err }

// lookAtHeads compares heads, asks the witnesses, and finds for each account what all copies have. It returns, too,
// what mirrors lack, by name.
func (p *proof) lookAtHeads(ctx context.Context) (shown map[holdfast.AccountID]holdfast.AccountHead, lacks map[string]string, err error) {
	if err := p.readStoreHeads(ctx); err != nil {
		return nil, nil, err
	}
	behind, err := p.behind(ctx)
	if err != nil {
		return nil, nil, err
	}
	if behind {
		return nil, nil, &unhealedError{errors.New(p.storeLacks())}
	}
	if err := p.judgeTold(ctx); errors.Is(err, holdfast.ErrFenced) {
		return nil, nil, &unhealedError{err}
	} else if err != nil {
		return nil, nil, err
	}
	if err := p.judgeWitnesses(ctx); err != nil {
		return nil, nil, err
	}
	for _, a := range p.heads.Damaged {
		p.close(a, fence.Reason{Code: fence.Mending})
	}
	shown, lacks = maps.Clone(p.store), map[string]string{}
	for i, c := range p.chosen {
		lack := uint64(0)
		for a, h := range p.store {
			has := p.recovered[i].Heads[a]
			if _, closed := p.shut[a]; closed || has.Head.Seq >= h.Head.Seq {
				continue
			}
			lack += uint64(h.Head.Seq - has.Head.Seq)
			if c.grade == complete && has.Head.Seq < shown[a].Head.Seq {
				shown[a] = has
			}
		}
		switch {
		case c.grade != complete || lack > 0:
			lacks[c.Name] = fmt.Sprintf("it lacks %d changes of the store", lack)
		case incomplete(p.recovered[i]) || p.ledger.doubts(c.Name):
			lacks[c.Name] = "it is damaged in part"
		}
	}
	return shown, lacks, nil
}

// storeLacks says what the mirrors have and the store has not.
func (p *proof) storeLacks() string {
	changes, accounts := uint64(0), 0
	for a, m := range p.merged {
		if s := p.store[a].Head.Seq; m.Head.Seq > s {
			changes += uint64(m.Head.Seq - s)
			accounts++
		}
	}
	return fmt.Sprintf("the mirrors have %d changes of %d accounts that the store has not", changes, accounts)
}

// show makes what was found the state that views show.
func (p *proof) show(ctx context.Context, heads map[holdfast.AccountID]holdfast.AccountHead) error {
	l := p.ledger
	key, err := l.readTokenKey(ctx, p.session.db.Store, heads[holdfast.Server].Head)
	if err != nil {
		return storeError("read account 0", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.db, l.mirrors, l.buckets, l.paths, l.term, l.macKey = p.session.db, p.session.mirrors, p.session.buckets, p.session.paths, p.session.term, key
	l.heads, l.shut, l.lost = heads, p.shut, p.lost
	return nil
}

// lookAgain proves that nobody claimed the mirrors while they were read.
func (p *proof) lookAgain(ctx context.Context) error {
	for _, m := range p.session.mirrors {
		if err := m.CheckTerm(ctx, p.session.term); errors.Is(err, holdfast.ErrFenced) {
			return &mirrorError{m.Name(), err}
		}
	}
	return nil
}

// noteLacks is the state of the fence as far as it can be without a claim: open if nothing has to be filled up first.
func (l *Ledger) noteLacks(lacks map[string]string) (fence.State, fence.Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for i := range l.info {
		s := &l.info[i]
		if what, ok := lacks[s.Name]; ok {
			s.State = what + "; the next start of the server fills it up"
			s.count(false, l)
			all = append(all, "mirror "+s.Name+": "+what)
		}
	}
	if len(all) == 0 {
		return fence.Open, fence.Reason{}
	}
	return fence.Held, fence.Reason{Code: fence.Unequal, Detail: strings.Join(all, "; ")}
}
