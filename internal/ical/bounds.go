package ical

import (
	"math"

	"holdfast/internal/contentline"
)

// floatSlack is how far a floating time or a date can be from UTC, in seconds.
const floatSlack = 14 * hour

// extent grows to hold what is noted. The zero value holds nothing.
type extent struct {
	first, last int64
	any         bool
}

func (e *extent) note(first, last int64) {
	if !e.any {
		e.first, e.last, e.any = first, last, true
	}
	e.first, e.last = min(e.first, first), max(e.last, last)
}

// Bounds returns instants before and after which nothing of the object is, alarms included: seconds
// since 1970 UTC, inclusive, math.MinInt64 and math.MaxInt64 if it has no bound. Floating times and
// dates are widened by 14 hours. An object that a time-range matches has first <= end and last >=
// start, whatever the time zone of the query.
func (o *Object) Bounds() (first, last int64) {
	x := newExpander(o, nil)
	var e extent
	for _, c := range o.Calendar.Children {
		if c.Name == "VTIMEZONE" {
			continue
		}
		f, l := x.bounds(c)
		e.note(f, l)
		x.alarmBounds(c, f, l, &e)
	}
	if !e.any {
		return math.MinInt64, math.MaxInt64
	}
	return e.first, e.last
}

// widened returns the instant of a stamp as a range.
func widened(s stamp, unix int64) (int64, int64) {
	if s.form == formDate || s.form == formFloating {
		return addSat(unix, -floatSlack), addSat(unix, floatSlack)
	}
	return unix, unix
}

// affords charges for the times of a component; false if the budget is spent.
func (x *expander) affords(t *times) bool {
	x.budget -= t.start.cost()
	for _, list := range [][]rdate{t.rdates, t.busy} {
		for i := range list {
			x.budget -= list[i].start.cost()
		}
	}
	return x.budget > 0
}

func (x *expander) bounds(c *Component) (first, last int64) {
	t := x.times(c)
	var e extent
	noteAt := func(s stamp) {
		if s.ok() {
			e.note(widened(s, s.unix(nil)))
		}
	}
	switch {
	case t.doubt || !x.affords(t):
	case c.Name == "VEVENT" || c.Name == "VJOURNAL" || c.Name == "VTODO" && t.start.ok():
		if t.start.ok() {
			x.recurrenceBounds(c, t, &e)
		}
	case c.Name == "VTODO" && t.end.ok():
		noteAt(t.end)
	case c.Name == "VTODO" && t.completed.ok():
		noteAt(t.completed)
		noteAt(t.created)
	case c.Name == "VTODO" && t.created.ok():
		noteAt(t.created)
		e.last = math.MaxInt64
	case c.Name == "VFREEBUSY":
		if t.start.ok() && t.end.ok() {
			noteAt(t.start)
			noteAt(t.end)
			break
		}
		for i := range t.busy {
			noteAt(t.busy[i].start)
			_, l := widened(t.busy[i].start, t.busy[i].endOf(nil))
			e.note(e.first, l)
		}
	}
	if !e.any {
		return math.MinInt64, math.MaxInt64
	}
	return e.first, e.last
}

// recurrenceBounds notes all instances that a component with DTSTART makes.
func (x *expander) recurrenceBounds(c *Component, t *times, e *extent) {
	note := func(wall int64) {
		start, end := t.start.at(wall, nil), t.endAt(wall, nil)
		first, last := widened(t.start, start)
		e.note(first, last)
		first, last = widened(t.start, end)
		e.note(first, last)
		if t.end.form != t.start.form && t.end.ok() { // one is tied to a zone, the other is not
			e.note(addSat(min(start, end), -floatSlack), addSat(max(start, end), floatSlack))
		}
	}
	note(t.start.wall)
	for i := range t.rdates {
		r := &t.rdates[i]
		first, last := widened(r.start, r.start.unix(nil))
		length := t.longest()
		if r.period {
			_, last = widened(r.start, max(r.endOf(nil), r.start.unix(nil)))
			length = 0
		}
		e.note(first-length, last+length)
	}
	for _, r := range t.rules {
		end, ok := x.ruleEnd(r, t.start)
		if !ok {
			e.last = math.MaxInt64
			continue
		}
		note(end)
	}
	if t.recurs() { // instances keep their length but not their offset
		e.note(addSat(e.first, -day), addSat(e.last, day))
	}
	if t.future {
		e.last = math.MaxInt64
	}
}

// ruleEnd returns an upper bound of the walls of a rule; false if there is none or it is not found
// within the budget.
func (x *expander) ruleEnd(r *rule, start stamp) (int64, bool) {
	if r.count == 0 {
		if r.untilForm == formNone {
			return 0, false
		}
		return max(r.until+day, start.wall), true
	}
	budget := min(x.budget, stepBudget/4)
	x.budget -= budget
	it := newIter(r, start, nil, math.MinInt64, &budget)
	if from, ok := it.plainEnd(r); ok {
		it = newIter(r, start, nil, from, &budget)
	}
	end := start.wall
	for {
		wall, ok := it.next()
		if !ok {
			x.budget += max(budget, 0)
			return end, !it.exhausted
		}
		end = wall
	}
}

// plainEnd returns the wall near the last occurrence of a counted rule without BY parts.
func (it *iter) plainEnd(r *rule) (int64, bool) {
	if !r.isPlain() {
		return 0, false
	}
	var step int64
	switch r.freq {
	case yearly, monthly:
		return 0, false
	case weekly:
		step = 7 * day
	case daily:
		step = day
	default:
		step = it.unit()
	}
	if r.count > lastWall/(step*r.interval) {
		return lastWall, true
	}
	return min(it.start.wall+(r.count-1)*step*r.interval, lastWall), true
}

// alarmBounds notes when the alarms of a component may fire that lies in [first, last].
func (x *expander) alarmBounds(c *Component, first, last int64, e *extent) {
	for _, a := range c.Children {
		if a.Name != "VALARM" {
			continue
		}
		t := x.o.triggerOf(a)
		if t.at.ok() {
			f, l := widened(t.at, t.at.unix(nil))
			e.note(f, addSat(l, t.tail()))
		} else if t.ok {
			e.note(addSat(first, min(t.by.seconds(), 0)-day), addSat(last, max(t.by.seconds(), 0)+t.tail()+day))
		}
	}
}

// trigger is when a VALARM fires (RFC 5545, 3.8.6.3), and how often again.
type trigger struct {
	ok      bool
	at      stamp // absolute, or
	by      span  // relative
	toEnd   bool  // to the end of the instance
	repeats int64
	every   span
}

// triggerOf reads an alarm. Without a TRIGGER that can be read it never fires.
func (o *Object) triggerOf(a *Component) trigger {
	var t trigger
	a.Each(func(l *contentline.Line) bool {
		switch {
		case l.Is("TRIGGER") && !t.ok:
			if t.at = o.stampOf(l, l.Value()); t.at.ok() {
				t.ok = true
				break
			}
			t.by, t.ok = parseSpan(l.Value())
			t.toEnd = contentline.EqualFoldString(l.Param("RELATED"), "END")
		case l.Is("REPEAT"):
			n, ok := number(trim(l.Value()))
			if ok && n > 0 {
				t.repeats = int64(n)
			}
		case l.Is("DURATION"):
			if d, ok := parseSpan(l.Value()); ok && d.seconds() > 0 {
				t.every = d
			}
		}
		return true
	})
	if t.every.seconds() == 0 || t.repeats == 0 {
		t.every, t.repeats = span{}, 0
	}
	return t
}

// tail returns how long after the first time it fires the last time, in seconds.
func (t *trigger) tail() int64 {
	step := t.every.seconds()
	if step != 0 && t.repeats > maxSpan/step {
		return maxSpan
	}
	return step * t.repeats
}
