package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
	"holdfast/internal/server"
)

type scrubCommand struct {
	dataFlag
	jsonFlag
	Only string `enum:"store,mirrors,blobs," default:"" placeholder:"WHAT" help:"Read only the rows of the store, the logs of the mirrors, or the large bodies of all copies: store, mirrors, blobs."`
	Now  bool   `xor:"how" help:"Go on where the last scrub stopped, as fast as the disks can."`
	Full bool   `xor:"how" help:"Begin anew, as fast as the disks can."`
}

// Help teaches.
func (scrubCommand) Help() string {
	return `A server reads all its copies again, slowly, all the time, and heals what it finds damaged from a copy that is whole.
This command asks for it and waits until everything was read: without a flag at the rate of scrub_rate in holdfast.conf,
going on where the last scrub stopped. It works beside a running server and without one.

  holdfast scrub --data /srv/holdfast --full                  everything from the beginning, now
  holdfast scrub --data /srv/holdfast --now --only mirrors    finish reading the logs of the mirrors

Exit codes: 0 everything is whole, or was healed. 1 something is damaged that no copy can heal (it is listed), or the
scrub could not be finished. 3 the fence is closed: nothing can be compared.`
}

// errUnhealed makes the exit code of scrub 1; the damage has been printed.
var errUnhealed = errors.New("something is damaged that no copy can heal; see docs/runbooks/scrub.md before you do anything")

// Run asks for a scrub and waits for its end.
func (c *scrubCommand) Run(s *streams) error {
	conn, err := c.connect(s, false)
	if err != nil {
		return err
	}
	before, after, err := c.scrub(s, conn)
	if err = errors.Join(err, conn.Close()); err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(s.out, after)
	} else {
		err = printScrub(s.out, before, after)
	}
	switch {
	case err != nil:
		return err
	case after.Unhealed > 0:
		return errUnhealed
	case after.Fault != "":
		return fmt.Errorf("the scrub was not finished: %s", after.Fault)
	}
	return nil
}

// scrub starts a scrub and waits, with a line every few seconds.
func (c *scrubCommand) scrub(s *streams, conn *server.Conn) (before, after *ledger.ScrubStatus, err error) {
	before = &ledger.ScrubStatus{}
	if err := conn.Call(s.ctx, "scrub", server.ScrubRequest{}, before); err != nil { // waits for a server that starts
		return nil, nil, err
	}
	var st server.Status
	if err := conn.Call(s.ctx, "status", server.Nothing{}, &st); err != nil {
		return nil, nil, err
	}
	if st.State != "open" {
		return nil, nil, fmt.Errorf("the fence is %s (%s), a scrub compares copies that are served: %w", st.State, st.Reason, holdfast.ErrFenced)
	}
	in := server.ScrubRequest{Start: true, Only: c.Only}
	switch {
	case c.Full:
		in.Mode = ledger.ScrubFull
	case c.Now:
		in.Mode = ledger.ScrubNow
	}
	told := time.Now()
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		after = &ledger.ScrubStatus{}
		if err := conn.Call(s.ctx, "scrub", in, after); err != nil {
			return nil, nil, err
		}
		if in.Start = false; !after.Asked {
			return before, after, nil
		}
		if now := time.Now(); now.Sub(told) > 2*time.Second {
			told = now
			fmt.Fprintln(s.err, progressOf(after))
		}
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
			return nil, nil, s.ctx.Err()
		}
	}
}

// progressOf says in one line how far a scrub is.
func progressOf(st *ledger.ScrubStatus) string {
	line := ""
	for _, l := range st.Laps {
		if !l.Running {
			continue
		}
		line += fmt.Sprintf("%s %s: %s of %s, %.0f MB/s", l.Copy, l.Part, size(l.Bytes), size(l.Total), l.Speed/1e6)
		if l.Left > 0 {
			line += ", " + (time.Duration(l.Left) * time.Second).String() + " left"
		}
		line += "; "
	}
	return fmt.Sprintf("%sfound %d, healed %d", line, st.Found, st.Healed)
}

func printScrub(w io.Writer, before, after *ledger.ScrubStatus) error {
	rows := [][]string{{"COPY", "PART", "READ", "LAST COMPLETE"}}
	for _, l := range after.Laps {
		last := "never yet"
		if l.Last != nil {
			last = day(*l.Last)
		}
		rows = append(rows, []string{l.Copy, l.Part, size(l.Bytes), last})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nFound %d, healed %d. Reports are in incidents/ of the data directory.\n", after.Found-before.Found, after.Healed-before.Healed)
	for _, d := range after.Damage {
		fmt.Fprintf(w, "DAMAGE   %s %s: %s\n", d.Copy, d.Part, d.Text)
	}
	if after.Unhealed == 0 && after.Fault == "" {
		fmt.Fprintln(w, "Well     everything that was read is whole")
	}
	return nil
}
