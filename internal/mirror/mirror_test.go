package mirror

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/bucket"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/durable"
	"holdfast/internal/durable/simdisk"
)

var testServer = holdfast.ServerID{1, 2, 3}

// testMirrorID is what Create would have drawn; it is fixed so that runs can be repeated.
var testMirrorID = [16]byte{0xab, 0xcd}

// heads are the heads of all accounts.
type heads = map[holdfast.AccountID]holdfast.AccountHead

// change makes the change after head: one put with a body of n bytes, told apart by tag.
func change(t testing.TB, head holdfast.AccountHead, term holdfast.Term, tag string, n int) Frame {
	t.Helper()
	body := bytes.Repeat([]byte(tag+"."), n/(len(tag)+1)+1)[:n]
	c := frame.Change{
		Account: head.Account, Epoch: max(1, head.Epoch), Seq: head.Head.Seq + 1, Term: term,
		Ops: []frame.Op{{Type: frame.OpPut, Collection: 2, Name: tag, Body: body}},
	}
	p, err := c.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := frame.ChainHash(head.Head.Hash, p)
	if err != nil {
		t.Fatal(err)
	}
	return Frame{Account: c.Account, Epoch: c.Epoch, Seq: c.Seq, Hash: h, Term: term, Payload: p}
}

func (f *Frame) head() holdfast.AccountHead {
	return holdfast.AccountHead{Account: f.Account, Epoch: f.Epoch, Head: holdfast.Head{Seq: f.Seq, Hash: f.Hash}}
}

// world is a mirror on a simulated disk and what was appended to it.
type world struct {
	t    testing.TB
	disk *simdisk.Disk
	b    *dir.Dir
	m    *Mirror
	all  []Frame
	top  heads
	n    int

	// For the fault table.
	log   *Log
	maybe []Frame // all, with the batch under way
	blob  *frame.Blob
}

func newWorld(t testing.TB, seed uint64) *world {
	t.Helper()
	w := &world{t: t, disk: simdisk.New(seed), top: heads{}}
	b, err := dir.Create(w.disk, "/mirror", dir.WithSpare(dir.Off))
	if err != nil {
		t.Fatal(err)
	}
	w.b = b
	if w.m, err = create(context.Background(), w.config(), testMirrorID); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) config() Config {
	return Config{Server: testServer, Bucket: w.b, Name: "test", SegmentSize: minSegment}
}

// reopen opens bucket and mirror again, as a new process does.
func (w *world) reopen() {
	w.t.Helper()
	var err error
	if w.b, err = dir.Open(w.disk, "/mirror", dir.WithSpare(dir.Off)); err != nil {
		w.t.Fatal(err)
	}
	if w.m, err = Open(context.Background(), w.config()); err != nil {
		w.t.Fatal(err)
	}
}

// start claims a term, recovers and starts its log.
func (w *world) start(n uint64) (*Log, *Recovered) {
	w.t.Helper()
	ctx := context.Background()
	term := holdfast.Term{Number: n, Random: 1000 + n}
	if err := w.m.Claim(ctx, term, "test"); err != nil {
		w.t.Fatal(err)
	}
	rec, err := w.m.Recover(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	l, err := w.m.StartLog(ctx, term, rec.Heads)
	if err != nil {
		w.t.Fatal(err)
	}
	return l, rec
}

// batch makes the next n changes, spread over three accounts, and remembers them.
func (w *world) batch(n, size int) []Frame {
	w.t.Helper()
	var out []Frame
	for range n {
		a := holdfast.AccountID(w.n % 3)
		head := w.top[a]
		head.Account = a
		f := change(w.t, head, holdfast.Term{Number: 1, Random: 1}, fmt.Sprintf("item-%d", w.n), size)
		w.n++
		w.top[a] = f.head()
		out = append(out, f)
	}
	w.all = append(w.all, out...)
	return out
}

func (w *world) append(l *Log, n, size int) {
	w.t.Helper()
	if err := l.Append(context.Background(), w.batch(n, size)); err != nil {
		w.t.Fatal(err)
	}
}

// replayAll returns everything from the first change on.
func replayAll(m *Mirror) (got map[holdfast.AccountID][]Frame, err error) {
	got = map[holdfast.AccountID][]Frame{}
	err = m.Replay(context.Background(), func(holdfast.AccountID) holdfast.AccountHead { return holdfast.AccountHead{} }, func(r *Record) error {
		got[r.Account] = append(got[r.Account], Frame{Account: r.Account, Epoch: r.Epoch, Seq: r.Seq, Hash: r.Hash, Payload: bytes.Clone(r.Payload)})
		return nil
	})
	return got, err
}

// same compares a replay with what was appended.
func (w *world) same(m *Mirror) {
	w.t.Helper()
	got, err := replayAll(m)
	if err != nil {
		w.t.Fatal(err)
	}
	n := 0
	for _, fs := range got {
		n += len(fs)
	}
	if n != len(w.all) {
		w.t.Fatalf("replayed %d changes, want %d", n, len(w.all))
	}
	at := map[holdfast.AccountID]int{}
	for _, want := range w.all {
		g := got[want.Account][at[want.Account]]
		at[want.Account]++
		if g.Seq != want.Seq || g.Hash != want.Hash || !bytes.Equal(g.Payload, want.Payload) {
			w.t.Fatalf("account %s: replayed seq %s, want %s", want.Account, g.Seq, want.Seq)
		}
	}
}

func (w *world) check() *Report {
	w.t.Helper()
	rep, err := w.m.Check(context.Background(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return rep
}

func TestAppendRotateReplay(t *testing.T) {
	w := newWorld(t, 1)
	l, _ := w.start(1)
	for i := range 40 {
		w.append(l, 1+i%5, 100+i*50)
	}
	w.same(w.m)
	if err := l.Seal(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.same(w.m)
	w.reopen()
	rep := w.check()
	if len(rep.Damage) != 0 || rep.Changes != len(w.all) || rep.Segments < 3 {
		t.Fatalf("got %+v, want %d changes in several segments and no damage", rep, len(w.all))
	}
	l, rec := w.start(2)
	if !maps.Equal(rec.Heads, w.top) || !maps.Equal(rec.Witness, w.top) || len(rec.Damage) != 0 {
		t.Fatalf("recovered %v, witness %v, damage %v; want %v", rec.Heads, rec.Witness, rec.Damage, w.top)
	}
	w.append(l, 3, 10)
	w.same(w.m)
	w.reopen()
	_, rec = w.start(3)
	if !maps.Equal(rec.Heads, w.top) {
		t.Fatalf("recovered %v, want %v", rec.Heads, w.top)
	}
	w.same(w.m)
	if rep := w.check(); len(rep.Damage) != 0 {
		t.Fatalf("damage %v, want none", rep.Damage)
	}
}

func TestOpenRefuses(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, 1)
	other := w.config()
	other.Server = holdfast.ServerID{9}
	if _, err := Open(ctx, other); !errors.Is(err, holdfast.ErrAbsent) {
		t.Errorf("open another server's mirror: got %v, want ErrAbsent", err)
	}
	if _, err := Create(ctx, w.config()); !errors.Is(err, holdfast.ErrExists) {
		t.Errorf("create in a mirror: got %v, want ErrExists", err)
	}
	b, err := dir.Create(w.disk, "/empty", dir.WithSpare(dir.Off))
	if err != nil {
		t.Fatal(err)
	}
	empty := w.config()
	empty.Bucket = b
	if _, err := Open(ctx, empty); !errors.Is(err, holdfast.ErrAbsent) {
		t.Errorf("open an empty bucket: got %v, want ErrAbsent", err)
	}
	if err := b.Put(ctx, markerName, bytes.NewReader([]byte(`{"format":2}`)), true); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(ctx, empty); !errors.Is(err, holdfast.ErrCorrupt) {
		t.Errorf("open a mirror of a newer format: got %v, want ErrCorrupt", err)
	}
	small := w.config()
	small.SegmentSize = 1000
	if _, err := Open(ctx, small); !errors.Is(err, holdfast.ErrInvalid) {
		t.Errorf("open with tiny segments: got %v, want ErrInvalid", err)
	}
}

func TestClaims(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, 1)
	one := holdfast.Term{Number: 1, Random: 5}
	if err := w.m.Claim(ctx, one, "first"); err != nil {
		t.Fatal(err)
	}
	if err := w.m.CheckTerm(ctx, one); err != nil {
		t.Fatalf("own claim: %v", err)
	}
	old := w.m
	w.reopen()
	if err := w.m.CheckTerm(ctx, holdfast.Term{Number: 1, Random: 6}); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("same number, other random bits: got %v, want ErrFenced", err)
	}
	if err := w.m.Claim(ctx, holdfast.Term{Number: 1, Random: 7}, ""); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("claim a taken number: got %v, want ErrFenced", err)
	}
	if err := w.m.Claim(ctx, holdfast.Term{Number: 4, Random: 7}, "leaves a gap"); err != nil {
		t.Fatal(err)
	}
	if err := old.CheckTerm(ctx, one); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("old process after a claim that left a gap: got %v, want ErrFenced", err)
	}
	terms, err := w.m.Terms(ctx)
	if err != nil || len(terms) != 4 || terms[3].Term != (holdfast.Term{Number: 4, Random: 7}) || terms[0].Note != "first" {
		t.Errorf("terms %+v, %v; want 1 to 4", terms, err)
	}
	for _, filler := range terms[1:3] { // a crash may leave one of them as the last
		if !strings.HasPrefix(filler.Note, "leaves a gap") {
			t.Errorf("claim %s fills the gap and does not say whose it is: %q", filler.Term, filler.Note)
		}
	}
	if err := durable.Remove(w.disk, "/mirror/"+claimName(4)); err != nil {
		t.Fatal(err)
	}
	if err := w.m.CheckTerm(ctx, holdfast.Term{Number: 4, Random: 7}); !errors.Is(err, holdfast.ErrAbsent) {
		t.Errorf("own claim gone: got %v, want ErrAbsent", err)
	}
	if err := w.m.Claim(ctx, holdfast.Term{Number: 1 << 40, Random: 7}, ""); !errors.Is(err, holdfast.ErrInvalid) {
		t.Errorf("claim far ahead: got %v, want ErrInvalid", err)
	}
}

func TestAppendRefuses(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, 1)
	l, _ := w.start(1)
	w.append(l, 3, 100)
	good := func() Frame { return change(t, w.top[1], holdfast.Term{Number: 1, Random: 1}, "x", 10) }
	for name, edit := range map[string]func(*Frame){
		"gap":            func(f *Frame) { *f = change(t, f.head(), f.Term, "y", 10) },
		"other hash":     func(f *Frame) { f.Hash[0] ^= 1 },
		"other account":  func(f *Frame) { f.Account = 2 },
		"other seq":      func(f *Frame) { f.Seq++ },
		"other epoch":    func(f *Frame) { f.Epoch++ },
		"other term":     func(f *Frame) { f.Term.Random++ },
		"not a change":   func(f *Frame) { f.Payload = []byte("hello") },
		"a fork at head": func(f *Frame) { *f = change(t, holdfast.AccountHead{Account: 1}, f.Term, "z", 10) },
	} {
		f := good()
		edit(&f)
		if err := l.Append(ctx, []Frame{f}); !errors.Is(err, holdfast.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	if err := l.Append(ctx, make([]Frame, MaxBatch+1)); !errors.Is(err, holdfast.ErrTooLarge) {
		t.Errorf("batch too large: got %v, want ErrTooLarge", err)
	}
	w.append(l, 3, 100) // the log goes on
	w.same(w.m)
}

func TestStartLogRefuses(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, 1)
	l, _ := w.start(1)
	w.append(l, 3, 100)
	term := holdfast.Term{Number: 2, Random: 2}
	if _, err := w.m.StartLog(ctx, term, nil); !errors.Is(err, holdfast.ErrAbsent) {
		t.Errorf("without a claim: got %v, want ErrAbsent", err)
	}
	if err := w.m.Claim(ctx, term, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := w.m.StartLog(ctx, term, nil); !errors.Is(err, holdfast.ErrInvalid) {
		t.Errorf("read before the claim: got %v, want ErrInvalid", err)
	}
	rec, err := w.m.Recover(ctx)
	if err != nil {
		t.Fatal(err)
	}
	high := maps.Clone(rec.Heads)
	h := high[1]
	h.Head.Seq++
	high[1] = h
	if _, err := w.m.StartLog(ctx, term, high); !errors.Is(err, holdfast.ErrInvalid) {
		t.Errorf("heads that are not here: got %v, want ErrInvalid", err)
	}
	if _, err := w.m.StartLog(ctx, term, rec.Heads); err != nil {
		t.Fatal(err)
	}
	if _, err := w.m.StartLog(ctx, term, rec.Heads); !errors.Is(err, holdfast.ErrExists) {
		t.Errorf("a second time: got %v, want ErrExists", err)
	}
	if err := l.Append(ctx, w.batch(1, 10)); err != nil {
		t.Errorf("the old log can still be written: %v", err) // what stops it is CheckTerm
	}
	if err := w.m.CheckTerm(ctx, holdfast.Term{Number: 1, Random: 1001}); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("old term: got %v, want ErrFenced", err)
	}
}

func TestBlobs(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, 1)
	body := bytes.Repeat([]byte("photo"), 50_000)
	b := frame.Blob{Hash: sha256.Sum256(body), Size: int64(len(body))}
	if has, err := w.m.HasBlob(ctx, 7, b); err != nil || has {
		t.Fatalf("has %v, %v; want neither", has, err)
	}
	if err := w.m.PutBlob(ctx, 7, b, bytes.NewReader(body[1:])); !errors.Is(err, holdfast.ErrCorrupt) {
		t.Fatalf("put other bytes: got %v, want ErrCorrupt", err)
	}
	for range 2 {
		if err := w.m.PutBlob(ctx, 7, b, bytes.NewReader(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.m.verifyBlob(ctx, 7, b); err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(body)
	bad[1000] ^= 4
	if err := w.b.Put(ctx, bucket.BlobName(7, b.Hash), bytes.NewReader(bad), false); err != nil {
		t.Fatal(err)
	}
	if err := w.m.verifyBlob(ctx, 7, b); !errors.Is(err, holdfast.ErrCorrupt) {
		t.Fatalf("read a damaged blob: got %v, want ErrCorrupt", err)
	}
	if rep := w.check(); !rep.Bad() {
		t.Fatal("check does not see a damaged blob")
	}
	if err := w.m.PutBlob(ctx, 7, b, bytes.NewReader(body)); err != nil {
		t.Fatalf("replace a damaged blob: %v", err)
	}
	if rep := w.check(); rep.Bad() || rep.Blobs != 1 {
		t.Fatalf("got %+v, want one good blob", rep)
	}
}
