package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"holdfast"
)

// MaxBatch is the most frames a batch may have, its commit frame not counted.
const MaxBatch = 1 << 16

// BadError says where a segment stops being readable. What it means (torn or corrupt) depends on
// what follows and on other witnesses: docs/formats/segment.md, "Reading the end".
type BadError struct {
	Offset int64  // of the first frame that is not good
	Pos    uint64 // from this one on nothing is committed: the first pos of the batch it would belong to
	Err    error  // wraps holdfast.ErrCorrupt
}

func (e *BadError) Error() string {
	return fmt.Sprintf("offset %d, pos %d: %v", e.Offset, e.Pos, e.Err)
}

func (e *BadError) Unwrap() error { return e.Err }

// Located is a frame and where it lies in its segment.
type Located struct {
	Header
	Offset  int64
	payload []byte // a copy, or nil: read it again
}

// Batch is what one commit frame made count.
type Batch struct {
	Frames []Located // in order, without the commit frame
	Commit Commit
	Dirty  *BadError // the bytes behind the batch should be zero and are not; the frames are good
	arena  []byte
	kept   int // bytes of payloads
}

// keep is the bytes of payloads that a Reader keeps of a batch; it reads the others again.
const (
	keep       = 1 << 20
	arenaBlock = 16 << 10
)

// Reader reads the committed batches of one segment in order. It never holds more than one frame,
// one batch of headers and 1 MiB of payloads in memory.
type Reader struct {
	win     window
	head    *SegmentHeader
	seed    Seed
	off     int64 // of the next batch
	pos     uint64
	chain   holdfast.Hash
	skipped bool // chain is unknown until the next frame, and the index is not complete
	blind   bool // chain is unknown now
	index   []uint64
	footer  *Footer
	batch   Batch
	done    bool
}

// NewReader reads the header of a segment of size bytes. ErrCorrupt: it has none that this program reads.
func NewReader(r io.ReaderAt, size int64) (*Reader, error) {
	rd := &Reader{win: window{r: r, size: size}, off: SegmentHeaderSize}
	b, err := rd.win.bytes(0, SegmentHeaderSize)
	if err != nil {
		return nil, err
	}
	if rd.head, err = ParseSegmentHeader(b); err != nil {
		return nil, err
	}
	rd.seed, rd.pos, rd.chain = rd.head.Log.Seed(), rd.head.First, rd.head.Chain
	return rd, nil
}

// Header returns the segment's header.
func (r *Reader) Header() *SegmentHeader { return r.head }

// Footer returns the footer once Next returned io.EOF, or nil if there is none.
func (r *Reader) Footer() *Footer { return r.footer }

// Pos returns the pos after the last committed frame, Chain the log chain hash there, Offset where
// the next batch would start.
func (r *Reader) Pos() uint64          { return r.pos }
func (r *Reader) Chain() holdfast.Hash { return r.chain }
func (r *Reader) Offset() int64        { return r.off }

// Next returns the next batch; it is valid until the next call. io.EOF: the footer was read, or only
// zeros follow. A *BadError: something else follows; Later and Skip look beyond it. Any other error
// came from the medium.
func (r *Reader) Next() (*Batch, error) {
	if r.done || r.off >= r.win.size {
		return nil, io.EOF
	}
	b := &r.batch
	b.Frames, b.arena, b.kept, b.Dirty = b.Frames[:0], b.arena[:0], 0, nil
	off, pos, chain := r.off, r.pos, r.chain
	indexed := len(r.index)
	bad := func(err error) (*Batch, error) {
		r.index = r.index[:indexed]
		if errors.Is(err, holdfast.ErrCorrupt) {
			err = &BadError{Offset: off, Pos: r.pos, Err: err}
		}
		return nil, err
	}
	if empty, err := r.win.zeroFrom(off, HeaderSize); err != nil {
		return nil, err
	} else if empty {
		return r.end(off)
	}
	blind := r.blind
	for {
		h, payload, err := r.frame(off)
		if err != nil {
			return bad(err)
		}
		if blind && h.Type == TypeFooter {
			chain = h.Chain
		}
		if err := r.expect(&h, pos, chain, blind); err != nil {
			return bad(err)
		}
		blind = false
		if h.Type == TypeFooter {
			if err := r.takeFooter(&h, payload, off); err != nil {
				return bad(err)
			}
			return r.end(off + Len(h.Size))
		}
		if (pos-r.head.First)%IndexStep == 0 {
			r.index = append(r.index, uint64(off))
		}
		pos, chain = pos+1, h.Chain
		if h.Type != TypeCommit {
			if len(b.Frames) == MaxBatch {
				return bad(fmt.Errorf("batch of more than %d frames: %w", MaxBatch, holdfast.ErrCorrupt))
			}
			b.add(Located{Header: h, Offset: off}, payload)
			off += Len(h.Size)
			continue
		}
		if err := r.commit(payload, off+Len(h.Size), pos, chain); err != nil {
			return bad(err)
		}
		return b, nil
	}
}

// commit takes the payload of the commit frame that ends at off; pos and chain are those after it.
func (r *Reader) commit(payload []byte, off int64, pos uint64, chain holdfast.Hash) error {
	c, err := ParseCommit(payload)
	if err != nil {
		return err
	}
	if c.First != r.pos || c.Last != pos-2 {
		return fmt.Errorf("commit of pos %d to %d after a batch of %d to %d: %w", c.First, c.Last, r.pos, pos-2, holdfast.ErrCorrupt)
	}
	ok, err := r.win.zeroFrom(off, AlignBatch(off)-off)
	if err != nil {
		return err
	}
	if !ok {
		r.batch.Dirty = &BadError{Offset: off, Pos: pos, Err: fmt.Errorf("bytes between batches are not zero: %w", holdfast.ErrCorrupt)}
	}
	r.batch.Commit = c
	r.off, r.pos, r.chain, r.blind = AlignBatch(off), pos, chain, false
	return nil
}

// Again makes the next read see the segment as it is now. After a BadError, Next then tries the same
// batch once more.
func (r *Reader) Again() { r.win.buf = r.win.buf[:0] }

// Rest returns the frames that lie before a BadError in a batch that has no commit frame. They do not count.
func (r *Reader) Rest() []Located { return r.batch.Frames }

// add keeps a copy of the payload if there is room. A block of the arena never moves: payloads alias it.
func (b *Batch) add(l Located, payload []byte) {
	if b.kept+len(payload) <= keep {
		if len(b.arena)+len(payload) > cap(b.arena) {
			b.arena = make([]byte, 0, max(arenaBlock, len(payload)))
		}
		at := len(b.arena)
		b.arena = append(b.arena, payload...)
		l.payload = b.arena[at:len(b.arena):len(b.arena)]
		b.kept += len(payload)
	}
	b.Frames = append(b.Frames, l)
}

// expect checks what a frame must be in this place.
func (r *Reader) expect(h *Header, pos uint64, chain holdfast.Hash, blind bool) error {
	switch {
	case h.Pos != pos:
		return fmt.Errorf("frame of pos %d where %d belongs: %w", h.Pos, pos, holdfast.ErrCorrupt)
	case h.SyncedTo != r.pos:
		return fmt.Errorf("frame synced to %d in the batch of %d: %w", h.SyncedTo, r.pos, holdfast.ErrCorrupt)
	case h.Type == TypeFooter && (pos != r.pos || h.Chain != chain):
		return fmt.Errorf("footer in a batch, or of another chain: %w", holdfast.ErrCorrupt)
	case h.Type != TypeFooter && !blind && h.Next(chain) != h.Chain:
		return fmt.Errorf("log chain does not match: %w", holdfast.ErrCorrupt)
	case !h.IsChange() && h.Term != r.head.Log.Term:
		return fmt.Errorf("%s frame of term %s: %w", h.Type, h.Term, holdfast.ErrCorrupt)
	}
	return nil
}

func (r *Reader) takeFooter(h *Header, payload []byte, off int64) error {
	f, err := ParseFooter(payload)
	if err != nil {
		return err
	}
	switch {
	case f.First != r.head.First || f.Last != r.pos-1 || f.Prev != r.head.Prev || f.Offset != uint64(off):
		return fmt.Errorf("footer of another segment: %w", holdfast.ErrCorrupt)
	case f.Hash != FooterHash(f.Prev, f.First, f.Last, h.Chain):
		return fmt.Errorf("footer hash: %w", holdfast.ErrCorrupt)
	}
	for i, o := range r.index {
		if !r.skipped && (i >= len(f.Index) || f.Index[i] != o) {
			return fmt.Errorf("footer index entry %d: %w", i, holdfast.ErrCorrupt)
		}
	}
	r.footer, r.chain, r.blind = f, h.Chain, false
	return nil
}

// end is where nothing but zeros may follow.
func (r *Reader) end(off int64) (*Batch, error) {
	ok, err := r.win.zeroFrom(off, r.win.size-off)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &BadError{Offset: off, Pos: r.pos, Err: fmt.Errorf("zeros where a batch or the end belongs: %w", holdfast.ErrCorrupt)}
	}
	r.done = true
	return nil, io.EOF
}

// frame decodes the frame at off. The payload is valid until the window moves.
func (r *Reader) frame(off int64) (Header, []byte, error) {
	b, err := r.win.bytes(off, HeaderSize)
	if err != nil {
		return Header{}, nil, err
	}
	h, err := ParseHeader(b)
	if err != nil {
		return h, nil, err
	}
	if b, err = r.win.bytes(off, Len(h.Size)); err != nil {
		return h, nil, err
	}
	return Decode(b, r.seed)
}

// Load returns the payload of a frame that Next returned, from memory or read and verified again.
// It is valid until the next call of Load or Next.
func (r *Reader) Load(l *Located) ([]byte, error) {
	if l.payload != nil {
		return l.payload, nil
	}
	h, payload, err := r.frame(l.Offset)
	if err != nil {
		return nil, fmt.Errorf("offset %d: %w", l.Offset, err)
	}
	if h != l.Header {
		return nil, fmt.Errorf("offset %d: the frame changed: %w", l.Offset, holdfast.ErrCorrupt)
	}
	return payload, nil
}

// ErrUnclear says that a damaged segment holds so much that looks like frames that it cannot be told
// in bounded time what follows the damage. It must be taken for the worse case.
var ErrUnclear = errors.New("damage is unclear")

// Later calls fn for every frame with a good checksum beyond a BadError's offset, committed or not,
// until fn returns false. It reads every byte to the end of the segment.
func (r *Reader) Later(bad *BadError, fn func(Located) bool) error {
	return r.search(bad, align, fn)
}

// Skip moves behind a BadError to the next place where a batch, or the footer, starts and reports
// whether there is one. The log chain is taken on trust there.
func (r *Reader) Skip(bad *BadError) (bool, error) {
	found := false
	err := r.search(bad, BatchAlign, func(l Located) bool {
		if found = l.Pos == l.SyncedTo; found {
			r.off, r.pos, r.skipped, r.blind, r.done = l.Offset, l.Pos, true, true, false
		}
		return !found
	})
	return found, err
}

func (r *Reader) search(bad *BadError, step int64, fn func(Located) bool) error {
	budget := 16 * (r.win.size - bad.Offset)
	for off := (bad.Offset/step + 1) * step; off+HeaderSize <= r.win.size; {
		b, err := r.win.bytes(off, HeaderSize)
		if err != nil {
			return err
		}
		if t := Type(b[8]); t < TypeChange || t > TypeFooter { // nearly always; cheaper than an error
			off += step
			continue
		}
		h, err := ParseHeader(b)
		if err != nil || h.Pos < bad.Pos || h.Pos-bad.Pos > uint64(r.win.size)/HeaderSize || off+Len(h.Size) > r.win.size {
			off += step
			continue
		}
		if h, _, err = r.frame(off); err == nil {
			if !fn(Located{Header: h, Offset: off}) {
				return nil
			}
			off = (off + Len(h.Size) + step - 1) / step * step
			continue
		}
		if !errors.Is(err, holdfast.ErrCorrupt) {
			return err
		}
		if budget -= Len(h.Size); budget < 0 {
			return fmt.Errorf("search behind offset %d: %w", bad.Offset, ErrUnclear)
		}
		off += step
	}
	return nil
}

// ReadFooter reads the footer of a sealed segment without the frames before it, by the offset in the
// last 8 bytes, and the log chain hash that it repeats.
func ReadFooter(r io.ReaderAt, size int64) (*Footer, error) {
	rd, err := NewReader(r, size)
	if err != nil {
		return nil, err
	}
	b, err := rd.win.bytes(size-8, 8)
	if err != nil {
		return nil, err
	}
	off := binary.LittleEndian.Uint64(b)
	if off < SegmentHeaderSize || off > uint64(size) || off%BatchAlign != 0 {
		return nil, fmt.Errorf("footer at offset %d of %d: %w", off, size, holdfast.ErrCorrupt)
	}
	h, payload, err := rd.frame(int64(off))
	if err != nil {
		return nil, fmt.Errorf("footer at offset %d: %w", off, err)
	}
	if h.Type != TypeFooter || int64(off)+Len(h.Size) != size {
		return nil, fmt.Errorf("%s frame where the footer belongs: %w", h.Type, holdfast.ErrCorrupt)
	}
	rd.pos, rd.skipped = h.Pos, true
	if err := rd.takeFooter(&h, payload, int64(off)); err != nil {
		return nil, err
	}
	return rd.footer, nil
}

// window gives bytes of a segment from one buffer that it moves over it.
type window struct {
	r    io.ReaderAt
	size int64
	off  int64
	buf  []byte
	ask  int64 // what the last read asked for
}

// What a window reads at once: little at first, for who wants the header only; a larger frame makes it grow.
const (
	firstChunk = 16 << 10
	chunk      = 256 << 10
)

// bytes returns n bytes at off, valid until the next call. ErrCorrupt: the segment is shorter.
func (w *window) bytes(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off+n > w.size {
		return nil, fmt.Errorf("%d bytes wanted at %d of %d: %w", n, off, w.size, holdfast.ErrCorrupt)
	}
	if off < w.off || off+n > w.off+int64(len(w.buf)) {
		w.ask = min(max(firstChunk, 2*w.ask), chunk)
		want := min(max(n, w.ask), w.size-off)
		if int64(cap(w.buf)) < want {
			w.buf = make([]byte, want)
		}
		w.off, w.buf = off, w.buf[:want]
		got, err := w.r.ReadAt(w.buf, off)
		if got < len(w.buf) && err != nil && !errors.Is(err, io.EOF) {
			w.buf = w.buf[:0]
			return nil, fmt.Errorf("read at %d: %w", off, err)
		}
		if got < len(w.buf) { // it was cut meanwhile: that is how a segment is sealed
			w.buf, w.size = w.buf[:got], off+int64(got)
		}
		if off+n > w.size {
			return nil, fmt.Errorf("%d bytes wanted at %d of %d: %w", n, off, w.size, holdfast.ErrCorrupt)
		}
	}
	return w.buf[off-w.off : off-w.off+n : off-w.off+n], nil
}

// zeroFrom reports whether n bytes at off, as far as the segment goes, are zero.
func (w *window) zeroFrom(off, n int64) (bool, error) {
	for end := off + n; off < min(end, w.size); {
		size := w.size
		b, err := w.bytes(off, min(chunk, end-off, w.size-off))
		if err != nil && w.size < size {
			continue // it was cut meanwhile
		}
		if err != nil {
			return false, err
		}
		if !zero(b) {
			return false, nil
		}
		off += int64(len(b))
	}
	return true, nil
}
