package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"holdfast"
	"holdfast/frame"
)

// Newest, given as the seq to read at, means the present state, whatever its seq.
const Newest holdfast.Seq = math.MaxInt64

// Reader answers questions about one snapshot of the store. Every question names the seq of the
// account as of which it is answered; seqs above the head mean the head. One goroutine at a time
// uses a Reader. Keep it open briefly and do not wait for Begin meanwhile: an open one keeps the
// write-ahead log from shrinking, and there are only Config.Readers of them.
type Reader struct {
	s    *Store
	c    *conn
	ctx  context.Context
	tx   *Tx // set if this is the reading side of the writer
	once sync.Once
	err  error

	// What was read last; a snapshot does not change. Not used on the writer's side.
	head *account
	of   holdfast.AccountID // of head
	coll *Collection
}

// Read begins a snapshot of everything committed so far; the first question takes it, so it may show
// what was committed in between too. It waits for a free connection until ctx is done. Close the Reader.
func (s *Store) Read(ctx context.Context) (*Reader, error) {
	select {
	case <-s.closing:
		return nil, fmt.Errorf("read: the store is closed: %w", holdfast.ErrAbsent)
	default:
	}
	if ctx.Err() != nil { // not by chance, when a connection is free too
		return nil, fmt.Errorf("read: %w", ctx.Err())
	}
	select {
	case c := <-s.read:
		r := &Reader{s: s, c: c, ctx: ctx}
		if _, err := c.exec("BEGIN"); err != nil {
			return nil, errors.Join(fmt.Errorf("read: %w", err), r.Close())
		}
		return r, nil
	case <-s.closing:
		return nil, fmt.Errorf("read: the store is closed: %w", holdfast.ErrAbsent)
	case <-ctx.Done():
		return nil, fmt.Errorf("read: wait for a connection: %w", ctx.Err())
	}
}

// Close ends the snapshot. It may be called more than once.
func (r *Reader) Close() error {
	if r.tx != nil {
		return nil // Commit or Rollback ends it
	}
	r.once.Do(func() {
		if _, err := r.c.exec("ROLLBACK"); err != nil && !isNoTransaction(err) {
			r.err = fmt.Errorf("end read: %w", err)
		}
		r.s.read <- r.c
	})
	return r.err
}

// Heads returns the heads of all accounts, in order of account.
func (s *Store) Heads(ctx context.Context) ([]holdfast.AccountHead, error) {
	r, err := s.Read(ctx)
	if err != nil {
		return nil, fmt.Errorf("read heads: %w", err)
	}
	var heads []holdfast.AccountHead
	err = r.c.each("SELECT account_id, epoch, seq, hash FROM account ORDER BY account_id", nil, func(read func(...any) error) error {
		var h holdfast.AccountHead
		var a int64
		var hash []byte
		if err := read(&a, &h.Epoch, &h.Head.Seq, &hash); err != nil {
			return err
		}
		h.Account = holdfast.AccountID(a)
		heads = append(heads, h)
		return toHash(&heads[len(heads)-1].Head.Hash, hash)
	})
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read heads: %w", err)
	}
	return heads, nil
}

func toHash(h *holdfast.Hash, b []byte) error {
	if len(b) != len(h) {
		return fmt.Errorf("hash of %d bytes: %w", len(b), holdfast.ErrCorrupt)
	}
	copy(h[:], b)
	return nil
}

// Head returns the newest head of an account; its Head and Epoch are zero if there is no such account.
func (r *Reader) Head(a holdfast.AccountID) (holdfast.AccountHead, error) {
	st, err := r.account(a)
	if err != nil {
		return holdfast.AccountHead{Account: a}, fmt.Errorf("read head of account %s: %w", a, err)
	}
	return holdfast.AccountHead{Account: a, Epoch: st.epoch, Head: st.head}, nil
}

// Usage returns how many resources the account holds now, and the bytes of their bodies.
func (r *Reader) Usage(a holdfast.AccountID) (resources, bytes int64, err error) {
	st, err := r.account(a)
	if err != nil {
		return 0, 0, fmt.Errorf("read usage of account %s: %w", a, err)
	}
	return st.resources, st.bytes, nil
}

// account is the row of one account.
type account struct {
	epoch     holdfast.Epoch
	head      holdfast.Head
	resources int64
	bytes     int64
	erased    int64 // operations applied that were erased before they came here
	history   int64 // bytes of replaced and deleted bodies, if counted
	counted   bool
	exists    bool // has a row in the database
	dirty     bool // differs from its row
}

func (r *Reader) account(a holdfast.AccountID) (*account, error) {
	if r.tx != nil {
		return r.tx.account(a)
	}
	if r.head == nil || r.of != a {
		head, err := r.c.account(a)
		if err != nil {
			return nil, err
		}
		r.head, r.of = head, a
	}
	return r.head, nil
}

// liveCollection returns the present version of a collection, or nil.
func (r *Reader) liveCollection(a holdfast.AccountID, id holdfast.CollectionID) (*Collection, error) {
	if r.tx != nil {
		return r.c.liveCollection(a, id)
	}
	if r.coll == nil || r.coll.Account != a || r.coll.ID != id {
		c, err := r.c.liveCollection(a, id)
		if err != nil || c == nil {
			return nil, err
		}
		r.coll = c
	}
	c := *r.coll
	return &c, nil
}

func (c *conn) account(a holdfast.AccountID) (*account, error) {
	st := &account{}
	var hash []byte
	found, err := c.row("SELECT epoch, seq, hash, resources, bytes, erased FROM account WHERE account_id = ?1",
		[]any{int64(a)}, &st.epoch, &st.head.Seq, &hash, &st.resources, &st.bytes, &st.erased)
	if err != nil || !found {
		return st, err
	}
	st.exists = true
	return st, toHash(&st.head.Hash, hash)
}

// HashAt returns the chain hash of an account at seq; the zero Hash at 0. ErrNotFound: no such change here.
func (r *Reader) HashAt(a holdfast.AccountID, seq holdfast.Seq) (holdfast.Hash, error) {
	var h holdfast.Hash
	if seq == 0 {
		return h, nil
	}
	var b []byte
	found, err := r.c.row("SELECT hash FROM change WHERE account_id = ?1 AND seq = ?2", []any{int64(a), int64(seq)}, &b)
	if err == nil && !found {
		err = holdfast.ErrNotFound
	}
	if err == nil {
		err = toHash(&h, b)
	}
	if err != nil {
		return h, fmt.Errorf("read hash of account %s at %s: %w", a, seq, err)
	}
	return h, nil
}

// changesAtOnce bounds the memory of Changes: so many rows of at most partSize bytes.
const changesAtOnce = 64

// Changes calls fn for every change of an account from seq from to seq to, both included, in order.
// payload is fn's to keep. A seq missing in between is ErrCorrupt; what is above the head is not missing.
func (r *Reader) Changes(a holdfast.AccountID, from, to holdfast.Seq, fn func(seq holdfast.Seq, hash holdfast.Hash, payload []byte) error) error {
	type change struct {
		seq     holdfast.Seq
		hash    holdfast.Hash
		payload []byte
	}
	next := max(from, 1)
	for next <= to {
		page := make([]change, 0, changesAtOnce)
		err := r.c.each("SELECT seq, hash, payload FROM change WHERE account_id = ?1 AND seq >= ?2 AND seq <= ?3 ORDER BY seq LIMIT ?4",
			[]any{int64(a), int64(next), int64(min(to, Newest)), changesAtOnce}, func(read func(...any) error) error {
				var c change
				var hash []byte
				if err := read(&c.seq, &hash, &c.payload); err != nil {
					return err
				}
				page = append(page, c)
				return toHash(&page[len(page)-1].hash, hash)
			})
		if err != nil {
			return fmt.Errorf("read changes of account %s from %s: %w", a, next, err)
		}
		for _, c := range page {
			if c.seq != next {
				return fmt.Errorf("read changes of account %s: %s is missing: %w", a, next, holdfast.ErrCorrupt)
			}
			if c.payload, err = r.c.wholePayload(a, c.seq, c.payload); err != nil {
				return fmt.Errorf("read change %s of account %s: %w", c.seq, a, err)
			}
			if err := r.ctx.Err(); err != nil {
				return fmt.Errorf("read changes: %w", err)
			}
			if err := fn(c.seq, c.hash, c.payload); err != nil {
				return err
			}
			next++
		}
		if len(page) < changesAtOnce {
			return nil
		}
	}
	return nil
}

// wholePayload appends to the first part of a payload the others, if there are any.
func (c *conn) wholePayload(a holdfast.AccountID, seq holdfast.Seq, first []byte) ([]byte, error) {
	if len(first) < partSize {
		return first, nil
	}
	part := int64(1)
	var parts int64
	if _, err := c.row("SELECT count(*) FROM change_part WHERE account_id = ?1 AND seq = ?2", []any{int64(a), int64(seq)}, &parts); err != nil {
		return nil, err
	}
	first = slices.Grow(first, int(min(parts, frame.MaxPayload/partSize+1))*partSize)
	err := c.each("SELECT part, bytes FROM change_part WHERE account_id = ?1 AND seq = ?2 ORDER BY part",
		[]any{int64(a), int64(seq)}, func(read func(...any) error) error {
			var n int64
			var b []byte
			if err := read(&n, &b); err != nil {
				return err
			}
			if n != part || len(first)%partSize != 0 {
				return fmt.Errorf("part %d is missing: %w", part, holdfast.ErrCorrupt)
			}
			part++
			first = append(first, b...)
			return nil
		})
	return first, err
}

// Body returns the body of a resource whose body is inline, verified against its hash. ErrCorrupt
// names the resource; the caller heals it from a mirror. ErrInvalid: the body is a blob.
func (r *Reader) Body(res *Resource) ([]byte, error) {
	b, err := r.body(res)
	if err != nil {
		return nil, fmt.Errorf("read body of account %s, collection %d, %q: %w", res.Account, res.Collection, res.Name, err)
	}
	return b, nil
}

func (r *Reader) body(res *Resource) ([]byte, error) {
	if res.IsBlob() {
		return nil, fmt.Errorf("it is a blob: %w", holdfast.ErrInvalid)
	}
	if res.Size < 0 || res.Size > holdfast.MaxInline {
		return nil, fmt.Errorf("inline body of %d bytes: %w", res.Size, holdfast.ErrCorrupt)
	}
	part, at := res.BodyOffset/partSize, res.BodyOffset%partSize
	b, err := r.c.piece(res.Account, res.BodySeq, part, at, res.Size)
	if err != nil {
		return nil, err
	}
	if left := res.Size - int64(len(b)); left > 0 && at+res.Size > partSize {
		more, err := r.c.piece(res.Account, res.BodySeq, part+1, 0, left)
		if err != nil {
			return nil, err
		}
		b = append(b, more...)
	}
	if int64(len(b)) != res.Size || hashBody(b) != res.Body {
		return nil, fmt.Errorf("%d bytes that do not have the hash %s: %w", len(b), res.Body, holdfast.ErrCorrupt)
	}
	return b, nil
}

// piece reads at most n bytes of one part of a payload.
func (c *conn) piece(a holdfast.AccountID, seq holdfast.Seq, part, at, n int64) ([]byte, error) {
	query, args := "SELECT substr(payload, ?3, ?4) FROM change WHERE account_id = ?1 AND seq = ?2", []any{int64(a), int64(seq), at + 1, n}
	if part > 0 {
		query, args = "SELECT substr(bytes, ?3, ?4) FROM change_part WHERE account_id = ?1 AND seq = ?2 AND part = ?5", append(args, part)
	}
	b := []byte{}
	found, err := c.row(query, args, &b)
	if err == nil && !found {
		err = fmt.Errorf("change %s has no part %d: %w", seq, part, holdfast.ErrCorrupt)
	}
	return slices.Clip(b), err
}
