package ledger

import (
	"flag"
	"testing"
	"testing/synctest"
)

var simVerbose = flag.Uint64("sim-seed", 0, "play this schedule alone and tell what happens")

// play runs one schedule.
func play(t *testing.T, seed uint64, b simBug) *sim {
	var s *sim
	synctest.Test(t, func(t *testing.T) {
		s = newSim(t, seed, b)
		s.run()
	})
	return s
}

func TestSimTry(t *testing.T) {
	for seed := uint64(1); seed <= 50; seed++ {
		if *simVerbose != 0 {
			seed = *simVerbose
		}
		s := play(t, seed, simBug{})
		t.Logf("seed %d: turns %d acks %d opens %d cuts %d", seed, s.turns, s.acks, s.opens, s.cuts)
		if s.violated != nil {
			for _, l := range s.tail {
				t.Log(l)
			}
			t.Fatalf("seed %d: %v", seed, s.violated)
		}
		if *simVerbose != 0 {
			return
		}
	}
}
