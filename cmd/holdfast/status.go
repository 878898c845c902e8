package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"holdfast/internal/fence"
	"holdfast/internal/ledger"
	"holdfast/internal/server"
)

type statusCommand struct {
	dataFlag
	jsonFlag
	Quiet bool `short:"q" help:"Print one line for each trouble and nothing else: for cron and monitoring."`
}

// Help teaches.
func (statusCommand) Help() string {
	return `Shows whether the server runs, what its fence lets through and how every copy is. Without a running server it opens
the data directory itself, compares store and mirrors as a start would, and says what it found and what a start would
heal. It changes nothing and claims nothing: it may be run on a copy of a data directory whose server runs elsewhere.

Exit code 0: the fence is open, no account is closed, every copy that the policy wants is complete and answers. 1: not so, or nothing could
be found out. 3: there is no data directory, its disk is not mounted perhaps. That the server does not run is no
trouble here: ask your supervisor, or let --quiet fail together with: curl -fsS http://127.0.0.1:8480/readyz

  holdfast status --data /srv/holdfast
  holdfast status --quiet --data /srv/holdfast || echo "look at it"
  holdfast status --json --data /srv/holdfast`
}

// errTroubles makes the exit code of status 1; what is wrong has been printed.
var errTroubles = errors.New("not everything is as it should be")

// errNotOpen makes the exit code of status 1; what is wrong has been printed.
var errNotOpen = errors.New("the fence is not open")

// errFewer makes the exit code of status 1 while writes are acknowledged with fewer copies than configured.
var errFewer = errors.New("a copy is missing, and writes go on without it (policy degraded)")

// Run shows the status.
func (c *statusCommand) Run(s *streams) error {
	var st server.Status
	if err := c.call(s, "status", server.Nothing{}, &st); err != nil {
		return err
	}
	print := printStatus
	switch {
	case c.JSON:
		print = func(w io.Writer, st *server.Status) error { return printJSON(w, st) }
	case c.Quiet:
		print = printTroubles
	}
	if err := print(s.out, &st); err != nil {
		return err
	}
	if len(st.Troubles()) > 0 {
		return errTroubles
	}
	return nil
}

func printTroubles(w io.Writer, st *server.Status) error {
	for _, t := range st.Troubles() {
		if _, err := fmt.Fprintln(w, t); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}

func openOr(st *server.Status) error {
	if st.State != fence.Open.String() {
		return errNotOpen
	}
	if st.Degraded {
		return errFewer
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
		fmt.Fprintf(w, "Server    not running (start it with: holdfast serve --data %s)\n", shell(st.Dir))
	}
	printFence(w, st)
	fmt.Fprintf(w, "Data      %s, %s free on its disk\n", st.Dir, size(st.FreeBytes))
	changes := plural(int(st.Changes), "change", "changes") + " kept"
	switch {
	case st.People < 0:
		fmt.Fprintln(w, "          accounts not known while the fence is closed")
	case st.People == 0:
		fmt.Fprintf(w, "          %s, no accounts yet (make one with: holdfast account add NAME --data %s)\n", changes, shell(st.Dir))
	default:
		fmt.Fprintf(w, "          %s, %s\n", plural(st.People, "account", "accounts"), changes)
	}
	printPolicy(w, &st.Status)
	for _, m := range st.Mirrors {
		printCopy(w, &m)
	}
	printWitness(w, st.Witness)
	if st.Damaged() {
		fmt.Fprintf(w, "DAMAGE    %s damaged, and no copy can heal it: holdfast scrub --full --data %s\n", plural(st.Scrub.Unhealed, "thing is", "things are"), shell(st.Dir))
	}
	for _, h := range st.Heals {
		fmt.Fprintf(w, "Healed    %s: %s replayed in %s, report in incidents/%s\n", day(h.At), plural(h.Changes, "change", "changes"), h.Took.Round(time.Millisecond), h.Report)
	}
	if st.Foreign > 0 {
		fmt.Fprintf(w, "Devices   %s came with a sync token of another server; was a device set up for another one?\n", plural(st.Foreign, "request", "requests"))
	}
	return nil
}

// complete is the state of a mirror that has everything; any other state is the reason why it has not.
const complete = "complete"

func printCopy(w io.Writer, m *ledger.MirrorStatus) {
	if m.State != complete {
		fmt.Fprintf(w, "Mirror    %s in %s: NOT COMPLETE\n          Why: %s\n", m.Name, m.Path, m.State)
		return
	}
	if m.Silent > 0 {
		fmt.Fprintf(w, "Mirror    %s in %s: DOES NOT ANSWER, its file system hangs; writes wait for it\n", m.Name, m.Path)
		return
	}
	if m.FreeBytes < 0 {
		fmt.Fprintf(w, "Mirror    %s in %s: NOT SEEN at the moment, complete when it was looked at last\n", m.Name, m.Path)
		return
	}
	fmt.Fprintf(w, "Mirror    %s in %s: complete, %s free\n", m.Name, m.Path, size(m.FreeBytes))
	if m.Slow > 0 {
		fmt.Fprintf(w, "          It did not answer in time %s since the start (mirror_timeout)\n", plural(m.Slow, "time", "times"))
	}
	if m.SameDevice {
		fmt.Fprintln(w, "          WARNING: it shares the disk of the data; when that disk dies, both die")
	}
}

// printWitness shows the third place, if there is one.
func printWitness(w io.Writer, third *ledger.WitnessStatus) {
	switch {
	case third == nil:
	case third.State != complete:
		fmt.Fprintf(w, "Witness   in %s: NOT COMPLETE\n          Why: %s\n", third.Path, third.State)
	default:
		fmt.Fprintf(w, "Witness   in %s: complete\n", third.Path)
		if third.SameDevice {
			fmt.Fprintln(w, "          WARNING: it shares a disk with the data or a mirror; put it in a third place")
		}
	}
}

// todo says where a person who was woken up reads on, and what not to do meanwhile.
func todo(st *server.Status) string {
	switch {
	case st.State != fence.Open.String():
		return st.Todo
	case st.Hangs():
		return "look at dmesg and at network mounts: a disk does not answer; holdfast doctor says which mounts there are. docs/runbooks/mirror.md"
	case st.Degraded:
		return "bring the missing mirror back, or replace it: until then one disk may hold the only second copy. docs/runbooks/mirror.md"
	case len(st.Closed) > 0:
		text := "read the newest report in DIR/incidents; the other accounts are served"
		if next := st.Closed[0].Todo; next != "" { // a server of another version may have none
			text += "; " + next
		}
		return text
	case st.Damaged():
		return "move and delete nothing; keep every old disk and image. docs/runbooks/scrub.md"
	}
	return ""
}

func printFence(w io.Writer, st *server.Status) {
	fmt.Fprintf(w, "Fence     %s since %s\n          %s\n", st.State, day(st.Since), server.Means(&st.Status))
	if st.Reason != "" {
		fmt.Fprintf(w, "          Why: %s\n", st.Reason)
	}
	if st.Detail != "" {
		fmt.Fprintf(w, "          Detail: %s\n", st.Detail)
	}
	for _, a := range st.Closed {
		fmt.Fprintf(w, "          Account %s alone is closed: %s\n", a.Number(), a.Reason)
		if a.Detail != "" {
			fmt.Fprintf(w, "          Detail: %s\n", a.Detail)
		}
	}
	if st.Hangs() {
		fmt.Fprintf(w, "          A write has waited for a disk for %s (step %s); others wait behind it.\n", st.StepTook.Round(time.Second), st.Step)
	}
	if t := todo(st); t != "" {
		fmt.Fprintf(w, "To do     %s\n", t)
	}
}
