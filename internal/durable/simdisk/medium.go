package simdisk

// Medium returns a disk of its own, with its own generator, that has what is on this one's medium for certain:
// what CrashLosingAll would leave. This disk notices nothing of it. It is how a disk is looked at while it is in
// use, copied, and set back to an earlier state. Faults, bugs and limits are not copied; the device number
// is seed+1, as New's.
func (d *Disk) Medium(seed uint64) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := New(seed)
	m.clock, m.steps, m.nextNo = d.clock, d.steps, d.nextNo
	copies := map[*node]*node{}
	m.root = d.root.onMedium(copies)
	for _, n := range m.files() {
		m.used += n.size
	}
	return m
}

// onMedium copies a node as the medium has it.
func (n *node) onMedium(copies map[*node]*node) *node {
	if c := copies[n]; c != nil {
		return c
	}
	c := &node{ino: n.ino, mode: n.mode, mtime: n.mtime}
	copies[n] = c
	if n.mode.IsDir() {
		c.names, c.durable = make(map[string]*node, len(n.durable)), make(map[string]*node, len(n.durable))
		for name, child := range n.durable {
			cc := child.onMedium(copies)
			c.names[name], c.durable[name] = cc, cc
		}
		return c
	}
	c.size, c.hard = n.hard, n.hard
	c.pages = make(map[int64]*page, len(n.pages))
	for no, p := range n.pages {
		if no*pageSize >= n.hard {
			continue
		}
		q := &page{data: p.data, old: p.old}
		if p.old != nil {
			q.revert(p.dirty | p.phantom)
		}
		q.old = nil
		if end := n.hard - no*pageSize; end < pageSize {
			clear(q.data[end:])
		}
		c.pages[no] = q
	}
	return c
}

// ByHand runs do, which may call the disk, without faults, failing syncs or a limit, and makes durable what is on
// the disk then: what a person does to a disk from outside. Faults whose step passes meanwhile do not happen.
func (d *Disk) ByHand(do func()) {
	d.mu.Lock()
	faults, syncErr, room := d.faults, d.syncErr, d.room
	d.faults, d.syncErr, d.room = map[int64]fault{}, 0, 0
	d.mu.Unlock()
	do()
	d.mu.Lock()
	d.faults, d.syncErr, d.room = faults, syncErr, room
	d.mu.Unlock()
	d.Sync()
}

// Mend forgets all faults that were asked for, makes syncs succeed and takes the limit away.
func (d *Disk) Mend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults, d.syncErr, d.room = map[int64]fault{}, 0, 0
}

// Number returns the disk's device number.
func (d *Disk) Number() uint64 { return d.dev }
