package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// worker is one client of one row: a connection, what it may touch, and its part of the chances.
type worker struct {
	*client
	p       *peer
	b       *book
	index   int // it owns the cards with this number modulo of
	of      int
	chance  *rand.Rand
	created int    // new names in this round
	token   string // of its last sync (mixed)
	wrote   int    // the card it changed last since then (mixed); -1: none
}

// An op sends one request and tells whether the answer was right. An error is no answer.
type op func(w *worker) (right bool, err error)

// own draws one of the worker's cards.
func (w *worker) own() int {
	n := len(w.b.revisions)
	mine := (n - w.index + w.of - 1) / w.of
	return w.index + w.of*w.chance.IntN(mine)
}

func (w *worker) cardPath(n int) string { return w.p.contacts + loadedName(n) + ".vcf" }

func getCard(w *worker) (bool, error) {
	n := w.own()
	status, etag, got, err := w.do("GET", w.cardPath(n), "", nil)
	if err != nil {
		return false, err
	}
	return status == http.StatusOK && sameObject(got, card(loadedName(n), w.b.revisions[n])) && w.b.sameETag(n, etag), nil
}

// sameETag compares an ETag with the last one known of a card.
func (b *book) sameETag(n int, etag string) bool {
	if b.etags[n] == "" {
		b.etags[n] = etag
	}
	return etag != "" && b.etags[n] == etag
}

const cardHeader = "\r\nContent-Type: text/vcard; charset=utf-8"

func updateCard(w *worker) (bool, error) {
	n := w.own()
	status, etag, _, err := w.do("PUT", w.cardPath(n), cardHeader, card(loadedName(n), w.b.revisions[n]+1))
	if err != nil {
		return false, err
	}
	ok := status/100 == 2 && etag != w.b.etags[n]
	if status/100 == 2 {
		w.b.revisions[n]++
		w.b.etags[n] = etag
		w.wrote = n
	}
	return ok, nil
}

func newCardOp(w *worker) (bool, error) {
	name := fmt.Sprintf("n%d-%d-%d", w.b.fresh, w.index, w.created)
	w.created++
	status, etag, _, err := w.do("PUT", w.p.contacts+name+".vcf", newCard, card(name, 0))
	return status == http.StatusCreated && etag != "", err
}

// listAll asks for names and ETags of the whole collection and checks each.
func listAll(w *worker) (bool, error) {
	status, _, got, err := w.do("PROPFIND", w.p.contacts, listHeader, []byte(listBody))
	if err != nil {
		return false, err
	}
	return status == http.StatusMultiStatus && w.complete(parseAnswer(got)), nil
}

func syncAll(w *worker) (bool, error) {
	status, _, got, err := w.do("REPORT", w.p.contacts, syncHeader, syncBody(""))
	if err != nil {
		return false, err
	}
	l := parseAnswer(got)
	return status == http.StatusMultiStatus && l.token != "" && w.complete(l), nil
}

// complete reports whether every card is there and nothing else.
func (w *worker) complete(l listed) bool {
	delete(l.etags, w.p.contacts)
	if len(l.etags) != len(w.b.etags) {
		return false
	}
	for n, want := range w.b.etags {
		got, ok := l.etags[w.cardPath(n)]
		if !ok || got == "" || want != "" && want != got {
			return false
		}
	}
	return true
}

// learn takes the ETags of all cards from a listing, once, before anything is measured.
func learn(w *worker) (bool, error) {
	status, _, got, err := w.do("PROPFIND", w.p.contacts, listHeader, []byte(listBody))
	if err != nil {
		return false, err
	}
	l := parseAnswer(got)
	ok := status == http.StatusMultiStatus && w.complete(l)
	for n := range w.b.etags {
		w.b.etags[n] = l.etags[w.cardPath(n)]
	}
	return ok, nil
}

// smallChange changes one card, so that syncSmall has something to tell. It is not timed.
func smallChange(w *worker) error {
	if w.b.token != "" {
		return nil
	}
	_, _, got, err := w.do("PROPFIND", w.p.contacts, syncHeader, []byte(tokenBody))
	if err != nil {
		return err
	}
	if w.b.token = parseAnswer(got).token; w.b.token == "" {
		return fmt.Errorf("%s gives no sync token: %s", w.p.name, got)
	}
	w.wrote = -1
	if _, err := updateCard(w); err != nil {
		return err
	}
	w.b.changed = w.wrote
	return nil
}

// syncSmall asks again and again what one change was.
func syncSmall(w *worker) (bool, error) {
	status, _, got, err := w.do("REPORT", w.p.contacts, syncHeader, syncBody(w.b.token))
	if err != nil {
		return false, err
	}
	l := parseAnswer(got)
	n := w.b.changed
	return status == http.StatusMultiStatus && l.token != "" && l.token != w.b.token && len(l.etags) == 1 &&
		l.etags[w.cardPath(n)] == w.b.etags[n], nil
}

const (
	multigetHead = `<?xml version="1.0" encoding="utf-8"?><CR:addressbook-multiget xmlns="DAV:" xmlns:CR="urn:ietf:params:xml:ns:carddav"><prop><getetag/><CR:address-data/></prop>`
	multigetTail = `</CR:addressbook-multiget>`
	queryBody    = `<?xml version="1.0" encoding="utf-8"?><C:calendar-query xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><prop><getetag/><C:calendar-data/></prop>` +
		`<C:filter><C:comp-filter name="VCALENDAR"><C:comp-filter name="VEVENT"><C:time-range start="%s" end="%s"/></C:comp-filter></C:comp-filter></C:filter></C:calendar-query>`
)

// multiget100 reads 100 cards at once, as Thunderbird does, and compares every byte.
func multiget100(w *worker) (bool, error) {
	const many = 100
	want := make(map[string]int, many)
	body := []byte(multigetHead)
	for len(want) < min(many, len(w.b.revisions)) {
		n := w.chance.IntN(len(w.b.revisions)) // nobody writes meanwhile
		path := w.cardPath(n)
		if _, ok := want[path]; ok {
			continue
		}
		want[path] = n
		body = append(append(append(body, "<href>"...), path...), "</href>"...)
	}
	status, _, got, err := w.do("REPORT", w.p.contacts, listHeader, append(body, multigetTail...))
	if err != nil {
		return false, err
	}
	right := 0
	eachObject(got, func(href, etag string, data []byte) {
		if n, ok := want[href]; ok && w.b.etags[n] == etag && sameObject(data, card(loadedName(n), w.b.revisions[n])) {
			right++
		}
	})
	return status == http.StatusMultiStatus && right == len(want), nil
}

// weekOfEvents asks for what happens in a week and compares every event with what must be there.
func weekOfEvents(w *worker) (bool, error) {
	const step = 5 * time.Minute // so that some borders fall on an event's
	from := eventsFrom.Add(step * time.Duration(w.chance.IntN(int(eventsTo.Sub(eventsFrom)/step))))
	to := from.Add(7 * day)
	body := fmt.Appendf(nil, queryBody, from.Format(utcFormat), to.Format(utcFormat))
	status, _, got, err := w.do("REPORT", w.p.events, listHeader, body)
	if err != nil {
		return false, err
	}
	found, right := 0, 0
	eachObject(got, func(href, etag string, data []byte) {
		found++
		name := strings.TrimSuffix(strings.TrimPrefix(href, w.p.events+"e"), ".ics")
		n, err := strconv.Atoi(name)
		if err == nil && n < eventCount && etag != "" && happens(n, from, to) && sameObject(data, event(n)) {
			right++
		}
	})
	expected := 0
	for n := range eventCount {
		if happens(n, from, to) {
			expected++
		}
	}
	return status == http.StatusMultiStatus && found == expected && right == expected, nil
}

// mixed is what a device does: of twenty requests fourteen read, two change, one adds, two look whether
// anything changed and one asks what.
func mixed(w *worker) (bool, error) {
	switch k := w.chance.IntN(20); {
	case k < 14:
		return getCard(w)
	case k < 16:
		return updateCard(w)
	case k < 17:
		return newCardOp(w)
	case k < 19:
		status, _, got, err := w.do("PROPFIND", w.p.contacts, syncHeader, []byte(tokenBody))
		return status == http.StatusMultiStatus && parseAnswer(got).token != "", err
	}
	return w.follow()
}

// follow asks what changed since the worker's last question; its own last change must be in the answer.
func (w *worker) follow() (bool, error) {
	if w.token == "" {
		_, _, got, err := w.do("PROPFIND", w.p.contacts, syncHeader, []byte(tokenBody))
		w.token, w.wrote = parseAnswer(got).token, -1
		return w.token != "", err
	}
	status, _, got, err := w.do("REPORT", w.p.contacts, syncHeader, syncBody(w.token))
	if err != nil {
		return false, err
	}
	l := parseAnswer(got)
	ok := status == http.StatusMultiStatus && l.token != ""
	if w.wrote >= 0 {
		ok = ok && l.etags[w.cardPath(w.wrote)] == w.b.etags[w.wrote]
	}
	w.token, w.wrote = l.token, -1
	return ok, nil
}

// errSlow says that a server was too slow to be measured in a row.
var errSlow = errors.New("too slow")

// drive lets clients send requests for a while, each after the answer to the one before.
func (p *peer) drive(ctx context.Context, clients int, d, patience time.Duration, do op) (sample, error) {
	workers, err := p.workers(clients, patience)
	if err != nil {
		return sample{}, err
	}
	samples, errs := make([]sample, clients), make([]error, clients)
	before := readUsage(p.pid)
	end := before.at.Add(d)
	var g sync.WaitGroup
	for i, w := range workers {
		g.Go(func() {
			s := &samples[i]
			for len(s.each) == 0 || time.Now().Before(end) {
				right, err := do(w)
				if err == nil {
					err = ctx.Err()
				}
				if err != nil {
					errs[i] = err
					return
				}
				s.each = append(s.each, w.took)
				if !right {
					s.wrong++
				}
			}
		})
	}
	g.Wait()
	after := readUsage(p.pid)
	for _, w := range workers {
		w.close()
	}
	p.book.fresh++
	all := sample{took: after.at.Sub(before.at), cpu: after.server - before.server, foreign: before.foreign(after)}
	for _, s := range samples {
		all.each = append(all.each, s.each...)
		all.wrong += s.wrong
	}
	if clients == 1 { // the server waits while the generator checks; with more clients it does not
		all.took = 0
		for _, d := range all.each {
			all.took += d
		}
	}
	return all, errors.Join(errs...)
}

func (p *peer) workers(clients int, patience time.Duration) ([]*worker, error) {
	workers := make([]*worker, clients)
	for i := range workers {
		c, err := dialServer(p.addr, p.user, p.password)
		if err != nil {
			return nil, err
		}
		c.patience = patience
		workers[i] = &worker{client: c, p: p, b: p.book, index: i, of: clients, chance: rand.New(rand.NewPCG(uint64(p.book.fresh), uint64(i))), wrote: -1}
	}
	return workers, nil
}
