package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"holdfast"
	"holdfast/internal/mirror"
	"holdfast/internal/store"
)

// maxGoodBytes bounds what is kept of a mirror's changes while an account is repaired: beyond it the whole store is made anew.
const maxGoodBytes = 256 << 20

// goodChanges gives what a mirror has of an account after a head, verified, up to another head.
func (l *Ledger) goodChanges(ctx context.Context, mirrors []*mirror.Mirror, a holdfast.AccountID, after, to holdfast.Head, fn func(store.Good) error) error {
	l.mu.RLock()
	heads := maps.Clone(l.heads)
	l.mu.RUnlock()
	have := func(o holdfast.AccountID) holdfast.AccountHead {
		if o == a {
			return holdfast.AccountHead{Account: a, Head: after}
		}
		return heads[o]
	}
	all := fmt.Errorf("no mirror gives the changes of account %d after %d: %w", a, after.Seq, holdfast.ErrCorrupt)
	for _, m := range mirrors {
		var list []store.Good
		size := 0
		err := m.Replay(ctx, have, func(r *mirror.Record) error {
			if r.Account != a {
				return nil
			}
			if size += len(r.Payload); size > maxGoodBytes {
				return fmt.Errorf("more than %d bytes of changes: %w", maxGoodBytes, holdfast.ErrCorrupt)
			}
			list = append(list, store.Good{Seq: r.Seq, Hash: r.Hash, Payload: slices.Clone(r.Payload)})
			if r.Seq >= to.Seq {
				return errDone
			}
			return nil
		})
		if n := len(list); n > 0 && list[n-1].Seq == to.Seq && list[n-1].Hash == to.Hash {
			for _, g := range list {
				if err := fn(g); err != nil {
					return err
				}
			}
			return nil
		}
		if err == nil || errors.Is(err, errDone) {
			err = fmt.Errorf("its chain does not lead to change %d: %w", to.Seq, holdfast.ErrCorrupt)
		}
		all = fmt.Errorf("%w; mirror %s: %v", all, m.Name(), err) // what is wrong with a mirror is no news of the store's repair
	}
	return all
}

// mendStore repairs a store that Open found to have damaged pages, before anything is read from it: account by
// account, from its own changes and those of the mirrors. An error says why it could not be done; the store is then
// given up, or stays as it is.
func (p *proof) mendStore(ctx context.Context, st *store.Store) (err error) {
	pages, err := st.BadPages(ctx, nil)
	if err != nil || len(pages) == 0 {
		return err
	}
	au, err := st.NewAudit(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, au.Close()) }()
	p.ledger.log.Error("the store has damaged pages", "pages", len(pages), "first", pages[0])
	if err := au.Structure(ctx); err != nil {
		return err
	}
	list, err := au.Accounts()
	if err != nil {
		return err
	}
	var bad []holdfast.AccountHead
	for _, h := range list {
		v, err := au.Account(ctx, h.Account, nil, nil)
		if err != nil {
			return err
		}
		if !v.Whole() {
			bad = append(bad, h)
		}
	}
	for _, h := range bad {
		_, err := au.Mend(ctx, h.Account, h.Head, func(after holdfast.Head, fn func(store.Good) error) error {
			return p.ledger.goodChanges(ctx, p.session.mirrors, h.Account, after, h.Head, fn)
		})
		if err == nil {
			continue
		}
		r, rerr := st.Read(ctx)
		if rerr == nil {
			rerr = errors.Join(r.Intact(h.Account), r.Close())
		}
		if !errors.Is(err, holdfast.ErrCorrupt) || rerr != nil || p.rebuildable(ctx) == nil {
			return errors.Join(err, rerr)
		}
		// Only a change is damaged, and no copy has it whole: it says so itself when it is read.
		p.report.damage = append(p.report.damage, fmt.Sprintf("the store's changes of account %d are damaged, and no copy has them whole: %s", h.Account, err))
	}
	p.report.damage = append(p.report.damage, fmt.Sprintf("%d pages of the store's file were damaged; %d accounts were repaired in place", len(pages), len(bad)))
	return au.Rewrite(ctx, pages)
}
