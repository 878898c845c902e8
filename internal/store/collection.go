package store

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"holdfast"
)

const (
	liveColumns = "collection_id, parent, name, kind, seq, created, modified, props"
	pastColumns = "collection_id, parent, name, kind, from_seq, created, modified, props"
)

// collections reads rows of liveColumns or pastColumns.
func (c *conn) collections(a holdfast.AccountID, query string, args ...any) ([]Collection, error) {
	var out []Collection
	err := c.each(query, args, func(read func(...any) error) error {
		k := Collection{Account: a}
		var id, parent int64
		var props []byte
		err := read(&id, &parent, &k.Name, &k.Kind, &k.Seq, &k.Created, &k.Modified, &props)
		if err != nil {
			return err
		}
		k.ID, k.Parent = holdfast.CollectionID(id), holdfast.CollectionID(parent)
		if k.Props, err = parseProps(props); err != nil {
			return fmt.Errorf("account %s, collection %d: properties: %w", a, k.ID, err)
		}
		out = append(out, k)
		return nil
	})
	return out, err
}

// liveCollection returns the present version of a collection, or nil.
func (c *conn) liveCollection(a holdfast.AccountID, id holdfast.CollectionID) (*Collection, error) {
	list, err := c.collections(a, "SELECT "+liveColumns+" FROM collection WHERE account_id = ?1 AND collection_id = ?2", int64(a), int64(id))
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}

// Collection returns the version of a collection that was there at a seq, else ErrNotFound.
func (r *Reader) Collection(a holdfast.AccountID, id holdfast.CollectionID, at holdfast.Seq) (*Collection, error) {
	live, err := r.liveCollection(a, id)
	if err != nil {
		return nil, fmt.Errorf("read collection: %w", err)
	}
	if live != nil && live.Seq <= at {
		return live, nil
	}
	if at < Newest {
		past, err := r.c.collections(a, "SELECT "+pastColumns+` FROM collection_history
WHERE account_id = ?1 AND collection_id = ?2 AND to_seq > ?3 ORDER BY to_seq LIMIT 1`, int64(a), int64(id), int64(at))
		if err != nil {
			return nil, fmt.Errorf("read collection: %w", err)
		}
		if len(past) == 1 && past[0].Seq <= at {
			return &past[0], nil
		}
	}
	return nil, fmt.Errorf("read collection %d: %w", id, holdfast.ErrNotFound)
}

// Child returns the collection of one name that was directly below parent at a seq, else ErrNotFound.
func (r *Reader) Child(a holdfast.AccountID, parent holdfast.CollectionID, name string, at holdfast.Seq) (*Collection, error) {
	list, err := r.c.collections(a, "SELECT "+liveColumns+` FROM collection
WHERE account_id = ?1 AND parent = ?2 AND name = ?3 AND seq <= ?4`, int64(a), int64(parent), name, int64(at))
	if err == nil && len(list) == 0 && at < Newest {
		list, err = r.pastChildren(a, parent, at)
		list = slices.DeleteFunc(list, func(c Collection) bool { return c.Name != name })
	}
	if err == nil && len(list) == 0 {
		err = holdfast.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read child collection: %w", err)
	}
	return &list[0], nil
}

// Children returns the collections that were directly below parent at a seq, sorted bytewise by name.
func (r *Reader) Children(a holdfast.AccountID, parent holdfast.CollectionID, at holdfast.Seq) ([]Collection, error) {
	list, err := r.c.collections(a, "SELECT "+liveColumns+` FROM collection
WHERE account_id = ?1 AND parent = ?2 AND seq <= ?3 ORDER BY name`, int64(a), int64(parent), int64(at))
	if err == nil && at < Newest {
		var past []Collection
		past, err = r.pastChildren(a, parent, at)
		list = append(list, past...)
	}
	if err != nil {
		return nil, fmt.Errorf("read child collections: %w", err)
	}
	slices.SortFunc(list, func(a, b Collection) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// pastChildren returns the versions that were directly below parent at a seq and are not any more.
func (r *Reader) pastChildren(a holdfast.AccountID, parent holdfast.CollectionID, at holdfast.Seq) ([]Collection, error) {
	return r.c.collections(a, "SELECT "+pastColumns+` FROM collection_history
WHERE account_id = ?1 AND parent = ?2 AND to_seq > ?3 AND from_seq <= ?3`, int64(a), int64(parent), int64(at))
}

// Collections returns all collections that an account had at a seq, in order of id.
func (r *Reader) Collections(a holdfast.AccountID, at holdfast.Seq) ([]Collection, error) {
	list, err := r.c.collections(a, "SELECT "+liveColumns+" FROM collection WHERE account_id = ?1 AND seq <= ?2", int64(a), int64(at))
	if err == nil && at < Newest {
		var past []Collection
		past, err = r.c.collections(a, "SELECT "+pastColumns+" FROM collection_history WHERE account_id = ?1 AND to_seq > ?2 AND from_seq <= ?2",
			int64(a), int64(at))
		list = append(list, past...)
	}
	if err != nil {
		return nil, fmt.Errorf("read collections: %w", err)
	}
	slices.SortFunc(list, func(a, b Collection) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}
