package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/ledger"
)

const person = holdfast.AccountID(1)

// old makes a server with two mirrors and some data, closed again, and returns the paths of its mirrors.
func old(t *testing.T) (mirrors []string) {
	t.Helper()
	root := t.TempDir()
	c := ledger.Config{Dir: filepath.Join(root, "data"), Server: holdfast.ServerID{7}, MinFree: 1, SegmentSize: 1 << 20}
	for _, name := range []string{"usb", "shed"} {
		mirrors = append(mirrors, filepath.Join(root, name))
		c.Mirrors = append(c.Mirrors, ledger.MirrorConfig{Name: name, Path: filepath.Join(root, name)})
	}
	must(t, os.Mkdir(c.Dir, 0o700))
	must(t, ledger.Create(t.Context(), c))
	work(t, c, func(l *ledger.Ledger) {
		_, err := l.Update(t.Context(), person, 0, func(tx *ledger.Tx) error {
			tx.PutCollection(&ledger.Collection{ID: holdfast.Root, Kind: holdfast.KindFile})
			return nil
		})
		must(t, err)
		big, err := l.PutBlob(t.Context(), person, strings.NewReader(strings.Repeat("photo", 50_000)), 1<<20)
		must(t, err)
		for i := range 5 {
			_, err := l.Update(t.Context(), person, 1, func(tx *ledger.Tx) error {
				tx.Put(holdfast.Root, fmt.Sprint(i), "text/plain", 0, ledger.InlineBody([]byte(fmt.Sprint("body ", i))))
				tx.Put(holdfast.Root, "photo", "image/jpeg", 0, big)
				return nil
			})
			must(t, err)
		}
	})
	return mirrors
}

func work(t *testing.T, c ledger.Config, fn func(l *ledger.Ledger)) {
	t.Helper()
	l, err := ledger.Open(context.WithoutCancel(t.Context()), c)
	must(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	must(t, l.WaitOpen(ctx))
	fn(l)
	must(t, l.Close(ctx))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func order(t *testing.T, mirrors []string, dir string) Order {
	t.Helper()
	f, err := Look(t.Context(), mirrors)
	must(t, err)
	return Order{Dir: dir, Settings: f.Settings(), Host: "newbox"}
}

// whole checks that a restored directory has everything that old made.
func whole(t *testing.T, dir string) {
	t.Helper()
	c, err := config.Load(dir)
	must(t, err)
	lc := ledger.Config{Dir: dir, Server: c.ServerID, MinFree: 1}
	for _, m := range c.Mirrors {
		lc.Mirrors = append(lc.Mirrors, ledger.MirrorConfig{Name: m.Name, Path: m.Path})
	}
	work(t, lc, func(l *ledger.Ledger) {
		must(t, l.View(t.Context(), person, func(v *ledger.View) error {
			for name, want := range map[string]string{"4": "body 4", "photo": strings.Repeat("photo", 50_000)} {
				r, err := v.Resource(holdfast.Root, name)
				if err != nil {
					return err
				}
				if b, err := v.Body(r); err != nil || string(b) != want {
					t.Errorf("%s: %d bytes, %v; want %d", name, len(b), err, len(want))
				}
			}
			return nil
		}))
	})
}

// Fault 23: each durable step fails before it is done, or after; or the process dies there, which leaves
// the same. The directory is nobody's until the same order has been given again, and then complete.
func TestRunFaults(t *testing.T) {
	t.Parallel()
	steps := []string{"directory", "mark", "lock", "settings", "ledger", "report", "finish"}
	mirrors := old(t)
	failed := errors.New("the power went")
	for _, step := range steps {
		for _, when := range []string{"before ", "after "} {
			dir := filepath.Join(t.TempDir(), "box")
			o := order(t, mirrors, dir)
			hit := false
			o.fault = func(s string) error {
				if s == when+step {
					hit = true
					return failed
				}
				return nil
			}
			_, err := Run(t.Context(), o)
			if !errors.Is(err, failed) || !hit {
				t.Fatalf("%s%s: got %v", when, step, err)
			}
			if when+step == "after finish" {
				whole(t, dir)
				continue
			}
			if _, err := config.Load(dir); err == nil || !errors.Is(err, holdfast.ErrDenied) && !errors.Is(err, holdfast.ErrAbsent) {
				t.Errorf("%s%s: a command would take it for a server's: %v", when, step, err)
			}
			if _, err := Run(t.Context(), order(t, mirrors, dir)); err != nil {
				t.Fatalf("%s%s: again: %v", when, step, err)
			}
			whole(t, dir)
		}
	}
}

// What Look tells, and what it refuses.
func TestLook(t *testing.T) {
	t.Parallel()
	mirrors := old(t)
	f, err := Look(t.Context(), mirrors)
	must(t, err)
	if f.Accounts != 1 || f.Changes != 7 || len(f.Missing) > 0 || !f.Listed || f.Server != (holdfast.ServerID{7}) || f.Bytes < 250_000 || time.Since(f.Written) > time.Hour {
		t.Errorf("found %+v", f)
	}
	if f.Mirrors[0].Name != "usb" || f.Mirrors[1].Last == nil || f.Mirrors[1].Last.Term.Number != 2 {
		t.Errorf("mirrors %+v", f.Mirrors)
	}
	f, err = Look(t.Context(), mirrors[1:])
	must(t, err)
	if len(f.Missing) != 1 || f.Missing[0].Name != "usb" || f.Missing[0].Path != mirrors[0] {
		t.Errorf("missing %+v", f.Missing)
	}
	another := old(t)
	must(t, os.WriteFile(filepath.Join(another[0], "holdfast-mirror.json"),
		[]byte(`{"format":1,"server":"00112233445566778899aabbccddeeff","mirror":"00112233445566778899aabbccddeeff"}`), 0o600))
	for what, paths := range map[string][]string{"none": {}, "twice": {mirrors[0], mirrors[0]}, "of two servers": {mirrors[0], another[0]}} {
		if _, err := Look(t.Context(), paths); !errors.Is(err, holdfast.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", what, err)
		}
	}
	if _, err := Look(t.Context(), []string{t.TempDir()}); !errors.Is(err, holdfast.ErrAbsent) {
		t.Errorf("an empty directory: got %v, want ErrAbsent", err)
	}
}

// What Run may write into.
func TestCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if again, err := Check(dir, holdfast.ServerID{7}); err != nil || again {
		t.Errorf("empty: %v, %v", again, err)
	}
	must(t, os.WriteFile(filepath.Join(dir, config.RestoreName), []byte(`{"format":1,"server":"`+holdfast.ServerID{7}.String()+`"}`), 0o600))
	if again, err := Check(dir, holdfast.ServerID{7}); err != nil || !again {
		t.Errorf("begun: %v, %v", again, err)
	}
	if _, err := Check(dir, holdfast.ServerID{8}); !errors.Is(err, holdfast.ErrDenied) {
		t.Errorf("another server's: got %v, want ErrDenied", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, config.RestoreName), []byte("{"), 0o600))
	if _, err := Check(dir, holdfast.ServerID{7}); !errors.Is(err, holdfast.ErrCorrupt) {
		t.Errorf("damaged: got %v, want ErrCorrupt", err)
	}
}

func FuzzMarker(f *testing.F) {
	f.Add([]byte(`{"format":1,"server":"00","began":"2026"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parseMarker(b); err != nil && !errors.Is(err, holdfast.ErrCorrupt) {
			t.Errorf("got %v, want ErrCorrupt", err)
		}
	})
}
