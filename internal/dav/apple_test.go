package dav

import (
	"net/http"
	"strings"
	"testing"
)

// Apple's own simulator of its clients: ccs-calendarserver 13c706b9, contrib/performance/loadtest/ical.py, with the
// bodies below request-data. Lines are of ical.py. macOS is class OS_X_10_11 (2416), iOS is class iOS_5 (2509); they
// are of 2015 and 2011, and nothing newer is public. Any status that a request does not allow ends the poll (_request raises
// IncorrectResponseCode), and what was there stays.
type apple struct {
	*replica
	ios   bool // lists the time from a month ago on instead of syncing (2601), and keeps no token of the home
	home  string
	token string // of the home
	calls map[string]*appleCal
}

type appleCal struct{ token, ctag string }

const (
	appleWellKnown = `<?xml version="1.0" encoding="UTF-8"?><A:propfind xmlns:A="DAV:"><A:prop><A:current-user-principal/><A:principal-URL/><A:resourcetype/></A:prop></A:propfind>`
	applePrincipal = `<?xml version="1.0" encoding="UTF-8"?><A:propfind xmlns:A="DAV:"><A:prop><B:calendar-home-set xmlns:B="urn:ietf:params:xml:ns:caldav"/><B:calendar-user-address-set xmlns:B="urn:ietf:params:xml:ns:caldav"/><A:current-user-principal/><A:displayname/><C:dropbox-home-URL xmlns:C="http://calendarserver.org/ns/"/><C:email-address-set xmlns:C="http://calendarserver.org/ns/"/><C:notification-URL xmlns:C="http://calendarserver.org/ns/"/><A:principal-collection-set/><A:principal-URL/><A:resource-id/><B:schedule-inbox-URL xmlns:B="urn:ietf:params:xml:ns:caldav"/><B:schedule-outbox-URL xmlns:B="urn:ietf:params:xml:ns:caldav"/><A:supported-report-set/></A:prop></A:propfind>`
	appleHomeProps = `<A:add-member/><C:allowed-sharing-modes xmlns:C="http://calendarserver.org/ns/"/><D:calendar-color xmlns:D="http://apple.com/ns/ical/"/><D:calendar-order xmlns:D="http://apple.com/ns/ical/"/><A:current-user-privilege-set/><B:default-alarm-vevent-date xmlns:B="urn:ietf:params:xml:ns:caldav"/><A:displayname/><C:getctag xmlns:C="http://calendarserver.org/ns/"/><A:owner/><C:push-transports xmlns:C="http://calendarserver.org/ns/"/><A:quota-available-bytes/><A:quota-used-bytes/><A:resource-id/><A:resourcetype/><B:schedule-calendar-transp xmlns:B="urn:ietf:params:xml:ns:caldav"/><B:supported-calendar-component-set xmlns:B="urn:ietf:params:xml:ns:caldav"/><A:supported-report-set/><A:sync-token/>`
)

func TestModelMacOS(t *testing.T) {
	s := newServer(t)
	m := &apple{replica: newReplica(t, s, "Mac+OS+X/10.11 (15A283) CalendarAgent/361"), calls: map[string]*appleCal{}}
	play(t, s, m)

	// request-data/OS_X_10_11/startup_create_calendar, with the time zone cut short: a new calendar, then its end.
	const made = "/dav/anna/0C5F4C1E-1E0A-4A5D-9F4E-6B9E6A1E5A11/"
	m.ask("MKCALENDAR", made, `<?xml version="1.0" encoding="UTF-8"?><B:mkcalendar xmlns:B="urn:ietf:params:xml:ns:caldav"><A:set xmlns:A="DAV:"><A:prop><D:calendar-order xmlns:D="http://apple.com/ns/ical/">3</D:calendar-order><B:supported-calendar-component-set><B:comp name="VEVENT"/></B:supported-calendar-component-set><D:calendar-color xmlns:D="http://apple.com/ns/ical/" symbolic-color="custom">#FF0000FF</D:calendar-color><A:displayname>Trips</A:displayname><B:schedule-calendar-transp><B:opaque/></B:schedule-calendar-transp></A:prop></A:set></B:mkcalendar>`).want(201)
	m.poll()
	if m.calls[made] == nil {
		t.Error("a calendar that was made is not seen")
	}
	m.ask("DELETE", made, "").want(204)
	m.poll()
	if m.calls[made] != nil {
		t.Error("a calendar that was deleted is still seen")
	}
}

func TestModelIOS(t *testing.T) {
	s := newServer(t)
	play(t, s, &apple{ios: true, replica: newReplica(t, s, "iOS/5.1 (9B179) dataaccessd/1.0"), calls: map[string]*appleCal{}})
}

func (m *apple) conflicts() bool { return false } // PRECONDITION_FAILED is an ordinary answer (1988); the next poll brings theirs
func (m *apple) lists() bool     { return m.ios }

// discover: startup (2648): _startupPropfindWellKnown (754), _principalPropfind (795), then the first poll with its
// PROPPATCHes (_pollFirstTime1, 1539).
func (m *apple) discover() {
	a, _ := m.followed("/.well-known/caldav/", appleWellKnown, "0")
	a = m.ask("PROPFIND", hrefIn(m.t, a, "current-user-principal"), applePrincipal, "Depth: 0")
	m.home = hrefIn(m.t, a, "calendar-home-set")
	m.poll()
	m.ask("PROPPATCH", modelCal, `<?xml version="1.0" encoding="UTF-8"?><A:propertyupdate xmlns:A="DAV:"><A:set><A:prop><D:calendar-order xmlns:D="http://apple.com/ns/ical/">1</D:calendar-order></A:prop></A:set></A:propertyupdate>`).want(207).has("200 OK")
}

// poll: _poll (1454).
func (m *apple) poll() {
	for _, path := range m.sorted() {
		if !m.send(path, m.things[path]) {
			return
		}
	}
	var a *answer
	first := m.token == "" || m.ios
	if first {
		a = m.ask("PROPFIND", m.home, `<?xml version="1.0" encoding="UTF-8"?><A:propfind xmlns:A="DAV:"><A:prop>`+appleHomeProps+`</A:prop></A:propfind>`, "Depth: 1", "Brief: t")
	} else { // _calendarHomeSync (838): what it does not tell, this client never asks for
		a = m.ask("REPORT", m.home, `<?xml version="1.0" encoding="UTF-8"?><A:sync-collection xmlns:A="DAV:"><A:sync-token>`+m.token+`</A:sync-token><A:sync-level>1</A:sync-level><A:prop>`+appleHomeProps+`</A:prop></A:sync-collection>`, "Depth: 1", "Brief: t")
	}
	if a.status == http.StatusForbidden && !first {
		m.token = ""
		m.poll()
		return
	}
	if m.failed(a, http.StatusMultiStatus) {
		return
	}
	ms := a.multi()
	seen := map[string]bool{}
	for _, r := range ms.Responses {
		path := decoded(m.t, r.Href)
		switch {
		case path == m.home:
			if first && !m.ios {
				m.token = r.Propstats[0].Prop.Token
			}
		case strings.Contains(r.Status, " 404"):
			m.forget(path)
		default:
			p := r.Propstats[0].Prop
			for _, x := range p.Any {
				if x.XMLName.Local == "resourcetype" && strings.Contains(x.Inner, "calendar") {
					seen[path] = true
					if !m.update(path, p.Token, p.CTag) {
						return
					}
				}
			}
		}
	}
	if first { // "Clean out previously seen collections that are no longer on the server"
		for path := range m.calls {
			if !seen[path] {
				m.forget(path)
			}
		}
	} else {
		m.token = ms.Token
	}
}

func (m *apple) forget(cal string) {
	delete(m.calls, cal)
	for _, path := range m.sorted() {
		if strings.HasPrefix(path, cal) {
			m.drop(path)
		}
	}
}

// update: _updateCalendar_SYNC (1152), on iOS _updateCalendar_VEVENT (2601) and _VTODO (2626).
func (m *apple) update(cal, token, ctag string) bool {
	c := m.calls[cal]
	switch {
	case c == nil:
		c = &appleCal{}
		m.calls[cal] = c
	case m.ios && c.ctag == ctag, !m.ios && c.token == token:
		return true
	}
	var a *answer
	if m.ios {
		a = m.ask("REPORT", cal, `<?xml version="1.0" encoding="UTF-8"?><G:calendar-query xmlns:G="urn:ietf:params:xml:ns:caldav"><A:prop xmlns:A="DAV:"><A:getetag/><A:getcontenttype/></A:prop><G:filter><G:comp-filter name="VCALENDAR"><G:comp-filter name="VEVENT"><G:time-range start="20261030T000000Z"/></G:comp-filter></G:comp-filter></G:filter></G:calendar-query>`, "Depth: 1")
	} else {
		a = m.ask("REPORT", cal, `<?xml version="1.0" encoding="UTF-8"?><A:sync-collection xmlns:A="DAV:"><A:sync-token>`+c.token+`</A:sync-token><A:sync-level>1</A:sync-level><A:prop><A:getetag/><A:getcontenttype/></A:prop></A:sync-collection>`, "Depth: 1")
		if a.status == http.StatusForbidden && c.token != "" {
			c.token = ""
			return m.update(cal, token, ctag)
		}
	}
	if m.failed(a, http.StatusMultiStatus) {
		return false
	}
	full := m.ios || c.token == ""
	listed := map[string]bool{}
	var wanted []string
	for _, r := range a.multi().Responses {
		path := decoded(m.t, r.Href)
		if strings.Contains(r.Status, " 404") {
			m.drop(path)
			continue
		}
		listed[path] = true
		if th := m.things[path]; th == nil || th.etag != r.Propstats[0].Prop.ETag {
			wanted = append(wanted, path)
		}
	}
	if !m.multiget(cal, wanted, 50) { // MULTIGET_BATCH_SIZE; no Depth (_eventReport, 1300)
		return false
	}
	for _, path := range m.sorted() {
		if full && strings.HasPrefix(path, cal) && !listed[path] && !m.things[path].dirty {
			m.drop(path)
		}
	}
	if c.ctag = ctag; !m.ios {
		c.token = a.multi().Token
	}
	return true
}

// send: a change goes out before the next poll; 412 leaves it to that (1988). It reports whether to go on.
func (m *apple) send(path string, th *thing) bool {
	var a *answer
	switch {
	case th.gone:
		if a = m.ask("DELETE", path, "", "If-Match: "+th.etag); m.failed(a, 200, 204, 404, 412) {
			return false
		}
		delete(m.things, path)
		return true
	case !th.dirty:
		return true
	case th.etag == "":
		a = m.ask("PUT", path, th.body, "If-None-Match: *", "Content-Type: text/calendar")
	default:
		a = m.ask("PUT", path, th.body, "If-Match: "+th.etag, "Content-Type: text/calendar")
	}
	if m.failed(a, 200, 201, 204, 412) {
		return false
	}
	th.dirty = false
	if th.etag = a.header.Get("ETag"); a.status == 412 {
		th.etag = "unknown"
	}
	return true
}
