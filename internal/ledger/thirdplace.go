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
	if l.cfg.Witness == "" {
		return nil
	}
	var w *witness.Witness
	var b *dir.Dir
	fsys, err := l.cfg.place("", l.cfg.Witness)
	if err == nil {
		b, err = dir.Open(fsys, l.cfg.Witness)
	}
	if err == nil {
		if w, err = witness.Open(ctx, witness.Config{Server: l.cfg.Server, Bucket: b}); err != nil {
			err = errors.Join(err, b.Close())
		}
	}
	l.noteWitness(w, err)
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
	defer s.ledger.within("move the head witness", s.ledger.cfg.Witness)()
	if err := s.third.Move(context.Background(), heads); err != nil {
		return &mirrorError{"", err}
	}
	return nil
}

// CreateWitness makes an empty, new place a head witness of this server. ErrExists: something is there.
func CreateWitness(ctx context.Context, cfg Config, path string) error {
	cfg = cfg.withDefaults()
	b, err := dir.Create(cfg.FS, path)
	if err != nil {
		return fmt.Errorf("create witness in %s: %w", path, err)
	}
	w, err := witness.Create(ctx, witness.Config{Server: cfg.Server, Bucket: b})
	if err == nil {
		err = w.Close()
	}
	return errors.Join(err, b.Close())
}

// WitnessStatus is the head witness as last seen.
type WitnessStatus struct {
	Path       string `json:"path"`
	ID         string `json:"id,omitempty"`
	State      string `json:"state"`       // "complete", or what is wrong
	SameDevice bool   `json:"same_device"` // shares a disk with the store or a mirror: not a third place
	Slow       int    `json:"slow"`        // times since the start that it did not answer within Config.MirrorTimeout
}

func (l *Ledger) noteWitness(w *witness.Witness, err error) {
	s := &WitnessStatus{Path: l.cfg.Witness, State: "complete", SameDevice: l.sharesDisk(l.cfg.Witness)}
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
