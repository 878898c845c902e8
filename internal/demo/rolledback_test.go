package demo

import (
	"bytes"
	"crypto/sha256"
	"log/slog"
	"testing"
	"time"
)

// Store and mirror are put back together, a phone's newer token closes the account, an operator accepts the
// loss, and three devices come back over HTTP: faults 11 and 26 with accept-loss (A1).
func TestThreeDevicesAfterAcceptLoss(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	sc, err := find("both-rolled-back")
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Seed: 5, Out: &out, Keep: t.TempDir(), Log: slog.New(slog.DiscardHandler),
		sizes: [kinds]int{40, 25, 10, 5}, beat: 10 * time.Millisecond, pace: 4 * usualPace,
		plant: map[moment]func(*show){beforeVerdict: func(s *show) { s.checkThreeDevices(t) }},
	}
	v, err := run(t.Context(), sc, cfg)
	t.Log("\n" + out.String())
	if err != nil {
		t.Fatal(err)
	}
	if !v.Good() || v.OnDevices == 0 || v.Refused == 0 {
		t.Errorf("verdict %s, problems %q", v, v.Problems)
	}
}

// checkThreeDevices looks at each device by itself, and at what the server has.
func (s *show) checkThreeDevices(t *testing.T) {
	today := s.newToday()
	for _, d := range s.devices {
		if d.lost != [kinds]int{} || d.restart != 0 || d.hard != 0 {
			t.Errorf("%s: deleted %v, started over %d times, saw %d hard errors; want none", d.name, d.lost, d.restart, d.hard)
		}
	}
	have := func(d *device, k kind, n, revision int) bool {
		it := d.body(k, d.shelf(k).path(s.maker.name(k, n)))
		return it != nil && sha256.Sum256(it) == sha256.Sum256(s.maker.body(k, n, revision))
	}
	there := s.everythingThere()
	onServer := func(k kind, n, revision int) bool { return there[sha256.Sum256(s.maker.body(k, n, revision))] }
	edited := today / 2
	for i := range today {
		contact, event := s.cfg.sizes[contacts]+i, firstEdited+i
		switch {
		case i < edited && (!onServer(contacts, contact, 1) || !have(s.editing(), contacts, contact, 1)):
			t.Errorf("new contact %d: its unsent edit is not stored", i)
		case i >= edited && (!have(s.clean(), contacts, contact, 0) || onServer(contacts, contact, 0)):
			t.Errorf("new contact %d: the phone lost it, or the server has it from nowhere", i)
		}
		if !there[essence(s.maker.body(events, event, 0))] {
			t.Errorf("event %d: the version of last night is gone", i)
		}
		if i < edited && !onServer(events, event, 2) {
			t.Errorf("event %d: the unsent edit is not stored beside it", i)
		}
	}
	if !onServer(todos, 0, 1) {
		t.Error("the edit on the device that was off since before is not stored")
	}
	if !s.neighbour.syncedSince(s.watch.began) {
		t.Error("the neighbour was not served")
	}
}
