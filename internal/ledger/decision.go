package ledger

import (
	"context"
	"errors"
	"fmt"

	"holdfast"
	"holdfast/internal/fence"
)

// errDecision ends a session because an operator has decided something about one account. It is carried
// out by the next proof, in a term of its own: reads go on meanwhile, writes wait for moments.
var errDecision = errors.New("an operator's decision is being carried out")

// errClaimDamaged says that the newest claim of a mirror cannot be read.
var errClaimDamaged = errors.New("the newest claim cannot be read")

// decision is what an operator decided about one closed account.
type decision struct {
	adopt string // the copy whose history goes on: "store" or a mirror's name; empty: accept the loss
	err   error  // why it was not carried out; set by the proof
	did   bool   // it was; set by the proof
	done  chan error
}

// decide has the next proof carry out a decision and waits for it.
func (l *Ledger) decide(ctx context.Context, a holdfast.AccountID, d *decision) error {
	d.done = make(chan error, 1)
	l.mu.Lock()
	if _, busy := l.decisions[a]; busy {
		l.mu.Unlock()
		return fmt.Errorf("account %d: another decision is being carried out: %w", a, holdfast.ErrExists)
	}
	l.decisions[a] = d
	l.mu.Unlock()
	l.tell(errDecision)
	select {
	case err := <-d.done:
		return err
	case <-l.ended:
		return fmt.Errorf("the ledger was closed meanwhile, look at the fence again: %w", holdfast.ErrFenced)
	case <-ctx.Done():
		return fmt.Errorf("wait for the decision: %w", ctx.Err())
	}
}

func (l *Ledger) takeDecisions() map[holdfast.AccountID]*decision {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.decisions
	l.decisions = map[holdfast.AccountID]*decision{}
	return taken
}

// answer tells who decided what became of it.
func (p *proof) answer(err error) {
	for _, d := range p.decisions {
		switch {
		case err != nil:
			d.done <- fmt.Errorf("the copies could not be compared; nothing is known to be done, look at the fence again: %w", err)
		default:
			d.done <- d.err
		}
	}
}

// refuseDecisions answers decisions that no proof will take.
func (l *Ledger) refuseDecisions(err error) {
	for _, d := range l.takeDecisions() {
		d.done <- fmt.Errorf("nothing was done: %w", err)
	}
}

// awaitTakeOver waits until the ledger ends (false), or an operator says that the other server is dead.
func (l *Ledger) awaitTakeOver(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-l.overtake:
		l.force = true
		return true
	}
}

// forgetTakeOver is called when the fence has opened: what was asked twice must not answer for the next server
// that takes over.
func (l *Ledger) forgetTakeOver() {
	l.force = false
	select {
	case <-l.overtake:
	default:
	}
}

// TakeOver claims the mirrors although another data directory claimed them last, or nobody can read who
// did. What the other server wrote is healed into this store first, so nothing of it is lost; but the
// other one must be dead, or each stops the other. It returns when the fence is open. ErrInvalid: nobody
// has taken over.
func (l *Ledger) TakeOver(ctx context.Context) error {
	l.mu.RLock()
	code, changed := l.reason.Code, l.changed
	if code != fence.TakenOver && code != fence.ClaimDamaged {
		l.mu.RUnlock()
		return fmt.Errorf("nobody else has claimed the mirrors, there is nothing to take over: %w", holdfast.ErrInvalid)
	}
	select {
	case l.overtake <- struct{}{}: // with the lock: see forgetTakeOver
	default: // asked already
	}
	l.mu.RUnlock()
	select {
	case <-changed: // the attempt moved the fence, at the latest to open
	case <-l.ended:
	case <-ctx.Done():
	}
	return l.WaitOpen(ctx)
}
