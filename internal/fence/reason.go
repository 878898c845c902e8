package fence

import (
	"errors"
	"fmt"
	"strings"

	"holdfast"
)

// Code names why a fence is not open. Status, metrics and alerts use these names, so they do not change.
type Code string

// The codes. Those of one account come last.
const (
	Starting     Code = "starting"      // store and mirrors are being compared
	Healing      Code = "healing"       // the store is being filled from a mirror
	Deciding     Code = "deciding"      // an operator's decision is being carried out
	Checking     Code = "checking"      // a request saw what may be false
	MirrorAbsent Code = "mirror-absent" // a mirror's marker is not where it should be
	MirrorSlow   Code = "mirror-slow"   // a mirror does not answer in time, or has not yet answered
	MirrorFailed Code = "mirror-failed" // a mirror answers with errors, or is damaged
	WitnessAway  Code = "witness-away"  // the head witness in the third place is not there, or answers with errors
	Changing     Code = "changing"      // another session with other mirrors, or by other rules, is being begun
	DiskFull     Code = "disk-full"     // store or mirror has no room
	TakenOver    Code = "taken-over"    // another data directory or process claimed the mirrors
	ClaimDamaged Code = "claim-damaged" // nobody can read who claimed the mirrors last
	Unequal      Code = "unequal"       // a command that changes nothing found what a start of the server makes equal
	StoreFailed  Code = "store-failed"  // the store cannot be used, and not be rebuilt yet
	DiskFailed   Code = "disk-failed"   // an fsync failed: this process must end
	Newer        Code = "newer"         // the data is of a newer version of this program
	Stopping     Code = "stopping"      // the process was asked to end
	Other        Code = "other"         // see the detail

	Loss       Code = "loss"       // a witness knows changes that no copy has
	Forked     Code = "fork"       // two copies have different changes under one number
	Mending    Code = "mending"    // its rows in the store are damaged and are being repaired
	Unmended   Code = "unmended"   // they could not be repaired
	Unreadable Code = "unreadable" // a mirror promises changes that cannot be read back
)

// Reason says why a fence is held or closed, for people and for programs.
type Reason struct {
	Code    Code
	Subject string // the mirror or witness it is about; may be empty
	Detail  string // the chain of errors, or numbers: for who looks closer
}

// words is the one place where a reason becomes a sentence and what to do about it. %s is the subject.
var words = map[Code]struct{ sentence, todo string }{
	Starting:     {"starting: comparing store and mirrors", "wait; it goes on by itself"},
	Healing:      {"healing the store from the mirror", "wait; it goes on by itself. Remove nothing"},
	Deciding:     {"an operator's decision is being carried out", "wait; it takes moments"},
	Checking:     {"checking: what was read may be false", "wait; store and mirrors are being compared again"},
	MirrorAbsent: {"mirror %s is absent: it is not mounted, or something else is in its place", "if a mirror is not mounted, mount it; it goes on by itself. Remove nothing, put nothing in its place. docs/runbooks/mirror.md"},
	MirrorSlow:   {"mirror %s does not answer in time: its disk, its mount or the network hangs", "look at that disk, at the mount and at the network; it goes on by itself when the mirror answers. A restart does not help. Remove nothing. docs/runbooks/mirror.md"},
	MirrorFailed: {"mirror %s cannot be used", "look at that disk and at the mount; it goes on by itself when the mirror answers. Remove nothing. docs/runbooks/mirror.md"},
	WitnessAway:  {"the head witness in the third place cannot be used", "mount its disk, or look at it; it goes on by itself. To go on without one: holdfast witness remove. docs/runbooks/witness.md"},
	Changing:     {"mirrors or their policy are being changed", "wait; it takes moments"},
	DiskFull:     {"a disk is full or nearly so", "make room on the disk that is full, not in the data or the mirror; it goes on by itself. docs/runbooks/mirror.md"},
	TakenOver:    {"another server has taken over the mirrors", "leave this one stopped for good: the other one serves now. Only if that one is dead, or was made by mistake: stop it and run holdfast fence adopt --take-over here. docs/runbooks/new-box.md, docs/runbooks/fence.md"},
	ClaimDamaged: {"the newest claim in mirror %s cannot be read, so nobody knows whose the mirror is", "make sure that no other server uses the mirror, then: holdfast fence adopt --take-over. docs/runbooks/fence.md"},
	Unequal:      {"the copies are not equal; a start of the server heals and fills up what it can", "start the server (holdfast serve) and look again. Remove nothing, restore nothing by hand. docs/runbooks/lost-store.md"},
	StoreFailed:  {"the store cannot be used, and could not be rebuilt yet", "remove nothing, restore nothing by hand; phones keep what they have. docs/runbooks/lost-store.md"},
	DiskFailed:   {"a disk failed, this process must restart", "look at the system log for errors of the disk. The service manager starts the server again"},
	Newer:        {"the data was written by a newer version of holdfast", "run that version; nothing is lost"},
	Stopping:     {"shutting down", ""},
	Other:        {"the copies could not be compared", "remove nothing, restore nothing by hand; phones keep what they have. docs/runbooks/lost-store.md"},
	Loss:         {"%s proves that changes were acknowledged which no copy has", "look for a newer copy of store or mirror first; then holdfast fence status, and holdfast fence accept-loss. docs/runbooks/fence.md"},
	Forked:       {"%s and the store have different data under one number", "compare them with holdfast fence diff, then decide with holdfast fence adopt. Both are kept. docs/runbooks/fence.md"},
	Mending:      {"a damaged part of the store is being repaired", "wait; it goes on by itself. See incidents/ and docs/runbooks/scrub.md"},
	Unmended:     {"its rows in the store are damaged and could not be repaired in place", "keep every disk as it is; the store is made anew from the mirrors within the hour if they have everything. docs/runbooks/scrub.md"},
	Unreadable:   {"%s promises changes that cannot be read back", "keep every disk as it is; look for another copy of that mirror first. Then holdfast fence accept-loss. docs/runbooks/fence.md"},
}

// String returns the sentence; it has neither capital nor full stop.
func (r Reason) String() string {
	w, ok := words[r.Code]
	if !ok {
		return r.Detail
	}
	if strings.Contains(w.sentence, "%s") {
		return fmt.Sprintf(w.sentence, r.Subject)
	}
	return w.sentence
}

// Todo says what a person does next; empty if there is nothing to do.
func (r Reason) Todo() string { return words[r.Code].todo }

// Full is the sentence with the detail behind it, for logs and errors.
func (r Reason) Full() string {
	if r.Detail == "" || r.String() == r.Detail {
		return r.String()
	}
	return r.String() + " (" + r.Detail + ")"
}

// Why finds the reason in an error. mirror names the mirror the error came from; empty: none.
func Why(err error, mirror string) Reason {
	r := Reason{Code: Other, Subject: mirror, Detail: err.Error()}
	switch {
	case errors.Is(err, holdfast.ErrFatal):
		r.Code = DiskFailed
	case errors.Is(err, holdfast.ErrNewer):
		r.Code = Newer
	case errors.Is(err, holdfast.ErrFull):
		r.Code = DiskFull
	case mirror != "" && errors.Is(err, holdfast.ErrFenced):
		r.Code = TakenOver
	case mirror != "" && errors.Is(err, holdfast.ErrSlow):
		r.Code = MirrorSlow
	case mirror != "" && errors.Is(err, holdfast.ErrAbsent):
		r.Code = MirrorAbsent
	case mirror != "":
		r.Code = MirrorFailed
	case errors.Is(err, holdfast.ErrCorrupt), errors.Is(err, holdfast.ErrAbsent), errors.Is(err, holdfast.ErrFenced):
		r.Code = StoreFailed
	}
	return r
}
