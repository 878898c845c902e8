package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"holdfast"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/fence"
	"holdfast/internal/witness"
)

// thirdPlace is the head witness of one session: heads in a place that is neither store nor mirror
// (Config.Witness). Store and mirrors that are put back together are seen by it.
type thirdPlace struct {
	*witness.Witness
	bucket *dir.Dir
}

// linked reports whether the place is still there; each move finds out by itself.
func (t *thirdPlace) linked() error {
	if t == nil {
		return nil
	}
	if err := t.bucket.Check(); err != nil {
		return &mirrorError{"", err}
	}
	return nil
}

func (t *thirdPlace) close(l *Ledger) {
	if t == nil {
		return
	}
	if err := errors.Join(t.Close(), t.bucket.Close()); err != nil {
		l.log.Warn("close witness", "err", err)
	}
}

// openWitness opens the witness that the configuration names. Without one nothing is opened; one that is
// absent makes the server wait like a missing mirror: it was asked for, so its word counts.
func (p *proof) openWitness(ctx context.Context) error {
	l := p.ledger
	l.mu.RLock()
	path := l.witnessAt
	l.mu.RUnlock()
	p.witnessAt = path
	if path == "" {
		return nil
	}
	var w *witness.Witness
	var b *dir.Dir
	fsys, err := l.cfg.place("", path)
	if err == nil {
		b, err = dir.Open(fsys, path)
	}
	if err == nil {
		if w, err = witness.Open(ctx, witness.Config{Server: l.cfg.Server, Bucket: b}); err != nil {
			err = errors.Join(err, b.Close())
		}
	}
	l.noteWitness(path, w, err)
	if err != nil {
		return &mirrorError{"", err}
	}
	p.session.third = &thirdPlace{w, b}
	if err := w.Damage(); err != nil {
		l.emit(Event{
			Kind: EventDamage, Bad: true, Text: "The head witness in the third place is damaged: " + err.Error() + ". What it still says is used; store and mirrors are not touched by it.",
			Todo: "Look for a failing disk there. Then make a new one: holdfast witness add.",
		})
	}
	return nil
}

// thirdWitnesses is what the third place knows.
func (p *proof) thirdWitnesses() []fence.Witness {
	if p.session.third == nil {
		return nil
	}
	var ws []fence.Witness
	for _, h := range p.session.third.Heads() {
		ws = append(ws, witnessOf(h, "the head witness in the third place"))
	}
	return ws
}

// beginWitness starts this term's record with the heads that all copies have now.
func (p *proof) beginWitness(ctx context.Context) error {
	if p.session.third == nil {
		return nil
	}
	proven := maps.Clone(p.store)
	maps.DeleteFunc(proven, func(a holdfast.AccountID, _ holdfast.AccountHead) bool { _, closed := p.shut[a]; return closed })
	if err := p.session.third.Begin(ctx, p.session.term, proven); err != nil {
		return &mirrorError{"", err}
	}
	return nil
}

// moveWitness records a batch in the third place: it is in every mirror, and the claim was ours after
// that, so who claims next finds in the mirrors what the witness says.
func (s *session) moveWitness(heads map[holdfast.AccountID]holdfast.AccountHead) error {
	defer s.ledger.within("move the head witness", s.third.bucket.Path())()
	if err := s.third.Move(context.Background(), heads); err != nil {
		return &mirrorError{"", err}
	}
	return nil
}

// CreateWitness makes a new or empty directory a head witness of this server, which SetWitness then puts
// to use. One that a crash left unused is taken again. ErrExists: something else is there.
func (l *Ledger) CreateWitness(ctx context.Context, path string) error {
	return createWitness(ctx, l.cfg, path)
}

func createWitness(ctx context.Context, cfg Config, path string) error {
	b, err := dir.Create(cfg.FS, path)
	if errors.Is(err, holdfast.ErrExists) {
		return unusedWitness(ctx, cfg, path, err)
	}
	if err != nil {
		return fmt.Errorf("create witness in %s: %w", path, err)
	}
	w, err := witness.Create(ctx, witness.Config{Server: cfg.Server, Bucket: b})
	if err == nil {
		err = w.Close()
	}
	return errors.Join(err, b.Close())
}

// unusedWitness returns nil if a place is a witness of this server that knows nothing yet, else err.
func unusedWitness(ctx context.Context, cfg Config, path string, err error) error {
	b, oerr := dir.Open(cfg.FS, path)
	if oerr != nil {
		return err
	}
	w, oerr := witness.Open(ctx, witness.Config{Server: cfg.Server, Bucket: b})
	if oerr == nil && w.Damage() == nil && len(w.Heads()) == 0 {
		return b.Close()
	}
	return errors.Join(err, b.Close())
}

// SetWitness goes by another head witness from now on; an empty path is none. It returns when a session
// with it serves, or ctx ends: then Status says what is in the way.
func (l *Ledger) SetWitness(ctx context.Context, path string) {
	l.mu.Lock()
	l.witnessAt = path
	before := l.term
	if path == "" {
		l.third = nil
	}
	l.mu.Unlock()
	if s := l.serving(); s != nil {
		s.do(func() error { return fmt.Errorf("head witness %q: %w", path, errAgain) })
	}
	l.wake()
	l.waitTerm(ctx, before)
}

// waitTerm waits until another term than this one serves.
func (l *Ledger) waitTerm(ctx context.Context, before holdfast.Term) {
	for {
		l.mu.RLock()
		now, state, changed := l.term, l.state, l.changed
		l.mu.RUnlock()
		if state == fence.Open && now != before {
			return
		}
		select {
		case <-changed:
		case <-l.ended:
			return
		case <-ctx.Done():
			return
		}
	}
}

// WitnessStatus is the head witness as last seen.
type WitnessStatus struct {
	Path       string `json:"path"`
	ID         string `json:"id,omitempty"`
	State      string `json:"state"`       // "complete", or what is wrong
	SameDevice bool   `json:"same_device"` // shares a disk with the store or a mirror: not a third place
	Slow       int    `json:"slow"`        // times since the start that it did not answer within Config.MirrorTimeout
}

func (l *Ledger) noteWitness(path string, w *witness.Witness, err error) {
	s := &WitnessStatus{Path: path, State: isComplete, SameDevice: l.sharesDisk(path)}
	if err == nil {
		s.ID = w.ID()
		if derr := w.Damage(); derr != nil {
			s.State = "damaged: " + derr.Error()
		}
	} else {
		s.State = err.Error()
	}
	l.mu.Lock()
	l.third = s
	l.mu.Unlock()
}
