package ical

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/contentline"
)

// maxBusy bounds the periods that one free-busy answer has.
const maxBusy = 50_000

// busyType is what FBTYPE says of a period that is not free (RFC 5545, 3.2.9).
type busyType uint8

const (
	busy busyType = iota
	busyUnavailable
	busyTentative
	busyTypes // how many there are
)

var busyHeads = [busyTypes]string{"FREEBUSY;FBTYPE=BUSY", "FREEBUSY;FBTYPE=BUSY-UNAVAILABLE", "FREEBUSY;FBTYPE=BUSY-TENTATIVE"}

// FreeBusy gathers when somebody is busy within a range (RFC 4791, 7.10).
type FreeBusy struct {
	r     TimeRange
	times [busyTypes][]busyTime
	tidy  [busyTypes]int // length when last merged
}

// busyTime is [start, end), seconds since 1970 UTC.
type busyTime struct{ start, end int64 }

// NewFreeBusy gathers in a range that has both its ends.
func NewFreeBusy(r TimeRange) *FreeBusy { return &FreeBusy{r: r} }

// Outside reports whether an object of the given component and bounds (Object.Bounds) adds nothing.
func (f *FreeBusy) Outside(component string, first, last int64) bool {
	return component != "" && component != "VEVENT" && component != "VFREEBUSY" || last < f.r.Start || first > f.r.End
}

// Add takes in an object. What cannot be read is busy only where it can; an expansion that takes too many
// steps is busy from where it stopped, for to say "free" could be wrong. The error wraps ErrTooMany.
func (f *FreeBusy) Add(o *Object, floating *Zone) error {
	m := matcher{expander: newExpander(o, floating)}
	for _, c := range o.Calendar.Children {
		switch c.Name {
		case "VEVENT":
			f.event(&m, c)
		case "VFREEBUSY":
			f.stored(&m, c)
		}
	}
	for k := range f.times {
		if len(f.times[k]) > 2*f.tidy[k]+1000 {
			f.merge(busyType(k))
		}
		if len(f.times[k]) > maxBusy {
			return fmt.Errorf("more than %d busy times: %w", maxBusy, ErrTooMany)
		}
	}
	return nil
}

// event adds the instances of a VEVENT by the table of RFC 4791, 7.10.
func (f *FreeBusy) event(m *matcher, c *Component) {
	kind := busy
	switch status := []byte(c.property("STATUS")); {
	case contentline.EqualFoldString([]byte(c.property("TRANSP")), "TRANSPARENT"), contentline.EqualFoldString(status, "CANCELLED"):
		return
	case contentline.EqualFoldString(status, "TENTATIVE"):
		kind = busyTentative
	}
	t := m.times(c)
	if t.doubt {
		if t.start.ok() && !t.id.ok() {
			f.note(kind, t.start.unix(m.floating), t.endAt(t.start.wall, m.floating))
		}
		return
	}
	reached := f.r.Start
	if m.within(c, f.r, func(i *instance) bool {
		f.note(kind, i.start, i.end)
		reached = max(reached, i.start)
		if len(f.times[kind]) > 2*maxBusy {
			f.merge(kind)
		}
		return false
	}) {
		f.note(kind, reached, f.r.End)
	}
}

// stored adds the periods of a VFREEBUSY.
func (f *FreeBusy) stored(m *matcher, c *Component) {
	c.Each(func(l *contentline.Line) bool {
		if !l.Is("FREEBUSY") {
			return true
		}
		kind := busy
		switch fb := l.Param("FBTYPE"); {
		case contentline.EqualFoldString(fb, "FREE"):
			return true
		case contentline.EqualFoldString(fb, "BUSY-UNAVAILABLE"):
			kind = busyUnavailable
		case contentline.EqualFoldString(fb, "BUSY-TENTATIVE"):
			kind = busyTentative
		}
		eachValue(l.Value(), func(b []byte) bool {
			if p, ok := m.o.rdateOf(l, b); ok && p.period {
				f.note(kind, p.start.unix(m.floating), p.endOf(m.floating))
			}
			return true
		})
		return true
	})
}

// note adds a time as far as it is in the range.
func (f *FreeBusy) note(kind busyType, start, end int64) {
	if start, end = max(start, f.r.Start), min(end, f.r.End); start < end {
		f.times[kind] = append(f.times[kind], busyTime{start, end})
	}
}

// merge sorts the times of a type and makes one of those that overlap or touch.
func (f *FreeBusy) merge(kind busyType) {
	ts := f.times[kind]
	slices.SortFunc(ts, func(a, b busyTime) int { return cmp.Compare(a.start, b.start) })
	out := ts[:0]
	for _, t := range ts {
		if n := len(out); n > 0 && t.start <= out[n-1].end {
			out[n-1].end = max(out[n-1].end, t.end)
			continue
		}
		out = append(out, t)
	}
	f.times[kind], f.tidy[kind] = out, len(out)
}

// Append appends a calendar with one VFREEBUSY.
func (f *FreeBusy) Append(dst []byte, now time.Time) []byte {
	w := writer{out: dst}
	w.line("BEGIN:VCALENDAR")
	w.line("VERSION:2.0")
	w.line("PRODID:-//Holdfast//Holdfast//EN")
	w.line("BEGIN:VFREEBUSY")
	utc := func(unix int64) string { return string(appendStamp(nil, stamp{wall: unix, form: formUTC})) }
	w.line("DTSTAMP:", utc(now.Unix()))
	w.line("DTSTART:", utc(f.r.Start))
	w.line("DTEND:", utc(f.r.End))
	for k := range f.times {
		f.merge(busyType(k))
		for _, t := range f.times[k] {
			w.line(busyHeads[k], ":", utc(t.start), "/", utc(t.end))
		}
	}
	w.line("END:VFREEBUSY")
	w.line("END:VCALENDAR")
	return w.out
}
