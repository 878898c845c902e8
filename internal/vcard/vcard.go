// Package vcard reads cards and answers address book queries.
//
// Formats: vCard 3.0 (RFC 2426) and 4.0 (RFC 6350); 2.1 is tolerated. Queries: RFC 6352, 10.4-10.5.
// Invariant: a Card is a view of the bytes received. Nothing is rewritten; Select copies whole
// lines. A card is refused only if it cannot be framed: everything else is accepted as it is.
package vcard

import (
	"bytes"
	"fmt"
	"strings"

	"holdfast"
	"holdfast/internal/contentline"
)

// maxDepth bounds the nesting of components (vCard 2.1 AGENT holds a card in a card).
const maxDepth = 32

// Card is one parsed card. It may be read by several goroutines.
type Card struct {
	Version string // value of VERSION as written; "" without one
	UID     string // value of UID, trimmed; "" without one
	FN      string // text of FN; of N in a card without FN

	body []byte
}

// Parse frames the card in body, which must not change while the Card is in use. The error wraps
// holdfast.ErrInvalid: empty, no BEGIN:VCARD or END:VCARD, unbalanced, or more than one card.
func Parse(body []byte) (*Card, error) {
	c := &Card{body: body}
	var n []byte
	err := scan(body, func(l *contentline.Line) {
		switch {
		case c.UID == "" && l.Is("UID"):
			c.UID = string(bytes.TrimSpace(l.Text()))
		case c.Version == "" && l.Is("VERSION"):
			c.Version = string(bytes.TrimSpace(l.Value()))
		case c.FN == "" && l.Is("FN"):
			c.FN = string(bytes.TrimSpace(l.Text()))
		case n == nil && l.Is("N"):
			n = l.Text()
		}
	})
	if err != nil {
		return nil, err
	}
	if c.FN == "" {
		c.FN = fromName(string(n))
	}
	return c, nil
}

// UID frames the card in body as Parse does, and returns its UID alone.
func UID(body []byte) (string, error) {
	uid := ""
	err := scan(body, func(l *contentline.Line) {
		if uid == "" && l.Is("UID") {
			uid = string(bytes.TrimSpace(l.Text()))
		}
	})
	if err != nil {
		return "", err
	}
	return uid, nil
}

// fromName makes "Given Additional Family" of the five parts of N (RFC 6350, 6.2.2).
func fromName(n string) string {
	parts := append(strings.Split(n, ";"), "", "", "")
	return strings.Join(strings.Fields(parts[1]+" "+parts[2]+" "+parts[0]), " ")
}

// scan checks the frame and calls fn for each property of the card itself.
func scan(body []byte, fn func(l *contentline.Line)) error {
	var (
		r     = contentline.NewReader(body)
		l     contentline.Line
		stack [maxDepth][]byte
		depth int
		cards int
	)
	for r.Next(&l) {
		switch {
		case l.Is("BEGIN"):
			name := bytes.TrimSpace(l.Value())
			if depth == 0 {
				if !contentline.EqualFoldString(name, "VCARD") {
					return fmt.Errorf("parse card: byte %d: BEGIN of another component: %w", l.Start, holdfast.ErrInvalid)
				}
				if cards++; cards > 1 {
					return fmt.Errorf("parse card: byte %d: more than one card: %w", l.Start, holdfast.ErrInvalid)
				}
			}
			if depth == maxDepth {
				return fmt.Errorf("parse card: nested more than %d deep: %w", maxDepth, holdfast.ErrInvalid)
			}
			stack[depth] = name
			depth++
		case l.Is("END"):
			if depth == 0 || !contentline.EqualFold(stack[depth-1], bytes.TrimSpace(l.Value())) {
				return fmt.Errorf("parse card: byte %d: END without its BEGIN: %w", l.Start, holdfast.ErrInvalid)
			}
			depth--
		case depth == 1 && l.HasColon:
			fn(&l)
		}
	}
	if cards == 0 {
		return fmt.Errorf("parse card: no BEGIN:VCARD: %w", holdfast.ErrInvalid)
	}
	if depth > 0 {
		return fmt.Errorf("parse card: no END:VCARD: %w", holdfast.ErrInvalid)
	}
	return nil
}

// Each calls fn for each property of the card in its order, until fn returns false. The line is
// valid during the call only.
func (c *Card) Each(fn func(l *contentline.Line) bool) {
	r := contentline.NewReader(c.body)
	var l contentline.Line
	depth := 0
	for r.Next(&l) {
		switch {
		case l.Is("BEGIN"):
			depth++
		case l.Is("END"):
			depth--
		case depth == 1 && l.HasColon:
			if !fn(&l) {
				return
			}
		}
	}
}
