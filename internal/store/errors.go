package store

import (
	"errors"
	"fmt"

	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"holdfast"
)

// sqlError gives an error of the database the sentinel that fits, and says what was being done.
//
//	disk full                        ErrFull: the transaction is rolled back, nothing was written
//	I/O error of a write or a sync   ErrFatal: what is on the medium is unknown
//	I/O error of a read, a page that
//	is not what was written          ErrCorrupt: the rest goes on
//	malformed, not a database        ErrCorrupt
//	constraint, value of wrong type  ErrInvalid
//
// Others (busy, out of memory, interrupted, cannot be opened, read-only) keep no sentinel: nothing was
// written. That a file is absent is for a look at its name to say, never for a failed open.
func sqlError(doing string, err error) error {
	if err == nil {
		return nil
	}
	var e *driver.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	var sentinel error
	switch e.Code() {
	case lib.SQLITE_IOERR_READ, lib.SQLITE_IOERR_SHORT_READ, lib.SQLITE_IOERR_DATA, lib.SQLITE_IOERR_CORRUPTFS:
		return fmt.Errorf("%s: a page cannot be read: %w: %w", doing, holdfast.ErrCorrupt, err)
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_FULL:
		sentinel = holdfast.ErrFull
	case lib.SQLITE_IOERR:
		sentinel = holdfast.ErrFatal
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		sentinel = holdfast.ErrCorrupt
	case lib.SQLITE_CONSTRAINT, lib.SQLITE_MISMATCH, lib.SQLITE_TOOBIG:
		sentinel = holdfast.ErrInvalid
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fmt.Errorf("%s: %w: %w", doing, sentinel, err)
}

// isPage reports whether an error is of a page whose checksum is wrong: SQLite can do all else.
func isPage(err error) bool {
	var e *driver.Error
	return errors.As(err, &e) && e.Code() == lib.SQLITE_IOERR_DATA
}
