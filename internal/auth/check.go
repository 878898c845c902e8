package auth

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"holdfast"
	"holdfast/internal/ledger"
)

// Check says who a name and a password are. from is the client's address, for counting failures.
//
// Errors: ErrDenied, the credentials are wrong (401); *LimitError, too many were (429); anything else
// means that nothing can be said about them, ErrFenced first of all (503, never 401). A wrong
// password, an unknown name and a removed account cost the same and say the same.
func (a *Auth) Check(ctx context.Context, name, password string, from netip.Addr) (Identity, error) {
	if len(name) > 256 || len(password) > maxPassword {
		return Identity{}, a.refuse(ctx, from)
	}
	name = strings.ToLower(strings.TrimSpace(name)) // phones capitalize what is typed first
	key := a.memory.credentials(name, password)
	head, _ := a.ledger.AccountHead(holdfast.Server)
	if v, ok := a.memory.recall(key, head, a.now()); ok {
		if v.Account != 0 {
			return v.Identity, nil
		}
		return Identity{}, a.refuse(ctx, from) // no new guess: the account is not charged
	}
	if secret, ok := parseSecret(password); ok {
		return a.checkSecret(ctx, name, secret, key, from)
	}
	return a.checkPassword(ctx, name, password, key, from)
}

// Ready says whether credentials can be judged at all: nil, or ErrFenced and the like.
func (a *Auth) Ready(ctx context.Context) error {
	return a.ledger.View(ctx, holdfast.Server, func(*ledger.View) error { return nil })
}

// refuse counts a failure of an address and returns ErrDenied or a LimitError.
func (a *Auth) refuse(ctx context.Context, from netip.Addr) error {
	if err := a.Ready(ctx); err != nil {
		return err
	}
	if err := a.limits.take(a.now(), a.limits.byAddress(network(from))); err != nil {
		return err
	}
	return fmt.Errorf("name or password: %w", holdfast.ErrDenied)
}

// checkSecret judges an app password. It is never refused unread: 128 bits cannot be guessed, so
// failures of others must not keep a device out.
func (a *Auth) checkSecret(ctx context.Context, name string, secret [secretSize]byte, key holdfast.Hash, from netip.Addr) (Identity, error) {
	var v verdict
	var head holdfast.AccountHead
	err := a.ledger.View(ctx, holdfast.Server, func(view *ledger.View) error {
		head = view.Head()
		acc, err := lookup(view, name)
		if err != nil {
			return err
		}
		_, devices, err := devicesOf(view, acc.ID)
		if err != nil {
			return err
		}
		if d := matching(acc.ID, devices, secret); d != nil && acc.ID != 0 {
			v.Identity = Identity{acc.ID, acc.Name, d.ID, a.quotaOf(acc)}
		}
		return nil
	})
	if err != nil {
		return Identity{}, fmt.Errorf("check app password: %w", err)
	}
	a.memory.remember(key, head, v, a.now())
	if v.Account == 0 {
		return Identity{}, a.refuse(ctx, from)
	}
	a.memory.befriend(name, network(from))
	return v.Identity, nil
}

// lookup returns the record of an account that may log in, or an empty one if there is none.
func lookup(r reader, name string) (*accountRecord, error) {
	_, acc, err := find(r, name)
	if errors.Is(err, holdfast.ErrNotFound) {
		return &accountRecord{}, nil
	}
	return acc, err
}

// matching returns the active device whose app password secret is, in the same time whoever it is and
// however many devices there are.
func matching(account holdfast.AccountID, devices []deviceRecord, secret [secretSize]byte) *deviceRecord {
	var found *deviceRecord
	n := 0
	for i := range devices {
		d := &devices[i]
		if d.Revoked != nil {
			continue
		}
		n++
		want, err := hex.DecodeString(d.Secret)
		got := secretHash(account, d.ID, secret)
		if err == nil && subtle.ConstantTimeCompare(got[:], want) == 1 {
			found = d
		}
	}
	for ; n < maxDevices; n++ {
		secretHash(account, 0, secret)
	}
	return found
}

// checkPassword judges an account password. The failure is counted before the work is done.
func (a *Auth) checkPassword(ctx context.Context, name, password string, key holdfast.Hash, from netip.Addr) (Identity, error) {
	net := network(from)
	counts := []count{a.limits.byAddress(net), a.limits.byAccount(name)}
	if a.memory.isKnown(name, net) {
		counts = []count{a.limits.byKnown(name, net)}
	}
	var v verdict
	var acc *accountRecord
	var head holdfast.AccountHead
	err := a.ledger.View(ctx, holdfast.Server, func(view *ledger.View) (err error) {
		head = view.Head()
		acc, err = lookup(view, name)
		return err
	})
	if err != nil {
		return Identity{}, fmt.Errorf("check password: %w", err)
	}
	if err := a.limits.take(a.now(), counts...); err != nil {
		return Identity{}, err
	}
	want := a.nobody()
	if acc.ID != 0 {
		if want, err = parsePHC(acc.Password); err != nil {
			a.limits.give(counts...)
			return Identity{}, fmt.Errorf("check password: %w", err)
		}
	}
	if err := a.slot(ctx); err != nil {
		a.limits.give(counts...)
		return Identity{}, err
	}
	right := want.matches(password)
	a.unslot()
	if right && acc.ID != 0 {
		v.Identity = Identity{Account: acc.ID, Name: acc.Name, Quota: a.quotaOf(acc)}
		a.limits.give(counts...)
		a.memory.befriend(name, net)
	}
	a.memory.remember(key, head, v, a.now())
	if v.Account == 0 {
		return Identity{}, fmt.Errorf("name or password: %w", holdfast.ErrDenied)
	}
	return v.Identity, nil
}
