package store

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"holdfast"
	"holdfast/frame"
)

// maxName is the longest name of a resource or collection, in bytes.
const maxName = 1024

// maxDepth is how many collections may lie inside each other.
const maxDepth = 256

// CheckName returns ErrInvalid for what cannot be the name of a resource or collection: empty, longer
// than 1,024 bytes, not UTF-8, or with a slash or a NUL in it. Apply refuses such names.
func CheckName(name string) error {
	if name == "" || len(name) > maxName || strings.ContainsAny(name, "/\x00") || !utf8.ValidString(name) {
		return fmt.Errorf("name of %d bytes: %w", len(name), holdfast.ErrInvalid)
	}
	return nil
}

// maxProps is how many bytes the properties of one resource or collection may have together.
const maxProps = 64 << 10

// CheckProps returns ErrInvalid for properties of more than 64 KiB together, which Apply refuses.
func CheckProps(props []holdfast.Property) error {
	n := 0
	for _, p := range props {
		n += len(p.Name) + len(p.Value)
	}
	if n > maxProps {
		return fmt.Errorf("%d bytes of properties: %w", n, holdfast.ErrInvalid)
	}
	return nil
}

func (a *applier) put(o *frame.Op) error {
	if err := CheckName(o.Name); err != nil {
		return err
	}
	m, err := a.t.membership(a.c.Account, o.Collection)
	if err != nil {
		return err
	}
	old, err := a.t.c.resource(a.c.Account, o.Collection, o.Name, Newest)
	if err != nil {
		return err
	}
	r := &Resource{
		Account: a.c.Account, Collection: o.Collection, Name: o.Name, Seq: a.c.Seq,
		Body: o.BodyHash, Size: o.BodySize(), BodySeq: a.c.Seq, BodyOffset: -1,
		ContentType: o.ContentType, Created: a.c.Time, Modified: o.Modified, Props: o.Props,
		First: math.MinInt64, Last: math.MaxInt64,
	}
	if old != nil {
		r.Created = old.Created
		if o.Props == nil {
			r.Props = old.Props
		}
	}
	if o.Blob == nil {
		r.BodyOffset = int64(o.BodyOffset)
		if x, err := parse(m.kind, o.ContentType, o.Body); err == nil {
			r.UID, r.Component, r.First, r.Last = x.UID, x.Component, x.First, x.Last
		}
	}
	if old != nil && old.Body != r.Body {
		a.lose(Loss{Collection: r.Collection, BodySeq: old.BodySeq})
	}
	return a.replace(m, old, r)
}

func (a *applier) setProperties(o *frame.Op) error {
	m, err := a.t.membership(a.c.Account, o.Collection)
	if err != nil {
		return err
	}
	old, err := a.existing(o)
	if err != nil || old == nil {
		return err
	}
	r := *old
	r.Seq, r.Props = a.c.Seq, o.Props
	return a.replace(m, old, &r)
}

// existing returns the resource an operation needs, else ErrInvalid; nil if it may have been erased.
func (a *applier) existing(o *frame.Op) (*Resource, error) {
	old, err := a.t.c.resource(a.c.Account, o.Collection, o.Name, Newest)
	if err == nil && old == nil && a.erased == 0 {
		err = fmt.Errorf("there is no resource of that name in collection %d: %w", o.Collection, holdfast.ErrInvalid)
	}
	return old, err
}

// replace makes r the present version of a resource; old is nil if it is the first.
func (a *applier) replace(m *membership, old, r *Resource) error {
	a.wrote = true
	args := []any{int64(r.Account), int64(r.Collection), r.Name, int64(r.Seq), r.Size, uidKey(r.UID), appendThin(nil, r)}
	if old == nil {
		if err := a.t.c.one("INSERT INTO resource (account_id, collection_id, name, seq, size, uid_key, thin) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", args...); err != nil {
			return err
		}
		a.resources++
	} else {
		if err := a.keep(old); err != nil {
			return err
		}
		if err := a.t.c.one("UPDATE resource SET seq = ?4, size = ?5, uid_key = ?6, thin = ?7 WHERE account_id = ?1 AND collection_id = ?2 AND name = ?3", args...); err != nil {
			return err
		}
		m.digest.sub(memberHash(old))
		a.bytes -= old.Size
	}
	a.bytes += r.Size
	m.digest.add(memberHash(r))
	a.touch(r.Collection, r.Name)
	if r.IsBlob() && r.BodySeq == r.Seq {
		if a.blobs == nil {
			a.blobs = map[holdfast.Hash]int{}
		}
		a.blobs[r.Body]++
	}
	if old != nil && old.Seq != a.c.Seq && old.BodySeq != r.BodySeq && !(r.IsBlob() && r.Body == old.Body) {
		a.history += old.Size
	}
	return nil
}

// keep puts a version that ends with this change into history, unless it began with it.
func (a *applier) keep(old *Resource) error {
	if old.Seq == a.c.Seq {
		return nil
	}
	return a.t.c.one(`INSERT INTO history (account_id, collection_id, name, to_seq, from_seq, size, uid_key, thin)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)`,
		int64(old.Account), int64(old.Collection), old.Name, int64(a.c.Seq), int64(old.Seq), old.Size, uidKey(old.UID), appendThin(nil, old))
}

func (a *applier) remove(o *frame.Op) error {
	m, err := a.t.membership(a.c.Account, o.Collection)
	if err != nil {
		return err
	}
	old, err := a.existing(o)
	if err != nil || old == nil {
		return err
	}
	a.wrote = true
	if err := a.keep(old); err != nil {
		return err
	}
	if err := a.t.c.one("DELETE FROM resource WHERE account_id = ?1 AND collection_id = ?2 AND name = ?3",
		int64(a.c.Account), int64(o.Collection), o.Name); err != nil {
		return err
	}
	a.lose(Loss{Collection: o.Collection, BodySeq: old.BodySeq, Deleted: true})
	m.digest.sub(memberHash(old))
	a.resources--
	a.bytes -= old.Size
	switch {
	case old.Seq == a.c.Seq: // it was never there for anybody
	case old.IsBlob() && a.blobs[old.Body] > 0: // moved
		a.blobs[old.Body]--
	default:
		a.history += old.Size
	}
	a.touch(o.Collection, o.Name)
	return nil
}

func (a *applier) putCollection(o *frame.Op) error {
	old, err := a.t.c.liveCollection(a.c.Account, o.Collection)
	if err != nil {
		return err
	}
	if err := a.checkPlace(o, old); err != nil {
		return err
	}
	k := &Collection{
		Account: a.c.Account, ID: o.Collection, Parent: o.Parent, Name: o.Name, Kind: o.Kind,
		Seq: a.c.Seq, Created: a.c.Time, Modified: o.Modified, Props: o.Props,
	}
	if old == nil {
		return a.addCollection(k)
	}
	m, err := a.t.membership(a.c.Account, o.Collection)
	if err != nil {
		return err
	}
	k.Created = old.Created
	a.wrote = true
	if err := a.keepCollection(old); err != nil {
		return err
	}
	if err := a.t.c.one("UPDATE collection SET parent = ?3, name = ?4, seq = ?5, modified = ?6, props = ?7 WHERE account_id = ?1 AND collection_id = ?2",
		int64(k.Account), int64(k.ID), int64(k.Parent), k.Name, int64(k.Seq), k.Modified, appendProps([]byte{}, k.Props)); err != nil {
		return err
	}
	m.digest.sub(selfHash(old))
	m.digest.add(selfHash(k))
	a.touch(k.ID, "")
	a.touchParent(old.Parent)
	a.touchParent(k.Parent)
	return nil
}

func (a *applier) addCollection(k *Collection) error {
	var was int64
	used, err := a.t.c.row("SELECT to_seq FROM collection_history WHERE account_id = ?1 AND collection_id = ?2 LIMIT 1",
		[]any{int64(k.Account), int64(k.ID)}, &was)
	if err != nil {
		return err
	}
	if used {
		return fmt.Errorf("the id of collection %d was used before: %w", k.ID, holdfast.ErrInvalid)
	}
	a.wrote = true
	if err := a.t.c.one(`INSERT INTO collection (account_id, collection_id, parent, name, kind, seq, created, modified, props)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)`,
		int64(k.Account), int64(k.ID), int64(k.Parent), k.Name, int64(k.Kind), int64(k.Seq), k.Created, k.Modified, appendProps([]byte{}, k.Props)); err != nil {
		return err
	}
	m := &membership{kind: k.Kind}
	m.digest.add(selfHash(k))
	a.t.members[place{k.Account, k.ID}] = m
	a.touch(k.ID, "")
	a.touchParent(k.Parent)
	return nil
}

// checkPlace refuses a collection that cannot be where an operation puts it.
func (a *applier) checkPlace(o *frame.Op, old *Collection) error {
	switch {
	case o.Kind < holdfast.KindCard || o.Kind > holdfast.KindRecord:
		return fmt.Errorf("collection %d of kind %d: %w", o.Collection, o.Kind, holdfast.ErrInvalid)
	case old != nil && old.Kind != o.Kind:
		return fmt.Errorf("collection %d holds %s and cannot come to hold %s: %w", o.Collection, old.Kind, o.Kind, holdfast.ErrInvalid)
	case o.Collection == holdfast.Root:
		if o.Parent != 0 || o.Name != "" {
			return fmt.Errorf("the root collection has neither parent nor name: %w", holdfast.ErrInvalid)
		}
		return nil
	}
	if err := CheckName(o.Name); err != nil {
		return err
	}
	above := o.Parent
	for depth := 0; above != holdfast.Root; depth++ {
		if above == o.Collection || depth > maxDepth {
			return fmt.Errorf("collection %d inside itself or too deep: %w", o.Collection, holdfast.ErrInvalid)
		}
		p, err := a.t.c.liveCollection(a.c.Account, above)
		if err != nil {
			return err
		}
		if p == nil {
			return fmt.Errorf("there is no collection %d to put collection %d in: %w", above, o.Collection, holdfast.ErrInvalid)
		}
		above = p.Parent
	}
	if _, err := a.t.membership(a.c.Account, holdfast.Root); err != nil {
		return err
	}
	var there int64
	found, err := a.t.c.row("SELECT collection_id FROM collection WHERE account_id = ?1 AND parent = ?2 AND name = ?3",
		[]any{int64(a.c.Account), int64(o.Parent), o.Name}, &there)
	if err == nil && found && holdfast.CollectionID(there) != o.Collection {
		err = fmt.Errorf("the name of collection %d is taken by collection %d: %w", o.Collection, there, holdfast.ErrInvalid)
	}
	return err
}

func (a *applier) touchParent(parent holdfast.CollectionID) {
	if parent != 0 {
		a.touch(parent, "")
	}
}

// keepCollection puts a version that ends with this change into history. One that also began with it
// stays there as an empty interval, so that its id is known as used.
func (a *applier) keepCollection(old *Collection) error {
	_, err := a.t.c.exec(`INSERT INTO collection_history (account_id, collection_id, to_seq, from_seq, parent, name, kind, created, modified, props)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING`,
		int64(old.Account), int64(old.ID), int64(a.c.Seq), int64(old.Seq), int64(old.Parent), old.Name, int64(old.Kind),
		old.Created, old.Modified, appendProps([]byte{}, old.Props))
	return err
}

// deleteCollection removes a collection and all below it, each with its members.
func (a *applier) deleteCollection(o *frame.Op) error {
	top, err := a.t.c.liveCollection(a.c.Account, o.Collection)
	if err != nil {
		return err
	}
	if top == nil && a.erased > 0 {
		return nil
	}
	if top == nil {
		return fmt.Errorf("there is no collection %d: %w", o.Collection, holdfast.ErrInvalid)
	}
	if top.ID == holdfast.Root {
		return fmt.Errorf("the root collection cannot be removed: %w", holdfast.ErrInvalid)
	}
	a.wrote = true
	before := a.resources
	doomed := []Collection{*top}
	for i := 0; i < len(doomed); i++ {
		below, err := a.t.c.collections(a.c.Account, "SELECT "+liveColumns+" FROM collection WHERE account_id = ?1 AND parent = ?2",
			int64(a.c.Account), int64(doomed[i].ID))
		if err != nil {
			return err
		}
		doomed = append(doomed, below...)
		if err := a.bury(&doomed[i]); err != nil {
			return fmt.Errorf("remove collection %d: %w", doomed[i].ID, err)
		}
	}
	a.touch(top.Parent, "")
	a.lose(Loss{Collection: top.ID, Deleted: true, Whole: true, Members: before - a.resources})
	return nil
}

// bury moves one collection and its members to history.
func (a *applier) bury(k *Collection) error {
	args := []any{int64(a.c.Account), int64(k.ID)}
	var n, bytes, kept int64
	if _, err := a.t.c.row(`SELECT count(*), coalesce(sum(size), 0), coalesce(sum(CASE WHEN seq < ?3 THEN size END), 0)
FROM resource WHERE account_id = ?1 AND collection_id = ?2`, append(args, int64(a.c.Seq)), &n, &bytes, &kept); err != nil {
		return err
	}
	if _, err := a.t.c.exec(`INSERT INTO history (account_id, collection_id, name, to_seq, from_seq, size, uid_key, thin)
SELECT account_id, collection_id, name, ?3, seq, size, uid_key, thin FROM resource
WHERE account_id = ?1 AND collection_id = ?2 AND seq < ?3`, append(args, int64(a.c.Seq))...); err != nil {
		return err
	}
	gone, err := a.t.c.exec("DELETE FROM resource WHERE account_id = ?1 AND collection_id = ?2", args...)
	if err != nil {
		return err
	}
	if gone != n {
		return fmt.Errorf("removed %d of %d members: %w", gone, n, holdfast.ErrCorrupt)
	}
	if err := a.keepCollection(k); err != nil {
		return err
	}
	if err := a.t.c.one("DELETE FROM collection WHERE account_id = ?1 AND collection_id = ?2", args...); err != nil {
		return err
	}
	delete(a.t.members, place{a.c.Account, k.ID})
	a.resources -= n
	a.bytes -= bytes
	a.history += kept
	a.touch(k.ID, "")
	a.touched[k.ID].dead = true
	return nil
}
