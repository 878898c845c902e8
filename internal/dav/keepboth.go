package dav

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	pathpkg "path"
	"strings"

	"holdfast"
	"holdfast/internal/contentline"
	"holdfast/internal/ledger"
)

// After an accepted loss (A1) a device may hold a version that the server lost, and show its ETag. To tell it
// 412 would lose its edit: DAVx5 downloads the server's older version over it. So the device's version is
// stored under the name, where all other devices see it too, and the server's version is kept beside it as
// NAME-conflict-HASH.EXT. A card or calendar object gets a new UID there: a UID names one resource of a
// collection (RFC 4791, 5.3.2.1; RFC 6352, 5.1). docs/decisions/20261121-both-versions-are-kept.md

// lostVersion reports whether the ETags of If-Match name a version that this account's history never had
// although it could have: the account has an accepted loss, and the ETag has this server's form.
func (w *putWork) lostVersion(tx *ledger.Tx, t *target) (bool, error) {
	c := w.cond
	if tx.Head().Epoch < 2 || t.place != placeResource || c.match == nil || c.match.any || c.noneMatch != nil || !c.unmodified.IsZero() || len(c.lists) > 0 {
		return false, nil
	}
	for _, tag := range c.match.tags {
		tag = strings.TrimPrefix(tag, "W/") // which some proxies add
		digits, err := hex.DecodeString(strings.Trim(tag, `"`))
		if err != nil || len(tag) != len(holdfast.ETag(holdfast.Hash{})) || len(digits) == 0 {
			return false, nil // not ours, so it was not lost here
		}
		had, err := tx.Had(t.coll.ID, t.name(), tag)
		if had || err != nil {
			return false, err
		}
	}
	return true, nil
}

// copyNeeded says that a PUT has to keep the server's version before it can be stored.
type copyNeeded struct{ of *ledger.Resource }

func (*copyNeeded) Error() string { return "the server's version has to be kept beside it" }

// conflictCopy is the server's version, ready to be stored beside the device's.
type conflictCopy struct {
	of   holdfast.Hash // the body it was made of
	body ledger.Body   // not for files: they are copied as they are
}

// store stores the PUT. If the server's version must be kept first, its copy is prepared outside of the
// update, which has to be quick; if that version changed meanwhile it begins again.
func (w *putWork) store() error {
	var err error
	for range 3 {
		var needed *copyNeeded
		if err = w.q.update(w.apply); !errors.As(err, &needed) {
			return err
		}
		if perr := w.prepare(needed.of); perr != nil {
			return perr
		}
	}
	return fmt.Errorf("the resource kept changing: %w: %w", err, holdfast.ErrNotDurable)
}

// prepare makes the copy of a version of the server's.
func (w *putWork) prepare(of *ledger.Resource) error {
	w.keep = &conflictCopy{of: of.Body}
	if w.kind == holdfast.KindFile {
		return nil
	}
	var b []byte
	err := w.q.view(func(v *ledger.View) (err error) {
		b, err = v.Body(of)
		return err
	})
	if err != nil {
		return fmt.Errorf("read the version to keep: %w", err)
	}
	b = withUID(w.kind, b, conflictUID(of.Body))
	if len(b) <= holdfast.MaxInline {
		w.keep.body = ledger.InlineBody(b)
		return nil
	}
	w.keep.body, err = w.q.putBlob(bytes.NewReader(b), int64(len(b)))
	return err
}

// keepBoth records the server's version beside the device's, which the caller records.
func (w *putWork) keepBoth(tx *ledger.Tx, t *target) error {
	if w.keep == nil || w.keep.of != t.res.Body {
		return &copyNeeded{t.res}
	}
	name, there, err := w.conflictName(tx, t)
	if err != nil || there {
		return err
	}
	if w.kind == holdfast.KindFile {
		tx.PutCopy(t.coll.ID, name, t.res)
	} else {
		tx.Put(t.coll.ID, name, t.res.ContentType, t.res.Modified, w.keep.body)
	}
	w.q.h.log.Info("both versions kept after an accepted loss", "account", w.q.who.Account.String(), "device", uint64(w.q.who.Device), "collection", uint64(t.coll.ID))
	return nil
}

// conflictName returns a free name for the server's version, or that its copy is there already.
func (w *putWork) conflictName(tx *ledger.Tx, t *target) (name string, there bool, err error) {
	ext := pathpkg.Ext(t.name())
	base := strings.TrimSuffix(t.name(), ext)
	digits := w.keep.of.String()
	for _, n := range []int{8, 16, 64} {
		end := "-conflict-" + digits[:n] + ext
		name = strings.ToValidUTF8(base[:min(len(base), max(0, maxName-len(end)))], "") + end
		if _, err := tx.Child(t.coll.ID, name); err == nil {
			continue
		} else if !errors.Is(err, holdfast.ErrNotFound) {
			return "", false, fmt.Errorf("look for the name of a copy: %w", err)
		}
		r, err := tx.Resource(t.coll.ID, name)
		switch {
		case errors.Is(err, holdfast.ErrNotFound):
			return name, false, nil
		case err != nil:
			return "", false, fmt.Errorf("look for the name of a copy: %w", err)
		case r.Body == w.keep.body.Hash || r.Body == w.keep.of:
			return name, true, nil
		}
	}
	return "", false, fmt.Errorf("no name is free for the server's version: %w", holdfast.ErrPrecondition)
}

// conflictUID is the UID of the copy of a body. The same body gives the same UID, so a repeat makes no second copy.
func conflictUID(of holdfast.Hash) string {
	h := sha256.Sum256(append([]byte("holdfast conflict copy "), of[:]...))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80 // RFC 9562, 5.8
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// withUID returns a card or calendar object with another UID; every other byte stays.
func withUID(k holdfast.Kind, b []byte, uid string) []byte {
	own := 1 // the depth at which a UID names the object: in the card, or in the components of the calendar
	if k == holdfast.KindCalendar {
		own = 2
	}
	var out []byte
	var l contentline.Line
	depth, after, found := 0, 0, false // after: where a card without a UID gets one
	for r := contentline.NewReader(b); r.Next(&l); {
		switch {
		case l.Is("BEGIN"):
			depth++
		case l.Is("END"):
			depth--
		case depth == own && l.Is("UID"):
			found = true
			out = append(append(append(out, "UID:"...), uid...), ending(l.Raw)...)
			continue
		}
		out = append(out, l.Raw...)
		if after == 0 && (l.Is("BEGIN") || l.Is("VERSION")) || l.Is("VERSION") && depth == 1 {
			after = len(out)
		}
	}
	if found || k != holdfast.KindCard {
		return out
	}
	line := append([]byte("UID:"+uid), ending(out[:after])...)
	return append(out[:after:after], append(line, out[after:]...)...)
}

// ending returns the line ending of a raw line.
func ending(raw []byte) string {
	if bytes.HasSuffix(raw, []byte("\r\n")) {
		return "\r\n"
	}
	return "\n"
}

// findListed is find for what devices list. A calendar or address book that was made in a lost range is
// missing, but nobody deleted it: a device that is told 404 drops it with all that is in it (A2).
func (q *request) findListed(v *ledger.View) (*target, error) {
	t, err := find(v, q.path)
	if errors.Is(err, errNotFound) {
		if lost := q.mayBeLost(v); lost != nil {
			return nil, lost
		}
	}
	return t, err
}

// mayBeLost returns ErrFenced, so that the device waits, if the account has an accepted loss and the path
// leads into a collection of the home that is missing and that its history never had.
func (q *request) mayBeLost(v *ledger.View) error {
	if v.Head().Epoch < 2 || len(q.path.segs) < 2 || q.path.segs[0] != q.who.Name {
		return nil
	}
	name := q.path.segs[1]
	_, err := v.Child(holdfast.Root, name)
	if err == nil || !errors.Is(err, holdfast.ErrNotFound) {
		return err
	}
	if _, err = v.Resource(holdfast.Root, name); err == nil || !errors.Is(err, holdfast.ErrNotFound) {
		return err
	}
	had, err := v.HadChild(holdfast.Root, name)
	if err != nil || had {
		return err
	}
	return fmt.Errorf("a collection that is missing and was never deleted may have been lost: %w", holdfast.ErrFenced)
}
