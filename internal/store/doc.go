// Package store keeps the state of all accounts in one SQL database: every change with its payload,
// the thin rows of the newest state, and the superseded versions, so that the state as of any seq can be read.
//
// Invariants:
//   - Apply is the only way in, for live writes, replay and refill alike. A change is taken only as the
//     next of its account (seq = head+1) and only if its hash continues the chain.
//   - A missing database is ErrAbsent, never an empty one. Only Create creates.
//   - An error of a sync is final: after ErrFatal the store takes no further write and must be opened anew.
//   - Bodies are verified against their hash whenever they are read.
//   - Nothing here decides what may be shown: readers pass the seq they want to see.
//
// Files, in Config.Path: holdfast.db, and beside it holdfast.db-wal and holdfast.db-shm, which belong
// to it. docs/formats/store.md has the schema. No other code may open these files while a Store is
// open: on POSIX systems, closing any descriptor of the database drops the locks of all of them.
package store
