package dav

import (
	"errors"
	"fmt"
	"strconv"

	"holdfast"
	"holdfast/internal/ledger"
)

// stored is what can say how much an account keeps: a view, or the state that a change is judged by.
type stored interface {
	Stored() (live, history int64, err error)
}

// room returns how many more bytes the account may keep; bounded is false without a quota. Old versions
// count (DESIGN.md, 8), so whoever replaces a file needs room for the new one.
func (q *request) room(r stored) (left int64, bounded bool, err error) {
	if q.who.Quota <= 0 {
		return 0, false, nil
	}
	live, history, err := r.Stored()
	if err != nil {
		return 0, true, fmt.Errorf("what the account keeps: %w", err)
	}
	return max(0, q.who.Quota-live-history), true, nil
}

// fitsQuota refuses bytes that the account has no room for (RFC 4331, 6). A deletion never asks.
func (q *request) fitsQuota(r stored, bytes int64) error {
	left, bounded, err := q.room(r)
	if err == nil && bounded && bytes > left {
		err = fmt.Errorf("%d bytes, and there is room for %d: %w", bytes, left, holdfast.ErrQuota)
	}
	return err
}

// mayFit is fitsQuota before a body is read. One of the size of what is there may be a repeat, for which
// the change itself needs no room: that is judged when the body is known.
func (q *request) mayFit(v *ledger.View, bytes int64) error {
	err := q.fitsQuota(v, bytes)
	if !errors.Is(err, holdfast.ErrQuota) {
		return err
	}
	t, rerr := resolve(v, q.path)
	if rerr != nil {
		return rerr
	}
	if t.place == placeResource && t.res.Size == bytes {
		return nil
	}
	return err
}

// writeQuotaUsed counts what the account keeps, its history too (RFC 4331, 4).
func writeQuotaUsed(c *propContext, dst []byte) ([]byte, bool, error) {
	if c.t.place != placeCollection {
		return dst, false, nil
	}
	live, history, err := c.v.Stored()
	if err != nil {
		return dst, false, fmt.Errorf("usage: %w", err)
	}
	return strconv.AppendInt(dst, live+history, 10), true, nil
}

// writeQuotaLeft says how much more the account may keep (RFC 4331, 3); nothing without a quota.
func writeQuotaLeft(c *propContext, dst []byte) ([]byte, bool, error) {
	if c.t.place != placeCollection {
		return dst, false, nil
	}
	left, bounded, err := c.q.room(c.v)
	if err != nil || !bounded {
		return dst, false, err
	}
	return strconv.AppendInt(dst, left, 10), true, nil
}
