package dav

import (
	"net/http"
	"strings"

	"holdfast/internal/ledger"
)

// The reports of RFC 3744, 9. A principal sees itself and nobody else: an account must not learn the names
// of others (docs/threat-model.md).

// searchable are the properties that principal-property-search compares (RFC 3744, 9.5).
var searchable = []struct {
	wanted
	description string
}{
	{wanted{name: davName("displayname")}, "Name"},
	{wanted{name: calName("calendar-user-address-set")}, "Calendar address"},
}

func init() {
	for i := range searchable {
		w := &searchable[i].wanted
		w.live = liveByName[w.name]
		w.open, w.end = tags(w.name)
	}
}

// principalReport begins a report that is asked with Depth 0 and wants properties of principals. optional:
// without prop each principal is only named.
func principalReport(q *request, body *node, depth string, optional bool) (*selection, error) {
	if depth != "0" {
		return nil, badRequest("use Depth 0") // RFC 3744, 9.2-9.5
	}
	s, err := parseSelection(body)
	if err != nil {
		return nil, err
	}
	if s == nil {
		if !optional {
			return nil, badRequest("prop expected")
		}
		s = &selection{}
	}
	s.minimal = q.minimal()
	return s, nil
}

// principalSearch finds principals by their properties (RFC 3744, 9.4).
func principalSearch(q *request, body *node, depth string) error {
	want, err := principalReport(q, body, depth, true)
	if err != nil {
		return err
	}
	var terms []searchTerm
	for _, e := range body.elements() {
		if e.name != davName("property-search") {
			continue
		}
		term := searchTerm{match: e.child(davName("match")).content()}
		term.kind, _ = e.child(davName("match")).attrOr("match-type", "contains")
		term.props = e.child(davName("prop")).elements()
		if e.child(davName("match")) == nil || len(term.props) == 0 {
			return badRequest("property-search without prop or match")
		}
		terms = append(terms, term)
	}
	beside := namedBeside(body)
	if len(terms) == 0 && beside == nil {
		return badRequest("property-search expected")
	}
	if beside != nil {
		want.add(beside)
	}
	test, _ := body.attrOr("test", "allof")
	m := q.multistatus()
	defer m.release()
	return m.pages(func(v *ledger.View) (bool, error) {
		t, err := reportTarget(v, q, body.name)
		if err != nil {
			return false, err
		}
		if t.place == placePrincipal || t.place == placePrincipals || t.place == placeRoot || body.child(davName("apply-to-principal-collection-set")) != nil {
			c := q.self(v)
			if ok, err := matchesAll(m, c, terms, test == "anyof"); err != nil || !ok {
				return false, err
			}
			return false, m.properties(c, want)
		}
		return false, nil
	})
}

// namedBeside returns the properties that python-caldav 3.6.0 names beside an empty prop instead of in it,
// and without property-search if it wants every principal; nil if there are none.
func namedBeside(body *node) *node {
	if prop := body.child(davName("prop")); prop == nil || len(prop.kids) > 0 {
		return nil
	}
	var beside *node
	for _, e := range body.elements() {
		if l := liveByName[e.name]; l != nil {
			if beside == nil {
				beside = &node{}
			}
			beside.kids = append(beside.kids, *e)
		}
	}
	return beside
}

// self is the one principal there is for who asks.
func (q *request) self(v *ledger.View) *propContext {
	return &propContext{q, v, &target{place: placePrincipal, segs: []string{principals, q.who.Name}}}
}

// searchTerm is DAV:property-search: a text that each of some properties holds.
type searchTerm struct {
	match string
	kind  string // contains, or as calendarserver.org adds: equals, starts-with, ends-with
	props []*node
}

func matchesAll(m *multistatus, c *propContext, terms []searchTerm, anyOf bool) (bool, error) {
	for i := range terms {
		ok, err := terms[i].matches(m, c)
		if err != nil {
			return false, err
		}
		if ok == anyOf {
			return anyOf, nil
		}
	}
	return !anyOf, nil
}

// matches compares the text of properties without case (RFC 3744, 9.4). One that cannot be searched for
// matches nothing.
func (s *searchTerm) matches(m *multistatus, c *propContext) (bool, error) {
	for _, p := range s.props {
		found := false
		for i := range searchable {
			w := &searchable[i].wanted
			if w.name != p.name {
				continue
			}
			mark := len(m.buf)
			ok, err := m.property(c, w)
			if err != nil {
				return false, err
			}
			for _, text := range texts(fragment(string(m.buf[mark:]))) {
				found = found || ok && s.holds(strings.ToLower(text), strings.ToLower(s.match))
			}
			m.buf = m.buf[:mark]
		}
		if !found {
			return false, nil
		}
	}
	return true, nil
}

func (s *searchTerm) holds(text, match string) bool {
	switch s.kind {
	case "equals":
		return text == match || strings.TrimPrefix(text, "mailto:") == match
	case "starts-with":
		return strings.HasPrefix(text, match) || strings.HasPrefix(strings.TrimPrefix(text, "mailto:"), match)
	case "ends-with":
		return strings.HasSuffix(text, match)
	}
	return strings.Contains(text, match)
}

// texts returns all pieces of text in some nodes.
func texts(nodes []node) []string {
	var out []string
	for i := range nodes {
		if nodes[i].name.Local == "" {
			out = append(out, nodes[i].text)
		}
		out = append(out, texts(nodes[i].kids)...)
	}
	return out
}

// principalSearchProps says what principalSearch can compare (RFC 3744, 9.5).
func principalSearchProps(q *request, body *node, depth string) error {
	if depth != "0" {
		return badRequest("use Depth 0")
	}
	err := q.view(func(v *ledger.View) error {
		_, err := reportTarget(v, q, body.name)
		return err
	})
	if err != nil {
		return err
	}
	m := q.answer(davName("principal-search-property-set"))
	defer m.release()
	for i := range searchable {
		m.buf = append(m.buf, "<D:principal-search-property><D:prop>"...)
		m.buf = appendEmpty(m.buf, searchable[i].name)
		m.buf = append(m.buf, `</D:prop><D:description xml:lang="en">`...)
		m.buf = append(append(m.buf, searchable[i].description...), "</D:description></D:principal-search-property>"...)
	}
	return m.end(http.StatusOK)
}

// principalMatch finds the principals below the target that are who asks, or what belongs to it: everything
// does, so that is refused as too much (RFC 3744, 9.3).
func principalMatch(q *request, body *node, depth string) error {
	want, err := principalReport(q, body, depth, true)
	if err != nil {
		return err
	}
	self := body.child(davName("self")) != nil
	if self == (body.child(davName("principal-property")) != nil) {
		return badRequest("self or principal-property expected")
	}
	m := q.multistatus()
	defer m.release()
	return m.pages(func(v *ledger.View) (bool, error) {
		t, err := reportTarget(v, q, body.name)
		switch {
		case err != nil:
			return false, err
		case !self && !t.isVirtual():
			return false, refuse(http.StatusForbidden, davName("number-of-matches-within-limits"), "everything here belongs to you")
		case t.isVirtual():
			return false, m.properties(q.self(v), want)
		}
		return false, nil
	})
}

// aclPrincipals gives properties of the principals in the ACL of the target: its owner's (RFC 3744, 9.2).
func aclPrincipals(q *request, body *node, depth string) error {
	want, err := principalReport(q, body, depth, false)
	if err != nil {
		return err
	}
	m := q.multistatus()
	defer m.release()
	return m.pages(func(v *ledger.View) (bool, error) {
		if _, err := reportTarget(v, q, body.name); err != nil {
			return false, err
		}
		return false, m.properties(q.self(v), want)
	})
}
