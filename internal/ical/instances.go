package ical

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"holdfast"
	"holdfast/internal/contentline"
)

// expanded writes the instances in the range in place of the components that recur (RFC 4791, 9.6.5):
// in order of time, in UTC, without time zones.
func (w *writer) expanded(p *CompPart, r TimeRange) error {
	var all []occurrence
	for _, c := range w.m.o.Calendar.Children {
		switch c.Name {
		case "VEVENT", "VTODO", "VJOURNAL":
			var err error
			if all, err = w.occurrences(all, c, r); err != nil {
				return err
			}
		case "VTIMEZONE":
		default:
			w.child(c, p, &instance{})
		}
	}
	slices.SortStableFunc(all, func(a, b occurrence) int { return cmp.Compare(a.start, b.start) })
	for i := range all {
		w.child(all[i].c, p, &all[i].instance)
		if len(w.out)-w.mark > w.limit {
			return fmt.Errorf("instances of more than %d bytes: %w", w.limit, ErrTooMany)
		}
	}
	return nil
}

// occurrence is an instance and the component that describes it.
type occurrence struct {
	c *Component
	instance
}

// occurrences appends the instances of a component in the range.
func (w *writer) occurrences(all []occurrence, c *Component, r TimeRange) ([]occurrence, error) {
	t := w.m.times(c)
	switch {
	case t.doubt:
		return nil, fmt.Errorf("expand times that cannot be read: %w", holdfast.ErrInvalid)
	case !t.start.ok():
		if c.Name != "VTODO" || w.m.overlaps(c, nil, r) {
			all = append(all, occurrence{c, instance{id: t.id, start: math.MinInt64}})
		}
		return all, nil
	}
	in := t.inRange(c.Name, r)
	seen := map[int64]bool{} // DTSTART is an instance, and the rule gives it too
	stopped := w.m.within(c, r, func(i *instance) bool {
		id := i.id.unix(w.m.floating)
		if !in(i) || seen[id] {
			return false
		}
		seen[id] = true
		all = append(all, occurrence{c, *i})
		return len(all) > MaxInstances
	})
	if stopped {
		return nil, fmt.Errorf("expand to more than %d instances, or a rule of too many steps: %w", MaxInstances, ErrTooMany)
	}
	return all, nil
}

// instanceProperty writes what becomes of a property in an instance; false: nothing, it stays as it is.
func (w *writer) instanceProperty(c *Component, l *contentline.Line, p *CompPart, i *instance) bool {
	t := w.m.times(c)
	main := (c.Name == "VEVENT" || c.Name == "VTODO" || c.Name == "VJOURNAL") && t.start.ok()
	switch {
	case l.Is("RRULE"), l.Is("RDATE"), l.Is("EXDATE"), l.Is("EXRULE"):
		return true
	case !main:
	case l.Is("DTSTART"):
		w.stamp(l, w.startOf(t, i))
		w.added(p, "RECURRENCE-ID", i.id)
		if i.period && !t.end.ok() && !t.hasDur {
			w.added(p, "DTEND", stamp{wall: i.end, form: formUTC})
		}
		return true
	case l.Is("RECURRENCE-ID"):
		return true // beside DTSTART
	case l.Is("DTEND"), l.Is("DUE"):
		w.stamp(l, w.endOf(t, i))
		return true
	case l.Is("DURATION") && (i.period || t.start.tied() && i.end-i.start != t.dur.seconds()):
		// A nominal day need not have 24 hours, but without a time zone it is read so.
		w.line(string(l.Head()), ":", durationText(i.end-i.start))
		return true
	}
	return l.Param("TZID") != nil && w.untied(l)
}

// startOf returns DTSTART of an instance: in UTC, but for dates and floating times.
func (w *writer) startOf(t *times, i *instance) stamp {
	if t.start.tied() {
		return stamp{wall: i.start, form: formUTC}
	}
	return stamp{wall: i.wall, form: t.start.form}
}

// endOf returns DTEND or DUE of an instance.
func (w *writer) endOf(t *times, i *instance) stamp {
	switch {
	case t.end.tied():
		return stamp{wall: i.end, form: formUTC}
	case t.start.tied() || i.period:
		return stamp{wall: w.m.floating.wall(i.end), form: t.end.form}
	}
	return stamp{wall: i.wall + t.end.wall - t.start.wall, form: t.end.form}
}

// added writes a property that the component has not, if it is wanted.
func (w *writer) added(p *CompPart, name string, s stamp) {
	if !s.ok() {
		return
	}
	r := contentline.NewReader([]byte(name + ":"))
	var l contentline.Line
	if r.Next(&l); p != nil {
		switch keep, noValue := p.wants(&l); {
		case !keep:
			return
		case noValue:
			w.line(name, ":")
			return
		}
	}
	w.stamp(&l, s)
}

// stamp writes a property with a time of its own.
func (w *writer) stamp(l *contentline.Line, s stamp) {
	head := untiedHead(l)
	if s.form == formDate && l.Param("VALUE") == nil {
		head = append(head, ";VALUE=DATE"...)
	}
	w.folded(head, appendStamp(nil, s))
}

// untiedHead returns the head of a line without TZID.
func untiedHead(l *contentline.Line) []byte {
	head := l.Head()
	if l.Param("TZID") == nil {
		return head
	}
	out := append([]byte{}, head[:len(head)-len(paramsOf(head))]...)
	eachParam(paramsOf(head), func(param []byte) {
		if len(param) < 6 || !contentline.EqualFoldString(param[:6], ";TZID=") {
			out = append(out, param...)
		}
	})
	return out
}

// paramsOf returns the head from its first semicolon on.
func paramsOf(head []byte) []byte {
	for i, c := range head {
		if c == ';' {
			return head[i:]
		}
	}
	return nil
}

// eachParam calls fn for each parameter with its semicolon.
func eachParam(b []byte, fn func(param []byte)) {
	quoted, from := false, 0
	for i, c := range b {
		switch {
		case c == '"':
			quoted = !quoted
		case c == ';' && !quoted && i > from:
			fn(b[from:i])
			from = i
		}
	}
	if from < len(b) {
		fn(b[from:])
	}
}

// untied writes a property whose times are those of a time zone in UTC; false if they cannot be read.
func (w *writer) untied(l *contentline.Line) bool {
	var value []byte
	ok := eachValue(l.Value(), func(b []byte) bool {
		s := w.m.o.stampOf(l, b)
		if len(value) > 0 {
			value = append(value, ',')
		}
		value = appendStamp(value, s)
		return s.ok()
	})
	if ok {
		w.folded(untiedHead(l), value)
	}
	return ok
}

// appendStamp appends a DATE, a floating DATE-TIME, or one in UTC.
func appendStamp(dst []byte, s stamp) []byte {
	wall := s.wall
	if s.form == formZoned {
		wall = s.unix(nil)
	}
	wall = min(max(wall, int64(daysOf(0, 1, 1))*day), lastWall-1)
	days := floorDiv64(wall, day)
	y, m, d := dateOf(int(days))
	dst = fmt.Appendf(dst, "%04d%02d%02d", y, m, d)
	if s.form == formDate {
		return dst
	}
	sec := wall - days*day
	dst = fmt.Appendf(dst, "T%02d%02d%02d", sec/hour, sec/minute%60, sec%60)
	if s.tied() {
		dst = append(dst, 'Z')
	}
	return dst
}

// durationText is an exact DURATION (RFC 5545, 3.3.6).
func durationText(seconds int64) string {
	sign := ""
	if seconds < 0 {
		sign, seconds = "-", -seconds
	}
	switch {
	case seconds%hour == 0 && seconds > 0:
		return fmt.Sprintf("%sPT%dH", sign, seconds/hour)
	case seconds%minute == 0 && seconds > 0:
		return fmt.Sprintf("%sPT%dM", sign, seconds/minute)
	}
	return fmt.Sprintf("%sPT%dS", sign, seconds)
}
