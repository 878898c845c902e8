package ledger

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// scrubAll reads everything and waits for the end.
func (r *rig) scrubAll() *ScrubStatus {
	r.t.Helper()
	must(r.t, r.Scrub("", ScrubFull))
	until(r.t, "the scrub ends", func() bool { return !r.Status().Scrub.Asked })
	s := r.Status().Scrub
	if s.Fault != "" {
		r.t.Fatalf("scrub ended early: %s", s.Fault)
	}
	return s
}

// many writes n cards, which fill several segments.
func (r *rig) many(n int) {
	r.t.Helper()
	body := strings.Repeat("x", 30_000)
	for i := range n {
		r.mustPut("card"+string(rune('a'+i%26))+string(rune('a'+i/26)), body)
	}
}

func (r *rig) segments() []string {
	r.t.Helper()
	names, err := filepath.Glob(filepath.Join(r.cfg.Mirrors[0].Path, "log", "*", "*.seg"))
	must(r.t, err)
	return names
}

// replayed proves that a mirror alone gives back everything.
func (r *rig) replayed() {
	r.t.Helper()
	m, b, err := openMirror(r.t.Context(), r.cfg.withDefaults(), r.cfg.Mirrors[0])
	must(r.t, err)
	defer b.Close()
	got, err := readWhole(r.t.Context(), m)
	must(r.t, err)
	r.Ledger.mu.RLock()
	defer r.Ledger.mu.RUnlock()
	for a, h := range r.Ledger.heads {
		if got[a].Head != h.Head {
			r.t.Errorf("account %s: mirror gives %s, want %s", a, got[a].Head, h.Head)
		}
	}
}

func damageFile(t *testing.T, name string, do func(b []byte) []byte) {
	t.Helper()
	must(t, os.Chmod(name, 0o600))
	b, err := os.ReadFile(name)
	must(t, err)
	must(t, os.WriteFile(name, do(b), 0o600))
}

// fault 5: a mirror's old segment rots, is cut or is lost while the server serves. The scrub finds it, and
// the mirror alone gives back everything afterwards; a second scrub has nothing to say.
func TestScrubRefillsMirror(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, file string){
		"flip": func(t *testing.T, f string) {
			damageFile(t, f, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		},
		"cut":  func(t *testing.T, f string) { damageFile(t, f, func(b []byte) []byte { return b[:len(b)/3] }) },
		"lost": func(t *testing.T, f string) { must(t, os.Remove(f)) },
		"zero": func(t *testing.T, f string) {
			damageFile(t, f, func(b []byte) []byte { clear(b[8192:12288]); return b })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.many(150)
			segs := r.segments()
			if len(segs) < 3 {
				t.Fatalf("%d sealed segments", len(segs))
			}
			if s := r.scrubAll(); s.Found != 0 {
				t.Fatalf("found %d in whole copies: %v", s.Found, r.incidents())
			}
			damage(t, segs[1])
			s := r.scrubAll()
			if s.Found == 0 || s.Unhealed != 0 {
				t.Errorf("found %d, unhealed %d", s.Found, s.Unhealed)
			}
			r.replayed()
			reports := len(r.incidents())
			if reports != 1 {
				t.Errorf("reports: %v", r.incidents())
			}
			if s := r.scrubAll(); s.Unhealed != 0 || len(r.incidents()) != reports {
				t.Errorf("a second scrub: unhealed %d, reports %v", s.Unhealed, r.incidents())
			}
			r.restart(func() {})
			r.verify()
			r.scrubAll()
			scrubs := slices.DeleteFunc(r.incidents(), func(n string) bool { return !strings.Contains(n, "scrub") })
			if len(scrubs) != reports { // the start may have told of the damaged segment once more
				t.Errorf("after a restart: %v", r.incidents())
			}
		})
	}
}

// faults 4 and 5: a body rots in the store, in the mirror, is cut or lost in either; the scrub brings it back
// from the other. In both: it is said which account, collection and change are concerned.
func TestScrubHealsBlobs(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, file string){
		"flip": func(t *testing.T, f string) { damageFile(t, f, func(b []byte) []byte { b[7] ^= 1; return b }) },
		"cut":  func(t *testing.T, f string) { damageFile(t, f, func(b []byte) []byte { return b[:10] }) },
		"lost": func(t *testing.T, f string) { must(t, os.Remove(f)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			home := r.photo("p.jpg")
			away := filepath.Join(r.cfg.Mirrors[0].Path, "blobs", person.String(), filepath.Base(home))
			for _, f := range []string{home, away} {
				damage(t, f)
				if s := r.scrubAll(); s.Unhealed != 0 || s.Found == 0 {
					t.Errorf("found %d, unhealed %d", s.Found, s.Unhealed)
				}
				b, err := os.ReadFile(f)
				if err != nil || string(b) != r.acked["p.jpg"] {
					t.Errorf("%d bytes, %v after the scrub", len(b), err)
				}
			}
			damage(t, home)
			damage(t, away)
			s := r.scrubAll()
			if s.Unhealed == 0 {
				t.Fatal("damage on both sides is not said")
			}
			if d := s.Damage[0]; d.Account != person || !strings.Contains(d.Text, "collection") {
				t.Errorf("said: %+v", d)
			}
			r.restart(func() {})
			if r.Status().Scrub.Unhealed == 0 {
				t.Error("a restart forgets damage")
			}
			must(t, os.WriteFile(away, []byte(r.acked["p.jpg"]), 0o600)) // found on another disk
			if s := r.scrubAll(); s.Unhealed != 0 {
				t.Errorf("still unhealed: %+v", s.Damage)
			}
			r.verify()
		})
	}
}
