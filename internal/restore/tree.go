package restore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
)

// node is one collection of an account as it was.
type node struct {
	ledger.Collection
	path []string // names from below the root; empty for the root
}

func (n *node) String() string { return strings.Join(n.path, "/") }

// pageSize is how many members are read at once.
const pageSize = 1000

// maxCollections bounds what is kept of an account at a time.
const maxCollections = 1 << 20

// tree lists the collections of a view, parents before children, children by name.
func tree(v *ledger.View) ([]node, error) {
	root, err := v.Collection(holdfast.Root)
	if err != nil {
		return nil, err
	}
	all := []node{{Collection: *root}}
	for i := 0; i < len(all); i++ {
		below, err := v.Children(all[i].ID)
		if err != nil {
			return nil, err
		}
		for _, c := range below {
			if len(all) == maxCollections {
				return nil, fmt.Errorf("more than %d collections: %w", maxCollections, holdfast.ErrTooLarge)
			}
			all = append(all, node{c, append(slices.Clone(all[i].path), c.Name)})
		}
	}
	return all, nil
}

// count counts the members of a collection.
func count(v *ledger.View, c holdfast.CollectionID) (n int, err error) {
	for after := ""; ; {
		page, err := v.Resources(c, after, pageSize)
		if err != nil {
			return n, err
		}
		n += len(page)
		if len(page) < pageSize {
			return n, nil
		}
		after = page[len(page)-1].Name
	}
}

// at shows fn an account as a snapshot names it. ErrFenced: the account has another history by now.
func at(ctx context.Context, l *ledger.Ledger, s *ledger.Snapshot, fn func(v *ledger.View) error) error {
	return l.ViewAt(ctx, s.Account, s.Seq, func(v *ledger.View) error {
		if h := v.Head().Head; h.Hash.String() != s.Hash {
			return fmt.Errorf("snapshot %s names change %s of a history that was given up: %w", s.Name, h, holdfast.ErrFenced)
		}
		return fn(v)
	})
}

// Shown says what was in a snapshot and how the account differs from it now.
type Shown struct {
	ledger.Snapshot
	Made        time.Time         `json:"made"` // when the change it ends with was made
	Collections []ShownCollection `json:"collections"`
}

// ShownCollection is one collection. Added, Changed and Deleted tell what happened to its members since.
type ShownCollection struct {
	Path    string        `json:"path"` // empty: the account's home itself
	Kind    holdfast.Kind `json:"-"`
	Holds   string        `json:"kind"`
	Then    int           `json:"then"` // members in the snapshot
	Now     int           `json:"now"`
	Added   int           `json:"added"`
	Changed int           `json:"changed"`
	Deleted int           `json:"deleted"`
	Gone    bool          `json:"gone,omitempty"` // the collection itself was deleted since
	New     bool          `json:"new,omitempty"`  // it was made since
}

// Show compares a snapshot with now. It reads the names of all members, not their bodies.
func Show(ctx context.Context, l *ledger.Ledger, a holdfast.AccountID, name string) (*Shown, error) {
	s, err := l.Snapshot(ctx, a, name)
	if err != nil {
		return nil, err
	}
	out := &Shown{Snapshot: *s}
	known := map[holdfast.CollectionID]int{}
	err = at(ctx, l, s, func(v *ledger.View) error {
		if _, out.Made, err = v.Made(s.Seq); err != nil {
			return err
		}
		nodes, err := tree(v)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			c := ShownCollection{Path: n.String(), Kind: n.Kind, Holds: n.Kind.String(), Gone: true}
			if c.Then, err = count(v, n.ID); err != nil {
				return err
			}
			c.Deleted = c.Then
			known[n.ID] = len(out.Collections)
			out.Collections = append(out.Collections, c)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read snapshot %s: %w", name, err)
	}
	err = l.View(ctx, a, func(v *ledger.View) error {
		nodes, err := tree(v)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			i, ok := known[n.ID]
			if !ok {
				i = len(out.Collections)
				out.Collections = append(out.Collections, ShownCollection{Path: n.String(), Kind: n.Kind, Holds: n.Kind.String(), New: true})
			}
			if err := since(v, n.ID, s.Seq, &out.Collections[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("compare snapshot %s with now: %w", name, err)
	}
	return out, nil
}

// since counts what happened to the members of a collection that is there.
func since(v *ledger.View, id holdfast.CollectionID, from holdfast.Seq, c *ShownCollection) (err error) {
	c.Gone, c.Deleted = false, 0
	if c.Now, err = count(v, id); err != nil || c.New {
		c.Added = c.Now
		return err
	}
	for {
		deltas, reached, err := v.Changed(id, from, pageSize)
		if err != nil {
			return err
		}
		for _, d := range deltas {
			if d.Deleted {
				c.Deleted++
			} else {
				c.Changed++ // or added, which the sums tell
			}
		}
		if reached.Seq >= v.Head().Head.Seq {
			break
		}
		from = reached.Seq
	}
	// Members now are those of then, without the deleted, with the added.
	c.Added = c.Now - c.Then + c.Deleted
	c.Changed -= c.Added
	return nil
}
