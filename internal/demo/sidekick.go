package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"holdfast"
)

// show is one scenario being shown.
type show struct {
	ctx     context.Context
	cfg     Config
	dir     string
	start   time.Time
	journal *journal
	maker   maker
	host    *host
	devices []*device
	reader  *remote // an independent reader of the server
	verdict Verdict

	out sync.Mutex // one line at a time
}

func newShow(ctx context.Context, cfg Config, dir string) *show {
	return &show{
		ctx: ctx, cfg: cfg, dir: dir, start: time.Now(),
		journal: newJournal(), maker: maker{cfg.Seed},
	}
}

func (s *show) close() {
	for _, d := range s.devices {
		d.remote.close()
	}
	if s.reader != nil {
		s.reader.close()
	}
	if s.host != nil {
		s.host.close()
	}
}

// say adds a line to the timeline.
func (s *show) say(format string, args ...any) {
	s.out.Lock()
	defer s.out.Unlock()
	fmt.Fprintf(s.cfg.Out, "%6.1f s  %s\n", time.Since(s.start).Seconds(), fmt.Sprintf(format, args...))
}

func (s *show) problem(format string, args ...any) {
	s.verdict.Problems = append(s.verdict.Problems, fmt.Sprintf(format, args...))
}

// storeRemoved: three devices fill a server and go on writing while its store is deleted.
func (s *show) storeRemoved() error {
	if err := s.open(); err != nil {
		return err
	}
	syncing, stopSync := context.WithCancel(s.ctx)
	defer stopSync()
	var devices sync.WaitGroup
	for _, d := range s.devices {
		devices.Go(func() { d.run(syncing, 250*time.Millisecond) })
	}
	if err := s.fillUp(); err != nil {
		return err
	}
	var people sync.WaitGroup
	for i, d := range s.devices {
		people.Go(func() { s.live(i, d) })
	}
	s.pause(50 * s.cfg.beat)
	w, stopWatch, err := s.disaster()
	if err != nil {
		return err
	}
	people.Wait()
	s.say("The people have stopped writing. Every device finishes its syncs.")
	s.settle()
	stopSync()
	devices.Wait()
	stopWatch()
	s.healed(w)
	s.conclude()
	return nil
}

// open starts the server and signs three devices in.
func (s *show) open() error {
	h, err := newHost(s.ctx, s.dir, s.cfg)
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	s.host = h
	s.say("A new Holdfast server runs at %s; store and mirror are two directories.", h.url)
	if s.cfg.WithoutFence {
		s.say("Its fence is switched off: after a loss it goes on with last night's backup, as other servers do.")
	}
	if s.reader, err = h.remote(); err != nil {
		return err
	}
	for _, name := range []string{"phone", "tablet", "laptop"} {
		d, err := s.newDevice(name)
		if err != nil {
			return err
		}
		s.devices = append(s.devices, d)
	}
	s.say("A phone, a tablet and a laptop of one account found contacts, calendar, to-dos and photos.")
	return nil
}

func (s *show) newDevice(name string) (*device, error) {
	r, err := s.host.remote()
	if err != nil {
		return nil, err
	}
	d := newDevice(name, r, s.journal, s.maker)
	d.tell = s.say
	if err := d.discover(s.ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return d, nil
}

// first is how many things of a kind are there before the disaster approaches; the rest is written around it.
func (s *show) first(k kind) int { return s.cfg.sizes[k] * 4 / 5 }

// owner says on which device thing n of a kind is made and edited.
func (s *show) owner(k kind, n int) int { return (n + int(k)) % len(s.devices) }

// fillUp puts most things on their devices and waits until every device has all of them.
func (s *show) fillUp() error {
	all := 0
	for k := range kinds {
		for n := range s.first(k) {
			s.devices[s.owner(k, n)].write(k, n, 0)
		}
		all += s.first(k)
	}
	s.say("Their people fill them with %d things.", all)
	for shown := time.Now(); !s.everywhere(all); s.pause(20 * time.Millisecond) {
		if s.ctx.Err() != nil {
			return fmt.Errorf("fill %d things (%d acknowledged): %w", all, s.journal.acknowledged(), holdfast.ErrNotDurable)
		}
		if time.Since(shown) > time.Second {
			shown = time.Now()
			s.say("  %s %d acknowledged", bar(s.journal.acknowledged(), all), s.journal.acknowledged())
		}
	}
	s.say("%d contacts, %d events, %d to-dos and %d photos are on the server and on all three devices.",
		s.first(contacts), s.first(events), s.first(todos), s.first(photos))
	return nil
}

func bar(done, all int) string {
	const width = 30
	b := make([]byte, width)
	for i := range b {
		b[i] = '.'
		if i*all < done*width {
			b[i] = '#'
		}
	}
	return string(b)
}

func (s *show) everywhere(all int) bool {
	for _, d := range s.devices {
		if held, dirty := d.total(); held != all || dirty > 0 {
			return false
		}
	}
	return true
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

// live is one person: new things, corrections, now and then a deletion, one act a beat.
func (s *show) live(i int, d *device) {
	type thing struct {
		k kind
		n int
	}
	var fresh, old []thing
	for k := range kinds {
		for n := range s.cfg.sizes[k] {
			switch {
			case s.owner(k, n) != i:
			case n >= s.first(k):
				fresh = append(fresh, thing{k, n})
			case n >= len(s.devices) && k != photos: // the first of each kind stay as they are, for the watch
				old = append(old, thing{k, n})
			}
		}
	}
	r := s.maker.rand(kinds, i, 0)
	r.Shuffle(len(fresh), func(a, b int) { fresh[a], fresh[b] = fresh[b], fresh[a] })
	r.Shuffle(len(old), func(a, b int) { old[a], old[b] = old[b], old[a] })
	for act, t := range fresh {
		d.write(t.k, t.n, 0)
		s.pause(s.cfg.beat)
		if act >= len(old) {
			continue
		}
		switch t := old[act]; {
		case act%15 == 14:
			d.remove(t.k, t.n)
		case d.has(t.k, t.n):
			d.write(t.k, t.n, 1)
		}
		s.pause(s.cfg.beat)
	}
}

// disaster deletes the store and begins to watch.
func (s *show) disaster() (*watch, func(), error) {
	s.say("All three go on writing: %d acknowledged so far.", s.journal.acknowledged())
	c := s.devices[s.owner(contacts, 0)].shelf(contacts)
	if c == nil {
		return nil, nil, fmt.Errorf("find contacts: %w", holdfast.ErrNotFound)
	}
	w := &watch{show: s, path: c.path(s.maker.name(contacts, 0)), status: -1}
	files, size, err := weigh(s.host.storeDir)
	if err != nil {
		return nil, nil, err
	}
	s.say("DISASTER: rm -rf %s/*   (%d files, %.1f MB)", s.host.storeDir, files, float64(size)/1e6)
	w.began = time.Now()
	if err := wipe(s.host.storeDir); err != nil {
		return nil, nil, fmt.Errorf("remove the store: %w", err)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	var g sync.WaitGroup
	g.Go(func() { w.run(ctx, 20*time.Millisecond) })
	return w, func() { cancel(); g.Wait() }, nil
}

// settle waits until every device has synced after now, holds nothing that waits for the server, and
// all hold the same; or until nothing has moved for a while; or until the show's time is nearly over.
func (s *show) settle() {
	const still = 2 * time.Second
	from, moved := time.Now(), time.Now()
	last := ""
	for s.ctx.Err() == nil && time.Since(s.start) < limit-10*time.Second {
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

// healed takes the verdict on the server's return from the watch and from the ledger's own account of it.
func (s *show) healed(w *watch) {
	if w.good.IsZero() {
		return
	}
	heals := s.host.ledger.Status().Heals
	if len(heals) == 0 {
		s.problem("the server never noticed that its store was gone")
		return
	}
	s.verdict.HasHealed, s.verdict.Healed = true, max(0, w.good.Sub(w.began))
	s.say("The server built its store anew from the mirror: %d changes, report in %s.", heals[0].Changes, heals[0].Report)
	for _, d := range s.devices {
		s.say("%-7s was told to wait %d times, saw %d hard errors, started over %d times.", d.name+":", d.waits, d.hard, d.restart)
	}
}

// conclude reads everything again: every device reads its list of collections and syncs twice more, a new
// phone signs in, and all is compared.
func (s *show) conclude() {
	for range 2 {
		for _, d := range s.devices {
			d.sync(s.ctx, true)
		}
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
	s.say("A new phone signed in and got %d things. Comparing everything that was acknowledged.", held)
	s.judge(fresh)
}
