package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
)

func TestOpenNeverCreates(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	for name, path := range map[string]string{"empty directory": dir, "no directory": filepath.Join(dir, "none")} {
		if s, err := Open(ctx, Config{Path: path, Server: testServer}); !errors.Is(err, holdfast.ErrAbsent) {
			t.Errorf("%s: Open: %v, %v, want ErrAbsent", name, s, err)
		}
	}
	if _, err := Create(ctx, Config{Path: filepath.Join(dir, "none"), Server: testServer}); !errors.Is(err, holdfast.ErrAbsent) {
		t.Errorf("Create without directory: %v, want ErrAbsent", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("Open and Create left %v, %v", left, err)
	}
}

func TestCreateWantsAnEmptyDirectory(t *testing.T) {
	for _, name := range []string{fileName, fileName + "-wal", "lost+found"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Create(context.Background(), Config{Path: dir, Server: testServer}); !errors.Is(err, holdfast.ErrExists) {
			t.Errorf("Create beside %s: %v, want ErrExists", name, err)
		}
	}
}

// TestOpenRefuses damages a good store in one way each.
func TestOpenRefuses(t *testing.T) {
	sqlOf := func(queries ...string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) { execRaw(t, path, queries...) }
	}
	for _, v := range []struct {
		name   string
		damage func(t *testing.T, path string)
		want   error
		text   string
	}{
		{"empty file", func(t *testing.T, path string) { truncate(t, path, 0) }, holdfast.ErrCorrupt, "is empty"},
		{"text file", func(t *testing.T, path string) { overwrite(t, path, 0, strings.Repeat("no database ", 400)) }, holdfast.ErrCorrupt, ""},
		{"cut off", func(t *testing.T, path string) { truncate(t, path, 8192) }, holdfast.ErrCorrupt, ""},
		{"page of noise", func(t *testing.T, path string) { overwrite(t, path, 4096, strings.Repeat("noise", 800)) }, holdfast.ErrCorrupt, ""},
		{"other program's", sqlOf("PRAGMA application_id = 77"), holdfast.ErrAbsent, "not a store of Holdfast"},
		{"log removed", func(t *testing.T, path string) {
			if err := os.Remove(path + "-wal"); err != nil {
				t.Fatal(err)
			}
		}, holdfast.ErrCorrupt, "is gone"},
		{"newer schema", sqlOf("PRAGMA user_version = 2"), holdfast.ErrNewer, "run the newer program"},
		{"schema 0", sqlOf("PRAGMA user_version = 0"), holdfast.ErrCorrupt, ""},
		{"no server", sqlOf("DELETE FROM meta WHERE name = 'server'"), holdfast.ErrCorrupt, "no valid server"},
		{"other server's", sqlOf("UPDATE meta SET value = x'00000000000000000000000000000000' WHERE name = 'server'"), holdfast.ErrAbsent, "belongs to server"},
		{"a directory", func(t *testing.T, path string) {
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
				t.Fatal(err)
			}
		}, holdfast.ErrAbsent, "not a regular file"},
	} {
		t.Run(v.name, func(t *testing.T) {
			s, cfg := newStore(t)
			write(t, s, 1, root(), mkcol(2, 1, "a"), put(2, "x", "body"))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			v.damage(t, filepath.Join(cfg.Path, fileName))
			s, err := Open(context.Background(), cfg)
			if err == nil {
				s.Close()
			}
			if !errors.Is(err, v.want) || !strings.Contains(err.Error(), v.text) {
				t.Errorf("Open: %v, want %v and %q", err, v.want, v.text)
			}
		})
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, path string, at int64, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(text), at); err != nil {
		t.Fatal(err)
	}
}

// TestRemovedStoreHarmsNoOther removes a store under its user, puts another at the same path, and
// closes the first: the second must not notice. SQLite by itself would remove the second's log.
func TestRemovedStoreHarmsNoOther(t *testing.T) {
	old, cfg := newStore(t)
	write(t, old, 1, root(), mkcol(2, 1, "a"), put(2, "x", "old"))
	if err := old.Linked(); err != nil {
		t.Fatalf("Linked: %v", err)
	}
	if err := os.RemoveAll(cfg.Path); err != nil {
		t.Fatal(err)
	}
	if err := old.Linked(); !errors.Is(err, holdfast.ErrAbsent) {
		t.Fatalf("Linked after removal: %v, want ErrAbsent", err)
	}
	if err := os.Mkdir(cfg.Path, 0o700); err != nil {
		t.Fatal(err)
	}
	fresh, err := Create(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	write(t, fresh, 1, root(), mkcol(2, 1, "a"), put(2, "x", "new"))
	if err := old.Linked(); !errors.Is(err, holdfast.ErrAbsent) {
		t.Errorf("Linked beside another store: %v, want ErrAbsent", err)
	}
	write(t, old, 1, put(2, "y", "into the void")) // the open descriptors still work
	if err := old.Close(); err != nil {
		t.Errorf("Close of the removed store: %v", err)
	}
	if err := fresh.Linked(); err != nil {
		t.Errorf("the new store lost its files: %v", err)
	}
	write(t, fresh, 1, put(2, "z", "newer"))
	if err := fresh.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for name, want := range map[string]string{"x": "new", "z": "newer"} {
		r := read(t, again)
		res, err := r.Resource(1, 2, name, Newest)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := r.Body(res); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v, want %q", name, b, err, want)
		}
		r.Close()
	}
}

func TestLinkedSeesARemovedLog(t *testing.T) {
	s, cfg := newStore(t)
	if err := os.Remove(filepath.Join(cfg.Path, fileName+"-wal")); err != nil {
		t.Fatal(err)
	}
	if err := s.Linked(); !errors.Is(err, holdfast.ErrAbsent) {
		t.Errorf("Linked: %v, want ErrAbsent", err)
	}
}

func TestTerm(t *testing.T) {
	s, _ := newStore(t)
	ctx := context.Background()
	if got, err := s.Term(ctx); err != nil || got != (holdfast.Term{}) {
		t.Errorf("first Term: %v, %v", got, err)
	}
	want := holdfast.Term{Number: 9, Random: 1<<64 - 1}
	if err := s.SetTerm(ctx, want); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Term(ctx); err != nil || got != want {
		t.Errorf("Term: %v, %v, want %v", got, err, want)
	}
}

func TestDamagedBodyIsNotServed(t *testing.T) {
	s, cfg := newStore(t)
	write(t, s, 1, root(), mkcol(2, 1, "a"), put(2, "x.txt", "an honest body"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	execRaw(t, filepath.Join(cfg.Path, fileName), "UPDATE change SET payload = CAST(replace(CAST(payload AS TEXT), 'honest', 'h0nest') AS BLOB)")
	s, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := read(t, s)
	res, err := r.Resource(1, 2, "x.txt", Newest)
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.Body(res)
	if !errors.Is(err, holdfast.ErrCorrupt) || len(b) > 0 {
		t.Fatalf("Body: %q, %v, want ErrCorrupt", b, err)
	}
	for _, part := range []string{"account 0000000000000001", "collection 2", `"x.txt"`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not name %s", err, part)
		}
	}
	r.Close()
}
