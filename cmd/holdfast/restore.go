package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/ledger"
	"holdfast/internal/restore"
)

type restoreCommand struct {
	FromMirror []string `required:"" sep:"none" placeholder:"DIR2" help:"Directory of a mirror; give every mirror of the server that can be read."`
	To         string   `required:"" placeholder:"DIR" help:"The new data directory: must not exist, or be empty."`
	Listen     []string `sep:"none" placeholder:"HOST:PORT" help:"Listen here, instead of the default; goes into holdfast.conf."`
	PublicURL  string   `name:"public-url" placeholder:"URL" help:"How clients reach this server; goes into holdfast.conf."`
	Witness    string   `placeholder:"DIR3" help:"The directory of the heads in a third place, if the old server had one; goes into holdfast.conf."`
	Incomplete bool     `help:"Go on without mirrors that the server had and that cannot be found."`
	Yes        bool     `help:"Do not ask."`
}

// Help teaches.
func (restoreCommand) Help() string {
	return `Makes a data directory anew from mirrors alone, on a new machine or a new disk: everything that was ever acknowledged,
with accounts, devices and their passwords. Devices go on where they were. It shows first what is there and asks.

It takes the mirrors over: the server that had them, should it still run or wake up one day, finds itself fenced and
serves nothing any more. Give every mirror that can be read. Nothing in a mirror is removed. Interrupted at any moment,
even by a power cut, the same command goes on where it was.

Exit code 0: restored. 1: it failed; run it again. 3: refused for safety, or not confirmed.

  holdfast restore --from-mirror /mnt/usb/holdfast-mirror --to /srv/holdfast
  holdfast restore --from-mirror /mnt/usb/hf --from-mirror /mnt/shed/hf --to /srv/holdfast --yes`
}

// Run restores.
func (c *restoreCommand) Run(s *streams) error {
	paths, to, err := c.places()
	if err != nil {
		return err
	}
	found, err := restore.Look(s.ctx, paths)
	if errors.Is(err, holdfast.ErrInvalid) {
		return fmt.Errorf("%w: %w", err, errRefused)
	}
	if err != nil {
		return err
	}
	again, err := restore.Check(to, found.Server)
	if err != nil {
		return err
	}
	settings, err := c.settings(found)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	printFound(s.out, found, to, again)
	if len(found.Missing) > 0 && !c.Incomplete {
		return fmt.Errorf("this server had %s; find them and give them too. If they are lost, or you are sure that they have nothing newer, say --incomplete: %w",
			plural(len(found.Missing), "mirror that was not given", "mirrors that were not given"), errRefused)
	}
	if err := c.confirm(s); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelError}))
	r, err := restore.Run(s.ctx, restore.Order{Dir: to, Settings: settings, Host: host, Log: log, Progress: progressTo(s.err)})
	if err != nil {
		return fmt.Errorf("%w\nNothing in the mirrors was harmed, and %s is not used for anything before it is finished. Run the same command again: it goes on where it was", err, to)
	}
	return c.done(s, found, r)
}

// places returns the absolute paths of the mirrors and of the new data directory, free of links.
func (c *restoreCommand) places() (from []string, to string, err error) {
	for _, p := range append([]string{c.To}, c.FromMirror...) {
		if p == "" {
			return nil, "", fmt.Errorf("--to and --from-mirror must not be empty: %w", errUsage)
		}
		if p, err = filepath.Abs(p); err != nil {
			return nil, "", fmt.Errorf("find %s: %w", p, err)
		}
		if p, err = resolve(p); err != nil {
			return nil, "", err
		}
		from = append(from, p)
	}
	to, from = from[0], from[1:]
	for _, m := range from {
		if config.Inside(m, to) || config.Inside(to, m) {
			return nil, "", fmt.Errorf("mirror %s and %s lie one inside the other, so both would be lost together: %w", m, to, errRefused)
		}
	}
	return from, to, nil
}

func (c *restoreCommand) settings(f *restore.Found) (*config.Config, error) {
	settings := f.Settings()
	var errs []error
	if len(c.Listen) > 0 {
		errs = append(errs, settings.Set("listen", c.Listen...))
	}
	if c.PublicURL != "" {
		errs = append(errs, settings.Set("public_url", c.PublicURL))
	}
	if c.Witness != "" {
		errs = append(errs, settings.Set("witness", c.Witness))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errUsage)
	}
	// What Parse would refuse must not be written.
	return config.Parse(config.Render(settings))
}

func printFound(w io.Writer, f *restore.Found, to string, again bool) {
	fmt.Fprintf(w, "Server    %s\n", f.Server)
	fmt.Fprintf(w, "Holds     %s, %s\n", plural(f.Accounts, "account", "accounts"), plural(int(f.Changes), "change", "changes"))
	if !f.Written.IsZero() {
		fmt.Fprintf(w, "Newest    written %s, by the clock of the old server\n", day(f.Written))
	}
	for _, m := range f.Mirrors {
		fmt.Fprintf(w, "Mirror    %s in %s: %s, %s\n", m.Name, m.Path, plural(int(m.Changes), "change", "changes"), size(m.Bytes))
		if m.Last != nil {
			fmt.Fprintf(w, "          %s\n", m.Last.Words())
		}
		for _, d := range m.Damage {
			fmt.Fprintf(w, "          DAMAGE %s\n", d)
		}
	}
	for _, m := range f.Missing {
		fmt.Fprintf(w, "MISSING   mirror %s (id %s), which the old server had in %s\n", m.Name, m.ID[:8], m.Path)
	}
	if len(f.Missing) > 0 {
		fmt.Fprintln(w, "          It may have newer changes than those given: what it alone has would not be restored. And an old server\n          that still reaches it may go on writing there, and not notice that it was replaced: stop that one first.")
	}
	if !f.Listed {
		fmt.Fprintln(w, "          No mirror says how many there were. Look into the old holdfast.conf, and give all that can be read.")
	}
	fmt.Fprintf(w, "To        %s, %s free there; about %s are needed\n", to, size(freeAbove(to)), size(f.Bytes))
	if again {
		fmt.Fprintln(w, "          A restore was begun there and did not finish: it goes on.")
	}
	fmt.Fprint(w, `
Taking over means: from now on this data directory owns the mirrors. The old server, if it runs or wakes up, sees that
it was replaced and serves and takes nothing any more. Devices notice nothing once their address leads here.
`)
}

// freeAbove returns the free bytes where a directory is or will be; -1: not known.
func freeAbove(dir string) int64 {
	for {
		if n, err := durable.FreeBytes(dir); err == nil {
			return n
		}
		up := filepath.Dir(dir)
		if up == dir {
			return -1
		}
		dir = up
	}
}

func (c *restoreCommand) confirm(s *streams) error {
	if c.Yes {
		return nil
	}
	fmt.Fprint(s.out, "\nType yes to go on: ")
	line, err := bufio.NewReader(io.LimitReader(s.in, 100)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(line) != "yes" {
		return fmt.Errorf("not confirmed: %w", errRefused)
	}
	return nil
}

// progressTo prints how far a restore is, every other second, and what is left of it.
func progressTo(w io.Writer) func(ledger.RestoreProgress) {
	began, last, step := time.Now(), time.Time{}, ""
	first := 0
	return func(p ledger.RestoreProgress) {
		now := time.Now()
		if p.Step == step && now.Sub(last) < 2*time.Second {
			return
		}
		if p.Step != step {
			began, step, first = now, p.Step, p.Changes
		}
		last = now
		switch {
		case p.Total == 0:
			fmt.Fprintln(w, p.Step)
		case p.Changes <= first || p.Changes >= p.Total:
			fmt.Fprintf(w, "%s: %d of %d changes, %s\n", p.Step, p.Changes, p.Total, size(p.Bytes))
		default:
			left := time.Duration(float64(now.Sub(began)) / float64(p.Changes-first) * float64(p.Total-p.Changes))
			fmt.Fprintf(w, "%s: %d of %d changes, %s, about %s left\n", p.Step, p.Changes, p.Total, size(p.Bytes), left.Round(time.Second))
		}
	}
}

func (c *restoreCommand) done(s *streams, f *restore.Found, r *restore.Result) error {
	fmt.Fprintf(s.out, "\nRestored  %s of %s, and %s; every chain and digest verified\n",
		plural(int(f.Changes), "change", "changes"), plural(f.Accounts, "account", "accounts"), plural(r.Blobs, "large body", "large bodies"))
	fmt.Fprintf(s.out, "Claimed   term %d in %s: the old server is fenced\n", r.Term, plural(len(f.Mirrors), "mirror", "mirrors"))
	fmt.Fprintf(s.out, "Report    %s\n", r.Report)
	if n := len(r.Closed); n > 0 {
		fmt.Fprintf(s.err, "WARNING: %s closed, because not all that was acknowledged could be found. Read the report before devices connect.\n", plural(n, "account stays", "accounts stay"))
	}
	if r.MissingBlobs > 0 {
		fmt.Fprintf(s.err, "WARNING: %s in no mirror that was given.\n", plural(r.MissingBlobs, "large body is", "large bodies are"))
	}
	_, err := fmt.Fprintf(s.out, "\nNext: holdfast serve --data %s\n", shell(c.To))
	return err
}
