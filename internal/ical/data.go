package ical

import (
	"bytes"
	"errors"

	"holdfast/internal/contentline"
)

// Bounds of what is written of one object: instances, and bytes where they are many.
const (
	MaxInstances = 10_000
	maxWritten   = 8 << 20
)

// ErrTooMany says that an object has more instances in the range than are written (RFC 4791, 5.2.8:
// CALDAV:max-instances).
var ErrTooMany = errors.New("too many instances")

// Data says which parts of an object are wanted: CALDAV:calendar-data (RFC 4791, 9.6). The zero Data
// is all of it, as it was received.
type Data struct {
	Comp            *CompPart  // 9.6.1, of VCALENDAR; nil: everything
	Expand          *TimeRange // 9.6.5: instances instead of recurrence, in UTC; excludes LimitRecurrence
	LimitRecurrence *TimeRange // 9.6.6: only the overrides that matter there
	LimitFreeBusy   *TimeRange // 9.6.7: only the FREEBUSY values that matter there
}

// CompPart is CALDAV:comp (9.6.1): which properties and components of a component are wanted.
type CompPart struct {
	Name     string
	AllProps bool // CALDAV:allprop
	Props    []PropPart
	AllComps bool // CALDAV:allcomp
	Comps    []CompPart
}

// PropPart is CALDAV:prop (9.6.4).
type PropPart struct {
	Name    string
	NoValue bool
}

// Check returns an error wrapping ErrUnsupportedFilter for a selection that is larger or deeper than
// any calendar.
func (d *Data) Check() error {
	if d.Comp == nil {
		return nil
	}
	c := checker{}
	return c.selection(d.Comp, 0)
}

func (c *checker) selection(p *CompPart, depth int) error {
	c.parts += len(p.Props)
	if err := c.part(depth); err != nil {
		return err
	}
	for i := range p.Comps {
		if err := c.selection(&p.Comps[i], depth+1); err != nil {
			return err
		}
	}
	return nil
}

// Whole reports whether nothing is left out or changed.
func (d *Data) Whole() bool {
	return d.Comp == nil && d.Expand == nil && d.LimitRecurrence == nil && d.LimitFreeBusy == nil
}

// Append appends what is wanted of the object. floating is the zone of floating times and dates, nil
// for UTC. The error wraps ErrTooMany, or holdfast.ErrInvalid if an expansion is wanted of rules that
// cannot be read. The result is an iCalendar object only as far as the selection makes one.
func (d *Data) Append(dst []byte, o *Object, floating *Zone) ([]byte, error) {
	if d.Whole() {
		return append(dst, o.body...), nil
	}
	w := &writer{d: d, m: matcher{expander: newExpander(o, floating)}, out: dst, mark: len(dst), limit: max(maxWritten, 2*len(o.Calendar.body))}
	err := w.calendar()
	return w.out, err
}

// writer writes one object.
type writer struct {
	d     *Data
	m     matcher
	out   []byte
	mark  int // where the object begins in out
	limit int // bytes
}

func (w *writer) calendar() error {
	c, p := w.m.o.Calendar, w.d.Comp
	if p != nil && p.empty() {
		p = nil
	}
	w.begin(c)
	c.Each(func(l *contentline.Line) bool {
		w.property(c, l, p, nil)
		return true
	})
	var err error
	if w.d.Expand != nil {
		err = w.expanded(p, *w.d.Expand)
	} else {
		for _, sub := range c.Children {
			if w.d.LimitRecurrence == nil || w.matters(sub, *w.d.LimitRecurrence) {
				w.child(sub, p, nil)
			}
		}
	}
	w.end(c)
	return err
}

func (w *writer) begin(c *Component) { w.line("BEGIN:", c.Name) }
func (w *writer) end(c *Component)   { w.line("END:", c.Name) }

func (w *writer) line(parts ...string) {
	for _, p := range parts {
		w.out = append(w.out, p...)
	}
	w.out = append(w.out, "\r\n"...)
}

// child writes a component inside one of which p is wanted; nil wants everything.
func (w *writer) child(c *Component, p *CompPart, i *instance) {
	if p != nil && p.AllComps {
		p = nil
	}
	if p != nil {
		var named *CompPart
		for k := range p.Comps {
			if contentline.EqualFoldString([]byte(p.Comps[k].Name), c.Name) {
				named = &p.Comps[k]
				break
			}
		}
		if named == nil {
			return
		}
		if p = named; p.empty() {
			p = nil // RFC 4791, 7.8.1: a comp with nothing in it is the whole component
		}
	}
	w.component(c, p, i)
}

func (p *CompPart) empty() bool {
	return !p.AllProps && !p.AllComps && len(p.Props)+len(p.Comps) == 0
}

// component writes a component in the order it was received in. With an instance it writes that one
// instead of the recurrence.
func (w *writer) component(c *Component, p *CompPart, i *instance) {
	w.begin(c)
	r := contentline.NewReader(c.body)
	var l contentline.Line
	depth, child := 0, 0
	for r.Next(&l) {
		switch {
		case l.Is("BEGIN"):
			if depth++; depth == 1 {
				var inner *instance // what lies in a component has no recurrence of its own
				if i != nil {
					inner = &instance{}
				}
				w.child(c.Children[child], p, inner)
				child++
			}
		case l.Is("END"):
			depth--
		case depth == 0 && l.HasColon:
			w.property(c, &l, p, i)
		}
	}
	w.end(c)
}

// property writes one line, or what becomes of it.
func (w *writer) property(c *Component, l *contentline.Line, p *CompPart, i *instance) {
	keep, noValue := p.wants(l)
	if c == w.m.o.Calendar && l.Is("VERSION") {
		keep, noValue = true, false // no reader does without it
	}
	switch {
	case !keep:
	case noValue:
		w.out = append(append(w.out, l.Head()...), ":\r\n"...)
	case i != nil && w.instanceProperty(c, l, p, i):
	case w.d.LimitFreeBusy != nil && c.Name == "VFREEBUSY" && l.Is("FREEBUSY"):
		w.busyValues(l, *w.d.LimitFreeBusy)
	default:
		w.raw(l)
	}
}

// wants reports whether a property is selected, and whether without its value.
func (p *CompPart) wants(l *contentline.Line) (keep, noValue bool) {
	if p == nil || p.AllProps {
		return true, false
	}
	noValue = true
	for i := range p.Props {
		if l.Is(p.Props[i].Name) {
			keep = true
			noValue = noValue && p.Props[i].NoValue
		}
	}
	return keep, noValue && keep
}

// raw copies a line as it was received, folds and all.
func (w *writer) raw(l *contentline.Line) {
	b := bytes.TrimPrefix(l.Raw, []byte("\xef\xbb\xbf"))
	w.out = append(w.out, b...)
	if n := len(b); n == 0 || b[n-1] != '\n' {
		w.out = append(w.out, "\r\n"...)
	}
}

// maxLine is where a content line is folded, in octets (RFC 5545, 3.1).
const maxLine = 75

// folded writes a line that is not there as such, folded between characters.
func (w *writer) folded(head, value []byte) {
	line := append(append(append(make([]byte, 0, len(head)+len(value)+1), head...), ':'), value...)
	for limit := maxLine; len(line) > limit; limit = maxLine - 1 {
		n := limit
		for n > 1 && line[n]&0xC0 == 0x80 {
			n--
		}
		w.out = append(append(w.out, line[:n]...), "\r\n "...)
		line = line[n:]
	}
	w.out = append(append(w.out, line...), "\r\n"...)
}

// busyValues writes the values of FREEBUSY that overlap the range.
func (w *writer) busyValues(l *contentline.Line, r TimeRange) {
	var kept []byte
	all := true
	eachValue(l.Value(), func(b []byte) bool {
		if p, ok := w.m.o.rdateOf(l, b); ok && (p.endOf(w.m.floating) <= r.Start || p.start.unix(w.m.floating) >= r.End) {
			all = false
			return true
		}
		if len(kept) > 0 {
			kept = append(kept, ',')
		}
		kept = append(kept, b...)
		return true
	})
	switch {
	case all:
		w.raw(l)
	case len(kept) > 0:
		w.folded(l.Head(), kept)
	}
}

// matters reports whether a component says something about the range: it is no override, or its
// instance is there now, or would be there if nothing had been overridden (RFC 4791, 9.6.6).
func (w *writer) matters(c *Component, r TimeRange) bool {
	t := w.m.times(c)
	if c.Name == "VTIMEZONE" || !t.id.ok() || t.doubt || w.m.overlaps(c, nil, r) {
		return true
	}
	id, ok := w.m.unix(t.id)
	if !ok || t.future && id < r.End {
		return true
	}
	of := w.m.seriesOf(c.Name).master
	if of == nil || !of.start.ok() {
		of = t
	}
	i := instance{start: id, end: id}
	if of.start.ok() {
		i.end = of.endAt(w.m.zoneOf(of.start).wall(id), w.m.floating)
	}
	return of.inRange(c.Name, r)(&i)
}
