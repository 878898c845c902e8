package dav

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"holdfast"
	"holdfast/internal/ledger"
)

// prefers reports whether the client prefers something, "return=minimal" for one (RFC 7240, 2). Of a
// preference that is given twice the first counts.
func (q *request) prefers(want string) bool {
	name, value, _ := strings.Cut(want, "=")
	for _, line := range q.Header.Values("Prefer") {
		for p := range strings.SplitSeq(line, ",") {
			p, _, _ = strings.Cut(p, ";")
			n, v, _ := strings.Cut(p, "=")
			if strings.EqualFold(strings.TrimSpace(n), name) {
				return strings.EqualFold(strings.Trim(strings.TrimSpace(v), `"`), value)
			}
		}
	}
	return false
}

// applied says that a preference was followed (RFC 7240, 3).
func (q *request) applied(preference string) {
	q.w.Header().Add("Preference-Applied", preference)
}

// minimal reports whether the client wants no 404 properties, and says so in the answer (RFC 8144, 2.1; Brief
// is Apple's).
func (q *request) minimal() bool {
	if q.prefers("return=minimal") {
		q.w.Header().Set("Preference-Applied", "return=minimal")
		return true
	}
	return strings.EqualFold(q.Header.Get("Brief"), "t")
}

// stored answers a PUT or POST, with what is stored now if the client prefers that (RFC 7240, 4.2).
func (q *request) stored(created bool) error {
	status := http.StatusNoContent
	if created {
		status = http.StatusCreated
	}
	if !q.prefers("return=representation") {
		return q.done(status)
	}
	if status == http.StatusNoContent {
		status = http.StatusOK
	}
	sent, err := q.represent(status)
	if err != nil || sent {
		return err
	}
	if created {
		return q.done(http.StatusCreated)
	}
	return q.done(http.StatusNoContent)
}

// unmatched answers a PUT whose precondition failed, with what is there if the client prefers that (RFC 8144,
// 3): it need not ask again to merge.
func (q *request) unmatched(err error) error {
	if !errors.Is(err, holdfast.ErrPrecondition) || statusOf(err).status != http.StatusPreconditionFailed || !q.prefers("return=representation") {
		return err
	}
	if sent, rerr := q.represent(http.StatusPreconditionFailed); rerr != nil || sent {
		return rerr
	}
	return err
}

// represent sends the card or calendar object at the path. Nothing is sent of what is not one: a file need
// not fit into memory.
func (q *request) represent(status int) (sent bool, err error) {
	var t *target
	var b []byte
	err = q.view(func(v *ledger.View) (err error) {
		if t, err = resolve(v, q.path); err != nil || t.place != placeResource || t.coll.Kind == holdfast.KindFile {
			return err
		}
		if b, err = v.Body(t.res); err != nil {
			return fmt.Errorf("body: %w", err)
		}
		sent = true
		return nil
	})
	if err != nil || !sent {
		return false, err
	}
	q.applied("return=representation")
	h := q.w.Header()
	h.Set("ETag", t.res.ETag())
	h.Set("Content-Type", contentType(t.coll.Kind, t.res))
	h.Set("Content-Location", string(appendPath(nil, t.segs, false)))
	h.Set("Cache-Control", "private, no-cache")
	harmless(h, t.res.Name)
	h.Set("Content-Length", strconv.Itoa(len(b)))
	q.w.WriteHeader(status)
	if _, err := q.w.Write(b); err != nil {
		return true, errAnswered
	}
	return true, nil
}
