package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/ledger"
)

// scrubAccount owns what the scrub reads.
const scrubAccount = holdfast.AccountID(1)

// cpuTime is what all threads of this process have used: a core's speed, whatever else the machine does.
func cpuTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// perCore returns bytes a second of one core that do reads.
func perCore(do func() (bytes int64, err error)) (float64, error) {
	before, err := cpuTime()
	if err != nil {
		return 0, err
	}
	n, err := do()
	if err != nil {
		return 0, err
	}
	after, err := cpuTime()
	return float64(n) / (after - before).Seconds(), err
}

// measureScrub makes a server of its own, with mib MiB of changes and as many of large bodies, has a scrub read each part of it, and
// prints the bytes a second of one core beside those of SHA-256 in the same process: whatever verifies a body cannot be faster.
func measureScrub(ctx context.Context, out io.Writer, dir string, mib int) (err error) {
	cfg := ledger.Config{
		Dir: filepath.Join(dir, "scrub"), Server: holdfast.ServerID{1}, MinFree: 1,
		Mirrors: []ledger.MirrorConfig{{Name: "mirror", Path: filepath.Join(dir, "scrub-mirror")}},
	}
	if err := durable.MkdirAll(durable.Disk, cfg.Dir); err != nil {
		return err
	}
	if err := ledger.Create(ctx, cfg); err != nil {
		return err
	}
	l, err := ledger.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close(context.WithoutCancel(ctx))) }()
	if err := l.WaitOpen(ctx); err != nil {
		return err
	}
	if err := fillScrub(ctx, l, mib); err != nil {
		return err
	}
	buf := make([]byte, 64<<20)
	sha, err := perCore(func() (int64, error) {
		for range 8 {
			sha256.Sum256(buf)
		}
		return 8 * int64(len(buf)), nil
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nscrub of %s MiB of changes and as many of large bodies, bytes a second of one core (CPU time)\n\n  SHA-256  %5.0f MB/s\n", count(mib), sha/1e6)
	for _, part := range []struct{ only, part, name string }{{"mirrors", "log", "logs"}, {"blobs", "blobs", "blobs"}, {"store", "rows", "store"}} {
		rate, err := perCore(func() (int64, error) { return scrubPart(ctx, l, part.only, part.part) })
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "  %-7s  %5.0f MB/s  %.2f of SHA-256\n", part.name, rate/1e6, rate/sha)
	}
	return nil
}

// fillScrub writes changes of 16 small bodies, 1 MiB together, and one of 1 MiB.
func fillScrub(ctx context.Context, l *ledger.Ledger, mib int) error {
	var files holdfast.CollectionID
	_, err := l.Update(ctx, scrubAccount, 0, func(tx *ledger.Tx) error {
		tx.PutCollection(&ledger.Collection{ID: holdfast.Root, Kind: holdfast.KindFile})
		files = tx.NewCollection(holdfast.Root, "files", holdfast.KindFile, nil)
		return nil
	})
	noise := rand.NewChaCha8([32]byte{1})
	random := func(n int) []byte {
		b := make([]byte, n)
		_, _ = noise.Read(b) // it never returns an error
		return b
	}
	for i := 0; i < mib && err == nil; i++ {
		var bodies []ledger.Body
		for range 16 {
			bodies = append(bodies, ledger.InlineBody(random(holdfast.MaxInline)))
		}
		large, perr := l.PutBlob(ctx, scrubAccount, bytes.NewReader(random(1<<20)), 1<<20)
		if perr != nil {
			return perr
		}
		_, err = l.Update(ctx, scrubAccount, 0, func(tx *ledger.Tx) error {
			for k, body := range append(bodies, large) {
				tx.Put(files, strconv.Itoa(i)+"-"+strconv.Itoa(k), "", 0, body)
			}
			return nil
		})
	}
	return err
}

// scrubPart has one sort of part read from its beginning to its end, and returns how many bytes that was.
func scrubPart(ctx context.Context, l *ledger.Ledger, only, part string) (n int64, err error) {
	if err := l.Scrub(only, ledger.ScrubFull); err != nil {
		return 0, err
	}
	for l.Status().Scrub.Asked {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		time.Sleep(time.Millisecond)
	}
	s := l.Status().Scrub
	if s.Fault != "" || s.Found > 0 {
		return 0, fmt.Errorf("the scrub of %s found %d damages, or ended early (%s): %w", only, s.Found, s.Fault, holdfast.ErrCorrupt)
	}
	for _, p := range s.Laps {
		if p.Part == part {
			n += p.Bytes
		}
	}
	return n, nil
}
