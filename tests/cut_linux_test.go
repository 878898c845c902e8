package clients

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestPowerCut plays fault 2 (DURABILITY.md) with the real kernel: store and mirror lie on file systems of
// their own, ext4 or xfs, and while clients write both lose their power at once, sometimes only one of them.
// Then the server is killed, both are mounted again, and it starts: the fence opens by itself, and nothing
// acknowledged is lost or altered. From time to time the store is deleted, so that all must come from the
// mirror. With -crash it goes on for that long.
func TestPowerCut(t *testing.T) {
	r := seeded(t)
	s := newSpan(4, 250) // of each kind
	var cuts, both, acks atomic.Int64
	t.Run("disks", func(t *testing.T) {
		for _, kind := range []string{"ext4", "xfs"} {
			if why := probeDisks(t, kind); errors.Is(why, errCannot) {
				notRun(t, "power cuts on "+kind, why)
				continue
			} else if why != nil {
				t.Fatal(why)
			}
			r := rand.New(rand.NewPCG(r.Uint64(), 4))
			t.Run(kind, func(t *testing.T) {
				t.Parallel() // most of a round is waiting
				for done := 0; s.goesOn(done); {
					p := newPowered(t, kind)
					for n := 0; n < 20 && s.goesOn(done); n++ {
						p.round(r)
						done++
					}
					p.finish()
					cuts.Add(p.cuts)
					both.Add(p.both)
					acks.Add(p.acks)
				}
			})
		}
	})
	if cuts.Load() > 0 {
		s.totals(t, "power cuts", cuts.Load(), "cuts", both.Load(), "of them of both disks", acks.Load(), "acknowledged writes", 0, "lost", 0, "altered")
	}
}

// powered is one server whose store and mirror lie on disks that lose their power.
type powered struct {
	t                *testing.T
	s                *server
	j                *journal
	disks            []*disk // the store's, the mirror's
	cuts, both, acks int64
}

func newPowered(t *testing.T, kind string) *powered {
	t.Helper()
	root := t.TempDir()
	memory := filepath.Join(root, "memory")
	mountSmall(t, memory, "640m")
	p := &powered{t: t, j: newJournal()}
	for _, name := range []string{"store", "mirror"} {
		d, err := newDisk(t, filepath.Join(memory, name), kind)
		if err != nil {
			t.Fatal(err)
		}
		p.disks = append(p.disks, d)
	}
	p.mount()
	p.s = prepareServer(t, filepath.Join(p.disks[0].at, "data"), filepath.Join(p.disks[1].at, "mirror"))
	p.s.start()
	return p
}

func (p *powered) mount() {
	p.t.Helper()
	for _, d := range p.disks {
		if err := d.mount(); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *powered) unmount() {
	p.t.Helper()
	for _, d := range p.disks {
		if err := d.unmount(); err != nil {
			p.t.Fatal(err)
		}
	}
}

// round is one cut while clients write, and what follows.
func (p *powered) round(r *rand.Rand) {
	p.t.Helper()
	l := startLoad(p.s, p.j, r, 3, true, 507)
	l.waitAcks(1+r.IntN(25), 120*time.Second)
	cut := p.disks
	if which := r.IntN(10); which < 2 {
		cut = cut[which : which+1]
	} else {
		p.both++
	}
	p.cut(cut)
	p.cuts++
	if r.IntN(3) == 0 { // the server goes on for a while with disks that are dead
		if err := p.j.write(p.s.client("bob"), "/dav/bob/Files/after", version{body: "after"}, true); err == nil {
			p.t.Errorf("a write was acknowledged after the power of %d of 2 disks was cut", len(cut))
		} else if !errors.Is(err, errWait) {
			p.t.Error(err)
		}
	}
	p.s.killOr75()
	l.stop()
	p.acks += l.acks.Load()
	p.unmount()
	p.mount()
	known := len(p.incidents())
	p.s.start()
	p.j.verify(p.t, p.s)
	if now := p.incidents(); len(now) != known { // a power cut is an ordinary day: nothing to heal, nothing in doubt
		p.t.Errorf("after a power cut of %d of 2 disks the server wrote an incident report: %v", len(cut), now[known:])
	}
	if r.IntN(8) == 0 { // the cut was the last hour of the store's disk
		p.s.kill()
		p.s.healsFromMirror(p.j)
	}
}

func (p *powered) incidents() []string { return dirNames(p.t, filepath.Join(p.s.data, "incidents")) }

// cut takes the power of disks away, as much at the same time as can be.
func (p *powered) cut(disks []*disk) {
	p.t.Helper()
	errs := make([]error, len(disks))
	var group sync.WaitGroup
	for i, d := range disks {
		group.Go(func() { errs[i] = d.cut() })
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		p.t.Fatal(err)
	}
}

// finish deletes the store: all must come from the mirror. Then the disks are given back.
func (p *powered) finish() {
	p.t.Helper()
	p.s.stop()
	p.s.healsFromMirror(p.j)
	p.s.stop()
	p.unmount()
}

// killOr75 kills the server; if it has ended by itself it must have asked to be started again.
func (s *server) killOr75() {
	s.t.Helper()
	select {
	case <-s.exited:
		if code := s.cmd.ProcessState.ExitCode(); code != 75 {
			s.t.Fatalf("serve ended by itself with code %d, want 75", code)
		}
		return
	default:
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // it may have ended by itself just now
	select {
	case <-s.exited:
	case <-time.After(30 * time.Second):
		s.t.Fatal("the server did not end within 30 s of SIGKILL")
	}
}
