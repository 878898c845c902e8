package witness

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"holdfast"
	"holdfast/frame"
)

// The byte tables are in docs/formats/witness.md.
const (
	magic      = "HFWITN01"
	page       = 4096 // records begin on pages: a write never touches a sector that holds an older record
	headSize   = 56
	fixedSize  = 8 + 16 + 16 + 16 + 8 + 4 + 4 // magic, server, witness, term, n, count, checksum
	maxRecord  = 1 << 28                      // bytes; the heads of about five million accounts
	recordType = "HFWITREC"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// label says to which object bytes belong, so that those of another one are never taken for its own.
type label struct {
	server  holdfast.ServerID
	witness [16]byte
	term    holdfast.Term
	n       uint64
}

func (w *Witness) label(t holdfast.Term, n uint64) label {
	return label{w.cfg.Server, w.id, t, n}
}

func objectName(t holdfast.Term, n uint64) string { return fmt.Sprintf("%s%s-%08x", prefix, t, n) }

func parseName(name string) (holdfast.Term, uint64, error) {
	rest := strings.TrimPrefix(name, prefix)
	i := strings.LastIndexByte(rest, '-')
	if i < 0 {
		return holdfast.Term{}, 0, fmt.Errorf("%q holds no heads: %w", name, holdfast.ErrCorrupt)
	}
	t, terr := holdfast.ParseTerm(rest[:i])
	n, nerr := strconv.ParseUint(rest[i+1:], 16, 32)
	if terr != nil || nerr != nil || objectName(t, n) != name {
		return holdfast.Term{}, 0, fmt.Errorf("%q holds no heads: %w", name, holdfast.ErrCorrupt)
	}
	return t, n, nil
}

func encodeHeader(l label, heads map[holdfast.AccountID]holdfast.AccountHead) ([]byte, error) {
	b := encode(magic, l, heads)
	if len(b) > maxRecord {
		return nil, fmt.Errorf("heads of %d accounts: %w", len(heads), holdfast.ErrTooLarge)
	}
	return b, nil
}

func encodeRecord(l label, heads map[holdfast.AccountID]holdfast.AccountHead) []byte {
	return encode(recordType, l, heads)
}

// encode lays out a header or a record: whole pages, zeros behind the heads.
func encode(kind string, l label, heads map[holdfast.AccountID]holdfast.AccountHead) []byte {
	size := fixedSize + headSize*len(heads)
	b := make([]byte, 0, (size+page-1)/page*page)
	b = append(b, kind...)
	b = append(b, l.server[:]...)
	b = append(b, l.witness[:]...)
	b = binary.LittleEndian.AppendUint64(b, l.term.Number)
	b = binary.LittleEndian.AppendUint64(b, l.term.Random)
	b = binary.LittleEndian.AppendUint64(b, l.n)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(heads)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	for _, a := range slices.Sorted(maps.Keys(heads)) {
		h := heads[a]
		b = frame.AppendHead(b, &h)
	}
	binary.LittleEndian.PutUint32(b[fixedSize-4:], crc32.Checksum(b, castagnoli))
	return b[:cap(b)]
}

// decode reads what encode wrote from the beginning of b, and returns how many bytes of pages it takes.
func decode(b []byte, kind string, l label) (heads []holdfast.AccountHead, size int64, err error) {
	if len(b) < fixedSize || string(b[:8]) != kind {
		return nil, 0, fmt.Errorf("it does not begin with %s: %w", kind, holdfast.ErrCorrupt)
	}
	count := int64(binary.LittleEndian.Uint32(b[fixedSize-8:]))
	end := fixedSize + headSize*count
	if end > int64(len(b)) {
		return nil, 0, fmt.Errorf("%d heads in %d bytes: %w", count, len(b), holdfast.ErrCorrupt)
	}
	sum := binary.LittleEndian.Uint32(b[fixedSize-4:])
	c := crc32.Update(0, castagnoli, b[:fixedSize-4])
	c = crc32.Update(c, castagnoli, make([]byte, 4))
	if crc32.Update(c, castagnoli, b[fixedSize:end]) != sum {
		return nil, 0, fmt.Errorf("checksum: %w", holdfast.ErrCorrupt)
	}
	got := label{term: holdfast.Term{Number: binary.LittleEndian.Uint64(b[40:]), Random: binary.LittleEndian.Uint64(b[48:])}, n: binary.LittleEndian.Uint64(b[56:])}
	copy(got.server[:], b[8:])
	copy(got.witness[:], b[24:])
	if got != l {
		return nil, 0, fmt.Errorf("it belongs to another witness, term or object: %w", holdfast.ErrCorrupt)
	}
	heads, err = frame.ParseHeads(b[fixedSize:end], int(count))
	if err != nil {
		return nil, 0, err
	}
	return heads, (end + page - 1) / page * page, nil
}

// scan yields all heads of an object. Zeros, or a torn record, may end it: that record was never
// acknowledged. A bad page with a good record behind it is damage (ErrCorrupt): what it held is not known.
func scan(r io.ReaderAt, size int64, l label, learn func(holdfast.AccountHead)) error {
	heads, at, err := decodeAt(r, 0, size, magic, l)
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	bad := int64(-1)
	for {
		for _, h := range heads {
			learn(h)
		}
		if at >= size {
			return nil
		}
		var n int64
		heads, n, err = decodeAt(r, at, size, recordType, l)
		switch {
		case err == nil && bad >= 0:
			return fmt.Errorf("damaged at offset %d: %w", bad, holdfast.ErrCorrupt)
		case errors.Is(err, holdfast.ErrCorrupt):
			if bad < 0 {
				bad = at
			}
			n = page
		case err != nil:
			return err
		}
		at += n
	}
}

// decodeAt reads one header or record at an offset.
func decodeAt(r io.ReaderAt, at, size int64, kind string, l label) ([]holdfast.AccountHead, int64, error) {
	b := make([]byte, min(page, size-at))
	if err := readFull(r, b, at); err != nil {
		return nil, 0, err
	}
	if len(b) >= fixedSize && string(b[:8]) == kind {
		end := fixedSize + headSize*int64(binary.LittleEndian.Uint32(b[fixedSize-8:]))
		if end > int64(len(b)) && end <= min(size-at, maxRecord) {
			b = make([]byte, end)
			if err := readFull(r, b, at); err != nil {
				return nil, 0, err
			}
		}
	}
	return decode(b, kind, l)
}

func readFull(r io.ReaderAt, b []byte, at int64) error {
	if n, err := r.ReadAt(b, at); err != nil && (n < len(b) || !errors.Is(err, io.EOF)) {
		return fmt.Errorf("read at %d: %w", at, err)
	}
	return nil
}
