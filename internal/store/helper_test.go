package store

import (
	"database/sql"
	"testing"

	"holdfast"
	"holdfast/frame"
)

// execRaw changes a closed store behind its back.
func execRaw(t testing.TB, path string, queries ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, q := range queries {
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

func seqOf(n int) holdfast.Seq { return holdfast.Seq(n) }

func frameDelete(id holdfast.CollectionID) frame.Op {
	return frame.Op{Type: frame.OpDeleteCollection, Collection: id}
}
