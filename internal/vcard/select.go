package vcard

import (
	"bytes"

	"holdfast/internal/contentline"
)

// Prop is CARDDAV:prop of CARDDAV:address-data (RFC 6352, 10.4.2).
type Prop struct {
	Name    string // with a group only that group's; without, any group's
	NoValue bool   // leave out the value
}

// Select returns a card of the named properties only, in the card's own order: BEGIN, VERSION, the
// lines as they were received, END. VERSION is always there, as no reader does without it.
func (c *Card) Select(props []Prop) []byte {
	names := make([]propName, len(props))
	for i := range props {
		names[i] = newPropName(props[i].Name)
	}
	var out bytes.Buffer
	r := contentline.NewReader(c.body)
	var l contentline.Line
	depth := 0
	for r.Next(&l) {
		switch {
		case l.Is("BEGIN"):
			depth++
			if depth == 1 {
				writeLine(&out, l.Raw)
			}
		case l.Is("END"):
			if depth == 1 {
				writeLine(&out, l.Raw)
			}
			depth--
		case depth == 1 && l.HasColon:
			keep, noValue := wanted(&l, names, props)
			switch {
			case keep && noValue:
				out.Write(l.Head())
				out.WriteString(":\r\n")
			case keep:
				writeLine(&out, l.Raw)
			}
		}
	}
	return out.Bytes()
}

func wanted(l *contentline.Line, names []propName, props []Prop) (keep, noValue bool) {
	noValue = true
	for i := range names {
		if names[i].is(l) {
			keep = true
			noValue = noValue && props[i].NoValue
		}
	}
	if l.Is("VERSION") {
		return true, false
	}
	return keep, noValue
}

// writeLine copies a line without a byte order mark and with a line ending.
func writeLine(out *bytes.Buffer, raw []byte) {
	raw = bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))
	out.Write(raw)
	if n := len(raw); n == 0 || raw[n-1] != '\n' {
		out.WriteString("\r\n")
	}
}
