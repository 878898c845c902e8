package main

import (
	"bytes"
	"slices"
	"strconv"
	"time"
)

// book is what the generator knows of one server's data: it says what every answer must be.
//
// Clients of one row write and read parts of it that do not overlap (names whose number is theirs modulo
// the clients), so it needs no lock; rows follow each other.
type book struct {
	revisions []int    // of card n
	etags     []string // of card n, as the server gave it last; empty: not known yet
	fresh     int      // new names used up by rows that are over
	token     string   // sync token before the one change that "sync of a small change" asks for
	changed   int      // the card of that change
}

func newBook(cards int) *book {
	return &book{revisions: make([]int, cards), etags: make([]string, cards)}
}

// Events: one every 105 minutes, an hour long, from the start of 2025. Every tenth recurs, in turn each
// week 20 times and each day 30 times without the second time.
const (
	eventCount = 10_000
	eventEvery = 105 * time.Minute
	eventLong  = time.Hour
	day        = 24 * time.Hour
)

var (
	eventsFrom = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	eventsTo   = eventsFrom.Add(eventCount * eventEvery)
)

const utcFormat = "20060102T150405Z"

func eventName(n int) string { return "e" + strconv.Itoa(n) }

func eventStart(n int) time.Time { return eventsFrom.Add(time.Duration(n) * eventEvery) }

// event is a calendar object of about 400 bytes; its number says all of it.
func event(n int) []byte {
	name, at := eventName(n), eventStart(n)
	b := make([]byte, 0, 600)
	b = append(b, "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//Holdfast//bench//EN\r\nBEGIN:VEVENT\r\nUID:"...)
	b = append(b, name...)
	b = append(b, "\r\nDTSTAMP:20250101T000000Z\r\nDTSTART:"...)
	b = at.AppendFormat(b, utcFormat)
	b = append(b, "\r\nDTEND:"...)
	b = at.Add(eventLong).AppendFormat(b, utcFormat)
	switch {
	case n%20 == 0:
		b = append(b, "\r\nRRULE:FREQ=WEEKLY;COUNT=20"...)
	case n%10 == 0:
		b = append(b, "\r\nRRULE:FREQ=DAILY;COUNT=30\r\nEXDATE:"...)
		b = at.Add(day).AppendFormat(b, utcFormat)
	}
	b = append(b, "\r\nSUMMARY:Appointment "...)
	b = append(b, name...)
	return append(b, "\r\nLOCATION:Example Street 1\r\nDESCRIPTION:What people write into an event is a line or two.\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"...)
}

// happens reports whether event n has a part in the time from (inclusive) to (exclusive): RFC 4791, 9.9.
func happens(n int, from, to time.Time) bool {
	every, times := time.Duration(0), 1
	switch {
	case n%20 == 0:
		every, times = 7*day, 20
	case n%10 == 0:
		every, times = day, 30
	}
	for i := range times {
		at := eventStart(n).Add(time.Duration(i) * every)
		if every == day && i == 1 {
			continue
		}
		if at.Before(to) && at.Add(eventLong).After(from) {
			return true
		}
	}
	return false
}

// sameObject reports whether a server gave back what it was sent: the same bytes, or at least the same
// content lines in any order, folded anyhow. A PRODID that the server added is no fault.
func sameObject(got, want []byte) bool {
	if bytes.Equal(got, want) {
		return true
	}
	g, w := contentLines(got), contentLines(want)
	if len(g) == len(w)+1 {
		g = slices.DeleteFunc(g, func(s string) bool { return len(s) > 7 && s[:7] == "PRODID:" })
	}
	return slices.Equal(g, w)
}

// contentLines unfolds and sorts.
func contentLines(b []byte) []string {
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	b = bytes.ReplaceAll(b, []byte("\n "), nil)
	var lines []string
	for l := range bytes.Lines(b) {
		if l = bytes.TrimRight(l, "\n"); len(l) > 0 {
			lines = append(lines, string(l))
		}
	}
	slices.Sort(lines)
	return lines
}
