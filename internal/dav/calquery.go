package dav

import (
	"fmt"
	"math"
	"mime"
	"net/http"
	"strings"
	"time"

	"holdfast/internal/ical"
	"holdfast/internal/ledger"
)

// calendarQuery finds calendar objects by a filter (RFC 4791, 7.8). What the thin rows say of
// component and time decides first; only the rest is read and parsed.
func calendarQuery(q *request, body *node, depth string) error {
	want, err := reportSelection(q, body)
	if err != nil {
		return err
	}
	f, err := parseCalendarFilter(body)
	if err != nil {
		return err
	}
	fromCollection := f.Zone == nil
	start, end := f.Window()
	components := neededComponents(&f.Comp)
	y := &query{q: q, name: body.name, depth: depth, want: want}
	y.begin = func(coll *ledger.Collection) error {
		if v, ok := property(coll.Props, calName("calendar-timezone")); ok && fromCollection {
			n := node{kids: fragment(v)}
			if z, err := ical.ParseZone([]byte(n.content())); err == nil {
				f.Zone = z // RFC 4791, 5.2.2: of floating times, if the query names no zone
			}
		}
		return nil
	}
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

// parseCalendarFilter reads CALDAV:filter and CALDAV:timezone.
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
	if tz := body.child(calName("timezone")); tz != nil {
		if f.Zone, err = ical.ParseZone([]byte(tz.content())); err != nil {
			return nil, refuse(http.StatusForbidden, calName("valid-calendar-data"), "timezone is no VTIMEZONE") // RFC 4791, 7.8
		}
	}
	if tz := body.child(calName("timezone-id")); tz != nil {
		if f.Zone, err = ical.LoadZone(trimmed(tz)); err != nil {
			return nil, refuse(http.StatusForbidden, calName("valid-timezone"), "time zone not known") // RFC 7809
		}
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
		t, err := time.Parse("20060102T150405Z", v)
		if err != nil {
			return nil, badFilter(nsCal, "time-range is not in UTC date-times")
		}
		*to, given = t.Unix(), true
	}
	if !given || r.Start >= r.End {
		return nil, badFilter(nsCal, "time-range without an extent")
	}
	return r, nil
}

// calendarData reads CALDAV:calendar-data in a report (RFC 4791, 9.6). The whole object is given,
// whatever parts are asked for.
func calendarData(n *node) (dataWriter, error) {
	if err := checkData(n, "text/calendar", "2.0"); err != nil {
		return nil, refuse(http.StatusForbidden, calName("supported-calendar-data"), "only text/calendar 2.0")
	}
	if n.child(calName("expand")) != nil {
		// A client that asked for single instances must not take the series for one.
		return nil, refuse(http.StatusForbidden, calName("supported-calendar-data"), "expand is not supported")
	}
	return func(b []byte) ([]byte, error) { return b, nil }, nil
}

// checkData refuses a content type or version in calendar-data or address-data that nobody here writes.
func checkData(n *node, contentType string, versions ...string) error {
	if t, ok := n.attr("content-type"); ok {
		if media, _, err := mime.ParseMediaType(t); err != nil || media != contentType {
			return badRequest("content type %.40q", t)
		}
	}
	v, ok := n.attr("version")
	if !ok {
		return nil
	}
	for _, known := range versions {
		if v == known {
			return nil
		}
	}
	return badRequest("version %.10q", v)
}
