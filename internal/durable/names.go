package durable

import (
	"errors"
	"fmt"
	"path/filepath"

	"holdfast"
)

// Rename moves a file durably. Without replace a taken name is ErrExists. Between directories a crash can
// leave both names, never none: the new name is made durable before the old one's absence is.
func Rename(fsys FS, from, to string, replace bool) error {
	if err := fsys.Rename(from, to, replace); err != nil {
		return err
	}
	if err := fsys.SyncDir(filepath.Dir(to)); err != nil {
		return err
	}
	if filepath.Dir(from) != filepath.Dir(to) {
		return fsys.SyncDir(filepath.Dir(from))
	}
	return nil
}

// Remove removes a file or an empty directory durably.
func Remove(fsys FS, name string) error {
	if err := fsys.Remove(name); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}

// MkdirAll makes a directory and those above it that are missing, each durable in its parent. It is
// for init alone: a directory that should be there and is not is absent, not new.
func MkdirAll(fsys FS, name string) error {
	name = filepath.Clean(name)
	parent := filepath.Dir(name)
	if parent == name { // the root is always there
		return nil
	}
	if _, err := fsys.Stat(parent); errors.Is(err, holdfast.ErrNotFound) {
		if err := MkdirAll(fsys, parent); err != nil {
			return err
		}
	}
	err := fsys.Mkdir(name, DirPerm)
	if err = dirExists(fsys, name, err); err != nil {
		return err
	}
	return fsys.SyncDir(parent) // also when it was there: whoever made it may not have synced yet
}

// dirExists forgives an ErrExists of Mkdir when what exists is a directory.
func dirExists(fsys FS, name string, err error) error {
	if !errors.Is(err, holdfast.ErrExists) {
		return err
	}
	i, serr := fsys.Stat(name)
	if serr != nil {
		return serr
	}
	if !i.Mode.IsDir() {
		return err
	}
	return nil
}

// MkdirBelow makes the directories of rel that are missing below root, each durable in its parent, and
// never root itself: without it the error wraps holdfast.ErrAbsent.
func MkdirBelow(fsys FS, root, rel string) error {
	if rel == "." || rel == "" {
		return nil
	}
	if err := MkdirBelow(fsys, root, filepath.Dir(rel)); err != nil {
		return err
	}
	name := filepath.Join(root, rel)
	err := dirExists(fsys, name, fsys.Mkdir(name, DirPerm))
	if errors.Is(err, holdfast.ErrNotFound) {
		return fmt.Errorf("%w: %w", err, holdfast.ErrAbsent)
	}
	if err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}

// RemoveIn removes files of one directory and syncs it once. Those that are gone already are as good.
func RemoveIn(fsys FS, dir string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	for _, name := range names {
		if err := fsys.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, holdfast.ErrNotFound) {
			return err
		}
	}
	return fsys.SyncDir(dir)
}

// RemoveFlat removes a directory that holds files only, with all of them. A crash can leave any of
// them. ErrNotFound: it is not there.
func RemoveFlat(fsys FS, dir string) error {
	if _, err := fsys.Stat(dir); err != nil {
		return err
	}
	var names []string
	for e, err := range fsys.ReadDir(dir) {
		if err != nil {
			return err
		}
		names = append(names, e.Name)
	}
	if err := RemoveIn(fsys, dir, names); err != nil {
		return err
	}
	return Remove(fsys, dir)
}
