package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	lib "modernc.org/sqlite/lib"

	"holdfast"
)

// Rows of meta.
const (
	metaSchema = "schema" // u64
	metaServer = "server" // 16 bytes
	metaStore  = "store"  // 16 bytes
	metaTerm   = "term"   // u64 number, u64 random; zero before the first
)

// prove finds out whether the open file is the store of this server, readable and writable by this program.
func (s *Store) prove(ctx context.Context, c *conn) error {
	if err := checkVersion(c); err != nil {
		return err
	}
	var app, version int64
	if _, err := c.row("PRAGMA application_id", nil, &app); err != nil {
		return err
	}
	if _, err := c.row("PRAGMA user_version", nil, &version); err != nil {
		return err
	}
	if app != applicationID {
		return fmt.Errorf("%s is not a store of Holdfast: %w", fileName, holdfast.ErrAbsent)
	}
	if version > schemaVersion {
		return fmt.Errorf("the store has schema version %d and this program knows versions up to %d, run the newer program: %w",
			version, schemaVersion, holdfast.ErrNewer)
	}
	if version != schemaVersion {
		return fmt.Errorf("the store has schema version %d, which no program ever wrote: %w", version, holdfast.ErrCorrupt)
	}
	if err := s.hasSums(); err != nil {
		return err
	}
	server, err := getMeta(c, metaServer, 16)
	if err != nil {
		return err
	}
	if holdfast.ServerID(server) != s.cfg.Server {
		return fmt.Errorf("the store belongs to server %x, the configuration to %s: %w", server, s.cfg.Server, holdfast.ErrAbsent)
	}
	id, err := getMeta(c, metaStore, 16)
	if err != nil {
		return err
	}
	s.id = [16]byte(id)
	var mode string
	if _, err := c.row("PRAGMA journal_mode = WAL", nil, &mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("journal mode is %q, not wal: %w", mode, holdfast.ErrAbsent)
	}
	// A read-only medium is found out now, not at the first write.
	if err := c.run("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := c.run("ROLLBACK"); err != nil {
		return err
	}
	return s.quickCheck(ctx, c)
}

// hasSums refuses a database whose pages have no room for checksums: SQLite would use their last bytes.
func (s *Store) hasSums() error {
	b := make([]byte, 24)
	if _, err := s.pages.ReadAt(b, 0); err != nil {
		return fmt.Errorf("read the head of %s: %w: %w", fileName, holdfast.ErrCorrupt, err)
	}
	if binary.BigEndian.Uint16(b[16:]) != pageSize || b[20] != pageTail {
		return fmt.Errorf("the pages of %s have no checksums: %w", fileName, holdfast.ErrCorrupt)
	}
	return nil
}

// checkVersion refuses a database engine that is known to corrupt.
func checkVersion(c *conn) error {
	var text string
	if _, err := c.row("SELECT sqlite_version()", nil, &text); err != nil {
		return err
	}
	var v [3]int
	if _, err := fmt.Sscanf(text, "%d.%d.%d", &v[0], &v[1], &v[2]); err != nil {
		return fmt.Errorf("read version of sqlite %q: %w", text, err)
	}
	for i, want := range oldestSQLite {
		if v[i] != want {
			if v[i] > want {
				return nil
			}
			return fmt.Errorf("sqlite %s can corrupt a database, 3.51.3 is needed", text)
		}
	}
	return nil
}

// pageProblem is how SQLite's check names a page whose checksum is wrong.
var pageProblem = fmt.Sprintf("error code=%d", lib.SQLITE_IOERR_DATA)

// quickCheck lets the database check its structure, as far as it gets in the time that Open has.
func (s *Store) quickCheck(ctx context.Context, c *conn) error {
	began := time.Now()
	if s.cfg.CheckTime > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.cfg.CheckTime)
		defer cancel()
	}
	var verdict string
	err := c.c.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict)
	if err == nil && strings.Contains(verdict, pageProblem) || err != nil && errors.Is(sqlError("", err), holdfast.ErrCorrupt) && isPage(err) {
		s.damaged.Store(true)
		s.log.Error("the store has a page that cannot be read; what needs it answers with an error until it is repaired", "verdict", verdict, "err", err)
		return nil
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		s.log.Info("store too large to be checked at start", "took", time.Since(began))
		return nil
	case err != nil:
		return sqlError("check database", err)
	case verdict != "ok":
		return fmt.Errorf("check database: %s: %w", verdict, holdfast.ErrCorrupt)
	}
	return nil
}

func getMeta(c *conn, name string, size int) ([]byte, error) {
	var v []byte
	found, err := c.row("SELECT value FROM meta WHERE name = ?1", []any{name}, &v)
	if err != nil {
		return nil, err
	}
	if !found || len(v) != size {
		return nil, fmt.Errorf("the store has no valid %s: %w", name, holdfast.ErrCorrupt)
	}
	return v, nil
}

// Term returns the term that SetTerm wrote last; the zero Term if none did.
func (s *Store) Term(ctx context.Context) (holdfast.Term, error) {
	r, err := s.Read(ctx)
	if err != nil {
		return holdfast.Term{}, err
	}
	defer r.Close()
	v, err := getMeta(r.c, metaTerm, 16)
	if err != nil {
		return holdfast.Term{}, fmt.Errorf("read term: %w", err)
	}
	return holdfast.Term{Number: binary.LittleEndian.Uint64(v), Random: binary.LittleEndian.Uint64(v[8:])}, nil
}

// SetTerm writes the term of this store's history durably.
func (s *Store) SetTerm(ctx context.Context, t holdfast.Term) error {
	tx, err := s.Begin(ctx)
	if err != nil {
		return fmt.Errorf("set term: %w", err)
	}
	v := binary.LittleEndian.AppendUint64(nil, t.Number)
	v = binary.LittleEndian.AppendUint64(v, t.Random)
	if err := tx.c.one("UPDATE meta SET value = ?2 WHERE name = ?1", metaTerm, v); err != nil {
		return errors.Join(fmt.Errorf("set term: %w", err), tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("set term: %w", err)
	}
	return nil
}
