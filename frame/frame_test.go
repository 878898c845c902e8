package frame

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast"
)

func sum(b []byte) holdfast.Hash { return sha256.Sum256(b) }

// segmentOf writes a segment with a checkpoint batch, n batches of 1 to 3 changes and, if sealed, a footer.
func segmentOf(t testing.TB, n int, sealed bool) ([]byte, []Header) {
	t.Helper()
	id := exampleLog()
	sh := SegmentHeader{Log: id, First: 1, Chain: id.Start(), Created: 1}
	out := sh.Encode()
	pos, chain := uint64(1), sh.Chain
	var index []uint64
	var changes []Header
	add := func(h Header, first uint64, payload []byte) {
		if (pos-1)%IndexStep == 0 {
			index = append(index, uint64(len(out)))
		}
		h.Pos, h.SyncedTo, h.Size = pos, first, len(payload)
		if !h.IsChange() {
			h.Term, h.Hash = id.Term, sum(payload)
		}
		h.Chain = h.Next(chain)
		out = Append(out, id.Seed(), &h, payload)
		if h.IsChange() {
			changes = append(changes, h)
		}
		pos, chain = pos+1, h.Chain
	}
	commit := func(first uint64) {
		add(Header{Type: TypeCommit}, first, Commit{First: first, Last: pos - 1, Time: 5}.Encode())
		out = append(out, make([]byte, AlignBatch(int64(len(out)))-int64(len(out)))...)
	}
	cp := Checkpoint{Parts: 1, Heads: []holdfast.AccountHead{{Account: 7, Epoch: 1, Head: holdfast.Head{Seq: 2, Hash: filled(3)}}}}
	add(Header{Type: TypeCheckpoint}, 1, cp.Encode(nil))
	commit(1)
	c := sample()
	for i := range n {
		first := pos
		for range 1 + i%3 {
			c.Seq++
			p := mustEncode(t, c)
			add(Header{Type: TypeChange, Account: 7, Epoch: 1, Seq: c.Seq, Term: c.Term, Hash: sum(p)}, first, p)
		}
		commit(first)
	}
	if sealed {
		f := Footer{First: 1, Last: pos - 1, Index: index, Offset: uint64(len(out))}
		f.Hash = FooterHash(f.Prev, f.First, f.Last, chain)
		p := f.Encode()
		out = Append(out, id.Seed(), &Header{Type: TypeFooter, Pos: pos, SyncedTo: pos, Term: id.Term, Hash: sum(p), Chain: chain}, p)
	}
	return out, changes
}

// readAll returns the change headers of a segment, and the error that ended it.
func readAll(b []byte) ([]Header, *Reader, error) {
	r, err := NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, nil, err
	}
	var out []Header
	for {
		batch, err := r.Next()
		if err != nil {
			return out, r, err
		}
		if batch.Dirty != nil {
			return out, r, batch.Dirty
		}
		for i := range batch.Frames {
			p, err := r.Load(&batch.Frames[i])
			if err != nil {
				return out, r, err
			}
			if f := batch.Frames[i]; f.IsChange() {
				if _, err := ParseChange(p); err != nil {
					return out, r, err
				}
				out = append(out, f.Header)
			}
		}
	}
}

func TestReader(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		b, want := segmentOf(t, 60, sealed)
		if !sealed {
			b = append(b, make([]byte, 10_000)...) // preallocated
		}
		got, r, err := readAll(b)
		if !errors.Is(err, io.EOF) || (r.Footer() != nil) != sealed {
			t.Fatalf("sealed %v: ended with %v, footer %v", sealed, err, r.Footer())
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("sealed %v (-want +got):\n%s", sealed, d)
		}
		if sealed {
			f, err := ReadFooter(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(r.Footer(), f); d != "" {
				t.Fatalf("footer read from the end (-want +got):\n%s", d)
			}
			if len(f.Index) < 2 {
				t.Fatalf("index has %d entries, want several", len(f.Index))
			}
		}
	}
}

// Every flipped bit of a sealed segment is seen: in its last frames, and sampled before them.
func TestReaderBitFlips(t *testing.T) {
	b, _ := segmentOf(t, 4, true)
	for bit := 0; bit < len(b)*8; bit += 1 + bit%13 {
		q := bytes.Clone(b)
		q[bit/8] ^= 1 << (bit % 8)
		if _, r, err := readAll(q); errors.Is(err, io.EOF) && r.Footer() != nil {
			t.Fatalf("bit %d of byte %d flipped unseen", bit%8, bit/8)
		}
	}
}

// A segment cut anywhere gives whole batches and never the footer.
func TestReaderTruncated(t *testing.T) {
	b, all := segmentOf(t, 4, true)
	for n := SegmentHeaderSize; n < len(b); n += 7 {
		got, r, err := readAll(b[:n])
		if r.Footer() != nil {
			t.Fatalf("cut at %d: a footer was read (%v)", n, err)
		}
		if len(got) > len(all) || len(got) > 0 && !cmp.Equal(got, all[:len(got)]) {
			t.Fatalf("cut at %d: %d changes that are not the first ones", n, len(got))
		}
	}
	for n := range SegmentHeaderSize {
		if _, _, err := readAll(b[:n]); !errors.Is(err, holdfast.ErrCorrupt) {
			t.Fatalf("cut at %d: got %v, want ErrCorrupt", n, err)
		}
	}
}

// Frames of another log, or of the same log in another place, do not pass.
func TestMisplacedFrames(t *testing.T) {
	b, _ := segmentOf(t, 6, true)
	other := exampleLog()
	other.Term.Random++
	if _, _, err := Decode(b[SegmentHeaderSize:], other.Seed()); !errors.Is(err, holdfast.ErrCorrupt) {
		t.Errorf("frame of another log: got %v, want ErrCorrupt", err)
	}
	q := bytes.Clone(b)
	at := func(batch int) []byte { return q[SegmentHeaderSize+batch*BatchAlign:][:BatchAlign] }
	tmp := bytes.Clone(at(1)) // batches 1 and 4 have one change each
	copy(at(1), at(4))
	copy(at(4), tmp)
	_, r, err := readAll(q)
	var bad *BadError
	if !errors.As(err, &bad) || bad.Offset != SegmentHeaderSize+BatchAlign {
		t.Fatalf("swapped batches: got %v", err)
	}
	later := 0
	if err := r.Later(bad, func(l Located) bool {
		if l.SyncedTo > bad.Pos {
			later++
		}
		return true
	}); err != nil || later == 0 {
		t.Errorf("no evidence behind swapped batches: %v", err)
	}
}

// Behind damage a reader finds the next batch, and all later ones are good.
func TestSkip(t *testing.T) {
	b, all := segmentOf(t, 9, true)
	for batch := 1; batch <= 9; batch++ {
		q := bytes.Clone(b)
		q[SegmentHeaderSize+batch*BatchAlign+200] ^= 1
		got, r, err := readAll(q)
		var bad *BadError
		if !errors.As(err, &bad) {
			t.Fatalf("batch %d: got %v, want a BadError", batch, err)
		}
		ok, err := r.Skip(bad)
		if err != nil || !ok {
			t.Fatalf("batch %d: skip: %v, %v", batch, ok, err)
		}
		for {
			next, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("batch %d: behind the damage: %v", batch, err)
			}
			for _, f := range next.Frames {
				got = append(got, f.Header)
			}
		}
		if r.Footer() == nil || len(got) != len(all)-(1+(batch-1)%3) {
			t.Fatalf("batch %d: %d of %d changes, footer %v", batch, len(got), len(all), r.Footer())
		}
	}
}

// What looks like many large frames does not make a search slow.
func TestSearchIsBounded(t *testing.T) {
	b, _ := segmentOf(t, 1, false)
	end := len(b)
	b = append(b, make([]byte, 1<<20)...)
	for at := end + 8; at+HeaderSize < len(b); at += HeaderSize {
		h := Header{Type: TypeChange, Pos: 10, SyncedTo: 1}
		copy(b[at:], Append(nil, 0, &h, nil))
		b[at+4], b[at+5] = 0xf0, 0xff // 64 KiB
	}
	r, err := NewReader(bytes.NewReader(b), int64(len(b)))
	for err == nil {
		_, err = r.Next()
	}
	var bad *BadError
	if !errors.As(err, &bad) {
		t.Fatalf("got %v, want a BadError", err)
	}
	if err := r.Later(bad, func(Located) bool { return true }); !errors.Is(err, ErrUnclear) {
		t.Fatalf("got %v, want ErrUnclear", err)
	}
}

// A tombstone can stand for a change: both chains still verify.
func TestTombstone(t *testing.T) {
	id := exampleLog()
	p := mustEncode(t, sample())
	hash, err := ChainHash(filled(1), p)
	if err != nil {
		t.Fatal(err)
	}
	c := sample()
	h := Header{Type: TypeChange, Pos: 5, SyncedTo: 5, Account: c.Account, Epoch: c.Epoch, Seq: c.Seq, Term: c.Term, Hash: hash}
	h.Chain = h.Next(filled(2))
	q, err := Erase(p, func(i int) bool { return i == 1 })
	if err != nil {
		t.Fatal(err)
	}
	tomb := h
	tomb.Type = TypeTombstone
	got, payload, err := Decode(Append(nil, id.Seed(), &tomb, q), id.Seed())
	if err != nil {
		t.Fatal(err)
	}
	if got.Next(filled(2)) != h.Chain {
		t.Error("the log chain changed")
	}
	if again, err := ChainHash(filled(1), payload); err != nil || again != hash {
		t.Errorf("the account chain changed: %v", err)
	}
}

func TestPayloadRoundTrips(t *testing.T) {
	for n := range 3 {
		c := Checkpoint{Part: n, Parts: 3, Heads: []holdfast.AccountHead{}}
		for i := range n {
			c.Heads = append(c.Heads, holdfast.AccountHead{Account: holdfast.AccountID(i), Epoch: 2, Head: holdfast.Head{Seq: 9, Hash: filled(byte(i))}})
		}
		got, err := ParseCheckpoint(c.Encode(nil))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(&c, got); d != "" {
			t.Errorf("checkpoint (-want +got):\n%s", d)
		}
	}
	f := Footer{First: 65, Last: 65 + 64, Prev: filled(1), Hash: filled(2), Index: []uint64{4096, 9000}, Offset: 12288}
	got, err := ParseFooter(f.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&f, got); d != "" {
		t.Errorf("footer (-want +got):\n%s", d)
	}
	if n := FooterLen(65); n != Len(len(f.Encode())) {
		t.Errorf("footer of 65 frames takes %d, FooterLen says %d", Len(len(f.Encode())), n)
	}
}

func TestParseRefuses(t *testing.T) {
	head := holdfast.AccountHead{Account: 1, Epoch: 1, Head: holdfast.Head{Seq: 1}}
	two := Checkpoint{Parts: 1, Heads: []holdfast.AccountHead{head, head}}
	none := Checkpoint{Parts: 1, Heads: []holdfast.AccountHead{{Account: 1, Epoch: 1}}}
	for name, err := range map[string]error{
		"account twice":      second(ParseCheckpoint(two.Encode(nil))),
		"head without seq":   second(ParseCheckpoint(none.Encode(nil))),
		"part of none":       second(ParseCheckpoint((&Checkpoint{Part: 1, Parts: 1}).Encode(nil))),
		"cut checkpoint":     second(ParseCheckpoint(two.Encode(nil)[:50])),
		"commit backwards":   second(ParseCommit(Commit{First: 2, Last: 1}.Encode())),
		"short commit":       second(ParseCommit(make([]byte, 23))),
		"footer, no index":   second(ParseFooter((&Footer{First: 1, Last: 1}).Encode())),
		"footer of nothing":  second(ParseFooter(nil)),
		"header of nothing":  second(ParseHeader(nil)),
		"segment of nothing": second(ParseSegmentHeader(nil)),
	} {
		if !errors.Is(err, holdfast.ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		}
	}
	b, _ := segmentOf(t, 1, false)
	frame := b[SegmentHeaderSize:]
	for name, at := range map[string]int{"flags": 9, "reserved": 10, "type": 8, "size": 7} {
		q := bytes.Clone(frame)
		q[at] = 0x7f
		if _, _, err := Decode(q, exampleLog().Seed()); !errors.Is(err, holdfast.ErrCorrupt) {
			t.Errorf("frame with %s changed: got %v, want ErrCorrupt", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func FuzzDecode(f *testing.F) {
	b, _ := segmentOf(f, 2, true)
	for at := SegmentHeaderSize; at < len(b); at += BatchAlign {
		f.Add(b[at:min(len(b), at+BatchAlign)])
	}
	seed := exampleLog().Seed()
	f.Fuzz(func(t *testing.T, b []byte) {
		h, payload, err := Decode(b, seed)
		if err != nil {
			return
		}
		if again := Append(nil, seed, &h, payload); !bytes.Equal(again, b[:Len(h.Size)]) {
			t.Fatalf("encoded again differently:\n%x\n%x", b[:Len(h.Size)], again)
		}
	})
}

// FuzzPayloads decodes the payloads directly: behind a checksum the fuzzer would never get there.
func FuzzPayloads(f *testing.F) {
	f.Add(Commit{First: 1, Last: 2, Time: 3}.Encode())
	f.Add((&Checkpoint{Parts: 1, Heads: []holdfast.AccountHead{{Account: 1, Epoch: 1, Head: holdfast.Head{Seq: 1}}}}).Encode(nil))
	f.Add((&Footer{First: 1, Last: 100, Index: []uint64{4096, 8192}, Offset: 12288}).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseCommit(b); err == nil && !bytes.Equal(c.Encode(), b) {
			t.Errorf("commit encoded again differently: %x", b)
		}
		if c, err := ParseCheckpoint(b); err == nil && !bytes.Equal(c.Encode(nil), b) {
			t.Errorf("checkpoint encoded again differently: %x", b)
		}
		if c, err := ParseFooter(b); err == nil && !bytes.Equal(c.Encode(), b) {
			t.Errorf("footer encoded again differently: %x", b)
		}
		if len(b) >= 4 && len(b) < SegmentHeaderSize { // a header is 4 KiB: the fuzzer gives its first bytes
			b = append(bytes.Clone(b), make([]byte, SegmentHeaderSize-len(b))...)
		}
		if h, err := ParseSegmentHeader(b); err == nil && !bytes.Equal(h.Encode(), b[:SegmentHeaderSize]) {
			t.Errorf("segment header encoded again differently: %x", b)
		}
	})
}

// FuzzReader reads whatever it is given as a segment, to the end and behind damage.
func FuzzReader(f *testing.F) {
	b, _ := segmentOf(f, 1, true)
	f.Add(b, 5000, byte(1))
	f.Add(b, SegmentHeaderSize+BatchAlign+40, byte(4))
	f.Fuzz(func(t *testing.T, b []byte, at int, x byte) {
		if at >= 0 && at < len(b) {
			b = bytes.Clone(b)
			b[at] ^= x
		}
		r, err := NewReader(bytes.NewReader(b), int64(len(b)))
		for n := 0; err == nil; n++ {
			var batch *Batch
			if batch, err = r.Next(); err == nil && len(batch.Frames) == 0 {
				t.Fatal("a batch without frames")
			}
			var bad *BadError
			if errors.As(err, &bad) {
				var more bool
				if more, err = r.Skip(bad); err == nil && !more {
					return
				}
			}
			if n > len(b)/HeaderSize {
				t.Fatal("the reader does not come to an end")
			}
		}
	})
}

func ExampleReader() {
	var b bytes.Buffer // a segment, read from a mirror
	r, err := NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		fmt.Println(errors.Is(err, holdfast.ErrCorrupt))
		return
	}
	for {
		batch, err := r.Next()
		if err != nil {
			break // io.EOF, or a *BadError: torn or damaged
		}
		for i := range batch.Frames {
			payload, err := r.Load(&batch.Frames[i])
			fmt.Println(batch.Frames[i].Head(), len(payload), err)
		}
	}
	// Output: true
}
