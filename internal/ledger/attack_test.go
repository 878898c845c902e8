package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast"
)

// Each test here was written by somebody who meant harm: it damages a copy, or the moment, and asks
// whether the ledger comes back by itself, and whether it told anybody what was not true.

const marked = "a body that nothing else in the file equals"

// photo puts a blob and returns where the store keeps it.
func (r *rig) photo(name string) string {
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

// restart closes the ledger, does damage, and opens it again.
func (r *rig) restart(damage func()) {
	r.t.Helper()
	r.close(r.Ledger)
	damage()
	r.open()
}

// flip changes one bit of the store's file where text begins.
func (r *rig) flip(text string) {
	r.t.Helper()
	name := filepath.Join(r.cfg.Dir, "store", "holdfast.db")
	b, err := os.ReadFile(name)
	must(r.t, err)
	at := bytes.Index(b, []byte(text))
	if at < 0 {
		r.t.Fatalf("%q is not in the store's file", text)
	}
	b[at] ^= 1
	must(r.t, os.WriteFile(name, b, 0o600))
}

// until asks again and again, and fails when it was not so for long.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// second is a server on a copy of r's data directory.
func (r *rig) second(dir string) *rig {
	cfg := r.cfg
	cfg.Dir = dir
	s := &rig{t: r.t, cfg: cfg, cards: r.cards, acked: map[string]string{}}
	s.open()
	return s
}

// L11: a damaged body in the database is brought back from the mirror, by itself and once.
func TestDamagedBodyIsHealed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", marked)
	r.restart(func() { r.flip(marked) })
	until(t, "the body is whole", func() bool { got, err := r.get("a"); return err == nil && got == marked })
	r.verify()
	if names, err := filepath.Glob(filepath.Join(r.cfg.Dir, "incidents", "store-*")); err != nil || len(names) != 0 {
		t.Errorf("for one bit the whole store was given up: %v, %v", names, err)
	}
	r.restart(func() { r.flip(`{"key":`) }) // read before anything is served
	r.verify()
}

// A store that is damaged while the mirror is away serves what is whole, answers with an error for the rest,
// and is repaired when the mirror is back.
func TestDamagedWhileHeld(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.many(60) // pages that no connection has in memory
	r.mustPut("a", marked)
	r.restart(func() {})
	path := r.cfg.Mirrors[0].Path
	must(t, os.Rename(path, path+".away"))
	if err := r.put("b", "2"); !errors.Is(err, holdfast.ErrNotDurable) {
		t.Errorf("write without the mirror: %v", err)
	}
	r.waitState("held")
	r.flip(marked)
	if got, err := r.get("a"); !errors.Is(err, holdfast.ErrCorrupt) && got != marked {
		t.Errorf("read of the damaged body: %q, %v", got, err)
	}
	if _, err := r.get("cardaa"); err != nil {
		t.Errorf("read of another: %v", err)
	}
	must(t, os.Rename(path+".away", path))
	r.waitOpen()
	r.scrubAll()
	until(t, "the body is whole", func() bool { got, err := r.get("a"); return err == nil && got == marked })
	r.verify()
}

// The same when the reader is faster than the end of the session that the mirror's absence ends.
func TestDamagedWhileEnding(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", marked)
	r.restart(func() { r.flip(marked) })
	path := r.cfg.Mirrors[0].Path
	r.Ledger.fault = func(step string) error {
		if step != "before append" {
			return nil
		}
		r.raise(storeError("read", holdfast.ErrCorrupt)) // lands before the session is over
		return &mirrorError{"disk2", errors.Join(holdfast.ErrAbsent, os.Rename(path, path+".away"))}
	}
	if err := r.put("b", "2"); !errors.Is(err, holdfast.ErrNotDurable) {
		t.Errorf("write: %v", err)
	}
	until(t, "the store is given up", func() bool { return !r.hasStore() })
	r.Ledger.fault = nil
	must(t, os.Rename(path+".away", path))
	r.waitOpen()
	until(t, "the body is whole", func() bool { got, err := r.get("a"); return err == nil && got == marked })
}

// A blob that no copy has is that blob's misfortune: nothing else closes, nothing else waits.
func TestLostBlobAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	path := r.photo("lost")
	delete(r.acked, "lost")
	mirror := r.cfg.Mirrors[0].Path
	must(t, os.Remove(path))
	must(t, os.RemoveAll(filepath.Join(mirror, "blobs")))
	if _, err := r.get("lost"); !errors.Is(err, holdfast.ErrCorrupt) {
		t.Errorf("read of a lost blob: %v", err)
	}
	if s := r.Status(); s.State != "open" {
		t.Errorf("a lost blob closed the server: %s", s.Reason)
	}
	r.restart(func() { // the mirror lost all but its marker: every change is shipped again
		for _, d := range []string{"log", "term", "heads"} {
			must(t, os.RemoveAll(filepath.Join(mirror, d)))
		}
	})
	r.verify()
	r.restart(func() { must(t, os.RemoveAll(filepath.Join(r.cfg.Dir, "store"))) })
	r.verify()
}

// The store is gone and a blob beside it is cut: the mirror has both.
func TestHealOverCutBlob(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	path := r.photo("big")
	r.restart(func() {
		must(t, os.RemoveAll(filepath.Join(r.cfg.Dir, "store")))
		must(t, os.Truncate(path, 1000))
	})
	r.verify()
}

// Uploads come back by themselves after the blobs of either side were removed under a running server.
func TestBlobsRemovedWhileRunning(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.photo("one")
	for _, dir := range []string{r.cfg.Dir, r.cfg.Mirrors[0].Path} {
		must(t, os.RemoveAll(filepath.Join(dir, "blobs")))
		big := make([]byte, 300_000)
		_, _ = rand.Read(big)
		until(t, "an upload is taken", func() bool {
			_, err := r.PutBlob(t.Context(), person, bytes.NewReader(big), 1<<20)
			return err == nil
		})
	}
}

// R11: what met a full disk never was. Nobody is refused because of it, and nothing remembers it.
func TestFullBatchNeverWas(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	shipping, committed, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
	appends, before, after := 0, 0, 0
	r.Ledger.fault = func(step string) error {
		switch step {
		case "before append":
			if appends++; appends == 1 {
				close(shipping)
				<-release
			}
		case "before commit":
			if before++; before == 3 {
				return holdfast.ErrFull
			}
		case "after commit":
			if after++; after == 2 {
				close(committed)
			}
		}
		return nil
	}
	results := make(chan error, 4)
	go func() { results <- r.put("x1", "1") }()
	<-shipping
	go func() { results <- r.put("x2", "2") }()
	<-committed // and waits for the shipper: what comes now is one batch
	waiting := func(n int) {
		until(t, "requests wait", func() bool {
			r.queue.mu.Lock()
			defer r.queue.mu.Unlock()
			return len(r.queue.waiting) == n
		})
	}
	go func() {
		_, err := r.Update(context.Background(), person, 1, func(tx *Tx) error { tx.DeleteCollection(r.cards); return nil })
		results <- err
	}()
	waiting(1)
	refused := make(chan error, 1)
	go func() {
		_, err := r.Update(context.Background(), person, 1, func(tx *Tx) error { _, err := tx.Child(holdfast.Root, "contacts"); return err })
		refused <- err
	}()
	waiting(2)
	close(release)
	if err := <-refused; !errors.Is(err, holdfast.ErrFull) {
		t.Errorf("refused by a state that never was: %v", err)
	}
	for range 3 {
		<-results
	}
	r.mustPut("x3", "3")
	if err := r.View(t.Context(), person, func(v *View) error { _, err := v.Child(holdfast.Root, "contacts"); return err }); err != nil {
		t.Errorf("a collection that nobody removed: %v", err)
	}
}

// A refusal is a read (R5, R11): a server that has lost its claim does not say what is not there.
func TestRefusalAfterTakeover(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	dir := filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(dir, os.DirFS(r.cfg.Dir)))
	r.second(dir).mustPut("b", "2")
	_, err := r.Update(t.Context(), person, 1, func(tx *Tx) error { _, err := tx.Resource(r.cards, "b"); return err })
	if err == nil || errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("got %v for what another server has acknowledged", err)
	}
}

// F8: one account has a tail that the mirrors did not continue. It is closed, the others are healed and served.
func TestDivergentTail(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const other = person + 1
	root := func(tx *Tx) error {
		tx.PutCollection(&Collection{ID: holdfast.Root, Kind: holdfast.KindFile})
		return nil
	}
	_, err := r.Update(t.Context(), other, 0, root)
	must(t, err)
	copied := filepath.Join(t.TempDir(), "copy")
	r.restart(func() { must(t, os.CopyFS(copied, os.DirFS(r.cfg.Dir))) })
	r.Ledger.fault = func(step string) error {
		if step == "after commit" {
			return holdfast.ErrFatal
		}
		return nil
	}
	if err := r.put("tail", "never acknowledged"); err == nil {
		t.Error("acknowledged")
	}
	r.restart(func() {
		s := r.second(copied)
		s.mustPut("b", "2")
		s.mustPut("c", "3")
		_, err := s.Update(t.Context(), other, 0, func(tx *Tx) error { tx.Put(holdfast.Root, "f", "", 0, InlineBody(nil)); return nil })
		must(t, err)
		s.close(s.Ledger)
	})
	if _, err := r.get("b"); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("forked account: %v", err)
	}
	if err := r.View(t.Context(), other, func(v *View) error { _, err := v.Resource(holdfast.Root, "f"); return err }); err != nil {
		t.Errorf("other account: %v", err)
	}
}

// A mirror that is behind and differs closes that account, not the server.
func TestForkedMirrorBehind(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) {
		c.Mirrors = append(c.Mirrors, MirrorConfig{Name: "disk3", Path: c.Mirrors[0].Path + "3"})
	})
	fork, dir := filepath.Join(t.TempDir(), "fork"), filepath.Join(t.TempDir(), "copy")
	r.restart(func() {
		must(t, os.CopyFS(fork, os.DirFS(r.cfg.Mirrors[0].Path)))
		must(t, os.CopyFS(dir, os.DirFS(r.cfg.Dir)))
		s := &rig{t: t, cfg: r.cfg, cards: r.cards, acked: map[string]string{}}
		s.cfg.Dir, s.cfg.Mirrors = dir, []MirrorConfig{{Name: "disk2", Path: fork}}
		must(t, editMembers(dir, func(members []member) []member { return members[:1] }))
		s.open()
		s.mustPut("x", "another history")
		s.close(s.Ledger)
	})
	r.mustPut("b", "2")
	r.mustPut("c", "3")
	r.restart(func() {
		must(t, os.RemoveAll(r.cfg.Mirrors[0].Path))
		must(t, os.CopyFS(r.cfg.Mirrors[0].Path, os.DirFS(fork)))
	})
	if s := r.Status(); len(s.Closed) != 1 || s.Closed[0].Account != person.String() {
		t.Errorf("closed accounts %+v, want the forked one", s.Closed)
	}
}

// R12: a mirror that lost a segment is refilled at the next start, and alone rebuilds the store after that.
func TestLostSegmentIsRefilled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 50 {
		r.mustPut(fmt.Sprint("n", i), fmt.Sprintf("%060000d", i))
	}
	r.restart(func() {
		segments, err := filepath.Glob(filepath.Join(r.cfg.Mirrors[0].Path, "log", "*", "*.seg"))
		must(t, err)
		if len(segments) < 4 {
			t.Fatalf("only %d segments", len(segments))
		}
		must(t, os.Remove(segments[len(segments)-2]))
	})
	r.restart(func() { must(t, os.RemoveAll(filepath.Join(r.cfg.Dir, "store"))) })
	r.verify()
}

// Attempts that fail before they begin a log use one claim again, and leave no log.
func TestOneClaimForManyAttempts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	r.close(r.Ledger)
	store := filepath.Join(r.cfg.Dir, "store")
	must(t, os.RemoveAll(store))
	must(t, os.WriteFile(store, []byte("in the way"), 0o600))
	count := func(what string) int {
		entries, err := os.ReadDir(filepath.Join(r.cfg.Mirrors[0].Path, what))
		must(t, err)
		return len(entries)
	}
	claims, logs := count("term"), count("log")
	l, err := Open(t.Context(), r.cfg)
	must(t, err)
	r.Ledger = l
	t.Cleanup(func() { r.close(l) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // four attempts
	defer cancel()
	if err := r.WaitOpen(ctx); err == nil {
		t.Fatal("opened without a place for the store")
	}
	if c, g := count("term")-claims, count("log")-logs; c != 1 || g != 0 {
		t.Errorf("%d claims and %d logs, want 1 and 0", c, g)
	}
	must(t, os.Remove(store))
	r.waitOpen()
	r.verify()
}

// F2: what lies beneath an unmounted data directory is not written to; the directory's return is enough.
func TestDataDirectoryAway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	must(t, os.Rename(r.cfg.Dir, r.cfg.Dir+".away"))
	must(t, os.Mkdir(r.cfg.Dir, 0o700))
	if err := r.writeHeads(t.Context()); !errors.Is(err, holdfast.ErrAbsent) {
		t.Errorf("head file without its directory: %v", err)
	}
	if _, err := r.get("a"); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("read without the store: %v", err)
	}
	if entries, err := os.ReadDir(r.cfg.Dir); err != nil || len(entries) != 0 {
		t.Errorf("written to an unmounted directory: %v, %v", entries, err)
	}
	must(t, os.Remove(r.cfg.Dir))
	must(t, os.Rename(r.cfg.Dir+".away", r.cfg.Dir))
	r.waitOpen()
	r.verify()
}

// A data directory replaced by a copy needs a new process: this one holds the lock and the blobs of the old.
func TestDataDirectoryReplaced(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.photo("big")
	must(t, os.CopyFS(r.cfg.Dir+".copy", os.DirFS(r.cfg.Dir)))
	r.mustPut("b", "2")
	must(t, os.Rename(r.cfg.Dir, r.cfg.Dir+".old"))
	must(t, os.Rename(r.cfg.Dir+".copy", r.cfg.Dir))
	if err := r.put("c", "3"); err == nil {
		t.Error("acknowledged into a directory that was moved away")
	}
	if err := <-r.Fatal(); !errors.Is(err, holdfast.ErrFatal) {
		t.Errorf("fatal: %v", err)
	}
	r.restart(func() {})
	r.verify()
}

// The mirror is replaced by an older copy of itself while the server runs: it is refilled.
func TestMirrorReplacedByOlderCopy(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	path := r.cfg.Mirrors[0].Path
	must(t, os.CopyFS(path+".copy", os.DirFS(path)))
	r.mustPut("b", "2")
	must(t, os.Rename(path, path+".old"))
	must(t, os.Rename(path+".copy", path))
	until(t, "writes are taken", func() bool { return r.put("c", "3") == nil })
	r.restart(func() { must(t, os.RemoveAll(filepath.Join(r.cfg.Dir, "store"))) })
	r.verify()
}

// An older database is written over the file in place, under its write-ahead log: the same inode.
func TestStoreOverwrittenInPlace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	name := filepath.Join(r.cfg.Dir, "store", "holdfast.db")
	var old []byte
	r.restart(func() {
		var err error
		old, err = os.ReadFile(name)
		must(t, err)
	})
	for i := range 30 {
		r.mustPut(fmt.Sprint("n", i), "2")
	}
	token, head := r.token()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	must(t, err)
	_, err = f.Write(old)
	must(t, errors.Join(err, f.Close()))
	until(t, "writes are taken", func() bool { return r.put("c", "3") == nil })
	r.verify()
	r.restart(func() {})
	r.verify()
	if seq, err := r.parse(token); err != nil || seq != head.Seq {
		t.Errorf("token from before: %v, %v; want %v", seq, err, head.Seq)
	}
}

// Large changes that come at once are committed in batches of bounded size.
func TestLargeBatchIsSplit(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	shipping, release := make(chan struct{}), make(chan struct{})
	appends := 0
	r.Ledger.fault = func(step string) error {
		if step == "before append" {
			if appends++; appends == 1 {
				close(shipping)
				<-release
			}
		}
		return nil
	}
	results := make(chan error, 16)
	go func() { results <- r.put("first", "1") }()
	<-shipping
	body := InlineBody(bytes.Repeat([]byte("x"), holdfast.MaxInline))
	for i := range 12 {
		go func() {
			_, err := r.Update(context.Background(), person, 1, func(tx *Tx) error {
				for k := range 60 { // 4 MiB
					tx.Put(r.cards, fmt.Sprintf("%d-%d", i, k), "", 0, body)
				}
				return nil
			})
			results <- err
		}()
	}
	close(release)
	for range 13 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if appends < 4 {
		t.Errorf("48 MiB in %d batches", appends)
	}
}

// A damaged store that the mirrors cannot replace stays: its other resources are served, and the
// damaged one answers with its error, without closing the server each time.
func TestDamagedStoreThatCannotBeRebuilt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", marked)
	r.mustPut("b", "2")
	r.restart(func() {})
	r.restart(func() {
		r.flip(marked)
		// An old log is gone: the last one, which a start reads, does not show it.
		logs, err := os.ReadDir(filepath.Join(r.cfg.Mirrors[0].Path, "log"))
		must(t, err)
		must(t, os.RemoveAll(filepath.Join(r.cfg.Mirrors[0].Path, "log", logs[1].Name())))
	})
	until(t, "the rest is served", func() bool {
		_, err := r.get("a")
		return errors.Is(err, holdfast.ErrCorrupt) && r.rebuiltLately() && r.Status().State == "open" && r.Status().Scrub.Unhealed > 0 && !r.Status().Scrub.Asked
	})
	term := r.Status().Term
	for range 20 {
		if _, err := r.get("a"); !errors.Is(err, holdfast.ErrCorrupt) {
			t.Errorf("the damaged body: %v", err)
		}
		if got, err := r.get("b"); err != nil || got != "2" {
			t.Errorf("b: %q, %v", got, err)
		}
	}
	if r.Status().Term != term {
		t.Error("each read of the damaged body closed the server")
	}
}
