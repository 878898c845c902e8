package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"holdfast"
)

// Error wraps what the operating system said while op was done to name, and adds the sentinel that
// callers compare with: no room is ErrFull, a missing name ErrNotFound, a taken one ErrExists. Other
// errors keep their own identity alone. A nil err stays nil.
func Error(op, name string, err error) error {
	if err == nil {
		return nil
	}
	var pe *fs.PathError
	var le *os.LinkError
	switch { // the path is said once
	case errors.As(err, &pe):
		err = pe.Err
	case errors.As(err, &le):
		err = le.Err
	}
	if s := sentinel(err); s != nil {
		return fmt.Errorf("%s %s: %w: %w", op, name, err, s)
	}
	return fmt.Errorf("%s %s: %w", op, name, err)
}

// Fatal wraps a failed sync: after it nobody knows what the medium holds. It is never ErrFull, even
// when the sync met a full disk, because ErrFull promises that nothing was written.
func Fatal(op, name string, err error) error {
	if err == nil {
		return nil
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("%s %s: %w: %w", op, name, err, holdfast.ErrFatal)
}

func sentinel(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return holdfast.ErrFull
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return holdfast.ErrNotFound
	case errors.Is(err, fs.ErrExist): // EEXIST, ENOTEMPTY
		return holdfast.ErrExists
	}
	return nil
}
