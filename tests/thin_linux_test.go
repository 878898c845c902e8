package clients

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestThinDisk plays faults 7 and 8 (DURABILITY.md) with the real kernel: the disk of the store or that of the
// mirror is thinner than it says. Writes reach the page cache, the sync fails with EIO or ENOSPC, and the next sync
// would succeed with the data gone. Meanwhile an answer is true or "wait"; the process ends with 75 or goes
// on. In half of the rounds the server starts again on the same mount, whose page cache shows what the disk
// does not have, goes on acknowledging, and then the power is cut. One disk fails at a time: the loop device
// itself tells now and then that it wrote what it wrote in part (docs/durability.md). In some rounds the file system itself is
// full, and the server goes on without a restart when there is room. Nothing acknowledged is missing.
func TestThinDisk(t *testing.T) {
	r := seeded(t)
	if os.Getuid() != 0 {
		notRun(t, "thin disks", errors.New("loop devices need root"))
		return
	}
	if why := probeDisks(t, "ext4"); errors.Is(why, errCannot) {
		notRun(t, "thin disks", why)
		return
	} else if why != nil {
		t.Fatal(why)
	}
	s := newSpan(6, 70)
	var sum starved
	for done := 0; s.goesOn(done); {
		p := newStarved(t)
		for n := 0; n < 10 && s.goesOn(done); n++ {
			p.round(r, done)
			done++
		}
		p.s.stop()
		p.unmount()
		sum.add(p)
	}
	s.totals(t, "thin disks", sum.thinned, "cycles of a disk that fails to sync", sum.filled, "cycles of a full disk", sum.ended, "exits with 75",
		sum.same, "restarts on the same mount", sum.acks, "acknowledged writes", 0, "lost", 0, "altered")
}

// starved is one server on disks whose room ends.
type starved struct {
	powered
	thins                        []*thin
	thinned, filled, ended, same int
}

func (p *starved) add(o *starved) {
	p.thinned, p.filled, p.ended, p.same = p.thinned+o.thinned, p.filled+o.filled, p.ended+o.ended, p.same+o.same
	p.acks += o.acks
}

func newStarved(t *testing.T) *starved {
	t.Helper()
	root := t.TempDir()
	p := &starved{powered: powered{t: t, j: newJournal()}}
	for _, name := range []string{"store", "mirror"} {
		d, err := newThin(t, filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		p.thins = append(p.thins, d)
		p.disks = append(p.disks, d.disk)
	}
	p.mount()
	p.s = prepareServer(t, filepath.Join(p.disks[0].at, "data"), filepath.Join(p.disks[1].at, "mirror"))
	p.s.start()
	return p
}

// round takes the room of the store's disk or the mirror's; every fourth or fifth fills the file system itself.
func (p *starved) round(r *rand.Rand, n int) {
	p.t.Helper()
	which := p.thins[n%2]
	l := startLoad(p.s, p.j, r, 3, true, 507)
	l.waitAcks(5, 120*time.Second)
	if n%9 == 3 || n%9 == 7 {
		p.full(l, which)
	} else {
		p.thin(l, r, which)
	}
	p.j.verify(p.t, p.s)
}

// full fills a file system and empties it again: the server goes on by itself.
func (p *starved) full(l *load, d *thin) {
	p.t.Helper()
	p.filled++
	ballast := filepath.Join(d.at, "ballast")
	if err := fillTo(ballast, 8<<20); err != nil {
		p.t.Fatal(err)
	}
	p.s.eventually(60*time.Second, "a write is refused", func() error {
		return p.refused("/dav/alice/Files/refused")
	})
	if err := os.Remove(ballast); err != nil {
		p.t.Fatal(err)
	}
	l.waitAcks(10, 120*time.Second)
	p.s.alive()
	l.stop()
	p.acks += l.acks.Load()
}

// fillTo makes a file that takes all the room of its file system but so many bytes.
func fillTo(name string, leave int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return err
	}
	return unix.Fallocate(int(f.Fd()), 0, 0, max(1<<20, int64(st.Bavail)*st.Bsize-leave))
}

// thin takes the room beneath disks until the server has noticed, and gives it back.
func (p *starved) thin(l *load, r *rand.Rand, which *thin) {
	p.t.Helper()
	p.thinned++
	if err := which.shrink(r.Int64N(1 << 20)); err != nil {
		p.t.Fatal(err)
	}
	p.s.eventually(60*time.Second, "a write is refused, or the server ends", func() error { return p.refused("/dav/bob/Files/thin") })
	for range 5 { // what follows the first refusal
		if err := p.refused("/dav/bob/Files/thin"); err != nil && errors.As(err, new(fatalError)) {
			p.t.Error(err)
		}
	}
	select { // a failed sync ends the process at once, a full disk does not
	case <-p.s.exited:
	case <-time.After(200 * time.Millisecond):
	}
	if p.ended75() { // what a supervisor does, on a disk that still has no room
		p.s.launch()
		p.s.eventually(60*time.Second, "the server answers, or ends again", func() error {
			if p.ended75() {
				return nil
			}
			return lost(p.j.look(p.s.client("alice"), "/dav/alice/Files/thin"))
		})
	}
	if err := which.grow(); err != nil {
		p.t.Fatal(err)
	}
	usable := which.usable()
	p.s.killOr75()
	l.stop()
	p.acks += l.acks.Load()
	if usable && r.IntN(2) == 0 {
		p.goOnAndCut(r)
	}
	p.unmount()
	p.mount()
	p.s.start()
}

// goOnAndCut starts the server on the same mount and cuts the power once it has acknowledged more.
func (p *starved) goOnAndCut(r *rand.Rand) {
	p.t.Helper()
	p.same++
	p.s.start()
	p.j.verify(p.t, p.s) // what is seen here counts as acknowledged
	l := startLoad(p.s, p.j, r, 3, true)
	l.waitAcks(1+r.IntN(20), 120*time.Second)
	p.s.freeze()
	p.cut(p.disks)
	p.s.killOr75()
	l.stop()
	p.acks += l.acks.Load()
}

// ended75 reports whether the server has ended by itself, which it may do with code 75 only.
func (p *starved) ended75() bool {
	p.t.Helper()
	select {
	case <-p.s.exited:
		if code := p.s.cmd.ProcessState.ExitCode(); code != 75 {
			p.t.Fatalf("serve ended by itself with code %d, want 75", code)
		}
		p.ended++
		return true
	default:
		return false
	}
}

// refused writes a blob and returns nil if it was not acknowledged.
func (p *starved) refused(path string) error {
	body := make([]byte, 100<<10)
	switch err := p.j.write(p.s.client(accountOf(path)), path, version{body: string(body)}, true, 507); {
	case err == nil:
		return errors.New("it was acknowledged")
	case errors.Is(err, errWait):
		return nil
	default:
		return fatalError{err}
	}
}

// lost returns only an error that says that there was no answer.
func lost(err error) error {
	if err == nil || isLost(err) {
		return err
	}
	if errors.Is(err, errWait) {
		return nil
	}
	return fatalError{err}
}
