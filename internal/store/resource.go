package store

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"holdfast"
)

// maxPage is how many members one call returns at most, whatever its limit.
const maxPage = 100_000

// nearSeqs: a state at most so many changes of its account ago is read from what has changed since,
// an older one from the history of the whole collection.
const nearSeqs = 512

func hashBody(b []byte) holdfast.Hash { return sha256.Sum256(b) }

// decode makes a Resource of a thin string.
func decode(a holdfast.AccountID, c holdfast.CollectionID, name string, thin []byte) (Resource, error) {
	r := Resource{Account: a, Collection: c, Name: name}
	n, rest, err := parseThin(thin, &r)
	if err == nil && (n != len(name) || len(rest) > 0) {
		err = fmt.Errorf("thin row of another name: %w", holdfast.ErrCorrupt)
	}
	if err != nil {
		return r, fmt.Errorf("account %s, collection %d, %q: %w", a, c, name, err)
	}
	return r, nil
}

// Resource returns the version of a resource that was there at a seq, else ErrNotFound.
func (r *Reader) Resource(a holdfast.AccountID, c holdfast.CollectionID, name string, at holdfast.Seq) (*Resource, error) {
	res, err := r.c.resource(a, c, name, at)
	if err != nil {
		return nil, fmt.Errorf("read resource: %w", err)
	}
	if res == nil {
		return nil, fmt.Errorf("read resource: %w", holdfast.ErrNotFound)
	}
	return res, nil
}

// resource returns nil if there was none.
func (c *conn) resource(a holdfast.AccountID, coll holdfast.CollectionID, name string, at holdfast.Seq) (*Resource, error) {
	var thin []byte
	found, err := c.row("SELECT thin FROM resource WHERE account_id = ?1 AND collection_id = ?2 AND name = ?3",
		[]any{int64(a), int64(coll), name}, &thin)
	if err != nil {
		return nil, err
	}
	if found {
		res, err := decode(a, coll, name, thin)
		if err != nil || res.Seq <= at {
			return &res, err
		}
	}
	if at >= Newest {
		return nil, nil
	}
	return c.past(a, coll, name, at)
}

// past returns the superseded or deleted version of a name that was there at a seq, or nil. Versions
// do not overlap, so it is the first that ends later.
func (c *conn) past(a holdfast.AccountID, coll holdfast.CollectionID, name string, at holdfast.Seq) (*Resource, error) {
	var thin []byte
	var from holdfast.Seq
	found, err := c.row(`SELECT from_seq, thin FROM history
WHERE account_id = ?1 AND collection_id = ?2 AND name = ?3 AND to_seq > ?4 ORDER BY to_seq LIMIT 1`,
		[]any{int64(a), int64(coll), name, int64(at)}, &from, &thin)
	if err != nil || !found || from > at {
		return nil, err
	}
	res, err := decode(a, coll, name, thin)
	return &res, err
}

// ByUID returns the member of a collection with a UID that was there at a seq, else ErrNotFound. If
// several have the UID it is the first by name.
func (r *Reader) ByUID(a holdfast.AccountID, c holdfast.CollectionID, uid string, at holdfast.Seq) (*Resource, error) {
	if uid == "" {
		return nil, fmt.Errorf("read resource without UID: %w", holdfast.ErrNotFound)
	}
	if taken, err := r.uidKnown(a, c, uid); err != nil || !taken && at >= Newest {
		return nil, fmt.Errorf("read resource by UID: %w", cmp.Or(err, holdfast.ErrNotFound))
	}
	// The index alone gives the names; asked in one step, SQLite reads the whole collection by its primary key.
	found, err := r.list(a, c, `SELECT name, thin FROM resource
WHERE account_id = ?1 AND collection_id = ?2 AND seq <= ?4 AND name IN (
	SELECT name FROM resource WHERE account_id = ?1 AND collection_id = ?2 AND uid_key = ?3 AND uid_key <> 0
)`,
		int64(a), int64(c), uidKey(uid), int64(at))
	if err == nil {
		var past []Resource
		past, err = r.pastMembers(a, c, at, narrow{uid: uid, limit: maxPage})
		found = append(found, past...)
	}
	if err != nil {
		return nil, fmt.Errorf("read resource by UID: %w", err)
	}
	found = slices.DeleteFunc(found, func(r Resource) bool { return r.UID != uid })
	if len(found) == 0 {
		return nil, fmt.Errorf("read resource by UID: %w", holdfast.ErrNotFound)
	}
	first := slices.MinFunc(found, byName)
	return &first, nil
}

// uidKnown reports whether a present member may have a UID: the answer for nearly every new one is no,
// and the index alone gives it.
func (r *Reader) uidKnown(a holdfast.AccountID, c holdfast.CollectionID, uid string) (bool, error) {
	var one int64
	return r.c.row("SELECT 1 FROM resource WHERE account_id = ?1 AND collection_id = ?2 AND uid_key = ?3 AND uid_key <> 0 LIMIT 1",
		[]any{int64(a), int64(c), uidKey(uid)}, &one)
}

func byName(a, b Resource) int { return strings.Compare(a.Name, b.Name) }

// Resources returns the members that were in a collection at a seq, sorted bytewise by name, from the
// first name above after, at most limit (and at most 100,000; a limit of 0 means that many).
func (r *Reader) Resources(a holdfast.AccountID, c holdfast.CollectionID, after string, limit int, at holdfast.Seq) ([]Resource, error) {
	if limit <= 0 || limit > maxPage {
		limit = maxPage
	}
	now, err := r.list(a, c, `SELECT name, thin FROM resource
WHERE account_id = ?1 AND collection_id = ?2 AND name > ?3 AND seq <= ?4 ORDER BY name LIMIT ?5`,
		int64(a), int64(c), after, int64(at), limit)
	if err != nil {
		return nil, fmt.Errorf("read resources: %w", err)
	}
	past, err := r.pastMembers(a, c, at, narrow{after: after, limit: limit})
	if err != nil {
		return nil, fmt.Errorf("read resources: %w", err)
	}
	if len(past) == 0 {
		return now, nil
	}
	all := append(now, past...)
	slices.SortFunc(all, byName)
	return all[:min(len(all), limit)], nil
}

// narrow narrows pastMembers.
type narrow struct {
	after string // only names above it
	uid   string // only these, if not empty
	limit int
}

// pastMembers returns the versions that were there at a seq and are not any more, sorted by name.
func (r *Reader) pastMembers(a holdfast.AccountID, c holdfast.CollectionID, at holdfast.Seq, which narrow) ([]Resource, error) {
	head, err := r.account(a)
	if err != nil || at >= head.head.Seq {
		return nil, err
	}
	live, err := r.liveCollection(a, c)
	if err != nil {
		return nil, err
	}
	// The members of a deleted collection went without a row in changed.
	if live != nil && head.head.Seq-at <= r.s.near {
		return r.list(a, c, `SELECT h.name, h.thin FROM (
	SELECT DISTINCT name FROM changed WHERE account_id = ?1 AND collection_id = ?2 AND seq > ?4 AND name > ?3
) n JOIN history h ON h.account_id = ?1 AND h.collection_id = ?2 AND h.name = n.name AND h.to_seq = (
	SELECT min(to_seq) FROM history WHERE account_id = ?1 AND collection_id = ?2 AND name = n.name AND to_seq > ?4
) WHERE h.from_seq <= ?4 AND (?6 = 0 OR h.uid_key = ?6) ORDER BY h.name LIMIT ?5`,
			int64(a), int64(c), which.after, int64(at), which.limit, uidKey(which.uid))
	}
	return r.list(a, c, `SELECT name, thin FROM history
WHERE account_id = ?1 AND collection_id = ?2 AND name > ?3 AND to_seq > ?4 AND from_seq <= ?4 AND (?6 = 0 OR uid_key = ?6)
ORDER BY name LIMIT ?5`,
		int64(a), int64(c), which.after, int64(at), which.limit, uidKey(which.uid))
}

// list reads rows of name and thin string. It asks for all of them as one value, since reading a
// column costs more than all else.
func (r *Reader) list(a holdfast.AccountID, c holdfast.CollectionID, query string, args ...any) ([]Resource, error) {
	var all []byte
	if _, err := r.c.row("SELECT "+sqlite.concat+" FROM ("+query+") AS t", args, &all); err != nil || len(all) == 0 {
		return nil, err
	}
	out := make([]Resource, 0, 1+len(all)/100)
	var res Resource
	for len(all) > 0 {
		res = Resource{Account: a, Collection: c, ContentType: res.ContentType, Component: res.Component}
		n, rest, err := parseThin(all, &res)
		if err == nil && n > len(rest) {
			err = fmt.Errorf("name of %d bytes in %d: %w", n, len(rest), holdfast.ErrCorrupt)
		}
		if err != nil {
			return nil, fmt.Errorf("account %s, collection %d, after %d members: %w", a, c, len(out), err)
		}
		res.Name, all = string(rest[:n]), rest[n:]
		out = append(out, res)
	}
	return out, nil
}

// Digest returns the digest of a collection as it is now; the zero Hash if there is none.
func (r *Reader) Digest(a holdfast.AccountID, c holdfast.CollectionID) (holdfast.Hash, error) {
	return r.DigestAt(a, c, Newest)
}

// DigestAt returns the digest that a collection had at a seq: equal digests, equal members, kind and
// properties, whatever their times, seqs and ids. It is the zero Hash if there was no such collection.
func (r *Reader) DigestAt(a holdfast.AccountID, c holdfast.CollectionID, at holdfast.Seq) (holdfast.Hash, error) {
	d, err := r.c.digestAt(a, c, at)
	if err != nil {
		return holdfast.Hash{}, fmt.Errorf("read digest of account %s, collection %d: %w", a, c, err)
	}
	return d.hash(), nil
}

func (c *conn) digestAt(a holdfast.AccountID, coll holdfast.CollectionID, at holdfast.Seq) (d digest, err error) {
	var b []byte
	found, err := c.row(`SELECT digest FROM changed
WHERE account_id = ?1 AND collection_id = ?2 AND seq <= ?3 ORDER BY seq DESC, name DESC LIMIT 1`,
		[]any{int64(a), int64(coll), int64(at)}, &b)
	if err == nil && found && !d.set(b) {
		err = fmt.Errorf("digest of %d bytes: %w", len(b), holdfast.ErrCorrupt)
	}
	return d, err
}
