package dav

import (
	"encoding/xml"
	"errors"
	"net/http"

	"holdfast"
	"holdfast/internal/ledger"
)

// Bounds of an expand-property: how deep its properties nest, and how many responses it has in all. A
// property may hold any number of references, also to where it stands itself.
const (
	maxExpandDepth = 8
	maxExpanded    = 1000
)

// expandProperty gives properties, and in place of the references in them the properties of what they
// refer to (RFC 3253, 3.8).
func expandProperty(q *request, body *node, depth string) error {
	props, err := parseExpand(body, 0)
	if err != nil {
		return err
	}
	if depth != "0" {
		return badRequest("use Depth 0")
	}
	m := q.multistatus()
	defer m.release()
	return m.pages(func(v *ledger.View) (bool, error) {
		t, err := reportTarget(v, q, body.name)
		if err != nil {
			return false, err
		}
		e := &propExpander{m: m}
		return false, e.response(&propContext{q, v, t}, props)
	})
}

// expandedProp is DAV:property: a name, and what is wanted of what it refers to.
type expandedProp struct {
	wanted
	of []expandedProp
}

func parseExpand(n *node, depth int) ([]expandedProp, error) {
	var out []expandedProp
	for _, e := range n.elements() {
		if e.name != davName("property") {
			continue
		}
		name := xml.Name{Space: nsDAV}
		name.Local, _ = e.attr("name")
		if space, ok := e.attr("namespace"); ok {
			name.Space = space
		}
		if !isName(name.Local) || depth == maxExpandDepth {
			return nil, badRequest("a property without a name, or nested more than %d deep", maxExpandDepth)
		}
		p := expandedProp{wanted: wanted{name: name, live: liveByName[name]}}
		p.open, p.end = tags(name)
		var err error
		if p.of, err = parseExpand(e, depth+1); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// isName reports whether s can be the local name of an element in an answer.
func isName(s string) bool {
	n, err := parseXML([]byte("<" + s + "/>"))
	return err == nil && n.name.Local == s && n.name.Space == "" && len(n.attrs) == 0
}

// propExpander writes the responses of one expand-property.
type propExpander struct {
	m     *multistatus
	count int
}

func (e *propExpander) response(c *propContext, props []expandedProp) error {
	if e.count++; e.count > maxExpanded || e.m.full() {
		return refuse(http.StatusForbidden, davName("number-of-matches-within-limits"), "too many references to expand")
	}
	m := e.m
	m.buf = append(m.buf, "<D:response>"...)
	m.buf = appendHref(m.buf, c.t.segs, c.t.collection())
	m.buf = append(m.buf, openFound...)
	var missing []*expandedProp
	for i := range props {
		p := &props[i]
		mark := len(m.buf)
		ok, err := m.property(c, &p.wanted)
		if err != nil {
			return err
		}
		if !ok {
			missing = append(missing, p)
		} else if len(p.of) > 0 {
			if err := e.expand(c, p, mark); err != nil {
				return err
			}
		}
	}
	m.buf = append(m.buf, closeFound...)
	if len(missing) > 0 && !c.q.minimal() {
		m.buf = append(m.buf, openFound...)
		for _, p := range missing {
			m.buf = append(append(m.buf, p.open...), "/>"...)
		}
		m.buf = append(m.buf, closeNone...)
	}
	m.buf = append(m.buf, "</D:response>\n"...)
	return nil
}

// expand replaces the references in the property that was written from mark on.
func (e *propExpander) expand(c *propContext, p *expandedProp, mark int) error {
	m := e.m
	written := fragment(string(m.buf[mark:]))
	if len(written) != 1 {
		return nil
	}
	refers := false
	for i := range written[0].kids {
		refers = refers || written[0].kids[i].name == davName("href")
	}
	if !refers {
		return nil
	}
	m.buf = append(append(m.buf[:mark], p.open...), '>')
	for _, k := range written[0].elements() {
		if k.name != davName("href") {
			m.buf = appendNodes(m.buf, []node{*k}, "")
			continue
		}
		if err := e.reference(c, trimmed(k), p.of); err != nil {
			return err
		}
	}
	m.buf = append(m.buf, p.end...)
	return nil
}

// reference writes the response for one reference. What the principal may not see is not there (404).
func (e *propExpander) reference(c *propContext, href string, props []expandedProp) error {
	p, err := parseHref(href, c.q.path)
	if err != nil || !c.q.owns(p) {
		e.count++
		e.m.rawStatus(href, http.StatusNotFound)
		return nil
	}
	t, err := find(c.v, p)
	if errors.Is(err, holdfast.ErrNotFound) {
		e.count++
		e.m.status(p.segs, p.slash, http.StatusNotFound, nil)
		return nil
	}
	if err != nil {
		return err
	}
	return e.response(&propContext{c.q, c.v, t}, props)
}
