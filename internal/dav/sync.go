package dav

import (
	"fmt"
	"net/http"

	"holdfast"
	"holdfast/internal/ledger"
)

// Bounds of one sync answer. Beyond, it ends with 507 and a token to go on from (RFC 6578, 3.6).
const (
	syncPage    = 1000   // members of one question to the ledger
	firstPage   = 20_000 // of the first, from nothing: one listing costs less than following changes
	maxSyncSize = 24 << 20
)

// syncCollection tells what changed in a collection since a token (RFC 6578, 3). Everything it says
// is one state of the account, and the token is that state's.
func syncCollection(q *request, body *node, depth string) error {
	s, err := parseSync(q, body, depth)
	if err != nil {
		return err
	}
	m := q.multistatus()
	defer m.release()
	return m.pages(func(v *ledger.View) (bool, error) { return false, s.run(m, v) })
}

type syncRequest struct {
	q     *request
	token string
	limit int // 0: none
	want  *selection
}

func parseSync(q *request, body *node, depth string) (*syncRequest, error) {
	s := &syncRequest{q: q, token: trimmed(body.child(davName("sync-token")))}
	level := trimmed(body.child(davName("sync-level")))
	if level == "infinite" || level == "infinity" || level == "" && depth == "infinity" {
		return nil, refuse(http.StatusForbidden, davName("sync-traversal-supported"), "use sync-level 1") // RFC 6578, 3.3
	}
	if level != "" && level != "1" {
		return nil, badRequest("sync-level is not 1")
	}
	var err error
	if s.limit, err = results(body.child(davName("limit")), davName("nresults")); err != nil { // RFC 6578, 3.7
		return nil, err
	}
	s.want, err = reportSelection(q, body)
	return s, err
}

func (s *syncRequest) run(m *multistatus, v *ledger.View) error {
	t, err := reportTarget(v, s.q, davName("sync-collection"))
	if err != nil {
		return err
	}
	since := holdfast.Seq(0)
	if s.token != "" {
		if since, err = v.ParseSyncToken(s.token); err != nil {
			return fmt.Errorf("sync token: %w", err)
		}
		if since < placed(t.coll) {
			// The token is of another collection that was at this path: nobody can say what of it is gone.
			return fmt.Errorf("token older than the collection: %w", holdfast.ErrToken)
		}
	}
	if err := s.children(m, v, t, since); err != nil {
		return err
	}
	reached, err := s.members(m, v, t, since)
	if err != nil {
		return err
	}
	if reached.Seq < v.Head().Head.Seq {
		m.truncated(t.segs)
		m.element(davName("sync-token"), v.SyncToken(reached))
		return nil
	}
	return s.last(m, v, t, since)
}

// last appends the token of a complete answer: that of the collection's own last change, which is
// the one PROPFIND shows and stays while nothing changes here. A token never goes back.
func (s *syncRequest) last(m *multistatus, v *ledger.View, t *target, since holdfast.Seq) error {
	token := s.token
	h, err := v.LastChange(t.coll.ID)
	if err != nil {
		return fmt.Errorf("last change: %w", err)
	}
	if token == "" || h.Seq > since {
		token = v.SyncToken(h)
	}
	m.element(davName("sync-token"), token)
	return nil
}

// members appends what changed, in order of seq, and returns the head reached.
func (s *syncRequest) members(m *multistatus, v *ledger.View, t *target, since holdfast.Seq) (holdfast.Head, error) {
	member := &target{place: placeResource, segs: below(t.segs, ""), coll: t.coll}
	c := &propContext{s.q, v, member}
	for left := s.limit; ; {
		page := syncPage
		if since == 0 {
			page = firstPage
		}
		if s.limit > 0 {
			page = min(page, left)
		}
		deltas, reached, err := v.Changed(t.coll.ID, since, page)
		if err != nil {
			return reached, fmt.Errorf("changed members: %w", err)
		}
		for i := range deltas {
			member.segs[len(member.segs)-1] = deltas[i].Name
			if deltas[i].Deleted {
				m.status(member.segs, false, http.StatusNotFound, nil) // RFC 6578, 3.5.2
				continue
			}
			member.res = &deltas[i].Resource
			if err := m.properties(c, s.want); err != nil {
				return reached, err
			}
		}
		left -= len(deltas)
		switch {
		case reached.Seq >= v.Head().Head.Seq, s.limit > 0 && left <= 0, len(m.buf) > maxSyncSize:
			return reached, nil
		case reached.Seq <= since:
			return reached, fmt.Errorf("sync made no progress at %s: %w", since, holdfast.ErrCorrupt)
		}
		since = reached.Seq
	}
}

// children appends the collections directly below that are new or changed since (RFC 6578, 3.5.1).
func (s *syncRequest) children(m *multistatus, v *ledger.View, t *target, since holdfast.Seq) error {
	if t.coll.Kind != holdfast.KindFile {
		return nil
	}
	children, err := v.Children(t.coll.ID)
	if err != nil {
		return fmt.Errorf("children: %w", err)
	}
	for i := range children {
		if children[i].Seq <= since {
			continue
		}
		c := &target{place: placeCollection, segs: below(t.segs, children[i].Name), coll: &children[i], parent: t.coll}
		if err := m.properties(&propContext{s.q, v, c}, s.want); err != nil {
			return err
		}
	}
	return nil
}
