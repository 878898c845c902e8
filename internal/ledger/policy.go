package ledger

import (
	"fmt"

	"holdfast"
)

// Policy says what a server does while a mirror is away.
type Policy string

// The policies. The zero Policy is Strict.
const (
	Strict   Policy = "strict"   // writes wait until enough mirrors are complete again (the default)
	Degraded Policy = "degraded" // writes go on with fewer copies than configured, said aloud; never with none
)

// ParsePolicy reads a policy as the configuration has it. ErrInvalid.
func ParsePolicy(s string) (Policy, error) {
	switch p := Policy(s); p {
	case Strict, Degraded:
		return p, nil
	case "":
		return Strict, nil
	}
	return "", fmt.Errorf("policy %q: want strict or degraded: %w", s, holdfast.ErrInvalid)
}

// rules are the configured policy and the copies that are wanted beside the store.
type rules struct {
	policy Policy
	copies int // K; 0 = every mirror
}

// wanted returns K for m mirrors.
func (r rules) wanted(m int) int {
	if r.copies == 0 || r.copies > m {
		return m
	}
	return r.copies
}

// required returns how many of m mirrors must be claimed, read and complete before anything is written
// (rule R7; docs/decisions/20261121-how-many-mirrors.md). Strict takes K = m to mean that all K copies
// may lose data together (f = K), and K < m that one may (f = 1). At least one in any case: a write with
// no second copy is never acknowledged.
func (r rules) required(m int) int {
	if r.policy == Degraded {
		return 1
	}
	k := r.wanted(m)
	if k == m {
		return max(m, 1)
	}
	return max(k, m-k+1, m/2+1)
}

// check says what is wrong with the rules for m mirrors.
func (r rules) check(m int) error {
	if r.copies < 0 || r.copies > m {
		return fmt.Errorf("%d copies beside the store with %d mirrors: %w", r.copies, m, holdfast.ErrInvalid)
	}
	return nil
}
