package dav

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/contentline"
	"holdfast/internal/ledger"
)

// Bounds of one view of a query: how many bodies it reads, and for how long, before it is closed and
// another begins.
const (
	maxRead = 5000
	maxView = 2 * time.Second
)

// query asks the members of a collection, or of all collections of a kind in the home, for what they are.
type query struct {
	q     *request
	name  xml.Name // of the report
	kind  holdfast.Kind
	depth string
	want  *selection
	limit int // answers; 0: none

	// begin is told the collection, once in each view.
	begin func(coll *ledger.Collection)
	// skip says, by the thin row alone, that a member cannot match.
	skip func(r *ledger.Resource) bool
	// match asks the body.
	match func(body []byte) (bool, error)

	coll   holdfast.CollectionID // begun
	home   holdfast.Seq          // state of the home the query began with
	next   string                // in the home: collections before it are done
	after  string
	behind passed
	found  int
}

func (y *query) run() error {
	m := y.q.multistatus()
	defer m.release()
	return m.pages(func(v *ledger.View) (bool, error) { return y.page(m, v) })
}

func (y *query) page(m *multistatus, v *ledger.View) (more bool, err error) {
	t, err := reportTarget(v, y.q, y.name)
	switch {
	case err != nil:
		return false, err
	case t.coll.Kind != y.kind:
		return y.below(m, v, t)
	case y.coll != 0 && y.coll != t.coll.ID:
		return false, fmt.Errorf("collection went away during a query: %w", holdfast.ErrNotFound)
	}
	y.coll = t.coll.ID
	if t.place == placeResource {
		if y.begin != nil {
			y.begin(t.coll)
		}
		_, err := y.member(m, &propContext{y.q, v, t})
		return false, err
	}
	return y.members(m, v, t)
}

// below asks the collections of the kind that lie in the home. With Depth 0 none is asked (RFC 3253, 3.6).
func (y *query) below(m *multistatus, v *ledger.View, home *target) (more bool, err error) {
	if y.depth == "0" {
		return false, nil
	}
	h, err := v.LastChange(home.coll.ID)
	if err != nil {
		return false, fmt.Errorf("last change: %w", err)
	}
	if y.home == 0 {
		y.home = h.Seq
	}
	if y.home != h.Seq {
		// A collection that changed its name would be asked twice or never.
		return false, fmt.Errorf("collections changed during a query: %w", holdfast.ErrAbsent)
	}
	children, err := v.Children(home.coll.ID)
	if err != nil {
		return false, fmt.Errorf("children: %w", err)
	}
	for i := range children {
		if c := &children[i]; c.Kind == y.kind && c.Name >= y.next {
			if y.next != c.Name {
				y.next, y.after, y.behind = c.Name, "", nil
			}
			t := &target{place: placeCollection, segs: below(home.segs, c.Name), coll: c, parent: home.coll}
			if more, err := y.members(m, v, t); more || err != nil || y.enough() {
				return more, err
			}
			y.next, y.after, y.behind = c.Name+"\x00", "", nil
		}
	}
	return false, nil
}

func (y *query) enough() bool { return y.limit > 0 && y.found > y.limit }

// members asks the members of a collection until the view has to end.
//
// RFC 4791, 7.8 assumes Depth 0 where the header is missing, and strictly that is the collection alone, which
// holds no component. No client means that: an answer without members would tell it that all are gone. So
// the members are asked whatever the Depth, as other servers do.
func (y *query) members(m *multistatus, v *ledger.View, t *target) (more bool, err error) {
	if y.begin != nil {
		y.begin(t.coll)
	}
	member := &target{place: placeResource, segs: below(t.segs, ""), coll: t.coll}
	c := &propContext{y.q, v, member}
	begin := time.Now()
	for read := 0; ; {
		rs, err := v.Resources(t.coll.ID, y.after, listPage)
		if err != nil {
			return false, fmt.Errorf("members: %w", err)
		}
		for i := range rs {
			member.res, member.segs[len(member.segs)-1] = &rs[i], rs[i].Name
			n, err := y.member(m, c)
			if err != nil {
				return false, err
			}
			if y.enough() {
				m.truncated(y.q.path.segs)
				return false, nil
			}
			read += n
			if y.after = rs[i].Name; m.full() || read >= maxRead || time.Since(begin) > maxView {
				y.behind.add(y.after, v)
				return true, nil
			}
		}
		if len(rs) < listPage {
			break
		}
	}
	return false, y.behind.changed(v, t.coll.ID, func(r *ledger.Resource) error {
		if y.limit > 0 {
			return nil // an answer with a limit is a choice anyhow
		}
		member.res, member.segs[len(member.segs)-1] = r, r.Name
		_, err := y.member(m, c)
		return err
	})
}

// truncated says that there is more than the client wanted (RFC 6352, 8.6.1; RFC 6578, 3.6).
func (m *multistatus) truncated(segs []string) {
	m.status(segs, true, http.StatusInsufficientStorage, &fault{condition: davName("number-of-matches-within-limits")})
}

// member answers for one member if it matches, and returns how many bodies it read.
func (y *query) member(m *multistatus, c *propContext) (read int, err error) {
	if y.skip != nil && y.skip(c.t.res) {
		return 0, nil
	}
	b, err := m.shown(c.v, c.t.res)
	if err != nil {
		return 1, err
	}
	ok, err := y.match(b)
	if err != nil && !errors.Is(err, holdfast.ErrInvalid) || !ok {
		return 1, err
	}
	if y.found++; y.limit > 0 && y.found > y.limit {
		return 1, nil // only to know that there is one more
	}
	return 1, m.properties(c, y.want)
}

// textMatch reads a text-match element (RFC 4791, 9.7.5; RFC 6352, 10.5.4).
func textMatch(n *node) contentline.TextMatch {
	t := contentline.TextMatch{Text: n.content()}
	if c, ok := n.attr("collation"); ok {
		t.Collation = contentline.Collation(strings.ToLower(c))
	}
	if m, ok := n.attr("match-type"); ok {
		t.Type = contentline.MatchType(strings.ToLower(m))
	}
	v, _ := n.attr("negate-condition")
	t.Negate = v == "yes"
	return t
}

// unsupported turns what a filter cannot do into the condition of its protocol, "supported-filter" or
// "supported-collation" (RFC 4791, 7.8; RFC 6352, 8.6).
func unsupported(space string, err error) error {
	switch {
	case errors.Is(err, contentline.ErrUnsupportedCollation):
		return refuse(http.StatusForbidden, xml.Name{Space: space, Local: "supported-collation"}, "collation not supported")
	case errors.Is(err, contentline.ErrUnsupportedFilter):
		return refuse(http.StatusForbidden, xml.Name{Space: space, Local: "supported-filter"}, "filter not supported")
	}
	return err
}

// badFilter refuses an element that is not what the RFC's grammar says.
func badFilter(space, detail string) error {
	return refuse(http.StatusForbidden, xml.Name{Space: space, Local: "valid-filter"}, detail)
}

// results reads the nresults of a limit element; 0 if there is none.
func results(limit *node, name xml.Name) (int, error) {
	n := limit.child(name)
	if n == nil {
		return 0, nil
	}
	k, err := strconv.Atoi(trimmed(n))
	if err != nil || k < 1 {
		return 0, badRequest("nresults is no number above 0")
	}
	return k, nil
}
