package dav

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"holdfast"
	"holdfast/internal/ledger"
)

// A folder's sync tells of subfolders that came, went and changed their name, exactly once, and its
// ctag moves with them and only with them.
func TestSyncFolders(t *testing.T) {
	s := newServer(t)
	const files = "/dav/anna/Files/"
	ctag := func() string {
		return s.propfind(files, "0", "<CS:getctag/>").multi().find(t, files).Propstats[0].Prop.CTag
	}
	s.do("MKCOL", files+"kept/", "").want(201)
	s.do("MKCOL", files+"gone/", "").want(201)
	s.do("MKCOL", files+"old/", "").want(201)
	s.do("MKCOL", files+"swap/", "").want(201)
	s.put(files+"paws", "x")
	token := s.sync(files, "", 0).multi().Token
	step := func(what string, want []string) {
		t.Helper()
		before := ctag()
		m := s.sync(files, token, 0).multi()
		if got := m.hrefs(); !cmp.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
		again := s.sync(files, m.Token, 0).multi()
		if len(again.Responses) > 0 || again.Token != m.Token || ctag() != before {
			t.Errorf("%s: then %v, token moved: %v, ctag moved: %v", what, again.hrefs(), again.Token != m.Token, ctag() != before)
		}
		token = m.Token
	}
	step("nothing", []string{})
	was := ctag()
	s.do("DELETE", files+"gone/", "").want(204)
	if ctag() == was {
		t.Error("the ctag did not move with a folder that went")
	}
	step("delete", []string{"-" + files + "gone/"})
	s.do("MOVE", files+"old/", "", "Destination: "+files+"new/").want(201)
	step("rename", []string{"-" + files + "old/", files + "new/"})
	s.do("MKCOL", files+"passing/", "").want(201)
	s.do("DELETE", files+"passing/", "").want(204)
	step("there and gone", []string{})
	s.do("DELETE", files+"new/", "").want(204)
	s.do("MKCOL", files+"new/", "").want(201)
	step("made again", []string{files + "new/"})
	s.do("DELETE", files+"swap/", "").want(204)
	s.put(files+"swap", "a file now")
	s.do("DELETE", files+"paws", "").want(204)
	s.do("MKCOL", files+"paws/", "").want(201)
	step("changed kind", []string{"-" + files + "swap/", files + "swap", "-" + files + "paws", files + "paws/"})
	s.put(files+"new/inside", "x")
	step("what is deeper does not count", []string{})
}

// The last page of a limited sync has the folders.
func TestSyncFoldersPaged(t *testing.T) {
	s := newServer(t)
	const files = "/dav/anna/Files/"
	for _, n := range []string{"a", "b", "c"} {
		s.put(files+n, n)
		s.do("MKCOL", files+n+n+"/", "").want(201)
	}
	var got []string
	for token := ""; ; {
		m := s.sync(files, token, 1).multi()
		token = m.Token
		more := false
		for _, h := range m.hrefs() {
			if strings.HasPrefix(h, "507 ") {
				more = true
				continue
			}
			got = append(got, strings.TrimPrefix(h, files))
		}
		if !more {
			break
		}
	}
	if want := []string{"a", "b", "c", "aa/", "bb/", "cc/"}; !cmp.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// What changes while a client is between two pages is not lost: a file that became a folder, and a
// folder that became a file, each of which is gone again before the second page.
func TestSyncBetweenPages(t *testing.T) {
	s := newServer(t)
	const files = "/dav/anna/Files/"
	s.put(files+"file", "x")
	s.do("MKCOL", files+"folder/", "").want(201)
	token := s.sync(files, "", 0).multi().Token
	s.do("DELETE", files+"file", "").want(204)
	s.do("DELETE", files+"folder/", "").want(204)
	s.put(files+"folder", "a file now")
	s.do("MKCOL", files+"file/", "").want(201)
	s.put(files+"end", "x")
	known := map[string]bool{"file": true, "folder/": true} // to a client that minds the slash
	loose := map[string]bool{"file": true, "folder": true}  // to one that does not
	for page := 0; ; page++ {
		m := s.sync(files, token, 1).multi()
		token = m.Token
		more := false
		for _, h := range m.hrefs() {
			name := strings.TrimPrefix(strings.TrimPrefix(h, "-"), files)
			switch {
			case strings.HasPrefix(h, "507 "):
				more = true
			case h[0] == '-':
				delete(known, name)
				delete(loose, strings.TrimSuffix(name, "/"))
			default:
				known[name], loose[strings.TrimSuffix(name, "/")] = true, true
			}
		}
		if page == 1 { // between the second and the third
			s.do("DELETE", files+"file/", "").want(204)
		}
		if !more {
			break
		}
	}
	if want := map[string]bool{"folder": true, "end": true}; !cmp.Equal(known, want) || !cmp.Equal(loose, want) {
		t.Errorf("a client knows %v, one that minds no slash %v; want %v", known, loose, want)
	}
}

// A token belongs to one collection (RFC 6578, 3.2): with that of another, changes would be missed.
func TestSyncTokenOfSibling(t *testing.T) {
	s := newServer(t)
	s.put("/dav/anna/contacts/1.vcf", card("1", "x"))
	calendar := s.sync("/dav/anna/calendar/", "", 0).multi().Token
	s.put("/dav/anna/calendar/1.ics", event("1", "20260301T100000Z", "x"))
	later := s.sync("/dav/anna/calendar/", "", 0).multi().Token
	for _, token := range []string{calendar, later, strings.TrimSuffix(later, later[strings.IndexByte(later, '?'):])} {
		s.sync("/dav/anna/contacts/", token, 0).want(403).has("<D:valid-sync-token/>")
	}
	s.sync("/dav/anna/calendar/", calendar, 0).want(207).has("1.ics")
	shown := s.propfind("/dav/anna/calendar/", "0", "<D:sync-token/>").multi().find(t, "/dav/anna/calendar/").Propstats[0].Prop.Token
	if shown != later {
		t.Errorf("PROPFIND shows %s, the report gave %s", shown, later)
	}
	// A folder that comes to a path with the folder above it is another one too.
	for _, f := range []string{"f", "f/sub", "g", "g/sub"} {
		s.do("MKCOL", "/dav/anna/Files/"+f+"/", "").want(201)
	}
	s.put("/dav/anna/Files/f/sub/1", "x")
	s.put("/dav/anna/Files/g/sub/2", "x")
	token := s.sync("/dav/anna/Files/g/sub/", "", 0).multi().Token
	s.do("MOVE", "/dav/anna/Files/f/", "", "Destination: /dav/anna/Files/g/").want(204)
	s.sync("/dav/anna/Files/g/sub/", token, 0).want(403).has("<D:valid-sync-token/>")
}

// asked is a request of anna's that is answered view by view, with changes in between.
func (s *server) asked(method, target string) *request {
	s.t.Helper()
	p, err := parsePath(target)
	if err != nil {
		s.t.Fatal(err)
	}
	return &request{Request: httptest.NewRequest(method, target, nil), h: s.dav, w: httptest.NewRecorder(), who: Principal{Account: anna, Name: "anna"}, path: p}
}

func (s *server) page(q *request, page func(v *ledger.View) (bool, error)) (more bool) {
	s.t.Helper()
	err := q.view(func(v *ledger.View) (err error) {
		more, err = page(v)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return more
}

// What is renamed while a long listing is on its way is in it: a client would take it for deleted.
func TestListingDuringRename(t *testing.T) {
	s := newServer(t)
	long := strings.Repeat("x", 50<<10)
	for i := range 25 {
		name := "/dav/anna/Files/" + string(rune('b'+i/10)) + string(rune('0'+i%10))
		s.put(name, "x")
		s.do("PROPPATCH", name, `<D:propertyupdate`+declared+`><D:set><D:prop><long xmlns="x">`+long+`</long></D:prop></D:set></D:propertyupdate>`).want(207)
	}
	q := s.asked("PROPFIND", "/dav/anna/Files/")
	l := &listing{m: q.multistatus(), want: &selection{all: true}, depth: "1"}
	if !s.page(q, l.page) {
		t.Fatal("it fits one view")
	}
	if err := l.m.flush(); err != nil {
		t.Fatal(err)
	}
	s.do("MOVE", "/dav/anna/Files/d4", "", "Destination: /dav/anna/Files/a9").want(201)
	if s.page(q, l.page) {
		t.Fatal("a third view")
	}
	if b := string(l.m.buf); !strings.Contains(b, "/Files/a9<") || strings.Contains(b, "/Files/d4<") {
		t.Error("what was renamed to a place the listing had passed is missing")
	}
	if b := string(l.m.buf); strings.Contains(b, "/Files/b0<") {
		t.Error("what did not change is told twice")
	}
}

func TestQueryDuringRename(t *testing.T) {
	s := newServer(t)
	long := strings.Repeat("x", 50<<10)
	for i := range 25 {
		name := string(rune('b'+i/10)) + string(rune('0'+i%10))
		s.put("/dav/anna/calendar/"+name, event(name, "20260301T100000Z", long))
	}
	body, err := parseXML([]byte(`<C:calendar-query` + declared + `><D:prop><D:getetag/><C:calendar-data/></D:prop><C:filter><C:comp-filter name="VCALENDAR"/></C:filter></C:calendar-query>`))
	if err != nil {
		t.Fatal(err)
	}
	q := s.asked("REPORT", "/dav/anna/calendar/")
	want, err := reportSelection(q, body)
	if err != nil {
		t.Fatal(err)
	}
	y := &query{q: q, name: body.name, kind: holdfast.KindCalendar, depth: "1", want: want, match: func([]byte) (bool, error) { return true, nil }}
	m := q.multistatus()
	page := func(v *ledger.View) (bool, error) { return y.page(m, v) }
	if !s.page(q, page) {
		t.Fatal("it fits one view")
	}
	if err := m.flush(); err != nil {
		t.Fatal(err)
	}
	s.do("MOVE", "/dav/anna/calendar/d4", "", "Destination: /dav/anna/calendar/a9").want(201)
	if s.page(q, page) {
		t.Fatal("a third view")
	}
	if b := string(m.buf); !strings.Contains(b, "/calendar/a9<") || strings.Contains(b, "/calendar/b0<") {
		t.Error("what was renamed to a place the query had passed is missing, or what did not change is told twice")
	}
}
