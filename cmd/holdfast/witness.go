package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"holdfast/internal/fence"
	"holdfast/internal/ledger"
	"holdfast/internal/server"
)

// witnessCommand makes and takes out the head witness.
type witnessCommand struct {
	Add    witnessAdd    `cmd:"" help:"Keep the newest numbers in a third place, from now on."`
	Remove witnessRemove `cmd:"" help:"Go on without the third place."`
	Show   witnessShow   `cmd:"" help:"Show where the witness is and what it knows."`
}

type witnessAdd struct {
	dataFlag
	Dir string `arg:"" placeholder:"DIR" help:"A new or empty directory in a third place."`
	Yes bool   `help:"What the present witness knows may be lost: it is gone for good."`
}

// Help teaches.
func (witnessAdd) Help() string {
	return `Makes DIR the head witness: for each account the number and hash of its newest change, and nothing else, is written
there before a change is acknowledged. If the data directory and all mirrors are ever put back to an older state together, they
agree with each other and nobody else would notice; the witness does, and no device is told a wrong deletion.

Put it neither on the disk of the data nor on that of a mirror. It needs little room (16 MiB) and a disk that is fast to sync: every
write waits for it, and while it is away writes wait as they do for a mirror.

Exit code 0: it is in use. 3: refused: DIR is not empty, or lies in another copy.

  holdfast witness add /mnt/nas/holdfast-witness --data /srv/holdfast`
}

// Run adds the witness.
func (c *witnessAdd) Run(s *streams) error {
	path, err := filepath.Abs(c.Dir)
	if err != nil || c.Dir == "" {
		return fmt.Errorf("find %q: %w", c.Dir, errors.Join(err, errUsage))
	}
	if path, err = resolve(path); err != nil {
		return err
	}
	var st ledger.Status
	if err := c.call(s, "witness/add", server.WitnessRequest{Path: path, GiveUp: c.Yes}, &st); err != nil {
		return err
	}
	fmt.Fprintln(s.out, "The witness is in use, and is written into holdfast.conf.")
	showWitness(s.out, st.Witness)
	return nil
}

type witnessRemove struct {
	dataFlag
	Yes bool `help:"What it knows may be lost: it is gone for good."`
}

// Help teaches.
func (witnessRemove) Help() string {
	return `Takes the head witness out of holdfast.conf and out of the write path. Its directory stays as it is.

Exit code 0: done. 3: refused: it cannot be read, and may know of a loss that nobody else knows.

  holdfast witness remove --data /srv/holdfast`
}

// Run removes the witness.
func (c *witnessRemove) Run(s *streams) error {
	var st ledger.Status
	if err := c.call(s, "witness/remove", server.WitnessRequest{GiveUp: c.Yes}, &st); err != nil {
		return err
	}
	fmt.Fprintln(s.out, "There is no witness any more; its directory was not touched. That data and mirrors are put back together is noticed only by a device now.")
	return nil
}

type witnessShow struct {
	dataFlag
	jsonFlag
}

// Help teaches.
func (witnessShow) Help() string {
	return `Shows where the head witness is and whether it can be used.

Exit code 0: it is in use. 1: it cannot be used, or there is none.

  holdfast witness show --data /srv/holdfast`
}

var errNoWitness = errors.New("no witness is in use")

// Run shows the witness.
func (c *witnessShow) Run(s *streams) error {
	var st server.Status
	if err := c.call(s, "status", server.Nothing{}, &st); err != nil {
		return err
	}
	if c.JSON {
		if err := printJSON(s.out, st.Witness); err != nil {
			return err
		}
	} else {
		showWitness(s.out, st.Witness)
	}
	if st.Witness == nil || st.Witness.State != complete || st.State == fence.Closed.String() {
		return errNoWitness
	}
	return nil
}

func showWitness(w io.Writer, third *ledger.WitnessStatus) {
	if third == nil {
		fmt.Fprintln(w, "Witness   none (make one with: holdfast witness add DIR)")
		return
	}
	printWitness(w, third)
}
