package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"holdfast"
	"holdfast/internal/store"
)

// Snapshot is a name for the state of an account at one seq. It is a record in account 0, so it costs one
// row however much the account holds; all versions are in the history in any case.
type Snapshot struct {
	Name       string                `json:"name"`
	Account    holdfast.AccountID    `json:"account"`
	Epoch      holdfast.Epoch        `json:"epoch"`
	Seq        holdfast.Seq          `json:"seq"`
	Hash       string                `json:"hash"` // of the account's chain at seq, 64 hex digits
	Time       time.Time             `json:"time"` // when it was named
	Why        string                `json:"why"`
	Automatic  bool                  `json:"automatic,omitempty"`  // named by the server
	Device     *holdfast.DeviceID    `json:"device,omitempty"`     // whose changes made the server name it; 0: a program with the account's password
	Collection holdfast.CollectionID `json:"collection,omitempty"` // where it did most
}

// The collection of account 0 that holds snapshots, and the beginnings of names that only the server gives.
const (
	snapshotsCollection = "snapshots"
	massChangePrefix    = "before-mass-change-"
	undoPrefix          = "before-undo-"
	snapshotTime        = "20060102T150405Z"
	maxSnapshots        = 1000 // that persons name, of one account
	maxWhy              = 1000 // bytes
)

// Whom returns in words who a device of a change is.
func Whom(d holdfast.DeviceID) string {
	if d == 0 {
		return "a program with the account's password"
	}
	return fmt.Sprintf("device %d", d)
}

func snapshotRecord(a holdfast.AccountID, name string) string { return a.String() + "-" + name }

// CheckSnapshotName returns ErrInvalid for what cannot name a snapshot: 1 to 64 letters, digits, `.`, `_`
// and `-`, the first a letter or digit, and not like the names that the server gives.
func CheckSnapshotName(name string) error {
	ok := name != "" && len(name) <= 64 && !strings.ContainsRune("._-", rune(name[0]))
	for _, r := range name {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	}
	if !ok {
		return fmt.Errorf("name of a snapshot: want 1 to 64 letters, digits, `.`, `_` or `-`, the first a letter or digit: %w", holdfast.ErrInvalid)
	}
	if strings.HasPrefix(name, massChangePrefix) || strings.HasPrefix(name, undoPrefix) {
		return fmt.Errorf("names that begin with %s or %s are the server's: %w", massChangePrefix, undoPrefix, holdfast.ErrInvalid)
	}
	return nil
}

// Snapshots returns the snapshots of an account, the oldest state first.
func (l *Ledger) Snapshots(ctx context.Context, a holdfast.AccountID) (all []Snapshot, err error) {
	err = l.View(ctx, holdfast.Server, func(v *View) error {
		all, err = v.snapshots(a, time.Time{})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	slices.SortStableFunc(all, func(x, y Snapshot) int { return int(min(max(int64(x.Seq)-int64(y.Seq), -1), 1)) })
	return all, nil
}

// Snapshot returns one snapshot. ErrNotFound: there is none of that name.
func (l *Ledger) Snapshot(ctx context.Context, a holdfast.AccountID, name string) (s *Snapshot, err error) {
	err = l.View(ctx, holdfast.Server, func(v *View) error {
		s, err = v.snapshotNamed(a, name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("snapshot %q: %w", name, err)
	}
	return s, nil
}

// CreateSnapshot names the present state of an account. ErrExists: the name is taken. ErrInvalid: it
// cannot be one. ErrQuota: the account has 1,000 already.
func (l *Ledger) CreateSnapshot(ctx context.Context, a holdfast.AccountID, name, why string) (*Snapshot, error) {
	if err := CheckSnapshotName(name); err != nil {
		return nil, err
	}
	if len(why) > maxWhy {
		return nil, fmt.Errorf("why has %d bytes, at most %d: %w", len(why), maxWhy, holdfast.ErrTooLarge)
	}
	if strings.ContainsFunc(why, unicode.IsControl) {
		return nil, fmt.Errorf("why has control characters; want one line: %w", holdfast.ErrInvalid)
	}
	return l.nameSnapshot(ctx, a, Snapshot{Name: name, Why: why})
}

// SnapshotBeforeUndo names the present state of an account under a name of the server's.
func (l *Ledger) SnapshotBeforeUndo(ctx context.Context, a holdfast.AccountID, of string) (*Snapshot, error) {
	return l.nameSnapshot(ctx, a, Snapshot{Name: undoPrefix + l.now().UTC().Format(snapshotTime), Why: "the state before " + of + " was undone", Automatic: true})
}

func (l *Ledger) nameSnapshot(ctx context.Context, a holdfast.AccountID, s Snapshot) (*Snapshot, error) {
	if a == holdfast.Server {
		return nil, fmt.Errorf("the server's own account has no snapshots, and is never put back: %w", holdfast.ErrInvalid)
	}
	head, ok := l.AccountHead(a)
	if !ok {
		return nil, fmt.Errorf("account %s: %w", a, holdfast.ErrNotFound)
	}
	s.Account, s.Epoch, s.Seq, s.Hash, s.Time = a, head.Epoch, head.Head.Seq, head.Head.Hash.String(), l.now().UTC().Truncate(time.Millisecond)
	_, err := l.Update(ctx, holdfast.Server, 0, func(tx *Tx) error {
		all, err := tx.snapshots(a, time.Time{})
		if err != nil {
			return err
		}
		if slices.ContainsFunc(all, func(o Snapshot) bool { return o.Name == s.Name }) {
			if !s.Automatic {
				return fmt.Errorf("a snapshot of that name is there: %w", holdfast.ErrExists)
			}
			s.Name = freeName(all, s.Name)
		}
		n := 0 // what the server names takes no room from what persons name
		for i := range all {
			if !all[i].Automatic {
				n++
			}
		}
		if !s.Automatic && n >= maxSnapshots {
			return fmt.Errorf("the account has %d snapshots: %w", n, holdfast.ErrQuota)
		}
		return tx.putSnapshot(&s)
	})
	if err != nil {
		return nil, fmt.Errorf("name snapshot %s: %w", s.Name, err)
	}
	return &s, nil
}

// RemoveSnapshot removes a name that a person gave; the history stays. ErrDenied: the server named it.
func (l *Ledger) RemoveSnapshot(ctx context.Context, a holdfast.AccountID, name string) error {
	_, err := l.Update(ctx, holdfast.Server, 0, func(tx *Tx) error {
		s, err := tx.snapshotNamed(a, name)
		if err != nil {
			return err
		}
		if s.Automatic {
			return fmt.Errorf("the server named it, and keeps it: %w", holdfast.ErrDenied)
		}
		c, err := tx.Child(holdfast.Root, snapshotsCollection)
		if err != nil {
			return err
		}
		tx.Delete(c.ID, snapshotRecord(a, name))
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove snapshot %q: %w", name, err)
	}
	return nil
}

// freeName returns a name that no snapshot of all has.
func freeName(all []Snapshot, name string) string {
	free := name
	for n := 2; slices.ContainsFunc(all, func(o Snapshot) bool { return o.Name == free }); n++ {
		free = fmt.Sprintf("%s-%d", name, n)
	}
	return free
}

// putSnapshot records a snapshot; servers made before there were any have no collection for them yet.
func (t *Tx) putSnapshot(s *Snapshot) error {
	b, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	var id holdfast.CollectionID
	c, err := t.Child(holdfast.Root, snapshotsCollection)
	switch {
	case err == nil:
		id = c.ID
	case errors.Is(err, holdfast.ErrNotFound):
		id = t.NewCollection(holdfast.Root, snapshotsCollection, holdfast.KindRecord, nil)
	default:
		return err
	}
	t.Put(id, snapshotRecord(s.Account, s.Name), "application/json", s.Time.UnixMilli(), InlineBody(b))
	return nil
}

// snapshots returns those of an account that were named at since or later. q reads account 0.
func (q *reads) snapshots(a holdfast.AccountID, since time.Time) ([]Snapshot, error) {
	c, err := q.Child(holdfast.Root, snapshotsCollection)
	if errors.Is(err, holdfast.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := []Snapshot{}
	prefix := a.String() + "-"
	for after := prefix; ; {
		page, err := q.Resources(c.ID, after, 500)
		if err != nil {
			return nil, err
		}
		for i := range page {
			if !strings.HasPrefix(page[i].Name, prefix) {
				return all, nil
			}
			if page[i].Modified < since.UnixMilli() {
				continue
			}
			s, err := q.decodeSnapshot(&page[i])
			if err != nil {
				return nil, err
			}
			all = append(all, *s)
		}
		if len(page) < 500 {
			return all, nil
		}
		after = page[len(page)-1].Name
	}
}

func (q *reads) snapshotNamed(a holdfast.AccountID, name string) (*Snapshot, error) {
	c, err := q.Child(holdfast.Root, snapshotsCollection)
	if err != nil {
		return nil, err
	}
	res, err := q.Resource(c.ID, snapshotRecord(a, name))
	if err != nil {
		return nil, err
	}
	return q.decodeSnapshot(res)
}

func (q *reads) decodeSnapshot(res *Resource) (*Snapshot, error) {
	b, err := q.Body(res)
	if err != nil {
		return nil, err
	}
	return parseSnapshot(b, res.Name)
}

func parseSnapshot(b []byte, record string) (*Snapshot, error) {
	var s Snapshot
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("snapshot %q is not JSON (%w): %w", record, err, holdfast.ErrCorrupt)
	}
	if _, err := holdfast.ParseHash(s.Hash); err != nil || snapshotRecord(s.Account, s.Name) != record || s.Seq == 0 {
		return nil, fmt.Errorf("snapshot %q is not what its name says: %w", record, holdfast.ErrCorrupt)
	}
	return &s, nil
}

// readsOf asks the state that tx is in.
func (s *session) readsOf(tx *store.Tx, a holdfast.AccountID) *reads {
	return &reads{open: func() (*store.Reader, error) { return tx.Reader, nil }, account: a, seq: store.Newest, at: store.Newest, ledger: s.ledger, paths: newPaths()}
}

// ViewAt shows fn an account as it was at a seq: every question is answered as of then. It is as proven as
// View is. ErrNotFound: the account has no such change yet.
func (l *Ledger) ViewAt(ctx context.Context, a holdfast.AccountID, at holdfast.Seq, fn func(v *View) error) error {
	return l.View(ctx, a, func(v *View) error {
		if at > v.seq {
			return fmt.Errorf("account %s ends at change %d, before %d: %w", a, v.seq, at, holdfast.ErrNotFound)
		}
		r, err := v.snapshot()
		if err != nil {
			return err
		}
		old := *v
		old.reads = reads{open: func() (*store.Reader, error) { return r, nil }, account: a, seq: at, at: at, ledger: l, paths: newPaths()}
		if old.head.Head, err = v.headAt(at); err != nil {
			return err
		}
		return fn(&old)
	})
}
