package store

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// faultVFS is SQLite's own file system with a hand on every write, sync and truncate. One test at a
// time arms it; disk then counts the steps, makes one of them fail, and knows what a power cut leaves.
const faultVFS = "holdfast-fault"

// What happens at the chosen step.
type fault int

const (
	noFault     fault = iota
	failClean         // EIO, nothing done
	failFull          // no space left, nothing done (writes only; else like failClean)
	failWritten       // EIO, but it was done
	failTorn          // EIO, half of it was done (writes only; else like failClean)
)

var faultNames = []string{"none", "fails", "full", "fails-written", "fails-torn"}

type disk struct {
	mu    sync.Mutex
	step  int
	at    int // the step that fails; 0 is none
	what  fault
	fired bool
	files map[string]*diskFile
}

// diskFile is what is known of one file: its bytes now, those that a sync has promised, and the
// 512-byte sectors written since.
type diskFile struct {
	live, synced []byte
	dirty        map[int64]bool
}

var (
	theDisk    *disk
	theDiskMu  sync.Mutex
	diskPaths  sync.Map // *sqlite3_file -> path
	origOpen   func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32
	origIO     lib.Tsqlite3_io_methods
	wrapped    = map[uintptr]uintptr{} // SQLite's io methods -> ours
	faultSetUp = sync.OnceFunc(registerFaultVFS)
)

func registerFaultVFS() {
	tls := libc.NewTLS()
	def := lib.Xsqlite3_vfs_find(tls, 0)
	p := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(lib.Tsqlite3_vfs{})))
	v := at[lib.Tsqlite3_vfs](p)
	*v = *at[lib.Tsqlite3_vfs](def)
	name, err := libc.CString(faultVFS)
	if err != nil {
		panic(err)
	}
	v.FzName, v.FpNext = name, 0
	origOpen = goFunc[func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32](v.FxOpen)
	v.FxOpen = cFunc(faultOpen)
	if rc := lib.Xsqlite3_vfs_register(tls, p, 0); rc != 0 {
		panic(rc)
	}
}

func faultOpen(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32 {
	rc := origOpen(tls, vfs, name, file, flags, out)
	if rc != 0 || flags&(lib.SQLITE_OPEN_MAIN_DB|lib.SQLITE_OPEN_WAL) == 0 {
		return rc
	}
	f := at[lib.Tsqlite3_file](file)
	theDiskMu.Lock()
	defer theDiskMu.Unlock()
	if wrapped[f.FpMethods] == 0 { // the database and its log have different ones, with the same three functions
		origIO = *at[lib.Tsqlite3_io_methods](f.FpMethods)
		p := libc.Xmalloc(tls, libc.Tsize_t(unsafe.Sizeof(origIO)))
		w := at[lib.Tsqlite3_io_methods](p)
		*w = origIO
		w.FxWrite, w.FxSync, w.FxTruncate = cFunc(faultWrite), cFunc(faultSync), cFunc(faultTruncate)
		wrapped[f.FpMethods] = p
	}
	f.FpMethods = wrapped[f.FpMethods]
	diskPaths.Store(file, libc.GoString(name))
	return rc
}

func faultWrite(tls *libc.TLS, file, buf uintptr, n int32, off lib.Tsqlite3_int64) int32 {
	orig := goFunc[func(*libc.TLS, uintptr, uintptr, int32, lib.Tsqlite3_int64) int32](origIO.FxWrite)
	b := unsafe.Slice(at[byte](buf), n)
	return step(file, lib.SQLITE_IOERR_WRITE, func(part fault) int32 {
		m := n
		if part == failTorn {
			m = n / 2
		}
		return orig(tls, file, buf, m, off)
	}, func(f *diskFile, part fault) {
		if part == failTorn {
			b = b[:len(b)/2]
		}
		f.write(b, int64(off))
	})
}

func faultSync(tls *libc.TLS, file uintptr, flags int32) int32 {
	orig := goFunc[func(*libc.TLS, uintptr, int32) int32](origIO.FxSync)
	return step(file, lib.SQLITE_IOERR_FSYNC, func(fault) int32 { return orig(tls, file, flags) },
		func(f *diskFile, _ fault) {
			f.synced = append([]byte(nil), f.live...)
			f.dirty = map[int64]bool{}
		})
}

func faultTruncate(tls *libc.TLS, file uintptr, size lib.Tsqlite3_int64) int32 {
	orig := goFunc[func(*libc.TLS, uintptr, lib.Tsqlite3_int64) int32](origIO.FxTruncate)
	return step(file, lib.SQLITE_IOERR_TRUNCATE, func(fault) int32 { return orig(tls, file, size) },
		func(f *diskFile, _ fault) { f.live = f.live[:min(len(f.live), int(size))] })
}

// step counts one operation, lets it fail if it is the chosen one, and else does it for real and in the books.
func step(file uintptr, code int32, do func(fault) int32, book func(*diskFile, fault)) int32 {
	theDiskMu.Lock()
	d := theDisk
	theDiskMu.Unlock()
	if d == nil {
		return do(noFault)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p, _ := diskPaths.Load(file)
	f := d.files[p.(string)]
	if f == nil {
		f = &diskFile{dirty: map[int64]bool{}}
		d.files[p.(string)] = f
	}
	d.step++
	what := noFault
	if d.step == d.at {
		what, d.fired = d.what, true
		if what == failTorn && code != lib.SQLITE_IOERR_WRITE {
			what = failClean
		}
	}
	switch what {
	case failClean:
		return code
	case failFull:
		if code == lib.SQLITE_IOERR_WRITE {
			return lib.SQLITE_FULL
		}
		return code
	}
	rc := do(what)
	if rc == 0 {
		book(f, what)
	}
	if what != noFault {
		return code
	}
	return rc
}

const sector = 512

func (f *diskFile) write(b []byte, at int64) {
	if need := int(at) + len(b); need > len(f.live) {
		f.live = append(f.live, make([]byte, need-len(f.live))...)
	}
	copy(f.live[at:], b)
	for s := at / sector; s <= (at+int64(len(b))-1)/sector; s++ {
		f.dirty[s] = true
	}
}

// arm makes d the disk under all files that are open through faultVFS; their present bytes count as synced.
func (d *disk) arm(t testing.TB, dir string) {
	t.Helper()
	d.files = map[string]*diskFile{}
	for _, name := range []string{fileName, fileName + "-wal"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		d.files[filepath.Join(dir, name)] = &diskFile{live: b, synced: append([]byte(nil), b...), dirty: map[int64]bool{}}
	}
	setDisk(d)
	t.Cleanup(func() { setDisk(nil) })
}

func setDisk(d *disk) {
	theDiskMu.Lock()
	defer theDiskMu.Unlock()
	theDisk = d
}

// cut writes to a new directory what a power cut at this moment leaves: what was synced, and of each
// sector written since either the old or the new bytes.
func (d *disk) cut(t testing.TB, rnd *rand.Rand) string {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	dir := t.TempDir()
	for path, f := range d.files {
		img := append([]byte(nil), f.synced...)
		for s := range int64(len(f.live)/sector + 1) { // in order, so that a seed repeats
			if !f.dirty[s] || rnd.IntN(2) == 0 {
				continue
			}
			from, to := int(s*sector), min(int(s+1)*sector, len(f.live))
			if from >= to {
				continue
			}
			if to > len(img) {
				img = append(img, make([]byte, to-len(img))...)
			}
			copy(img[from:to], f.live[from:to])
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), img, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
