// Package durable is the one pair of hands: only it creates, renames and removes Holdfast's data files
// (SQLite's own apart). It says what is on the medium when a call returns.
//
// Invariants: a name appears only with its whole content behind it, file and directory synced; a failed
// sync is final (holdfast.ErrFatal), because Linux marks the pages clean and a second fsync then lies;
// nothing that is missing is created by opening it.
//
// Files on disk: what the caller names, and beside it ".tmp-<name>.<n>" while it is being written. A
// process that dies leaves such a file behind; Sweep removes old ones.
//
// Disk is the operating system's file system; package simdisk is one in memory that loses what was not synced.
package durable

import (
	"io"
	"io/fs"
	"iter"
	"time"
)

// The modes of what Holdfast keeps: for its own user only, and read-only once sealed.
const (
	DirPerm    fs.FileMode = 0o700
	FilePerm   fs.FileMode = 0o600
	SealedPerm fs.FileMode = 0o444
)

// FS is what an operating system gives. Nothing is durable until the file's Sync and the directory's
// SyncDir returned nil. All methods are safe concurrently. Errors wrap a sentinel of package holdfast
// where one fits (see Error); a failed SyncDir wraps holdfast.ErrFatal. No method retries.
type FS interface {
	// OpenFile takes os.O_RDONLY or os.O_RDWR, with os.O_CREATE|os.O_EXCL for a new file. A directory can
	// be opened read-only, to hold its identity; only Stat and Close work on it.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Rename moves a file, atomically. Without replace an existing target is ErrExists, decided atomically too.
	Rename(from, to string, replace bool) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// Mkdir makes one directory.
	Mkdir(name string, perm fs.FileMode) error
	// ReadDir streams the entries of a directory in no order, in bounded memory; an error ends it.
	ReadDir(name string) iter.Seq2[Entry, error]
	// Stat follows symbolic links.
	Stat(name string) (Info, error)
	// SyncDir makes the entries of a directory durable: what was created, renamed and removed in it.
	SyncDir(name string) error
}

// File is an open file. One goroutine writes; ReadAt is safe beside it.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes data and size durable (fdatasync). The first error wraps holdfast.ErrFatal and is final:
	// what was written since the last Sync may be lost, whatever a later Sync says.
	Sync() error
	// Truncate sets the size; a longer file reads as zeros. Durable after Sync.
	Truncate(size int64) error
	// Allocate gives a file that is shorter than size that size, of zeros that already have their place
	// on the medium, so that writing into them needs no room and their Sync no change of the file's
	// metadata. It never shortens. Durable after Sync. No room is ErrFull.
	Allocate(size int64) error
	// Chmod sets the permission bits. Durable after a Sync that also changes the size.
	Chmod(perm fs.FileMode) error
	Stat() (Info, error)
	Close() error
}

// Info says what a file is.
type Info struct {
	Size     int64 // bytes
	Mode     fs.FileMode
	Dev, Ino uint64 // what tells files apart, whatever their names
	Modified time.Time
}

// Same says whether both are the same file. An inode number is used again after its file is gone, so
// it proves something only while one of the two is held open.
func (i Info) Same(j Info) bool { return i.Dev == j.Dev && i.Ino == j.Ino }

// Entry is one name in a directory.
type Entry struct {
	Name string
	Type fs.FileMode // type bits only: 0 for a regular file, fs.ModeDir, fs.ModeSymlink, ...
}

// DropCache asks the system to forget the clean cached pages of f, so that what is read next comes
// from the medium. It is advice: without support it does nothing.
func DropCache(f File) {
	if d, ok := f.(interface{ DropCache() }); ok {
		d.DropCache()
	}
}
