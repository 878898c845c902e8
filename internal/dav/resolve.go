package dav

import (
	"errors"
	"fmt"

	"holdfast"
	"holdfast/internal/ledger"
)

// reader is what ledger.View and ledger.Tx answer alike.
type reader interface {
	Collection(id holdfast.CollectionID) (*ledger.Collection, error)
	Child(parent holdfast.CollectionID, name string) (*ledger.Collection, error)
	Children(parent holdfast.CollectionID) ([]ledger.Collection, error)
	Resource(c holdfast.CollectionID, name string) (*ledger.Resource, error)
}

var (
	_ reader = (*ledger.View)(nil)
	_ reader = (*ledger.Tx)(nil)
)

// place says what a path leads to. The zero place is invalid.
type place uint8

const (
	placeRoot       place = iota + 1 // /dav/
	placePrincipals                  // /dav/principals/
	placePrincipal                   // /dav/principals/NAME/
	placeCollection                  // the home or a collection below it
	placeResource
	placeNothing // a name that is free
)

// target is what a path leads to in one state of the account.
type target struct {
	place  place
	segs   []string
	coll   *ledger.Collection // placeCollection: itself; placeResource and placeNothing: where the name is, nil if that is missing too
	res    *ledger.Resource   // placeResource
	parent *ledger.Collection // placeCollection: nil for the home
}

func (t *target) name() string     { return t.segs[len(t.segs)-1] }
func (t *target) isHome() bool     { return t.place == placeCollection && t.coll.ID == holdfast.Root }
func (t *target) isVirtual() bool  { return t.place < placeCollection }
func (t *target) collection() bool { return t.place != placeResource && t.place != placeNothing }

// state is what preconditions are judged by.
func (t *target) state() state {
	switch t.place {
	case placeNothing:
		return state{at: t}
	case placeResource:
		return state{exists: true, etag: t.res.ETag(), modified: t.res.Modified, at: t}
	}
	return state{exists: true, at: t}
}

// resolve finds what a path leads to. Nothing there is placeNothing, not an error.
func resolve(r reader, p path) (*target, error) {
	t := &target{place: placeRoot, segs: p.segs}
	switch {
	case len(p.segs) == 0:
		return t, nil
	case p.segs[0] == principals:
		t.place = placePrincipals
		if len(p.segs) == 2 {
			t.place = placePrincipal
		}
		return t, nil
	}
	coll, err := r.Collection(holdfast.Root)
	if err != nil {
		// An account without its root is not an empty account.
		return nil, fmt.Errorf("home collection: %w: %w", holdfast.ErrAbsent, err)
	}
	t.place, t.coll = placeCollection, coll
	for i, name := range p.segs[1:] {
		child, err := r.Child(t.coll.ID, name)
		if err == nil && !p.shows(child.Kind) {
			t.place, t.coll, t.parent = placeNothing, nil, nil
			return t, nil
		}
		if err == nil {
			t.parent, t.coll = t.coll, child
			continue
		}
		if !errors.Is(err, holdfast.ErrNotFound) {
			return nil, fmt.Errorf("resolve: %w", err)
		}
		t.parent, t.place = nil, placeNothing
		if i != len(p.segs)-2 {
			t.coll = nil
			return t, nil
		}
		if t.res, err = r.Resource(t.coll.ID, name); err == nil {
			t.place = placeResource
		} else if !errors.Is(err, holdfast.ErrNotFound) {
			return nil, fmt.Errorf("resolve: %w", err)
		}
	}
	return t, nil
}

// shows reports whether collections of a kind are seen through a path's base.
func (p path) shows(k holdfast.Kind) bool { return !p.files || k == holdfast.KindFile }

// find is resolve for methods that need something to be there.
func find(r reader, p path) (*target, error) {
	t, err := resolve(r, p)
	if err == nil && t.place == placeNothing {
		return nil, errNotFound
	}
	return t, err
}

// reserved reports whether a name directly below the home is kept for the server.
func reserved(parent *ledger.Collection, name string) bool {
	return parent.ID == holdfast.Root && name == ".snapshots"
}
