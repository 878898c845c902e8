package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/mirror"
)

// session is one term of this process: a proven store, and a log in every mirror.
type session struct {
	ledger    *Ledger
	term      holdfast.Term
	db        *sharedStore
	paths     *paths
	mirrors   []*mirror.Mirror
	buckets   []*dir.Dir // where the mirrors lie
	logs      []*mirror.Log
	third     *thirdPlace                                 // nil: none is configured
	committed map[holdfast.AccountID]holdfast.AccountHead // owned by the committer
	spaceAt   time.Time                                   // owned by the committer
	spaceErr  error
}

// watchEvery is how often an idle server looks whether store, mirrors and claims are still its own.
const watchEvery = time.Second

// serve takes requests until the context ends or something is wrong, and returns what. When it
// returns nothing is under way any more (R9: a closing fence first ends every shipper).
func (s *session) serve(ctx context.Context) error {
	batches := make(chan *batch)
	shipped := make(chan error, 1)
	go func() { shipped <- s.shipAll(batches) }()
	cause := s.commitAll(ctx, batches, shipped)
	s.ledger.queue.stop(refusal(cause))
	close(batches)
	if s.ledger.planted(noDrain) && cause != nil {
		return cause
	}
	if err := <-shipped; err != nil && (cause == nil || errors.Is(err, holdfast.ErrFatal)) {
		cause = err
	}
	return cause
}

// commitAll is the committer: one batch after the other, while the one before is being shipped.
func (s *session) commitAll(ctx context.Context, batches chan<- *batch, shipped chan error) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		idle, err := s.next(ctx, tick.C, shipped)
		if err != nil || ctx.Err() != nil {
			return err
		}
		if idle {
			s.ledger.gate("tick")
			s.ledger.noteSpace(s.room())
			s.ledger.keepReserve()
			if err := s.look(ctx); err != nil {
				return err
			}
			continue
		}
		s.ledger.gate("take")
		reqs := s.ledger.queue.take(maxBatch)
		if len(reqs) == 0 {
			continue
		}
		b, err := s.commit(reqs)
		if err != nil {
			return err
		}
		s.plantCommitted(b)
		select {
		case batches <- b:
		case err := <-shipped:
			b.answer(notDurable(err))
			shipped <- err
			return err
		}
	}
}

// next waits for requests (idle is false), for a tick (true), or for what ends the session: an error, or ctx. What
// ends it comes before all else, so that nothing is committed on what is known to be false.
func (s *session) next(ctx context.Context, tick <-chan time.Time, shipped chan error) (idle bool, err error) {
	if ctx.Err() != nil {
		return false, nil
	}
	select {
	case err := <-s.ledger.alarm:
		return false, err
	default:
	}
	select {
	case err := <-shipped:
		shipped <- err // for serve, which waits for the shipper's end
		return false, err
	default:
	}
	select {
	case <-tick:
		return true, nil
	default:
	}
	select {
	case <-ctx.Done():
		return false, nil
	case err := <-s.ledger.alarm:
		return false, err
	case err := <-shipped:
		shipped <- err
		return false, err
	case <-tick:
		return true, nil
	case <-s.ledger.queue.ready:
		return false, nil
	}
}

// refusal is what a request gets that was never begun.
func refusal(cause error) error {
	switch {
	case cause == nil:
		return fmt.Errorf("shutting down: %w", holdfast.ErrFenced)
	case errors.Is(cause, holdfast.ErrFull):
		return fmt.Errorf("%w", cause)
	}
	return fmt.Errorf("%w: %w", cause, holdfast.ErrNotDurable)
}

func notDurable(err error) error {
	return fmt.Errorf("not in every mirror: %w: %w", err, holdfast.ErrNotDurable)
}

// shipAll ships batch after batch until one fails.
func (s *session) shipAll(batches <-chan *batch) error {
	for b := range batches {
		s.ledger.gate("ship")
		if err := s.ship(b); err != nil {
			s.ledger.demote(err)
			b.answer(notDurable(err))
			return err
		}
		s.ledger.gate("publish")
		s.ledger.publish(b, s.positions())
		b.answer(nil)
	}
	return nil
}

// ship is W2 and W3: append to every mirror and fsync, then look at the claims, then at the store. A head
// witness moves last: what it knows is in mirrors that nobody else had claimed yet.
// Only when all is well may the batch be acknowledged. Refusals are reads, so they need the look too (R5, R11).
func (s *session) ship(b *batch) error {
	if s.ledger.planted(checkEarly) || s.ledger.planted(noCheck) || s.ledger.planted(ackEarly) {
		return s.plantShip(b)
	}
	if len(b.frames) > 0 {
		if err := s.ledger.step("append", func() error { return s.append(b.frames) }); err != nil {
			return err
		}
		if err := s.ledger.step("look", func() error { return s.look(context.Background()) }); err != nil {
			return err
		}
		if s.third == nil {
			return nil
		}
		return s.ledger.step("witness", func() error { return s.moveWitness(b.heads) })
	}
	return s.look(context.Background())
}

// append puts frames into every mirror's log; it returns when all of them have fsynced.
func (s *session) append(frames []mirror.Frame) error {
	if len(s.logs) == 0 {
		return nil // only a server without a fence (Config.Unfenced)
	}
	errs := make([]error, len(s.logs))
	var wg sync.WaitGroup
	for i, lg := range s.logs[1:] {
		wg.Go(func() { errs[i+1] = lg.Append(context.Background(), frames) })
	}
	errs[0] = s.logs[0].Append(context.Background(), frames)
	wg.Wait()
	for i, err := range errs {
		if s.ledger.planted(oneMirrored) && errors.Is(err, holdfast.ErrInvalid) {
			continue
		}
		if err != nil {
			return &mirrorError{s.mirrors[i].Name(), err}
		}
	}
	return nil
}

// look proves that the term is still ours in every mirror (R3) and that the store's path still leads
// to the file we write (F2).
func (s *session) look(ctx context.Context) error {
	for _, m := range s.mirrors {
		if err := m.CheckTerm(ctx, s.term); err != nil {
			return &mirrorError{m.Name(), err}
		}
	}
	if err := s.db.Linked(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// positions returns how far each mirror's log reaches.
func (s *session) positions() []uint64 {
	pos := make([]uint64, len(s.logs))
	for i, lg := range s.logs {
		pos[i] = lg.Pos()
	}
	return pos
}

// mirrorError says which mirror failed; no name is the head witness. It tells a missing copy from a false store.
type mirrorError struct {
	name string
	err  error
}

func (e *mirrorError) Error() string {
	if e.name == "" {
		return "head witness: " + e.err.Error()
	}
	return "mirror " + e.name + ": " + e.err.Error()
}

func (e *mirrorError) Unwrap() error { return e.err }

// room refuses writes before the commit while a disk is nearly full; it looks again every 200 ms.
func (s *session) room() error {
	if now := time.Now(); now.Sub(s.spaceAt) > 200*time.Millisecond {
		s.spaceAt = now
		s.spaceErr = s.ledger.checkSpace(s.mirrors)
	}
	return s.spaceErr
}

// publish moves the durable heads and tells the watchers.
func (l *Ledger) publish(b *batch, positions []uint64) {
	if len(b.heads) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.headsDue, l.positions = true, positions
	for a, h := range b.heads {
		l.heads[a] = h
		for w := range l.watchers[a] {
			w.notify(h.Head)
		}
	}
}
