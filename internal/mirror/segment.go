package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"holdfast"
	"holdfast/frame"
)

const (
	logPrefix  = "log/"
	openSuffix = ".open"
	sealSuffix = ".seg"
)

// segment is one file of a log, as its name says.
type segment struct {
	name   string
	term   holdfast.Term
	first  uint64
	size   int64
	sealed bool
	next   uint64 // first pos of the following segment; 0: this is the last
}

// logFiles are the segments of one log in order.
type logFiles struct {
	term     holdfast.Term
	segments []segment
}

func segmentName(t holdfast.Term, first uint64, sealed bool) string {
	suffix := openSuffix
	if sealed {
		suffix = sealSuffix
	}
	return fmt.Sprintf("%s%s/%016x%s", logPrefix, t, first, suffix)
}

func parseSegmentName(name string) (segment, error) {
	s := segment{name: name}
	dir, file, ok := strings.Cut(strings.TrimPrefix(name, logPrefix), "/")
	t, err := holdfast.ParseTerm(dir)
	if !ok || err != nil {
		return s, fmt.Errorf("%q is no segment: %w", name, holdfast.ErrCorrupt)
	}
	digits, _, _ := strings.Cut(file, ".")
	s.term, s.sealed = t, strings.HasSuffix(file, sealSuffix)
	if s.first, err = strconv.ParseUint(digits, 16, 64); err != nil || s.first == 0 || segmentName(t, s.first, s.sealed) != name {
		return s, fmt.Errorf("%q is no segment: %w", name, holdfast.ErrCorrupt)
	}
	return s, nil
}

// logs lists all logs by ascending term, and what lies among them and is no segment.
func (m *Mirror) logs(ctx context.Context) ([]logFiles, []Damage, error) {
	var all []segment
	var strange []Damage
	for info, err := range m.cfg.Bucket.List(ctx, logPrefix) {
		if err != nil {
			return nil, nil, fmt.Errorf("list logs: %w", err)
		}
		if len(all)+len(strange) == maxSmallFiles {
			return nil, nil, fmt.Errorf("more than %d segments: %w", maxSmallFiles, holdfast.ErrTooLarge)
		}
		s, err := parseSegmentName(info.Name)
		if err != nil {
			strange = append(strange, Damage{Kind: Corrupt, Object: info.Name, Err: err})
			continue
		}
		s.size = info.Size
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b segment) int {
		switch {
		case a.term != b.term:
			return strings.Compare(a.term.String(), b.term.String())
		case a.first != b.first && a.first < b.first:
			return -1
		case a.first != b.first:
			return 1
		}
		return strings.Compare(a.name, b.name) // .open before .seg
	})
	var logs []logFiles
	for _, s := range all {
		if len(logs) == 0 || logs[len(logs)-1].term != s.term {
			logs = append(logs, logFiles{term: s.term})
		}
		l := &logs[len(logs)-1]
		if n := len(l.segments); n > 0 {
			if l.segments[n-1].first == s.first {
				strange = append(strange, Damage{Kind: Corrupt, Object: s.name, Pos: s.first, Err: fmt.Errorf("open and sealed at once: %w", holdfast.ErrCorrupt)})
				l.segments = l.segments[:n-1]
			} else {
				l.segments[n-1].next = s.first
			}
		}
		l.segments = append(l.segments, s)
	}
	return logs, strange, nil
}

// reader opens a segment. done closes it.
func (m *Mirror) reader(ctx context.Context, name string) (r *frame.Reader, done func(), err error) {
	o, err := m.cfg.Bucket.Open(ctx, name)
	if open, ok := strings.CutSuffix(name, openSuffix); ok && errors.Is(err, holdfast.ErrNotFound) {
		o, err = m.cfg.Bucket.Open(ctx, open+sealSuffix) // it was sealed meanwhile
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open segment: %w", err)
	}
	done = func() { _ = o.Close() } // read only: nothing can be lost
	var at io.ReaderAt = o
	if m.hooks.object != nil {
		at = m.hooks.object(o)
	}
	if r, err = frame.NewReader(at, o.Size()); err != nil {
		done()
		return nil, nil, err
	}
	return r, done, nil
}

// segmentReader opens a segment and proves that its header is the one its name says.
func (m *Mirror) segmentReader(ctx context.Context, s *segment) (*frame.Reader, func(), error) {
	r, done, err := m.reader(ctx, s.name)
	if err != nil {
		return nil, nil, err
	}
	if h := r.Header(); h.Log != (frame.LogID{Server: m.cfg.Server, Mirror: m.id, Term: s.term}) || h.First != s.first {
		done()
		return nil, nil, fmt.Errorf("the header is of pos %d of log %s: %w", h.First, h.Log.Term, holdfast.ErrCorrupt)
	}
	return r, done, nil
}

// Kind says what a damage means.
type Kind uint8

const (
	// Torn is an end that nothing shows to have been durable: what a crash leaves. It is harmless,
	// if no other witness (store, other mirror, head file) knows a head that is missing now.
	Torn Kind = iota + 1
	// Corrupt is damage to bytes that were durable.
	Corrupt
	// Missing is something that was durable and is gone.
	Missing
)

// String returns the word for the kind.
func (k Kind) String() string {
	switch k {
	case Torn:
		return "torn"
	case Corrupt:
		return "corrupt"
	case Missing:
		return "missing"
	}
	return "invalid"
}

// Damage is one place where a mirror is not what it should be.
type Damage struct {
	Kind   Kind
	Object string // name in the bucket
	Offset int64  // bytes
	Pos    uint64 // frames of this pos and above may be concerned; 0 outside logs
	Err    error
}

// String returns a line for people.
func (d Damage) String() string {
	return fmt.Sprintf("%s: %s at offset %d, pos %d: %v", d.Kind, d.Object, d.Offset, d.Pos, d.Err)
}

// reading is what reading one segment gave.
type reading struct {
	header  *frame.SegmentHeader // nil: unreadable
	footer  *frame.Footer
	pos     uint64 // after the last committed frame
	chain   holdfast.Hash
	damage  []Damage
	witness []holdfast.AccountHead // of frames behind damage that were promised to be durable
	again   int64                  // offset of a bad end that was read a second time
}

func (g *reading) corrupt() bool {
	return slices.ContainsFunc(g.damage, func(d Damage) bool { return d.Kind != Torn })
}

// readSegment calls fn for each committed batch of a segment. It goes on behind damage (gap is true
// from there on) as long as the damage is not just a torn end. hf is the head file, or nil.
// The error is the medium's, or fn's.
func (m *Mirror) readSegment(ctx context.Context, s *segment, hf *headFile, fn func(r *frame.Reader, b *frame.Batch, gap bool) error) (*reading, error) {
	g := &reading{pos: s.first}
	mark := func(k Kind, off int64, pos uint64, err error) {
		g.damage = append(g.damage, Damage{Kind: k, Object: s.name, Offset: off, Pos: pos, Err: err})
	}
	r, done, err := m.segmentReader(ctx, s)
	if errors.Is(err, holdfast.ErrCorrupt) {
		mark(Corrupt, 0, s.first, err) // the header is durable before the name is there: never torn
		return g, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	defer done()
	g.header = r.Header()
	gap := false
	var dirty *frame.BadError // of the batch before: torn if nothing shows that it was durable
	for {
		b, err := r.Next()
		if dirty != nil && (err == nil || r.Footer() != nil) {
			mark(Corrupt, dirty.Offset, dirty.Pos, dirty.Err)
			dirty = nil
		}
		var bad *frame.BadError
		switch {
		case err == nil:
			dirty = b.Dirty
			if err := fn(r, b, gap); err != nil {
				return nil, err
			}
			continue
		case errors.Is(err, io.EOF):
			g.footer = r.Footer()
		case errors.As(err, &bad):
			more, err := m.classify(g, s, hf, r, bad)
			if err == nil && !more && m.hooks.noCommit {
				err = fn(r, &frame.Batch{Frames: r.Rest()}, gap)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			if more {
				gap = gap || g.corrupt()
				continue
			}
		default:
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		break
	}
	g.pos, g.chain = r.Pos(), r.Chain()
	if dirty != nil {
		mark(Torn, dirty.Offset, dirty.Pos, dirty.Err)
	}
	if lost := missingEnd(g, s, hf); lost != nil && !g.corrupt() {
		mark(Corrupt, r.Offset(), g.pos, lost)
	}
	return g, nil
}

// classify tells a torn end from damage (docs/formats/segment.md, "Reading the end") and reports
// whether there is more to read behind it.
func (m *Mirror) classify(g *reading, s *segment, hf *headFile, r *frame.Reader, bad *frame.BadError) (more bool, err error) {
	kind, why := Torn, bad.Err
	var pending []frame.Located // of the batch that is not yet known to be durable
	err = r.Later(bad, func(l frame.Located) bool {
		if l.SyncedTo > bad.Pos || l.Type == frame.TypeFooter {
			kind = Corrupt
		}
		if n := len(pending); n > 0 && l.SyncedTo > pending[n-1].Pos {
			for i := range pending {
				g.witness = append(g.witness, pending[i].Head())
			}
			pending = pending[:0]
		}
		if l.IsChange() && len(pending) < frame.MaxBatch {
			pending = append(pending, l)
		}
		return true
	})
	if errors.Is(err, frame.ErrUnclear) {
		kind, why, err = Corrupt, errors.Join(why, err), nil
	}
	if err != nil {
		return false, err
	}
	if s.sealed || s.next != 0 || hf.promises(s.term, bad.Pos) {
		kind = Corrupt
	}
	if kind == Corrupt && g.again != bad.Offset {
		// The log may have grown while it was read: what was durable before the evidence was is there now.
		g.again = bad.Offset
		r.Again()
		return true, nil
	}
	g.damage = append(g.damage, Damage{Kind: kind, Object: s.name, Offset: bad.Offset, Pos: bad.Pos, Err: why})
	if kind == Torn {
		return false, nil
	}
	return r.Skip(bad)
}

// missingEnd says why a segment that reads well to its end is still not whole, or nil.
func missingEnd(g *reading, s *segment, hf *headFile) error {
	switch {
	case g.footer == nil && s.sealed:
		return fmt.Errorf("sealed, but without its footer: %w", holdfast.ErrCorrupt)
	case g.footer == nil && s.next != 0:
		return fmt.Errorf("another segment follows, but it has no footer: %w", holdfast.ErrCorrupt)
	case hf.promises(s.term, g.pos) && s.next == 0:
		return fmt.Errorf("the head file knows pos %d: %w", hf.pos, holdfast.ErrCorrupt)
	}
	return nil
}
