package mirror

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"holdfast/internal/durable"
	"holdfast/internal/durable/simdisk"
)

var errKilled = errors.New("the process was killed")

// procFS is the disk as one process of the simulator uses it. The process can be killed before any
// step: what it wrote and did not sync stays in the system's memory, where the next process reads it,
// until the power is cut. With late, a planted bug, a spare's syncs do nothing until it was renamed.
type procFS struct {
	*simdisk.Disk
	left    int // steps until the process is killed; 0: never; -1: it was
	late    bool
	renamed map[string]*bool
}

var _ durable.FS = (*procFS)(nil)

// alive counts a step.
func (p *procFS) alive() error {
	switch p.left {
	case 0:
		return nil
	case -1, 1:
		p.left = -1
		return errKilled
	}
	p.left--
	return nil
}

func (p *procFS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if flag&os.O_CREATE != 0 {
		if err := p.alive(); err != nil {
			return nil, err
		}
	}
	f, err := p.Disk.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	pf := &procFile{File: f, p: p, named: true}
	if p.late && strings.Contains(name, ".tmp-spare") {
		pf.named = false
		p.renamed[name] = &pf.named
	}
	return pf, nil
}

func (p *procFS) Rename(from, to string, replace bool) error {
	if err := p.alive(); err != nil {
		return err
	}
	if r := p.renamed[from]; r != nil {
		*r = true
	}
	return p.Disk.Rename(from, to, replace)
}

func (p *procFS) Remove(name string) error {
	if err := p.alive(); err != nil {
		return err
	}
	return p.Disk.Remove(name)
}

func (p *procFS) Mkdir(name string, perm fs.FileMode) error {
	if err := p.alive(); err != nil {
		return err
	}
	return p.Disk.Mkdir(name, perm)
}

func (p *procFS) SyncDir(name string) error {
	if err := p.alive(); err != nil {
		return err
	}
	return p.Disk.SyncDir(name)
}

type procFile struct {
	durable.File
	p     *procFS
	named bool
}

func (f *procFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.p.alive(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, off)
}

func (f *procFile) Sync() error {
	if err := f.p.alive(); err != nil || !f.named {
		return err
	}
	return f.File.Sync()
}

func (f *procFile) Truncate(size int64) error {
	if err := f.p.alive(); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *procFile) Allocate(size int64) error {
	if err := f.p.alive(); err != nil {
		return err
	}
	return f.File.Allocate(size)
}

func (f *procFile) Chmod(perm fs.FileMode) error {
	if err := f.p.alive(); err != nil {
		return err
	}
	return f.File.Chmod(perm)
}

func (f *procFile) DropCache() { durable.DropCache(f.File) }
