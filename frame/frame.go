package frame

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"holdfast"
)

// Type says what a frame holds. Zero is invalid, so that preallocated zeros never parse.
type Type uint8

// The types of frames. docs/formats/frame.md has the byte tables.
const (
	TypeChange     Type = 1 // one change of one account
	TypeCommit     Type = 2 // ends a batch: the frames since the last one count from here on, together
	TypeCheckpoint Type = 3 // the heads of all accounts, or a part of them
	TypeTombstone  Type = 4 // stands for a change frame; at least one operation was erased
	TypeFooter     Type = 5 // ends a segment
)

// String returns the word for the type.
func (t Type) String() string {
	switch t {
	case TypeChange:
		return "change"
	case TypeCommit:
		return "commit"
	case TypeCheckpoint:
		return "checkpoint"
	case TypeTombstone:
		return "tombstone"
	case TypeFooter:
		return "footer"
	}
	return "invalid"
}

// logical is the type the log chain covers: a tombstone stands for the change it replaced.
func (t Type) logical() Type {
	if t == TypeTombstone {
		return TypeChange
	}
	return t
}

// Sizes in bytes that the format fixes.
const (
	HeaderSize = 128  // of a frame
	BatchAlign = 4096 // batches and footers start at multiples of this, so no durable byte is ever written again
	align      = 8    // frames start at multiples of this
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// LogID names one log: the frames that the claimant of one term wrote to one mirror.
type LogID struct {
	Server holdfast.ServerID
	Mirror [16]byte
	Term   holdfast.Term
}

func (id LogID) bytes() []byte {
	b := make([]byte, 0, 48)
	b = append(b, id.Server[:]...)
	b = append(b, id.Mirror[:]...)
	b = binary.LittleEndian.AppendUint64(b, id.Term.Number)
	return binary.LittleEndian.AppendUint64(b, id.Term.Random)
}

// Seed starts the checksum of every frame of one log. Frames of another log, and bytes of a body
// that only look like a frame, therefore do not pass.
type Seed uint32

// Seed returns the CRC32C of the log's name.
func (id LogID) Seed() Seed { return Seed(crc32.Checksum(id.bytes(), castagnoli)) }

// Start returns the log chain hash before the first frame: SHA-256 of the log's name.
func (id LogID) Start() holdfast.Hash { return sha256.Sum256(id.bytes()) }

// Header is the fixed part of a frame.
type Header struct {
	Type     Type
	Size     int // bytes of the payload
	Epoch    holdfast.Epoch
	Pos      uint64 // dense number in its log, from 1; a footer has that of the frame after it
	Account  holdfast.AccountID
	Seq      holdfast.Seq
	SyncedTo uint64        // a promise: every frame of this log below this pos was durable when this one was written
	Term     holdfast.Term // a change's own; otherwise the log's
	Hash     holdfast.Hash // a change's account chain hash; otherwise SHA-256 of the payload
	Chain    holdfast.Hash // log chain hash up to and with this frame; a footer repeats that of the frame before it
}

// IsChange reports whether the frame holds a change, erased in part or not.
func (h *Header) IsChange() bool { return h.Type.logical() == TypeChange }

// Head returns the account head that a change frame makes.
func (h *Header) Head() holdfast.AccountHead {
	return holdfast.AccountHead{Account: h.Account, Epoch: h.Epoch, Head: holdfast.Head{Seq: h.Seq, Hash: h.Hash}}
}

// Next returns the log chain hash after this frame, given the one before it. It does not cover the
// payload's bytes: a tombstone can stand for a change and the chain still verifies.
func (h *Header) Next(prev holdfast.Hash) holdfast.Hash {
	b := make([]byte, 0, 93)
	b = append(b, prev[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.Pos)
	b = append(b, byte(h.Type.logical()))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Account))
	b = binary.LittleEndian.AppendUint32(b, uint32(h.Epoch))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Seq))
	b = append(b, h.Hash[:]...)
	return sha256.Sum256(b)
}

// Len returns the bytes that a frame with a payload of n bytes takes, padding included.
func Len(n int) int64 { return (HeaderSize + int64(n) + align - 1) &^ (align - 1) }

// AlignBatch returns the first offset at or after off where a batch may start.
func AlignBatch(off int64) int64 { return (off + BatchAlign - 1) &^ (BatchAlign - 1) }

// Append encodes a frame after dst. h.Size is taken from the payload.
func Append(dst []byte, seed Seed, h *Header, payload []byte) []byte {
	base := len(dst)
	dst = append(dst, 0, 0, 0, 0) // checksum
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(payload)))
	dst = append(dst, byte(h.Type), 0, 0, 0) // type, flags, reserved
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.Epoch))
	dst = binary.LittleEndian.AppendUint64(dst, h.Pos)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.Account))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(h.Seq))
	dst = binary.LittleEndian.AppendUint64(dst, h.SyncedTo)
	dst = binary.LittleEndian.AppendUint64(dst, h.Term.Number)
	dst = binary.LittleEndian.AppendUint64(dst, h.Term.Random)
	dst = append(dst, h.Hash[:]...)
	dst = append(dst, h.Chain[:]...)
	dst = append(dst, payload...)
	var pad [align]byte
	dst = append(dst, pad[:int(Len(len(payload)))-HeaderSize-len(payload)]...)
	binary.LittleEndian.PutUint32(dst[base:], crc32.Update(uint32(seed), castagnoli, dst[base+4:]))
	return dst
}

// ParseHeader reads the first HeaderSize bytes of a frame and refuses what cannot be one. The
// checksum is not looked at: Decode does that.
func ParseHeader(b []byte) (Header, error) {
	var h Header
	if len(b) < HeaderSize {
		return h, fmt.Errorf("frame header of %d bytes: %w", len(b), holdfast.ErrCorrupt)
	}
	size := binary.LittleEndian.Uint32(b[4:])
	h.Type = Type(b[8])
	switch {
	case h.Type < TypeChange || h.Type > TypeFooter:
		return h, fmt.Errorf("frame of type %d: %w", b[8], holdfast.ErrCorrupt)
	case b[9] != 0:
		return h, fmt.Errorf("frame with unknown flags %#02x: %w", b[9], holdfast.ErrCorrupt)
	case b[10] != 0 || b[11] != 0:
		return h, fmt.Errorf("frame with reserved bytes set: %w", holdfast.ErrCorrupt)
	case size > MaxPayload:
		return h, fmt.Errorf("frame with a payload of %d bytes: %w", size, holdfast.ErrCorrupt)
	}
	h.Size = int(size)
	h.Epoch = holdfast.Epoch(binary.LittleEndian.Uint32(b[12:]))
	h.Pos = binary.LittleEndian.Uint64(b[16:])
	h.Account = holdfast.AccountID(binary.LittleEndian.Uint64(b[24:]))
	h.Seq = holdfast.Seq(binary.LittleEndian.Uint64(b[32:]))
	h.SyncedTo = binary.LittleEndian.Uint64(b[40:])
	h.Term = holdfast.Term{Number: binary.LittleEndian.Uint64(b[48:]), Random: binary.LittleEndian.Uint64(b[56:])}
	copy(h.Hash[:], b[64:96])
	copy(h.Chain[:], b[96:128])
	if h.Pos == 0 || h.SyncedTo > h.Pos {
		return h, fmt.Errorf("frame with pos %d synced to %d: %w", h.Pos, h.SyncedTo, holdfast.ErrCorrupt)
	}
	return h, nil
}

// Decode reads the frame at the start of b: its checksum, and that the payload is the one the header
// names. The payload aliases b; the frame takes Len(h.Size) bytes. The chains are the caller's to check.
func Decode(b []byte, seed Seed) (Header, []byte, error) {
	h, err := ParseHeader(b)
	if err != nil {
		return h, nil, err
	}
	n := Len(h.Size)
	if int64(len(b)) < n {
		return h, nil, fmt.Errorf("frame of %d bytes in %d: %w", n, len(b), holdfast.ErrCorrupt)
	}
	if got, want := crc32.Update(uint32(seed), castagnoli, b[4:n]), binary.LittleEndian.Uint32(b); got != want {
		return h, nil, fmt.Errorf("frame checksum %08x, its bytes give %08x: %w", want, got, holdfast.ErrCorrupt)
	}
	payload := b[HeaderSize : HeaderSize+h.Size : HeaderSize+h.Size]
	for _, p := range b[HeaderSize+h.Size : n] {
		if p != 0 {
			return h, nil, fmt.Errorf("frame padding is not zero: %w", holdfast.ErrCorrupt)
		}
	}
	return h, payload, h.match(payload)
}

// match checks that header and payload say the same.
func (h *Header) match(payload []byte) error {
	if h.IsChange() {
		id, err := Identify(payload)
		if err != nil {
			return err
		}
		if id.Account != h.Account || id.Epoch != h.Epoch || id.Seq != h.Seq || id.Term != h.Term {
			return fmt.Errorf("frame of account %s seq %s holds account %s seq %s: %w", h.Account, h.Seq, id.Account, id.Seq, holdfast.ErrCorrupt)
		}
		return nil
	}
	if h.Account != 0 || h.Seq != 0 || h.Epoch != 0 {
		return fmt.Errorf("%s frame that names an account: %w", h.Type, holdfast.ErrCorrupt)
	}
	if sha256.Sum256(payload) != h.Hash {
		return fmt.Errorf("%s frame whose payload has another hash: %w", h.Type, holdfast.ErrCorrupt)
	}
	return nil
}

// Identity is what the first bytes of a change say it is.
type Identity struct {
	Account holdfast.AccountID
	Epoch   holdfast.Epoch
	Seq     holdfast.Seq
	Term    holdfast.Term
}

// Identify reads the identity of a change payload without parsing its operations.
func Identify(payload []byte) (Identity, error) {
	canon, err := Canonical(payload)
	if err != nil {
		return Identity{}, err
	}
	r := reader{buf: canon, at: 1}
	return Identity{
		Account: holdfast.AccountID(r.u64()), Epoch: holdfast.Epoch(r.u32()), Seq: holdfast.Seq(r.u64()),
		Term: holdfast.Term{Number: r.u64(), Random: r.u64()},
	}, nil
}
