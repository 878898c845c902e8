package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/bucket"
	"holdfast/internal/bucket/buckettest"
	"holdfast/internal/durable"
	"holdfast/internal/durable/simdisk"
)

func newDisk(t testing.TB, opts ...Option) *Dir {
	t.Helper()
	d, err := Create(durable.Disk, filepath.Join(t.TempDir(), "bucket"), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func newSim(t testing.TB, opts ...Option) (*Dir, *simdisk.Disk) {
	t.Helper()
	s := simdisk.New(1)
	d, err := Create(s, "/bucket", opts...)
	if err != nil {
		t.Fatal(err)
	}
	return d, s
}

func TestContract(t *testing.T) {
	sim, _ := newSim(t)
	for name, b := range map[string]bucket.Bucket{
		"disk": newDisk(t), "disk, in call": newDisk(t, WithSpare(InCall)), "disk, no spare": newDisk(t, WithSpare(Off), WithCache()), "simulated": sim,
	} {
		for _, c := range buckettest.Checks() {
			t.Run(name+"/"+c.Name, func(t *testing.T) {
				t.Parallel()
				if err := c.Run(t.Context(), b); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func put(t testing.TB, d *Dir, name, body string) {
	t.Helper()
	if err := d.Put(t.Context(), name, strings.NewReader(body), false); err != nil {
		t.Fatal(err)
	}
}

func list(t testing.TB, d *Dir, prefix string) []string {
	t.Helper()
	var out []string
	for i, err := range d.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, i.Name)
	}
	return out
}

func TestOpenNeverCreates(t *testing.T) {
	name := filepath.Join(t.TempDir(), "bucket")
	if _, err := Open(durable.Disk, name); !errors.Is(err, holdfast.ErrAbsent) {
		t.Errorf("got %v, want ErrAbsent", err)
	}
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open made the directory: %v", err)
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(durable.Disk, name); !errors.Is(err, holdfast.ErrAbsent) {
		t.Errorf("a file: got %v, want ErrAbsent", err)
	}
	d := newDisk(t)
	put(t, d, "x", "x")
	if _, err := Create(durable.Disk, d.Path()); !errors.Is(err, holdfast.ErrExists) {
		t.Errorf("create over something: got %v, want ErrExists", err)
	}
}

// A bucket that was removed, or replaced by another directory (an empty mount point), is absent for everything, and stays so.
func TestAbsent(t *testing.T) {
	for what, lose := range map[string]func(path string) error{
		"removed":             os.RemoveAll,
		"moved away":          func(path string) error { return os.Rename(path, path+"-gone") },
		"removed and made":    func(path string) error { return errors.Join(os.RemoveAll(path), os.Mkdir(path, 0o700)) },
		"replaced by another": func(path string) error { return errors.Join(os.Rename(path, path+"-gone"), os.Mkdir(path, 0o700)) },
	} {
		t.Run(what, func(t *testing.T) {
			d := newDisk(t, WithSpare(Off))
			ctx := t.Context()
			put(t, d, "a/x", "x")
			a, err := d.Append(ctx, "a/log", 1000, []byte("header"))
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if err := lose(d.Path()); err != nil {
				t.Fatal(err)
			}
			before := tree(t, d.Path())
			_, openErr := d.Open(ctx, "a/x")
			_, statErr := d.Stat(ctx, "a/x")
			_, appendErr := d.Append(ctx, "a/log2", 1000, nil)
			_, sweepErr := d.Sweep(ctx, time.Now())
			var listErr error
			for _, err := range d.List(ctx, "") {
				listErr = err
			}
			for what, err := range map[string]error{
				"check": d.Check(), "open": openErr, "stat": statErr, "append": appendErr, "list": listErr, "sweep": sweepErr,
				"put": d.Put(ctx, "a/y", strings.NewReader("y"), true), "put elsewhere": d.Put(ctx, "b/c/y", strings.NewReader("y"), false),
				"remove": d.Remove(ctx, "a/x"), "append more": a.Append([]byte("more")), "seal": a.Seal(ctx, "a/sealed"),
			} {
				if !errors.Is(err, holdfast.ErrAbsent) {
					t.Errorf("%s: got %v, want ErrAbsent", what, err)
				}
			}
			if after := tree(t, d.Path()); !slices.Equal(before, after) {
				t.Errorf("the bucket was made again, or what lies beneath it written to: %q", after)
			}
		})
	}
}

func tree(t *testing.T, root string) (out []string) {
	t.Helper()
	_ = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			out = append(out, path)
		}
		return nil
	})
	return out
}

// A directory inside the bucket that was there and is gone is not made again either.
func TestPartlyGone(t *testing.T) {
	d := newDisk(t)
	put(t, d, "blobs/1/x", "x")
	if err := os.RemoveAll(filepath.Join(d.Path(), "blobs")); err != nil {
		t.Fatal(err)
	}
	if err := d.Put(t.Context(), "blobs/1/y", strings.NewReader("y"), false); !errors.Is(err, holdfast.ErrAbsent) {
		t.Errorf("got %v, want ErrAbsent", err)
	}
}

func TestModes(t *testing.T) {
	d := newDisk(t)
	put(t, d, "a/x", "x")
	a, err := d.Append(t.Context(), "a/1.open", 5000, []byte("header"))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Seal(t.Context(), "a/1.seg"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"": 0o700 | fs.ModeDir, "a": 0o700 | fs.ModeDir, "a/x": 0o600, "a/1.seg": 0o444} {
		i, err := os.Stat(filepath.Join(d.Path(), name))
		if err != nil || i.Mode() != want {
			t.Errorf("%q: got mode %v, %v, want %v", name, i.Mode(), err, want)
		}
	}
}

// What is no object is not listed: unfinished files, spares, foreign names, links.
func TestListSkips(t *testing.T) {
	d := newDisk(t, WithSpare(InCall))
	put(t, d, "a/x", "x")
	a, err := d.Append(t.Context(), "log", 5000, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for _, name := range []string{".tmp-x.0", "a/.tmp-y.3", "a/.hidden", "a/with space", "lost+found"} {
		if err := os.WriteFile(filepath.Join(d.Path(), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("x", filepath.Join(d.Path(), "a", "link")); err != nil {
		t.Fatal(err)
	}
	if got, want := list(t, d, ""), []string{"a/x", "log"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	n, err := d.Sweep(t.Context(), time.Now().Add(time.Hour))
	if err != nil || n != 2 {
		t.Errorf("swept %d, %v, want the 2 dead ones", n, err)
	}
	if b, err := d.Append(t.Context(), "log2", 5000, nil); err != nil { // takes the spare that was left alone
		t.Error(err)
	} else {
		_ = b.Close()
	}
	if got, want := list(t, d, ""), []string{"a/x", "log", "log2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A directory larger than what is held in memory is still listed whole and sorted.
func TestListWindow(t *testing.T) {
	defer func(w int) { window = w }(window)
	d, _ := newSim(t)
	var want []string
	for i := range 100 {
		name := fmt.Sprintf("d%d/%03d", i%3, i*37%100)
		put(t, d, name, "")
		want = append(want, name)
	}
	slices.Sort(want)
	for _, window = range []int{1, 2, 7, 33, 34, 1000} {
		if got := list(t, d, ""); !slices.Equal(got, want) {
			t.Fatalf("window %d: got %d names %q", window, len(got), got)
		}
	}
}

// The spare is taken by an Append of the same size and by no other, and does not outlive the bucket.
func TestSpare(t *testing.T) {
	d, s := newSim(t, WithSpare(InCall))
	var creates int
	s.Observe(func(st simdisk.Step) {
		if st.Op == "allocate" {
			creates++
		}
	})
	for i, c := range []struct{ size, made int64 }{{4096, 2}, {4096, 1}, {8192, 2}, {8192, 1}} {
		creates = 0
		a, err := d.Append(t.Context(), fmt.Sprintf("log/%d", i), c.size, []byte("h"))
		if err != nil {
			t.Fatal(err)
		}
		_ = a.Close()
		if int64(creates) != c.made {
			t.Errorf("append %d: %d files were allocated, want %d", i, creates, c.made)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for e := range s.ReadDir("/bucket") {
		if e.Name != "log" {
			t.Errorf("%s is left", e.Name)
		}
	}
}

// A sync that failed in the background is final: the next Append says so.
func TestSpareFailedSync(t *testing.T) {
	d, s := newSim(t, WithSpare(InCall))
	s.Observe(func(st simdisk.Step) {})
	steps := s.Steps()
	a, err := d.Append(t.Context(), "1", 4096, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = a.Close()
	per := s.Steps() - steps
	s.Inject(s.Steps()+per-3, simdisk.FailBefore, nil) // the sync of the next spare: one spare less is made
	a, err = d.Append(t.Context(), "2", 4096, nil)
	if err == nil {
		_ = a.Close()
		_, err = d.Append(t.Context(), "3", 4096, nil)
	}
	if !errors.Is(err, holdfast.ErrFatal) {
		t.Errorf("got %v, want ErrFatal", err)
	}
}

// The order of the durable steps of a segment's life.
func TestGoldenTrace(t *testing.T) {
	d, s := newSim(t, WithSpare(Off))
	put(t, d, "log/t/0", "")
	var got []string
	s.Observe(func(st simdisk.Step) {
		line := st.Op + " " + strings.TrimPrefix(st.Name, "/bucket")
		switch st.Op {
		case "rename":
			line += " -> " + strings.TrimPrefix(st.To, "/bucket")
		case "write":
			line += fmt.Sprintf(" %d+%d", st.Offset, st.Size)
		case "allocate", "truncate":
			line += fmt.Sprintf(" %d", st.Size)
		}
		got = append(got, line)
	})
	a, err := d.Append(t.Context(), "log/t/1.open", 4096, []byte("header"))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Append([]byte("batch")); err != nil {
		t.Fatal(err)
	}
	if err := a.Seal(t.Context(), "log/t/1.seg"); err != nil {
		t.Fatal(err)
	}
	_ = a.Close()
	if err := d.Put(t.Context(), "log/t/heads", bytes.NewReader([]byte("heads")), false); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"create /.tmp-spare.0", "allocate /.tmp-spare.0 4096", "sync /.tmp-spare.0",
		"write /.tmp-spare.0 0+6", "sync /.tmp-spare.0", "rename /.tmp-spare.0 -> /log/t/1.open", "syncdir /log/t", "syncdir ",
		"write /.tmp-spare.0 6+5", "sync /.tmp-spare.0",
		"chmod /.tmp-spare.0", "truncate /.tmp-spare.0 11", "sync /.tmp-spare.0", "rename /log/t/1.open -> /log/t/1.seg", "syncdir /log/t",
		"create /log/t/.tmp-heads.0", "write /log/t/.tmp-heads.0 0+5", "sync /log/t/.tmp-heads.0", "rename /log/t/.tmp-heads.0 -> /log/t/heads", "syncdir /log/t",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPutNamed(t *testing.T) {
	d, s := newSim(t)
	refused := errors.New("wrong hash")
	err := d.PutNamed(t.Context(), "blobs/1", strings.NewReader("x"), func() (string, bool, error) { return "", false, refused })
	if !errors.Is(err, refused) {
		t.Errorf("got %v, want the name's error", err)
	}
	for _, bad := range []string{"", "a/b", ".tmp-x", ".."} {
		err := d.PutNamed(t.Context(), "blobs/1", strings.NewReader("x"), func() (string, bool, error) { return bad, false, nil })
		if !errors.Is(err, holdfast.ErrInvalid) {
			t.Errorf("name %q: got %v, want ErrInvalid", bad, err)
		}
	}
	for e := range s.ReadDir("/bucket/blobs/1") {
		t.Errorf("%s is left", e.Name)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			d := newDisk(b, WithSpare(Off))
			a, err := d.Append(context.Background(), "log/1", 64<<20, make([]byte, 4096))
			if err != nil {
				b.Fatal(err)
			}
			defer a.Close()
			p := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := a.Append(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
