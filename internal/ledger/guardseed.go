package ledger

import (
	"time"

	"holdfast"
	"holdfast/internal/store"
)

// seed reads back what was lost in a collection in the last minutes before this session. The times are
// those in the changes, and are counted from the newest one: a clock that was set since hides nothing.
func (g *guard) seed(tx *store.Tx, at guardPlace, seq holdfast.Seq, now time.Duration) error {
	if len(g.seeded) >= guardKeys { // begin anew: all is read back where it is needed
		clear(g.seeded)
		clear(g.watched)
		clear(g.past)
	}
	g.seeded[at] = true
	p, err := g.pastOf(tx, at.account, seq, now)
	if err != nil || len(p.stamps) == 0 {
		return err
	}
	lost, err := tx.LossesSince(at.account, at.collection, p.oldest, guardSeedChanges)
	if err != nil {
		return err
	}
	for _, l := range lost {
		st, ok := p.stamps[l.At]
		if !ok {
			continue
		}
		key := guardKey{at, st.Device}
		w := g.watched[key]
		if w == nil {
			w = &watched{last: p.read}
			g.watched[key] = w
		}
		age := max(0, time.Duration(p.newest-st.Time)*time.Millisecond)
		w.count(l.Loss, l.At, p.read-age)
	}
	return g.seedFired(tx, at, p)
}

// pastOf returns the stamps of an account's changes of the last minutes before seq, read once.
func (g *guard) pastOf(tx *store.Tx, a holdfast.AccountID, seq holdfast.Seq, now time.Duration) (*past, error) {
	if p, ok := g.past[a]; ok {
		return p, nil
	}
	const page = 64
	p := &past{stamps: map[holdfast.Seq]store.Stamp{}, read: now}
	size := int64(0)
	for to := seq - 1; to > 0 && len(p.stamps) < guardSeedChanges && size < guardSeedBytes; {
		list, err := tx.Stamps(a, to, page)
		if err != nil {
			return nil, err
		}
		for _, st := range list {
			if len(p.stamps) == 0 {
				p.newest = st.Time
			}
			if time.Duration(p.newest-st.Time)*time.Millisecond > guardWindow {
				list = nil
				break
			}
			p.stamps[st.Seq], p.oldest, size = st, st.Seq, size+st.Bytes
		}
		if len(list) < page {
			break
		}
		to = p.oldest - 1
	}
	if len(g.past) >= 1024 {
		clear(g.past) // of other accounts: they are read again
	}
	g.past[a] = p
	return p, nil
}

// seedFired finds the incidents that were reported in those minutes, so that none is reported twice.
func (g *guard) seedFired(tx *store.Tx, at guardPlace, p *past) error {
	q := g.session.readsOf(tx, holdfast.Server)
	all, err := q.snapshots(at.account, time.UnixMilli(p.newest).Add(-guardWindow))
	if err != nil {
		return err
	}
	for _, s := range all {
		if !s.Automatic || s.Device == nil || s.Time.UnixMilli() > p.newest {
			continue
		}
		who := guardWho{at.account, *s.Device}
		if !p.counted {
			g.may(who, p.read)
		}
		if a := g.busy[who]; a == nil || s.Seq < a.seq {
			g.busy[who] = &active{name: s.Name, seq: s.Seq, last: p.read}
		}
		if s.Collection == at.collection {
			key := guardKey{at, *s.Device}
			if g.watched[key] == nil {
				g.watched[key] = &watched{last: p.read}
			}
			g.watched[key].fired = true
		}
	}
	p.counted = true
	return nil
}
