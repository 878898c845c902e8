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

// ofRows reports whether only rows of the store are damaged: then a scrub may open the account again.
func (c closure) ofRows() bool { return c.Code == fence.Mending || c.Code == fence.Unmended }

// lossBy is the closure for which one witness is enough.
func lossBy(w fence.Witness) closure {
	return closure{Reason: fence.Reason{Code: fence.Loss, Subject: w.Source, Detail: fmt.Sprintf("it knows change %d", w.Seq)}, witnesses: []fence.Witness{w}}
}

// shutFor closes an account because of a sync token; the caller holds the lock.
func (l *Ledger) shutFor(w fence.Witness) {
	c, ok := l.shut[w.Account]
	if !ok || c.ofRows() { // repairing rows brings back nothing that was lost
		c = lossBy(w)
	} else {
		c.witnesses = append(slices.Clip(c.witnesses), w)
	}
	l.shut[w.Account] = c
	l.wakeOf(w.Account)
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

// AccountFence is the fence of one account.
type AccountFence struct {
	Account   holdfast.AccountID `json:"account"`
	State     string             `json:"state"` // that of the server, or closed
	Epoch     holdfast.Epoch     `json:"epoch"` // of the durable head; above 1: a loss was accepted
	Head      holdfast.Seq       `json:"head"`  // durable; 0 if not known
	Code      string             `json:"code,omitempty"`
	Reason    string             `json:"reason,omitempty"`
	Detail    string             `json:"detail,omitempty"`
	Todo      string             `json:"todo,omitempty"`
	Witnesses []LossWitness      `json:"witnesses,omitempty"` // that keep it closed
}

// AccountFences returns the fences of all accounts that are known, by number.
func (l *Ledger) AccountFences() []AccountFence {
	l.mu.RLock()
	defer l.mu.RUnlock()
	all := map[holdfast.AccountID]AccountFence{}
	for a, h := range l.heads {
		all[a] = AccountFence{Account: a, State: l.state.String(), Epoch: h.Epoch, Head: h.Head.Seq}
	}
	for a, c := range l.shut {
		f := all[a]
		f.Account, f.State, f.Code, f.Reason, f.Detail, f.Todo = a, fence.Closed.String(), string(c.Code), c.String(), c.Detail, c.Todo()
		for _, w := range c.witnesses {
			f.Witnesses = append(f.Witnesses, LossWitness{Source: w.Source, Epoch: w.Epoch, Seq: w.Seq, Hash: fmt.Sprintf("%x", w.Prefix)})
		}
		all[a] = f
	}
	var out []AccountFence
	for _, a := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[a])
	}
	return out
}
