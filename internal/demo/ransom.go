package demo

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"

	"holdfast/internal/ledger"
	"holdfast/internal/restore"
)

// ransom is a program on the laptop that has its app password: it overwrites nine things of ten with what
// nobody can read, and deletes the rest. Every request is a right one, so the server obeys.
func (s *show) ransom() error {
	laptop := s.devices[2]
	bad, err := newRemote(s.host.url, account, laptop.remote.password)
	if err != nil {
		return err
	}
	defer bad.close()
	paths := s.owed()
	s.say(disaster, "a program on the laptop overwrites nine things of ten with garbage and deletes the rest: %d in all", len(paths))
	err = s.each(paths, func(i int, path string, r record) error {
		if i%10 == 9 {
			_, err := bad.do(s.ctx, http.MethodDelete, path, nil, nil)
			return err
		}
		garbage := locked(r.kind, laptop.body(r.kind, path), s.maker.rand(kinds, i, 1))
		_, err := bad.do(s.ctx, http.MethodPut, path, map[string]string{"Content-Type": r.kind.contentType()}, garbage)
		return err
	})
	if err != nil {
		return fmt.Errorf("play the program on the laptop: %w", err)
	}
	return nil
}

// owed returns the paths of all that was acknowledged, sorted.
func (s *show) owed() []string {
	all := s.journal.snapshot()
	maps.DeleteFunc(all, func(_ string, r record) bool { return !r.acked })
	return slices.Sorted(maps.Keys(all))
}

// each calls do for every path, several at once, and returns the errors.
func (s *show) each(paths []string, do func(i int, path string, r record) error) error {
	const workers = 8
	all := s.journal.snapshot()
	errs := make([]error, workers)
	var g sync.WaitGroup
	for w := range workers {
		g.Go(func() {
			for i := w; i < len(paths) && errs[w] == nil; i += workers {
				errs[w] = do(i, paths[i], all[paths[i]])
			}
		})
	}
	g.Wait()
	return errors.Join(errs...)
}

// body returns what the device holds under a path, nil if nothing.
func (d *device) body(k kind, path string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.shelves[k]; c != nil {
		if it := c.items[lastSegment(path)]; it != nil {
			return it.body
		}
	}
	return nil
}

// locked makes a thing unreadable and leaves it one of its kind, so that a server takes it.
func locked(k kind, body []byte, r *rand.Rand) []byte {
	if k == photos {
		b := slices.Clone(body)
		for i := range b {
			b[i] ^= byte(r.Uint32())
		}
		return b
	}
	lines := strings.Split(string(body), "\r\n")
	for i, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if ok && slices.Contains([]string{"FN", "N", "EMAIL", "NOTE", "SUMMARY", "DESCRIPTION"}, name) {
			noise := make([]byte, len(value)/2+1)
			for j := range noise {
				noise[j] = byte(r.Uint32())
			}
			lines[i] = name + ":" + hex.EncodeToString(noise)
		}
	}
	return []byte(strings.Join(lines, "\r\n"))
}

// phonesObey waits until the devices have what the server says. What they deleted meanwhile they deleted
// because a device had asked for it; it counts as lost only if it is not there in the end.
func (s *show) phonesObey() error {
	s.settle()
	n := 0
	for _, d := range s.devices {
		d.mu.Lock()
		n += sum(d.lost)
		d.lost = [kinds]int{}
		d.mu.Unlock()
	}
	s.say("devices", "obey: they show garbage, and delete %d things", n)
	return nil
}

// undo brings back what was there before: the server named a snapshot of it by itself.
func (s *show) undo() error {
	all, err := s.snapshots()
	if err != nil {
		return err
	}
	brought := 0
	for _, snap := range slices.Backward(all) { // the oldest state comes last
		s.say("operator", "holdfast snapshot undo %s %s", account, snap.Name)
		order := restore.UndoOrder{Account: s.host.account, Snapshot: snap.Name}
		for done := false; !done; {
			u, err := restore.Undo(s.ctx, s.host.ledger, order)
			if err != nil {
				return err
			}
			brought, done, order.From = brought+u.Brought, u.Done, u.Next
		}
	}
	s.say("server", "wrote %d things again as they were, as new versions", brought)
	return nil
}

// snapshots returns those that the server named by itself before a mass change, the oldest first.
func (s *show) snapshots() ([]ledger.Snapshot, error) {
	all, err := s.host.ledger.Snapshots(s.ctx, s.host.account)
	return slices.DeleteFunc(all, func(snap ledger.Snapshot) bool { return !snap.Automatic || snap.Device == nil }), err
}

// warned: the operator got an alert, and the state of before has a name.
func (s *show) warned() string {
	all, err := s.snapshots()
	s.out.Lock()
	alerts := s.alerts[ledger.EventMassChange]
	s.out.Unlock()
	if err != nil || len(all) == 0 || alerts == 0 {
		return fmt.Sprintf("everything was overwritten, and there are %d snapshots of before and %d alerts", len(all), alerts)
	}
	return ""
}
