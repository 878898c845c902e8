package upload

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/durable/simdisk"
)

const alice = holdfast.AccountID(7)

// clock is one that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func config(t testing.TB) Config {
	return Config{Dir: t.TempDir(), Keep: 48 * time.Hour, MaxBytes: 10 << 20, MinFree: 1}
}

func put(t testing.TB, a *Area, id, piece, body string) {
	t.Helper()
	if _, err := a.Put(alice, id, piece, Incoming{Body: strings.NewReader(body), Size: int64(len(body)), Room: -1}); err != nil {
		t.Fatalf("put %s: %v", piece, err)
	}
}

func create(t testing.TB, a *Area, id string) {
	t.Helper()
	if err := a.Create(alice, id); err != nil {
		t.Fatal(err)
	}
}

// finish puts an upload together and returns what came.
func finish(a *Area, id string, size int64) (string, *Done, error) {
	var got string
	done, err := a.Finish(alice, id, size, func(r io.Reader, n int64) (Done, error) {
		b, err := io.ReadAll(iotest.OneByteReader(r))
		if err != nil {
			return Done{}, err
		}
		if got = string(b); int64(len(b)) != n {
			return Done{}, fmt.Errorf("%d bytes came, %d were announced", len(b), n)
		}
		return Done{Body: fmt.Sprintf("hash of %d", len(b))}, nil
	})
	return got, done, err
}

func names(t testing.TB, a *Area, id string) string {
	t.Helper()
	ps, err := a.Pieces(alice, id)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range ps {
		out = append(out, fmt.Sprintf("%s:%d", p.Name, p.Size))
	}
	return strings.Join(out, " ")
}

// files returns every file below a directory.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return out
}

// Pieces in any order, some twice, over a restart, become one body; asking again gives the same answer,
// and no piece is left.
func TestUpload(t *testing.T) {
	cfg := config(t)
	a := New(cfg)
	if _, err := a.Pieces(alice, "x"); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("pieces of none: %v", err)
	}
	create(t, a, "x")
	if err := a.Create(alice, "x"); !errors.Is(err, holdfast.ErrExists) {
		t.Errorf("begun twice: %v", err)
	}
	put(t, a, "x", "10", "ten")
	put(t, a, "x", "9", "wrong")
	put(t, a, "x", "9", "nine ")
	put(t, a, "x", "8", "")
	a = New(cfg)
	if got, want := names(t, a, "x"), "8:0 9:5 10:3"; got != want {
		t.Errorf("after a restart: %q, want %q", got, want)
	}
	if _, _, err := finish(a, "x", -1); !errors.Is(err, ErrMissing) {
		t.Errorf("pieces from 8 on: %v, want ErrMissing", err)
	}
	for n := range 8 {
		put(t, a, "x", fmt.Sprintf("%03d", n), fmt.Sprint(n, " "))
	}
	want := "0 1 2 3 4 5 6 7 nine ten"
	if _, _, err := finish(a, "x", 5); !errors.Is(err, ErrMissing) {
		t.Errorf("other length: %v, want ErrMissing", err)
	}
	if got, done, err := finish(a, "x", int64(len(want))); got != want || done != nil || err != nil {
		t.Fatalf("got %q, %v, %v; want %q", got, done, err, want)
	}
	for range 2 {
		if _, done, err := finish(a, "x", -1); err != nil || done == nil || done.Body != fmt.Sprintf("hash of %d", len(want)) {
			t.Errorf("asked again: %v, %v", done, err)
		}
		if _, err := a.Put(alice, "x", "1", Incoming{Body: strings.NewReader(""), Room: -1}); !errors.Is(err, holdfast.ErrNotFound) {
			t.Errorf("a piece for what is done: %v", err)
		}
		if n, err := a.Bytes(alice); n != 0 || err != nil {
			t.Errorf("%d bytes are counted, %v", n, err)
		}
		if got := files(t, cfg.Dir); len(got) != 1 {
			t.Errorf("files left: %q, want only done", got)
		}
		a = New(cfg)
	}
	create(t, a, "x") // the id again, for another file
	put(t, a, "x", "1", "new")
	if got, done, err := finish(a, "x", 3); got != "new" || done != nil || err != nil {
		t.Errorf("second of that id: %q, %v, %v", got, done, err)
	}
	if err := errors.Join(a.Remove(alice, "x"), a.Remove(alice, "x")); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	if got := files(t, cfg.Dir); len(got) != 0 || len(a.accounts) != 0 {
		t.Errorf("left: %q, %d accounts in memory", got, len(a.accounts))
	}
}

// Names of pieces say where they belong; what does not fit together is no body.
func TestOrder(t *testing.T) {
	for _, c := range []struct {
		pieces string
		size   int64
		ok     bool
	}{
		{"", -1, true},
		{"", 0, true},
		{"", 1, false},
		{"0 1 2", -1, true},
		{"1 2 3", -1, true},
		{"2 3", -1, false},
		{"1 3", -1, false},
		{"1 3", 20, true}, // the client says how long the whole is, and it is
		{"1 3", 30, false},
		{"1 01", 20, false}, // which is first?
		{"0-9 10-19", -1, true},
		{"0-9 20-29", 20, false},
		{"10-19", -1, false},
		{"0-9 5-14", -1, false},
		{"000000000000000-000000000000009 000000000000010-000000000000019", 20, true},
	} {
		a := New(config(t))
		create(t, a, "x")
		for p := range strings.FieldsSeq(c.pieces) {
			put(t, a, "x", p, "0123456789")
		}
		if _, _, err := finish(a, "x", c.size); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrMissing) {
			t.Errorf("pieces %q as %d bytes: %v, want ok %v", c.pieces, c.size, err, c.ok)
		}
	}
	a := New(config(t))
	create(t, a, "x")
	for _, bad := range []string{"", ".file", "-1", "1-", "-", "1-2-3", "a", "1/2", "..", "+1", "5-4", "done", ".tmp-1.0", "1 ", strings.Repeat("9", 19)} {
		if _, err := a.Put(alice, "x", bad, Incoming{Body: strings.NewReader("x"), Size: 1, Room: -1}); !errors.Is(err, holdfast.ErrInvalid) {
			t.Errorf("piece %q: %v, want ErrInvalid", bad, err)
		}
	}
	for _, in := range []Incoming{{Body: strings.NewReader("123"), Size: 3}, {Body: strings.NewReader("123"), Size: -1}, {Body: strings.NewReader("12345"), Size: 4}} {
		in.Room = -1
		if _, err := a.Put(alice, "x", "0-3", in); !errors.Is(err, holdfast.ErrInvalid) {
			t.Errorf("a piece of another size than its name says (%d): %v", in.Size, err)
		}
	}
	if got := names(t, a, "x"); got != "" {
		t.Errorf("refused pieces are here: %q", got)
	}
}

// An account's pieces are bounded in bytes and number, what is under way included.
func TestBounds(t *testing.T) {
	cfg := config(t)
	cfg.MaxBytes = 3 << 20
	a := New(cfg)
	create(t, a, "x")
	mib := strings.Repeat("x", 1<<20)
	over := func(in Incoming, why string) {
		t.Helper()
		if _, err := a.Put(alice, "x", "9", in); !errors.Is(err, holdfast.ErrQuota) {
			t.Errorf("%s: %v, want ErrQuota", why, err)
		}
	}
	put(t, a, "x", "1", mib)
	over(Incoming{Body: iotest.ErrReader(errors.New("read")), Size: 2<<20 + 1, Room: -1}, "announced too much")
	over(Incoming{Body: strings.NewReader(mib + mib + "x"), Size: -1, Room: -1}, "came too much")
	over(Incoming{Body: iotest.ErrReader(errors.New("read")), Size: 10, Room: 1<<20 + 9}, "no room in the account")
	put(t, a, "x", "2", mib)
	put(t, a, "x", "2", mib[:10]) // what it replaces does not count
	put(t, a, "x", "3", mib)
	if n, err := a.Bytes(alice); n != 2<<20+10 || err != nil {
		t.Errorf("%d bytes are counted, %v", n, err)
	}
	if n, err := New(cfg).Bytes(alice); n != 2<<20+10 || err != nil {
		t.Errorf("after a restart: %d bytes, %v", n, err)
	}
	if _, err := a.Put(alice+1, "x", "1", Incoming{Body: strings.NewReader(""), Room: -1}); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("another account's upload: %v", err)
	}
	cut := errors.New("cut off")
	if _, err := a.Put(alice, "x", "4", Incoming{Body: io.MultiReader(strings.NewReader("half"), iotest.ErrReader(cut)), Size: 8, Room: -1}); !errors.Is(err, cut) {
		t.Errorf("cut off: %v", err)
	}
	if got := names(t, a, "x"); got != "1:1048576 2:10 3:1048576" {
		t.Errorf("a piece that was cut off is here: %q", got)
	}
	for n := 1; n < maxUploads; n++ {
		create(t, a, fmt.Sprint(n))
	}
	if err := a.Create(alice, "one more"); !errors.Is(err, holdfast.ErrQuota) {
		t.Errorf("more uploads than fit: %v", err)
	}
	a.accounts[alice].pieces = maxPieces
	over(Incoming{Body: strings.NewReader("x"), Size: 1, Room: -1}, "too many pieces")
}

// A disk that is nearly full takes no piece.
func TestFull(t *testing.T) {
	cfg := config(t)
	free, err := durable.FreeOf(durable.Disk, cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	a := New(cfg)
	create(t, a, "x")
	a.cfg.MinFree = free * 2
	if _, err := a.Put(alice, "x", "1", Incoming{Body: strings.NewReader("x"), Size: 1, Room: -1}); !errors.Is(err, holdfast.ErrFull) {
		t.Errorf("got %v, want ErrFull", err)
	}
}

// A piece whose bytes have changed on disk never becomes part of a file, and is asked for again.
func TestDamage(t *testing.T) {
	for _, what := range []string{"flip", "flip hash", "cut", "gone", "grown"} {
		cfg := config(t)
		a := New(cfg)
		create(t, a, "x")
		put(t, a, "x", "1", "first ")
		put(t, a, "x", "2", "second")
		var path string
		for _, f := range files(t, cfg.Dir) {
			if filepath.Base(f) == "2" {
				path = f
			}
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		switch what {
		case "flip":
			b[3] ^= 1
		case "flip hash":
			b[len(b)-1] ^= 1
		case "cut":
			b = b[:len(b)-30]
		case "grown":
			b = slices.Insert(b, 0, 'x')
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if what == "gone" {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		if got, _, err := finish(a, "x", -1); !errors.Is(err, ErrMissing) || got != "" {
			t.Errorf("%s: %q, %v; want ErrMissing", what, got, err)
		}
		if got := names(t, a, "x"); got != "1:6" {
			t.Errorf("%s: pieces %q", what, got)
		}
		put(t, a, "x", "2", "second")
		if got, _, err := finish(a, "x", -1); err != nil || got != "first second" {
			t.Errorf("%s, sent again: %q, %v", what, got, err)
		}
	}
}

// Uploads that nobody goes on with are removed, and nothing else.
func TestSweep(t *testing.T) {
	now := &clock{at: time.Now()}
	cfg := config(t)
	cfg.Now = now.now
	a := New(cfg)
	sweep := func(want int) {
		t.Helper()
		if n, err := a.Sweep(); n != want || err != nil {
			t.Errorf("swept %d, %v; want %d", n, err, want)
		}
	}
	sweep(0)
	for _, id := range []string{"old", "kept", "done"} {
		create(t, a, id)
		put(t, a, id, "1", "x")
	}
	if _, _, err := finish(a, "done", -1); err != nil {
		t.Fatal(err)
	}
	now.add(47 * time.Hour)
	put(t, a, "kept", "2", "y")
	sweep(0)
	now.add(2 * time.Hour)
	sweep(2)
	if got := names(t, a, "kept"); got != "1:1 2:1" {
		t.Errorf("pieces %q", got)
	}
	if got := files(t, cfg.Dir); len(got) != 2 {
		t.Errorf("files left: %q", got)
	}
	now.add(49 * time.Hour)
	a = New(cfg) // by a process that has not seen them
	sweep(1)
	if got := files(t, cfg.Dir); len(got) != 0 {
		t.Errorf("files left: %q", got)
	}
}

// While pieces are put together nobody changes them; a piece that comes too late is no part of what
// comes next under the same id.
func TestBusy(t *testing.T) {
	a := New(config(t))
	create(t, a, "x")
	put(t, a, "x", "1", "one")
	late, lateWriter := io.Pipe()
	result := make(chan error)
	go func() {
		_, err := a.Put(alice, "x", "2", Incoming{Body: late, Size: -1, Room: -1})
		result <- err
	}()
	if _, err := lateWriter.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	_, err := a.Finish(alice, "x", -1, func(r io.Reader, n int64) (Done, error) {
		for what, err := range map[string]error{
			"remove": a.Remove(alice, "x"), "create": a.Create(alice, "x"),
			"finish": func() error { _, _, err := finish(a, "x", -1); return err }(),
			"put": func() error {
				_, err := a.Put(alice, "x", "3", Incoming{Body: strings.NewReader(""), Room: -1})
				return err
			}(),
		} {
			if !errors.Is(err, ErrBusy) {
				t.Errorf("%s meanwhile: %v, want ErrBusy", what, err)
			}
		}
		if n != 3 {
			t.Errorf("%d bytes, want those of one piece", n)
		}
		return Done{}, errors.New("not yet")
	})
	if err == nil || !strings.Contains(err.Error(), "not yet") {
		t.Fatal(err)
	}
	if err := a.Remove(alice, "x"); err != nil {
		t.Fatal(err)
	}
	create(t, a, "x")
	if err := lateWriter.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("a piece of the upload before: %v, want ErrNotFound", err)
	}
	if got := names(t, a, "x"); got != "" {
		t.Errorf("pieces %q", got)
	}
	if n, err := a.Bytes(alice); n != 0 || err != nil {
		t.Errorf("%d bytes are counted, %v", n, err)
	}
}

// The fault table: every step of begin, put, put again, finish and remove fails with nothing done, fails
// although all was done, or is the last before a crash. What was acknowledged is there afterwards, the
// body is right or not there, and counting agrees with the disk.
func TestFaultTable(t *testing.T) {
	for _, fault := range []simdisk.Fault{simdisk.FailBefore, simdisk.FailAfter, simdisk.CrashAt, simdisk.CrashAfter} {
		steps := faultRun(t, fault, 1_000_000, 0) // without one
		for n := int64(1); n <= steps; n++ {
			for seed := range uint64(4) {
				faultRun(t, fault, n, seed)
			}
		}
		t.Logf("fault %d: %d steps", fault, steps)
		if steps < 20 {
			t.Fatalf("only %d steps", steps)
		}
	}
}

// faultRun does one upload with a fault at step n, and returns how many steps it took.
func faultRun(t *testing.T, fault simdisk.Fault, n int64, seed uint64) int64 {
	t.Helper()
	d := simdisk.New(seed)
	if err := durable.MkdirAll(d, "/data"); err != nil {
		t.Fatal(err)
	}
	d.Sync()
	begin := d.Steps()
	d.Inject(begin+n, fault, nil)
	cfg := Config{FS: d, Dir: "/data", Keep: 1000000 * time.Hour, MaxBytes: 1 << 20, MinFree: 1}
	a := New(cfg)
	acked := map[string]string{}
	maybe := map[string][]string{}
	send := func(piece, body string) {
		_, err := a.Put(alice, "x", piece, Incoming{Body: strings.NewReader(body), Size: int64(len(body)), Room: -1})
		if err == nil {
			acked[piece], maybe[piece] = body, nil
		} else {
			maybe[piece] = append(maybe[piece], body)
		}
	}
	begun := a.Create(alice, "x") == nil
	send("1", "first try")
	send("2", "second")
	send("1", "first ")
	took := d.Steps() - begin
	if fault == simdisk.CrashAt || fault == simdisk.CrashAfter {
		d = d.Crash()
		cfg.FS = d
		a = New(cfg)
	}
	where := fmt.Sprintf("fault %d at step %d, seed %d", fault, n, seed)
	pieces, err := a.Pieces(alice, "x")
	if begun && err != nil {
		t.Fatalf("%s: the upload is gone: %v", where, err)
	}
	here := map[string]int64{}
	for _, p := range pieces {
		here[p.Name] = p.Size
	}
	for name := range acked {
		if _, ok := here[name]; !ok {
			t.Fatalf("%s: piece %s was acknowledged and is gone", where, name)
		}
	}
	// The client goes on: it sends what is not here, and what it heard nothing of.
	if err != nil {
		if err := a.Create(alice, "x"); err != nil {
			t.Fatalf("%s: begin again: %v", where, err)
		}
	}
	for piece, body := range map[string]string{"1": "first ", "2": "second"} {
		if acked[piece] != body || len(maybe[piece]) > 0 {
			if _, err := a.Put(alice, "x", piece, Incoming{Body: strings.NewReader(body), Size: int64(len(body)), Room: -1}); err != nil {
				t.Fatalf("%s: send again: %v", where, err)
			}
		}
	}
	if got, _, err := finish(a, "x", 12); err != nil || got != "first second" {
		t.Fatalf("%s: %q, %v", where, got, err)
	}
	counted, err := a.Bytes(alice)
	if err != nil || counted != 0 {
		t.Fatalf("%s: %d bytes are counted, %v", where, counted, err)
	}
	return took
}

// The same for the end of an upload: after a fault the client asks again and has one right file, and in
// the end nothing is left.
func TestFaultTableFinish(t *testing.T) {
	for _, fault := range []simdisk.Fault{simdisk.FailBefore, simdisk.FailAfter, simdisk.CrashAt, simdisk.CrashAfter} {
		for n := int64(1); n <= 16; n++ {
			for seed := range uint64(4) {
				d := simdisk.New(seed)
				if err := durable.MkdirAll(d, "/data"); err != nil {
					t.Fatal(err)
				}
				cfg := Config{FS: d, Dir: "/data", Keep: time.Hour, MaxBytes: 1 << 20, MinFree: 1, Now: func() time.Time { return time.Unix(4e9, 0) }}
				a := New(cfg)
				create(t, a, "x")
				put(t, a, "x", "1", "first ")
				put(t, a, "x", "2", "second")
				d.Inject(d.Steps()+n, fault, nil)
				where := fmt.Sprintf("fault %d at step %d, seed %d", fault, n, seed)
				got, _, err := finish(a, "x", 12)
				if err == nil && got != "first second" {
					t.Fatalf("%s: %q", where, got)
				}
				if fault == simdisk.CrashAt || fault == simdisk.CrashAfter {
					d = d.Crash()
					cfg.FS = d
					a = New(cfg)
				}
				again, done, err2 := finish(a, "x", -1)
				if err2 != nil || done == nil && again != "first second" {
					t.Fatalf("%s: %v, then asked again: %q, %v, %v", where, err, again, done, err2)
				}
				_ = a.Remove(alice, "x") // may meet the fault
				if _, err := a.Sweep(); err != nil {
					if _, err := a.Sweep(); err != nil {
						t.Fatalf("%s: sweep: %v", where, err)
					}
				}
				if n, err := New(cfg).Bytes(alice); n != 0 || err != nil {
					t.Fatalf("%s: %d bytes are left, %v", where, n, err)
				}
			}
		}
	}
}

// Many devices at once: counting stays right, and the race detector has something to look at.
func TestConcurrent(t *testing.T) {
	cfg := config(t)
	cfg.MaxBytes = 32 * takeAhead // what is on its way is counted ahead
	a := New(cfg)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			id := fmt.Sprint("upload ", n)
			for range 5 {
				if err := a.Create(alice, id); err != nil {
					t.Error(err)
					return
				}
				var pieces sync.WaitGroup
				for p := range 4 {
					pieces.Go(func() {
						body := bytes.Repeat([]byte{byte(p)}, 1000)
						if _, err := a.Put(alice, id, fmt.Sprint(p), Incoming{Body: bytes.NewReader(body), Size: -1, Room: -1}); err != nil {
							t.Error(err)
						}
					})
				}
				pieces.Wait()
				if n%2 == 0 {
					if got, _, err := finish(a, id, 4000); err != nil || len(got) != 4000 {
						t.Errorf("%d bytes, %v", len(got), err)
					}
				} else if err := a.Remove(alice, id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n, err := a.Bytes(alice); n != 0 || err != nil {
		t.Errorf("%d bytes are counted, %v", n, err)
	}
}

func FuzzPieceName(f *testing.F) {
	for _, s := range []string{"0", "00012", "0-9", "000000000000010-000000000000019", "-", "1-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, last, err := numbers(s)
		if err == nil && (first < 0 || last < -1 || last >= 0 && last < first || strings.ContainsAny(s, "/.\\") || len(s) > 40) {
			t.Errorf("%q is %d to %d", s, first, last)
		}
	})
}
