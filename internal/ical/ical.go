// Package ical reads calendar objects and answers calendar queries.
//
// Format: iCalendar (RFC 5545). An object resource is one UID with its overridden instances (RFC
// 4791, 4.1). Queries: RFC 4791, 9.7-9.9.
//
// Invariants: an Object is a view of the bytes received; nothing is rewritten. An object is refused
// only if it cannot be framed. What cannot be understood in a filter is ErrUnsupportedFilter, never
// a wrong answer; what cannot be understood in the data (a broken rule, an expansion beyond the
// budget) counts as overlapping, so that a query returns too much rather than too little. Time and
// memory are bounded for any input: components by the body's size, expansion by a budget per object.
package ical

import (
	"bytes"
	"fmt"
	"sync"

	"holdfast"
	"holdfast/internal/contentline"
)

// maxDepth bounds the nesting of components; iCalendar itself needs 3.
const maxDepth = 16

// Component is one component of an object: a byte range and the components inside it.
type Component struct {
	Name     string // upper case: "VEVENT"
	Children []*Component

	body []byte // from after the BEGIN line to before the END line
}

// Object is one calendar object resource. It may be read by several goroutines.
type Object struct {
	Calendar *Component // VCALENDAR
	UID      string     // of all its components; "" if none has one (RFC 5545 requires it, peers do not)

	body  []byte   // as received
	types []string // the different component names but VTIMEZONE, in order

	mu     sync.Mutex
	zones  map[string]*Zone // by TZID, made at first use; nil: no such zone
	misses int              // names that were looked up and found to be no zone
}

// Parse frames the object in body, which must not change while the Object is in use. The error wraps
// holdfast.ErrInvalid: empty, no BEGIN:VCALENDAR or END:VCALENDAR, unbalanced, more than one
// VCALENDAR, or two different UIDs.
func Parse(body []byte) (*Object, error) {
	f := framer{body: body, o: Object{body: body}}
	r := contentline.NewReader(body)
	var l contentline.Line
	for r.Next(&l) {
		if err := f.line(&l); err != nil {
			return nil, fmt.Errorf("parse calendar object: byte %d: %w", l.Start, err)
		}
	}
	if f.o.Calendar == nil {
		return nil, fmt.Errorf("parse calendar object: no BEGIN:VCALENDAR: %w", holdfast.ErrInvalid)
	}
	if f.depth > 0 {
		return nil, fmt.Errorf("parse calendar object: no END:%s: %w", f.stack[f.depth-1].Name, holdfast.ErrInvalid)
	}
	return &f.o, nil
}

// framer builds an Object line by line.
type framer struct {
	o     Object
	body  []byte
	stack [maxDepth]*Component
	start [maxDepth]int // where the body of each begins
	depth int
	uid   string // of the component at depth 2
}

func (f *framer) line(l *contentline.Line) error {
	switch {
	case l.Is("BEGIN"):
		return f.begin(l)
	case l.Is("END"):
		return f.end(l)
	case f.depth == 2 && f.uid == "" && l.Is("UID") && f.stack[1].Name != "VTIMEZONE":
		f.uid = string(bytes.TrimSpace(l.Text()))
	}
	return nil
}

func (f *framer) begin(l *contentline.Line) error {
	name := upperName(bytes.TrimSpace(l.Value()))
	if f.depth == maxDepth {
		return fmt.Errorf("nested more than %d deep: %w", maxDepth, holdfast.ErrInvalid)
	}
	c := &Component{Name: name}
	if f.depth == 0 {
		if name != "VCALENDAR" {
			return fmt.Errorf("not a VCALENDAR: %w", holdfast.ErrInvalid)
		}
		if f.o.Calendar != nil {
			return fmt.Errorf("more than one VCALENDAR: %w", holdfast.ErrInvalid)
		}
		f.o.Calendar = c
	} else {
		parent := f.stack[f.depth-1]
		parent.Children = append(parent.Children, c)
	}
	if f.depth == 1 {
		f.uid = ""
		f.addType(name)
	}
	f.stack[f.depth], f.start[f.depth] = c, l.End
	f.depth++
	return nil
}

func (f *framer) end(l *contentline.Line) error {
	if f.depth == 0 || !contentline.EqualFoldString(bytes.TrimSpace(l.Value()), f.stack[f.depth-1].Name) {
		return fmt.Errorf("END without its BEGIN: %w", holdfast.ErrInvalid)
	}
	f.depth--
	f.stack[f.depth].body = f.body[f.start[f.depth]:l.Start]
	if f.depth == 1 && f.uid != "" && f.uid != f.o.UID {
		if f.o.UID != "" {
			return fmt.Errorf("two UIDs in one object: %w", holdfast.ErrInvalid)
		}
		f.o.UID = f.uid
	}
	return nil
}

// addType notes the name of a component of the object; more than two different ones are not kept.
func (f *framer) addType(name string) {
	if name == "VTIMEZONE" || len(f.o.types) > 1 {
		return
	}
	if len(f.o.types) == 0 || f.o.types[0] != name {
		f.o.types = append(f.o.types, name)
	}
}

// Type returns the name of the object's components: "VEVENT", "VTODO", "VJOURNAL", "VFREEBUSY" or
// another but VTIMEZONE; "" if there is none. If they are mixed it is the first one's, and the error
// wraps holdfast.ErrInvalid (RFC 4791, 4.1: one type in one resource).
func (o *Object) Type() (string, error) {
	switch len(o.types) {
	case 0:
		return "", nil
	case 1:
		return o.types[0], nil
	}
	return o.types[0], fmt.Errorf("calendar object holds %s and %s: %w", o.types[0], o.types[1], holdfast.ErrInvalid)
}

// upperName returns the component name in upper case, without allocating for the usual ones.
func upperName(b []byte) string {
	switch string(b) {
	case "VCALENDAR":
		return "VCALENDAR"
	case "VEVENT":
		return "VEVENT"
	case "VTODO":
		return "VTODO"
	case "VALARM":
		return "VALARM"
	case "VTIMEZONE":
		return "VTIMEZONE"
	case "STANDARD":
		return "STANDARD"
	case "DAYLIGHT":
		return "DAYLIGHT"
	}
	return string(asciiUpper(b))
}

func asciiUpper(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		out[i] = c
	}
	return out
}

// Each calls fn for each property of the component itself, in order, until fn returns false. The
// line is valid during the call only; its offsets are within the component.
func (c *Component) Each(fn func(l *contentline.Line) bool) {
	r := contentline.NewReader(c.body)
	var l contentline.Line
	depth := 0
	for r.Next(&l) {
		switch {
		case !l.HasColon:
		case l.Is("BEGIN"):
			depth++
		case l.Is("END"):
			depth--
		case depth == 0:
			if !fn(&l) {
				return
			}
		}
	}
}

// property returns the value of the first property of that name, trimmed; "" without one.
func (c *Component) property(name string) string {
	v := ""
	c.Each(func(l *contentline.Line) bool {
		if l.Is(name) {
			v = string(bytes.TrimSpace(l.Text()))
			return false
		}
		return true
	})
	return v
}
