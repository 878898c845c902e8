package dav

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
	"holdfast/internal/lock"
)

// Locks are kept by package lock. This file is what all methods ask of them: may this be changed, and does
// that token of an If header hold? Both are asked inside the ledger's update, by the committer, which
// lets one request decide after the other: a LOCK that came before is seen, one that comes later waits.

// NewLocks makes the table of locks of a server.
func NewLocks(l *ledger.Ledger, now func() time.Time) *lock.Table {
	return lock.New(lock.Config{Now: now, Sign: func(data []byte) []byte { return l.Sign("lock token 1", data) }})
}

// reach says what a method changes, and so which locks protect from it (RFC 4918, 7.2 to 7.4).
type reach uint8

const (
	contents reach = 1 << iota // what is at the path: its body, its properties
	naming                     // the name itself comes or goes: the collection above changes
	tree                       // all below the path goes
)

// permit refuses a change that a lock protects from and whose token was not submitted (RFC 4918, 7.5).
func (q *request) permit(c *conditions, t *target, what reach) error {
	table := q.h.cfg.Locks
	if !table.Any(q.who.Account) {
		return nil
	}
	f := &fault{status: http.StatusLocked, condition: davName("lock-token-submitted"), detail: "locked"}
	need := func(locks []lock.Lock) bool {
		for i := range locks {
			if c.submits(locks[i].Token) {
				return true // one token of several shared locks is enough; an exclusive one is alone
			}
		}
		for i := range locks {
			f.hrefs = append(f.hrefs, rootHref(&locks[i]))
		}
		return len(locks) == 0
	}
	ok := what&contents == 0 || need(table.Covering(q.who.Account, t.segs))
	if what&naming != 0 && len(t.segs) > 1 {
		if above := table.Covering(q.who.Account, t.segs[:len(t.segs)-1]); !need(above) {
			ok = false
		}
	}
	if !ok {
		f.hrefs = distinct(f.hrefs)
		return f
	}
	if what&tree != 0 {
		return q.permitBelow(c, t)
	}
	return nil
}

// permitBelow refuses the removal of a collection with locked members. It names them (RFC 4918, 9.6.1), and nothing
// is removed.
func (q *request) permitBelow(c *conditions, t *target) error {
	var members []memberFault
	table := q.h.cfg.Locks
	for _, l := range table.Below(q.who.Account, t.segs) {
		open := false
		for _, o := range table.Covering(q.who.Account, l.Segs) {
			open = open || c.submits(o.Token)
		}
		if n := len(members); open || n > 0 && samePath(members[n-1].segs, l.Segs) {
			continue
		}
		members = append(members, memberFault{l.Segs, l.Collection, &fault{
			status: http.StatusLocked, condition: davName("lock-token-submitted"), hrefs: [][]string{rootHref(&l)},
		}})
	}
	if members == nil {
		return nil
	}
	return &fault{status: http.StatusMultiStatus, members: members, detail: "members are locked"}
}

// rootHref returns the root of a lock for a fault's hrefs; an empty last segment gives it the slash of a collection.
func rootHref(l *lock.Lock) []string {
	if l.Collection {
		return below(l.Segs, "")
	}
	return l.Segs
}

// distinct drops paths that stand one after the other twice.
func distinct(paths [][]string) [][]string {
	out := paths[:0]
	for _, p := range paths {
		if len(out) == 0 || !samePath(out[len(out)-1], p) {
			out = append(out, p)
		}
	}
	return out
}

// lockedAt returns the tokens of the locks whose root is below a path or, if itself is set, the path.
func (q *request) lockedAt(segs []string, itself bool) []string {
	var tokens []string
	table := q.h.cfg.Locks
	if !table.Any(q.who.Account) {
		return nil
	}
	if itself {
		for _, l := range table.Covering(q.who.Account, segs) {
			if len(l.Segs) == len(segs) {
				tokens = append(tokens, l.Token)
			}
		}
	}
	for _, l := range table.Below(q.who.Account, segs) {
		tokens = append(tokens, l.Token)
	}
	return tokens
}

// account is what View and Tx answer alike about the state a request is judged by.
type account interface {
	reader
	Head() holdfast.AccountHead
	Author(seq holdfast.Seq) (holdfast.DeviceID, error)
	LastSeq(c holdfast.CollectionID) (holdfast.Seq, error)
	ParseSyncToken(s string, by holdfast.DeviceID) (ledger.SyncPoint, error)
}

var (
	_ account = (*ledger.View)(nil)
	_ account = (*ledger.Tx)(nil)
)

// maxAdoptions bounds how many tokens of processes before one request may have proven.
const maxAdoptions = 64

// lists judges the lists of an If header by one state of the account.
type lists struct {
	q     *request
	a     account
	tried int
}

// stateOf gives an If header the state of what it names.
func (q *request) stateOf(a account) judge { return &lists{q: q, a: a} }

func (j *lists) state(href string) (state, error) {
	p, err := parseHref(href, j.q.path)
	if err != nil || !j.q.owns(p) {
		return state{}, nil // not ours: nothing there to match
	}
	t, err := resolve(j.a, p)
	if err != nil {
		return state{}, err
	}
	return t.state(), nil
}

func (j *lists) token(s state, token string) (bool, error) {
	t := s.at
	switch {
	case t == nil || t.isVirtual():
		return false, nil
	case strings.HasPrefix(token, "holdfast:"):
		return j.syncToken(t, token)
	}
	l, ok := j.q.h.cfg.Locks.Find(j.q.who.Account, token)
	if !ok {
		if l, ok = j.adopt(t, token); !ok {
			return false, nil
		}
	}
	if !l.Covers(t.segs) {
		return false, nil
	}
	return j.kept(&l, t)
}

// adopt takes a lock back that a process before had given: its token says so, the collection it was given in is
// still at its path, and nobody has locked anything against it since.
func (j *lists) adopt(t *target, token string) (lock.Lock, bool) {
	table := j.q.h.cfg.Locks
	c, ok := table.Claim(token)
	if j.tried++; !ok || j.tried > maxAdoptions || c.Root > len(t.segs) || c.Root == 0 {
		return lock.Lock{}, false
	}
	root := t
	if c.Root < len(t.segs) {
		var err error
		if root, err = resolve(j.a, path{segs: t.segs[:c.Root]}); err != nil {
			return lock.Lock{}, false
		}
	}
	if root.coll == nil {
		return lock.Lock{}, false
	}
	head := j.a.Head()
	head.Account = j.q.who.Account
	l, ok := table.Open(c, head, root.segs, root.coll.ID)
	if !ok {
		return l, false
	}
	if ok, err := j.kept(&l, t); !ok || err != nil || !l.Covers(t.segs) {
		return l, false
	}
	if l, err := table.Acquire(l); err == nil {
		j.q.h.log.Debug("lock adopted", "account", l.Account.String(), "device", uint64(l.Device))
		return l, true
	}
	return l, false
}

// kept reports whether a resource has no change of another device that the lock should have kept off. Only a
// lock that was not in force all the time asks.
func (j *lists) kept(l *lock.Lock, t *target) (bool, error) {
	if !l.Unsure || t.place != placeResource || t.res.BodySeq <= l.Seq {
		return true, nil
	}
	by, err := j.a.Author(t.res.BodySeq)
	if err != nil {
		return false, fmt.Errorf("who changed a locked resource: %w", err)
	}
	return uint32(by) == uint32(l.Device), nil // a token has so much of it
}

// syncToken reports whether a sync token is the present one of a collection (RFC 6578, 5).
func (j *lists) syncToken(t *target, token string) (bool, error) {
	if t.place != placeCollection {
		return false, nil
	}
	witness, rest, _ := strings.Cut(token, tokenCollection)
	id, _, within := strings.Cut(rest, tokenFolders)
	p, err := j.a.ParseSyncToken(witness, j.q.who.Device)
	switch {
	case errors.Is(err, holdfast.ErrToken):
		return false, nil
	case err != nil:
		return false, err
	case p.Lost || within || id != strconv.FormatUint(uint64(t.coll.ID), 16):
		return false, nil
	}
	last, err := j.a.LastSeq(t.coll.ID)
	if err != nil {
		return false, fmt.Errorf("last change of a collection: %w", err)
	}
	return last <= p.Since, nil
}
