package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
	"holdfast/internal/restore"
	"holdfast/internal/server"
)

type snapshotCommand struct {
	Create snapshotCreate `cmd:"" help:"Name the present state of an account."`
	List   snapshotList   `cmd:"" help:"List the snapshots of an account."`
	Remove snapshotRemove `cmd:"" help:"Remove a name; the history stays."`
	Show   snapshotShow   `cmd:"" help:"Show what was in a snapshot and what is different now."`
	Export snapshotExport `cmd:"" help:"Write what was in a snapshot as plain files."`
	Undo   snapshotUndo   `cmd:"" help:"Bring back what was deleted or overwritten since a snapshot."`
}

type accountArg struct {
	Account string `arg:"" help:"Name or number of the account."`
}

type snapshotArg struct {
	Name string `arg:"" help:"Name of the snapshot."`
}

type snapshotCreate struct {
	dataFlag
	accountArg
	snapshotArg
	Why string `placeholder:"TEXT" help:"What it is for."`
}

// Help teaches.
func (snapshotCreate) Help() string {
	return `A snapshot is a name for everything an account holds at this moment: contacts, calendars, files. It is made at once and
takes no room, however much there is. It can be shown, exported and gone back to.

The server names one by itself before a device deletes or overwrites much in a short time, and tells you.

  holdfast snapshot create alice before-new-phone --data /srv/holdfast`
}

// Run names the state.
func (c *snapshotCreate) Run(s *streams) error {
	var out ledger.Snapshot
	if err := c.call(s, "snapshot/create", server.SnapshotRequest{Account: c.Account, Name: c.Name, Why: c.Why}, &out); err != nil {
		return inDoubt(err, "holdfast snapshot list "+c.Account+" --data "+shell(c.Data))
	}
	_, err := fmt.Fprintf(s.out, "Snapshot %s is the state of %s after change %d.\n", out.Name, c.Account, out.Seq)
	return err
}

type snapshotList struct {
	dataFlag
	jsonFlag
	accountArg
}

// Help teaches.
func (snapshotList) Help() string {
	return `Lists the oldest state first. Those that begin with before-mass-change or before-undo were named by the server.

  holdfast snapshot list alice --data /srv/holdfast`
}

// Run lists.
func (c *snapshotList) Run(s *streams) error {
	var all []ledger.Snapshot
	if err := c.call(s, "snapshot/list", server.SnapshotRequest{Account: c.Account}, &all); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(s.out, all)
	}
	if len(all) == 0 {
		_, err := fmt.Fprintf(s.out, "No snapshots of %s yet. Make one with: holdfast snapshot create %s NAME --data %s\n", c.Account, c.Account, shell(c.Data))
		return err
	}
	rows := [][]string{{"SNAPSHOT", "NAMED", "CHANGE", "WHY"}}
	for _, o := range all {
		rows = append(rows, []string{o.Name, day(o.Time), fmt.Sprint(uint64(o.Seq)), o.Why})
	}
	return table(s.out, rows)
}

type snapshotRemove struct {
	dataFlag
	accountArg
	snapshotArg
}

// Help teaches.
func (snapshotRemove) Help() string {
	return `Removes the name only; all versions stay in the history as long as the history is kept. Names that the server
gave stay (exit code 3).

  holdfast snapshot remove alice before-new-phone --data /srv/holdfast`
}

// Run removes a name.
func (c *snapshotRemove) Run(s *streams) error {
	if err := c.call(s, "snapshot/remove", server.SnapshotRequest{Account: c.Account, Name: c.Name}, &server.Nothing{}); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.out, "The name %s is removed; nothing else is.\n", c.Name)
	return err
}

type snapshotShow struct {
	dataFlag
	jsonFlag
	accountArg
	snapshotArg
}

// Help teaches.
func (snapshotShow) Help() string {
	return `Shows for each collection how many items were in it, how many are now, and what happened since: added, changed, deleted.

  holdfast snapshot show alice before-mass-change-20261121T101112Z --data /srv/holdfast`
}

// Run shows a snapshot.
func (c *snapshotShow) Run(s *streams) error {
	var out restore.Shown
	if err := c.call(s, "snapshot/show", server.SnapshotRequest{Account: c.Account, Name: c.Name}, &out); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(s.out, out)
	}
	return printShown(s.out, &out)
}

func printShown(w io.Writer, o *restore.Shown) error {
	fmt.Fprintf(w, "Snapshot  %s\n", o.Name)
	fmt.Fprintf(w, "State     after change %d, made %s\n", o.Seq, day(o.Made))
	if o.Why != "" {
		fmt.Fprintf(w, "Why       %s\n", o.Why)
	}
	fmt.Fprintln(w)
	rows := [][]string{{"COLLECTION", "HOLDS", "THEN", "NOW", "ADDED", "CHANGED", "DELETED", ""}}
	for _, c := range o.Collections {
		note := ""
		switch {
		case c.Gone:
			note = "the collection is gone"
		case c.New:
			note = "made since"
		}
		path := c.Path
		if path == "" {
			if c.Then+c.Now == 0 {
				continue
			}
			path = "/"
		}
		rows = append(rows, []string{path, c.Holds, fmt.Sprint(c.Then), fmt.Sprint(c.Now), fmt.Sprint(c.Added), fmt.Sprint(c.Changed), fmt.Sprint(c.Deleted), note})
	}
	return table(w, rows)
}

type snapshotExport struct {
	dataFlag
	accountArg
	snapshotArg
	Dir string `arg:"" help:"Directory for the files: new or empty."`
}

// Help teaches.
func (snapshotExport) Help() string {
	return `Writes every contact, event and file as it was, each collection as a directory. The account is not changed. The file
ABOUT-THIS-EXPORT.txt is written last: without it the export is not complete, so remove what is there and run it again.

  holdfast snapshot export alice before-new-phone /tmp/alice --data /srv/holdfast`
}

// Run exports.
func (c *snapshotExport) Run(s *streams) (err error) {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return fmt.Errorf("find %s: %w", c.Dir, err)
	}
	conn, err := c.connect(s, server.OnlyReads("snapshot/export"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	in := server.ExportRequest{SnapshotRequest: server.SnapshotRequest{Account: c.Account, Name: c.Name}, Dir: dir}
	for last := time.Now(); ; {
		var out restore.Exported
		if err := conn.Call(s.ctx, "snapshot/export", in, &out); err != nil {
			return err
		}
		if out.Done {
			_, err := fmt.Fprintf(s.out, "Exported %s, %s, to %s\n", plural(out.Files, "file", "files"), size(out.Bytes), dir)
			return err
		}
		in.From, in.Files, in.Bytes = out.Next, out.Files, out.Bytes
		if time.Since(last) > 2*time.Second {
			last = time.Now()
			fmt.Fprintf(s.err, "%s, %s so far\n", plural(out.Files, "file", "files"), size(out.Bytes))
		}
	}
}

type snapshotUndo struct {
	dataFlag
	accountArg
	snapshotArg
	Collection string `placeholder:"PATH" help:"Only this collection and what is below it, as in the first column of show."`
	Everyone   bool   `help:"Also what other devices deleted or overwrote since, if the snapshot is about one device."`
	DryRun     bool   `help:"Count what would be brought back, and change nothing."`
}

// Help teaches.
func (snapshotUndo) Help() string {
	return `Brings back every item that was deleted or overwritten since the snapshot, byte for byte, by new changes that all
devices see as such. What was added since stays. Nothing is taken out of the history, and the state before the undo gets
a name too, so that it can be undone itself.

If the snapshot was named because of one device, what other devices did since is left alone; --everyone brings back that
too. Interrupted, run it again. First take the access of a device that does harm: holdfast device revoke.

  holdfast snapshot undo alice before-mass-change-20261121T101112Z --dry-run --data /srv/holdfast
  holdfast snapshot undo alice before-mass-change-20261121T101112Z --collection contacts --data /srv/holdfast`
}

// Run undoes.
func (c *snapshotUndo) Run(s *streams) (err error) {
	conn, err := c.connect(s, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	in := server.UndoRequest{
		SnapshotRequest: server.SnapshotRequest{Account: c.Account, Name: c.Name},
		Collection:      c.Collection, Everyone: c.Everyone, DryRun: c.DryRun,
	}
	var sum restore.Undone
	for last := time.Now(); ; {
		var out restore.Undone
		if err := conn.Call(s.ctx, "snapshot/undo", in, &out); err != nil {
			if !errors.Is(err, holdfast.ErrNotFound) && sum.Brought > 0 {
				err = fmt.Errorf("%w; %s are back already, run it again for the others", err, plural(sum.Brought, "item", "items"))
			}
			return err
		}
		sum.Brought, sum.Same, sum.Others, sum.Taken, sum.Made = sum.Brought+out.Brought, sum.Same+out.Same, sum.Others+out.Others, sum.Taken+out.Taken, sum.Made+out.Made
		if out.Before != "" {
			sum.Before = out.Before
		}
		if out.Done {
			return c.done(s.out, &sum)
		}
		in.From = out.Next
		if time.Since(last) > 2*time.Second {
			last = time.Now()
			fmt.Fprintf(s.err, "%s brought back so far\n", plural(sum.Brought, "item", "items"))
		}
	}
}

func (c *snapshotUndo) done(w io.Writer, sum *restore.Undone) error {
	did := "Brought back"
	if c.DryRun {
		did = "Would bring back"
	}
	fmt.Fprintf(w, "%s %s; %d are as they were", did, plural(sum.Brought, "item", "items"), sum.Same)
	if sum.Made > 0 {
		fmt.Fprintf(w, "; %s made again", plural(sum.Made, "collection", "collections"))
	}
	fmt.Fprintln(w, ".")
	if sum.Others > 0 {
		fmt.Fprintf(w, "%s left: another device changed them since (bring back those too with --everyone).\n", plural(sum.Others, "item was", "items were"))
	}
	if sum.Taken > 0 {
		fmt.Fprintf(w, "%s left: another item has the same UID now.\n", plural(sum.Taken, "item was", "items were"))
	}
	if sum.Before != "" {
		fmt.Fprintf(w, "The state before this undo is snapshot %s.\n", sum.Before)
	}
	return nil
}
