package store

import (
	"context"
	"errors"
	"fmt"

	"holdfast"
	"holdfast/frame"
)

// Epoch is the beginning of one epoch of an account: the change that accepted a loss.
type Epoch struct {
	Epoch  holdfast.Epoch
	Seq    holdfast.Seq // of the change that began it; what is below was written in older epochs
	Common holdfast.Seq // up to which the lost history was this one, as far as is known; below Seq
}

// acceptLoss begins an epoch. Whether the change may is decided by fits.
func (a *applier) acceptLoss(o *frame.Op) error {
	common := a.c.Seq - 1 // of an erased one
	if o.Erased {
		a.erased++
	} else {
		l, err := o.Loss()
		if err != nil {
			return err
		}
		if common = l.Common; common >= a.c.Seq {
			return fmt.Errorf("the loss that change %s accepts begins after %s: %w", a.c.Seq, common, holdfast.ErrInvalid)
		}
	}
	a.wrote = true
	return a.t.c.one("INSERT INTO epoch (account_id, epoch, seq, common) VALUES (?1, ?2, ?3, ?4)",
		int64(a.c.Account), int64(a.c.Epoch), int64(a.c.Seq), int64(common))
}

// EpochAfter returns the first epoch of an account above e that began at or below seq at. ErrNotFound:
// there is none.
func (r *Reader) EpochAfter(a holdfast.AccountID, e holdfast.Epoch, at holdfast.Seq) (Epoch, error) {
	all, err := r.epochs("AND epoch > ?2 AND seq <= ?3 ORDER BY epoch LIMIT 1", int64(a), int64(e), int64(at))
	if err == nil && len(all) == 0 {
		err = holdfast.ErrNotFound
	}
	if err != nil {
		return Epoch{}, fmt.Errorf("read the epoch after %d of account %s: %w", e, a, err)
	}
	return all[0], nil
}

// Epochs returns all epochs of an account but its first, in order.
func (r *Reader) Epochs(a holdfast.AccountID) ([]Epoch, error) {
	all, err := r.epochs("ORDER BY epoch", int64(a))
	if err != nil {
		return nil, fmt.Errorf("read epochs of account %s: %w", a, err)
	}
	return all, nil
}

func (r *Reader) epochs(which string, args ...any) (all []Epoch, err error) {
	err = r.c.each("SELECT epoch, seq, common FROM epoch WHERE account_id = ?1 "+which, args, func(read func(...any) error) error {
		var e Epoch
		if err := read(&e.Epoch, &e.Seq, &e.Common); err != nil {
			return err
		}
		all = append(all, e)
		return nil
	})
	return all, err
}

// ChangeInfo is what the row of one change says beside its payload.
type ChangeInfo struct {
	Head holdfast.Head
	Term holdfast.Term // of the store history that committed it
	Time int64         // milliseconds since 1970 UTC
}

// ChangeAt returns the row of a change. ErrNotFound: no such change here.
func (r *Reader) ChangeAt(a holdfast.AccountID, seq holdfast.Seq) (ChangeInfo, error) {
	k := ChangeInfo{Head: holdfast.Head{Seq: seq}}
	var hash []byte
	var number, random int64
	found, err := r.c.row("SELECT hash, term_number, term_random, time FROM change WHERE account_id = ?1 AND seq = ?2",
		[]any{int64(a), int64(seq)}, &hash, &number, &random, &k.Time)
	if err == nil && !found {
		err = holdfast.ErrNotFound
	}
	if err == nil {
		k.Term = holdfast.Term{Number: uint64(number), Random: uint64(random)}
		err = toHash(&k.Head.Hash, hash)
	}
	if err != nil {
		return k, fmt.Errorf("read change %s of account %s: %w", seq, a, err)
	}
	return k, nil
}

// LastBefore returns the seq of the newest change of an account that a term below number committed; 0
// if there is none.
func (r *Reader) LastBefore(a holdfast.AccountID, number uint64) (holdfast.Seq, error) {
	var seq holdfast.Seq
	_, err := r.c.row("SELECT seq FROM change WHERE account_id = ?1 AND term_number < ?2 ORDER BY seq DESC LIMIT 1",
		[]any{int64(a), int64(number)}, &seq)
	if err != nil {
		return 0, fmt.Errorf("read the last change of account %s before term %d: %w", a, number, err)
	}
	return seq, nil
}

// Had reports whether a member of a collection ever had this ETag, up to now.
func (r *Reader) Had(a holdfast.AccountID, c holdfast.CollectionID, name, etag string) (had bool, err error) {
	now, err := r.c.resource(a, c, name, Newest)
	if err == nil && (now == nil || now.ETag() != etag) {
		err = r.c.each("SELECT thin FROM history WHERE account_id = ?1 AND collection_id = ?2 AND name = ?3",
			[]any{int64(a), int64(c), name}, func(read func(...any) error) error {
				var thin []byte
				if err := read(&thin); err != nil || had {
					return err
				}
				var v Resource
				if _, _, err := parseThin(thin, &v); err != nil {
					return err
				}
				had = v.ETag() == etag
				return nil
			})
	} else {
		had = err == nil
	}
	if err != nil {
		return false, fmt.Errorf("look for a version of %q in collection %d of account %s: %w", name, c, a, err)
	}
	return had, nil
}

// HadChild reports whether a collection of a name was ever directly below parent and is not there any more.
func (r *Reader) HadChild(a holdfast.AccountID, parent holdfast.CollectionID, name string) (bool, error) {
	var n int64
	had, err := r.c.row("SELECT 1 FROM collection_history WHERE account_id = ?1 AND parent = ?2 AND name = ?3 LIMIT 1",
		[]any{int64(a), int64(parent), name}, &n)
	if err != nil {
		return false, fmt.Errorf("look for a former collection %q of account %s: %w", name, a, err)
	}
	return had, nil
}

// Rewind takes an account back to the state after change to: the changes above are removed, and what is
// derived is made again from those that stay. It is how a history that lost against another one is undone;
// the caller has kept the removed changes elsewhere, durably. Nothing was applied to the account in this Tx.
func (t *Tx) Rewind(ctx context.Context, a holdfast.AccountID, to holdfast.Seq) error {
	if t.ended || t.err != nil {
		return fmt.Errorf("rewind in a transaction that has ended: %w", errors.Join(holdfast.ErrInvalid, t.err))
	}
	was, err := t.account(a)
	if err != nil {
		return t.condemn(err)
	}
	if was.dirty || to > was.head.Seq {
		return fmt.Errorf("rewind account %s from %s to %s: %w", a, was.head, to, holdfast.ErrInvalid)
	}
	if err := t.rewind(ctx, a, to, was); err != nil {
		return t.condemn(fmt.Errorf("rewind account %s to %s: %w", a, to, err))
	}
	return nil
}

func (t *Tx) rewind(ctx context.Context, a holdfast.AccountID, to holdfast.Seq, was *account) error {
	for table := range derivedTables {
		if table == "account" { // its row is written with the other heads
			continue
		}
		if _, err := t.c.exec("DELETE FROM "+table+" WHERE account_id = ?1", int64(a)); err != nil {
			return err
		}
	}
	for _, table := range []string{"change_part", "change"} {
		if _, err := t.c.exec("DELETE FROM "+table+" WHERE account_id = ?1 AND seq > ?2", int64(a), int64(to)); err != nil {
			return err
		}
	}
	for at := range t.members {
		if at.account == a {
			delete(t.members, at)
		}
	}
	t.s.histories.forget(a)
	st := &account{exists: was.exists, dirty: true}
	t.accounts[a] = st
	if to == 0 {
		delete(t.accounts, a)
		_, err := t.c.exec("DELETE FROM account WHERE account_id = ?1", int64(a))
		return err
	}
	t.fold = true // the changes are there already
	defer func() { t.fold = false }()
	return t.Changes(a, 1, to, func(seq holdfast.Seq, hash holdfast.Hash, payload []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		c, err := frame.ParseChange(payload)
		if err != nil {
			return fmt.Errorf("change %s: %w", seq, err)
		}
		if err := st.fits(c, payload, hash); err != nil {
			return err
		}
		k := &applier{t: t, c: c, st: st, resources: st.resources, bytes: st.bytes, erased: st.erased, touched: map[holdfast.CollectionID]*touch{}}
		return k.run(payload, hash)
	})
}
