package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	driver "modernc.org/sqlite"

	"holdfast"
)

// Pages (4 KiB) of the write-ahead log.
const (
	checkpointPages = 4_000  // a checkpoint begins in the background
	hardCapPages    = 32_000 // the writer waits until the log begins anew
)

// At the hard cap new readers wait, too, for at most drainTime, so that those under way come to their
// end: readers that overlap without a gap would keep the log from beginning anew for ever. If one stays
// longer, the others go on for restTime before the next attempt.
const (
	drainTime           = 250 * time.Millisecond
	restTime            = 250 * time.Millisecond
	checkpointTimeoutMs = 100
)

// checkpointer brings the write-ahead log into the database in the background, on its own connection.
type checkpointer struct {
	s    *Store
	c    *conn
	wake chan struct{} // has one item when there is something to do
	full chan struct{} // has one item when the writer waits
	quit chan struct{}
	most int // hardCapPages; tests lower it
	done sync.WaitGroup

	mu      sync.Mutex
	pending int        // pages written since the last checkpoint; guarded by mu
	length  int        // pages in the log, at most; guarded by mu
	total   int        // pages written since Open; guarded by mu
	rounds  int        // checkpoints tried; guarded by mu
	err     error      // of the last one; guarded by mu
	waiters *sync.Cond // on mu: rounds has changed, or the checkpointer has ended
	ended   bool       // guarded by mu
}

func newCheckpointer(s *Store, c *conn) *checkpointer {
	k := &checkpointer{s: s, c: c, wake: make(chan struct{}, 1), full: make(chan struct{}, 1), quit: make(chan struct{}), most: hardCapPages}
	k.waiters = sync.NewCond(&k.mu)
	k.done.Go(k.loop)
	return k
}

func (k *checkpointer) stop() error {
	close(k.quit)
	k.done.Wait()
	return k.c.close()
}

func (k *checkpointer) loop() {
	defer func() {
		k.mu.Lock()
		k.ended = true
		k.waiters.Broadcast()
		k.mu.Unlock()
	}()
	for {
		var err error
		select {
		case <-k.quit:
			return
		case <-k.full:
			err = k.restart()
		case <-k.wake:
			err = k.checkpoint("PASSIVE")
		}
		if err != nil {
			k.s.log.Error("checkpoint", "err", err)
		}
		k.mu.Lock()
		k.rounds++
		k.err = err
		k.waiters.Broadcast()
		k.mu.Unlock()
		if errors.Is(k.s.note(err), holdfast.ErrFatal) {
			return
		}
	}
}

// restart lets the log begin anew while nobody reads.
func (k *checkpointer) restart() error {
	patience := time.NewTimer(drainTime)
	defer patience.Stop()
	var held []*conn
	for waiting := true; waiting && len(held) < cap(k.s.read); {
		select {
		case c := <-k.s.read:
			held = append(held, c)
		case <-patience.C:
			waiting = false
		}
	}
	err := k.checkpoint("RESTART")
	missing := cap(k.s.read) - len(held)
	for _, c := range held {
		k.s.read <- c
	}
	if err == nil && missing > 0 {
		k.s.log.Warn("long reads keep the write-ahead log from shrinking", "readers", missing)
		rest := time.NewTimer(restTime)
		defer rest.Stop()
		select {
		case <-k.quit:
		case <-rest.C:
		}
	}
	return err
}

// checkpoint runs one checkpoint and reads from its answer how long the log is.
func (k *checkpointer) checkpoint(mode string) error {
	k.mu.Lock()
	k.pending = 0
	k.mu.Unlock()
	var busy, length, moved int
	if _, err := k.c.row("PRAGMA wal_checkpoint("+mode+")", nil, &busy, &length, &moved); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if mode == "RESTART" && busy == 0 {
		length = 0
	}
	k.length = length
	return nil
}

// wrote counts the pages of one commit.
func (k *checkpointer) wrote(pages int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pending += pages
	k.total += pages
	k.length += pages
	if k.pending >= checkpointPages {
		offer(k.wake)
	}
}

// room waits until the log is below its hard cap. A reader that never ends makes it wait until ctx is
// done: readers are short by contract. If the log cannot be moved, it returns why, for instance ErrFull.
func (k *checkpointer) room(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.length < k.most {
		return nil
	}
	stop := context.AfterFunc(ctx, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.waiters.Broadcast()
	})
	defer stop()
	for k.length >= k.most {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wait for checkpoint: %w", err)
		}
		if k.ended {
			return errors.Join(errors.New("wait for checkpoint: there are none any more"), k.s.failed())
		}
		round := k.rounds
		offer(k.full)
		for k.rounds == round && !k.ended && ctx.Err() == nil {
			k.waiters.Wait()
		}
		if k.rounds != round && k.err != nil {
			return fmt.Errorf("wait for checkpoint: %w", k.err)
		}
	}
	return nil
}

func offer(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pagesWritten returns how many pages a connection has written since it was last asked.
func pagesWritten(c *conn) (n int, err error) {
	err = c.c.Raw(func(dc any) error {
		var err error
		n, _, err = dc.(driver.DBStatus).Status(driver.DBStatusCacheWrite, true)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("count written pages: %w: %w", holdfast.ErrFatal, err)
	}
	return n, nil
}
