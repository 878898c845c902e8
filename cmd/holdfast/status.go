package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"holdfast/internal/fence"
	"holdfast/internal/server"
)

type statusCommand struct {
	dataFlag
	jsonFlag
}

// Help teaches.
func (statusCommand) Help() string {
	return `Shows whether the server runs, what its fence lets through and how every copy is. Without a running server it opens
the data directory itself, compares store and mirrors as a start would, and says what it found.

Exit code 0: the fence is open. 1: it is not, or nothing could be found out.

  holdfast status --data /srv/holdfast
  holdfast status --json --data /srv/holdfast`
}

// errNotOpen makes the exit code of status 1; what is wrong has been printed.
var errNotOpen = errors.New("the fence is not open")

// Run shows the status.
func (c *statusCommand) Run(s *streams) error {
	var st server.Status
	if err := c.call(s, "status", server.Nothing{}, &st); err != nil {
		return err
	}
	print := printStatus
	if c.JSON {
		print = func(w io.Writer, st *server.Status) error { return printJSON(w, st) }
	}
	if err := print(s.out, &st); err != nil {
		return err
	}
	return openOr(&st)
}

func openOr(st *server.Status) error {
	if st.State != fence.Open.String() {
		return errNotOpen
	}
	return nil
}

func printStatus(w io.Writer, st *server.Status) error {
	if st.Running {
		fmt.Fprintf(w, "Server    running, process %d, %s, since %s\n", st.PID, st.Version, day(*st.Started))
		for _, u := range st.URLs {
			fmt.Fprintf(w, "          listening on %s\n", u)
		}
	} else {
		fmt.Fprintf(w, "Server    not running (start it with: holdfast serve --data %s)\n", st.Dir)
	}
	printFence(w, st)
	fmt.Fprintf(w, "Data      %s, %s free on its disk\n", st.Dir, size(st.FreeBytes))
	people := "accounts not known while the fence is closed"
	switch {
	case st.People == 0:
		people = "no accounts yet: holdfast account add NAME"
	case st.People > 0:
		people = plural(st.People, "account", "accounts")
	}
	fmt.Fprintf(w, "          %s, %d changes kept\n", people, st.Changes)
	for _, m := range st.Mirrors {
		fmt.Fprintf(w, "Mirror    %s in %s: %s, %s free\n", m.Name, m.Path, m.State, size(m.FreeBytes))
		if m.SameDevice {
			fmt.Fprintln(w, "          WARNING: it shares the disk of the data; when that disk dies, both die")
		}
	}
	for _, h := range st.Heals {
		fmt.Fprintf(w, "Healed    %s: %s replayed in %s, report in incidents/%s\n", day(h.At), plural(h.Changes, "change", "changes"), h.Took.Round(time.Millisecond), h.Report)
	}
	if st.Foreign > 0 {
		fmt.Fprintf(w, "Devices   %s came with a sync token of another server; was a device set up for another one?\n", plural(st.Foreign, "request", "requests"))
	}
	return nil
}

func printFence(w io.Writer, st *server.Status) {
	fmt.Fprintf(w, "Fence     %s since %s\n          %s\n", st.State, day(st.Since), server.Words(st.State))
	if st.Reason != "" {
		fmt.Fprintf(w, "          Why: %s\n", st.Reason)
	}
	for _, a := range st.Closed {
		fmt.Fprintf(w, "          Account %s alone is closed: %s\n", a.Account, a.Reason)
	}
}
