package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast"
)

// hungDisk is a disk on which calls hang while it is told to: each waits for free.
type hungDisk struct {
	FS
	mu    sync.Mutex
	hangs bool
	over  chan time.Time // the bound is over once a call hangs
	free  chan struct{}
	end   error // what hanging calls return in the end; nil: they do their work
	calls int
	now   int
	most  int
	files int // open
}

func newHungDisk() *hungDisk { return &hungDisk{FS: Disk, over: make(chan time.Time)} }

func (d *hungDisk) after(time.Duration) (<-chan time.Time, func() bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.over, func() bool { return true }
}

func (d *hungDisk) hang(end error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hangs, d.end, d.free, d.over = true, end, make(chan struct{}), make(chan time.Time)
}

func (d *hungDisk) answer() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hangs = false
	close(d.free)
	d.over = make(chan time.Time)
}

func (d *hungDisk) call() error {
	d.mu.Lock()
	d.calls++
	if !d.hangs {
		d.mu.Unlock()
		return nil
	}
	d.now++
	d.most = max(d.most, d.now)
	select {
	case <-d.over:
	default:
		close(d.over)
	}
	free, end := d.free, d.end
	d.mu.Unlock()
	<-free
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now--
	return end
}

func (d *hungDisk) count(of *int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return *of
}

func (d *hungDisk) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	if err := d.call(); err != nil {
		return nil, err
	}
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.files++
	d.mu.Unlock()
	return &hungFile{f, d}, nil
}

func (d *hungDisk) Rename(from, to string, replace bool) error {
	return errors.Join(d.call(), d.FS.Rename(from, to, replace))
}
func (d *hungDisk) Remove(name string) error { return errors.Join(d.call(), d.FS.Remove(name)) }
func (d *hungDisk) Mkdir(name string, perm fs.FileMode) error {
	return errors.Join(d.call(), d.FS.Mkdir(name, perm))
}
func (d *hungDisk) SyncDir(name string) error { return errors.Join(d.call(), d.FS.SyncDir(name)) }
func (d *hungDisk) FreeBytes(name string) (int64, error) {
	err := d.call()
	n, ferr := FreeOf(d.FS, name)
	return n, errors.Join(err, ferr)
}

func (d *hungDisk) Stat(name string) (Info, error) {
	err := d.call()
	i, serr := d.FS.Stat(name)
	return i, errors.Join(err, serr)
}

func (d *hungDisk) ReadDir(name string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := d.call(); err != nil {
			yield(Entry{}, err)
			return
		}
		d.FS.ReadDir(name)(yield)
	}
}

type hungFile struct {
	File
	d *hungDisk
}

func (f *hungFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.d.call(); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *hungFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.d.call(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}
func (f *hungFile) Sync() error               { return errors.Join(f.d.call(), f.File.Sync()) }
func (f *hungFile) Truncate(size int64) error { return errors.Join(f.d.call(), f.File.Truncate(size)) }

func (f *hungFile) Allocate(size int64) error { return errors.Join(f.d.call(), f.File.Allocate(size)) }
func (f *hungFile) Chmod(p fs.FileMode) error { return errors.Join(f.d.call(), f.File.Chmod(p)) }

func (f *hungFile) Stat() (Info, error) {
	err := f.d.call()
	i, serr := f.File.Stat()
	return i, errors.Join(err, serr)
}

func (f *hungFile) Close() error {
	err := errors.Join(f.d.call(), f.File.Close())
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.files--
	return err
}

// boundRig is a bound of a disk that hangs, and a file there.
type boundRig struct {
	t    *testing.T
	d    *hungDisk
	b    *Bound
	dir  string
	fs   FS
	f    File
	mu   sync.Mutex
	news []BoundNews
}

func newBoundRig(t *testing.T) *boundRig {
	t.Helper()
	r := &boundRig{t: t, d: newHungDisk(), dir: t.TempDir()}
	r.b = NewBound(r.d, time.Hour, func(n BoundNews) { r.mu.Lock(); r.news = append(r.news, n); r.mu.Unlock() }, r.d.after)
	r.use()
	f, err := r.fs.OpenFile(filepath.Join(r.dir, "f"), os.O_RDWR|os.O_CREATE|os.O_EXCL, FilePerm)
	if err != nil {
		t.Fatal(err)
	}
	r.f = f
	if _, err := f.WriteAt([]byte("0123456789"), 0); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *boundRig) use() {
	r.t.Helper()
	fsys, err := r.b.Use()
	if err != nil {
		r.t.Fatal(err)
	}
	r.fs = fsys
}

// until asks again until something is so.
func (r *boundRig) until(what string, so func() bool) {
	r.t.Helper()
	end := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-end:
			r.t.Fatalf("not so: %s", what)
		case <-tick.C:
		}
	}
}

// answers lets the disk answer, and waits until the place may be used again.
func (r *boundRig) answers() {
	r.t.Helper()
	r.d.answer()
	r.until("the place can be used again", func() bool { fsys, err := r.b.Use(); r.fs = fsys; return err == nil })
}

func isTooSlow(err error) bool {
	return errors.Is(err, holdfast.ErrSlow) && errors.Is(err, holdfast.ErrAbsent) && !errors.Is(err, holdfast.ErrFatal) && !errors.Is(err, holdfast.ErrNotFound)
}

// TestBound: each call that hangs ends for its caller; nothing more is asked of the place until it has returned; then
// all is as before, and no file stays open.
func TestBound(t *testing.T) {
	for name, call := range map[string]func(r *boundRig) error{
		"open": func(r *boundRig) error {
			_, err := r.fs.OpenFile(filepath.Join(r.dir, "f"), os.O_RDONLY, 0)
			return err
		},
		"rename": func(r *boundRig) error {
			return r.fs.Rename(filepath.Join(r.dir, "f"), filepath.Join(r.dir, "g"), true)
		},
		"remove":   func(r *boundRig) error { return r.fs.Remove(filepath.Join(r.dir, "f")) },
		"mkdir":    func(r *boundRig) error { return r.fs.Mkdir(filepath.Join(r.dir, "d"), DirPerm) },
		"stat":     func(r *boundRig) error { _, err := r.fs.Stat(r.dir); return err },
		"syncdir":  func(r *boundRig) error { return r.fs.SyncDir(r.dir) },
		"list":     func(r *boundRig) error { _, err := List(r.fs, r.dir); return err },
		"free":     func(r *boundRig) error { _, err := FreeOf(r.fs, r.dir); return err },
		"read":     func(r *boundRig) error { _, err := r.f.ReadAt(make([]byte, 3), 0); return err },
		"write":    func(r *boundRig) error { _, err := r.f.WriteAt([]byte("x"), 0); return err },
		"sync":     func(r *boundRig) error { return r.f.Sync() },
		"truncate": func(r *boundRig) error { return r.f.Truncate(3) },
		"allocate": func(r *boundRig) error { return r.f.Allocate(30) },
		"chmod":    func(r *boundRig) error { return r.f.Chmod(SealedPerm) },
		"fstat":    func(r *boundRig) error { _, err := r.f.Stat(); return err },
		"close":    func(r *boundRig) error { return r.f.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newBoundRig(t)
			r.d.hang(nil)
			if err := call(r); !isTooSlow(err) {
				t.Fatalf("got %v, want too slow and absent", err)
			}
			asked := r.d.count(&r.d.calls)
			if _, err := r.fs.Stat(r.dir); !isTooSlow(err) {
				t.Errorf("another call: got %v", err)
			}
			if err := r.f.Sync(); !isTooSlow(err) {
				t.Errorf("another call on the file: got %v", err)
			}
			_ = r.f.Close() // closed once the other has returned
			if _, err := r.b.Use(); !isTooSlow(err) {
				t.Errorf("another use: got %v", err)
			}
			if n := r.d.count(&r.d.calls); n != asked {
				t.Errorf("%d calls were made after the one that hangs", n-asked)
			}
			old := r.fs
			r.answers()
			if n := r.d.count(&r.d.files); n != 0 {
				t.Errorf("%d files stay open", n)
			}
			if _, err := old.Stat(r.dir); !isTooSlow(err) {
				t.Errorf("the use that was given up: got %v", err)
			}
			if _, err := r.fs.Stat(r.dir); err != nil {
				t.Errorf("the new use: %v", err)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if n, hangs := r.b.Slow(); n != 1 || hangs != nil || len(r.news) != 2 || r.news[0].Err == nil || r.news[1].Err != nil {
				t.Errorf("slow %d times, hangs %v, news %+v", n, hangs, r.news)
			}
		})
	}
}

// TestBoundLateFatal: a sync that was given up and fails later is final, as any failed sync.
func TestBoundLateFatal(t *testing.T) {
	r := newBoundRig(t)
	r.d.hang(Fatal("sync", "f", errors.New("input/output error")))
	if err := r.f.Sync(); !isTooSlow(err) {
		t.Fatalf("got %v", err)
	}
	r.d.answer()
	r.until("it is final", func() bool { _, err := r.b.Use(); return errors.Is(err, holdfast.ErrFatal) })
	r.until("the call is over", func() bool { _, hangs := r.b.Slow(); return hangs == nil })
	if _, err := r.b.Use(); !errors.Is(err, holdfast.ErrFatal) {
		t.Errorf("got %v", err)
	}
}

// TestBoundMany: of any number of callers few are in the system at once, and none waits for ever.
func TestBoundMany(t *testing.T) {
	r := newBoundRig(t)
	r.d.hang(nil)
	var wg sync.WaitGroup
	for range 300 {
		wg.Go(func() {
			if _, err := r.fs.Stat(r.dir); !isTooSlow(err) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if n := r.d.count(&r.d.most); n > boundSlots {
		t.Errorf("%d calls at once", n)
	}
	r.answers()
}

// TestBoundMemory: a late call neither reads nor writes what its caller has since used for something else.
func TestBoundMemory(t *testing.T) {
	r := newBoundRig(t)
	p := []byte("ab")
	r.d.hang(nil)
	if _, err := r.f.WriteAt(p, 0); !isTooSlow(err) {
		t.Fatalf("got %v", err)
	}
	copy(p, "XY")
	r.answers()
	f, err := r.fs.OpenFile(filepath.Join(r.dir, "f"), os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "ab23" {
		t.Errorf("got %q, %v, want what was to be written", got, err)
	}
	r.d.hang(nil)
	if _, err := f.ReadAt(got, 4); !isTooSlow(err) {
		t.Fatalf("got %v", err)
	}
	copy(got, "mine")
	r.answers()
	if string(got) != "mine" {
		t.Errorf("a late read wrote %q", got)
	}
}

// TestBoundWhole: what is done through a bound is what is done without one: large files and directories too.
func TestBoundWhole(t *testing.T) {
	r := newBoundRig(t)
	data := make([]byte, 3*boundDirty+17)
	for i := range data {
		data[i] = byte(i * 31)
	}
	if err := Create(r.fs, filepath.Join(r.dir, "large"), data, FilePerm); err != nil {
		t.Fatal(err)
	}
	if n, err := r.f.WriteAt(data, 5); n != len(data) || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
	for name, off := range map[string]int{"large": 0, "f": 5} {
		got, err := ReadFile(r.fs, filepath.Join(r.dir, name), 1<<30)
		if err != nil || !slices.Equal(got[off:], data) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	want := []string{"f", "large"}
	for i := range 3*boundedEntries + 1 {
		name := fmt.Sprintf("n%05d", i)
		want = append(want, name)
		if err := os.WriteFile(filepath.Join(r.dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := List(r.fs, r.dir); err != nil || !slices.Equal(got, want) {
		t.Errorf("%d names, %v; want %d", len(got), err, len(want))
	}
	for range r.fs.ReadDir(r.dir) {
		break
	}
	if _, err := List(r.fs, filepath.Join(r.dir, "none")); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("no directory: %v", err)
	}
	if err := r.f.Close(); err != nil || r.d.count(&r.d.files) != 0 {
		t.Errorf("close: %v, %d open", err, r.d.count(&r.d.files))
	}
}

// TestBoundStep: a step of many calls, none of which is late, is limited too; and GiveUp ends all use.
func TestBoundStep(t *testing.T) {
	dir := t.TempDir()
	over := make(chan error, 1)
	b := NewBound(Disk, time.Nanosecond, func(n BoundNews) { over <- n.Err }, func(time.Duration) (<-chan time.Time, func() bool) {
		return nil, func() bool { return true }
	})
	fsys, err := b.Use()
	if err != nil {
		t.Fatal(err)
	}
	stop := b.Within("append")
	if err := <-over; !isTooSlow(err) {
		t.Errorf("got %v", err)
	}
	stop()
	if _, err := fsys.Stat(dir); !isTooSlow(err) {
		t.Errorf("got %v", err)
	}
	if fsys, err = b.Use(); err != nil {
		t.Fatal(err)
	}
	if _, err := fsys.Stat(dir); err != nil {
		t.Errorf("the next use: %v", err)
	}
	b.GiveUp()
	if _, err := fsys.Stat(dir); !isTooSlow(err) {
		t.Errorf("given up: %v", err)
	}
	if _, err := b.Use(); !isTooSlow(err) {
		t.Errorf("given up: %v", err)
	}
}

func BenchmarkBoundStat(b *testing.B) {
	dir := b.TempDir()
	bound := NewBound(Disk, time.Minute, func(BoundNews) {}, func(d time.Duration) (<-chan time.Time, func() bool) {
		t := time.NewTimer(d)
		return t.C, t.Stop
	})
	fsys, err := bound.Use()
	if err != nil {
		b.Fatal(err)
	}
	for name, f := range map[string]FS{"disk": Disk, "bound": fsys} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := f.Stat(dir); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
