package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/fence"
)

// How long the keeper waits before it tries again to open the fence.
const (
	retryFirst = 100 * time.Millisecond
	retryMost  = 10 * time.Second
	retryLogs  = 5 * time.Minute // after many attempts that began logs, of which each takes room in the mirrors
)

// keep is the life of the ledger: prove, serve, and when something is wrong prove again. It alone
// opens and closes the store.
func (l *Ledger) keep(ctx context.Context) {
	defer close(l.ended)
	if l.cfg.Look {
		l.keepLooking(ctx)
		return
	}
	headsDone := make(chan struct{})
	hctx, stopHeads := context.WithCancel(ctx)
	go func() { defer close(headsDone); l.keepHeads(hctx) }()
	scrubDone := make(chan struct{})
	go func() { defer close(scrubDone); l.scrub.run(hctx) }()
	l.keepServing(ctx)
	stopHeads()
	<-headsDone
	<-scrubDone
	closeBuckets(l, append(l.buckets, l.blobs.home))
}

func (l *Ledger) keepServing(ctx context.Context) {
	wait := retryFirst
	for ctx.Err() == nil {
		began, served := l.now(), false
		err := l.heldAlarm()
		if err == nil {
			var s *session
			if s, err = l.prove(ctx); err == nil {
				wait, served, l.begun = retryFirst, true, 0
				l.queue.open() // before anybody hears that the fence is open
				l.setState(fence.Open, fence.Reason{})
				l.forgetTakeOver()
				s.decided()
				l.tellUntold(ctx)
				err = s.serve(ctx)
				l.endSession(s, err)
				if err == nil {
					return
				}
			}
		}
		if !served && !errors.Is(err, errAgain) && l.takeOver.failed(err) {
			l.setState(fence.Closed, whyOf(err))
			break // a restore that did not open is for its person to try again
		}
		l.noteDamage(err)
		without := l.leaveOut(err)
		if !l.survive(ctx, err) {
			return
		}
		if without || errors.Is(err, errAgain) || l.useReserve(err) || errors.Is(err, errDecision) && served {
			continue
		}
		if !served || !errors.Is(err, errStoreGone) || l.now().Sub(began) < time.Second {
			l.pause(ctx, wait)
			wait = min(2*wait, l.patience())
		}
	}
	l.dropStore()
}

// patience is how long the keeper waits at most between attempts.
func (l *Ledger) patience() time.Duration {
	if l.begun > 20 {
		return retryLogs
	}
	return retryMost
}

// heldAlarm returns what a reader saw of a store that is served while a mirror is away. It must not be
// served on, and not be taken for proven when the mirror is back.
func (l *Ledger) heldAlarm() error {
	select {
	case err := <-l.alarm:
		if l.hasStore() && !errors.Is(err, errDecision) {
			return err
		}
	default:
	}
	return nil
}

// noteDamage remembers that the store itself gave what is false: damaged, or overwritten under us; or
// that a mirror did, which is then read whole before it counts again.
func (l *Ledger) noteDamage(err error) {
	var other *holdfast.HeadMismatchError
	if errors.Is(err, errStoreGone) && (errors.Is(err, holdfast.ErrCorrupt) || errors.As(err, &other)) {
		l.suspect = err
	}
	var inMirror *mirrorError
	if errors.As(err, &inMirror) && inMirror.name != "" && errors.Is(err, holdfast.ErrCorrupt) {
		if err := l.keepDoubt(inMirror.name); err != nil {
			l.log.Error("keep that a mirror is damaged", "mirror", inMirror.name, "err", err)
		}
	}
}

// survive decides what an error leaves: false if this process can do no more.
func (l *Ledger) survive(ctx context.Context, err error) bool {
	var inMirror *mirrorError
	switch {
	case ctx.Err() != nil:
		l.dropStore()
		return false
	case errors.Is(err, holdfast.ErrFatal):
		l.setState(fence.Closed, whyOf(err))
		l.condemn(err)
		l.dropStore()
		l.fatal <- err
		return false
	case errors.Is(err, errTakenOver) || (errors.As(err, &inMirror) && errors.Is(err, holdfast.ErrFenced)):
		l.setState(fence.Closed, whyOf(err))
		l.dropStore()
		l.refuseDecisions(err)
		l.refused(ctx)
		return l.awaitTakeOver(ctx) // an operator decides which of the two goes on
	case errors.Is(err, errDecision) && l.hasStore():
		l.setState(fence.Held, whyOf(err))
		return true
	case (errors.As(err, &inMirror) || errors.Is(err, errAgain)) && l.hasStore():
		l.setState(fence.Held, whyOf(err))
		return true
	}
	l.setState(fence.Closed, whyOf(err))
	l.dropStore()
	return true
}

// demote moves the fence as soon as something failed, before any request hears of it.
func (l *Ledger) demote(err error) {
	var inMirror *mirrorError
	if (errors.As(err, &inMirror) || errors.Is(err, errAgain)) && !errors.Is(err, holdfast.ErrFenced) && !errors.Is(err, holdfast.ErrFatal) {
		l.setState(fence.Held, whyOf(err))
		return
	}
	l.setState(fence.Closed, whyOf(err))
}

// errAgain ends a session because another one is wanted at once: with other mirrors, or by other rules.
var errAgain = errors.New("mirrors or their policy change")

// errStoreGone marks an error after which healing should begin without delay.
var errStoreGone = errors.New("the store cannot be used")

// pause waits, but not longer than until Close, or until a reader raises the alarm.
func (l *Ledger) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-l.joinNow: // mirrors or policy changed
	case err := <-l.alarm:
		if !errors.Is(err, errDecision) { // for which there is no reason to wait
			l.raise(err) // for heldAlarm
		}
	}
}

// endSession closes the logs; a clean end seals them. The store stays open if only a mirror failed; what
// a reader saw of it meanwhile stays in alarm, for heldAlarm.
func (l *Ledger) endSession(s *session, cause error) {
	l.mu.Lock()
	l.session = nil
	l.mu.Unlock()
	for i, lg := range s.logs {
		end := lg.Close
		if cause == nil {
			end = func() error { return lg.Seal(context.Background()) }
		}
		if err := end(); err != nil {
			// The log is complete without a seal: the next start reads its tail.
			l.log.Warn("end log", "mirror", s.mirrors[i].Name(), "err", err)
		}
	}
	s.third.close(l)
	if cause == nil {
		l.setState(fence.Closed, fence.Reason{Code: fence.Stopping})
		if err := l.writeHeads(context.Background()); err != nil {
			l.log.Warn("write head files", "err", err)
		}
		l.dropStore()
	}
}

func (l *Ledger) hasStore() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.db != nil
}

// dropStore waits for the last view and closes the store.
func (l *Ledger) dropStore() {
	l.mu.Lock()
	db := l.db
	l.db = nil
	l.mu.Unlock()
	if db == nil {
		return
	}
	if err := db.end(); err != nil {
		l.log.Warn("close store", "err", err)
	}
}

// adopt makes a proven session the one that is served.
func (l *Ledger) adopt(p *proof, key []byte) {
	s := p.session
	l.mu.Lock()
	old := l.buckets
	var damaged []holdfast.AccountID
	defer func() { // without the lock: it removes spare files, and a disk that hangs must stop nobody else
		l.mu.Unlock()
		closeBuckets(l, old)
		for _, a := range damaged {
			l.scrub.reprove(a)
		}
	}()
	for a := range l.damaged { // as the process before knew; a store that was made anew has none of it
		if _, known := l.shut[a]; !known {
			l.shut[a] = closure{Reason: fence.Reason{Code: fence.Mending}}
		}
	}
	clear(l.damaged)
	for a, c := range l.shut { // no proof reads all rows; the scrub does
		if _, closed := p.shut[a]; !closed && c.ofRows() && p.report.storeProblem == nil {
			p.shut[a] = c
			damaged = append(damaged, a)
		}
	}
	l.session = s
	l.db, l.mirrors, l.term, l.macKey, l.shut, l.lost = s.db, s.mirrors, s.term, key, p.shut, p.lost
	for _, w := range l.tokens[p.tokens:] { // came while this was being proven
		l.shutFor(w)
	}
	l.positions, l.buckets, l.paths = s.positions(), s.buckets, s.paths
	for _, m := range s.mirrors { // each was read whole and refilled if there was a doubt
		delete(l.doubted, m.Name())
	}
	known := l.heads
	l.heads = make(map[holdfast.AccountID]holdfast.AccountHead, len(s.committed))
	for a, h := range s.committed {
		// What the store has of a closed account may never have been acknowledged. Damaged rows say nothing about heads.
		if c, closed := l.shut[a]; closed && !c.ofRows() {
			if h, ok := known[a]; ok {
				l.heads[a] = h
			}
			continue
		}
		l.heads[a] = h
	}
	l.forgetTouched()
	l.headsDue = true
	l.tokens = slices.DeleteFunc(l.tokens, func(w fence.Witness) bool { // accepted
		_, closed := l.shut[w.Account]
		return !closed && w.Epoch < l.heads[w.Account].Epoch
	})
	switch { // came while this was being proven
	case len(l.decisions) > 0:
		l.tell(errDecision)
	case l.witnessAt != p.witnessAt:
		l.tell(fmt.Errorf("head witness %q: %w", l.witnessAt, errAgain))
	case l.rules != p.rules && len(s.mirrors) < l.rules.required(len(l.members)):
		l.tell(fmt.Errorf("policy %s: %w", l.rules.policy, errAgain))
	}
}

func closeBuckets(l *Ledger, buckets []*dir.Dir) {
	for _, b := range buckets {
		if err := b.Close(); err != nil {
			l.log.Warn("close mirror's directory", "path", b.Path(), "err", err)
		}
	}
}

// storeError says that the store cannot be used as it is.
func storeError(what string, err error) error {
	return fmt.Errorf("%s: %w: %w", what, errStoreGone, err)
}
