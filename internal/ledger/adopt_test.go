package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"holdfast"
	"holdfast/frame"
)

// forkRig has "a" in common; then the store has x0..x2 and the mirror y0, y1, each acknowledged to somebody: both were
// put back to "a" and went on, and then the store of the first run was put beside the mirror of the second.
func forkRig(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.mustPut("a", "1")
	r.close(r.Ledger)
	old := r.snapshot()
	r.open()
	for i := range 3 {
		r.mustPut(fmt.Sprint("x", i), "store")
	}
	r.mustPut("a", "store")
	r.close(r.Ledger)
	theirs := r.snapshot()
	r.rollBack(old)
	r.open()
	r.mustPut("y0", "mirror")
	r.mustPut("y1", "mirror")
	r.close(r.Ledger)
	must(t, os.RemoveAll(filepath.Join(r.cfg.Dir, "store")))
	must(t, os.CopyFS(filepath.Join(r.cfg.Dir, "store"), os.DirFS(filepath.Join(theirs, "data", "store"))))
	r.acked = map[string]string{}
	r.open()
	if _, err := r.get("a"); !errors.Is(err, holdfast.ErrFenced) {
		t.Fatalf("a fork: got %v, want ErrFenced", err)
	}
	return r
}

// Fault 17: two histories under one number. The operator chooses; the other one is a branch; devices of both lose nothing.
func TestAdopt(t *testing.T) {
	t.Parallel()
	for from, want := range map[string]map[string]string{
		"store": {"a": "store", "x0": "store", "x1": "store", "x2": "store"},
		"disk2": {"a": "1", "y0": "mirror", "y1": "mirror"},
	} {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			r := forkRig(t)
			if c := r.Status().Closed; len(c) != 1 || c[0].Code != "fork" || !strings.Contains(c[0].Todo, "fence adopt") {
				t.Errorf("closed: %+v", c)
			}
			if err := r.AdoptHistory(t.Context(), person, "nowhere"); !errors.Is(err, holdfast.ErrNotFound) {
				t.Errorf("a copy that is not there: got %v", err)
			}
			if _, err := r.AcceptLoss(t.Context(), person); !errors.Is(err, holdfast.ErrDenied) {
				t.Errorf("accept-loss of a fork: got %v, want ErrDenied", err)
			}
			must(t, r.AdoptHistory(t.Context(), person, from))
			r.acked = want
			r.verify()
			h, _ := r.AccountHead(person)
			if h.Epoch != 2 {
				t.Errorf("epoch %d, want 2", h.Epoch)
			}
			branches, err := r.Branches(t.Context())
			must(t, err)
			lost := map[string]int{"store": 2, "disk2": 4}[from]
			if len(branches) != 1 || branches[0].Damage != "" || int(branches[0].To-branches[0].From)+1 != lost {
				t.Errorf("branches: %+v", branches)
			}
			if err := r.AdoptHistory(t.Context(), person, from); !errors.Is(err, holdfast.ErrInvalid) {
				t.Errorf("a second time: got %v, want ErrInvalid", err)
			}
			r.mustPut("new", "1")
			r.close(r.Ledger)
			r.open()
			r.verify()
			r.close(r.Ledger)
			must(t, r.cfg.removeStore()) // the mirror alone says the same
			r.open()
			r.verify()
			for name := range map[string]string{"x0": "", "y0": ""} {
				if _, err := r.get(name); want[name] == "" && !errors.Is(err, holdfast.ErrNotFound) {
					t.Errorf("%s of the branch: %v", name, err)
				}
			}
		})
	}
}

// Every step of adopt fails before it, after it, or is the last before a kill. Whatever was done, the next decision
// ends the same, and the branch is there once.
func TestAdoptFaults(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"store", "disk2"} {
		steps := []string{"branch", "adopt", "accepted"}
		if from == "store" {
			steps[1] = "accept"
		}
		for _, step := range steps {
			for _, at := range []string{"before " + step, "after " + step} {
				t.Run(strings.ReplaceAll(from+" "+at, " ", "-"), func(t *testing.T) {
					t.Parallel()
					r := forkRig(t)
					var once sync.Once
					r.fault = func(step string) (err error) {
						if step == at {
							once.Do(func() { err = fmt.Errorf("the power fails: %w", holdfast.ErrFatal) })
						}
						return err
					}
					if err := r.AdoptHistory(t.Context(), person, from); err == nil {
						t.Error("it was well")
					}
					<-r.ended
					r.open()
					if _, err := r.get("a"); err != nil {
						must(t, r.AdoptHistory(t.Context(), person, from))
					}
					want := map[string]string{"store": "x0", "disk2": "y0"}[from]
					if _, err := r.get(want); err != nil {
						t.Errorf("%s: %v", want, err)
					}
					if b, err := r.Branches(t.Context()); err != nil || len(b) != 1 || b[0].Damage != "" {
						t.Errorf("branches: %+v, %v", b, err)
					}
				})
			}
		}
	}
}

// R6: a server that was frozen wrote on after another one had taken over; nobody ever saw what it wrote. When
// it comes back the later term goes on by itself, and what it wrote is a branch.
func TestHighestTermWins(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	copied := r.cfg
	copied.Dir = filepath.Join(t.TempDir(), "copy")
	r.close(r.Ledger)
	must(t, os.CopyFS(copied.Dir, os.DirFS(r.cfg.Dir)))
	r.open()
	r.mustPut("b", "1")
	until(t, "the head file is of this term", func() bool {
		hf, err := readHeadFile(r.cfg.withDefaults())
		return err == nil && hf.Term == r.currentTerm().String()
	})
	second := &rig{t: t, cfg: copied, cards: r.cards, acked: map[string]string{"a": "1", "b": "1"}}
	// The other server takes over between the commit of the next write and its acknowledgement.
	var once sync.Once
	r.fault = func(step string) error {
		if step == "before append" {
			once.Do(func() { second.open(); second.mustPut("c", "2"); second.close(second.Ledger) })
		}
		return nil
	}
	if err := r.put("x", "never acknowledged"); err == nil {
		t.Fatal("the frozen server acknowledged")
	}
	r.close(r.Ledger)
	r.acked = second.acked
	r.open()
	r.verify()
	if _, err := r.get("x"); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("what nobody acknowledged: %v", err)
	}
	h, _ := r.AccountHead(person)
	branches, err := r.Branches(t.Context())
	if err != nil || h.Epoch != 1 || len(branches) != 1 || branches[0].Source != "store" || branches[0].From != branches[0].To {
		t.Errorf("epoch %d, branches %+v, %v", h.Epoch, branches, err)
	}
	if got := reportText(t, r); !strings.Contains(got, "was never acknowledged") {
		t.Errorf("report:\n%s", got)
	}
	r.mustPut("d", "1")
	r.close(r.Ledger)
	r.open()
	r.verify()
}

// What a server wrote into its log after another one had claimed the mirror lies there alone when that server never comes
// back. The logs are read for it on demand, and it is a branch like any other.
func TestFindBranches(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	copied := r.cfg
	copied.Dir = filepath.Join(t.TempDir(), "copy")
	r.close(r.Ledger)
	must(t, os.CopyFS(copied.Dir, os.DirFS(r.cfg.Dir)))
	r.open()
	second := &rig{t: t, cfg: copied, cards: r.cards, acked: map[string]string{"a": "1"}}
	var once sync.Once
	r.fault = func(step string) error {
		if step == "before append" {
			once.Do(func() { second.open(); second.mustPut("c", "2") })
		}
		return nil
	}
	if err := r.put("x", "never acknowledged"); err == nil {
		t.Fatal("the frozen server acknowledged")
	}
	r.close(r.Ledger)
	second.verify()
	branches, err := second.Branches(t.Context())
	if err != nil || len(branches) != 0 {
		t.Fatalf("branches before: %+v, %v", branches, err)
	}
	for range 2 { // the second time it is there already
		if loose, err := second.FindBranches(t.Context()); err != nil || loose != 0 {
			t.Fatalf("find branches: %d, %v", loose, err)
		}
		branches, err = second.Branches(t.Context())
		if err != nil || len(branches) != 1 || branches[0].Account != person || branches[0].From != branches[0].To || branches[0].Source != "an old log of mirror disk2" {
			t.Fatalf("branches: %+v, %v", branches, err)
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	if n, err := second.ExportBranch(t.Context(), branches[0].Name, out); err != nil || n != 1 {
		t.Errorf("export: %d, %v", n, err)
	}
	if b, err := os.ReadFile(filepath.Join(out, "contacts", "x")); err != nil || string(b) != "never acknowledged" {
		t.Errorf("exported %q, %v", b, err)
	}
	second.mustPut("d", "1")
	second.verify()
}

// A history that went on after the operator's decision wins by itself against the one that was given up.
func TestHigherEpochWins(t *testing.T) {
	t.Parallel()
	r := forkRig(t)
	before := t.TempDir()
	r.close(r.Ledger)
	must(t, os.CopyFS(filepath.Join(before, "store"), os.DirFS(filepath.Join(r.cfg.Dir, "store"))))
	r.open()
	must(t, r.AdoptHistory(t.Context(), person, "disk2"))
	r.close(r.Ledger)
	must(t, r.cfg.removeStore())
	must(t, os.CopyFS(filepath.Join(r.cfg.Dir, "store"), os.DirFS(filepath.Join(before, "store"))))
	r.open()
	r.acked = map[string]string{"a": "1", "y0": "mirror", "y1": "mirror"}
	r.verify()
	if h, _ := r.AccountHead(person); h.Epoch != 2 {
		t.Errorf("epoch %d", h.Epoch)
	}
}

func TestBranchFile(t *testing.T) {
	t.Parallel()
	b := sampleBranch(t)
	var seqs []holdfast.Seq
	h, last, err := readBranch(bytes.NewReader(b), func(c *branchChange) error {
		seqs = append(seqs, c.Seq)
		return nil
	})
	if err != nil || len(seqs) == 0 || last.Seq != seqs[len(seqs)-1] || h.Source != "store" || h.Account != person {
		t.Fatalf("%+v, %v, %v, %v", h, last, seqs, err)
	}
	for n := range b { // cut at every byte
		if _, _, err := readBranch(bytes.NewReader(b[:n]), nil); !errors.Is(err, holdfast.ErrCorrupt) {
			t.Fatalf("%d of %d bytes: %v", n, len(b), err)
		}
	}
	for i := range b { // a bit of every byte
		damaged := bytes.Clone(b)
		damaged[i] ^= 1 << (i % 8)
		if _, _, err := readBranch(bytes.NewReader(damaged), nil); !errors.Is(err, holdfast.ErrCorrupt) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	if _, _, err := readBranch(bytes.NewReader(append(b, 0)), nil); !errors.Is(err, holdfast.ErrCorrupt) {
		t.Errorf("a byte too many: %v", err)
	}
}

// sampleBranch is a branch of two changes.
func sampleBranch(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	k, err := newBranchWriter(&out, &branchHead{Server: holdfast.ServerID{1}, Account: person, Epoch: 1, Source: "store", Why: "a test"})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range samplePayloads(t) {
		if err := k.add(p.seq, p.hash, p.payload); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.end(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func FuzzBranch(f *testing.F) {
	f.Add(sampleBranch(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		changes := 0
		_, _, err := readBranch(bytes.NewReader(b), func(*branchChange) error { changes++; return nil })
		if err != nil && !errors.Is(err, holdfast.ErrCorrupt) {
			t.Errorf("%d changes, %v", changes, err)
		}
	})
}

type samplePayload struct {
	seq     holdfast.Seq
	hash    holdfast.Hash
	payload []byte
}

func samplePayloads(t testing.TB) []samplePayload {
	t.Helper()
	var all []samplePayload
	var prev holdfast.Hash
	for seq, ops := range [][]frame.Op{
		{{Type: frame.OpPutCollection, Collection: holdfast.Root, Kind: holdfast.KindFile}, {Type: frame.OpPutCollection, Collection: 5, Parent: holdfast.Root, Name: "contacts", Kind: holdfast.KindCard}},
		{{Type: frame.OpPut, Collection: 5, Name: "a.vcf", Body: []byte("BEGIN:VCARD")}},
	} {
		c := frame.Change{Account: person, Epoch: 1, Seq: holdfast.Seq(seq + 1), Term: holdfast.Term{Number: 1}, Ops: ops}
		p, err := c.Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		if prev, err = frame.ChainHash(prev, p); err != nil {
			t.Fatal(err)
		}
		all = append(all, samplePayload{c.Seq, prev, p})
	}
	return all
}
