// Package auth knows who may come in: accounts with their password, and devices with an app password
// each. Both are JSON records in account 0 of the ledger (collections `accounts` and `devices`), so
// they are mirrored like everything else; nothing here has a file of its own.
//
// Records are never deleted: a removed account keeps its record, its id and its name, and a revoked
// device its id. So an id is never given twice, and a device that comes back after a removal is
// refused instead of being shown an empty account, which it would copy.
//
// What is passing stays in memory, bounded: verified credentials by keyed hash, valid for one head
// of account 0, so that any change of an account or device drops them at once; failure counters;
// when a device was last seen.
//
// HTTP Basic is RFC 7617.
package auth

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
)

// Names of the collections below the root of account 0 that hold the records.
const (
	accountsCollection = "accounts"
	devicesCollection  = "devices"
)

const pageSize = 500 // records read at once

// Config says what an Auth works on.
type Config struct {
	Ledger *ledger.Ledger
	Log    *slog.Logger     // nil: silent
	Now    func() time.Time // nil: time.Now
	Quota  int64            // bytes that an account without a quota of its own may keep; 0: no bound
	// Revoked is told of each device whose app password has ended, once that is durable. It may be nil.
	Revoked func(a holdfast.AccountID, d holdfast.DeviceID)
}

// Auth manages and checks accounts and devices. All methods may be called at the same time.
type Auth struct {
	ledger *ledger.Ledger
	log    *slog.Logger
	now    func() time.Time
	quota  int64
	told   func(a holdfast.AccountID, d holdfast.DeviceID) // Config.Revoked

	admin sync.Mutex    // one change of accounts or devices at a time
	cost  cost          // of a new password hash
	slots chan struct{} // one item for each password that is being hashed
	queue chan struct{} // one for each that waits

	limits limiter
	memory memory
}

// New returns an Auth over an open ledger.
func New(cfg Config) *Auth {
	a := &Auth{ledger: cfg.Ledger, log: cfg.Log, now: cfg.Now, quota: cfg.Quota, told: cfg.Revoked, cost: owasp, slots: make(chan struct{}, maxHashing), queue: make(chan struct{}, maxWaiting)}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.log = a.log.With("pkg", "auth")
	if a.now == nil {
		a.now = time.Now
	}
	_, _ = rand.Read(a.memory.key[:]) // crypto/rand.Read never returns an error
	a.limits.init()
	return a
}

// Identity is who a request comes from.
type Identity struct {
	Account holdfast.AccountID
	Name    string            // of the account
	Device  holdfast.DeviceID // 0: the account password was used
	Quota   int64             // bytes the account may keep; 0: no bound
}

// reader is what records are read from: ledger.View for what is durable, ledger.Tx inside a change.
type reader interface {
	Child(parent holdfast.CollectionID, name string) (*ledger.Collection, error)
	Resource(c holdfast.CollectionID, name string) (*ledger.Resource, error)
	Resources(c holdfast.CollectionID, after string, limit int) ([]ledger.Resource, error)
	Body(r *ledger.Resource) ([]byte, error)
}

var (
	_ reader = (*ledger.View)(nil)
	_ reader = (*ledger.Tx)(nil)
)

// collection returns the id of one of account 0's collections. It is never missing on a true server,
// so its absence is damage, not "no accounts".
func collection(r reader, name string) (holdfast.CollectionID, error) {
	c, err := r.Child(holdfast.Root, name)
	if errors.Is(err, holdfast.ErrNotFound) {
		return 0, fmt.Errorf("account 0 has no collection %s: %w", name, holdfast.ErrCorrupt)
	}
	if err != nil {
		return 0, fmt.Errorf("read collection %s: %w", name, err)
	}
	return c.ID, nil
}

// record reads one JSON record into v. ErrNotFound: there is none.
func record(r reader, c holdfast.CollectionID, name string, v any) error {
	res, err := r.Resource(c, name)
	if err != nil {
		return err
	}
	return decode(r, res, v)
}

func decode(r reader, res *ledger.Resource, v any) error {
	body, err := r.Body(res)
	if err != nil {
		return fmt.Errorf("read record: %w", err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("decode record: %w: %w", err, holdfast.ErrCorrupt)
	}
	return nil
}

// records reads every record whose name begins with prefix, in order of name.
func records[T any](r reader, c holdfast.CollectionID, prefix string) ([]T, error) {
	var out []T
	after := prefix
	for {
		page, err := r.Resources(c, after, pageSize)
		if err != nil {
			return nil, fmt.Errorf("list records: %w", err)
		}
		for i := range page {
			if !strings.HasPrefix(page[i].Name, prefix) {
				return out, nil
			}
			var t T
			if err := decode(r, &page[i], &t); err != nil {
				return nil, err
			}
			out = append(out, t)
		}
		if len(page) < pageSize {
			return out, nil
		}
		after = page[len(page)-1].Name
	}
}

// encode returns the body of a record. It is small: every field has a limit.
func encode(v any) (ledger.Body, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ledger.Body{}, fmt.Errorf("encode record: %w", err)
	}
	return ledger.InlineBody(b), nil
}

// change runs fn as one change of account 0.
func (a *Auth) change(ctx context.Context, fn func(tx *ledger.Tx) error) error {
	_, err := a.ledger.Update(ctx, holdfast.Server, 0, fn)
	return err
}

func (a *Auth) put(tx *ledger.Tx, c holdfast.CollectionID, name string, v any) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	tx.Put(c, name, "application/json", a.now().UnixMilli(), body)
	return nil
}
