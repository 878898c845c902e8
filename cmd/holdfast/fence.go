package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"holdfast/internal/ledger"
	"holdfast/internal/server"
)

type fenceCommand struct {
	Status     fenceStatus   `cmd:"" help:"Show what the fence lets through, and why."`
	Diff       fenceDiff     `cmd:"" help:"Show what each copy of an account has that another has not."`
	AcceptLoss fenceAccept   `cmd:"" help:"Open an account of which changes are lost for good."`
	Adopt      fenceAdopt    `cmd:"" help:"Choose which of two histories goes on, or take the mirrors over."`
	Branches   fenceBranches `cmd:"" help:"List and export histories that did not go on."`
}

type fenceStatus struct {
	dataFlag
	jsonFlag
}

// Help teaches.
func (fenceStatus) Help() string {
	return `The fence compares the store with every copy before anything is served, and goes on comparing. open: all copies
agree. held: reads are true and served, writes wait. closed: devices are told to wait, until what is true is proven.

Shows every account that is closed alone, what proves it, in which epoch each account is (above 1: a loss was
accepted), and the branches that were kept. docs/runbooks/fence.md

Exit code 0: open, and no account is closed. 1: not so, or nothing could be found out.

  holdfast fence status --data /srv/holdfast`
}

// Run shows the fence.
func (c *fenceStatus) Run(s *streams) error {
	var st server.FenceStatus
	if err := c.call(s, "fence/status", server.Nothing{}, &st); err != nil {
		return err
	}
	if c.JSON {
		err := printJSON(s.out, struct {
			State    string                `json:"state"`
			Code     string                `json:"code,omitempty"`
			Reason   string                `json:"reason,omitempty"`
			Detail   string                `json:"detail,omitempty"`
			Term     uint64                `json:"term"`
			Closed   []ledger.ClosedStatus `json:"closed_accounts,omitempty"`
			Fences   []server.FenceAccount `json:"fences"`
			Branches []ledger.Branch       `json:"branches,omitempty"`
			Claims   []ledger.Claimant     `json:"claimed_by,omitempty"`
		}{st.State, st.Code, st.Reason, st.Detail, st.Term, st.Closed, st.Fences, st.Branches, st.Claimants})
		return errors.Join(err, allOpen(&st))
	}
	printFence(s.out, &st.Status)
	fmt.Fprintf(s.out, "          This is start number %d of this server on its mirrors (its term).\n", st.Term)
	for _, m := range st.Mirrors {
		state := m.State
		if state != complete {
			state = "NOT COMPLETE: " + state
		}
		fmt.Fprintf(s.out, "Mirror    %s: %s\n", m.Name, state)
	}
	for _, k := range st.Claimants {
		fmt.Fprintf(s.out, "Claim     of mirror %s: %s\n          %s\n", k.Mirror, k.Term, k.Words)
	}
	for i := range st.Fences {
		printAccountFence(s.out, &st.Fences[i])
	}
	for _, d := range st.Devices {
		fmt.Fprintf(s.out, "Device    %d of account %s came %s with a sync token of another server; was it set up for another one?\n", d.Device, d.Account, plural(d.Times, "time", "times"))
	}
	if n := len(st.Branches); n > 0 {
		fmt.Fprintf(s.out, "Branches  %s kept: holdfast fence branches --data %s\n", plural(n, "branch is", "branches are"), shell(c.Data))
	}
	return allOpen(&st)
}

func allOpen(st *server.FenceStatus) error {
	if len(st.Closed) > 0 {
		return errNotOpen
	}
	return openOr(&st.Status)
}

func printAccountFence(w io.Writer, f *server.FenceAccount) {
	name := fmt.Sprintf("Account   %d", f.Account)
	if f.Name != "" {
		name += " (" + f.Name + ")"
	}
	head := fmt.Sprintf("change %d", f.Head)
	if f.Head == 0 {
		head = "head not known"
	}
	fmt.Fprintf(w, "%s: %s, %s, epoch %d\n", name, f.State, head, max(f.Epoch, 1))
	for _, k := range f.Witnesses {
		fmt.Fprintf(w, "          %s knows change %d of epoch %d (hash %.16s)\n", k.Source, k.Seq, k.Epoch, k.Hash)
	}
	if f.Todo != "" {
		fmt.Fprintf(w, "          To do: %s\n", f.Todo)
	}
}

type fenceDiff struct {
	dataFlag
	jsonFlag
	Account string `arg:"" help:"Name or number of the account."`
}

// Help teaches.
func (fenceDiff) Help() string {
	return `Compares the copies of one account, change by change, and lists what each has that another has not: number, hash,
time, device, and the resources by collection and name. It changes nothing. It reads every mirror whole.

  holdfast fence diff alice --data /srv/holdfast`
}

// Run compares.
func (c *fenceDiff) Run(s *streams) error {
	var d server.FenceDiff
	if err := c.call(s, "fence/diff", server.FenceRequest{Account: c.Account}, &d); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(s.out, d)
	}
	fmt.Fprintf(s.out, "Account %d %s: all copies have changes 1 to %d in common.\n", d.Account, d.Name, d.Common)
	for i := range d.Copies {
		printDiffCopy(s.out, &d, &d.Copies[i])
	}
	for _, b := range d.Branches {
		fmt.Fprintf(s.out, "Branch %s: changes %d to %d of %s, %s\n", b.Name, b.From, b.To, b.Source, b.Why)
	}
	return nil
}

func printDiffCopy(w io.Writer, d *server.FenceDiff, k *ledger.DiffCopy) {
	name := k.Name
	if name != "store" {
		name = "mirror " + name
	}
	fmt.Fprintf(w, "\n%s ends at change %d, epoch %d (hash %.16s)\n", strings.ToUpper(name[:1])+name[1:], k.Head, k.Epoch, k.Hash)
	if k.Error != "" {
		fmt.Fprintf(w, "  it could not be read to its end: %s\n", k.Error)
	}
	if k.Total == 0 {
		fmt.Fprintf(w, "  nothing that another copy has not\n")
	}
	for _, c := range k.Changes {
		fmt.Fprintf(w, "  change %d  hash %.16s  %s  term %d  device %d\n", c.Seq, c.Hash, day(c.Time), c.Term, c.Device)
		for _, o := range c.Ops {
			fmt.Fprintf(w, "    %s\n", o)
		}
	}
	if more := k.Total - len(k.Changes); more > 0 {
		fmt.Fprintf(w, "  and %s\n", plural(more, "more change", "more changes"))
	}
}

type fenceAdopt struct {
	dataFlag
	Account  string `arg:"" optional:"" help:"Name or number of the account."`
	From     string `placeholder:"COPY" help:"Whose history goes on: store, or the name of a mirror."`
	TakeOver bool   `help:"Claim the mirrors although another server claimed them last."`
	Claim    string `placeholder:"CLAIM" help:"With --take-over: only if this is still the last claim (see: holdfast fence status)."`
	Yes      bool   `help:"Do not ask."`
}

// Help teaches.
func (fenceAdopt) Help() string {
	return `Two histories: an account is closed because two copies have different changes under one number. Compare them
(holdfast fence diff) and choose the one that goes on. What the other has beyond the common changes is kept as a branch
(holdfast fence branches) and can be exported as plain files. Devices that know it lose nothing: they keep what they
have, and nobody is told of a deletion.

  holdfast fence adopt alice --from store --data /srv/holdfast
  holdfast fence adopt alice --from mirror --data /srv/holdfast

Another server: the mirrors were claimed last by another data directory, or nobody can read by whom. Make sure that the
other server is dead or stopped for good; two that take over from each other stop each other. Then this directory
claims them again. What the other server wrote is taken from the mirrors first: nothing of it is lost. The command shows
the claims and takes over from these only: if a third server claims the mirrors meanwhile, nothing is done.

  holdfast fence adopt --take-over --data /srv/holdfast
  holdfast fence adopt --take-over --claim 0000000000000009-5f3a11c0d2e4b687 --yes --data /srv/holdfast

Exit code 0: done. 1: it failed. 3: not confirmed. docs/runbooks/fence.md`
}

// Run carries out the decision.
func (c *fenceAdopt) Run(s *streams) error {
	switch {
	case c.TakeOver && (c.Account != "" || c.From != ""):
		return fmt.Errorf("--take-over is about all accounts: %w", errUsage)
	case !c.TakeOver && c.Claim != "":
		return fmt.Errorf("--claim goes with --take-over: %w", errUsage)
	case !c.TakeOver && (c.Account == "" || c.From == ""):
		return fmt.Errorf("name an account and --from store or a mirror: %w", errUsage)
	case c.TakeOver:
		return c.takeOver(s)
	}
	if err := c.ask(s, fmt.Sprintf("The history of %s goes on for account %s; the other one becomes a branch.", c.From, c.Account)); err != nil {
		return err
	}
	if err := c.adopt(s, server.FenceAdopt{Account: c.Account, From: c.From}); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "The history of %s goes on. What the other one had: holdfast fence branches %s --data %s\n", c.From, c.Account, shell(c.Data))
	return nil
}

func (c *fenceAdopt) ask(s *streams, question string) error {
	if c.Yes {
		return nil
	}
	return confirm(s, question, "adopt", "nothing was done; --yes does it without a question")
}

func (c *fenceAdopt) adopt(s *streams, in server.FenceAdopt) error {
	return inDoubt(c.call(s, "fence/adopt", in, &server.Nothing{}), "holdfast fence status --data "+shell(c.Data))
}

// takeOver shows who claimed the mirrors, and takes them over from these claims only.
func (c *fenceAdopt) takeOver(s *streams) error {
	var st server.FenceStatus
	if err := c.call(s, "fence/status", server.Nothing{}, &st); err != nil {
		return err
	}
	in := server.FenceAdopt{TakeOver: true}
	for _, k := range st.Claimants {
		fmt.Fprintf(s.err, "Mirror %s: %s\n", k.Mirror, k.Words)
		if c.Claim != "" && c.Claim != k.Term {
			return fmt.Errorf("the last claim of mirror %s is %s, not %s; nothing was done: %w", k.Mirror, k.Term, c.Claim, errRefused)
		}
		in.Claims = append(in.Claims, k.Term)
	}
	if len(in.Claims) > 0 { // else there is nothing to ask about, and the answer says so
		if err := c.ask(s, "Is that server dead or stopped for good? This one takes its mirrors over."); err != nil {
			return err
		}
	}
	if err := c.adopt(s, in); err != nil {
		return err
	}
	fmt.Fprintln(s.out, "The mirrors belong to this directory again; the fence is open.")
	return nil
}

type fenceBranches struct {
	dataFlag
	jsonFlag
	Account string `arg:"" optional:"" help:"Name or number of an account; without it all."`
	Logs    bool   `help:"Read the logs of all mirrors first, whole, for what no branch has yet."`
	Export  string `placeholder:"BRANCH" help:"Write what this branch has as plain files."`
	To      string `placeholder:"DIR" help:"Where to: a directory that is missing or empty."`
}

// Help teaches.
func (fenceBranches) Help() string {
	return `A branch is the end of a history that did not go on: changes that one copy had and another history replaced. It is
kept in DIR/branches and never deleted. Export writes its contacts, events and files under their own names, in a
directory for each collection, with a listing of every change.

A server that had lost the mirrors to another one may have written to its log once more. Nobody was ever told of that, and
it lies in the old log only ("holdfast mirror check" counts it). --logs reads all logs and keeps it as branches, too.

  holdfast fence branches --data /srv/holdfast
  holdfast fence branches --logs --data /srv/holdfast
  holdfast fence branches alice --data /srv/holdfast
  holdfast fence branches --export BRANCH --to ./branch --data /srv/holdfast`
}

// Run lists or exports.
func (c *fenceBranches) Run(s *streams) error {
	if (c.Export == "") != (c.To == "") || c.Export != "" && c.Account != "" {
		return fmt.Errorf("--export BRANCH and --to DIR go together: %w", errUsage)
	}
	if c.Export != "" {
		return c.export(s)
	}
	var all []ledger.Branch
	if err := c.call(s, "fence/branches", server.FenceRequest{Account: c.Account, Logs: c.Logs}, &all); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(s.out, all)
	}
	if len(all) == 0 {
		fmt.Fprintln(s.out, "There are no branches.")
	}
	for _, b := range all {
		if b.Damage != "" {
			fmt.Fprintf(s.out, "%s\n  DAMAGED: %s\n", b.Name, b.Damage)
			continue
		}
		fmt.Fprintf(s.out, "%s\n  account %d, changes %d to %d of %s, made %s to %s\n  kept %s: %s\n",
			b.Name, b.Account, b.From, b.To, b.Source, day(b.First), day(b.Last), day(b.Kept), b.Why)
	}
	return nil
}

func (c *fenceBranches) export(s *streams) error {
	dir, err := filepath.Abs(c.To)
	if err != nil {
		return fmt.Errorf("find %s: %w", c.To, err)
	}
	var out server.FenceExported
	if err := c.call(s, "fence/export", server.FenceExport{Branch: c.Export, Dir: dir}, &out); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s written to %s\n", plural(out.Files, "file", "files"), c.To)
	if out.Error != "" {
		return fmt.Errorf("not all of it: %s", out.Error)
	}
	return nil
}
