package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"holdfast"
	"holdfast/frame"
)

// Record is one change as a log holds it.
type Record struct {
	Account holdfast.AccountID
	Epoch   holdfast.Epoch
	Seq     holdfast.Seq
	Hash    holdfast.Hash // account chain hash, verified
	Payload []byte        // valid until fn returns
	LogTerm holdfast.Term // of the log it lies in; the payload has the term that committed it
}

// maxParked bounds the frames that wait, by location, for one before them. Tests make it small.
var maxParked = 1 << 16

// Replay calls fn for every change beyond have, each account in seq order, verified by checksum, commit
// frame and chain. have gives the head to begin at (zero: from the first change) and is asked once
// for each account. Frames that a process wrote after it had lost its claim are left out.
//
// It gives all that it can before it fails: ErrCorrupt: something is missing or damaged, and the error
// says where; *holdfast.HeadMismatchError: what the caller has, or two logs, differ, and that account
// gets no more. fn's error ends it.
func (m *Mirror) Replay(ctx context.Context, have func(holdfast.AccountID) holdfast.AccountHead, fn func(*Record) error) error {
	p := &replay{m: m, have: have, fn: fn, state: map[holdfast.AccountID]holdfast.AccountHead{}}
	if err := p.run(ctx); err != nil {
		return fmt.Errorf("replay mirror %s: %w", m.cfg.Name, err)
	}
	return nil
}

// replay is one call of Replay.
type replay struct {
	m    *Mirror
	have func(holdfast.AccountID) holdfast.AccountHead
	fn   func(*Record) error

	state    map[holdfast.AccountID]holdfast.AccountHead
	parked   map[holdfast.AccountID]map[holdfast.Seq]place
	waiting  int
	dropped  bool // more frames waited than are kept: another pass is needed
	applied  int  // in this pass
	orphans  int
	forked   map[holdfast.AccountID]error                // accounts of which two copies differ: nothing more is given
	bound    map[holdfast.AccountID]holdfast.AccountHead // of the log being read; nil: no later log
	falls    []fall
	promised map[holdfast.AccountID]holdfast.AccountHead // by the last checkpoint read
	damage   []Damage
	lastBad  *Damage // in the last segment of the last log: no checkpoint after it tells what is missing
}

// place is where a parked frame lies.
type place struct {
	seg *segment
	at  frame.Located
}

// fall is an account whose head in a log's first checkpoint is below that in the log before.
type fall struct {
	log  int
	head holdfast.AccountHead
}

func (p *replay) run(ctx context.Context) error {
	hf, _, err := p.m.readHeads(ctx) // before the logs are listed: it must not know more than they show
	if err != nil {
		return err
	}
	logs, strange, err := p.m.logs(ctx)
	if err != nil {
		return err
	}
	if err := p.findFalls(ctx, logs); err != nil {
		return err
	}
	for {
		p.parked, p.waiting, p.dropped, p.applied = map[holdfast.AccountID]map[holdfast.Seq]place{}, 0, false, 0
		p.damage, p.lastBad, p.orphans, p.forked = append(p.damage[:0], strange...), nil, 0, map[holdfast.AccountID]error{}
		for i := range logs {
			if err := p.log(ctx, logs, i, hf); err != nil {
				return err
			}
		}
		if !p.dropped || p.applied == 0 {
			break
		}
	}
	if p.orphans > 0 {
		p.m.log.Warn("frames of a lost claim were left out", "frames", p.orphans)
	}
	return errors.Join(append(slices.Collect(maps.Values(p.forked)), p.verdict())...)
}

// findFalls looks at the first checkpoint of every log.
func (p *replay) findFalls(ctx context.Context, logs []logFiles) error {
	var before map[holdfast.AccountID]holdfast.AccountHead
	for i := range logs {
		heads, err := p.m.firstCheckpoint(ctx, &logs[i])
		if err != nil {
			return err
		}
		if heads == nil {
			continue
		}
		for a, b := range before {
			if h := heads[a]; h.Head.Seq < b.Head.Seq {
				h.Account = a
				p.falls = append(p.falls, fall{i, h})
			}
		}
		before = heads
	}
	return nil
}

// firstCheckpoint returns the heads a log starts from; nil if it has no checkpoint that can be read.
func (m *Mirror) firstCheckpoint(ctx context.Context, l *logFiles) (map[holdfast.AccountID]holdfast.AccountHead, error) {
	for k := range l.segments {
		r, done, err := m.reader(ctx, l.segments[k].name)
		if err == nil {
			t := tail{heads: map[holdfast.AccountID]holdfast.AccountHead{}}
			var b *frame.Batch
			if b, err = r.Next(); err == nil {
				err = t.take(r, b, false)
			}
			done()
			if t.complete {
				return t.heads, nil
			}
		}
		if err != nil && !unreadable(err) {
			return nil, fmt.Errorf("%s: %w", l.segments[k].name, err)
		}
	}
	return nil, nil
}

// log replays log i.
func (p *replay) log(ctx context.Context, logs []logFiles, i int, hf *headFile) error {
	bound, err := p.boundOf(ctx, logs, i)
	if err != nil {
		return err
	}
	p.bound = bound
	segs := logs[i].segments
	var end *frame.Footer
	for k := range segs {
		s := &segs[k]
		if err := ctx.Err(); err != nil {
			return err
		}
		t := tail{heads: map[holdfast.AccountID]holdfast.AccountHead{}}
		g, err := p.m.readSegment(ctx, s, hf, func(r *frame.Reader, b *frame.Batch, _ bool) error { return p.batch(ctx, s, r, b, &t) })
		if err != nil {
			return err
		}
		if t.complete {
			p.promised, p.lastBad = t.heads, nil
		}
		for _, d := range g.damage {
			if d.Kind != Torn {
				p.damage = append(p.damage, d)
				p.lastBad = &d
			}
		}
		if k > 0 && end != nil && g.header != nil {
			p.damage = append(p.damage, link(&segs[k-1], end, g.header)...)
		}
		end = g.footer
	}
	return nil
}

// boundOf returns the heads that the log after log i started from: what log i has beyond them was never
// acknowledged. nil: no later log can be read.
func (p *replay) boundOf(ctx context.Context, logs []logFiles, i int) (map[holdfast.AccountID]holdfast.AccountHead, error) {
	var bound map[holdfast.AccountID]holdfast.AccountHead
	for k := i + 1; k < len(logs) && bound == nil && !p.m.hooks.noBound; k++ {
		heads, err := p.m.firstCheckpoint(ctx, &logs[k])
		if err != nil {
			return nil, err
		}
		bound = heads
	}
	if bound != nil {
		for _, f := range p.falls {
			if f.log > i && f.head.Head.Seq < bound[f.head.Account].Head.Seq {
				bound[f.head.Account] = f.head
			}
		}
	}
	return bound, nil
}

// batch takes one committed batch.
func (p *replay) batch(ctx context.Context, s *segment, r *frame.Reader, b *frame.Batch, t *tail) error {
	for i := range b.Frames {
		f := &b.Frames[i]
		if f.Type == frame.TypeCheckpoint {
			payload, err := r.Load(f)
			if err != nil {
				return err
			}
			if err := t.checkpoint(payload); err != nil {
				return err
			}
		}
		if !f.IsChange() {
			continue
		}
		if p.orphan(f) {
			p.orphans++
			continue
		}
		head := p.head(f.Account)
		switch {
		case f.Seq < head.Head.Seq || p.forked[f.Account] != nil:
		case f.Seq == head.Head.Seq:
			if f.Hash != head.Head.Hash {
				p.fork(s, f, head)
			}
		case f.Seq > head.Head.Seq+1:
			p.park(s, f)
		default:
			payload, err := r.Load(f)
			if err != nil {
				return err
			}
			if err := p.apply(s, f, payload); err != nil {
				return err
			}
			if err := p.unpark(ctx, f.Account); err != nil {
				return err
			}
		}
	}
	return nil
}

// orphan reports whether a frame lies beyond what the next log started from.
func (p *replay) orphan(f *frame.Located) bool {
	if p.bound == nil {
		return false
	}
	b := p.bound[f.Account].Head
	return f.Seq > b.Seq || f.Seq == b.Seq && f.Hash != b.Hash
}

func (p *replay) head(a holdfast.AccountID) holdfast.AccountHead {
	h, ok := p.state[a]
	if !ok {
		h = p.have(a)
		h.Account = a
		p.state[a] = h
	}
	return h
}

// fork ends the replay of one account; the others go on (F8).
func (p *replay) fork(s *segment, f *frame.Located, head holdfast.AccountHead) {
	p.forked[f.Account] = fmt.Errorf("%s, offset %d, pos %d: %w", s.name, f.Offset, f.Pos, &holdfast.HeadMismatchError{
		Account: f.Account, Store: head.Head, Mirror: f.Head().Head, Where: "mirror " + p.m.cfg.Name,
	})
}

// apply gives fn the next change of its account.
func (p *replay) apply(s *segment, f *frame.Located, payload []byte) error {
	head := p.state[f.Account]
	hash, err := frame.ChainHash(head.Head.Hash, payload)
	if err != nil {
		return fmt.Errorf("%s, offset %d: %w", s.name, f.Offset, err)
	}
	if hash != f.Hash || f.Epoch < head.Epoch {
		p.fork(s, f, head)
		return nil
	}
	err = p.fn(&Record{Account: f.Account, Epoch: f.Epoch, Seq: f.Seq, Hash: hash, Payload: payload, LogTerm: s.term})
	if err != nil {
		return err
	}
	p.state[f.Account] = f.Head()
	p.applied++
	return nil
}

// park remembers where a frame lies that has come too early.
func (p *replay) park(s *segment, f *frame.Located) {
	of := p.parked[f.Account]
	if _, ok := of[f.Seq]; ok {
		return
	}
	if p.waiting == maxParked {
		p.dropped = true
		return
	}
	if of == nil {
		of = map[holdfast.Seq]place{}
		p.parked[f.Account] = of
	}
	of[f.Seq] = place{s, frame.Located{Header: f.Header, Offset: f.Offset}}
	p.waiting++
}

// unpark applies what waited for the head that an account has now.
func (p *replay) unpark(ctx context.Context, a holdfast.AccountID) error {
	for len(p.parked[a]) > 0 {
		seq := p.state[a].Head.Seq + 1
		at, ok := p.parked[a][seq]
		if !ok {
			return nil
		}
		delete(p.parked[a], seq)
		p.waiting--
		r, done, err := p.m.reader(ctx, at.seg.name)
		if err != nil {
			return fmt.Errorf("%s: %w", at.seg.name, err)
		}
		payload, err := r.Load(&at.at)
		if err == nil {
			err = p.apply(at.seg, &at.at, payload)
		}
		done()
		if err != nil {
			return fmt.Errorf("%s: %w", at.seg.name, err)
		}
	}
	return nil
}

// verdict says whether all that was promised was there.
func (p *replay) verdict() error {
	where := errors.New("no damage was found")
	if len(p.damage) > 0 {
		where = errors.New(p.damage[0].String())
	}
	for a, h := range p.promised {
		if p.forked[a] != nil {
			continue
		}
		got := p.head(a)
		if got.Head.Seq < h.Head.Seq {
			return fmt.Errorf("account %s ends at %s, a checkpoint promised %s (%w): %w", a, got.Head, h.Head, where, holdfast.ErrCorrupt)
		}
		if got.Head.Seq == h.Head.Seq && got.Head.Hash != h.Head.Hash {
			return &holdfast.HeadMismatchError{Account: a, Store: got.Head, Mirror: h.Head, Where: "a checkpoint in mirror " + p.m.cfg.Name}
		}
	}
	for a, waiting := range p.parked {
		if p.forked[a] != nil {
			continue
		}
		for seq := range waiting {
			if got := p.head(a); seq > got.Head.Seq {
				return fmt.Errorf("account %s ends at %s, but seq %s is there (%w): %w", a, got.Head, seq, where, holdfast.ErrCorrupt)
			}
		}
	}
	if p.lastBad != nil {
		return fmt.Errorf("what followed the last checkpoint is not all there: %s: %w", p.lastBad, holdfast.ErrCorrupt)
	}
	return nil
}

// unreadable reports whether an error says that bytes are not what they should be, or that a segment
// has no batch: not that the medium failed.
func unreadable(err error) bool {
	return errors.Is(err, holdfast.ErrCorrupt) || errors.Is(err, io.EOF)
}
