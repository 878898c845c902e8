package dav

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"time"

	"holdfast"
	"holdfast/internal/ical"
	"holdfast/internal/ledger"
)

// calendarData reads CALDAV:calendar-data in a report (RFC 4791, 9.6). Without a selection the object is
// given byte for byte.
func calendarData(n *node, zone *floatingZone) (dataWriter, error) {
	if err := checkData(n, "text/calendar", "2.0"); err != nil {
		return nil, refuse(http.StatusForbidden, calName("supported-calendar-data"), "only text/calendar 2.0")
	}
	d, err := parseCalendarData(n)
	if err != nil {
		return nil, err
	}
	if d.Whole() {
		return func(_ *propContext, b []byte) ([]byte, error) { return b, nil }, nil
	}
	if err := d.Check(); err != nil {
		return nil, badRequest("calendar-data of too many parts")
	}
	return func(c *propContext, b []byte) ([]byte, error) {
		o, err := ical.Parse(b)
		if err != nil {
			return nil, fmt.Errorf("part of a calendar object: %w", err)
		}
		out, err := d.Append(make([]byte, 0, len(b)), o, zone.of(c.t.coll))
		if errors.Is(err, ical.ErrTooMany) {
			// The one object is refused, not the answer: a client gets the rest, and this one by GET.
			return nil, &fault{status: http.StatusInsufficientStorage, condition: calName("max-instances")}
		}
		return out, err
	}, nil
}

func parseCalendarData(n *node) (*ical.Data, error) {
	d := &ical.Data{}
	for _, e := range n.elements() {
		var err error
		switch e.name {
		case calName("comp"):
			d.Comp = &ical.CompPart{}
			*d.Comp, err = compPart(e, 0)
		case calName("expand"):
			d.Expand, err = closedRange(e)
		case calName("limit-recurrence-set"):
			d.LimitRecurrence, err = closedRange(e)
		case calName("limit-freebusy-set"):
			d.LimitFreeBusy, err = closedRange(e)
		}
		if err != nil {
			return nil, err
		}
	}
	if d.Expand != nil && d.LimitRecurrence != nil {
		return nil, badRequest("both expand and limit-recurrence-set")
	}
	return d, nil
}

// compPart reads CALDAV:comp (RFC 4791, 9.6.1).
func compPart(n *node, depth int) (ical.CompPart, error) {
	p := ical.CompPart{}
	if p.Name, _ = n.attr("name"); p.Name == "" || depth > maxDepth {
		return p, badRequest("comp without a name")
	}
	for _, e := range n.elements() {
		switch e.name {
		case calName("allprop"):
			p.AllProps = true
		case calName("allcomp"):
			p.AllComps = true
		case calName("prop"):
			name, _ := e.attr("name")
			v, _ := e.attr("novalue")
			p.Props = append(p.Props, ical.PropPart{Name: name, NoValue: v == "yes"})
		case calName("comp"):
			sub, err := compPart(e, depth+1)
			if err != nil {
				return p, err
			}
			p.Comps = append(p.Comps, sub)
		}
	}
	return p, nil
}

// closedRange reads a range that has both its ends (RFC 4791, 9.6.5-9.6.7 and 7.10).
func closedRange(n *node) (*ical.TimeRange, error) {
	_, start := n.attr("start")
	_, end := n.attr("end")
	r, err := timeRange(n)
	if err != nil || !start || !end {
		return nil, badRequest("%s needs start and end in UTC, the start before the end", n.name.Local)
	}
	return r, nil
}

// floatingZone is the time zone of floating times and dates in a report: that of the request, else that of
// the collection (RFC 4791, 5.2.2 and 9.8; RFC 7809, 5.2).
type floatingZone struct {
	zone  *ical.Zone // of the request
	coll  holdfast.CollectionID
	known *ical.Zone // of coll
}

// parseFloatingZone reads CALDAV:timezone and CALDAV:timezone-id of a report.
func parseFloatingZone(body *node) (*floatingZone, error) {
	z := &floatingZone{}
	var err error
	if tz := body.child(calName("timezone")); tz != nil {
		if z.zone, err = ical.ParseZone([]byte(tz.content())); err != nil {
			return nil, refuse(http.StatusForbidden, calName("valid-calendar-data"), "timezone is no VTIMEZONE") // RFC 4791, 7.8
		}
	}
	if tz := body.child(calName("timezone-id")); tz != nil {
		if z.zone, err = ical.LoadZone(trimmed(tz)); err != nil {
			return nil, refuse(http.StatusForbidden, calName("valid-timezone"), "time zone not known") // RFC 7809, 5.2
		}
	}
	return z, nil
}

// of returns the zone for objects of a collection; nil is UTC.
func (z *floatingZone) of(coll *ledger.Collection) *ical.Zone {
	if z.zone != nil {
		return z.zone
	}
	if z.coll != coll.ID {
		z.coll, z.known = coll.ID, collectionZone(coll)
	}
	return z.known
}

// collectionZone returns the time zone of a calendar; nil without one.
func collectionZone(coll *ledger.Collection) *ical.Zone {
	if v, ok := property(coll.Props, calName("calendar-timezone")); ok {
		n := node{kids: fragment(v)}
		if z, err := ical.ParseZone([]byte(n.content())); err == nil {
			return z
		}
	}
	if v, ok := property(coll.Props, calName("calendar-timezone-id")); ok {
		n := node{kids: fragment(v)}
		if z, err := ical.LoadZone(trimmed(&n)); err == nil {
			return z
		}
	}
	return nil
}

// utcTime reads a DATE-TIME in UTC, seconds since 1970.
func utcTime(v string) (int64, error) {
	t, err := time.Parse("20060102T150405Z", v)
	if err != nil {
		return 0, fmt.Errorf("time in UTC: %w", err)
	}
	return t.Unix(), nil
}

// checkData refuses a content type or version in calendar-data or address-data that nobody here writes.
func checkData(n *node, contentType string, versions ...string) error {
	if t, ok := n.attr("content-type"); ok {
		if media, _, err := mime.ParseMediaType(t); err != nil || media != contentType {
			return badRequest("content type %.40q", t)
		}
	}
	v, ok := n.attr("version")
	if !ok {
		return nil
	}
	for _, known := range versions {
		if v == known {
			return nil
		}
	}
	return badRequest("version %.10q", v)
}
