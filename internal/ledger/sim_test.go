package ledger

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast"
	"holdfast/internal/durable/simdisk"
	"holdfast/internal/fence"
	"holdfast/internal/store"
	"holdfast/internal/store/simvfs"
)

// The simulator of everything. A schedule is a few lives, between power cuts, of one or two servers with real
// ledger, store (SQLite), mirrors, blobs and head files on simulated disks, and of devices that sync with them. All
// goroutines run in a bubble of virtual time; each of them stops before it touches what others touch, and the
// seed decides who goes on: between the durable steps of a write, while a fence closes, while an old process is
// asleep. Between the steps things happen (sim_events_test.go). What answers promise is judged by the oracle.

// simBug is one planted bug; the zero value is none.
type simBug struct {
	name       string
	what       plant          // in the ledger
	disk       simdisk.Bugs   // in every disk
	vfs        simvfs.Options // in SQLite's settings
	hideClaims bool           // each box sees its own claims only
	cfg        func(*Config)  // of every process
	two        bool           // only a second server can show it: each schedule may have one
}

// sim is one schedule.
type sim struct {
	t       *testing.T
	seed    uint64
	rng     *rand.Rand
	draw    *rand.Rand // random bits of terms
	bug     simBug
	world   *world
	files   holdfast.CollectionID
	oracle  *oracle
	devices []*device
	boxes   []*box
	mirrors []*simdisk.Disk
	images  [][]*simdisk.Disk // earlier states of mirrors
	weather weather
	disks   uint64 // made so far
	skew    time.Duration
	begun   time.Time

	mu       sync.Mutex
	waiting  []*turn
	turns    int
	over     bool // devices end
	cutAlone bool // of this life: the mirrors have power of their own
	quiet    bool // nothing happens any more

	life     int
	cuts     int
	acks     int
	looks    int // at the media
	opens    int
	opened   int          // boxes, as bits
	lost     map[int]bool // copies that lost data since a fence was opened last: mirrors, -1 the store
	losses   int
	lossy    bool // more was lost than is promised to be survived
	rolled   bool // a mirror was set back
	strays   int  // schedules that end closed because nobody knows who began a log
	forks    int  // accounts that stay closed for a fork
	trace    uint64
	tail     []string
	violated error
}

// box is one machine: a disk with a data directory, and the mount points of the mirrors.
type box struct {
	no        int
	data      *simdisk.Disk
	under     *simdisk.Disk // what lies beneath the mount points
	unmounted [3]bool
	claims    []*simdisk.Disk // of simBug.hideClaims
	proc      *proc
	images    []*simdisk.Disk // earlier states of data
	aside     int             // damaged stores in incidents/ when the fence opened with every copy whole
}

// proc is one process.
type proc struct {
	sim      *sim
	no       int
	box      *box
	cfg      Config
	vfs      *simvfs.VFS
	l        *Ledger // set once it is open
	free     bool    // it never waits for its turn
	dead     atomic.Bool
	buried   bool
	parked   int // turns for which it sleeps
	failRead int // the how-manieth read from now fails
	proofAt  int // losses before its last proof
	stop     chan struct{}
	ended    chan struct{}
}

// turn is a goroutine that waits to go on.
type turn struct {
	p    *proc // nil: a device
	what string
	at   int // turns when it began to wait
	late int // it sleeps until then
	c    chan struct{}
}

func (s *sim) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.violated == nil {
		s.violated = fmt.Errorf(format, args...)
	}
}

// note puts an outcome into the trace.
func (s *sim) note(words ...uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range words {
		s.trace = (s.trace ^ w) * 1099511628211
	}
	s.say("%d", words)
}

// say keeps the last lines of what happened, for a person; s.mu is held.
func (s *sim) say(format string, args ...any) {
	if *simVerbose != s.seed {
		return
	}
	s.tail = append(s.tail, fmt.Sprintf("%5d %s ", s.turns, time.Now().Format("15:04:05.000"))+fmt.Sprintf(format, args...))
}

func (s *sim) log(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.say(format, args...)
}

func (s *sim) promise(a holdfast.AccountID, h, floor holdfast.Head) string {
	wrong := s.oracle.promise(a, h, floor)
	if s.lossy && !strings.HasPrefix(wrong, "P4") {
		return ""
	}
	return wrong
}

// floor is the head that a read must be at or above. A server that can reach no mirror goes on serving reads; if
// another one took over meanwhile, they are old. No device deletes because of them: its token would be ahead.
func (s *sim) floor(p *proc, a holdfast.AccountID) holdfast.Head {
	if len(s.boxes) > 1 {
		blind := true
		for i, m := range s.mirrors {
			blind = blind && (p.box.unmounted[i] || m.Dead())
		}
		if blind {
			return holdfast.Head{}
		}
	}
	return s.oracle.floor(a)
}

// newDisk returns a disk like d, with a generator and a device number of its own.
func (s *sim) newDisk(d *simdisk.Disk) *simdisk.Disk {
	s.disks++
	n := d.Medium(s.seed<<16 + s.disks)
	n.SetBugs(s.bug.disk)
	n.SetClock(time.Now)
	if *simVerbose == s.seed {
		n.Observe(func(st simdisk.Step) {
			s.log("disk %d step %d: %s %s %s at %d, %d bytes, %v", n.Number(), st.N, st.Op, st.Name, st.To, st.Offset, st.Size, st.Err)
		})
	}
	return n
}

func newSim(t *testing.T, seed uint64, b simBug) *sim {
	s := &sim{
		t: t, seed: seed, bug: b, rng: rand.New(rand.NewPCG(seed, 1)), draw: rand.New(rand.NewPCG(seed, 2)), lost: map[int]bool{},
	}
	mirrors := []int{1, 1, 1, 2, 2, 3}[s.rng.IntN(6)]
	s.world = worlds[mirrors-1]()
	s.files = s.world.files
	s.oracle = newOracle(s.world.heads)
	under := simdisk.New(0)
	for i, m := range s.world.mirrors {
		s.mirrors, s.images = append(s.mirrors, s.newDisk(m)), append(s.images, nil)
		if err := under.Mkdir(fmt.Sprintf("/m%d", i), 0o700); err != nil {
			s.fail("%v", err)
		}
	}
	s.boxes = []*box{{data: s.newDisk(s.world.data), under: s.newDisk(under), claims: s.ownClaims()}}
	s.boxes[0].under.Sync()
	accounts := []holdfast.AccountID{person, person, person + 1}
	for i := range 2 + s.rng.IntN(3) {
		s.devices = append(s.devices, &device{
			s: s, no: i + 1, rng: rand.New(rand.NewPCG(seed, uint64(10+i))), account: accounts[s.rng.IntN(len(accounts))], local: map[string]holdfast.Hash{},
		})
	}
	s.weather = s.forecast()
	return s
}

// ownClaims copies the claims that are in the mirrors.
func (s *sim) ownClaims() (own []*simdisk.Disk) {
	if !s.bug.hideClaims {
		return nil
	}
	for _, m := range s.mirrors {
		own = append(own, s.newDisk(m))
	}
	return own
}

// gate stops the process until it may go on.
func (p *proc) gate(what string) {
	if !p.free && !p.dead.Load() {
		p.sim.wait(p, what)
	}
}

func (s *sim) wait(p *proc, what string) {
	w := &turn{p: p, what: what, c: make(chan struct{})}
	s.mu.Lock()
	w.at = s.turns
	s.waiting = append(s.waiting, w)
	s.mu.Unlock()
	<-w.c
}

// start begins a process on a box.
func (s *sim) start(b *box) {
	b.proc = s.newProc(b)
	go b.proc.run()
}

// newProc prepares a process.
func (s *sim) newProc(b *box) *proc {
	p := &proc{sim: s, box: b, stop: make(chan struct{}), ended: make(chan struct{})}
	if b.proc != nil {
		p.no = b.proc.no + 1
	}
	v, err := simvfs.Register(&simFS{p}, s.bug.vfs)
	if err != nil {
		check(err)
	}
	p.cfg = Config{
		Dir: "/data", Server: simServer, SegmentSize: simSegment, MinFree: simMinFree, FS: &simFS{p}, vfs: v.Name(), MirrorTimeout: -1,
		Now: func() time.Time { return time.Now().Add(s.skew) }, Notify: p.hears,
		elapsed: func() time.Duration { return time.Since(s.begun) },
		hooks: hooks{
			gate: p.gate, proof: func() { p.proofAt = s.losses }, plant: s.bug.what,
			random: func(b []byte) {
				for i := range b {
					b[i] = byte(s.draw.Uint32())
				}
			},
			store: tuneStore, attempt: s.attempted,
			fault: func(step string) error { p.gate(step); return nil },
		},
	}
	if *simVerbose == s.seed {
		p.cfg.Log = slog.New(slog.NewTextHandler(p, nil))
	}
	for i := range s.mirrors {
		p.cfg.Mirrors = append(p.cfg.Mirrors, MirrorConfig{Name: fmt.Sprintf("m%d", i), Path: fmt.Sprintf("/m%d", i)})
	}
	if s.bug.cfg != nil {
		s.bug.cfg(&p.cfg)
	}
	p.vfs = v
	return p
}

func tuneStore(c *store.Config) { c.Readers, c.CheckTime = 1, -1 }

// run is the life of a process.
func (p *proc) run() {
	defer close(p.ended)
	defer p.vfs.Close()
	p.gate("start")
	l, err := Open(context.Background(), p.cfg)
	if err != nil {
		p.sim.log("box %d process %d does not start: %v", p.box.no, p.no, err)
		p.dead.Store(true)
		return
	}
	p.l = l
	select {
	case <-p.stop:
	case err := <-l.Fatal():
		p.sim.log("box %d process %d ends with 75: %v", p.box.no, p.no, err)
		p.dead.Store(true)
	}
	if err := l.Close(context.Background()); err != nil {
		p.sim.fail("close: %v", err)
	}
}

// Write takes lines of the log.
func (p *proc) Write(b []byte) (int, error) {
	_, line, _ := strings.Cut(string(b), "level=")
	p.sim.log("box %d process %d: %s", p.box.no, p.no, strings.TrimSpace(line))
	return len(b), nil
}

// hears is told by the ledger what people must know.
func (p *proc) hears(e Event) {
	s := p.sim
	if e.Kind == EventFence && e.State == "open" && !e.Bad && !p.dead.Load() {
		s.opens++
		s.opened |= 1 << p.box.no
		if p.proofAt == s.losses {
			clear(s.lost)
			p.box.aside = p.box.setAside()
		}
	}
	s.log("box %d process %d: %s %s", p.box.no, p.no, e.Kind, e.Text)
}

// serving returns a process that a device may ask, or nil.
func (s *sim) serving(rng *rand.Rand) *proc {
	if p := s.boxes[rng.IntN(len(s.boxes))].proc; p != nil && p.l != nil && !p.dead.Load() {
		return p
	}
	return nil
}

// serves says whether it is worth asking anybody.
func (s *sim) serves() bool {
	for _, b := range s.boxes {
		if l := b.proc.l; l != nil && !b.proc.dead.Load() {
			l.mu.RLock()
			state := l.state
			l.mu.RUnlock()
			if state != fence.Closed {
				return true
			}
		}
	}
	return s.turns%8 == 0
}

// kill ends a process as kill -9 does; what it had under way comes to nothing.
func (s *sim) kill(b *box) {
	p := b.proc
	if p == nil || p.buried {
		return
	}
	p.buried = true
	p.dead.Store(true)
	s.end(p)
	synctest.Wait()
	s.letGo(p)
	<-p.ended
}

func (s *sim) end(p *proc) {
	select {
	case <-p.stop:
	default:
		close(p.stop)
	}
}

// letGo releases everything of a dead process.
func (s *sim) letGo(p *proc) {
	for {
		s.mu.Lock()
		n := len(s.waiting)
		for _, w := range s.waiting {
			if w.p == p {
				close(w.c)
			}
		}
		s.waiting = slices.DeleteFunc(s.waiting, func(w *turn) bool { return w.p == p })
		done := n == len(s.waiting)
		s.mu.Unlock()
		synctest.Wait()
		if done {
			return
		}
	}
}

// ready returns who may go on, in an order that does not depend on Go's scheduler.
func (s *sim) ready() []*turn {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortStableFunc(s.waiting, func(a, b *turn) int {
		if c := cmp.Compare(a.at, b.at); c != 0 {
			return c
		}
		return cmp.Compare(a.key(), b.key())
	})
	idle := s.quiet || !s.serves()
	var out []*turn
	for _, w := range s.waiting {
		if w.p == nil && idle && strings.HasPrefix(w.what, "device") || w.p != nil && w.p.parked > s.turns || w.late > s.turns && !s.quiet {
			continue
		}
		out = append(out, w)
	}
	return out
}

func (w *turn) key() string {
	if w.p == nil {
		return w.what
	}
	return fmt.Sprintf("%d/%d %s", w.p.box.no, w.p.no, w.what)
}

// sleeps are how long the clock runs when it is nobody's turn.
var sleeps = []time.Duration{time.Millisecond, 120 * time.Millisecond, time.Second, 2100 * time.Millisecond, 11 * time.Second}

// turn lets one goroutine go on, or the clock, until all have stopped again.
func (s *sim) turn() {
	s.pass()
	synctest.Wait()
}

func (s *sim) pass() {
	synctest.Wait()
	s.mu.Lock()
	s.turns++
	s.mu.Unlock()
	s.reap()
	ready := s.ready()
	busy := slices.ContainsFunc(ready, func(w *turn) bool { return w.p != nil })
	if len(ready) == 0 || !busy && s.rng.IntN(12) == 0 {
		time.Sleep(sleeps[s.rng.IntN(len(sleeps))])
		return
	}
	w := ready[s.rng.IntN(len(ready))]
	if !s.quiet && len(ready) > 1 && s.dawdles(w) {
		return
	}
	s.mu.Lock()
	s.waiting = slices.DeleteFunc(s.waiting, func(v *turn) bool { return v == w })
	s.say("%s", w.key())
	s.mu.Unlock()
	close(w.c)
}

// durableStep says that a goroutine stands between the steps of one write.
func durableStep(what string) bool {
	return what == "publish" || strings.HasPrefix(what, "before ") || strings.HasPrefix(what, "after ")
}

// dawdles lets a goroutine sleep for a while; between the steps of a write sometimes for longer than a proof takes.
func (s *sim) dawdles(w *turn) bool {
	switch {
	case w.late > 0:
		return false // it slept already
	case w.what == "publish" && s.rng.IntN(10) == 0, durableStep(w.what) && s.rng.IntN(25) == 0:
		w.late = s.turns + 50 + s.rng.IntN(700)
	case s.rng.IntN(40) == 0:
		w.late = s.turns + 5 + s.rng.IntN(80)
	}
	return w.late > 0
}

// reap buries the processes that ended by themselves.
func (s *sim) reap() {
	for _, b := range s.boxes {
		if p := b.proc; p != nil && p.dead.Load() && !p.buried {
			s.kill(b)
		}
	}
}

// run plays the schedule to its end.
func (s *sim) run() {
	time.Sleep(26 * 366 * 24 * time.Hour) // to 2026, when the disks were made
	s.begun = time.Now()
	for _, d := range s.devices {
		go d.run()
	}
	lives := 2 + s.rng.IntN(3)
	for s.life = 0; s.life < lives && s.violated == nil; s.life++ {
		s.live()
		s.cut()
	}
	if s.violated == nil {
		s.last()
	}
	s.over = true
	for _, b := range s.boxes {
		s.kill(b)
	}
	s.quiet = false
	s.letGo(nil)
	for _, m := range s.mirrors {
		s.note(m.Trace())
	}
	for _, b := range s.boxes {
		s.note(b.data.Trace())
	}
}
