package dav

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The tests named TestClientNN are the behaviours of docs/clients.md, by their numbers.

// 1. /.well-known answers PROPFIND and GET with a redirect. 2. It is a path, so https stays https.
func TestClient01And02WellKnown(t *testing.T) {
	s := newServer(t)
	for _, method := range []string{"GET", "PROPFIND", "HEAD", "OPTIONS"} {
		for _, name := range []string{"caldav", "carddav"} {
			a := s.do(method, "/.well-known/"+name, "").want(http.StatusMovedPermanently)
			if got := a.header.Get("Location"); got != "/dav/" {
				t.Errorf("%s %s: Location %q", method, name, got)
			}
		}
	}
	s.do("GET", "/.well-known/other", "").want(http.StatusNotFound)
}

// 3. current-user-principal is answered where the redirect leads, and everywhere else.
func TestClient03CurrentUserPrincipal(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/Files/x", "x")
	for _, at := range []string{"/dav/", "/dav", "/dav/principals/anna/", "/dav/anna/", "/dav/anna/calendar/", "/dav/anna/Files/x"} {
		s.propfind(at, "0", "<D:current-user-principal/>").want(207).has("<D:current-user-principal><D:href>/dav/principals/anna/</D:href></D:current-user-principal>")
	}
}

// 4. An outage is never 401, 403 or 404; 20: it is 503 with Retry-After. 19, 21: an emptied or lost
// store is an outage, not an empty listing and not a bad token.
func TestClient04And19And20Outage(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/calendar/1.ics", event("1", "20260301T100000Z", "x"))
	token := s.sync("/dav/anna/calendar/", "", 0).multi().Token
	if err := os.RemoveAll(filepath.Join(s.cfg.Dir, "store")); err != nil {
		t.Fatal(err)
	}
	// Without its mirror too nothing can heal, so the fence stays closed.
	if err := os.Rename(filepath.Join(s.dir, "mirror"), filepath.Join(s.dir, "gone")); err != nil {
		t.Fatal(err)
	}
	unavailable := func(a *answer) {
		t.Helper()
		if a.want(http.StatusServiceUnavailable); a.header.Get("Retry-After") == "" {
			t.Errorf("%s: 503 without Retry-After", a.what)
		}
	}
	for _, p := range []string{"/dav/", "/dav/principals/", "/dav/principals/anna/", "/dav/anna/", "/dav/anna/calendar/", "/dav/anna/calendar/1.ics", "/dav/anna/calendar/none.ics", "/dav/anna/none/", "/dav/ben/", "/dav/anna/%2e%2e/"} {
		for _, method := range []string{"OPTIONS", "GET", "HEAD", "PROPFIND", "PROPPATCH", "MKCOL", "MKCALENDAR", "PUT", "DELETE", "COPY", "MOVE", "REPORT", "LOCK"} {
			unavailable(s.do(method, p, "", "Depth: 0"))
		}
	}
	unavailable(s.sync("/dav/anna/calendar/", token, 0))
	unavailable(s.sync("/dav/anna/calendar/", "garbage", 0))
	unavailable(s.do("PUT", "/dav/anna/calendar/2.ics", "no calendar at all"))
	unavailable(s.do("PUT", "/dav/anna/calendar/1.ics", event("1", "20260301T100000Z", "y"), `If-Match: "x"`))
	unavailable(s.do("PROPFIND", "/dav/anna/", "<not xml"))
}

// 19. Store and mirror went back to last night's copy together: a phone that comes with a token from
// the lost day proves it. It is told to wait, never that its token is bad or its data gone.
func TestClient19TokenFromTheFuture(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/contacts/1.vcf", card("1", "x"))
	old := s.sync("/dav/anna/contacts/", "", 0).multi().Token
	night := filepath.Join(s.dir, "night")
	s.restart(func() {
		for _, d := range []string{"data", "mirror"} {
			if err := os.CopyFS(filepath.Join(night, d), os.DirFS(filepath.Join(s.dir, d))); err != nil {
				t.Fatal(err)
			}
		}
	})
	s.put("/dav/anna/contacts/2.vcf", card("2", "acknowledged, then lost"))
	token := s.sync("/dav/anna/contacts/", "", 0).multi().Token
	s.restart(func() {
		for _, d := range []string{"data", "mirror"} {
			if err := errors.Join(os.RemoveAll(filepath.Join(s.dir, d)), os.Rename(filepath.Join(night, d), filepath.Join(s.dir, d))); err != nil {
				t.Fatal(err)
			}
		}
	})
	s.sync("/dav/anna/contacts/", old, 0).want(207)
	s.sync("/dav/anna/contacts/", token, 0).want(503).lacks("valid-sync-token")
	// Now nothing the account says can be trusted; another account is not touched.
	s.sync("/dav/anna/contacts/", old, 0).want(503)
	s.propfind("/dav/anna/contacts/", "1", "<D:getetag/>").want(503)
	s.do("PUT", "/dav/anna/contacts/2.vcf", card("2", "x"), `If-Match: "x"`).want(503)
	s.do("DELETE", "/dav/anna/contacts/1.vcf", "").want(503)
	s.as("ben", "PROPFIND", "/dav/ben/contacts/", nil, "Depth: 1").want(207)
}

// A token whose signature is wrong says nothing about the account: that request alone waits (F4).
func TestClient19ForgedToken(t *testing.T) {
	s := newServer(t)
	token := s.sync("/dav/anna/contacts/", "", 0).multi().Token
	witness, collection, _ := strings.Cut(token, "?")
	for _, forged := range []string{witness[:len(witness)-4] + "0000", witness[:len(witness)-4] + "0000?" + collection} {
		s.sync("/dav/anna/contacts/", forged, 0).want(503).lacks("valid-sync-token")
	}
	s.sync("/dav/anna/contacts/", token, 0).want(207)
}

// 5. Principal and home URLs end in a slash. 6. The principal has its home sets, addresses and name.
func TestClient05And06Principal(t *testing.T) {
	s := newServer(t)
	a := s.propfind("/dav/principals/anna/", "0", "<C:calendar-home-set/><CR:addressbook-home-set/><C:calendar-user-address-set/><D:displayname/><D:principal-URL/><D:resourcetype/>").want(207)
	a.has("<C:calendar-home-set><D:href>/dav/anna/</D:href></C:calendar-home-set>",
		"<CR:addressbook-home-set><D:href>/dav/anna/</D:href></CR:addressbook-home-set>",
		"<D:href>mailto:anna@cloud.example</D:href>",
		"<D:displayname>anna</D:displayname>",
		"<D:principal-URL><D:href>/dav/principals/anna/</D:href></D:principal-URL>",
		"<D:resourcetype><D:collection/><D:principal/></D:resourcetype>").lacks(" 404 ")
}

// 7. Unknown properties go into a 404 propstat of their own.
func TestClient07UnknownProperties(t *testing.T) {
	s := newServer(t)
	a := s.propfind("/dav/principals/anna/", "0", `<CS:dropbox-home-URL/><CS:notification-URL/><D:displayname/><x:y xmlns:x="urn:a&amp;b"/><z/>`)
	r := a.multi().Responses[0]
	if len(r.Propstats) != 2 || !strings.Contains(r.Propstats[0].Status, "200") || !strings.Contains(r.Propstats[1].Status, "404") {
		t.Fatalf("propstats: %+v", r.Propstats)
	}
	var missing []string
	for _, p := range r.Propstats[1].Prop.Any {
		missing = append(missing, clark(p.XMLName))
	}
	want := []string{"{" + nsCS + "}dropbox-home-URL", "{" + nsCS + "}notification-URL", "{urn:a&b}y", "{}z"}
	if d := cmp.Diff(want, missing); d != "" {
		t.Errorf("missing properties (-want +got):\n%s", d)
	}
	s.do("PROPFIND", "/dav/anna/", `<propfind xmlns="DAV:"><prop><x/><displayname/></prop></propfind>`, "Depth: 0", "Prefer: return=minimal").want(207).lacks("404")
}

// 8. OPTIONS lists what there is. Class 2 comes with LOCK.
func TestClient08Options(t *testing.T) {
	s := newServer(t)
	for _, p := range []string{"/dav/", "/dav/anna/", "/dav/anna/calendar/"} {
		a := s.do("OPTIONS", p, "").want(200)
		if got := a.header.Get("DAV"); got != "1, 2, 3, access-control, calendar-access, addressbook, extended-mkcol" {
			t.Errorf("%s: DAV: %s", p, got)
		}
		if !strings.Contains(a.header.Get("Allow"), "PROPFIND") {
			t.Errorf("%s: Allow: %s", p, a.header.Get("Allow"))
		}
	}
}

// 9. Depth 1 on the home gives everything a phone shows. 12. A task list says that it takes tasks only.
func TestClient09And12Home(t *testing.T) {
	s := newServer(t)
	m := s.propfind("/dav/anna/", "1", "<CS:getctag/><D:displayname/><D:resourcetype/><A:calendar-color/><A:calendar-order/><C:supported-calendar-component-set/><D:current-user-privilege-set/><D:sync-token/>").multi()
	if got, want := m.hrefs(), []string{"/dav/anna/", "/dav/anna/Files/", "/dav/anna/calendar/", "/dav/anna/contacts/", "/dav/anna/tasks/"}; !cmp.Equal(got, want) {
		t.Fatalf("members: %v, want %v", got, want)
	}
	for href, want := range map[string][]string{
		"/dav/anna/calendar/": {"resourcetype", "<D:collection/><C:calendar/>", "supported-calendar-component-set", `<C:comp name="VEVENT"/>`},
		"/dav/anna/tasks/":    {"resourcetype", "<D:collection/><C:calendar/>", "supported-calendar-component-set", `<C:comp name="VTODO"/>`},
		"/dav/anna/contacts/": {"resourcetype", "<D:collection/><CR:addressbook/>"},
		"/dav/anna/Files/":    {"resourcetype", "<D:collection/>"},
	} {
		p := m.find(t, href).Propstats[0].Prop
		if p.CTag == "" || !strings.Contains(p.Token, ":") || p.Name == "" {
			t.Errorf("%s: ctag %q, token %q, name %q", href, p.CTag, p.Token, p.Name)
		}
		got := map[string]string{}
		for _, a := range p.Any {
			got[a.XMLName.Local] = a.Inner
		}
		if !strings.Contains(got["current-user-privilege-set"], "<D:write/>") {
			t.Errorf("%s: privileges %s", href, got["current-user-privilege-set"])
		}
		for i := 0; i < len(want); i += 2 {
			if got[want[i]] != want[i+1] {
				t.Errorf("%s: %s is %s, want %s", href, want[i], got[want[i]], want[i+1])
			}
		}
	}
}

// 10. Colour, order and name are kept, as they were sent.
func TestClient10Color(t *testing.T) {
	s := newServer(t)
	s.do("PROPPATCH", "/dav/anna/calendar/", `<D:propertyupdate`+declared+`><D:set><D:prop><A:calendar-color symbolic-color="custom">#FF00AAFF</A:calendar-color><A:calendar-order>3</A:calendar-order><D:displayname>Käse &amp; Wein</D:displayname></D:prop></D:set></D:propertyupdate>`).
		want(207).has("HTTP/1.1 200 OK").lacks("403")
	s.propfind("/dav/anna/calendar/", "0", "<A:calendar-color/><A:calendar-order/><D:displayname/>").want(207).
		has(`<A:calendar-color symbolic-color="custom">#FF00AAFF</A:calendar-color>`, "<A:calendar-order>3</A:calendar-order>", "<D:displayname>Käse &amp; Wein</D:displayname>").lacks("404")
	s.do("PROPPATCH", "/dav/anna/calendar/", `<D:propertyupdate`+declared+`><D:remove><D:prop><A:calendar-color/></D:prop></D:remove></D:propertyupdate>`).want(207)
	s.propfind("/dav/anna/calendar/", "0", "<A:calendar-color/>").want(207).has("404")
}

// 11. MKCALENDAR with properties and extended MKCOL.
func TestClient11MakeCollections(t *testing.T) {
	s := newServer(t)
	s.do("MKCALENDAR", "/dav/anna/office/", `<C:mkcalendar`+declared+`><D:set><D:prop><D:displayname>Office</D:displayname><A:calendar-color>#123456</A:calendar-color>
<C:supported-calendar-component-set><C:comp name="VTODO"/><C:comp name="VEVENT"/></C:supported-calendar-component-set><C:calendar-timezone>BEGIN:VCALENDAR
BEGIN:VTIMEZONE
END:VTIMEZONE
END:VCALENDAR</C:calendar-timezone></D:prop></D:set></C:mkcalendar>`, "Content-Type: application/xml").want(201)
	s.propfind("/dav/anna/office/", "0", "<D:displayname/><A:calendar-color/><C:supported-calendar-component-set/><D:resourcetype/><C:calendar-timezone/>").want(207).
		has(">Office<", ">#123456<", `<C:comp name="VTODO"/><C:comp name="VEVENT"/>`, "<C:calendar/>", "BEGIN:VTIMEZONE\nEND").lacks("404")
	s.do("MKCALENDAR", "/dav/anna/plain", "").want(201)
	s.do("MKCALENDAR", "/dav/anna/plain/", "").want(405).has("resource-must-be-null")

	mkcol := func(path, kind string) *answer {
		return s.do("MKCOL", path, `<D:mkcol`+declared+`><D:set><D:prop><D:resourcetype><D:collection/>`+kind+`</D:resourcetype><D:displayname>X</D:displayname></D:prop></D:set></D:mkcol>`, "Content-Type: text/xml; charset=utf-8")
	}
	mkcol("/dav/anna/people/", "<CR:addressbook/>").want(201)
	mkcol("/dav/anna/more/", "<C:calendar/>").want(201)
	mkcol("/dav/anna/dir/", "").want(201)
	m := s.propfind("/dav/anna/", "1", "<D:resourcetype/>")
	for href, kind := range map[string]string{"people": "<CR:addressbook/>", "more": "<C:calendar/>"} {
		if r := m.multi().find(t, "/dav/anna/"+href+"/"); r.Propstats[0].Prop.Any[0].Inner != "<D:collection/>"+kind {
			t.Errorf("%s: %+v", href, r.Propstats[0].Prop.Any)
		}
	}
	mkcol("/dav/anna/bad/", `<x xmlns="urn:x"/>`).want(403).has("valid-resourcetype")
	mkcol("/dav/anna/calendar/inside/", "<C:calendar/>").want(403).has("calendar-collection-location-ok")
	mkcol("/dav/anna/Files/inside/", "<CR:addressbook/>").want(403).has("addressbook-collection-location-ok")
	mkcol("/dav/anna/contacts/inside/", "").want(403)
	mkcol("/dav/anna/none/inside/", "").want(409)
	s.do("MKCOL", "/dav/anna/bad/", `<D:mkcol`+declared+`><D:set><D:prop><D:resourcetype><D:collection/></D:resourcetype><D:getetag>x</D:getetag><D:displayname>y</D:displayname></D:prop></D:set></D:mkcol>`).
		want(424).has("mkcol-response", "cannot-modify-protected-property", "424 Failed Dependency")
	s.propfind("/dav/anna/bad/", "0", "<D:displayname/>").want(404)
}

// 13. An empty token lists every member with its ETag. 14. There is always a token. 23. It is a URI.
// 16. A removed member is a response with a 404 of its own.
func TestClient13To16And23Sync(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/contacts/a.vcf", card("a", "A"))
	b := s.put("/dav/anna/contacts/b.vcf", card("b", "B"))
	m := s.sync("/dav/anna/contacts/", "", 0).multi()
	if got := m.hrefs(); !cmp.Equal(got, []string{"/dav/anna/contacts/a.vcf", "/dav/anna/contacts/b.vcf"}) {
		t.Fatalf("first sync: %v", got)
	}
	if m.Responses[1].Propstats[0].Prop.ETag != b {
		t.Errorf("etag %+v, want %s", m.Responses[1].Propstats[0], b)
	}
	if !strings.Contains(m.Token, ":") {
		t.Errorf("token %q is no URI", m.Token)
	}
	if again := s.sync("/dav/anna/contacts/", m.Token, 0).multi(); len(again.Responses) != 0 || again.Token != m.Token {
		t.Errorf("nothing changed: %v, token %s, was %s", again.hrefs(), again.Token, m.Token)
	}
	s.put("/dav/anna/calendar/other.ics", event("o", "20260301T100000Z", "other"))
	if again := s.sync("/dav/anna/contacts/", m.Token, 0).multi(); len(again.Responses) != 0 || again.Token != m.Token {
		t.Errorf("another collection changed: %v, token %s, was %s", again.hrefs(), again.Token, m.Token)
	}
	s.do("DELETE", "/dav/anna/contacts/a.vcf", "").want(204)
	s.put("/dav/anna/contacts/c.vcf", card("c", "C"))
	s.put("/dav/anna/contacts/d.vcf", card("d", "D"))
	s.do("DELETE", "/dav/anna/contacts/d.vcf", "").want(204)
	a := s.sync("/dav/anna/contacts/", m.Token, 0)
	if got, want := a.multi().hrefs(), []string{"-/dav/anna/contacts/a.vcf", "/dav/anna/contacts/c.vcf", "-/dav/anna/contacts/d.vcf"}; !cmp.Equal(got, want) {
		t.Errorf("delta: %v, want %v", got, want)
	}
	a.has("<D:response><D:href>/dav/anna/contacts/a.vcf</D:href><D:status>HTTP/1.1 404 Not Found</D:status></D:response>")
	if token := s.propfind("/dav/anna/contacts/", "0", "<D:sync-token/>").multi().Responses[0].Propstats[0].Prop.Token; token != a.multi().Token {
		t.Errorf("PROPFIND has token %s, sync %s", token, a.multi().Token)
	}
}

// 15. Depth 0, Depth 1 and none.
func TestClient15SyncDepth(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/contacts/a.vcf", card("a", "A"))
	for _, h := range [][]string{{"Depth: 0"}, {"Depth: 1"}, {}} {
		if got := s.sync("/dav/anna/contacts/", "", 0, h...).multi().hrefs(); len(got) != 1 {
			t.Errorf("%v: %v", h, got)
		}
	}
	body := `<D:sync-collection` + declared + `><D:sync-token/><D:sync-level>infinite</D:sync-level><D:prop/></D:sync-collection>`
	s.do("REPORT", "/dav/anna/contacts/", body).want(403).has("sync-traversal-supported")
	s.do("REPORT", "/dav/anna/contacts/", strings.Replace(body, "infinite", "7", 1)).want(400)
	s.do("REPORT", "/dav/anna/contacts/", strings.Replace(body, "<D:sync-level>infinite</D:sync-level>", "", 1), "Depth: 1").want(207)
}

// 17, 18. A token that is none of ours is 403 with valid-sync-token in the body.
func TestClient17And18BadToken(t *testing.T) {
	s := newServer(t)
	for _, token := range []string{"6F9619FF-8B86-D011-B42D-00CF4FC964FF", "http://sabre.io/ns/sync/12", "holdfast:1/", "data:,7", strings.Repeat("x", 9000), "&lt;&amp;"} {
		s.sync("/dav/anna/contacts/", token, 0).want(403).has("<D:error", "<D:valid-sync-token/>")
	}
}

// A token of a collection that was at the path before says nothing of the one that is there now.
func TestSyncTokenOfAnotherCollection(t *testing.T) {
	s := newServer(t)
	s.do("MKCALENDAR", "/dav/anna/one/", "").want(201)
	s.put("/dav/anna/one/1.ics", event("1", "20260301T100000Z", "x"))
	token := s.sync("/dav/anna/one/", "", 0).multi().Token
	s.do("MKCALENDAR", "/dav/anna/two/", "").want(201)
	s.put("/dav/anna/two/2.ics", event("2", "20260301T100000Z", "x"))
	s.do("DELETE", "/dav/anna/one/", "").want(204)
	s.sync("/dav/anna/one/", token, 0).want(404)
	s.do("MKCALENDAR", "/dav/anna/one/", "").want(201)
	s.sync("/dav/anna/one/", token, 0).want(403).has("valid-sync-token")
	token = s.sync("/dav/anna/one/", "", 0).multi().Token
	s.do("MOVE", "/dav/anna/two/", "", "Destination: /dav/anna/one/").want(204)
	s.sync("/dav/anna/one/", token, 0).want(403).has("valid-sync-token")
	if got := s.sync("/dav/anna/one/", "", 0).multi().hrefs(); !cmp.Equal(got, []string{"/dav/anna/one/2.ics"}) {
		t.Errorf("after the move: %v", got)
	}
	s.propfind("/dav/anna/one/", "0", `<placed xmlns="holdfast:"/>`).want(207).has("404 Not Found")
	s.do("PROPFIND", "/dav/anna/one/", "", "Depth: 0").want(207).lacks("holdfast:\"")
	s.do("PROPPATCH", "/dav/anna/one/", `<D:propertyupdate`+declared+`><D:set><D:prop><placed xmlns="holdfast:">0</placed></D:prop></D:set></D:propertyupdate>`).want(207).has("403")
}

// 22. A DAV:error is never empty.
func TestClient22NoEmptyError(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/calendar/1.ics", event("1", "20260301T100000Z", "x"))
	for _, a := range []*answer{
		s.do("DELETE", "/dav/anna/", ""),
		s.do("DELETE", "/dav/principals/anna/", ""),
		s.do("DELETE", "/dav/", ""),
		s.do("PROPFIND", "/dav/anna/", "", "Depth: infinity"),
		s.do("REPORT", "/dav/anna/", `<x xmlns="DAV:"/>`),
		s.do("PUT", "/dav/anna/calendar/x.ics", "junk"),
		s.do("PUT", "/dav/anna/contacts/x.vcf", "junk"),
		s.do("PUT", "/dav/anna/.snapshots", "x"),
		s.do("PUT", "/dav/anna/tasks/x.ics", event("x", "20260301T100000Z", "x")),
		s.sync("/dav/anna/calendar/", "junk", 0),
		s.do("MOVE", "/dav/anna/calendar/1.ics", "", "Destination: /dav/ben/calendar/1.ics"),
	} {
		if a.want(403); !strings.Contains(a.body, "<D:error") || !strings.Contains(a.body, "></D:error>") || strings.Contains(a.body, `ical/"></D:error>`) {
			t.Errorf("%s: %s", a.what, a.body)
		}
	}
	s.do("DELETE", "/dav/anna/", "").has("need-privileges")
}

// 24. 507 on the collection's own href says that there is more; the pages together are the whole.
func TestClient24Truncated(t *testing.T) {
	s := newServer(t)
	var want []string
	for i := range 7 {
		name := fmt.Sprintf("/dav/anna/contacts/%d.vcf", i)
		s.put(name, card(fmt.Sprint(i), "N"))
		want = append(want, name)
	}
	var got []string
	token, pages := "", 0
	for {
		m := s.sync("/dav/anna/contacts/", token, 3).multi()
		pages++
		more := false
		for _, h := range m.hrefs() {
			if h == "507 /dav/anna/contacts/" {
				more = true
			} else {
				got = append(got, h)
			}
		}
		if token = m.Token; token == "" {
			t.Fatal("page without a token")
		}
		if !more {
			break
		}
	}
	if !cmp.Equal(got, want) || pages != 3 {
		t.Errorf("%d pages: %v, want %v", pages, got, want)
	}
	s.do("REPORT", "/dav/anna/contacts/", `<D:sync-collection`+declared+`><D:sync-token/><D:sync-level>1</D:sync-level><D:limit><D:nresults>0</D:nresults></D:limit><D:prop/></D:sync-collection>`).want(400)
}

// 25. Sync answers say what a member is.
func TestClient25ContentType(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/calendar/no-extension", event("1", "20260301T100000Z", "x"))
	s.put("/dav/anna/tasks/1", todo("1", "x"))
	s.put("/dav/anna/contacts/1", card("1", "x"))
	for path, want := range map[string]string{
		"/dav/anna/calendar/": "text/calendar; charset=utf-8; component=VEVENT",
		"/dav/anna/tasks/":    "text/calendar; charset=utf-8; component=VTODO",
		"/dav/anna/contacts/": "text/vcard; charset=utf-8",
	} {
		m := s.sync(path, "", 0).multi()
		if got := m.Responses[0].Propstats[0].Prop.Type; got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
		if got := s.do("GET", m.Responses[0].Href, "").want(200).header.Get("Content-Type"); got != want {
			t.Errorf("GET %s: %q, want %q", path, got, want)
		}
	}
}

// 26. getctag changes with every change and only then.
func TestClient26CTag(t *testing.T) {
	s := newServer(t)
	ctag := func() string {
		return s.propfind("/dav/anna/calendar/", "0", "<CS:getctag/>").multi().Responses[0].Propstats[0].Prop.CTag
	}
	seen := map[string]bool{ctag(): true}
	changed := func(what string, want bool) {
		t.Helper()
		c := ctag()
		if seen[c] == want {
			t.Errorf("%s: ctag %s, changed: %v, want %v", what, c, !seen[c], want)
		}
		seen[c] = true
	}
	one := event("1", "20260301T100000Z", "x")
	s.put("/dav/anna/calendar/1.ics", one)
	changed("new resource", true)
	s.put("/dav/anna/calendar/1.ics", one)
	changed("the same body again", false)
	s.put("/dav/anna/tasks/1.ics", todo("1", "x"))
	changed("another collection", false)
	s.do("GET", "/dav/anna/calendar/1.ics", "")
	changed("reading", false)
	s.do("PUT", "/dav/anna/calendar/1.ics", event("1", "20260301T100000Z", "y"), "If-None-Match: *").want(412)
	changed("a refused change", false)
	s.put("/dav/anna/calendar/1.ics", event("1", "20260301T100000Z", "y"))
	changed("an update", true)
	s.do("PROPPATCH", "/dav/anna/calendar/", `<D:propertyupdate`+declared+`><D:set><D:prop><D:displayname>New</D:displayname></D:prop></D:set></D:propertyupdate>`).want(207)
	changed("a property", true)
	s.do("DELETE", "/dav/anna/calendar/1.ics", "").want(204)
	changed("a delete", true)
	s.do("DELETE", "/dav/anna/calendar/1.ics", "").want(404)
	changed("a delete of nothing", false)
}
