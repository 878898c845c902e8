// Package restore is what a person orders to have things back: a data directory on a new machine from
// mirrors alone (Look, Run; the takeover of R1), and the state of an account at a snapshot (Show, Export,
// Undo).
//
// Invariants of Run: nothing in a mirror is removed or overwritten; nothing is claimed before a person has seen
// whose mirrors these are (Look, then Run); a directory whose restore has not finished is taken for a
// server's by nobody, and Run goes on with it; the server that had the mirrors finds itself fenced.
// Invariants of Undo: only new changes of the account itself, in bounded steps (L10), never of account 0.
//
// Its file on disk: DIR/restore, which is there from the first moment of Run to its last.
package restore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/ledger"
)

// Order is what a person confirmed.
type Order struct {
	Dir      string         // the new data directory, absolute: new, empty, or of the same restore before
	Settings *config.Config // written to holdfast.conf; Settings of Found and what flags add
	Host     string         // of this machine, for the claims and the report
	Log      *slog.Logger
	Progress func(ledger.RestoreProgress) // nil: nobody looks

	fault func(step string) error // tests: called before and after each durable step
}

// step does one durable step.
func (o *Order) step(name string, do func() error) error {
	if o.fault == nil {
		return do()
	}
	if err := o.fault("before " + name); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return o.fault("after " + name)
}

// Result is what Run did.
type Result struct {
	*ledger.Restored
	Report string // path of the report in plain words
	Again  bool   // a Run before had begun it
}

// marker is the JSON object in DIR/restore.
type marker struct {
	Format int    `json:"format"`
	Server string `json:"server"`
	Began  string `json:"began"` // for people
}

const (
	markerFormat = 1
	maxMarker    = 64 << 10 // bytes
)

// Check says whether Run would take dir: ErrDenied for anything but a new or empty directory or one in
// which a restore of the same server was interrupted. again reports the latter.
func Check(dir string, server holdfast.ServerID) (again bool, err error) {
	names, err := durable.List(durable.Disk, dir)
	if errors.Is(err, holdfast.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look into %s: %w", dir, err)
	}
	for _, n := range names {
		if n == config.RestoreName {
			return true, sameServer(dir, server)
		}
	}
	for _, n := range names {
		if !durable.Unfinished(n) && n != "lost+found" {
			return false, fmt.Errorf("%s is not empty (it has %s), and restore touches nothing that is there: give a new directory: %w", dir, n, holdfast.ErrDenied)
		}
	}
	return false, nil
}

func sameServer(dir string, server holdfast.ServerID) error {
	b, err := durable.ReadFile(durable.Disk, filepath.Join(dir, config.RestoreName), maxMarker)
	if err != nil {
		return fmt.Errorf("read the mark of the restore before: %w", err)
	}
	k, err := parseMarker(b)
	if err == nil && k.Server != server.String() {
		err = fmt.Errorf("a restore of another server (%s) was begun in %s: %w", k.Server, dir, holdfast.ErrDenied)
	}
	return err
}

func parseMarker(b []byte) (k marker, err error) {
	if err := json.Unmarshal(b, &k); err != nil || k.Format != markerFormat {
		return k, fmt.Errorf("the file %q is not readable: %w", config.RestoreName, holdfast.ErrCorrupt)
	}
	return k, nil
}

// Run restores. Killed at any moment it can be run again and goes on. Errors beside those of Check:
// durable.ErrLocked, another restore is at work; ErrFenced, somebody else has claimed a mirror meanwhile;
// ErrFull, the disk of Dir.
func Run(ctx context.Context, o Order) (*Result, error) {
	if err := o.Settings.Check(); err != nil {
		return nil, err
	}
	for _, m := range o.Settings.Mirrors {
		if config.Inside(m.Path, o.Dir) || config.Inside(o.Dir, m.Path) {
			return nil, fmt.Errorf("mirror %s and data directory %s lie one inside the other, so both would be lost together: %w", m.Path, o.Dir, holdfast.ErrDenied)
		}
	}
	again, err := Check(o.Dir, o.Settings.ServerID)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	lock, err := begin(&o, again, began)
	if err != nil {
		return nil, err
	}
	r, err := o.restore(ctx, began)
	if err = errors.Join(err, lock.Unlock()); err != nil {
		return nil, err
	}
	r.Again = again
	return r, nil
}

// begin marks the directory as unfinished and takes its lock.
func begin(o *Order, again bool, now time.Time) (*durable.FileLock, error) {
	if err := o.step("directory", func() error { return durable.MkdirAll(durable.Disk, o.Dir) }); err != nil {
		return nil, fmt.Errorf("make %s: %w", o.Dir, err)
	}
	mark := filepath.Join(o.Dir, config.RestoreName)
	if !again {
		b, err := json.Marshal(marker{markerFormat, o.Settings.ServerID.String(), now.UTC().Format(time.RFC3339)})
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", config.RestoreName, err)
		}
		if err := o.step("mark", func() error { return durable.Create(durable.Disk, mark, append(b, '\n'), durable.FilePerm) }); err != nil {
			return nil, fmt.Errorf("begin the restore: %w", err)
		}
	}
	name := filepath.Join(o.Dir, "lock")
	err := o.step("lock", func() error { return durable.Create(durable.Disk, name, nil, durable.FilePerm) })
	if err != nil && !errors.Is(err, holdfast.ErrExists) {
		return nil, err
	}
	lock, err := durable.Lock(name)
	if err != nil {
		return nil, err
	}
	// Another restore may have finished between the look and the lock.
	if _, err := durable.Disk.Stat(mark); err != nil {
		return nil, errors.Join(fmt.Errorf("the restore into %s has finished meanwhile: %w", o.Dir, holdfast.ErrDenied), lock.Unlock())
	}
	return lock, nil
}

func (o *Order) restore(ctx context.Context, began time.Time) (*Result, error) {
	err := o.step("settings", func() error {
		return errors.Join(durable.MkdirAll(durable.Disk, filepath.Join(o.Dir, "run")),
			durable.Replace(durable.Disk, filepath.Join(o.Dir, config.FileName), config.Render(o.Settings), durable.FilePerm))
	})
	if err != nil {
		return nil, fmt.Errorf("write the settings: %w", err)
	}
	lc := ledger.Config{Dir: o.Dir, Server: o.Settings.ServerID, Witness: o.Settings.Witness, Log: o.Log}
	for _, m := range o.Settings.Mirrors {
		lc.Mirrors = append(lc.Mirrors, ledger.MirrorConfig{Name: m.Name, Path: m.Path})
	}
	var done *ledger.Restored
	err = o.step("ledger", func() (err error) {
		done, err = ledger.Restore(ctx, lc, "taken over by restore on "+o.Host, o.Progress)
		return err
	})
	if err != nil {
		return nil, err
	}
	r := &Result{Restored: done, Report: filepath.Join(o.Dir, "incidents", "restore-"+began.UTC().Format("20060102T150405.000Z")+".md")}
	if err := o.step("report", func() error {
		return durable.Create(durable.Disk, r.Report, []byte(o.report(r, began)), durable.FilePerm)
	}); err != nil {
		return nil, fmt.Errorf("write the report: %w", err)
	}
	// From here on it is a server's.
	if err := o.step("finish", func() error { return durable.Remove(durable.Disk, filepath.Join(o.Dir, config.RestoreName)) }); err != nil {
		return nil, fmt.Errorf("finish the restore: %w", err)
	}
	return r, nil
}

// report says in plain words what was done.
func (o *Order) report(r *Result, began time.Time) string {
	var b strings.Builder
	now := time.Now()
	fmt.Fprintf(&b, "# Restore of %s\n\nServer %s, on host %s.\n\n## What was done\n\n", now.UTC().Format("2 January 2006, 15:04:05 UTC"), o.Settings.ServerID, o.Host)
	for _, m := range o.Settings.Mirrors {
		fmt.Fprintf(&b, "- Mirror %s in %s was read, and claimed with term %d. Nothing in it was removed.\n", m.Name, m.Path, r.Term)
	}
	fmt.Fprintf(&b, "- %d changes and %d large bodies were put into a new store in %.1f seconds.\n", r.Changes, r.Blobs, now.Sub(began).Seconds())
	changes := uint64(0)
	for _, h := range r.Heads {
		changes += uint64(h.Head.Seq)
	}
	fmt.Fprintf(&b, "- The store now has %d changes of %d accounts, the server's own included. Every chain, every small body and every digest in it was verified, and each account ends where its mirrors end.\n", changes, len(r.Heads))
	b.WriteString("- Names, passwords, devices, ETags and sync tokens are the same as before: devices go on where they were and load nothing again.\n")
	b.WriteString("- The server that had these mirrors before is fenced: it serves and takes nothing any more.\n")
	if r.Again {
		b.WriteString("- An earlier attempt had been interrupted; this one went on with it.\n")
	}
	b.WriteString("\n## What is left to do\n\n")
	b.WriteString("- Stop the old server for good, if its machine is alive, and keep its disk until you are sure that nothing is missing.\n")
	b.WriteString("- Lead the name or address that devices use to this machine.\n")
	b.WriteString("- Look at listen, public_url, TLS, witness and alerts in holdfast.conf: they are not in a mirror.\n")
	if len(o.Settings.Mirrors) == 1 {
		b.WriteString("- One mirror is the least. If the old server had others, they are not written to now.\n")
	}
	for _, d := range r.Damage {
		fmt.Fprintf(&b, "- Damage was found: %s.\n", d)
	}
	if r.MissingBlobs > 0 {
		fmt.Fprintf(&b, "- %d large bodies are in no given mirror. Keep every old disk; photos may still be on the devices.\n", r.MissingBlobs)
	}
	for a, why := range r.Closed {
		fmt.Fprintf(&b, "- Account %d stays closed: %s. See docs/runbooks/lost-store.md.\n", a, why)
	}
	return b.String()
}
