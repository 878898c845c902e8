package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast"
	"holdfast/internal/durable"
)

const fileName = "holdfast.db"

// Readers is how many connections read at once, if the Config says nothing.
const Readers = 4

// Config says where a store is and whose.
type Config struct {
	Path    string            // its directory, which exists
	Server  holdfast.ServerID // the store belongs to this server
	Log     *slog.Logger      // nil discards
	Readers int               // connections for reading; 0 is Readers

	// CheckTime bounds the check of the whole file that Open does: 0 is 2 seconds, negative is no
	// bound. A file too large for it is opened all the same; Check does the whole.
	CheckTime time.Duration

	FS  durable.FS // under the database; nil = durable.Disk
	VFS string     // SQLite's name for FS; "" is its own, which is right for durable.Disk only
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Readers <= 0 {
		c.Readers = Readers
	}
	if c.CheckTime == 0 {
		c.CheckTime = 2 * time.Second
	}
	if c.FS == nil {
		c.FS = durable.Disk
	}
	return c
}

// Store is an open database. Its methods are safe for concurrent use.
type Store struct {
	cfg  Config
	log  *slog.Logger
	id   [16]byte
	file fileID // of the database
	wal  fileID // of its write-ahead log

	near holdfast.Seq // nearSeqs; tests lower it

	db        *sql.DB
	pages     durable.File // the database file, to read it beside SQLite; open as long as any connection
	release   []func()     // gives back what SQLite reads and writes through
	write     chan *conn   // holds the one connection that writes, when nobody does
	read      chan *conn   // holds the connections that nobody reads with
	check     *checkpointer
	histories histories
	broken    atomic.Pointer[error] // the first ErrFatal
	damaged   atomic.Bool           // Open met a page that cannot be read
	closing   chan struct{}
	once      sync.Once
	closed    error
}

// fileID tells a file from any other that may come to have its name.
type fileID struct{ dev, ino uint64 }

func (c Config) statFile(name string) (fileID, int64, error) {
	st, err := c.FS.Stat(name)
	switch {
	case errors.Is(err, holdfast.ErrNotFound):
		return fileID{}, 0, fmt.Errorf("look at %s: %w", name, holdfast.ErrAbsent)
	case err != nil:
		return fileID{}, 0, fmt.Errorf("look at %s: %w: %w", name, holdfast.ErrAbsent, err)
	}
	if !st.Mode.IsRegular() {
		return fileID{}, 0, fmt.Errorf("look at %s: not a regular file: %w", name, holdfast.ErrAbsent)
	}
	return fileID{st.Dev, st.Ino}, st.Size, nil
}

// Create makes the store of cfg.Server in the existing, empty directory cfg.Path and opens it.
// ErrExists: the directory holds anything. ErrAbsent: there is no such directory.
func Create(ctx context.Context, cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	names, err := durable.List(cfg.FS, cfg.Path)
	switch {
	case errors.Is(err, holdfast.ErrNotFound):
		return nil, fmt.Errorf("create store: %s: %w", cfg.Path, holdfast.ErrAbsent)
	case err != nil:
		return nil, fmt.Errorf("create store: %w", err)
	case len(names) > 0:
		return nil, fmt.Errorf("create store: %s is not empty, it has %s: %w", cfg.Path, names[0], holdfast.ErrExists)
	}
	if err := createFile(ctx, cfg); err != nil {
		return nil, fmt.Errorf("create store: %w", err)
	}
	if err := cfg.FS.SyncDir(cfg.Path); err != nil {
		return nil, fmt.Errorf("create store: %w", err)
	}
	return openStore(ctx, cfg, true)
}

// createFile makes the tables and the marker in one transaction: a crash leaves no half store that
// Open would take.
func createFile(ctx context.Context, cfg Config) (err error) {
	if err := durable.Create(cfg.FS, filepath.Join(cfg.Path, fileName), emptyDatabase(), durable.FilePerm); err != nil {
		return err
	}
	uri, release, err := dsn(cfg, true)
	if err != nil {
		return err
	}
	defer release()
	db, err := sql.Open("sqlite", uri)
	if err != nil {
		return sqlError("open database", err)
	}
	db.SetMaxIdleConns(-1)
	defer func() { err = errors.Join(err, db.Close()) }()
	c, err := connect(ctx, db, writerCacheKiB)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	var id [16]byte
	_, _ = rand.Read(id[:]) // never returns an error
	if err := c.run("PRAGMA journal_mode = WAL"); err != nil {
		return err
	}
	if err := c.run("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	for _, q := range append([]string{
		fmt.Sprintf("PRAGMA application_id = %d", applicationID),
		fmt.Sprintf("PRAGMA user_version = %d", schemaVersion),
	}, sqlite.schema()...) {
		if err := c.run(q); err != nil {
			return err
		}
	}
	for name, value := range map[string][]byte{
		metaSchema: binary.LittleEndian.AppendUint64(nil, schemaVersion),
		metaServer: cfg.Server[:],
		metaStore:  id[:],
		metaTerm:   make([]byte, 16),
	} {
		if err := c.one("INSERT INTO meta (name, value) VALUES (?1, ?2)", name, value); err != nil {
			return err
		}
	}
	return c.run("COMMIT")
}

// Open opens an existing store; it never creates one. ErrAbsent: there is none, it has no marker,
// or it is another server's. ErrCorrupt: it is not a database, it is damaged, or the log beside it is
// gone, without which it may be a mixture of states. ErrNewer: a newer program made it.
func Open(ctx context.Context, cfg Config) (*Store, error) { return openStore(ctx, cfg, false) }

func openStore(ctx context.Context, cfg Config, fresh bool) (*Store, error) {
	cfg = cfg.withDefaults()
	s := &Store{
		cfg: cfg, log: cfg.Log.With("pkg", "store"), near: nearSeqs,
		write: make(chan *conn, 1), read: make(chan *conn, cfg.Readers), closing: make(chan struct{}),
	}
	if err := s.open(ctx, fresh); err != nil {
		return nil, fmt.Errorf("open store %s: %w", cfg.Path, errors.Join(err, s.dropConns()))
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, fresh bool) error {
	name := filepath.Join(s.cfg.Path, fileName)
	before, size, err := s.cfg.statFile(name)
	if err != nil {
		return err
	}
	if size == 0 { // SQLite would take it for a new database and remove the log beside it
		return fmt.Errorf("%s is empty: %w", name, holdfast.ErrCorrupt)
	}
	if _, _, err := s.cfg.statFile(name + "-wal"); err != nil && !fresh { // it stays there when a store is closed
		return fmt.Errorf("the log of %s is gone (%w): %w", name, err, holdfast.ErrCorrupt)
	}
	// Whoever made the files may have been killed before it synced their names: what is acknowledged from now on rests on them.
	for _, dir := range []string{s.cfg.Path, filepath.Dir(s.cfg.Path)} {
		if err := s.cfg.FS.SyncDir(dir); err != nil {
			return err
		}
	}
	if err := s.cfg.fromMedium(name, name+"-wal"); err != nil {
		return err
	}
	// Closing a descriptor of the database drops the locks of all others on POSIX systems: this one is closed last.
	if s.pages, err = s.cfg.FS.OpenFile(name, os.O_RDONLY, 0); err != nil {
		return err
	}
	uri, release, err := dsn(s.cfg, true)
	if err != nil {
		return err
	}
	s.release = append(s.release, release)
	if s.db, err = sql.Open("sqlite", uri); err != nil {
		return sqlError("open database", err)
	}
	s.db.SetMaxOpenConns(s.cfg.Readers + 3) // writer, checkpoints, scrub
	s.db.SetMaxIdleConns(-1)
	w, err := connect(ctx, s.db, writerCacheKiB)
	if err != nil {
		return err
	}
	s.write <- w
	if err := s.prove(ctx, w); err != nil {
		return err
	}
	for range s.cfg.Readers {
		r, err := connect(ctx, s.db, readerCacheKiB)
		if err != nil {
			return err
		}
		s.read <- r
	}
	c, err := connect(ctx, s.db, checkCacheKiB)
	if err != nil {
		return err
	}
	if err := c.run(fmt.Sprintf("PRAGMA busy_timeout = %d", checkpointTimeoutMs)); err != nil {
		return errors.Join(err, c.close())
	}
	s.check = newCheckpointer(s, c)
	// The connections lead to the file that had the name before and has it still.
	if s.file, _, err = s.cfg.statFile(name); err != nil {
		return err
	}
	if s.file != before {
		// Neither absent nor damaged: what has the name now may be whole. The next attempt opens it.
		return fmt.Errorf("%s was replaced while it was opened", name)
	}
	s.wal, _, err = s.cfg.statFile(name + "-wal")
	return err
}

// fromMedium has the files read from the medium when they are read next. A sync that failed in the process before
// leaves in the system's memory what the medium never got: SQLite would go on behind it, and a later power cut take
// away what was synced after the hole.
func (c Config) fromMedium(names ...string) error {
	for _, name := range names {
		f, err := c.FS.OpenFile(name, os.O_RDONLY, 0)
		if errors.Is(err, holdfast.ErrNotFound) {
			continue // a new store has no log yet
		}
		if err != nil {
			return fmt.Errorf("open %s: %w", name, err)
		}
		durable.DropCache(f)
		err = readable(f, name)
		if cerr := f.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("close %s: %w", name, cerr))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readable reads what SQLite reads while it opens a database: its first page, or all of its log. SQLite's own error does not
// tell a sector that cannot be read from a write that failed, and only the latter leaves an unknown state.
func readable(f durable.File, name string) error {
	size := int64(pageSize)
	if strings.HasSuffix(name, "-wal") {
		i, err := f.Stat()
		if err != nil {
			return fmt.Errorf("look at %s: %w", name, err)
		}
		size = i.Size
	}
	_, err := io.Copy(io.Discard, io.NewSectionReader(f, 0, size))
	if err != nil {
		return fmt.Errorf("%s cannot be read: %w: %w", name, holdfast.ErrCorrupt, err)
	}
	return nil
}

// dropConns closes what is open of a store that nobody uses.
func (s *Store) dropConns() error {
	var errs []error
	if s.check != nil {
		errs = append(errs, s.check.stop())
	}
	for _, pool := range []chan *conn{s.read, s.write} {
		for len(pool) > 0 {
			errs = append(errs, (<-pool).close())
		}
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
		s.db = nil
	}
	if s.pages != nil {
		errs = append(errs, s.pages.Close())
		s.pages = nil
	}
	for _, r := range s.release {
		r()
	}
	s.release = nil
	return errors.Join(errs...)
}

// Close waits for the writer and all readers, brings the log into the database and closes it. It
// removes no file: the -wal and -shm files stay beside the database, and if other files have their
// names by now, these are not touched.
func (s *Store) Close() error {
	s.once.Do(func() {
		close(s.closing)
		w := <-s.write
		readers := make([]*conn, 0, s.cfg.Readers)
		for range s.cfg.Readers {
			readers = append(readers, <-s.read)
		}
		for _, r := range readers {
			s.closed = errors.Join(s.closed, r.close())
		}
		s.closed = errors.Join(s.closed, s.check.stop())
		s.check = nil
		if s.failed() == nil && s.Linked() == nil {
			s.closed = errors.Join(s.closed, w.run("PRAGMA wal_checkpoint(TRUNCATE)"))
		}
		s.closed = errors.Join(s.closed, w.close(), s.dropConns())
	})
	return s.closed
}

// ID returns the random number that Create gave to this database.
func (s *Store) ID() [16]byte { return s.id }

// Linked returns nil if the path still leads to the files this Store has open, else ErrAbsent: they
// were removed or replaced, and what is written now is lost with the process. It costs two stats.
func (s *Store) Linked() error {
	name := filepath.Join(s.cfg.Path, fileName)
	for _, f := range []struct {
		name string
		id   fileID
	}{{name, s.file}, {name + "-wal", s.wal}} {
		id, _, err := s.cfg.statFile(f.name)
		if err != nil {
			return err
		}
		if id != f.id {
			return fmt.Errorf("%s is another file now: %w", f.name, holdfast.ErrAbsent)
		}
	}
	return nil
}

// Damaged reports whether Open met a page that cannot be read. What needs it is ErrCorrupt until Mend.
func (s *Store) Damaged() bool { return s.damaged.Load() }

// failed returns the error that ended this store's writing, or nil.
func (s *Store) failed() error {
	if e := s.broken.Load(); e != nil {
		return *e
	}
	return nil
}

// note remembers the first ErrFatal and returns err.
func (s *Store) note(err error) error {
	if errors.Is(err, holdfast.ErrFatal) && s.broken.CompareAndSwap(nil, &err) {
		s.log.Error("store failed, it must be opened anew", "err", err)
	}
	return err
}
