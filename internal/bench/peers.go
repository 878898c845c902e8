package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/durable"
)

// peersSize says how much is measured beside other servers.
type peersSize struct {
	name     string
	cards    []int         // size of the address book, a new set of servers each
	peersTo  int           // above this size only Holdfast is measured
	slice    time.Duration // of one row, one server and one round
	rounds   int
	clients  []int         // of rows whose answers are small
	readers  []int         // of rows whose answers are the whole collection
	patience time.Duration // how long the first answers of a row may take before a server is left out of it
	warm     time.Duration // how long a server may take to get ready (Radicale parses all, Xandikos makes an index)
	servers  string        // names of those to measure; empty: all
	only     string
	profile  string
	other    string // file of another build of this program
}

var (
	peersFull = peersSize{
		name: "full", cards: []int{1_000, 10_000, 50_000}, peersTo: 50_000, slice: 2 * time.Second, rounds: 2,
		clients: []int{1, 4, 64}, readers: []int{1, 4}, patience: 12 * time.Second, warm: 5 * time.Minute,
	}
	peersQuick = peersSize{
		name: "quick", cards: []int{1_000, 10_000, 50_000}, peersTo: 10_000, slice: time.Second, rounds: 1,
		clients: []int{1, 4, 64}, readers: []int{1}, patience: 3 * time.Second, warm: 45 * time.Second,
	}
)

const (
	holdfastName = "Holdfast"
	nullName     = "generator"
)

// peersRow is one thing that is measured.
type peersRow struct {
	name    string
	clients int
	do      op
	before  func(*worker) error // not timed
	writes  bool                // each answer needs two durable copies
}

func (s *peersSize) rows() []peersRow {
	var rows []peersRow
	add := func(name string, clients []int, r peersRow) {
		for _, n := range clients {
			r.name, r.clients = name+", "+count(n)+plural(n), n
			rows = append(rows, r)
		}
	}
	add("listing", s.readers, peersRow{do: listAll})
	add("sync from empty", s.readers, peersRow{do: syncAll})
	add("sync of a small change", s.clients, peersRow{do: syncSmall, before: smallChange})
	add("multiget of 100", s.clients, peersRow{do: multiget100})
	add(queryRow, s.readers, peersRow{do: weekOfEvents})
	add("GET", s.clients, peersRow{do: getCard})
	add("updating PUT", s.clients, peersRow{do: updateCard, writes: true})
	add("mixed", s.clients, peersRow{do: mixed})
	add("new PUT", s.clients, peersRow{do: newCardOp, writes: true}) // last: the collection grows
	return rows
}

const queryRow = "calendar-query over 10,000 events"

func plural(n int) string {
	if n == 1 {
		return " client"
	}
	return " clients"
}

// measurePeers measures Holdfast beside other servers, each answer checked, one table for each size.
func measurePeers(ctx context.Context, out io.Writer, dir string, s peersSize) error {
	began := time.Now()
	l, err := newLimit(dir)
	if err != nil {
		return fmt.Errorf("prepare files for the machine's limit: %w", err)
	}
	defer l.close()
	fmt.Fprintf(out, "%s, %s run: rows of %s, %d rounds, servers in turn\n", machine(), s.name, s.slice, s.rounds)
	for _, cards := range s.cards {
		if err := s.phase(ctx, out, filepath.Join(dir, fmt.Sprint("cards-", cards)), cards, l); err != nil {
			return fmt.Errorf("%s cards: %w", count(cards), err)
		}
	}
	fmt.Fprintf(out, "\n%s run of %.0f s\n", s.name, time.Since(began).Seconds())
	return nil
}

// phase starts all servers with one size of address book, measures every row and stops them.
func (s *peersSize) phase(ctx context.Context, out io.Writer, dir string, cards int, l *limit) error {
	peers, err := s.start(ctx, dir, cards)
	defer func() {
		for _, p := range peers {
			p.stop()
		}
	}()
	if err != nil {
		return err
	}
	if err := s.warmUp(ctx, out, peers); err != nil {
		return err
	}
	t := &peersTable{out: out, cards: cards, samples: map[string]map[string][]sample{}, limits: map[string]float64{}}
	for _, r := range s.rows() {
		if !strings.Contains(r.name, s.only) || strings.HasPrefix(r.name, queryRow) && cards != s.cards[min(1, len(s.cards)-1)] {
			continue // the events are the same with every address book: once is enough
		}
		if err := s.row(ctx, t, peers, r, l); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	t.print(peers)
	return nil
}

// start makes and starts the servers; those it returns have to be stopped, whatever the error.
func (s *peersSize) start(ctx context.Context, dir string, cards int) (peers []*peer, err error) {
	if err := durable.MkdirAll(durable.Disk, dir); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	begin := func(name string, start func(at string) (*peer, error)) {
		wanted := s.servers == "" || strings.Contains(s.servers, strings.ToLower(name))
		if isPeer := name == "Radicale" || name == "Xandikos"; err != nil || !wanted || isPeer && cards > s.peersTo {
			return
		}
		at := filepath.Join(dir, strings.ToLower(name))
		if err = durable.MkdirAll(durable.Disk, at); err != nil {
			return
		}
		var p *peer
		if p, err = start(at); err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
		if p != nil {
			peers = append(peers, p)
		}
	}
	begin(holdfastName, func(at string) (*peer, error) {
		return startHoldfast(ctx, at, build{holdfastName, self}, cards, s.profile)
	})
	if s.other != "" {
		begin("other", func(at string) (*peer, error) { return startHoldfast(ctx, at, build{"other", s.other}, cards, "") })
	}
	begin("Radicale", func(at string) (*peer, error) { return startRadicale(ctx, at, cards) })
	begin("Xandikos", func(at string) (*peer, error) { return startXandikos(ctx, at, cards) })
	begin(nullName, func(string) (*peer, error) { return startNull(ctx, cards) })
	return peers, err
}

// warmUp lets every server answer each kind of question before anything is measured.
func (s *peersSize) warmUp(ctx context.Context, out io.Writer, peers []*peer) error {
	var g sync.WaitGroup
	errs := make([]error, len(peers))
	for i, p := range peers {
		g.Go(func() {
			began := time.Now()
			errs[i] = s.warmOne(ctx, p)
			fmt.Fprintf(out, "%s: %s cards, ready after %.1f s\n", p.name, count(len(p.book.etags)), time.Since(began).Seconds())
		})
	}
	g.Wait()
	return errors.Join(errs...)
}

func (s *peersSize) warmOne(ctx context.Context, p *peer) error {
	end := time.Now().Add(s.warm)
	once := func(row string, times int, do op) error {
		if !strings.Contains(row, s.only) && row != "" {
			return nil
		}
		for range times {
			if p.leftOut(row) != "" {
				return nil
			}
			patience := time.Until(end)
			if patience <= 0 {
				p.left[row] = fmt.Sprintf("not ready within %s", s.warm)
				return nil
			}
			sm, err := p.drive(ctx, 1, 0, patience, do)
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded):
				p.left[row] = fmt.Sprintf("not ready within %s", s.warm)
			case err != nil:
				return fmt.Errorf("warm up %s: %w", p.name, err)
			case sm.wrong > 0 && row == "":
				return fmt.Errorf("%s does not list what it was loaded with", p.name)
			}
		}
		return nil
	}
	if err := once("", 1, learn); err != nil {
		return err
	}
	const forIndex = 7 // Xandikos makes an index after more than five questions
	for _, n := range s.readers {
		if err := once(fmt.Sprintf("%s, %d%s", queryRow, n, plural(n)), forIndex, weekOfEvents); err != nil {
			return err
		}
	}
	return nil
}

// row measures one row at every server in turn, and that in rounds.
func (s *peersSize) row(ctx context.Context, t *peersTable, peers []*peer, r peersRow, l *limit) error {
	t.begin(r.name)
	if r.writes {
		limit, err := l.run(r.clients, s.slice/2)
		if err != nil {
			return err
		}
		t.limits[r.name] = limit
	}
	for round := range s.rounds + 1 { // the first is a probe and a warm-up
		for i := range peers {
			p := peers[(i+round)%len(peers)]
			if p.leftOut(r.name) != "" {
				continue
			}
			sm, err := s.measure(ctx, p, r, round == 0)
			var timeout net.Error
			switch {
			case errors.Is(err, errSlow):
				p.left[r.name] = err.Error()
			case errors.As(err, &timeout) && timeout.Timeout():
				p.left[r.name] = fmt.Sprintf("no answer within %s", s.patience)
			case err != nil:
				return fmt.Errorf("%s: %w", p.name, err)
			case round > 0:
				t.add(r.name, p.name, sm)
			}
		}
	}
	return ctx.Err()
}

// measure is one round of one row at one server. A probe says whether all clients would be answered in time.
func (s *peersSize) measure(ctx context.Context, p *peer, r peersRow, probe bool) (sample, error) {
	if r.before != nil {
		w, err := p.workers(1, s.patience)
		if err != nil {
			return sample{}, err
		}
		err = r.before(w[0])
		w[0].close()
		if err != nil {
			return sample{}, err
		}
	}
	if !probe {
		return p.drive(ctx, r.clients, s.slice, s.patience, r.do)
	}
	sm, err := p.drive(ctx, 1, s.slice/10, s.patience, r.do)
	if err != nil {
		return sm, err
	}
	fastest := slices.Min(sm.each)
	if all := fastest * time.Duration(r.clients); all > s.patience {
		return sm, fmt.Errorf("%w: one answer takes %.1f s", errSlow, fastest.Seconds())
	}
	return sm, nil
}

// havePeers says which of the other servers' programs are missing.
func havePeers() error {
	for _, program := range []string{"radicale", "xandikos", "git"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is not installed (make deps-peers installs it): %w", program, err)
		}
	}
	return nil
}
