package ledger

import (
	"context"
	"errors"
	"fmt"

	"holdfast"
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
