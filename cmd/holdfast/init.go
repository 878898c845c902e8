package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/server"
)

type initCommand struct {
	dataFlag
	Mirror []string `required:"" sep:"none" placeholder:"DIR2" help:"Directory for the second copy of everything, new or empty; give it again for a third copy."`
}

// Help teaches.
func (initCommand) Help() string {
	return `Makes DIR with its settings, an empty store and the server's keys, and starts a mirror in DIR2. Every
change is written to DIR and to DIR2 before a device is told that it is kept, so put DIR2 on another disk or machine.

DIR must not exist yet and DIR2 must be new or empty: init never touches what is there (exit code 3).

  holdfast init --data /srv/holdfast --mirror /mnt/usb/holdfast-mirror`
}

// Run makes the data directory.
func (c *initCommand) Run(s *streams) error {
	dir, err := c.dir()
	if err != nil {
		return err
	}
	if dir, err = resolve(dir); err != nil {
		return err
	}
	if err := c.unused(dir); err != nil {
		return err
	}
	settings := config.Default()
	_, _ = rand.Read(settings.ServerID[:]) // crypto/rand.Read never returns an error
	for i, m := range c.Mirror {
		path, err := mirrorPath(m)
		if err != nil {
			return err
		}
		name := "mirror"
		if i > 0 {
			name = fmt.Sprintf("mirror%d", i+1)
		}
		settings.Mirrors = append(settings.Mirrors, config.Mirror{Name: name, Path: path})
	}
	// What Parse would refuse must not be written: read it back before anything is made.
	if _, err := config.Parse(config.Render(settings)); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelError}))
	if err := server.Create(s.ctx, dir, settings, log); err != nil {
		return initFailed(err, dir)
	}
	return c.made(s, dir, settings)
}

// unused says why DIR cannot be made: it is there. Without settings it may be what an init left that was
// interrupted, or a server whose settings are lost; only a person can tell, so nothing is touched.
func (c *initCommand) unused(dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	_, conf := os.Lstat(filepath.Join(dir, config.FileName))
	_, lock := os.Lstat(filepath.Join(dir, "lock"))
	if errors.Is(conf, os.ErrNotExist) && lock == nil {
		return fmt.Errorf("%[1]s has no %[2]s. If an init was interrupted there, nothing of value is in it: remove %[1]s and %[3]s and run it again. "+
			"If a server has run there, put its %[2]s back and remove nothing: %[4]w", dir, config.FileName, strings.Join(c.Mirror, " and "), errRefused)
	}
	return fmt.Errorf("%s is there already; init makes the data directory itself and touches no existing one: %w", dir, errRefused)
}

// mirrorPath checks what the path of a mirror leads to: nothing, or an empty directory.
func mirrorPath(path string) (string, error) {
	if path == "" {
		return "", fmt.Errorf("--mirror is empty: %w", errUsage)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", path, err)
	}
	if path, err = resolve(path); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return "", fmt.Errorf("mirror %s is no directory that can be read: %w: %w", path, err, errRefused)
	default:
		for _, e := range entries {
			if e.Name() != "lost+found" {
				return "", fmt.Errorf("mirror %s is not empty (it has %s), and init touches nothing that is there; give a new directory: %w", path, e.Name(), errRefused)
			}
		}
	}
	return path, nil
}

// resolve follows the links in the part of path that exists, so that two names of one place are seen as one.
func resolve(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		return real, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("find %s: %w", path, err)
	}
	parent := filepath.Dir(path)
	if parent == path {
		return path, nil
	}
	parent, err = resolve(parent)
	return filepath.Join(parent, filepath.Base(path)), err
}

func initFailed(err error, dir string) error {
	if errors.Is(err, holdfast.ErrExists) || errors.Is(err, holdfast.ErrDenied) {
		return fmt.Errorf("%w: %w", err, errRefused)
	}
	return fmt.Errorf("init did not finish, and nothing of value was made: %w; put right what is wrong, remove %s and what it made in the mirror, and run init again", err, dir)
}

func (c *initCommand) made(s *streams, dir string, settings *config.Config) error {
	fmt.Fprintf(s.out, "Made the data directory %s\n  settings   %s\n  server id  %s\n", dir, filepath.Join(dir, config.FileName), settings.ServerID)
	for _, m := range settings.Mirrors {
		fmt.Fprintf(s.out, "  %-9s  %s\n", m.Name, m.Path)
		if same, err := durable.SameDevice(durable.Disk, dir, m.Path); err == nil && same {
			fmt.Fprintf(s.err, "\nWARNING: %s is on the same disk as %s. When that disk dies, both copies die with it.\nMove the mirror to another disk before you trust this server with anything: see docs/runbooks/mirror.md\n", m.Path, dir)
		}
	}
	_, err := fmt.Fprintf(s.out, "\nNext:\n  holdfast account add NAME --data %s\n  holdfast serve --data %s\n", shell(c.Data), shell(c.Data))
	return err
}
