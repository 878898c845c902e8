package ledger

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"holdfast"
)

// withWitness gives a rig a third place.
func withWitness(t *testing.T) func(*Config) {
	return func(c *Config) {
		c.Witness = filepath.Join(filepath.Dir(c.Dir), "witness")
		if err := createWitness(t.Context(), c.withDefaults(), c.Witness); err != nil {
			t.Fatal(err)
		}
	}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(to), os.CopyFS(to, os.DirFS(from))); err != nil {
		t.Fatal(err)
	}
}

// fault 13, K=1 and beyond: data directory and mirror are put back to last night's state together. Only the third place
// knows better: the account that had moved on is closed, another one is served, and it stays so after a restart.
func TestWitnessSeesRollbackOfBoth(t *testing.T) {
	t.Parallel()
	for _, third := range []bool{false, true} {
		var edit []func(*Config)
		if third {
			edit = append(edit, withWitness(t))
		}
		r := newRig(t, edit...)
		r.mustPut("a", "1")
		other := holdfast.AccountID(8)
		if _, err := r.Update(t.Context(), other, 0, func(tx *Tx) error {
			tx.PutCollection(&Collection{ID: holdfast.Root, Kind: holdfast.KindFile})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		r.close(r.Ledger)
		night := t.TempDir()
		places := []string{r.cfg.Dir, r.cfg.Mirrors[0].Path}
		for i, p := range places {
			copyTree(t, p, filepath.Join(night, string(rune('0'+i))))
		}
		r.open()
		r.mustPut("b", "2")
		r.close(r.Ledger)
		for i, p := range places {
			copyTree(t, filepath.Join(night, string(rune('0'+i))), p)
		}
		for pass := range 2 {
			r.open()
			_, err := r.get("a")
			if closed := errors.Is(err, holdfast.ErrFenced); closed != third {
				t.Errorf("witness %v: got %v", third, err)
			}
			if err := r.View(t.Context(), other, func(*View) error { return nil }); err != nil {
				t.Errorf("the other account: %v", err)
			}
			if s := r.Status(); third && (len(s.Closed) != 1 || pass == 0 && !strings.Contains(s.Closed[0].Reason, "third place")) {
				t.Errorf("status says %+v", s.Closed)
			}
			r.close(r.Ledger)
		}
	}
}

// A witness that is away holds the server like a missing mirror: reads go on, writes wait, and it goes on by itself.
func TestWitnessAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, withWitness(t))
	r.mustPut("a", "1")
	aside := r.cfg.Witness + "-aside"
	if err := os.Rename(r.cfg.Witness, aside); err != nil {
		t.Fatal(err)
	}
	if err := r.put("a", "2"); !errors.Is(err, holdfast.ErrNotDurable) {
		t.Fatalf("put without the witness: %v", err)
	}
	r.waitState("held")
	if got, err := r.get("a"); err != nil || got != "1" {
		t.Errorf("read while held: %q, %v", got, err)
	}
	if s := r.Status(); s.Witness == nil || !strings.Contains(s.Reason, "head witness") {
		t.Errorf("status: %+v, reason %q", s.Witness, s.Reason)
	}
	if err := os.Rename(aside, r.cfg.Witness); err != nil {
		t.Fatal(err)
	}
	r.waitOpen()
	r.mustPut("a", "3")
	if s := r.Status(); s.Witness == nil || s.Witness.State != "complete" || !s.Witness.SameDevice {
		t.Errorf("status: %+v", s.Witness)
	}
}

// An empty directory, or another server's witness, is absent: nothing is served by it and nothing is made in it.
func TestWitnessIsNeverMade(t *testing.T) {
	t.Parallel()
	r := newRig(t, withWitness(t))
	r.mustPut("a", "1")
	r.close(r.Ledger)
	if err := errors.Join(os.RemoveAll(r.cfg.Witness), os.Mkdir(r.cfg.Witness, 0o700)); err != nil {
		t.Fatal(err)
	}
	l, err := Open(context.Background(), r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Ledger = l
	defer r.close(l)
	for changed := (<-chan struct{})(nil); ; <-changed {
		l.mu.RLock()
		reason := l.reason
		changed = l.changed
		l.mu.RUnlock()
		if strings.Contains(reason.Full(), "no marker") {
			break
		}
	}
	if entries, err := os.ReadDir(r.cfg.Witness); err != nil || len(entries) > 0 {
		t.Errorf("it has %v, %v", entries, err)
	}
	if _, err := r.get("a"); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("read: %v, want ErrFenced", err)
	}
}

// The witness moves after the claim was looked at and before the acknowledgement; a failure of that step is 503, and
// the ledger goes on.
func TestWitnessStep(t *testing.T) {
	t.Parallel()
	r := newRig(t, withWitness(t))
	var mu sync.Mutex
	var got []string
	failing := ""
	r.Ledger.fault = func(step string) error {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, step)
		if step == failing {
			failing = ""
			return &mirrorError{"", errPlanted}
		}
		return nil
	}
	r.mustPut("a", "1")
	if want := append(slices.Clone(steps), "before witness", "after witness"); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, at := range []string{"before witness", "after witness"} {
		mu.Lock()
		failing = at
		mu.Unlock()
		if err := r.put("a", at); !errors.Is(err, holdfast.ErrNotDurable) {
			t.Errorf("%s: %v", at, err)
		}
		r.waitOpen()
		if got, err := r.get("a"); err != nil || got != at {
			t.Errorf("%s: %q, %v: what is in store and mirror is resolved forward", at, got, err)
		}
	}
}
