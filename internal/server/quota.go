package server

import (
	"context"
	"fmt"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/ledger"
)

// accounts lists the accounts with what each of them keeps.
func (d *Dir) accounts(ctx context.Context, in AccountRequest) ([]Account, error) {
	list, err := d.Auth.Accounts(ctx, in.All)
	if err != nil {
		return nil, err
	}
	out := make([]Account, len(list))
	for i := range list {
		out[i] = Account{Account: list[i], Live: -1, History: -1}
		err := d.Ledger.View(ctx, list[i].ID, func(v *ledger.View) (err error) {
			out[i].Live, out[i].History, err = v.Stored()
			return err
		})
		if err != nil { // its fence is closed, or it is damaged: that does not hide the others
			out[i].Live, out[i].History = -1, -1
		}
	}
	return out, nil
}

// setQuota gives an account a quota of its own, or the default again.
func (d *Dir) setQuota(ctx context.Context, in AccountRequest) (Account, error) {
	var quota *int64
	if in.Quota != "default" {
		n, err := config.ParseQuota(in.Quota)
		if err != nil {
			return Account{}, fmt.Errorf("quota %q: %w, or default: %w", in.Quota, err, holdfast.ErrInvalid)
		}
		quota = &n
	}
	if err := d.Auth.SetQuota(ctx, in.Name, quota); err != nil {
		return Account{}, err
	}
	list, err := d.accounts(ctx, AccountRequest{})
	for i := range list {
		if list[i].Name == in.Name {
			return list[i], err
		}
	}
	return Account{}, err
}
