package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"holdfast"
	"holdfast/internal/fence"
	"holdfast/internal/mirror"
)

// Claimant is the last claim of one mirror, as an operator is shown it before giving the word that this data
// directory takes the mirrors over.
type Claimant struct {
	Mirror string `json:"mirror"`
	Term   string `json:"term"` // number and random bits: the very claim; 0 bits if it cannot be read
	Words  string `json:"words"`

	term holdfast.Term
}

func claimantOf(mirror string, last *mirror.Claim) Claimant {
	c := Claimant{Mirror: mirror, Term: last.Term.String(), Words: last.Words(), term: last.Term}
	if last.Damaged {
		c.Words = fmt.Sprintf("nobody can read who claimed term %d: %s", last.Term.Number, last.Note)
	}
	return c
}

// readClaimants reads who claimed each mirror last, of those that are there.
func (l *Ledger) readClaimants(ctx context.Context) []Claimant {
	places, _, _ := l.places()
	var all []Claimant
	for _, at := range places {
		m, b, err := openMirror(ctx, l.cfg, at.MirrorConfig) // makes no file
		if err != nil {
			continue // when it comes back its claim was not shown, and is refused
		}
		claims, err := m.Terms(ctx)
		if err = errors.Join(err, b.Close()); err == nil && len(claims) > 0 {
			all = append(all, claimantOf(at.Name, &claims[len(claims)-1]))
		}
	}
	return all
}

// refused keeps who owns the mirrors when this process was refused them, and wakes who waits for that.
func (l *Ledger) refused(ctx context.Context) {
	now := l.readClaimants(ctx) // without the lock
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conflicts++
	l.refusals++
	l.claimants, l.awaiting = now, true
	clear(l.granted) // it did not do; the next word is about what is shown now
	close(l.changed)
	l.changed = make(chan struct{})
}

// awaitTakeOver waits until the ledger ends (false), or an operator says that the other server is dead.
func (l *Ledger) awaitTakeOver(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-l.overtake:
		return true
	}
}

// forgetTakeOver is called when the fence has opened: no word answers for the next server that takes over.
func (l *Ledger) forgetTakeOver() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.claimants, l.awaiting = nil, false
	clear(l.granted)
}

// forced reports whether an operator's word is being carried out.
func (l *Ledger) forced() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.granted) > 0
}

// mayTake reports whether this process may take a mirror whose last claim this is: its own, an earlier one of this
// data directory, or one that an operator was shown and told it to take. While such a word is being carried out it
// holds for the claims that were shown and for nothing that came after them, not even another process of this
// data directory's twin.
func (p *proof) mayTake(last *mirror.Claim) bool {
	l := p.ledger
	if l.takeOver.allowed() || l.planted(noClaim) {
		return true
	}
	own := strings.Contains(last.Note, l.instance) && !p.stranger(last)
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.granted) == 0 {
		return own
	}
	if l.granted[last.Term] || last.Term.Random == l.term.Random && last.Term.Random != 0 {
		return true
	}
	for t := range l.granted {
		if own && last.Term.Number < t.Number {
			return true // of a mirror that was away when the other server claimed
		}
	}
	return false
}

// TakeOver claims the mirrors although another data directory claimed them last, or nobody can read who
// did. shown are the claims that the operator saw (Status.Claimants): another one that was made since is not
// overruled. What the other server wrote is healed into this store first, so nothing of it is lost; but the
// other one must be dead, or each stops the other. It returns when the fence is open. ErrInvalid: nobody
// has taken over. ErrDenied: the mirrors have other claims than those that were shown; look again.
func (l *Ledger) TakeOver(ctx context.Context, shown []holdfast.Term) error {
	if err := l.awaitRefused(ctx); err != nil {
		return err
	}
	refusals, err := l.grant(l.readClaimants(ctx), shown)
	if err != nil {
		return err
	}
	return l.awaitTaken(ctx, refusals)
}

// errNothingTaken answers a word that nobody waits for.
var errNothingTaken = fmt.Errorf("nobody else has claimed the mirrors, there is nothing to take over: %w", holdfast.ErrInvalid)

// awaitRefused waits until the keeper has stopped because another server owns the mirrors.
func (l *Ledger) awaitRefused(ctx context.Context) error {
	for {
		l.mu.RLock()
		code, waits, changed := l.reason.Code, l.awaiting, l.changed
		l.mu.RUnlock()
		switch {
		case code != fence.TakenOver && code != fence.ClaimDamaged:
			return errNothingTaken
		case waits:
			return nil
		}
		select {
		case <-changed:
		case <-l.ended:
			return fmt.Errorf("the ledger was closed meanwhile: %w", holdfast.ErrFenced)
		case <-ctx.Done():
			return fmt.Errorf("wait for the fence: %w", ctx.Err())
		}
	}
}

// grant lets the keeper take the claims that were shown, if the mirrors have no other ones now.
func (l *Ledger) grant(now []Claimant, shown []holdfast.Term) (refusals int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.awaiting:
		return 0, errNothingTaken
	case len(now) == 0:
		return 0, fmt.Errorf("nothing was done: no mirror can be read, so nobody knows who claimed them last: %w", holdfast.ErrAbsent)
	}
	l.claimants = now
	granted := map[holdfast.Term]bool{}
	for _, t := range shown {
		granted[t] = true
	}
	for _, c := range now {
		if !granted[c.term] {
			return 0, fmt.Errorf("nothing was done: mirror %s has another claim than the one that was shown: %s. Look again with holdfast fence status, and decide about that one: %w", c.Mirror, c.Words, holdfast.ErrDenied)
		}
	}
	l.granted, l.awaiting = granted, false
	l.overtake <- struct{}{} // has room: the keeper has taken the one before, and waits
	return l.refusals, nil
}

// awaitTaken waits until the fence is open, or another claim was met.
func (l *Ledger) awaitTaken(ctx context.Context, refusals int) error {
	for {
		l.mu.RLock()
		state, reason, changed, again := l.state, l.reason, l.changed, l.refusals > refusals
		l.mu.RUnlock()
		switch {
		case state == fence.Open:
			return nil
		case again:
			return fmt.Errorf("another server claimed the mirrors meanwhile, and was not overruled: %s. Look again with holdfast fence status: %w", reason.Full(), holdfast.ErrDenied)
		}
		select {
		case <-changed:
		case <-l.ended:
			return fmt.Errorf("fence closed: %s: %w", reason.Full(), holdfast.ErrFenced)
		case <-ctx.Done():
			return fmt.Errorf("fence %s: %s: %w", state, reason.Full(), ctx.Err())
		}
	}
}
