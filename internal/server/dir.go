package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/auth"
	"holdfast/internal/config"
	"holdfast/internal/dav"
	"holdfast/internal/durable"
	"holdfast/internal/ledger"
	"holdfast/internal/lock"
)

// Names inside a data directory.
const (
	lockName   = "lock"
	runName    = "run"
	socketName = "admin.sock"
)

// Dir is a data directory that this process holds the lock of.
type Dir struct {
	Path     string
	Settings *config.Config
	Ledger   *ledger.Ledger
	Auth     *auth.Auth
	Locks    *lock.Table // of WebDAV

	confMu  sync.Mutex // who holds it changes holdfast.conf
	lock    *durable.FileLock
	version string
	started time.Time
	serving bool
	look    bool // only OnlyReads operations are answered
	urls    []string
	probe   probe
}

func ledgerConfig(dir string, c *config.Config, log *slog.Logger) ledger.Config {
	lc := ledger.Config{Dir: dir, Server: c.ServerID, Witness: c.Witness, ScrubRate: c.ScrubRate, Log: log, Policy: ledger.Policy(c.Policy), Copies: c.Copies, MirrorTimeout: c.MirrorTimeout}
	for _, m := range c.Mirrors {
		lc.Mirrors = append(lc.Mirrors, ledger.MirrorConfig{Name: m.Name, Path: m.Path})
	}
	return lc
}

// takeLock makes this process the only one that works on a data directory.
func takeLock(dir string) (*durable.FileLock, error) {
	lock, err := durable.Lock(filepath.Join(dir, lockName))
	if errors.Is(err, holdfast.ErrNotFound) {
		return nil, fmt.Errorf("%s has no file %q, so it is not a complete data directory: %w", dir, lockName, holdfast.ErrAbsent)
	}
	return lock, err
}

// open opens the ledger of a directory whose lock is given; the lock goes back on errors.
func open(ctx context.Context, lock *durable.FileLock, cfg Config) (*Dir, error) {
	lc := ledgerConfig(cfg.Dir, cfg.Settings, cfg.Log)
	lc.Notify, lc.Observe, lc.Visit, lc.Look = cfg.notify, cfg.observe, cfg.visit, cfg.visit && cfg.Look
	l, err := ledger.Open(ctx, lc)
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	locks := dav.NewLocks(l, time.Now)
	revoked := func(a holdfast.AccountID, d holdfast.DeviceID) { locks.ReleaseDevice(a, d) }
	return &Dir{
		Path: cfg.Dir, Settings: cfg.Settings, Ledger: l, Locks: locks,
		Auth: auth.New(auth.Config{Ledger: l, Log: cfg.Log, Quota: cfg.Settings.Quota, Revoked: revoked}),
		lock: lock, version: cfg.Version, started: time.Now(), look: lc.Look,
	}, nil
}

// Close closes the ledger, which seals its logs, and gives the lock back.
func (d *Dir) Close(ctx context.Context) error {
	return errors.Join(d.Ledger.Close(ctx), d.lock.Unlock())
}

// Create makes a data directory, its mirrors and the server's own account. dir must not exist yet;
// the mirrors must be new or empty. holdfast.conf is written last: a directory without it is an init
// that did not finish, and no command takes it for a server. Errors: ErrExists, a place is in use;
// ErrDenied, one copy would lie inside another.
func Create(ctx context.Context, dir string, c *config.Config, log *slog.Logger) error {
	if err := c.Check(); err != nil {
		return err
	}
	for _, m := range c.Mirrors {
		if config.Inside(m.Path, dir) || config.Inside(dir, m.Path) {
			return fmt.Errorf("mirror %s and data directory %s lie one inside the other, so both would be lost together: %w", m.Path, dir, holdfast.ErrDenied)
		}
	}
	if _, err := durable.Disk.Stat(dir); !errors.Is(err, holdfast.ErrNotFound) {
		return errors.Join(err, fmt.Errorf("%s is there already; init makes the data directory itself and touches no existing one: %w", dir, holdfast.ErrExists))
	}
	if err := durable.MkdirAll(durable.Disk, filepath.Join(dir, runName)); err != nil {
		return err
	}
	if err := durable.Create(durable.Disk, filepath.Join(dir, lockName), nil, 0o600); err != nil {
		return err
	}
	lock, err := takeLock(dir)
	if err != nil {
		return err
	}
	err = ledger.Create(ctx, ledgerConfig(dir, c, log))
	if err == nil {
		err = durable.Create(durable.Disk, filepath.Join(dir, config.FileName), config.Render(c), 0o600)
	}
	return errors.Join(err, lock.Unlock())
}
