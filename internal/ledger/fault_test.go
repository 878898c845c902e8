package ledger

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"holdfast"
)

var errPlanted = errors.New("planted")

// steps are the durable steps of one write, in the order that invariant L2 demands.
var steps = []string{"before commit", "after commit", "before append", "after append", "before look", "after look"}

// The order of one write is store, mirror, claim, acknowledgement.
func TestOrderOfSteps(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var mu sync.Mutex
	var got []string
	r.Ledger.fault = func(step string) error {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, step)
		if _, err := r.get("a"); !errors.Is(err, holdfast.ErrNotFound) {
			t.Errorf("%s: shown before it is durable: %v", step, err)
		}
		return nil
	}
	r.mustPut("a", "1")
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(got, steps) {
		t.Errorf("got %v, want %v", got, steps)
	}
}

// Each step fails before it was done, and after: the client hears 503, nothing acknowledged is lost,
// and the ledger opens again by itself or asks for a new process.
func TestStepFails(t *testing.T) {
	for _, at := range steps {
		for _, cause := range []error{errPlanted, &mirrorError{"disk2", errPlanted}, holdfast.ErrFatal} {
			t.Run(fmt.Sprintf("%s/%T", at, cause), func(t *testing.T) {
				t.Parallel()
				r := newRig(t)
				r.mustPut("a", "1")
				var once sync.Once
				r.Ledger.fault = func(step string) (err error) {
					if step == at {
						once.Do(func() { err = cause })
					}
					return err
				}
				if err := r.put("a", "2"); !errors.Is(err, holdfast.ErrNotDurable) {
					t.Errorf("got %v, want ErrNotDurable", err)
				}
				if errors.Is(cause, holdfast.ErrFatal) {
					if err := <-r.Fatal(); !errors.Is(err, holdfast.ErrFatal) {
						t.Errorf("fatal: %v", err)
					}
					r.close(r.Ledger)
					r.open()
				}
				r.waitOpen()
				got, err := r.get("a")
				if err != nil || got != "1" && got != "2" {
					t.Errorf("after the fault: %q, %v; want 1 or 2", got, err)
				}
				if at == "before commit" && got != "1" {
					t.Errorf("nothing was committed, but %q is there", got)
				}
				if at != "before commit" && got != "2" {
					t.Errorf("it was committed; resolved forward it must be 2, got %q", got)
				}
				r.mustPut("b", "3")
				r.acked["a"] = got
				r.close(r.Ledger)
				r.open()
				r.verify()
			})
		}
	}
}

// The process is killed at each step under load: what the disk has then must hold everything that
// had been acknowledged before, and open without a hand. Also with the store of that moment removed.
func TestKilledAtEachStep(t *testing.T) {
	for _, at := range steps {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			image := t.TempDir()
			var acked map[string]string
			var mu sync.Mutex
			n := 0
			r.Ledger.fault = func(step string) error {
				mu.Lock()
				defer mu.Unlock()
				if step != at {
					return nil
				}
				if n++; n != 10 {
					return nil
				}
				r.mu.Lock()
				acked = maps.Clone(r.acked) // before the copy: everything in it must be in the image
				r.mu.Unlock()
				if err := os.CopyFS(filepath.Join(image, "mirror"), os.DirFS(r.cfg.Mirrors[0].Path)); err != nil {
					t.Error(err)
				}
				if err := os.CopyFS(filepath.Join(image, "data"), os.DirFS(r.cfg.Dir)); err != nil {
					t.Error(err)
				}
				return nil
			}
			var wg sync.WaitGroup
			for w := range 4 {
				wg.Go(func() {
					for i := range 40 {
						if err := r.put(fmt.Sprintf("w%d-%d", w, i%7), fmt.Sprint(i)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			for _, lost := range []bool{false, true} {
				cfg := r.cfg
				cfg.Dir, cfg.Mirrors = filepath.Join(image, "data"), []MirrorConfig{{"disk2", filepath.Join(image, "mirror")}}
				if lost {
					must(t, os.RemoveAll(filepath.Join(cfg.Dir, "store")))
				}
				after := &rig{t: t, cfg: cfg, cards: r.cards}
				after.open()
				for name, want := range acked {
					got, err := after.get(name)
					// A newer value of the same writer is right: it was on its way.
					if err != nil || len(got) < len(want) || len(got) == len(want) && got < want {
						t.Errorf("store lost %v: %s: got %q, %v; want %q or newer", lost, name, got, err, want)
					}
				}
				after.close(after.Ledger)
			}
		})
	}
}
