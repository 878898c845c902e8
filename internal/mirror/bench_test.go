package mirror

import (
	"context"
	"slices"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/durable"
)

// BenchmarkAppend is one batch of 16 changes of 700 bytes on the real disk, look at the claim included.
func BenchmarkAppend(b *testing.B) {
	ctx := context.Background()
	bk, err := dir.Create(durable.Disk, b.TempDir()+"/mirror")
	if err != nil {
		b.Fatal(err)
	}
	w := &world{t: b, b: bk, top: heads{}}
	cfg := w.config()
	cfg.SegmentSize = 0
	if w.m, err = Create(ctx, cfg); err != nil {
		b.Fatal(err)
	}
	l, _ := w.start(1)
	term := holdfast.Term{Number: 1, Random: 1001}
	batches := make([][]Frame, b.N)
	for i := range batches {
		batches[i] = w.batch(16, 700)
	}
	took := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for _, batch := range batches {
		begun := time.Now()
		if err := l.Append(ctx, batch); err != nil {
			b.Fatal(err)
		}
		if err := w.m.CheckTerm(ctx, term); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begun))
	}
	b.StopTimer()
	slices.Sort(took)
	for name, at := range map[string]int{"p50-ms": len(took) / 2, "p99-ms": len(took) * 99 / 100, "max-ms": len(took) - 1} {
		b.ReportMetric(float64(took[at].Microseconds())/1000, name)
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkReplay gives the rate at which a mirror is read and verified.
func BenchmarkReplay(b *testing.B) {
	ctx := context.Background()
	bk, err := dir.Create(durable.Disk, b.TempDir()+"/mirror")
	if err != nil {
		b.Fatal(err)
	}
	w := &world{t: b, b: bk, top: heads{}}
	cfg := w.config()
	cfg.SegmentSize = 0
	if w.m, err = Create(ctx, cfg); err != nil {
		b.Fatal(err)
	}
	l, _ := w.start(1)
	size := int64(0)
	for range 1000 {
		batch := w.batch(16, 700)
		for i := range batch {
			size += int64(len(batch[i].Payload))
		}
		if err := l.Append(ctx, batch); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(size)
	b.ResetTimer()
	for range b.N {
		n := 0
		err := w.m.Replay(ctx, func(holdfast.AccountID) holdfast.AccountHead { return holdfast.AccountHead{} }, func(*Record) error {
			n++
			return nil
		})
		if err != nil || n != 16_000 {
			b.Fatalf("%d changes, %v", n, err)
		}
	}
}
