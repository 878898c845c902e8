package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/bucket"
)

// Scan reads the segments of a mirror from the medium, one after the other in the order of their
// terms and positions, so that a scrub can stop anywhere and go on later. It changes nothing and may run
// beside an open log. One goroutine uses it.
type Scan struct {
	m     *Mirror
	hf    *headFile
	logs  []logFiles
	i, k  int      // the next segment is logs[i].segments[k]
	end   *reading // of the segment before, if that was read and is of the same log
	plan  replay   // knows which frames were never acknowledged
	other []Damage // found by names alone; given with the first segment
}

// Scanned is one segment that was read.
type Scanned struct {
	Name   string // in the bucket; Mirror.Scan goes on behind it
	Size   int64  // bytes
	Sealed bool   // nothing is appended to it any more
	Damage []Damage
}

// ScanFrame is a change frame that can be read: checksum, commit frame and log chain are good. That it
// continues its account's chain is for the caller to prove.
type ScanFrame struct {
	frame.Header
	Payload []byte // valid until fn returns
	Orphan  bool   // a later log did not continue it: it was never acknowledged
}

// Scan begins behind the segment of the name after, at the first if that is empty. What is appended
// meanwhile may be read or not.
func (m *Mirror) Scan(ctx context.Context, after string) (*Scan, error) {
	hf, damage, err := m.readHeads(ctx) // before the logs are listed: it must not know more than they show
	if err != nil {
		return nil, fmt.Errorf("scan mirror %s: %w", m.cfg.Name, err)
	}
	logs, strange, err := m.logs(ctx)
	if err != nil {
		return nil, fmt.Errorf("scan mirror %s: %w", m.cfg.Name, err)
	}
	s := &Scan{m: m, hf: hf, logs: logs, plan: replay{m: m}, other: append(damage, strange...)}
	if err := s.plan.findFalls(ctx, logs); err != nil {
		return nil, fmt.Errorf("scan mirror %s: %w", m.cfg.Name, err)
	}
	if after == "" {
		return s, nil
	}
	s.other = nil // was said when this began
	last, err := parseSegmentName(after)
	if err != nil {
		return nil, fmt.Errorf("scan mirror %s: %w", m.cfg.Name, err)
	}
	for s.i < len(logs) && strings.Compare(logs[s.i].term.String(), last.term.String()) < 0 {
		s.i++
	}
	if s.i < len(logs) && logs[s.i].term == last.term {
		for s.k < len(logs[s.i].segments) && logs[s.i].segments[s.k].first <= last.first {
			s.k++
		}
	}
	return s, nil
}

// Left returns the bytes of the segments not yet read.
func (s *Scan) Left() (n int64) {
	for i := s.i; i < len(s.logs); i++ {
		for k, g := range s.logs[i].segments {
			if i > s.i || k >= s.k {
				n += g.size
			}
		}
	}
	return n
}

// Next reads the next segment and calls fn for each change in it. Damage, and a segment that the
// medium does not give, are in the result; an error is fn's, the context's, or says that the mirror is
// absent. io.EOF: there are no more segments.
func (s *Scan) Next(ctx context.Context, fn func(f *ScanFrame) error) (*Scanned, error) {
	for s.i < len(s.logs) && s.k == len(s.logs[s.i].segments) {
		s.i, s.k, s.end = s.i+1, 0, nil
		s.plan.bound = nil
	}
	if s.i == len(s.logs) {
		return nil, io.EOF
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l := &s.logs[s.i]
	g := &l.segments[s.k]
	out := &Scanned{Name: g.name, Size: g.size, Sealed: g.sealed || g.next != 0 || s.i < len(s.logs)-1, Damage: s.other}
	s.other = nil
	if s.k == 0 && g.first != 1 {
		out.Damage = append(out.Damage, Damage{Kind: Missing, Object: segmentName(l.term, 1, true), Pos: 1, Err: fmt.Errorf("first segment of the log: %w", holdfast.ErrNotFound)})
	}
	if s.plan.bound == nil {
		bound, err := s.plan.boundOf(ctx, s.logs, s.i)
		if err != nil && !s.passable(ctx, err) {
			return nil, fmt.Errorf("scan mirror %s: %w", s.m.cfg.Name, err)
		}
		s.plan.bound = bound
	}
	read, err := s.read(ctx, g, fn)
	var own *scanError
	switch {
	case errors.As(err, &own):
		return nil, own.err
	case err != nil && !s.passable(ctx, err):
		return nil, fmt.Errorf("scan mirror %s: %w", s.m.cfg.Name, err)
	case err != nil:
		out.Damage = append(out.Damage, Damage{Kind: Corrupt, Object: g.name, Pos: g.first, Err: err})
	default:
		out.Damage = append(out.Damage, read.damage...)
		out.Damage = append(out.Damage, s.linked(l, read)...)
	}
	s.end = read
	s.k++
	return out, nil
}

// scanError is what the caller's function returned.
type scanError struct{ err error }

func (e *scanError) Error() string { return e.err.Error() }

func (s *Scan) read(ctx context.Context, g *segment, fn func(f *ScanFrame) error) (*reading, error) {
	return s.m.readSegment(ctx, g, s.hf, func(r *frame.Reader, b *frame.Batch, _ bool) error {
		for i := range b.Frames {
			f := &b.Frames[i]
			if !f.IsChange() {
				continue
			}
			payload, err := r.Load(f)
			if err != nil {
				return err
			}
			if err := fn(&ScanFrame{Header: f.Header, Payload: payload, Orphan: s.plan.orphan(f)}); err != nil {
				return &scanError{err}
			}
		}
		return ctx.Err()
	})
}

// passable reports whether an error is of one object: the scan goes on behind it.
func (s *Scan) passable(ctx context.Context, err error) bool {
	return ctx.Err() == nil && !errors.Is(err, holdfast.ErrAbsent)
}

// linked compares a segment with the one before it in its log, and with the name of the one after it.
func (s *Scan) linked(l *logFiles, read *reading) (damage []Damage) {
	if s.k > 0 && s.end != nil && s.end.footer != nil {
		before := &l.segments[s.k-1]
		damage = link(before, s.end.footer, read.header)
		if read.header != nil && read.header.Chain != s.end.chain {
			damage = append(damage, Damage{
				Kind: Corrupt, Object: l.segments[s.k].name, Pos: l.segments[s.k].first,
				Err: fmt.Errorf("the log chain does not continue the segment before: %w", holdfast.ErrCorrupt),
			})
		}
	}
	return damage
}

// BlobInfo is a body that lies in a mirror, as its name says.
type BlobInfo struct {
	Account holdfast.AccountID
	Blob    frame.Blob // its size is that of the object
}

// Blobs yields the bodies whose names come after a blob, in order of account and hash; with the zero
// BlobInfo all of them. Objects whose names are none of a body's are passed over. An error ends it.
func (m *Mirror) Blobs(ctx context.Context, after BlobInfo) iter.Seq2[BlobInfo, error] {
	return func(yield func(BlobInfo, error) bool) {
		from := ""
		if after.Blob.Hash != (holdfast.Hash{}) {
			from = bucket.BlobName(after.Account, after.Blob.Hash)
		}
		for info, err := range m.cfg.Bucket.List(ctx, "blobs/") {
			if err != nil {
				yield(BlobInfo{}, fmt.Errorf("list blobs of mirror %s: %w", m.cfg.Name, err))
				return
			}
			a, h, err := bucket.ParseBlobName(info.Name)
			if err != nil || info.Name <= from {
				continue
			}
			if !yield(BlobInfo{a, frame.Blob{Hash: h, Size: info.Size}}, nil) {
				return
			}
		}
	}
}

// StatBlob returns a body as it lies here, with its size. It does not read it. ErrNotFound.
func (m *Mirror) StatBlob(ctx context.Context, a holdfast.AccountID, h holdfast.Hash) (frame.Blob, error) {
	info, err := m.cfg.Bucket.Stat(ctx, bucket.BlobName(a, h))
	if err != nil {
		return frame.Blob{}, fmt.Errorf("mirror %s: look for blob %s: %w", m.cfg.Name, h, err)
	}
	return frame.Blob{Hash: h, Size: info.Size}, nil
}

// CheckSmall reads what a mirror has beside its logs and bodies: marker, claims, head file. What was
// wrong with the claims of servers before is no more than their history.
func (m *Mirror) CheckSmall(ctx context.Context) ([]Damage, error) {
	c := &checker{m: m, Report: &Report{}}
	id, err := m.readMarker(ctx)
	switch {
	case errors.Is(err, holdfast.ErrCorrupt):
		c.add(Damage{Kind: Corrupt, Object: markerName, Err: err})
	case err == nil && id != m.id:
		err = fmt.Errorf("another mirror is in its place: %w", holdfast.ErrAbsent)
		fallthrough
	case err != nil:
		return nil, fmt.Errorf("check mirror %s: %w", m.cfg.Name, err)
	}
	_, damage, err := m.readHeads(ctx)
	if err != nil {
		return nil, fmt.Errorf("check mirror %s: %w", m.cfg.Name, err)
	}
	c.add(damage...)
	if err := c.claims(ctx); err != nil {
		return nil, fmt.Errorf("check mirror %s: %w", m.cfg.Name, err)
	}
	return c.Damage, nil
}
