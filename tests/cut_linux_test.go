package clients

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestPowerCut plays fault 2 (DURABILITY.md) with the real kernel: store and mirror lie on file systems of
// their own, ext4 or xfs, and while clients write both lose their power at once; or one of them dies while
// the server runs. Then the server is killed, both are mounted again, and it starts: the fence opens by
// itself, and nothing acknowledged is lost or altered. From time to time the store is deleted, so that all must come from the
// mirror. With -crash it goes on for that long.
func TestPowerCut(t *testing.T) {
	r := seeded(t)
	s := newSpan(5, 375) // rounds of each kind; seven of ten are cuts of all power
	var cuts, both, acks, healed atomic.Int64
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
					healed.Add(p.healed)
				}
			})
		}
	})
	if cuts.Load() > 0 {
		s.totals(t, "power cuts", both.Load(), "power cuts", cuts.Load()-both.Load(), "disks died under the server", healed.Load(), "times a store healed after that", acks.Load(), "acknowledged writes", 0, "lost", 0, "altered")
	}
}

// powered is one server whose store and mirror lie on disks that lose their power.
type powered struct {
	t                *testing.T
	s                *server
	j                *journal
	disks            []*disk // the store's, the mirror's
	cuts, both, acks int64
	healed           int64 // rounds with an incident report, of disks that died
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

// round is one cut while clients write, and what follows. Mostly it is a power cut: processor and both disks
// stop at the same moment, so the server is stopped first, where it stands. Otherwise one disk dies under
// the server, which goes on: a sync that was under way then may return success for data that is gone (the
// kernel does that, docs/durability.md), so the store may lack what the mirror has, and is healed.
func (p *powered) round(r *rand.Rand) {
	p.t.Helper()
	l := startLoad(p.s, p.j, r, 3, true, 507)
	l.waitAcks(1+r.IntN(25), 120*time.Second)
	known := len(p.incidents())
	p.cuts++
	which := r.IntN(10)
	power := which >= 3
	if power {
		p.both++
		p.s.freeze()
		p.cut(p.disks)
	} else {
		p.cut(p.disks[which%2 : which%2+1])
		if err := p.j.write(p.s.client("bob"), "/dav/bob/Files/after", version{body: "after"}, true); err == nil {
			p.t.Errorf("a write was acknowledged after disk %d of store, mirror was dead", which%2)
		} else if !errors.Is(err, errWait) {
			p.t.Error(err)
		}
	}
	p.s.killOr75()
	l.stop()
	p.acks += l.acks.Load()
	p.unmount()
	p.mount()
	p.s.start()
	p.j.verify(p.t, p.s)
	if now := p.incidents(); power && len(now) != known { // a power cut is an ordinary day: nothing to heal, nothing in doubt
		text, err := os.ReadFile(filepath.Join(p.s.data, "incidents", now[len(now)-1]))
		p.t.Fatalf("after a power cut the server wrote an incident report: %v\n%s%v", now[known:], text, err)
	} else if len(now) != known {
		p.healed++
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

// freeze stops every thread of the server where it stands. One that waits for a disk stops before it can do
// anything with the answer.
func (s *server) freeze() {
	s.t.Helper()
	s.stopThreads()
	s.eventually(10*time.Second, "every thread of the server has stopped", func() error {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.cmd.Process.Pid))
		if err != nil || len(tasks) == 0 {
			return fatalError{fmt.Errorf("no threads: %w", err)}
		}
		for _, task := range tasks {
			stat, err := os.ReadFile(task)
			if err != nil {
				continue // this thread has ended
			}
			_, state, _ := strings.Cut(string(stat), ") ")
			if !strings.HasPrefix(state, "T") && !strings.HasPrefix(state, "D") {
				return fmt.Errorf("a thread is in state %.1s", state)
			}
		}
		return nil
	})
}

func (s *server) stopThreads() {
	s.t.Helper()
	if err := syscall.Kill(-s.cmd.Process.Pid, syscall.SIGSTOP); err != nil {
		s.t.Fatalf("stop the server: %v", err)
	}
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
