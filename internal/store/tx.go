package store

import (
	"context"
	"errors"
	"fmt"

	driver "modernc.org/sqlite"

	"holdfast"
)

// Tx is the one write transaction. The embedded Reader sees what Apply has done so far; read at
// Newest, or at the seq of Head. One goroutine uses a Tx.
type Tx struct {
	*Reader
	s        *Store
	c        *conn
	accounts map[holdfast.AccountID]*account
	members  map[place]*membership
	losses   []Loss                           // of the last Apply
	touched  map[holdfast.CollectionID]*touch // by the last Apply
	err      error                            // the first error after which nothing may be committed
	ended    bool
	fold     bool // what is applied are changes that the store has: only what is derived is written
}

// place names a collection of an account.
type place struct {
	account    holdfast.AccountID
	collection holdfast.CollectionID
}

// membership is what Apply keeps in mind of a collection while a Tx is open.
type membership struct {
	kind   holdfast.Kind
	digest digest
}

// Begin starts the write transaction. It waits, until ctx is done, for the one before to end and for
// the write-ahead log to have room. ErrFatal: an I/O error ended this store's writing, open it anew.
func (s *Store) Begin(ctx context.Context) (*Tx, error) {
	select {
	case <-s.closing:
		return nil, fmt.Errorf("begin: the store is closed: %w", holdfast.ErrAbsent)
	default:
	}
	if ctx.Err() != nil { // not by chance, when the writer is free too
		return nil, fmt.Errorf("begin: %w", ctx.Err())
	}
	select {
	case c := <-s.write:
		if err := s.begin(ctx, c); err != nil {
			s.write <- c
			return nil, fmt.Errorf("begin: %w", err)
		}
		tx := &Tx{s: s, c: c, accounts: map[holdfast.AccountID]*account{}, members: map[place]*membership{}}
		tx.Reader = &Reader{s: s, c: c, ctx: ctx, tx: tx}
		return tx, nil
	case <-s.closing:
		return nil, fmt.Errorf("begin: the store is closed: %w", holdfast.ErrAbsent)
	case <-ctx.Done():
		return nil, fmt.Errorf("begin: wait for the writer before: %w", ctx.Err())
	}
}

func (s *Store) begin(ctx context.Context, c *conn) error {
	if err := s.failed(); err != nil {
		return err
	}
	if err := s.check.room(ctx); err != nil {
		return err
	}
	_, err := c.exec("BEGIN IMMEDIATE")
	return s.note(err)
}

// account returns the present row of an account, which Commit writes.
func (t *Tx) account(a holdfast.AccountID) (*account, error) {
	if st, ok := t.accounts[a]; ok {
		return st, nil
	}
	st, err := t.c.account(a)
	if err != nil {
		return nil, err
	}
	if known, ok := t.s.histories.get(a); !st.exists {
		st.counted = true // there is nothing yet
	} else if ok && known.at == st.head.Seq {
		st.history, st.counted = known.bytes, true
	}
	t.accounts[a] = st
	return st, nil
}

// Commit makes everything applied durable in the store. On return with nil a crash of the machine
// does not take it away. ErrFull: nothing was written and the store goes on. ErrFatal: what was
// written is unknown; nothing more can be written until the store is opened anew. The Tx has ended
// in any case.
func (t *Tx) Commit() error {
	if t.ended {
		return fmt.Errorf("commit a transaction that has ended: %w", holdfast.ErrInvalid)
	}
	if t.err != nil {
		return errors.Join(fmt.Errorf("commit: %w", t.err), t.Rollback())
	}
	if err := t.writeHeads(); err != nil {
		return errors.Join(fmt.Errorf("commit: %w", t.s.note(err)), t.Rollback())
	}
	if _, err := t.c.exec("COMMIT"); err != nil {
		if !errors.Is(err, holdfast.ErrFull) && !errors.Is(err, holdfast.ErrFatal) {
			// Not known to be clean, so it is not.
			err = fmt.Errorf("%w: %w", holdfast.ErrFatal, err)
		}
		return errors.Join(fmt.Errorf("commit: %w", t.s.note(err)), t.Rollback())
	}
	pages, err := pagesWritten(t.c)
	if err == nil {
		t.s.check.wrote(pages)
	}
	t.s.histories.committed(t.accounts)
	t.end()
	return nil
}

// writeHeads writes the row of each account once, however many changes it had.
func (t *Tx) writeHeads() error {
	for a, st := range t.accounts {
		if !st.dirty {
			continue
		}
		query := "UPDATE account SET epoch = ?2, seq = ?3, hash = ?4, resources = ?5, bytes = ?6, erased = ?7 WHERE account_id = ?1"
		if !st.exists {
			query = "INSERT INTO account (account_id, epoch, seq, hash, resources, bytes, erased) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
		}
		if err := t.c.one(query, int64(a), int64(st.epoch), int64(st.head.Seq), st.head.Hash[:], st.resources, st.bytes, st.erased); err != nil {
			return fmt.Errorf("write head of account %s: %w", a, err)
		}
	}
	return nil
}

// Rollback forgets everything applied. It may follow Commit, and does nothing then.
func (t *Tx) Rollback() error {
	if t.ended {
		return nil
	}
	_, err := t.c.exec("ROLLBACK")
	if isNoTransaction(err) { // a full disk or an I/O error had it rolled back already
		err = nil
	}
	t.end()
	if err != nil {
		// A connection that cannot end its transaction cannot begin another.
		return t.s.note(fmt.Errorf("roll back: %w: %w", holdfast.ErrFatal, err))
	}
	return nil
}

func (t *Tx) end() {
	t.ended = true
	t.s.write <- t.c
}

// isNoTransaction reports whether a ROLLBACK found nothing to roll back.
func isNoTransaction(err error) bool {
	var e *driver.Error
	return errors.As(err, &e) && e.Code() == 1 // SQLITE_ERROR, the only cause it has here
}
