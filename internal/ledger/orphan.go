package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/durable"
	"holdfast/internal/fence"
	"holdfast/internal/mirror"
	"holdfast/internal/store"
)

// orphans are changes of one account that follow one another in a mirror's log, that no later log continued and
// that the store does not have: a process that had lost its claim wrote them. Nobody was ever told of them.
type orphans struct {
	account holdfast.AccountID
	epoch   holdfast.Epoch
	common  holdfast.Head
	hashes  []holdfast.Hash // of the changes after common
}

func (o *orphans) end() holdfast.AccountHead {
	n := len(o.hashes)
	return holdfast.AccountHead{Account: o.account, Epoch: o.epoch, Head: holdfast.Head{Seq: o.common.Seq + holdfast.Seq(n), Hash: o.hashes[n-1]}}
}

// FindBranches reads the logs of all mirrors whole and keeps as a branch what lies in them and was not continued (F6),
// unless a branch has it already. It claims nothing and changes nothing in a mirror. loose counts changes that follow
// nothing the store has: they stay in the logs. ErrFenced: there is no store to compare with.
func (l *Ledger) FindBranches(ctx context.Context) (loose int, err error) {
	l.mu.RLock()
	db, mirrors, state, why := l.db, l.mirrors, l.state, l.reason
	l.mu.RUnlock()
	if state == fence.Closed || db == nil || !db.acquire() {
		return 0, fmt.Errorf("fence closed: %s: %w", why.Full(), holdfast.ErrFenced)
	}
	defer db.release()
	for _, m := range mirrors {
		n, err := l.findBranches(ctx, db, m)
		if err != nil {
			return loose, fmt.Errorf("look for branches in mirror %s: %w", m.Name(), err)
		}
		loose += n
	}
	return loose, nil
}

func (l *Ledger) findBranches(ctx context.Context, db *sharedStore, m *mirror.Mirror) (loose int, err error) {
	found, loose, err := findOrphans(ctx, db, m)
	if err != nil {
		return 0, err
	}
	p := &proof{ledger: l}
	for _, o := range found {
		if known, err := l.branchHas(o); err != nil || known {
			if err != nil {
				return 0, err
			}
			continue
		}
		_, err := p.keepBranch(o.account, o.common, o.end(), "an old log of mirror "+m.Name(), "a later server did not continue it: it was never acknowledged", func(k *branchWriter) error {
			return scanOrphans(ctx, m, func(f *mirror.ScanFrame) error {
				if at := f.Seq - o.common.Seq - 1; f.Account != o.account || f.Seq != k.last.Seq+1 || f.Hash != o.hashes[at] {
					return nil
				}
				return k.add(f.Seq, f.Hash, f.Payload)
			})
		})
		if err != nil {
			return 0, err
		}
	}
	return loose, nil
}

// scanOrphans gives fn the changes of a mirror that no later log continued.
func scanOrphans(ctx context.Context, m *mirror.Mirror, fn func(f *mirror.ScanFrame) error) error {
	s, err := m.Scan(ctx, "")
	for err == nil {
		_, err = s.Next(ctx, func(f *mirror.ScanFrame) error {
			if !f.Orphan || f.Seq == 0 {
				return nil
			}
			return fn(f)
		})
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// findOrphans finds the runs of orphans that follow what the store has.
func findOrphans(ctx context.Context, db *sharedStore, m *mirror.Mirror) (found []*orphans, loose int, err error) {
	r, err := db.Read(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	last := map[holdfast.AccountID]*orphans{}
	err = scanOrphans(ctx, m, func(f *mirror.ScanFrame) error {
		own, err := hashOf(r, f.Account, f.Seq)
		if err != nil || own == f.Hash {
			return err // it was continued: in another log
		}
		if o := last[f.Account]; o != nil && f.Seq > o.common.Seq {
			switch at := int(f.Seq - o.common.Seq - 1); {
			case at < len(o.hashes) && o.hashes[at] == f.Hash:
				return nil // a log repeats the last batch of the one before
			case at == len(o.hashes) && follows(o.hashes[at-1], f):
				o.hashes = append(o.hashes, f.Hash)
				return nil
			}
		}
		before, err := hashOf(r, f.Account, f.Seq-1)
		if err != nil {
			return err
		}
		if !follows(before, f) {
			loose++
			return nil
		}
		o := &orphans{account: f.Account, epoch: f.Epoch, common: holdfast.Head{Seq: f.Seq - 1, Hash: before}, hashes: []holdfast.Hash{f.Hash}}
		last[f.Account], found = o, append(found, o)
		return nil
	})
	return found, loose, err
}

func follows(before holdfast.Hash, f *mirror.ScanFrame) bool {
	h, err := frame.ChainHash(before, f.Payload)
	return err == nil && h == f.Hash
}

// hashOf returns the store's hash at a seq; zero if it has none.
func hashOf(r *store.Reader, a holdfast.AccountID, s holdfast.Seq) (holdfast.Hash, error) {
	if s == 0 {
		return holdfast.Hash{}, nil
	}
	h, err := r.HashAt(a, s)
	if errors.Is(err, holdfast.ErrNotFound) {
		return holdfast.Hash{}, nil
	}
	return h, err
}

// branchHas reports whether a branch that was kept ends with these changes, or goes on after them.
func (l *Ledger) branchHas(o *orphans) (bool, error) {
	names, err := durable.List(l.cfg.FS, branchDir(l.cfg))
	if errors.Is(err, holdfast.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list branches: %w", err)
	}
	end := o.end().Head
	for _, name := range names {
		if !strings.HasPrefix(name, o.account.String()+"-") || !strings.HasSuffix(name, branchSuffix) || durable.Unfinished(name) {
			continue
		}
		has := false
		_, _, err := readBranchFile(l.cfg, name, func(c *branchChange) error {
			has = has || c.Seq == end.Seq && c.Hash == end.Hash
			return nil
		})
		if err == nil && has { // one that cannot be read proves nothing
			return true, nil
		}
	}
	return false, nil
}
