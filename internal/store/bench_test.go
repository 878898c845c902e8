package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"holdfast"
	"holdfast/frame"
)

const card = "BEGIN:VCARD\r\nVERSION:3.0\r\nUID:%s\r\nFN:Person %[1]s\r\nN:%[1]s;Person;;;\r\nNOTE:%s\r\nEND:VCARD\r\n"

// cardBody returns a vCard of 700 bytes.
func cardBody(uid string) []byte {
	s := fmt.Sprintf(card, uid, "")
	return []byte(fmt.Sprintf(card, uid, strings.Repeat("x", 700-len(s))))
}

func cardName(i int) string { return fmt.Sprintf("5f0e8a44-93c6-4d0b-8b2f-%012x.vcf", i) }

func putCard(c holdfast.CollectionID, i int) frame.Op {
	return frame.Op{
		Type: frame.OpPut, Collection: c, Name: cardName(i), ContentType: "text/vcard; charset=utf-8", Modified: 1_790_000_000_000,
		Body: cardBody(strings.TrimSuffix(cardName(i), ".vcf")),
	}
}

func cards(id holdfast.CollectionID) frame.Op {
	return frame.Op{Type: frame.OpPutCollection, Collection: id, Parent: 1, Kind: holdfast.KindCard, Name: fmt.Sprint("contacts", id)}
}

// fill gives each of n accounts a collection 2 of size cards, in transactions of about 2,000 changes.
func fill(tb testing.TB, s *Store, accounts, size int) {
	tb.Helper()
	tx := begin(tb, s)
	n := 0
	for a := 1; a <= accounts; a++ {
		if _, err := change(tx, holdfast.AccountID(a), root(), cards(2)); err != nil {
			tb.Fatal(err)
		}
		order := rand.Perm(size)
		for _, i := range order {
			if _, err := change(tx, holdfast.AccountID(a), putCard(2, i)); err != nil {
				tb.Fatal(err)
			}
			if n++; n%2000 == 0 {
				if err := tx.Commit(); err != nil {
					tb.Fatal(err)
				}
				tx = begin(tb, s)
			}
		}
	}
	if err := tx.Commit(); err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkPut commits batches of 20 PUTs of 700 bytes; pages/op are WAL pages for one PUT.
func BenchmarkPut(b *testing.B) {
	for _, v := range []struct {
		name           string
		accounts, size int
		update         bool
	}{{"new/20accounts", 20, 1000, false}, {"update/20accounts", 20, 1000, true}, {"new/1account", 1, 10_000, false}, {"new/200accounts", 200, 250, false}} {
		b.Run(v.name, func(b *testing.B) {
			s, _ := newStore(b)
			fill(b, s, v.accounts, v.size)
			pages, n := 0, 0
			done := cpu(b)
			for b.Loop() {
				tx := begin(b, s)
				for range 20 {
					a := holdfast.AccountID(1 + rand.IntN(v.accounts))
					i := rand.IntN(v.size)
					if !v.update {
						i += v.size * (1 + rand.IntN(1<<30))
					}
					if _, err := change(tx, a, putCard(2, i)); err != nil {
						b.Fatal(err)
					}
					n++
				}
				before := s.check.written()
				if err := tx.Commit(); err != nil {
					b.Fatal(err)
				}
				pages += s.check.written() - before
			}
			done(n)
			b.ReportMetric(float64(pages)/float64(n), "pages/put")
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n), "us/put")
		})
	}
}

func (k *checkpointer) written() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.total
}

// cpu reports the processor time of one operation, which a busy machine does not distort as much.
func cpu(b *testing.B) func(ops int) {
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	from := used()
	return func(ops int) { b.ReportMetric(float64(used()-from)/1000/float64(ops), "cpu-us/op") }
}

func BenchmarkGet(b *testing.B) {
	s, _ := newStore(b)
	fill(b, s, 1, 10_000)
	defer func(done func(int)) { done(b.N) }(cpu(b))
	for b.Loop() {
		r, err := s.Read(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		res, err := r.Resource(1, 2, cardName(rand.IntN(10_000)), 10_001)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.Body(res); err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}

// BenchmarkDelta asks for the 10 newest changes of collections of different sizes.
func BenchmarkDelta(b *testing.B) {
	for _, size := range []int{1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s, _ := newStore(b)
			fill(b, s, 1, size)
			for i := range 10 {
				op := putCard(2, i*size/10)
				if i%3 == 0 {
					op = remove(2, op.Name)
				}
				write(b, s, 1, op)
			}
			head := holdfast.Seq(size + 11)
			defer func(done func(int)) { done(b.N) }(cpu(b))
			for b.Loop() {
				r, err := s.Read(context.Background())
				if err != nil {
					b.Fatal(err)
				}
				d, _, err := r.Changed(1, 2, head-10, head, 0)
				if err != nil || len(d) != 10 {
					b.Fatal(len(d), err)
				}
				r.Close()
			}
		})
	}
}

// BenchmarkList lists 10,000 members: at the head, 3 changes before it, and from an empty client.
func BenchmarkList(b *testing.B) {
	s, _ := newStore(b)
	fill(b, s, 1, 10_000)
	for i := range 3 {
		write(b, s, 1, putCard(2, i))
	}
	for name, at := range map[string]holdfast.Seq{"head": 10_004, "before": 10_001} {
		b.Run(name, func(b *testing.B) {
			defer func(done func(int)) { done(b.N) }(cpu(b))
			for b.Loop() {
				r, err := s.Read(context.Background())
				if err != nil {
					b.Fatal(err)
				}
				l, err := r.Resources(1, 2, "", 0, at)
				if err != nil || len(l) != 10_000 {
					b.Fatal(len(l), err)
				}
				r.Close()
			}
		})
	}
	b.Run("sync", func(b *testing.B) {
		defer func(done func(int)) { done(b.N) }(cpu(b))
		for b.Loop() {
			r, err := s.Read(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			l, _, err := r.Changed(1, 2, 0, 10_004, 0)
			if err != nil || len(l) != 10_000 {
				b.Fatal(len(l), err)
			}
			r.Close()
		}
	})
}
