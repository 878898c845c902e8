// Package lock is the table of WebDAV write locks (RFC 4918, 6 and 7) of all accounts. It is passing: it lives in
// memory, and a restart forgets it. What survives is the token in the client's hand, which says by itself
// what it is a token of (token.go), so that a program that has a file open goes on when the server comes back.
//
// Invariants: an exclusive lock is alone on every path it covers; a lock that has expired or was released
// by this process never counts again; an account holds no more than maxLocks and maxBytes.
//
// The table knows paths, not resources. Who changes the account asks it inside the ledger's update, where
// all changes stand in one row: so a lock that was given before a change is seen by it.
package lock

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast"
)

// Bounds of the table.
const (
	maxLocks = 1000     // of one account
	maxBytes = 2 << 20  // of paths and owners of one account
	maxTotal = 64 << 20 // of all accounts
	maxEnded = 10_000   // adopted locks that have ended
	MaxOwner = 4 << 10  // bytes of one owner

	sweepEvery = time.Minute
)

// How long a lock lives without a refresh. A program that crashed leaves its lock behind: the longest time
// is what its user waits at most, if nobody takes the lock away.
const (
	DefaultTimeout = time.Hour // the client did not ask
	MaxTimeout     = 24 * time.Hour
	minTimeout     = time.Second
)

// Lock is one write lock.
type Lock struct {
	Token      string
	Account    holdfast.AccountID
	Device     holdfast.DeviceID // that took it
	Segs       []string          // its root: the path that was locked
	Collection bool              // the root is a collection
	Infinite   bool              // it covers all below its root, too
	Shared     bool
	Owner      string        // XML that the client sent
	Timeout    time.Duration // what was given
	Until      time.Time
	Issued     time.Time

	// What it was given against: an adopted lock protects from no change that was made in between.
	Place holdfast.CollectionID // the collection that the root is, or that it is a member of
	Epoch holdfast.Epoch
	Seq   holdfast.Seq
	// Unsure: changes between Seq and now were not kept off. The holder's own may be there, others' make
	// the token worthless for what they changed.
	Unsure bool

	key string // Segs joined
}

// Covers reports whether a path is in the lock's scope.
func (l *Lock) Covers(segs []string) bool {
	if len(segs) < len(l.Segs) || len(segs) > len(l.Segs) && !l.Infinite {
		return false
	}
	return slices.Equal(l.Segs, segs[:len(l.Segs)])
}

func (l *Lock) bytes() int { return 2*len(l.key) + len(l.Owner) + len(l.Token) + 256 }

// Conflict says which locks stand in the way of a new one.
type Conflict struct{ With []Lock }

func (c *Conflict) Error() string { return fmt.Sprintf("%d conflicting locks", len(c.With)) }
func (c *Conflict) Unwrap() error { return holdfast.ErrDenied }

// Config is what a Table needs.
type Config struct {
	// Sign returns a keyed MAC of at least 16 bytes, the same in every process of this server; nil if there is no key yet.
	Sign func(data []byte) []byte
	Now  func() time.Time // nil = time.Now
}

// Table holds the locks. All methods may be called at the same time.
type Table struct {
	cfg  Config
	boot [bootSize]byte // of this process

	mu       sync.RWMutex
	accounts map[holdfast.AccountID]*account
	bytes    int
	swept    time.Time
	ended    map[string]bool // tokens of processes before that this one has adopted and ended
}

type account struct {
	byKey   map[string][]*Lock
	byToken map[string]*Lock
	bytes   int
}

// New makes an empty table.
func New(cfg Config) *Table {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	t := &Table{cfg: cfg, accounts: map[holdfast.AccountID]*account{}, swept: cfg.Now(), ended: map[string]bool{}}
	_, _ = rand.Read(t.boot[:]) // never returns an error
	return t
}

// Grant returns how long a lock will live for which so much was asked; 0 stands for nothing asked.
func Grant(asked time.Duration) time.Duration {
	if asked <= 0 {
		return DefaultTimeout
	}
	return max(minTimeout, min(asked, MaxTimeout))
}

// Acquire adds a lock whose token, time of issue and end it fills in; Timeout is what was asked for. A lock
// that has a token already is adopted under it. Errors: *Conflict, holdfast.ErrTooLarge (the owner),
// holdfast.ErrQuota (too many locks), holdfast.ErrFenced (no key to sign with).
func (t *Table) Acquire(l Lock) (Lock, error) {
	l.key = strings.Join(l.Segs, "/")
	l.Segs = slices.Clone(l.Segs)
	if len(l.Owner) > MaxOwner {
		return l, fmt.Errorf("lock owner of %d bytes: %w", len(l.Owner), holdfast.ErrTooLarge)
	}
	now := t.cfg.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(now)
	a := t.accounts[l.Account]
	if a == nil {
		a = &account{byKey: map[string][]*Lock{}, byToken: map[string]*Lock{}}
	}
	if old := a.byToken[l.Token]; old != nil && now.Before(old.Until) {
		return *old, nil // another request has adopted it
	}
	t.drop(l.Account, a, a.byToken[l.Token])
	if t.ended[l.Token] {
		return l, fmt.Errorf("the lock has ended: %w", holdfast.ErrPrecondition)
	}
	if c := a.conflicts(&l, now); len(c) > 0 {
		return l, &Conflict{c}
	}
	l.Timeout = Grant(l.Timeout)
	l.Until = now.Add(l.Timeout)
	if l.Token == "" {
		l.Issued = now
		if l.Token = t.issue(&l); l.Token == "" {
			return l, fmt.Errorf("no key to sign a lock token with: %w", holdfast.ErrFenced)
		}
	}
	if len(a.byToken) >= maxLocks || a.bytes+l.bytes() > maxBytes || t.bytes+l.bytes() > maxTotal {
		return l, fmt.Errorf("too many locks: %w", holdfast.ErrQuota)
	}
	t.accounts[l.Account] = a
	a.byToken[l.Token] = &l
	a.byKey[l.key] = append(a.byKey[l.key], &l)
	a.bytes += l.bytes()
	t.bytes += l.bytes()
	return l, nil
}

// conflicts returns what keeps a lock from being given (RFC 4918, 6.1): an exclusive lock in its scope, or
// any lock if it is exclusive itself.
func (a *account) conflicts(l *Lock, now time.Time) []Lock {
	var with []Lock
	add := func(o *Lock) {
		if now.Before(o.Until) && !(l.Shared && o.Shared) {
			with = append(with, *o)
		}
	}
	for _, o := range a.covering(l.key) {
		add(o)
	}
	if l.Infinite {
		for _, o := range a.byToken {
			if strings.HasPrefix(o.key, l.key) && len(o.key) > len(l.key) && o.key[len(l.key)] == '/' {
				add(o)
			}
		}
	}
	slices.SortFunc(with, order)
	return with
}

func order(x, y Lock) int {
	if c := strings.Compare(x.key, y.key); c != 0 {
		return c
	}
	return x.Issued.Compare(y.Issued)
}

// covering returns the locks whose scope a path is in, expired ones too, the outermost first.
func (a *account) covering(key string) []*Lock {
	var out []*Lock
	for i := 0; i <= len(key); i++ {
		if i < len(key) && key[i] != '/' {
			continue
		}
		for _, l := range a.byKey[key[:i]] {
			if l.Infinite || i == len(key) {
				out = append(out, l)
			}
		}
	}
	return out
}

// Any reports whether an account has locks at all; it may count some that have expired.
func (t *Table) Any(a holdfast.AccountID) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.accounts[a] != nil
}

// Covering returns the locks whose scope a path is in, the outermost first.
func (t *Table) Covering(a holdfast.AccountID, segs []string) []Lock {
	t.mu.RLock()
	defer t.mu.RUnlock()
	acc := t.accounts[a]
	if acc == nil {
		return nil
	}
	now := t.cfg.Now()
	var out []Lock
	for _, l := range acc.covering(strings.Join(segs, "/")) {
		if now.Before(l.Until) {
			out = append(out, *l)
		}
	}
	return out
}

// Below returns the locks whose root lies below a path, in order of path.
func (t *Table) Below(a holdfast.AccountID, segs []string) []Lock {
	return t.list(a, func(l *Lock) bool { return len(l.Segs) > len(segs) && slices.Equal(segs, l.Segs[:len(segs)]) })
}

// List returns all locks of an account, in order of path.
func (t *Table) List(a holdfast.AccountID) []Lock {
	return t.list(a, func(*Lock) bool { return true })
}

func (t *Table) list(a holdfast.AccountID, want func(l *Lock) bool) []Lock {
	t.mu.RLock()
	defer t.mu.RUnlock()
	acc := t.accounts[a]
	if acc == nil {
		return nil
	}
	now := t.cfg.Now()
	var out []Lock
	for _, l := range acc.byToken {
		if now.Before(l.Until) && want(l) {
			out = append(out, *l)
		}
	}
	slices.SortFunc(out, order)
	return out
}

// Find returns the lock of a token.
func (t *Table) Find(a holdfast.AccountID, token string) (Lock, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	acc := t.accounts[a]
	if acc == nil {
		return Lock{}, false
	}
	l := acc.byToken[token]
	if l == nil || !t.cfg.Now().Before(l.Until) {
		return Lock{}, false
	}
	return *l, true
}

// Refresh gives a lock its time anew; 0 stands for as much as before. False: there is no such lock.
func (t *Table) Refresh(a holdfast.AccountID, token string, asked time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	acc := t.accounts[a]
	if acc == nil {
		return false
	}
	now := t.cfg.Now()
	l := acc.byToken[token]
	if l == nil || !now.Before(l.Until) {
		return false
	}
	if asked > 0 {
		l.Timeout = Grant(asked)
	}
	l.Until = now.Add(l.Timeout)
	return true
}

// Release ends locks.
func (t *Table) Release(a holdfast.AccountID, tokens ...string) {
	if len(tokens) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if acc := t.accounts[a]; acc != nil {
		for _, token := range tokens {
			t.drop(a, acc, acc.byToken[token])
		}
	}
}

// ReleaseDevice ends the locks that a device took, and says how many there were.
func (t *Table) ReleaseDevice(a holdfast.AccountID, d holdfast.DeviceID) int {
	return t.releaseIf(a, func(l *Lock) bool { return l.Device == d })
}

// ReleaseAll ends all locks of an account, and says how many there were.
func (t *Table) ReleaseAll(a holdfast.AccountID) int {
	return t.releaseIf(a, func(*Lock) bool { return true })
}

func (t *Table) releaseIf(a holdfast.AccountID, which func(l *Lock) bool) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	if acc := t.accounts[a]; acc != nil {
		for _, l := range acc.byToken {
			if which(l) {
				t.drop(a, acc, l)
				n++
			}
		}
	}
	return n
}

// drop forgets one lock; nil is none. The caller holds mu.
func (t *Table) drop(a holdfast.AccountID, acc *account, l *Lock) {
	if l == nil {
		return
	}
	delete(acc.byToken, l.Token)
	if l.Unsure {
		if len(t.ended) >= maxEnded {
			clear(t.ended)
		}
		t.ended[l.Token] = true
	}
	rest := slices.DeleteFunc(acc.byKey[l.key], func(o *Lock) bool { return o == l })
	if len(rest) == 0 {
		delete(acc.byKey, l.key)
	} else {
		acc.byKey[l.key] = rest
	}
	acc.bytes -= l.bytes()
	t.bytes -= l.bytes()
	if len(acc.byToken) == 0 {
		delete(t.accounts, a)
	}
}

// sweep forgets what has expired. The caller holds mu.
func (t *Table) sweep(now time.Time) {
	every := sweepEvery
	if t.bytes > maxTotal/2 {
		every = time.Second
	}
	if now.Sub(t.swept) < every {
		return
	}
	t.swept = now
	for a, acc := range t.accounts {
		for _, l := range acc.byToken {
			if !now.Before(l.Until) {
				t.drop(a, acc, l)
			}
		}
	}
}
