package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast"
	"holdfast/frame"
)

// Recovered is what a mirror holds, as far as its last segments, footers and head file say.
type Recovered struct {
	// Heads is what Replay can give, if no older segment is damaged.
	Heads map[holdfast.AccountID]holdfast.AccountHead
	// Witness is the highest head that anything here promised to be durable. Above Heads: this mirror
	// lost acknowledged data.
	Witness map[holdfast.AccountID]holdfast.AccountHead
	// Told is what the head file alone says: it had been acknowledged, not only written.
	Told    []holdfast.AccountHead
	Damage  []Damage
	Logs    []LogInfo // ascending by term
	Written time.Time // when the last batch was committed, by its writer's clock; zero: there is none

	last unproven
}

// unproven is the last batch of the last log. Its frames can be read, but nothing shows that its fsync
// came back: what is read may be in the system's memory only. The next log holds them again.
type unproven struct {
	segment *segment
	frames  []frame.Located
	before  map[holdfast.AccountID]holdfast.AccountHead // of the accounts it touched
}

// LogInfo describes one log.
type LogInfo struct {
	Term     holdfast.Term
	Segments int
	Bytes    int64
	Used     bool   // Heads come from this log
	Pos      uint64 // last committed pos; only if Used
	Sealed   bool   // its last segment is sealed
}

// Recover reads marker, claims, head file, the footers of the last usable log and its last segment.
// It changes nothing. To be of use it comes after Claim: what is read before a claim may grow.
// ErrAbsent: this is not the mirror that was opened. Other errors come from the medium: nothing is
// known then. Damage is no error; whether a Torn end was acknowledged only other witnesses know.
func (m *Mirror) Recover(ctx context.Context) (*Recovered, error) {
	r, seen, err := m.recover(ctx)
	if err != nil {
		return nil, fmt.Errorf("recover mirror %s: %w", m.cfg.Name, err)
	}
	for _, d := range r.Damage {
		m.log.Warn("mirror is damaged", "kind", d.Kind.String(), "object", d.Object, "offset", d.Offset, "pos", d.Pos, "err", d.Err)
	}
	m.mu.Lock()
	m.recovered, m.seen = r, seen
	m.mu.Unlock()
	return r, nil
}

func (m *Mirror) recover(ctx context.Context) (*Recovered, uint64, error) {
	id, err := m.readMarker(ctx)
	if err != nil {
		return nil, 0, err
	}
	if id != m.id {
		return nil, 0, fmt.Errorf("another mirror is in its place: %w", holdfast.ErrAbsent)
	}
	claims, err := m.claims(ctx)
	if err != nil {
		return nil, 0, err
	}
	seen := uint64(0)
	rec := &Recovered{Heads: map[holdfast.AccountID]holdfast.AccountHead{}, Witness: map[holdfast.AccountID]holdfast.AccountHead{}}
	for n, c := range claims {
		seen = max(seen, n)
		if c.Damaged {
			rec.Damage = append(rec.Damage, Damage{Kind: Corrupt, Object: claimName(n), Err: errors.New(c.Note)})
		}
	}
	hf, damage, err := m.readHeads(ctx)
	if err != nil {
		return nil, 0, err
	}
	rec.Damage = append(rec.Damage, damage...)
	logs, strange, err := m.logs(ctx)
	if err != nil {
		return nil, 0, err
	}
	rec.Damage = append(rec.Damage, strange...)
	if hf != nil {
		rec.raise(hf.heads...)
		rec.Told = hf.heads
	}
	if err := m.lastHeads(ctx, rec, logs, hf); err != nil {
		return nil, 0, err
	}
	m.describe(rec, logs, claims, hf)
	for _, h := range rec.Heads {
		rec.raise(h)
	}
	return rec, seen, nil
}

// raise lifts the witness to heads.
func (r *Recovered) raise(heads ...holdfast.AccountHead) {
	for _, h := range heads {
		if w := r.Witness[h.Account]; h.Epoch > w.Epoch || h.Epoch == w.Epoch && h.Head.Seq > w.Head.Seq {
			r.Witness[h.Account] = h
		}
	}
}

// lastHeads finds the last log that has a checkpoint and reads it from there.
func (m *Mirror) lastHeads(ctx context.Context, rec *Recovered, logs []logFiles, hf *headFile) error {
	for i := range logs {
		rec.Logs = append(rec.Logs, LogInfo{Term: logs[i].term})
	}
	for i := len(logs) - 1; i >= 0; i-- {
		segs := logs[i].segments
		for k := len(segs) - 1; k >= 0; k-- {
			t := tail{heads: map[holdfast.AccountID]holdfast.AccountHead{}}
			g, err := m.readSegment(ctx, &segs[k], hf, t.take)
			if err != nil {
				return err
			}
			rec.Damage = append(rec.Damage, g.damage...)
			rec.Damage = append(rec.Damage, t.damage(&segs[k])...)
			rec.raise(t.beyond...)
			rec.raise(g.witness...)
			if !t.complete {
				continue
			}
			rec.Heads = t.heads
			rec.Written = time.UnixMilli(t.at).UTC()
			if g.footer == nil && segs[k].next == 0 {
				rec.last = unproven{&segs[k], t.frames, t.before}
			}
			rec.Logs[i].Used, rec.Logs[i].Pos = true, g.pos-1
			links, err := m.checkLinks(ctx, segs[:k+1], g.header)
			rec.Damage = append(rec.Damage, links...)
			return err
		}
	}
	return nil
}

// tail folds the batches of one segment into heads.
type tail struct {
	heads    map[holdfast.AccountID]holdfast.AccountHead
	parts    int  // checkpoint parts seen
	complete bool // the whole checkpoint was seen
	beyond   []holdfast.AccountHead
	broken   *frame.Located // the first frame that does not follow its account's head
	at       int64          // when the last batch was committed

	// Of the last batch taken: its changes, and the heads before it of the accounts it moved.
	frames []frame.Located
	before map[holdfast.AccountID]holdfast.AccountHead
}

func (t *tail) take(r *frame.Reader, b *frame.Batch, gap bool) error {
	if !gap {
		t.at, t.frames, t.before = b.Commit.Time, t.frames[:0], map[holdfast.AccountID]holdfast.AccountHead{}
	}
	for i := range b.Frames {
		f := &b.Frames[i]
		if f.Type != frame.TypeCheckpoint && !f.IsChange() {
			continue
		}
		payload, err := r.Load(f)
		if err != nil {
			return err
		}
		if gap {
			if f.IsChange() {
				t.beyond = append(t.beyond, f.Head())
			}
			continue
		}
		if f.Type == frame.TypeCheckpoint {
			if err := t.checkpoint(payload); err != nil {
				return err
			}
			continue
		}
		t.change(f, payload)
	}
	if len(t.beyond) > 2*frame.MaxBatch {
		t.compact()
	}
	return nil
}

// compact keeps the last head of each account.
func (t *tail) compact() {
	last := Recovered{Witness: map[holdfast.AccountID]holdfast.AccountHead{}}
	last.raise(t.beyond...)
	t.beyond = t.beyond[:0]
	for _, h := range last.Witness {
		t.beyond = append(t.beyond, h)
	}
}

func (t *tail) checkpoint(payload []byte) error {
	c, err := frame.ParseCheckpoint(payload)
	if err != nil {
		return err
	}
	if c.Part != t.parts {
		return fmt.Errorf("checkpoint part %d where %d belongs: %w", c.Part, t.parts, holdfast.ErrCorrupt)
	}
	for _, h := range c.Heads {
		t.heads[h.Account] = h
	}
	t.parts++
	t.complete = t.parts == c.Parts
	return nil
}

func (t *tail) change(f *frame.Located, payload []byte) {
	head := t.heads[f.Account]
	t.frames = append(t.frames, frame.Located{Header: f.Header, Offset: f.Offset})
	if f.Seq <= head.Head.Seq {
		return // a refill
	}
	hash, err := frame.ChainHash(head.Head.Hash, payload)
	if f.Seq != head.Head.Seq+1 || err != nil || hash != f.Hash || f.Epoch < head.Epoch {
		if t.broken == nil {
			t.broken = &frame.Located{Header: f.Header, Offset: f.Offset}
		}
		t.beyond = append(t.beyond, f.Head())
		return
	}
	if _, ok := t.before[f.Account]; !ok {
		t.before[f.Account] = head
	}
	t.heads[f.Account] = f.Head()
}

func (t *tail) damage(s *segment) []Damage {
	if t.broken == nil {
		return nil
	}
	return []Damage{{Kind: Corrupt, Object: s.name, Offset: t.broken.Offset, Pos: t.broken.Pos, Err: fmt.Errorf(
		"account %s seq %s does not follow the frame before it: %w", t.broken.Account, t.broken.Seq, holdfast.ErrCorrupt)}}
}

// checkLinks proves by footers and headers that the segments before the last are there and follow
// one another. last is the header of the last of segs.
func (m *Mirror) checkLinks(ctx context.Context, segs []segment, last *frame.SegmentHeader) ([]Damage, error) {
	var damage []Damage
	if segs[0].first != 1 {
		damage = append(damage, Damage{Kind: Missing, Object: segmentName(segs[0].term, 1, true), Pos: 1, Err: fmt.Errorf("first segment of the log: %w", holdfast.ErrNotFound)})
	}
	next := last
	for k := len(segs) - 2; k >= 0; k-- {
		s := &segs[k]
		h, f, err := m.readEnds(ctx, s)
		if err != nil && !errors.Is(err, holdfast.ErrCorrupt) {
			return damage, fmt.Errorf("%s: %w", s.name, err)
		}
		if err != nil {
			damage = append(damage, Damage{Kind: Corrupt, Object: s.name, Pos: s.first, Err: err})
			next = nil
			continue
		}
		damage = append(damage, link(s, f, next)...)
		next = h
	}
	return damage, nil
}

// readEnds reads the header of a segment, and its footer by the offset that ends a sealed one.
func (m *Mirror) readEnds(ctx context.Context, s *segment) (*frame.SegmentHeader, *frame.Footer, error) {
	if !s.sealed {
		g, err := m.readSegment(ctx, s, nil, func(*frame.Reader, *frame.Batch, bool) error { return nil })
		if err != nil {
			return nil, nil, err
		}
		if g.corrupt() || g.footer == nil {
			return nil, nil, fmt.Errorf("no end that can be read: %w", holdfast.ErrCorrupt)
		}
		return g.header, g.footer, nil
	}
	o, err := m.cfg.Bucket.Open(ctx, s.name)
	if err != nil {
		return nil, nil, fmt.Errorf("open segment: %w", err)
	}
	defer o.Close() //nolint:errcheck // read only
	r, err := frame.NewReader(o, o.Size())
	if err != nil {
		return nil, nil, err
	}
	f, err := frame.ReadFooter(o, o.Size())
	if err != nil {
		return nil, nil, err
	}
	if r.Header().First != s.first || r.Header().Log.Term != s.term {
		return nil, nil, fmt.Errorf("the header is of pos %d of log %s: %w", r.Header().First, r.Header().Log.Term, holdfast.ErrCorrupt)
	}
	return r.Header(), f, nil
}

// link compares a segment's footer with the header of the segment that follows.
func link(s *segment, f *frame.Footer, next *frame.SegmentHeader) []Damage {
	switch {
	case s.next != 0 && f.Last+1 != s.next:
		return []Damage{{Kind: Missing, Object: segmentName(s.term, f.Last+1, true), Pos: f.Last + 1, Err: fmt.Errorf("the segment after %s: %w", s.name, holdfast.ErrNotFound)}}
	case next != nil && next.Prev != f.Hash:
		return []Damage{{Kind: Corrupt, Object: s.name, Pos: s.first, Err: fmt.Errorf("its footer is not the one the next segment names: %w", holdfast.ErrCorrupt)}}
	}
	return nil
}

// describe fills in what names alone say of all logs.
func (m *Mirror) describe(rec *Recovered, logs []logFiles, claims map[uint64]Claim, hf *headFile) {
	there := hf == nil
	for i := range logs {
		l, info := &logs[i], &rec.Logs[i]
		there = there || hf.log.Term == l.term
		info.Segments = len(l.segments)
		for _, s := range l.segments {
			info.Bytes += s.size
		}
		info.Sealed = l.segments[len(l.segments)-1].sealed
		if _, ok := claims[l.term.Number]; !ok {
			rec.Damage = append(rec.Damage, Damage{Kind: Missing, Object: claimName(l.term.Number), Err: fmt.Errorf("the claim of log %s: %w", l.term, holdfast.ErrNotFound)})
		}
		if first := l.segments[0].first; first != 1 && !info.Used {
			rec.Damage = append(rec.Damage, Damage{Kind: Missing, Object: segmentName(l.term, 1, true), Pos: 1, Err: fmt.Errorf("first segment of the log: %w", holdfast.ErrNotFound)})
		}
	}
	if !there {
		rec.Damage = append(rec.Damage, Damage{Kind: Missing, Object: logPrefix + hf.log.Term.String(), Pos: 1, Err: fmt.Errorf("the log the head file names: %w", holdfast.ErrNotFound)})
	}
}
