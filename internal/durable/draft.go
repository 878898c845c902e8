package durable

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"holdfast"
)

// tmpPrefix begins the base name of every unfinished file.
const tmpPrefix = ".tmp-"

// maxDrafts bounds how many unfinished files of one name may lie in a directory, dead ones included.
const maxDrafts = 10_000

// copyBuffer is how many bytes move at once from a reader to a file.
const copyBuffer = 256 << 10

var buffers = sync.Pool{New: func() any { return new([copyBuffer]byte) }}

// Unfinished says whether name is that of a file still being written, or left by a process that died.
func Unfinished(name string) bool { return strings.HasPrefix(filepath.Base(name), tmpPrefix) }

// Draft is a file under an unfinished name, to be written and then given its name by Commit.
type Draft struct {
	fs   FS
	f    File
	tmp  string
	size int64
	err  error
}

// NewDraft makes an unfinished file in dir, for something that will be called about base. The caller
// calls Discard in the end (defer); after Commit it does nothing.
func NewDraft(fsys FS, dir, base string, perm fs.FileMode) (*Draft, error) {
	for n := range maxDrafts {
		tmp := filepath.Join(dir, fmt.Sprintf("%s%s.%d", tmpPrefix, base, n))
		f, err := fsys.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
		if errors.Is(err, holdfast.ErrExists) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return &Draft{fs: fsys, f: f, tmp: tmp}, nil
	}
	return nil, fmt.Errorf("create %s in %s: %d unfinished files of that name lie there: sweep it", base, dir, maxDrafts)
}

// Write appends to the draft. The first error is final.
func (d *Draft) Write(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.f.WriteAt(p, d.size)
	d.size += int64(n)
	d.err = err
	return n, err
}

// ReadFrom appends all of r, in bounded memory.
func (d *Draft) ReadFrom(r io.Reader) (int64, error) {
	buf := buffers.Get().(*[copyBuffer]byte)
	defer buffers.Put(buf)
	return io.CopyBuffer(onlyWriter{d}, onlyReader{r}, buf[:])
}

type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

// Size returns the bytes written so far.
func (d *Draft) Size() int64 { return d.size }

// Commit syncs the file, gives it its name (in the draft's directory) and syncs the directory. On nil
// the whole content is durable under name. Without replace a taken name is ErrExists and the draft
// stays: Commit may be called again with another name or with replace. After any other error the name
// leads to what it led to before, or to the whole content.
func (d *Draft) Commit(base string, replace bool) error {
	if d.err != nil {
		return d.err
	}
	if d.f != nil {
		err := d.f.Sync()
		if cerr := d.f.Close(); err == nil {
			err = cerr
		}
		d.f = nil
		if err != nil {
			d.err = err
			return err
		}
	}
	dir := filepath.Dir(d.tmp)
	err := d.fs.Rename(d.tmp, filepath.Join(dir, base), replace)
	if errors.Is(err, holdfast.ErrExists) && !replace {
		return err
	}
	if err != nil {
		d.err = err
		return err
	}
	d.tmp = ""
	d.err = fmt.Errorf("commit %s a second time: %w", base, holdfast.ErrInvalid)
	return d.fs.SyncDir(dir)
}

// Discard gives the draft up. What is left behind when even that fails is for Sweep.
func (d *Draft) Discard() {
	if d.f != nil {
		_ = d.f.Close()
		d.f = nil
	}
	if d.tmp != "" {
		_ = d.fs.Remove(d.tmp)
		d.tmp = ""
	}
}

// Create makes a file with data as its content; nobody ever sees a part of it. ErrExists when the name
// is taken. On nil file and name are durable.
func Create(fsys FS, name string, data []byte, perm fs.FileMode) error {
	_, err := write(fsys, name, bytes.NewReader(data), perm, false)
	return err
}

// Replace gives name a new content: after a crash at any moment it has the whole old or the whole new one.
// On nil the new one is durable.
func Replace(fsys FS, name string, data []byte, perm fs.FileMode) error {
	_, err := write(fsys, name, bytes.NewReader(data), perm, true)
	return err
}

// CreateFrom is Create for content of any size; it returns the size and the SHA-256 of what it wrote.
// An error of r is returned as it is, wrapped, and nothing is made.
func CreateFrom(fsys FS, name string, r io.Reader, perm fs.FileMode) (size int64, sum holdfast.Hash, err error) {
	h := sha256.New()
	size, err = write(fsys, name, io.TeeReader(r, h), perm, false)
	if err != nil {
		return 0, holdfast.Hash{}, err
	}
	return size, holdfast.Hash(h.Sum(nil)), nil
}

func write(fsys FS, name string, r io.Reader, perm fs.FileMode, replace bool) (int64, error) {
	base := filepath.Base(name)
	d, err := NewDraft(fsys, filepath.Dir(name), base, perm)
	if err != nil {
		return 0, fmt.Errorf("create %s: %w", name, err)
	}
	defer d.Discard()
	if _, err := d.ReadFrom(r); err != nil {
		return 0, fmt.Errorf("create %s: %w", name, err)
	}
	if err := d.Commit(base, replace); err != nil {
		return 0, fmt.Errorf("create %s: %w", name, err)
	}
	return d.size, nil
}

// Sweep removes from dir the unfinished files last written before the given moment: those of processes
// that died. The one with the path keep stays. It returns how many it removed.
func Sweep(fsys FS, dir string, before time.Time, keep string) (int, error) {
	var old []string
	for e, err := range fsys.ReadDir(dir) {
		if err != nil {
			return 0, fmt.Errorf("sweep: %w", err)
		}
		if !Unfinished(e.Name) || e.Type != 0 {
			continue
		}
		name := filepath.Join(dir, e.Name)
		i, err := fsys.Stat(name)
		if err == nil && i.Modified.Before(before) && name != keep {
			old = append(old, name)
		}
		if len(old) == maxDrafts { // the rest next time
			break
		}
	}
	n := 0
	for _, name := range old {
		err := fsys.Remove(name)
		if err == nil {
			n++
		} else if !errors.Is(err, holdfast.ErrNotFound) {
			return n, fmt.Errorf("sweep: %w", err)
		}
	}
	if n == 0 {
		return 0, nil
	}
	return n, fsys.SyncDir(dir)
}
