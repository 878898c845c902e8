package ledger

import (
	"context"

	"holdfast"
)

// forkState is what is known of two copies of an account that differ.
type forkState struct{}

func (p *proof) settle(ctx context.Context) error { return nil }

// lowerTo lowers, for the new logs, the heads of mirrors that promise more of an account than the store has.
func (p *proof) lowerTo(ctx context.Context, a holdfast.AccountID) error { return nil }

// holder names the mirror that has head m of an account.
func (p *proof) holder(a holdfast.AccountID, m holdfast.AccountHead) string {
	for i, rec := range p.recovered {
		if rec.Heads[a] == m {
			return "mirror " + p.session.mirrors[i].Name()
		}
	}
	return "a mirror"
}
