package ledger

import (
	"time"

	"holdfast"
)

// EventKind says what happened.
type EventKind string

// The kinds of events. Metrics count them by these names, so they do not change.
const (
	EventFence      EventKind = "fence"       // the fence opened, or is held or closed; Text says which and why
	EventAccount    EventKind = "account"     // one account's own fence closed, or opened again
	EventHealed     EventKind = "healed"      // a copy was made whole from another
	EventMirror     EventKind = "mirror"      // a mirror joined, was left out, came back or was removed
	EventDamage     EventKind = "damage"      // a copy holds what is false, and it could not be healed yet
	EventMassChange EventKind = "mass-change" // a device deleted or overwrote much at once; a snapshot of before was named
)

// Event is something that a person may have to hear of. It holds ids, numbers and words for people; no
// names, contents or addresses.
type Event struct {
	At      time.Time
	Kind    EventKind
	State   string             // of the fence when it happened: open, held, closed
	Bad     bool               // somebody must look; false: it is good news, or for the record
	Account holdfast.AccountID // of which it tells; EventAccount and EventMassChange only
	Text    string             // one or two sentences for a person
	Todo    string             // what that person does next; may be empty
}

// emit hands an event to whoever listens. It is called without the ledger's lock.
func (l *Ledger) emit(e Event) {
	if l.cfg.Notify == nil {
		return
	}
	if e.At.IsZero() {
		e.At = l.now()
	}
	if e.State == "" {
		l.mu.RLock()
		e.State = l.state.String()
		l.mu.RUnlock()
	}
	l.cfg.Notify(e)
}

// observe hands the duration of one step of the write path to whoever measures: commit, append, look
// (at the claims), or ack (from Update's call to its return).
func (l *Ledger) observe(step string, since time.Time) {
	if l.cfg.Observe != nil {
		l.cfg.Observe(step, time.Since(since))
	}
}
