package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"holdfast"
	"holdfast/frame"
)

// maxProblems is how many problems Check tells before it gives up counting.
const maxProblems = 20

// Check reads the whole store and proves it: the structure of the file; of every account the chain
// from the first change to the head, the commitments of every operation, the bodies of all present
// resources, the digests of all collections and the sums in the account's row. progress may be nil;
// it is told how many of how many accounts are done. Blobs are not the store's.
//
// The result wraps ErrCorrupt and names up to 20 problems. Each account is read in its own snapshot.
func (s *Store) Check(ctx context.Context, progress func(done, total int)) error {
	r, err := s.Read(ctx)
	if err != nil {
		return fmt.Errorf("check store: %w", err)
	}
	var verdict string
	err = sqlError("check structure", r.c.c.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&verdict))
	if err == nil && verdict != "ok" {
		err = fmt.Errorf("structure: %s: %w", verdict, holdfast.ErrCorrupt)
	}
	problems := []error{err, r.Close()}
	heads, err := s.Heads(ctx)
	problems = append(problems, err)
	for i, h := range heads {
		if err := ctx.Err(); err != nil {
			problems = append(problems, err)
			break
		}
		problems = append(problems, s.checkAccount(ctx, h.Account))
		if progress != nil {
			progress(i+1, len(heads))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("check store: %w", err)
	}
	return nil
}

func (s *Store) checkAccount(ctx context.Context, a holdfast.AccountID) error {
	r, err := s.Read(ctx)
	if err != nil {
		return err
	}
	k := &checker{r: r, a: a}
	k.chain()
	k.collections()
	if err := errors.Join(append(k.problems, r.Close())...); err != nil {
		return fmt.Errorf("account %s: %w", a, err)
	}
	return nil
}

type checker struct {
	r        *Reader
	a        holdfast.AccountID
	problems []error
}

func (k *checker) note(err error) {
	if err != nil && len(k.problems) < maxProblems {
		k.problems = append(k.problems, err)
	}
}

func (k *checker) chain() {
	head, err := k.r.Head(k.a)
	if err != nil {
		k.note(err)
		return
	}
	var last holdfast.Head
	var epochs []Epoch
	err = k.r.Changes(k.a, 1, Newest, func(seq holdfast.Seq, hash holdfast.Hash, payload []byte) error {
		want, err := frame.ChainHash(last.Hash, payload)
		if err != nil {
			return fmt.Errorf("change %s: %w", seq, err)
		}
		if want != hash {
			return fmt.Errorf("change %s does not continue the chain: %w", seq, holdfast.ErrCorrupt)
		}
		last = holdfast.Head{Seq: seq, Hash: hash}
		c, err := frame.ParseChange(payload)
		if err == nil && (c.Account != k.a || c.Seq != seq) {
			err = fmt.Errorf("is change %s of account %s: %w", c.Seq, c.Account, holdfast.ErrCorrupt)
		}
		if err != nil {
			k.note(fmt.Errorf("change %s: %w", seq, err)) // the chain itself goes on
		} else if c.RaisesEpoch() {
			epochs = append(epochs, Epoch{c.Epoch, seq, seq - 1})
			if l, err := c.Ops[0].Loss(); err == nil {
				epochs[len(epochs)-1].Common = l.Common
			}
		}
		return nil
	})
	if err == nil && last != head.Head {
		err = fmt.Errorf("head is %s, the changes end at %s: %w", head.Head, last, holdfast.ErrCorrupt)
	}
	k.note(err)
	if has, err := k.r.Epochs(k.a); err != nil || !slices.Equal(has, epochs) {
		k.note(errors.Join(err, fmt.Errorf("the epochs are %v, the changes say %v: %w", has, epochs, holdfast.ErrCorrupt)))
	}
}

func (k *checker) collections() {
	list, err := k.r.Collections(k.a, Newest)
	k.note(err)
	var resources, bytes int64
	for i := range list {
		n, b, err := k.members(&list[i])
		k.note(err)
		resources += n
		bytes += b
	}
	n, b, err := k.r.Usage(k.a)
	if err == nil && (n != resources || b != bytes) {
		err = fmt.Errorf("holds %d resources of %d bytes, its row says %d and %d: %w", resources, bytes, n, b, holdfast.ErrCorrupt)
	}
	k.note(err)
}

func (k *checker) members(c *Collection) (n, bytes int64, err error) {
	var sum digest
	sum.add(selfHash(c))
	after := ""
	for {
		page, err := k.r.Resources(k.a, c.ID, after, 1000, Newest)
		if err != nil {
			return n, bytes, err
		}
		for i := range page {
			res := &page[i]
			sum.add(memberHash(res))
			n++
			bytes += res.Size
			if !res.IsBlob() {
				_, err := k.r.Body(res)
				k.note(err)
			}
		}
		if len(page) == 0 {
			break
		}
		after = page[len(page)-1].Name
	}
	d, err := k.r.DigestAt(k.a, c.ID, Newest)
	if err == nil && d != sum.hash() {
		err = fmt.Errorf("collection %d has another digest than its members: %w", c.ID, holdfast.ErrCorrupt)
	}
	return n, bytes, err
}
