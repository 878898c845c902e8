//go:build unix

package durable_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"holdfast"
	"holdfast/internal/durable"
)

func newFile(t *testing.T, name string) durable.File {
	t.Helper()
	f, err := durable.Disk.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, durable.FilePerm)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestDiskCreate(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "x")
	n, sum, err := durable.CreateFrom(durable.Disk, name, bytes.NewReader(newer), durable.FilePerm)
	if err != nil || n != int64(len(newer)) || sum != sha256.Sum256(newer) {
		t.Fatalf("got %d, %v, %v", n, sum, err)
	}
	if err := durable.Create(durable.Disk, name, older, durable.FilePerm); !errors.Is(err, holdfast.ErrExists) {
		t.Errorf("got %v, want ErrExists", err)
	}
	if err := outcome(durable.Disk, name, newer); err != nil {
		t.Error(err)
	}
	if err := durable.Replace(durable.Disk, name, older, durable.FilePerm); err != nil {
		t.Fatal(err)
	}
	if err := outcome(durable.Disk, name, older); err != nil {
		t.Error(err)
	}
	if i, err := os.Stat(name); err != nil || i.Mode() != durable.FilePerm {
		t.Errorf("got mode %v, %v", i.Mode(), err)
	}
	broken := errors.New("the sender went away")
	if _, _, err := durable.CreateFrom(durable.Disk, name+"2", iotest.ErrReader(broken), durable.FilePerm); !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's error", err)
	}
	es, err := os.ReadDir(dir)
	if err != nil || len(es) != 1 {
		t.Errorf("got %v, %v, want the one file and nothing unfinished", es, err)
	}
}

func TestDiskErrors(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, name := range []string{a, b} {
		if err := durable.Create(durable.Disk, name, []byte(name), durable.FilePerm); err != nil {
			t.Fatal(err)
		}
	}
	missing := filepath.Join(dir, "no", "such")
	_, statErr := durable.Disk.Stat(missing)
	_, openErr := durable.Disk.OpenFile(missing, os.O_RDONLY, 0)
	_, lockErr := durable.Lock(missing)
	var listErr error
	for _, err := range durable.Disk.ReadDir(missing) {
		listErr = err
	}
	for what, c := range map[string]struct{ got, want error }{
		"stat":             {statErr, holdfast.ErrNotFound},
		"open":             {openErr, holdfast.ErrNotFound},
		"lock":             {lockErr, holdfast.ErrNotFound},
		"list":             {listErr, holdfast.ErrNotFound},
		"create":           {durable.Create(durable.Disk, missing, nil, 0o600), holdfast.ErrNotFound},
		"remove":           {durable.Remove(durable.Disk, missing), holdfast.ErrNotFound},
		"sync directory":   {durable.Disk.SyncDir(missing), holdfast.ErrNotFound},
		"below a file":     {durable.Create(durable.Disk, filepath.Join(a, "x"), nil, 0o600), holdfast.ErrNotFound},
		"rename, taken":    {durable.Rename(durable.Disk, a, b, false), holdfast.ErrExists},
		"mkdir, taken":     {durable.Disk.Mkdir(dir, durable.DirPerm), holdfast.ErrExists},
		"mkdirall, a file": {durable.MkdirAll(durable.Disk, a), holdfast.ErrExists},
		"remove, full":     {durable.Disk.Remove(dir), holdfast.ErrExists},
		"below nothing":    {durable.MkdirBelow(durable.Disk, missing, "x"), holdfast.ErrAbsent},
	} {
		if !errors.Is(c.got, c.want) || errors.Is(c.got, holdfast.ErrFatal) {
			t.Errorf("%s: got %v, want %v", what, c.got, c.want)
		}
	}
	if err := durable.Rename(durable.Disk, a, b, true); err != nil {
		t.Error(err)
	}
	if err := outcome(durable.Disk, b, []byte(a)); err != nil {
		t.Error(err)
	}
}

// Allocated room is zeros, keeps what was there, and is really taken from the disk.
func TestDiskAllocate(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x")
	f := newFile(t, name)
	if _, err := f.WriteAt([]byte("begin"), 0); err != nil {
		t.Fatal(err)
	}
	const size = 3<<20 + 17
	for _, n := range []int64{size, 100} { // the second must not shorten
		if err := f.Allocate(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := outcome(durable.Disk, name, append([]byte("begin"), make([]byte, size-5)...)); err != nil {
		t.Error(err)
	}
	if got := blocks(t, name) * 512; got < size {
		t.Errorf("got %d bytes of blocks, want at least %d", got, size)
	}
	durable.DropCache(f)
	if err := f.Chmod(durable.SealedPerm); err != nil {
		t.Fatal(err)
	}
	i, err := f.Stat()
	j, err2 := durable.Disk.Stat(name)
	if err != nil || err2 != nil || i != j || i.Size != size || i.Mode != durable.SealedPerm || !i.Same(j) || i.Ino == 0 {
		t.Errorf("got %+v, %v and %+v, %v", i, err, j, err2)
	}
}

func TestDiskReadDir(t *testing.T) {
	dir := t.TempDir()
	want := map[string]fs.FileMode{}
	for n := range 1500 { // more than one batch
		name := fmt.Sprint(n)
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		want[name] = 0
	}
	if err := durable.MkdirAll(durable.Disk, filepath.Join(dir, "sub", "deep")); err != nil {
		t.Fatal(err)
	}
	want["sub"] = fs.ModeDir
	seen := 0
	for e, err := range durable.Disk.ReadDir(dir) {
		if err != nil {
			t.Fatal(err)
		}
		typ, ok := want[e.Name]
		if !ok || typ != e.Type {
			t.Errorf("got %q of type %v", e.Name, e.Type)
		}
		delete(want, e.Name)
		seen++
	}
	if len(want) != 0 || seen != 1501 {
		t.Errorf("saw %d names, %d are missing", seen, len(want))
	}
	for range durable.Disk.ReadDir(dir) { // an early end must not leak or fail
		break
	}
	if i, err := os.Stat(filepath.Join(dir, "sub")); err != nil || i.Mode().Perm() != durable.DirPerm {
		t.Errorf("got mode %v, %v", i.Mode(), err)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	l, err := durable.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := durable.Lock(dir); !errors.Is(err, durable.ErrLocked) {
		t.Fatalf("got %v, want ErrLocked", err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	l, err = durable.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Unlock()
}

func TestReserve(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "reserve")
	for _, size := range []int64{1 << 20, 2 << 20, 1 << 20} {
		if err := durable.Reserve(durable.Disk, name, size); err != nil {
			t.Fatal(err)
		}
		if got := blocks(t, name) * 512; got < size {
			t.Errorf("got %d bytes of blocks, want %d", got, size)
		}
	}
	free, err := durable.FreeBytes(dir)
	if err != nil || free <= 0 {
		t.Errorf("got %d free bytes, %v", free, err)
	}
	for range 2 {
		if err := durable.Release(durable.Disk, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := outcome(durable.Disk, name, nil); err != nil {
		t.Error(err)
	}
	if err := durable.Reserve(durable.Disk, name, 1<<60); !errors.Is(err, holdfast.ErrFull) {
		t.Logf("reserve 1 EiB: %v", err) // some file systems say EFBIG first
		if err == nil {
			t.Error("reserved 1 EiB")
		}
	}
	if es, err := os.ReadDir(dir); err != nil || len(es) != 0 {
		t.Errorf("got %v, %v, want nothing left", es, err)
	}
}
