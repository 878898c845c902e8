package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"holdfast"
)

// ReadFile returns the content of a file of at most limit bytes: ErrTooLarge beyond, ErrNotFound
// without one.
func ReadFile(fsys FS, name string, limit int64) (b []byte, err error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	i, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if i.Size > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d: %w", name, i.Size, limit, holdfast.ErrTooLarge)
	}
	b = make([]byte, i.Size)
	if n, err := f.ReadAt(b, 0); err != nil && (n < len(b) || !errors.Is(err, io.EOF)) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// List returns the names in a directory, sorted. ErrNotFound: there is none.
func List(fsys FS, name string) ([]string, error) {
	var names []string
	for e, err := range fsys.ReadDir(name) {
		if err != nil {
			return nil, err
		}
		names = append(names, e.Name)
	}
	slices.Sort(names)
	return names, nil
}

// FreeOf returns the bytes that may still be written below name, or an error if the file system cannot tell.
func FreeOf(fsys FS, name string) (int64, error) {
	f, ok := fsys.(interface{ FreeBytes(string) (int64, error) })
	if !ok {
		return 0, fmt.Errorf("free bytes of %s: not known", name)
	}
	return f.FreeBytes(name)
}

// SameDevice reports whether two paths lie on one file system: then one disk failure takes both.
func SameDevice(fsys FS, a, b string) (bool, error) {
	x, err := fsys.Stat(a)
	if err != nil {
		return false, err
	}
	y, err := fsys.Stat(b)
	return x.Dev == y.Dev, err
}
