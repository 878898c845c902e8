package dav

import (
	"fmt"
	"math"
	"strings"

	"holdfast"
	"holdfast/internal/ical"
	"holdfast/internal/ledger"
)

// calendarQuery finds calendar objects by a filter (RFC 4791, 7.8). What the thin rows say of
// component and time decides first; only the rest is read and parsed.
func calendarQuery(q *request, body *node, depth string) error {
	zone, err := parseFloatingZone(body)
	if err != nil {
		return err
	}
	want, err := reportSelection(q, body)
	if err != nil {
		return err
	}
	f, err := parseCalendarFilter(body)
	if err != nil {
		return err
	}
	start, end := f.Window()
	components := neededComponents(&f.Comp)
	y := &query{q: q, name: body.name, kind: holdfast.KindCalendar, depth: depth, want: want}
	y.begin = func(coll *ledger.Collection) { f.Zone = zone.of(coll) }
	y.skip = func(r *ledger.Resource) bool {
		if r.Last < start || r.First > end {
			return true
		}
		for _, c := range components {
			if r.Component != "" && r.Component != c {
				return true
			}
		}
		return false
	}
	y.match = func(body []byte) (bool, error) {
		o, err := ical.Parse(body)
		if err != nil {
			return false, err
		}
		ok, err := f.Match(o)
		return ok, unsupported(nsCal, err)
	}
	return y.run()
}

// neededComponents returns the component types that an object must hold to match.
func neededComponents(root *ical.CompFilter) []string {
	var names []string
	for i := range root.Comps {
		if name := strings.ToUpper(root.Comps[i].Name); !root.Comps[i].IsNotDefined && name != "VTIMEZONE" {
			names = append(names, name)
		}
	}
	return names
}

// parseCalendarFilter reads CALDAV:filter.
func parseCalendarFilter(body *node) (*ical.Filter, error) {
	var f ical.Filter
	comps := body.child(calName("filter")).elements()
	if len(comps) != 1 || comps[0].name != calName("comp-filter") {
		return nil, badFilter(nsCal, "filter with one comp-filter expected")
	}
	var err error
	if f.Comp, err = compFilter(comps[0], 0); err != nil {
		return nil, err
	}
	if !strings.EqualFold(f.Comp.Name, "VCALENDAR") {
		return nil, badFilter(nsCal, "the outer comp-filter names VCALENDAR")
	}
	return &f, unsupported(nsCal, f.Check())
}

// compFilter reads CALDAV:comp-filter (RFC 4791, 9.7.1).
func compFilter(n *node, depth int) (ical.CompFilter, error) {
	name, _ := n.attr("name")
	f := ical.CompFilter{Name: name}
	if name == "" || depth > maxDepth {
		return f, badFilter(nsCal, "comp-filter without a name")
	}
	for _, e := range n.elements() {
		var err error
		switch e.name {
		case calName("is-not-defined"):
			f.IsNotDefined = true
		case calName("time-range"):
			f.TimeRange, err = timeRange(e)
		case calName("prop-filter"):
			var p ical.PropFilter
			p, err = calendarPropFilter(e)
			f.Props = append(f.Props, p)
		case calName("comp-filter"):
			var c ical.CompFilter
			c, err = compFilter(e, depth+1)
			f.Comps = append(f.Comps, c)
		default:
			err = unsupported(nsCal, fmt.Errorf("element %s: %w", e.name.Local, ical.ErrUnsupportedFilter))
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

// calendarPropFilter reads CALDAV:prop-filter (RFC 4791, 9.7.2).
func calendarPropFilter(n *node) (ical.PropFilter, error) {
	name, _ := n.attr("name")
	f := ical.PropFilter{Name: name}
	for _, e := range n.elements() {
		var err error
		switch e.name {
		case calName("is-not-defined"):
			f.IsNotDefined = true
		case calName("time-range"):
			f.TimeRange, err = timeRange(e)
		case calName("text-match"):
			t := textMatch(e)
			f.Text = &t
		case calName("param-filter"):
			p := ical.ParamFilter{}
			p.Name, _ = e.attr("name")
			p.IsNotDefined = e.child(calName("is-not-defined")) != nil
			if m := e.child(calName("text-match")); m != nil {
				t := textMatch(m)
				p.Text = &t
			}
			f.Params = append(f.Params, p)
		default:
			err = unsupported(nsCal, fmt.Errorf("element %s: %w", e.name.Local, ical.ErrUnsupportedFilter))
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

// timeRange reads CALDAV:time-range (RFC 4791, 9.9): one of start and end, both in UTC.
func timeRange(n *node) (*ical.TimeRange, error) {
	r := &ical.TimeRange{Start: math.MinInt64, End: math.MaxInt64}
	given := false
	for attr, to := range map[string]*int64{"start": &r.Start, "end": &r.End} {
		v, ok := n.attr(attr)
		if !ok {
			continue
		}
		t, err := utcTime(v)
		if err != nil {
			return nil, badFilter(nsCal, "time-range is not in UTC date-times")
		}
		*to, given = t, true
	}
	if !given || r.Start >= r.End {
		return nil, badFilter(nsCal, "time-range without an extent")
	}
	return r, nil
}
