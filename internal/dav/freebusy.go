package dav

import (
	"errors"
	"net/http"
	"strconv"

	"holdfast"
	"holdfast/internal/ical"
	"holdfast/internal/ledger"
)

// freeBusyQuery tells when the owner of calendars is busy (RFC 4791, 7.10): one VFREEBUSY about all members
// of a calendar, or of all calendars in the home, whatever the Depth. To leave members out would be to say
// that their time is free.
func freeBusyQuery(q *request, body *node, _ string) error {
	rs := body.elements()
	if len(rs) != 1 || rs[0].name != calName("time-range") {
		return badRequest("free-busy-query with one time-range expected")
	}
	r, err := closedRange(rs[0])
	if err != nil {
		return err
	}
	zone := &floatingZone{}
	busy := ical.NewFreeBusy(*r)
	y := &query{q: q, name: body.name, kind: holdfast.KindCalendar, depth: "infinity", want: &selection{}}
	var floating *ical.Zone
	y.begin = func(coll *ledger.Collection) { floating = zone.of(coll) }
	y.skip = func(r *ledger.Resource) bool { return busy.Outside(r.Component, r.First, r.Last) }
	y.match = func(body []byte) (bool, error) {
		o, err := ical.Parse(body)
		if err == nil {
			err = busy.Add(o, floating)
		}
		if errors.Is(err, ical.ErrTooMany) {
			return false, refuse(http.StatusForbidden, davName("number-of-matches-within-limits"), "ask for a shorter time")
		}
		return false, err
	}
	m := q.multistatus()
	defer m.release()
	for more := true; more; {
		err := q.view(func(v *ledger.View) (err error) {
			more, err = y.page(m, v)
			return err
		})
		if err != nil {
			return err
		}
	}
	b := busy.Append(nil, q.h.cfg.Now())
	h := q.w.Header()
	h.Set("Content-Type", "text/calendar; charset=utf-8")
	h.Set("Cache-Control", "private, no-cache")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	q.w.WriteHeader(http.StatusOK)
	if _, err := q.w.Write(b); err != nil {
		return errAnswered
	}
	return nil
}
