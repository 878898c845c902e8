package mirror

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/durable/simdisk"
)

var update = flag.Bool("update", false, "write golden files and examples")

// operation is one multi-step operation: prepare makes a world ready for it and returns it. What it
// appends is in w.all when it returns nil; before, w.all is what was acknowledged.
type operation struct {
	name    string
	prepare func(w *world) func() error
}

var operations = []operation{
	{"claim", func(w *world) func() error {
		return func() error { return w.m.Claim(context.Background(), holdfast.Term{Number: 2, Random: 7}, "") }
	}},
	{"claim over a gap", func(w *world) func() error {
		return func() error { return w.m.Claim(context.Background(), holdfast.Term{Number: 4, Random: 7}, "") }
	}},
	{"start log", func(w *world) func() error {
		ctx, term := context.Background(), holdfast.Term{Number: 2, Random: 7}
		if err := w.m.Claim(ctx, term, ""); err != nil {
			w.t.Fatal(err)
		}
		rec, err := w.m.Recover(ctx)
		if err != nil {
			w.t.Fatal(err)
		}
		return func() error {
			_, err := w.m.StartLog(ctx, term, rec.Heads)
			return err
		}
	}},
	{"append", func(w *world) func() error { return w.appending(2, 700) }},
	{"append with rotation", func(w *world) func() error { return w.appending(1, 22_000) }},
	{"seal", func(w *world) func() error { return func() error { return w.log.Seal(context.Background()) } }},
	{"head file", func(w *world) func() error {
		return func() error { return w.m.WriteHeads(context.Background(), w.top, w.log.Pos()) }
	}},
	{"blob", func(w *world) func() error {
		body := bytes.Repeat([]byte("b"), 100_000)
		b := frame.Blob{Hash: sha256.Sum256(body), Size: int64(len(body))}
		return func() error {
			if err := w.m.PutBlob(context.Background(), 1, b, bytes.NewReader(body)); err != nil {
				return err
			}
			w.blob = &b
			return nil
		}
	}},
}

// appending makes a batch that is acknowledged only when the operation returns nil.
func (w *world) appending(n, size int) func() error {
	acked := len(w.all)
	batch := w.batch(n, size)
	w.maybe = w.all
	w.all = w.all[:acked]
	return func() error {
		if err := w.log.Append(context.Background(), batch); err != nil {
			return err
		}
		w.all = w.maybe
		return nil
	}
}

// prepared returns a world with a log of a few batches, and the operation to do in it.
func prepared(t *testing.T, op operation) (*world, func() error) {
	t.Helper()
	w := newWorld(t, 5)
	w.log, _ = w.start(1)
	for range 3 {
		w.append(w.log, 2, 500)
	}
	return w, op.prepare(w)
}

// TestFaultTable: each step of each operation fails with nothing done, fails although it was done, or
// loses power before or after; then the process starts again, with and without a power cut between.
func TestFaultTable(t *testing.T) {
	faults := map[string]simdisk.Fault{"fails, nothing done": simdisk.FailBefore, "fails, but done": simdisk.FailAfter, "power cut at": simdisk.CrashAt, "power cut after": simdisk.CrashAfter}
	cells := 0
	for _, op := range operations {
		for fault, kind := range faults {
			for _, cut := range []bool{false, true} {
				for step := int64(1); ; step++ {
					w, do := prepared(t, op)
					at := w.disk.Steps()
					w.disk.Inject(at+step, kind, nil)
					err := do()
					if w.disk.Steps() < at+step {
						if step == 1 || err != nil {
							t.Fatalf("%s without a fault: %d steps, %v", op.name, w.disk.Steps()-at, err)
						}
						break
					}
					cells++
					w.afterFault(fmt.Sprintf("%s, step %d %s, restart after a power cut %v", op.name, step, fault, cut), cut)
				}
			}
		}
	}
	t.Logf("%d cells", cells)
}

// afterFault starts again and checks that everything acknowledged is there, and nothing but whole batches.
func (w *world) afterFault(where string, cut bool) {
	w.t.Helper()
	ctx := context.Background()
	if cut || w.disk.Dead() {
		w.disk = w.disk.Crash()
	}
	w.reopen()
	terms, err := w.m.Terms(ctx)
	if err != nil {
		w.t.Fatalf("%s: terms: %v", where, err)
	}
	l, rec := w.start(terms[len(terms)-1].Term.Number + 1)
	for _, d := range rec.Damage {
		if d.Kind != Torn {
			w.t.Errorf("%s: %s", where, d)
		}
	}
	got, err := replayAll(w.m)
	if err != nil {
		w.t.Fatalf("%s: replay: %v", where, err)
	}
	n := 0
	for _, fs := range got {
		n += len(fs)
	}
	if n != len(w.all) && n != len(w.maybe) {
		w.t.Errorf("%s: %d changes, want %d or %d", where, n, len(w.all), len(w.maybe))
	}
	for _, f := range w.all {
		if fs := got[f.Account]; len(fs) < int(f.Seq) || fs[f.Seq-1].Hash != f.Hash {
			w.t.Errorf("%s: account %s seq %s was acknowledged and is not there", where, f.Account, f.Seq)
		}
	}
	if w.blob != nil {
		if err := w.m.verifyBlob(ctx, 1, *w.blob); err != nil {
			w.t.Errorf("%s: blob: %v", where, err)
		}
	}
	w.top = l.Heads()
	if err := l.Append(ctx, w.batch(1, 10)); err != nil {
		w.t.Errorf("%s: append afterwards: %v", where, err)
	}
	rep, err := w.m.Check(ctx, nil)
	if err != nil {
		w.t.Fatalf("%s: check: %v", where, err)
	}
	for _, d := range rep.Damage {
		if d.Kind != Torn {
			w.t.Errorf("%s: check: %s", where, d)
		}
	}
}

// TestCreateFaults: a mirror that could not be created is absent, or whole; never something between.
func TestCreateFaults(t *testing.T) {
	ctx := context.Background()
	for _, kind := range []simdisk.Fault{simdisk.FailBefore, simdisk.FailAfter, simdisk.CrashAt, simdisk.CrashAfter} {
		for step := int64(1); ; step++ {
			d := simdisk.New(3)
			b, err := dir.Create(d, "/mirror", dir.WithSpare(dir.Off))
			if err != nil {
				t.Fatal(err)
			}
			cfg := Config{Server: testServer, Bucket: b, Name: "test"}
			at := d.Steps()
			d.Inject(at+step, kind, nil)
			if _, err = Create(ctx, cfg); err != nil && d.Steps() < at+step {
				t.Fatalf("without a fault: %v", err)
			}
			if d.Steps() < at+step {
				break
			}
			if d.Dead() {
				d = d.Crash()
			}
			if cfg.Bucket, err = dir.Open(d, "/mirror", dir.WithSpare(dir.Off)); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(ctx, cfg); err != nil && !errors.Is(err, holdfast.ErrAbsent) {
				t.Errorf("fault %d at step %d: open: %v, want a mirror or ErrAbsent", kind, step, err)
			}
		}
	}
}

// TestGoldenTrace pins the order of writes, syncs and renames of each operation.
func TestGoldenTrace(t *testing.T) {
	var out strings.Builder
	for _, op := range operations {
		w, do := prepared(t, op)
		fmt.Fprintf(&out, "%s\n", op.name)
		w.disk.Observe(func(s simdisk.Step) {
			fmt.Fprintf(&out, "  %s %s", s.Op, strings.TrimPrefix(s.Name, "/mirror"))
			if s.To != "" {
				fmt.Fprintf(&out, " -> %s", strings.TrimPrefix(s.To, "/mirror"))
			}
			if s.Op == "write" || s.Op == "truncate" || s.Op == "allocate" {
				fmt.Fprintf(&out, " at %d", s.Offset)
			}
			fmt.Fprintln(&out)
		})
		if err := do(); err != nil {
			t.Fatalf("%s: %v", op.name, err)
		}
	}
	file := filepath.Join("testdata", "trace.golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != out.String() {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
