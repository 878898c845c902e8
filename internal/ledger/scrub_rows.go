package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/fence"
	"holdfast/internal/store"
)

// scrubRows reads every page of the store's file, and proves every account: its changes by their chain and
// commitments, its derived rows by folding the changes once more (L5), the bodies it names by a look into
// every copy. An account that is not whole is closed at once and repaired in place while the others are
// served, but not before all accounts were proven in one go: accounts share pages, and writing a page again
// says of everything in it that it is good.
func (s *scrubber) scrubRows(ctx context.Context, p *lap, c *copies, pace *pacer) error {
	ctx, stop := c.db.untilEnd(ctx) // whoever closes the store waits for its readers, and this one is slow
	defer stop()
	err := s.readRows(ctx, p, c, pace)
	if err != nil && c.db.isEnding() {
		err = fmt.Errorf("store is being closed: %w: %w", holdfast.ErrFenced, err)
	}
	return err
}

func (s *scrubber) readRows(ctx context.Context, p *lap, c *copies, pace *pacer) error {
	n := &notice{copyName: p.Copy, part: p.Part}
	thorough := s.beginsAnew(p)
	if suspects := s.takeSuspects(); !thorough && (suspects || s.l.mending()) {
		return errReread // they may be behind the cursor
	}
	if !c.db.acquire() {
		return fmt.Errorf("store is being closed: %w", holdfast.ErrFenced)
	}
	pages, err := c.db.BadPages(ctx, func(b int64) error { return pace.pay(ctx, b) })
	c.db.release()
	if err != nil {
		return err
	}
	if len(pages) > 0 {
		n.damage = append(n.damage, fmt.Sprintf("%d pages of the store's file are not what was written, the first is page %d", len(pages), pages[0]))
		if !thorough {
			return errReread
		}
	}
	whole, bad, err := s.proveAccounts(ctx, n, p, c, pace, thorough)
	if err != nil {
		return err
	}
	doubt := false
	for _, a := range bad {
		err := s.mend(ctx, n, c, a)
		if errors.Is(err, holdfast.ErrCorrupt) {
			doubt = doubt || !s.intact(ctx, c, a)
			err = s.giveUp(n, a, err, doubt)
		}
		if err != nil {
			return err
		}
		if !doubt { // it is repaired, or only changes are damaged, which say so themselves
			whole = append(whole, a)
		}
	}
	if len(pages) > 0 && !doubt { // else their checksums are all that keeps what is wrong in them from being served
		if err := s.rewritePages(ctx, n, c, pages); err != nil {
			return err
		}
	}
	s.reopen(whole)
	return s.conclude(n)
}

// beginsAnew reports whether a lap that begins now reads everything without a pause.
func (s *scrubber) beginsAnew(p *lap) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	mode, asked := s.asked[p.name()]
	return p.Cursor == "" && (asked && mode != ScrubOn || s.l.cfg.ScrubRate <= 0)
}

// proveAccounts proves all accounts behind the lap's cursor and returns those that are whole and those that are
// not, which are closed. The cursor stays before them until they are repaired: whatever ends this run, the next one
// finds them again.
func (s *scrubber) proveAccounts(ctx context.Context, n *notice, p *lap, c *copies, pace *pacer, thorough bool) (good, bad []holdfast.AccountID, err error) {
	s.l.mu.RLock()
	heads := maps.Clone(s.l.heads)
	s.l.mu.RUnlock()
	for _, a := range slices.Sorted(maps.Keys(heads)) {
		if p.Cursor != "" && a.String() <= p.Cursor || s.l.isShut(a) {
			continue
		}
		if !thorough && s.takeSuspects() {
			return nil, nil, errReread
		}
		whole, err := s.proveAccount(ctx, n, c, a, func(b int64) error { return pace.pay(ctx, b) })
		if err != nil {
			return nil, nil, err
		}
		if whole {
			if good = append(good, a); len(bad) == 0 {
				s.moved(p, a.String(), 0)
			}
			continue
		}
		s.l.closeFor(a, fence.Mending)
		if err := s.l.keepDamaged(a); err != nil {
			return nil, nil, fmt.Errorf("remember that account %d is damaged: %w", a, err)
		}
		if !thorough {
			return nil, nil, errReread
		}
		bad = append(bad, a)
	}
	return good, bad, nil
}

// audit runs fn with an audit of the store.
func (c *copies) audit(ctx context.Context, fn func(au *store.Audit) error) error {
	if !c.db.acquire() {
		return fmt.Errorf("store is being closed: %w", holdfast.ErrFenced)
	}
	defer c.db.release()
	au, err := c.db.NewAudit(ctx)
	if err != nil {
		return err
	}
	return errors.Join(fn(au), au.Close())
}

// proveAccount proves one account. What SQLite cannot read at all gives the whole store up.
func (s *scrubber) proveAccount(ctx context.Context, n *notice, c *copies, a holdfast.AccountID, pace func(int64) error) (whole bool, err error) {
	s.l.mu.RLock()
	known := s.l.heads[a].Head
	s.l.mu.RUnlock()
	var v *store.Verdict
	var has holdfast.Hash
	err = c.audit(ctx, func(au *store.Audit) (err error) {
		v, err = au.Account(ctx, a, pace, func(ch *frame.Change) error { return s.named(ctx, n, c, ch) })
		if err == nil && v.Whole() {
			if has, err = au.HashAt(a, known.Seq); errors.Is(err, holdfast.ErrNotFound) {
				err = nil // it has another number of changes
			}
		}
		return err
	})
	if err != nil && !errors.Is(err, holdfast.ErrCorrupt) || err == nil && v.Whole() && has == known.Hash {
		return err == nil, err
	}
	what := fmt.Sprintf("account %d cannot be read from the store: %v", a, err)
	switch {
	case err != nil:
	case v.Whole(): // whoever can write to the store can compute all of it anew (fault 31)
		what = fmt.Sprintf("account %d: the store's changes prove themselves, and are not those that were acknowledged: change %d is another one. Somebody wrote them", a, known.Seq)
	case v.Broken > 0:
		what = fmt.Sprintf("account %d, change %d: %v", a, v.Broken, v.Err)
	default:
		what = fmt.Sprintf("account %d: the tables %v are not what its changes make of them", a, v.Derived)
	}
	n.damage = append(n.damage, what)
	s.l.log.Error("the store is damaged", "account", a.String(), "what", what)
	if err != nil {
		return false, s.giveUp(n, a, err, true)
	}
	return false, nil
}

// giveUp has the whole store made anew from the mirrors, or says that it cannot be.
// An account whose rows cannot be trusted stays closed; with doubt false only changes are damaged, which say so
// themselves when they are read.
func (s *scrubber) giveUp(n *notice, a holdfast.AccountID, err error, doubt bool) error {
	if s.l.rebuiltLately() {
		if doubt {
			s.l.closeFor(a, fence.Unmended)
			if err := s.l.keepDamaged(a); err != nil {
				return fmt.Errorf("remember that account %d is damaged: %w", a, err)
			}
		}
		n.found(ScrubDamage{Account: a, Seq: 1, Text: fmt.Sprintf("account %d is damaged in the store and cannot be repaired in place: %v", a, err)})
		return nil
	}
	err = storeError("repair", err)
	s.l.raise(err)
	return err
}

// intact reports whether the rows of an account, but for its changes, are what was written.
func (s *scrubber) intact(ctx context.Context, c *copies, a holdfast.AccountID) bool {
	return c.read(ctx, func(r *store.Reader) error { return r.Intact(a) }) == nil
}

// closeFor closes the fence of an account whose rows in the store are damaged, if it is open.
func (l *Ledger) closeFor(a holdfast.AccountID, why fence.Code) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if was, shut := l.shut[a]; shut && !was.ofRows() {
		return
	}
	l.shut[a] = closure{Reason: fence.Reason{Code: why}}
	l.wakeOf(a)
	l.headsDue = true
}

// mending reports whether an account waits for its rows to be proven or repaired.
func (l *Ledger) mending() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, c := range l.shut {
		if c.Code == fence.Mending {
			return true
		}
	}
	return false
}

// reopen opens accounts that were proven or repaired, and met no new damage since, if only that had closed them.
func (s *scrubber) reopen(whole []holdfast.AccountID) {
	s.mu.Lock()
	suspects := maps.Clone(s.suspects)
	s.mu.Unlock()
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	for _, a := range whole {
		if c, shut := s.l.shut[a]; shut && c.ofRows() && !suspects[a] {
			delete(s.l.shut, a)
			s.l.wakeOf(a)
			s.l.headsDue = true // DIR/heads forgets it, if not before a crash then after the next lap
		}
	}
}

// mend repairs one account in place, in the committer, where nothing else is committed.
func (s *scrubber) mend(ctx context.Context, n *notice, c *copies, a holdfast.AccountID) error {
	replaced := 0
	err := s.l.inCommitter(ctx, func(ss *session) error {
		if ss.db != c.db {
			return fmt.Errorf("another store is served by now: %w", holdfast.ErrFenced)
		}
		return s.l.step("mend", func() error {
			return c.audit(ctx, func(au *store.Audit) (err error) {
				want := ss.committed[a].Head
				replaced, err = au.Mend(ctx, a, want, func(after holdfast.Head, fn func(store.Good) error) error {
					return s.l.goodChanges(ctx, c.mirrors, a, after, want, fn)
				})
				return err
			})
		})
	})
	if errors.Is(err, holdfast.ErrFatal) {
		s.l.raise(err)
	}
	if err != nil {
		return err
	}
	c.paths.forget()
	n.rows++
	n.did = append(n.did, fmt.Sprintf("account %d was repaired in place: %d changes were replaced by those of a mirror, and all rows made anew from the changes", a, replaced))
	return nil
}

// rewritePages gives pages a good checksum after every account was proven: what is damaged in them is in no row.
func (s *scrubber) rewritePages(ctx context.Context, n *notice, c *copies, bad []uint32) error {
	err := s.l.inCommitter(ctx, func(*session) error {
		return s.l.step("rewrite pages", func() error {
			return c.audit(ctx, func(au *store.Audit) error {
				if err := au.Structure(ctx); err != nil {
					return err
				}
				return au.Rewrite(ctx, bad)
			})
		})
	})
	switch {
	case errors.Is(err, holdfast.ErrFatal):
		s.l.raise(err)
	case errors.Is(err, holdfast.ErrCorrupt):
		return s.giveUp(n, 0, err, false)
	case err == nil:
		n.rows++
		n.did = append(n.did, fmt.Sprintf("%d pages of the store's file were written again, after every account had been proven", len(bad)))
	}
	return err
}

// job is something to be done between two batches.
type job struct {
	do   func(s *session) error
	done chan error
}

// inCommitter runs do in the committer of the session that is served. ErrFenced: it ended before.
func (l *Ledger) inCommitter(ctx context.Context, do func(s *session) error) error {
	j := &job{do: do, done: make(chan error, 1)}
	for {
		l.mu.RLock()
		db, changed := l.db, l.changed
		l.mu.RUnlock()
		if db == nil {
			return fmt.Errorf("no store is served: %w", holdfast.ErrFenced)
		}
		select {
		case l.jobs <- j:
			return <-j.done
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// suspect has all rows proven at once: reading or writing an account met damage, which seldom comes alone.
func (s *scrubber) suspect(a holdfast.AccountID) {
	if !s.known(a) {
		s.reprove(a)
	}
}

// known reports whether the damage of an account's rows is known, and no copy has it whole: reading all rows again
// would show nothing new.
func (s *scrubber) known(a holdfast.AccountID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	lately := s.l.now().Add(-time.Hour)
	return slices.ContainsFunc(s.state.Damage, func(d ScrubDamage) bool { return d.Part == partRows && d.Account == a && d.At.After(lately) })
}

// reprove has all rows proven at once.
func (s *scrubber) reprove(a holdfast.AccountID) {
	s.mu.Lock()
	s.suspects[a] = true
	s.asked[storeCopy+" "+partRows] = ScrubFull
	s.mu.Unlock()
	s.wakeAll()
}

// takeSuspects reports whether there are suspects, and forgets them: everything is read now.
func (s *scrubber) takeSuspects() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	any := len(s.suspects) > 0
	clear(s.suspects)
	return any
}

// named proves that the bodies of a change are in every copy. Their bytes are read by a lap of their own.
func (s *scrubber) named(ctx context.Context, n *notice, c *copies, ch *frame.Change) error {
	for i := range ch.Ops {
		b := ch.Ops[i].Blob
		if b == nil {
			continue
		}
		has, err := s.l.blobs.Has(ctx, ch.Account, *b)
		if err == nil && !has || errors.Is(err, holdfast.ErrCorrupt) {
			n.damage = append(n.damage, "body "+b.Hash.String()+" is missing or cut in the store")
			err = s.healBlobOf(ctx, n, storeCopy, c, ch.Account, b.Hash)
		}
		if err != nil {
			return err
		}
		for _, m := range c.mirrors {
			has, err := m.HasBlob(ctx, ch.Account, *b)
			if err == nil && !has {
				n.damage = append(n.damage, "body "+b.Hash.String()+" is missing or cut in mirror "+m.Name())
				err = s.healBlobOf(ctx, n, m.Name(), c, ch.Account, b.Hash)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
