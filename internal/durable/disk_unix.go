//go:build unix && !linux

package durable

import "golang.org/x/sys/unix"

// datasync: where fsync alone leaves data in the drive's cache (Darwin), os.File.Sync asks for more,
// but takes no bare descriptor; F_FULLFSYNC is number 51 there.
func datasync(fd int) error {
	if fullSync != 0 {
		_, err := unix.FcntlInt(uintptr(fd), fullSync, 0)
		return err
	}
	return unix.Fsync(fd)
}

func allocate(int, int64, int64) error { return nil }

func dropCache(int) error { return nil }

func renameExclusive(from, to string) error { return linkExclusive(from, to) }
