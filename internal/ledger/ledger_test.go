package ledger

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast"
)

func TestWriteReadRestart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a.vcf", "one")
	r.mustPut("a.vcf", "two")
	big := bytes.Repeat([]byte("photo "), 40_000)
	body, err := r.PutBlob(t.Context(), person, bytes.NewReader(big), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Update(t.Context(), person, 1, func(tx *Tx) error {
		tx.Put(r.cards, "big", "image/jpeg", 0, body)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	r.acked["big"] = string(big)
	token, _ := r.token()
	r.verify()
	r.close(r.Ledger)
	if _, err := r.get("a.vcf"); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("read after close: got %v, want ErrFenced", err)
	}
	r.open()
	r.verify()
	if again, _ := r.token(); again != token {
		t.Errorf("token after restart %s, before %s", again, token)
	}
	if got := r.incidents(); len(got) != 0 {
		t.Errorf("an ordinary restart left incidents: %v", got)
	}
	if _, err := r.PutBlob(t.Context(), person, bytes.NewReader(big), 100_000); !errors.Is(err, holdfast.ErrTooLarge) {
		t.Errorf("body over the limit: got %v, want ErrTooLarge", err)
	}
}

func TestRefusalWritesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, before := r.token()
	_, err := r.Update(t.Context(), person, 1, func(tx *Tx) error {
		tx.Put(r.cards, "x", "", 0, InlineBody([]byte("x")))
		return fmt.Errorf("not so: %w", holdfast.ErrPrecondition)
	})
	if !errors.Is(err, holdfast.ErrPrecondition) {
		t.Errorf("got %v, want ErrPrecondition", err)
	}
	_, err = r.Update(t.Context(), person, 1, func(tx *Tx) error { panic("a broken caller") })
	if err == nil || !strings.Contains(err.Error(), "a broken caller") {
		t.Errorf("panic: got %v", err)
	}
	if head, err := r.Update(t.Context(), person, 1, func(*Tx) error { return nil }); err != nil || head.Seq != before.Seq {
		t.Errorf("nothing recorded: got %v, %v; want seq %v", head, err, before.Seq)
	}
	if _, after := r.token(); after != before {
		t.Errorf("head moved from %v to %v", before, after)
	}
	r.mustPut("y", "y")
}

// Row 10 of the fault matrix, F7: the store is removed under a running server with writers.
func TestStoreRemovedWhileRunning(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("first", "1")
	token, head := r.token()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var count atomic.Int64
	warm := make(chan struct{})
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprintf("w%d-%d", w, i)
				if err := r.put(name, name+" body"); err != nil {
					if !errors.Is(err, holdfast.ErrFenced) && !errors.Is(err, holdfast.ErrNotDurable) {
						t.Errorf("put: %v", err)
						return
					}
					time.Sleep(time.Millisecond) // a client that honours Retry-After
				} else if count.Add(1) == 50 {
					close(warm)
				}
				if body, err := r.get("first"); err != nil && !errors.Is(err, holdfast.ErrFenced) || err == nil && body != "1" {
					t.Errorf("get: %q, %v", body, err)
					return
				}
			}
		})
	}
	<-warm
	entries, err := filepath.Glob(filepath.Join(r.cfg.Dir, "store", "*"))
	if err != nil || len(entries) == 0 {
		t.Fatal("no store to remove")
	}
	for _, e := range entries {
		if err := os.RemoveAll(e); err != nil {
			t.Fatal(err)
		}
	}
	r.waitState("closed")
	r.waitOpen()
	after := count.Load()
	for count.Load() < after+50 && !t.Failed() {
		time.Sleep(time.Millisecond)
	}
	close(stop)
	wg.Wait()
	r.verify()
	if seq, err := r.parse(token); err != nil || seq != head.Seq {
		t.Errorf("token from before: %v, %v; want %v", seq, err, head.Seq)
	}
	if got := r.incidents(); len(got) != 1 || !strings.HasSuffix(got[0], "-heal.md") {
		t.Errorf("incidents: %v", got)
	}
	t.Logf("acknowledged %d, healed %+v", len(r.acked), r.Status().Heals)
	r.close(r.Ledger)
	r.open()
	r.verify()
}

// Rows 9, 11, 12: at a start the store is absent, emptied, garbage, or an old copy.
func TestStoreBadAtStart(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, store, old string){
		"removed": func(t *testing.T, store, _ string) { must(t, os.RemoveAll(store)) },
		"emptied": func(t *testing.T, store, _ string) {
			must(t, os.RemoveAll(store))
			must(t, os.Mkdir(store, 0o700))
		},
		"zeroed": func(t *testing.T, store, _ string) {
			f := filepath.Join(store, "holdfast.db")
			st, err := os.Stat(f)
			must(t, err)
			must(t, os.WriteFile(f, make([]byte, st.Size()), 0o600))
		},
		"old copy": func(t *testing.T, store, old string) {
			must(t, os.RemoveAll(store))
			must(t, os.CopyFS(store, os.DirFS(old)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.mustPut("a", "1")
			r.close(r.Ledger)
			store, old := filepath.Join(r.cfg.Dir, "store"), filepath.Join(t.TempDir(), "old")
			must(t, os.CopyFS(old, os.DirFS(store)))
			r.open()
			for i := range 20 {
				r.mustPut(fmt.Sprint("b", i), "2")
			}
			token, head := r.token()
			r.close(r.Ledger)
			damage(t, store, old)
			r.open()
			r.verify()
			if seq, err := r.parse(token); err != nil || seq != head.Seq {
				t.Errorf("token from before: %v, %v; want %v", seq, err, head.Seq)
			}
			if len(r.incidents()) == 0 {
				t.Error("no incident report")
			}
			r.mustPut("c", "3")
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Row 14, F2: a mirror that is not there is held, never taken for an empty one; it resumes by itself.
func TestMirrorAway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	path := r.cfg.Mirrors[0].Path
	must(t, os.Rename(path, path+".away"))
	if err := r.put("b", "2"); !errors.Is(err, holdfast.ErrNotDurable) {
		t.Errorf("write without the mirror: got %v, want ErrNotDurable", err)
	}
	r.waitState("held")
	if got, err := r.get("a"); err != nil || got != "1" {
		t.Errorf("read while held: %q, %v", got, err)
	}
	if err := r.put("c", "3"); !errors.Is(err, holdfast.ErrNotDurable) {
		t.Errorf("write while held: got %v, want ErrNotDurable", err)
	}
	must(t, os.Mkdir(path, 0o700)) // the mount point without its disk
	if err := r.put("c", "3"); !errors.Is(err, holdfast.ErrNotDurable) {
		t.Errorf("write with an empty mount point: got %v, want ErrNotDurable", err)
	}
	if entries, err := os.ReadDir(path); err != nil || len(entries) != 0 {
		t.Errorf("the empty mount point was written to: %v, %v", entries, err)
	}
	must(t, os.Remove(path))
	must(t, os.Rename(path+".away", path))
	r.waitState("open")
	r.mustPut("d", "4")
	r.verify()
}

// At a start without its mirror nothing is proven, so nothing is served.
func TestStartWithoutMirror(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	r.close(r.Ledger)
	path := r.cfg.Mirrors[0].Path
	must(t, os.Rename(path, path+".away"))
	l, err := Open(t.Context(), r.cfg)
	must(t, err)
	r.Ledger = l
	t.Cleanup(func() { r.close(l) })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := r.WaitOpen(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("opened without its mirror: %v", err)
	}
	if _, err := r.get("a"); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("read: got %v, want ErrFenced", err)
	}
	must(t, os.Rename(path+".away", path))
	r.waitOpen()
	r.verify()
}

// Store and mirror rolled back together: the head file knows, and the account stays closed.
func TestHeadFileIsAWitness(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	r.close(r.Ledger)
	store, mirror, old := filepath.Join(r.cfg.Dir, "store"), r.cfg.Mirrors[0].Path, t.TempDir()
	must(t, os.CopyFS(filepath.Join(old, "store"), os.DirFS(store)))
	must(t, os.CopyFS(filepath.Join(old, "mirror"), os.DirFS(mirror)))
	r.open()
	r.mustPut("b", "2")
	r.close(r.Ledger)
	for dst, src := range map[string]string{store: "store", mirror: "mirror"} {
		must(t, removeAll(dst))
		must(t, os.CopyFS(dst, os.DirFS(filepath.Join(old, src))))
	}
	r.open()
	if _, err := r.get("a"); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("read of the rolled back account: got %v, want ErrFenced", err)
	}
	if s := r.Status(); len(s.Closed) != 1 || s.State != "open" {
		t.Errorf("status %+v: want one account closed, the others open (F8)", s)
	}
	r.close(r.Ledger)
	r.open()
	if _, err := r.get("a"); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("after one more restart: got %v, want ErrFenced", err)
	}
}

// The same with an old head file too: the mirror's own head file is a witness as well, and is not
// forgotten when it is written anew.
func TestMirrorHeadFileIsAWitness(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	r.close(r.Ledger)
	mirror, old := r.cfg.Mirrors[0].Path, t.TempDir()
	must(t, os.CopyFS(filepath.Join(old, "data"), os.DirFS(r.cfg.Dir)))
	must(t, os.CopyFS(filepath.Join(old, "mirror"), os.DirFS(mirror)))
	r.open()
	r.mustPut("b", "2")
	r.close(r.Ledger)
	witness, err := os.ReadFile(filepath.Join(mirror, "heads"))
	must(t, err)
	for dst, src := range map[string]string{r.cfg.Dir: "data", mirror: "mirror"} {
		must(t, removeAll(dst))
		must(t, os.CopyFS(dst, os.DirFS(filepath.Join(old, src))))
	}
	must(t, os.WriteFile(filepath.Join(mirror, "heads"), witness, 0o600))
	for range 3 {
		r.open()
		if _, err := r.get("a"); !errors.Is(err, holdfast.ErrFenced) {
			t.Errorf("read of the rolled back account: got %v, want ErrFenced", err)
		}
		if _, err := r.Update(t.Context(), holdfast.Server, 0, func(*Tx) error { return nil }); err != nil {
			t.Errorf("another account: %v", err)
		}
		r.close(r.Ledger)
	}
}

// removeAll also removes what a mirror made read-only.
func removeAll(dir string) error {
	return os.RemoveAll(dir)
}

func TestBlobHealedFromMirror(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	big := make([]byte, 300_000)
	_, _ = rand.Read(big)
	body, err := r.PutBlob(t.Context(), person, bytes.NewReader(big), 1<<20)
	must(t, err)
	_, err = r.Update(t.Context(), person, 1, func(tx *Tx) error {
		tx.Put(r.cards, "big", "image/jpeg", 0, body)
		return nil
	})
	must(t, err)
	r.acked["big"] = string(big)
	path := filepath.Join(r.cfg.Dir, "blobs", person.String(), body.Hash.String())
	damaged := bytes.Clone(big)
	damaged[200_000] ^= 1
	for name, damage := range map[string]func() error{
		"removed":   func() error { return os.Remove(path) },
		"cut":       func() error { return os.Truncate(path, 1000) },
		"bit flip":  func() error { return errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, damaged, 0o600)) },
		"directory": func() error { return os.RemoveAll(filepath.Dir(path)) },
	} {
		must(t, damage())
		r.verify()
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, big) {
			t.Errorf("%s: not healed on disk: %v", name, err)
		}
	}
}

// What a killed process left unfinished is gone after the next start.
func TestSweep(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	r.close(r.Ledger)
	old := time.Now().Add(-time.Minute)
	var left []string
	for _, d := range []string{r.cfg.Mirrors[0].Path, filepath.Join(r.cfg.Dir, "blobs")} {
		f := filepath.Join(d, ".tmp-spare.7")
		must(t, os.WriteFile(f, make([]byte, 1000), 0o600))
		must(t, os.Chtimes(f, old, old))
		left = append(left, f)
	}
	r.open()
	for _, f := range left {
		if _, err := os.Stat(f); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", f, err)
		}
	}
	r.verify()
}

// A change that does not fit is refused alone; the others of its batch go on.
func TestInvalidChange(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := r.put(fmt.Sprint("good", i), "1"); err != nil {
				t.Error(err)
			}
			if err := r.put("a/b", "2"); !errors.Is(err, holdfast.ErrInvalid) {
				t.Errorf("a slash in a name: got %v, want ErrInvalid", err)
			}
		})
	}
	wg.Wait()
	r.verify()
	if s := r.Status(); s.State != "open" {
		t.Errorf("fence is %s: %s", s.State, s.Reason)
	}
}

// The reserve lies on the store's disk: it is given away when that is full, not for a mirror's.
func TestReserve(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.close(r.Ledger) // nobody makes it again meanwhile
	r.keepReserve()
	there := func() bool { _, err := os.Stat(r.reservePath()); return err == nil }
	if !there() {
		t.Fatal("no reserve was made, though there is room")
	}
	for _, err := range []error{errors.New("other"), &mirrorError{"disk2", holdfast.ErrFull}} {
		if r.useReserve(err) || !there() {
			t.Errorf("%v: the reserve was given away", err)
		}
	}
	if !r.useReserve(fmt.Errorf("commit: %w", holdfast.ErrFull)) || there() {
		t.Error("the store's disk is full: the reserve was not given away")
	}
	if r.useReserve(holdfast.ErrFull) {
		t.Error("given away twice: the keeper would try again without a pause")
	}
}
