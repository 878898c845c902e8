package ledger

import (
	"crypto/rand"
	"time"

	"holdfast"
	"holdfast/internal/store"
)

// hooks let the simulator decide what runs next, and plant a bug. All of them are zero in a real ledger.
type hooks struct {
	gate    func(where string)                             // may block; called where a goroutine of the ledger wakes, before it touches a disk
	proof   func()                                         // a proof begins
	random  func(p []byte)                                 // draws the random bits of a term; nil = crypto/rand
	store   func(cfg *store.Config)                        // changes how the store is opened
	attempt func(by holdfast.DeviceID, head holdfast.Head) // a change is about to be committed
	fault   func(step string) error                        // as Ledger.fault, from the first moment on
	plant   plant

	after func(path string, d time.Duration) <-chan time.Time // makes the timers of what waits for a mirror; nil = package time's
}

// plant is one bug on purpose: what the models (rules R1-R12) and the fault matrix say must not be done. The
// simulator must catch each of them, or it proves nothing.
type plant uint8

const (
	noPlant       plant = iota
	noClaim             // R1: another's claim is no reason to stop at a start
	readThenClaim       // R1, F10: the mirrors are read before the claim
	checkEarly          // R3, F10: the claims are read before the append, not after
	noCheck             // R3: the claims are not read
	noLease             // R5: a read does not look at the claims
	noReadCheck         // R8: a snapshot is not compared with the durable head
	anyHead             // R9: a commit does not compare the store's head with the last one committed
	noDrain             // R9: a closing fence does not wait for the shipper
	serveEarly          // R10: a restarted process serves before the tail is shipped
	refuseEarly         // R11: a refusal does not wait for the state it was judged by
	oneMirrored         // R12: a mirror that returns is not refilled with what another has
	readOne             // R7: the first mirror alone is believed
	ackEarly            // L2: acknowledged before the mirrors have it
	exposeEarly         // L3: shown when the store has it
	eagerHeads          // the head files name what is not durable
	blobLate            // L7: a blob is not in the mirrors before its change
	redo                // a tail that was not shipped is done a second time
	tokenUnknown        // F4: a token ahead of the head gets valid-sync-token
	absentIsNew         // F2: an absent mirror is taken for a new one
	healSkips           // L5: a heal leaves an operation out
	emptyListing        // F3: the listing of an absent store is empty
)

func (l *Ledger) planted(p plant) bool { return l.cfg.hooks.plant == p }

func (l *Ledger) gate(where string) {
	if l.cfg.hooks.gate != nil {
		l.cfg.hooks.gate(where)
	}
}

func (h *hooks) draw(p []byte) {
	if h.random != nil {
		h.random(p)
		return
	}
	_, _ = rand.Read(p) // crypto/rand.Read never returns an error
}
