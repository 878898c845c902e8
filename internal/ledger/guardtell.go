package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/store"
)

// report names a snapshot of the state before an incident, in the transaction that crossed the line, and
// leaves an event for when that is durable. What joins an incident that goes on needs no snapshot of its own
// if all that was lost is in the one there is.
func (g *guard) report(tx *store.Tx, in *incident, b *batch) error {
	now, who := g.session.ledger.elapsed(), guardWho{in.account, in.device}
	a, told := g.busy[who], 0
	if a != nil && now-a.last > guardWindow {
		a = nil
	}
	if a != nil {
		told = a.told
	}
	if (a == nil || in.newest > a.seq) && g.may(who, now) {
		name, err := g.name(tx, in, b)
		if err != nil {
			return err
		}
		a = &active{name: name, seq: in.seq, told: told}
		g.busy[who] = a
	}
	if a == nil { // cannot be: a quiet window gives one back
		return nil
	}
	a.last = now
	if a.told++; a.told <= guardTold {
		b.events = append(b.events, in.event(a.name, b))
	}
	return nil
}

// name makes the record in account 0 and returns the snapshot's name; empty if account 0 cannot be written.
func (g *guard) name(tx *store.Tx, in *incident, b *batch) (string, error) {
	l := g.session.ledger
	if err := l.admit(holdfast.Server); err != nil || in.seq == 0 {
		l.log.Error("a mass change, and no snapshot could be named", "account", in.account.String(), "seq", in.seq.String(), "err", err)
		return "", nil
	}
	hash, err := tx.HashAt(in.account, in.seq)
	if err != nil {
		return "", err
	}
	head, err := tx.Head(in.account)
	if err != nil {
		return "", err
	}
	at := time.UnixMilli(in.time).UTC()
	s := Snapshot{
		Name: massChangePrefix + at.Format(snapshotTime), Account: in.account, Epoch: head.Epoch, Seq: in.seq, Hash: hash.String(), Time: at,
		Why: "the state before " + in.words(), Automatic: true, Device: &in.device, Collection: in.collection,
	}
	r := &request{account: holdfast.Server, fn: func(t *Tx) error {
		free := s.Name
		for n := 2; ; n++ {
			switch _, err := t.snapshotNamed(in.account, free); {
			case errors.Is(err, holdfast.ErrNotFound):
				s.Name = free
				return t.putSnapshot(&s)
			case err != nil:
				return err
			}
			free = fmt.Sprintf("%s-%d", s.Name, n)
		}
	}}
	if err := g.session.run(tx, r, b); err != nil {
		return "", err
	}
	if r.err != nil {
		if errors.Is(r.err, errStoreGone) {
			return "", r.err
		}
		l.log.Error("name a snapshot before a mass change", "account", in.account.String(), "seq", in.seq.String(), "err", r.err)
		return "", nil
	}
	l.log.Warn("mass change", "account", in.account.String(), "device", uint64(in.device), "collection", uint64(in.collection), "lost", in.n, "snapshot", s.Name)
	return s.Name, nil
}

// words says what happened, for people; ids and numbers only.
func (in *incident) words() string {
	who, where := Whom(in.device), fmt.Sprintf("collection %d", in.collection)
	switch {
	case in.whole:
		return fmt.Sprintf("%s deleted %s as a whole, with %d items", who, where, in.n)
	case in.deleted == in.n:
		return fmt.Sprintf("%s deleted %d items of %s within ten minutes", who, in.n, where)
	case in.deleted == 0:
		return fmt.Sprintf("%s overwrote %d items of %s within ten minutes", who, in.n, where)
	}
	return fmt.Sprintf("%s deleted %d items of %s and overwrote %d within ten minutes", who, in.deleted, where, in.n-in.deleted)
}

// event tells a person. The batch is known by then to be durable.
func (in *incident) event(name string, b *batch) Event {
	e := massChange(in.account, in.words(), name)
	if name != "" {
		b.named = append(b.named, snapshotRecord(in.account, name))
	} else {
		e.Text = fmt.Sprintf("%s, in account %d, and may go on. No snapshot could be named; the state before is change %d.", capital(in.words()), in.account, in.seq)
		e.Todo = "find out why account 0 cannot be written: holdfast status. Nothing is deleted from the history meanwhile."
	}
	return e
}

func massChange(a holdfast.AccountID, words, name string) Event {
	return Event{
		Kind: EventMassChange, Bad: true, Account: a,
		Text: fmt.Sprintf("%s, in account %d, and may go on. The state before is kept as snapshot %s; nothing was refused.", capital(words), a, name),
		Todo: fmt.Sprintf("if its owner did not mean it: holdfast device revoke, then holdfast snapshot show and holdfast snapshot undo ACCOUNT %s; holdfast account list has the names", name),
	}
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// tellIncidents emits what a batch found, now that it is acknowledged.
func (l *Ledger) tellIncidents(b *batch) {
	l.mu.Lock()
	for _, name := range b.named {
		l.noteTold(name)
	}
	l.mu.Unlock()
	for _, e := range b.events {
		l.emit(e)
	}
}

// noteTold remembers that a person heard of a snapshot. The caller holds mu.
func (l *Ledger) noteTold(record string) {
	if l.heard == nil || len(l.heard) > 10_000 {
		l.heard = map[string]bool{}
	}
	l.heard[record] = true
}

// tellUntold emits the events of snapshots that were named just before this session and of which this
// process has told nobody: the one before may have died between the two. Rather twice than never.
func (l *Ledger) tellUntold(ctx context.Context) {
	var found []Snapshot
	err := l.View(ctx, holdfast.Server, func(v *View) error {
		c, err := v.Child(holdfast.Root, snapshotsCollection)
		if err != nil {
			return err
		}
		now := l.now()
		for after := ""; ; {
			page, err := v.Resources(c.ID, after, 1000)
			if err != nil || len(page) == 0 {
				return err
			}
			for i := range page {
				age := now.Sub(time.UnixMilli(page[i].Modified))
				if !strings.Contains(page[i].Name, massChangePrefix) || age.Abs() > guardWindow {
					continue
				}
				s, err := v.decodeSnapshot(&page[i])
				if err != nil {
					return err
				}
				if s.Automatic && s.Device != nil {
					found = append(found, *s)
				}
			}
			after = page[len(page)-1].Name
		}
	})
	if err != nil && !errors.Is(err, holdfast.ErrNotFound) {
		l.log.Warn("look for snapshots named lately", "err", err)
	}
	for _, s := range found {
		record := snapshotRecord(s.Account, s.Name)
		l.mu.Lock()
		known := l.heard[record]
		l.noteTold(record)
		l.mu.Unlock()
		if !known {
			l.emit(massChange(s.Account, strings.TrimPrefix(s.Why, "the state before "), s.Name))
		}
	}
}
