package dav

import (
	"bytes"
	"errors"
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
	var from syncState
	if s.token != "" {
		if from, err = s.parseToken(v, t.coll); err != nil {
			return fmt.Errorf("sync token: %w", err)
		}
	}
	mark := len(m.buf)
	reached, err := s.members(m, v, t, from.members)
	if err != nil {
		return err
	}
	if reached.Seq < v.Head().Head.Seq {
		m.truncated(t.segs)
		m.element(davName("sync-token"), tokenOf(v, t.coll, reached)+tokenFolders+strconv.FormatUint(uint64(from.folders), 16))
		return nil
	}
	if err := s.folders(m, v, t, from.folders, mark); err != nil {
		return err
	}
	return s.last(m, v, t, from)
}

// syncState is what a client knows: members as of one seq, and the folders among them as of an
// earlier one while it is in the middle of a long answer, for they are told on its last page.
type syncState struct {
	members, folders holdfast.Seq
	renew            bool // the token is of an older epoch
}

// A token is the ledger's, which proves what a device was told, and the collection, for two of one
// account must not be mistaken for each other (RFC 6578, 3.2). Within a long answer it also says since
// when folders are to be told.
const (
	tokenCollection = "?collection="
	tokenFolders    = ";folders=" // no ampersand: not every client escapes what it sends back
)

// SyncToken returns the sync token of a collection at a head of its account.
func SyncToken(v *ledger.View, coll *ledger.Collection, h holdfast.Head) string {
	return tokenOf(v, coll, h)
}

func tokenOf(v *ledger.View, coll *ledger.Collection, h holdfast.Head) string {
	return v.SyncToken(h) + tokenCollection + strconv.FormatUint(uint64(coll.ID), 16)
}

// parseToken reads a token of coll. What the token proves comes first: one that is ahead of the head
// is ErrFenced whatever collection it names.
//
// A device that may know what was accepted as lost is never sent back to the beginning: it would delete what
// the listing lacks, its own uploads too. If it cannot be told what changed here it is told all that is there.
func (s *syncRequest) parseToken(v *ledger.View, coll *ledger.Collection) (syncState, error) {
	witness, rest, _ := strings.Cut(s.token, tokenCollection)
	id, folders, within := strings.Cut(rest, tokenFolders)
	p, err := v.ParseSyncToken(witness, s.q.who.Device)
	if err != nil {
		return syncState{}, err
	}
	from := syncState{p.Since, p.Since, p.Renew}
	if p.Renew {
		if id != strconv.FormatUint(uint64(coll.ID), 16) || from.members < placed(coll) {
			from.members, from.folders = 0, 0
		}
		return from, nil
	}
	if within {
		n, err := strconv.ParseUint(folders, 16, 64)
		if err != nil || holdfast.Seq(n) > p.Since {
			return from, fmt.Errorf("token with a broken end: %w", holdfast.ErrToken)
		}
		from.folders = holdfast.Seq(n)
	}
	switch {
	case id != strconv.FormatUint(uint64(coll.ID), 16):
		return from, fmt.Errorf("token of another collection: %w", holdfast.ErrToken)
	case from.members < placed(coll), from.folders != 0 && from.folders < placed(coll):
		// From where the collection was before: the paths that are gone from there were never told.
		return from, fmt.Errorf("token older than the collection's place: %w", holdfast.ErrToken)
	}
	return from, nil
}

// lastChange is the newest change of a collection or its members. That of a home is the account's newest, wherever in
// it: macOS asks the home which of its calendars changed, by sync-collection, and looks at no other
// (ccs-calendarserver 13c706b9, contrib/performance/loadtest/ical.py 838-895, _calendarHomeSync).
func lastChange(v *ledger.View, coll *ledger.Collection) (holdfast.Head, error) {
	if coll.ID == holdfast.Root {
		return v.Head().Head, nil
	}
	return v.LastChange(coll.ID)
}

// last appends the token of a complete answer: that of the collection's own last change, which is
// the one PROPFIND shows and stays while nothing changes here. A token never goes back.
func (s *syncRequest) last(m *multistatus, v *ledger.View, t *target, from syncState) error {
	token := s.token
	h, err := lastChange(v, t.coll)
	if err != nil {
		return fmt.Errorf("last change: %w", err)
	}
	if token == "" || h.Seq > from.members || from.renew {
		token = tokenOf(v, t.coll, h)
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

// folders adds the collections directly below a folder that are new or changed themselves since, and
// those that are gone (RFC 6578, 3.5.1 and 3.5.2). Those that are gone stand at mark, before the
// members: a resource may have the name of one now, and not every client minds the slash.
func (s *syncRequest) folders(m *multistatus, v *ledger.View, t *target, since holdfast.Seq, mark int) error {
	if t.coll.Kind != holdfast.KindFile {
		return nil
	}
	present, removed, err := v.ChangedCollections(t.coll.ID, since)
	if err != nil {
		return fmt.Errorf("changed collections: %w", err)
	}
	if len(removed) > 0 {
		members := slices.Clone(m.buf[mark:])
		m.buf = m.buf[:mark]
		for _, name := range removed {
			m.status(below(t.segs, name), true, http.StatusNotFound, nil)
			if err := s.again(m, v, t, name, members); err != nil {
				return err
			}
		}
		m.buf = append(m.buf, members...)
	}
	if t.isHome() {
		if present, err = changedWithin(v, present, since); err != nil {
			return err
		}
	}
	for i := range present {
		if !s.q.path.shows(present[i].Kind) {
			continue
		}
		c := &target{place: placeCollection, segs: below(t.segs, present[i].Name), coll: &present[i], parent: t.coll}
		if err := m.properties(&propContext{s.q, v, c}, s.want); err != nil {
			return err
		}
	}
	return nil
}

// changedWithin returns the collections of a home that changed since, themselves or in what they hold; present
// are the first.
func changedWithin(v *ledger.View, present []ledger.Collection, since holdfast.Seq) ([]ledger.Collection, error) {
	all, _, err := v.ChangedCollections(holdfast.Root, 0)
	if err != nil {
		return nil, fmt.Errorf("collections of the home: %w", err)
	}
	own := make(map[holdfast.CollectionID]bool, len(present))
	for i := range present {
		own[present[i].ID] = true
	}
	var out []ledger.Collection
	for i := range all {
		if !own[all[i].ID] {
			h, err := v.LastChange(all[i].ID)
			if err != nil {
				return nil, fmt.Errorf("last change: %w", err)
			}
			if h.Seq <= since {
				continue
			}
		}
		out = append(out, all[i])
	}
	return out, nil
}

// again tells a resource that has the name of a folder that is gone, if only an earlier page told it.
func (s *syncRequest) again(m *multistatus, v *ledger.View, t *target, name string, members []byte) error {
	r, err := v.Resource(t.coll.ID, name)
	if errors.Is(err, holdfast.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("resource: %w", err)
	}
	segs := below(t.segs, name)
	if bytes.Contains(members, m.req.path.append([]byte("<D:href>"), segs, false)) {
		return nil
	}
	return m.properties(&propContext{s.q, v, &target{place: placeResource, segs: segs, coll: t.coll, res: r}}, s.want)
}
