package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Every page of the database ends in a checksum of its own (docs/formats/store.md): SQLite has none, and
// a bit that flips in a key makes a row that is there answer "not found". A layer over SQLite's VFS writes
// the checksum with each page and verifies it with each read, before SQLite sees the page; what it reads from
// the write-ahead log it verifies by the checksums that the log has. A bad page is an error for whoever
// needs it, and nobody else.
const (
	pageSize = 4096 // bytes, of every store
	pageTail = 8    // bytes at the end of each page
	walHead  = 32   // bytes before the first frame of a log
	walFrame = 24   // bytes before the page of each frame
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	ieee       = crc32.MakeTable(crc32.IEEE)
)

// sumPage returns the checksum of page number n.
func sumPage(n uint32, page []byte) uint64 {
	var num [4]byte
	binary.LittleEndian.PutUint32(num[:], n)
	body := page[:pageSize-pageTail]
	a := crc32.Update(crc32.Update(0, castagnoli, num[:]), castagnoli, body)
	b := crc32.Update(crc32.Update(0, ieee, num[:]), ieee, body)
	return uint64(b)<<32 | uint64(a)
}

func goodPage(n uint32, page []byte) bool {
	return binary.LittleEndian.Uint64(page[pageSize-pageTail:]) == sumPage(n, page)
}

// emptyDatabase is the first page of a database without tables. SQLite would make one without room for
// checksums.
func emptyDatabase() []byte {
	b := make([]byte, pageSize)
	copy(b, "SQLite format 3\x00")
	binary.BigEndian.PutUint16(b[16:], pageSize)
	b[18], b[19], b[20] = 1, 1, pageTail // rollback journal until WAL is set; bytes that SQLite leaves free
	b[21], b[22], b[23] = 64, 32, 32
	b[31] = 1     // pages
	b[100] = 0x0d // a leaf of the schema table, empty
	binary.BigEndian.PutUint16(b[105:], pageSize-pageTail)
	binary.LittleEndian.PutUint64(b[pageSize-pageTail:], sumPage(1, b))
	return b
}

// layer is a VFS of ours over one of SQLite's.
type layer struct {
	base   uintptr // the sqlite3_vfs beneath
	own    uintptr
	name   string
	verify bool
	users  int // guarded by layers.mu
}

// methods is a table of a file's methods with our own read and write in it.
type methods struct {
	base   uintptr // the table beneath
	own    uintptr
	log    bool
	verify bool
}

// layers are all of the process. SQLite knows VFS by name and files by the address of their methods.
var layers = struct {
	mu      sync.RWMutex
	byName  map[string]*layer
	byVFS   map[uintptr]*layer
	methods map[uintptr]*methods // by own
}{byName: map[string]*layer{}, byVFS: map[uintptr]*layer{}, methods: map[uintptr]*methods{}}

// useLayer returns the name of the layer over the VFS base ("" is SQLite's own). With verify false
// damaged pages are read as they are, for repair alone. release gives it back.
func useLayer(base string, verify bool) (name string, release func(), err error) {
	name = "holdfast-pages-" + base
	if !verify {
		name = "holdfast-raw-" + base
	}
	layers.mu.Lock()
	defer layers.mu.Unlock()
	l := layers.byName[name]
	if l == nil {
		if l, err = newLayer(base, name, verify); err != nil {
			return "", nil, err
		}
		layers.byName[name], layers.byVFS[l.own] = l, l
	}
	l.users++
	return name, func() { dropLayer(l) }, nil
}

func dropLayer(l *layer) {
	layers.mu.Lock()
	defer layers.mu.Unlock()
	if l.users--; l.users > 0 {
		return
	}
	tls := libc.NewTLS()
	defer tls.Close()
	lib.Xsqlite3_vfs_unregister(tls, l.own)
	delete(layers.byName, l.name)
	delete(layers.byVFS, l.own)
	libc.Xfree(tls, at[lib.Tsqlite3_vfs](l.own).FzName)
	libc.Xfree(tls, l.own)
}

func newLayer(base, name string, verify bool) (*layer, error) {
	tls := libc.NewTLS()
	defer tls.Close()
	beneath := uintptr(0)
	if base != "" {
		z, err := libc.CString(base)
		if err != nil {
			return nil, fmt.Errorf("name a vfs: %w", err)
		}
		defer libc.Xfree(tls, z)
		beneath = z
	}
	l := &layer{base: lib.Xsqlite3_vfs_find(tls, beneath), name: name, verify: verify}
	if l.base == 0 {
		return nil, fmt.Errorf("sqlite has no vfs %q", base)
	}
	z, err := libc.CString(name)
	if err != nil {
		return nil, fmt.Errorf("name a vfs: %w", err)
	}
	l.own = libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(lib.Tsqlite3_vfs{})))
	if l.own == 0 {
		return nil, errors.New("no memory for a vfs")
	}
	v := at[lib.Tsqlite3_vfs](l.own)
	*v = *at[lib.Tsqlite3_vfs](l.base)
	v.FpNext, v.FzName, v.FxOpen = 0, z, cFunc(layerOpen)
	if rc := lib.Xsqlite3_vfs_register(tls, l.own, 0); rc != lib.SQLITE_OK {
		return nil, fmt.Errorf("register a vfs: sqlite code %d", rc)
	}
	return l, nil
}

func cFunc[T any](f T) uintptr { return *(*uintptr)(unsafe.Pointer(&struct{ f T }{f})) }

func goFunc[T any](p uintptr) T { return *(*T)(unsafe.Pointer(&struct{ p uintptr }{p})) }

// at returns what lies at an address that SQLite gave.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

func bytesAt(p uintptr, n int32) []byte { return unsafe.Slice(at[byte](p), n) }

type (
	openFunc  = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32
	readFunc  = func(tls *libc.TLS, file, buf uintptr, n int32, off int64) int32
	writeFunc = func(tls *libc.TLS, file, buf uintptr, n int32, off int64) int32
)

// layerOpen opens a file beneath and, if it is a database or its log, puts our methods in front.
func layerOpen(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32 {
	layers.mu.RLock()
	l := layers.byVFS[vfs]
	layers.mu.RUnlock()
	rc := goFunc[openFunc](at[lib.Tsqlite3_vfs](l.base).FxOpen)(tls, l.base, name, file, flags, out)
	if rc != lib.SQLITE_OK || flags&(lib.SQLITE_OPEN_MAIN_DB|lib.SQLITE_OPEN_WAL) == 0 {
		return rc
	}
	f := at[lib.Tsqlite3_file](file)
	f.FpMethods = methodsOver(tls, f.FpMethods, flags&lib.SQLITE_OPEN_WAL != 0, l.verify)
	return rc
}

// methodsOver returns our table over one beneath. There are few of them, and they are never given back:
// SQLite's own are static, and a file keeps the address.
func methodsOver(tls *libc.TLS, base uintptr, log, verify bool) uintptr {
	layers.mu.Lock()
	defer layers.mu.Unlock()
	for own, m := range layers.methods {
		if m.base == base && m.log == log && m.verify == verify {
			return own
		}
	}
	own := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(lib.Tsqlite3_io_methods{})))
	t := at[lib.Tsqlite3_io_methods](own)
	*t = *at[lib.Tsqlite3_io_methods](base)
	t.FiVersion = min(t.FiVersion, 2) // no memory-mapped pages: they would pass us by
	t.FxRead = cFunc(layerRead)
	if !log {
		t.FxWrite = cFunc(layerWrite)
	}
	layers.methods[own] = &methods{base: base, own: own, log: log, verify: verify}
	return own
}

func methodsOf(file uintptr) *methods {
	layers.mu.RLock()
	defer layers.mu.RUnlock()
	return layers.methods[at[lib.Tsqlite3_file](file).FpMethods]
}

// layerRead reads, and gives SQLITE_IOERR_DATA for a page that is not what was written there.
func layerRead(tls *libc.TLS, file, buf uintptr, n int32, off int64) int32 {
	m := methodsOf(file)
	read := goFunc[readFunc](at[lib.Tsqlite3_io_methods](m.base).FxRead)
	rc := read(tls, file, buf, n, off)
	if !m.verify || n != pageSize {
		return rc
	}
	if m.log {
		if rc == lib.SQLITE_OK && (off-walHead-walFrame)%(walFrame+pageSize) == 0 && !goodFrame(tls, read, file, bytesAt(buf, n), off) {
			return lib.SQLITE_IOERR_DATA
		}
		return rc
	}
	switch {
	case off%pageSize != 0:
		return rc
	case rc == lib.SQLITE_IOERR_SHORT_READ: // a page that should be there: the file was cut
		return lib.SQLITE_IOERR_DATA
	case rc == lib.SQLITE_OK && !goodPage(uint32(off/pageSize)+1, bytesAt(buf, n)):
		return lib.SQLITE_IOERR_DATA
	}
	return rc
}

// goodFrame verifies a page of the write-ahead log: its frame's checksum goes on from the one before.
func goodFrame(tls *libc.TLS, read readFunc, file uintptr, page []byte, off int64) bool {
	buf := tls.Alloc(64)
	defer tls.Free(64)
	head, before := bytesAt(buf, walHead), bytesAt(buf+40, 8)
	if read(tls, file, buf, walHead, 0) != lib.SQLITE_OK {
		return false
	}
	big := binary.BigEndian.Uint32(head)&1 == 1
	at := off - walFrame - (walFrame + pageSize) + 16 // the checksum of the frame before, or of the head
	if off == walHead+walFrame {
		at = 24
	}
	if read(tls, file, buf+40, 8, at) != lib.SQLITE_OK {
		return false
	}
	s := [2]uint32{binary.BigEndian.Uint32(before), binary.BigEndian.Uint32(before[4:])}
	if read(tls, file, buf, walFrame, off-walFrame) != lib.SQLITE_OK {
		return false
	}
	s = walSum(s, head[:8], big)
	s = walSum(s, page, big)
	return s[0] == binary.BigEndian.Uint32(head[16:]) && s[1] == binary.BigEndian.Uint32(head[20:])
}

// walSum goes on with the checksum of SQLite's write-ahead log (sqlite.org/fileformat2.html, 4.2).
func walSum(s [2]uint32, b []byte, big bool) [2]uint32 {
	a, c := s[0], s[1]
	for ; len(b) >= 8; b = b[8:] {
		if big {
			a += binary.BigEndian.Uint32(b) + c
			c += binary.BigEndian.Uint32(b[4:]) + a
			continue
		}
		a += binary.LittleEndian.Uint32(b) + c
		c += binary.LittleEndian.Uint32(b[4:]) + a
	}
	return [2]uint32{a, c}
}

// layerWrite puts the checksum into a page and writes it. SQLite leaves those bytes to us.
func layerWrite(tls *libc.TLS, file, buf uintptr, n int32, off int64) int32 {
	m := methodsOf(file)
	if n == pageSize && off%pageSize == 0 {
		page := bytesAt(buf, n)
		binary.LittleEndian.PutUint64(page[pageSize-pageTail:], sumPage(uint32(off/pageSize)+1, page))
	}
	return goFunc[writeFunc](at[lib.Tsqlite3_io_methods](m.base).FxWrite)(tls, file, buf, n, off)
}
