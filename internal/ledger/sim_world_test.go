package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"sync"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/durable/simdisk"
	"holdfast/internal/store/simvfs"
)

const (
	simSegment = 32 << 10
	simMinFree = 16 << 10
)

var simServer = holdfast.ServerID{1, 2, 3}

// world is a new server with two accounts, closed, with one to three mirrors. Schedules begin with copies of it.
type world struct {
	data    *simdisk.Disk
	mirrors []*simdisk.Disk
	heads   map[holdfast.AccountID]holdfast.Head
	files   holdfast.CollectionID
}

var worlds = [3]func() *world{
	sync.OnceValue(func() *world { return newWorld(1) }),
	sync.OnceValue(func() *world { return newWorld(2) }),
	sync.OnceValue(func() *world { return newWorld(3) }),
}

// newWorld makes a server. An error is a broken test.
func newWorld(mirrors int) *world {
	w := &world{data: simdisk.New(1), heads: map[holdfast.AccountID]holdfast.Head{}}
	s := &sim{boxes: []*box{{data: w.data}}, quiet: true}
	p := &proc{sim: s, box: s.boxes[0], free: true}
	fsys := &simFS{p}
	v, err := simvfs.Register(fsys, simvfs.Options{})
	check(err)
	defer v.Close()
	cfg := Config{Dir: "/data", Server: simServer, SegmentSize: simSegment, MinFree: simMinFree, FS: fsys, vfs: v.Name(), MirrorTimeout: -1, hooks: hooks{store: tuneStore}}
	for i := range mirrors {
		s.mirrors = append(s.mirrors, simdisk.New(uint64(2+i)))
		cfg.Mirrors = append(cfg.Mirrors, MirrorConfig{Name: fmt.Sprintf("m%d", i), Path: fmt.Sprintf("/m%d", i)})
	}
	check(w.data.Mkdir("/data", 0o700))
	check(Create(context.Background(), cfg))
	l, err := Open(context.Background(), cfg)
	check(err)
	check(l.WaitOpen(context.Background()))
	for _, a := range []holdfast.AccountID{person, person + 1} {
		h, err := l.Update(context.Background(), a, 0, func(tx *Tx) error {
			tx.PutCollection(&Collection{ID: holdfast.Root, Kind: holdfast.KindFile})
			w.files = tx.NewCollection(holdfast.Root, "files", holdfast.KindFile, nil)
			return nil
		})
		check(err)
		w.heads[a] = h
	}
	check(l.Close(context.Background()))
	w.data.Sync()
	for _, m := range s.mirrors {
		m.Sync()
	}
	w.mirrors = s.mirrors
	return w
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// removeAll removes a tree; what is not there is removed already.
func removeTree(d *simdisk.Disk, name string) {
	for e, err := range d.ReadDir(name) {
		if err == nil {
			if below := path.Join(name, e.Name); e.Type == fs.ModeDir {
				removeTree(d, below)
			} else {
				check(d.Remove(below))
			}
		}
	}
	if err := d.Remove(name); err != nil && !errors.Is(err, holdfast.ErrNotFound) {
		check(err)
	}
}

// graft copies a tree from another disk; names that are taken must be free.
func graft(to, from *simdisk.Disk, name string) {
	if _, err := from.Stat(name); err != nil {
		return
	}
	check(to.Mkdir(name, 0o700))
	for e, err := range from.ReadDir(name) {
		check(err)
		below := path.Join(name, e.Name)
		if e.Type == fs.ModeDir {
			graft(to, from, below)
			continue
		}
		b, err := durable.ReadFile(from, below, 1<<30)
		check(err)
		f, err := to.OpenFile(below, os.O_RDWR|os.O_CREATE|os.O_EXCL, durable.FilePerm)
		check(err)
		_, err = f.WriteAt(b, 0)
		check(err)
		check(f.Close())
	}
}

// wipe overwrites the files of a directory with zeros, or cuts them to nothing.
func wipe(d *simdisk.Disk, dir string, empty bool) {
	for e, err := range d.ReadDir(dir) {
		if err != nil || e.Type == fs.ModeDir {
			continue
		}
		f, err := d.OpenFile(path.Join(dir, e.Name), os.O_RDWR, 0)
		check(err)
		i, err := f.Stat()
		check(err)
		if empty {
			check(f.Truncate(0))
		} else {
			_, err = f.WriteAt(make([]byte, i.Size), 0)
			check(err)
		}
		check(f.Close())
	}
}
