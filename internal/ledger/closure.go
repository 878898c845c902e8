package ledger

import (
	"fmt"
	"maps"
	"slices"

	"holdfast"
	"holdfast/internal/fence"
)

// closure is why one account's own fence is closed.
type closure struct {
	fence.Reason
	witnesses []fence.Witness // that know what no copy has
}

// lossBy is the closure for which one witness is enough.
func lossBy(w fence.Witness) closure {
	return closure{Reason: fence.Reason{Code: fence.Loss, Subject: w.Source, Detail: fmt.Sprintf("it knows change %d", w.Seq)}, witnesses: []fence.Witness{w}}
}

// shutFor closes an account because of a sync token; the caller holds the lock.
func (l *Ledger) shutFor(w fence.Witness) {
	c, ok := l.shut[w.Account]
	if !ok {
		c = lossBy(w)
	} else {
		c.witnesses = append(slices.Clip(c.witnesses), w)
	}
	l.shut[w.Account] = c
}

// prove adds a witness to what is known of an account that is closed.
func (p *proof) prove(w fence.Witness) {
	c := p.shut[w.Account]
	c.witnesses = append(c.witnesses, w)
	p.shut[w.Account] = c
}

// closures returns the accounts that are closed now.
func (l *Ledger) closures() map[holdfast.AccountID]closure {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return maps.Clone(l.shut)
}

// tellClosures says which accounts closed or opened since old.
func (l *Ledger) tellClosures(old map[holdfast.AccountID]closure) {
	now := l.closures()
	for _, a := range slices.Sorted(maps.Keys(now)) {
		if was, ok := old[a]; !ok || was.Code != now[a].Code {
			l.tellClosed(a, now[a])
		}
	}
	for _, a := range slices.Sorted(maps.Keys(old)) {
		if _, ok := now[a]; !ok {
			l.emit(Event{Kind: EventAccount, Account: a, Text: fmt.Sprintf("Account %d is open again: its devices are served.", a)})
		}
	}
}

func (l *Ledger) tellClosed(a holdfast.AccountID, c closure) {
	l.emit(Event{
		Kind: EventAccount, Account: a, Bad: true, Todo: c.Todo(),
		Text: fmt.Sprintf("Account %d is closed: %s. Its devices are told to wait and keep what they have; the other accounts are served.", a, c.Full()),
	})
}
