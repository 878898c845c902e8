package store

import (
	"fmt"
	"slices"

	"holdfast"
)

// ChangedChildren returns how the collections directly below parent differ between two seqs: those
// that are new or have another version, sorted by name, and the names of those that are gone.
func (r *Reader) ChangedChildren(a holdfast.AccountID, parent holdfast.CollectionID, since, at holdfast.Seq) (present []Collection, removed []string, err error) {
	now, err := r.Children(a, parent, at)
	if err != nil {
		return nil, nil, err
	}
	left, err := r.c.collections(a, "SELECT "+pastColumns+` FROM collection_history
WHERE account_id = ?1 AND to_seq > ?2 AND to_seq <= ?3 AND parent = ?4 AND from_seq <= ?2`,
		int64(a), int64(since), int64(at), int64(parent))
	if err != nil {
		return nil, nil, fmt.Errorf("read changed child collections: %w", err)
	}
	for _, c := range left {
		if !slices.ContainsFunc(now, func(n Collection) bool { return n.Name == c.Name }) {
			removed = append(removed, c.Name)
		}
	}
	slices.Sort(removed)
	present = slices.DeleteFunc(now, func(c Collection) bool { return c.Seq <= since })
	return present, slices.Compact(removed), nil
}
