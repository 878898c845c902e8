package store

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"holdfast"
)

// deltaPage is how many rows of changed are read at once.
const deltaPage = 1000

// Changed returns which members of a collection differ between since and at: those that are there at
// `at` with a version newer than since, and those that were there at since or later and are gone: a device
// that put one itself has it without having seen it in a listing. It is in order of seq (then name) and costs by
// the number of changes in between only.
//
// If more than limit members differ, it returns the first of them and the seq up to which they are
// complete, which is below at; call again with that seq as since. It never cuts a change in two, so
// one change with many operations may exceed the limit. A limit of 0 means 100,000.
//
// ErrNotFound: the collection was not there at `at`.
func (r *Reader) Changed(a holdfast.AccountID, c holdfast.CollectionID, since, at holdfast.Seq, limit int) ([]Delta, holdfast.Seq, error) {
	head, err := r.account(a)
	if err != nil {
		return nil, 0, fmt.Errorf("read changed: %w", err)
	}
	if _, err := r.Collection(a, c, at); err != nil {
		return nil, 0, fmt.Errorf("read changed: %w", err)
	}
	if limit <= 0 || limit > maxPage {
		limit = maxPage
	}
	q := &deltaQuery{r: r, a: a, c: c, since: since, at: min(at, head.head.Seq), limit: limit}
	if since == 0 {
		if out, ok, err := q.fromEmpty(); ok || err != nil {
			return out, q.at, err
		}
	}
	out, reached, err := q.run()
	if err != nil {
		return nil, 0, fmt.Errorf("read changed: %w", err)
	}
	return out, reached, nil
}

type deltaQuery struct {
	r         *Reader
	a         holdfast.AccountID
	c         holdfast.CollectionID
	since, at holdfast.Seq
	limit     int
}

// fromEmpty answers the first synchronization with a listing if it fits the limit: nothing was there
// at 0, and a listing costs less than following every change.
func (q *deltaQuery) fromEmpty() ([]Delta, bool, error) {
	list, err := q.r.Resources(q.a, q.c, "", q.limit+1, q.at)
	if err != nil || len(list) > q.limit || len(list) >= maxPage {
		return nil, false, err
	}
	order := make([]int, len(list)) // members are large to move, their places are not
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Or(cmp.Compare(list[i].Seq, list[j].Seq), cmp.Compare(i, j)) })
	out := make([]Delta, len(list))
	for i, j := range order {
		out[i].Resource = list[j]
	}
	return out, true, nil
}

// touched is one row of changed with the newest version of the member, if it has one.
type touched struct {
	seq  holdfast.Seq
	name string
	live *Resource
}

func (q *deltaQuery) run() ([]Delta, holdfast.Seq, error) {
	var out []Delta
	seq, name := q.since+1, "" // read on after this pair; the name "" is the collection itself
	for {
		page, err := q.page(seq, name)
		if err != nil {
			return nil, 0, err
		}
		for _, t := range page {
			d, err := q.judge(t)
			if err != nil {
				return nil, 0, err
			}
			if d == nil {
				continue
			}
			if len(out) >= q.limit {
				begin := lastChange(out)
				switch {
				case d.Seq > out[len(out)-1].Seq: // all changes before this one are complete
					return out, d.Seq - 1, nil
				case begin > 0: // this change does not fit
					return out[:begin], d.Seq - 1, nil
				}
			}
			out = append(out, *d)
		}
		if len(page) < deltaPage {
			return out, q.at, nil
		}
		seq, name = page[len(page)-1].seq, page[len(page)-1].name
	}
}

// lastChange returns where the members of the last change begin.
func lastChange(out []Delta) int {
	i := len(out) - 1
	for i > 0 && out[i-1].Seq == out[i].Seq {
		i--
	}
	return i
}

func (q *deltaQuery) page(seq holdfast.Seq, name string) ([]touched, error) {
	page := make([]touched, 0, 16)
	err := q.r.c.each(`SELECT d.seq, d.name, r.thin FROM changed d LEFT JOIN resource r
ON r.account_id = ?1 AND r.collection_id = ?2 AND r.name = d.name
WHERE d.account_id = ?1 AND d.collection_id = ?2 AND d.seq >= ?3 AND d.seq <= ?5 AND (d.seq > ?3 OR d.name > ?4)
ORDER BY d.seq, d.name LIMIT ?6`,
		[]any{int64(q.a), int64(q.c), int64(seq), name, int64(q.at), deltaPage}, func(read func(...any) error) error {
			var t touched
			var thin sql.RawBytes
			if err := read(&t.seq, &t.name, &thin); err != nil {
				return err
			}
			if thin != nil {
				res, err := decode(q.a, q.c, t.name, thin)
				if err != nil {
					return err
				}
				t.live = &res
			}
			page = append(page, t)
			return nil
		})
	return page, err
}

// judge returns what a row of changed contributes to the delta, or nil: another row of the same
// member does, or the member came and went after an empty token.
func (q *deltaQuery) judge(t touched) (*Delta, error) {
	if t.name == "" {
		return nil, nil
	}
	v := t.live
	if v == nil || v.Seq > q.at {
		var err error
		if v, err = q.r.c.past(q.a, q.c, t.name, q.at); err != nil {
			return nil, err
		}
	}
	if v != nil {
		if v.Seq != t.seq {
			return nil, nil
		}
		return &Delta{Resource: *v}, nil
	}
	// It is not there at `at`: the version that ended last says when it went.
	var gone holdfast.Seq
	found, err := q.r.c.row(`SELECT to_seq FROM history
WHERE account_id = ?1 AND collection_id = ?2 AND name = ?3 AND to_seq <= ?4 ORDER BY to_seq DESC LIMIT 1`,
		[]any{int64(q.a), int64(q.c), t.name, int64(q.at)}, &gone)
	if err != nil || !found || gone != t.seq {
		return nil, err
	}
	if q.since == 0 { // nobody has it
		return nil, nil
	}
	return &Delta{Resource: Resource{Account: q.a, Collection: q.c, Name: t.name, Seq: gone}, Deleted: true}, nil
}

// LastChange returns the seq of the newest change, at most `at`, of a collection or of a direct member:
// a resource in it, or a collection directly below it. ErrNotFound: the collection was not there at `at`.
func (r *Reader) LastChange(a holdfast.AccountID, c holdfast.CollectionID, at holdfast.Seq) (holdfast.Seq, error) {
	if _, err := r.Collection(a, c, at); err != nil {
		return 0, fmt.Errorf("read last change: %w", err)
	}
	var seq holdfast.Seq
	found, err := r.c.row("SELECT seq FROM changed WHERE account_id = ?1 AND collection_id = ?2 AND seq <= ?3 ORDER BY seq DESC LIMIT 1",
		[]any{int64(a), int64(c), int64(at)}, &seq)
	if err == nil && !found {
		err = errors.New("no row in changed")
	}
	if err != nil {
		return 0, fmt.Errorf("read last change of account %s, collection %d: %w", a, c, err)
	}
	return seq, nil
}

// Touch is what one change did to a collection.
type Touch struct {
	Seq     holdfast.Seq
	Self    bool // to itself, or to a collection directly below it
	Members bool // to resources in it
}

// Touches returns the changes after since, up to `at`, that touched a collection: the first ones, at most limit, in order of seq.
func (r *Reader) Touches(a holdfast.AccountID, c holdfast.CollectionID, since, at holdfast.Seq, limit int) ([]Touch, error) {
	var out []Touch
	err := r.c.each(`SELECT seq, min(name), max(name) FROM changed
WHERE account_id = ?1 AND collection_id = ?2 AND seq > ?3 AND seq <= ?4 GROUP BY seq ORDER BY seq LIMIT ?5`,
		[]any{int64(a), int64(c), int64(since), int64(at), limit}, func(read func(...any) error) error {
			var seq int64
			var first, last string
			if err := read(&seq, &first, &last); err != nil {
				return err
			}
			out = append(out, Touch{holdfast.Seq(seq), first == "", last != ""})
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("read changes of account %s, collection %d: %w", a, c, err)
	}
	return out, nil
}
