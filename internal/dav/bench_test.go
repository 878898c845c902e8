package dav

import (
	"context"
	"fmt"
	"io"
	"testing"

	"holdfast"
	"holdfast/internal/ledger"
)

// filled serves a contacts collection of n small cards.
func filled(b *testing.B, n int) *server {
	b.Helper()
	s := newServer(b)
	for i := 0; i < n; {
		_, err := s.ledger.Update(context.Background(), anna, 1, func(tx *ledger.Tx) error {
			c, err := tx.Child(holdfast.Root, "contacts")
			if err != nil {
				return err
			}
			for end := min(i+2000, n); i < end; i++ {
				tx.Put(c.ID, fmt.Sprintf("%06d.vcf", i), "text/vcard", 0, ledger.InlineBody([]byte(card(fmt.Sprint(i), "Name", "NOTE:some words to fill a card of a common size\r\n"))))
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return s
}

func BenchmarkListing10k(b *testing.B) {
	s := filled(b, 10_000)
	b.ResetTimer()
	for b.Loop() {
		s.propfind("/dav/anna/contacts/", "1", "<D:getetag/>").want(207)
	}
}

func BenchmarkSyncEmpty10k(b *testing.B) {
	s := filled(b, 10_000)
	b.ResetTimer()
	for b.Loop() {
		s.sync("/dav/anna/contacts/", "", 0).want(207)
	}
}

func BenchmarkDeltaOfOne(b *testing.B) {
	s := filled(b, 10_000)
	token := s.sync("/dav/anna/contacts/", "", 0).multi().Token
	s.put("/dav/anna/contacts/new.vcf", card("new", "x"))
	b.ResetTimer()
	for b.Loop() {
		s.sync("/dav/anna/contacts/", token, 0).want(207)
	}
}

func BenchmarkMultiget100(b *testing.B) {
	s := filled(b, 10_000)
	var hrefs []string
	for i := range 100 {
		hrefs = append(hrefs, fmt.Sprintf("/dav/anna/contacts/%06d.vcf", i*97))
	}
	body := multigetBody("card", hrefs...)
	b.ResetTimer()
	for b.Loop() {
		s.do("REPORT", "/dav/anna/contacts/", body).want(207)
	}
}

func BenchmarkPut(b *testing.B) {
	s := newServer(b)
	i := 0
	for b.Loop() {
		i++
		s.put(fmt.Sprintf("/dav/anna/contacts/%d.vcf", i), card(fmt.Sprint(i), "Name"))
	}
}

func BenchmarkGet(b *testing.B) {
	s := newServer(b)
	s.put("/dav/anna/contacts/1.vcf", card("1", "Name"))
	b.ResetTimer()
	for b.Loop() {
		s.as("anna", "GET", "/dav/anna/contacts/1.vcf", io.Reader(nil)).want(200)
	}
}
