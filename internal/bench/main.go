// Command bench measures what Holdfast promises about speed, in one run, as one table, beside the
// limit of the machine it runs on. `make bench` runs it; docs name its rows.
//
// Invariant: every answer is verified and wrong ones are counted; a row with wrong answers is worth
// nothing and says so. It reports and asserts nothing.
//
// The server is a process of its own (this program, started again), complete: HTTP, authentication,
// DAV, ledger, SQLite and one directory mirror, over loopback. The generator shares its cores with
// it. Rounds of all variants are interleaved after a warm-up round that does not count; a row shows
// the median of its rounds and the CPU that other processes took meanwhile, in percent of one core.
//
// Its files are temporary. It needs Linux (/proc).
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/durable"
)

// size says how much is measured.
type size struct {
	name      string
	resources int           // loaded before the start
	colls     []int         // sizes of the collections that deltas are taken of
	listing   int           // size of the collection that is listed
	puts      []int         // clients that write; the last is the most
	gets      []int         // clients that read
	round     time.Duration // of one variant
	rounds    int           // that count
	deltas    int           // per collection and round
	listings  int           // per round
	scrub     int           // MiB of changes, and as many of large bodies, that a scrub reads
	only      string        // run only the rows whose name contains it
	profile   string        // file for a CPU profile of the server; empty: none
}

var (
	full = size{
		name: "full", resources: 1_000_000, colls: []int{1_000, 10_000, 100_000}, listing: 10_000,
		puts: []int{1, 4, 64}, gets: []int{4, 64}, round: 4 * time.Second, rounds: 5, deltas: 100, listings: 10, scrub: 1024,
	}
	quick = size{
		name: "quick", resources: 130_000, colls: []int{1_000, 10_000, 100_000}, listing: 10_000,
		puts: []int{1, 4, 64}, gets: []int{4, 64}, round: time.Second, rounds: 3, deltas: 20, listings: 5, scrub: 256,
	}
)

// scrubRow is the name of the row that needs no server; -only scrub runs nothing else.
const scrubRow = "scrub"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	isQuick := flag.Bool("quick", false, "under a minute: fewer resources, shorter rounds")
	dir := flag.String("dir", "", "directory on the disk to measure (default: the system's temporary directory)")
	serveDir := flag.String("serve", "", "be the server over this directory (bench starts itself so)")
	only := flag.String("only", "", "run only the rows whose name contains this")
	profile := flag.String("profile", "", "write a CPU profile of the server process to this file, and what it allocated to FILE.allocs")
	beside := flag.Bool("peers", false, "measure Holdfast beside Radicale and Xandikos")
	servers := flag.String("servers", "", "with -peers: only these, for example holdfast,generator")
	other := flag.String("other", "", "with -peers: another build of this program, measured beside it")
	cards := flag.Int("null", -1, "be the least server there can be, with so many cards (bench starts itself so)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *serveDir != "" {
		return profiled(*profile, func() error { return serve(ctx, *serveDir) })
	}
	if *cards >= 0 {
		return serveNull(os.Stdout, *cards)
	}
	s, ps := full, peersFull
	if *isQuick {
		s, ps = quick, peersQuick
	}
	if *dir == "" {
		*dir = os.TempDir()
	}
	tmp := filepath.Join(*dir, "holdfast-bench-"+rand.Text())
	if err := durable.MkdirAll(durable.Disk, tmp); err != nil {
		return fmt.Errorf("make temporary directory: %w", err)
	}
	defer removeAll(tmp)
	s.only, s.profile = *only, *profile
	if *beside {
		ps.only, ps.profile, ps.servers, ps.other = *only, *profile, *servers, *other
		if err := havePeers(); err != nil && ps.servers == "" {
			return err
		}
		return measurePeers(ctx, os.Stdout, tmp, ps)
	}
	if s.only == scrubRow {
		return profiled(*profile, func() error { return measureScrub(ctx, os.Stdout, tmp, s.scrub) })
	}
	return measure(ctx, os.Stdout, tmp, s)
}

// profiled runs do under the CPU profiler if a file is given.
func profiled(file string, do func() error) (err error) {
	if file == "" {
		return do()
	}
	var buf bytes.Buffer
	if err := pprof.StartCPUProfile(&buf); err != nil {
		return fmt.Errorf("start profile: %w", err)
	}
	err = do()
	pprof.StopCPUProfile()
	var allocs bytes.Buffer
	err = errors.Join(err, pprof.Lookup("allocs").WriteTo(&allocs, 0))
	err = errors.Join(err, durable.Replace(durable.Disk, file, buf.Bytes(), durable.FilePerm))
	return errors.Join(err, durable.Replace(durable.Disk, file+".allocs", allocs.Bytes(), durable.FilePerm))
}

// removeAll removes a temporary tree, as far as it can: what is left behind harms nobody.
func removeAll(dir string) {
	var names []string
	_ = filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		names = append(names, name)
		return err
	})
	for _, name := range slices.Backward(names) {
		_ = durable.Remove(durable.Disk, name)
	}
}

// measure loads the data, starts the server, runs all rounds and prints the table.
func measure(ctx context.Context, out io.Writer, dir string, s size) error {
	began := time.Now()
	w, err := load(ctx, out, dir, s)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	t := newTable(out, s)
	srv, err := startServer(ctx, dir, s.profile, w.listed)
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	defer srv.stop()
	t.started(srv, w)
	l, err := newLimit(dir)
	if err != nil {
		return fmt.Errorf("prepare files for the machine's limit: %w", err)
	}
	defer l.close()
	b := &bench{size: s, world: w, server: srv, limit: l, table: t}
	for round := range s.rounds + 1 {
		b.size = s
		if round == 0 { // warm-up
			b.size.round, b.size.deltas, b.size.listings = s.round/4, s.deltas/4, 1
		}
		if err := b.round(ctx, round > 0); err != nil {
			return err
		}
		if round > 0 {
			fmt.Fprintf(out, "round %d of %d\n", round, s.rounds)
		}
	}
	t.memory(srv.rss())
	t.print()
	if strings.Contains(scrubRow, s.only) {
		srv.stop()
		if err := measureScrub(ctx, out, dir, s.scrub); err != nil {
			return fmt.Errorf("scrub: %w", err)
		}
	}
	fmt.Fprintf(out, "\n%s run of %.0f s\n", s.name, time.Since(began).Seconds())
	return nil
}
