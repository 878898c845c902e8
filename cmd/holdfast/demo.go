package main

import (
	"errors"
	"fmt"

	"holdfast"
	"holdfast/internal/demo"
)

// DemoCmd shows what Holdfast promises, on this machine and on loopback only.
type DemoCmd struct {
	Sidekick sidekickCommand `cmd:"" help:"A server loses its data in many ways while three devices write. Nothing may be lost."`
}

type sidekickCommand struct {
	Scenario     string `default:"store-removed" placeholder:"NAME" help:"What goes wrong, or \"all\"; see --list."`
	List         bool   `help:"List the scenarios and stop."`
	Quick        bool   `help:"With fewer things."`
	Seed         uint64 `default:"1" help:"Seed of everything that is chosen."`
	Keep         string `placeholder:"DIR" help:"Work in DIR, new or empty, and leave all files there."`
	WithoutFence bool   `help:"Show what a server as others are would have done: it goes on with last night's backup."`
	Lie          string `placeholder:"NAME" help:"Do something behind the demonstration's back (drop, alter): its verdict has to say so."`
}

// Help teaches.
func (sidekickCommand) Help() string {
	return `Starts a complete server in a temporary directory and three devices that behave as DAVx5 does. While they write
contacts, events, to-dos and photos, something terrible happens to the server: "holdfast demo sidekick --list"
says what there is. The last line compares what was acknowledged with what server and devices hold in the end.

Whoever does not believe it plants a lie: one acknowledged contact is removed (--lie drop) or altered by one letter
(--lie alter) behind the demonstration's back, and it has to end with code 1.

Exit code 0: nothing was lost. 1: something was, or the demonstration could not be held. 2: there is no such
scenario, or it has nothing to show without a fence.

  holdfast demo sidekick
  holdfast demo sidekick --without-fence
  holdfast demo sidekick --scenario all`
}

// errLoss makes the exit code of a demonstration that lost something 1; what was lost has been printed.
var errLoss = errors.New("something that was acknowledged was lost, or deleted on a device")

// Run shows the scenario and prints the verdict as the last line.
func (c *sidekickCommand) Run(s *streams) error {
	if c.List {
		c.list(s)
		return nil
	}
	cfg := demo.Config{
		Scenario: c.Scenario, Seed: c.Seed, Keep: c.Keep, WithoutFence: c.WithoutFence, Quick: c.Quick, Lie: c.Lie, Out: s.out,
	}
	if c.Scenario == demo.All {
		return c.all(s, cfg)
	}
	v, err := demo.Run(s.ctx, cfg)
	if err != nil {
		return usageOf(err)
	}
	v.Print(s.out)
	if !v.Good() {
		return errLoss
	}
	return nil
}

func (c *sidekickCommand) all(s *streams, cfg demo.Config) error {
	all, err := demo.RunAll(s.ctx, cfg)
	if err != nil {
		return usageOf(err)
	}
	demo.PrintTable(s.out, all)
	for i := range all {
		if all[i].Err != nil {
			return fmt.Errorf("not every scenario could be shown: %w", all[i].Err)
		}
	}
	for i := range all {
		if !all[i].Good() {
			return errLoss
		}
	}
	return nil
}

func (c *sidekickCommand) list(s *streams) {
	for _, sc := range demo.Scenarios() {
		fmt.Fprintf(s.out, "%s\n  what happens     %s\n  without a fence  %s\n  faults           %s\n", sc.Name, sc.Summary, sc.Others, sc.Faults())
	}
	fmt.Fprintf(s.out, "%s\n  what happens     all of these, one after the other, and a table of what came of it\n", demo.All)
}

// usageOf marks what the person who asked can mend.
func usageOf(err error) error {
	if errors.Is(err, holdfast.ErrNotFound) || errors.Is(err, holdfast.ErrInvalid) {
		return fmt.Errorf("%w: %w", err, errUsage)
	}
	return err
}
