//go:build unix

package durable

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked says that another process holds the lock.
var ErrLocked = errors.New("in use by another process")

// FileLock is held until Unlock or the end of the process, however it ends.
type FileLock struct{ f *os.File }

// Lock takes the one exclusive lock on an existing file or directory, without waiting: ErrLocked when
// another process (or another Lock in this one) has it, ErrNotFound when there is nothing to lock. It
// creates nothing. The lock is of use on one machine only; between machines the claim in the mirrors decides.
func Lock(name string) (*FileLock, error) {
	f, err := os.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, Error("lock", name, err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EINTR {
			break
		}
	}
	if err == nil {
		return &FileLock{f}, nil
	}
	_ = f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("lock %s: %w", name, ErrLocked)
	}
	return nil, Error("lock", name, err)
}

// Unlock gives the lock back.
func (l *FileLock) Unlock() error { return Error("unlock", l.f.Name(), l.f.Close()) }

// FreeBytes returns the bytes that this user may still write to the file system of the real path name.
func FreeBytes(name string) (int64, error) { return disk{}.FreeBytes(name) }
