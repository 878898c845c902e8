package push

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
)

// Registrations are records of account 0, in a collection of their own: they are mirrored, so a server that
// was healed or restored goes on to push, and a phone does not have to find out that it is not told any more.
// What was told already is passing: a change that was acknowledged right before a crash may go untold.
const registrationsCollection = "push"

// Limits of registrations.
const (
	maxRegistrations = 512 // of one account
	leastLife        = time.Hour
	mostLife         = 7 * 24 * time.Hour
	freshEnough      = time.Hour // a registration that is repeated and would live so little longer is not written again
)

// Why a registration is refused.
var (
	ErrSubscription = errors.New("not a subscription that can be pushed to")
	ErrUnavailable  = errors.New("push is not available here")
)

// Subscription is where a device wants to be told, and the keys to encrypt for it (RFC 8291).
type Subscription struct {
	Endpoint string // the push resource
	Public   []byte
	Secret   []byte
}

// Triggers says of what a subscriber wants to hear.
type Triggers struct {
	Content    bool `json:"content"`    // members come, change and go, and the collection goes
	Properties bool `json:"properties"` // of the collection itself
}

// registration is resource <account>-<id> in collection push of account 0.
type registration struct {
	ID         string                `json:"id"`
	Account    holdfast.AccountID    `json:"account"`
	Name       string                `json:"name"` // of the account
	Device     holdfast.DeviceID     `json:"device"`
	Standing   string                `json:"standing"` // hex; see Config.Standing
	Collection holdfast.CollectionID `json:"collection"`
	Endpoint   string                `json:"endpoint"`
	Public     []byte                `json:"public"`
	Secret     []byte                `json:"secret"`
	Triggers   Triggers              `json:"triggers"`
	Since      holdfast.Seq          `json:"since"` // head of the account when it was made: what came later is told
	Created    time.Time             `json:"created"`
	Expires    time.Time             `json:"expires"`
}

func recordName(a holdfast.AccountID, id string) string { return a.String() + "-" + id }

// Key returns the server's public key for push services; empty: nothing can be registered now.
func (p *Push) Key() string {
	if p == nil {
		return ""
	}
	if v := p.vapid.Load(); v != nil {
		return v.public
	}
	return ""
}

// Topic names a collection in push messages, for ever and on this server only.
func (p *Push) Topic(a holdfast.AccountID, c holdfast.CollectionID) string {
	b := append([]byte("holdfast push topic"), p.cfg.Server[:]...)
	b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, uint64(a)), uint64(c))
	sum := sha256.Sum256(b)
	return b64.EncodeToString(sum[:16])
}

// idOf returns the one id of a subscription to a collection: registering it again is an update.
func (p *Push) idOf(a holdfast.AccountID, c holdfast.CollectionID, endpoint string) string {
	sum := sha256.Sum256([]byte(p.Topic(a, c) + endpoint))
	return hex.EncodeToString(sum[:16])
}

// Register makes or renews a registration. It is durable when it returns. asked is when it is to end; zero:
// not said. ErrSubscription: it cannot be pushed to; ErrUnavailable: not now, or the account has too many.
func (p *Push) Register(ctx context.Context, who Who, c holdfast.CollectionID, s Subscription, t Triggers, asked time.Time) (id string, expires time.Time, made bool, err error) {
	if p.Key() == "" {
		return "", time.Time{}, false, ErrUnavailable
	}
	if _, err := parseKeys(s.Public, s.Secret); err != nil {
		return "", time.Time{}, false, fmt.Errorf("%w: %w", ErrSubscription, err)
	}
	if err := p.cfg.CheckURL(s.Endpoint); err != nil {
		return "", time.Time{}, false, fmt.Errorf("%w: %w", ErrSubscription, err)
	}
	standing, err := p.cfg.Standing(ctx, []Who{who})
	if err != nil {
		return "", time.Time{}, false, err
	}
	now := p.cfg.Now().UTC().Truncate(time.Second)
	head, _ := p.cfg.Ledger.AccountHead(who.Account)
	r := registration{
		ID: p.idOf(who.Account, c, s.Endpoint), Account: who.Account, Name: who.Name, Device: who.Device, Standing: hex.EncodeToString(standing[0][:]),
		Collection: c, Endpoint: s.Endpoint, Public: s.Public, Secret: s.Secret, Triggers: t, Since: head.Head.Seq, Created: now, Expires: lifeEnd(now, asked),
	}
	old, err := p.registered(ctx, r.Account, r.ID)
	switch {
	case err == nil && sameBut(old, r) && r.Expires.Sub(old.Expires) < freshEnough && old.Expires.After(now.Add(leastLife/2)):
		return old.ID, old.Expires, false, nil
	case errors.Is(err, holdfast.ErrNotFound):
		if p.book.count(r.Account) >= maxRegistrations {
			return "", time.Time{}, false, fmt.Errorf("%d registrations: %w", maxRegistrations, ErrUnavailable)
		}
	case err != nil:
		return "", time.Time{}, false, err
	}
	made, err = p.write(ctx, r)
	return r.ID, r.Expires, made, err
}

// lifeEnd is when a registration ends that a client asked for.
func lifeEnd(now, asked time.Time) time.Time {
	asked = asked.UTC().Truncate(time.Second)
	switch least, most := now.Add(leastLife), now.Add(mostLife); {
	case asked.IsZero(), asked.After(most):
		return most
	case asked.Before(least):
		return least
	}
	return asked
}

// sameBut reports whether two registrations differ in their times alone.
func sameBut(a, b registration) bool {
	a.Since, a.Created, a.Expires = b.Since, b.Created, b.Expires
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// registered reads one registration. ErrNotFound: there is none.
func (p *Push) registered(ctx context.Context, a holdfast.AccountID, id string) (r registration, err error) {
	err = p.cfg.Ledger.View(ctx, holdfast.Server, func(v *ledger.View) error {
		c, err := v.Child(holdfast.Root, registrationsCollection)
		if err != nil {
			return err
		}
		res, err := v.Resource(c.ID, recordName(a, id))
		if err != nil {
			return err
		}
		r, err = readRegistration(v, res)
		return err
	})
	return r, err
}

func readRegistration(v *ledger.View, res *ledger.Resource) (r registration, err error) {
	body, err := v.Body(res)
	if err != nil {
		return r, fmt.Errorf("read registration: %w", err)
	}
	if err := json.Unmarshal(body, &r); err != nil || recordName(r.Account, r.ID) != res.Name {
		return r, fmt.Errorf("registration %q cannot be read: %w", res.Name, holdfast.ErrCorrupt)
	}
	return r, nil
}

// write makes a registration durable. made: there was none of its id.
func (p *Push) write(ctx context.Context, r registration) (made bool, err error) {
	body, err := json.Marshal(r)
	if err != nil {
		return false, fmt.Errorf("encode registration: %w", err)
	}
	isNew := make(chan bool, 1)
	_, err = p.cfg.Ledger.Update(ctx, holdfast.Server, 0, func(tx *ledger.Tx) error {
		c, err := tx.Child(holdfast.Root, registrationsCollection)
		var id holdfast.CollectionID
		switch {
		case errors.Is(err, holdfast.ErrNotFound):
			id = tx.NewCollection(holdfast.Root, registrationsCollection, holdfast.KindRecord, nil)
			isNew <- true
		case err != nil:
			return err
		default:
			id = c.ID
			_, err := tx.Resource(id, recordName(r.Account, r.ID))
			if err != nil && !errors.Is(err, holdfast.ErrNotFound) {
				return err
			}
			isNew <- err != nil
		}
		tx.Put(id, recordName(r.Account, r.ID), "application/json", r.Created.UnixMilli(), ledger.InlineBody(body))
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("register: %w", err)
	}
	return <-isNew, nil
}

// Unregister ends a registration of an account. ErrNotFound: it has none of that id.
func (p *Push) Unregister(ctx context.Context, a holdfast.AccountID, id string) error {
	if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
		return fmt.Errorf("unregister: %w", holdfast.ErrNotFound)
	}
	n, err := p.remove(ctx, []string{recordName(a, id)})
	if err == nil && n == 0 {
		err = fmt.Errorf("unregister: %w", holdfast.ErrNotFound)
	}
	return err
}

// remove deletes records that are there, in one change, and returns how many there were.
func (p *Push) remove(ctx context.Context, names []string) (int, error) {
	count := make(chan int, 1)
	_, err := p.cfg.Ledger.Update(ctx, holdfast.Server, 0, func(tx *ledger.Tx) error {
		n := 0
		defer func() { count <- n }()
		c, err := tx.Child(holdfast.Root, registrationsCollection)
		if errors.Is(err, holdfast.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			switch _, err := tx.Resource(c.ID, name); {
			case err == nil:
				tx.Delete(c.ID, name)
				n++
			case !errors.Is(err, holdfast.ErrNotFound):
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("remove registrations: %w", err)
	}
	return <-count, nil
}
