package store

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"holdfast"
	"holdfast/frame"
)

var testServer = holdfast.ServerID{1, 2, 3}

func newStore(t testing.TB) (*Store, Config) {
	t.Helper()
	cfg := Config{Path: t.TempDir(), Server: testServer}
	s, err := Create(context.Background(), cfg)
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s, cfg
}

func begin(t testing.TB, s *Store) *Tx {
	t.Helper()
	tx, err := s.Begin(context.Background())
	if err != nil {
		t.Fatalf("Begin: %v", err)
	}
	t.Cleanup(func() { tx.Rollback() }) // a test that fails early must not keep Close waiting
	return tx
}

func read(t testing.TB, s *Store) *Reader {
	t.Helper()
	r, err := s.Read(context.Background())
	if err != nil {
		t.Fatalf("Read: %v", err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// change applies ops as the next change of an account; its time is the seq in seconds.
func change(tx *Tx, a holdfast.AccountID, ops ...frame.Op) (holdfast.Head, error) {
	h, err := tx.Head(a)
	if err != nil {
		return h.Head, err
	}
	c := &frame.Change{
		Account: a, Epoch: max(h.Epoch, 1), Seq: h.Head.Seq + 1, Term: holdfast.Term{Number: 1, Random: 1 << 63},
		Time: int64(h.Head.Seq+1) * 1000, Ops: ops,
	}
	payload, err := c.Encode(nil)
	if err != nil {
		return h.Head, err
	}
	hash, err := frame.ChainHash(h.Head.Hash, payload)
	if err != nil {
		return h.Head, err
	}
	return holdfast.Head{Seq: c.Seq, Hash: hash}, tx.Apply(c, payload, hash)
}

// write applies and commits one change.
func write(t testing.TB, s *Store, a holdfast.AccountID, ops ...frame.Op) holdfast.Head {
	t.Helper()
	tx := begin(t, s)
	h, err := change(tx, a, ops...)
	if err != nil {
		tx.Rollback()
		t.Fatalf("apply: %v", err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatalf("Commit: %v", err)
	}
	return h
}

func root() frame.Op {
	return frame.Op{Type: frame.OpPutCollection, Collection: holdfast.Root, Kind: holdfast.KindFile}
}

func mkcol(id, parent holdfast.CollectionID, name string) frame.Op {
	return frame.Op{Type: frame.OpPutCollection, Collection: id, Parent: parent, Kind: holdfast.KindFile, Name: name}
}

func put(c holdfast.CollectionID, name, body string) frame.Op {
	return frame.Op{Type: frame.OpPut, Collection: c, Name: name, ContentType: "text/plain", Modified: 5, Body: []byte(body)}
}

func remove(c holdfast.CollectionID, name string) frame.Op {
	return frame.Op{Type: frame.OpDelete, Collection: c, Name: name}
}

func TestPutAndReadBack(t *testing.T) {
	s, cfg := newStore(t)
	write(t, s, 7, root(), mkcol(2, 1, "Files"))
	h := write(t, s, 7, put(2, "a.txt", "one"))
	write(t, s, 7, put(2, "a.txt", "two, longer"))
	write(t, s, 7, remove(2, "a.txt"))
	check := func(s *Store) {
		r := read(t, s)
		for at, want := range map[holdfast.Seq]string{1: "", 2: "one", 3: "two, longer", 4: "", Newest: ""} {
			res, err := r.Resource(7, 2, "a.txt", at)
			if want == "" {
				if !errors.Is(err, holdfast.ErrNotFound) {
					t.Errorf("Resource at %d: %v, %v, want ErrNotFound", at, res, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("Resource at %d: %v", at, err)
			}
			b, err := r.Body(res)
			if err != nil || string(b) != want {
				t.Errorf("Body at %d: %q, %v, want %q", at, b, err, want)
			}
		}
		if got, err := r.HashAt(7, 2); err != nil || got != h.Hash {
			t.Errorf("HashAt: %v, %v, want %v", got, err, h.Hash)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.ID() != s.ID() {
		t.Errorf("ID changed from %x to %x", s.ID(), again.ID())
	}
	check(again)
	heads, err := again.Heads(context.Background())
	if want := fmt.Sprint([]int{7, 4}); err != nil || len(heads) != 1 || fmt.Sprint([]int{int(heads[0].Account), int(heads[0].Head.Seq)}) != want {
		t.Errorf("Heads: %v, %v", heads, err)
	}
}
