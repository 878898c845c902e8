package mirror

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/durable"
	"holdfast/internal/durable/simdisk"
)

// media is a clean mirror of acknowledged frames, kept as the bytes of its files, to be damaged again and again.
type media struct {
	files map[string][]byte
	logs  []string // names of segments, sorted
	top   heads
}

// newMedia writes two logs with several segments. Then the files are taken out.
func newMedia(t testing.TB, seal, headFile bool) *media {
	t.Helper()
	w := newWorld(t, 9)
	l, _ := w.start(1)
	for i := range 12 {
		w.append(l, 1+i%3, 400+i*97)
	}
	l, _ = w.start(2)
	for i := range 16 {
		w.append(l, 1+i%4, 300+i*111)
	}
	if headFile {
		if err := w.m.WriteHeads(context.Background(), w.top, l.Pos()); err != nil {
			t.Fatal(err)
		}
	}
	if seal {
		if err := l.Seal(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	md := &media{files: map[string][]byte{}, top: w.top}
	for info, err := range w.b.List(context.Background(), "") {
		if err != nil {
			t.Fatal(err)
		}
		b, err := w.m.read(context.Background(), info.Name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		md.files[info.Name] = b
		if strings.HasPrefix(info.Name, logPrefix) {
			md.logs = append(md.logs, info.Name)
		}
	}
	return md
}

// disk writes the files to a fresh disk, with name changed by edit; nil removes it.
func (md *media) open(t testing.TB, name string, data []byte) *Mirror {
	t.Helper()
	d := simdisk.New(1)
	b, err := dir.Create(d, "/mirror", dir.WithSpare(dir.Off))
	if err != nil {
		t.Fatal(err)
	}
	for n, content := range md.files {
		if n == name {
			content = data
		}
		if content == nil {
			continue
		}
		if err := durable.MkdirBelow(d, "/mirror", dirOf(n)); err != nil {
			t.Fatal(err)
		}
		f, err := d.OpenFile("/mirror/"+n, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(content, 0); err != nil {
			t.Fatal(err)
		}
	}
	m, err := Open(context.Background(), Config{Server: testServer, Bucket: b, Name: "damaged", SegmentSize: minSegment})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func dirOf(name string) string {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i]
	}
	return "."
}

// written returns how far a segment holds anything but zeros.
func written(b []byte) int {
	n := len(b)
	for n > 0 && b[n-1] == 0 {
		n--
	}
	return n
}

// damage does one thing to one segment. It returns nil for a lost file and false if nothing changed.
func (md *media) damage(rng *rand.Rand) (kind, name string, data []byte, changed bool) {
	name = md.logs[rng.IntN(len(md.logs))]
	was := md.files[name]
	data = append([]byte(nil), was...)
	end := written(was)
	switch rng.IntN(4) {
	case 0:
		at := rng.IntN(end)
		data[at] ^= 1 << rng.IntN(8)
		return "bit flip", name, data, true
	case 1:
		at := rng.IntN(end) / simdisk.Sector * simdisk.Sector
		clear(data[at:min(at+simdisk.Sector, len(data))])
		return "zeroed sector", name, data, string(data) != string(was)
	case 2:
		return "truncation", name, data[:rng.IntN(end)], true
	}
	return "lost segment", name, nil, true
}

// tally counts damages of one kind.
type tally struct {
	cases, check, alone, torn int
	twice                     int // in the last batch of the first log, which the second holds again: nothing is lost
}

func (c *tally) line(kind string) string {
	return fmt.Sprintf("%-13s %5d cases; seen by Check alone %5d, by Recover alone %5d; heads short and taken for torn by Recover alone %4d (%.1f %%); in bytes held twice %d",
		kind, c.cases, c.check, c.alone, c.torn, 100*float64(c.torn)/float64(max(1, c.cases)), c.twice)
}

// TestMediaDamage: every damage to acknowledged bytes is seen by Check if there is a head file, and
// without one by Check or by comparing what Recover says with an independent head, unless the bytes
// are there a second time. Nothing is invented.
func TestMediaDamage(t *testing.T) {
	n := 3000
	if testing.Short() {
		n = 200
	}
	for _, headFile := range []bool{false, true} {
		kinds := []string{"bit flip", "zeroed sector", "truncation", "lost segment"}
		counts := map[string]*tally{}
		for _, k := range append(kinds, "all") {
			counts[k] = &tally{}
		}
		for _, sealed := range []bool{false, true} {
			md := newMedia(t, sealed, headFile)
			clean := md.open(t, "", nil)
			if rep, err := clean.Check(context.Background(), nil); err != nil || len(rep.Damage) > 0 {
				t.Fatalf("clean mirror: %v, %v", rep, err)
			}
			for i := range n / 4 {
				kind, name, data, changed := md.damage(rand.New(rand.NewPCG(uint64(i), 7)))
				if !changed {
					continue
				}
				where := fmt.Sprintf("head file %v, sealed %v, case %d, %s of %s", headFile, sealed, i, kind, name)
				v := judge(t, md.open(t, name, data), md.top, where)
				counts[kind].count(v)
				counts["all"].count(v)
				twice := v.heads && v.replay && name == md.endOfFirst()
				if !v.check && !twice && (v.heads || headFile) {
					t.Errorf("%s: not seen by Check; Recover gives the right heads: %v", where, v.heads)
				}
			}
		}
		t.Logf("head file %v", headFile)
		for _, k := range append(kinds, "all") {
			t.Log(counts[k].line(k))
		}
		if all := counts["all"]; all.cases < n/2*8/10 {
			t.Errorf("%d cases, want at least %d", all.cases, n/2*8/10)
		}
	}
}

func (c *tally) count(v verdict) {
	c.cases++
	c.check += one(v.check)
	c.alone += one(v.recover)
	c.torn += one(!v.recover && !v.heads)
	c.twice += one(!v.check && v.heads)
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// endOfFirst returns the last segment of the first log, which was never sealed.
func (md *media) endOfFirst() string {
	last := ""
	for _, n := range md.logs {
		if strings.HasPrefix(n, "log/0000000000000001-") {
			last = n
		}
	}
	return last
}

// verdict says what sees a damage.
type verdict struct {
	check, recover bool // Check, or Recover, says that something durable is damaged
	heads          bool // Recover gives the heads that an independent copy has
	replay         bool // Replay gives everything
}

func judge(t *testing.T, m *Mirror, top heads, where string) (v verdict) {
	t.Helper()
	ctx := context.Background()
	rep, err := m.Check(ctx, nil)
	if err != nil {
		t.Fatalf("%s: check: %v", where, err)
	}
	v.check = rep.Bad() || len(rep.Refilled) > 0
	rec, err := m.Recover(ctx)
	if err != nil {
		t.Fatalf("%s: recover: %v", where, err)
	}
	for _, d := range rec.Damage {
		v.recover = v.recover || d.Kind != Torn
	}
	v.heads = maps.Equal(rec.Heads, top)
	for a, h := range rec.Heads {
		if h.Head.Seq > top[a].Head.Seq || h.Head.Seq == top[a].Head.Seq && h != top[a] {
			t.Errorf("%s: recovered head %s of account %s was invented", where, h.Head, a)
		}
	}
	got := heads{}
	err = m.Replay(ctx, func(holdfast.AccountID) holdfast.AccountHead { return holdfast.AccountHead{} }, func(r *Record) error {
		got[r.Account] = holdfast.AccountHead{Account: r.Account, Epoch: r.Epoch, Head: holdfast.Head{Seq: r.Seq, Hash: r.Hash}}
		return nil
	})
	var differ *holdfast.HeadMismatchError
	if err != nil && !errors.Is(err, holdfast.ErrCorrupt) && !errors.As(err, &differ) {
		t.Errorf("%s: replay: %v", where, err)
	}
	v.replay = err == nil && maps.Equal(got, top)
	if len(rep.Refilled) > 0 && !v.replay {
		t.Errorf("%s: check says that all is there, replay lacks something: %v", where, rep.Refilled)
	}
	if err == nil && v.heads && !v.replay {
		t.Errorf("%s: recover gives all heads, replay does not and says nothing", where)
	}
	return v
}

// TestWitness: what a head file or later frames promised shows above the heads that are left.
func TestWitness(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, 3)
	l, _ := w.start(1)
	w.append(l, 3, 200)
	if err := w.m.WriteHeads(ctx, w.top, l.Pos()); err != nil {
		t.Fatal(err)
	}
	name := "/mirror/" + segmentName(holdfast.Term{Number: 1, Random: 1001}, 1, false)
	f, err := w.disk.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 4096), 8192); err != nil { // the only batch of changes
		t.Fatal(err)
	}
	rec, err := w.m.Recover(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(rec.Heads) != 0 || !maps.Equal(rec.Witness, w.top) {
		t.Errorf("heads %v, witness %v; want none and %v", rec.Heads, rec.Witness, w.top)
	}
	if len(rec.Damage) != 1 || rec.Damage[0].Kind != Corrupt {
		t.Errorf("damage %v, want one that is corrupt: the head file knows the batch", rec.Damage)
	}
	if err := durable.Remove(w.disk, "/mirror/heads"); err != nil {
		t.Fatal(err)
	}
	rec, err = w.m.Recover(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(rec.Witness) != 0 || len(rec.Damage) != 0 {
		t.Errorf("without the head file: witness %v, damage %v; want none: nothing here can know", rec.Witness, rec.Damage)
	}
}

// TestEvidence: a damaged batch with an intact one behind it is corrupt, and the later heads are the witness.
func TestEvidence(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, 3)
	l, _ := w.start(1)
	w.append(l, 3, 200)
	before := maps.Clone(w.top)
	w.append(l, 3, 200)
	w.append(l, 3, 200)
	promised := maps.Clone(w.top)
	w.append(l, 3, 200)
	f, err := w.disk.OpenFile("/mirror/"+segmentName(holdfast.Term{Number: 1, Random: 1001}, 1, false), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0xff}, 12288+300); err != nil { // in the second batch of changes
		t.Fatal(err)
	}
	rec, err := w.m.Recover(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(rec.Heads, before) {
		t.Errorf("heads %v, want those before the damage %v", rec.Heads, before)
	}
	if len(rec.Damage) != 1 || rec.Damage[0].Kind != Corrupt || rec.Damage[0].Offset < 12288 {
		t.Errorf("damage %v, want one corrupt place at 12288 or later", rec.Damage)
	}
	for a, h := range promised {
		if rec.Witness[a].Head.Seq < h.Head.Seq {
			t.Errorf("account %s: witness %s, want at least %s", a, rec.Witness[a].Head, h.Head)
		}
	}
	if _, err := replayAll(w.m); !errors.Is(err, holdfast.ErrCorrupt) {
		t.Errorf("replay: got %v, want ErrCorrupt", err)
	}

	// The refill: a new term's log gets all that is missing, and everything is there again.
	l, _ = w.start(2)
	if err := l.Append(ctx, w.all[3:]); err != nil {
		t.Fatal(err)
	}
	w.same(w.m)
	if rec, err = w.m.Recover(ctx); err != nil || !maps.Equal(rec.Heads, w.top) {
		t.Errorf("after the refill: %v, %v; want %v", rec.Heads, err, w.top)
	}
}
