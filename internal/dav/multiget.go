package dav

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"holdfast"
	"holdfast/internal/ledger"
)

// multiget gives the named resources, whatever the Depth (RFC 4791, 7.9; RFC 6352, 8.7). A name
// that leads nowhere gets a 404 of its own.
func multiget(q *request, body *node, _ string) error {
	want, err := reportSelection(q, body)
	if err != nil {
		return err
	}
	g := &getter{q: q, want: want, kind: holdfast.KindCalendar}
	if body.name.Space == nsCard {
		g.kind = holdfast.KindCard
	}
	seen := map[string]bool{} // once each: an answer must not grow by repetition
	for _, e := range body.elements() {
		if href := trimmed(e); e.name == davName("href") && !seen[href] {
			seen[href] = true
			g.hrefs = append(g.hrefs, href)
		}
	}
	m := q.multistatus()
	defer m.release()
	return m.pages(func(v *ledger.View) (bool, error) {
		t, err := reportTarget(v, q, body.name)
		if err != nil {
			return false, err
		}
		if t.place == placeResource {
			g.alone = t.segs
		}
		g.near = nil // found in another view
		for len(g.hrefs) > 0 {
			if err := g.next(m, v); err != nil {
				return false, err
			}
			if m.full() {
				return len(g.hrefs) > 0, nil
			}
		}
		return false, nil
	})
}

type getter struct {
	q     *request
	want  *selection
	kind  holdfast.Kind
	alone []string // if the report is about one resource, its segments
	hrefs []string
	near  *target // of the last resource found; most others lie beside it
}

// next answers the first reference left.
func (g *getter) next(m *multistatus, v *ledger.View) error {
	href := g.hrefs[0]
	g.hrefs = g.hrefs[1:]
	p, err := parseHref(href, g.q.path)
	if err != nil || !g.q.owns(p) {
		m.rawStatus(href, http.StatusNotFound)
		return nil
	}
	t, err := g.find(v, p)
	switch {
	case errors.Is(err, holdfast.ErrNotFound), err == nil && !g.serves(t):
		m.status(p.segs, p.slash, http.StatusNotFound, nil)
		return nil
	case err != nil:
		return err
	}
	return m.properties(&propContext{g.q, v, t}, g.want)
}

// serves reports whether the report is about a target: a resource of its kind, and no other than the one it
// was asked of (RFC 4791, 7.9; RFC 6352, 8.7).
func (g *getter) serves(t *target) bool {
	return t.place == placeResource && t.coll.Kind == g.kind && (g.alone == nil || slices.Equal(g.alone, t.segs))
}

// find resolves a path, by one question if it lies beside the one before.
func (g *getter) find(v *ledger.View, p path) (*target, error) {
	if n := len(p.segs) - 1; g.near != nil && n == len(g.near.segs)-1 && slices.Equal(p.segs[:n], g.near.segs[:n]) {
		r, err := v.Resource(g.near.coll.ID, p.segs[n])
		if err == nil {
			return &target{place: placeResource, segs: p.segs, coll: g.near.coll, res: r}, nil
		}
		if !errors.Is(err, holdfast.ErrNotFound) {
			return nil, fmt.Errorf("resource: %w", err)
		}
	}
	t, err := find(v, p)
	if err == nil && t.place == placeResource {
		g.near = t
	}
	return t, err
}
