package auth

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"holdfast"
	"holdfast/internal/ledger"
)

// maxDevices is how many devices of one account may be active at once; a login reads that many records at most.
const maxDevices = 64

// Device is the holder of an app password, as lists show it.
type Device struct {
	ID       holdfast.DeviceID `json:"id"` // counts from 1 in each account
	Name     string            `json:"name"`
	Created  time.Time         `json:"created"`
	Revoked  *time.Time        `json:"revoked,omitempty"`
	LastSeen *time.Time        `json:"last_seen,omitempty"` // since the server started; not kept
}

// deviceRecord is resource <account>-<device> in collection devices of account 0.
type deviceRecord struct {
	ID      holdfast.DeviceID  `json:"id"`
	Account holdfast.AccountID `json:"account"`
	Name    string             `json:"name"`
	Created time.Time          `json:"created"`
	Revoked *time.Time         `json:"revoked,omitempty"`
	Secret  string             `json:"secret"` // hex of secretHash
}

func deviceName(a holdfast.AccountID, d holdfast.DeviceID) string {
	return fmt.Sprintf("%s-%016x", a, uint64(d))
}

// devicesOf returns the records of all devices an account ever had, in order of id.
func devicesOf(r reader, account holdfast.AccountID) (holdfast.CollectionID, []deviceRecord, error) {
	c, err := collection(r, devicesCollection)
	if err != nil {
		return 0, nil, err
	}
	all, err := records[deviceRecord](r, c, account.String()+"-")
	return c, all, err
}

// AddDevice makes a device and its app password, which is returned once and kept as a hash only.
// ErrNotFound: no such account. ErrExists: an active device has that name. ErrQuota: too many devices.
func (a *Auth) AddDevice(ctx context.Context, account, name string) (Device, string, error) {
	if err := checkDeviceName(name); err != nil {
		return Device{}, "", err
	}
	secret := newSecret()
	a.admin.Lock()
	defer a.admin.Unlock()
	made := make(chan deviceRecord, 1)
	err := a.change(ctx, func(tx *ledger.Tx) error {
		_, rec, err := find(tx, account)
		if err != nil {
			return err
		}
		c, all, err := devicesOf(tx, rec.ID)
		if err != nil {
			return err
		}
		d := deviceRecord{ID: 1, Account: rec.ID, Name: name, Created: a.now().UTC().Truncate(time.Second)}
		active := 0
		for _, o := range all {
			d.ID = max(d.ID, o.ID+1)
			if o.Revoked != nil {
				continue
			}
			if active++; active >= maxDevices {
				return fmt.Errorf("it has %d devices; revoke one first: %w", active, holdfast.ErrQuota)
			}
			if o.Name == name {
				return fmt.Errorf("device %d has that name; revoke it first, or choose another name: %w", o.ID, holdfast.ErrExists)
			}
		}
		h := secretHash(d.Account, d.ID, secret)
		d.Secret = hex.EncodeToString(h[:])
		made <- d
		return a.put(tx, c, deviceName(d.Account, d.ID), d)
	})
	if err != nil {
		return Device{}, "", fmt.Errorf("add device %q to account %s: %w", name, clip(account), err)
	}
	d := <-made
	a.log.Info("device added", "account", d.Account, "device", d.ID)
	return Device{ID: d.ID, Name: d.Name, Created: d.Created}, formatSecret(secret), nil
}

func checkDeviceName(name string) error {
	if name == "" || len(name) > 64 || !utf8.ValidString(name) || strings.TrimSpace(name) != name || strings.IndexFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
		return fmt.Errorf("device name %q: want 1 to 64 bytes of printable text: %w", clip(name), holdfast.ErrInvalid)
	}
	if strings.Trim(name, "0123456789") == "" {
		return fmt.Errorf("device name %q: a number alone would be taken for a device's id: %w", name, holdfast.ErrInvalid)
	}
	return nil
}

// Devices returns the devices of an account in order of id; revoked ones too if all is set. ErrNotFound: no such account.
func (a *Auth) Devices(ctx context.Context, account string, all bool) ([]Device, error) {
	out := []Device{}
	err := a.ledger.View(ctx, holdfast.Server, func(v *ledger.View) error {
		_, rec, err := findAny(v, account)
		if err != nil {
			return err
		}
		_, recs, err := devicesOf(v, rec.ID)
		for _, d := range recs {
			if all || d.Revoked == nil {
				out = append(out, Device{d.ID, d.Name, d.Created, d.Revoked, a.memory.seen(d.Account, d.ID)})
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list devices of account %s: %w", clip(account), err)
	}
	return out, nil
}

// RevokeDevice ends an app password at once. device is its id or its name. ErrNotFound: no such
// account or no such active device.
func (a *Auth) RevokeDevice(ctx context.Context, account, device string) (Device, error) {
	a.admin.Lock()
	defer a.admin.Unlock()
	done := make(chan deviceRecord, 1)
	err := a.change(ctx, func(tx *ledger.Tx) error {
		_, rec, err := findAny(tx, account)
		if err != nil {
			return err
		}
		c, all, err := devicesOf(tx, rec.ID)
		if err != nil {
			return err
		}
		for _, d := range all {
			if d.Revoked != nil || d.Name != device && strconv.FormatUint(uint64(d.ID), 10) != device {
				continue
			}
			now := a.now().UTC().Truncate(time.Second)
			d.Revoked = &now
			done <- d
			return a.put(tx, c, deviceName(d.Account, d.ID), d)
		}
		return fmt.Errorf("no active device has that name or id (holdfast device list %s shows them): %w", account, holdfast.ErrNotFound)
	})
	if err != nil {
		return Device{}, fmt.Errorf("revoke device %s of account %s: %w", clip(device), clip(account), err)
	}
	d := <-done
	a.log.Info("device revoked", "account", d.Account, "device", d.ID)
	if a.told != nil {
		a.told(d.Account, d.ID)
	}
	return Device{ID: d.ID, Name: d.Name, Created: d.Created, Revoked: d.Revoked}, nil
}
