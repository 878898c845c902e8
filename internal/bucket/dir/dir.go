// Package dir is a bucket in a directory of a file system.
//
// Invariants: those of package bucket. The directory is held open, so that its identity (device and
// inode) is looked at after each step: one that was unmounted, removed or replaced is holdfast.ErrAbsent, and no
// use of the bucket makes it again. Only Create makes it.
//
// Files on disk: an object "a/b" is the file a/b, mode 0600, or 0444 once sealed, in directories of mode
// 0700. Names that begin with a dot are not objects: ".tmp-*" are unfinished ones, in the root the spare that
// Append takes next. What cannot be an object's name (lost+found) is neither listed nor touched.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"holdfast"
	"holdfast/internal/bucket"
	"holdfast/internal/durable"
)

// Spare says who prepares the preallocated file that the next Append will take.
type Spare uint8

// The ways. The zero value is Background.
const (
	Background Spare = iota // a goroutine, once an Append has returned
	InCall                  // Append itself, after its own file: for tests that must be reproducible
	Off                     // nobody: Append allocates when it is called
)

// Option changes how a directory is used.
type Option func(*Dir)

// WithSpare sets who prepares spare files.
func WithSpare(s Spare) Option { return func(d *Dir) { d.spares.mode = s } }

// WithCache lets Open read from the system's cache: for what is served again and again. Reads that are to
// prove something call DropCache on the object.
func WithCache() Option { return func(d *Dir) { d.cached = true } }

// maxKnown bounds the directories remembered as durable; beyond it they are synced once more.
const maxKnown = 10_000

// Dir is a bucket in a directory.
type Dir struct {
	fs   durable.FS
	path string
	root durable.File // held open, so that its inode number is not given to another directory
	id   durable.Info

	cached bool // see WithCache

	making chan struct{} // holds one item while somebody makes directories; guards known
	known  map[string]struct{}

	spares spares
}

var _ bucket.Bucket = (*Dir)(nil)

// Create makes the directory, which must not exist or be empty, and opens it.
func Create(fsys durable.FS, name string, opts ...Option) (*Dir, error) {
	if err := durable.MkdirAll(fsys, name); err != nil {
		return nil, fmt.Errorf("create bucket: %w", err)
	}
	for e, err := range fsys.ReadDir(name) {
		if err != nil {
			return nil, fmt.Errorf("create bucket: %w", err)
		}
		if e.Name != "lost+found" { // a fresh ext4
			return nil, fmt.Errorf("create bucket in %s, where %q lies already: %w", name, e.Name, holdfast.ErrExists)
		}
	}
	return Open(fsys, name, opts...)
}

// Open opens an existing directory. ErrAbsent when there is none: it is never made.
func Open(fsys durable.FS, name string, opts ...Option) (*Dir, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, holdfast.ErrNotFound) {
		return nil, fmt.Errorf("open bucket: %w: %w", err, holdfast.ErrAbsent)
	}
	if err != nil {
		return nil, fmt.Errorf("open bucket: %w", err)
	}
	id, err := f.Stat()
	if err == nil && !id.Mode.IsDir() {
		err = fmt.Errorf("%s is no directory: %w", name, holdfast.ErrAbsent)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open bucket: %w", err)
	}
	d := &Dir{fs: fsys, path: name, root: f, id: id, known: map[string]struct{}{}, making: make(chan struct{}, 1)}
	for _, o := range opts {
		o(d)
	}
	d.spares.init(d)
	return d, nil
}

// Close waits for a spare that is being prepared, removes it and lets the directory go. Appenders
// and objects that are open stay usable.
func (d *Dir) Close() error {
	d.spares.close()
	return d.root.Close()
}

// Path returns the directory.
func (d *Dir) Path() string { return d.path }

// Device returns the number of the device that the directory is on, to warn when two copies share one.
func (d *Dir) Device() uint64 { return d.id.Dev }

// FreeBytes returns the bytes that may still be written here.
func (d *Dir) FreeBytes() (int64, error) {
	f, ok := d.fs.(interface{ FreeBytes(string) (int64, error) })
	if !ok {
		return 0, fmt.Errorf("free bytes of %s: %w", d.path, errors.ErrUnsupported)
	}
	n, err := f.FreeBytes(d.path)
	return n, d.doubt(err)
}

// Check returns ErrAbsent unless the path still leads to the directory that was opened.
func (d *Dir) Check() error {
	i, err := d.fs.Stat(d.path)
	if errors.Is(err, holdfast.ErrNotFound) {
		return fmt.Errorf("%w: %w", err, holdfast.ErrAbsent)
	}
	if err != nil {
		return err
	}
	if !i.Same(d.id) {
		return fmt.Errorf("%s is not the directory that was opened: %w", d.path, holdfast.ErrAbsent)
	}
	return nil
}

// doubt turns the result of a step into ErrAbsent when the bucket itself is gone: neither "not found"
// nor success may be believed then.
func (d *Dir) doubt(err error) error {
	if errors.Is(err, holdfast.ErrAbsent) {
		return err
	}
	if cerr := d.Check(); cerr != nil {
		if err == nil {
			return cerr
		}
		return fmt.Errorf("%w; %w", err, cerr)
	}
	return err
}

func (d *Dir) file(name string) string { return filepath.Join(d.path, filepath.FromSlash(name)) }

// ensure makes the directory rel (slash-separated, "." for the root) and remembers that it is durable.
// One that was durable and is gone is ErrAbsent for the caller, not made again.
func (d *Dir) ensure(rel string) error {
	if rel == "." {
		return nil
	}
	d.making <- struct{}{}
	defer func() { <-d.making }()
	if _, ok := d.known[rel]; ok {
		return nil
	}
	if err := durable.MkdirBelow(d.fs, d.path, filepath.FromSlash(rel)); err != nil {
		return err
	}
	if len(d.known) >= maxKnown {
		clear(d.known)
	}
	d.known[rel] = struct{}{}
	return nil
}

// draft starts an unfinished file in the directory rel. It looks first: what lies beneath an unmounted disk
// is to stay empty.
func (d *Dir) draft(rel, base string) (*durable.Draft, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	if err := d.ensure(rel); err != nil {
		return nil, err
	}
	f, err := durable.NewDraft(d.fs, d.file(rel), base, durable.FilePerm)
	if errors.Is(err, holdfast.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", err, holdfast.ErrAbsent)
	}
	return f, err
}

// Put stores an object durably. The body is read in bounded memory; its error is returned, wrapped.
func (d *Dir) Put(ctx context.Context, name string, body io.Reader, exclusive bool) error {
	if err := bucket.CheckName(name); err != nil {
		return err
	}
	named := func() (string, bool, error) { return path.Base(name), !exclusive, nil }
	if err := d.doubt(d.put(ctx, path.Dir(name), path.Base(name), body, named)); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return nil
}

// PutNamed stores an object in the directory under (slash-separated), whose base name is known only once
// the body was read: name is then asked for it and for whether to replace what has it. ErrExists when it is
// taken and not to be replaced; an error of name is returned, wrapped, and nothing is stored.
func (d *Dir) PutNamed(ctx context.Context, under string, body io.Reader, name func() (base string, replace bool, err error)) error {
	if err := bucket.CheckName(under); err != nil {
		return err
	}
	if err := d.doubt(d.put(ctx, under, "upload", body, name)); err != nil {
		return fmt.Errorf("put into %s: %w", under, err)
	}
	return nil
}

func (d *Dir) put(ctx context.Context, rel, base string, body io.Reader, name func() (string, bool, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := d.draft(rel, base)
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.ReadFrom(&reader{ctx, body}); err != nil {
		return err
	}
	base, replace, err := name()
	if err != nil {
		return err
	}
	if !bucket.ValidSegment(base) {
		return fmt.Errorf("object name %q: %w", base, holdfast.ErrInvalid)
	}
	err = f.Commit(base, replace)
	if errors.Is(err, holdfast.ErrExists) {
		// Whoever made it may not have synced the directory yet; the caller may rely on its presence.
		if serr := d.fs.SyncDir(d.file(rel)); serr != nil {
			return serr
		}
	}
	return err
}

// reader ends a body when the context does.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// Open opens an object; what is read comes from the medium where the system can drop its cache.
func (d *Dir) Open(ctx context.Context, name string) (bucket.Object, error) {
	if err := check(ctx, name); err != nil {
		return nil, err
	}
	f, err := d.fs.OpenFile(d.file(name), os.O_RDONLY, 0)
	if err = d.doubt(err); err != nil {
		if f != nil {
			_ = f.Close()
		}
		return nil, fmt.Errorf("open object: %w", err)
	}
	i, err := f.Stat()
	if err == nil && !i.Mode.IsRegular() {
		err = fmt.Errorf("%s is not an object: %w", name, holdfast.ErrNotFound)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open object: %w", err)
	}
	if !d.cached {
		durable.DropCache(f)
	}
	return &object{f, i.Size}, nil
}

type object struct {
	f    durable.File
	size int64
}

func (o *object) ReadAt(p []byte, off int64) (int, error) { return o.f.ReadAt(p, off) }

// Size returns the bytes that the object had when it was opened.
func (o *object) Size() int64 { return o.size }

func (o *object) Close() error { return o.f.Close() }

// DropCache makes the next reads come from the medium where the system can.
func (o *object) DropCache() { durable.DropCache(o.f) }

// Stat says what an object is.
func (d *Dir) Stat(ctx context.Context, name string) (bucket.Info, error) {
	if err := check(ctx, name); err != nil {
		return bucket.Info{}, err
	}
	i, err := d.fs.Stat(d.file(name))
	if err == nil && !i.Mode.IsRegular() {
		err = fmt.Errorf("%s is not an object: %w", name, holdfast.ErrNotFound)
	}
	if err = d.doubt(err); err != nil {
		return bucket.Info{}, fmt.Errorf("stat object: %w", err)
	}
	return bucket.Info{Name: name, Size: i.Size, Modified: i.Modified}, nil
}

// Remove removes an object durably.
func (d *Dir) Remove(ctx context.Context, name string) error {
	if _, err := d.Stat(ctx, name); err != nil {
		return err
	}
	if err := d.doubt(durable.Remove(d.fs, d.file(name))); err != nil {
		return fmt.Errorf("remove object: %w", err)
	}
	return nil
}

func check(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return bucket.CheckName(name)
}

// Sweep removes what processes that died left unfinished and last wrote before the given moment, in the
// whole bucket; it returns how many files that were. The spare of this Dir stays.
func (d *Dir) Sweep(ctx context.Context, before time.Time) (int, error) {
	if err := d.Check(); err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	return d.sweep(ctx, "", before)
}
