package frame

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"holdfast"
)

// Commit is the payload of the frame that ends a batch. It holds no checksum of the batch's bytes:
// each frame has its own, the log chain binds them, and an erase must not change it.
type Commit struct {
	First, Last uint64 // pos of the batch's first and last frame, the commit frame not counted
	Time        int64  // milliseconds since 1970 UTC; for people
}

const commitSize = 24

// Encode returns the payload.
func (c Commit) Encode() []byte {
	b := make([]byte, 0, commitSize)
	b = binary.LittleEndian.AppendUint64(b, c.First)
	b = binary.LittleEndian.AppendUint64(b, c.Last)
	return binary.LittleEndian.AppendUint64(b, uint64(c.Time))
}

// ParseCommit reads what Encode wrote.
func ParseCommit(b []byte) (Commit, error) {
	if len(b) != commitSize {
		return Commit{}, fmt.Errorf("commit of %d bytes: %w", len(b), holdfast.ErrCorrupt)
	}
	r := reader{buf: b}
	c := Commit{First: r.u64(), Last: r.u64(), Time: int64(r.u64())}
	if c.First == 0 || c.Last < c.First {
		return Commit{}, fmt.Errorf("commit of pos %d to %d: %w", c.First, c.Last, holdfast.ErrCorrupt)
	}
	return c, nil
}

// Checkpoint is one part of the heads of all accounts. The parts of a checkpoint follow one another
// in one batch; accounts rise strictly through all of them.
type Checkpoint struct {
	Part, Parts int // Part counts from 0
	Heads       []holdfast.AccountHead
}

const (
	checkpointVersion = 1
	checkpointHeader  = 16
	checkpointEntry   = 56
)

// MaxCheckpointHeads is the most heads that one checkpoint frame may hold.
const MaxCheckpointHeads = (MaxPayload - checkpointHeader) / checkpointEntry

// Encode appends the payload to dst.
func (c *Checkpoint) Encode(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, checkpointVersion)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(c.Part))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(c.Parts))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(c.Heads)))
	for i := range c.Heads {
		dst = AppendHead(dst, &c.Heads[i])
	}
	return dst
}

// AppendHead encodes one account head in 56 bytes.
func AppendHead(dst []byte, h *holdfast.AccountHead) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.Account))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.Head.Seq))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.Epoch))
	dst = append(dst, 0, 0, 0, 0)
	return append(dst, h.Head.Hash[:]...)
}

// ParseHeads reads n account heads that AppendHead wrote; nothing may follow, and accounts must rise.
func ParseHeads(b []byte, n int) ([]holdfast.AccountHead, error) {
	if n < 0 || len(b)%checkpointEntry != 0 || len(b)/checkpointEntry != n {
		return nil, fmt.Errorf("%d heads in %d bytes: %w", n, len(b), holdfast.ErrCorrupt)
	}
	heads := make([]holdfast.AccountHead, n)
	r := reader{buf: b}
	for i := range heads {
		h := &heads[i]
		h.Account, h.Head.Seq, h.Epoch = holdfast.AccountID(r.u64()), holdfast.Seq(r.u64()), holdfast.Epoch(r.u32())
		if r.u32() != 0 || h.Head.Seq == 0 || h.Epoch == 0 {
			return nil, fmt.Errorf("head %d has no seq, no epoch or reserved bytes set: %w", i, holdfast.ErrCorrupt)
		}
		if i > 0 && h.Account <= heads[i-1].Account {
			return nil, fmt.Errorf("head %d: account %s after %s: %w", i, h.Account, heads[i-1].Account, holdfast.ErrCorrupt)
		}
		copy(h.Head.Hash[:], r.bytes(32))
	}
	return heads, r.err
}

// ParseCheckpoint reads what Encode wrote.
func ParseCheckpoint(b []byte) (*Checkpoint, error) {
	if len(b) < checkpointHeader {
		return nil, fmt.Errorf("checkpoint of %d bytes: %w", len(b), holdfast.ErrCorrupt)
	}
	r := reader{buf: b}
	if v := r.u32(); v != checkpointVersion {
		return nil, fmt.Errorf("checkpoint of version %d, this program reads version %d: %w", v, checkpointVersion, holdfast.ErrCorrupt)
	}
	part, parts, n := r.u32(), r.u32(), r.u32()
	if part >= parts || n > MaxCheckpointHeads {
		return nil, fmt.Errorf("checkpoint part %d of %d with %d heads: %w", part, parts, n, holdfast.ErrCorrupt)
	}
	heads, err := ParseHeads(b[checkpointHeader:], int(n))
	if err != nil {
		return nil, fmt.Errorf("checkpoint part %d of %d: %w", part, parts, err)
	}
	return &Checkpoint{Part: int(part), Parts: int(parts), Heads: heads}, nil
}

// IndexStep is the distance, in frames, of the entries of a footer's index.
const IndexStep = 64

// Footer ends a segment.
type Footer struct {
	First, Last uint64        // pos of the segment's first and last frame
	Prev        holdfast.Hash // hash of the previous segment's footer; zero in the first
	Hash        holdfast.Hash // SHA-256(Prev || First || Last || log chain hash at Last)
	Index       []uint64      // file offsets of the frames First, First+64, First+128, ...
	Offset      uint64        // file offset of the footer frame itself; the last 8 bytes of a sealed file
}

const footerFixed = 8 + 8 + 32 + 32 + 4 + 4 + 8

// FooterHash returns the hash by which the next segment names this one. It covers frame hashes, not
// file bytes, so an erase does not change it.
func FooterHash(prev holdfast.Hash, first, last uint64, chain holdfast.Hash) holdfast.Hash {
	b := make([]byte, 0, 80)
	b = append(b, prev[:]...)
	b = binary.LittleEndian.AppendUint64(b, first)
	b = binary.LittleEndian.AppendUint64(b, last)
	b = append(b, chain[:]...)
	return sha256.Sum256(b)
}

// FooterLen returns the bytes of a footer frame for a segment of n frames.
func FooterLen(n uint64) int64 {
	return Len(footerFixed + 8*int((n+IndexStep-1)/IndexStep))
}

// Encode returns the payload.
func (f *Footer) Encode() []byte {
	b := make([]byte, 0, footerFixed+8*len(f.Index))
	b = binary.LittleEndian.AppendUint64(b, f.First)
	b = binary.LittleEndian.AppendUint64(b, f.Last)
	b = append(b, f.Prev[:]...)
	b = append(b, f.Hash[:]...)
	b = binary.LittleEndian.AppendUint32(b, IndexStep)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Index)))
	for _, o := range f.Index {
		b = binary.LittleEndian.AppendUint64(b, o)
	}
	return binary.LittleEndian.AppendUint64(b, f.Offset)
}

// ParseFooter reads what Encode wrote.
func ParseFooter(b []byte) (*Footer, error) {
	r := reader{buf: b}
	f := &Footer{First: r.u64(), Last: r.u64()}
	copy(f.Prev[:], r.bytes(32))
	copy(f.Hash[:], r.bytes(32))
	step, n := r.u32(), r.u32()
	if r.err != nil {
		return nil, fmt.Errorf("footer: %w", r.err)
	}
	if f.First == 0 || f.Last < f.First || step != IndexStep {
		return nil, fmt.Errorf("footer of pos %d to %d with an index of every %d: %w", f.First, f.Last, step, holdfast.ErrCorrupt)
	}
	if want := (f.Last-f.First)/IndexStep + 1; uint64(n) != want || uint64(len(b)) != footerFixed+8*want {
		return nil, fmt.Errorf("footer with %d index entries in %d bytes, want %d entries: %w", n, len(b), want, holdfast.ErrCorrupt)
	}
	f.Index = make([]uint64, n)
	for i := range f.Index {
		f.Index[i] = r.u64()
	}
	f.Offset = r.u64()
	return f, nil
}
