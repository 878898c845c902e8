package ledger

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// scrubDamage makes, for each step that a repair writes with, the damage that needs it.
func (r *rig) scrubDamage(step string) {
	r.t.Helper()
	switch step {
	case "refill":
		must(r.t, os.Remove(r.segments()[1]))
	case "rewrite blob":
		must(r.t, os.Remove(r.glob(r.cfg.Dir, "blobs", "*", "*")[0]))
	default: // a page of the store
		r.flip(marked)
	}
}

func (r *rig) glob(parts ...string) []string {
	names, err := filepath.Glob(filepath.Join(parts...))
	must(r.t, err)
	return names
}

// newDamaged is a server with something of everything, whose connections have nothing in memory.
func newDamaged(t *testing.T, step string) *rig {
	r := newRig(t)
	r.many(120)
	r.mustPut("a", marked)
	r.photo("p.jpg")
	r.many(40)
	r.restart(func() {})
	r.scrubDamage(step)
	return r
}

// wholeAgain proves that nothing is missing anywhere.
func (r *rig) wholeAgain(what string) {
	r.t.Helper()
	r.waitOpen()
	s := r.scrubAll()
	if s.Unhealed > 0 {
		r.t.Errorf("%s: unhealed: %+v", what, s.Damage)
	}
	r.verify()
	r.replayed()
	r.restart(func() { must(r.t, os.RemoveAll(filepath.Join(r.cfg.Dir, "store"))) }) // the mirror alone has everything
	r.verify()
}

// Each step with which a repair writes fails before it was done, and after; the process is killed at it. Nothing
// that was whole is damaged by it, and the next scrub ends the work.
func TestScrubStepFails(t *testing.T) {
	for _, step := range []string{"refill", "rewrite blob", "mend", "rewrite pages"} {
		for _, when := range []string{"before ", "after "} {
			for _, cause := range stepCauses() {
				t.Run(fmt.Sprintf("%s%s/%T", when, step, cause), func(t *testing.T) {
					t.Parallel()
					r := newDamaged(t, step)
					image := t.TempDir()
					var once sync.Once
					reached := false
					r.Ledger.fault = func(at string) (err error) {
						if at == when+step {
							once.Do(func() {
								reached, err = true, cause
								must(t, os.CopyFS(filepath.Join(image, "data"), os.DirFS(r.cfg.Dir)))
								must(t, os.CopyFS(filepath.Join(image, "mirror"), os.DirFS(r.cfg.Mirrors[0].Path)))
							})
						}
						return err
					}
					must(t, r.Scrub("", ScrubFull))
					until(t, "the scrub ends", func() bool { return !r.Status().Scrub.Asked })
					if !reached {
						t.Fatalf("the step was never reached: %+v, reports %v", r.Status().Scrub, r.incidents())
					}
					r.wholeAgain("after the error")
					killed := &rig{t: t, cfg: r.cfg, cards: r.cards, acked: r.acked}
					killed.cfg.Dir, killed.cfg.Mirrors = filepath.Join(image, "data"), []MirrorConfig{{"disk2", filepath.Join(image, "mirror")}}
					killed.open()
					killed.wholeAgain("after the kill")
				})
			}
		}
	}
}

// fault 31: somebody rewrites a change of the store, its hash and all hashes after it. The mirror has the true chain:
// nothing of the false one is served as true for long, and nothing of it gets into the mirror.
func TestScrubRewrittenMirror(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.many(60)
	other := newRig(t, func(c *Config) { c.Server = r.cfg.Server }) // the same server id, another history
	other.many(60)
	// A sealed segment of another history of the same server in the place of a true one.
	mine, theirs := r.segments(), other.segments()
	b, err := os.ReadFile(theirs[len(theirs)-1])
	must(t, err)
	must(t, os.Chmod(mine[len(mine)-1], 0o600))
	must(t, os.WriteFile(mine[len(mine)-1], b, 0o600))
	s := r.scrubAll()
	if s.Found == 0 {
		t.Error("a segment of another history was not seen")
	}
	r.waitOpen()
	r.verify()
	r.replayed()
}

func stepCauses() []error {
	causes := []error{errPlanted, &mirrorError{"disk2", errPlanted}}
	if testing.Short() {
		return causes[:1]
	}
	return causes
}
