package vcard

import (
	"bytes"
	"fmt"

	"holdfast/internal/contentline"
)

// The errors of filters that cannot be answered truly (RFC 6352, 8.6: CARDDAV:supported-filter and
// CARDDAV:supported-collation).
var (
	ErrUnsupportedFilter    = contentline.ErrUnsupportedFilter
	ErrUnsupportedCollation = contentline.ErrUnsupportedCollation
)

// TextMatch is CARDDAV:text-match (RFC 6352, 10.5.4); i;unicode-casemap is the default collation.
type TextMatch = contentline.TextMatch

// Test is the test attribute of a filter (10.5, 10.5.1). The empty one means AnyOf.
type Test string

// The tests.
const (
	AnyOf Test = "anyof"
	AllOf Test = "allof"
)

// Filter is CARDDAV:filter (10.5). Without a prop-filter it matches every card.
type Filter struct {
	Test  Test
	Props []PropFilter
}

// PropFilter is CARDDAV:prop-filter (10.5.1). With IsNotDefined the rest is empty.
type PropFilter struct {
	Name         string // with a group ("item1.TEL") only that group's; without, any group's
	Test         Test
	IsNotDefined bool
	Texts        []TextMatch
	Params       []ParamFilter
}

// ParamFilter is CARDDAV:param-filter (10.5.2).
type ParamFilter struct {
	Name         string
	IsNotDefined bool
	Text         *TextMatch
}

// maxFilterParts bounds a filter. A larger one is ErrUnsupportedFilter.
const maxFilterParts = 256

// Check returns an error wrapping ErrUnsupportedFilter or ErrUnsupportedCollation if Match could not
// answer the filter. Match checks again; Check is for refusing before the first card is read.
func (f *Filter) Check() error {
	parts := len(f.Props)
	if err := checkTest(f.Test); err != nil {
		return err
	}
	for i := range f.Props {
		p := &f.Props[i]
		parts += len(p.Texts) + len(p.Params)
		if parts > maxFilterParts {
			return fmt.Errorf("filter of more than %d parts: %w", maxFilterParts, ErrUnsupportedFilter)
		}
		if err := p.check(); err != nil {
			return err
		}
	}
	return nil
}

func (p *PropFilter) check() error {
	if err := checkTest(p.Test); err != nil {
		return err
	}
	if p.Name == "" || p.IsNotDefined && len(p.Texts)+len(p.Params) > 0 {
		return fmt.Errorf("prop-filter %q: %w", p.Name, ErrUnsupportedFilter)
	}
	for i := range p.Texts {
		if err := checkText(&p.Texts[i]); err != nil {
			return err
		}
	}
	for i := range p.Params {
		q := &p.Params[i]
		if q.Name == "" || q.IsNotDefined && q.Text != nil {
			return fmt.Errorf("param-filter %q: %w", q.Name, ErrUnsupportedFilter)
		}
		if q.Text == nil {
			continue
		}
		if err := checkText(q.Text); err != nil {
			return err
		}
	}
	return nil
}

func checkTest(t Test) error {
	switch t {
	case "", AnyOf, AllOf:
		return nil
	}
	return fmt.Errorf("test %q: %w", t, ErrUnsupportedFilter)
}

func checkText(t *TextMatch) error {
	return t.Check(contentline.UnicodeCasemap, contentline.ASCIICasemap, contentline.Octet)
}

// Match reports whether the card matches the filter. All conditions of one prop-filter are asked of
// one property of the card at a time. Text is compared with the decoded value (Line.Text). The
// error wraps ErrUnsupportedFilter or ErrUnsupportedCollation.
func (f *Filter) Match(c *Card) (bool, error) {
	if err := f.Check(); err != nil {
		return false, err
	}
	all := f.Test == AllOf
	for i := range f.Props {
		if f.Props[i].match(c) != all {
			return !all, nil
		}
	}
	return all || len(f.Props) == 0, nil
}

func (p *PropFilter) match(c *Card) bool {
	found, matched := false, false
	name := newPropName(p.Name)
	c.Each(func(l *contentline.Line) bool {
		if !name.is(l) {
			return true
		}
		found = true
		matched = !p.IsNotDefined && p.line(l)
		return !matched && !p.IsNotDefined
	})
	if p.IsNotDefined {
		return !found
	}
	return matched
}

// line asks the conditions of one property.
func (p *PropFilter) line(l *contentline.Line) bool {
	if len(p.Texts)+len(p.Params) == 0 {
		return true
	}
	all := p.Test == AllOf
	if len(p.Texts) > 0 {
		text := l.Text()
		for i := range p.Texts {
			if p.Texts[i].Match(text, contentline.UnicodeCasemap) != all {
				return !all
			}
		}
	}
	for i := range p.Params {
		if p.Params[i].match(l) != all {
			return !all
		}
	}
	return all
}

func (q *ParamFilter) match(l *contentline.Line) bool {
	params := l.Params()
	for {
		name, value, ok := params.Next()
		if !ok {
			return q.IsNotDefined
		}
		if !contentline.EqualFoldString(name, q.Name) {
			continue
		}
		if q.IsNotDefined {
			return false
		}
		if q.Text == nil || q.Text.Match(value, contentline.UnicodeCasemap) {
			return true
		}
	}
}

// propName is the name of a property in a query, with or without a group (RFC 6352, 10.5.1).
type propName struct {
	group, name []byte
}

func newPropName(s string) propName {
	if i := bytes.IndexByte([]byte(s), '.'); i >= 0 {
		return propName{[]byte(s[:i]), []byte(s[i+1:])}
	}
	return propName{nil, []byte(s)}
}

func (p *propName) is(l *contentline.Line) bool {
	return contentline.EqualFold(l.Name, p.name) && (p.group == nil || contentline.EqualFold(l.Group, p.group))
}
