package durable

import (
	"errors"
	"fmt"
	"path/filepath"

	"holdfast"
)

// Reserve keeps size bytes aside in a file, so that Release can give recovery and deletion room on a full
// disk. A reserve that is there is left or made full again. ErrFull when there is no room; a smaller
// reserve that was there is then gone.
func Reserve(fsys FS, name string, size int64) error {
	i, err := fsys.Stat(name)
	if err == nil && i.Size >= size {
		return nil
	}
	if err == nil {
		if err = Remove(fsys, name); err != nil {
			return err
		}
	} else if !errors.Is(err, holdfast.ErrNotFound) {
		return err
	}
	d, err := NewDraft(fsys, filepath.Dir(name), filepath.Base(name), FilePerm)
	if err != nil {
		return fmt.Errorf("reserve %d bytes: %w", size, err)
	}
	defer d.Discard()
	if err := d.f.Allocate(size); err != nil {
		return fmt.Errorf("reserve %d bytes: %w", size, err)
	}
	return d.Commit(filepath.Base(name), false)
}

// Release frees the room of a reserve. One that is gone already is no error.
func Release(fsys FS, name string) error {
	if err := Remove(fsys, name); err != nil && !errors.Is(err, holdfast.ErrNotFound) {
		return err
	}
	return nil
}
