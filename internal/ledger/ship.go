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
	mu        sync.RWMutex // guards the three that follow once it serves: a mirror joins or leaves between two batches
	mirrors   []*mirror.Mirror
	buckets   []*dir.Dir // where the mirrors lie
	logs      []*mirror.Log
	third     *thirdPlace                                 // nil: none is configured
	between   chan func() error                           // run by the shipper between two batches; an error ends the session
	ended     chan struct{}                               // closed when the shipper has ended
	committed map[holdfast.AccountID]holdfast.AccountHead // owned by the committer
	spaceAt   time.Time                                   // owned by the committer
	spaceErr  error
	decided   func() // answers operators when the fence is open
	guard     *guard // owned by the committer; nil until something is lost
}

// watchEvery is how often an idle server looks whether store, mirrors and claims are still its own.
const watchEvery = time.Second

// serve takes requests until the context ends or something is wrong, and returns what. When it
// returns nothing is under way any more (R9: a closing fence first ends every shipper).
func (s *session) serve(ctx context.Context) error {
	batches := make(chan *batch)
	shipped := make(chan error, 1)
	go func() {
		defer close(s.ended)
		shipped <- s.shipAll(batches)
	}()
	jctx, stopJoining := context.WithCancel(ctx)
	joined := make(chan struct{})
	go func() {
		defer close(joined)
		s.joinAll(jctx)
	}()
	cause := s.commitAll(ctx, batches, shipped)
	s.ledger.queue.stop(refusal(cause))
	stopJoining()
	close(batches)
	<-joined
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
			if err := errors.Join(s.look(ctx), s.third.linked()); err != nil {
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

// next waits for requests (idle is false), for a tick or a job (true), or for what ends the session: an error, or ctx. What
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
	case j := <-s.ledger.jobs:
		j.done <- j.do(s)
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
	for {
		select {
		case b, ok := <-batches:
			if !ok {
				return nil
			}
			s.ledger.gate("ship")
			if err := s.ship(b); err != nil {
				s.ledger.demote(err)
				b.answer(notDurable(err))
				return err
			}
			s.ledger.gate("publish")
			s.ledger.publish(b, s.positions())
			b.answer(nil)
			s.ledger.tellIncidents(b)
		case do := <-s.between:
			if err := do(); err != nil {
				s.ledger.demote(err)
				return err
			}
		}
	}
}

// live returns the mirrors that every batch goes to, and their logs.
func (s *session) live() ([]*mirror.Mirror, []*mirror.Log) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mirrors, s.logs
}

// ship is W2 and W3: append to every mirror and fsync, then look at the claims, then at the store. A head
// witness moves last: what it knows is in mirrors that nobody else had claimed yet.
// Only when all is well may the batch be acknowledged. Refusals are reads, so they need the look too (R5, R11).
func (s *session) ship(b *batch) error {
	if s.ledger.planted(checkEarly) || s.ledger.planted(noCheck) || s.ledger.planted(ackEarly) {
		return s.plantShip(b)
	}
	if len(b.frames) > 0 {
		if err := s.blobsThere(b.blobs); err != nil {
			return err
		}
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

// blobsThere proves that every live mirror has the bodies that a batch names (L7): one that joined after a
// body was stored gets it here.
func (s *session) blobsThere(blobs []ownBlob) error {
	mirrors, _ := s.live()
	if s.ledger.planted(blobLate) {
		return nil
	}
	for _, b := range blobs {
		for _, m := range mirrors {
			has, err := m.HasBlob(context.Background(), b.account, b.Blob)
			if err == nil && !has {
				err = s.ledger.mirrorBlob(context.Background(), m, b.account, b.Blob)
			}
			if err != nil {
				return &mirrorError{m.Name(), err}
			}
		}
	}
	return nil
}

// append puts frames into every mirror's log; it returns when all of them have fsynced.
func (s *session) append(frames []mirror.Frame) error {
	mirrors, logs := s.live()
	if len(logs) == 0 {
		return fmt.Errorf("no mirror is live: %w", holdfast.ErrNotDurable)
	}
	errs := make([]error, len(logs))
	one := func(i int) { // in bounded time, whatever its disk does (slow.go)
		defer s.within("append", mirrors[i])()
		errs[i] = logs[i].Append(context.Background(), frames)
	}
	var wg sync.WaitGroup
	for i := range logs[1:] {
		wg.Go(func() { one(i + 1) })
	}
	one(0)
	wg.Wait()
	for i, err := range errs {
		if s.ledger.planted(oneMirrored) && errors.Is(err, holdfast.ErrInvalid) {
			continue
		}
		if err != nil {
			return &mirrorError{mirrors[i].Name(), err}
		}
	}
	return nil
}

// look proves that the term is still ours in every mirror (R3) and that the store's path still leads
// to the file we write (F2).
func (s *session) look(ctx context.Context) error {
	mirrors, _ := s.live()
	for _, m := range mirrors {
		stop := s.within("look at the claims", m)
		err := m.CheckTerm(ctx, s.term)
		stop()
		if err != nil {
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
	_, logs := s.live()
	pos := make([]uint64, len(logs))
	for i, lg := range logs {
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
		mirrors, _ := s.live()
		s.spaceErr = s.ledger.checkSpace(mirrors)
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
		if w := l.audiences[a]; w != nil {
			w.publish(h.Head.Seq, b.touched[a])
		}
	}
}
