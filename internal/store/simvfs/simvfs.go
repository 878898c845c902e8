// Package simvfs puts SQLite on a durable.FS, so that a whole server can run on a simulated disk.
//
// Each Register makes one VFS with a name of its own: that is one simulated process. Locks and the shared memory
// of a write-ahead log live in this process's heap and are gone with it, as after a crash. It behaves as SQLite's own
// VFS for Unix does: the directory is synced with the first sync of a new log, a file is never created unless
// asked for, and it claims powersafe overwrite, which package simdisk keeps (bytes of a sector that were not
// written do not change), and no atomic write.
//
// Only tests use it; nothing in the program imports it.
package simvfs

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"

	"holdfast"
	"holdfast/internal/durable"
)

// Options change how a VFS behaves.
type Options struct {
	// LazyLog leaves syncs of the write-ahead log out, as PRAGMA synchronous=NORMAL does at a commit: a planted bug.
	LazyLog bool
}

// VFS is one simulated process as SQLite sees it.
type VFS struct {
	fs   durable.FS
	opts Options
	name string
	c    uintptr // the sqlite3_vfs

	mu     sync.Mutex
	random uint64
	inodes map[inodeKey]*inode
}

// inodeKey names a file whatever its path is.
type inodeKey struct{ dev, ino uint64 }

// inode is what the open files of one database share: locks and the index of the log.
type inode struct {
	key       inodeKey
	users     int
	shared    int   // files that hold SHARED or more
	reserved  *file // the one that holds RESERVED or more
	pending   *file // the one that waits for, or holds, EXCLUSIVE
	regions   []uintptr
	shmUsers  int
	shmShared [lib.SQLITE_SHM_NLOCK]int
	shmExcl   [lib.SQLITE_SHM_NLOCK]*file
}

// file is an open file.
type file struct {
	vfs     *VFS
	f       durable.File
	name    string
	id      durable.Info
	node    *inode // of a database; nil for others
	level   int32  // lock held
	log     bool   // it is a write-ahead log
	dirSync bool   // the directory must be synced with the first sync
	persist bool   // the log stays when the last connection closes
	mapped  bool   // it uses the shared memory
	held    uint16 // shm locks held shared
}

// cFile is what SQLite allocates for an open file.
type cFile struct {
	methods uintptr
	id      uint64
}

var (
	count   atomic.Uint64
	files   sync.Map // id -> *file
	vfses   sync.Map // id -> *VFS
	methods = sync.OnceValue(makeMethods)
)

// Register makes a VFS over fsys. The name is for store.Config.VFS.
func Register(fsys durable.FS, opts Options) (*VFS, error) {
	id := count.Add(1)
	v := &VFS{fs: fsys, opts: opts, name: fmt.Sprintf("holdfast-sim-%d", id), inodes: map[inodeKey]*inode{}, random: 1}
	tls := libc.NewTLS()
	defer tls.Close()
	v.c = libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(lib.Tsqlite3_vfs{})))
	name, err := libc.CString(v.name)
	if err != nil {
		return nil, fmt.Errorf("name a vfs: %w", err)
	}
	*at[lib.Tsqlite3_vfs](v.c) = lib.Tsqlite3_vfs{
		FiVersion: 2, FszOsFile: int32(unsafe.Sizeof(cFile{})), FmxPathname: 512, FzName: name, FpAppData: uintptr(id),
		FxOpen: cFunc(vfsOpen), FxDelete: cFunc(vfsDelete), FxAccess: cFunc(vfsAccess), FxFullPathname: cFunc(vfsFullPathname),
		FxRandomness: cFunc(vfsRandomness), FxSleep: cFunc(vfsSleep), FxCurrentTime: cFunc(vfsCurrentTime),
		FxGetLastError: cFunc(vfsGetLastError), FxCurrentTimeInt64: cFunc(vfsCurrentTimeInt64),
	}
	vfses.Store(uintptr(id), v)
	if rc := lib.Xsqlite3_vfs_register(tls, v.c, 0); rc != lib.SQLITE_OK {
		return nil, fmt.Errorf("register a vfs: sqlite code %d", rc)
	}
	return v, nil
}

// Name returns what SQLite calls it.
func (v *VFS) Name() string { return v.name }

// Close forgets the VFS. Every database opened through it must be closed before.
func (v *VFS) Close() {
	tls := libc.NewTLS()
	defer tls.Close()
	c := at[lib.Tsqlite3_vfs](v.c)
	lib.Xsqlite3_vfs_unregister(tls, v.c)
	vfses.Delete(c.FpAppData)
	libc.Xfree(tls, c.FzName)
	libc.Xfree(tls, v.c)
}

func cFunc[T any](f T) uintptr { return *(*uintptr)(unsafe.Pointer(&struct{ f T }{f})) }

// at returns what lies at an address that SQLite gave.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

func bytesAt(p uintptr, n int32) []byte { return unsafe.Slice(at[byte](p), n) }

func vfsOf(p uintptr) *VFS {
	v, _ := vfses.Load(at[lib.Tsqlite3_vfs](p).FpAppData)
	return v.(*VFS)
}

func fileOf(p uintptr) *file {
	f, _ := files.Load(at[cFile](p).id)
	return f.(*file)
}

func vfsOpen(_ *libc.TLS, vfs, name, p uintptr, flags int32, out uintptr) int32 {
	c := at[cFile](p)
	c.methods = 0
	if name == 0 { // a temporary file: temp_store is in memory
		return lib.SQLITE_CANTOPEN
	}
	f, rc := vfsOf(vfs).open(libc.GoString(name), flags)
	if rc != lib.SQLITE_OK {
		return rc
	}
	c.methods, c.id = methods(), count.Add(1)
	files.Store(c.id, f)
	if out != 0 {
		*at[int32](out) = flags
	}
	return lib.SQLITE_OK
}

func (v *VFS) open(name string, flags int32) (*file, int32) {
	f, created, err := v.openFile(name, flags&lib.SQLITE_OPEN_CREATE != 0)
	if err != nil {
		return nil, lib.SQLITE_CANTOPEN
	}
	id, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, lib.SQLITE_IOERR_FSTAT
	}
	o := &file{vfs: v, f: f, name: name, id: id, log: flags&lib.SQLITE_OPEN_WAL != 0}
	o.dirSync = created && flags&(lib.SQLITE_OPEN_WAL|lib.SQLITE_OPEN_MAIN_JOURNAL|lib.SQLITE_OPEN_SUPER_JOURNAL) != 0
	if flags&lib.SQLITE_OPEN_MAIN_DB != 0 {
		v.mu.Lock()
		defer v.mu.Unlock()
		key := inodeKey{id.Dev, id.Ino}
		if v.inodes[key] == nil {
			v.inodes[key] = &inode{key: key}
		}
		o.node = v.inodes[key]
		o.node.users++
	}
	return o, lib.SQLITE_OK
}

// ioError gives an error of the file system SQLite's code: ErrFull is SQLITE_FULL, all else code.
func ioError(err error, code int32) int32 {
	switch {
	case err == nil:
		return lib.SQLITE_OK
	case errors.Is(err, holdfast.ErrFull):
		return lib.SQLITE_FULL
	}
	return code
}

func vfsDelete(_ *libc.TLS, vfs, name uintptr, dirSync int32) int32 {
	v, path := vfsOf(vfs), libc.GoString(name)
	err := v.fs.Remove(path)
	if errors.Is(err, holdfast.ErrNotFound) {
		return lib.SQLITE_IOERR_DELETE_NOENT
	}
	if err == nil && dirSync != 0 {
		err = v.fs.SyncDir(filepath.Dir(path))
	}
	return ioError(err, lib.SQLITE_IOERR_DELETE)
}

func vfsAccess(_ *libc.TLS, vfs, name uintptr, flags int32, out uintptr) int32 {
	i, err := vfsOf(vfs).fs.Stat(libc.GoString(name))
	there := err == nil && (flags != lib.SQLITE_ACCESS_EXISTS || !i.Mode.IsRegular() || i.Size > 0)
	*at[int32](out) = 0
	if there {
		*at[int32](out) = 1
	}
	return lib.SQLITE_OK
}

func vfsFullPathname(_ *libc.TLS, _, name uintptr, n int32, out uintptr) int32 {
	s := libc.GoString(name)
	if len(s) >= int(n) {
		return lib.SQLITE_CANTOPEN
	}
	b := bytesAt(out, n)
	b[copy(b, s)] = 0
	return lib.SQLITE_OK
}
