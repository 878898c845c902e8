package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast"
)

// bigBlob puts a photo and returns where the store keeps it.
func (r *rig) bigBlob(name string) string {
	r.t.Helper()
	big := make([]byte, 300_000)
	_, _ = rand.Read(big)
	body, err := r.PutBlob(r.t.Context(), person, bytes.NewReader(big), 1<<20)
	must(r.t, err)
	_, err = r.Update(r.t.Context(), person, 1, func(tx *Tx) error {
		tx.Put(r.cards, name, "image/jpeg", 0, body)
		return nil
	})
	must(r.t, err)
	r.acked[name] = string(big)
	return filepath.Join(r.cfg.Dir, "blobs", person.String(), body.Hash.String())
}

// tryOpen starts the ledger and returns why it is not open after a while.
func (r *rig) tryOpen(d time.Duration) error {
	r.t.Helper()
	l, err := Open(context.Background(), r.cfg)
	must(r.t, err)
	r.Ledger = l
	r.t.Cleanup(func() { r.close(l) })
	ctx, cancel := context.WithTimeout(r.t.Context(), d)
	defer cancel()
	return r.WaitOpen(ctx)
}

func TestAttackHealOverCutBlob(t *testing.T) {
	r := newRig(t)
	path := r.bigBlob("big")
	r.close(r.Ledger)
	must(t, os.RemoveAll(filepath.Join(r.cfg.Dir, "store")))
	must(t, os.Truncate(path, 1000))
	if err := r.tryOpen(3 * time.Second); err != nil {
		t.Fatal(err)
	}
	r.verify()
}

func TestAttackMirrorEmptiedAndBlobGone(t *testing.T) {
	r := newRig(t)
	path := r.bigBlob("big")
	r.mustPut("a", "1")
	r.close(r.Ledger)
	m := r.cfg.Mirrors[0].Path
	for _, d := range []string{"log", "term", "blobs", "heads"} {
		must(t, os.RemoveAll(filepath.Join(m, d)))
	}
	must(t, os.Remove(path))
	if err := r.tryOpen(3 * time.Second); err != nil {
		t.Fatal(err)
	}
	if got, err := r.get("a"); got != "1" {
		t.Error(got, err)
	}
}

func (r *rig) flip(body string) {
	r.t.Helper()
	f := filepath.Join(r.cfg.Dir, "store", "holdfast.db")
	b, err := os.ReadFile(f)
	must(r.t, err)
	i := bytes.Index(b, []byte(body))
	if i < 0 {
		r.t.Fatal("body is not in the file")
	}
	b[i] ^= 1
	must(r.t, os.WriteFile(f, b, 0o600))
}

func TestAttackInlineBodyFlipped(t *testing.T) {
	r := newRig(t)
	r.mustPut("a", "a body that nothing else in the file equals")
	r.mustPut("b", "2")
	r.close(r.Ledger)
	r.flip("a body that nothing else")
	r.open()
	deadline := time.Now().Add(5 * time.Second)
	for {
		got, err := r.get("a")
		if err == nil && got == r.acked["a"] {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("never healed: %v; term %d", err, r.Status().Term)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestAttackTokenKeyFlipped(t *testing.T) {
	r := newRig(t)
	r.mustPut("a", "1")
	r.close(r.Ledger)
	r.flip(`{"key":`)
	if err := r.tryOpen(4 * time.Second); err != nil {
		t.Fatal(err, r.Status().Term)
	}
}

func TestAttackLostBlobClosesAll(t *testing.T) {
	r := newRig(t)
	path := r.bigBlob("big")
	r.mustPut("a", "1")
	must(t, os.Remove(path))
	must(t, os.RemoveAll(filepath.Join(r.cfg.Mirrors[0].Path, "blobs", person.String())))
	if _, err := r.get("big"); err == nil {
		t.Fatal("read what is nowhere")
	}
	if s := r.Status(); s.State != "open" {
		t.Errorf("a lost blob closed the server: %s", s.Reason)
	}
}

// A batch that met a full disk never was: what its requests saw of each other must not be remembered.
func TestAttackFullBatchPoisonsPaths(t *testing.T) {
	r := newRig(t)
	r.mustPut("a", "1")
	inShip, release := make(chan struct{}), make(chan struct{})
	var appends, commits int
	r.Ledger.fault = func(step string) error {
		switch step {
		case "before append":
			if appends++; appends == 1 {
				close(inShip)
				<-release
			}
		case "before commit":
			if commits++; commits == 3 {
				return holdfast.ErrFull
			}
		}
		return nil
	}
	results := make(chan error, 8)
	up := func(fn func(tx *Tx) error) {
		go func() { _, err := r.Update(context.Background(), person, 1, fn); results <- err }()
	}
	put := func(n string) func(tx *Tx) error {
		return func(tx *Tx) error { tx.Put(r.cards, n, "", 0, InlineBody([]byte("x"))); return nil }
	}
	up(put("x1"))
	<-inShip
	up(put("x2")) // committed, then waits for the shipper
	for {
		r.queue.mu.Lock()
		n := len(r.queue.waiting)
		r.queue.mu.Unlock()
		if n == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond)
	up(func(tx *Tx) error { tx.DeleteCollection(r.cards); return nil })
	time.Sleep(50 * time.Millisecond)
	refused := make(chan error, 1)
	go func() {
		_, err := r.Update(context.Background(), person, 1, func(tx *Tx) error {
			_, err := tx.Child(holdfast.Root, "contacts")
			return err
		})
		refused <- err
	}()
	time.Sleep(50 * time.Millisecond)
	close(release)
	for range 3 {
		t.Log(<-results)
	}
	if err := <-refused; !errors.Is(err, holdfast.ErrFull) {
		t.Errorf("refused by a state that never was: %v", err)
	}
	r.mustPut("x3", "y")
	if err := r.View(t.Context(), person, func(v *View) error {
		_, err := v.Child(holdfast.Root, "contacts")
		return err
	}); err != nil {
		t.Errorf("the collection is there: %v", err)
	}
}

// The witness that closed an account lay in the mirror: it must outlive the next writing of head files.
func TestAttackMirrorWitnessKept(t *testing.T) {
	r := newRig(t)
	r.mustPut("a", "1")
	r.close(r.Ledger)
	old := t.TempDir()
	must(t, os.CopyFS(filepath.Join(old, "dir"), os.DirFS(r.cfg.Dir)))
	must(t, os.CopyFS(filepath.Join(old, "log"), os.DirFS(filepath.Join(r.cfg.Mirrors[0].Path, "log"))))
	r.open()
	r.mustPut("b", "2")
	r.close(r.Ledger)
	must(t, os.RemoveAll(r.cfg.Dir))
	must(t, os.CopyFS(r.cfg.Dir, os.DirFS(filepath.Join(old, "dir"))))
	log := filepath.Join(r.cfg.Mirrors[0].Path, "log")
	must(t, os.RemoveAll(log))
	must(t, os.CopyFS(log, os.DirFS(filepath.Join(old, "log"))))
	for i := range 3 {
		r.open()
		if _, err := r.get("a"); !errors.Is(err, holdfast.ErrFenced) {
			t.Errorf("start %d: %v, want ErrFenced", i, err)
		}
		r.close(r.Ledger)
	}
}

// DIR is unmounted while running: nothing is written to what lies beneath.
func TestAttackHeadsIntoUnmountedDir(t *testing.T) {
	r := newRig(t)
	r.mustPut("a", "1")
	must(t, os.Rename(r.cfg.Dir, r.cfg.Dir+".away"))
	must(t, os.Mkdir(r.cfg.Dir, 0o700))
	_ = r.writeHeads(t.Context())
	if e, _ := os.ReadDir(r.cfg.Dir); len(e) != 0 {
		t.Errorf("written to an unmounted directory: %v", e)
	}
	must(t, os.RemoveAll(r.cfg.Dir))
	must(t, os.Rename(r.cfg.Dir+".away", r.cfg.Dir))
	time.Sleep(1500 * time.Millisecond)
	r.waitOpen()
	r.verify()
}

// A store with a tail that no mirror continued: that account is closed, the others go on.
func TestAttackDivergentTail(t *testing.T) {
	r := newRig(t)
	other := holdfast.AccountID(9)
	_, err := r.Update(t.Context(), other, 0, func(tx *Tx) error {
		tx.PutCollection(&Collection{ID: holdfast.Root, Kind: holdfast.KindFile})
		return nil
	})
	must(t, err)
	r.mustPut("a", "1")
	r.close(r.Ledger)
	copied := filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(copied, os.DirFS(r.cfg.Dir)))
	r.open()
	r.Ledger.fault = func(step string) error {
		if step == "after commit" {
			return holdfast.ErrFatal
		}
		return nil
	}
	_ = r.put("tail", "never acknowledged")
	r.close(r.Ledger)
	cfg := r.cfg
	cfg.Dir = copied
	second := &rig{t: t, cfg: cfg, cards: r.cards, acked: map[string]string{"a": "1"}}
	second.open()
	second.mustPut("b", "2")
	second.mustPut("c", "2")
	_, err = second.Update(t.Context(), other, 0, func(tx *Tx) error {
		tx.Put(holdfast.Root, "f", "", 0, InlineBody([]byte("x")))
		return nil
	})
	must(t, err)
	second.close(second.Ledger)
	if err := r.tryOpen(3 * time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := r.get("a"); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("forked account: %v", err)
	}
	if err := r.View(t.Context(), other, func(v *View) error { _, err := v.Resource(holdfast.Root, "f"); return err }); err != nil {
		t.Errorf("other account: %v", err)
	}
}

// A blobs directory that was removed while running does not stop uploads for good.
func TestAttackBlobsDirRemoved(t *testing.T) {
	r := newRig(t)
	r.bigBlob("one")
	for name, d := range map[string]string{"store": r.cfg.Dir, "mirror": r.cfg.Mirrors[0].Path} {
		must(t, os.RemoveAll(filepath.Join(d, "blobs")))
		big := make([]byte, 300_000)
		_, _ = rand.Read(big)
		deadline := time.Now().Add(4 * time.Second)
		for {
			_, err := r.PutBlob(t.Context(), person, bytes.NewReader(big), 1<<20)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("%s: uploads never come back: %v", name, err)
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// While a mirror is away, a store found damaged is not served again.
func TestAttackHeldThenDamaged(t *testing.T) {
	r := newRig(t)
	r.mustPut("a", "a body that nothing else in the file equals")
	r.mustPut("b", "2")
	r.close(r.Ledger)
	r.flip("a body that nothing else")
	r.open()
	path := r.cfg.Mirrors[0].Path
	must(t, os.Rename(path, path+".away"))
	_ = r.put("c", "3")
	r.waitState("held")
	_, err := r.get("a")
	t.Log(err)
	time.Sleep(800 * time.Millisecond)
	if s := r.Status(); s.State != "closed" {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
	must(t, os.Rename(path+".away", path))
	time.Sleep(time.Second)
	r.waitOpen()
	r.verify()
}

// Attempts that fail do not leave a claim each.
func TestAttackClaimPerRetry(t *testing.T) {
	r := newRig(t)
	r.mustPut("a", "1")
	r.close(r.Ledger)
	must(t, os.RemoveAll(filepath.Join(r.cfg.Dir, "store")))
	must(t, os.WriteFile(filepath.Join(r.cfg.Dir, "store"), []byte("x"), 0o600))
	before, _ := os.ReadDir(filepath.Join(r.cfg.Mirrors[0].Path, "term"))
	err := r.tryOpen(2 * time.Second)
	t.Log(err)
	after, _ := os.ReadDir(filepath.Join(r.cfg.Mirrors[0].Path, "term"))
	if len(after)-len(before) > 1 {
		t.Errorf("%d claims", len(after)-len(before))
	}
}

// A report that cannot be written does not keep a healed server closed and fill its mirror with logs.
func TestAttackReportCannotBeWritten(t *testing.T) {
	r := newRig(t)
	r.mustPut("a", "1")
	r.close(r.Ledger)
	must(t, os.RemoveAll(filepath.Join(r.cfg.Dir, "store")))
	must(t, os.RemoveAll(filepath.Join(r.cfg.Dir, "incidents")))
	must(t, os.WriteFile(filepath.Join(r.cfg.Dir, "incidents"), []byte("x"), 0o600))
	if err := r.tryOpen(3 * time.Second); err != nil {
		logs, _ := os.ReadDir(filepath.Join(r.cfg.Mirrors[0].Path, "log"))
		t.Fatal(err, len(logs))
	}
}

// A refusal by a server that has lost its claim does not leave.
func TestAttackRefusalAfterTakeover(t *testing.T) {
	r := newRig(t)
	r.mustPut("a", "1")
	copied := r.cfg
	copied.Dir = filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(copied.Dir, os.DirFS(r.cfg.Dir)))
	second := &rig{t: t, cfg: copied, cards: r.cards, acked: map[string]string{"a": "1"}}
	second.open()
	second.mustPut("b", "2")
	_, err := r.Update(t.Context(), person, 1, func(tx *Tx) error {
		_, err := tx.Resource(r.cards, "b")
		return err
	})
	if errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("told that b is not there, which the other server has acknowledged: %v", err)
	}
}
