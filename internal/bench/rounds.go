package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"holdfast"
)

// bench is one run over one server.
type bench struct {
	size   size
	world  *world
	server *process
	limit  *limit
	table  *table
	number int // of the round's next new names; names are never used twice
}

// sample is one or more rounds of one variant.
type sample struct {
	wrong   int             // answers that were not right
	each    []time.Duration // from request to whole answer
	took    time.Duration   // of all of it
	cpu     time.Duration   // of the server; 0: not measured
	foreign float64         // percent of one core
	limit   float64         // answers a second that the machine allows; 0: not measured
}

// round runs every variant once.
func (b *bench) round(ctx context.Context, counts bool) error {
	type variant struct {
		row string
		run func() (sample, error)
	}
	var variants []variant
	for _, n := range b.size.puts {
		variants = append(variants, variant{fmt.Sprintf("new PUT, %s", clients(n)), func() (sample, error) { return b.puts(n) }})
	}
	for _, n := range b.size.gets {
		variants = append(variants, variant{fmt.Sprintf("GET, %s", clients(n)), func() (sample, error) { return b.gets(n) }})
	}
	for i, n := range b.size.colls {
		variants = append(variants, variant{fmt.Sprintf("delta of 10 in %s", count(n)), func() (sample, error) { return b.delta(b.world.deltas[i]) }})
	}
	variants = append(variants, variant{fmt.Sprintf("listing of %s", count(b.size.listing)), b.listing})
	for _, v := range variants {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !strings.Contains(v.row, b.size.only) {
			continue
		}
		s, err := v.run()
		if err != nil {
			return fmt.Errorf("%s: %w", v.row, err)
		}
		if counts {
			b.table.add(v.row, s)
		}
	}
	return nil
}

func clients(n int) string {
	if n == 1 {
		return "1 client"
	}
	return fmt.Sprintf("%d clients", n)
}

// job sends one request and tells whether the answer was right; an error ends the run.
type job func(c *client, i int) (right bool, err error)

// run does one job on n connections, client i as user i, until more(how many one client did) is false.
func (b *bench) run(users []*user, more func(done int) bool, do job) (sample, error) {
	conns := make([]*client, len(users))
	for i, u := range users {
		c, err := dialServer(b.server.addr, u.name, u.password)
		if err != nil {
			return sample{}, err
		}
		defer c.close()
		conns[i] = c
	}
	samples, errs := make([]sample, len(users)), make([]error, len(users))
	before := readUsage(b.server.pid)
	var g sync.WaitGroup
	for i, c := range conns {
		g.Go(func() {
			s := &samples[i]
			for more(len(s.each)) {
				right, err := do(c, i)
				if err != nil {
					errs[i] = err
					return
				}
				s.each = append(s.each, c.took)
				if !right {
					s.wrong++
				}
			}
		})
	}
	g.Wait()
	after := readUsage(b.server.pid)
	all := sample{took: after.at.Sub(before.at), cpu: after.server - before.server, foreign: before.foreign(after)}
	for _, s := range samples {
		all.each = append(all.each, s.each...)
		all.wrong += s.wrong
	}
	return all, errors.Join(errs...)
}

// forRound is true until a round is over.
func (b *bench) forRound() func(int) bool {
	end := time.Now().Add(b.size.round)
	return func(int) bool { return time.Now().Before(end) }
}

const newCard = "\r\nContent-Type: text/vcard; charset=utf-8\r\nIf-None-Match: *"

// puts creates cards, each of its own name, and checks status and ETag.
func (b *bench) puts(n int) (sample, error) {
	l, err := b.limit.run(n, b.size.round/2)
	if err != nil {
		return sample{}, err
	}
	b.number++
	next := make([]int, n)
	s, err := b.run(b.world.clients[:n], b.forRound(), func(c *client, i int) (bool, error) {
		name := fmt.Sprintf("n%d-%d-%d", b.number, i, next[i])
		next[i]++
		body := card(name, 0)
		status, etag, _, err := c.do("PUT", c.home+name+".vcf", newCard, body)
		return status == http.StatusCreated && etag == holdfast.ETag(sha256.Sum256(body)), err
	})
	s.limit = l
	return s, err
}

// gets reads loaded cards in random order and compares every byte.
func (b *bench) gets(n int) (sample, error) {
	b.number++
	choose := make([]*rand.Rand, n)
	for i := range choose {
		choose[i] = rand.New(rand.NewPCG(uint64(b.number), uint64(i)))
	}
	return b.run(b.world.clients[:n], b.forRound(), func(c *client, i int) (bool, error) {
		name := loadedName(choose[i].IntN(b.world.clients[i].loaded))
		status, etag, got, err := c.do("GET", c.home+name+".vcf", "", nil)
		want := card(name, 0)
		return status == http.StatusOK && bytes.Equal(got, want) && etag == holdfast.ETag(sha256.Sum256(want)), err
	})
}

// delta makes ten changes, which are not timed, and times the sync that tells of them.
func (b *bench) delta(u *user) (sample, error) {
	c, err := dialServer(b.server.addr, u.name, u.password)
	if err != nil {
		return sample{}, err
	}
	defer c.close()
	token, err := syncToken(c)
	if err != nil {
		return sample{}, err
	}
	var s sample
	before := readUsage(b.server.pid)
	for range b.size.deltas {
		b.number++
		want, err := b.change(c, u)
		if err != nil {
			return s, err
		}
		status, _, got, err := c.do("REPORT", c.home, syncHeader, syncBody(token))
		if err != nil {
			return s, err
		}
		s.each, s.took = append(s.each, c.took), s.took+c.took
		a := parseAnswer(got)
		if status != http.StatusMultiStatus || !a.equal(c.home, want) || a.token == "" || a.token == token {
			s.wrong++
		}
		token = a.token
	}
	s.foreign = before.foreign(readUsage(b.server.pid))
	return s, nil
}

// change puts new versions of ten resources, spread over the collection, and returns their ETags.
func (b *bench) change(c *client, u *user) (map[string]string, error) {
	const changes = 10
	want := make(map[string]string, changes)
	for i := range changes {
		name := loadedName((b.number*7919 + i*(u.loaded/changes)) % u.loaded)
		body := card(name, b.number)
		status, _, got, err := c.do("PUT", c.home+name+".vcf", "\r\nContent-Type: text/vcard; charset=utf-8", body)
		if err != nil {
			return nil, err
		}
		if status != http.StatusNoContent {
			return nil, fmt.Errorf("change %s: status %d: %s", name, status, got)
		}
		want[name] = holdfast.ETag(sha256.Sum256(body))
	}
	return want, nil
}

// listing reads all names and ETags of a collection that nobody changes.
func (b *bench) listing() (sample, error) {
	u := b.world.listed
	s, err := b.run([]*user{u}, func(done int) bool { return done < b.size.listings }, func(c *client, _ int) (bool, error) {
		status, _, got, err := c.do("PROPFIND", c.home, listHeader, []byte(listBody))
		if err != nil {
			return false, err
		}
		return status == http.StatusMultiStatus && parseAnswer(got).equal(c.home, u.etags), nil
	})
	s.took = 0 // checking an answer takes longer than giving it
	for _, d := range s.each {
		s.took += d
	}
	return s, err
}
