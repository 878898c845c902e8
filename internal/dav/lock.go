package dav

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
	"holdfast/internal/lock"
)

// lockMethod gives a write lock, or with no body gives one its time anew (RFC 4918, 9.10). It goes through the
// ledger's update although nothing may be written: a change that was let through before is durable, and
// so seen by whoever reads what it has locked, when the answer leaves.
func lockMethod(q *request) error {
	w := &locking{q: q}
	var err error
	if w.cond, err = parseConditions(q.Header); err != nil {
		return err
	}
	w.asked = askedTimeout(q.Header)
	depth, err := q.depth("infinity")
	if err != nil {
		return err
	}
	body, err := q.xmlBody(maxXML)
	if err != nil {
		return err
	}
	if body == nil {
		return w.refresh()
	}
	if depth == "1" {
		return badRequest("a lock has Depth 0 or infinity") // RFC 4918, 9.10.3
	}
	w.lock.Infinite = depth == "infinity"
	if err := w.parse(body); err != nil {
		return err
	}
	if err := w.settle(w.give); err != nil {
		w.abandon()
		return fmt.Errorf("lock: %w", err)
	}
	q.w.Header().Set("Lock-Token", "<"+w.lock.Token+">")
	status := http.StatusOK
	if w.created {
		status = http.StatusCreated
	}
	return w.answer(status, w.lock.Token)
}

// locking is a LOCK on its way.
type locking struct {
	q     *request
	cond  *conditions
	asked time.Duration // 0: nothing

	mu        sync.Mutex // of the rest: an update whose request has ended may still run
	abandoned bool
	given     bool
	lock      lock.Lock
	created   bool
	segs      []string
}

// parse reads DAV:lockinfo (RFC 4918, 14.11).
func (w *locking) parse(body *node) error {
	if !body.is(davName("lockinfo")) {
		return badRequest("lockinfo expected")
	}
	scope, kind := body.child(davName("lockscope")), body.child(davName("locktype"))
	if scope == nil || kind == nil {
		return badRequest("lockinfo without lockscope or locktype")
	}
	unknown := &fault{status: http.StatusUnprocessableEntity, detail: "only exclusive and shared write locks are given"}
	shared, exclusive := scope.child(davName("shared")) != nil, scope.child(davName("exclusive")) != nil
	if shared == exclusive || kind.child(davName("write")) == nil {
		return unknown
	}
	w.lock.Shared = shared
	if owner := body.child(davName("owner")); owner != nil {
		w.lock.Owner = string(appendNodes(nil, owner.kids, "")) // RFC 4918, 14.17: as it is
	}
	return nil
}

// settle runs fn in an update. When the server is held, which answers 503 or 507 to writes, a lock of what is there
// needs no write: it is judged by what is shown then.
func (w *locking) settle(fn func(a account) error) error {
	err := w.q.update(func(tx *ledger.Tx) error { return fn(tx) })
	if !errors.Is(err, holdfast.ErrNotDurable) && !errors.Is(err, holdfast.ErrFull) || w.q.Context().Err() != nil {
		return err
	}
	w.release()
	verr := w.q.view(func(v *ledger.View) error { return fn(v) })
	if errors.Is(verr, errNeedsWrite) {
		return err
	}
	return verr
}

var errNeedsWrite = errors.New("needs a write")

// give judges by one state of the account and takes the lock.
func (w *locking) give(a account) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.abandoned {
		return fmt.Errorf("nobody waits for the lock: %w", holdfast.ErrDenied)
	}
	t, err := resolve(a, w.q.path)
	if err != nil {
		return err
	}
	if err := lockPlace(w.q, t); err != nil {
		return err
	}
	if err := w.cond.check(t.state(), w.q.stateOf(a)); err != nil {
		return err
	}
	tx, writable := a.(*ledger.Tx)
	if t.place == placeNothing {
		if !writable {
			return errNeedsWrite
		}
		if err := w.q.permit(w.cond, t, naming); err != nil {
			return err
		}
	}
	h := a.Head()
	w.lock.Account, w.lock.Device, w.lock.Segs = w.q.who.Account, w.q.who.Device, t.segs
	w.lock.Collection, w.lock.Place = t.place == placeCollection, t.coll.ID
	w.lock.Epoch, w.lock.Seq, w.lock.Unsure = h.Epoch, h.Head.Seq, !writable
	w.lock.Timeout, w.lock.Token = w.asked, ""
	l, err := w.q.h.cfg.Locks.Acquire(w.lock)
	if err != nil {
		return w.refused(err)
	}
	w.lock, w.given, w.segs = l, true, t.segs
	if t.place == placeNothing { // RFC 4918, 7.3
		w.created = true
		tx.Put(t.coll.ID, t.name(), "", w.q.h.cfg.Now().UnixMilli(), ledger.InlineBody([]byte{}))
	}
	return nil
}

// lockPlace refuses a lock where there can be none. The home cannot be locked: one program would stop all the
// devices of its person.
func lockPlace(q *request, t *target) error {
	switch {
	case t.isVirtual() || t.isHome():
		return methodNotAllowed(allowed(t), "this cannot be locked")
	case t.place != placeNothing:
		return nil
	}
	if err := putPlace(q, t); err != nil {
		return err
	}
	if t.coll.Kind != holdfast.KindFile {
		// RFC 4918, 7.3 makes an empty resource, which no calendar or address book can hold.
		return forbidden("there is nothing to lock, and nothing empty can be made here")
	}
	return nil
}

// refused answers a lock that is not given (RFC 4918, 9.10.5 and 9.10.6).
func (w *locking) refused(err error) error {
	var c *lock.Conflict
	if errors.Is(err, holdfast.ErrQuota) {
		return &fault{status: http.StatusInsufficientStorage, detail: "too many locks; unlock some first"}
	}
	if !errors.As(err, &c) {
		return err
	}
	f := &fault{status: http.StatusLocked, condition: davName("no-conflicting-lock"), detail: "locked already"}
	var members []memberFault
	for i := range c.With {
		l := &c.With[i]
		href := rootHref(l)
		if l.Covers(w.q.path.segs) {
			f.hrefs = append(f.hrefs, href)
			continue
		}
		members = append(members, memberFault{l.Segs, l.Collection, &fault{
			status: http.StatusLocked, condition: davName("no-conflicting-lock"), hrefs: [][]string{href},
		}})
	}
	if len(f.hrefs) > 0 {
		f.hrefs = distinct(f.hrefs)
		return f
	}
	members = append(members, memberFault{w.q.path.segs, true, &fault{status: http.StatusFailedDependency}})
	return &fault{status: http.StatusMultiStatus, members: members, detail: "members are locked"}
}

// abandon takes back what was given, also by an update that has yet to run.
func (w *locking) abandon() {
	w.mu.Lock()
	w.abandoned = true
	w.mu.Unlock()
	w.release()
}

func (w *locking) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.given {
		w.q.h.cfg.Locks.Release(w.q.who.Account, w.lock.Token)
		w.given, w.created = false, false
	}
}

// refresh gives the locks whose tokens are submitted their time anew (RFC 4918, 9.10.2).
func (w *locking) refresh() error {
	if len(w.cond.lists) == 0 {
		return badRequest("a LOCK without a body refreshes the lock that its If header names")
	}
	err := w.settle(func(a account) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		t, err := find(a, w.q.path)
		if err != nil {
			return err
		}
		if err := w.cond.check(t.state(), w.q.stateOf(a)); err != nil {
			return err
		}
		w.segs = t.segs
		return nil
	})
	if err != nil {
		return fmt.Errorf("refresh lock: %w", err)
	}
	w.mu.Lock()
	segs := w.segs
	w.mu.Unlock()
	first := ""
	for _, l := range w.q.h.cfg.Locks.Covering(w.q.who.Account, segs) {
		if w.cond.submits(l.Token) && w.q.h.cfg.Locks.Refresh(w.q.who.Account, l.Token, w.asked) {
			first = l.Token
		}
	}
	if first == "" {
		// RFC 4918, 9.10.6: the token is of no lock of this resource.
		return refuse(http.StatusPreconditionFailed, davName("lock-token-matches-request-uri"), "no such lock")
	}
	return w.answer(http.StatusOK, first)
}

// answer sends the locks of the resource, the one that was given or refreshed first.
func (w *locking) answer(status int, token string) error {
	m := w.q.answer(davName("prop"))
	defer m.release()
	m.buf = append(m.buf, "<D:lockdiscovery>"...)
	locks := w.q.h.cfg.Locks.Covering(w.q.who.Account, w.segs)
	for _, first := range []bool{true, false} {
		for i := range locks {
			if (locks[i].Token == token) == first {
				m.buf = appendLock(m.buf, &locks[i], w.q.h.cfg.Now())
			}
		}
	}
	m.buf = append(m.buf, "</D:lockdiscovery>"...)
	return m.end(status)
}

// appendLock appends a DAV:activelock (RFC 4918, 14.1).
func appendLock(dst []byte, l *lock.Lock, now time.Time) []byte {
	dst = append(dst, "<D:activelock><D:locktype><D:write/></D:locktype><D:lockscope>"...)
	if l.Shared {
		dst = append(dst, "<D:shared/>"...)
	} else {
		dst = append(dst, "<D:exclusive/>"...)
	}
	dst = append(dst, "</D:lockscope><D:depth>"...)
	if l.Infinite {
		dst = append(dst, "infinity"...)
	} else {
		dst = append(dst, '0')
	}
	dst = append(dst, "</D:depth>"...)
	if l.Owner != "" {
		dst = append(append(append(dst, "<D:owner>"...), l.Owner...), "</D:owner>"...)
	}
	left := max(time.Second, l.Until.Sub(now)+time.Second-time.Nanosecond)
	dst = append(dst, "<D:timeout>Second-"...)
	dst = strconv.AppendInt(dst, int64(left/time.Second), 10)
	dst = append(dst, "</D:timeout><D:locktoken><D:href>"...)
	dst = appendText(dst, l.Token)
	dst = append(dst, "</D:href></D:locktoken><D:lockroot>"...)
	dst = appendHref(dst, l.Segs, l.Collection)
	return append(dst, "</D:lockroot></D:activelock>"...)
}

// askedTimeout reads the Timeout header (RFC 4918, 10.7): the first time in it that can be understood, 0 if there is none.
func askedTimeout(h http.Header) time.Duration {
	for _, v := range h.Values("Timeout") {
		for s := range strings.SplitSeq(v, ",") {
			s = strings.TrimSpace(s)
			if strings.EqualFold(s, "Infinite") {
				return lock.MaxTimeout
			}
			if len(s) > 7 && strings.EqualFold(s[:7], "Second-") {
				if n, err := strconv.ParseUint(s[7:], 10, 64); err == nil {
					return max(time.Nanosecond, time.Duration(min(n, uint64(lock.MaxTimeout/time.Second)))*time.Second)
				}
			}
		}
	}
	return 0
}

// writeLockDiscovery is RFC 4918, 15.8. The tokens are shown: whoever sees them may unlock anyway.
func writeLockDiscovery(c *propContext, dst []byte) ([]byte, bool, error) {
	if c.t.isVirtual() {
		return dst, false, nil
	}
	locks := c.q.h.cfg.Locks.Covering(c.q.who.Account, c.t.segs)
	for i := range locks {
		dst = appendLock(dst, &locks[i], c.q.h.cfg.Now())
	}
	return dst, true, nil
}

// writeSupportedLock is RFC 4918, 15.10.
func writeSupportedLock(c *propContext, dst []byte) ([]byte, bool, error) {
	if c.t.isVirtual() {
		return dst, false, nil
	}
	if c.t.isHome() {
		return dst, true, nil
	}
	return append(dst, supportedLocks...), true, nil
}

const supportedLocks = "<D:lockentry><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>" +
	"<D:lockentry><D:lockscope><D:shared/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>"
