package dav

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A modelled client behaves as its public source says; the file of each cites it. Nothing here is a recording, and
// no real program was run for it. A model keeps a copy of one calendar, and goes by what it is told.
type model interface {
	discover()              // finds the calendar from the server's address
	poll()                  // brings copy and server in step, or gives up as the client does
	write(path, ics string) // the person makes or changes an event; poll sends it
	remove(path string)     // the person deletes one
	copied() *replica
	conflicts() bool // an edit that lost the race is kept and reported, not thrown away
}

// thing is one event of a copy.
type thing struct {
	etag, body string
	dirty      bool // not yet sent
	gone       bool // deleted here, not yet told
}

// replica is what a client holds.
type replica struct {
	t       *testing.T
	s       *server
	agent   string
	things  map[string]*thing
	deleted []string // taken away because of what the server said
	fetched int      // bodies
	trouble []int    // statuses that the client takes for an error
}

func newReplica(t *testing.T, s *server, agent string) *replica {
	return &replica{t: t, s: s, agent: agent, things: map[string]*thing{}}
}

func (c *replica) copied() *replica { return c }

func (c *replica) write(path, ics string) {
	th := c.things[path]
	if th == nil {
		th = &thing{}
		c.things[path] = th
	}
	th.body, th.dirty, th.gone = ics, true, false
}

func (c *replica) remove(path string) { c.things[path].gone = true }

// ask sends a request as anna's program.
func (c *replica) ask(method, target, body string, headers ...string) *answer {
	c.t.Helper()
	if !strings.HasPrefix(target, "/") {
		c.t.Fatalf("%s asks for %q", c.agent, target)
	}
	return c.s.do(method, target, body, append(headers, "User-Agent: "+c.agent, "Content-Type: text/xml; charset=utf-8")...)
}

// failed notes an answer that is none of want, and reports it.
func (c *replica) failed(a *answer, want ...int) bool {
	if slices.Contains(want, a.status) {
		return false
	}
	c.trouble = append(c.trouble, a.status)
	return true
}

func (c *replica) drop(path string) {
	if c.things[path] != nil {
		delete(c.things, path)
		c.deleted = append(c.deleted, path)
	}
}

func (c *replica) keep(path, etag, body string) {
	c.things[path] = &thing{etag: etag, body: body}
	c.fetched++
}

// sorted returns the paths of the copy.
func (c *replica) sorted() []string { return slices.Sorted(maps.Keys(c.things)) }

// clean returns what is in step with the server, by path.
func (c *replica) clean() map[string]string {
	out := map[string]string{}
	for p, th := range c.things {
		if !th.dirty && !th.gone {
			out[p] = th.body
		}
	}
	return out
}

// multiget fetches events, batch at a time.
func (c *replica) multiget(cal string, hrefs []string, batch int, depth ...string) bool {
	for some := range slices.Chunk(hrefs, batch) {
		var list strings.Builder
		for _, h := range some {
			list.WriteString("<D:href>" + h + "</D:href>")
		}
		a := c.ask("REPORT", cal, `<C:calendar-multiget xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><D:prop><D:getetag/><C:calendar-data/></D:prop>`+list.String()+`</C:calendar-multiget>`, depth...)
		if c.failed(a, http.StatusMultiStatus) {
			return false
		}
		for _, r := range a.multi().Responses {
			if len(r.Propstats) > 0 && r.Propstats[0].Prop.Cal != "" {
				c.keep(decoded(c.t, r.Href), r.Propstats[0].Prop.ETag, r.Propstats[0].Prop.Cal)
			}
		}
	}
	return true
}

func decoded(t *testing.T, href string) string {
	t.Helper()
	p, err := url.PathUnescape(href)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// followed sends a PROPFIND and follows redirects, as every client does for /.well-known/.
func (c *replica) followed(target, body, depth string) (*answer, string) {
	c.t.Helper()
	for range 3 {
		a := c.ask("PROPFIND", target, body, "Depth: "+depth)
		if a.status/100 != 3 {
			return a, target
		}
		target = a.header.Get("Location")
	}
	c.t.Fatalf("%s: redirected for ever", c.agent)
	return nil, ""
}

// hrefIn returns the href inside a property of a multistatus.
func hrefIn(t *testing.T, a *answer, prop string) string {
	t.Helper()
	for _, r := range a.multi().Responses {
		for _, ps := range r.Propstats {
			for _, p := range ps.Prop.Any {
				if p.XMLName.Local == prop && strings.Contains(ps.Status, " 200") {
					_, rest, _ := strings.Cut(p.Inner, "href")
					_, rest, _ = strings.Cut(rest, ">")
					href, _, _ := strings.Cut(rest, "<")
					return href
				}
			}
		}
	}
	t.Fatalf("no %s in %s", prop, a.body)
	return ""
}

const modelCal = "/dav/anna/calendar/"

func (s *server) mirrorAway(away bool) {
	s.t.Helper()
	from, to := filepath.Join(s.dir, "mirror"), filepath.Join(s.dir, "mirror.away")
	if !away {
		from, to = to, from
	}
	if err := os.Rename(from, to); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) waitOpen() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.ledger.WaitOpen(ctx); err != nil {
		s.t.Fatal(err)
	}
}

// play lets a client live through what can happen to a server. others is another device of the account.
func play(t *testing.T, s *server, m model) {
	t.Helper()
	c := m.copied()
	at := func(n string) string { return modelCal + n + ".ics" }
	is := func(when, path, want string) {
		t.Helper()
		th := c.things[path]
		if th == nil && want != "" || th != nil && (want == "" || !strings.Contains(th.body, "SUMMARY:"+want+"\r\n")) {
			t.Errorf("%s: %s on the client is %+v, want %q", when, path, th, want)
		}
	}
	served := func(when, path, want string) {
		t.Helper()
		a := s.do("GET", path, "")
		if want == "" && a.status != http.StatusNotFound || want != "" && !strings.Contains(a.body, "SUMMARY:"+want+"\r\n") {
			t.Errorf("%s: the server has %d %q at %s, want %q", when, a.status, a.body, path, want)
		}
	}
	quiet := func(when string) {
		t.Helper()
		if len(c.deleted) > 0 {
			t.Errorf("%s: the client deleted %v", when, c.deleted)
		}
		c.deleted, c.trouble, c.fetched = nil, nil, 0
	}
	m.discover()
	m.poll()
	quiet("an empty calendar")

	for _, n := range []string{"1", "2", "3"} {
		s.put(at(n), event(n, "20270301T100000Z", "first"))
	}
	m.poll()
	m.write(at("4"), event("4", "20270302T100000Z", "made here"))
	m.poll()
	is("made elsewhere", at("1"), "first")
	served("made here", at("4"), "made here")
	quiet("first sync")

	s.put(at("1"), event("1", "20270301T100000Z", "changed elsewhere"))
	s.do("DELETE", at("2"), "").want(204)
	m.write(at("4"), event("4", "20270302T100000Z", "changed here"))
	m.remove(at("3"))
	m.poll()
	m.poll()
	is("changed elsewhere", at("1"), "changed elsewhere")
	is("deleted elsewhere", at("2"), "")
	is("deleted here", at("3"), "")
	served("changed here", at("4"), "changed here")
	served("deleted here", at("3"), "")
	if !slices.Equal(c.deleted, []string{at("2")}) || len(c.trouble) > 0 {
		t.Errorf("delta: deleted %v, trouble %v", c.deleted, c.trouble)
	}
	c.deleted = nil
	c.fetched = 0
	m.poll()
	if c.fetched != 0 {
		t.Errorf("nothing changed, and %d events were fetched", c.fetched)
	}

	s.put(at("1"), event("1", "20270301T100000Z", "theirs"))
	m.write(at("1"), event("1", "20270301T100000Z", "mine"))
	m.poll()
	served("conflict", at("1"), "theirs")
	if m.conflicts() {
		is("conflict", at("1"), "mine")
	} else {
		is("conflict", at("1"), "theirs")
	}
	m.write(at("1"), event("1", "20270301T100000Z", "settled"))
	c.things[at("1")].etag = s.do("GET", at("1"), "").header.Get("ETag") // the person has looked at theirs
	m.poll()
	served("settled", at("1"), "settled")
	quiet("conflict")

	playFences(t, s, m)
	playLoss(t, s, m)
}

// playFences: while the fence is closed, or held, a client keeps all it has and all it wants to send. Afterwards it
// sends that, and a heal brings it nothing.
func playFences(t *testing.T, s *server, m model) {
	t.Helper()
	c := m.copied()
	before := c.clean()
	for _, state := range []string{"closed", "held"} {
		path := modelCal + state + ".ics"
		if state == "closed" {
			if err := os.RemoveAll(filepath.Join(s.cfg.Dir, "store")); err != nil {
				t.Fatal(err)
			}
		}
		s.mirrorAway(true)
		m.write(path, event(state, "20270303T100000Z", state))
		c.deleted, c.trouble, c.fetched = nil, nil, 0
		for range 3 {
			m.poll()
		}
		if !maps.Equal(c.clean(), before) || len(c.deleted) > 0 || c.things[path] == nil || !c.things[path].dirty {
			t.Errorf("%s: the client has %v, was %v; deleted %v", state, c.sorted(), slices.Sorted(maps.Keys(before)), c.deleted)
		}
		if len(c.trouble) == 0 || slices.ContainsFunc(c.trouble, func(n int) bool { return n != http.StatusServiceUnavailable }) {
			t.Errorf("%s: the client saw %v, want 503 alone", state, c.trouble)
		}
		s.mirrorAway(false)
		s.waitOpen()
		c.trouble = nil
		m.poll()
		m.poll()
		if len(c.deleted) > 0 || len(c.trouble) > 0 || c.things[path] == nil || c.things[path].dirty {
			t.Errorf("after %s: deleted %v, trouble %v, %+v", state, c.deleted, c.trouble, c.things[path])
		}
		if c.fetched > 1 { // what it has sent itself, if it looks at that again
			t.Errorf("after %s: %d events came again", state, c.fetched)
		}
		before = c.clean()
	}
}

// playLoss: store and mirror go back together, a device proves it, an operator accepts the loss (A1).
func playLoss(t *testing.T, s *server, m model) {
	t.Helper()
	c := m.copied()
	lost, later := modelCal+"lost.ics", modelCal+"later.ics"
	var token string
	s.lose(func() {
		s.put(lost, event("lost", "20270304T100000Z", "acknowledged, then lost"))
		m.poll()
		token = s.sync(modelCal, "", 0).multi().Token
	})
	before := c.clean()
	if before[lost] == "" {
		t.Fatal("the client did not get the event that is to be lost")
	}
	c.deleted, c.trouble = nil, nil
	s.sync(modelCal, token, 0).want(http.StatusServiceUnavailable) // another device was first to ask
	m.poll()
	m.poll()
	if !maps.Equal(c.clean(), before) || len(c.deleted) > 0 {
		t.Errorf("rolled back: the client has %v, was %v; deleted %v", c.sorted(), slices.Sorted(maps.Keys(before)), c.deleted)
	}
	s.ledgerAccepts()
	s.put(later, event("later", "20270305T100000Z", "later"))
	m.poll()
	m.poll()
	if c.things[later] == nil {
		t.Errorf("after the accepted loss: the client has not what is new (%v)", c.sorted())
	}
	want := []string(nil)
	if l, ok := m.(lister); ok && l.lists() {
		want = []string{lost} // it goes by listings: what is not listed is deleted, and nothing can tell it otherwise
	}
	if !slices.Equal(c.deleted, want) {
		t.Errorf("after the accepted loss: the client deleted %v, want %v", c.deleted, want)
	}
}

// lister is a client that compares listings instead of asking what changed since a token.
type lister interface{ lists() bool }

func (s *server) ledgerAccepts() {
	s.t.Helper()
	if _, err := s.ledger.AcceptLoss(s.t.Context(), anna); err != nil {
		s.t.Fatal(err)
	}
}
