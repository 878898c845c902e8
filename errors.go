package holdfast

import (
	"errors"
	"fmt"
)

// The errors that cross package borders. Each protocol maps them to its statuses in one function.
var (
	ErrNotFound     = errors.New("not found")
	ErrExists       = errors.New("already exists")
	ErrPrecondition = errors.New("precondition failed")
	ErrInvalid      = errors.New("invalid")
	ErrTooLarge     = errors.New("too large")
	ErrQuota        = errors.New("over quota")
	ErrDenied       = errors.New("denied")
	ErrCorrupt      = errors.New("corrupt")                 // a checksum or chain does not match
	ErrAbsent       = errors.New("absent")                  // a store or mirror without its marker: never the same as empty
	ErrFenced       = errors.New("fenced")                  // a copy is ahead or differs, or another server took over
	ErrNotDurable   = errors.New("not durable")             // a required copy is missing; the write may exist
	ErrFull         = errors.New("disk full")               // store or mirror has no room; nothing was written
	ErrSlow         = errors.New("too slow")                // a mirror or witness did not answer in time; what was asked of it may still happen
	ErrFatal        = errors.New("state unknown")           // an fsync failed or the like: stop writing, exit 75, re-prove from the medium
	ErrNewer        = errors.New("made by a newer version") // of holdfast: run that one
	ErrBusy         = errors.New("busy")                    // too much is asked at once; nothing was done, come again
	ErrToken        = errors.New("sync token unknown")      // not our form, or older than retention
)

// HeadMismatchError says that two copies of an account disagree.
type HeadMismatchError struct {
	Account       AccountID
	Store, Mirror Head
	Where         string // the mirror or witness, for people
}

func (e *HeadMismatchError) Error() string {
	return fmt.Sprintf("account %s: store has %s, %s has %s", e.Account, e.Store, e.Where, e.Mirror)
}

// Unwrap makes a mismatch ErrFenced.
func (e *HeadMismatchError) Unwrap() error { return ErrFenced }
