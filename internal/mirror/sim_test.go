package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/durable/simdisk"
)

// The log simulator. A schedule is a few lives of one simulated disk between power cuts. In each life up
// to three processes, of which each but the last to claim is an old one that does not know it yet, take turns
// to claim, recover, start a log, append and look at their claim; the turns change between the durable steps of
// one call too. Syncs fail, the disk fills up, processes are killed before any change they make to the disk. What a process recovers must hold all
// that was ever acknowledged or shown, and nothing else than whole batches that some process tried to append.

// bug is one planted bug; the zero value is none.
type bug struct {
	name        string
	disk        simdisk.Bugs
	hooks       hooks
	lateHeader  bool // a segment gets its name before its header is synced
	noCRC       bool // checksums are not looked at
	checkFirst  bool // the claim is looked at before the append, not after
	noCheck     bool // the claim is not looked at
	recoverThen bool // the logs are read before the claim
	eagerHeads  bool // the head file is ahead of what is durable
	needSyncErr bool // only schedules with failing syncs can show it
}

// sim is one schedule.
type sim struct {
	rng     *rand.Rand
	disk    *simdisk.Disk
	bug     bug
	procs   []*proc
	healthy bool // the last life
	turn    bool // a turn inside a turn is under way

	attempts map[key]*attempt // every frame that some process tried to append
	acked    map[holdfast.AccountID][]holdfast.Hash
	batches  int

	syncErr  float64
	cuts     int
	starts   int
	appends  int
	events   uint64
	ended    [8]uint64 // turns by outcome
	violated error
}

// key names a frame.
type key struct {
	account holdfast.AccountID
	seq     holdfast.Seq
	hash    holdfast.Hash
}

// attempt is one frame of a batch.
type attempt struct {
	payload []byte
	batch   int
	size    int // frames in the batch
}

// proc is one process.
type proc struct {
	b       *dir.Dir
	m       *Mirror
	stage   stage
	term    holdfast.Term
	rec     *Recovered
	chain   map[holdfast.AccountID][]holdfast.Hash // what it knows, by seq-1
	heads   heads
	log     *Log
	pending []Frame // appended, the claim not yet looked at
	ackable heads   // acknowledged heads, for the head file
	dead    bool
}

type stage int

const (
	stOpen stage = iota
	stClaim
	stRecover
	stStart
	stReady
)

const simAccounts = 3

// newSim prepares a disk with a mirror on it.
func newSim(seed uint64, b bug) *sim {
	s := &sim{
		rng: rand.New(rand.NewPCG(seed, 42)), disk: simdisk.New(seed), bug: b,
		attempts: map[key]*attempt{}, acked: map[holdfast.AccountID][]holdfast.Hash{},
	}
	bk, err := dir.Create(s.disk, "/mirror", dir.WithSpare(dir.Off))
	if err == nil {
		_, err = create(context.Background(), s.config(bk), testMirrorID)
	}
	if err == nil {
		err = bk.Close()
	}
	if err != nil {
		s.fail("create: %v", err)
	}
	s.disk.Sync()
	s.disk.SetBugs(b.disk)
	if s.rng.IntN(3) == 0 || b.needSyncErr {
		s.syncErr = 0.002 + s.rng.Float64()*0.05
	}
	return s
}

func (s *sim) config(b *dir.Dir) Config {
	return Config{
		Server: testServer, Bucket: b, Name: "sim", SegmentSize: minSegment,
		Now: func() time.Time { return time.UnixMilli(1_800_000_000_000) },
	}
}

func (s *sim) fail(format string, args ...any) {
	if s.violated == nil {
		s.violated = fmt.Errorf(format, args...)
	}
}

// note puts an outcome into the trace.
func (s *sim) note(words ...uint64) {
	for _, w := range words {
		s.events = (s.events ^ w) * 1099511628211
	}
}

// run plays the schedule to its end.
func (s *sim) run() {
	lives := 2 + s.rng.IntN(4)
	for life := 0; life < lives && s.violated == nil; life++ {
		s.life()
		s.procs = nil
		s.disk = s.disk.Crash()
		s.cuts++
	}
	// The last life is a healthy one.
	s.disk.FailSyncs(0)
	s.disk.SetCapacity(0)
	s.healthy = true
	p := &proc{}
	for s.violated == nil && p.stage != stReady {
		s.step(p)
		if p.dead && s.violated == nil {
			s.fail("a healthy start failed")
		}
	}
	if s.violated == nil {
		s.checkAll(p)
	}
	s.note(s.disk.Trace())
}

// life lets processes take turns until the power is cut.
func (s *sim) life() {
	s.disk.FailSyncs(0)
	s.disk.SetCapacity(0)
	if s.starts > 0 { // init and the first start happen on a healthy disk
		s.disk.FailSyncs(s.syncErr)
	}
	turns := 3 + s.rng.IntN(50)
	if s.rng.IntN(4) > 0 {
		s.disk.CrashAt(int64(1 + s.rng.IntN(120)))
	}
	for turn := 0; turn < turns && s.violated == nil && !s.disk.Dead(); turn++ {
		s.procs = slices.DeleteFunc(s.procs, func(p *proc) bool { return p.dead })
		if len(s.procs) == 0 || len(s.procs) < 3 && s.rng.IntN(20) == 0 {
			s.procs = append(s.procs, &proc{})
		}
		if s.rng.IntN(60) == 0 { // the disk fills up, or is cleared
			s.disk.SetCapacity([]int64{0, 200 << 10, 300 << 10, 400 << 10}[s.rng.IntN(4)])
		}
		p := s.procs[s.rng.IntN(len(s.procs))]
		if s.rng.IntN(50) == 0 {
			p.dead = true // killed
			continue
		}
		s.step(p)
		if s.starts > 0 {
			s.disk.FailSyncs(s.syncErr)
		}
	}
}

// step is one turn of a process. An error ends it, as a server ends: it will claim again.
func (s *sim) step(p *proc) {
	if p.dead {
		return
	}
	var err error
	switch p.stage {
	case stOpen:
		err = s.open(p)
	case stClaim:
		err = s.claim(p)
	case stRecover:
		err = s.recover(p)
	case stStart:
		err = s.start(p)
	case stReady:
		err = s.work(p)
	}
	s.note(uint64(p.stage), p.term.Number, s.outcome(err))
	if err != nil {
		p.dead = true
	}
}

// outcomes are the classes of how a turn ends. ErrAbsent and ErrCorrupt come from what a failed sync lost.
var outcomes = []error{nil, holdfast.ErrFenced, holdfast.ErrFatal, holdfast.ErrFull, simdisk.ErrCrashed, errKilled, holdfast.ErrAbsent, holdfast.ErrCorrupt}

// outcome puts an error in a class; text may hold random hashes.
func (s *sim) outcome(err error) uint64 {
	for i, e := range outcomes {
		if errors.Is(err, e) {
			s.ended[i]++
			return uint64(i)
		}
	}
	s.fail("an error that nothing explains: %v", err)
	return 99
}

// between is called between the durable steps of one process's call: another may have its turn.
func (s *sim) between(p *proc) func(string, ...any) {
	return func(string, ...any) {
		if s.turn || len(s.procs) < 2 || s.rng.IntN(4) > 0 {
			return
		}
		s.turn = true
		defer func() { s.turn = false }()
		if q := s.procs[s.rng.IntN(len(s.procs))]; q != p {
			s.step(q)
		}
	}
}

func (s *sim) open(p *proc) error {
	mode := dir.Off
	if s.rng.IntN(2) == 0 {
		mode = dir.InCall
	}
	fsys := &procFS{Disk: s.disk, late: s.bug.lateHeader, renamed: map[string]*bool{}}
	if !s.healthy && s.rng.IntN(3) == 0 {
		fsys.left = 1 + s.rng.IntN(80)
	}
	var err error
	if p.b, err = dir.Open(fsys, "/mirror", dir.WithSpare(mode)); err != nil {
		return err
	}
	if p.m, err = Open(context.Background(), s.config(p.b)); err != nil {
		return err
	}
	p.m.hooks = s.bug.hooks
	p.m.hooks.step = s.between(p)
	if s.bug.noCRC {
		p.m.hooks.object = mendCRC
	}
	p.stage = stClaim
	if s.bug.recoverThen {
		p.stage = stRecover
	}
	return nil
}

func (s *sim) claim(p *proc) error {
	ctx := context.Background()
	terms, err := p.m.Terms(ctx)
	if err != nil {
		return err
	}
	p.term = holdfast.Term{Number: 1, Random: s.rng.Uint64()}
	if n := len(terms); n > 0 {
		p.term.Number += terms[n-1].Term.Number
	}
	if err := p.m.Claim(ctx, p.term, "sim"); err != nil {
		return err
	}
	p.stage = stRecover
	if s.bug.recoverThen {
		p.stage = stStart
	}
	return nil
}

// recover reads the mirror and judges what it says.
func (s *sim) recover(p *proc) error {
	rec, err := p.m.Recover(context.Background())
	if err != nil {
		return err
	}
	if p.chain, err = s.replay(p.m); err != nil {
		return err
	}
	for _, d := range rec.Damage {
		if d.Kind != Torn {
			s.fail("a crash looks like damage: %s", d)
		}
	}
	for a := range holdfast.AccountID(simAccounts) {
		h, chain := rec.Heads[a].Head, p.chain[a]
		if h.Seq != holdfast.Seq(len(chain)) || h.Seq > 0 && chain[h.Seq-1] != h.Hash {
			s.fail("account %s: recovered head %s, replay gives %d changes", a, h, len(chain))
		}
		if w := rec.Witness[a].Head; w != h {
			s.fail("account %s: recovered head %s, witness %s", a, h, w)
		}
	}
	p.rec, p.stage = rec, stStart
	if s.bug.recoverThen {
		p.stage = stClaim
	}
	return nil
}

// replay returns the chains that the mirror gives, and judges them.
func (s *sim) replay(m *Mirror) (map[holdfast.AccountID][]holdfast.Hash, error) {
	chains := map[holdfast.AccountID][]holdfast.Hash{}
	whole := map[int]int{}
	err := m.Replay(context.Background(), func(holdfast.AccountID) holdfast.AccountHead { return holdfast.AccountHead{} }, func(r *Record) error {
		at := s.attempts[key{r.Account, r.Seq, r.Hash}]
		if at == nil || !bytes.Equal(at.payload, r.Payload) {
			s.fail("account %s seq %s was invented", r.Account, r.Seq)
			return nil
		}
		whole[at.batch]++
		if whole[at.batch] == at.size {
			delete(whole, at.batch)
		}
		chains[r.Account] = append(chains[r.Account], r.Hash)
		if holdfast.Seq(len(chains[r.Account])) != r.Seq {
			s.fail("account %s: seq %s is the %dth", r.Account, r.Seq, len(chains[r.Account]))
		}
		return nil
	})
	var differ *holdfast.HeadMismatchError
	if errors.Is(err, holdfast.ErrCorrupt) || errors.As(err, &differ) {
		s.fail("replay after crashes only: %v", err)
	}
	if err != nil {
		return nil, err
	}
	if len(whole) > 0 {
		s.fail("%d batches are there in part", len(whole))
	}
	for a, want := range s.acked {
		if !hasPrefix(chains[a], want) {
			s.fail("account %s: %d changes were acknowledged, %d are there, or others", a, len(want), len(chains[a]))
		}
	}
	return chains, nil
}

func hasPrefix(chain, prefix []holdfast.Hash) bool {
	return len(chain) >= len(prefix) && slices.Equal(chain[:len(prefix)], prefix)
}

func (s *sim) start(p *proc) error {
	ctx := context.Background()
	l, err := p.m.StartLog(ctx, p.term, p.rec.Heads)
	if err != nil {
		return err
	}
	if !s.bug.noCheck && !s.bug.checkFirst {
		if err := p.m.CheckTerm(ctx, p.term); err != nil {
			return err
		}
	}
	p.log, p.heads, p.ackable, p.stage = l, maps.Clone(p.rec.Heads), maps.Clone(p.rec.Heads), stReady
	s.starts++
	for a, chain := range p.chain { // served from now on
		s.acknowledge(a, chain)
	}
	return nil
}

// acknowledge makes a chain part of what must be there for ever.
func (s *sim) acknowledge(a holdfast.AccountID, chain []holdfast.Hash) {
	n := min(len(chain), len(s.acked[a]))
	if !slices.Equal(chain[:n], s.acked[a][:n]) {
		s.fail("account %s: two histories were acknowledged", a)
	}
	if len(chain) > n {
		s.acked[a] = slices.Clone(chain)
	}
}

// work is a turn of a server that serves.
func (s *sim) work(p *proc) error {
	ctx := context.Background()
	if p.pending != nil {
		return s.finish(p)
	}
	switch n := s.rng.IntN(20); {
	case n == 0:
		if s.bug.eagerHeads {
			return p.m.WriteHeads(ctx, p.heads, p.log.Pos()+3)
		}
		return p.m.WriteHeads(ctx, p.ackable, p.log.Pos())
	case n == 1: // an orderly end
		err := errors.Join(p.log.Seal(ctx), p.b.Close())
		p.dead = true
		return err
	}
	if s.bug.checkFirst {
		if err := p.m.CheckTerm(ctx, p.term); err != nil {
			return err
		}
	}
	batch := s.batch(p)
	s.appends++
	if err := p.log.Append(ctx, batch); err != nil {
		return err
	}
	p.pending = batch
	if s.rng.IntN(3) > 0 {
		return s.finish(p)
	}
	return nil // asleep between append and acknowledgement
}

// finish looks at the claim and acknowledges.
func (s *sim) finish(p *proc) error {
	if !s.bug.noCheck && !s.bug.checkFirst {
		if err := p.m.CheckTerm(context.Background(), p.term); err != nil {
			return err
		}
	}
	for i := range p.pending {
		f := &p.pending[i]
		p.chain[f.Account] = append(p.chain[f.Account], f.Hash)
		p.ackable[f.Account] = f.head()
		s.acknowledge(f.Account, p.chain[f.Account])
	}
	p.pending = nil
	return nil
}

// batch makes changes that extend what the process knows.
func (s *sim) batch(p *proc) []Frame {
	s.batches++
	n := 1 + s.rng.IntN(4)
	out := make([]Frame, 0, n)
	for range n {
		a := holdfast.AccountID(s.rng.IntN(simAccounts))
		head := p.heads[a]
		c := frame.Change{
			Account: a, Epoch: 1, Seq: head.Head.Seq + 1, Term: p.term,
			Ops: []frame.Op{{Type: frame.OpPut, Collection: 2, Name: "n", Body: bytes.Repeat([]byte{byte(1 + s.rng.IntN(255))}, s.rng.IntN(3000))}},
		}
		payload, err := c.Encode(nil)
		if err != nil {
			s.fail("encode: %v", err)
			return nil
		}
		hash, err := frame.ChainHash(head.Head.Hash, payload)
		if err != nil {
			s.fail("chain: %v", err)
			return nil
		}
		f := Frame{Account: a, Epoch: 1, Seq: c.Seq, Hash: hash, Term: p.term, Payload: payload}
		p.heads[a] = f.head()
		s.attempts[key{a, f.Seq, hash}] = &attempt{payload, s.batches, n}
		out = append(out, f)
	}
	return out
}

// checkAll runs the full check in the last, healthy life.
func (s *sim) checkAll(p *proc) {
	rep, err := p.m.Check(context.Background(), nil)
	if err != nil {
		s.fail("check: %v", err)
		return
	}
	for _, d := range rep.Damage {
		if d.Kind != Torn && !strings.HasPrefix(d.Object, claimPrefix) {
			s.fail("check after crashes only: %s", d)
		}
	}
}
