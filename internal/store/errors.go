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
//	any I/O error, also of a read    ErrFatal: what is on the medium is unknown
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
