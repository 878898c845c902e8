package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"holdfast/internal/server"
)

type fenceAccept struct {
	dataFlag
	jsonFlag
	Account string `arg:"" optional:"" help:"Name or number of the account."`
	All     bool   `help:"Every account that is closed by a loss."`
	Yes     bool   `help:"Do it. Without it the command only shows what is known to be lost."`
}

// Help teaches.
func (fenceAccept) Help() string {
	return `An account is closed when something outside the server - a head file, a phone's sync token - knows changes that no
copy has: they were acknowledged and are lost. Its devices are told to wait and keep everything they have.

Look for a newer copy first: a disk, an image, a mirror that was put away. With it the server heals by itself and
nothing is lost. Only if there is none, accept the loss: the account opens with what is there. No device is told to
delete what was lost; what a device had not sent yet is stored; where device and server differ both versions are kept.
What lies only on a phone stays there until it is changed or imported again.

Without --yes nothing is done: the command shows what is known to be lost. It asks on a terminal.

  holdfast fence accept-loss alice --data /srv/holdfast
  holdfast fence accept-loss alice --yes --data /srv/holdfast
  holdfast fence accept-loss --all --yes --data /srv/holdfast

Exit code 0: done, or nothing to do. 1: it failed; run it again. 3: not confirmed, or it is not a loss but a fork
(holdfast fence diff, holdfast fence adopt). docs/runbooks/fence.md`
}

// Run shows what is lost and, with the operator's word, accepts it.
func (c *fenceAccept) Run(s *streams) error {
	if c.All == (c.Account != "") {
		return fmt.Errorf("name an account or give --all: %w", errUsage)
	}
	in := server.FenceRequest{Account: c.Account, All: c.All}
	var found []server.FenceLoss
	if err := c.call(s, "fence/loss", in, &found); err != nil {
		return err
	}
	closed, forks := 0, 0
	for i := range found {
		if found[i].Closed {
			closed++
		}
		if found[i].Fork {
			forks++
		}
	}
	if !c.JSON {
		printLosses(s.out, found)
	}
	if closed > 0 {
		if err := c.confirm(s, closed); err != nil {
			if c.JSON {
				return errors.Join(printJSON(s.out, found), err)
			}
			return err
		}
		if err := c.call(s, "fence/accept-loss", in, &found); err != nil {
			return inDoubt(err, "holdfast fence status --data "+shell(c.Data))
		}
	}
	if c.JSON {
		return printJSON(s.out, found)
	}
	if err := c.printAccepted(s, found); err != nil {
		return err
	}
	if forks > 0 {
		return fmt.Errorf("%s closed because copies differ: compare with holdfast fence diff, decide with holdfast fence adopt: %w", plural(forks, "account stays", "accounts stay"), errRefused)
	}
	return nil
}

func (c *fenceAccept) printAccepted(s *streams, found []server.FenceLoss) error {
	var failed error
	for i := range found {
		f := &found[i]
		switch {
		case f.Error != "":
			fmt.Fprintf(s.out, "%s stays closed: %s\n", title(f), f.Error)
			failed = errNotOpen
		case f.Closed:
			fmt.Fprintf(s.out, "%s is open again. The report is in %s/incidents.\n", title(f), c.Data)
		}
	}
	return failed
}

// confirm asks for the word on a terminal; --yes is the word.
func (c *fenceAccept) confirm(s *streams, n int) error {
	if c.Yes {
		return nil
	}
	return confirm(s, fmt.Sprintf("Accept the loss of %s?", plural(n, "account", "accounts")), "accept",
		"nothing was done. If there is no newer copy anywhere, do it with --yes")
}

// confirm asks a person to type a word, beside what the command prints for people or programs. Anything else, or nobody there, is no.
func confirm(s *streams, question, word, refused string) error {
	fmt.Fprintf(s.err, "%s Type %q to do it: ", question, word)
	line, err := bufio.NewReader(io.LimitReader(s.in, 1<<10)).ReadString('\n')
	fmt.Fprintln(s.err)
	if strings.TrimSpace(line) == word {
		return nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	return fmt.Errorf("%s: %w", refused, errRefused)
}

func printLosses(w io.Writer, found []server.FenceLoss) {
	if len(found) == 0 {
		fmt.Fprintln(w, "No account is closed: there is nothing to accept.")
	}
	for i := range found {
		f := &found[i]
		if f.Fork {
			fmt.Fprintf(w, "%s is closed because copies differ; that is no loss to accept.\n", title(f))
			continue
		}
		if !f.Closed {
			fmt.Fprintf(w, "%s is not closed by a loss: there is nothing to accept.\n", title(f))
			continue
		}
		printLoss(w, f)
	}
}

func printLoss(w io.Writer, f *server.FenceLoss) {
	fmt.Fprintf(w, "%s\n", title(f))
	if f.Head == 0 {
		fmt.Fprintln(w, "  There     nothing: no copy has a change of it")
	} else {
		fmt.Fprintf(w, "  There     changes 1 to %d, the last of %s, epoch %d\n", f.Head, day(f.HeadTime), f.Epoch)
	}
	fmt.Fprintf(w, "  Lost      at least %s, from change %d on\n", plural(int(f.Changes()), "change", "changes"), f.Common+1)
	if f.Common < f.Head {
		fmt.Fprintf(w, "  Since     %s written after the copies were put back, while nobody knew; they stay\n",
			plural(int(f.Head-f.Common), "change", "changes"))
	}
	for _, k := range f.Witnesses {
		differ := ""
		if k.Differ {
			differ = ", another one than what is there under that number"
		}
		fmt.Fprintf(w, "  Witness   %s knows change %d of epoch %d (hash %.16s)%s\n", k.Source, k.Seq, k.Epoch, k.Hash, differ)
	}
	fmt.Fprintf(w, `  Accepting The account opens with what is there, in a new epoch.
            A device that is up to date with the lost changes is told what changed since change %d, and of no
            deletion of what was lost. What it had not sent yet is stored. Where it has changed what the server
            has in another version, both are kept. What only the device has stays on the device.
            A program that knows no sync tokens and compares listings (vdirsyncer, rclone) may remove what the
            server lacks: copy its data away before it runs again.
`, f.Common)
}

func title(f *server.FenceLoss) string {
	if f.Name == "" {
		return fmt.Sprintf("Account %d", f.Account)
	}
	return fmt.Sprintf("Account %d (%s)", f.Account, f.Name)
}
