package demo

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// day is what is written after last night's image was taken, and what of it was still unsent when store and
// mirror were put back together.
type day struct {
	unsent map[string]holdfast.Hash // by path: edits that the server had not got
	kept   map[string]holdfast.Hash // by path: the essence of what the server has there, of last night, where an unsent edit differs
}

// The devices of both-rolled-back: one that is up to date and has nothing unsent, one that was off since
// before, one with unsent edits.
func (s *show) clean() *device   { return s.devices[0] }
func (s *show) drawer() *device  { return s.devices[1] }
func (s *show) editing() *device { return s.devices[2] }

// liveADay takes last night's image, puts the tablet into a drawer, and has phone and laptop write for a
// day: new things, and new versions of old ones.
func (s *show) liveADay() error {
	if err := s.night(); err != nil {
		return err
	}
	s.drawer().off.Store(true)
	s.say("tablet", "is switched off and put into a drawer")
	before := s.journal.acknowledged()
	for i := range s.newToday() {
		d := []*device{s.clean(), s.editing()}[i%2]
		d.write(contacts, s.cfg.sizes[contacts]+i, 0)
		d.write(events, firstEdited+i, 1)
	}
	var acked time.Time
	done := func() bool {
		_, dirty := s.clean().total()
		_, unsent := s.editing().total()
		if acked.IsZero() && dirty+unsent == 0 && s.journal.acknowledged() == before+s.newToday() {
			acked = time.Now()
		}
		return !acked.IsZero() && s.clean().syncedSince(acked) && s.editing().syncedSince(acked)
	}
	if !s.until(s.cfg.patience, done) {
		return fmt.Errorf("write for a day: %w", holdfast.ErrNotDurable)
	}
	s.say("people", "write on phone and laptop for a day: %d new contacts, %d events in a new version, all acknowledged", s.newToday(), s.newToday())
	return nil
}

// firstEdited is the first event that is edited on that day.
const firstEdited = 3

// newToday is how many contacts are new and how many events are edited on that day.
func (s *show) newToday() int { return min(s.cfg.sizes[contacts], s.cfg.sizes[events]-firstEdited) / 4 }

// rollBack puts store and mirror back to last night's image, together, while the server is off and somebody
// edits on the laptop what is about to be lost.
func (s *show) rollBack() error {
	if err := s.switchOff(); err != nil {
		return err
	}
	s.say(disaster, "core database and back-up: store and mirror are put back to last night's image, together")
	if err := s.restoreNight(); err != nil {
		return err
	}
	s.day = day{unsent: make(map[string]holdfast.Hash), kept: make(map[string]holdfast.Hash)}
	for i := range s.newToday() / 2 {
		s.edit(contacts, s.cfg.sizes[contacts]+i, 1) // of a contact that the server has lost
		s.day.kept[s.edit(events, firstEdited+i, 2)] = essence(s.maker.body(events, firstEdited+i, 0))
	}
	s.say("laptop", "its person edits %d things that the server has lost or has in an older version; nothing is sent yet", len(s.day.unsent))
	return s.switchOn()
}

// edit writes on the laptop and returns the path.
func (s *show) edit(k kind, n, revision int) (path string) {
	d := s.editing()
	d.write(k, n, revision)
	path = d.shelf(k).path(s.maker.name(k, n))
	s.day.unsent[path] = sha256.Sum256(s.maker.body(k, n, revision))
	return path
}

// closedForOne waits until a newer sync token has closed the account, and sees that the neighbour's is not.
func (s *show) closedForOne() error {
	from := time.Now()
	closed := func() bool {
		s.neighbour.sync(s.ctx, true)
		_, err := s.reader.do(s.ctx, http.MethodGet, s.watch.path, nil, nil)
		return s.neighbour.syncedSince(from) && status(err) == http.StatusServiceUnavailable
	}
	if !s.until(s.cfg.patience/4, closed) {
		s.problem("devices know more than the server, and it served on; or it served nobody")
		return nil
	}
	s.say("neighbour", "another account of the same server is served as ever")
	s.pause(time.Minute / s.cfg.pace) // of a device
	return nil
}

// takeFromDrawer switches the tablet on again; its person edits something old before it has synced.
func (s *show) takeFromDrawer() error {
	d := s.drawer()
	d.write(todos, 0, 1)
	s.day.unsent[d.shelf(todos).path(s.maker.name(todos, 0))] = sha256.Sum256(s.maker.body(todos, 0, 1))
	s.say("tablet", "is taken out of the drawer; its person edits a to-do")
	d.off.Store(false)
	return nil
}

// unsentStored: what was unsent is on the server, and where the server had another version both are.
func (s *show) unsentStored() string {
	there := s.everythingThere()
	stored, both := 0, 0
	for path, h := range s.day.unsent {
		if there[h] {
			stored++
		}
		if old, ok := s.day.kept[path]; ok && there[h] && there[old] {
			both++
		}
	}
	s.say("demo", "unsent edits stored: %d of %d; both versions kept where they differ: %d of %d", stored, len(s.day.unsent), both, len(s.day.kept))
	if stored < len(s.day.unsent) || both < len(s.day.kept) || both == 0 {
		return fmt.Sprintf("%d unsent edits are not on the server, %d times one of two versions is missing", len(s.day.unsent)-stored, len(s.day.kept)-both)
	}
	return ""
}

// essence is the hash of a body without its UID: a version that is kept beside another one gets a UID of
// its own.
func essence(body []byte) holdfast.Hash {
	lines := strings.Split(string(body), "\r\n")
	return sha256.Sum256([]byte(strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "UID:") }), "\n")))
}

// everythingThere returns hash and essence of all bodies that a device with nothing on it gets from the
// server; of none if it gets none.
func (s *show) everythingThere() map[holdfast.Hash]bool {
	there := make(map[holdfast.Hash]bool)
	d, err := s.newDevice("a reader")
	if err != nil {
		s.problem("the server cannot be read: %v", err)
		return there
	}
	defer d.remote.close()
	d.sync(s.ctx, false)
	for _, c := range d.shelves {
		for _, it := range c.items {
			there[sha256.Sum256(it.body)], there[essence(it.body)] = true, true
		}
	}
	return there
}

// judgeAccepted: what was acknowledged is on the server under some name, or a device has it still.
func (s *show) judgeAccepted(want map[string]record) {
	there := s.everythingThere()
	for path, r := range want {
		switch {
		case !r.acked:
		case there[r.last]:
			s.verdict.Present++
		case s.onDevice(r, path):
			s.verdict.OnDevices++
		default:
			if _, err := s.reader.do(s.ctx, http.MethodGet, path, nil, nil); err == nil {
				s.verdict.Altered++
			}
			s.problem("%s: what was acknowledged is on no device and not on the server", path)
		}
	}
}

// onDevice reports whether a device has what was acknowledged under a path.
func (s *show) onDevice(r record, path string) bool {
	for _, d := range s.devices {
		if b := d.body(r.kind, path); b != nil && r.fine(sha256.Sum256(b)) {
			return true
		}
	}
	return false
}

// asOthers says what other servers did in the same test; each was measured.
func (s *show) asOthers() string {
	s.say("others", "Radicale 3.1.8, Cyrus 3.6.1: 403 to the newer token, so a phone deletes what the server does not list")
	s.say("others", "sabre/dav 4.7.1: no error and no changes, so phone and server differ for ever")
	s.say("others", "Radicale, Xandikos, sabre/dav: 412 to the unsent edit, so it is never stored")
	return ""
}

// acceptLoss is holdfast fence accept-loss.
func (s *show) acceptLoss() error {
	loss, err := s.host.ledger.AcceptLoss(s.ctx, s.host.account)
	if err != nil {
		return fmt.Errorf("accept the loss: %w", err)
	}
	s.say("operator", "has looked for another copy, there is none: holdfast fence accept-loss (%d changes)", loss.Changes())
	return s.waitOpen()
}
