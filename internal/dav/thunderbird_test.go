package dav

import (
	"net/http"
	"strings"
	"testing"
)

// Thunderbird's calendar, from comm-central: calendar/providers/caldav/CalDavCalendar.sys.mjs (commit 03004531) and
// modules/CalDavRequestHandlers.sys.mjs (13791ed6); names are of its functions. Its address book: mailnews/addrbook/
// modules/CardDAVDirectory.sys.mjs (17a48851) and CardDAVUtils.sys.mjs (05ed5637).
type thunderbird struct {
	*replica
	token    string // mWebdavSyncToken; empty: null
	check    bool   // mDisabledByDavError: the next refresh begins with checkDavResourceType
	disabled bool   // for good, until the person turns the calendar on again
}

const thunderbirdAgent = "Mozilla/5.0 Thunderbird/140.0"

func TestModelThunderbird(t *testing.T) {
	s := newServer(t)
	tb := &thunderbird{replica: newReplica(t, s, thunderbirdAgent)}
	play(t, s, tb)
	if tb.disabled {
		t.Error("the calendar was turned off (checkDavResourceType: 4xx)")
	}
}

func (tb *thunderbird) conflicts() bool { return true } // doModifyItem: promptOverwrite

// discover: checkDavResourceType and checkServerCaps. Without calendar-auto-schedule in the DAV header it stops there.
func (tb *thunderbird) discover() {
	if !tb.checkResource() {
		tb.t.Fatalf("not a calendar: %v", tb.trouble)
	}
	if dav := tb.ask("OPTIONS", "/dav/anna/", "").want(200).header.Get("DAV"); !strings.Contains(dav, "calendar-access") {
		tb.t.Errorf("features %q", dav)
	}
}

// checkResource: checkDavResourceType. 4xx turns the calendar off, 5xx leaves everything as it is.
func (tb *thunderbird) checkResource() bool {
	a := tb.ask("PROPFIND", modelCal, `<D:propfind xmlns:D="DAV:" xmlns:CS="http://calendarserver.org/ns/" xmlns:C="urn:ietf:params:xml:ns:caldav"><D:prop><D:resourcetype/><D:owner/><D:current-user-principal/><D:current-user-privilege-set/><D:supported-report-set/><C:supported-calendar-component-set/><CS:getctag/></D:prop></D:propfind>`, "Depth: 0")
	if tb.failed(a, http.StatusMultiStatus) {
		tb.disabled = tb.disabled || a.status/100 == 4
		return false
	}
	a.has("sync-collection", "<D:write")
	tb.check = false
	return true
}

// poll: what was made while it could not be sent goes first, then getUpdatedItems: doWebDAVSync.
func (tb *thunderbird) poll() {
	if tb.disabled || tb.check && !tb.checkResource() {
		return
	}
	for _, path := range tb.sorted() {
		tb.send(path, tb.things[path])
	}
	for tb.sync() {
	}
}

// send: doAdoptItem, doModifyItem, doDeleteItem. A 5xx is "not available" and the item stays as it is.
func (tb *thunderbird) send(path string, th *thing) {
	var a *answer
	switch {
	case th.gone:
		a = tb.ask("DELETE", path, "", "If-Match: "+th.etag)
		if a.status == 409 || a.status == 412 { // looks whether somebody else has deleted it
			if a = tb.ask("HEAD", path, ""); a.status != 404 {
				return
			}
		} else if tb.failed(a, 200, 204) {
			return
		}
		delete(tb.things, path)
		return
	case !th.dirty:
		return
	case th.etag == "":
		a = tb.ask("PUT", path, th.body, "If-None-Match: *")
	default:
		a = tb.ask("PUT", path, th.body, "If-Match: "+th.etag)
	}
	if a.status == 409 || a.status == 412 { // promptOverwrite: the person is asked
		return
	}
	if tb.failed(a, 200, 201, 204) {
		return
	}
	th.dirty = false
	tb.multiget(modelCal, []string{path}, 1, "Depth: 1") // getUpdatedItem: "some servers modify items on PUT"
	tb.fetched--                                         // its own
}

// sync: CalDavWebDavSyncHandler. It reports whether another round follows.
func (tb *thunderbird) sync() bool {
	a := tb.ask("REPORT", modelCal, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"+`<sync-collection xmlns="DAV:"><sync-token>`+tb.token+`</sync-token><sync-level>1</sync-level><prop><getcontenttype/><getetag/></prop></sync-collection>`, "Depth: 1")
	switch {
	case a.status == http.StatusMultiStatus:
	case a.status/100 == 4 && tb.token != "":
		tb.token = "" // onStopRequest: reset, then safeRefresh
		return true
	default:
		tb.failed(a)
		tb.check = true // reportDavError(DAV_REPORT_ERROR)
		return false
	}
	m := a.multi()
	reported, more := map[string]bool{}, false
	var wanted []string
	for _, r := range m.Responses { // endElement("response")
		path := decoded(tb.t, r.Href)
		switch {
		case strings.Contains(r.Status, " 404"):
			if th := tb.things[path]; th != nil && !th.dirty {
				tb.drop(path)
			}
		case strings.Contains(r.Status, " 507"):
			more = true
		case len(r.Propstats) > 0 && strings.HasPrefix(r.Propstats[0].Prop.Type, "text/calendar") && r.Propstats[0].Prop.ETag != "":
			reported[path] = true
			if th := tb.things[path]; th == nil || th.etag != r.Propstats[0].Prop.ETag && !th.dirty {
				wanted = append(wanted, path)
			}
		default:
			tb.t.Errorf("an unexpected response: %+v", r) // unhandledErrors
		}
	}
	if tb.token == "" && !more { // endDocument
		for _, path := range tb.sorted() {
			if !reported[path] && !tb.things[path].dirty {
				tb.drop(path)
			}
		}
	}
	if !tb.multiget(modelCal, wanted, 100, "Depth: 1") { // calendar.caldav.multigetBatchSize
		return false
	}
	tb.token = m.Token
	return more
}

// The address book: detectAddressBooks, fetchAllFromServer, then updateAllFromServerV2, which wants 207 or 400 and
// takes everything else for an error after which the copy and the token stay.
func TestModelThunderbirdContacts(t *testing.T) {
	s := newServer(t)
	c := newReplica(t, s, thunderbirdAgent)
	const book = "/dav/anna/contacts/"
	a, _ := c.followed("/.well-known/carddav", `<propfind xmlns="DAV:"><prop><current-user-principal/></prop></propfind>`, "0")
	a = c.ask("PROPFIND", hrefIn(t, a, "current-user-principal"), `<propfind xmlns="DAV:" xmlns:card="urn:ietf:params:xml:ns:carddav"><prop><card:addressbook-home-set/></prop></propfind>`, "Depth: 0")
	c.ask("PROPFIND", hrefIn(t, a, "addressbook-home-set"), `<propfind xmlns="DAV:"><prop><resourcetype/><displayname/><current-user-privilege-set/></prop></propfind>`, "Depth: 1").want(207).has(book)

	s.put(book+"1.vcf", card("1", "First"))
	c.ask("PROPFIND", book, `<propfind xmlns="DAV:" xmlns:cs="http://calendarserver.org/ns/"><prop><resourcetype/><getetag/><cs:getctag/></prop></propfind>`, "Depth: 1").want(207).has(book + "1.vcf")
	a = c.ask("PROPFIND", book, `<propfind xmlns="DAV:" xmlns:cs="http://calendarserver.org/ns/"><prop><displayname/><cs:getctag/><sync-token/></prop></propfind>`, "Depth: 0")
	token := a.multi().Responses[0].Propstats[0].Prop.Token
	update := func() *answer { // with the bodies in the report itself
		return c.ask("REPORT", book, `<sync-collection xmlns="DAV:" xmlns:card="urn:ietf:params:xml:ns:carddav"><sync-token>`+token+`</sync-token><sync-level>1</sync-level><prop><getetag/><card:address-data/></prop></sync-collection>`, "Depth: 1")
	}
	// _sendCardToServer: PUT without any precondition, then a multiget of that one; _deleteCardFromServer: DELETE without one.
	c.ask("PUT", book+"2.vcf", card("2", "Second"), "Content-Type: text/vcard").want(201)
	c.ask("REPORT", book, `<card:addressbook-multiget xmlns:d="DAV:" xmlns:card="urn:ietf:params:xml:ns:carddav"><d:prop><d:getetag/><card:address-data/></d:prop><d:href>`+book+`2.vcf</d:href></card:addressbook-multiget>`, "Depth: 1").want(207).has("FN:Second")
	c.ask("DELETE", book+"1.vcf", "").want(204)
	m := update().multi()
	if got := strings.Join(m.hrefs(), " "); !strings.Contains(got, "-"+book+"1.vcf") || !strings.Contains(got, book+"2.vcf") || m.find(t, book+"2.vcf").Propstats[0].Prop.Card == "" {
		t.Errorf("the delta: %s", got)
	}
	token = m.Token

	s.mirrorAway(true)
	c.ask("PUT", book+"3.vcf", card("3", "Third"), "Content-Type: text/vcard").want(503) // _uidsToSync keeps it
	update().want(207)
	s.mirrorAway(false)
	s.waitOpen()
	if a := c.ask("PUT", book+"3.vcf", card("3", "Third"), "Content-Type: text/vcard"); a.status != 201 && a.status != 204 { // 503 is "perhaps": it may be there
		t.Errorf("%s: %d", a.what, a.status)
	}
	if got := update().multi().hrefs(); len(got) != 1 {
		t.Errorf("after held: %v", got)
	}
}
