package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/mirror"
)

const branchSuffix = ".branch"

func branchDir(cfg Config) string { return filepath.Join(cfg.Dir, "branches") }

func branchName(a holdfast.AccountID, common holdfast.Seq, end holdfast.Hash) string {
	return fmt.Sprintf("%s-%s-%s%s", a, common+1, end.String()[:16], branchSuffix)
}

// branchOfStore keeps what the store has of an account above common, and returns the name of the branch.
func (p *proof) branchOfStore(ctx context.Context, a holdfast.AccountID, common holdfast.Head, why string) (string, error) {
	return p.keepBranch(a, common, p.store[a], "store", why, func(k *branchWriter) (err error) {
		r, err := p.session.db.Read(ctx)
		if err != nil {
			return storeError("read branch", err)
		}
		defer func() { err = errors.Join(err, r.Close()) }()
		return r.Changes(a, common.Seq+1, p.store[a].Head.Seq, k.add)
	})
}

// branchOfMirror keeps what can be read of a mirror's end.
func (p *proof) branchOfMirror(ctx context.Context, a holdfast.AccountID, f *forkState, why string) (string, error) {
	return p.keepBranch(a, f.common, f.theirs.head, "mirror "+p.session.mirrors[f.mirror].Name(), why, func(k *branchWriter) error {
		err := p.replayAccount(ctx, f.mirror, a, f.common, func(r *mirror.Record) error { return k.add(r.Seq, r.Hash, r.Payload) })
		if err != nil && lasting(err) && k.last == f.theirs.head.Head {
			return nil // what cannot be read stays where it is
		}
		return err
	})
}

// keepBranch writes a branch file, durably, unless it is there already.
func (p *proof) keepBranch(a holdfast.AccountID, common holdfast.Head, end holdfast.AccountHead, source, why string, fill func(*branchWriter) error) (string, error) {
	cfg := p.ledger.cfg
	name := branchName(a, common.Seq, end.Head.Hash)
	path := filepath.Join(branchDir(cfg), name)
	if err := durable.MkdirAll(cfg.FS, branchDir(cfg)); err != nil {
		return "", fmt.Errorf("make the directory of branches: %w", err)
	}
	if _, last, err := readBranchFile(cfg, name, nil); err == nil && last == end.Head {
		return name, nil // an attempt before wrote it
	}
	err := p.ledger.step("branch", func() error {
		d, err := durable.NewDraft(cfg.FS, branchDir(cfg), name, durable.FilePerm)
		if err != nil {
			return err
		}
		defer d.Discard()
		k, err := newBranchWriter(d, &branchHead{
			Server: cfg.Server, Account: a, Epoch: end.Epoch, Common: common, Time: p.ledger.now(), Source: source, Why: why,
		})
		if err == nil {
			err = fill(k)
		}
		if err == nil {
			err = k.end()
		}
		if err != nil {
			return err
		}
		if k.last != end.Head {
			return fmt.Errorf("it ends at %s, not at %s: %w", k.last, end.Head, holdfast.ErrCorrupt)
		}
		return d.Commit(name, true)
	})
	if err != nil {
		return "", fmt.Errorf("keep branch %s: %w", path, err)
	}
	p.report.settled = append(p.report.settled, fmt.Sprintf("account %d: changes %d to %d of %s are kept as branch %s", a, common.Seq+1, end.Head.Seq, source, name))
	p.ledger.log.Warn("branch kept", "account", a.String(), "from", (common.Seq + 1).String(), "to", end.Head.Seq.String(), "source", source)
	return name, nil
}

// readBranchFile reads and verifies one branch.
func readBranchFile(cfg Config, name string, fn func(*branchChange) error) (h *branchHead, last holdfast.Head, err error) {
	f, err := cfg.FS.OpenFile(filepath.Join(branchDir(cfg), name), os.O_RDONLY, 0)
	if err != nil {
		return nil, last, fmt.Errorf("open branch %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, last, fmt.Errorf("look at branch %s: %w", name, err)
	}
	return readBranch(io.NewSectionReader(f, 0, info.Size), fn)
}

// Branch is the end of a history that did not go on.
type Branch struct {
	Name    string             `json:"name"`
	Account holdfast.AccountID `json:"account"`
	Epoch   holdfast.Epoch     `json:"epoch"`
	From    holdfast.Seq       `json:"from"` // its first change
	To      holdfast.Seq       `json:"to"`   // its last one
	Hash    string             `json:"hash"` // chain hash of the last
	Source  string             `json:"source"`
	Why     string             `json:"why"`
	Kept    time.Time          `json:"kept"`
	First   time.Time          `json:"first"` // when its first and last change were made
	Last    time.Time          `json:"last"`
	Damage  string             `json:"damage,omitempty"` // it cannot be read, and why; only Name counts then
}

// Branches lists the branches that were kept, of all accounts, by name. Each is read and verified.
func (l *Ledger) Branches(ctx context.Context) ([]Branch, error) {
	names, err := durable.List(l.cfg.FS, branchDir(l.cfg))
	if errors.Is(err, holdfast.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list branches: %w", err)
	}
	slices.Sort(names)
	var all []Branch
	for _, name := range names {
		if !strings.HasSuffix(name, branchSuffix) || durable.Unfinished(name) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return all, err
		}
		b, err := l.branch(name)
		if err != nil {
			b = Branch{Name: name, Damage: err.Error()}
		}
		all = append(all, b)
	}
	return all, nil
}

func (l *Ledger) branch(name string) (Branch, error) {
	b := Branch{Name: name}
	h, last, err := readBranchFile(l.cfg, name, func(c *branchChange) error {
		b.Last = time.UnixMilli(c.Time).UTC()
		if b.First.IsZero() {
			b.First = b.Last
		}
		return nil
	})
	if err != nil {
		return b, err
	}
	b.Account, b.Epoch, b.From, b.To, b.Hash = h.Account, h.Epoch, h.Common.Seq+1, last.Seq, last.Hash.String()
	b.Source, b.Why, b.Kept = h.Source, h.Why, h.Time
	return b, nil
}
