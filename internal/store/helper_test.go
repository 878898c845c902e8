package store

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"holdfast"
	"holdfast/frame"
)

// execRaw changes a closed store behind its back.
func execRaw(t testing.TB, path string, queries ...string) {
	t.Helper()
	uri, release, err := dsn(Config{Path: filepath.Dir(path)}, true)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	db, err := sql.Open("sqlite", uri)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range queries {
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	// Closing brought the log into the database and removed it; a store keeps one beside it.
	wal, err := os.OpenFile(path+"-wal", os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := wal.Close(); err != nil {
		t.Fatal(err)
	}
}

func seqOf(n int) holdfast.Seq { return holdfast.Seq(n) }

func frameDelete(id holdfast.CollectionID) frame.Op {
	return frame.Op{Type: frame.OpDeleteCollection, Collection: id}
}
