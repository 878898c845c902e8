package simvfs

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"

	"holdfast"
	"holdfast/internal/durable"
)

// sectorSize is what SQLite's own VFS for Unix says; the simulated disk's sectors are smaller.
const sectorSize = 4096

func makeMethods() uintptr {
	tls := libc.NewTLS()
	defer tls.Close()
	p := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(lib.Tsqlite3_io_methods{})))
	*at[lib.Tsqlite3_io_methods](p) = lib.Tsqlite3_io_methods{
		FiVersion: 2, FxClose: cFunc(fileClose), FxRead: cFunc(fileRead), FxWrite: cFunc(fileWrite), FxTruncate: cFunc(fileTruncate),
		FxSync: cFunc(fileSync), FxFileSize: cFunc(fileSize), FxLock: cFunc(fileLock), FxUnlock: cFunc(fileUnlock),
		FxCheckReservedLock: cFunc(fileCheckReservedLock), FxFileControl: cFunc(fileControl), FxSectorSize: cFunc(fileSectorSize),
		FxDeviceCharacteristics: cFunc(fileDeviceCharacteristics), FxShmMap: cFunc(shmMap), FxShmLock: cFunc(shmLock),
		FxShmBarrier: cFunc(shmBarrier), FxShmUnmap: cFunc(shmUnmap),
	}
	return p
}

// openFile opens a file, or makes it if create is set and there is none.
func (v *VFS) openFile(name string, create bool) (f durable.File, created bool, err error) {
	f, err = v.fs.OpenFile(name, os.O_RDWR, 0)
	if !create || !errors.Is(err, holdfast.ErrNotFound) {
		return f, false, err
	}
	f, err = v.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, durable.FilePerm)
	return f, true, err
}

func fileClose(_ *libc.TLS, p uintptr) int32 {
	f := fileOf(p)
	files.Delete(at[cFile](p).id)
	at[cFile](p).methods = 0
	f.vfs.mu.Lock()
	defer f.vfs.mu.Unlock()
	if n := f.node; n != nil {
		n.unlock(f, lib.SQLITE_LOCK_NONE)
		n.unmap(f)
		if n.users--; n.users == 0 {
			delete(f.vfs.inodes, n.key)
		}
	}
	return ioError(f.f.Close(), lib.SQLITE_IOERR_CLOSE)
}

func fileRead(_ *libc.TLS, p, buf uintptr, n int32, off lib.Tsqlite3_int64) int32 {
	b := bytesAt(buf, n)
	got, err := fileOf(p).f.ReadAt(b, int64(off))
	switch {
	case got == len(b):
		return lib.SQLITE_OK
	case errors.Is(err, io.EOF):
		clear(b[got:])
		return lib.SQLITE_IOERR_SHORT_READ
	}
	return lib.SQLITE_IOERR_READ
}

func fileWrite(_ *libc.TLS, p, buf uintptr, n int32, off lib.Tsqlite3_int64) int32 {
	_, err := fileOf(p).f.WriteAt(bytesAt(buf, n), int64(off))
	return ioError(err, lib.SQLITE_IOERR_WRITE)
}

func fileTruncate(_ *libc.TLS, p uintptr, size lib.Tsqlite3_int64) int32 {
	return ioError(fileOf(p).f.Truncate(int64(size)), lib.SQLITE_IOERR_TRUNCATE)
}

func fileSync(_ *libc.TLS, p uintptr, _ int32) int32 {
	f := fileOf(p)
	if f.log && f.vfs.opts.LazyLog {
		return lib.SQLITE_OK
	}
	if err := f.f.Sync(); err != nil {
		return lib.SQLITE_IOERR_FSYNC
	}
	if !f.dirSync {
		return lib.SQLITE_OK
	}
	if err := f.vfs.fs.SyncDir(filepath.Dir(f.name)); err != nil {
		return lib.SQLITE_IOERR_DIR_FSYNC
	}
	f.dirSync = false
	return lib.SQLITE_OK
}

func fileSize(_ *libc.TLS, p, out uintptr) int32 {
	i, err := fileOf(p).f.Stat()
	if err != nil {
		return lib.SQLITE_IOERR_FSTAT
	}
	*at[lib.Tsqlite3_int64](out) = lib.Tsqlite3_int64(i.Size)
	return lib.SQLITE_OK
}

func fileLock(_ *libc.TLS, p uintptr, level int32) int32 {
	f := fileOf(p)
	if f.node == nil {
		return lib.SQLITE_OK
	}
	f.vfs.mu.Lock()
	defer f.vfs.mu.Unlock()
	return f.node.lock(f, level)
}

// lock raises the lock of f, as SQLite's documentation of xLock demands.
func (n *inode) lock(f *file, level int32) int32 {
	if f.level >= level {
		return lib.SQLITE_OK
	}
	other := func(g *file) bool { return g != nil && g != f }
	if f.level == lib.SQLITE_LOCK_NONE {
		if other(n.pending) {
			return lib.SQLITE_BUSY
		}
		n.shared++
		f.level = lib.SQLITE_LOCK_SHARED
	}
	if level >= lib.SQLITE_LOCK_RESERVED {
		if other(n.reserved) || other(n.pending) {
			return lib.SQLITE_BUSY
		}
		n.reserved = f
		f.level = lib.SQLITE_LOCK_RESERVED
	}
	if level == lib.SQLITE_LOCK_EXCLUSIVE {
		n.pending = f
		f.level = lib.SQLITE_LOCK_PENDING
		if n.shared > 1 {
			return lib.SQLITE_BUSY
		}
		f.level = lib.SQLITE_LOCK_EXCLUSIVE
	}
	return lib.SQLITE_OK
}

func fileUnlock(_ *libc.TLS, p uintptr, level int32) int32 {
	f := fileOf(p)
	if f.node != nil {
		f.vfs.mu.Lock()
		defer f.vfs.mu.Unlock()
		f.node.unlock(f, level)
	}
	return lib.SQLITE_OK
}

func (n *inode) unlock(f *file, level int32) {
	if f.level <= level {
		return
	}
	if n.reserved == f {
		n.reserved = nil
	}
	if n.pending == f {
		n.pending = nil
	}
	if level == lib.SQLITE_LOCK_NONE {
		n.shared--
	}
	f.level = level
}

func fileCheckReservedLock(_ *libc.TLS, p, out uintptr) int32 {
	f := fileOf(p)
	*at[int32](out) = 0
	if f.node != nil {
		f.vfs.mu.Lock()
		defer f.vfs.mu.Unlock()
		if f.node.reserved != nil {
			*at[int32](out) = 1
		}
	}
	return lib.SQLITE_OK
}

func fileControl(_ *libc.TLS, p uintptr, op int32, arg uintptr) int32 {
	f := fileOf(p)
	switch op {
	case lib.SQLITE_FCNTL_PERSIST_WAL:
		if v := at[int32](arg); *v >= 0 {
			f.persist = *v != 0
		} else {
			*v = 0
			if f.persist {
				*v = 1
			}
		}
		return lib.SQLITE_OK
	case lib.SQLITE_FCNTL_HAS_MOVED:
		i, err := f.vfs.fs.Stat(f.name)
		*at[int32](arg) = 0
		if err != nil || !i.Same(f.id) {
			*at[int32](arg) = 1
		}
		return lib.SQLITE_OK
	}
	return lib.SQLITE_NOTFOUND
}

func fileSectorSize(*libc.TLS, uintptr) int32 { return sectorSize }

func fileDeviceCharacteristics(*libc.TLS, uintptr) int32 {
	return lib.SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

func shmMap(tls *libc.TLS, p uintptr, region, size, extend int32, out uintptr) int32 {
	f := fileOf(p)
	f.vfs.mu.Lock()
	defer f.vfs.mu.Unlock()
	n := f.node
	if !f.mapped {
		f.mapped = true
		n.shmUsers++
	}
	for extend != 0 && len(n.regions) <= int(region) {
		n.regions = append(n.regions, libc.Xcalloc(tls, 1, libc.Tsize_t(size)))
	}
	*at[uintptr](out) = 0
	if int(region) < len(n.regions) {
		*at[uintptr](out) = n.regions[region]
	}
	return lib.SQLITE_OK
}

func shmLock(_ *libc.TLS, p uintptr, offset, count, flags int32) int32 {
	f := fileOf(p)
	f.vfs.mu.Lock()
	defer f.vfs.mu.Unlock()
	n := f.node
	slots := func(do func(i int32)) {
		for i := offset; i < offset+count; i++ {
			do(i)
		}
	}
	busy := false
	switch {
	case flags&lib.SQLITE_SHM_UNLOCK != 0:
		slots(func(i int32) { n.release(f, i) })
	case flags&lib.SQLITE_SHM_SHARED != 0:
		slots(func(i int32) { busy = busy || n.shmExcl[i] != nil && n.shmExcl[i] != f })
		if !busy {
			slots(func(i int32) {
				if f.held&(1<<i) == 0 {
					f.held |= 1 << i
					n.shmShared[i]++
				}
			})
		}
	default:
		slots(func(i int32) {
			own := int(f.held >> i & 1)
			busy = busy || n.shmExcl[i] != nil && n.shmExcl[i] != f || n.shmShared[i] > own
		})
		if !busy {
			slots(func(i int32) { n.shmExcl[i] = f })
		}
	}
	if busy {
		return lib.SQLITE_BUSY
	}
	return lib.SQLITE_OK
}

// release drops what f holds of one lock of the shared memory.
func (n *inode) release(f *file, i int32) {
	if n.shmExcl[i] == f {
		n.shmExcl[i] = nil
	}
	if f.held&(1<<i) != 0 {
		f.held &^= 1 << i
		n.shmShared[i]--
	}
}

func shmBarrier(_ *libc.TLS, p uintptr) {
	f := fileOf(p)
	f.vfs.mu.Lock()
	defer f.vfs.mu.Unlock()
}

func shmUnmap(_ *libc.TLS, p uintptr, _ int32) int32 {
	f := fileOf(p)
	f.vfs.mu.Lock()
	defer f.vfs.mu.Unlock()
	f.node.unmap(f)
	return lib.SQLITE_OK
}

// unmap frees the shared memory when nobody uses it any more.
func (n *inode) unmap(f *file) {
	if !f.mapped {
		return
	}
	f.mapped = false
	for i := range int32(lib.SQLITE_SHM_NLOCK) {
		n.release(f, i)
	}
	if n.shmUsers--; n.shmUsers > 0 {
		return
	}
	tls := libc.NewTLS()
	defer tls.Close()
	for _, r := range n.regions {
		libc.Xfree(tls, r)
	}
	n.regions = nil
}

func vfsRandomness(_ *libc.TLS, vfs uintptr, n int32, out uintptr) int32 {
	v := vfsOf(vfs)
	v.mu.Lock()
	defer v.mu.Unlock()
	b := bytesAt(out, n)
	for i := range b {
		v.random = v.random*6364136223846793005 + 1442695040888963407
		b[i] = byte(v.random >> 56)
	}
	return n
}

func vfsSleep(_ *libc.TLS, _ uintptr, us int32) int32 {
	time.Sleep(time.Duration(us) * time.Microsecond)
	return us
}

// julian is 1 January 2026 in days, as SQLite counts them; nothing that is stored asks SQLite for the time.
const julian = 2461041.5

func vfsCurrentTime(_ *libc.TLS, _, out uintptr) int32 {
	*at[float64](out) = julian
	return lib.SQLITE_OK
}

func vfsCurrentTimeInt64(_ *libc.TLS, _, out uintptr) int32 {
	*at[lib.Tsqlite3_int64](out) = lib.Tsqlite3_int64(julian * 86_400_000)
	return lib.SQLITE_OK
}

func vfsGetLastError(_ *libc.TLS, _ uintptr, _ int32, _ uintptr) int32 { return lib.SQLITE_OK }
