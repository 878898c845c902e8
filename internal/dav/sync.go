package dav

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

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
		if since, err = parseToken(v, t.coll, s.token); err != nil {
			return fmt.Errorf("sync token: %w", err)
		}
	}
	f := &folders{}
	if t.coll.Kind == holdfast.KindFile {
		if f.present, f.removed, err = v.ChangedCollections(t.coll.ID, since); err != nil {
			return fmt.Errorf("changed collections: %w", err)
		}
	}
	f.writeRemoved(m, t)
	reached, err := s.members(m, v, t, since, f)
	if err != nil {
		return err
	}
	if err := s.writePresent(m, v, t, f, reached.Seq); err != nil {
		return err
	}
	if reached.Seq < v.Head().Head.Seq {
		m.truncated(t.segs)
		m.element(davName("sync-token"), tokenOf(v, t.coll, reached))
		return nil
	}
	return s.last(m, v, t, since)
}

// tokenOf returns the sync token of a collection: the ledger's, which proves what a device was told,
// and the collection, for two of one account must not be mistaken for each other (RFC 6578, 3.2).
func tokenOf(v *ledger.View, coll *ledger.Collection, h holdfast.Head) string {
	return v.SyncToken(h) + tokenCollection + strconv.FormatUint(uint64(coll.ID), 16)
}

const tokenCollection = "?collection="

// parseToken returns the seq a token of coll stands for. What the token proves comes first: one that
// is ahead of the head is ErrFenced whatever collection it names.
func parseToken(v *ledger.View, coll *ledger.Collection, token string) (holdfast.Seq, error) {
	witness, id, _ := strings.Cut(token, tokenCollection)
	since, err := v.ParseSyncToken(witness)
	switch {
	case err != nil:
		return 0, err
	case id != strconv.FormatUint(uint64(coll.ID), 16):
		return 0, fmt.Errorf("token of another collection: %w", holdfast.ErrToken)
	case since < placed(coll):
		// From where the collection was before: the paths that are gone from there were never told.
		return 0, fmt.Errorf("token older than the collection's place: %w", holdfast.ErrToken)
	}
	return since, nil
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
		token = tokenOf(v, t.coll, h)
	}
	m.element(davName("sync-token"), token)
	return nil
}

// members appends what changed, in order of seq, and returns the head reached.
func (s *syncRequest) members(m *multistatus, v *ledger.View, t *target, since holdfast.Seq, f *folders) (holdfast.Head, error) {
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
				if f.has(deltas[i].Name) {
					continue // a folder has its name now, and clients mind no slash
				}
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

// folders are the differences among the collections directly below a folder (RFC 6578, 3.5.1 and 3.5.2).
type folders struct {
	present []ledger.Collection // new or changed themselves
	removed []string
}

// has reports whether a new or changed folder has the name.
func (f *folders) has(name string) bool {
	return slices.ContainsFunc(f.present, func(c ledger.Collection) bool { return c.Name == name })
}

// writeRemoved comes before the members: a resource may have the name of a folder that is gone.
func (f *folders) writeRemoved(m *multistatus, t *target) {
	for _, name := range f.removed {
		m.status(below(t.segs, name), true, http.StatusNotFound, nil)
	}
}

// writePresent appends the folders that changed up to the seq that the answer reaches. The others
// are for the next page.
func (s *syncRequest) writePresent(m *multistatus, v *ledger.View, t *target, f *folders, reached holdfast.Seq) error {
	for i := range f.present {
		if f.present[i].Seq > reached {
			continue
		}
		c := &target{place: placeCollection, segs: below(t.segs, f.present[i].Name), coll: &f.present[i], parent: t.coll}
		if err := m.properties(&propContext{s.q, v, c}, s.want); err != nil {
			return err
		}
	}
	return nil
}
