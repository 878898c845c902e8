package ledger

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"time"

	"holdfast"
	"holdfast/frame"
)

// Sizes of docs/formats/branch.md.
const (
	branchMagic   = "HFBRAN01"
	branchHeader  = 8 + 16 + 8 + 4 + 8 + 32 + 8 + 4 // magic, server, account, epoch, common seq and hash, time, length
	branchStrings = 1024                            // bytes of source and why together
	branchEnd     = 4 + 8 + 32 + 32                 // zero, count, hash, digest
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// branchHead is the header of a branch file.
type branchHead struct {
	Server  holdfast.ServerID
	Account holdfast.AccountID
	Epoch   holdfast.Epoch
	Common  holdfast.Head // the last change that both histories have
	Time    time.Time
	Source  string // the copy it was found in
	Why     string
}

func (h *branchHead) encode() ([]byte, error) {
	if len(h.Source)+len(h.Why)+4 > branchStrings {
		return nil, fmt.Errorf("header of a branch: %w", holdfast.ErrTooLarge)
	}
	b := append([]byte(branchMagic), h.Server[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Account))
	b = binary.LittleEndian.AppendUint32(b, uint32(h.Epoch))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Common.Seq))
	b = append(b, h.Common.Hash[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Time.UnixMilli()))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(h.Source)+len(h.Why)+4))
	for _, s := range []string{h.Source, h.Why} {
		b = append(binary.LittleEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

// branchWriter writes a branch file. The first error is final.
type branchWriter struct {
	w     io.Writer
	sum   hash.Hash
	last  holdfast.Head
	count uint64
}

func newBranchWriter(w io.Writer, h *branchHead) (*branchWriter, error) {
	b, err := h.encode()
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	k := &branchWriter{w: io.MultiWriter(w, sum), sum: sum, last: h.Common}
	if _, err := k.w.Write(b); err != nil {
		return nil, fmt.Errorf("write branch: %w", err)
	}
	return k, nil
}

// add writes the next change; hash is the chain's after it.
func (k *branchWriter) add(seq holdfast.Seq, hash holdfast.Hash, payload []byte) error {
	want, err := frame.ChainHash(k.last.Hash, payload)
	if err != nil {
		return fmt.Errorf("write branch: %w", err)
	}
	if seq != k.last.Seq+1 || want != hash || len(payload) == 0 || len(payload) > frame.MaxPayload {
		return fmt.Errorf("write branch: change %s does not follow %s: %w", seq, k.last, holdfast.ErrCorrupt)
	}
	n := binary.LittleEndian.AppendUint32(nil, uint32(len(payload)))
	sum := crc32.Update(crc32.Checksum(n, castagnoli), castagnoli, payload)
	for _, b := range [][]byte{n, payload, binary.LittleEndian.AppendUint32(nil, sum)} {
		if _, err := k.w.Write(b); err != nil {
			return fmt.Errorf("write branch: %w", err)
		}
	}
	k.last = holdfast.Head{Seq: seq, Hash: hash}
	k.count++
	return nil
}

func (k *branchWriter) end() error {
	b := binary.LittleEndian.AppendUint64(make([]byte, 4), k.count)
	b = append(b, k.last.Hash[:]...)
	if _, err := k.w.Write(b); err != nil {
		return fmt.Errorf("write branch: %w", err)
	}
	if _, err := k.w.Write(k.sum.Sum(nil)); err != nil {
		return fmt.Errorf("write branch: %w", err)
	}
	return nil
}

// branchChange is one change of a branch; what it points to is valid until the next one is read.
type branchChange struct {
	*frame.Change
	Hash holdfast.Hash
}

// readBranch reads a whole branch file and verifies it; fn, which may be nil, hears of each change in
// order, before the end has been verified. ErrCorrupt: anything differs.
func readBranch(r io.Reader, fn func(c *branchChange) error) (*branchHead, holdfast.Head, error) {
	sum := sha256.New()
	in := &branchReader{r: bufio.NewReaderSize(r, 64<<10), sum: sum}
	h, err := in.header()
	if err != nil {
		return nil, holdfast.Head{}, fmt.Errorf("read branch: %w", err)
	}
	last, err := in.changes(h, fn)
	if err != nil {
		return nil, holdfast.Head{}, fmt.Errorf("read branch: %w", err)
	}
	return h, last, nil
}

type branchReader struct {
	r   *bufio.Reader
	sum hash.Hash
}

// take reads n bytes; the memory grows with what is there, not with what a length claims.
func (in *branchReader) take(n int) ([]byte, error) {
	var b bytes.Buffer
	if _, err := io.CopyN(&b, in.r, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%d bytes wanted, %d there: %w", n, b.Len(), holdfast.ErrCorrupt)
		}
		return nil, err
	}
	in.sum.Write(b.Bytes())
	return b.Bytes(), nil
}

func (in *branchReader) header() (*branchHead, error) {
	b, err := in.take(branchHeader)
	if err != nil {
		return nil, err
	}
	if string(b[:8]) != branchMagic {
		return nil, fmt.Errorf("it does not begin with %q: %w", branchMagic, holdfast.ErrCorrupt)
	}
	n := binary.LittleEndian.Uint32(b[84:])
	if n < 4 || n > branchStrings {
		return nil, fmt.Errorf("strings of %d bytes: %w", n, holdfast.ErrCorrupt)
	}
	s, err := in.take(int(n))
	if err != nil {
		return nil, err
	}
	crc, err := in.take(4)
	if err != nil {
		return nil, err
	}
	if crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, s) != binary.LittleEndian.Uint32(crc) {
		return nil, fmt.Errorf("checksum of the header: %w", holdfast.ErrCorrupt)
	}
	h := &branchHead{
		Server: holdfast.ServerID(b[8:24]), Account: holdfast.AccountID(binary.LittleEndian.Uint64(b[24:])),
		Epoch:  holdfast.Epoch(binary.LittleEndian.Uint32(b[32:])),
		Common: holdfast.Head{Seq: holdfast.Seq(binary.LittleEndian.Uint64(b[36:])), Hash: holdfast.Hash(b[44:76])},
		Time:   time.UnixMilli(int64(binary.LittleEndian.Uint64(b[76:]))).UTC(),
	}
	for _, to := range []*string{&h.Source, &h.Why} {
		if len(s) < 2 || len(s)-2 < int(binary.LittleEndian.Uint16(s)) {
			return nil, fmt.Errorf("strings of the header: %w", holdfast.ErrCorrupt)
		}
		end := 2 + int(binary.LittleEndian.Uint16(s))
		*to, s = string(s[2:end]), s[end:]
	}
	if len(s) > 0 {
		return nil, fmt.Errorf("%d bytes behind the strings: %w", len(s), holdfast.ErrCorrupt)
	}
	return h, nil
}

func (in *branchReader) changes(h *branchHead, fn func(c *branchChange) error) (holdfast.Head, error) {
	last := h.Common
	for {
		length, err := in.take(4)
		if err != nil {
			return last, err
		}
		n := binary.LittleEndian.Uint32(length)
		if n == 0 {
			return last, in.end(uint64(last.Seq-h.Common.Seq), last)
		}
		if n > frame.MaxPayload {
			return last, fmt.Errorf("change of %d bytes: %w", n, holdfast.ErrCorrupt)
		}
		payload, err := in.take(int(n))
		if err != nil {
			return last, err
		}
		crc, err := in.take(4)
		if err != nil {
			return last, err
		}
		if crc32.Update(crc32.Checksum(length, castagnoli), castagnoli, payload) != binary.LittleEndian.Uint32(crc) {
			return last, fmt.Errorf("checksum of the change after %s: %w", last, holdfast.ErrCorrupt)
		}
		if last, err = in.change(h, last, payload, fn); err != nil {
			return last, err
		}
	}
}

func (in *branchReader) change(h *branchHead, last holdfast.Head, payload []byte, fn func(c *branchChange) error) (holdfast.Head, error) {
	c, err := frame.ParseChange(payload)
	if err != nil {
		return last, err
	}
	hash, err := frame.ChainHash(last.Hash, payload)
	if err != nil {
		return last, err
	}
	if c.Account != h.Account || c.Seq != last.Seq+1 {
		return last, fmt.Errorf("change %s of account %s after %s of %s: %w", c.Seq, c.Account, last.Seq, h.Account, holdfast.ErrCorrupt)
	}
	if fn != nil {
		if err := fn(&branchChange{c, hash}); err != nil {
			return last, err
		}
	}
	return holdfast.Head{Seq: c.Seq, Hash: hash}, nil
}

func (in *branchReader) end(count uint64, last holdfast.Head) error {
	b, err := in.take(branchEnd - 4 - 32)
	if err != nil {
		return err
	}
	want := in.sum.Sum(nil)
	digest, err := in.take(32)
	if err != nil {
		return err
	}
	if binary.LittleEndian.Uint64(b) != count || holdfast.Hash(b[8:40]) != last.Hash || !bytes.Equal(digest, want) {
		return fmt.Errorf("its end does not fit what is before: %w", holdfast.ErrCorrupt)
	}
	if _, err := in.r.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("bytes behind its end: %w", holdfast.ErrCorrupt)
	}
	return nil
}
