package dav

import (
	"slices"
	"strings"
	"testing"
)

// report sends a REPORT whose root element is given with all that is inside.
func (s *server) report(target, root, inner string, headers ...string) *answer {
	s.t.Helper()
	name, _, _ := strings.Cut(root, " ")
	return s.do("REPORT", target, "<"+root+declared+">"+inner+"</"+name+">", headers...)
}

func TestExpandProperty(t *testing.T) {
	s := newServer(t)
	a := s.report("/dav/", "D:expand-property", `<D:property name="current-user-principal"><D:property name="calendar-home-set" namespace="urn:ietf:params:xml:ns:caldav"><D:property name="displayname"/><D:property name="getetag"/></D:property><D:property name="displayname"/></D:property><D:property name="nothing"/>`)
	a.want(207).has("<D:current-user-principal><D:response><D:href>/dav/principals/anna/</D:href>",
		"<C:calendar-home-set><D:response><D:href>/dav/anna/</D:href><D:propstat><D:prop><D:displayname>anna</D:displayname></D:prop>", "<D:prop><D:getetag/></D:prop><D:status>HTTP/1.1 404", "<D:prop><D:nothing/></D:prop>")
	a.multi()
	// A property without references, and one with them that nothing is wanted of, stay as they are.
	s.report("/dav/anna/calendar/", "D:expand-property", `<D:property name="displayname"><D:property name="displayname"/></D:property><D:property name="owner"/>`).
		want(207).has("<D:displayname>Calendar</D:displayname>", "<D:owner><D:href>/dav/principals/anna/</D:href></D:owner>")
	// A dead property may refer to anything: to what is not there, to another account, to itself.
	s.do("PROPPATCH", "/dav/anna/calendar/", `<D:propertyupdate`+declared+`><D:set><D:prop><x xmlns="y"><D:href>/dav/ben/calendar/</D:href><D:href>/dav/anna/none</D:href><D:href>/dav/anna/calendar/</D:href><z/></x></D:prop></D:set></D:propertyupdate>`).want(207)
	a = s.report("/dav/anna/calendar/", "D:expand-property", `<D:property name="x" namespace="y"><D:property name="resourcetype"/></D:property>`)
	a.want(207).has(`<D:response><D:href>/dav/ben/calendar/</D:href><D:status>HTTP/1.1 404 Not Found</D:status></D:response>`,
		`<D:response><D:href>/dav/anna/none</D:href><D:status>HTTP/1.1 404 Not Found</D:status></D:response>`, "<C:calendar/>", `<z xmlns="y"/>`).multi()
	if n := strings.Count(a.body, "resourcetype>"); n != 2 {
		t.Errorf("resourcetype %d times in %s", n, a.body)
	}
	hrefs := strings.Repeat("<D:href>/dav/anna/calendar/</D:href>", 50)
	s.do("PROPPATCH", "/dav/anna/calendar/", `<D:propertyupdate`+declared+`><D:set><D:prop><x xmlns="y">`+hrefs+`</x></D:prop></D:set></D:propertyupdate>`).want(207)
	nest := func(n int) string {
		return strings.Repeat(`<D:property name="x" namespace="y">`, n) + strings.Repeat("</D:property>", n)
	}
	s.report("/dav/anna/calendar/", "D:expand-property", nest(8)).want(403).has("<D:number-of-matches-within-limits/>")
	for _, bad := range []string{nest(9), `<D:property/>`, `<D:property name="a b"/>`, `<D:property name="&lt;"/>`, `<D:property name="x:y"/>`} {
		s.report("/dav/anna/calendar/", "D:expand-property", bad).want(400)
	}
	s.report("/dav/anna/calendar/", "D:expand-property", nest(1), "Depth: 1").want(400)
	s.report("/dav/ben/", "D:expand-property", nest(1)).want(404)
}

func TestPrincipalReports(t *testing.T) {
	s := newServer(t)
	search := func(test, inner string) []string {
		return s.report("/dav/principals/", "D:principal-property-search"+test, inner+"<D:prop><D:displayname/><C:calendar-home-set/></D:prop>").multi().hrefs()
	}
	term := func(prop, kind, match string) string {
		return "<D:property-search><D:prop><" + prop + "/></D:prop><D:match" + kind + ">" + match + "</D:match></D:property-search>"
	}
	self := []string{"/dav/principals/anna/"}
	for _, c := range []struct {
		test, inner string
		want        []string
	}{
		{"", term("D:displayname", "", "NN"), self},
		{"", term("D:displayname", "", "ben"), []string{}}, // nobody learns of others
		{"", term("C:calendar-user-address-set", "", "anna@cloud"), self},
		{"", term("C:calendar-user-address-set", ` match-type="starts-with"`, "ANNA@"), self},
		{"", term("C:calendar-user-address-set", ` match-type="equals"`, "anna"), []string{}},
		{"", term("D:displayname", ` match-type="equals"`, "anna"), self},
		{"", term("D:displayname", ` match-type="ends-with"`, "na"), self},
		{"", term("D:displayname", "", "anna") + term("D:displayname", "", "x"), []string{}},
		{` test="anyof"`, term("D:displayname", "", "anna") + term("D:displayname", "", "x"), self},
		{` test="anyof"`, term("D:displayname", "", "y") + term("D:displayname", "", "x"), []string{}},
		{"", term("D:getetag", "", ""), []string{}},
	} {
		if got := search(c.test, c.inner); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: got %v, want %v", c.test, c.inner, got, c.want)
		}
	}
	s.report("/dav/anna/calendar/", "D:principal-property-search", term("D:displayname", "", "anna")+"<D:prop><D:displayname/></D:prop><D:apply-to-principal-collection-set/>").want(207).has("/dav/principals/anna/")
	s.report("/dav/principals/", "D:principal-search-property-set", "").want(200).has("<D:principal-search-property><D:prop><D:displayname/></D:prop><D:description xml:lang=\"en\">", "<C:calendar-user-address-set/>")
	s.report("/dav/principals/", "D:principal-match", "<D:self/><D:prop><D:displayname/></D:prop>").want(207).has("/dav/principals/anna/", "<D:displayname>anna<")
	s.report("/dav/principals/", "D:principal-match", "<D:self/>").want(207).has("/dav/principals/anna/")
	if got := s.report("/dav/anna/calendar/", "D:principal-match", "<D:self/>").multi().hrefs(); len(got) != 0 {
		t.Errorf("principals in a calendar: %v", got)
	}
	s.report("/dav/anna/", "D:principal-match", "<D:principal-property><D:owner/></D:principal-property>").want(403).has("<D:number-of-matches-within-limits/>")
	s.report("/dav/anna/calendar/", "D:acl-principal-prop-set", "<D:prop><D:displayname/></D:prop>").want(207).has("/dav/principals/anna/", "<D:displayname>anna<")
	for root, inner := range map[string]string{
		"D:principal-property-search": term("D:displayname", "", "anna"), "D:principal-search-property-set": "", "D:principal-match": "<D:self/>", "D:acl-principal-prop-set": "<D:prop/>",
	} {
		s.report("/dav/principals/", root, inner, "Depth: 1").want(400)
		s.report("/dav/principals/ben/", root, inner).want(404)
	}
	for root, inner := range map[string]string{
		"D:principal-property-search": "<D:property-search><D:prop/><D:match/></D:property-search>", "D:principal-match": "<D:self/><D:principal-property/>", "D:acl-principal-prop-set": "",
	} {
		s.report("/dav/principals/", root, inner).want(400)
	}
	s.report("/dav/principals/", "D:principal-property-search", "<D:prop/>").want(400)
	s.report("/dav/", "D:principal-property-search", "<D:prop/><C:calendar-home-set/><D:displayname/>").want(207).has("<C:calendar-home-set><D:href>/dav/anna/", "<D:displayname>anna<") // python-caldav
	s.report("/dav/", "D:principal-property-search", term("D:displayname", "", "ben")+"<D:prop/><D:displayname/>").want(207).lacks("anna")
	s.propfind("/dav/principals/anna/", "0", "<D:group-member-set/><C:calendar-user-type/><C:schedule-inbox-URL/><D:supported-report-set/>").
		has("<D:group-member-set></D:group-member-set>", ">INDIVIDUAL<", "<D:prop><C:schedule-inbox-URL/></D:prop><D:status>HTTP/1.1 404", "<D:expand-property/>", "<D:principal-property-search/>")
}

// RFC 3744, 7.1.1: a 403 says which privilege is missing where.
func TestNeedPrivileges(t *testing.T) {
	s := newServer(t)
	s.do("DELETE", "/dav/anna/", "").want(403).has("<D:need-privileges><D:resource><D:href>/dav/anna</D:href><D:privilege><D:unbind/></D:privilege></D:resource></D:need-privileges>")
	s.do("PUT", "/dav/anna/.snapshots", "x").want(403).has("<D:privilege><D:write-content/>")
	s.do("MKCOL", "/dav/anna/.snapshots", "").want(403).has("<D:privilege><D:bind/>")
}
