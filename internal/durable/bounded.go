package durable

import (
	"io/fs"
	"iter"
	"slices"
	"sync/atomic"
)

// bounded is a file system whose calls are limited by a Bound.
type bounded struct{ u *use }

var _ FS = bounded{}

func (f bounded) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	raw, err := within(f.u, "open "+name, 1, func() (File, error) { return f.u.b.fs.OpenFile(name, flag, perm) }, func(raw File) { _ = raw.Close() })
	if err != nil {
		return nil, err
	}
	return &boundedFile{u: f.u, raw: raw, name: name}, nil
}

func (f bounded) Rename(from, to string, replace bool) error {
	return f.u.do("rename to "+to, func() error { return f.u.b.fs.Rename(from, to, replace) })
}

func (f bounded) Remove(name string) error {
	return f.u.do("remove "+name, func() error { return f.u.b.fs.Remove(name) })
}

func (f bounded) Mkdir(name string, perm fs.FileMode) error {
	return f.u.do("make directory "+name, func() error { return f.u.b.fs.Mkdir(name, perm) })
}

func (f bounded) Stat(name string) (Info, error) {
	return within(f.u, "stat "+name, 1, func() (Info, error) { return f.u.b.fs.Stat(name) }, nil)
}

func (f bounded) SyncDir(name string) error {
	return f.u.do("sync directory "+name, func() error { return f.u.b.fs.SyncDir(name) })
}

// FreeBytes is what FreeOf asks for.
func (f bounded) FreeBytes(name string) (int64, error) {
	return within(f.u, "free bytes of "+name, 1, func() (int64, error) { return FreeOf(f.u.b.fs, name) }, nil)
}

// boundedEntries is how many entries of a directory are read at once.
const boundedEntries = 512

// ReadDir reads the directory piece by piece, each within the limit: how long the whole takes is its size's affair.
func (f bounded) ReadDir(name string) iter.Seq2[Entry, error] {
	type piece struct {
		entries []Entry
		err     error
		last    bool
	}
	return func(yield func(Entry, error) bool) {
		next, stop := iter.Pull2(f.u.b.fs.ReadDir(name))
		read := func() (p piece, _ error) {
			for len(p.entries) < boundedEntries {
				e, err, ok := next()
				if !ok || err != nil {
					p.err, p.last = err, true
					break
				}
				p.entries = append(p.entries, e)
			}
			return p, nil
		}
		for {
			p, err := within(f.u, "read directory "+name, 1, read, nil)
			if err != nil {
				f.u.later(stop)
				yield(Entry{}, err)
				return
			}
			for _, e := range p.entries {
				if !yield(e, nil) {
					f.stop(name, stop)
					return
				}
			}
			if p.last {
				if p.err != nil {
					yield(Entry{}, p.err)
				}
				f.stop(name, stop)
				return
			}
		}
	}
}

// stop ends a listing, which closes the directory.
func (f bounded) stop(name string, stop func()) {
	if f.u.do("close directory "+name, func() error { stop(); return nil }) != nil {
		f.u.later(stop)
	}
}

// boundedFile is an open file whose calls are limited.
type boundedFile struct {
	u     *use
	raw   File
	name  string
	dirty atomic.Int64 // bytes written since the last sync

	closed atomic.Bool // or being closed
}

func (f *boundedFile) ReadAt(p []byte, off int64) (int, error) {
	type read struct {
		b   []byte
		n   int
		err error // with what was read before it
	}
	r, err := within(f.u, "read "+f.name, boundReads, func() (read, error) {
		b := make([]byte, len(p))
		n, err := f.raw.ReadAt(b, off)
		return read{b, n, err}, nil
	}, nil)
	if err != nil {
		return 0, err
	}
	return copy(p, r.b[:r.n]), r.err
}

func (f *boundedFile) WriteAt(p []byte, off int64) (int, error) {
	written := 0
	for {
		part, at := slices.Clone(p[written:min(len(p), written+boundDirty)]), off+int64(written) // an abandoned call must not see the caller's
		n, err := within(f.u, "write "+f.name, 1, func() (int, error) { return f.raw.WriteAt(part, at) }, nil)
		written += n
		if err != nil {
			return written, err
		}
		if f.dirty.Add(int64(n)) >= boundDirty {
			if err := f.Sync(); err != nil {
				return written, err
			}
		}
		if written >= len(p) || n < len(part) {
			return written, nil
		}
	}
}

func (f *boundedFile) Sync() error {
	f.dirty.Store(0)
	return f.u.do("sync "+f.name, f.raw.Sync)
}

func (f *boundedFile) Truncate(size int64) error {
	return f.u.do("truncate "+f.name, func() error { return f.raw.Truncate(size) })
}

func (f *boundedFile) Allocate(size int64) error {
	return f.u.do("allocate "+f.name, func() error { return f.raw.Allocate(size) })
}

func (f *boundedFile) Chmod(perm fs.FileMode) error {
	return f.u.do("chmod "+f.name, func() error { return f.raw.Chmod(perm) })
}

func (f *boundedFile) Stat() (Info, error) {
	return within(f.u, "stat "+f.name, 1, f.raw.Stat, nil)
}

// Close closes the file; one of a use in which a call was late is closed after all those have returned.
func (f *boundedFile) Close() error {
	err := f.u.do("close "+f.name, func() error {
		if f.closed.Swap(true) {
			return Error("close", f.name, fs.ErrClosed)
		}
		return f.raw.Close()
	})
	if err != nil && f.over() {
		f.u.later(func() {
			if !f.closed.Swap(true) {
				_ = f.raw.Close() // nobody trusts what was done with it
			}
		})
	}
	return err
}

func (f *boundedFile) over() bool {
	select {
	case <-f.u.dead:
		return true
	default:
		return false
	}
}

// DropCache is asked without a limit of its own: it is advice, and the read that follows has one.
func (f *boundedFile) DropCache() {
	_ = f.u.do("drop cache of "+f.name, func() error { DropCache(f.raw); return nil })
}
