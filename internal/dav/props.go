package dav

import (
	"encoding/xml"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/ical"
	"holdfast/internal/kind"
	"holdfast/internal/ledger"
)

// propContext is what the value of a property is made from.
type propContext struct {
	q *request
	v *ledger.View
	t *target
}

// dead returns the stored properties of the target.
func (c *propContext) dead() []holdfast.Property {
	switch c.t.place {
	case placeResource:
		return c.t.res.Props
	case placeCollection:
		return c.t.coll.Props
	}
	return nil
}

// live is a property the server computes.
type live struct {
	name   xml.Name
	all    bool // DAV:allprop gives it (RFC 4918, 9.1)
	stored bool // kept as a dead property; PROPPATCH may change it
	// write appends the value; false: the target has no such property, and nothing was appended.
	write func(c *propContext, dst []byte) ([]byte, bool, error)
}

// liveProps are all properties the server computes, in the order of an allprop answer.
var liveProps = append([]live{
	{name: davName("resourcetype"), all: true, write: writeResourceType},
	{name: davName("displayname"), all: true, stored: true, write: writeDisplayName},
	{name: davName("getetag"), all: true, write: writeETag},
	{name: davName("getcontenttype"), all: true, write: writeContentType},
	{name: davName("getcontentlength"), all: true, write: writeContentLength},
	{name: davName("getlastmodified"), all: true, write: writeLastModified},
	{name: davName("creationdate"), all: true, write: writeCreationDate},
	{name: ocChecksums, write: writeChecksums},
	{name: xml.Name{Space: nsWindows, Local: "Win32LastModifiedTime"}, stored: true, write: writeWindowsTime("Win32LastModifiedTime", modifiedAt)},
	{name: xml.Name{Space: nsWindows, Local: "Win32CreationTime"}, stored: true, write: writeWindowsTime("Win32CreationTime", createdAt)},
	{name: davName("supportedlock"), all: true, write: writeSupportedLock},
	{name: davName("lockdiscovery"), all: true, write: writeLockDiscovery},
	{name: davName("current-user-principal"), write: writePrincipalHref},
	{name: davName("principal-URL"), write: onPrincipal(writePrincipalHref)},
	{name: davName("principal-collection-set"), write: constant("<D:href>" + Base + principals + "/</D:href>")},
	{name: davName("alternate-URI-set"), write: onPrincipal(constant(""))},
	{name: davName("group-membership"), write: onPrincipal(constant(""))},
	{name: davName("group-member-set"), write: onPrincipal(constant(""))},
	{name: davName("owner"), write: writePrincipalHref},
	{name: davName("add-member"), write: writeAddMember},
	{name: davName("current-user-privilege-set"), write: writePrivileges},
	{name: davName("supported-privilege-set"), write: constant(supportedPrivileges)},
	{name: davName("acl"), write: writeACL},
	{name: davName("acl-restrictions"), write: constant("<D:grant-only/><D:no-invert/>")},
	{name: davName("inherited-acl-set"), write: constant("")},
	{name: davName("supported-report-set"), write: writeReportSet},
	{name: davName("sync-token"), write: writeSyncToken},
	{name: davName("quota-used-bytes"), write: writeQuotaUsed},
	{name: davName("quota-available-bytes"), write: writeQuotaLeft},
	{name: xml.Name{Space: nsCS, Local: "getctag"}, write: writeCTag},
	{name: calName("calendar-home-set"), write: writeHome},
	{name: calName("calendar-user-address-set"), write: onPrincipal(writeAddresses)},
	{name: calName("calendar-user-type"), write: onPrincipal(constant("INDIVIDUAL"))}, // RFC 6638, 2.4.2
	{name: calName("supported-calendar-component-set"), write: onKind(holdfast.KindCalendar, writeComponentSet)},
	{name: calName("supported-calendar-data"), write: onKind(holdfast.KindCalendar, constant(`<C:calendar-data content-type="text/calendar" version="2.0"/>`))},
	{name: calName("supported-collation-set"), write: onKind(holdfast.KindCalendar, constant(`<C:supported-collation>i;ascii-casemap</C:supported-collation><C:supported-collation>i;octet</C:supported-collation><C:supported-collation>i;unicode-casemap</C:supported-collation>`))},
	{name: calName("max-resource-size"), write: onKind(holdfast.KindCalendar, writeMaxSize)},
	{name: calName("min-date-time"), write: onKind(holdfast.KindCalendar, constant("00010101T000000Z"))},
	{name: calName("max-date-time"), write: onKind(holdfast.KindCalendar, constant("99991231T235959Z"))}, // iCalendar has no later one
	{name: calName("max-instances"), write: onKind(holdfast.KindCalendar, constant(strconv.Itoa(ical.MaxInstances)))},
	{name: calName("max-attendees-per-instance"), write: onKind(holdfast.KindCalendar, constant(strconv.Itoa(ical.MaxAttendees)))},
	{name: cardName("addressbook-home-set"), write: writeHome},
	{name: cardName("supported-address-data"), write: onKind(holdfast.KindCard, constant(`<CR:address-data-type content-type="text/vcard" version="3.0"/><CR:address-data-type content-type="text/vcard" version="4.0"/>`))},
	{name: cardName("supported-collation-set"), write: onKind(holdfast.KindCard, constant(`<CR:supported-collation>i;ascii-casemap</CR:supported-collation><CR:supported-collation>i;octet</CR:supported-collation><CR:supported-collation>i;unicode-casemap</CR:supported-collation>`))},
	{name: cardName("max-resource-size"), write: onKind(holdfast.KindCard, writeMaxSize)},
}, pushProps...)

var liveByName = func() map[xml.Name]*live {
	m := make(map[xml.Name]*live, len(liveProps))
	for i := range liveProps {
		m[liveProps[i].name] = &liveProps[i]
	}
	return m
}()

// protected reports whether PROPPATCH may not set a property: those the server computes, and those
// of protocols that only a server could keep true.
func protected(n xml.Name) bool {
	if l := liveByName[n]; l != nil {
		return !l.stored
	}
	if n.Space == nsOwn {
		return true
	}
	switch n {
	case davName("resource-id"), davName("group"), calName("calendar-data"), cardName("address-data"),
		calName("schedule-inbox-URL"), calName("schedule-outbox-URL"):
		return true
	}
	return false
}

type writer = func(c *propContext, dst []byte) ([]byte, bool, error)

func constant(value string) writer {
	return func(_ *propContext, dst []byte) ([]byte, bool, error) { return append(dst, value...), true, nil }
}

func onPrincipal(w writer) writer {
	return func(c *propContext, dst []byte) ([]byte, bool, error) {
		if c.t.place != placePrincipal {
			return dst, false, nil
		}
		return w(c, dst)
	}
}

func onKind(k holdfast.Kind, w writer) writer {
	return func(c *propContext, dst []byte) ([]byte, bool, error) {
		if c.t.place != placeCollection || c.t.coll.Kind != k {
			return dst, false, nil
		}
		return w(c, dst)
	}
}

func writeResourceType(c *propContext, dst []byte) ([]byte, bool, error) {
	switch c.t.place {
	case placeResource:
	case placePrincipal:
		dst = append(dst, "<D:collection/><D:principal/>"...) // RFC 3744, 4
	case placeCollection:
		dst = append(dst, "<D:collection/>"...)
		if t := kind.ResourceType(c.t.coll.Kind); t != "" {
			dst = appendEmpty(dst, unclark(t))
		}
	default:
		dst = append(dst, "<D:collection/>"...)
	}
	return dst, true, nil
}

// writeDisplayName names what nobody gave a name.
func writeDisplayName(c *propContext, dst []byte) ([]byte, bool, error) {
	if c.t.place == placePrincipal || c.t.isHome() {
		return appendText(dst, c.q.who.Name), true, nil
	}
	return dst, false, nil
}

func writeETag(c *propContext, dst []byte) ([]byte, bool, error) {
	if c.t.place != placeResource {
		return dst, false, nil
	}
	return append(dst, c.t.res.ETag()...), true, nil // hex in quotes
}

func writeContentType(c *propContext, dst []byte) ([]byte, bool, error) {
	if c.t.place != placeResource {
		return dst, false, nil
	}
	return appendText(dst, contentType(c.t.coll.Kind, c.t.res)), true, nil
}

func writeContentLength(c *propContext, dst []byte) ([]byte, bool, error) {
	if c.t.place != placeResource {
		return dst, false, nil
	}
	return strconv.AppendInt(dst, c.t.res.Size, 10), true, nil
}

func writeLastModified(c *propContext, dst []byte) ([]byte, bool, error) {
	at := int64(0)
	switch c.t.place {
	case placeResource:
		at = c.t.res.Modified
	case placeCollection:
		at = c.t.coll.Modified
	default:
		return dst, false, nil
	}
	return time.UnixMilli(at).UTC().AppendFormat(dst, http.TimeFormat), true, nil
}

func writeCreationDate(c *propContext, dst []byte) ([]byte, bool, error) {
	at := int64(0)
	switch c.t.place {
	case placeResource:
		at = createdAt(c.t.res)
	case placeCollection:
		at = c.t.coll.Created
	default:
		return dst, false, nil
	}
	return time.UnixMilli(at).UTC().AppendFormat(dst, time.RFC3339), true, nil
}

func writePrincipalHref(c *propContext, dst []byte) ([]byte, bool, error) {
	return appendHref(dst, []string{principals, c.q.who.Name}, true), true, nil
}

// writeHome serves both home sets; the well-known address has them too, for clients that ask there.
func writeHome(c *propContext, dst []byte) ([]byte, bool, error) {
	if c.t.place != placePrincipal && c.t.place != placeRoot && !c.t.isHome() {
		return dst, false, nil
	}
	return appendHref(dst, []string{c.q.who.Name}, true), true, nil
}

// writeAddresses gives the mail address that scheduling clients compare ORGANIZER and ATTENDEE with (RFC 6638, 2.4.1).
func writeAddresses(c *propContext, dst []byte) ([]byte, bool, error) {
	address := c.q.who.Name
	if !strings.Contains(address, "@") {
		domain := c.q.h.cfg.Domain
		if domain == "" {
			domain = c.q.Host
			if host, _, err := net.SplitHostPort(domain); err == nil {
				domain = host
			}
		}
		address += "@" + domain
	}
	dst = append(dst, "<D:href>mailto:"...)
	dst = append(appendEscaped(dst, address), "</D:href>"...)
	dst, _, err := writePrincipalHref(c, dst)
	return dst, true, err
}

const (
	readPrivileges  = "<D:privilege><D:read/></D:privilege><D:privilege><D:read-current-user-privilege-set/></D:privilege>"
	busyPrivilege   = "<D:privilege><C:read-free-busy/></D:privilege>" // RFC 4791, 6.1.1: a part of read
	writePrivilegeS = "<D:privilege><D:write/></D:privilege><D:privilege><D:write-properties/></D:privilege><D:privilege><D:write-content/></D:privilege>"
	bindPrivileges  = "<D:privilege><D:bind/></D:privilege><D:privilege><D:unbind/></D:privilege>"

	supportedPrivileges = "<D:supported-privilege><D:privilege><D:all/></D:privilege><D:abstract/><D:description xml:lang=\"en\">everything</D:description>" +
		"<D:supported-privilege><D:privilege><D:read/></D:privilege><D:description xml:lang=\"en\">read</D:description>" +
		"<D:supported-privilege><D:privilege><D:read-current-user-privilege-set/></D:privilege><D:description xml:lang=\"en\">read own privileges</D:description></D:supported-privilege>" +
		"<D:supported-privilege><D:privilege><C:read-free-busy/></D:privilege><D:description xml:lang=\"en\">read when the owner is busy</D:description></D:supported-privilege>" +
		"</D:supported-privilege>" +
		"<D:supported-privilege><D:privilege><D:write/></D:privilege><D:description xml:lang=\"en\">write</D:description>" +
		"<D:supported-privilege><D:privilege><D:write-properties/></D:privilege><D:description xml:lang=\"en\">write properties</D:description></D:supported-privilege>" +
		"<D:supported-privilege><D:privilege><D:write-content/></D:privilege><D:description xml:lang=\"en\">write content</D:description></D:supported-privilege>" +
		"<D:supported-privilege><D:privilege><D:bind/></D:privilege><D:description xml:lang=\"en\">add members</D:description></D:supported-privilege>" +
		"<D:supported-privilege><D:privilege><D:unbind/></D:privilege><D:description xml:lang=\"en\">remove members</D:description></D:supported-privilege>" +
		"</D:supported-privilege></D:supported-privilege>"
)

// writePrivileges says what the principal may do (RFC 3744, 5.4): everything with its own, nothing with what the server makes up.
func writePrivileges(c *propContext, dst []byte) ([]byte, bool, error) {
	dst = append(dst, readPrivileges...)
	if c.t.isHome() || !c.t.isVirtual() && c.t.coll.Kind == holdfast.KindCalendar {
		dst = append(dst, busyPrivilege...)
	}
	switch c.t.place {
	case placeCollection:
		dst = append(dst, writePrivilegeS+bindPrivileges...)
	case placeResource:
		dst = append(dst, writePrivilegeS...)
	}
	return dst, true, nil
}

func writeACL(c *propContext, dst []byte) ([]byte, bool, error) {
	dst = append(dst, "<D:ace><D:principal>"...)
	dst, _, err := writePrincipalHref(c, dst)
	dst = append(dst, "</D:principal><D:grant>"...)
	if err == nil {
		dst, _, err = writePrivileges(c, dst)
	}
	return append(dst, "</D:grant><D:protected/></D:ace>"...), true, err
}

// writeReportSet lists the reports that work at the target (RFC 3253, 3.1.5).
func writeReportSet(c *propContext, dst []byte) ([]byte, bool, error) {
	for _, r := range reports {
		if r.serves(c.t) {
			dst = append(dst, "<D:supported-report><D:report>"...)
			dst = appendEmpty(dst, r.name)
			dst = append(dst, "</D:report></D:supported-report>"...)
		}
	}
	return dst, true, nil
}

func writeSyncToken(c *propContext, dst []byte) ([]byte, bool, error) {
	if c.t.place != placeCollection {
		return dst, false, nil
	}
	h, err := lastChange(c.v, c.t.coll)
	if err != nil {
		return dst, false, fmt.Errorf("sync token: %w", err)
	}
	return appendText(dst, tokenOf(c.v, c.t.coll, h)), true, nil
}

// writeCTag changes with, and only with, changes of the collection or its members.
func writeCTag(c *propContext, dst []byte) ([]byte, bool, error) {
	if c.t.place != placeCollection {
		return dst, false, nil
	}
	h, err := lastChange(c.v, c.t.coll)
	if err != nil {
		return dst, false, fmt.Errorf("ctag: %w", err)
	}
	return append(append(append(dst, '"'), h.String()...), '"'), true, nil
}

func writeMaxSize(c *propContext, dst []byte) ([]byte, bool, error) {
	return strconv.AppendInt(dst, c.q.h.cfg.MaxObject, 10), true, nil
}

func writeComponentSet(c *propContext, dst []byte) ([]byte, bool, error) {
	for _, name := range componentSet(c.t.coll) {
		dst = append(dst, `<C:comp name="`...)
		dst = append(appendAttr(dst, name), `"/>`...)
	}
	return dst, true, nil
}

// defaultComponents is what a calendar takes that was made without a component set (RFC 4791, 5.2.3).
var defaultComponents = []string{"VEVENT", "VTODO", "VJOURNAL"}

// componentSet returns the component types a calendar takes.
func componentSet(coll *ledger.Collection) []string {
	v, ok := property(coll.Props, calName("supported-calendar-component-set"))
	if !ok {
		return defaultComponents
	}
	var set []string
	for _, n := range fragment(v) {
		if n.name.Local == "comp" {
			if name, ok := n.attr("name"); ok {
				set = append(set, strings.ToUpper(name))
			}
		}
	}
	if len(set) == 0 {
		return defaultComponents
	}
	return set
}
