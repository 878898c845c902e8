package demo

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/durable"
	"holdfast/internal/mirror"
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

// putBack reads the versions of before out of the mirror's log, where every version is, and writes them
// again as new ones.
func (s *show) putBack() error {
	want := make(map[holdfast.Hash]bool)
	for _, r := range s.journal.snapshot() {
		if r.acked {
			want[r.last] = true
		}
	}
	bodies, err := s.history(want)
	if err != nil {
		return err
	}
	if len(bodies) < len(want) {
		s.problem("%d of %d versions of before are not in the mirror's log", len(want)-len(bodies), len(want))
	}
	s.say("operator", "finds %d of %d versions of before in the mirror's log and puts them back", len(bodies), len(want))
	return s.each(s.owed(), func(_ int, path string, r record) error {
		b, ok := bodies[r.last]
		if !ok {
			return nil
		}
		_, err := s.reader.do(s.ctx, http.MethodPut, path, map[string]string{"Content-Type": r.kind.contentType()}, b)
		return err
	})
}

// history returns the bodies that the mirror has under these hashes, of any time.
func (s *show) history(want map[holdfast.Hash]bool) (map[holdfast.Hash][]byte, error) {
	b, err := dir.Open(durable.Disk, s.host.mirrorDir(), dir.WithSpare(dir.Off))
	if err != nil {
		return nil, err
	}
	m, err := mirror.Open(s.ctx, mirror.Config{Server: s.host.config.Server, Bucket: b, Name: "mirror"})
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	found := make(map[holdfast.Hash][]byte)
	none := func(holdfast.AccountID) holdfast.AccountHead { return holdfast.AccountHead{} }
	err = m.Replay(s.ctx, none, func(r *mirror.Record) error {
		c, err := frame.ParseChange(r.Payload)
		if err != nil {
			return err
		}
		for i := range c.Ops {
			if o := &c.Ops[i]; want[o.BodyHash] && found[o.BodyHash] == nil {
				if found[o.BodyHash], err = bodyOf(s.ctx, m, r.Account, o); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return found, errors.Join(err, b.Close())
}

func bodyOf(ctx context.Context, m *mirror.Mirror, a holdfast.AccountID, o *frame.Op) ([]byte, error) {
	if o.Blob == nil {
		return bytes.Clone(o.Body), nil
	}
	r, err := m.OpenBlob(ctx, a, *o.Blob)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}
