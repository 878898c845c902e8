package ical

import (
	"bytes"

	"holdfast/internal/contentline"
)

// Bounds of what is read of one component. Beyond them it is in doubt.
const maxRules = 16

// times is all that a component says about when it is.
type times struct {
	start     stamp
	end       stamp // DTEND or DUE
	dur       span
	hasDur    bool
	completed stamp
	created   stamp
	id        stamp // RECURRENCE-ID
	future    bool  // RANGE=THISANDFUTURE
	rules     []*rule
	rdates    []rdate
	exdates   []stamp
	busy      []rdate // FREEBUSY
	doubt     bool    // something that decides about time could not be read
}

// rdate is a value of RDATE or FREEBUSY: a time, or a period with its own end.
type rdate struct {
	start, end stamp
	dur        span
	period     bool
}

// timesOf reads the times of a component.
func (o *Object) timesOf(c *Component) *times {
	t := &times{}
	c.Each(func(l *contentline.Line) bool {
		if n := len(l.Name); n >= 3 && n <= 13 {
			o.readTime(t, l)
		}
		return true
	})
	return t
}

func (o *Object) readTime(t *times, l *contentline.Line) {
	switch {
	case l.Is("DTSTART"):
		o.set(t, &t.start, l)
	case l.Is("DTEND"), l.Is("DUE"):
		o.set(t, &t.end, l)
	case l.Is("DURATION"):
		d, ok := parseSpan(l.Value())
		t.dur, t.hasDur = d, ok
		t.doubt = t.doubt || !ok
	case l.Is("COMPLETED"):
		o.set(t, &t.completed, l)
	case l.Is("CREATED"):
		t.created = o.stampOf(l, l.Value())
	case l.Is("RECURRENCE-ID"):
		o.set(t, &t.id, l)
		t.future = contentline.EqualFoldString(l.Param("RANGE"), "THISANDFUTURE")
	case l.Is("RRULE"):
		r, ok := parseRule(l.Value())
		if !ok || len(t.rules) == maxRules {
			t.doubt = true
			return
		}
		t.rules = append(t.rules, r)
	case l.Is("RDATE"):
		o.readPeriods(t, &t.rdates, l)
	case l.Is("FREEBUSY"):
		o.readPeriods(t, &t.busy, l)
	case l.Is("EXDATE"):
		eachValue(l.Value(), func(b []byte) bool {
			if s := o.stampOf(l, b); s.ok() { // one that is unreadable excludes nothing
				t.exdates = append(t.exdates, s)
			}
			return true
		})
	}
}

// set takes the first value of a property.
func (o *Object) set(t *times, s *stamp, l *contentline.Line) {
	if s.ok() {
		return
	}
	*s = o.stampOf(l, l.Value())
	t.doubt = t.doubt || !s.ok()
}

func (o *Object) readPeriods(t *times, list *[]rdate, l *contentline.Line) {
	eachValue(l.Value(), func(b []byte) bool {
		if len(b) == 0 {
			return true
		}
		r, ok := o.rdateOf(l, b)
		if !ok {
			t.doubt = true
			return true
		}
		*list = append(*list, r)
		return true
	})
}

// rdateOf reads a DATE, DATE-TIME or PERIOD (RFC 5545, 3.3.9).
func (o *Object) rdateOf(l *contentline.Line, b []byte) (rdate, bool) {
	var r rdate
	slash := bytes.IndexByte(b, '/')
	if slash < 0 {
		r.start = o.stampOf(l, b)
		return r, r.start.ok()
	}
	r.period = true
	r.start = o.stampOf(l, b[:slash])
	if r.end = o.stampOf(l, b[slash+1:]); r.end.ok() {
		return r, r.start.ok()
	}
	var ok bool
	r.dur, ok = parseSpan(b[slash+1:])
	return r, ok && r.start.ok()
}

// recurs reports whether there may be more than one instance.
func (t *times) recurs() bool { return len(t.rules) > 0 || len(t.rdates) > 0 }

// endAt returns the end of the instance that starts when the wall of DTSTART shows `wall`. Without
// DTEND, DUE and DURATION a day lasts a day and a time no time (RFC 5545, 3.6.1).
func (t *times) endAt(wall int64, floating *Zone) int64 {
	start := t.start.at(wall, floating)
	switch {
	case t.end.ok() && t.end.form == formDate && t.start.form == formDate:
		return t.start.at(wall+t.end.wall-t.start.wall, floating)
	case t.end.ok(): // RFC 5545, 3.8.5.3: the same exact duration for all
		return start + t.end.unix(floating) - t.start.unix(floating)
	case t.hasDur:
		return t.start.at(wall+t.dur.days*day, floating) + t.dur.secs
	case t.start.form == formDate:
		return t.start.at(wall+day, floating)
	}
	return start
}

// endOf returns the end of a period.
func (r *rdate) endOf(floating *Zone) int64 {
	if r.end.ok() {
		return r.end.unix(floating)
	}
	return r.start.at(r.start.wall+r.dur.days*day, floating) + r.dur.secs
}

// longest returns an upper bound of the distance between start and end of an instance, in seconds.
func (t *times) longest() int64 {
	n := int64(day)
	switch {
	case t.end.ok() && t.start.ok():
		n = t.end.wall - t.start.wall
	case t.hasDur:
		n = t.dur.seconds()
	}
	return max(n, -n) + 2*day
}
