package ledger

import (
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"holdfast/internal/durable/simdisk"
	"holdfast/internal/store/simvfs"
)

var (
	simVerbose = flag.Uint64("sim-seed", 0, "play this schedule of the simulator alone and tell what happens")
	simPlanted = flag.String("sim-bug", "", "with -sim-seed: the planted bug, by its name")
	simCount   = flag.Uint64("sim-schedules", 0, "how many schedules the simulator plays; 0: 2,000 and more for a minute, or 100 with -short")
	simFirst   = flag.Uint64("sim-first", 1, "the first seed")
	simGoOn    = flag.Bool("sim-go-on", false, "go on after a schedule that went wrong")
	simBox     = flag.Duration("sim-box", time.Minute, "how long the simulator plays once it has done its floor; 0: no limit")
)

const (
	simSchedules = 10_000
	simFloor     = 2_000
	simShort     = 40
)

// play runs one schedule in a bubble of its own.
func play(t *testing.T, seed uint64, b simBug) *sim {
	var s *sim
	watch := time.AfterFunc(2*time.Minute, func() { panic(fmt.Sprintf("simulator: seed %d, bug %q hangs", seed, b.name)) })
	defer watch.Stop()
	synctest.Test(t, func(t *testing.T) {
		s = newSim(t, seed, b)
		s.run()
	})
	return s
}

// playAlone runs one schedule while no other runs: what crypto/rand gives comes from the seed too, salts and with them
// hashes, which are in names of files.
func playAlone(t *testing.T, seed uint64, b simBug) (s *sim) {
	t.Helper()
	for _, w := range worlds { // made before, or made by the first schedule
		w()
	}
	t.Run(fmt.Sprint(seed), func(t *testing.T) {
		cryptotest.SetGlobalRandom(t, seed)
		s = play(t, seed, b)
	})
	return s
}

// explain says how a schedule went wrong.
func (s *sim) explain(t *testing.T) {
	t.Helper()
	t.Errorf("seed %d: %v\nplay it alone: go test ./internal/ledger -run '^TestSimulator$' -v -args -sim-seed %d -sim-bug '%s'", s.seed, s.violated, s.seed, s.bug.name)
}

// totals are what all schedules did together.
type totals struct {
	done, cuts, opens, acks, looks, turns, forks, strays, twos atomic.Uint64
}

func (n *totals) add(s *sim) {
	n.done.Add(1)
	n.cuts.Add(uint64(s.cuts))
	n.opens.Add(uint64(s.opens))
	n.acks.Add(uint64(s.acks))
	n.looks.Add(uint64(s.looks))
	n.turns.Add(uint64(s.turns))
	n.forks.Add(uint64(s.forks))
	n.strays.Add(uint64(s.strays))
	if s.opened&3 == 3 {
		n.twos.Add(1)
	}
}

func (n *totals) say(t *testing.T, took time.Duration) {
	t.Helper()
	t.Logf("%d schedules with two servers, %d accounts end closed for a fork, %d schedules for a log that is nobody's", n.twos.Load(), n.forks.Load(), n.strays.Load())
	t.Logf("%d schedules, %d power cuts, the fence opened %d times, %d writes acknowledged, the media looked at %d times, %d turns, %v, %.0f schedules/s",
		n.done.Load(), n.cuts.Load(), n.opens.Load(), n.acks.Load(), n.looks.Load(), n.turns.Load(), took.Round(time.Millisecond), float64(n.done.Load())/took.Seconds())
}

// TestSimulator plays schedules until its box ends or it has played those that are wanted, and never fewer than the
// floor: on a machine that is busy with other things it takes longer.
func TestSimulator(t *testing.T) {
	if *simVerbose != 0 {
		tell(t, *simVerbose)
		return
	}
	want, floor := uint64(simSchedules), uint64(simFloor)
	if testing.Short() {
		want, floor = simShort, simShort
	}
	if *simCount != 0 {
		want, floor = *simCount, *simCount
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	var next atomic.Uint64
	var did totals
	begun := time.Now()
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !t.Failed() || *simGoOn {
				n := next.Add(1)
				if n > want || n > floor && *simBox > 0 && time.Since(begun) > *simBox {
					return
				}
				s := play(t, *simFirst+n-1, simBug{})
				if s.violated != nil {
					s.explain(t)
				}
				did.add(s)
			}
		})
	}
	wg.Wait()
	did.say(t, time.Since(begun))
}

// tell plays one schedule and prints all that happens.
func tell(t *testing.T, seed uint64) {
	var b simBug
	for _, one := range simBugs {
		if one.name == *simPlanted {
			b = one
		}
	}
	s := playAlone(t, seed, b)
	for _, l := range s.tail {
		t.Log(l)
	}
	if s.violated != nil {
		s.explain(t)
	}
}

// The same seed gives the same schedule, to the last step on every disk.
func TestSimulatorRepeats(t *testing.T) {
	n := uint64(40)
	if testing.Short() {
		n = 8
	}
	for seed := uint64(1); seed <= n; seed++ {
		a, b := playAlone(t, seed, simBug{}), playAlone(t, seed, simBug{})
		if a.trace != b.trace || a.turns != b.turns || a.acks != b.acks {
			t.Errorf("seed %d: traces %x and %x differ (%d and %d turns)", seed, a.trace, b.trace, a.turns, b.turns)
		}
	}
}

var simBugs = []simBug{
	{name: "no fsync", disk: simdisk.Bugs{IgnoreSync: true}},
	{name: "no directory fsync", disk: simdisk.Bugs{IgnoreSyncDir: true}},
	{name: "EIO ignored", disk: simdisk.Bugs{IgnoreSyncError: true}},
	{name: "fsync retried after EIO", disk: simdisk.Bugs{RetrySync: true}},
	{name: "store synchronous=NORMAL", vfs: simvfs.Options{LazyLog: true}},
	{name: "no claim", what: noClaim, hideClaims: true},
	{name: "read, then claim", what: readThenClaim},
	{name: "claims checked before the append", what: checkEarly, two: true},
	{name: "claims not checked", what: noCheck},
	{name: "reads do not look at the claims", what: noLease},
	{name: "reads do not look at the durable head", what: noReadCheck},
	{name: "drain only: commit on any head", what: anyHead},
	{name: "served before the tail is shipped", what: serveEarly},
	{name: "refused early", what: refuseEarly},
	{name: "one mirror is enough", what: oneMirrored},
	{name: "one mirror is believed", what: readOne},
	{name: "acknowledged before the mirrors", what: ackEarly},
	{name: "exposed before it is durable", what: exposeEarly},
	{name: "head file ahead", what: eagerHeads},
	{name: "blob after change", what: blobLate},
	{name: "redo twice", what: redo},
	{name: "token ahead is unknown", what: tokenUnknown},
	{name: "absent mirror is new", what: absentIsNew},
	{name: "heal skips an operation", what: healSkips},
	{name: "empty listing for an absent store", what: emptyListing},
}

// TestPlantedBugs proves that the simulator would notice: with each of the bugs, one of the first schedules goes wrong.
func TestPlantedBugs(t *testing.T) {
	const limit = 500
	bugs := simBugs
	if testing.Short() {
		bugs = bugs[:3]
	}
	for _, b := range bugs {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= limit; seed++ {
				if s := play(t, seed, b); s.violated != nil {
					t.Logf("caught by seed %d: %v", seed, s.violated)
					return
				}
			}
			t.Errorf("not caught by %d schedules", limit)
		})
	}
}
