package main

import (
	"errors"
	"fmt"

	"holdfast"
	"holdfast/internal/demo"
)

// DemoCmd shows what Holdfast promises, on this machine and on loopback only.
type DemoCmd struct {
	Sidekick sidekickCommand `cmd:"" help:"A server loses its store while three devices write. Nothing may be lost."`
}

type sidekickCommand struct {
	Scenario     string `default:"store-removed" placeholder:"NAME" help:"What goes wrong; see --list."`
	List         bool   `help:"List the scenarios and stop."`
	Seed         uint64 `default:"1" help:"Seed of everything that is chosen."`
	Keep         string `placeholder:"DIR" help:"Work in DIR, new or empty, and leave all files there."`
	WithoutFence bool   `help:"Show what a server as others are would have done: it goes on with last night's backup."`
}

// Help teaches.
func (sidekickCommand) Help() string {
	return `Starts a complete server in a temporary directory and three devices that behave as DAVx5 does. While they write
contacts, events, to-dos and photos, the store is deleted under the server. The last line compares what was
acknowledged with what server and devices hold in the end.

Exit code 0: nothing was lost. 1: something was, or the demonstration could not be held.

  holdfast demo sidekick
  holdfast demo sidekick --without-fence`
}

// errLoss makes the exit code of a demonstration that lost something 1; what was lost has been printed.
var errLoss = errors.New("something that was acknowledged was lost, or deleted on a device")

// Run shows the scenario and prints the verdict as the last line.
func (c *sidekickCommand) Run(s *streams) error {
	if c.List {
		for _, sc := range demo.Scenarios() {
			fmt.Fprintf(s.out, "%-16s %s\n", sc.Name, sc.Summary)
		}
		return nil
	}
	v, err := demo.Run(s.ctx, demo.Config{
		Scenario: c.Scenario, Seed: c.Seed, Keep: c.Keep, WithoutFence: c.WithoutFence, Out: s.out,
	})
	if errors.Is(err, holdfast.ErrNotFound) {
		return fmt.Errorf("%w: %w", err, errUsage)
	}
	if err != nil {
		return err
	}
	for _, p := range v.Problems {
		fmt.Fprintln(s.out, "  "+p)
	}
	fmt.Fprintln(s.out, v)
	if !v.Good() {
		return errLoss
	}
	return nil
}
