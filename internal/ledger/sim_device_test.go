package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"holdfast"
)

// device is one phone. Like DAVx5 it keeps a copy, syncs by token, deletes locally what the server says is gone or
// what a full listing lacks, writes with preconditions, and takes any error for "later".
type device struct {
	s       *sim
	no      int
	rng     *rand.Rand
	account holdfast.AccountID
	token   string
	local   map[string]holdfast.Hash
	made    int
	own     holdfast.Head // of its newest acknowledged write
	under   *simChange    // the change that is about to be committed
	synced  bool
}

var errSimPrecondition = errors.New("precondition failed")

// run is the device's life: one request after the other, each when its turn comes.
func (d *device) run() {
	for {
		d.s.wait(nil, fmt.Sprint("device ", d.no))
		if d.s.over {
			return
		}
		d.act()
	}
}

func (d *device) act() {
	p := d.s.serving(d.rng)
	if p == nil {
		return
	}
	n := d.rng.IntN(100)
	switch {
	case !d.synced || n < 25:
		d.sync(p)
	case n < 30:
		d.token, d.local, d.synced = "", map[string]holdfast.Hash{}, false // a new phone
		d.sync(p)
	case n < 40 && len(d.local) > 0:
		d.read(p)
	case n < 55 && len(d.local) > 0:
		d.write(p, d.pick(), nil)
	case n < 75 && len(d.local) > 0:
		d.write(p, d.pick(), d.body())
	default:
		d.made++
		d.write(p, fmt.Sprintf("d%d-%d", d.no, d.made), d.body())
	}
}

// pick returns a name the device has.
func (d *device) pick() string {
	names := slices.Sorted(maps.Keys(d.local))
	return names[d.rng.IntN(len(names))]
}

func (d *device) body() []byte {
	d.made++
	size := 1 + d.rng.IntN(200)
	switch n := d.rng.IntN(40); {
	case n == 0:
		size = holdfast.MaxInline + 1 + d.rng.IntN(1000)
	case n < 4:
		size = 4000 + d.rng.IntN(9000)
	}
	text := fmt.Sprintf("%d-%d ", d.no, d.made)
	return bytes.Repeat([]byte(text), size/len(text)+1)
}

// attempted is told the head that a change will have, before it is committed.
func (s *sim) attempted(by holdfast.DeviceID, head holdfast.Head) {
	if by == 0 {
		return
	}
	c := s.devices[by-1].under
	c.head = head
	s.oracle.attempted(c)
}

// outcomes are what a request may end with, for the trace; text may hold what was drawn by chance.
var simOutcomes = []error{
	nil, errSimPrecondition, holdfast.ErrFenced, holdfast.ErrNotDurable, holdfast.ErrFull, holdfast.ErrFatal,
	holdfast.ErrToken, holdfast.ErrCorrupt, holdfast.ErrAbsent, holdfast.ErrNotFound, errKilled,
}

func simOutcome(err error) uint64 {
	for i, e := range simOutcomes {
		if e == nil && err == nil || e != nil && errors.Is(err, e) {
			return uint64(i)
		}
	}
	return 99
}

// gone waits for the device's turn to hear the answer, and says whether it never came.
func (d *device) gone(p *proc, what uint64, err error) bool {
	d.s.wait(nil, fmt.Sprint("answer to device ", d.no))
	if p.dead.Load() {
		d.s.note(uint64(d.no), what, 100)
		return true
	}
	d.s.note(uint64(d.no), what, simOutcome(err))
	return false
}

// write puts or deletes (nil body) one resource, with If-Match for one that the device has, else If-None-Match.
func (d *device) write(p *proc, name string, body []byte) {
	s := d.s
	have, known := d.local[name]
	floor := s.oracle.floor(d.account)
	if body == nil {
		s.oracle.willDelete(name)
	}
	var content Body
	var err error
	if body != nil {
		if content, err = p.l.PutBlob(context.Background(), d.account, bytes.NewReader(body), 1<<20); err != nil {
			d.gone(p, 1, err)
			return
		}
	}
	var parent holdfast.Head
	ran := 0
	head, err := p.l.Update(context.Background(), d.account, holdfast.DeviceID(d.no), func(tx *Tx) error {
		ran++
		parent = tx.Head().Head
		r, err := tx.Resource(s.files, name)
		switch {
		case err != nil && !errors.Is(err, holdfast.ErrNotFound):
			return err
		case known != (err == nil), known && r.Body != have:
			return errSimPrecondition
		}
		d.under = &simChange{parent: parent.Hash, name: name, body: body}
		if body == nil {
			tx.Delete(s.files, name)
		} else {
			tx.Put(s.files, name, "text/plain", 0, content)
		}
		return nil
	})
	if ran > 1 {
		s.fail("device %d: one request was run %d times", d.no, ran)
	}
	s.log("device %d wrote %s (%d bytes, after %s): %s, %v", d.no, name, len(body), parent, head, err)
	if d.gone(p, 1, err) {
		return
	}
	switch {
	case err == nil:
		s.acks++
		if wrong := s.promise(d.account, head, floor); wrong != "" {
			s.fail("device %d: write of %s acknowledged as %s by box %d: %s", d.no, name, head, p.box.no, wrong)
		}
		d.inspect(p, head)
		d.own = head
		if body == nil {
			delete(d.local, name)
		} else {
			d.local[name] = content.Hash
		}
	case errors.Is(err, errSimPrecondition): // it tells of the state it was judged by (R11)
		if wrong := s.promise(d.account, parent, holdfast.Head{}); wrong != "" {
			s.fail("device %d: refusal judged by %s: %s", d.no, parent, wrong)
		}
		d.inspect(p, parent)
		d.sync(p)
	}
}

// inspect has the media looked at now and then.
func (d *device) inspect(p *proc, h holdfast.Head) {
	if d.rng.IntN(12) == 0 {
		d.s.inspect(p, d.account, h)
	}
}

// read gets one body.
func (d *device) read(p *proc) {
	name := d.pick()
	floor := d.s.floor(p, d.account)
	var head holdfast.Head
	var sum holdfast.Hash
	err := p.l.View(context.Background(), d.account, func(v *View) error {
		head = v.Head().Head
		r, err := v.Resource(d.s.files, name)
		if err != nil {
			return err
		}
		b, err := v.Body(r)
		sum = InlineBody(b).Hash
		return err
	})
	if d.gone(p, 2, err) {
		return
	}
	missing := errors.Is(err, holdfast.ErrNotFound)
	if err != nil && !missing || head.Seq == 0 {
		return
	}
	if wrong := d.s.promise(d.account, head, floor); wrong != "" {
		d.s.fail("device %d: read at %s from box %d: %s", d.no, head, p.box.no, wrong)
		return
	}
	want, there := d.s.oracle.state(head.Hash)[name]
	if there == missing || there && sum != want {
		d.s.fail("device %d: read %s at %s: P1: wrong body, or there %t where %t is right", d.no, name, head, !missing, there)
	}
}

// sync follows the server.
func (d *device) sync(p *proc) {
	floor := d.s.floor(p, d.account)
	token, full := d.token, d.token == ""
	var head, reached holdfast.Head
	var deltas []Delta
	err := p.l.View(context.Background(), d.account, func(v *View) error {
		head = v.Head().Head
		if !full {
			point, err := v.ParseSyncToken(d.token, holdfast.DeviceID(d.no))
			switch {
			case errors.Is(err, holdfast.ErrToken): // 403 valid-sync-token: begin anew
				full = true
			case err != nil:
				return err
			default:
				deltas, reached, err = v.Changed(d.s.files, point.Since, 1+d.rng.IntN(6))
				token = v.SyncToken(reached)
				return err
			}
		}
		all, err := v.Resources(d.s.files, "", 10_000)
		for i := range all {
			deltas = append(deltas, Delta{Resource: all[i]})
		}
		reached, token = head, v.SyncToken(head)
		return err
	})
	if d.gone(p, 3, err) || err != nil {
		return
	}
	if wrong := d.s.promise(d.account, head, floor); wrong != "" {
		d.s.fail("device %d: sync at %s from box %d: %s", d.no, head, p.box.no, wrong)
		return
	}
	d.s.log("device %d synced to %s of %s", d.no, reached, head)
	d.inspect(p, head)
	d.apply(deltas, full)
	d.token, d.synced = token, true
	d.s.note(uint64(len(deltas)), uint64(reached.Seq))
	if head.Seq < d.own.Seq {
		return // an old answer, which floor allowed: the device has its own newer write besides, and hears of it later
	}
	if reached == head && !maps.Equal(d.local, d.s.oracle.state(head.Hash)) && !d.s.lossy {
		d.s.fail("device %d: after a sync at %s it has %d resources, %d are right, or others", d.no, head, len(d.local), len(d.s.oracle.state(head.Hash)))
	}
}

// apply does to the local copy what the server said.
func (d *device) apply(deltas []Delta, full bool) {
	there := map[string]bool{}
	for i := range deltas {
		r := &deltas[i]
		if r.Deleted {
			d.remove(r.Name)
			continue
		}
		d.local[r.Name] = r.Body
		there[r.Name] = true
	}
	if !full {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(d.local)) {
		if !there[name] {
			d.remove(name)
		}
	}
}

func (d *device) remove(name string) {
	if _, ok := d.local[name]; ok && !d.s.oracle.mayDelete(name) {
		d.s.fail("P2: device %d deletes %s, which nobody deleted", d.no, name)
	}
	delete(d.local, name)
}
