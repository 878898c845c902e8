package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"holdfast"
	"holdfast/internal/ledger"
)

// Standing says whether what each identity came in with is still good: a hash that stays the same until
// the password is changed, the device revoked or the account removed. It is zero from then on, but for a
// changed password, which has another hash. What lasts longer than a request compares it. An error says
// nothing about anybody.
func (a *Auth) Standing(ctx context.Context, ids ...Identity) ([]holdfast.Hash, error) {
	out := make([]holdfast.Hash, len(ids))
	err := a.ledger.View(ctx, holdfast.Server, func(v *ledger.View) error {
		for i, id := range ids {
			var err error
			if out[i], err = standing(v, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look whether credentials are still good: %w", err)
	}
	return out, nil
}

func standing(r reader, id Identity) (holdfast.Hash, error) {
	acc, err := lookup(r, id.Name)
	if err != nil || acc.ID == 0 || acc.ID != id.Account {
		return holdfast.Hash{}, err
	}
	if id.Device == 0 {
		return sha256.Sum256([]byte("password " + acc.Password)), nil
	}
	c, err := collection(r, devicesCollection)
	if err != nil {
		return holdfast.Hash{}, err
	}
	var d deviceRecord
	switch err := record(r, c, deviceName(id.Account, id.Device), &d); {
	case errors.Is(err, holdfast.ErrNotFound), err == nil && d.Revoked != nil:
		return holdfast.Hash{}, nil
	case err != nil:
		return holdfast.Hash{}, err
	}
	return sha256.Sum256([]byte("device " + d.Secret)), nil
}

// Judges reports whether a collection of account 0 says who may come in.
func Judges(collection string) bool {
	return collection == accountsCollection || collection == devicesCollection
}
