package mirror

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/durable"
)

// TestReplayFrom gives only what lies beyond what the caller has.
func TestReplayFrom(t *testing.T) {
	w := newWorld(t, 1)
	l, _ := w.start(1)
	w.append(l, 9, 100)
	mid := maps.Clone(w.top)
	w.append(l, 9, 100)
	var got []Frame
	have := func(a holdfast.AccountID) holdfast.AccountHead { return mid[a] }
	collect := func(r *Record) error {
		got = append(got, Frame{Account: r.Account, Seq: r.Seq, Hash: r.Hash})
		return nil
	}
	if err := w.m.Replay(context.Background(), have, collect); err != nil {
		t.Fatal(err)
	}
	if len(got) != 9 || got[0].Seq != mid[got[0].Account].Head.Seq+1 {
		t.Errorf("replayed %+v, want the last nine", got)
	}
	good := mid[1]
	fork := good
	fork.Head.Hash[0] ^= 1
	mid[1] = fork
	var differ *holdfast.HeadMismatchError
	if err := w.m.Replay(context.Background(), have, collect); !errors.As(err, &differ) || differ.Account != 1 {
		t.Errorf("replay onto another history: got %v, want a mismatch in account 1", err)
	}
	stop := errors.New("stop")
	mid[1] = good
	if err := w.m.Replay(context.Background(), have, func(*Record) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v, want fn's error", err)
	}
}

// TestOutOfOrder: frames that come before those they follow wait, in bounded memory.
func TestOutOfOrder(t *testing.T) {
	was := maxParked
	t.Cleanup(func() { maxParked = was })
	for _, maxParked = range []int{was, 5} {
		w := newWorld(t, 1)
		l, _ := w.start(1)
		w.append(l, 6, 100)
		for range 10 {
			w.append(l, 3, 100)
		}
		// The second batch is lost and found again at the end, in reverse order and in two batches.
		name := segmentName(holdfast.Term{Number: 1, Random: 1001}, 1, false)
		f, err := w.disk.OpenFile("/mirror/"+segmentSealed(w, name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(make([]byte, 512), 12288); err != nil {
			t.Fatal(err)
		}
		if _, err := replayAll(w.m); !errors.Is(err, holdfast.ErrCorrupt) {
			t.Fatalf("with a hole: got %v, want ErrCorrupt", err)
		}
		lost := slices.Clone(w.all[6:9])
		slices.Reverse(lost)
		if err := l.Append(context.Background(), lost[:2]); err != nil {
			t.Fatal(err)
		}
		if err := l.Append(context.Background(), lost[2:]); err != nil {
			t.Fatal(err)
		}
		w.same2(w.m)
	}
}

func segmentSealed(w *world, name string) string {
	if _, err := w.b.Stat(context.Background(), name); err == nil {
		return name
	}
	return name[:len(name)-len(openSuffix)] + sealSuffix
}

// same2 compares account by account: a refill changes the order between accounts only.
func (w *world) same2(m *Mirror) {
	w.t.Helper()
	got, err := replayAll(m)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range w.all {
		if fs := got[f.Account]; len(fs) < int(f.Seq) || fs[f.Seq-1].Hash != f.Hash || !bytes.Equal(fs[f.Seq-1].Payload, f.Payload) {
			w.t.Fatalf("account %s: %d changes, seq %s is not the one appended", f.Account, len(fs), f.Seq)
		}
	}
}

// TestAcceptedLoss: an operator accepted that changes are lost; the new epoch goes on below them.
func TestAcceptedLoss(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, 1)
	l, _ := w.start(1)
	w.append(l, 6, 100)
	low := maps.Clone(w.top)
	kept := slices.Clone(w.all)
	w.append(l, 6, 100)
	for n := uint64(2); n <= 3; n++ { // the second time the loss is two logs ago
		term := holdfast.Term{Number: n, Random: n}
		if err := w.m.Claim(ctx, term, "accept loss"); err != nil {
			t.Fatal(err)
		}
		rec, err := w.m.Recover(ctx)
		if err != nil {
			t.Fatal(err)
		}
		from := rec.Heads
		if n == 2 {
			from = low
		}
		if l, err = w.m.StartLog(ctx, term, from); err != nil {
			t.Fatal(err)
		}
		w.top, w.all = maps.Clone(from), kept
		for a := range w.top {
			h := w.top[a]
			h.Epoch = 2
			f := change(t, h, term, "after", 50)
			w.all = append(w.all, f)
			w.top[a] = f.head()
		}
		kept = w.all
		if err := l.Append(ctx, w.all[len(w.all)-3:]); err != nil {
			t.Fatal(err)
		}
		w.same2(w.m)
	}
	if rep := w.check(); rep.Bad() || rep.Orphans == 0 || !maps.Equal(rep.Heads, w.top) {
		t.Errorf("got %+v, want no damage, orphans, and heads %v", rep, w.top)
	}
}

// TestTombstones: an erased change is replayed as a change of the same hash.
func TestTombstones(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, 1)
	l, _ := w.start(1)
	f := w.batch(1, 500)[0]
	erased, err := frame.Erase(f.Payload, func(int) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	f.Payload, f.Erased = erased, true
	if err := l.Append(ctx, []Frame{f}); err != nil {
		t.Fatal(err)
	}
	w.all[0].Payload = erased
	w.append(l, 5, 100)
	w.same(w.m)
	w.reopen()
	w.start(2)
	w.same(w.m)
	if rep := w.check(); len(rep.Damage) > 0 {
		t.Errorf("damage %v, want none", rep.Damage)
	}
}

// TestManyAccounts: a checkpoint that holds more heads than one batch's memory.
func TestManyAccounts(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, 1)
	l, _ := w.start(1)
	var batch []Frame
	for a := range 3000 {
		f := change(t, holdfast.AccountHead{Account: holdfast.AccountID(a)}, holdfast.Term{Number: 1, Random: 1}, "one", 5)
		w.top[f.Account] = f.head()
		batch = append(batch, f)
	}
	w.all = batch
	if err := l.Append(ctx, batch); err != nil {
		t.Fatal(err)
	}
	w.reopen()
	if l, _ = w.start(2); !maps.Equal(l.Heads(), w.top) {
		t.Fatal("the new log has other heads")
	}
	if err := l.Seal(ctx); err != nil {
		t.Fatal(err)
	}
	_, rec := w.start(3)
	if !maps.Equal(rec.Heads, w.top) {
		t.Fatal("recovered other heads")
	}
	w.same(w.m)
}

// TestOnDisk runs on the real file system, with a spare segment prepared in the background, and checks
// the mirror again and again while it grows.
func TestOnDisk(t *testing.T) {
	ctx := context.Background()
	b, err := dir.Create(durable.Disk, t.TempDir()+"/mirror")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, b: b, top: heads{}}
	if w.m, err = Create(ctx, w.config()); err != nil {
		t.Fatal(err)
	}
	l, _ := w.start(1)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			rep, err := w.m.Check(ctx, nil)
			if err != nil {
				t.Errorf("check beside appends: %v", err)
				return
			}
			for _, d := range rep.Damage {
				if d.Kind != Torn {
					t.Errorf("check beside appends: %s", d)
				}
			}
		}
	})
	rng := rand.New(rand.NewPCG(1, 2))
	for range 150 {
		w.append(l, 1+rng.IntN(5), rng.IntN(3000))
	}
	close(stop)
	wg.Wait()
	if err := errors.Join(l.Seal(ctx), l.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	if w.b, err = dir.Open(durable.Disk, b.Path()); err != nil {
		t.Fatal(err)
	}
	if w.m, err = Open(ctx, w.config()); err != nil {
		t.Fatal(err)
	}
	w.same(w.m)
	if rep := w.check(); len(rep.Damage) > 0 || rep.Segments < 10 {
		t.Errorf("%d segments, damage %v; want many and none", rep.Segments, rep.Damage)
	}
}
