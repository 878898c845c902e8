package dav

import (
	"fmt"
	"net/http"

	"holdfast"
	"holdfast/internal/vcard"
)

// addressbookQuery finds cards by a filter (RFC 6352, 8.6).
func addressbookQuery(q *request, body *node, depth string) error {
	want, err := reportSelection(q, body)
	if err != nil {
		return err
	}
	f, err := parseCardFilter(body)
	if err != nil {
		return err
	}
	y := &query{q: q, name: body.name, kind: holdfast.KindCard, depth: depth, want: want}
	if y.limit, err = results(body.child(cardName("limit")), cardName("nresults")); err != nil {
		return err
	}
	y.match = func(body []byte) (bool, error) {
		c, err := vcard.Parse(body)
		if err != nil {
			return false, err
		}
		ok, err := f.Match(c)
		return ok, unsupported(nsCard, err)
	}
	return y.run()
}

// parseCardFilter reads CARDDAV:filter. None at all is every card.
func parseCardFilter(body *node) (*vcard.Filter, error) {
	n := body.child(cardName("filter"))
	f := &vcard.Filter{}
	if n == nil {
		return f, nil
	}
	test, _ := n.attr("test")
	f.Test = vcard.Test(test)
	for _, e := range n.elements() {
		if e.name != cardName("prop-filter") {
			return nil, badCardElement(e)
		}
		p, err := cardPropFilter(e)
		if err != nil {
			return nil, err
		}
		f.Props = append(f.Props, p)
	}
	return f, unsupported(nsCard, f.Check())
}

func badCardElement(e *node) error {
	return unsupported(nsCard, fmt.Errorf("element %s: %w", e.name.Local, vcard.ErrUnsupportedFilter))
}

// cardPropFilter reads CARDDAV:prop-filter (RFC 6352, 10.5.1).
func cardPropFilter(n *node) (vcard.PropFilter, error) {
	var f vcard.PropFilter
	f.Name, _ = n.attr("name")
	test, _ := n.attr("test")
	f.Test = vcard.Test(test)
	if f.Name == "" {
		return f, badFilter(nsCard, "prop-filter without a name")
	}
	for _, e := range n.elements() {
		switch e.name {
		case cardName("is-not-defined"):
			f.IsNotDefined = true
		case cardName("text-match"):
			f.Texts = append(f.Texts, textMatch(e))
		case cardName("param-filter"):
			p := vcard.ParamFilter{IsNotDefined: e.child(cardName("is-not-defined")) != nil}
			p.Name, _ = e.attr("name")
			if m := e.child(cardName("text-match")); m != nil {
				t := textMatch(m)
				p.Text = &t
			}
			f.Params = append(f.Params, p)
		default:
			return f, badCardElement(e)
		}
	}
	return f, nil
}

// addressData reads CARDDAV:address-data in a report (RFC 6352, 10.4). A card is given in the
// version it was received in, whatever version is asked for: both are announced.
func addressData(n *node) (dataWriter, error) {
	if err := checkData(n, "text/vcard", "3.0", "4.0"); err != nil {
		return nil, refuse(http.StatusForbidden, cardName("supported-address-data"), "only text/vcard 3.0 and 4.0")
	}
	var props []vcard.Prop
	for _, e := range n.elements() {
		if e.name != cardName("prop") {
			continue
		}
		p := vcard.Prop{}
		p.Name, _ = e.attr("name")
		v, _ := e.attr("novalue")
		if p.NoValue = v == "yes"; p.Name != "" {
			props = append(props, p)
		}
	}
	if len(props) == 0 {
		return func(_ *propContext, b []byte) ([]byte, error) { return b, nil }, nil
	}
	return func(_ *propContext, b []byte) ([]byte, error) {
		c, err := vcard.Parse(b)
		if err != nil {
			return nil, fmt.Errorf("part of a card: %w: %w", holdfast.ErrInvalid, err)
		}
		return c.Select(props), nil
	}, nil
}
