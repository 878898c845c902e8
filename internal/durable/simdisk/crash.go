package simdisk

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"sort"
)

// Crash cuts the power, if it is not cut yet, and returns the disk that the next start finds. What was not
// synced is kept or lost by chance. The old disk answers ErrCrashed for ever; faults that were asked
// for and did not happen are forgotten, bugs and the chance of failing syncs stay.
func (d *Disk) Crash() *Disk { return d.crash(d.survivors) }

// CrashLosingAll is Crash where nothing survives that was not synced.
func (d *Disk) CrashLosingAll() *Disk { return d.crash(nil) }

// Sync makes everything durable, as an orderly shutdown does.
func (d *Disk) Sync() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range d.log {
		if !o.gone {
			d.settleOne(o)
		}
	}
	d.log = nil
	for _, n := range d.files() {
		n.sync()
	}
}

func (d *Disk) crash(survivors func() []*op) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
	if survivors != nil {
		for _, o := range survivors() {
			o.apply()
		}
	}
	next := &Disk{
		rng: d.rng, bugs: d.bugs, faults: map[int64]fault{}, syncErr: d.syncErr, observe: d.observe, clock: d.clock, room: d.room,
		steps: d.steps, trace: d.trace, nextNo: d.nextNo, dev: d.dev, root: d.root,
	}
	next.mix(^uint64(0), d.rng.Uint64())
	next.root.remount()
	for _, n := range next.files() {
		if survivors == nil {
			n.loseAll()
		} else {
			n.lose(next)
		}
		next.used += n.size
	}
	return next
}

// remount makes what is on the medium what is seen.
func (n *node) remount() {
	n.names = make(map[string]*node, len(n.durable))
	for name, child := range n.durable {
		n.names[name] = child
		if child.mode.IsDir() {
			child.remount()
		}
	}
}

// files returns all files, each once, in the order of their inode numbers, and counts their names.
func (d *Disk) files() []*node {
	var out []*node
	var walk func(n *node)
	walk = func(n *node) {
		for _, child := range n.names {
			if child.mode.IsDir() {
				walk(child)
				continue
			}
			out = append(out, child)
		}
	}
	walk(d.root)
	sort.Slice(out, func(i, j int) bool { return out[i].ino < out[j].ino })
	uniq := out[:0]
	for _, n := range out {
		if len(uniq) == 0 || uniq[len(uniq)-1] != n {
			n.links = 0
			uniq = append(uniq, n)
		}
		n.links++
	}
	return uniq
}

// survivors draws which changes of names reached the medium.
func (d *Disk) survivors() []*op {
	var out []*op
	if len(d.log) == 0 {
		return nil
	}
	switch d.rng.IntN(3) {
	case 0: // one journal for all: it lost its end
		for _, o := range d.log[:d.rng.IntN(len(d.log)+1)] {
			if o.needs == nil || !o.needs.lost {
				out = append(out, o)
			}
		}
	case 1: // each directory lost its end
		out = d.keep(func(o *op) any { return o.dir })
	default: // each name lost its end
		out = d.keep(func(*op) any { return nil })
	}
	return out
}

// keep draws survivors so that what lost one change has lost all later ones: of its directory if key says
// so, else of the names that it touches.
func (d *Disk) keep(key func(*op) any) []*op {
	type name struct {
		dir  *node
		name string
	}
	lost := map[any]bool{}
	kept := map[*op]bool{}
	out := make([]*op, 0, len(d.log))
	for _, o := range d.log {
		keys := []any{key(o)}
		if keys[0] == nil {
			keys = keys[:0]
			for _, s := range o.sets[:o.n] {
				keys = append(keys, name{o.dir, s.name})
			}
		}
		ok := d.rng.IntN(2) == 0
		for _, k := range keys {
			ok = ok && !lost[k]
		}
		if n := o.needs; n != nil && !kept[n] && (n.lost || !n.gone) {
			ok = false
		}
		if ok {
			kept[o] = true
			out = append(out, o)
			continue
		}
		for _, k := range keys {
			lost[k] = true
		}
	}
	return out
}

// lose draws what survived of a file: its size, and each sector that was not synced.
func (c *content) lose(d *Disk) {
	size, which := c.hard, 0
	if len(c.sizes) > 0 {
		choices := append(append([]int64{c.hard}, c.sizes...), c.size)
		which = d.rng.IntN(len(choices))
		size = choices[which]
	}
	sort.Slice(c.dirty, func(i, j int) bool { return c.dirty[i] < c.dirty[j] })
	for _, no := range c.dirty {
		p := c.pages[no]
		p.revert(p.phantom)
		for m := p.dirty; m != 0; m &= m - 1 {
			s := bits.TrailingZeros8(m)
			if p.cut&(1<<s) != 0 { // a smaller size is one change of the file's metadata
				if which < c.cutAt {
					p.revert(1 << s)
				}
				continue
			}
			switch d.rng.IntN(8) {
			case 0, 1, 2: // kept
			case 3: // garbage
				garbage(d.rng.Uint64(), p.data[s*Sector:(s+1)*Sector], p.old[s*Sector:(s+1)*Sector])
			default: // lost
				p.revert(1 << s)
			}
		}
	}
	c.settle(size)
}

func (c *content) loseAll() {
	for _, no := range c.dirty {
		p := c.pages[no]
		p.revert(p.phantom | p.dirty)
	}
	c.settle(c.hard)
}

// settle ends a life: the file has this size, and zeros beyond it.
func (c *content) settle(size int64) {
	for _, no := range c.dirty {
		p := c.pages[no]
		p.old, p.dirty, p.phantom, p.cut = nil, 0, 0, 0
		if end := size - no*pageSize; end < pageSize {
			clear(p.data[max(0, end):])
		}
	}
	c.dirty = c.dirty[:0]
	c.size, c.hard, c.sizes = size, size, nil
}

// garbage is what a torn write may leave of a sector: noise, or noise behind a true beginning, where bytes
// were to change; what lies before the first and behind the last of them is as it was (powersafe overwrite,
// which SQLite and others assume of disks too: without it no byte of a sector that is written again would be safe).
func garbage(seed uint64, p, old []byte) {
	from, to := 0, len(p)
	for from < to && p[from] == old[from] {
		from++
	}
	for to > from && p[to-1] == old[to-1] {
		to--
	}
	if p = p[from:to]; len(p) == 0 {
		return
	}
	// A generator of its own: how much it draws depends on the bytes, and these may have been drawn by chance.
	rng := rand.New(rand.NewPCG(seed, 0))
	if rng.IntN(2) == 0 {
		p = p[rng.IntN(len(p)):]
	}
	for len(p) > 0 {
		var noise [8]byte
		binary.LittleEndian.PutUint64(noise[:], rng.Uint64())
		p = p[copy(p, noise[:]):]
	}
}
