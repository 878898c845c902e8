package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	driver "modernc.org/sqlite"

	"holdfast"
)

// Bounds of one connection.
const (
	readerCacheKiB = 8 << 10
	writerCacheKiB = 16 << 10
	checkCacheKiB  = 1 << 10
	busyTimeoutMs  = 10_000
)

// oldestSQLite is the first version without the WAL-reset bug, which corrupts databases.
var oldestSQLite = [3]int{3, 51, 3}

// conn is one pinned connection and its prepared statements. It is never replaced by another
// connection, which could lead to another file. One goroutine at a time uses it.
type conn struct {
	c     *sql.Conn
	stmts map[string]*sql.Stmt
}

// dsn returns the URI of the database file, which is never created by opening it. verify false is for
// repair: damaged pages are read as they are. release is due when nothing uses the URI any more.
func dsn(cfg Config, verify bool) (uri string, release func(), err error) {
	abs, err := filepath.Abs(filepath.Join(cfg.Path, fileName))
	if err != nil {
		return "", nil, fmt.Errorf("find %s: %w", cfg.Path, err)
	}
	name, release, err := useLayer(cfg.VFS, verify)
	if err != nil {
		return "", nil, err
	}
	u := url.URL{Scheme: "file", Path: abs}
	return u.String() + "?mode=rw&vfs=" + url.QueryEscape(name), release, nil
}

// connect pins a connection and sets it up. The file is not touched before its WAL is marked as
// persistent. SQLite would otherwise remove, when the last connection closes, the file that then has
// the name of the WAL; it looks first whether the database still is where it was, but between the
// look and the removal another store may come to that place. It also keeps the log's inode for Linked.
func connect(ctx context.Context, db *sql.DB, cacheKiB int) (*conn, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, sqlError("open database", err)
	}
	cn := &conn{c: c, stmts: map[string]*sql.Stmt{}}
	if err := cn.setUp(cacheKiB); err != nil {
		return nil, errors.Join(err, cn.close())
	}
	return cn, nil
}

func (c *conn) setUp(cacheKiB int) error {
	err := c.c.Raw(func(dc any) error {
		_, err := dc.(driver.FileControl).FileControlPersistWAL("main", 1)
		return err
	})
	if err != nil {
		return sqlError("keep write-ahead log", err)
	}
	for _, p := range []string{
		fmt.Sprintf("busy_timeout = %d", busyTimeoutMs),
		"cell_size_check = ON",
		"cache_spill = OFF", // a page of the log that is written twice before the commit has no checksum until then
		"mmap_size = 0",
		fmt.Sprintf("cache_size = -%d", cacheKiB),
		"synchronous = FULL",
		"wal_autocheckpoint = 0",
		"trusted_schema = OFF",
		"temp_store = MEMORY",
	} {
		if err := c.run("PRAGMA " + p); err != nil {
			return err
		}
	}
	return nil
}

// close drops the statements and the connection.
func (c *conn) close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	c.stmts = nil
	// Closing the pinned connection would give it back to the pool, which keeps none: it is closed for good.
	return errors.Join(append(errs, c.c.Close())...)
}

// stmt returns the prepared statement of a query, written with ?N placeholders.
func (c *conn) stmt(query string) (*sql.Stmt, error) {
	if s, ok := c.stmts[query]; ok {
		return s, nil
	}
	s, err := c.c.PrepareContext(context.Background(), sqlite.placeholder(query))
	if err != nil {
		return nil, sqlError("prepare "+verb(query), err)
	}
	c.stmts[query] = s
	return s, nil
}

// verb returns the beginning of a query, for messages.
func verb(query string) string {
	f := strings.Fields(query)
	return strings.ToLower(strings.Join(f[:min(3, len(f))], " "))
}

// run executes a statement that is not worth preparing.
func (c *conn) run(query string, args ...any) error {
	_, err := c.c.ExecContext(context.Background(), query, args...)
	return sqlError(verb(query), err)
}

// exec executes a prepared statement and returns how many rows it changed.
func (c *conn) exec(query string, args ...any) (int64, error) {
	s, err := c.stmt(query)
	if err != nil {
		return 0, err
	}
	res, err := s.ExecContext(context.Background(), args...)
	if err != nil {
		return 0, sqlError(verb(query), err)
	}
	n, err := res.RowsAffected()
	return n, sqlError(verb(query), err)
}

// one executes a prepared statement that must change exactly one row: anything else is a broken store.
func (c *conn) one(query string, args ...any) error {
	n, err := c.exec(query, args...)
	if err == nil && n != 1 {
		err = fmt.Errorf("%s: changed %d rows instead of one: %w", verb(query), n, holdfast.ErrCorrupt)
	}
	return err
}

// row reads the only row of a query; found is false if there is none.
func (c *conn) row(query string, args []any, dest ...any) (found bool, err error) {
	s, err := c.stmt(query)
	if err != nil {
		return false, err
	}
	err = s.QueryRowContext(context.Background(), args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, sqlError(verb(query), err)
}

// each calls scan for every row of a query; scan gets the function that reads the row's columns.
func (c *conn) each(query string, args []any, scan func(read func(dest ...any) error) error) (err error) {
	s, err := c.stmt(query)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.Background(), args...)
	if err != nil {
		return sqlError(verb(query), err)
	}
	defer func() {
		err = errors.Join(err, sqlError(verb(query), rows.Close()))
	}()
	read := func(dest ...any) error {
		err := rows.Scan(dest...)
		if err != nil { // the columns are of the schema's types, and not null: only damage makes another value of one
			err = fmt.Errorf("%w: %w", err, holdfast.ErrCorrupt)
		}
		return err
	}
	for rows.Next() {
		if err := scan(read); err != nil {
			return sqlError(verb(query), err)
		}
	}
	return sqlError(verb(query), rows.Err())
}
