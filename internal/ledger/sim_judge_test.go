package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast"
	"holdfast/internal/durable/simdisk"
	"holdfast/internal/fence"
)

// last is a healthy life: the ledger must open, with everything in it.
func (s *sim) last() {
	s.quiet = true
	s.heal()
	b := s.boxes[0]
	s.log("the last life")
	s.start(b)
	if s.await(b); s.over {
		return
	}
	if s.violated == nil {
		s.judge(b.proc, "the last life")
	}
	if s.violated == nil {
		for _, d := range s.devices {
			s.drive(func() { s.catchUp(d, b.proc) })
		}
	}
	if s.violated == nil && !s.lossy && s.forks == 0 { // an account that stays closed is not refilled
		s.rebuild(b)
	}
}

// await gives a healthy process time to open its fence, and the accounts whose rows were damaged in the life before: the
// scrub proves or repairs them.
func (s *sim) await(b *box) {
	began := time.Now()
	for s.violated == nil {
		s.turn()
		l := b.proc.l
		if b.proc.dead.Load() {
			s.fail("a healthy process ended")
			return
		}
		if l == nil {
			continue
		}
		l.mu.RLock()
		state, reason, mending := l.state, l.reason, 0
		for _, c := range l.shut {
			if c.ofRows() {
				mending++
			}
		}
		l.mu.RUnlock()
		if state == fence.Open && mending == 0 {
			return
		}
		if (reason.Code == fence.TakenOver || reason.Code == fence.ClaimDamaged) && s.rolled {
			s.strays++ // a log was begun in a mirror that was set back at that moment: nobody knows whose it is
			s.over = true
			return
		}
		if time.Since(began) > 20*time.Minute {
			s.fail("a healthy life does not open its fence: %s: %s, %d accounts wait for the scrub", state, reason, mending)
		}
	}
}

// drive lets everybody but the devices go on until what it was given has returned.
func (s *sim) drive(do func()) {
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	for s.violated == nil {
		select {
		case <-done:
			return
		default:
			s.turn()
		}
	}
}

// judge asks a process that must have everything for everything.
func (s *sim) judge(p *proc, when string) {
	for _, a := range []holdfast.AccountID{person, person + 1} {
		s.drive(func() { s.judgeAccount(p, a, when) })
	}
}

func (s *sim) judgeAccount(p *proc, a holdfast.AccountID, when string) {
	floor := s.oracle.floor(a)
	var head holdfast.Head
	got := map[string]holdfast.Hash{}
	err := p.l.View(context.Background(), a, func(v *View) error {
		head = v.Head().Head
		all, err := v.Resources(s.files, "", 10_000)
		for i := range all {
			b, berr := v.Body(&all[i])
			got[all[i].Name] = InlineBody(b).Hash
			err = errors.Join(err, berr)
		}
		return err
	})
	if err != nil && (s.lossy || s.settling(p, a)) {
		return
	}
	if err != nil {
		s.fail("%s: account %s: P1: %v", when, a, err)
		return
	}
	if wrong := s.promise(a, head, floor); wrong != "" {
		s.fail("%s: account %s at %s, floor %s: %s", when, a, head, floor, wrong)
		return
	}
	want := s.oracle.state(head.Hash)
	if len(got) != len(want) {
		s.fail("%s: account %s at %s has %d resources, %d are right", when, a, head, len(got), len(want))
	}
	for name, sum := range want {
		if got[name] != sum {
			s.fail("%s: account %s at %s: wrong body of %s", when, a, head, name)
		}
	}
}

// settling says that an account is closed because a change that was never acknowledged, in the store of a second
// server or in one that was set back, stands against one that was.
func (s *sim) settling(p *proc, a holdfast.AccountID) bool {
	p.l.mu.RLock()
	defer p.l.mu.RUnlock()
	if code := p.l.shut[a].Code; code == fence.Forked || code == fence.Unreadable {
		s.forks++
		return true
	}
	return false
}

// catchUp syncs a device until it has all.
func (s *sim) catchUp(d *device, p *proc) {
	for range 200 {
		before := d.token
		d.sync(p)
		if d.token == before || s.violated != nil {
			return
		}
	}
}

// rebuild restores a new box from one mirror alone: that one must have everything (P6).
func (s *sim) rebuild(b *box) {
	s.kill(b)
	only := s.rng.IntN(len(s.mirrors))
	s.log("only mirror %d is left", only)
	disk := simdisk.New(s.seed<<16 + 0xffff)
	disk.SetBugs(s.bug.disk)
	check(disk.Mkdir("/data", 0o700))
	n := &box{no: 2, data: disk, under: b.under, claims: b.claims}
	s.boxes = append(s.boxes, n)
	old := s.bug.cfg
	s.bug.cfg = func(c *Config) {
		if old != nil {
			old(c)
		}
		c.Mirrors = c.Mirrors[only : only+1]
	}
	p := s.newProc(n)
	s.drive(func() {
		if _, err := Restore(context.Background(), p.cfg, "restored by the simulator", nil); err != nil {
			s.fail("P6: a restore from mirror %d alone: %v", only, err)
		}
	})
	p.vfs.Close()
	if s.violated != nil {
		return
	}
	s.start(n)
	s.await(n)
	if s.violated == nil && !s.over {
		s.judge(n.proc, fmt.Sprintf("P6: a restore from mirror %d alone", only))
	}
}
