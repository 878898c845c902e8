package ical

import (
	"fmt"
	"math"

	"holdfast/internal/contentline"
)

// The errors of filters that cannot be answered truly (RFC 4791, 7.8: CALDAV:supported-filter and
// CALDAV:supported-collation).
var (
	ErrUnsupportedFilter    = contentline.ErrUnsupportedFilter
	ErrUnsupportedCollation = contentline.ErrUnsupportedCollation
)

// TextMatch is CALDAV:text-match (RFC 4791, 9.7.5): a substring, i;ascii-casemap unless i;octet.
type TextMatch = contentline.TextMatch

// Filter is CALDAV:filter (RFC 4791, 9.7).
type Filter struct {
	Comp CompFilter // names VCALENDAR
	Zone *Zone      // of floating times and dates: CALDAV:timezone, else calendar-timezone; nil = UTC
}

// CompFilter is CALDAV:comp-filter (9.7.1). With IsNotDefined the rest is empty.
type CompFilter struct {
	Name         string
	IsNotDefined bool
	TimeRange    *TimeRange
	Props        []PropFilter
	Comps        []CompFilter
}

// PropFilter is CALDAV:prop-filter (9.7.2). TimeRange and Text exclude each other.
type PropFilter struct {
	Name         string
	IsNotDefined bool
	TimeRange    *TimeRange
	Text         *TextMatch
	Params       []ParamFilter
}

// ParamFilter is CALDAV:param-filter (9.7.3).
type ParamFilter struct {
	Name         string
	IsNotDefined bool
	Text         *TextMatch
}

// TimeRange is CALDAV:time-range (9.9): seconds since 1970 UTC, Start inclusive, End exclusive;
// math.MinInt64 and math.MaxInt64 where the attribute is missing.
type TimeRange struct {
	Start, End int64
}

// Bounds of a filter. A larger one is ErrUnsupportedFilter.
const (
	maxFilterDepth = 8
	maxFilterParts = 256
)

// Check returns an error wrapping ErrUnsupportedFilter or ErrUnsupportedCollation if Match could not
// answer the filter. Match checks again; Check is for refusing before the first object is read.
func (f *Filter) Check() error {
	c := checker{}
	return c.comp(&f.Comp, "", 0)
}

type checker struct{ parts int }

func (c *checker) part(depth int) error {
	c.parts++
	if depth > maxFilterDepth || c.parts > maxFilterParts {
		return fmt.Errorf("filter of more than %d parts or %d deep: %w", maxFilterParts, maxFilterDepth, ErrUnsupportedFilter)
	}
	return nil
}

func (c *checker) comp(f *CompFilter, parent string, depth int) error {
	if err := c.part(depth); err != nil {
		return err
	}
	if f.Name == "" || f.IsNotDefined && (f.TimeRange != nil || len(f.Props)+len(f.Comps) > 0) {
		return fmt.Errorf("comp-filter %q: %w", f.Name, ErrUnsupportedFilter)
	}
	name := string(asciiUpper([]byte(f.Name)))
	if f.TimeRange != nil {
		if err := f.TimeRange.check(); err != nil {
			return err
		}
		if !rangeAllowed(name, parent) {
			return fmt.Errorf("time-range on %s in %q: %w", name, parent, ErrUnsupportedFilter)
		}
	}
	for i := range f.Props {
		if err := c.prop(&f.Props[i], name, depth+1); err != nil {
			return err
		}
	}
	for i := range f.Comps {
		if err := c.comp(&f.Comps[i], name, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// rangeAllowed reports whether RFC 4791, 9.9 defines a time-range for the component there.
func rangeAllowed(name, parent string) bool {
	switch name {
	case "VEVENT", "VTODO", "VJOURNAL", "VFREEBUSY":
		return parent == "VCALENDAR"
	case "VALARM":
		return parent == "VEVENT" || parent == "VTODO"
	}
	return false
}

func (r *TimeRange) check() error {
	if r.Start >= r.End || r.Start == math.MinInt64 && r.End == math.MaxInt64 {
		return fmt.Errorf("time-range without an extent: %w", ErrUnsupportedFilter)
	}
	return nil
}

func (c *checker) prop(f *PropFilter, parent string, depth int) error {
	if err := c.part(depth); err != nil {
		return err
	}
	if f.Name == "" || f.IsNotDefined && (f.TimeRange != nil || f.Text != nil || len(f.Params) > 0) || f.TimeRange != nil && f.Text != nil {
		return fmt.Errorf("prop-filter %q: %w", f.Name, ErrUnsupportedFilter)
	}
	if f.TimeRange != nil {
		if err := f.TimeRange.check(); err != nil {
			return err
		}
		if !timeProperty(f.Name, parent) {
			return fmt.Errorf("time-range on property %s: %w", f.Name, ErrUnsupportedFilter)
		}
	}
	if err := checkText(f.Text); err != nil {
		return err
	}
	for i := range f.Params {
		p := &f.Params[i]
		if err := c.part(depth + 1); err != nil {
			return err
		}
		if p.Name == "" || p.IsNotDefined && p.Text != nil {
			return fmt.Errorf("param-filter %q: %w", p.Name, ErrUnsupportedFilter)
		}
		if err := checkText(p.Text); err != nil {
			return err
		}
	}
	return nil
}

// timeProperty reports whether RFC 4791, 9.9 defines a time-range for the property.
func timeProperty(name, comp string) bool {
	switch string(asciiUpper([]byte(name))) {
	case "COMPLETED", "CREATED", "DTEND", "DTSTAMP", "DTSTART", "DUE", "LAST-MODIFIED":
		return comp != "VCALENDAR" && comp != "VTIMEZONE"
	}
	return false
}

func checkText(t *TextMatch) error {
	if t == nil {
		return nil
	}
	return t.Check(contentline.ASCIICasemap, contentline.Octet, contentline.UnicodeCasemap) // match-type is RFC 6352's, and harmless
}

// Window returns a range that every object matching the filter overlaps by its Bounds: one with
// last < start or first > end need not be read. math.MinInt64 and math.MaxInt64 are no limit.
func (f *Filter) Window() (start, end int64) {
	return f.Comp.window()
}

func (f *CompFilter) window() (start, end int64) {
	if f.TimeRange != nil {
		return f.TimeRange.Start, f.TimeRange.End
	}
	for i := range f.Comps { // all of them must match, so any one will do
		if s, e := f.Comps[i].window(); s != math.MinInt64 || e != math.MaxInt64 {
			return s, e
		}
	}
	return math.MinInt64, math.MaxInt64
}
