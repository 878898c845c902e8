package dav

import (
	"encoding/xml"
	"net/http"

	"holdfast"
	"holdfast/internal/ledger"
)

// reportType is a REPORT (RFC 3253, 3.6) that is served here.
type reportType struct {
	name   xml.Name
	depth  string // if the client sends none
	serves func(t *target) bool
	run    func(q *request, body *node, depth string) error
}

// reports are all of them. It is filled by init, for the property that lists them leads back here.
var reports []reportType

func init() {
	reports = []reportType{
		// RFC 6578, 3.3 wants Depth 0; Thunderbird sends 1.
		{davName("sync-collection"), "1", func(t *target) bool { return t.place == placeCollection }, syncCollection},
		{calName("calendar-multiget"), "1", inKind(holdfast.KindCalendar), multiget},
		{calName("calendar-query"), "0", inKind(holdfast.KindCalendar), calendarQuery},
		{calName("free-busy-query"), "0", inKind(holdfast.KindCalendar), freeBusyQuery},
		{davName("expand-property"), "0", anywhere, expandProperty},
		{davName("principal-property-search"), "0", anywhere, principalSearch},
		{davName("principal-search-property-set"), "0", anywhere, principalSearchProps},
		{davName("principal-match"), "0", anywhere, principalMatch},
		{davName("acl-principal-prop-set"), "0", anywhere, aclPrincipals},
		{cardName("addressbook-multiget"), "1", inKind(holdfast.KindCard), multiget},
		{cardName("addressbook-query"), "0", inKind(holdfast.KindCard), addressbookQuery},
	}
}

func anywhere(*target) bool { return true }

// inKind serves collections of a kind, their members, and the home they lie in.
func inKind(k holdfast.Kind) func(t *target) bool {
	return func(t *target) bool {
		return (t.place == placeCollection || t.place == placeResource) && t.coll.Kind == k || t.isHome()
	}
}

func report(q *request) error {
	body, err := q.xmlBody(maxReport)
	if err != nil {
		return err
	}
	if body == nil {
		return badRequest("a report without a body")
	}
	for _, r := range reports {
		if r.name != body.name {
			continue
		}
		depth, err := q.depth(r.depth)
		if err != nil {
			return err
		}
		return r.run(q, body, depth)
	}
	return errUnsupportedReport
}

var errUnsupportedReport = refuse(http.StatusForbidden, davName("supported-report"), "report not supported here") // RFC 3253, 3.6

// reportTarget finds the target of a report, and refuses one that it does not serve.
func reportTarget(v *ledger.View, q *request, name xml.Name) (*target, error) {
	t, err := q.findListed(v)
	if err != nil {
		return nil, err
	}
	for _, rt := range reports {
		if rt.name == name && rt.serves(t) {
			return t, nil
		}
	}
	return nil, errUnsupportedReport
}

// reportSelection reads the properties a report wants; without any, no property is given but each
// member is named.
func reportSelection(q *request, body *node) (*selection, error) {
	s, err := parseSelection(body)
	if err != nil {
		return nil, err
	}
	if s == nil {
		s = &selection{}
	}
	s.minimal = q.minimal()
	zone, err := parseFloatingZone(body)
	if err != nil {
		return nil, err
	}
	prop := body.child(davName("prop"))
	for i := range s.wanted {
		w := &s.wanted[i]
		switch w.name {
		case calName("calendar-data"):
			w.data, err = calendarData(prop.child(w.name), zone)
		case cardName("address-data"):
			w.data, err = addressData(prop.child(w.name))
		}
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}
