package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/bucket"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/durable"
	"holdfast/internal/durable/simdisk"
)

const account = holdfast.AccountID(7)

func noise(n int) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(p)
	return p
}

func blobOf(p []byte) frame.Blob { return frame.Blob{Hash: sha256.Sum256(p), Size: int64(len(p))} }

// newStore returns a store in a real directory, and that directory.
func newStore(t testing.TB) (*Store, string) {
	t.Helper()
	d, err := dir.Create(durable.Disk, filepath.Join(t.TempDir(), "data"), dir.WithCache())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return Open(d), d.Path()
}

func put(t testing.TB, s *Store, p []byte) frame.Blob {
	t.Helper()
	b, err := s.Put(t.Context(), account, bytes.NewReader(p), int64(len(p)))
	if err != nil {
		t.Fatal(err)
	}
	if b != blobOf(p) {
		t.Fatalf("got %v, want %v", b, blobOf(p))
	}
	return b
}

func open(t testing.TB, s *Store, b frame.Blob) *Reader {
	t.Helper()
	r, err := s.Open(t.Context(), account, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// damage flips one bit of a stored body, and leaves size and time as they were.
func damage(t testing.TB, path string, b frame.Blob, at int64) {
	t.Helper()
	name := filepath.Join(path, filepath.FromSlash(bucket.BlobName(account, b.Hash)))
	i, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	p[at] ^= 0x10
	if err := errors.Join(os.WriteFile(name, p, 0o600), os.Chtimes(name, i.ModTime(), i.ModTime())); err != nil {
		t.Fatal(err)
	}
}

func TestRoundTrip(t *testing.T) {
	s, _ := newStore(t)
	for _, n := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 5*chunkSize + 17} {
		b := put(t, s, noise(n))
		for range 2 { // unverified, then verified
			r := open(t, s, b)
			if err := iotest.TestReader(struct{ io.ReadSeeker }{r}, noise(n)); err != nil {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
		if err := s.Verify(t.Context(), account, b); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
		if ok, err := s.Has(t.Context(), account, b); !ok || err != nil {
			t.Errorf("%d bytes: has: %v, %v", n, ok, err)
		}
		if ok, err := s.Has(t.Context(), account+1, b); ok || err != nil {
			t.Errorf("%d bytes: another account has it: %v, %v", n, ok, err)
		}
	}
	none := frame.Blob{Hash: holdfast.Hash{1}, Size: 1}
	if _, err := s.Open(t.Context(), account, none); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestPutRefuses(t *testing.T) {
	s, path := newStore(t)
	if _, err := s.Put(t.Context(), account, bytes.NewReader(noise(1000)), 999); !errors.Is(err, holdfast.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	endless := readerFunc(func(p []byte) (int, error) { return len(p), nil })
	if _, err := s.Put(t.Context(), account, endless, 10<<20); !errors.Is(err, holdfast.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	broken := errors.New("the sender went away")
	if _, err := s.Put(t.Context(), account, io.MultiReader(bytes.NewReader(noise(1000)), iotest.ErrReader(broken)), 5000); !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's error", err)
	}
	es, err := os.ReadDir(filepath.Join(path, "blobs", account.String()))
	if err != nil || len(es) != 0 {
		t.Errorf("got %v, %v, want nothing left", es, err)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// The same body again changes nothing; over a damaged one it heals.
func TestPutAgain(t *testing.T) {
	s, path := newStore(t)
	p := noise(200_000)
	b := put(t, s, p)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { put(t, s, p) })
	}
	wg.Wait()
	damage(t, path, b, 100_000)
	if err := s.Verify(t.Context(), account, b); !errors.Is(err, holdfast.ErrCorrupt) {
		t.Fatalf("got %v, want ErrCorrupt", err)
	}
	put(t, s, p)
	if err := s.Verify(t.Context(), account, b); err != nil {
		t.Error(err)
	}
}

func TestRestore(t *testing.T) {
	s, path := newStore(t)
	p := noise(100_000)
	b := put(t, s, p)
	damage(t, path, b, 5)
	for what, r := range map[string]io.Reader{
		"other bytes": bytes.NewReader(noise(100_001)[:100_000]), "too short": bytes.NewReader(p[1:]), "too long": bytes.NewReader(append(p[:len(p):len(p)], 0)),
	} {
		if err := s.Restore(t.Context(), account, b, r); err == nil {
			t.Errorf("%s: restored", what)
		}
	}
	if err := s.Restore(t.Context(), account, b, bytes.NewReader(p)); err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), account, b); err != nil {
		t.Error(err)
	}
	if err := s.Remove(t.Context(), account, b); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.Has(t.Context(), account, b); ok || err != nil {
		t.Errorf("after removal: %v, %v", ok, err)
	}
}

// No byte of a damaged chunk is handed out, read to the end, copied by size, or by ranges, whether the body was
// verified before the damage or not.
func TestDamage(t *testing.T) {
	p := noise(5*chunkSize + 17)
	for _, known := range []bool{false, true} {
		for _, at := range []int64{0, chunkSize - 1, chunkSize, 3 * chunkSize, int64(len(p)) - 1} {
			s, path := newStore(t)
			b := put(t, s, p)
			if known {
				if _, err := io.Copy(io.Discard, open(t, s, b)); err != nil {
					t.Fatal(err)
				}
			}
			damage(t, path, b, at)

			var got bytes.Buffer
			n, err := io.CopyN(&got, open(t, s, b), b.Size)
			if n == b.Size || !errors.Is(err, holdfast.ErrCorrupt) {
				t.Errorf("known %v, damage at %d: copied %d bytes, %v", known, at, n, err)
			}
			if !bytes.HasPrefix(p, got.Bytes()) || !known && n != 0 {
				t.Errorf("known %v, damage at %d: damaged bytes were handed out", known, at)
			}
			r := open(t, s, b)
			if _, err := r.Seek(at, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, holdfast.ErrCorrupt) {
				t.Errorf("known %v, damage at %d: range read: %d, %v", known, at, n, err)
			}
			if _, err := r.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Read(make([]byte, 1)); !errors.Is(err, holdfast.ErrCorrupt) {
				t.Errorf("known %v, damage at %d: a reader forgot that its body is damaged: %v", known, at, err)
			}
		}
	}
	s, path := newStore(t)
	b := put(t, s, p)
	if err := os.Truncate(filepath.Join(path, filepath.FromSlash(bucket.BlobName(account, b.Hash))), 10); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), account, b); !errors.Is(err, holdfast.ErrCorrupt) {
		t.Errorf("cut: got %v, want ErrCorrupt", err)
	}
	if _, err := s.Has(t.Context(), account, b); !errors.Is(err, holdfast.ErrCorrupt) {
		t.Errorf("cut: has: got %v, want ErrCorrupt", err)
	}
}

// A very large body is streamed; when it is damaged its last bytes are withheld, and a part of it is not
// handed out after Verify.
func TestStream(t *testing.T) {
	defer func(n int64) { streamAbove = n }(streamAbove)
	streamAbove = chunkSize
	p := noise(5*chunkSize + 17)
	for _, at := range []int64{0, chunkSize, 3*chunkSize - 1, int64(len(p)) - 1} {
		s, path := newStore(t)
		b := put(t, s, p)
		if err := iotest.TestReader(struct{ io.ReadSeeker }{open(t, s, b)}, p); err != nil {
			t.Fatal(err)
		}
		s.verified.forget(bucket.BlobName(account, b.Hash))
		damage(t, path, b, at)
		if n, err := io.CopyN(io.Discard, open(t, s, b), b.Size); n == b.Size || !errors.Is(err, holdfast.ErrCorrupt) {
			t.Errorf("damage at %d: copied %d of %d bytes, %v", at, n, b.Size, err)
		}
		r := open(t, s, b)
		if err := r.Verify(); !errors.Is(err, holdfast.ErrCorrupt) {
			t.Errorf("damage at %d: verify: %v", at, err)
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, holdfast.ErrCorrupt) {
			t.Errorf("damage at %d: read: %d, %v", at, n, err)
		}
	}
}

// Any mixture of reads and seeks gives the bytes of the body.
func TestReadSeek(t *testing.T) {
	s, _ := newStore(t)
	p := noise(3*chunkSize + 100)
	b := put(t, s, p)
	defer func(n int64) { streamAbove = n }(streamAbove)
	rapid.Check(t, func(rt *rapid.T) {
		streamAbove = rapid.SampledFrom([]int64{0, 1 << 20}).Draw(rt, "stream above")
		s.verified.forget(bucket.BlobName(account, b.Hash))
		r, err := s.Open(t.Context(), account, b)
		if err != nil {
			rt.Fatal(err)
		}
		defer r.Close()
		want := bytes.NewReader(p)
		for range rapid.IntRange(1, 10).Draw(rt, "steps") {
			if rapid.Bool().Draw(rt, "seek") {
				whence := rapid.IntRange(0, 2).Draw(rt, "whence")
				off := rapid.Int64Range(-int64(len(p)), int64(len(p))+10).Draw(rt, "offset")
				n1, err1 := r.Seek(off, whence)
				n2, err2 := want.Seek(off, whence)
				if n1 != n2 && err2 == nil || (err1 == nil) != (err2 == nil) {
					rt.Fatalf("seek(%d, %d): got %d, %v, want %d, %v", off, whence, n1, err1, n2, err2)
				}
				continue
			}
			n := rapid.IntRange(0, 2*chunkSize).Draw(rt, "n")
			got, err1 := io.ReadAll(io.LimitReader(r, int64(n)))
			exp, err2 := io.ReadAll(io.LimitReader(want, int64(n)))
			if err1 != nil || err2 != nil || !bytes.Equal(got, exp) {
				rt.Fatalf("read %d: got %d bytes, %v, want %d", n, len(got), err1, len(exp))
			}
		}
	})
}

func TestList(t *testing.T) {
	s, path := newStore(t)
	var want []string
	for i := range 5 {
		for a := range holdfast.AccountID(3) {
			b, err := s.Put(t.Context(), a, strings.NewReader(fmt.Sprint(i)), 10)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, bucket.BlobName(a, b.Hash))
		}
	}
	slices.Sort(want)
	var got []string
	for e, err := range s.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Blob.Size != 1 || e.Modified.IsZero() {
			t.Errorf("got %+v", e)
		}
		got = append(got, bucket.BlobName(e.Account, e.Blob.Hash))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	n := 0
	for e, err := range s.ListAccount(t.Context(), 1) {
		if err != nil || e.Account != 1 {
			t.Errorf("got %+v, %v", e, err)
		}
		n++
	}
	if n != 5 {
		t.Errorf("account 1 has %d bodies, want 5", n)
	}
	if err := os.WriteFile(filepath.Join(path, "blobs", "0000000000000001", "stray"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	for _, err = range s.List(t.Context()) {
	}
	if !errors.Is(err, holdfast.ErrCorrupt) {
		t.Errorf("a stray file: got %v, want ErrCorrupt", err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	for _, err = range s.List(t.Context()) {
	}
	if !errors.Is(err, holdfast.ErrAbsent) {
		t.Errorf("no bucket: got %v, want ErrAbsent", err)
	}
	if ok, err := s.Has(t.Context(), 1, blobOf(nil)); ok || !errors.Is(err, holdfast.ErrAbsent) {
		t.Errorf("no bucket: has: %v, %v, want ErrAbsent", ok, err)
	}
}

// Each durable step of Put and Restore, failed in every way: what was acknowledged is there and whole, what
// was not is whole or not there, and a repeat succeeds.
func TestFaultTable(t *testing.T) {
	p := noise(9000)
	b := blobOf(p)
	ctx := context.Background()
	use := func(d *simdisk.Disk, do func(s *Store) error) error {
		at, err := dir.Open(d, "/data", dir.WithSpare(dir.Off))
		if err != nil {
			return err
		}
		return do(Open(at))
	}
	putIt := func(d *simdisk.Disk) error {
		return use(d, func(s *Store) error { _, err := s.Put(ctx, account, bytes.NewReader(p), 1e6); return err })
	}
	for what, run := range map[string]func(d *simdisk.Disk) error{
		"put": putIt,
		"restore": func(d *simdisk.Disk) error {
			return use(d, func(s *Store) error { return s.Restore(ctx, account, b, bytes.NewReader(p)) })
		},
	} {
		prepare := func(d *simdisk.Disk) error {
			_, err := dir.Create(d, "/data")
			return err
		}
		verify := func(d *simdisk.Disk, done bool) error {
			return use(d, func(s *Store) error {
				err := s.Verify(ctx, account, b)
				if !done && errors.Is(err, holdfast.ErrNotFound) {
					return nil
				}
				return err
			})
		}
		n, err := simdisk.FaultTable(10, prepare, run, func(c simdisk.Case) error {
			if !c.Disk.Dead() {
				if err := verify(c.Disk, c.Err == nil); err != nil {
					return fmt.Errorf("at once: %w", err)
				}
			}
			d := c.AfterCrash()
			if err := verify(d, c.Err == nil); err != nil {
				return fmt.Errorf("after a crash: %w", err)
			}
			if err := putIt(d); err != nil {
				return fmt.Errorf("again: %w", err)
			}
			return verify(d.CrashLosingAll(), true)
		})
		if err != nil || n < 100 {
			t.Errorf("%s: %d cases, %v", what, n, err)
		}
	}
}
