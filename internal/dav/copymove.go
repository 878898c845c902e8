package dav

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/ledger"
)

// copyOrMove serves COPY and MOVE (RFC 4918, 9.8 and 9.9), each as one change. A move of a
// collection is one operation, whatever it holds; a copy is one for every member.
func copyOrMove(q *request) error {
	w := &transfer{q: q, move: q.Method == "MOVE", overwrite: true}
	var err error
	switch o := strings.TrimSpace(q.Header.Get("Overwrite")); {
	case strings.EqualFold(o, "F"):
		w.overwrite = false
	case o != "" && !strings.EqualFold(o, "T"):
		return badRequest("overwrite is not T or F") // RFC 4918, 10.6; in doubt nothing is overwritten
	}
	if w.cond, err = parseConditions(q.Header); err != nil {
		return err
	}
	depth, err := q.depth("infinity")
	if err != nil {
		return err
	}
	w.shallow = depth == "0" && !w.move
	if depth == "1" {
		return badRequest("depth 1") // RFC 4918, 9.8.3
	}
	w.depth = depth
	if w.to, err = destination(q); err != nil {
		return err
	}
	if !w.move && !w.shallow {
		if err := q.view(w.collect); err != nil {
			return err
		}
	}
	if err := q.update(w.apply); err != nil {
		return fmt.Errorf("%s: %w", strings.ToLower(q.Method), err)
	}
	q.h.cfg.Locks.Release(q.who.Account, w.ended...)
	if w.replaced {
		return q.done(http.StatusNoContent)
	}
	q.w.Header().Set("Location", string(w.to.append(nil, w.to.segs, w.collection)))
	return q.done(http.StatusCreated)
}

// destination reads the Destination header (RFC 4918, 10.3).
func destination(q *request) (path, error) {
	s := q.Header.Get("Destination")
	u, err := url.Parse(s)
	if err != nil || s == "" || u.Fragment != "" || u.RawQuery != "" || u.Path == "" {
		return path{}, badRequest("bad Destination")
	}
	if u.Host != "" && !strings.EqualFold(u.Host, q.Host) && !strings.EqualFold(u.Host, q.h.cfg.Host) {
		return path{}, &fault{status: http.StatusBadGateway, detail: "the destination is another server"}
	}
	p, err := parsePath(u.EscapedPath())
	if err != nil {
		return p, fmt.Errorf("destination: %w", err)
	}
	if !q.owns(p) {
		return p, forbidden("the destination is not yours")
	}
	return p, nil
}

// transfer is a COPY or MOVE on its way.
type transfer struct {
	q         *request
	cond      *conditions
	to        path
	move      bool
	overwrite bool
	shallow   bool
	depth     string
	listed    *folder // what COPY of a collection found; nil for a resource

	collection bool
	replaced   bool
	ended      []string // tokens of locks that do not outlive it
}

// folder is a collection to be copied, with all below it.
type folder struct {
	bytes   int64 // of all bodies, with those below
	coll    ledger.Collection
	members []ledger.Resource
	folders []folder
}

// collect lists what a COPY takes along. A Tx could not: it answers questions about single names.
func (w *transfer) collect(v *ledger.View) error {
	t, err := find(v, w.q.path)
	if err != nil || t.place != placeCollection {
		return err
	}
	w.listed = &folder{coll: *t.coll}
	return w.listed.fill(v, &room{ops: frame.MaxOps - 1, bytes: maxCopied}, 0)
}

// maxCopied bounds the bodies that one copy takes into memory and into one change. Blobs do not count.
const maxCopied = frame.MaxPayload - 4<<20

// room is what is left for a copy in one change.
type room struct{ ops, bytes int }

// take is false if the room is spent.
func (r *room) take(ops, bytes int) bool {
	r.ops -= ops
	r.bytes -= bytes
	return r.ops >= 0 && r.bytes >= 0
}

func (f *folder) fill(v *ledger.View, left *room, depth int) error {
	tooMany := &fault{status: http.StatusInsufficientStorage, detail: "too many members for one copy"}
	if depth > maxSegments {
		return tooMany
	}
	for after := ""; ; {
		rs, err := v.Resources(f.coll.ID, after, listPage)
		if err != nil {
			return fmt.Errorf("members: %w", err)
		}
		size := 0
		for i := range rs {
			f.bytes += rs[i].Size
			if !rs[i].IsBlob() {
				size += int(rs[i].Size)
			}
		}
		if !left.take(len(rs), size) {
			return tooMany
		}
		f.members = append(f.members, rs...)
		if len(rs) < listPage {
			break
		}
		after = rs[len(rs)-1].Name
	}
	children, err := v.Children(f.coll.ID)
	if err != nil {
		return fmt.Errorf("children: %w", err)
	}
	if !left.take(len(children), 0) {
		return tooMany
	}
	f.folders = make([]folder, len(children))
	for i := range children {
		f.folders[i].coll = children[i]
		if err := f.folders[i].fill(v, left, depth+1); err != nil {
			return err
		}
		f.bytes += f.folders[i].bytes
	}
	return nil
}

// fitsQuota refuses a copy that the account has no room for. What is moved stays as large as it is.
func (w *transfer) fitsQuota(tx *ledger.Tx, from *target) error {
	switch {
	case w.move || w.shallow && w.collection:
		return nil
	case !w.collection:
		return w.q.fitsQuota(tx, from.res.Size)
	case w.listed == nil:
		return nil // copyAll refuses it
	}
	return w.q.fitsQuota(tx, w.listed.bytes)
}

// apply judges by the newest state and records the change.
func (w *transfer) apply(tx *ledger.Tx) error {
	from, err := find(tx, w.q.path)
	if err != nil {
		return err
	}
	if err := removable(from); err != nil {
		return err
	}
	if err := w.cond.check(from.state(), w.q.stateOf(tx)); err != nil {
		return err
	}
	to, err := resolve(tx, w.to)
	if err != nil {
		return err
	}
	if err := w.check(from, to); err != nil {
		return err
	}
	w.collection = from.place == placeCollection
	if w.collection && w.move && w.depth == "0" {
		return badRequest("a collection is moved with Depth infinity") // RFC 4918, 9.9.2
	}
	parent := to.coll
	if to.place == placeCollection {
		parent = to.parent
	}
	if w.collection {
		if err := collectionPlace(from.coll.Kind, parent, to.name()); err != nil {
			return err
		}
	} else if err := w.fits(tx, from, to, parent); err != nil {
		return err
	}
	if err := w.permit(from, to); err != nil {
		return err
	}
	if err := w.fitsQuota(tx, from); err != nil {
		return err
	}
	if to.place == placeCollection || to.place == placeResource && w.collection {
		remove(tx, to)
	}
	w.replaced = to.place != placeNothing
	switch {
	case !w.collection:
		tx.PutCopy(parent.ID, to.name(), from.res)
		if w.move {
			remove(tx, from)
		}
	case w.move:
		c := *from.coll
		c.Parent, c.Name, c.Props = parent.ID, to.name(), markPlaced(tx, c.Props)
		tx.PutCollection(&c)
	case w.shallow:
		tx.NewCollection(parent.ID, to.name(), from.coll.Kind, markPlaced(tx, from.coll.Props))
	default:
		return w.copyAll(tx, from, parent.ID, to.name())
	}
	return nil
}

// permit refuses what locks forbid (RFC 4918, 7.6). A lock does not move with what it locks and is not
// copied; one of the destination stays, and covers what is there now.
func (w *transfer) permit(from, to *target) error {
	reached := contents
	switch {
	case to.place == placeNothing:
		reached |= naming
	case to.place == placeCollection || w.collection:
		reached |= naming | tree
	}
	if err := w.q.permit(w.cond, to, reached); err != nil {
		return err
	}
	w.ended = nil
	if to.place == placeCollection {
		w.ended = w.q.lockedAt(to.segs, false)
	}
	if !w.move {
		return nil
	}
	w.ended = append(w.ended, w.q.lockedAt(from.segs, true)...)
	return w.q.permit(w.cond, from, contents|naming|tree)
}

// check refuses destinations that are impossible or unwanted.
func (w *transfer) check(from, to *target) error {
	switch {
	case to.isVirtual() || to.isHome():
		return forbidden("the destination belongs to the server")
	case to.coll == nil:
		return &fault{status: http.StatusConflict, detail: "the destination's collection is missing"} // RFC 4918, 9.8.5
	case samePath(from.segs, to.segs):
		return &fault{status: http.StatusForbidden, detail: "source and destination are one"}
	case from.place == placeCollection && inside(from.segs, to.segs):
		return &fault{status: http.StatusConflict, detail: "the destination lies in the source"}
	case inside(to.segs, from.segs):
		return &fault{status: http.StatusConflict, detail: "the source lies in the destination"}
	case to.place != placeNothing && !w.overwrite:
		return fmt.Errorf("overwrite: %w", holdfast.ErrPrecondition) // RFC 4918, 10.6
	}
	return nil
}

// fits refuses a resource that its new collection cannot hold.
func (w *transfer) fits(tx *ledger.Tx, from, to *target, parent *ledger.Collection) error {
	if reserved(parent, to.name()) {
		return forbidden("the name is kept for the server")
	}
	if to.place == placeNothing && w.to.slash {
		return &fault{status: http.StatusConflict, detail: "a name that ends in a slash is a collection's"}
	}
	if parent.Kind == holdfast.KindFile {
		return nil
	}
	if parent.Kind != holdfast.KindCalendar && parent.Kind != holdfast.KindCard {
		return forbidden("the collection cannot be written over WebDAV")
	}
	if from.res.Size > w.q.h.cfg.MaxObject {
		return tooLarge(parent.Kind)
	}
	b, err := tx.Body(from.res)
	if err != nil {
		return fmt.Errorf("body: %w", err)
	}
	x, err := checkObject(parent, from.res.ContentType, b)
	if err != nil {
		return err
	}
	dest := &target{place: placeNothing, segs: to.segs, coll: parent}
	if to.place == placeResource {
		dest.place, dest.res = placeResource, to.res
	}
	err = uidFree(tx, dest, x.UID)
	var f *fault
	if w.move && errors.As(err, &f) && len(f.hrefs) == 1 && samePath(f.hrefs[0], from.segs) {
		return nil // the other one with this UID is the one that moves away
	}
	return err
}

// copyAll records a copy of what collect listed, as long as it is still so.
func (w *transfer) copyAll(tx *ledger.Tx, from *target, parent holdfast.CollectionID, name string) error {
	if w.listed == nil || w.listed.coll.ID != from.coll.ID {
		return fmt.Errorf("source changed during the copy: %w", holdfast.ErrNotDurable)
	}
	var walk func(f *folder, parent holdfast.CollectionID, name string) error
	walk = func(f *folder, parent holdfast.CollectionID, name string) error {
		id := tx.NewCollection(parent, name, f.coll.Kind, markPlaced(tx, f.coll.Props))
		for i := range f.members {
			r := &f.members[i]
			now, err := tx.Resource(f.coll.ID, r.Name)
			if errors.Is(err, holdfast.ErrNotFound) {
				continue // deleted since
			}
			if err != nil {
				return fmt.Errorf("member: %w", err)
			}
			tx.PutCopy(id, r.Name, now)
		}
		for i := range f.folders {
			if err := walk(&f.folders[i], id, f.folders[i].coll.Name); err != nil {
				return err
			}
		}
		return nil
	}
	return walk(w.listed, parent, name)
}

func samePath(a, b []string) bool { return len(a) == len(b) && inside(a, b) }

// inside reports whether b is a or lies below it.
func inside(a, b []string) bool {
	if len(a) > len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
