package store

import (
	"encoding/binary"
	"fmt"

	"holdfast"
)

// Loss is what one operation of a change took out of sight: a body that was deleted or replaced by
// another one. Everything stays in the history.
type Loss struct {
	Collection holdfast.CollectionID // for Whole the one that was deleted
	BodySeq    holdfast.Seq          // of the change that had brought the body
	Deleted    bool                  // false: replaced
	Whole      bool                  // a collection was deleted, with Members in it and below
	Members    int64
}

// Losses returns what the last Apply of this Tx took out of sight. It is valid until the next Apply.
func (t *Tx) Losses() []Loss { return t.losses }

func (a *applier) lose(l Loss) { a.t.losses = append(a.t.losses, l) }

// Survivors counts the present members of a collection whose version is older than a seq, up to limit.
// It looks at no more than visit members, in order of name.
func (r *Reader) Survivors(a holdfast.AccountID, c holdfast.CollectionID, before holdfast.Seq, visit, limit int) (int, error) {
	var n int
	_, err := r.c.row(`SELECT count(*) FROM (SELECT 1 FROM (
	SELECT seq FROM resource WHERE account_id = ?1 AND collection_id = ?2 LIMIT ?4
) WHERE seq < ?3 LIMIT ?5)`, []any{int64(a), int64(c), int64(before), visit, limit}, &n)
	if err != nil {
		return 0, fmt.Errorf("count survivors in account %s, collection %d: %w", a, c, err)
	}
	return n, nil
}

// Stamp says when a change was made and by whom.
type Stamp struct {
	Seq    holdfast.Seq
	Time   int64 // milliseconds since 1970 UTC
	Device holdfast.DeviceID
	Bytes  int64 // of the payload's first part
}

// deviceAt is where a payload has the device, counted from 1 as SQL does (docs/formats/change.md).
const deviceAt = 46

// Stamps returns the stamps of up to limit changes of an account, from seq to downwards.
func (r *Reader) Stamps(a holdfast.AccountID, to holdfast.Seq, limit int) ([]Stamp, error) {
	var out []Stamp
	err := r.c.each(`SELECT seq, time, length(payload), substr(payload, ?4, 8) FROM change
WHERE account_id = ?1 AND seq <= ?2 ORDER BY seq DESC LIMIT ?3`,
		[]any{int64(a), int64(min(to, Newest)), limit, deviceAt}, func(read func(...any) error) error {
			var s Stamp
			var device []byte
			if err := read(&s.Seq, &s.Time, &s.Bytes, &device); err != nil {
				return err
			}
			if len(device) != 8 {
				return fmt.Errorf("change %s of %d bytes: %w", s.Seq, s.Bytes, holdfast.ErrCorrupt)
			}
			s.Device = holdfast.DeviceID(binary.LittleEndian.Uint64(device))
			out = append(out, s)
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("read stamps of account %s: %w", a, err)
	}
	return out, nil
}

// PastLoss is a Loss of one member, and the change that caused it.
type PastLoss struct {
	Loss
	At holdfast.Seq
}

// LossesSince returns what changes from seq from on took out of sight in a collection, in order of seq, up to limit.
func (r *Reader) LossesSince(a holdfast.AccountID, c holdfast.CollectionID, from holdfast.Seq, limit int) ([]PastLoss, error) {
	type row struct {
		at   holdfast.Seq
		name string
		old  []byte
	}
	var rows []row
	err := r.c.each(`SELECT h.to_seq, h.name, h.thin FROM (
	SELECT seq, name FROM changed WHERE account_id = ?1 AND collection_id = ?2 AND seq >= ?3 AND name <> '' ORDER BY seq, name LIMIT ?4
) n JOIN history h ON h.account_id = ?1 AND h.collection_id = ?2 AND h.name = n.name AND h.to_seq = n.seq`,
		[]any{int64(a), int64(c), int64(from), limit}, func(read func(...any) error) error {
			var x row
			if err := read(&x.at, &x.name, &x.old); err != nil {
				return err
			}
			rows = append(rows, x)
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("read losses of account %s, collection %d: %w", a, c, err)
	}
	var out []PastLoss
	for _, x := range rows {
		old, err := decode(a, c, x.name, x.old)
		if err != nil {
			return nil, fmt.Errorf("read losses: %w", err)
		}
		now, err := r.c.resource(a, c, x.name, x.at)
		if err != nil {
			return nil, fmt.Errorf("read losses: %w", err)
		}
		if now != nil && now.Body == old.Body {
			continue // properties only
		}
		out = append(out, PastLoss{Loss{Collection: c, BodySeq: old.BodySeq, Deleted: now == nil}, x.at})
	}
	return out, nil
}

// Gone returns the seq of the change that ended the last version of a member which is not there any more.
// ErrNotFound: the collection never had one of that name.
func (r *Reader) Gone(a holdfast.AccountID, c holdfast.CollectionID, name string) (holdfast.Seq, error) {
	var seq holdfast.Seq
	found, err := r.c.row(`SELECT to_seq FROM history WHERE account_id = ?1 AND collection_id = ?2 AND name = ?3 ORDER BY to_seq DESC LIMIT 1`,
		[]any{int64(a), int64(c), name}, &seq)
	if err == nil && !found {
		err = holdfast.ErrNotFound
	}
	if err != nil {
		return 0, fmt.Errorf("read when a member of account %s, collection %d went: %w", a, c, err)
	}
	return seq, nil
}
