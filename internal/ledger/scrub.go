package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/fence"
	"holdfast/internal/mirror"
	"holdfast/internal/store"
)

// How often a scrub begins anew, and how long one may take: within these times everything was read.
const (
	lapEvery  = 24 * time.Hour      // a small server is read every day
	lapBound  = 6 * 24 * time.Hour  // rows and logs are promised in 7 days
	blobBound = 26 * 24 * time.Hour // blobs in 30
	saveEvery = time.Minute         // a kill costs this much reading again
)

// ScrubMode says how a scrub that somebody asks for reads.
type ScrubMode string

// The modes.
const (
	ScrubOn   ScrubMode = ""     // goes on where the last one stopped, at the configured rate
	ScrubNow  ScrubMode = "now"  // goes on where the last one stopped, as fast as it can
	ScrubFull ScrubMode = "full" // from the beginning, as fast as it can
)

// scrubber reads all copies again and again, and heals what it finds damaged from one that is whole. It
// has two lanes, each a goroutine: rows and logs, and blobs. What it copies it verifies first, so damage
// never spreads. Its own state (DIR/scrub) may be lost: it costs reading again.
type scrubber struct {
	l    *Ledger
	wake [2]chan struct{} // one for each lane: there is something to do, or a pause is over

	mu       lock                        // guards all below
	suspects map[holdfast.AccountID]bool // whose rows met a reader or a writer with damage
	state    scrubState
	saved    time.Time
	asked    map[string]ScrubMode // laps that somebody asked for, by name
	doing    map[string]bool      // laps that are being read
	always   bool                 // not only when somebody asks
	faults   map[string]error     // why the last lap of a part ended early, by name
}

func newScrubber(l *Ledger) *scrubber {
	st, why := readScrub(l.cfg)
	if why != nil {
		l.log.Warn("scrub begins anew", "err", why)
	}
	s := &scrubber{
		l: l, mu: newLock(), state: *st, asked: map[string]ScrubMode{}, doing: map[string]bool{}, faults: map[string]error{},
		suspects: map[holdfast.AccountID]bool{},
	}
	for i := range s.wake {
		s.wake[i] = make(chan struct{}, 1)
	}
	return s
}

// run reads until ctx ends.
func (s *scrubber) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { s.lane(ctx, 0) })
	wg.Go(func() { s.lane(ctx, 1) })
	wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.state.Laps) == 0 {
		return
	}
	if err := s.save(); err != nil {
		s.l.log.Warn("scrub", "err", err)
	}
}

// parts names what a lane reads: the store first, so that what mirrors are compared with is good.
func (s *scrubber) parts(lane int) (parts []*lap) {
	mirrors := s.l.mirrorNames()
	s.mu.Lock()
	defer s.mu.Unlock()
	of := func(copyName, part string) { parts = append(parts, s.state.lap(copyName, part)) }
	if lane == 0 {
		of(storeCopy, partRows)
	} else {
		of(storeCopy, partBlobs)
	}
	for _, m := range mirrors {
		if lane == 0 {
			of(m, partLog)
		} else {
			of(m, partBlobs)
		}
	}
	return parts
}

// lane reads its parts, one after the other, whenever they are due or asked for.
func (s *scrubber) lane(ctx context.Context, lane int) {
	for ctx.Err() == nil {
		p, wait := s.next(lane)
		if p == nil {
			s.idle(ctx, lane, wait)
			continue
		}
		err := s.lapOf(ctx, lane, p)
		s.ended(p, err)
		if err != nil && ctx.Err() == nil {
			s.l.log.Warn("scrub stopped", "copy", p.Copy, "part", p.Part, "err", err)
			s.rest(ctx, lane)
		}
	}
}

// rest waits after a lap that could not be finished, unless somebody asked for another.
func (s *scrubber) rest(ctx context.Context, lane int) {
	for _, p := range s.parts(lane) {
		s.mu.Lock()
		_, asked := s.asked[p.name()]
		s.mu.Unlock()
		if asked {
			return
		}
	}
	s.idle(ctx, lane, time.Minute)
}

// next returns the lap that is due, or how long there is none.
func (s *scrubber) next(lane int) (*lap, time.Duration) {
	parts := s.parts(lane)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range parts {
		if _, ok := s.asked[p.name()]; ok {
			return p, 0
		}
	}
	if !s.always {
		return nil, lapEvery
	}
	wait := lapEvery
	for _, p := range parts {
		due := p.From.Add(lapEvery).Sub(s.l.now())
		if !p.Began.IsZero() || due <= 0 {
			return p, 0
		}
		wait = min(wait, due)
	}
	return nil, wait
}

// idle waits until there may be something to do.
func (s *scrubber) idle(ctx context.Context, lane int, d time.Duration) {
	t := time.NewTimer(max(d, time.Millisecond))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-s.wake[lane]:
	}
}

// ended notes how a lap went. One that was asked for is not tried again by itself.
func (s *scrubber) ended(p *lap, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.faults, p.name()); err != nil {
		s.faults[p.name()] = err
	}
	if len(s.suspects) == 0 || p.Part != partRows {
		delete(s.asked, p.name())
	}
	delete(s.doing, p.name())
	if err := s.save(); err != nil {
		s.l.log.Warn("scrub", "err", err)
	}
}

// KeepScrubbing has all copies read from now on, again and again, at the configured rate. Without it
// only Scrub reads.
func (l *Ledger) KeepScrubbing() {
	l.scrub.mu.Lock()
	l.scrub.always = true
	l.scrub.mu.Unlock()
	l.scrub.wakeAll()
}

func (s *scrubber) wakeAll() {
	for _, c := range s.wake {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Scrub asks for a reading of all copies, or of one sort of part only: "store", "mirrors" or "blobs". It returns
// at once; Status tells how far it is. ErrInvalid: only is none of these.
func (l *Ledger) Scrub(only string, mode ScrubMode) error {
	s := l.scrub
	found := false
	for lane := range s.wake {
		for _, p := range s.parts(lane) {
			fits := only == "" || only == "blobs" && p.Part == partBlobs || only == storeCopy && p.Part == partRows || only == "mirrors" && p.Part == partLog
			if !fits {
				continue
			}
			found = true
			s.mu.Lock()
			s.asked[p.name()] = mode
			if mode == ScrubFull && !s.doing[p.name()] {
				p.Began = time.Time{}
			}
			s.mu.Unlock()
		}
	}
	s.wakeAll()
	if !found {
		return fmt.Errorf("scrub of %q only: %w", only, holdfast.ErrInvalid)
	}
	return nil
}

// lapOf reads one part to its end. A session that ends meanwhile only makes it wait.
func (s *scrubber) lapOf(ctx context.Context, lane int, p *lap) error {
	s.begin(p)
	for {
		c, err := s.l.openCopies(ctx)
		if err != nil {
			return err
		}
		read := s.scrubBlobs
		switch p.Part {
		case partRows:
			read = s.scrubRows
		case partLog:
			read = s.scrubLog
		}
		err = read(ctx, p, c, &pacer{s: s, lane: lane, lap: p})
		if err == nil {
			s.complete(p)
			return nil
		}
		if errors.Is(err, errReread) {
			s.again(p)
			continue
		}
		if ctx.Err() != nil || s.l.currentTerm() == c.term && !errors.Is(err, holdfast.ErrFenced) && !errors.Is(err, errStoreGone) {
			return fmt.Errorf("scrub %s: %w", p.name(), err)
		}
	}
}

// errReread says that a lap found damage that only a reading of everything, at once, can judge.
var errReread = errors.New("all is to be read again")

// again begins a lap anew, as fast as it can.
func (s *scrubber) again(p *lap) {
	s.mu.Lock()
	p.Began = time.Time{}
	s.asked[p.name()] = ScrubFull
	s.mu.Unlock()
	s.begin(p)
}

func (s *scrubber) begin(p *lap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.l.now().UTC()
	s.doing[p.name()] = true
	if p.Began.IsZero() {
		p.Began, p.Cursor, p.Bytes, p.Total, p.Cover = now, "", 0, 0, nil
	}
	p.since, p.at = now, p.Bytes
}

// complete ends a lap. What it did not find again, of its own part, is healed.
func (s *scrubber) complete(p *lap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.Total = p.Bytes
	p.Last, p.From = s.l.now().UTC(), p.Began
	s.state.Damage = slices.DeleteFunc(s.state.Damage, func(d ScrubDamage) bool {
		gone := d.Copy == p.Copy && d.Part == p.Part && d.At.Before(p.Began)
		if gone {
			s.state.Healed++
		}
		return gone
	})
	p.Began, p.Cursor, p.Cover = time.Time{}, "", nil
}

// moved keeps how far a lap is.
func (s *scrubber) moved(p *lap, cursor string, left int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cursor != "" {
		p.Cursor = cursor
	}
	p.Total = p.Bytes + left
	if s.l.now().Sub(s.saved) < saveEvery {
		return
	}
	if err := s.save(); err != nil {
		s.l.log.Warn("scrub", "err", err)
	}
}

// copies is what a served session has, for a scrub.
type copies struct {
	session *session
	term    holdfast.Term
	db      *sharedStore
	mirrors []*mirror.Mirror
	logs    []*mirror.Log
	paths   *paths
}

// openCopies waits until the fence is open and returns the copies.
func (l *Ledger) openCopies(ctx context.Context) (*copies, error) {
	for {
		l.mu.RLock()
		state, changed := l.state, l.changed
		c := &copies{term: l.term, db: l.db, paths: l.paths}
		ss := l.session
		l.mu.RUnlock()
		if state == fence.Open && c.db != nil && ss != nil {
			c.session = ss
			c.mirrors, c.logs = ss.live()
			return c, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// mirrorNames returns the names of the mirrors that count.
func (l *Ledger) mirrorNames() (names []string) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, m := range l.info {
		names = append(names, m.Name)
	}
	return names
}

// read gives fn one snapshot of the store. It must be short: a store that is being closed waits for it.
func (c *copies) read(ctx context.Context, fn func(r *store.Reader) error) error {
	if !c.db.acquire() {
		return fmt.Errorf("store is being closed: %w", holdfast.ErrFenced)
	}
	defer c.db.release()
	r, err := c.db.Read(ctx)
	if err != nil {
		return err
	}
	return errors.Join(fn(r), r.Close())
}

// mirror returns the mirror of a name and its log.
func (c *copies) mirror(name string) (*mirror.Mirror, *mirror.Log, error) {
	for i, m := range c.mirrors {
		if m.Name() == name {
			return m, c.logs[i], nil
		}
	}
	return nil, nil, fmt.Errorf("mirror %s is not in use: %w", name, holdfast.ErrAbsent)
}

// pacer slows reading down to the rate, and counts it.
type pacer struct {
	s    *scrubber
	lane int
	lap  *lap
	owed time.Duration
	last time.Time
	buf  []byte // for bodies
}

// buffer returns memory for one body at a time.
func (p *pacer) buffer() []byte {
	if p.buf == nil {
		p.buf = make([]byte, scrubBuffer)
	}
	return p.buf
}

// pay waits until n more bytes may be read. Whoever is in a hurry does not wait.
func (p *pacer) pay(ctx context.Context, n int64) error {
	p.s.mu.Lock()
	p.lap.Bytes += n
	rate := p.rate()
	p.s.mu.Unlock()
	if err := ctx.Err(); err != nil || rate == 0 {
		return err
	}
	now := time.Now()
	if !p.last.IsZero() {
		p.owed = max(0, p.owed-now.Sub(p.last))
	}
	p.last = now
	p.owed += time.Duration(float64(n) / float64(rate) * float64(time.Second))
	if p.owed > 100*time.Millisecond {
		p.s.idle(ctx, p.lane, p.owed)
	}
	return ctx.Err()
}

// rate returns bytes a second, 0 for no bound: the configured rate, or what it takes to be done in time.
func (p *pacer) rate() int64 {
	if mode, ok := p.s.asked[p.lap.name()]; ok && mode != ScrubOn || p.s.l.cfg.ScrubRate <= 0 {
		return 0
	}
	bound := lapBound
	if p.lap.Part == partBlobs {
		bound = blobBound
	}
	bound /= time.Duration(1 + len(p.s.l.cfg.Mirrors)) // the parts of a lane are read one after the other
	return max(p.s.l.cfg.ScrubRate, p.lap.Total/int64(bound/time.Second))
}

// reader reads through the pacer.
type pacedReader struct {
	ctx  context.Context
	r    io.Reader
	pace *pacer
}

func (p *pacedReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if perr := p.pace.pay(p.ctx, int64(n)); perr != nil {
		return n, perr
	}
	return n, err
}
