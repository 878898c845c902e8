package mirror

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"holdfast"
	"holdfast/frame"
)

const (
	headsName   = "heads"
	headsMagic  = "HFHEAD01"
	headsHeader = 8 + 16 + 16 + 8 + 8 + 8 + 8 // magic, server, mirror, term (2), pos, count
	maxHeads    = 1 << 30                     // bytes of a head file
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// headFile is what the head file says: at least this was durable. A nil headFile promises nothing.
type headFile struct {
	log   frame.LogID
	pos   uint64 // last durable pos of that log
	heads []holdfast.AccountHead
}

// promises reports whether the frame of a pos was durable.
func (f *headFile) promises(t holdfast.Term, pos uint64) bool {
	return f != nil && f.log.Term == t && f.pos >= pos
}

func (f *headFile) encode() []byte {
	b := make([]byte, 0, headsHeader+56*len(f.heads)+4)
	b = append(b, headsMagic...)
	b = append(b, f.log.Server[:]...)
	b = append(b, f.log.Mirror[:]...)
	b = binary.LittleEndian.AppendUint64(b, f.log.Term.Number)
	b = binary.LittleEndian.AppendUint64(b, f.log.Term.Random)
	b = binary.LittleEndian.AppendUint64(b, f.pos)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(f.heads)))
	for i := range f.heads {
		b = frame.AppendHead(b, &f.heads[i])
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func parseHeadFile(b []byte) (*headFile, error) {
	if len(b) < headsHeader+4 || string(b[:8]) != headsMagic {
		return nil, fmt.Errorf("head file of %d bytes does not begin with %q: %w", len(b), headsMagic, holdfast.ErrCorrupt)
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, fmt.Errorf("head file checksum: %w", holdfast.ErrCorrupt)
	}
	f := &headFile{}
	copy(f.log.Server[:], body[8:])
	copy(f.log.Mirror[:], body[24:])
	f.log.Term = holdfast.Term{Number: binary.LittleEndian.Uint64(body[40:]), Random: binary.LittleEndian.Uint64(body[48:])}
	f.pos = binary.LittleEndian.Uint64(body[56:])
	n := binary.LittleEndian.Uint64(body[64:])
	if n > uint64(len(body)) {
		return nil, fmt.Errorf("head file of %d heads in %d bytes: %w", n, len(body), holdfast.ErrCorrupt)
	}
	heads, err := frame.ParseHeads(body[headsHeader:], int(n))
	if err != nil {
		return nil, fmt.Errorf("head file: %w", err)
	}
	f.heads = heads
	return f, nil
}

// WriteHeads replaces the head file. heads and pos (Log.Pos) must be durable in this mirror and
// acknowledged, or older than that: the file is a lower bound, written now and then.
func (m *Mirror) WriteHeads(ctx context.Context, heads map[holdfast.AccountID]holdfast.AccountHead, pos uint64) error {
	m.mu.Lock()
	t := m.term
	m.mu.Unlock()
	if t.Number == 0 {
		return fmt.Errorf("write head file of mirror %s: no log was started: %w", m.cfg.Name, holdfast.ErrInvalid)
	}
	sorted := slices.SortedFunc(maps.Values(heads), func(a, b holdfast.AccountHead) int {
		if a.Account < b.Account {
			return -1
		}
		return 1
	})
	sorted = slices.DeleteFunc(sorted, func(h holdfast.AccountHead) bool { return h.Head.Seq == 0 })
	f := headFile{log: frame.LogID{Server: m.cfg.Server, Mirror: m.id, Term: t}, pos: pos, heads: sorted}
	if err := m.cfg.Bucket.Put(ctx, headsName, bytes.NewReader(f.encode()), false); err != nil {
		return fmt.Errorf("write head file of mirror %s: %w", m.cfg.Name, err)
	}
	return nil
}

// readHeads returns the head file, or nil if there is none. A damaged one is a damage, not an error.
func (m *Mirror) readHeads(ctx context.Context) (*headFile, []Damage, error) {
	b, err := m.read(ctx, headsName, maxHeads)
	if errors.Is(err, holdfast.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil && !errors.Is(err, holdfast.ErrCorrupt) && !errors.Is(err, holdfast.ErrTooLarge) {
		return nil, nil, fmt.Errorf("read head file: %w", err)
	}
	var f *headFile
	if err == nil {
		if f, err = parseHeadFile(b); err == nil && (f.log.Server != m.cfg.Server || f.log.Mirror != m.id) {
			err = fmt.Errorf("head file of another mirror: %w", holdfast.ErrCorrupt)
		}
	}
	if err != nil {
		return nil, []Damage{{Kind: Corrupt, Object: headsName, Err: err}}, nil
	}
	return f, nil, nil
}

// Told returns what the head file says: it had been acknowledged. None, or a damaged one, says nothing.
func (m *Mirror) Told(ctx context.Context) ([]holdfast.AccountHead, error) {
	f, _, err := m.readHeads(ctx)
	if err != nil || f == nil {
		return nil, err
	}
	return f.heads, nil
}
