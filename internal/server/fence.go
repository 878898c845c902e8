package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"holdfast"
	"holdfast/internal/ledger"
)

// Requests and answers of the operations on the fence.
type (
	// FenceRequest names an account, by name or by number.
	FenceRequest struct {
		Account string `json:"account,omitempty"`
		All     bool   `json:"all,omitempty"`  // every account that is closed
		Logs    bool   `json:"logs,omitempty"` // fence/branches: read the mirrors' logs for branches first
	}
	// FenceLoss is what is known to be lost of one account.
	FenceLoss struct {
		ledger.Loss
		Name  string `json:"name,omitempty"`  // of the account; empty: not known while account 0 is closed
		Error string `json:"error,omitempty"` // why nothing was done
	}
	// FenceStatus is the fence in full.
	FenceStatus struct {
		Status
		Fences   []FenceAccount  `json:"fences"`
		Branches []ledger.Branch `json:"branches,omitempty"`
	}
	// FenceAccount is the fence of one account.
	FenceAccount struct {
		ledger.AccountFence
		Name string `json:"name,omitempty"`
	}
	// FenceDiff is what the copies of one account have.
	FenceDiff struct {
		ledger.Diff
		Name string `json:"name,omitempty"`
	}
	// FenceAdopt is an operator's decision.
	FenceAdopt struct {
		Account  string `json:"account,omitempty"`
		From     string `json:"from,omitempty"` // "store", or a mirror's name
		TakeOver bool   `json:"take_over,omitempty"`

		Claims []string `json:"claims,omitempty"` // with TakeOver: the terms of FenceStatus.Claimants that the operator was shown
	}
	// FenceExport names a branch and where to write it.
	FenceExport struct {
		Branch string `json:"branch"`
		Dir    string `json:"dir"` // absolute
	}
	// FenceExported is what was written.
	FenceExported struct {
		Files int    `json:"files"`
		Error string `json:"error,omitempty"` // what could not be
	}
)

// fenceOperations are the operator's verbs for accounts that are closed.
func (d *Dir) fenceOperations() map[string]operation {
	return map[string]operation{
		"fence/loss": op(func(ctx context.Context, in FenceRequest) ([]FenceLoss, error) {
			return d.eachClosed(ctx, in, d.Ledger.Loss)
		}),
		"fence/accept-loss": op(func(ctx context.Context, in FenceRequest) ([]FenceLoss, error) {
			return d.eachClosed(ctx, in, d.Ledger.AcceptLoss)
		}),
		"fence/status": op(func(ctx context.Context, _ Nothing) (FenceStatus, error) { return d.fenceStatus(ctx) }),
		"fence/diff": op(func(ctx context.Context, in FenceRequest) (FenceDiff, error) {
			named := d.accountNames(ctx)
			a, err := accountOf(named, in.Account)
			if err != nil {
				return FenceDiff{}, err
			}
			diff, err := d.Ledger.Diff(ctx, a)
			if err != nil {
				return FenceDiff{}, err
			}
			return FenceDiff{*diff, named[a]}, nil
		}),
		"fence/branches": op(func(ctx context.Context, in FenceRequest) ([]ledger.Branch, error) { return d.branches(ctx, in) }),
		"fence/export": op(func(ctx context.Context, in FenceExport) (FenceExported, error) {
			n, err := d.Ledger.ExportBranch(ctx, in.Branch, in.Dir)
			if err != nil && n > 0 {
				return FenceExported{n, err.Error()}, nil
			}
			return FenceExported{Files: n}, err
		}),
		"fence/adopt": op(func(ctx context.Context, in FenceAdopt) (Nothing, error) {
			if in.TakeOver {
				return Nothing{}, d.takeOver(ctx, in.Claims)
			}
			a, err := accountOf(d.accountNames(ctx), in.Account)
			if err != nil {
				return Nothing{}, err
			}
			return Nothing{}, d.Ledger.AdoptHistory(ctx, a, in.From)
		}),
	}
}

// takeOver claims the mirrors from those whose claims an operator was shown.
func (d *Dir) takeOver(ctx context.Context, claims []string) error {
	var shown []holdfast.Term
	for _, c := range claims {
		t, err := holdfast.ParseTerm(c)
		if err != nil {
			return fmt.Errorf("claim %q: %w: %w", c, err, holdfast.ErrInvalid)
		}
		shown = append(shown, t)
	}
	return d.Ledger.TakeOver(ctx, shown)
}

// eachClosed runs do on the accounts that a request names. One that fails does not stop the others.
func (d *Dir) eachClosed(ctx context.Context, in FenceRequest, do func(context.Context, holdfast.AccountID) (*ledger.Loss, error)) ([]FenceLoss, error) {
	named := d.accountNames(ctx)
	var which []holdfast.AccountID
	switch {
	case in.All == (in.Account != ""):
		return nil, fmt.Errorf("name an account, or all of them: %w", holdfast.ErrInvalid)
	case in.All:
		for _, c := range d.Ledger.Status().Closed {
			a, err := strconv.ParseUint(c.Account, 16, 64)
			if err != nil {
				return nil, fmt.Errorf("account %q: %w", c.Account, holdfast.ErrInvalid)
			}
			which = append(which, holdfast.AccountID(a))
		}
	default:
		a, err := accountOf(named, in.Account)
		if err != nil {
			return nil, err
		}
		which = []holdfast.AccountID{a}
	}
	out := []FenceLoss{}
	var first error
	for _, a := range which {
		l, err := do(ctx, a)
		if l == nil {
			l = &ledger.Loss{Account: a}
		}
		f := FenceLoss{Loss: *l, Name: named[a]}
		if err != nil {
			f.Error = err.Error()
			first = errors.Join(first, err)
		}
		out = append(out, f)
	}
	if first != nil && len(which) == 1 {
		return nil, first
	}
	return out, nil
}

// accountNames returns the names by number, as far as account 0 can be read; account 0 is "server".
func (d *Dir) accountNames(ctx context.Context) map[holdfast.AccountID]string {
	named := map[holdfast.AccountID]string{holdfast.Server: "server"}
	accounts, err := d.Auth.Accounts(ctx, true)
	if err != nil {
		return named // numbers do as well
	}
	for _, a := range accounts {
		named[a.ID] = a.Name
	}
	return named
}

// accountOf finds an account by its name, or by its number in decimal or as 16 hex digits.
func accountOf(named map[holdfast.AccountID]string, s string) (holdfast.AccountID, error) {
	for a, name := range named {
		if name == s {
			return a, nil
		}
	}
	if len(s) == 16 {
		if n, err := strconv.ParseUint(s, 16, 64); err == nil {
			return holdfast.AccountID(n), nil
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("account %q (its number does as well: see holdfast fence status): %w", s, holdfast.ErrNotFound)
	}
	return holdfast.AccountID(n), nil
}

func (d *Dir) fenceStatus(ctx context.Context) (FenceStatus, error) {
	s := FenceStatus{Status: d.status(ctx)}
	named := d.accountNames(ctx)
	for _, f := range d.Ledger.AccountFences() {
		s.Fences = append(s.Fences, FenceAccount{f, named[f.Account]})
	}
	var err error
	s.Branches, err = d.Ledger.Branches(ctx)
	return s, err
}

// branches lists the branches of one account, or all; what the logs of the mirrors have and no branch may be found first.
func (d *Dir) branches(ctx context.Context, in FenceRequest) ([]ledger.Branch, error) {
	loose := 0
	var err error
	if in.Logs {
		if loose, err = d.Ledger.FindBranches(ctx); err != nil {
			return nil, err
		}
	}
	all, err := d.Ledger.Branches(ctx)
	if err != nil {
		return nil, err
	}
	if loose > 0 {
		all = append(all, ledger.Branch{Name: "in the logs of mirrors", Damage: fmt.Sprintf("%d changes that follow nothing the store has; holdfast mirror cat shows them as far as they can be read", loose)})
	}
	if in.Account == "" {
		return all, nil
	}
	a, err := accountOf(d.accountNames(ctx), in.Account)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(b ledger.Branch) bool { return b.Account != a && b.Damage == "" }), nil
}
