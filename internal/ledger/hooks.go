package ledger

import (
	"crypto/rand"

	"holdfast/internal/store"
)

// hooks let the simulator decide what runs next, and plant bugs. All of them are zero in a real ledger.
type hooks struct {
	gate   func(where string)      // may block; called where a goroutine of the ledger wakes, before it touches a disk
	proof  func()                  // a proof begins
	random func(p []byte)          // draws the random bits of a term; nil = crypto/rand
	store  func(cfg *store.Config) // changes how the store is opened
	fault  func(step string) error // as Ledger.fault, from the first moment on
	plant                          // bugs
}

// plant are planted bugs: what the models (rules R1-R12) and the fault matrix say must not be done. The simulator
// must catch each of them, or it proves nothing.
type plant struct {
	noClaim bool
}

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
