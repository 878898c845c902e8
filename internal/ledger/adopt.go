package ledger

import (
	"context"
	"fmt"

	"holdfast"
	"holdfast/internal/fence"
)

// AdoptHistory decides an account that is closed because copies have different histories: that of the copy
// from ("store", or a mirror's name) goes on. What the others have beyond it is kept as branches, and the
// account begins a new epoch, for what did not go on may have been acknowledged: devices that know it lose
// nothing by it. ErrInvalid: the account is not closed by a fork. ErrNotFound: there is no such copy.
func (l *Ledger) AdoptHistory(ctx context.Context, a holdfast.AccountID, from string) error {
	c, closed := l.closures()[a]
	switch {
	case from == "":
		return fmt.Errorf("adopt a history of no copy: %w", holdfast.ErrInvalid)
	case !closed || c.Code != fence.Forked && c.Code != fence.Unreadable:
		return fmt.Errorf("account %d is not closed by a fork, there is nothing to adopt: %w", a, holdfast.ErrInvalid)
	}
	if err := l.decide(ctx, a, &decision{adopt: from}); err != nil {
		return fmt.Errorf("adopt the history of %s for account %d: %w", from, a, err)
	}
	return nil
}
