package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"holdfast/internal/demo"
)

// DemoCmd shows what Holdfast promises, on this machine and on loopback only.
type DemoCmd struct {
	Sidekick SidekickCmd `cmd:"" help:"A server loses its store while three devices write. Nothing may be lost."`
}

// SidekickCmd runs one scenario of package demo.
type SidekickCmd struct {
	Scenario     string `default:"store-removed" placeholder:"NAME" help:"What goes wrong; see --list."`
	List         bool   `help:"List the scenarios and stop."`
	Seed         uint64 `default:"1" help:"Seed of everything that is chosen."`
	Keep         string `type:"path" placeholder:"DIR" help:"Work in DIR, new or empty, and leave all files there."`
	WithoutFence bool   `help:"Show what a server as others are would have done: it goes on with last night's backup."`
}

// errLoss ends a demonstration that lost something, with exit code 1.
var errLoss = errors.New("something that was acknowledged was lost, or deleted on a device")

// Run shows the scenario and prints the verdict as the last line.
func (c *SidekickCmd) Run() error {
	if c.List {
		for _, s := range demo.Scenarios() {
			fmt.Printf("%-16s %s\n", s.Name, s.Summary)
		}
		return nil
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	v, err := demo.Run(ctx, demo.Config{
		Scenario: c.Scenario, Seed: c.Seed, Keep: c.Keep, WithoutFence: c.WithoutFence, Out: os.Stdout,
	})
	if err != nil {
		return err
	}
	for _, p := range v.Problems {
		fmt.Println("  " + p)
	}
	fmt.Println(v)
	if !v.Good() {
		return errLoss
	}
	return nil
}
