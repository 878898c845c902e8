package ledger

import (
	"errors"
	"fmt"
	"path/filepath"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/fence"
	"holdfast/internal/mirror"
)

// checkSpace refuses writes while the store's disk or a mirror's has less than the configured room
// left, so that a commit under way never meets a full disk.
func (l *Ledger) checkSpace(mirrors []*mirror.Mirror) error {
	var err error
	if n, ferr := durable.FreeOf(l.cfg.FS, l.cfg.Dir); ferr == nil && n < l.cfg.MinFree {
		err = fmt.Errorf("store's disk has %d MiB left, %d are kept free: %w", n>>20, l.cfg.MinFree>>20, holdfast.ErrFull)
	}
	for _, m := range mirrors {
		if n, ok, ferr := m.Free(); ok && ferr == nil && n < l.cfg.MinFree {
			err = errors.Join(err, &mirrorError{m.Name(), fmt.Errorf("its disk has %d MiB left, %d are kept free: %w", n>>20, l.cfg.MinFree>>20, holdfast.ErrFull)})
		}
	}
	return err
}

// noteSpace shows a full disk as held, and its end as open.
func (l *Ledger) noteSpace(err error) {
	l.mu.RLock()
	state := l.state
	l.mu.RUnlock()
	switch {
	case err != nil && state == fence.Open:
		l.setState(fence.Held, whyOf(err))
	case err == nil && state == fence.Held:
		l.setState(fence.Open, fence.Reason{})
	}
}

// reservePath is a file that only takes room on the store's disk. When something else has filled that
// disk to the last byte, removing it gives a start what it needs to prove, heal and serve reads.
func (l *Ledger) reservePath() string { return filepath.Join(l.cfg.Dir, "run", "reserve") }

// keepReserve makes the reserve again once there is ample room.
func (l *Ledger) keepReserve() {
	if _, err := l.cfg.FS.Stat(l.reservePath()); err == nil {
		return
	}
	if n, err := durable.FreeOf(l.cfg.FS, l.cfg.Dir); err != nil || n < 4*l.cfg.MinFree {
		return
	}
	if err := durable.MkdirAll(l.cfg.FS, filepath.Dir(l.reservePath())); err != nil {
		l.log.Warn("make reserve", "err", err)
		return
	}
	if err := durable.Reserve(l.cfg.FS, l.reservePath(), l.cfg.MinFree); err != nil {
		l.log.Warn("make reserve", "err", err)
	}
}

// useReserve gives the reserve away if an error says that the store's disk is full, and reports whether
// it did. Room on that disk is of no help to a mirror's.
func (l *Ledger) useReserve(err error) bool {
	var inMirror *mirrorError
	if !errors.Is(err, holdfast.ErrFull) || errors.As(err, &inMirror) {
		return false
	}
	if _, err := l.cfg.FS.Stat(l.reservePath()); err != nil {
		return false
	}
	if err := durable.Release(l.cfg.FS, l.reservePath()); err != nil {
		l.log.Warn("give the reserve away", "err", err)
		return false
	}
	l.log.Warn("disk full: the reserve was given away", "bytes", l.cfg.MinFree)
	return true
}
