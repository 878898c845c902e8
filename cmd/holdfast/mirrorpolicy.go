package main

import (
	"fmt"
	"io"

	"holdfast/internal/ledger"
	"holdfast/internal/server"
)

type mirrorPolicy struct {
	dataFlag
	jsonFlag
	Policy string `arg:"" optional:"" help:"strict or degraded; without it the policy is shown."`
	Copies string `placeholder:"K" help:"How many mirrors must have a change before it is acknowledged: a number, or all."`
	Yes    bool   `help:"Do not ask before degraded."`
}

// Help teaches.
func (mirrorPolicy) Help() string {
	return `Shows or changes what happens while a mirror is away. It is written into holdfast.conf and holds at once.

strict (the default): devices wait with what they want to send until enough mirrors are complete. With --copies all those are
all of them; with fewer, as many may be away as still leave a majority and every acknowledged change readable.
degraded: writes go on with fewer copies, never with none. Until the mirror is back, one more failure can lose what was
acknowledged meanwhile. Status, page, log and alerts say so all the time, and holdfast status ends with code 1.

Exit code 0: done. 3: refused.

  holdfast mirror policy --data /srv/holdfast
  holdfast mirror policy strict --copies 2 --data /srv/holdfast
  holdfast mirror policy degraded --data /srv/holdfast`
}

// Run shows or changes the policy.
func (c *mirrorPolicy) Run(s *streams) error {
	if _, err := ledger.ParsePolicy(c.Policy); err != nil {
		return fmt.Errorf("%w: %w", err, errUsage)
	}
	if c.Policy == string(ledger.Degraded) && !c.Yes {
		if err := confirmDegraded(s); err != nil {
			return err
		}
	}
	var a server.MirrorAnswer
	if err := c.call(s, "mirror/policy", server.MirrorRequest{Policy: c.Policy, Copies: c.Copies}, &a); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(s.out, struct {
			Policy   string `json:"policy"`
			Copies   int    `json:"copies"`
			Live     int    `json:"live"`
			Degraded bool   `json:"degraded"`
		}{a.Status.Policy, a.Status.Copies, a.Status.Live, a.Status.Degraded})
	}
	printPolicy(s.out, &a.Status)
	return nil
}

// confirmDegraded asks a person for the word.
func confirmDegraded(s *streams) error {
	return confirm(s, "With policy degraded a change is acknowledged although a mirror is away. If another disk fails before it is back,\n"+
		"what was acknowledged meanwhile can be lost.", string(ledger.Degraded), "not confirmed, the policy is as it was")
}

// printPolicy shows the policy, and whether it is kept.
func printPolicy(w io.Writer, st *ledger.Status) {
	kept := ""
	if st.Degraded {
		kept = fmt.Sprintf("\n          A COPY IS MISSING: %d of %d copies beside the store are complete, and writes go on", st.Live, st.Copies)
	}
	means := "writes wait while one of them is away"
	if st.Policy == string(ledger.Degraded) {
		means = "writes go on with fewer, never with none"
	}
	fmt.Fprintf(w, "Policy    %s: %s beside the store, %s%s\n", st.Policy, plural(st.Copies, "copy", "copies"), means, kept)
}
