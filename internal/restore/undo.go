package restore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"holdfast"
	"holdfast/internal/ledger"
)

// UndoOrder says what to bring back. Undo is called again and again with the Next that it returned.
type UndoOrder struct {
	Account    holdfast.AccountID
	Snapshot   string
	Collection string // path of one collection, with all below it; empty: all
	Everyone   bool   // bring back also what another device deleted or overwrote than the snapshot's
	DryRun     bool   // count only
	From       Cursor
}

// Cursor is how far a walk through a snapshot has come. The zero Cursor is the beginning.
type Cursor struct {
	Collection int    `json:"collection"` // in the order of tree
	After      string `json:"after"`      // name of the last member done
}

// Undone is what one step of an undo did.
type Undone struct {
	Brought int    `json:"brought"` // members brought back, or with DryRun to be
	Same    int    `json:"same"`    // were as in the snapshot
	Others  int    `json:"others"`  // left: another device changed them since
	Taken   int    `json:"taken"`   // left: another member has the UID now
	Made    int    `json:"made"`    // collections that were made again
	Before  string `json:"before"`  // snapshot of the state before the undo; of the first step only
	Next    Cursor `json:"next"`
	Done    bool   `json:"done"`
}

// undoMembers bounds one change: so many bodies of at most holdfast.MaxInline bytes fit.
const undoMembers = 100

// Undo brings back, as new changes (L10), what was deleted or overwritten since a snapshot: the same names,
// bodies, types and properties. What was added since stays, and so does what is as it was. It does one
// bounded step: a change of up to 100 members. It never touches account 0.
//
// A member that somebody else changed after the device that the snapshot is about is left, unless Everyone
// is set. Interrupted, it can be ordered again: what is back is found to be the same.
func Undo(ctx context.Context, l *ledger.Ledger, o UndoOrder) (*Undone, error) {
	if o.Account == holdfast.Server {
		return nil, fmt.Errorf("the server's own account is never put back: %w", holdfast.ErrDenied)
	}
	s, err := l.Snapshot(ctx, o.Account, o.Snapshot)
	if err != nil {
		return nil, err
	}
	u := &undo{Undone: Undone{Next: o.From}, order: &o, ledger: l, snapshot: s}
	if o.From == (Cursor{}) && !o.DryRun {
		before, err := l.SnapshotBeforeUndo(ctx, o.Account, s.Name)
		if err != nil {
			return nil, err
		}
		u.Before = before.Name
	}
	if err := u.step(ctx); err != nil {
		return nil, fmt.Errorf("undo to snapshot %s: %w", s.Name, err)
	}
	return &u.Undone, nil
}

// undo is one step.
type undo struct {
	Undone
	order    *UndoOrder
	ledger   *ledger.Ledger
	snapshot *ledger.Snapshot

	nodes []node               // of the snapshot
	now   []*ledger.Collection // where each of them is now; nil: nowhere
	page  []ledger.Resource    // of the collection that the cursor is in
}

func (u *undo) step(ctx context.Context) error {
	if err := u.read(ctx); err != nil {
		return err
	}
	if u.Done {
		return nil
	}
	i := u.Next.Collection
	if err := u.remake(ctx, i); err != nil {
		return err
	}
	if u.now[i] != nil || u.order.DryRun {
		if err := u.bring(ctx, i); err != nil {
			return err
		}
	}
	if len(u.page) < undoMembers {
		u.Next = Cursor{Collection: i + 1}
	} else {
		u.Next.After = u.page[len(u.page)-1].Name
	}
	return nil
}

// read finds the next collection that was asked for, and a page of its members.
func (u *undo) read(ctx context.Context) error {
	return at(ctx, u.ledger, u.snapshot, func(v *ledger.View) (err error) {
		if u.nodes, err = tree(v); err != nil {
			return err
		}
		if u.order.Collection != "" && !u.known() {
			return fmt.Errorf("collection %q was not there: %w", u.order.Collection, holdfast.ErrNotFound)
		}
		for ; u.Next.Collection < len(u.nodes); u.Next = (Cursor{Collection: u.Next.Collection + 1}) {
			if n := &u.nodes[u.Next.Collection]; u.wants(n) {
				u.page, err = v.Resources(n.ID, u.Next.After, undoMembers)
				return err
			}
		}
		u.Done = true
		return nil
	})
}

func (u *undo) known() bool {
	for i := range u.nodes {
		if u.nodes[i].String() == u.order.Collection {
			return true
		}
	}
	return false
}

func (u *undo) wants(n *node) bool {
	p := n.String()
	return u.order.Collection == "" || p == u.order.Collection || strings.HasPrefix(p, u.order.Collection+"/")
}

// remake finds where collection i of the snapshot is now, and makes it again, with those above it, if it
// was deleted. An id is never used twice, so it is another collection of the same name then.
func (u *undo) remake(ctx context.Context, i int) error {
	u.now = make([]*ledger.Collection, len(u.nodes))
	chain := []int{i}
	for u.nodes[chain[0]].Parent != 0 {
		up := u.find(u.nodes[chain[0]].Parent)
		if up < 0 {
			return fmt.Errorf("collection %q lies in none: %w", u.nodes[i].String(), holdfast.ErrCorrupt)
		}
		chain = append([]int{up}, chain...)
	}
	for at, k := range chain {
		parent := -1
		if at > 0 {
			parent = chain[at-1]
		}
		if err := u.locate(ctx, k, parent); err != nil {
			return err
		}
		if u.now[k] != nil || u.order.DryRun {
			continue
		}
		if err := u.make(ctx, k, parent); err != nil {
			return err
		}
	}
	return nil
}

func (u *undo) find(id holdfast.CollectionID) int {
	for k := range u.nodes {
		if u.nodes[k].ID == id {
			return k
		}
	}
	return -1
}

// locate finds collection k by its id, or by its name below where its parent is now.
func (u *undo) locate(ctx context.Context, k, parent int) error {
	return u.ledger.View(ctx, u.order.Account, func(v *ledger.View) error {
		c, err := v.Collection(u.nodes[k].ID)
		if errors.Is(err, holdfast.ErrNotFound) && parent >= 0 && u.now[parent] != nil {
			c, err = v.Child(u.now[parent].ID, u.nodes[k].Name)
		}
		if errors.Is(err, holdfast.ErrNotFound) {
			return nil
		}
		if err == nil && c.Kind == u.nodes[k].Kind {
			u.now[k] = c
		}
		return err
	})
}

// make makes a collection again.
func (u *undo) make(ctx context.Context, k, parent int) error {
	if parent < 0 || u.now[parent] == nil {
		return fmt.Errorf("nowhere to make collection %q again: %w", u.nodes[k].String(), holdfast.ErrInvalid)
	}
	made := u.nodes[k].Collection
	_, err := u.ledger.BringBack(ctx, u.order.Account, func(tx *ledger.Tx) error {
		name := made.Name
		for n := 1; taken(tx, u.now[parent].ID, name); n++ {
			name = fmt.Sprintf("%s (brought back %d)", made.Name, n)
		}
		made.Name, made.Parent = name, u.now[parent].ID
		made.ID = tx.NewCollection(made.Parent, name, made.Kind, made.Props)
		return nil
	})
	if err != nil {
		return err
	}
	u.Made++
	u.now[k] = &made
	return nil
}

// taken reports whether a name means something in a collection; what cannot be read counts as such.
func taken(tx *ledger.Tx, c holdfast.CollectionID, name string) bool {
	_, err := tx.Child(c, name)
	_, rerr := tx.Resource(c, name)
	return !errors.Is(err, holdfast.ErrNotFound) || !errors.Is(rerr, holdfast.ErrNotFound)
}

// bring brings the page's members back into where collection i is now.
func (u *undo) bring(ctx context.Context, i int) error {
	if u.now[i] == nil { // a dry run, and the collection is gone
		u.Brought += len(u.page)
		return nil
	}
	var wanted []*ledger.Resource
	seen := map[string]holdfast.Seq{} // the version that was judged; 0: none
	err := u.ledger.View(ctx, u.order.Account, func(v *ledger.View) error {
		for k := range u.page {
			old := &u.page[k]
			now, err := v.Resource(u.now[i].ID, old.Name)
			if err != nil && !errors.Is(err, holdfast.ErrNotFound) {
				return err
			}
			bring, err := u.judge(v, u.now[i], old, now)
			if err != nil {
				return err
			}
			if bring {
				wanted = append(wanted, old)
				if now != nil {
					seen[old.Name] = now.Seq
				}
			}
		}
		return nil
	})
	if err != nil || len(wanted) == 0 || u.order.DryRun {
		u.Brought += len(wanted)
		return err
	}
	brought := 0
	_, err = u.ledger.BringBack(ctx, u.order.Account, func(tx *ledger.Tx) error {
		for _, old := range wanted {
			now, err := tx.Resource(u.now[i].ID, old.Name)
			if err != nil && !errors.Is(err, holdfast.ErrNotFound) {
				return err
			}
			if now != nil && now.Seq != seen[old.Name] || now == nil && seen[old.Name] != 0 {
				u.Others++ // somebody was at it this moment
				continue
			}
			brought++
			tx.PutCopy(u.now[i].ID, old.Name, old)
		}
		return nil
	})
	u.Brought += brought
	return err
}

// judge says whether a member is to be brought back, and counts it if not.
func (u *undo) judge(v *ledger.View, c *ledger.Collection, old, now *ledger.Resource) (bool, error) {
	if now != nil && now.Body == old.Body {
		u.Same++
		return false, nil
	}
	if old.UID != "" {
		if other, err := v.ByUID(c.ID, old.UID); err == nil && other.Name != old.Name {
			u.Taken++
			return false, nil
		} else if err != nil && !errors.Is(err, holdfast.ErrNotFound) {
			return false, err
		}
	}
	if u.order.Everyone || u.snapshot.Device == nil {
		return true, nil
	}
	by, err := u.whose(v, c.ID, old, now)
	if err == nil && by != *u.snapshot.Device {
		u.Others++
		return false, nil
	}
	return err == nil, err
}

// whose returns the device that made a member what it is now.
func (u *undo) whose(v *ledger.View, c holdfast.CollectionID, old, now *ledger.Resource) (holdfast.DeviceID, error) {
	var at holdfast.Seq
	var err error
	if now != nil {
		at = now.BodySeq
	} else if at, err = v.Gone(c, old.Name); errors.Is(err, holdfast.ErrNotFound) {
		at, err = v.Gone(old.Collection, old.Name) // the collection was made again
	}
	if err != nil {
		return 0, err
	}
	by, _, err := v.Made(at)
	return by, err
}
