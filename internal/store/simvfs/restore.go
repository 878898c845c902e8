package simvfs

import (
	"fmt"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Restore puts the content of the database at path on from into the one at the same path on v, through SQLite
// itself, while others have that one open: what "restore" typed into a database shell does. The file stays the same, its
// content becomes an earlier one. An error means that nothing was changed, as when somebody writes at that moment.
func (v *VFS) Restore(path string, from *VFS) (err error) {
	tls := libc.NewTLS()
	defer tls.Close()
	to, err := v.openDB(tls, path)
	if err != nil {
		return err
	}
	defer lib.Xsqlite3_close_v2(tls, to)
	old, err := from.openDB(tls, path)
	if err != nil {
		return err
	}
	defer lib.Xsqlite3_close_v2(tls, old)
	name, err := libc.CString("main")
	if err != nil {
		return fmt.Errorf("restore %s: %w", path, err)
	}
	defer libc.Xfree(tls, name)
	b := lib.Xsqlite3_backup_init(tls, to, name, old, name)
	if b == 0 {
		return fmt.Errorf("restore %s: sqlite code %d", path, lib.Xsqlite3_errcode(tls, to))
	}
	rc := lib.Xsqlite3_backup_step(tls, b, -1)
	if end := lib.Xsqlite3_backup_finish(tls, b); rc != lib.SQLITE_DONE || end != lib.SQLITE_OK {
		return fmt.Errorf("restore %s: sqlite codes %d, %d", path, rc, end)
	}
	return nil
}

// openDB opens a database that exists.
func (v *VFS) openDB(tls *libc.TLS, path string) (db uintptr, err error) {
	name, err := libc.CString(path)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", path, err)
	}
	defer libc.Xfree(tls, name)
	out := libc.Xcalloc(tls, 1, 8)
	defer libc.Xfree(tls, out)
	rc := lib.Xsqlite3_open_v2(tls, name, out, lib.SQLITE_OPEN_READWRITE, at[lib.Tsqlite3_vfs](v.c).FzName)
	db = *at[uintptr](out)
	if rc != lib.SQLITE_OK {
		lib.Xsqlite3_close_v2(tls, db)
		return 0, fmt.Errorf("open %s: sqlite code %d", path, rc)
	}
	return db, nil
}
