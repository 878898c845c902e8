package ledger

import (
	"errors"
	"fmt"
	"time"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/store"
)

// The mass-change guard (A3): one device that deletes or overwrites more than max(20, 10 %) of a
// collection, or all of one with three resources or more, or a whole collection, within ten minutes. The
// state before the first of those changes becomes a named snapshot, in the very transaction that crossed
// the line, and a person is told. Nothing is refused.
//
// It counts in memory, in the committer; what it forgets at an end it reads back from the history, one
// collection at a time, when that collection loses something again. Time is the machine's monotonic clock:
// no setting of the wall clock makes ten minutes longer or shorter.
const (
	guardWindow = 10 * time.Minute
	guardSlot   = 30 * time.Second // how finely the window slides
	guardFew    = 20               // of a collection that many or fewer may go, unless it is all
	guardAll    = 3                // the smallest collection that can be lost as a whole
	guardVisit  = 256              // members looked at to see whether all are gone
	guardEras   = 4                // per device and collection
	guardKeys   = 1 << 14          // devices and collections watched at once
	guardTold   = 5                // events for one device of one account while it goes on
	guardNamed  = 8                // snapshots for one device at once; one more for each window that passes

	guardSeedChanges = 2048     // of an account, read back after a start
	guardSeedBytes   = 32 << 20 // of their payloads
)

// guard is owned by the committer of one session.
type guard struct {
	session *session
	watched map[guardKey]*watched
	seeded  map[guardPlace]bool
	past    map[holdfast.AccountID]*past
	busy    map[guardWho]*active
	spent   map[guardWho]*spent
}

type guardPlace struct {
	account    holdfast.AccountID
	collection holdfast.CollectionID
}

type guardKey struct {
	guardPlace
	device holdfast.DeviceID
}

type guardWho struct {
	account holdfast.AccountID
	device  holdfast.DeviceID
}

// active is an incident of one device that goes on: more collections may join its snapshot.
type active struct {
	name string // of the snapshot
	seq  holdfast.Seq
	last time.Duration
	told int
}

// spent is how many snapshots were named because of a device, less one for each window since. A device that
// makes things and takes them away again, for ever, is no reason to fill account 0. The first incident after a
// quiet window always has a snapshot: a window gives one back.
type spent struct {
	n  int
	at time.Duration // up to when windows were counted
}

// may reports whether one more snapshot may be named, and counts it.
func (g *guard) may(who guardWho, now time.Duration) bool {
	s := g.spent[who]
	if s == nil {
		if len(g.spent) >= guardKeys {
			clear(g.spent)
		}
		s = &spent{at: now}
		g.spent[who] = s
	}
	back := int((now - s.at) / guardWindow)
	if s.at += time.Duration(back) * guardWindow; s.n <= back {
		s.n, s.at = 0, now
	} else {
		s.n -= back
	}
	if s.n >= guardNamed {
		return false
	}
	s.n++
	return true
}

// past is what an account did in the last minutes before it was first looked at.
type past struct {
	stamps  map[holdfast.Seq]store.Stamp
	oldest  holdfast.Seq
	newest  int64         // milliseconds since 1970 UTC: when the newest was made, by the wall clock of then
	read    time.Duration // when this was read
	counted bool          // the snapshots of those minutes are in spent
}

// watched is what one device has taken out of one collection lately.
type watched struct {
	eras  []*era
	fired bool
	last  time.Duration
}

// era counts losses of bodies that were there before its first change, each member once: what replaces
// one is younger than that. A member that was made or changed since belongs to a later era.
type era struct {
	slots  []guardCount
	next   int          // losses at which to look how many there were
	newest holdfast.Seq // of the bodies lost
}

type guardCount struct {
	slot    int64
	first   holdfast.Seq
	n       int
	deleted int
}

// incident is a line that was crossed.
type incident struct {
	guardKey
	seq     holdfast.Seq // the last one before it began
	n       int          // losses so far
	deleted int          // of them
	whole   bool
	newest  holdfast.Seq // of the bodies lost
	time    int64        // of the change that crossed the line, milliseconds since 1970 UTC
}

func newGuard(s *session) *guard {
	return &guard{
		session: s, watched: map[guardKey]*watched{}, seeded: map[guardPlace]bool{},
		past: map[holdfast.AccountID]*past{}, busy: map[guardWho]*active{}, spent: map[guardWho]*spent{},
	}
}

func (l *Ledger) elapsed() time.Duration {
	if l.cfg.elapsed != nil {
		return l.cfg.elapsed()
	}
	return time.Since(l.started)
}

// guardChange judges what a change that was just applied took away, and names a snapshot of before if it
// is too much. What the server itself does to bring things back (quiet) is not judged.
func (s *session) guardChange(tx *store.Tx, r *request, c *frame.Change, b *batch) error {
	if len(tx.Losses()) == 0 || c.Account == holdfast.Server || r.quiet {
		return nil
	}
	if s.guard == nil {
		s.guard = newGuard(s)
	}
	found, err := s.guard.judge(tx, c)
	switch {
	case errors.Is(err, holdfast.ErrCorrupt) && !errors.Is(err, holdfast.ErrFatal):
		// The history is damaged, not this change: it goes on, and the account is proven and repaired as after any read.
		err = s.ledger.readFailed(c.Account, fmt.Errorf("count what was taken away: %w", err))
		s.ledger.log.Error("the mass-change guard cannot read the history", "account", c.Account.String(), "err", err)
	case err != nil:
		return fmt.Errorf("count what device %d took away: %w", c.Device, err)
	}
	for i := range found {
		if err := s.guard.report(tx, &found[i], b); err != nil {
			return err
		}
	}
	return nil
}

// judge counts the losses of one change.
func (g *guard) judge(tx *store.Tx, c *frame.Change) ([]incident, error) {
	now := g.session.ledger.elapsed()
	var found []incident
	for _, l := range tx.Losses() {
		key := guardKey{guardPlace{c.Account, l.Collection}, c.Device}
		if l.Whole && l.Members == 0 {
			continue
		}
		w, err := g.find(tx, key, c.Seq, now)
		if err != nil {
			return nil, err
		}
		w.last = now
		if a := g.busy[guardWho{c.Account, c.Device}]; a != nil && now-a.last <= guardWindow {
			a.last = now
		}
		if l.Whole {
			if !w.fired {
				w.fired = true
				n := int(l.Members)
				found = append(found, incident{guardKey: key, seq: w.start(c.Seq) - 1, n: n, deleted: n, whole: true, newest: c.Seq, time: c.Time})
			}
			continue
		}
		for _, e := range w.count(l, c.Seq, now) {
			if w.fired { // known: it costs nothing more
				break
			}
			over, err := g.over(tx, key, e)
			if err != nil {
				return nil, err
			}
			if over {
				w.fired = true
				n, deleted := e.total()
				found = append(found, incident{guardKey: key, seq: e.start() - 1, n: n, deleted: deleted, newest: e.newest, time: c.Time})
			}
		}
	}
	return found, nil
}

// find returns what is watched of a device and a collection, without what is older than the window.
func (g *guard) find(tx *store.Tx, key guardKey, seq holdfast.Seq, now time.Duration) (*watched, error) {
	if !g.seeded[key.guardPlace] {
		if err := g.seed(tx, key.guardPlace, seq, now); err != nil {
			return nil, err
		}
	}
	w := g.watched[key]
	if w == nil {
		if len(g.watched) >= guardKeys {
			g.forget(now)
		}
		w = &watched{}
		g.watched[key] = w
	}
	w.expire(now)
	return w, nil
}

// forget drops what has been quiet for the window; if all is busy, whatever comes first.
func (g *guard) forget(now time.Duration) {
	for k, w := range g.watched {
		if now-w.last > guardWindow {
			delete(g.watched, k)
		}
	}
	for k, a := range g.busy {
		if now-a.last > guardWindow {
			delete(g.busy, k)
		}
	}
	for k := range g.watched {
		if len(g.watched) < guardKeys {
			break
		}
		delete(g.watched, k)
	}
}

func slotOf(d time.Duration) int64 { return int64(d / guardSlot) }

func (w *watched) expire(now time.Duration) {
	oldest := slotOf(now) - int64(guardWindow/guardSlot)
	kept := w.eras[:0]
	for _, e := range w.eras {
		for len(e.slots) > 0 && e.slots[0].slot < oldest {
			e.slots = e.slots[1:]
			e.next = 0
		}
		if len(e.slots) > 0 {
			kept = append(kept, e)
		}
	}
	w.eras = kept
	if len(w.eras) == 0 && now-w.last > guardWindow {
		w.fired = false // that incident is over
	}
}

// start is the first change of the window, or seq if there is none.
func (w *watched) start(seq holdfast.Seq) holdfast.Seq {
	for _, e := range w.eras {
		seq = min(seq, e.start())
	}
	return seq
}

// count adds one loss to every era that had the body, and returns them.
func (w *watched) count(l store.Loss, seq holdfast.Seq, now time.Duration) []*era {
	var in []*era
	for _, e := range w.eras {
		if l.BodySeq < e.start() {
			in = append(in, e)
		}
	}
	if len(in) == 0 && len(w.eras) < guardEras {
		e := &era{}
		w.eras = append(w.eras, e)
		in = append(in, e)
	}
	for _, e := range in {
		e.add(l, seq, slotOf(now))
	}
	return in
}

func (e *era) start() holdfast.Seq { return e.slots[0].first }

func (e *era) add(l store.Loss, seq holdfast.Seq, slot int64) {
	if n := len(e.slots); n == 0 || e.slots[n-1].slot < slot {
		e.slots = append(e.slots, guardCount{slot: slot, first: seq})
	}
	last := &e.slots[len(e.slots)-1]
	last.n++
	e.newest = max(e.newest, l.BodySeq)
	if l.Deleted {
		last.deleted++
	}
}

func (e *era) total() (n, deleted int) {
	for _, s := range e.slots {
		n += s.n
		deleted += s.deleted
	}
	return n, deleted
}

// over reports whether an era has lost too much. It reads about twenty members for each loss at most,
// however large the collection is.
func (g *guard) over(tx *store.Tx, key guardKey, e *era) (bool, error) {
	n, _ := e.total()
	switch {
	case n < guardAll || n < e.next:
		return false, nil
	case n <= guardFew: // was it all?
		left, err := tx.Survivors(key.account, key.collection, e.start(), guardVisit, 1)
		return left == 0, err
	}
	// More than a tenth of those that were there: n of n and the survivors.
	limit := 18 * n
	left, err := tx.Survivors(key.account, key.collection, e.start(), 2*limit+1000, limit)
	if err != nil {
		return false, err
	}
	before := n + left
	if n*10 > before {
		return true, nil
	}
	e.next = before/10 + 1 // with limit reached there are more, and it is looked at too early, not too late
	return false, nil
}
