package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"holdfast"
	"holdfast/internal/durable"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"holdfast": main})
}

// Each script runs the real command as a person would.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	if testing.Short() { // those that wait for outages are for make test
		files = slices.DeleteFunc(files, func(f string) bool {
			return slices.Contains([]string{"mirror", "lost-store", "status", "demo", "fence", "witness", "new-box", "snapshot"}, strings.TrimSuffix(filepath.Base(f), ".txtar"))
		})
	}
	testscript.Run(t, testscript.Params{
		Files: files,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await": await,
			"field": field,
			"until": until,
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("TZ", "UTC")
			return nil
		},
	})
}

// await FILE waits until a file is there: `await data/run/admin.sock` for a server that was started with &.
// FILE may be a pattern: `await data/incidents/*-heal.md`.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await FILE")
	}
	name := ts.MkAbs(args[0])
	end := time.After(30 * time.Second)
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		if found, err := filepath.Glob(name); err != nil || len(found) > 0 {
			ts.Check(err)
			return
		}
		select {
		case <-tick.C:
		case <-end:
			ts.Fatalf("%s did not appear", args[0])
		}
	}
}

// until TEXT COMMAND... runs a command again and again until it prints the text: what a server does by
// itself takes a moment.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until TEXT COMMAND...")
	}
	end := time.After(30 * time.Second)
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		_ = ts.Exec(args[1], args[2:]...) // its exit code is that of the moment
		if strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
		select {
		case <-tick.C:
		case <-end:
			ts.Fatalf("%s did not print %q", strings.Join(args[1:], " "), args[0])
		}
	}
}

// field VARIABLE WORD sets a variable to the word after WORD in the last standard output: `field password password`.
func field(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: field VARIABLE WORD")
	}
	words := strings.Fields(ts.ReadFile("stdout"))
	for i, w := range words[:max(0, len(words)-1)] {
		if w == args[1] {
			ts.Setenv(args[0], strings.Trim(words[i+1], ","))
			return
		}
	}
	ts.Fatalf("nothing follows the word %s", args[1])
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{holdfast.ErrNotFound, 1},
		{holdfast.ErrExists, 1},
		{errNotOpen, 1},
		{errTroubles, 1},
		{errAlerts, 1},
		{errUsage, 2},
		{holdfast.ErrFenced, 3},
		{holdfast.ErrDenied, 3},
		{holdfast.ErrAbsent, 3},
		{durable.ErrLocked, 1},
		{errRefused, 3},
		{fmt.Errorf("%w: %w", holdfast.ErrFenced, holdfast.ErrFatal), 75},
	} {
		if got := exitCode(fmt.Errorf("wrapped: %w", c.err)); c.err != nil && got != c.want {
			t.Errorf("%v: got %d, want %d", c.err, got, c.want)
		}
	}
	if got := exitCode(nil); got != 0 {
		t.Errorf("no error: got %d", got)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{-1: "unknown", 0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 150 << 20: "150 MiB", 3 << 40: "3.0 TiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}
