package durable

import (
	"errors"

	"golang.org/x/sys/unix"
)

// datasync does not journal the times of the file, which nobody reads for the promise.
func datasync(fd int) error { return unix.Fdatasync(fd) }

// allocate reserves room, so that a full disk is met here and not in a commit. A file system that cannot
// reserve gets its room from the zeros written next.
func allocate(fd int, off, size int64) error {
	err := unix.Fallocate(fd, 0, off, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

func dropCache(fd int) error { return unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED) }

// renameExclusive uses RENAME_NOREPLACE; NFS and old file systems do not know it.
func renameExclusive(from, to string) error {
	for {
		err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
		switch err {
		case unix.EINTR:
			continue
		case unix.EINVAL, unix.ENOSYS:
			return linkExclusive(from, to)
		}
		return err
	}
}
