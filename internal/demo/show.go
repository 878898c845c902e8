package demo

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
)

// show is one scenario being shown.
type show struct {
	ctx       context.Context
	sc        Scenario
	cfg       Config
	dir       string
	start     time.Time
	journal   *journal
	maker     maker
	host      *host // that the devices are to agree with in the end
	second    *host // of two; nil: there is one
	devices   []*device
	neighbour *device // of another account
	day       day     // of both-rolled-back
	reader    *remote // an independent reader of the server
	watch     *watch
	stop      chan struct{} // closed when the people have written enough
	away      absence       // when the mirror was not there
	verdict   Verdict
	told      atomic.Bool // from the disaster on the devices are heard

	out    sync.Mutex      // one line at a time; guards what follows
	heard  map[string]bool // texts of alerts
	alerts map[ledger.EventKind]int
}

// moment is a point of a show at which a test or a lie may do something.
type moment string

const (
	afterDisaster moment = "after the disaster" // what was to be done about it is done, people still write
	beforeVerdict moment = "before the verdict" // every device is at rest
)

func newShow(ctx context.Context, sc Scenario, cfg Config, dir string) *show {
	return &show{
		ctx: ctx, sc: sc, cfg: cfg, dir: dir, start: time.Now(), journal: newJournal(), maker: maker{cfg.Seed},
		stop: make(chan struct{}), heard: make(map[string]bool), alerts: make(map[ledger.EventKind]int), verdict: Verdict{How: sc.returns},
	}
}

func (s *show) close() {
	for _, d := range s.devices {
		d.remote.close()
	}
	if s.reader != nil {
		s.reader.close()
	}
	for _, h := range []*host{s.host, s.second} {
		if h != nil {
			_ = h.close() // its data is temporary or judged already
		}
	}
}

// say adds a line to the timeline: when, who, what.
func (s *show) say(who, format string, args ...any) {
	s.out.Lock()
	defer s.out.Unlock()
	fmt.Fprintf(s.cfg.Out, "%6.1f s  %-10s %s\n", time.Since(s.start).Seconds(), who, fmt.Sprintf(format, args...))
}

// sayOf adds what a device tells. While the server is being filled it is of no interest.
func (s *show) sayOf(who, format string, args ...any) {
	if s.told.Load() {
		s.say(who, format, args...)
	}
}

func (s *show) problem(format string, args ...any) {
	s.verdict.Problems = append(s.verdict.Problems, fmt.Sprintf(format, args...))
}

// play is what all scenarios share: fill the server, let it happen while people write, let the devices
// come to rest, compare.
func (s *show) play() error {
	if err := s.open(); err != nil {
		return err
	}
	stopSync := s.background(func(ctx context.Context) {
		var g sync.WaitGroup
		for _, d := range s.devices {
			g.Go(func() { d.run(ctx, 250*time.Millisecond) })
		}
		g.Wait()
	})
	defer stopSync()
	if err := s.fillUp(); err != nil {
		return err
	}
	for _, do := range s.sc.prepare {
		if err := do(s); err != nil {
			return err
		}
	}
	if err := s.happen(); err != nil {
		return err
	}
	s.settle()
	stopSync()
	s.at(beforeVerdict)
	s.lie()
	s.conclude()
	return nil
}

// happen is the disaster, from the moment people begin to write until they have stopped.
func (s *show) happen() error {
	people := s.write()
	defer people()
	var err error
	if s.watch, err = s.newWatch(); err != nil {
		return err
	}
	defer s.background(func(ctx context.Context) { s.watch.run(ctx, 20*time.Millisecond) })()
	s.told.Store(true)
	for _, do := range s.acts() {
		if err := do(s); err != nil {
			return err
		}
	}
	s.at(afterDisaster)
	s.until(5*time.Second, func() bool { return s.watch.answersTruly() && s.inTouch(s.watch.began) })
	people()
	if !s.sc.quiet {
		s.say("people", "have stopped writing; the devices finish their syncs")
	}
	return s.ctx.Err()
}

func (s *show) acts() []act {
	if s.cfg.WithoutFence {
		return s.sc.unfenced
	}
	return s.sc.disaster
}

// accepted reports that an operator accepts a loss.
func (s *show) accepted() bool { return s.sc.accepts && !s.cfg.WithoutFence }

func (s *show) at(m moment) {
	if s.cfg.plant[m] != nil {
		s.cfg.plant[m](s)
	}
}

// background runs f until the function that it returns is called, which waits for its end.
func (s *show) background(f func(ctx context.Context)) (end func()) {
	ctx, cancel := context.WithCancel(s.ctx)
	var g sync.WaitGroup
	g.Go(func() { f(ctx) })
	return func() { cancel(); g.Wait() }
}

// pause waits without outliving the show.
func (s *show) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.ctx.Done():
	case <-t.C:
	}
}

// until waits for a condition, but no longer than d, and reports whether it came true.
func (s *show) until(d time.Duration, condition func() bool) bool {
	for end := time.Now().Add(d); !condition(); s.pause(10 * time.Millisecond) {
		if s.ctx.Err() != nil || time.Now().After(end) {
			return false
		}
	}
	return true
}

// open starts the server and signs three devices in.
func (s *show) open() error {
	h, err := newHost(s.ctx, s.dir, s.cfg, s.hear)
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	s.host = h
	s.say("server", "a new Holdfast server runs at %s; its store and its mirror are two directories", h.url)
	if s.cfg.WithoutFence {
		s.say("server", "its fence is switched off: it has last night's backup and nothing else, as other servers do")
	}
	if s.reader, err = h.addDevice(s.ctx, account, "a reader"); err != nil {
		return err
	}
	if s.neighbour, err = s.deviceOf(neighbour, neighbour, newJournal()); err != nil {
		return err
	}
	s.neighbour.tell = nil
	s.neighbour.write(contacts, 0, 0)
	s.neighbour.sync(s.ctx, false)
	for _, name := range []string{"phone", "tablet", "laptop"} {
		d, err := s.newDevice(name)
		if err != nil {
			return err
		}
		s.devices = append(s.devices, d)
	}
	s.say("devices", "a phone, a tablet and a laptop of one account sign in and find contacts, calendar, to-dos, photos")
	return nil
}

func (s *show) newDevice(name string) (*device, error) { return s.deviceOf(account, name, s.journal) }

// deviceOf makes a device that has found all collections of its account and has synced nothing.
func (s *show) deviceOf(account, name string, j *journal) (*device, error) {
	r, err := s.host.addDevice(s.ctx, account, name)
	if err != nil {
		return nil, err
	}
	d := newDevice(name, r, j, s.maker)
	d.tell, d.pace = s.sayOf, s.cfg.pace
	if err := d.discover(s.ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

// hear tells of what the server tells its operator, each kind of thing once.
func (s *show) hear(e ledger.Event) {
	if s.cfg.WithoutFence || !s.told.Load() || e.Kind == ledger.EventFence && !e.Bad {
		return
	}
	s.out.Lock()
	known := s.heard[e.Text] || e.Kind == ledger.EventMassChange && s.alerts[e.Kind] > 0
	if e.Kind == ledger.EventFence { // its text tells of files and offsets
		e.Text = "the fence is " + e.State
		known = s.heard[e.Text]
	}
	s.heard[e.Text] = true
	s.alerts[e.Kind]++
	s.out.Unlock()
	switch {
	case known:
	case e.Bad:
		s.say("operator", "gets an alert: %s", clip(e.Text, 110))
	default:
		s.say("operator", "is told: %s", clip(e.Text, 110))
	}
}

// clip shortens a line that was not written for a timeline.
func clip(text string, most int) string {
	r := []rune(text)
	if len(r) <= most {
		return text
	}
	return string(r[:most-3]) + "..."
}

// Where the files of last night are kept.
func (s *show) nightDir(name string) string { return filepath.Join(s.dir, "last-night", name) }

// first is how many things of a kind are there before the disaster approaches; the rest is written around it.
func (s *show) first(k kind) int {
	if s.sc.quiet {
		return s.cfg.sizes[k]
	}
	return s.cfg.sizes[k] * 4 / 5
}

// owner says on which device thing n of a kind is made and edited.
func (s *show) owner(k kind, n int) int { return (n + int(k)) % len(s.devices) }

// fillUp puts most things on their devices and waits until every device has all of them. Half of them are
// there when the files are copied for the night.
func (s *show) fillUp() error {
	var done [kinds]int
	if len(s.sc.prepare) == 0 && (s.sc.night || s.cfg.WithoutFence) {
		if err := s.fillTo(&done, func(k kind) int { return s.first(k) / 2 }); err != nil {
			return err
		}
		if err := s.night(); err != nil {
			return err
		}
	}
	if err := s.fillTo(&done, s.first); err != nil {
		return err
	}
	s.say("devices", "%d contacts, %d events, %d to-dos, %d photos are on the server and on all three",
		s.first(contacts), s.first(events), s.first(todos), s.first(photos))
	return nil
}

func (s *show) fillTo(done *[kinds]int, to func(kind) int) error {
	all := 0
	for k := range kinds {
		for n := done[k]; n < to(k); n++ {
			s.devices[s.owner(k, n)].write(k, n, 0)
		}
		done[k] = to(k)
		all += to(k)
	}
	for shown := time.Now(); !s.everywhere(all); s.pause(20 * time.Millisecond) {
		if s.ctx.Err() != nil {
			return fmt.Errorf("fill %d things (%d acknowledged): %w", all, s.journal.acknowledged(), holdfast.ErrNotDurable)
		}
		if time.Since(shown) > 2*time.Second {
			shown = time.Now()
			s.say("people", "fill them: %d of %d acknowledged", s.journal.acknowledged(), all)
		}
	}
	return nil
}

// night copies all files of the server while it is off.
func (s *show) night() error {
	if err := s.host.switchOff(); err != nil {
		return err
	}
	for name, dir := range map[string]string{"server": s.host.config.Dir, "mirror": s.host.mirrorDir()} {
		if err := copyTree(s.nightDir(name), dir); err != nil {
			return err
		}
	}
	s.say("operator", "last night: the server is off for a moment, its files are copied; there are %d things", s.journal.acknowledged())
	return s.host.switchOn(s.ctx)
}

func (s *show) everywhere(all int) bool {
	for _, d := range s.devices {
		if held, dirty := d.total(); held != all || dirty > 0 {
			return false
		}
	}
	return true
}

// settle waits until every device has synced after now, holds nothing that waits for the server, and
// all hold the same; or until nothing has moved for a while; or until the show's time is nearly over.
func (s *show) settle() {
	still := 2 * time.Minute / s.cfg.pace // of a device
	from, moved := time.Now(), time.Now()
	last := ""
	for s.ctx.Err() == nil && time.Since(s.start) < s.cfg.limit-10*time.Second {
		s.pause(50 * time.Millisecond)
		done, now := s.settled(from)
		if now != last {
			last, moved = now, time.Now()
		}
		if done || time.Since(moved) > still && s.inTouch(moved) {
			return
		}
	}
	s.problem("the devices did not come to rest")
}

// settled reports whether all is done, and what would show that something is still moving.
func (s *show) settled(from time.Time) (done bool, state string) {
	done = s.inTouch(from)
	size := -1
	for _, d := range s.devices {
		held, dirty := d.total()
		done = done && dirty == 0 && (size < 0 || held == size)
		size = held
		state += fmt.Sprint(held, " ", dirty, " ")
	}
	return done, state + fmt.Sprint(s.journal.acknowledged())
}

// inTouch reports whether every device had a whole sync that began after t.
func (s *show) inTouch(t time.Time) bool {
	for _, d := range s.devices {
		if !d.syncedSince(t) {
			return false
		}
	}
	return true
}

// conclude asks what the scenario expects and reads everything again: every device reads its list of
// collections and syncs twice more, a new phone signs in, and all is compared.
func (s *show) conclude() {
	if !s.cfg.WithoutFence {
		for _, expected := range s.sc.expected() {
			if p := expected(s); p != "" {
				s.problem("%s", p)
			}
		}
	}
	for range 2 {
		for _, d := range s.devices {
			d.sync(s.ctx, true)
		}
	}
	for _, d := range s.devices {
		s.verdict.Refused += int(d.remote.refused.Load())
	}
	fresh, err := s.newDevice("new phone")
	if err != nil {
		s.problem("new phone: cannot sign in: %v", err)
		s.judge()
		return
	}
	defer fresh.remote.close()
	fresh.sync(s.ctx, false)
	held, _ := fresh.total()
	s.say("new phone", "with nothing on it signs in and gets %d things; now all is compared", held)
	s.judge(fresh)
}
