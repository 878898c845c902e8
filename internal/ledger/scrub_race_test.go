package ledger

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// once runs do the first time that a step is reached.
func (r *rig) once(step string, do func()) {
	var once sync.Once
	r.Ledger.fault = func(at string) error {
		if at == step {
			once.Do(do)
		}
		return nil
	}
}

// spoilEnd writes garbage over the last batch of the mirror's log.
func (r *rig) spoilEnd() {
	r.t.Helper()
	names := r.glob(r.cfg.Mirrors[0].Path, "log", "*", "*")
	slices.Sort(names)
	damageFile(r.t, names[len(names)-1], func(b []byte) []byte {
		last := len(bytes.TrimRight(b, "\x00")) - 1 // a batch begins on a page of its own
		for i := last &^ 4095; i <= last; i++ {
			b[i] = byte(i*7 + 1)
		}
		return b
	})
}

// fault 5: garbage hits a change that is in the mirror's file and not acknowledged yet when the lap begins. A lap that
// says that all is healed has put it back too.
func TestScrubChangeUnderWay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 20 {
		r.mustPut(fmt.Sprint("card", i), marked)
	}
	r.once("after append", func() {
		r.spoilEnd()
		must(t, r.Scrub("mirrors", ScrubFull))
		until(t, "the lap knows what it wants", func() bool {
			r.scrub.mu.Lock()
			defer r.scrub.mu.Unlock()
			return slices.ContainsFunc(r.scrub.state.Laps, func(p *lap) bool { return p.Part == partLog && p.Cover != nil })
		})
	})
	r.mustPut("last", marked)
	until(t, "the scrub ends", func() bool { return !r.Status().Scrub.Asked })
	if s := r.Status().Scrub; s.Fault != "" || s.Unhealed > 0 {
		t.Errorf("the lap ended with %+v", s)
	}
	r.restart(func() { must(t, os.RemoveAll(filepath.Join(r.cfg.Dir, "store"))) })
	r.verify()
}

// A session ends while the scrub refills the mirror, and the next one claims it: that is nobody else's claim, and
// what was read in one session is not written in the other.
func TestScrubRefillSessionEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.many(120)
	must(t, os.Remove(r.segments()[1]))
	r.once("before refill", func() {
		before := r.currentTerm()
		r.tell(fmt.Errorf("a test: %w", errAgain))
		until(t, "the next term serves", func() bool { return r.currentTerm() != before && r.Status().State == "open" })
	})
	s := r.scrubAll()
	if s.Unhealed > 0 || r.Status().Conflicts > 0 {
		t.Errorf("after it: unhealed %d, conflicts %d", s.Unhealed, r.Status().Conflicts)
	}
	r.mustPut("after", "it")
	r.replayed()
	r.verify()
}
