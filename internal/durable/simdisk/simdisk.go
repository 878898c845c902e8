// Package simdisk is a file system in memory that forgets, as a real one may, what was not synced.
//
// It is deterministic: the same seed and the same calls give the same outcome, crash after crash. It starts no
// goroutine and reads no clock; a file's time is the number of steps taken, in milliseconds since 2026.
//
// The model, after a power cut (Crash):
//   - each 512-byte sector written since its file's last Sync is kept, lost (what the medium had before
//     comes back) or garbage where it changed, independently of all others; the size is any that the file had since;
//   - a file that was made smaller since its last Sync has its old size and what lay there, or the new size;
//   - each create, rename, remove and mkdir since its directory's last SyncDir may be undone: by a journal that
//     lost its end, by directories that lost theirs, or name by name; a rename inside a directory happens or
//     not, one between directories may leave both names, never none;
//   - what was synced is there.
//
// A Sync that fails leaves the pages clean, as Linux does: reads still show the data, the next Sync says nil, and
// the medium may never have had it. DropCache shows what the medium has. A SyncDir that fails leaves some of the
// directory's changes in the same state.
//
// Every call that changes something or syncs is a step, numbered from 1 over all lives of a disk. Faults are
// asked for by step (Inject), by chance (FailSyncs) or by room (SetCapacity). Bugs makes the disk lie, to
// prove that a test would notice.
package simdisk

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"holdfast/internal/durable"
)

// Sector is the unit, in bytes, that reaches the medium whole or not at all.
const Sector = 512

// ErrCrashed is returned by everything after the power was cut, until Crash gives the disk that survived.
var ErrCrashed = errors.New("the power is cut")

// Fault says how a step fails.
type Fault uint8

// The faults.
const (
	FailBefore Fault = iota + 1 // nothing is done and the error returned; a Sync loses what it should have written
	FailAfter                   // all is done and the error returned
	CrashAt                     // done or not, by chance; ErrCrashed from this step on
	CrashAfter                  // done, nil is returned; ErrCrashed from the next call on
)

// Bugs are lies that a disk, or a careless writer, could tell. All off is a true disk.
type Bugs struct {
	IgnoreSync      bool // File.Sync does nothing
	IgnoreSyncDir   bool // SyncDir does nothing
	IgnoreSyncError bool // a File.Sync or SyncDir that failed says nil
	RetrySync       bool // a File.Sync that failed is tried again until it says nil
	IgnoreExclusive bool // Rename without replace replaces
}

// Step is one numbered call, for golden traces.
type Step struct {
	N      int64
	Op     string // create, write, truncate, allocate, chmod, sync, rename, remove, mkdir, syncdir
	Name   string // for rename: from
	To     string // for rename
	Offset int64  // write
	Size   int64  // write: bytes; truncate, allocate: the new size
	Err    error
}

// Disk is one life of a simulated disk. Its methods are safe concurrently, but only calls in a
// reproducible order give reproducible outcomes.
type Disk struct {
	mu      sync.Mutex
	rng     *rand.Rand
	bugs    Bugs
	faults  map[int64]fault // by step
	next    func(Step) bool // of FailNext
	nextErr error
	syncErr float64
	observe func(Step)
	clock   func() time.Time
	room    int64 // bytes; 0 = no limit
	used    int64

	steps  int64
	trace  uint64
	dead   bool
	nextNo uint64 // inode numbers
	dev    uint64
	root   *node
	log    []*op // changes of names that are not durable, in order
}

type fault struct {
	kind Fault
	err  error
}

var _ durable.FS = (*Disk)(nil)

// New returns an empty disk; "/" is its root and relative names begin there. Its device number is seed+1.
func New(seed uint64) *Disk {
	d := &Disk{rng: rand.New(rand.NewPCG(seed, 0x686f6c6466617374)), faults: map[int64]fault{}, dev: seed + 1}
	d.root = d.newNode(fs.ModeDir | durable.DirPerm)
	return d
}

// Inject makes step n fail. err is what the step returns; nil is EIO. A File.Sync or SyncDir that fails so
// wraps ErrFatal as a real one does.
func (d *Disk) Inject(n int64, f Fault, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		err = syscall.EIO
	}
	d.faults[n] = fault{f, err}
}

// FailNext makes the next step for which match is true fail with err, as Inject with FailBefore does. match must not
// call the disk.
func (d *Disk) FailNext(match func(Step) bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next, d.nextErr = match, err
}

// CrashAt cuts the power at the n-th step from now (1 is the next).
func (d *Disk) CrashAt(n int64) {
	d.mu.Lock()
	at := d.steps + n
	d.mu.Unlock()
	d.Inject(at, CrashAt, nil)
}

// FailSyncs makes each File.Sync and SyncDir fail with EIO with probability p.
func (d *Disk) FailSyncs(p float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncErr = p
}

// SetCapacity bounds the bytes of all files together; beyond it is ENOSPC. 0 is no bound.
func (d *Disk) SetCapacity(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = bytes
}

// SetBugs switches lies on and off.
func (d *Disk) SetBugs(b Bugs) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bugs = b
}

// SetClock gives changes the times of a clock, instead of their steps.
func (d *Disk) SetClock(now func() time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clock = now
}

// Observe calls fn after each step, with the disk locked: fn must not call the disk.
func (d *Disk) Observe(fn func(Step)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.observe = fn
}

// Steps returns how many steps were taken, over all lives.
func (d *Disk) Steps() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.steps
}

// Rand returns a number below n from the disk's own generator, so that a test needs no second seed.
func (d *Disk) Rand(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(n)
}

// Trace returns a hash over all steps and crashes so far, over all lives: kinds, names, offsets, sizes and
// outcomes, not the bytes written.
func (d *Disk) Trace() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.trace
}

// Dead says whether the power is cut.
func (d *Disk) Dead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

// FreeBytes returns the room that is left, or a large number without a limit.
func (d *Disk) FreeBytes(string) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return 0, ErrCrashed
	}
	if d.room == 0 {
		return 1 << 50, nil
	}
	return max(0, d.room-d.used), nil
}

// step runs one numbered call: do changes something. It is called with the lock held.
func (d *Disk) step(s Step, do func() error) error {
	if d.dead {
		return ErrCrashed
	}
	d.steps++
	s.N = d.steps
	f, faulty := d.faults[d.steps]
	if faulty {
		delete(d.faults, d.steps)
	} else if d.next != nil && d.next(s) {
		f, faulty, d.next = fault{FailBefore, d.nextErr}, true, nil
	}
	switch {
	case !faulty:
		s.Err = do()
	case f.kind == FailBefore:
		s.Err = f.err
	case f.kind == FailAfter:
		if s.Err = do(); s.Err == nil {
			s.Err = f.err
		}
	case f.kind == CrashAt:
		if d.rng.IntN(2) == 0 {
			_ = do()
		}
		d.dead, s.Err = true, ErrCrashed
	case f.kind == CrashAfter:
		s.Err = do()
		d.dead = true
	}
	d.note(s)
	if d.observe != nil {
		d.observe(s)
	}
	return s.Err
}

// note adds a step to the trace.
func (d *Disk) note(s Step) {
	d.mix(uint64(s.N), uint64(s.Offset), uint64(s.Size))
	for _, str := range [...]string{s.Op, s.Name, s.To} {
		d.mixString(str)
	}
	if s.Err != nil {
		d.mix(1)
	}
}

// mix is FNV-1a over words; it is called for every step and must be cheap.
func (d *Disk) mix(words ...uint64) {
	for _, w := range words {
		d.trace = (d.trace ^ w) * 1099511628211
	}
}

// mixString leaves out numbers of 8 and more hexadecimal digits: ids and hashes in names are drawn by chance.
func (d *Disk) mixString(s string) {
	h := uint64(14695981039346656037)
	for i := 0; i < len(s); i++ {
		n := i
		for n < len(s) && (s[n] >= '0' && s[n] <= '9' || s[n] >= 'a' && s[n] <= 'f') {
			n++
		}
		if n-i >= 8 {
			i = n - 1
			continue
		}
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	d.mix(h)
}

// node is a file or a directory.
type node struct {
	ino   uint64
	mode  fs.FileMode
	mtime int64 // nanoseconds since epoch

	// A directory's names: as seen, and as on the medium.
	names, durable map[string]*node

	// A file's content: see content.go.
	content
	links int // names that are seen; the room of a file without any is free
}

func (d *Disk) newNode(mode fs.FileMode) *node {
	d.nextNo++
	n := &node{ino: d.nextNo, mode: mode, mtime: d.now()}
	if mode.IsDir() {
		n.names, n.durable = map[string]*node{}, map[string]*node{}
	}
	return n
}

// epoch is the time of step 0.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (d *Disk) info(n *node) durable.Info {
	return durable.Info{Size: n.size, Mode: n.mode, Dev: d.dev, Ino: n.ino, Modified: epoch.Add(time.Duration(n.mtime))}
}

// now is the time that a change gets, in nanoseconds since epoch; no two steps get the same.
func (d *Disk) now() int64 {
	if d.clock == nil {
		return d.steps * int64(time.Millisecond)
	}
	return d.clock().Sub(epoch).Nanoseconds() + d.steps
}

// find walks to a name.
func (d *Disk) find(name string) (*node, error) {
	n := d.root
	for rest := clean(name)[1:]; rest != ""; {
		var seg string
		seg, rest, _ = strings.Cut(rest, "/")
		if !n.mode.IsDir() {
			return nil, syscall.ENOTDIR
		}
		if n = n.names[seg]; n == nil {
			return nil, syscall.ENOENT
		}
	}
	return n, nil
}

// parent walks to the directory of a name and returns the last segment too.
func (d *Disk) parent(name string) (*node, string, error) {
	dir, base := path.Split(clean(name))
	n, err := d.find(dir)
	switch {
	case err != nil:
		return nil, "", err
	case !n.mode.IsDir():
		return nil, "", syscall.ENOTDIR
	case base == "":
		return nil, "", syscall.EINVAL
	}
	return n, base, nil
}

func clean(name string) string {
	if name == "" || name[0] != '/' {
		name = "/" + name
	}
	return path.Clean(name)
}
