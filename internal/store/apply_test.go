package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/frame"
)

func TestApplyRefusesWhatDoesNotFollow(t *testing.T) {
	s, _ := newStore(t)
	head := write(t, s, 1, root(), mkcol(2, 1, "a"))
	tx := begin(t, s)
	defer tx.Rollback()
	good := frame.Change{Account: 1, Epoch: 1, Seq: 2, Term: holdfast.Term{Number: 1}}
	for _, v := range []struct {
		name  string
		spoil func(c *frame.Change, h *holdfast.Hash)
		want  error
	}{
		{"seq again", func(c *frame.Change, _ *holdfast.Hash) { c.Seq = 1 }, holdfast.ErrInvalid},
		{"gap", func(c *frame.Change, _ *holdfast.Hash) { c.Seq = 3 }, holdfast.ErrInvalid},
		{"other account", func(c *frame.Change, _ *holdfast.Hash) { c.Account = 2 }, holdfast.ErrInvalid},
		{"hash", func(_ *frame.Change, h *holdfast.Hash) { h[5] ^= 1 }, holdfast.ErrCorrupt},
		{"no collection", func(c *frame.Change, _ *holdfast.Hash) { c.Ops[0].Collection = 9 }, holdfast.ErrInvalid},
		{"name with slash", func(c *frame.Change, _ *holdfast.Hash) { c.Ops[0].Name = "a/b" }, holdfast.ErrInvalid},
		{"no name", func(c *frame.Change, _ *holdfast.Hash) { c.Ops[0].Name = "" }, holdfast.ErrInvalid},
		{"kind changes", func(c *frame.Change, _ *holdfast.Hash) {
			c.Ops[0] = mkcol(2, 1, "a")
			c.Ops[0].Kind = holdfast.KindCard
		}, holdfast.ErrInvalid},
		{"root moved", func(c *frame.Change, _ *holdfast.Hash) { c.Ops[0] = mkcol(1, 2, "a") }, holdfast.ErrInvalid},
		{"many properties", func(c *frame.Change, _ *holdfast.Hash) {
			c.Ops[0].Props = []holdfast.Property{{Name: "{x}a", Value: strings.Repeat("v", maxProps)}}
		}, holdfast.ErrInvalid},
	} {
		c := good
		c.Ops = []frame.Op{put(2, "x", "body")}
		v.spoil(&c, &holdfast.Hash{})
		payload, err := c.Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		hash, err := frame.ChainHash(head.Hash, payload)
		if err != nil {
			t.Fatal(err)
		}
		v.spoil(&frame.Change{Ops: []frame.Op{{}}}, &hash)
		if err := tx.Apply(&c, payload, hash); !errors.Is(err, v.want) {
			t.Errorf("%s: %v, want %v", v.name, err, v.want)
		}
	}
	if _, err := change(tx, 1, put(2, "x", "body")); err != nil { // none of it spoiled the transaction
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

func TestEpochNeverFalls(t *testing.T) {
	s, _ := newStore(t)
	tx := begin(t, s)
	var prev holdfast.Hash
	for i, v := range []struct {
		epoch holdfast.Epoch
		op    frame.Op
		want  error
	}{
		{1, root(), nil},
		{3, frame.LossOp(&frame.Loss{}), nil},
		{3, root(), nil},
		{2, root(), holdfast.ErrInvalid},
		{4, root(), holdfast.ErrInvalid},
		{3, frame.LossOp(&frame.Loss{}), holdfast.ErrInvalid},
		{4, frame.LossOp(&frame.Loss{Common: 4}), holdfast.ErrInvalid},
	} {
		c := &frame.Change{Account: 1, Epoch: v.epoch, Seq: holdfast.Seq(min(i, 3) + 1), Term: holdfast.Term{Number: 1}, Ops: []frame.Op{v.op}}
		payload, err := c.Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		hash, err := frame.ChainHash(prev, payload)
		if err != nil {
			t.Fatal(err)
		}
		if v.want == nil {
			prev = hash
		}
		if err := tx.Apply(c, payload, hash); !errors.Is(err, v.want) || (v.want == nil && err != nil) {
			t.Fatalf("epoch %d: %v, want %v", v.epoch, err, v.want)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

// TestLargeChange puts bodies across the borders of the parts of a payload.
func TestLargeChange(t *testing.T) {
	s, _ := newStore(t)
	write(t, s, 1, root(), mkcol(2, 1, "a"))
	rnd := rand.New(rand.NewPCG(3, 4))
	var ops []frame.Op
	bodies := map[string]string{}
	for i := range 40 {
		b := make([]byte, rnd.IntN(holdfast.MaxInline+1))
		for j := range b {
			b[j] = byte(rnd.Uint32())
		}
		name := fmt.Sprint("r", i)
		bodies[name] = string(b)
		ops = append(ops, put(2, name, string(b)))
	}
	write(t, s, 1, ops...)
	r := read(t, s)
	for name, want := range bodies {
		res, err := r.Resource(1, 2, name, 2)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := r.Body(res); err != nil || string(b) != want {
			t.Errorf("%s at %d: %d bytes, %v, want %d", name, res.BodyOffset, len(b), err, len(want))
		}
	}
	n := 0
	err := r.Changes(1, 2, 2, func(_ holdfast.Seq, _ holdfast.Hash, payload []byte) error {
		n++
		c, err := frame.ParseChange(payload)
		if err == nil && len(c.Ops) != 40 {
			err = fmt.Errorf("%d operations", len(c.Ops))
		}
		return err
	})
	if err != nil || n != 1 {
		t.Errorf("Changes: %d, %v", n, err)
	}
	r.Close()
	if err := s.Check(context.Background(), nil); err != nil {
		t.Error(err)
	}
}

// TestLongDelta follows more changes than one page of them.
func TestLongDelta(t *testing.T) {
	s, _ := newStore(t)
	tx := begin(t, s)
	ops := [][]frame.Op{{root(), mkcol(2, 1, "a")}}
	for i := range 2 * deltaPage {
		ops = append(ops, []frame.Op{put(2, fmt.Sprintf("r%05d", i), "x")})
	}
	for i := range deltaPage / 2 {
		ops = append(ops, []frame.Op{remove(2, fmt.Sprintf("r%05d", i*3))})
	}
	for _, o := range ops {
		if _, err := change(tx, 1, o...); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	r := read(t, s)
	defer r.Close()
	head := holdfast.Seq(len(ops))
	for _, v := range []struct {
		since         holdfast.Seq
		limit         int
		there, gone   int
		reachedBefore bool
	}{
		{0, 0, 1500, 0, false},
		{1, 0, 1500, 500, false},
		{1001, 0, 834, 500, false},
		{1001, 700, 700, 0, true},
		{2001, 0, 0, 500, false},
		{2001, 499, 0, 499, true},
		{2001, 500, 0, 500, false},
		{head, 0, 0, 0, false},
	} {
		list, reached, err := r.Changed(1, 2, v.since, head, v.limit)
		gone := 0
		for _, d := range list {
			if d.Deleted {
				gone++
			}
		}
		if err != nil || gone != v.gone || len(list)-gone != v.there || (reached < head) != v.reachedBefore {
			t.Errorf("since %d limit %d: %d there, %d gone, reached %d, %v, want %+v", v.since, v.limit, len(list)-gone, gone, reached, err, v)
		}
	}
}

// TestMovesAndGraves has what the model draws seldom.
func TestMovesAndGraves(t *testing.T) {
	s, _ := newStore(t)
	write(t, s, 1, root(), mkcol(2, 1, "a"), mkcol(3, 1, "b"), mkcol(4, 2, "c"))
	write(t, s, 1, mkcol(4, 3, "c"))
	write(t, s, 1, put(4, "x", "old"))
	write(t, s, 1, put(4, "x", "new"), put(4, "y", "short-lived"), remove(4, "x"), put(4, "x", "newest"),
		frame.Op{Type: frame.OpDeleteCollection, Collection: 3}, mkcol(5, 1, "b"))
	r := read(t, s)
	defer r.Close()
	for id, want := range map[holdfast.CollectionID]holdfast.Seq{2: 2, 3: 2, 4: 2, 1: 1} {
		if got, err := r.LastChange(1, id, 2); err != nil || got != want {
			t.Errorf("LastChange of %d at 2: %d, %v, want %d", id, got, err, want)
		}
	}
	if res, err := r.Resource(1, 4, "x", 3); err != nil || res.Seq != 3 {
		t.Errorf("x before: %+v, %v", res, err)
	}
	for _, name := range []string{"x", "y"} {
		if res, err := r.Resource(1, 4, name, 4); !errors.Is(err, holdfast.ErrNotFound) {
			t.Errorf("%s after: %+v, %v", name, res, err)
		}
	}
	if k, err := r.Child(1, 1, "b", 4); err != nil || k.ID != 5 {
		t.Errorf("new b: %+v, %v", k, err)
	}
	if k, err := r.Child(1, 1, "b", 3); err != nil || k.ID != 3 {
		t.Errorf("old b: %+v, %v", k, err)
	}
	if n, b, err := r.Usage(1); n != 0 || b != 0 || err != nil {
		t.Errorf("Usage: %d, %d, %v", n, b, err)
	}
	if _, _, err := r.Changed(1, 4, 2, 4, 0); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("Changed of a removed collection: %v, want ErrNotFound", err)
	}
	tx := begin(t, s)
	defer tx.Rollback()
	if _, err := change(tx, 1, mkcol(4, 1, "again")); !errors.Is(err, holdfast.ErrInvalid) {
		t.Errorf("id used again: %v, want ErrInvalid", err)
	}
}

// TestReplayGivesTheSameState puts the changes of one store into another, with one body erased.
func TestReplayGivesTheSameState(t *testing.T) {
	s, _ := newStore(t)
	write(t, s, 1, root(), mkcol(2, 1, "a"))
	write(t, s, 1, put(2, "secret", "to be forgotten"))
	write(t, s, 1, put(2, "x", "kept"))
	want := write(t, s, 1, remove(2, "secret"))
	other, _ := newStore(t)
	tx := begin(t, other)
	r := read(t, s)
	err := r.Changes(1, 1, Newest, func(seq holdfast.Seq, hash holdfast.Hash, payload []byte) error {
		if seq == 2 {
			var err error
			if payload, err = frame.Erase(payload, func(int) bool { return true }); err != nil {
				return err
			}
		}
		c, err := frame.ParseChange(payload)
		if err != nil {
			return err
		}
		return tx.Apply(c, payload, hash)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	r2 := read(t, other)
	h, err := r2.Head(1)
	if err != nil || h.Head != want {
		t.Errorf("head %v, %v, want %v", h, err, want)
	}
	d1, err1 := r.Digest(1, 2)
	d2, err2 := r2.Digest(1, 2)
	if err1 != nil || err2 != nil || d1 != d2 {
		t.Errorf("digests %v and %v, %v, %v", d1, d2, err1, err2)
	}
	r2.Close()
	r.Close()
	if err := other.Check(context.Background(), nil); err != nil {
		t.Error(err)
	}
}

// TestWriterWaitsForTheLog fills the log behind an open snapshot: at the hard cap the writer waits,
// and goes on when the reader has gone.
func TestWriterWaitsForTheLog(t *testing.T) {
	s, _ := newStore(t)
	write(t, s, 1, root(), mkcol(2, 1, "a"))
	r := read(t, s)
	if _, err := r.Head(1); err != nil {
		t.Fatal(err)
	}
	write(t, s, 1, put(2, "x", "this stays in the log until the reader has gone"))
	s.check.most = 1
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if tx, err := s.Begin(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Cleanup(func() { tx.Rollback() })
		t.Fatalf("Begin at the hard cap: %v, want DeadlineExceeded", err)
	}
	began := make(chan error, 1)
	go func() {
		tx, err := s.Begin(context.Background())
		if err == nil {
			err = tx.Rollback()
		}
		began <- err
	}()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-began; err != nil {
		t.Errorf("Begin after the reader: %v", err)
	}
}

func TestCheckNamesDamage(t *testing.T) {
	for name, v := range map[string]struct{ query, want string }{
		"head":        {"UPDATE account SET seq = 2", "head is"},
		"usage":       {"UPDATE account SET bytes = 1", "its row says"},
		"digest":      {"UPDATE changed SET digest = zeroblob(32) WHERE collection_id = 2 AND seq = 3", "another digest"},
		"lost member": {"DELETE FROM resource WHERE name = 'y'", "another digest"},
		"lost change": {"DELETE FROM change WHERE seq = 2", "is missing"},
		"chain":       {"UPDATE change SET hash = zeroblob(32) WHERE seq = 2", "does not continue"},
		"body":        {"UPDATE change SET payload = CAST(replace(CAST(payload AS TEXT), 'second', 'sec0nd') AS BLOB)", "commitment"},
		"thin":        {"UPDATE resource SET thin = substr(thin, 1, 40) WHERE name = 'x'", "ends early"},
	} {
		t.Run(name, func(t *testing.T) {
			s, cfg := newStore(t)
			write(t, s, 1, root(), mkcol(2, 1, "a"))
			write(t, s, 1, put(2, "x", "the first body"))
			write(t, s, 1, put(2, "y", "the second body"))
			if err := s.Check(context.Background(), nil); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			execRaw(t, cfg.Path+"/"+fileName, v.query)
			s, err := Open(context.Background(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.Check(context.Background(), nil); !errors.Is(err, holdfast.ErrCorrupt) || !strings.Contains(err.Error(), v.want) {
				t.Errorf("Check: %v, want ErrCorrupt and %q", err, v.want)
			}
		})
	}
}

// FuzzThin reads any bytes as a thin string; what can be read is written again as it was understood.
func FuzzThin(f *testing.F) {
	f.Add(appendThin(nil, &Resource{Name: "a", Seq: 3, Size: 5, BodySeq: 2, BodyOffset: 77, ContentType: "text/vcard", UID: "u", First: -1, Last: 1 << 40}))
	f.Add(appendThin(nil, &Resource{BodyOffset: -1, Props: []holdfast.Property{{Name: "{DAV:}displayname", Value: "x"}}, Component: "VTODO"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r, again Resource
		n, _, err := parseThin(b, &r)
		if err != nil {
			if !errors.Is(err, holdfast.ErrCorrupt) {
				t.Fatalf("error %v does not wrap ErrCorrupt", err)
			}
			return
		}
		r.Name = strings.Repeat("n", n)
		out := appendThin(nil, &r)
		m, rest, err := parseThin(out, &again)
		again.Name = r.Name
		if err != nil || m != n || len(rest) > 0 || fmt.Sprint(r) != fmt.Sprint(again) {
			t.Fatalf("%+v became %+v, %d, %d left, %v", r, again, m, len(rest), err)
		}
	})
}
