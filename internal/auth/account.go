package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
)

// Account is one person's account, as lists show it.
type Account struct {
	ID      holdfast.AccountID `json:"id"`
	Name    string             `json:"name"`
	Created time.Time          `json:"created"`
	Removed *time.Time         `json:"removed,omitempty"` // not nil: nobody can log in; the data is kept
	Devices int                `json:"devices"`           // not revoked
	Quota   int64              `json:"quota"`             // bytes it may keep, its history included; 0: no bound
	Own     bool               `json:"own_quota"`         // the quota was given to this account, it is not the default
}

// accountRecord is resource <name> in collection accounts of account 0.
type accountRecord struct {
	ID       holdfast.AccountID `json:"id"`
	Name     string             `json:"name"`
	Created  time.Time          `json:"created"`
	Password string             `json:"password"` // argon2id in PHC form
	Removed  *time.Time         `json:"removed,omitempty"`
	Quota    *int64             `json:"quota,omitempty"` // bytes; 0: no bound; nil: the default
}

// Names that mean something in a path of ours, now or one day.
var reserved = map[string]bool{
	"principals": true, "dav": true, "server": true, "admin": true, "root": true, "system": true, "holdfast": true,
	"public": true, "shared": true, "api": true, "app": true, "web": true, "static": true, "status": true, "snapshots": true, "all": true, "me": true,
}

// CheckName says what is wrong with the name of a new account: it is 1 to 64 lower-case letters,
// digits, `.`, `_`, `-`, begins with a letter or digit and is not a reserved word. ErrInvalid.
func CheckName(name string) error {
	if !validName(name) {
		return fmt.Errorf("account name %q: want 1 to 64 lower-case letters, digits, `.`, `_` or `-`, the first a letter or digit: %w", clip(name), holdfast.ErrInvalid)
	}
	if reserved[name] {
		return fmt.Errorf("account name %q is reserved, choose another: %w", name, holdfast.ErrInvalid)
	}
	return nil
}

func validName(name string) bool {
	if name == "" || len(name) > 64 || strings.ContainsRune("._-", rune(name[0])) {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") == ""
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}

// AddAccount makes an account with its collections: contacts, calendar, tasks, Files, Photos.
// First the collections, in one change of the new account, then its record: a crash in between leaves
// an account that nobody can name, and the next AddAccount takes it over. ErrExists: the name is
// taken; ErrDenied: it belongs to a removed account; ErrInvalid: name or password do not do.
func (a *Auth) AddAccount(ctx context.Context, name, password string) (Account, error) {
	if err := CheckName(name); err != nil {
		return Account{}, err
	}
	hash, err := a.hashPassword(ctx, password)
	if err != nil {
		return Account{}, err
	}
	a.admin.Lock()
	defer a.admin.Unlock()
	id, err := a.freeID(ctx, name)
	if err != nil {
		return Account{}, fmt.Errorf("add account %s: %w", name, err)
	}
	if _, err := a.ledger.Update(ctx, id, 0, makeHome); err != nil {
		return Account{}, fmt.Errorf("add account %s: make its collections: %w", name, err)
	}
	rec := accountRecord{ID: id, Name: name, Created: a.now().UTC().Truncate(time.Second), Password: hash}
	err = a.change(ctx, func(tx *ledger.Tx) error {
		c, err := collection(tx, accountsCollection)
		if err != nil {
			return err
		}
		if err := taken(tx, c, name); err != nil {
			return err
		}
		return a.put(tx, c, name, rec)
	})
	if err != nil {
		return Account{}, fmt.Errorf("add account %s: %w", name, err)
	}
	a.log.Info("account added", "account", id)
	return Account{ID: id, Name: name, Created: rec.Created, Quota: a.quotaOf(&rec)}, nil
}

// quotaOf returns how many bytes an account may keep; 0: no bound.
func (a *Auth) quotaOf(rec *accountRecord) int64 {
	if rec.Quota != nil {
		return *rec.Quota
	}
	return a.quota
}

// SetQuota bounds the bytes that an account may keep, its history included: 0 is no bound, nil the
// default of all accounts. What it has stays. ErrNotFound: no such account.
func (a *Auth) SetQuota(ctx context.Context, name string, quota *int64) error {
	return a.edit(ctx, "set quota", name, func(_ *ledger.Tx, rec *accountRecord) error {
		rec.Quota = quota
		return nil
	})
}

// taken returns why a name cannot be given to a new account.
func taken(r reader, c holdfast.CollectionID, name string) error {
	var rec accountRecord
	switch err := record(r, c, name, &rec); {
	case errors.Is(err, holdfast.ErrNotFound):
		return nil
	case err != nil:
		return err
	case rec.Removed != nil:
		return fmt.Errorf("the account was removed on %s and its data is kept; bring it back with: holdfast account restore %s: %w", rec.Removed.Format(time.DateOnly), name, holdfast.ErrDenied)
	}
	return fmt.Errorf("the name is taken: %w", holdfast.ErrExists)
}

// freeID returns the id of the next account. An account that has more than its first change is
// somebody's, whether its record can be found or not.
func (a *Auth) freeID(ctx context.Context, name string) (holdfast.AccountID, error) {
	id := holdfast.AccountID(1)
	err := a.ledger.View(ctx, holdfast.Server, func(v *ledger.View) error {
		c, err := collection(v, accountsCollection)
		if err != nil {
			return err
		}
		if err := taken(v, c, name); err != nil {
			return err
		}
		all, err := records[accountRecord](v, c, "")
		for _, r := range all {
			id = max(id, r.ID+1)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	for {
		if h, ok := a.ledger.AccountHead(id); !ok || h.Head.Seq <= 1 {
			return id, nil
		}
		id++
	}
}

const davName = "{DAV:}displayname"

// makeHome records the first change of an account.
func makeHome(tx *ledger.Tx) error {
	switch tx.Head().Head.Seq {
	case 0:
	case 1:
		return nil // made by an AddAccount that did not get further
	default:
		return fmt.Errorf("the id is in use: %w", holdfast.ErrExists)
	}
	tx.PutCollection(&ledger.Collection{ID: holdfast.Root, Kind: holdfast.KindFile})
	for _, c := range []struct {
		name      string
		kind      holdfast.Kind
		shown     string
		component string
	}{
		{"contacts", holdfast.KindCard, "Contacts", ""},
		{"calendar", holdfast.KindCalendar, "Calendar", "VEVENT"},
		{"tasks", holdfast.KindCalendar, "Tasks", "VTODO"},
		{"Files", holdfast.KindFile, "Files", ""},
		{"Photos", holdfast.KindFile, "Photos", ""},
	} {
		props := []holdfast.Property{{Name: davName, Value: c.shown}}
		if c.component != "" {
			// RFC 4791, 5.2.3: task programs look for a collection that takes VTODO.
			props = append(props, holdfast.Property{
				Name:  "{urn:ietf:params:xml:ns:caldav}supported-calendar-component-set",
				Value: `<comp xmlns="urn:ietf:params:xml:ns:caldav" name="` + c.component + `"/>`,
			})
		}
		tx.NewCollection(holdfast.Root, c.name, c.kind, props)
	}
	return nil
}

// Accounts returns all accounts in order of name; removed ones too if all is set.
func (a *Auth) Accounts(ctx context.Context, all bool) ([]Account, error) {
	out := []Account{}
	err := a.ledger.View(ctx, holdfast.Server, func(v *ledger.View) error {
		c, err := collection(v, accountsCollection)
		if err != nil {
			return err
		}
		recs, err := records[accountRecord](v, c, "")
		if err != nil {
			return err
		}
		dc, err := collection(v, devicesCollection)
		if err != nil {
			return err
		}
		devices, err := records[deviceRecord](v, dc, "")
		if err != nil {
			return err
		}
		count := map[holdfast.AccountID]int{}
		for _, d := range devices {
			if d.Revoked == nil {
				count[d.Account]++
			}
		}
		for _, r := range recs {
			if all || r.Removed == nil {
				out = append(out, Account{r.ID, r.Name, r.Created, r.Removed, count[r.ID], a.quotaOf(&r), r.Quota != nil})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return out, nil
}

// SetPassword replaces an account's password. Devices keep their app passwords. ErrNotFound: no such account.
func (a *Auth) SetPassword(ctx context.Context, name, password string) error {
	hash, err := a.hashPassword(ctx, password)
	if err != nil {
		return err
	}
	return a.edit(ctx, "set password", name, func(_ *ledger.Tx, rec *accountRecord) error {
		rec.Password = hash
		return nil
	})
}

// RemoveAccount shuts an account: its password and its devices are refused from now on. Its data, its
// name and its id stay; RestoreAccount opens it again. It is one change. ErrNotFound: no such account.
func (a *Auth) RemoveAccount(ctx context.Context, name string) error {
	return a.edit(ctx, "remove", name, func(tx *ledger.Tx, rec *accountRecord) error {
		now := a.now().UTC().Truncate(time.Second)
		rec.Removed = &now
		c, devices, err := devicesOf(tx, rec.ID)
		if err != nil {
			return err
		}
		for _, d := range devices {
			if d.Revoked != nil {
				continue
			}
			d.Revoked = &now
			if err := a.put(tx, c, deviceName(d.Account, d.ID), d); err != nil {
				return err
			}
		}
		return nil
	})
}

// RestoreAccount opens a removed account again, with its data and its password. Its devices stay
// revoked. ErrNotFound: no such account, or it was not removed.
func (a *Auth) RestoreAccount(ctx context.Context, name string) error {
	a.admin.Lock()
	defer a.admin.Unlock()
	err := a.change(ctx, func(tx *ledger.Tx) error {
		c, rec, err := findAny(tx, name)
		if err != nil {
			return err
		}
		if rec.Removed == nil {
			return fmt.Errorf("it was not removed: %w", holdfast.ErrExists)
		}
		rec.Removed = nil
		return a.put(tx, c, name, rec)
	})
	if err != nil {
		return fmt.Errorf("restore account %s: %w", clip(name), err)
	}
	a.log.Info("account restored")
	return nil
}

// edit changes the record of an account that is not removed, and whatever else fn records, in one change.
func (a *Auth) edit(ctx context.Context, what, name string, fn func(tx *ledger.Tx, rec *accountRecord) error) error {
	a.admin.Lock()
	defer a.admin.Unlock()
	err := a.change(ctx, func(tx *ledger.Tx) error {
		c, rec, err := find(tx, name)
		if err != nil {
			return err
		}
		if err := fn(tx, rec); err != nil {
			return err
		}
		return a.put(tx, c, name, rec)
	})
	if err != nil {
		return fmt.Errorf("%s: account %s: %w", what, clip(name), err)
	}
	a.log.Info("account changed", "change", what)
	return nil
}

// find returns the record of an account that is not removed.
func find(r reader, name string) (holdfast.CollectionID, *accountRecord, error) {
	c, rec, err := findAny(r, name)
	if err == nil && rec.Removed != nil {
		err = fmt.Errorf("it was removed on %s (holdfast account restore brings it back): %w", rec.Removed.Format(time.DateOnly), holdfast.ErrNotFound)
	}
	return c, rec, err
}

func findAny(r reader, name string) (holdfast.CollectionID, *accountRecord, error) {
	c, err := collection(r, accountsCollection)
	if err != nil {
		return 0, nil, err
	}
	rec := &accountRecord{}
	if !validName(name) {
		return 0, nil, fmt.Errorf("no account has such a name: %w", holdfast.ErrNotFound)
	}
	if err := record(r, c, name, rec); err != nil {
		return 0, nil, err
	}
	return c, rec, nil
}
