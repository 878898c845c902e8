package store

import (
	"fmt"
	"math"
	"sync"

	"holdfast"
)

// What an account keeps of superseded and deleted bodies is not in its row: it is counted once for each
// account and process, when somebody asks, and then moves with every change. Memory holds it, since it
// is derived and the store has one writer.
//
// A body counts from the change on that ends its last version. What that change keeps elsewhere as the
// same blob, because it only gives it another name or another time, is not history.

// histories holds, for accounts that were asked about, the bytes of their history as of a seq.
type histories struct {
	mu sync.Mutex
	of map[holdfast.AccountID]tally
}

type tally struct {
	at    holdfast.Seq
	bytes int64
}

// get returns what is known; it is true at its seq only.
func (h *histories) get(a holdfast.AccountID) (tally, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v, ok := h.of[a]
	return v, ok
}

// learn keeps what a reader counted, unless something is known.
func (h *histories) learn(a holdfast.AccountID, v tally) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.of[a]; !ok {
		h.set(a, v)
	}
}

func (h *histories) set(a holdfast.AccountID, v tally) {
	if h.of == nil {
		h.of = map[holdfast.AccountID]tally{}
	}
	h.of[a] = v
}

// forget drops what is known of an account whose changes are taken back.
func (h *histories) forget(a holdfast.AccountID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.of, a)
}

// committed takes over what a transaction knows of the accounts that it changed.
func (h *histories) committed(accounts map[holdfast.AccountID]*account) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for a, st := range accounts {
		switch {
		case !st.dirty:
		case st.counted:
			h.set(a, tally{st.head.Seq, st.history})
		default:
			delete(h.of, a)
		}
	}
}

// History returns the bytes of bodies that an account keeps although they were replaced or deleted. The
// first question about an account reads its whole history. Of a snapshot that is a little behind it may
// tell the newer number.
func (r *Reader) History(a holdfast.AccountID) (int64, error) {
	st, err := r.account(a)
	if err != nil {
		return 0, fmt.Errorf("read history of account %s: %w", a, err)
	}
	if st.counted {
		return st.history, nil
	}
	if known, ok := r.s.histories.get(a); ok && (r.tx == nil || known.at == st.head.Seq) {
		return known.bytes, nil
	}
	n, err := r.c.history(a)
	if err != nil {
		return 0, fmt.Errorf("read history of account %s: %w", a, err)
	}
	if r.tx != nil {
		st.history, st.counted = n, true
	} else {
		r.s.histories.learn(a, tally{st.head.Seq, n})
	}
	return n, nil
}

// made names a blob that a change put somewhere.
type made struct {
	seq  holdfast.Seq
	blob holdfast.Hash
}

// history counts the rows. It keeps blobs only in memory, which are 64 KiB and more each.
func (c *conn) history(a holdfast.AccountID) (int64, error) {
	var sum int64
	put := map[made]int{}
	type removed struct {
		made
		size int64
	}
	var gone []removed
	var before Resource // the version read last; its next one, if it has one, follows
	end := func(next *Resource, to holdfast.Seq) {
		switch {
		case before.Name == "" || to == math.MaxInt64:
		case next != nil && (next.BodySeq == before.BodySeq || next.IsBlob() && next.Body == before.Body):
		case next == nil && before.IsBlob():
			gone = append(gone, removed{made{to, before.Body}, before.Size})
		default:
			sum += before.Size
		}
	}
	var ends holdfast.Seq // of before
	err := c.each(`SELECT collection_id, name, to_seq, thin FROM history WHERE account_id = ?1
UNION ALL SELECT collection_id, name, ?2, thin FROM resource WHERE account_id = ?1 ORDER BY 1, 2, 3`,
		[]any{int64(a), int64(math.MaxInt64)}, func(read func(...any) error) error {
			var coll, to int64
			var name string
			var thin []byte
			if err := read(&coll, &name, &to, &thin); err != nil {
				return err
			}
			r, err := decode(a, holdfast.CollectionID(coll), name, thin)
			if err != nil {
				return err
			}
			if r.Collection == before.Collection && r.Name == before.Name && r.Seq == ends {
				end(&r, ends)
			} else {
				end(nil, ends)
			}
			if r.IsBlob() && r.BodySeq == r.Seq {
				put[made{r.Seq, r.Body}]++
			}
			before, ends = r, holdfast.Seq(to)
			return nil
		})
	if err != nil {
		return 0, err
	}
	end(nil, ends)
	for _, g := range gone {
		if put[g.made] > 0 {
			put[g.made]--
		} else {
			sum += g.size
		}
	}
	return sum, nil
}
