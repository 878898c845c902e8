package demo

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// kind is one of the four things a demo device keeps.
type kind int

const (
	contacts kind = iota
	events
	todos
	photos
	kinds // their number
)

// String returns the word people use.
func (k kind) String() string { return [...]string{"contacts", "events", "to-dos", "photos"}[k] }

// contentType is sent with PUT (ContactsSyncManager.kt, CalendarSyncManager.kt; photos as a camera writes them).
func (k kind) contentType() string {
	return [...]string{"text/vcard; charset=utf-8", "text/calendar; charset=utf-8", "text/calendar; charset=utf-8", "image/jpeg"}[k]
}

// maker writes the things that people put on their devices. Same seed, same things.
type maker struct{ seed uint64 }

// name returns the file name of thing n as a device would choose it: from the UID, or the photo's own.
func (m maker) name(k kind, n int) string {
	if k == photos {
		return fmt.Sprintf("IMG_%04d.jpg", n+1)
	}
	return m.uid(k, n) + [...]string{".vcf", ".ics", ".ics"}[k]
}

func (m maker) uid(k kind, n int) string {
	r := m.rand(k, n, 0)
	return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", r.Uint32(), r.Uint32()&0xffff, r.Uint32()&0xfff, r.Uint32()&0xfff, r.Uint64()&0xffffffffffff)
}

func (m maker) rand(k kind, n, revision int) *rand.Rand {
	return rand.New(rand.NewPCG(m.seed, uint64(k)<<48|uint64(revision)<<32|uint64(n)))
}

// body returns thing n in its given revision; every revision differs.
func (m maker) body(k kind, n, revision int) []byte {
	r := m.rand(k, n, revision+1)
	switch k {
	case contacts:
		return m.card(r, n, revision)
	case photos:
		return photo(r)
	}
	return m.calendarObject(r, k, n, revision)
}

func (m maker) card(r *rand.Rand, n, revision int) []byte {
	return lines(
		"BEGIN:VCARD", "VERSION:3.0", "UID:"+m.uid(contacts, n),
		fmt.Sprintf("FN:Contact %03d", n+1), fmt.Sprintf("N:%03d;Contact;;;", n+1),
		fmt.Sprintf("TEL;TYPE=CELL:+1 555 01%02d", r.IntN(100)),
		fmt.Sprintf("EMAIL:contact%03d@example.org", n+1),
		fmt.Sprintf("NOTE:Version %d. %s", revision, words(r, 5+r.IntN(20))),
		"END:VCARD")
}

func (m maker) calendarObject(r *rand.Rand, k kind, n, revision int) []byte {
	day := fmt.Sprintf("2026%02d%02d", 1+r.IntN(12), 1+r.IntN(28))
	hour := 7 + r.IntN(12)
	body := []string{
		"BEGIN:VEVENT", "UID:" + m.uid(k, n), "DTSTAMP:20260101T000000Z", fmt.Sprintf("SEQUENCE:%d", revision),
		fmt.Sprintf("DTSTART:%sT%02d0000Z", day, hour), fmt.Sprintf("DTEND:%sT%02d3000Z", day, hour),
		fmt.Sprintf("SUMMARY:Event %03d", n+1), "DESCRIPTION:" + words(r, 5+r.IntN(20)), "END:VEVENT",
	}
	if k == todos {
		body = []string{
			"BEGIN:VTODO", "UID:" + m.uid(k, n), "DTSTAMP:20260101T000000Z", fmt.Sprintf("SEQUENCE:%d", revision),
			"DUE;VALUE=DATE:" + day, fmt.Sprintf("SUMMARY:To-do %02d", n+1), "DESCRIPTION:" + words(r, 5+r.IntN(10)), "END:VTODO",
		}
	}
	all := append([]string{"BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Holdfast//demo//EN"}, body...)
	return lines(append(all, "END:VCALENDAR")...)
}

// photo returns 8 to 200 KiB that begin and end as a JPEG file does, about two thirds of them too
// large to travel inside a change.
func photo(r *rand.Rand) []byte {
	b := []byte{0xFF, 0xD8, 0xFF, 0xE0, 0, 16, 'J', 'F', 'I', 'F', 0, 1, 1, 0, 0, 1, 0, 1, 0, 0}
	for n := 8<<10 + r.IntN(192<<10); len(b) < n; {
		b = append(b, byte(r.IntN(0xFF)))
	}
	return append(b, 0xFF, 0xD9)
}

func lines(l ...string) []byte { return []byte(strings.Join(l, "\r\n") + "\r\n") }

func words(r *rand.Rand, n int) string {
	list := [...]string{"call", "before", "lunch", "bring", "papers", "window", "blue", "train", "garden", "key", "table", "later", "north", "coffee"}
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(list[r.IntN(len(list))])
	}
	return b.String()
}
