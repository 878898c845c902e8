package simdisk

import (
	"errors"
	"io/fs"
	"iter"
	"os"
	"sort"
	"syscall"

	"holdfast/internal/durable"
)

// op is a change of names that is not durable yet: in one directory, one or two names at once.
type op struct {
	dir   *node
	sets  [2]set
	n     int
	needs *op  // of a rename between directories: the new name, without which the old one must stay
	gone  bool // durable, or lost
	lost  bool // never to be durable: a SyncDir failed
}

type set struct {
	name string
	to   *node // nil: no such name
}

// change makes names of dir lead elsewhere, as seen now, and remembers that for the crash.
func (d *Disk) change(dir *node, needs *op, sets ...set) *op {
	o := &op{dir: dir, n: len(sets), needs: needs}
	copy(o.sets[:], sets)
	for _, s := range sets {
		if old := dir.names[s.name]; old != nil {
			if old.links--; old.links == 0 {
				d.used -= old.size
			}
		}
		if s.to == nil {
			delete(dir.names, s.name)
			continue
		}
		dir.names[s.name] = s.to
		if s.to.links++; s.to.links == 1 {
			d.used += s.to.size
		}
	}
	dir.mtime = d.now()
	d.log = append(d.log, o)
	return o
}

// settle makes o durable, and before it all that its directory did earlier.
func (d *Disk) settle(upTo *op) {
	for _, o := range d.log {
		if o.dir == upTo.dir && !o.gone {
			d.settleOne(o)
		}
		if o == upTo {
			return
		}
	}
}

func (d *Disk) settleOne(o *op) {
	o.gone = true
	if o.needs != nil && !o.needs.gone {
		d.settle(o.needs)
	}
	if o.lost = o.needs != nil && o.needs.lost; !o.lost {
		o.apply()
	}
}

// apply writes o to the medium.
func (o *op) apply() {
	for _, s := range o.sets[:o.n] {
		if s.to == nil {
			delete(o.dir.durable, s.name)
		} else {
			o.dir.durable[s.name] = s.to
		}
	}
}

// OpenFile opens a file, or with os.O_CREATE|os.O_EXCL makes one (a step).
func (d *Disk) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return nil, ErrCrashed
	}
	if flag&os.O_CREATE == 0 {
		n, err := d.find(name)
		if err == nil && n.mode.IsDir() && flag&os.O_RDWR != 0 {
			err = syscall.EISDIR
		}
		if err != nil {
			return nil, durable.Error("open", name, err)
		}
		return &file{d: d, n: n, name: name, write: flag&os.O_RDWR != 0}, nil
	}
	if flag != os.O_RDWR|os.O_CREATE|os.O_EXCL {
		return nil, durable.Error("open", name, syscall.EINVAL)
	}
	var f *file
	err := d.step(Step{Op: "create", Name: name}, func() error {
		dir, base, err := d.parent(name)
		if err != nil {
			return err
		}
		if dir.names[base] != nil {
			return syscall.EEXIST
		}
		n := d.newNode(perm.Perm())
		d.change(dir, nil, set{base, n})
		f = &file{d: d, n: n, name: name, write: true}
		return nil
	})
	if err != nil {
		return nil, wrap("open", name, err)
	}
	return f, nil
}

// wrap is durable.Error for errors of steps.
func wrap(op, name string, err error) error {
	if errors.Is(err, ErrCrashed) {
		return err
	}
	return durable.Error(op, name, err)
}

// Rename moves a file or directory.
func (d *Disk) Rename(from, to string, replace bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return wrap("rename to", to, d.step(Step{Op: "rename", Name: from, To: to}, func() error {
		fromDir, fromBase, err := d.parent(from)
		if err != nil {
			return err
		}
		toDir, toBase, err := d.parent(to)
		if err != nil {
			return err
		}
		n := fromDir.names[fromBase]
		old := toDir.names[toBase]
		switch {
		case n == nil:
			return syscall.ENOENT
		case old != nil && !replace && !d.bugs.IgnoreExclusive:
			return syscall.EEXIST
		case old == n:
			return nil
		case old != nil && (old.mode.IsDir() || n.mode.IsDir()):
			return syscall.EISDIR
		}
		if fromDir == toDir {
			d.change(fromDir, nil, set{toBase, n}, set{fromBase, nil})
			return nil
		}
		added := d.change(toDir, nil, set{toBase, n})
		d.change(fromDir, added, set{fromBase, nil})
		return nil
	}))
}

// Remove removes a file or an empty directory.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return wrap("remove", name, d.step(Step{Op: "remove", Name: name}, func() error {
		dir, base, err := d.parent(name)
		if err != nil {
			return err
		}
		n := dir.names[base]
		switch {
		case n == nil:
			return syscall.ENOENT
		case len(n.names) != 0:
			return syscall.ENOTEMPTY
		}
		d.change(dir, nil, set{base, nil})
		return nil
	}))
}

// Mkdir makes one directory.
func (d *Disk) Mkdir(name string, perm fs.FileMode) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return wrap("make directory", name, d.step(Step{Op: "mkdir", Name: name}, func() error {
		if clean(name) == "/" {
			return syscall.EEXIST
		}
		dir, base, err := d.parent(name)
		if err != nil {
			return err
		}
		if dir.names[base] != nil {
			return syscall.EEXIST
		}
		d.change(dir, nil, set{base, d.newNode(fs.ModeDir | perm.Perm())})
		return nil
	}))
}

// ReadDir yields the names that were there when it began, sorted.
func (d *Disk) ReadDir(name string) iter.Seq2[durable.Entry, error] {
	return func(yield func(durable.Entry, error) bool) {
		es, err := d.entries(name)
		if err != nil {
			yield(durable.Entry{}, err)
			return
		}
		for _, e := range es {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (d *Disk) entries(name string) ([]durable.Entry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return nil, ErrCrashed
	}
	n, err := d.find(name)
	if err == nil && !n.mode.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, durable.Error("read directory", name, err)
	}
	es := make([]durable.Entry, 0, len(n.names))
	for base, child := range n.names {
		es = append(es, durable.Entry{Name: base, Type: child.mode.Type()})
	}
	sort.Slice(es, func(i, j int) bool { return es[i].Name < es[j].Name })
	return es, nil
}

// Stat says what a name leads to.
func (d *Disk) Stat(name string) (durable.Info, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return durable.Info{}, ErrCrashed
	}
	n, err := d.find(name)
	if err != nil {
		return durable.Info{}, durable.Error("stat", name, err)
	}
	return d.info(n), nil
}

// SyncDir makes the names of a directory durable.
func (d *Disk) SyncDir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return ErrCrashed
	}
	dir, err := d.find(name)
	if err == nil && !dir.mode.IsDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return durable.Error("open directory", name, err)
	}
	done := false
	err = d.step(Step{Op: "syncdir", Name: name}, func() error {
		if d.unlucky() {
			return syscall.EIO
		}
		done = true
		if !d.bugs.IgnoreSyncDir {
			d.settleDir(dir)
		}
		return nil
	})
	if err != nil && !done && !d.dead {
		d.syncDirFailed(dir)
	}
	if err != nil && !d.dead && d.bugs.IgnoreSyncError {
		return nil
	}
	return fatal("sync directory", name, err)
}

// settleDir makes all that a directory did durable, and forgets it.
func (d *Disk) settleDir(dir *node) {
	for _, o := range d.log {
		if o.dir == dir && !o.gone {
			d.settleOne(o)
		}
	}
	d.forgetGone()
}

// syncDirFailed loses some of what a directory did since its last sync, for good.
func (d *Disk) syncDirFailed(dir *node) {
	for _, o := range d.log {
		if o.dir == dir && d.rng.IntN(2) == 0 {
			o.gone, o.lost = true, true
		}
	}
	d.forgetGone()
}

func (d *Disk) forgetGone() {
	keep := d.log[:0]
	for _, o := range d.log {
		if !o.gone {
			keep = append(keep, o)
		}
	}
	clear(d.log[len(keep):])
	d.log = keep
}

func fatal(op, name string, err error) error {
	if errors.Is(err, ErrCrashed) {
		return err
	}
	return durable.Fatal(op, name, err)
}

// unlucky draws whether a sync fails by chance.
func (d *Disk) unlucky() bool { return d.syncErr > 0 && d.rng.Float64() < d.syncErr }
