package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"holdfast"
	"holdfast/internal/durable"
)

// Config says what to show.
type Config struct {
	Scenario     string    // one of Scenarios; empty: the first
	Seed         uint64    // of everything that is chosen; 0 counts as 1
	Keep         string    // a directory, new or empty, that is left behind with all files; empty: temporary
	WithoutFence bool      // what a server as others are would have done; only this package's own server can
	Out          io.Writer // the timeline, for people
	Log          *slog.Logger

	sizes [kinds]int    // things of each kind; zero: 500, 300, 50, 40
	beat  time.Duration // between two acts of one person; zero: 25 ms
}

// Scenario is a disaster that can be shown.
type Scenario struct {
	Name    string
	Summary string // one line for people
	run     func(*show) error
}

// Scenarios lists what can be shown.
func Scenarios() []Scenario {
	return []Scenario{
		{"store-removed", "the store is deleted (rm -rf) under a running server while three devices write", (*show).storeRemoved},
	}
}

// limit bounds a whole show: a server that has not healed by then has not healed.
const limit = 55 * time.Second

// Run shows a scenario and returns its verdict. An error means that the show could not be held or
// was cut short by ctx; a loss is not an error but a verdict that is not Good.
func Run(ctx context.Context, cfg Config) (*Verdict, error) {
	sc, err := find(cfg.Scenario)
	if err != nil {
		return nil, err
	}
	cfg.fill()
	dir, err := stage(cfg.Keep)
	if err != nil {
		return nil, err
	}
	if cfg.Keep == "" {
		defer func() { _ = os.RemoveAll(dir) }() // a temporary directory left behind harms nobody
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s := newShow(limited, cfg, dir)
	defer s.close()
	if err := errors.Join(sc.run(s), ctx.Err()); err != nil {
		return nil, fmt.Errorf("show %s: %w", sc.Name, err)
	}
	if cfg.Keep != "" {
		s.say("All files are left in %s.", dir)
	}
	return &s.verdict, nil
}

func find(name string) (Scenario, error) {
	all := Scenarios()
	if name == "" {
		return all[0], nil
	}
	for _, sc := range all {
		if sc.Name == name {
			return sc, nil
		}
	}
	return Scenario{}, fmt.Errorf("scenario %q: %w", name, holdfast.ErrNotFound)
}

func (cfg *Config) fill() {
	if cfg.Seed == 0 {
		cfg.Seed = 1
	}
	if cfg.sizes == [kinds]int{} {
		cfg.sizes = [kinds]int{500, 300, 50, 40}
	}
	if cfg.beat == 0 {
		cfg.beat = 25 * time.Millisecond
	}
	if cfg.Out == nil {
		cfg.Out = io.Discard
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
}

// stage returns an empty directory for server and mirror.
func stage(keep string) (string, error) {
	if keep == "" {
		dir, err := os.MkdirTemp("", "holdfast-demo-")
		if err != nil {
			return "", fmt.Errorf("make temporary directory: %w", err)
		}
		return dir, nil
	}
	dir, err := filepath.Abs(keep)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", keep, err)
	}
	if err := durable.MkdirAll(durable.Disk, dir); err != nil {
		return "", fmt.Errorf("make %s: %w", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", dir, err)
	}
	if len(entries) > 0 {
		return "", fmt.Errorf("%s is not empty: %w", dir, holdfast.ErrExists)
	}
	return dir, nil
}

// wipe removes all that is below dir, as `rm -rf dir/*` does: without asking, without syncing.
func wipe(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read %s: %w", dir, err)
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// weigh counts what is about to be removed.
func weigh(dir string) (files int, size int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, 0, fmt.Errorf("read %s: %w", dir, err)
	}
	for _, e := range entries {
		if i, err := e.Info(); err == nil { // a journal file may have gone meanwhile
			files, size = files+1, size+i.Size()
		}
	}
	return files, size, nil
}
