package server

import (
	"slices"
	"sync"
	"time"

	"holdfast/internal/fence"
	"holdfast/internal/ledger"
)

// PublicEvent is something that everybody may know to have happened.
type PublicEvent struct {
	At   time.Time `json:"at"`
	Kind string    `json:"kind"` // of ledger.EventKind
	What string    `json:"what"` // in words: never the event's own, which may name directories
}

const maxHistory = 10 // events

// history is what happened since the start, newest first.
type history struct {
	mu     sync.Mutex
	events []PublicEvent
}

// add keeps an event; it never blocks. A heal that tells of its progress is one event.
func (h *history) add(e ledger.Event) {
	what := publicWords(e)
	if what == "" {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.events) > 0 && h.events[0].What == what {
		return
	}
	h.events = slices.Insert(h.events, 0, PublicEvent{e.At.UTC().Truncate(time.Second), string(e.Kind), what})
	h.events = h.events[:min(len(h.events), maxHistory)]
}

// list returns a copy.
func (h *history) list() []PublicEvent {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]PublicEvent{}, h.events...)
}

// publicWords says what everybody may know of an event; empty: nothing. What one device does is its owner's.
func publicWords(e ledger.Event) string {
	bad, good := "", ""
	switch e.Kind {
	case ledger.EventFence:
		switch e.State {
		case fence.Open.String():
			return "The fence opened: reading and writing work."
		case fence.Held.String():
			return "The fence is held: reading works, writing has to wait."
		}
		return "The fence closed: devices are told to wait."
	case ledger.EventAccount:
		bad, good = "An account was closed until its data is proven.", "An account was opened again."
	case ledger.EventHealed:
		bad, good = "A copy was damaged and could not be made whole.", "A copy was made whole from another."
	case ledger.EventMirror:
		bad, good = "A mirror is not complete.", "A mirror is complete, or was added or removed."
	case ledger.EventDamage:
		bad, good = "Damage was found in a copy; nothing false is served.", "Damage in a copy is gone."
	}
	if e.Bad {
		return bad
	}
	return good
}
