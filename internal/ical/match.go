package ical

import (
	"math"

	"holdfast/internal/contentline"
)

// Match reports whether the object matches the filter (RFC 4791, 9.7.1-9.7.5 and 9.9). Recurring
// components are expanded: a component is in a time-range if one of its instances is that no other
// component overrides. The error wraps ErrUnsupportedFilter or ErrUnsupportedCollation.
func (f *Filter) Match(o *Object) (bool, error) {
	if err := f.Check(); err != nil {
		return false, err
	}
	m := matcher{expander: newExpander(o, f.Zone)}
	root := [1]*Component{o.Calendar}
	return m.comps(&f.Comp, root[:], nil), nil
}

type matcher struct {
	*expander
}

// comps matches a comp-filter in the scope of the components in which it stands.
func (m *matcher) comps(f *CompFilter, in []*Component, parent *Component) bool {
	for _, c := range in {
		if !contentline.EqualFoldString([]byte(f.Name), c.Name) {
			continue
		}
		if f.IsNotDefined {
			return false
		}
		if m.comp(f, c, parent) {
			return true
		}
	}
	return f.IsNotDefined
}

func (m *matcher) comp(f *CompFilter, c, parent *Component) bool {
	for i := range f.Props {
		if !m.prop(&f.Props[i], c) {
			return false
		}
	}
	for i := range f.Comps {
		if !m.comps(&f.Comps[i], c.Children, c) {
			return false
		}
	}
	return f.TimeRange == nil || m.overlaps(c, parent, *f.TimeRange)
}

// prop matches a prop-filter: one property of that name must fulfil all of it.
func (m *matcher) prop(f *PropFilter, c *Component) bool {
	found, matched := false, false
	c.Each(func(l *contentline.Line) bool {
		if !l.Is(f.Name) {
			return true
		}
		found = true
		matched = !f.IsNotDefined && m.property(f, l)
		return !matched && !f.IsNotDefined
	})
	if f.IsNotDefined {
		return !found
	}
	if !found && f.TimeRange != nil {
		return m.effectiveEnd(f, c)
	}
	return matched
}

func (m *matcher) property(f *PropFilter, l *contentline.Line) bool {
	if f.Text != nil && !f.Text.Match(l.Text(), contentline.ASCIICasemap) {
		return false
	}
	if f.TimeRange != nil {
		s := m.o.stampOf(l, l.Value())
		if s.ok() && !f.TimeRange.holds(s.unix(m.floating)) {
			return false
		}
	}
	for i := range f.Params {
		if !param(&f.Params[i], l) {
			return false
		}
	}
	return true
}

// effectiveEnd matches a time-range on a DTEND or DUE that DURATION stands for (RFC 4791, 9.9).
func (m *matcher) effectiveEnd(f *PropFilter, c *Component) bool {
	name := string(asciiUpper([]byte(f.Name)))
	if len(f.Params) > 0 || (name != "DTEND" || c.Name != "VEVENT") && (name != "DUE" || c.Name != "VTODO") {
		return false
	}
	t := m.times(c)
	return t.start.ok() && t.hasDur && f.TimeRange.holds(t.endAt(t.start.wall, m.floating))
}

func param(f *ParamFilter, l *contentline.Line) bool {
	p := l.Params()
	for {
		name, value, ok := p.Next()
		if !ok {
			return f.IsNotDefined
		}
		if !contentline.EqualFoldString(name, f.Name) {
			continue
		}
		if f.IsNotDefined {
			return false
		}
		if f.Text == nil || f.Text.Match(value, contentline.ASCIICasemap) {
			return true
		}
	}
}

// holds reports whether a point in time is in the range.
func (r *TimeRange) holds(t int64) bool { return r.Start <= t && r.End > t }

// overlaps applies the table of RFC 4791, 9.9 for the component.
func (m *matcher) overlaps(c, parent *Component, r TimeRange) bool {
	switch c.Name {
	case "VEVENT", "VJOURNAL":
		return m.within(c, r, m.times(c).inRange(c.Name, r))
	case "VTODO":
		return m.todo(c, r)
	case "VFREEBUSY":
		return m.freebusy(c, r)
	case "VALARM":
		return m.alarm(c, parent, r)
	}
	return false
}

// within calls any with the starts that can overlap the range.
func (m *matcher) within(c *Component, r TimeRange, test func(i *instance) bool) bool {
	long := m.times(c).longest()
	return m.any(c, addSat(r.Start, -long), addSat(r.End, long), test)
}

// inRange returns the table for an instance of a component with DTSTART.
func (t *times) inRange(name string, r TimeRange) func(i *instance) bool {
	held := func(i *instance) bool { return r.holds(i.start) }
	lasts := func(i *instance) bool { return r.Start < i.end && r.End > i.start }
	switch {
	case name == "VJOURNAL" && t.start.form == formDate:
		return lasts
	case name == "VJOURNAL":
		return held
	case name == "VTODO" && t.end.ok():
		return func(i *instance) bool {
			return (r.Start < i.end || r.Start <= i.start) && (r.End > i.start || r.End >= i.end)
		}
	case name == "VTODO" && t.hasDur:
		return func(i *instance) bool { return r.Start <= i.end && (r.End > i.start || r.End >= i.end) }
	case name == "VTODO":
		return held
	case !t.end.ok() && (t.hasDur && t.dur.seconds() <= 0 || !t.hasDur && t.start.form != formDate):
		// VEVENT without an end, or with a DURATION of nothing: start <= DTSTART AND end > DTSTART
		return func(i *instance) bool {
			if i.end <= i.start {
				return r.holds(i.start)
			}
			return lasts(i)
		}
	}
	return lasts
}

// todo is the table for VTODO.
func (m *matcher) todo(c *Component, r TimeRange) bool {
	t := m.times(c)
	switch {
	case t.doubt:
		return true
	case t.start.ok():
		return m.within(c, r, t.inRange(c.Name, r))
	case t.end.ok():
		due := t.end.unix(m.floating)
		return r.Start < due && r.End >= due
	case t.completed.ok() && t.created.ok():
		done, made := t.completed.unix(m.floating), t.created.unix(m.floating)
		return (r.Start <= made || r.Start <= done) && (r.End >= made || r.End >= done)
	case t.completed.ok():
		done := t.completed.unix(m.floating)
		return r.Start <= done && r.End >= done
	case t.created.ok():
		return r.End > t.created.unix(m.floating)
	}
	return true
}

// freebusy is the table for VFREEBUSY.
func (m *matcher) freebusy(c *Component, r TimeRange) bool {
	t := m.times(c)
	if t.doubt {
		return true
	}
	if t.start.ok() && t.end.ok() {
		return r.Start <= t.end.unix(m.floating) && r.End > t.start.unix(m.floating)
	}
	for i := range t.busy {
		if r.Start < t.busy[i].endOf(m.floating) && r.End > t.busy[i].start.unix(m.floating) {
			return true
		}
	}
	return false
}

// alarm matches a VALARM: one of the times it fires, for any instance of its parent, is in the range.
func (m *matcher) alarm(c, parent *Component, r TimeRange) bool {
	t := m.o.triggerOf(c)
	if !t.ok {
		return false
	}
	if t.at.ok() {
		return t.fires(t.at.unix(m.floating), r)
	}
	p := m.times(parent)
	if parent.Name == "VTODO" && !p.start.ok() && p.end.ok() && t.toEnd {
		i := instance{zone: m.zoneOf(p.end)}
		return t.fires(i.shift(p.end.unix(m.floating), t.by), r)
	}
	reach := p.longest() + day
	low := addSat(r.Start, -reach-max(t.by.seconds(), 0)-t.tail())
	high := addSat(r.End, reach-min(t.by.seconds(), 0))
	return m.any(parent, low, high, func(i *instance) bool {
		base := i.start
		if t.toEnd {
			base = i.end
		}
		return t.fires(i.shift(base, t.by), r)
	})
}

// fires reports whether the alarm that fires first at `first` fires in the range.
func (t *trigger) fires(first int64, r TimeRange) bool {
	if r.holds(first) {
		return true
	}
	if t.repeats == 0 || first >= r.Start || r.Start == math.MinInt64 {
		return false
	}
	step := t.every.seconds()
	n := (r.Start - first + step - 1) / step
	return n <= t.repeats && r.holds(first+n*step)
}
