package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"holdfast"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/durable/simdisk"
)

var (
	ctx    = context.Background()
	server = holdfast.ServerID{1, 2, 3}
)

type heads = map[holdfast.AccountID]holdfast.AccountHead

func head(a, seq int) holdfast.AccountHead {
	return holdfast.AccountHead{Account: holdfast.AccountID(a), Epoch: 1, Head: holdfast.Head{Seq: holdfast.Seq(seq), Hash: holdfast.Hash{byte(a), byte(seq), byte(seq >> 8)}}}
}

func of(hs ...holdfast.AccountHead) heads {
	m := heads{}
	for _, h := range hs {
		m[h.Account] = h
	}
	return m
}

func term(n uint64) holdfast.Term { return holdfast.Term{Number: n, Random: n * 7} }

// place opens the bucket /w of a disk; fresh makes it first.
func place(d *simdisk.Disk, fresh bool) (Config, *dir.Dir, error) {
	open := func() (*dir.Dir, error) { return dir.Open(d, "/w", dir.WithSpare(dir.Off)) }
	if fresh {
		open = func() (*dir.Dir, error) { return dir.Create(d, "/w", dir.WithSpare(dir.Off)) }
	}
	b, err := open()
	return Config{Server: server, Bucket: b, Size: 4 * page}, b, err
}

func newWitness(t *testing.T, d *simdisk.Disk) *Witness {
	t.Helper()
	cfg, _, err := place(d, true)
	if err != nil {
		t.Fatal(err)
	}
	w, err := Create(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func reopen(t *testing.T, d *simdisk.Disk) *Witness {
	t.Helper()
	cfg, _, err := place(d, false)
	if err != nil {
		t.Fatal(err)
	}
	w, err := Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func same(t *testing.T, what string, got, want heads) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

// TestMoves: what was moved is read back, over objects and terms; older objects go away.
func TestMoves(t *testing.T) {
	d := simdisk.New(1)
	w := newWitness(t, d)
	same(t, "new", w.Heads(), heads{})
	want := of(head(0, 3), head(7, 1))
	for n := uint64(1); n <= 3; n++ {
		if err := w.Begin(ctx, term(n), want); err != nil {
			t.Fatal(err)
		}
		for range 9 { // more than an object holds
			h := head(7, int(want[7].Head.Seq)+1)
			want[7] = h
			if err := w.Move(ctx, of(h)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		w = reopen(t, d)
		same(t, fmt.Sprint("term ", n), w.Heads(), want)
	}
	if names, err := w.objects(ctx); err != nil || len(names) != 1 {
		t.Fatalf("objects %v, %v; want one", names, err)
	}
	many := heads{}
	for a := range 500 { // several pages
		many[holdfast.AccountID(a)] = head(a, 9000)
	}
	if err := errors.Join(w.Begin(ctx, term(4), nil), w.Move(ctx, many), w.Close()); err != nil {
		t.Fatal(err)
	}
	same(t, "many", reopen(t, d).Heads(), many)
}

// TestKeepsTheHigher: a lower head does not replace a higher one, a newer epoch does.
func TestKeepsTheHigher(t *testing.T) {
	d := simdisk.New(1)
	w := newWitness(t, d)
	accepted := head(5, 4)
	accepted.Epoch = 2
	err := errors.Join(w.Begin(ctx, term(1), of(head(4, 9), head(5, 9))), w.Close(),
		w.Begin(ctx, term(2), of(head(4, 2), accepted)), w.Close())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "after", reopen(t, d).Heads(), of(head(4, 9), accepted))
}

func TestAbsentIsNotEmpty(t *testing.T) {
	d := simdisk.New(1)
	cfg, _, err := place(d, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, cfg); !errors.Is(err, holdfast.ErrAbsent) {
		t.Fatalf("without a marker: %v", err)
	}
	if _, err := Create(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(ctx, cfg); !errors.Is(err, holdfast.ErrExists) {
		t.Fatalf("made twice: %v", err)
	}
	cfg.Server[0]++
	if _, err := Open(ctx, cfg); !errors.Is(err, holdfast.ErrAbsent) {
		t.Fatalf("another server's: %v", err)
	}
}

// TestFaultTable fails each step of a start with moves that fill an object. What was moved before is
// never forgotten, and what a call returned for is there.
func TestFaultTable(t *testing.T) {
	base := of(head(0, 3), head(7, 5))
	var acked heads
	prepare := func(d *simdisk.Disk) error {
		cfg, _, err := place(d, true)
		if err != nil {
			return err
		}
		w, err := Create(ctx, cfg)
		if err == nil {
			err = errors.Join(w.Begin(ctx, term(1), base), w.Close())
		}
		acked = maps.Clone(base)
		return err
	}
	run := func(d *simdisk.Disk) error {
		cfg, _, err := place(d, false)
		if err != nil {
			return err
		}
		w, err := Open(ctx, cfg)
		if err != nil {
			return err
		}
		if err := w.Begin(ctx, term(2), nil); err != nil {
			return err
		}
		for i := range 5 {
			h := head(7, 6+i)
			if err := w.Move(ctx, of(h)); err != nil {
				return err
			}
			acked[7] = h
		}
		return w.Close()
	}
	check := func(c simdisk.Case) error {
		cfg, _, err := place(c.AfterCrash(), false)
		if err != nil {
			return err
		}
		w, err := Open(ctx, cfg)
		if err != nil {
			return err
		}
		if err := w.Damage(); err != nil {
			return err
		}
		got := w.Heads()
		if got[0] != acked[0] || got[7].Head.Seq < acked[7].Head.Seq || got[7].Head.Seq > 10 {
			return fmt.Errorf("got %v, acknowledged %v", got, acked)
		}
		return w.Begin(ctx, term(3), nil) // it goes on
	}
	cases, err := simdisk.FaultTable(4, prepare, run, check)
	if err != nil || cases < 100 {
		t.Fatalf("%d cases: %v", cases, err)
	}
	t.Logf("%d cases", cases)
}

// TestDamage flips bytes: either the heads are all there, or the damage is said and nothing false is told.
func TestDamage(t *testing.T) {
	silent := 0
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		d := simdisk.New(seed)
		w := newWitness(t, d)
		err := w.Begin(ctx, term(1), of(head(7, 1)))
		for seq := 2; seq <= 3; seq++ {
			err = errors.Join(err, w.Move(ctx, of(head(7, seq))))
		}
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		f, err := d.OpenFile("/w/"+objectName(term(1), 0), 2, 0)
		if err != nil {
			t.Fatal(err)
		}
		at := rng.Int64N(2 * page)
		b := []byte{0}
		if _, err := f.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1 << rng.IntN(8)
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
		got := reopen(t, d)
		switch h := got.Heads()[7]; {
		case h == head(7, 3) && got.Damage() == nil:
			silent++ // zeros between records
		case got.Damage() == nil:
			t.Fatalf("seed %d, offset %d: %v and no damage", seed, at, h)
		case h.Head.Seq != 0 && h != head(7, int(h.Head.Seq)):
			t.Fatalf("seed %d, offset %d: false head %v", seed, at, h)
		}
	}
	if silent == 0 || silent == 300 {
		t.Errorf("%d of 300 flips did not matter", silent)
	}
}

func FuzzScan(f *testing.F) {
	l := label{server: server, term: term(1), n: 2}
	good, err := encodeHeader(l, of(head(1, 2)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(good, encodeRecord(l, of(head(1, 3), head(4, 4)))...))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		if err := scan(readerAt(b), int64(len(b)), l, func(holdfast.AccountHead) { n++ }); err != nil && !errors.Is(err, holdfast.ErrCorrupt) {
			t.Fatalf("%v", err)
		}
		if n > len(b)/headSize {
			t.Fatalf("%d heads in %d bytes", n, len(b))
		}
	})
}

func FuzzName(f *testing.F) {
	f.Add(objectName(term(3), 9))
	f.Fuzz(func(t *testing.T, s string) {
		if tm, n, err := parseName(s); err == nil && objectName(tm, n) != s {
			t.Fatalf("%q reads as %v %d", s, tm, n)
		}
	})
}

type readerAt []byte

func (r readerAt) ReadAt(p []byte, at int64) (int, error) { return bytes.NewReader(r).ReadAt(p, at) }
