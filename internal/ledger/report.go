package ledger

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/fence"
	"holdfast/internal/mirror"
)

// report collects what one proof saw, for the incident report and the status.
type report struct {
	began, healBegan, healEnded time.Time
	storeProblem                error
	damage                      []string // what was found in mirrors, one line each
	changes, blobs              int      // put back into the store
	missingBlobs                int
	refilled                    []string // one line for each mirror that got changes from the store
	lost                        []fence.Witness
	accepted                    []*Loss  // losses that an operator accepted
	settled                     []string // forks, one line each
}

func (r *report) noteMirror(name string, rec *mirror.Recovered) {
	for _, d := range rec.Damage {
		if d.Kind != mirror.Torn {
			r.damage = append(r.damage, fmt.Sprintf("mirror %s: %s", name, d))
		}
	}
}

func (r *report) healed(_ string, changes, blobs int) {
	r.changes += changes
	r.blobs += blobs
}

func (r *report) shipped(name string, n int) {
	if n > 0 {
		r.refilled = append(r.refilled, fmt.Sprintf("mirror %s got %d changes that it did not have from the store", name, n))
	}
}

func (r *report) stray(name string, n int) {
	if n > 0 {
		r.damage = append(r.damage, fmt.Sprintf("mirror %s held %d changes that were never acknowledged and that the store does not have; they stay in its old logs, and are kept as branches (holdfast fence branches)", name, n))
	}
}

// worth reports whether a person should read about it: not after an ordinary start.
func (r *report) worth(shut map[holdfast.AccountID]closure) bool {
	return r.storeProblem != nil || r.changes > 0 || len(r.damage) > 0 || len(r.lost) > 0 || len(r.accepted) > 0 || len(r.settled) > 0 || r.missingBlobs > 0 || len(shut) > 0
}

// writeReport writes incidents/<time>-<what>.md in plain words.
func (l *Ledger) writeReport(r *report, shut map[holdfast.AccountID]closure) error {
	if !r.worth(shut) {
		return nil
	}
	now := l.now().UTC()
	name := now.Format("20060102T150405.000Z") + "-" + r.what(shut) + ".md"
	if err := l.putReport(name, r.text(l, now, shut)); err != nil {
		return err
	}
	if r.changes > 0 || r.storeProblem != nil {
		l.mu.Lock()
		l.heals = append(l.heals, HealStatus{At: now, Took: r.healEnded.Sub(r.healBegan), Changes: r.changes, Report: name})
		l.mu.Unlock()
	}
	l.emitReport(r, name)
	l.log.Error("incident", "report", name, "changes_healed", r.changes, "blobs_healed", r.blobs, "accounts_closed", len(shut))
	return nil
}

// emitReport tells of what was healed, and of what could not be. Closed accounts have events of their own.
func (l *Ledger) emitReport(r *report, name string) {
	todo := "Find out why before it happens again. The report is DIR/incidents/" + name
	switch {
	case r.changes > 0 || r.storeProblem != nil:
		l.emit(Event{Kind: EventHealed, Text: fmt.Sprintf("The store had lost or damaged data and was healed from a mirror: %d changes and %d large bodies came back in %.1f seconds.",
			r.changes, r.blobs, r.healEnded.Sub(r.healBegan).Seconds()), Todo: todo})
	case len(r.damage) > 0:
		l.emit(Event{Kind: EventHealed, Text: fmt.Sprintf("Damage was found in mirrors, in %d places; what was missing was written anew from the store.", len(r.damage)), Todo: todo})
	}
	if r.missingBlobs > 0 {
		l.emit(Event{Kind: EventDamage, Bad: true, Text: fmt.Sprintf("%d large bodies are in no readable copy.", r.missingBlobs), Todo: "Keep the mirror's disk as it is. The report is DIR/incidents/" + name})
	}
}

func (l *Ledger) putReport(name, text string) error {
	path := incidentPath(l.cfg, name)
	if err := durable.MkdirAll(l.cfg.FS, filepath.Dir(path)); err != nil {
		return fmt.Errorf("make incidents directory: %w", err)
	}
	if err := durable.Create(l.cfg.FS, path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write incident report: %w", err)
	}
	return nil
}

func (r *report) what(shut map[holdfast.AccountID]closure) string {
	switch {
	case len(r.accepted) > 0:
		return "accepted"
	case len(shut) > 0:
		return "closed"
	case r.changes > 0 || r.storeProblem != nil:
		return "heal"
	}
	return "damage"
}

func (r *report) text(l *Ledger, now time.Time, shut map[holdfast.AccountID]closure) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Incident of %s\n\n", now.Format("2 January 2006, 15:04:05 UTC"))
	fmt.Fprintf(&b, "Server %s.\n\n## What was found\n\n", l.cfg.Server)
	if r.storeProblem != nil {
		fmt.Fprintf(&b, "- The store could not be used: %s.\n", r.storeProblem)
	} else if r.changes > 0 {
		b.WriteString("- The store was older than the mirror: it had lost changes that were acknowledged.\n")
	}
	for _, d := range r.damage {
		fmt.Fprintf(&b, "- %s.\n", d)
	}
	for _, w := range r.lost {
		fmt.Fprintf(&b, "- Account %d: %s knows change %d, which no copy has.\n", w.Account, w.Source, w.Seq)
	}
	b.WriteString("\n## What was done\n\n- No data was served until store and mirrors had been compared; devices were told to wait (503).\n")
	if r.changes > 0 {
		fmt.Fprintf(&b, "- %d changes and %d large bodies were put back into the store from the mirror in %.1f seconds. Each was checked against its hash chain. ETags and sync tokens are the same as before, so devices notice nothing.\n",
			r.changes, r.blobs, r.healEnded.Sub(r.healBegan).Seconds())
	}
	for _, s := range r.refilled {
		fmt.Fprintf(&b, "- %s.\n", strings.ToUpper(s[:1])+s[1:])
	}
	for _, s := range r.settled {
		fmt.Fprintf(&b, "- %s.\n", strings.ToUpper(s[:1])+s[1:])
	}
	for _, a := range r.accepted {
		a.write(&b)
	}
	if r.storeProblem != nil {
		b.WriteString("- If anything was left of the old store it was moved to incidents/ beside this file; nothing was deleted.\n")
	}
	b.WriteString("\n## What is left to do\n\n")
	for _, a := range r.accepted {
		a.left(&b)
	}
	if len(shut) == 0 && r.missingBlobs == 0 && len(r.accepted) == 0 {
		b.WriteString("- Nothing is missing. Find out why it happened before it happens again: disk errors in the system log, a restore by hand, somebody with access. See docs/runbooks/lost-store.md.\n")
	}
	if r.missingBlobs > 0 {
		fmt.Fprintf(&b, "- %d large bodies are in no readable copy. Keep the mirror's disk as it is; photos may still be on the devices.\n", r.missingBlobs)
	}
	for _, a := range slices.Sorted(maps.Keys(shut)) {
		fmt.Fprintf(&b, "- Account %d stays closed: %s. Its devices keep what they have. See docs/runbooks/lost-store.md before you do anything.\n", a, shut[a].Full())
	}
	return b.String()
}

// reportToken writes the report for an account that a device's sync token closed.
func (l *Ledger) reportToken(w fence.Witness) {
	now := l.now().UTC()
	r := report{lost: []fence.Witness{w}}
	name := fmt.Sprintf("%s-token-account-%d.md", now.Format("20060102T150405.000Z"), w.Account)
	shut := map[holdfast.AccountID]closure{w.Account: lossBy(w)}
	if err := l.putReport(name, r.text(l, now, shut)); err != nil {
		l.log.Error("write incident report", "err", err)
	}
}

// left says in a report what is left to do after a loss was accepted.
func (l *Loss) left(b *strings.Builder) {
	fmt.Fprintf(b, "- The lost changes of account %d are in no copy. What they held may be on its devices, or on an old disk or image: docs/runbooks/fence.md says how it gets back in. Find out why it happened before it happens again.\n", l.Account)
}

// write tells in a report what was accepted.
func (l *Loss) write(b *strings.Builder) {
	fmt.Fprintf(b, "- An operator accepted the loss of account %d. What is there ends at change %d of %s; known to be lost are %d changes after change %d.\n",
		l.Account, l.Head, l.HeadTime.Format("2 January 2006, 15:04:05 UTC"), l.Changes(), l.Common)
	for _, w := range l.Witnesses {
		fmt.Fprintf(b, "  - %s knew change %d of epoch %d (hash %.16s).\n", w.Source, w.Seq, w.Epoch, w.Hash)
	}
	fmt.Fprintf(b, "- Account %d begins a new epoch. Devices that know the lost changes keep what they have, are told what changed since, and are asked to delete nothing that was lost.\n", l.Account)
}
