package main

import (
	"fmt"

	"holdfast/internal/ledger"
	"holdfast/internal/server"
)

type fenceCommand struct {
	Status     fenceStatus `cmd:"" help:"Show what the fence lets through, and why."`
	AcceptLoss fenceAccept `cmd:"" help:"Open an account of which changes are lost for good."`
}

type fenceStatus struct {
	dataFlag
	jsonFlag
}

// Help teaches.
func (fenceStatus) Help() string {
	return `The fence compares the store with every copy before anything is served, and goes on comparing. open: all copies
agree. held: reads are true and served, writes wait. closed: devices are told to wait, until what is true is proven.

Exit code 0: open. 1: not open, or nothing could be found out.

  holdfast fence status --data /srv/holdfast`
}

// Run shows the fence.
func (c *fenceStatus) Run(s *streams) error {
	var st server.Status
	if err := c.call(s, "status", server.Nothing{}, &st); err != nil {
		return err
	}
	if c.JSON {
		err := printJSON(s.out, struct {
			State  string                `json:"state"`
			Reason string                `json:"reason,omitempty"`
			Term   uint64                `json:"term"`
			Closed []ledger.ClosedStatus `json:"closed_accounts,omitempty"`
		}{st.State, st.Reason, st.Term, st.Closed})
		if err != nil {
			return err
		}
		return openOr(&st)
	}
	printFence(s.out, &st)
	fmt.Fprintf(s.out, "          This is start number %d of this server on its mirrors (its term).\n", st.Term)
	for _, m := range st.Mirrors {
		state := m.State
		if state != complete {
			state = "NOT COMPLETE: " + state
		}
		fmt.Fprintf(s.out, "Mirror    %s: %s\n", m.Name, state)
	}
	return openOr(&st)
}
