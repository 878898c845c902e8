package store

import (
	"errors"
	"slices"
	"testing"

	"holdfast"
	"holdfast/frame"
)

// raise writes the change that begins the next epoch.
func raise(t *testing.T, s *Store, a holdfast.AccountID, common holdfast.Seq) {
	t.Helper()
	tx := begin(t, s)
	h, err := tx.Head(a)
	if err != nil {
		t.Fatal(err)
	}
	c := &frame.Change{
		Account: a, Epoch: h.Epoch + 1, Seq: h.Head.Seq + 1, Term: holdfast.Term{Number: 2},
		Ops: []frame.Op{frame.LossOp(&frame.Loss{Common: common})},
	}
	payload, err := c.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := frame.ChainHash(h.Head.Hash, payload)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tx.Apply(c, payload, hash), tx.Commit()); err != nil {
		t.Fatal(err)
	}
}

func TestEpochs(t *testing.T) {
	s, _ := newStore(t)
	write(t, s, 1, root(), mkcol(2, 1, "a"))
	write(t, s, 1, put(2, "x", "1"))
	raise(t, s, 1, 1)
	write(t, s, 1, put(2, "x", "2"))
	raise(t, s, 1, 4)
	r := read(t, s)
	for _, c := range []struct {
		e    holdfast.Epoch
		at   holdfast.Seq
		want Epoch
	}{
		{1, Newest, Epoch{2, 3, 1}},
		{2, Newest, Epoch{3, 5, 4}},
		{3, Newest, Epoch{}},
		{1, 2, Epoch{}}, // as of before it began
		{2, 4, Epoch{}},
	} {
		got, err := r.EpochAfter(1, c.e, c.at)
		if got != c.want || (err != nil) != (c.want == Epoch{}) {
			t.Errorf("epoch after %d as of %d: got %v, %v; want %v", c.e, c.at, got, err, c.want)
		}
	}
	if _, err := r.EpochAfter(1, 3, Newest); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("no later epoch: got %v, want ErrNotFound", err)
	}
	for body, want := range map[string]bool{"1": true, "2": true, "3": false} {
		if got, err := r.Had(1, 2, "x", holdfast.ETag(hashBody([]byte(body)))); err != nil || got != want {
			t.Errorf("had %q: %v, %v; want %v", body, got, err, want)
		}
	}
	if seq, err := r.LastBefore(1, 2); err != nil || seq != 4 {
		t.Errorf("last change before term 2: %d, %v", seq, err)
	}
	if err := s.Check(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// A rewound account is what it was at that seq, and goes on from there; the others are not touched.
func TestRewind(t *testing.T) {
	s, _ := newStore(t)
	steps := [][]frame.Op{
		{root(), mkcol(2, 1, "a"), mkcol(3, 1, "b")},
		{put(2, "x", "1"), put(2, "y", "1")},
		{put(2, "x", "2")},
		{{Type: frame.OpDelete, Collection: 2, Name: "y"}},
		{{Type: frame.OpDeleteCollection, Collection: 3}},
		{put(2, "big", string(make([]byte, holdfast.MaxInline))), put(2, "big2", string(make([]byte, holdfast.MaxInline))), put(2, "big3", string(make([]byte, holdfast.MaxInline)))},
	}
	var heads []holdfast.Head
	var digests []holdfast.Hash
	for _, ops := range steps {
		heads = append(heads, write(t, s, 1, ops...))
		r := read(t, s)
		d, err := r.DigestAt(1, 2, Newest)
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d)
		write(t, s, 2, root(), mkcol(holdfast.CollectionID(len(heads)+1), 1, string('a'+rune(len(heads)))))
	}
	other := write(t, s, 2, root())
	for to := len(steps); to >= 1; to-- {
		tx := begin(t, s)
		if err := errors.Join(tx.Rewind(t.Context(), 1, holdfast.Seq(to)), tx.Commit()); err != nil {
			t.Fatal(err)
		}
		r := read(t, s)
		h, err := r.Head(1)
		d, derr := r.DigestAt(1, 2, Newest)
		if err != nil || derr != nil || h.Head != heads[to-1] || d != digests[to-1] {
			t.Errorf("to %d: head %v, %v, digest %v, %v; want %v, %v", to, h.Head, err, d, derr, heads[to-1], digests[to-1])
		}
		if h, err := r.Head(2); err != nil || h.Head != other {
			t.Errorf("the other account is at %v, %v", h.Head, err)
		}
		r.Close()
		if err := s.Check(t.Context(), nil); err != nil {
			t.Errorf("to %d: %v", to, err)
		}
	}
	write(t, s, 1, put(2, "z", "other"))
	tx := begin(t, s)
	if err := errors.Join(tx.Rewind(t.Context(), 1, 0), tx.Commit()); err != nil {
		t.Fatal(err)
	}
	all, err := s.Heads(t.Context())
	if err != nil || slices.ContainsFunc(all, func(h holdfast.AccountHead) bool { return h.Account == 1 }) {
		t.Errorf("rewound to nothing: %v, %v", all, err)
	}
	write(t, s, 1, root())
	tx = begin(t, s)
	if err := tx.Rewind(t.Context(), 1, 9); !errors.Is(err, holdfast.ErrInvalid) {
		t.Errorf("rewind forward: got %v, want ErrInvalid", err)
	}
}
