package ledger

import (
	"errors"
	"io/fs"
	"iter"
	"os"
	"strings"
	"syscall"

	"holdfast/internal/durable"
	"holdfast/internal/durable/simdisk"
)

var errKilled = errors.New("the process was killed")

// simFS is the file system as one simulated process sees it: /data is its box's disk, /m0 to /m2 are the
// mirrors', or the empty directory beneath while one is not mounted. A process that was killed does nothing any
// more. Before each call that changes names, syncs, or looks at what another process may change, it waits for its turn.
type simFS struct{ p *proc }

var _ durable.FS = (*simFS)(nil)

// disk returns what a name lies on at this moment, and which mirror's disk that is, or -1.
func (f *simFS) disk(name string) (*simdisk.Disk, int) {
	if !strings.HasPrefix(name, "/m") {
		return f.p.box.data, -1
	}
	i := int(name[2] - '0')
	if f.p.sim.bug.hideClaims && strings.HasPrefix(name[3:], "/term") {
		return f.p.box.claims[i], i
	}
	if f.p.box.unmounted[i] {
		return f.p.box.under, -1
	}
	return f.p.sim.mirrors[i], i
}

// enter waits for the process's turn.
func (f *simFS) enter(what, name string) error {
	f.p.gate(what + " " + name)
	return f.alive()
}

func (f *simFS) alive() error {
	if f.p.dead.Load() {
		return errKilled
	}
	return nil
}

// remote turns the death of a mirror's own box into what the server sees of it: an I/O error.
func remote(mirror int, op, name string, err error) error {
	if mirror < 0 || !errors.Is(err, simdisk.ErrCrashed) {
		return err
	}
	if op == "sync" {
		return durable.Fatal(op, name, syscall.EIO)
	}
	return durable.Error(op, name, syscall.EIO)
}

func (f *simFS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	what := "open"
	if flag&os.O_CREATE != 0 {
		what = "create"
	}
	if err := f.enter(what, name); err != nil {
		return nil, err
	}
	d, m := f.disk(name)
	file, err := d.OpenFile(name, flag, perm)
	if err != nil {
		return nil, remote(m, "open", name, err)
	}
	return &simFile{File: file, fs: f, mirror: m, name: name}, nil
}

func (f *simFS) Rename(from, to string, replace bool) error {
	if err := f.enter("rename", to); err != nil {
		return err
	}
	d, m := f.disk(from)
	return remote(m, "rename", to, d.Rename(from, to, replace))
}

func (f *simFS) Remove(name string) error {
	if err := f.enter("remove", name); err != nil {
		return err
	}
	d, m := f.disk(name)
	return remote(m, "remove", name, d.Remove(name))
}

func (f *simFS) Mkdir(name string, perm fs.FileMode) error {
	if err := f.enter("mkdir", name); err != nil {
		return err
	}
	d, m := f.disk(name)
	return remote(m, "mkdir", name, d.Mkdir(name, perm))
}

func (f *simFS) ReadDir(name string) iter.Seq2[durable.Entry, error] {
	return func(yield func(durable.Entry, error) bool) {
		if err := f.enter("list", name); err != nil {
			yield(durable.Entry{}, err)
			return
		}
		d, m := f.disk(name)
		for e, err := range d.ReadDir(name) {
			if !yield(e, remote(m, "list", name, err)) {
				return
			}
		}
	}
}

// Stat waits for a turn only where another process or a person may change what it says: claims and the store.
func (f *simFS) Stat(name string) (durable.Info, error) {
	if strings.Contains(name, "/term/") || strings.HasSuffix(name, ".db") {
		f.p.gate("stat " + name)
	}
	if err := f.alive(); err != nil {
		return durable.Info{}, err
	}
	d, m := f.disk(name)
	i, err := d.Stat(name)
	return i, remote(m, "stat", name, err)
}

func (f *simFS) SyncDir(name string) error {
	if err := f.enter("syncdir", name); err != nil {
		return err
	}
	d, m := f.disk(name)
	return remote(m, "sync", name, d.SyncDir(name))
}

// FreeBytes is what durable.FreeOf asks for.
func (f *simFS) FreeBytes(name string) (int64, error) {
	if err := f.alive(); err != nil {
		return 0, err
	}
	d, m := f.disk(name)
	n, err := d.FreeBytes(name)
	return n, remote(m, "statfs", name, err)
}

// simFile is an open file; it stays on the disk that it was opened on.
type simFile struct {
	durable.File
	fs     *simFS
	mirror int
	name   string
}

func (f *simFile) ReadAt(b []byte, off int64) (int, error) {
	if err := f.fs.alive(); err != nil {
		return 0, err
	}
	if p := f.fs.p; p.failRead > 0 {
		if p.failRead--; p.failRead == 0 {
			return 0, durable.Error("read", f.name, syscall.EIO)
		}
	}
	n, err := f.File.ReadAt(b, off)
	return n, remote(f.mirror, "read", f.name, err)
}

func (f *simFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.fs.alive(); err != nil {
		return 0, err
	}
	n, err := f.File.WriteAt(b, off)
	return n, remote(f.mirror, "write", f.name, err)
}

func (f *simFile) Sync() error {
	if err := f.fs.enter("sync", f.name); err != nil {
		return err
	}
	return remote(f.mirror, "sync", f.name, f.File.Sync())
}

func (f *simFile) Truncate(size int64) error {
	if err := f.fs.enter("truncate", f.name); err != nil {
		return err
	}
	return remote(f.mirror, "truncate", f.name, f.File.Truncate(size))
}

func (f *simFile) Allocate(size int64) error {
	if err := f.fs.alive(); err != nil {
		return err
	}
	return remote(f.mirror, "allocate", f.name, f.File.Allocate(size))
}

func (f *simFile) Chmod(perm fs.FileMode) error {
	if err := f.fs.alive(); err != nil {
		return err
	}
	return remote(f.mirror, "chmod", f.name, f.File.Chmod(perm))
}

func (f *simFile) Stat() (durable.Info, error) {
	if err := f.fs.alive(); err != nil {
		return durable.Info{}, err
	}
	i, err := f.File.Stat()
	return i, remote(f.mirror, "stat", f.name, err)
}

func (f *simFile) DropCache() {
	if f.fs.alive() == nil {
		durable.DropCache(f.File)
	}
}
