// Command holdfast is a personal data cloud that does not lose what it has acknowledged: the server,
// and everything an operator does with it.
//
// Every subcommand has its own file. Those that change something ask the running server, or open the
// data directory themselves when none runs; package server has that one path. Exit codes: 0 well, 1
// error, 2 usage, 3 refused for safety, 75 restart me.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/server"
)

// commands is the whole command line.
type commands struct {
	Init        initCommand        `cmd:"" help:"Make a data directory and its mirror."`
	Serve       serveCommand       `cmd:"" help:"Run the server."`
	Status      statusCommand      `cmd:"" help:"Show what state the server and its copies are in."`
	Doctor      doctorCommand      `cmd:"" help:"Look for what is wrong with the data directory, the mirrors and the machine."`
	Account     accountCommand     `cmd:"" help:"Add, list, shut and open accounts."`
	Device      deviceCommand      `cmd:"" help:"Add, list and revoke devices and their app passwords."`
	ClientSetup clientSetupCommand `cmd:"" help:"Show how each device and program is connected, and whether it would work."`
	Fence       fenceCommand       `cmd:"" help:"Show what the fence lets through, and why."`
	Alert       alertCommand       `cmd:"" help:"Try the ways by which the server tells people that something is wrong."`
	Mirror      mirrorCommand      `cmd:"" help:"Change the mirrors; list, read and check one, also without a server."`
	Witness     witnessCommand     `cmd:"" help:"Keep the newest numbers in a third place, which sees what the copies cannot."`
	Restore     restoreCommand     `cmd:"" help:"Make a data directory anew from mirrors alone, on a new box."`
	Scrub       scrubCommand       `cmd:"" help:"Read all copies again and heal what is damaged."`
	Config      configCommand      `cmd:"" help:"Check and explain the settings."`
	Demo        DemoCmd            `cmd:"" help:"See a server lose its store, and nothing else."`
	Version     versionCommand     `cmd:"" help:"Print the version."`
	Snapshot    snapshotCommand    `cmd:"" help:"Name the state of an account, look at it, export it, go back to it."`
}

const about = `A personal data cloud for phones and PCs that does not lose what it has acknowledged.

First steps:

  holdfast init --data /srv/holdfast --mirror /mnt/usb/holdfast-mirror
  holdfast account add alice --data /srv/holdfast
  holdfast serve --data /srv/holdfast

Every command has --help with examples. Exit codes: 0 well, 1 error, 2 usage, 3 refused for safety, 75 restart me.`

// Exit codes.
const (
	exitError   = 1
	exitUsage   = 2
	exitRefused = 3
	exitRestart = 75
)

// streams are what a command reads and writes, and what ends it.
type streams struct {
	ctx      context.Context
	in       io.Reader
	out, err io.Writer
}

// dataFlag is in every command that works on a data directory.
type dataFlag struct {
	Data string `required:"" placeholder:"DIR" env:"HOLDFAST_DATA" help:"The data directory."`
}

// dir returns the absolute path of the data directory.
func (d dataFlag) dir() (string, error) {
	if d.Data == "" {
		return "", fmt.Errorf("--data is empty: %w", errUsage)
	}
	dir, err := filepath.Abs(d.Data)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", d.Data, err)
	}
	return dir, nil
}

// connect returns the way to the admin operations, beside a running server or without one. look: only for those
// that server.OnlyReads.
func (d dataFlag) connect(s *streams, look bool) (*server.Conn, error) {
	dir, err := d.dir()
	if err != nil {
		return nil, err
	}
	settings, err := config.Load(dir)
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelError}))
	cfg := server.Config{Dir: dir, Settings: settings, Log: log, Version: version(), Look: look}
	return server.Connect(s.ctx, cfg, func(text string) { fmt.Fprintln(s.err, text) })
}

// call runs one admin operation.
func (d dataFlag) call(s *streams, operation string, in, out any) error {
	c, err := d.connect(s, server.OnlyReads(operation))
	if err != nil {
		return err
	}
	return errors.Join(c.Call(s.ctx, operation, in, out), c.Close())
}

var errUsage = errors.New("see --help")

// exitCode maps an error to what the shell is told.
func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, holdfast.ErrFatal):
		return exitRestart
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, holdfast.ErrFenced), errors.Is(err, holdfast.ErrNewer), errors.Is(err, holdfast.ErrDenied), errors.Is(err, holdfast.ErrAbsent), errors.Is(err, errRefused):
		return exitRefused
	}
	return exitError
}

// errRefused marks what was not done because it could lose data.
var errRefused = errors.New("nothing was done")

func main() {
	// The first SIGTERM or Ctrl-C ends in good order, a second one at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(&streams{ctx, os.Stdin, terminal{os.Stdout}, terminal{os.Stderr}}, os.Args[1:]))
}

// run parses args, runs the command and returns the exit code.
func run(s *streams, args []string) int {
	var c commands
	helped := false
	parser, err := kong.New(&c, kong.Name("holdfast"), kong.Description(about), kong.Writers(s.out, s.err),
		kong.Exit(func(int) { helped = true; panic(errHelped) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}), kong.Bind(s))
	if err != nil {
		fmt.Fprintln(s.err, "holdfast:", err)
		return exitError
	}
	k, err := parse(parser, args, &helped)
	if helped {
		return 0
	}
	if err != nil {
		fmt.Fprintf(s.err, "holdfast: %v\n", err)
		fmt.Fprintf(s.err, "Try: holdfast %s--help\n", selected(err))
		return exitUsage
	}
	err = k.Run()
	if err != nil {
		fmt.Fprintf(s.err, "holdfast: %v\n", err)
	}
	return exitCode(err)
}

var errHelped = errors.New("help was shown")

// parse lets kong show help without ending the process, which tests could not survive.
func parse(p *kong.Kong, args []string, helped *bool) (k *kong.Context, err error) {
	defer func() {
		if r := recover(); r != nil && !*helped {
			panic(r)
		}
	}()
	if len(args) == 0 {
		args = []string{"--help"}
	}
	return p.Parse(args)
}

// selected returns the command that a parse error belongs to, with a space behind it.
func selected(err error) string {
	var pe *kong.ParseError
	if !errors.As(err, &pe) || pe.Context == nil {
		return ""
	}
	var names []string
	for _, p := range pe.Context.Path {
		if p.Command != nil {
			names = append(names, p.Command.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return strings.Join(names, " ") + " "
}

type versionCommand struct{}

// Help teaches.
func (versionCommand) Help() string { return "  holdfast version" }

// Run prints the version.
func (versionCommand) Run(s *streams) error {
	_, err := fmt.Fprintln(s.out, "holdfast", version())
	return err
}

// version returns what the build knows of itself: the module's version, or the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "commit " + s.Value
		}
	}
	return "development"
}
