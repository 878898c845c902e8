package simdisk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"syscall"
	"testing"

	"holdfast"
	"holdfast/internal/durable"
)

func create(t testing.TB, d durable.FS, name string) durable.File {
	t.Helper()
	f, err := d.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, durable.FilePerm)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, f durable.File, off int64, p []byte) {
	t.Helper()
	_, err := f.WriteAt(p, off)
	must(t, err)
}

// content returns what name holds, or nil when it is not there.
func contentOf(t testing.TB, d durable.FS, name string) []byte {
	t.Helper()
	f, err := d.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, holdfast.ErrNotFound) {
		return nil
	}
	must(t, err)
	i, err := f.Stat()
	must(t, err)
	p := make([]byte, i.Size)
	if _, err := f.ReadAt(p, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return p
}

func fill(b byte, sectors int) []byte { return bytes.Repeat([]byte{b}, sectors*Sector) }

// What was synced survives every crash, whatever is written unsynced beside it.
func TestSyncedSurvives(t *testing.T) {
	for seed := range uint64(200) {
		d := New(seed)
		f := create(t, d, "a")
		write(t, f, 0, fill(1, 20))
		must(t, f.Sync())
		must(t, d.SyncDir("/"))
		write(t, f, 20*Sector, fill(2, 5))
		d = d.Crash()
		got := contentOf(t, d, "a")
		if len(got) < 20*Sector || !bytes.Equal(got[:20*Sector], fill(1, 20)) {
			t.Fatalf("seed %d: synced bytes are lost: %d bytes", seed, len(got))
		}
	}
}

// Over many seeds an unsynced overwrite of 8 sectors is seen kept, lost, mixed and as garbage.
func TestUnsyncedSectors(t *testing.T) {
	var kept, lost, garbage, mixed int
	for seed := range uint64(300) {
		d := New(seed)
		f := create(t, d, "a")
		write(t, f, 0, fill(1, 8))
		must(t, f.Sync())
		must(t, d.SyncDir("/"))
		write(t, f, 0, fill(2, 8))
		got := contentOf(t, d.Crash(), "a")
		var k, l int
		for s := range 8 {
			switch p := got[s*Sector : (s+1)*Sector]; {
			case bytes.Equal(p, fill(2, 1)):
				k++
			case bytes.Equal(p, fill(1, 1)):
				l++
			default:
				garbage++
			}
		}
		kept, lost = kept+k, lost+l
		if k > 0 && l > 0 {
			mixed++
		}
	}
	if kept < 500 || lost < 500 || garbage < 100 || mixed < 200 {
		t.Errorf("got %d kept, %d lost, %d garbage sectors, %d mixed files: want all kinds", kept, lost, garbage, mixed)
	}
}

func TestUnsyncedSize(t *testing.T) {
	seen := map[int]bool{}
	for seed := range uint64(100) {
		d := New(seed)
		f := create(t, d, "a")
		write(t, f, 0, fill(1, 4))
		must(t, f.Sync())
		must(t, d.SyncDir("/"))
		write(t, f, 4*Sector, fill(2, 1))
		must(t, f.Truncate(Sector))
		seen[len(contentOf(t, d.Crash(), "a"))/Sector] = true
	}
	if !seen[1] || !seen[4] || !seen[5] || len(seen) != 3 {
		t.Errorf("got sizes %v, want 1, 4 and 5 sectors", seen)
	}
}

// A file that was cut and grown again may show its old bytes, and only those, if that was not synced.
func TestTruncatedBytes(t *testing.T) {
	d := New(1)
	f := create(t, d, "a")
	write(t, f, 0, fill(1, 16))
	must(t, f.Sync())
	must(t, d.SyncDir("/"))
	must(t, f.Truncate(100))
	must(t, f.Truncate(16*Sector))
	if got := contentOf(t, d, "a"); !bytes.Equal(got[100:], make([]byte, 16*Sector-100)) {
		t.Fatal("bytes came back without a crash")
	}
	must(t, f.Sync())
	if got := contentOf(t, d.CrashLosingAll(), "a"); !bytes.Equal(got[100:], make([]byte, 16*Sector-100)) {
		t.Fatal("bytes came back after a sync")
	}
}

func names(t testing.TB, d *Disk, dir string) string {
	t.Helper()
	var out []string
	for e, err := range d.ReadDir(dir) {
		must(t, err)
		out = append(out, e.Name)
	}
	return fmt.Sprint(out)
}

// Unsynced changes of names: the sets of names that crashes may leave, all of them and no other.
func TestUnsyncedNames(t *testing.T) {
	for _, c := range []struct {
		what string
		do   func(d *Disk)
		want []string // "names of / | names of /d"
	}{
		{"create", func(d *Disk) { create(t, d, "x") }, []string{"[a d]|[]", "[a d x]|[]"}},
		{"remove", func(d *Disk) { must(t, d.Remove("a")) }, []string{"[a d]|[]", "[d]|[]"}},
		{"rename", func(d *Disk) { must(t, d.Rename("a", "b", false)) }, []string{"[a d]|[]", "[b d]|[]"}},
		{"rename across", func(d *Disk) { must(t, d.Rename("a", "d/a", false)) }, []string{"[a d]|[]", "[a d]|[a]", "[d]|[a]"}},
		{
			"rename across, new synced", func(d *Disk) { must(t, d.Rename("a", "d/a", false)); must(t, d.SyncDir("d")) },
			[]string{"[a d]|[a]", "[d]|[a]"},
		},
		{
			"rename across, old synced", func(d *Disk) { must(t, d.Rename("a", "d/a", false)); must(t, d.SyncDir("/")) },
			[]string{"[d]|[a]"},
		},
		{"rename across, failed sync", func(d *Disk) {
			must(t, d.Rename("a", "d/a", false))
			d.Inject(d.steps+1, FailBefore, nil)
			if err := d.SyncDir("d"); !errors.Is(err, holdfast.ErrFatal) {
				t.Fatalf("got %v, want ErrFatal", err)
			}
			must(t, d.SyncDir("/"))
		}, []string{"[a d]|[]", "[d]|[a]"}},
		{"two creates", func(d *Disk) { create(t, d, "x"); create(t, d, "y") }, []string{"[a d]|[]", "[a d x y]|[]", "[a d x]|[]", "[a d y]|[]"}},
		{"removed directory", func(d *Disk) { must(t, d.Remove("d")) }, []string{"[a d]|[]", "[a]|gone"}},
		{"synced", func(d *Disk) { create(t, d, "x"); must(t, d.Remove("a")); must(t, d.SyncDir("/")) }, []string{"[d x]|[]"}},
	} {
		seen := map[string]bool{}
		for seed := range uint64(300) {
			d := New(seed)
			create(t, d, "a")
			must(t, d.Mkdir("d", durable.DirPerm))
			must(t, d.SyncDir("/"))
			c.do(d)
			d = d.Crash()
			below := "gone"
			if _, err := d.Stat("d"); err == nil {
				below = names(t, d, "d")
			}
			seen[names(t, d, "/")+"|"+below] = true
		}
		var got []string
		for s := range seen {
			got = append(got, s)
		}
		sort.Strings(got)
		sort.Strings(c.want)
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
		}
	}
}

// The first sync fails, the second says nil, and the data is gone all the same.
func TestFailedSync(t *testing.T) {
	d := New(3)
	f := create(t, d, "a")
	write(t, f, 0, fill(1, 8))
	must(t, f.Sync())
	must(t, d.SyncDir("/"))
	write(t, f, 0, fill(2, 1))
	d.Inject(d.Steps()+1, FailBefore, nil)
	if err := f.Sync(); !errors.Is(err, holdfast.ErrFatal) {
		t.Fatalf("got %v, want ErrFatal", err)
	}
	must(t, f.Sync())
	if got := contentOf(t, d, "a"); !bytes.Equal(got[:Sector], fill(2, 1)) {
		t.Error("the cache does not show what was written")
	}
	durable.DropCache(f)
	if got := contentOf(t, d, "a"); !bytes.Equal(got, fill(1, 8)) {
		t.Error("dropping the cache does not show the medium")
	}
	if got := contentOf(t, d.Crash(), "a"); !bytes.Equal(got, fill(1, 8)) {
		t.Error("what a failed sync lost came back")
	}
}

func TestCapacity(t *testing.T) {
	d := New(4)
	d.SetCapacity(4 * Sector)
	f := create(t, d, "a")
	n, err := f.WriteAt(fill(1, 6), 0)
	if n != 4*Sector || !errors.Is(err, holdfast.ErrFull) {
		t.Fatalf("got %d, %v, want a short write and ErrFull", n, err)
	}
	if err := f.Allocate(5 * Sector); !errors.Is(err, holdfast.ErrFull) {
		t.Fatalf("allocate: got %v, want ErrFull", err)
	}
	write(t, f, 0, fill(2, 4)) // room that it has
	must(t, d.Remove("a"))
	if free, _ := d.FreeBytes("/"); free != 4*Sector {
		t.Errorf("got %d free bytes after removal, want %d", free, 4*Sector)
	}
	write(t, create(t, d, "b"), 0, fill(1, 4))
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		fault Fault
		want  error
		there bool
	}{{FailBefore, holdfast.ErrFull, false}, {FailAfter, holdfast.ErrFull, true}} {
		d := New(5)
		d.Inject(1, c.fault, errFull)
		err := d.Mkdir("a", durable.DirPerm)
		_, serr := d.Stat("a")
		if !errors.Is(err, c.want) || (serr == nil) != c.there {
			t.Errorf("fault %d: got %v, there: %v", c.fault, err, serr == nil)
		}
	}
	d := New(5)
	d.Inject(2, CrashAfter, nil)
	must(t, d.Mkdir("a", durable.DirPerm))
	must(t, d.SyncDir("/"))
	if err := d.SyncDir("/"); !errors.Is(err, ErrCrashed) || !d.Dead() {
		t.Errorf("got %v, want ErrCrashed", err)
	}
	d = d.CrashLosingAll()
	if _, err := d.Stat("a"); err != nil {
		t.Errorf("what was done before the crash is gone: %v", err)
	}
	d.CrashAt(1)
	if _, err := d.OpenFile("f", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); !errors.Is(err, ErrCrashed) {
		t.Errorf("got %v, want ErrCrashed", err)
	}
	if _, err := d.Stat("a"); !errors.Is(err, ErrCrashed) {
		t.Errorf("a dead disk answered: %v", err)
	}
}

// Each planted bug loses what a true disk keeps.
func TestBugs(t *testing.T) {
	write := func(d *Disk) {
		must(t, durable.Create(d, "a", fill(1, 4), durable.FilePerm))
		must(t, durable.Create(d, "b", fill(2, 4), durable.FilePerm))
	}
	for _, c := range []struct {
		what string
		bugs Bugs
		eio  float64
	}{
		{"ignore sync", Bugs{IgnoreSync: true}, 0},
		{"ignore directory sync", Bugs{IgnoreSyncDir: true}, 0},
		{"ignore failed sync", Bugs{IgnoreSyncError: true}, 0.5},
		{"retry failed sync", Bugs{RetrySync: true}, 0.5},
	} {
		lost := 0
		for seed := range uint64(100) {
			d := New(seed)
			d.SetBugs(c.bugs)
			d.FailSyncs(c.eio)
			if c.eio > 0 && c.bugs.RetrySync { // directory syncs still fail truly
				if durable.Create(d, "a", fill(1, 4), 0o600) != nil || durable.Create(d, "b", fill(2, 4), 0o600) != nil {
					continue
				}
			} else {
				write(d)
			}
			d = d.Crash()
			if !bytes.Equal(contentOf(t, d, "a"), fill(1, 4)) || !bytes.Equal(contentOf(t, d, "b"), fill(2, 4)) {
				lost++
			}
		}
		if lost == 0 {
			t.Errorf("%s: nothing was lost in 100 crashes", c.what)
		}
	}
	for seed := range uint64(100) {
		d := New(seed)
		write(d)
		d = d.Crash()
		if !bytes.Equal(contentOf(t, d, "a"), fill(1, 4)) || !bytes.Equal(contentOf(t, d, "b"), fill(2, 4)) {
			t.Fatalf("seed %d: a true disk lost a synced file", seed)
		}
	}
	d := New(1)
	write(d)
	d.SetBugs(Bugs{IgnoreExclusive: true})
	if err := d.Rename("a", "b", false); err != nil {
		t.Errorf("ignore exclusive: %v", err)
	}
}

// drive does many things chosen by the disk's own numbers, over several lives.
func drive(t testing.TB, seed uint64) (trace uint64, state string) {
	d := New(seed)
	for range 4 {
		d.FailSyncs(0.02)
		d.CrashAt(int64(20 + d.Rand(100)))
		for range 150 {
			name := fmt.Sprintf("/%c", 'a'+d.Rand(6))
			switch d.Rand(6) {
			case 0:
				_ = d.Remove(name)
			case 1:
				_ = d.Rename(name, fmt.Sprintf("/%c", 'a'+d.Rand(6)), d.Rand(2) == 0)
			case 2:
				_ = d.SyncDir("/")
			default:
				f, err := d.OpenFile(name, os.O_RDWR, 0)
				if err != nil {
					f, err = d.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
				}
				if err != nil {
					continue
				}
				_, _ = f.WriteAt(fill(byte(d.Rand(256)), 1+d.Rand(20)), int64(d.Rand(20000)))
				if d.Rand(2) == 0 {
					_ = f.Sync()
				}
				_ = f.Truncate(int64(d.Rand(20000)))
			}
		}
		d = d.Crash()
	}
	for e := range d.ReadDir("/") {
		state += fmt.Sprintf("%s %x\n", e.Name, contentOf(t, d, e.Name))
	}
	return d.Trace(), state
}

// The same seed gives the same trace and the same disk, byte for byte.
func TestDeterministic(t *testing.T) {
	traces := map[uint64]bool{}
	for seed := range uint64(50) {
		trace, state := drive(t, seed)
		for range 3 {
			trace2, state2 := drive(t, seed)
			if trace != trace2 || state != state2 {
				t.Fatalf("seed %d: two runs differ", seed)
			}
		}
		traces[trace] = true
	}
	if len(traces) != 50 {
		t.Errorf("got %d different traces of 50 seeds", len(traces))
	}
}

func BenchmarkLife(b *testing.B) {
	for i := range b.N {
		drive(b, uint64(i))
	}
}

const errFull = syscall.ENOSPC

// A file that was made smaller keeps all that lay beyond, or loses all: no journal of a real file system leaves half.
func TestCutIsWhole(t *testing.T) {
	old, gone := 0, 0
	for seed := range uint64(40) {
		d := New(seed)
		f, err := d.OpenFile("/f", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.Repeat([]byte("x"), 3*pageSize)
		if _, err := f.WriteAt(want, 0); err != nil {
			t.Fatal(err)
		}
		d.Sync()
		if err := f.Truncate(0); err != nil {
			t.Fatal(err)
		}
		got, err := durable.ReadFile(d.Crash(), "/f", 1<<20)
		switch {
		case err != nil:
			t.Fatal(err)
		case len(got) == 0:
			gone++
		case bytes.Equal(got, want):
			old++
		default:
			t.Errorf("seed %d: %d bytes, and not those that were there", seed, len(got))
		}
	}
	if old == 0 || gone == 0 {
		t.Errorf("%d kept the old size, %d lost it: both must happen", old, gone)
	}
}
