package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"holdfast"
)

// Snapshots that persons name: made, listed, removed; and the state they name is there for good.
func TestSnapshots(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	s, err := r.CreateSnapshot(t.Context(), person, "first", "because")
	must(t, err)
	h, _ := r.AccountHead(person)
	if s.Seq != h.Head.Seq || s.Hash != h.Head.Hash.String() || s.Automatic || s.Device != nil {
		t.Errorf("snapshot %+v, head %s", s, h.Head)
	}
	r.mustPut("a", "2")
	r.mustPut("b", "2")
	_, err = r.CreateSnapshot(t.Context(), person, "second", "")
	must(t, err)
	names := map[string]error{
		"first": holdfast.ErrExists, "": holdfast.ErrInvalid, "a/b": holdfast.ErrInvalid, ".x": holdfast.ErrInvalid, strings.Repeat("x", 65): holdfast.ErrInvalid,
		"before-mass-change-1": holdfast.ErrInvalid, "before-undo-1": holdfast.ErrInvalid,
	}
	for name, want := range names {
		if _, err := r.CreateSnapshot(t.Context(), person, name, ""); !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", name, err, want)
		}
	}
	if _, err := r.CreateSnapshot(t.Context(), holdfast.Server, "x", ""); !errors.Is(err, holdfast.ErrInvalid) {
		t.Errorf("account 0: got %v, want ErrInvalid", err)
	}
	if _, err := r.CreateSnapshot(t.Context(), 99, "x", ""); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("no account: got %v, want ErrNotFound", err)
	}
	must(t, r.ViewAt(t.Context(), person, s.Seq, func(v *View) error {
		res, err := v.Resource(r.cards, "a")
		must(t, err)
		if b, err := v.Body(res); err != nil || string(b) != "1" {
			t.Errorf("a is %q, %v; want 1", b, err)
		}
		if _, err := v.Resource(r.cards, "b"); !errors.Is(err, holdfast.ErrNotFound) {
			t.Errorf("b: got %v, want ErrNotFound", err)
		}
		if v.Head().Head != (holdfast.Head{Seq: h.Head.Seq, Hash: h.Head.Hash}) {
			t.Errorf("head %s, want %s", v.Head().Head, h.Head)
		}
		return nil
	}))
	if err := r.ViewAt(t.Context(), person, 1<<40, func(*View) error { return nil }); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("beyond the head: got %v, want ErrNotFound", err)
	}
	auto, err := r.SnapshotBeforeUndo(t.Context(), person, "first")
	must(t, err)
	again, err := r.SnapshotBeforeUndo(t.Context(), person, "first")
	must(t, err)
	if auto.Name == again.Name || !strings.HasPrefix(auto.Name, undoPrefix) {
		t.Errorf("names %s and %s", auto.Name, again.Name)
	}
	if err := r.RemoveSnapshot(t.Context(), person, auto.Name); !errors.Is(err, holdfast.ErrDenied) {
		t.Errorf("remove the server's: got %v, want ErrDenied", err)
	}
	must(t, r.RemoveSnapshot(t.Context(), person, "second"))
	if err := r.RemoveSnapshot(t.Context(), person, "second"); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("remove again: got %v, want ErrNotFound", err)
	}
	r.close(r.Ledger)
	r.open()
	all, err := r.Snapshots(t.Context(), person)
	must(t, err)
	if len(all) != 3 || all[0].Name != "first" || all[0].Why != "because" {
		t.Errorf("listed %+v", all)
	}
}

func FuzzSnapshot(f *testing.F) {
	f.Add([]byte(`{"name":"a","account":7,"epoch":1,"seq":3,"hash":"` + holdfast.Hash{1}.String() + `","time":"2026-11-21T10:00:00Z","why":"","device":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSnapshot(b, snapshotRecord(7, "a"))
		if err == nil && (s.Account != 7 || s.Name != "a" || s.Seq == 0) {
			t.Errorf("parsed %+v", s)
		}
		if err != nil && !errors.Is(err, holdfast.ErrCorrupt) {
			t.Errorf("got %v, want ErrCorrupt", err)
		}
	})
}

// BenchmarkOverwrite compares overwrites that the mass-change guard counts with the same that it does not.
func BenchmarkOverwrite(b *testing.B) {
	for _, quiet := range []bool{false, true} {
		b.Run(fmt.Sprintf("quiet=%v", quiet), func(b *testing.B) {
			cfg := config(b)
			must(b, os.MkdirAll(cfg.Dir, 0o700))
			must(b, Create(b.Context(), cfg))
			l, err := Open(b.Context(), cfg)
			must(b, err)
			defer func() { must(b, l.Close(context.Background())) }()
			must(b, l.WaitOpen(b.Context()))
			for from := 0; from < 10_000; from += 2000 {
				_, err = l.Update(b.Context(), person, 1, func(tx *Tx) error {
					if from == 0 {
						tx.PutCollection(&Collection{ID: holdfast.Root, Kind: holdfast.KindFile})
					}
					for i := range 2000 {
						tx.Put(holdfast.Root, fmt.Sprintf("%06d", from+i), "text/plain", 0, InlineBody([]byte("a body")))
					}
					return nil
				})
				must(b, err)
			}
			for i := 0; b.Loop(); i++ {
				_, err := l.update(b.Context(), &request{account: person, device: 1, quiet: quiet, fn: func(tx *Tx) error {
					tx.Put(holdfast.Root, fmt.Sprintf("%06d", i%10_000), "text/plain", 0, InlineBody(fmt.Append(nil, "body", i)))
					return nil
				}})
				must(b, err)
			}
		})
	}
}
