package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"holdfast"
	"holdfast/internal/durable"
)

// pagesAtOnce is how much of the file is read at once.
const pagesAtOnce = 256

// BadPages reads the database's file from the medium and returns the numbers of the pages whose
// checksum is wrong, or that the medium does not give, at most maxBadPages. Pages of zeros are passed over: one that was
// freed before it was ever written is none of anybody's. It may run beside everything else; pace, which may be nil,
// is told how many bytes were read.
func (s *Store) BadPages(ctx context.Context, pace func(n int64) error) (bad []uint32, err error) {
	f, err := s.cfg.FS.OpenFile(filepath.Join(s.cfg.Path, fileName), os.O_RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("read pages: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
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
	return err
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
