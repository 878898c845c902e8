package simdisk

import (
	"io"
	"io/fs"
	"math/bits"
	"syscall"

	"holdfast/internal/durable"
)

const (
	pageSize    = 4096
	pageSectors = pageSize / Sector
)

// page is a piece of a file. A page that is not there is zeros.
type page struct {
	data    [pageSize]byte  // as seen
	old     *[pageSize]byte // as on the medium, for the sectors in dirty and phantom; nil is zeros
	dirty   uint8           // sectors that the next Sync writes
	phantom uint8           // sectors whose Sync failed: clean, but never written
	cut     uint8           // dirty sectors that only a smaller size took away: they are lost with it, or not at all
}

// content is what a file holds, as seen and as on the medium.
type content struct {
	size  int64 // as seen
	hard  int64 // as on the medium
	sizes []int64
	cutAt int // which of hard, sizes and size is the first after the last cut
	pages map[int64]*page
	dirty []int64 // pages that have or had dirty or phantom sectors, in the order in which they got them
}

// touch prepares the sectors from..to (of the whole file, to excluded) of one page for being written.
func (c *content) touch(no int64, mask uint8) *page {
	p := c.pages[no]
	if p == nil {
		if c.pages == nil {
			c.pages = map[int64]*page{}
		}
		p = &page{}
		c.pages[no] = p
	}
	if p.dirty|p.phantom == 0 {
		c.dirty = append(c.dirty, no)
	}
	if fresh := mask &^ (p.dirty | p.phantom); fresh != 0 {
		p.save(fresh)
	}
	p.dirty |= mask
	p.phantom &^= mask
	p.cut &^= mask
	return p
}

// save keeps what the medium has in the sectors of mask, before they change.
func (p *page) save(mask uint8) {
	if p.old == nil {
		p.old = &[pageSize]byte{}
	}
	for m := mask; m != 0; m &= m - 1 {
		at := bits.TrailingZeros8(m) * Sector
		copy(p.old[at:at+Sector], p.data[at:at+Sector])
	}
}

// sectors returns the mask of the sectors that bytes from..to (in the page) lie in.
func sectors(from, to int) uint8 {
	lo, hi := from/Sector, (to+Sector-1)/Sector
	return uint8((1<<hi - 1) &^ (1<<lo - 1))
}

func (c *content) write(p []byte, off int64) {
	for len(p) > 0 {
		no, at := off/pageSize, int(off%pageSize)
		n := min(len(p), pageSize-at)
		pg := c.touch(no, sectors(at, at+n))
		copy(pg.data[at:], p[:n])
		p, off = p[n:], off+int64(n)
	}
}

func (c *content) read(p []byte, off int64) {
	for len(p) > 0 {
		no, at := off/pageSize, int(off%pageSize)
		n := min(len(p), pageSize-at)
		if pg := c.pages[no]; pg != nil {
			copy(p[:n], pg.data[at:])
		} else {
			clear(p[:n])
		}
		p, off = p[n:], off+int64(n)
	}
}

// resize sets the size; what lay beyond a smaller one is zeroed, and comes back if that is lost.
func (c *content) resize(size int64) {
	if size == c.size {
		return
	}
	if size < c.size {
		for no := size / pageSize; no*pageSize < c.size; no++ {
			if c.pages[no] == nil {
				continue
			}
			from := int(max(0, size-no*pageSize))
			to := int(min(pageSize, c.size-no*pageSize))
			pg := c.touch(no, sectors(from, to))
			clear(pg.data[from:to])
			if whole := (from + Sector - 1) / Sector * Sector; whole < to {
				pg.cut |= sectors(whole, to)
			}
		}
		defer func() { c.cutAt = len(c.sizes) + 1 }()
	}
	c.setSize(size)
}

func (c *content) setSize(size int64) {
	if size != c.size {
		c.sizes = append(c.sizes, c.size)
		c.size = size
	}
}

// sync puts all on the medium.
func (c *content) sync() {
	keep := c.dirty[:0]
	for _, no := range c.dirty {
		p := c.pages[no]
		p.dirty, p.cut = 0, 0
		if p.phantom != 0 {
			keep = append(keep, no)
		} else {
			p.old = nil
		}
	}
	c.dirty = keep
	c.hard, c.sizes = c.size, c.sizes[:0]
}

// syncFailed is what Linux does when the device refuses: some sectors reached it, the rest is marked
// clean all the same, and nobody will write it. The size counts as one that was never written.
func (c *content) syncFailed(d *Disk) {
	for _, no := range c.dirty {
		p := c.pages[no]
		lost := p.dirty & uint8(d.rng.Uint32())
		if p.dirty == p.dirty&1 { // a lone sector is lost, else the fault would often be none
			lost = p.dirty
		}
		p.phantom |= lost
		p.dirty, p.cut = 0, 0
	}
	c.forgetClean()
}

// forgetClean drops the pages without dirty or phantom sectors from the list.
func (c *content) forgetClean() {
	keep := c.dirty[:0]
	for _, no := range c.dirty {
		if p := c.pages[no]; p.dirty|p.phantom != 0 {
			keep = append(keep, no)
		} else {
			p.old = nil
		}
	}
	c.dirty = keep
}

// evict drops clean pages from the cache: what a failed sync lost is seen to be lost.
func (c *content) evict() {
	for _, no := range c.dirty {
		p := c.pages[no]
		p.revert(p.phantom)
		p.phantom = 0
	}
	c.forgetClean()
}

func (p *page) revert(mask uint8) {
	for m := mask; m != 0; m &= m - 1 {
		at := bits.TrailingZeros8(m) * Sector
		copy(p.data[at:at+Sector], p.old[at:at+Sector])
	}
}

// file is an open file.
type file struct {
	d      *Disk
	n      *node
	name   string // as opened, for messages and traces
	write  bool
	closed bool
}

var _ durable.File = (*file)(nil)

// usable is checked with the lock held.
func (f *file) usable(write bool) error {
	switch {
	case f.d.dead:
		return ErrCrashed
	case f.closed:
		return fs.ErrClosed
	case f.n.mode.IsDir():
		return syscall.EISDIR
	case write && !f.write:
		return syscall.EBADF
	}
	return nil
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.usable(false); err != nil {
		return 0, wrap("read", f.name, err)
	}
	if off < 0 {
		return 0, durable.Error("read", f.name, syscall.EINVAL)
	}
	n := max(0, min(int64(len(p)), f.n.size-off))
	f.n.read(p[:n], off)
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

func (f *file) WriteAt(p []byte, off int64) (n int, err error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.usable(true); err != nil {
		return 0, wrap("write", f.name, err)
	}
	if off < 0 {
		return 0, durable.Error("write", f.name, syscall.EINVAL)
	}
	err = f.d.step(Step{Op: "write", Name: f.name, Offset: off, Size: int64(len(p))}, func() error {
		room := f.d.grow(f.n, off+int64(len(p)))
		n = int(max(0, min(int64(len(p)), room-off)))
		f.n.write(p[:n], off)
		f.n.mtime = f.d.now()
		if n < len(p) {
			return syscall.ENOSPC
		}
		return nil
	})
	return n, wrap("write", f.name, err)
}

// grow makes a file as large as asked or as the disk allows, never smaller, and returns its size.
func (d *Disk) grow(n *node, size int64) int64 {
	if more := size - n.size; more > 0 {
		if d.room > 0 {
			more = max(0, min(more, d.room-d.used))
		}
		n.setSize(n.size + more)
		if n.links > 0 {
			d.used += more
		}
	}
	return n.size
}

func (f *file) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	err := f.sync()
	for try := 0; err != nil && !f.d.dead && f.d.bugs.RetrySync && try < 100; try++ {
		err = f.sync()
	}
	if err != nil && !f.d.dead && f.d.bugs.IgnoreSyncError {
		return nil
	}
	return fatal("sync", f.name, err)
}

func (f *file) sync() error {
	if err := f.usable(true); err != nil {
		return err
	}
	done := false
	err := f.d.step(Step{Op: "sync", Name: f.name}, func() error {
		if f.d.unlucky() {
			return syscall.EIO
		}
		done = true
		if !f.d.bugs.IgnoreSync {
			f.n.sync()
		}
		return nil
	})
	if err != nil && !done && !f.d.dead {
		f.n.syncFailed(f.d)
	}
	return err
}

func (f *file) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.usable(true); err != nil {
		return wrap("truncate", f.name, err)
	}
	return wrap("truncate", f.name, f.d.step(Step{Op: "truncate", Name: f.name, Size: size}, func() error {
		if size < 0 {
			return syscall.EINVAL
		}
		if f.n.links > 0 {
			f.d.used += size - f.n.size
		}
		f.n.resize(size)
		f.n.mtime = f.d.now()
		return nil
	}))
}

func (f *file) Allocate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.usable(true); err != nil {
		return wrap("allocate", f.name, err)
	}
	if f.n.size >= size {
		return nil
	}
	return wrap("allocate", f.name, f.d.step(Step{Op: "allocate", Name: f.name, Size: size}, func() error {
		if f.d.grow(f.n, size) < size {
			return syscall.ENOSPC
		}
		f.n.mtime = f.d.now()
		return nil
	}))
}

func (f *file) Chmod(perm fs.FileMode) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.usable(false); err != nil {
		return wrap("chmod", f.name, err)
	}
	return wrap("chmod", f.name, f.d.step(Step{Op: "chmod", Name: f.name}, func() error {
		f.n.mode = f.n.mode.Type() | perm.Perm()
		return nil
	}))
}

func (f *file) Stat() (durable.Info, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.dead {
		return durable.Info{}, ErrCrashed
	}
	if f.closed {
		return durable.Info{}, durable.Error("stat", f.name, fs.ErrClosed)
	}
	return f.d.info(f.n), nil
}

func (f *file) Close() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.dead {
		return ErrCrashed
	}
	if f.closed {
		return durable.Error("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	return nil
}

// DropCache shows what the medium has where a sync failed.
func (f *file) DropCache() {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if !f.d.dead && !f.closed {
		f.n.evict()
	}
}
