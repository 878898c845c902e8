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

// All is the name that stands for every scenario, one after the other.
const All = "all"

// Config says what to show.
type Config struct {
	Scenario     string    // a name of Scenarios; empty: the first
	Seed         uint64    // of everything that is chosen; 0 counts as 1
	Keep         string    // a directory, new or empty, that is left behind with all files; empty: temporary
	WithoutFence bool      // what a server as others are would have done; only this package's own server can
	Quick        bool      // with fewer things
	Lie          string    // one of Lies: something is damaged behind the demo's back, and it has to notice
	Out          io.Writer // the timeline, for people
	Log          *slog.Logger

	sizes    [kinds]int             // things of each kind; zero: chosen by Quick and by the scenario
	beat     time.Duration          // between two acts of one person; zero: 25 ms
	limit    time.Duration          // of the whole show: a server that has not healed by then has not healed; zero: 55 s
	patience time.Duration          // with a server that should open; zero: 20 s
	pace     time.Duration          // of the devices' clocks; zero: usualPace
	plant    map[moment]func(*show) // tests: what else happens
}

// How many things of each kind there are.
var (
	fullSizes  = [kinds]int{500, 300, 50, 40}
	allSizes   = [kinds]int{250, 150, 40, 30} // of each scenario when all are shown
	quickSizes = [kinds]int{80, 50, 15, 15}
)

// Run shows a scenario and returns its verdict. An error means that the show could not be held or
// was cut short by ctx; a loss is not an error but a verdict that is not Good. ErrNotFound: there is no
// such scenario or lie; ErrInvalid: it shows nothing without a fence.
func Run(ctx context.Context, cfg Config) (*Verdict, error) {
	sc, err := find(cfg.Scenario)
	if err != nil {
		return nil, err
	}
	if err := cfg.check(sc); err != nil {
		return nil, err
	}
	return run(ctx, sc, cfg)
}

func run(ctx context.Context, sc Scenario, cfg Config) (*Verdict, error) {
	cfg.fill(sc)
	dir, err := stage(cfg.Keep)
	if err != nil {
		return nil, err
	}
	if cfg.Keep == "" {
		defer func() { _ = os.RemoveAll(dir) }() // a temporary directory left behind harms nobody
	}
	limited, cancel := context.WithTimeout(ctx, cfg.limit)
	defer cancel()
	s := newShow(limited, sc, cfg, dir)
	defer s.close()
	if err := errors.Join(s.play(), ctx.Err()); err != nil {
		return nil, fmt.Errorf("show %s: %w", sc.Name, err)
	}
	if cfg.Keep != "" {
		s.say("demo", "all files are left in %s", dir)
	}
	return &s.verdict, nil
}

// Result is what one scenario of all came to.
type Result struct {
	Scenario Scenario
	Verdict  *Verdict // nil: not shown
	Err      error    // why the show could not be held
	Skipped  bool     // it shows nothing without a fence
}

// RunAll shows every scenario, each in a directory of its own below Keep. An error means that nothing
// could be shown; what went wrong in one scenario is in its result.
func RunAll(ctx context.Context, cfg Config) ([]Result, error) {
	if cfg.sizes == [kinds]int{} && !cfg.Quick {
		cfg.sizes = allSizes
	}
	if cfg.Lie != "" {
		if err := cfg.check(table[0]); err != nil {
			return nil, err
		}
	}
	if cfg.Keep != "" {
		dir, err := stage(cfg.Keep)
		if err != nil {
			return nil, err
		}
		cfg.Keep = dir
	}
	var all []Result
	for i, sc := range Scenarios() {
		r, one := Result{Scenario: sc}, cfg
		if cfg.Out != nil {
			fmt.Fprintf(cfg.Out, "%d/%d  %s: %s\n", i+1, len(table), sc.Name, sc.Summary)
		}
		one.Scenario = sc.Name
		if cfg.Keep != "" {
			one.Keep = filepath.Join(cfg.Keep, sc.Name)
		}
		if r.Skipped = cfg.WithoutFence && sc.OnlyFenced(); !r.Skipped {
			r.Verdict, r.Err = Run(ctx, one)
		}
		r.print(cfg.Out)
		all = append(all, r)
		if ctx.Err() != nil {
			return all, fmt.Errorf("show all: %w", ctx.Err())
		}
	}
	return all, nil
}

func (cfg *Config) check(sc Scenario) error {
	if cfg.WithoutFence && sc.OnlyFenced() {
		return fmt.Errorf("%s without a fence shows nothing: %s: %w", sc.Name, sc.Others, holdfast.ErrInvalid)
	}
	if cfg.Lie != "" && lies[cfg.Lie] == nil {
		return fmt.Errorf("lie %q (there are %s): %w", cfg.Lie, Lies(), holdfast.ErrNotFound)
	}
	return nil
}

func (cfg *Config) fill(sc Scenario) {
	if cfg.Seed == 0 {
		cfg.Seed = 1
	}
	if cfg.sizes == [kinds]int{} {
		switch {
		case cfg.Quick:
			cfg.sizes = quickSizes
		case sc.full != [kinds]int{}:
			cfg.sizes = sc.full
		default:
			cfg.sizes = fullSizes
		}
	}
	if cfg.beat == 0 {
		cfg.beat = 25 * time.Millisecond
	}
	if cfg.limit == 0 {
		cfg.limit = 55 * time.Second
		if cfg.sizes == sc.full {
			cfg.limit = 4 * time.Minute
		}
	}
	if cfg.pace == 0 {
		cfg.pace = usualPace
	}
	if cfg.patience == 0 {
		cfg.patience = 20 * time.Second
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
