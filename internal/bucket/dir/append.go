package dir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sync"

	"holdfast"
	"holdfast/internal/bucket"
	"holdfast/internal/durable"
)

// spareTries bounds the names tried for a spare; dead ones of other processes may lie there.
const spareTries = 10_000

// spares keeps one preallocated file of zeros ahead of the next Append: making 64 MiB in the write path
// would stall every writer. A file that was used is never taken again, so old frames cannot be mistaken for
// new ones.
type spares struct {
	d    *Dir
	mode Spare

	mu     sync.Mutex
	idle   *sync.Cond
	busy   bool // a goroutine is preparing
	closed bool
	ready  *spare
	failed error // a sync failed in the background: the next Append reports it
}

// spare is an unfinished file, open, of size zeros, synced.
type spare struct {
	f    durable.File
	tmp  string
	size int64
}

func (s *spares) init(d *Dir) {
	s.d = d
	s.idle = sync.NewCond(&s.mu)
}

// take returns a file for an object of size bytes: the one kept ready, or a new one.
func (s *spares) take(size int64) (*spare, error) {
	s.mu.Lock()
	for s.busy {
		s.idle.Wait()
	}
	sp, err := s.ready, s.failed
	s.ready = nil
	s.mu.Unlock()
	if err != nil {
		if sp != nil {
			s.d.discard(sp)
		}
		return nil, err
	}
	if sp != nil {
		i, err := s.d.fs.Stat(sp.tmp)
		if have, ferr := sp.f.Stat(); err == nil && ferr == nil && i.Same(have) && sp.size == size {
			return sp, nil
		}
		s.d.discard(sp) // of another size, or swept away by another process
	}
	return s.d.newSpare(size)
}

// prepare makes the next spare, in the way that was asked for.
func (s *spares) prepare(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mode == Off || s.closed || s.busy || s.ready != nil || s.failed != nil {
		return
	}
	s.busy = true
	if s.mode == InCall {
		s.mu.Unlock()
		sp, err := s.d.newSpare(size)
		s.mu.Lock()
		s.done(sp, err)
		return
	}
	go func() {
		sp, err := s.d.newSpare(size)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.done(sp, err)
	}()
}

// done records a result. An error other than a failed sync is forgotten: the next Append meets it itself.
func (s *spares) done(sp *spare, err error) {
	s.busy = false
	s.ready = sp
	if errors.Is(err, holdfast.ErrFatal) {
		s.failed = err
	}
	s.idle.Broadcast()
}

// name returns the path of the spare that is kept ready, or "".
func (s *spares) name() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.busy {
		s.idle.Wait()
	}
	if s.ready == nil {
		return ""
	}
	return s.ready.tmp
}

func (s *spares) close() {
	s.mu.Lock()
	s.closed = true
	for s.busy {
		s.idle.Wait()
	}
	sp := s.ready
	s.ready = nil
	s.mu.Unlock()
	if sp != nil {
		s.d.discard(sp)
	}
}

func (d *Dir) newSpare(size int64) (*spare, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	for n := range spareTries {
		tmp := filepath.Join(d.path, fmt.Sprintf(".tmp-spare.%d", n))
		f, err := d.fs.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, durable.FilePerm)
		if errors.Is(err, holdfast.ErrExists) {
			continue
		}
		if errors.Is(err, holdfast.ErrNotFound) {
			return nil, fmt.Errorf("%w: %w", err, holdfast.ErrAbsent)
		}
		if err != nil {
			return nil, err
		}
		sp := &spare{f, tmp, size}
		if err := fill(f, size); err != nil {
			d.discard(sp)
			return nil, fmt.Errorf("prepare a file of %d bytes: %w", size, err)
		}
		return sp, nil
	}
	return nil, fmt.Errorf("prepare a file: %d spares lie in %s: sweep it", spareTries, d.path)
}

// fillStep is how many bytes of zeros are synced at once. Syncs of the log wait for those of the spare on the same
// disk: with 64 MiB at once half of them took 3.5 ms and the worst 21, with 1 MiB 0.1 to 0.5 and 9, and the whole
// was ready as soon (ext4; 0.14 without a spare in the making).
const fillStep = 1 << 20

// fill gives a file size bytes of zeros, durable.
func fill(f durable.File, size int64) error {
	for at := min(size, fillStep); ; at = min(size, at+fillStep) {
		if err := f.Allocate(at); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		if at == size {
			return nil
		}
	}
}

// discard removes a spare; what cannot be removed is for Sweep.
func (d *Dir) discard(sp *spare) {
	_ = sp.f.Close()
	_ = d.fs.Remove(sp.tmp)
}

// Append makes an append-only object. Steps: a synced file of zeros (kept ready), header, sync, rename,
// sync of the directory.
func (d *Dir) Append(ctx context.Context, name string, size int64, header []byte) (bucket.Appender, error) {
	if err := check(ctx, name); err != nil {
		return nil, err
	}
	a, err := d.append(name, max(size, int64(len(header))), header)
	if err != nil {
		return nil, fmt.Errorf("append object %s: %w", name, d.doubt(err))
	}
	if err := a.linked(); err != nil {
		_ = a.Close()
		return nil, fmt.Errorf("append object %s: %w", name, err)
	}
	d.spares.prepare(max(size, int64(len(header))))
	return a, nil
}

func (d *Dir) append(name string, size int64, header []byte) (*appender, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	if err := d.ensure(path.Dir(name)); err != nil {
		return nil, err
	}
	sp, err := d.spares.take(size)
	if err != nil {
		return nil, err
	}
	a := &appender{d: d, f: sp.f, name: name, room: size}
	a.id, err = sp.f.Stat()
	if err == nil {
		err = a.write(header)
	}
	if err == nil {
		err = d.fs.Rename(sp.tmp, d.file(name), false)
	}
	if errors.Is(err, holdfast.ErrNotFound) {
		err = fmt.Errorf("%w: %w", err, holdfast.ErrAbsent)
	}
	if err != nil {
		d.discard(sp)
		return nil, err
	}
	err = d.fs.SyncDir(filepath.Dir(d.file(name)))
	if err == nil && path.Dir(name) != "." {
		err = d.fs.SyncDir(d.path) // else the spare's name could come back and lead to this object
	}
	if err != nil {
		_ = sp.f.Close()
		return nil, err
	}
	return a, nil
}

type appender struct {
	d    *Dir
	f    durable.File
	name string
	id   durable.Info // device and inode of f
	size int64        // bytes appended, header included
	room int64        // bytes allocated
	err  error        // the first one
}

var _ bucket.Appender = (*appender)(nil)

func (a *appender) Append(p []byte) error {
	if a.err != nil {
		return a.err
	}
	err := a.write(p)
	if err == nil {
		err = a.linked()
	}
	if err != nil {
		a.err = fmt.Errorf("append to %s: %w", a.name, err)
	}
	return a.err
}

// write puts p behind what is there and syncs. Beyond its room the object grows; each sync is dearer then.
func (a *appender) write(p []byte) error {
	if _, err := a.f.WriteAt(p, a.size); err != nil {
		return err
	}
	a.size += int64(len(p))
	return a.f.Sync()
}

// linked returns ErrAbsent unless the name leads to the file that is written. It is asked after the sync:
// what was synced into a removed file is lost.
func (a *appender) linked() error {
	i, err := a.d.fs.Stat(a.d.file(a.name))
	if errors.Is(err, holdfast.ErrNotFound) {
		return fmt.Errorf("%w: %w", err, holdfast.ErrAbsent)
	}
	if err != nil {
		return err
	}
	if !i.Same(a.id) {
		return fmt.Errorf("%s leads to another file than the one written: %w", a.name, holdfast.ErrAbsent)
	}
	return nil
}

// Seal: cut, read-only, sync, rename, sync of the directories.
func (a *appender) Seal(ctx context.Context, to string) error {
	if a.err != nil {
		return a.err
	}
	if err := check(ctx, to); err != nil {
		return err
	}
	if err := a.seal(to); err != nil {
		a.err = fmt.Errorf("seal %s: %w", a.name, a.d.doubt(err))
		return a.err
	}
	a.err = fmt.Errorf("%s is sealed: %w", to, holdfast.ErrInvalid)
	return nil
}

func (a *appender) seal(to string) error {
	if err := a.d.ensure(path.Dir(to)); err != nil {
		return err
	}
	if err := a.linked(); err != nil {
		return err
	}
	if err := a.f.Chmod(durable.SealedPerm); err != nil {
		return err
	}
	if err := a.f.Truncate(a.size); err != nil {
		return err
	}
	if err := a.f.Sync(); err != nil {
		return err
	}
	if err := durable.Rename(a.d.fs, a.d.file(a.name), a.d.file(to), false); err != nil {
		return err
	}
	a.name = to
	return a.linked()
}

func (a *appender) Close() error {
	if a.err == nil {
		a.err = fmt.Errorf("append to %s: closed: %w", a.name, holdfast.ErrInvalid)
	}
	return a.f.Close()
}
