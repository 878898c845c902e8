package ledger

import (
	"context"
	"sync"

	"holdfast/internal/store"
)

// sharedStore counts the views of one open store, so that it is closed only when nobody reads it.
type sharedStore struct {
	*store.Store
	mu     sync.Mutex
	users  int
	ending bool
	idle   chan struct{} // closed when ending and users is 0
	ends   chan struct{} // closed when ending
}

func share(s *store.Store) *sharedStore {
	return &sharedStore{Store: s, idle: make(chan struct{}), ends: make(chan struct{})}
}

// acquire returns false once the store is being closed.
func (s *sharedStore) acquire() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return false
	}
	s.users++
	return true
}

func (s *sharedStore) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users--
	if s.ending && s.users == 0 {
		close(s.idle)
	}
}

// untilEnd returns a context that ends when the store is being closed, too.
func (s *sharedStore) untilEnd(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		select {
		case <-ctx.Done():
		case <-s.ends:
		}
	}()
	return ctx, cancel
}

func (s *sharedStore) isEnding() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending
}

// end waits for the last view and closes the store. It is called once.
func (s *sharedStore) end() error {
	s.mu.Lock()
	s.ending = true
	close(s.ends)
	if s.users == 0 {
		close(s.idle)
	}
	s.mu.Unlock()
	<-s.idle
	return s.Close()
}
