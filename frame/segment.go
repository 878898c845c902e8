package frame

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"holdfast"
)

// SegmentHeaderSize is the bytes before the first batch of a segment.
const SegmentHeaderSize = BatchAlign

// segmentMagic begins every segment; its last three characters are the version.
const segmentMagic = "HFSEG001"

// SegmentHeader is the first 4 KiB of a segment.
type SegmentHeader struct {
	Log     LogID
	First   uint64        // pos of the first frame
	Prev    holdfast.Hash // hash of the previous segment's footer; zero in the first
	Chain   holdfast.Hash // log chain hash before the first frame
	Created int64         // milliseconds since 1970 UTC; for people
}

// Encode returns the 4 KiB.
func (h *SegmentHeader) Encode() []byte {
	b := make([]byte, 0, SegmentHeaderSize)
	b = append(b, segmentMagic...)
	b = append(b, h.Log.bytes()...)
	b = binary.LittleEndian.AppendUint64(b, h.First)
	b = append(b, h.Prev[:]...)
	b = append(b, h.Chain[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Created))
	b = b[:SegmentHeaderSize]
	binary.LittleEndian.PutUint32(b[SegmentHeaderSize-4:], crc32.Checksum(b[:SegmentHeaderSize-4], castagnoli))
	return b
}

// ParseSegmentHeader reads what Encode wrote.
func ParseSegmentHeader(b []byte) (*SegmentHeader, error) {
	if len(b) < SegmentHeaderSize {
		return nil, fmt.Errorf("segment header of %d bytes: %w", len(b), holdfast.ErrCorrupt)
	}
	b = b[:SegmentHeaderSize]
	if magic := b[:len(segmentMagic)]; string(magic) != segmentMagic {
		return nil, fmt.Errorf("segment header begins with %q, want %q: %w", magic, segmentMagic, holdfast.ErrCorrupt)
	}
	if crc32.Checksum(b[:SegmentHeaderSize-4], castagnoli) != binary.LittleEndian.Uint32(b[SegmentHeaderSize-4:]) {
		return nil, fmt.Errorf("segment header checksum: %w", holdfast.ErrCorrupt)
	}
	h := &SegmentHeader{}
	r := reader{buf: b, at: len(segmentMagic)}
	copy(h.Log.Server[:], r.bytes(16))
	copy(h.Log.Mirror[:], r.bytes(16))
	h.Log.Term = holdfast.Term{Number: r.u64(), Random: r.u64()}
	h.First = r.u64()
	copy(h.Prev[:], r.bytes(32))
	copy(h.Chain[:], r.bytes(32))
	h.Created = int64(r.u64())
	if h.First == 0 || h.Log.Term.Number == 0 {
		return nil, fmt.Errorf("segment header without term or pos: %w", holdfast.ErrCorrupt)
	}
	if h.First == 1 && (h.Prev != holdfast.Hash{} || h.Chain != h.Log.Start()) {
		return nil, fmt.Errorf("first segment of a log that continues another: %w", holdfast.ErrCorrupt)
	}
	if !zero(b[r.at : SegmentHeaderSize-4]) {
		return nil, fmt.Errorf("segment header with reserved bytes set: %w", holdfast.ErrCorrupt)
	}
	return h, nil
}

var zeros [4096]byte

func zero(b []byte) bool {
	for len(b) > len(zeros) {
		if !bytes.Equal(b[:len(zeros)], zeros[:]) {
			return false
		}
		b = b[len(zeros):]
	}
	return bytes.Equal(b, zeros[:len(b)])
}
