package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"holdfast"
)

// TestReadersBesideTheWriter reads while changes are committed and the log is moved: each reader sees
// one state, in which everything fits.
func TestReadersBesideTheWriter(t *testing.T) {
	s, _ := newStore(t)
	s.check.most = 200
	write(t, s, 1, root(), mkcol(2, 1, "a"))
	stop := make(chan struct{})
	errs := make(chan error, 6)
	var wg sync.WaitGroup
	for range 6 { // more than there are connections
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := readWhole(s); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	for i := range 300 {
		write(t, s, 1, put(2, fmt.Sprint("r", i%50), fmt.Sprint("body ", i)))
		if i%7 == 0 {
			write(t, s, 1, remove(2, fmt.Sprint("r", i%50)))
		}
	}
	close(stop)
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	if err := s.Check(context.Background(), nil); err != nil {
		t.Error(err)
	}
}

func readWhole(s *Store) (err error) {
	r, err := s.Read(context.Background())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	head, err := r.Head(1)
	if err != nil {
		return err
	}
	n, _, err := r.Usage(1)
	if err != nil {
		return err
	}
	list, err := r.Resources(1, 2, "", 0, head.Head.Seq)
	if err != nil || int64(len(list)) != n {
		return fmt.Errorf("%d members at %d, the account has %d: %w", len(list), head.Head.Seq, n, errors.Join(err, holdfast.ErrCorrupt))
	}
	for i := range list {
		if _, err := r.Body(&list[i]); err != nil {
			return err
		}
	}
	return nil
}
