package main

import (
	"fmt"
	"path/filepath"

	"holdfast/internal/server"
)

type mirrorAdd struct {
	dataFlag
	Name string `arg:"" help:"What the new mirror is called: letters, digits, '.', '_', '-'."`
	Dir  string `arg:"" placeholder:"DIR2" help:"Its directory, new or empty, on a disk of its own."`
}

// Help teaches.
func (mirrorAdd) Help() string {
	return `Makes a mirror in DIR2, writes it into holdfast.conf and copies everything into it while the server goes on
serving. It counts once all of it is there and has been read back from its disk; the command says when. Ctrl-C ends the
waiting, not the copying. Without a running server the command copies by itself, and a later start goes on where it was ended.

Exit code 0: the mirror counts. 1: an error, and it is not complete. 3: refused, nothing was changed: DIR2 is not empty, or
lies inside another copy.

  holdfast mirror add attic /mnt/attic/holdfast-mirror --data /srv/holdfast`
}

// Run adds the mirror.
func (c *mirrorAdd) Run(s *streams) error {
	path, err := newPlace(c.Dir)
	if err != nil {
		return err
	}
	return c.changeMirrors(s, c.Name, "mirror/add", server.MirrorRequest{Name: c.Name, Path: path})
}

// newPlace returns the path of a new mirror's directory without links.
func newPlace(path string) (string, error) {
	if path == "" {
		return "", fmt.Errorf("the directory is empty text: %w", errUsage)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", path, err)
	}
	return resolve(path)
}
