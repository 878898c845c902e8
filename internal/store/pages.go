package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"holdfast"
	"holdfast/internal/durable"
)

// pagesAtOnce is how much of the file is read at once.
const pagesAtOnce = 256

// BadPages reads the database's file, and its log, from the medium and returns the numbers of the pages whose
// checksum is wrong, or that the medium does not give, at most maxBadPages. Pages of zeros are passed over: one that was
// freed before it was ever written is none of anybody's. It may run beside everything else; pace, which may be nil,
// is told how many bytes were read.
func (s *Store) BadPages(ctx context.Context, pace func(n int64) error) (bad []uint32, err error) {
	if bad, err = s.badInFile(ctx, pace); err != nil {
		return nil, err
	}
	doubt, err := s.logDoubtful()
	if err != nil || !doubt {
		return bad, err
	}
	more, err := s.badInUse(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Compact(slices.Sorted(slices.Values(append(bad, more...)))), nil
}

// logDoubtful reads the write-ahead log and reports whether a frame of it has another checksum than it should. It may be one
// that nobody reads any more; badInUse tells.
func (s *Store) logDoubtful() (doubt bool, err error) {
	f, err := s.cfg.FS.OpenFile(filepath.Join(s.cfg.Path, fileName+"-wal"), os.O_RDONLY, 0)
	if err != nil {
		return false, fmt.Errorf("read log: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	head := make([]byte, walHead)
	if n, _ := f.ReadAt(head, 0); n < walHead {
		return n > 0, nil // an empty log has nothing
	}
	order := binary.BigEndian.Uint32(head)
	big, sum := order&1 == 1, [2]uint32{binary.BigEndian.Uint32(head[24:]), binary.BigEndian.Uint32(head[28:])}
	if order&^1 != walMagic || walSum([2]uint32{}, head[:24], big) != sum {
		return true, nil
	}
	frame := make([]byte, walFrame+pageSize)
	for off := int64(walHead); ; off += int64(len(frame)) {
		if n, _ := f.ReadAt(frame, off); n < len(frame) {
			return doubt, nil
		}
		own := [2]uint32{binary.BigEndian.Uint32(frame[16:]), binary.BigEndian.Uint32(frame[20:])}
		good := walSum(walSum(sum, frame[:8], big), frame[walFrame:], big) == own
		if !good && !bytes.Equal(frame[8:16], head[16:24]) {
			return doubt, nil // of an older round of the log: the end
		}
		doubt, sum = doubt || !good, own
	}
}

const walMagic = 0x377f0682

// badInUse reads every page as a reader would that has nothing in memory, from the log or the file, and returns
// those that are not what was written.
func (s *Store) badInUse(ctx context.Context) (bad []uint32, err error) {
	c, err := connect(ctx, s.db, checkCacheKiB)
	if errors.Is(err, holdfast.ErrCorrupt) {
		return []uint32{1}, nil // without which no other page can be asked for
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	var pages int64
	if _, err := c.row("PRAGMA page_count", nil, &pages); err != nil {
		return nil, err
	}
	for n := int64(1); n <= pages && len(bad) < maxBadPages; n++ {
		var size int64
		_, err := c.row("SELECT length(data) FROM sqlite_dbpage WHERE pgno = ?1", []any{n}, &size)
		if err != nil && !errors.Is(err, holdfast.ErrCorrupt) {
			return nil, err
		}
		if err != nil {
			bad = append(bad, uint32(n))
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return bad, nil
}

// badInFile is BadPages of the database's file.
func (s *Store) badInFile(ctx context.Context, pace func(n int64) error) (bad []uint32, err error) {
	f := s.pages
	durable.DropCache(f)
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read pages: %w", err)
	}
	buf := make([]byte, pagesAtOnce*pageSize)
	for off := int64(0); off < info.Size && len(bad) < maxBadPages; off += int64(len(buf)) {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("read pages: %w", err)
		}
		part := buf[:min(int64(len(buf)), (info.Size-off)/pageSize*pageSize)]
		_, rerr := f.ReadAt(part, off)
		for at := 0; at < len(part); at += pageSize {
			n := uint32((off+int64(at))/pageSize) + 1
			if rerr == nil && plausible(n, part[at:at+pageSize]) || s.againGood(f, n) {
				continue
			}
			bad = append(bad, n)
		}
		if pace == nil {
			continue
		}
		if err := pace(int64(len(part))); err != nil {
			return nil, fmt.Errorf("read pages: %w", err)
		}
	}
	return bad, nil
}

// maxBadPages bounds the list: beyond it the file is not worth repairing page by page.
const maxBadPages = 10_000

func plausible(n uint32, page []byte) bool {
	if goodPage(n, page) {
		return true
	}
	for _, b := range page {
		if b != 0 {
			return false
		}
	}
	return true
}

// againGood reads a page a few times more: a checkpoint may be writing it.
func (s *Store) againGood(f durable.File, n uint32) bool {
	page := make([]byte, pageSize)
	for range 3 {
		_, err := f.ReadAt(page, int64(n-1)*pageSize)
		if errors.Is(err, io.EOF) {
			return true // the file was cut by a checkpoint
		}
		if err == nil && plausible(n, page) {
			return true
		}
	}
	return false
}

// Structure lets SQLite check the structure of the whole file and all indexes, with damaged pages taken as they are.
// ErrCorrupt: it is malformed; the error says where.
func (au *Audit) Structure(ctx context.Context) error {
	var verdict string
	err := sqlError("check structure", au.c.c.QueryRowContext(ctx, "PRAGMA main.integrity_check(1)").Scan(&verdict))
	if err == nil && verdict != "ok" {
		err = fmt.Errorf("structure: %s: %w", verdict, holdfast.ErrCorrupt)
	}
	return asDamage(err)
}

// Rewrite writes pages again as they are, which gives them a checksum. It is for pages of which all that counts was
// proven by Account and Structure: what is damaged in them is in no row.
func (au *Audit) Rewrite(ctx context.Context, pages []uint32) error {
	w, err := au.s.takeWriter(ctx)
	if err != nil {
		return fmt.Errorf("rewrite pages: %w", err)
	}
	defer func() { au.s.write <- w }()
	if _, err := au.c.exec("BEGIN IMMEDIATE"); err != nil {
		return au.s.note(fmt.Errorf("rewrite pages: %w", err))
	}
	for _, n := range pages {
		if _, err = au.c.exec("UPDATE sqlite_dbpage SET data = data WHERE pgno = ?1", int64(n)); err != nil {
			break
		}
	}
	if err == nil {
		if _, err = au.c.exec("COMMIT"); err != nil && !errors.Is(err, holdfast.ErrFull) {
			err = fmt.Errorf("%w: %w", holdfast.ErrFatal, err)
		}
	}
	if err != nil {
		if _, rerr := au.c.exec("ROLLBACK"); rerr != nil && !isNoTransaction(rerr) {
			err = errors.Join(err, rerr)
		}
		return au.s.note(fmt.Errorf("rewrite pages: %w", err))
	}
	// The pages are good in the log; in the database they are good after the next checkpoint.
	au.s.check.wrote(checkpointPages)
	return nil
}
