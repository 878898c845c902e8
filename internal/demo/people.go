package demo

import (
	"math/rand/v2"
	"sync"
	"time"
)

// thing is one thing that a person makes and edits.
type thing struct {
	k kind
	n int
}

// write has the people write, unless the scenario is a quiet one. It returns once a third of what is new
// was acknowledged; what it returns waits until they have written all of it, and stops them.
func (s *show) write() (stop func()) {
	if s.sc.quiet {
		return func() {}
	}
	before, fresh := s.journal.acknowledged(), 0
	for k := range kinds {
		fresh += s.cfg.sizes[k] - s.first(k)
	}
	var people sync.WaitGroup
	for i, d := range s.devices {
		people.Go(func() { s.live(i, d) })
	}
	s.until(5*time.Second, func() bool { return s.journal.acknowledged() >= before+fresh/3 })
	s.say("people", "write on all three devices; %d things are acknowledged so far", s.journal.acknowledged())
	return sync.OnceFunc(func() {
		close(s.stop)
		people.Wait()
	})
}

// live is one person: new things, corrections, now and then a deletion, one act a beat, until told to
// stop and all that is new is written.
func (s *show) live(i int, d *device) {
	fresh, old := s.things(i)
	revisions := make(map[thing]int)
	for act := 0; act < len(fresh) || !s.enough(); act++ {
		if s.ctx.Err() != nil {
			return
		}
		if act < len(fresh) {
			d.write(fresh[act].k, fresh[act].n, 0)
			s.pause(s.cfg.beat)
		}
		t := old[act%len(old)]
		switch {
		case act%15 == 14:
			d.remove(t.k, t.n)
		case d.has(t.k, t.n):
			revisions[t]++
			d.write(t.k, t.n, revisions[t])
		}
		s.pause(s.cfg.beat)
	}
}

func (s *show) enough() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// things returns what person i has still to make, and what may be edited. The first of each kind stay as
// they are, for the watch.
func (s *show) things(i int) (fresh, old []thing) {
	for k := range kinds {
		for n := range s.cfg.sizes[k] {
			switch {
			case s.owner(k, n) != i:
			case n >= s.first(k):
				fresh = append(fresh, thing{k, n})
			case n >= len(s.devices) && k != photos:
				old = append(old, thing{k, n})
			}
		}
	}
	r := s.maker.rand(kinds, i, 0)
	shuffle(r, fresh)
	shuffle(r, old)
	return fresh, old
}

func shuffle(r *rand.Rand, t []thing) {
	r.Shuffle(len(t), func(a, b int) { t[a], t[b] = t[b], t[a] })
}
