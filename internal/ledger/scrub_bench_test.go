package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"holdfast"
)

// cpuTime is what all threads of this process have used: a core's speed, whatever else the machine does.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkScrub reads a server whose mirror holds SCRUB_MIB of changes and as much of bodies (64 each by default), and prints
// bytes a second of one core (CPU time) beside those of SHA-256 in the same run. The bodies are hashed, and so is all of a change: half
// for the commitment, which is a hash of the body, and a little for the chains.
func BenchmarkScrub(b *testing.B) {
	mib := 64
	if v := os.Getenv("SCRUB_MIB"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			b.Fatal(err)
		}
		mib = n
	}
	root := b.TempDir()
	cfg := Config{Dir: filepath.Join(root, "data"), Server: holdfast.ServerID{1}, MinFree: 1, Mirrors: []MirrorConfig{{Name: "disk2", Path: filepath.Join(root, "mirror")}}}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	check := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	check(Create(ctx, cfg))
	l, err := Open(ctx, cfg)
	check(err)
	defer func() { check(l.Close(ctx)) }()
	check(l.WaitOpen(ctx))
	noise := rand.NewChaCha8([32]byte{1})
	var files holdfast.CollectionID
	_, err = l.Update(ctx, person, 0, func(tx *Tx) error {
		tx.PutCollection(&Collection{ID: holdfast.Root, Kind: holdfast.KindFile})
		files = tx.NewCollection(holdfast.Root, "files", holdfast.KindFile, nil)
		return nil
	})
	check(err)
	for i := range mib {
		bodies := make([]Body, 0, 17)
		for range 16 { // 1 MiB of bodies that travel in changes
			p := make([]byte, holdfast.MaxInline)
			_, _ = noise.Read(p)
			bodies = append(bodies, InlineBody(p))
		}
		p := make([]byte, 1<<20)
		_, _ = noise.Read(p)
		large, err := l.PutBlob(ctx, person, bytes.NewReader(p), 1<<20)
		check(err)
		_, err = l.Update(ctx, person, 0, func(tx *Tx) error {
			for k, body := range append(bodies, large) {
				tx.Put(files, strconv.Itoa(i)+"-"+strconv.Itoa(k), "", 0, body)
			}
			return nil
		})
		check(err)
	}
	p := make([]byte, 64<<20)
	_, _ = noise.Read(p)
	began := cpuTime(b)
	for range 4 {
		sha256.Sum256(p)
	}
	sha := 4 * float64(len(p)) / (cpuTime(b) - began).Seconds() / 1e6
	b.ReportMetric(sha, "SHA256-MB/s")
	for _, only := range []string{"mirrors", "blobs", "store"} {
		began, n := cpuTime(b), int64(0)
		check(l.Scrub(only, ScrubFull))
		for l.Status().Scrub.Asked {
			time.Sleep(time.Millisecond)
		}
		s := l.Status().Scrub
		if s.Fault != "" || s.Found > 0 {
			b.Fatalf("%+v", s)
		}
		for _, p := range s.Laps {
			if only == "mirrors" && p.Part == partLog || only == "blobs" && p.Part == partBlobs || only == "store" && p.Part == partRows {
				n += p.Bytes
			}
		}
		rate := float64(n) / (cpuTime(b) - began).Seconds() / 1e6
		b.ReportMetric(rate, only+"-MB/s")
		b.ReportMetric(rate/sha, only+"/SHA256")
	}
}
