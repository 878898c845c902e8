package dav

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"

	"holdfast"
	"holdfast/internal/ledger"
)

// listPage is how many members one question to the ledger brings.
const listPage = 1000

// propfind lists properties of a target and, with Depth 1, of its members (RFC 4918, 9.1).
func propfind(q *request) error {
	body, err := q.xmlBody(maxXML)
	if err != nil {
		return err
	}
	want, err := parsePropfind(body)
	if err != nil {
		return err
	}
	want.minimal = q.minimal()
	depth, err := q.depth("infinity")
	if err != nil {
		return err
	}
	l := &listing{m: q.multistatus(), want: want, depth: depth}
	defer l.m.release()
	return l.m.pages(l.page)
}

// listing is a PROPFIND on its way through the views.
type listing struct {
	m            *multistatus
	want         *selection
	depth        string
	coll         holdfast.CollectionID // being listed; 0 before the first view
	nextChild    string                // to be told first in the next view
	childrenDone bool
	after        string
	behind       passed
}

func (l *listing) page(v *ledger.View) (more bool, err error) {
	q := l.m.req
	t, err := q.findListed(v)
	if err != nil {
		return false, err
	}
	if l.coll == 0 {
		if l.depth == "infinity" && t.collection() {
			// RFC 4918, 9.1: a server may refuse a Depth of infinity.
			return false, refuse(http.StatusForbidden, davName("propfind-finite-depth"), "use Depth 0 or 1")
		}
		if t.collection() && !q.path.slash {
			q.w.Header().Set("Content-Location", string(q.path.append(nil, t.segs, true)))
		}
		if l.depth == "1" && t.collection() && q.prefers("depth-noroot") {
			q.applied("depth-noroot") // RFC 8144, 4
		} else if err := l.m.properties(&propContext{q, v, t}, l.want); err != nil {
			return false, err
		}
		if l.depth == "0" || !t.collection() {
			return false, nil
		}
		if t.isVirtual() {
			return false, l.virtual(v, t)
		}
		l.coll = t.coll.ID
	} else if t.place != placeCollection || t.coll.ID != l.coll {
		return false, fmt.Errorf("collection went away while it was listed: %w", holdfast.ErrNotFound)
	}
	if !l.childrenDone {
		if more, err := l.children(v, t); more || err != nil {
			return more, err
		}
	}
	return l.members(v, t)
}

// virtual lists what the server makes up below its root: the one principal, and the home.
func (l *listing) virtual(v *ledger.View, t *target) error {
	var below []path
	switch t.place {
	case placeRoot:
		below = []path{{segs: []string{principals}}, {segs: []string{l.m.req.who.Name}}}
	case placePrincipals:
		below = []path{{segs: []string{principals, l.m.req.who.Name}}}
	}
	for _, p := range below {
		t, err := find(v, p)
		if err != nil {
			return err
		}
		if err := l.m.properties(&propContext{l.m.req, v, t}, l.want); err != nil {
			return err
		}
	}
	return nil
}

// children lists collections until the buffer is full or there are no more.
func (l *listing) children(v *ledger.View, t *target) (more bool, err error) {
	children, err := v.Children(t.coll.ID)
	if err != nil {
		return false, fmt.Errorf("children: %w", err)
	}
	for i := range children {
		if l.nextChild != "" && children[i].Name < l.nextChild || !l.m.req.path.shows(children[i].Kind) {
			continue
		}
		if l.m.full() {
			l.nextChild = children[i].Name
			return true, nil
		}
		c := &target{place: placeCollection, segs: below(t.segs, children[i].Name), coll: &children[i], parent: t.coll}
		if err := l.m.properties(&propContext{l.m.req, v, c}, l.want); err != nil {
			return false, err
		}
	}
	l.childrenDone = true
	return false, nil
}

// members lists resources until the buffer is full or there are no more.
func (l *listing) members(v *ledger.View, t *target) (more bool, err error) {
	member := &target{place: placeResource, segs: below(t.segs, ""), coll: t.coll}
	c := &propContext{l.m.req, v, member}
	write := func(r *ledger.Resource) error {
		member.res, member.segs[len(member.segs)-1] = r, r.Name
		return l.m.properties(c, l.want)
	}
	for {
		rs, err := v.Resources(t.coll.ID, l.after, listPage)
		if err != nil {
			return false, fmt.Errorf("members: %w", err)
		}
		for i := range rs {
			if err := write(&rs[i]); err != nil {
				return false, err
			}
			if l.after = rs[i].Name; l.m.full() {
				l.behind.add(l.after, v)
				return true, nil
			}
		}
		if len(rs) < listPage {
			return false, l.behind.changed(v, t.coll.ID, write)
		}
	}
}

// selection says which properties an answer has.
type selection struct {
	names   bool     // DAV:propname
	all     bool     // DAV:allprop
	wanted  []wanted // named ones, or those of DAV:include
	minimal bool     // leave out the missing
}

// wanted is one property of a selection, prepared for writing.
type wanted struct {
	name      xml.Name
	open, end string
	live      *live
	data      dataWriter // the body of a resource, in a report
}

// dataWriter turns the body of a resource into what a report asked for.
type dataWriter func(c *propContext, body []byte) ([]byte, error)

func parsePropfind(body *node) (*selection, error) {
	if body == nil {
		return &selection{all: true}, nil
	}
	if !body.is(davName("propfind")) {
		return nil, badRequest("propfind expected")
	}
	s, err := parseSelection(body)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, badRequest("propfind without prop, allprop or propname")
	}
	return s, nil
}

// parseSelection reads prop, allprop or propname from the element that holds it; nil if none does.
func parseSelection(n *node) (*selection, error) {
	var s *selection
	for _, e := range n.elements() {
		switch e.name {
		case davName("prop"), davName("allprop"), davName("propname"):
			if s != nil {
				return nil, badRequest("more than one of prop, allprop and propname")
			}
			s = &selection{all: e.name.Local == "allprop", names: e.name.Local == "propname"}
			if e.name.Local == "prop" {
				s.add(e)
			}
		case davName("include"):
			if s == nil || !s.all {
				return nil, badRequest("include without allprop")
			}
			s.add(e)
		}
	}
	return s, nil
}

func (s *selection) add(prop *node) {
	seen := make(map[xml.Name]bool, len(s.wanted))
	for _, w := range s.wanted {
		seen[w.name] = true
	}
	for _, e := range prop.elements() {
		l := liveByName[e.name]
		if seen[e.name] || s.all && l != nil && l.all {
			continue
		}
		seen[e.name] = true
		open, end := tags(e.name)
		s.wanted = append(s.wanted, wanted{name: e.name, open: open, end: end, live: l})
	}
}

const (
	openFound  = "<D:propstat><D:prop>"
	closeFound = "</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>"
	closeNone  = "</D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat>"
)

// properties appends the response for one target. What it has not goes into a 404 propstat.
func (m *multistatus) properties(c *propContext, s *selection) error {
	m.buf = append(m.buf, "<D:response>"...)
	m.href(c.t.segs, c.t.collection())
	m.buf = append(m.buf, openFound...)
	if s.all || s.names {
		if err := m.everything(c, s); err != nil {
			return err
		}
	}
	found := len(m.buf)
	var missing []*wanted
	var refused []refusedProp
	for i := range s.wanted {
		w := &s.wanted[i]
		ok, err := m.property(c, w)
		var f *fault
		switch {
		case w.data != nil && errors.As(err, &f):
			refused = append(refused, refusedProp{w, f})
		case err != nil:
			return err
		case !ok:
			missing = append(missing, w)
		}
	}
	switch {
	case s.minimal || len(missing) == 0:
		missing = nil
		m.buf = append(m.buf, closeFound...)
	case len(m.buf) > found || s.all || s.names:
		m.buf = append(append(m.buf, closeFound...), openFound...)
	}
	if len(missing) > 0 {
		for _, w := range missing {
			m.buf = append(append(m.buf, w.open...), "/>"...)
		}
		m.buf = append(m.buf, closeNone...)
	}
	for _, r := range refused {
		m.buf = append(append(append(m.buf, openFound...), r.open...), "/></D:prop>"...)
		m.buf = appendError(appendStatus(m.buf, r.fault.status), r.fault, false)
		m.buf = append(m.buf, "</D:propstat>"...)
	}
	m.buf = append(m.buf, "</D:response>\n"...)
	return nil
}

// refusedProp is a property that the target has but that cannot be given as it was asked for.
type refusedProp struct {
	*wanted
	fault *fault
}

// property appends one property with its value; false: there is none, and nothing was appended.
func (m *multistatus) property(c *propContext, w *wanted) (ok bool, err error) {
	mark := len(m.buf)
	if w.data == nil && (w.live == nil || w.live.stored) {
		if v, ok := deadValue(c.dead(), w.name); ok && w.name.Space != nsOwn {
			m.buf = appendDead(m.buf, w.open, w.end, v)
			return true, nil
		} else if w.live == nil {
			return false, nil
		}
	}
	m.buf = append(append(m.buf, w.open...), '>')
	switch {
	case w.data != nil:
		ok, err = m.body(c, w)
	default:
		m.buf, ok, err = w.live.write(c, m.buf)
	}
	if err != nil || !ok {
		m.buf = m.buf[:mark]
		return false, err
	}
	m.buf = append(m.buf, w.end...)
	return true, nil
}

// body appends the body of a resource as a report wants it.
func (m *multistatus) body(c *propContext, w *wanted) (bool, error) {
	if c.t.place != placeResource {
		return false, nil
	}
	b, err := m.shown(c.v, c.t.res)
	if err != nil {
		return false, err
	}
	if b, err = w.data(c, b); err != nil {
		if errors.Is(err, holdfast.ErrInvalid) {
			return false, nil // what cannot be taken apart has no part to give; GET has it whole
		}
		return false, err
	}
	m.buf = appendText(m.buf, b)
	return true, nil
}

// everything appends all properties of allprop or propname, the latter without values.
func (m *multistatus) everything(c *propContext, s *selection) error {
	for i := range liveProps {
		l := &liveProps[i]
		if !l.all && !s.names || l.stored && l.all && has(c.dead(), l.name) {
			continue // those that are stored follow below
		}
		open, end := tags(l.name)
		mark := len(m.buf)
		m.buf = append(append(m.buf, open...), '>')
		value := len(m.buf)
		var ok bool
		var err error
		if m.buf, ok, err = l.write(c, m.buf); err != nil {
			return err
		}
		switch {
		case !ok:
			m.buf = m.buf[:mark]
		case s.names:
			m.buf = append(m.buf[:value-1], "/>"...)
		default:
			m.buf = append(m.buf, end...)
		}
	}
	for _, p := range c.dead() {
		n := unclark(p.Name)
		if l := liveByName[n]; l != nil && (!l.stored || !l.all) || n.Space == nsOwn {
			continue
		}
		open, end := tags(n)
		if s.names {
			m.buf = append(append(m.buf, open...), "/>"...)
			continue
		}
		m.buf = appendDead(m.buf, open, end, p.Value)
	}
	return nil
}
