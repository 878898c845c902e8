package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/fence"
	"holdfast/internal/mirror"
)

// takeOver is an operator's word that this data directory may claim mirrors that another one claimed last.
// It holds until it has claimed all of them once: whoever claims them after that is obeyed.
type takeOver struct {
	note string // in the claims, for people
	heal func(HealProgress)

	mu      sync.Mutex
	claimed bool
	err     error
	proof   report            // of the proof that opened the fence
	shut    map[uint64]string // accounts that it closed, and why
}

func (t *takeOver) allowed() bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.claimed
}

// done is called when every mirror was claimed.
func (t *takeOver) done() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.claimed = true
}

// failed keeps the error of the proof before, and reports whether a restore is under way.
func (t *takeOver) failed(err error) bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err = err
	return true
}

func (t *takeOver) progress(p HealProgress) {
	if t.heal != nil {
		t.heal(p)
	}
}

// claimNote is what this process writes into its claims: the instance, by which a later process of this
// data directory knows them for its own, and what an operator ordered.
func (l *Ledger) claimNote() string {
	note := "instance " + l.instance
	if l.takeOver.allowed() {
		note += "; " + l.takeOver.note
	}
	if l.forced() {
		note += "; taken over by an operator's word"
	}
	return note
}

// taker returns the first claim after the last one of this data directory: who took over. Later ones are
// only its restarts.
func (l *Ledger) taker(claims []mirror.Claim) *mirror.Claim {
	i := len(claims) - 1
	for i > 0 && !strings.Contains(claims[i-1].Note, l.instance) {
		i--
	}
	if i == 0 { // no claim here is its own
		i = len(claims) - 1
	}
	return &claims[i]
}

// recordProof writes the incident report of a proof. Whoever restores writes a report of their own, so
// of a restore only what is wrong is reported here.
func (l *Ledger) recordProof(r *report, shut map[holdfast.AccountID]closure) error {
	if t := l.takeOver; t != nil {
		t.mu.Lock()
		t.proof, t.shut = *r, map[uint64]string{}
		for a, why := range shut {
			t.shut[uint64(a)] = why.Full()
		}
		t.mu.Unlock()
		if len(r.damage) == 0 && len(r.lost) == 0 && r.missingBlobs == 0 && len(shut) == 0 {
			return nil
		}
	}
	return l.writeReport(r, shut)
}

// tellMembers writes into mirrors which ones count, so that one of them alone knows of the others.
func tellMembers(ctx context.Context, mirrors []*mirror.Mirror, members []member) error {
	var all []mirror.Member
	for _, m := range members {
		all = append(all, mirror.Member{ID: m.ID, Name: m.Name, Path: m.Path})
	}
	for _, m := range mirrors {
		if err := m.SetMembers(ctx, all); err != nil {
			return &mirrorError{m.Name(), err}
		}
	}
	return nil
}

// RestoreProgress is how far Restore has come.
type RestoreProgress struct {
	Step string // what is being done, for people
	HealProgress
}

// Restored is what Restore did.
type Restored struct {
	Heads        map[holdfast.AccountID]holdfast.AccountHead // of the new store: what devices will be served
	Term         uint64                                      // that was claimed in every mirror
	Changes      int                                         // put into the store by this call; a call before may have put others
	Blobs        int
	MissingBlobs int               // large bodies that no mirror has whole
	Damage       []string          // found in the mirrors, one line each
	Closed       map[uint64]string // accounts that stay closed, and why
}

// Restore makes the store and the blobs of a new data directory from its mirrors alone, and takes the
// mirrors from whoever had them: a server that wrote to them before finds itself fenced. Server is the
// mirrors' own. note goes into the claims, for people. progress may be nil.
//
// It claims first, then reads (R1), heals, and verifies every chain, body and digest of the store it
// made. Nothing in a mirror is removed or overwritten. It may be called again after it was interrupted,
// and goes on where it was. Errors leave a directory that Restore can be called for again.
func Restore(ctx context.Context, cfg Config, note string, progress func(RestoreProgress)) (*Restored, error) {
	cfg = cfg.withDefaults()
	if progress == nil {
		progress = func(RestoreProgress) {}
	}
	for _, d := range []string{"blobs", "incidents"} {
		if err := durable.MkdirAll(cfg.FS, filepath.Join(cfg.Dir, d)); err != nil {
			return nil, fmt.Errorf("restore: create %s: %w", d, err)
		}
	}
	if err := restoreHeadFile(ctx, cfg); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	t := &takeOver{note: note, heal: func(p HealProgress) { progress(RestoreProgress{"putting changes and large bodies back", p}) }}
	l, err := open(ctx, cfg, t)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	r, err := l.restored(ctx, t, progress)
	if err = errors.Join(err, l.Close(context.WithoutCancel(ctx))); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return r, nil
}

// restored waits for the fence and verifies what was made.
func (l *Ledger) restored(ctx context.Context, t *takeOver, progress func(RestoreProgress)) (*Restored, error) {
	if err := l.WaitOpen(ctx); err != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.err != nil {
			return nil, t.err
		}
		return nil, err
	}
	l.mu.RLock()
	db, r := l.db, &Restored{Heads: maps.Clone(l.heads), Term: l.term.Number}
	ok := db != nil && db.acquire()
	l.mu.RUnlock()
	if !ok {
		return nil, fmt.Errorf("the store was closed again: %w", holdfast.ErrFenced)
	}
	t.mu.Lock()
	r.Changes, r.Blobs, r.MissingBlobs, r.Damage, r.Closed = t.proof.changes, t.proof.blobs, t.proof.missingBlobs, slices.Clone(t.proof.damage), t.shut
	t.mu.Unlock()
	defer db.release()
	err := db.Check(ctx, func(done, total int) {
		progress(RestoreProgress{Step: fmt.Sprintf("verifying the new store, account %d of %d", done, total)})
	})
	if err != nil {
		return nil, fmt.Errorf("the new store is not what the mirrors have; remove it and try again: %w", err)
	}
	if s := l.Status(); s.State == fence.Closed.String() {
		return nil, fmt.Errorf("%s: %w", s.Reason, holdfast.ErrFenced)
	}
	return r, nil
}

// restoreHeadFile makes DIR/heads with a new instance, and with all that the mirrors' own witnesses know.
// One that a Restore before has made stays: its instance may be in claims.
func restoreHeadFile(ctx context.Context, cfg Config) error {
	if _, err := cfg.FS.Stat(headPath(cfg)); !errors.Is(err, holdfast.ErrNotFound) {
		return err // what it holds is for open to judge
	}
	known := map[holdfast.AccountID]holdfast.AccountHead{}
	for _, mc := range cfg.Mirrors {
		m, b, err := openMirror(ctx, cfg, mc)
		if err != nil {
			return &mirrorError{mc.Name, err}
		}
		rec, err := m.Recover(ctx)
		if err = errors.Join(err, b.Close()); err != nil {
			return &mirrorError{mc.Name, err}
		}
		for a, h := range rec.Witness {
			if w := known[a]; h.Epoch > w.Epoch || h.Epoch == w.Epoch && h.Head.Seq > w.Head.Seq {
				known[a] = h
			}
		}
	}
	return createHeadFile(cfg, known)
}
