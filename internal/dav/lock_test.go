package dav

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/lock"
)

const files = "/dav/anna/Files/"

// lockInfo is the body of a LOCK.
func lockInfo(scope, owner string) string {
	return `<?xml version="1.0"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:` + scope + `/></D:lockscope><D:locktype><D:write/></D:locktype>` + owner + `</D:lockinfo>`
}

// lock takes an exclusive lock and returns its token.
func (s *server) lock(target string, headers ...string) string {
	s.t.Helper()
	return s.tryLock(target, "exclusive", headers...).locked()
}

func (s *server) tryLock(target, scope string, headers ...string) *answer {
	s.t.Helper()
	return s.do("LOCK", target, lockInfo(scope, "<D:owner>me</D:owner>"), headers...)
}

// locked returns the token of a lock that was given.
func (a *answer) locked() string {
	a.t.Helper()
	token := strings.Trim(a.header.Get("Lock-Token"), "<>")
	if (a.status != 200 && a.status != 201) || token == "" {
		a.t.Fatalf("%s: got %d, Lock-Token %q, want a lock\n%.1000s", a.what, a.status, a.header.Get("Lock-Token"), a.body)
	}
	return token
}

func (s *server) unlock(target, token string) *answer {
	s.t.Helper()
	return s.do("UNLOCK", target, "", "Lock-Token: <"+token+">")
}

// activeLock is what a client reads.
type activeLock struct {
	Depth     string    `xml:"DAV: depth"`
	Owner     string    `xml:"DAV: owner"`
	Timeout   string    `xml:"DAV: timeout"`
	Token     string    `xml:"DAV: locktoken>href"`
	Root      string    `xml:"DAV: lockroot>href"`
	Exclusive *struct{} `xml:"DAV: lockscope>exclusive"`
	Write     *struct{} `xml:"DAV: locktype>write"`
}

// activeLocks parses the answer of a LOCK with a parser that is not ours.
func (a *answer) activeLocks() []activeLock {
	a.t.Helper()
	var p struct {
		XMLName xml.Name     `xml:"DAV: prop"`
		Locks   []activeLock `xml:"DAV: lockdiscovery>activelock"`
	}
	if err := xml.Unmarshal([]byte(a.body), &p); err != nil {
		a.t.Fatalf("%s: %v\n%s", a.what, err, a.body)
	}
	return p.Locks
}

// A lock from its beginning to its end, as a client sees it.
func TestLock(t *testing.T) {
	s := newServer(t)
	s.put(files+"a.txt", "a")
	const owner = `<D:owner><x:who xmlns:x="urn:x" kind="&lt;">A &amp; B</x:who></D:owner>`
	a := s.do("LOCK", files+"a.txt", lockInfo("exclusive", owner), "Depth: 0", "Timeout: Infinite, Second-4100000000").want(200)
	token := a.locked()
	if len(token) > 100 || !strings.HasPrefix(token, "opaquelocktoken:") {
		t.Errorf("token %q", token)
	}
	locks := a.activeLocks()
	if len(locks) != 1 || locks[0].Token != token || locks[0].Root != files+"a.txt" || locks[0].Depth != "0" || locks[0].Exclusive == nil || locks[0].Write == nil || locks[0].Timeout != "Second-86400" {
		t.Errorf("lock: %+v", locks)
	}
	const kept = `<who xmlns="urn:x" kind="&lt;">A &amp; B</who>`
	a.has(kept)
	s.propfind(files+"a.txt", "0", "<D:lockdiscovery/><D:supportedlock/>").want(207).has(token, kept, "<D:lockentry><D:lockscope><D:shared/>")
	s.propfind(files, "0", "<D:lockdiscovery/>").want(207).has("<D:lockdiscovery></D:lockdiscovery>")

	s.do("PUT", files+"a.txt", "b").want(423).has("<D:lock-token-submitted><D:href>" + files + "a.txt</D:href>")
	s.do("PUT", files+"a.txt", "b", "If: (<"+token+">)").want(204)
	s.tryLock(files+"a.txt", "exclusive").want(423).has("<D:no-conflicting-lock><D:href>")
	s.tryLock(files+"a.txt", "shared").want(423)

	a = s.do("LOCK", files+"a.txt", "", "If: (<"+token+">)", "Timeout: Second-300").want(200)
	if l := a.activeLocks(); a.header.Get("Lock-Token") != "" || len(l) != 1 || l[0].Token != token || l[0].Timeout != "Second-300" {
		t.Errorf("refresh: Lock-Token %q, %+v", a.header.Get("Lock-Token"), l)
	}
	s.do("LOCK", files+"a.txt", "").want(400)
	s.do("LOCK", files+"a.txt", "", "If: (<urn:other>)").want(412)
	s.do("LOCK", files+"none.txt", "", "If: (<"+token+">)").want(404)

	s.do("UNLOCK", files+"a.txt", "").want(400)
	s.do("UNLOCK", files+"a.txt", "", "Lock-Token: "+token).want(400)
	s.unlock(files+"a.txt", "urn:other").want(409).has("lock-token-matches-request-uri")
	s.unlock(files, token).want(409)
	s.unlock(files+"none.txt", "urn:other").want(404)
	s.as("ben", "UNLOCK", "/dav/ben/Files/", nil, "Lock-Token: <"+token+">").want(409)
	s.unlock(files+"a.txt", token).want(204)
	s.unlock(files+"a.txt", token).want(409)
	s.do("PUT", files+"a.txt", "c", "If: (<"+token+">)").want(412)
	s.do("PUT", files+"a.txt", "c").want(204)
}

// What LOCK refuses.
func TestLockRefused(t *testing.T) {
	s := newServer(t)
	s.put(files+"a.txt", "a")
	for _, c := range []struct {
		target, body string
		header       string
		want         int
	}{
		{files + "a.txt", lockInfo("exclusive", ""), "Depth: 1", 400},
		{files + "a.txt", lockInfo("exclusive", ""), "Depth: 7", 400},
		{files + "a.txt", lockInfo("exclusive", ""), `If-Match: "x"`, 412},
		{files + "a.txt", lockInfo("exclusive", ""), "If: (nonsense)", 400},
		{files + "a.txt", lockInfo("other", ""), "", 422},
		{files + "a.txt", `<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:shared/></D:lockscope></D:lockinfo>`, "", 400},
		{files + "a.txt", `<D:prop xmlns:D="DAV:"/>`, "", 400},
		{files + "a.txt", "<", "", 400},
		{files + "a.txt", lockInfo("exclusive", "<D:owner>"+strings.Repeat("x", lock.MaxOwner+1)+"</D:owner>"), "", 413},
		{files + "none/a.txt", lockInfo("exclusive", ""), "", 409},
		{files + "none/", lockInfo("exclusive", ""), "", 405},
		{"/dav/anna/calendar/none.ics", lockInfo("exclusive", ""), "", 403},
		{"/dav/anna/", lockInfo("exclusive", ""), "", 405},
		{"/dav/", lockInfo("exclusive", ""), "", 405},
		{"/dav/principals/anna/", lockInfo("exclusive", ""), "", 405},
		{"/dav/ben/Files/", lockInfo("exclusive", ""), "", 404},
	} {
		headers := []string{}
		if c.header != "" {
			headers = append(headers, c.header)
		}
		if a := s.do("LOCK", c.target, c.body, headers...); a.status != c.want {
			t.Errorf("LOCK %s %s %.80s: got %d, want %d", c.target, c.header, c.body, a.status, c.want)
		}
	}
	if n := s.dav.cfg.Locks.List(anna); len(n) != 0 {
		t.Errorf("locks after refusals: %+v", n)
	}
}

// An account's locks are bounded.
func TestLockBound(t *testing.T) {
	s := newServer(t)
	s.put(files+"a.txt", "a")
	refused := 0
	for range 1100 {
		if a := s.do("LOCK", files+"a.txt", lockInfo("shared", "<D:owner>"+strings.Repeat("x", 4000)+"</D:owner>")); a.status != 200 {
			a.want(507)
			refused++
			break
		}
	}
	if refused == 0 {
		t.Error("no bound was met")
	}
	s.as("ben", "LOCK", "/dav/ben/Files/b.txt", strings.NewReader(lockInfo("exclusive", ""))).want(201)
}

// RFC 4918, 7.3: a name that is free becomes an empty resource, by one change.
func TestLockUnmapped(t *testing.T) {
	s := newServer(t)
	token := s.sync(files, "", 0).multi().Token
	a := s.tryLock(files+"new.txt", "exclusive")
	a.want(201)
	held := a.locked()
	if m := s.sync(files, token, 0).multi(); len(m.Responses) != 1 {
		t.Errorf("changes by the lock: %v", m.hrefs())
	}
	if a := s.do("GET", files+"new.txt", "").want(200); a.body != "" {
		t.Errorf("body %q", a.body)
	}
	s.do("PUT", files+"new.txt", "x").want(423)
	s.do("PUT", files+"new.txt", "x", "If: (<"+held+">)").want(204)
	s.unlock(files+"new.txt", held).want(204)
	s.do("GET", files+"new.txt", "").want(200).has("x")
}

// Every method that writes, on a path that is locked in every way, with and without the token.
func TestLockMatrix(t *testing.T) {
	type state struct{ name, locked, depth, scope string }
	states := []state{
		{"free", "", "", ""},
		{"itself", "dir/a.txt", "0", "exclusive"},
		{"itself shared", "dir/a.txt", "0", "shared"},
		{"folder", "dir/", "0", "exclusive"},
		{"folder and below", "dir/", "infinity", "exclusive"},
		{"above", "", "infinity", "exclusive"}, // the lock root is Files
		{"sibling", "dir/other.txt", "0", "exclusive"},
	}
	type request struct {
		name, method, target, body string
		headers                    []string
		ok                         int
		locked                     string // names of states in which the token is needed
	}
	dest := func(p string) []string { return []string{"Destination: " + files + p} }
	const all = "itself, itself shared, folder, folder and below, above"
	const deep = "folder and below, above"
	requests := []request{
		{"PUT", "PUT", "dir/a.txt", "changed", nil, 204, "itself, itself shared, " + deep},
		{"PUT new", "PUT", "dir/new.txt", "new", nil, 201, "folder, " + deep},
		{"DELETE", "DELETE", "dir/a.txt", "", nil, 204, all},
		{"PROPPATCH", "PROPPATCH", "dir/a.txt", `<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><x>1</x></D:prop></D:set></D:propertyupdate>`, nil, 207, "itself, itself shared, " + deep},
		{"MKCOL", "MKCOL", "dir/sub/", "", nil, 201, "folder, " + deep},
		{"MKCALENDAR", "MKCALENDAR", "dir/cal/", "", nil, 403, ""},
		{"COPY from", "COPY", "dir/a.txt", "", dest("copy.txt"), 201, "above"},
		{"COPY onto", "COPY", "from.txt", "", dest("dir/a.txt"), 204, "itself, itself shared, " + deep},
		{"COPY into", "COPY", "from.txt", "", dest("dir/new.txt"), 201, "folder, " + deep},
		{"MOVE from", "MOVE", "dir/a.txt", "", dest("moved.txt"), 201, all},
		{"MOVE onto", "MOVE", "from.txt", "", dest("dir/a.txt"), 204, "itself, itself shared, " + deep},
		{"MOVE into", "MOVE", "from.txt", "", dest("dir/new.txt"), 201, "folder, " + deep},
		{"LOCK new", "LOCK", "dir/new.txt", lockInfo("shared", ""), nil, 201, "folder, " + deep},
		{"GET", "GET", "dir/a.txt", "", nil, 200, ""},
		{"PROPFIND", "PROPFIND", "dir/a.txt", "", []string{"Depth: 0"}, 207, ""},
		{"DELETE other", "DELETE", "from.txt", "", nil, 204, "above"},
	}
	covered := map[string]bool{}
	for _, r := range requests {
		covered[r.method] = true
	}
	for m := range methods {
		if !covered[m] && m != "OPTIONS" && m != "HEAD" && m != "REPORT" && m != "UNLOCK" && m != "POST" {
			t.Errorf("%s is not in the matrix: does it honour locks?", m)
		}
	}
	s := newServer(t)
	for _, st := range states {
		for _, r := range requests {
			s.do("DELETE", files, "") // what the last one left, with its locks
			s.dav.cfg.Locks.ReleaseAll(anna)
			s.do("DELETE", files, "")
			s.do("MKCOL", files, "").want(201)
			s.do("MKCOL", files+"dir/", "").want(201)
			for _, f := range []string{"dir/a.txt", "dir/other.txt", "from.txt"} {
				s.put(files+f, "first of "+f)
			}
			token := "urn:none"
			if st.scope != "" {
				token = s.tryLock(files+st.locked, st.scope, "Depth: "+st.depth).want(200).locked()
			}
			need := false
			for _, n := range strings.Split(r.locked, ", ") {
				need = need || n == st.name
			}
			send := func(headers ...string) *answer {
				return s.do(r.method, files+r.target, r.body, append(headers, r.headers...)...)
			}
			root := files + st.locked
			for _, c := range []struct {
				name, header string
				want         int
			}{
				// A header that is false comes first, and must not change anything.
				{"wrong token", "If: <" + root + "> (<urn:wrong>)", 412},
				{"without", "", 423},
				{"other true list", "If: <" + root + "> (Not <DAV:no-lock>)", 423},
				{"token", "If: <" + root + "> (<" + token + ">)", r.ok},
			} {
				switch {
				case r.method == "GET" || r.method == "PROPFIND":
					c.want = r.ok
				case c.name == "wrong token" && r.ok == 403: // refused in any case
					c.want = 403
				case c.name == "token" && st.scope == "":
					continue
				case !need && c.name != "wrong token":
					c.want = r.ok
				}
				if r.name == "LOCK new" && c.name == "token" && st.depth == "infinity" {
					c.want = 423 // within an exclusive lock there is no other
				}
				var a *answer
				if c.header == "" {
					a = send()
				} else {
					a = send(c.header)
				}
				if a.status != c.want {
					t.Errorf("%s, locked: %s, If: %s: got %d, want %d\n%.300s", r.name, st.name, c.name, a.status, c.want, a.body)
				}
				if a.status < 300 && a.status != 200 && r.method != "PROPFIND" {
					break // done: the next would meet another state
				}
			}
		}
	}
}

// A collection whose members are locked is neither deleted, moved nor replaced without their tokens; nothing of it is.
func TestLockedMembers(t *testing.T) {
	s := newServer(t)
	s.do("MKCOL", files+"d/", "").want(201)
	s.do("MKCOL", files+"d/e/", "").want(201)
	s.put(files+"d/e/a.txt", "a")
	s.put(files+"d/b.txt", "b")
	token := s.lock(files+"d/e/a.txt", "Depth: 0")
	for _, a := range []*answer{
		s.do("DELETE", files+"d/", ""),
		s.do("MOVE", files+"d/", "", "Destination: "+files+"m/"),
		s.do("COPY", files+"d/b.txt", "", "Destination: "+files+"d"),
	} {
		if a.status == 409 { // the source lies in what is replaced
			continue
		}
		m := a.multi()
		r := m.find(t, files+"d/e/a.txt")
		if len(m.Responses) != 1 || !strings.Contains(r.Status, " 423 ") {
			t.Errorf("%s: %s", a.what, a.body)
		}
		a.has("lock-token-submitted")
	}
	s.do("GET", files+"d/b.txt", "").want(200)
	// A lock of all below is refused for the sake of the member, which is named.
	m := s.tryLock(files+"d/", "exclusive").multi()
	if r := m.find(t, files+"d/e/a.txt"); !strings.Contains(r.Status, " 423 ") {
		t.Errorf("member: %s", r.Status)
	}
	if r := m.find(t, files+"d/"); !strings.Contains(r.Status, " 424 ") {
		t.Errorf("itself: %s", r.Status)
	}
	other := s.lock(files+"d/", "Depth: 0")
	s.do("DELETE", files+"d/", "", fmt.Sprintf("If: <%sd/e/a.txt> (<%s>)", files, token)).want(423)
	s.do("MOVE", files+"d/", "", "Destination: "+files+"m/", fmt.Sprintf("If: <%sd/e/a.txt> (<%s>) <%sd/> (<%s>)", files, token, files, other)).want(201)
	if l := s.dav.cfg.Locks.List(anna); len(l) != 0 {
		t.Errorf("locks moved along: %+v", l)
	}
	s.put(files+"m/e/a.txt", "not locked any more")
}

// RFC 4918, 7.6: COPY takes no lock along; a lock of the destination stays and covers what comes there.
func TestLockCopyMove(t *testing.T) {
	s := newServer(t)
	s.put(files+"a.txt", "a")
	s.put(files+"b.txt", "b")
	a := s.lock(files + "a.txt")
	s.do("COPY", files+"a.txt", "", "Destination: "+files+"c.txt").want(201)
	s.put(files+"c.txt", "changed")
	b := s.lock(files + "b.txt")
	s.do("MOVE", files+"a.txt", "", "Destination: "+files+"b.txt", fmt.Sprintf("If: (<%s>)", a)).want(423).has(files + "b.txt")
	s.do("MOVE", files+"a.txt", "", "Destination: "+files+"b.txt", fmt.Sprintf("If: (<%s>) (<%s>)", a, b)).want(204)
	s.do("PUT", files+"b.txt", "x").want(423)
	s.do("PUT", files+"b.txt", "x", "If: (<"+b+">)").want(204)
	s.do("PUT", files+"a.txt", "x", "If: (<"+a+">)").want(412)
	s.put(files+"a.txt", "free again")
	s.do("DELETE", files+"b.txt", "", "If: (<"+b+">)").want(204)
	s.put(files+"b.txt", "new, and not locked")
}

// A lock of all below covers what comes later, and is refreshed and ended from anywhere inside.
func TestLockInfinite(t *testing.T) {
	s := newServer(t)
	s.do("MKCOL", files+"d/", "").want(201)
	token := s.lock(files + "d/")
	s.do("PUT", files+"d/a.txt", "a", "If: (<"+token+">)").want(201)
	s.propfind(files+"d/a.txt", "0", "<D:lockdiscovery/>").has(token, "<D:lockroot><D:href>"+files+"d/</D:href>", "<D:depth>infinity</D:depth>")
	s.tryLock(files+"d/a.txt", "exclusive").want(423).has(files + "d/</D:href>")
	s.do("LOCK", files+"d/a.txt", "", "If: (<"+token+">)", "Timeout: Second-60").want(200).has("Second-60")
	s.do("PUT", files+"d/a.txt", "b").want(423)
	s.unlock(files+"d/a.txt", token).want(204)
	s.put(files+"d/a.txt", "b")

	// POST, which the matrix has not, adds members to calendars and address books.
	token = s.lock("/dav/anna/contacts/", "Depth: 0")
	add := func(headers ...string) *answer {
		return s.do("POST", "/dav/anna/contacts/?add-member", card("p", "P"), append(headers, "Content-Type: text/vcard")...)
	}
	add().want(423)
	add("If: </dav/anna/contacts/> (<" + token + ">)").want(201)
}

func TestSharedLocks(t *testing.T) {
	s := newServer(t)
	s.put(files+"a.txt", "a")
	one, two := s.tryLock(files+"a.txt", "shared").locked(), s.tryLock(files+"a.txt", "shared").locked()
	if a := s.tryLock(files+"a.txt", "shared"); len(a.activeLocks()) != 3 || a.activeLocks()[0].Token != a.locked() {
		t.Errorf("the new lock does not come first of three: %s", a.body)
	}
	s.tryLock(files+"a.txt", "exclusive").want(423)
	s.do("PUT", files+"a.txt", "b").want(423)
	s.do("PUT", files+"a.txt", "b", "If: (<"+one+">)").want(204)
	s.do("PUT", files+"a.txt", "c", "If: (<"+two+">)").want(204)
	s.unlock(files+"a.txt", one).want(204)
	s.do("PUT", files+"a.txt", "d").want(423)
}

// After a restart nothing is locked, but a program that has a file open goes on with its token, as long as nobody else
// has locked or changed the file.
func TestLockRestart(t *testing.T) {
	s := newServer(t)
	const a, b = "Test-Device: 1", "Test-Device: 2"
	s.do("MKCOL", files+"dir/", "").want(201)
	names := []string{"used.txt", "saved.txt", "refreshed.txt", "taken.txt", "changed.txt", "removed.txt", "unlocked.txt", "moved.txt", "ended.txt", "dir/in.txt"}
	tokens := map[string]string{}
	for _, n := range names {
		s.put(files+n, "first", a)
		if n != "dir/in.txt" {
			tokens[n] = s.lock(files+n, a, "Timeout: Second-600")
		}
	}
	tokens["dir"] = s.lock(files+"dir/", a)
	s.do("PUT", files+"saved.txt", "saved by a before", a, "If: (<"+tokens["saved.txt"]+">)").want(204)
	s.unlock(files+"ended.txt", tokens["ended.txt"]).want(204)
	s.restart(func() {})

	put := func(n, token, device string) *answer {
		return s.do("PUT", files+n, "by "+device, device, "If: (<"+token+">)")
	}
	put("used.txt", tokens["used.txt"], a).want(204)
	s.do("PUT", files+"used.txt", "other", b).want(423) // it is locked again
	put("used.txt", tokens["used.txt"], a).want(204)
	put("saved.txt", tokens["saved.txt"], a).want(204)
	put("dir/in.txt", tokens["dir"], a).want(204)
	put("dir/new.txt", tokens["dir"], a).want(201)
	s.do("PUT", files+"dir/new.txt", "other", b).want(423)
	s.do("LOCK", files+"refreshed.txt", "", a, "If: (<"+tokens["refreshed.txt"]+">)").want(200).has("<D:timeout>Second-600</D:timeout>")
	s.do("PUT", files+"refreshed.txt", "other", b).want(423)

	// A token is good for its path and its account only.
	put("changed.txt", tokens["taken.txt"], a).want(412)
	s.as("ben", "PUT", "/dav/ben/Files/taken.txt", strings.NewReader("x"), "If: (<"+tokens["taken.txt"]+">)").want(412)

	s.lock(files+"taken.txt", b)
	put("taken.txt", tokens["taken.txt"], a).want(412)
	s.put(files+"changed.txt", "by b meanwhile", b)
	put("changed.txt", tokens["changed.txt"], a).want(412)
	s.do("GET", files+"changed.txt", "").has("by b meanwhile")
	s.do("DELETE", files+"removed.txt", "", b).want(204)
	put("removed.txt", tokens["removed.txt"], a).want(201) // what the program has open is not lost
	s.unlock(files+"unlocked.txt", tokens["unlocked.txt"]).want(204)
	put("unlocked.txt", tokens["unlocked.txt"], a).want(412)
	s.do("MOVE", files+"moved.txt", "", b, "Destination: "+files+"elsewhere.txt").want(201)
	s.do("MOVE", files+"used.txt", "", b, "Destination: "+files+"moved.txt", "If: (<"+tokens["used.txt"]+">)").want(201)
	put("moved.txt", tokens["moved.txt"], a).want(412) // another file is there now, though of the same bytes
	s.put(files+"dir/in.txt", "x", "If: (<"+tokens["dir"]+">)", b)
}

// A token of which any character was changed is nobody's.
func TestLockRestartForged(t *testing.T) {
	s := newServer(t)
	s.put(files+"a.txt", "a")
	token := s.lock(files + "a.txt")
	s.restart(func() {})
	for i := 0; i < len(token); i += 3 {
		if token[i] == '-' || token[i] == ':' || token[i] == '/' {
			continue
		}
		c := byte('A')
		if token[i] == 'A' || token[i] == 'a' { // hex is read in any case
			c = 'B'
		}
		forged := token[:i] + string(c) + token[i+1:]
		s.do("PUT", files+"a.txt", "x", "If: (<"+forged+">)").want(412)
	}
	s.do("PUT", files+"a.txt", "x", "If: (<"+token+">)").want(204)
}

// The folder that a lock was taken in was replaced by another while nobody watched: the token is worthless there.
func TestLockRestartOtherFolder(t *testing.T) {
	s := newServer(t)
	for _, d := range []string{"d/", "e/"} {
		s.do("MKCOL", files+d, "").want(201)
		s.put(files+d+"a.txt", "of "+d)
	}
	token := s.lock(files + "d/a.txt")
	s.restart(func() {})
	s.do("MOVE", files+"d", "", "Destination: "+files+"f").want(201)
	s.do("MOVE", files+"e", "", "Destination: "+files+"d").want(201)
	s.do("PUT", files+"d/a.txt", "x", "If: (<"+token+">)").want(412)
	s.do("GET", files+"d/a.txt", "").has("of e/")
}

// A lock ends with its time: then others write, and the one who had it is told so by 412 before it overwrites them.
func TestLockExpires(t *testing.T) {
	var ahead atomic.Int64
	s := newServer(t, func(c *Config) { c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) } })
	s.put(files+"a.txt", "a")
	token := s.lock(files+"a.txt", "Timeout: Second-60")
	ahead.Store(int64(59 * time.Second))
	s.do("PUT", files+"a.txt", "b").want(423)
	s.do("LOCK", files+"a.txt", "", "If: (<"+token+">)").want(200).has("Second-60<")
	ahead.Store(int64(118 * time.Second))
	s.do("PUT", files+"a.txt", "b").want(423)
	ahead.Store(int64(120 * time.Second))
	s.propfind(files+"a.txt", "0", "<D:lockdiscovery/>").lacks("activelock")
	s.do("PUT", files+"a.txt", "by another").want(204)
	s.do("PUT", files+"a.txt", "by the first", "If: (<"+token+">)").want(412)
	s.do("LOCK", files+"a.txt", "", "If: (<"+token+">)").want(412)
	s.unlock(files+"a.txt", token).want(409)
	s.lock(files + "a.txt")
}

// Of many devices that lock one file at once, one gets it.
func TestLockRace(t *testing.T) {
	s := newServer(t)
	for round, target := range []string{files + "there.txt", files + "new.txt"} {
		if round == 0 {
			s.put(target, "x")
		}
		var wg sync.WaitGroup
		var given, refused atomic.Int32
		for range 8 {
			wg.Go(func() {
				switch a := s.tryLock(target, "exclusive"); a.status {
				case 200, 201:
					given.Add(1)
				case 423:
					refused.Add(1)
				default:
					t.Errorf("%s: %d %s", a.what, a.status, a.body)
				}
			})
		}
		wg.Wait()
		if given.Load() != 1 || refused.Load() != 7 {
			t.Errorf("%s: %d locks given, %d refused", target, given.Load(), refused.Load())
		}
	}
}

// What was read under a lock is what is there: a PUT that was on its way when the lock was given is in it, and one that
// comes later is refused.
func TestLockAgainstWrites(t *testing.T) {
	s := newServer(t)
	s.put(files+"a.txt", "0")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				a := s.do("PUT", files+"a.txt", fmt.Sprintf("%d of %d", i, w))
				if a.status != 204 && a.status != 423 {
					t.Errorf("%s: %d", a.what, a.status)
				}
			}
		})
	}
	for range 20 {
		token := s.lock(files + "a.txt")
		first := s.do("GET", files+"a.txt", "").body
		for range 3 {
			if now := s.do("GET", files+"a.txt", "").body; now != first {
				t.Errorf("under a lock %q became %q", first, now)
			}
		}
		s.do("PUT", files+"a.txt", "by the holder of "+token, "If: (<"+token+">)").want(204)
		if now := s.do("GET", files+"a.txt", "").body; now != "by the holder of "+token {
			t.Errorf("after the holder's PUT: %q", now)
		}
		s.unlock(files+"a.txt", token).want(204)
	}
	close(stop)
	wg.Wait()
}

// Held: a lock of what is there needs no write, one of a free name does. Closed: everything waits.
func TestLockFenced(t *testing.T) {
	s := newServer(t)
	s.put(files+"a.txt", "a")
	s.put(files+"b.txt", "b")
	token := s.lock(files + "b.txt")
	mirror, away := filepath.Join(s.dir, "mirror"), filepath.Join(s.dir, "away")
	if err := os.Rename(mirror, away); err != nil {
		t.Fatal(err)
	}
	s.do("PUT", files+"a.txt", "b").want(503)
	held := s.lock(files+"a.txt", "Test-Device: 1")
	s.tryLock(files+"a.txt", "exclusive").want(423)
	s.do("LOCK", files+"b.txt", "", "If: (<"+token+">)").want(200)
	s.unlock(files+"b.txt", token).want(204)
	if a := s.tryLock(files+"new.txt", "exclusive").want(503); a.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	if l := s.dav.cfg.Locks.List(anna); len(l) != 1 {
		t.Errorf("locks: %+v, want the one of a.txt", l)
	}
	if err := os.Rename(away, mirror); err != nil {
		t.Fatal(err)
	}
	if err := s.ledger.WaitOpen(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.do("PUT", files+"a.txt", "by another", "Test-Device: 2").want(423)
	// The PUT of above may have been made after all; device 5 sent it, so device 1 has not seen it.
	body := s.do("GET", files+"a.txt", "").body
	want := 204
	if body == "b" {
		want = 412
	}
	s.do("PUT", files+"a.txt", "by the holder", "Test-Device: 1", "If: (<"+held+">)").want(want)

	if err := errors.Join(os.Rename(mirror, away), os.RemoveAll(filepath.Join(s.cfg.Dir, "store"))); err != nil {
		t.Fatal(err)
	}
	for _, a := range []*answer{
		s.tryLock(files+"a.txt", "exclusive"), s.do("LOCK", files+"a.txt", "", "If: (<"+held+">)"), s.unlock(files+"a.txt", held),
		s.do("LOCK", files+"a.txt", "nonsense"), s.do("UNLOCK", files+"none.txt", ""),
	} {
		if a.want(503); a.header.Get("Retry-After") == "" {
			t.Errorf("%s: 503 without Retry-After", a.what)
		}
	}
}

// RFC 6578, 5: a sync token in an If header holds while the collection has not changed since.
func TestSyncTokenInIf(t *testing.T) {
	s := newServer(t)
	const book, tasks = "/dav/anna/contacts/", "/dav/anna/tasks/"
	s.put(book+"1.vcf", card("1", "x"))
	s.put(tasks+"1.ics", todo("1", "x"))
	token := s.sync(book, "", 0).multi().Token
	s.put(tasks+"2.ics", todo("2", "another collection may change"))
	s.put(book+"1.vcf", card("1", "y"), "If: <"+book+"> (<"+token+">)")
	s.do("PUT", book+"1.vcf", card("1", "z"), "If: <"+book+"> (<"+token+">)").want(412)
	s.do("PUT", book+"2.vcf", card("2", "z"), "If: <"+book+"> (Not <"+token+">)").want(201)
	token = s.sync(book, token, 0).multi().Token
	s.do("PUT", book+"1.vcf", card("1", "z"), "If: <"+tasks+"> (<"+token+">)").want(412)
	s.do("PUT", book+"1.vcf", card("1", "z"), "If: (<"+token+">)").want(412) // a resource has none
	s.do("PUT", book+"1.vcf", card("1", "z"), "If: <"+book+"> (<holdfast:1/garbage>)").want(412)
	s.do("PROPPATCH", book, `<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><D:displayname>n</D:displayname></D:prop></D:set></D:propertyupdate>`, "If: (<"+token+">)").want(207)
	s.do("DELETE", book+"1.vcf", "", "If: <"+book+"> (<"+token+">)").want(412)
}

func TestAskedTimeout(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"": 0, "Infinite": lock.MaxTimeout, "infinite, Second-5": lock.MaxTimeout, "Second-5": 5 * time.Second,
		"Extend, Second-7": 7 * time.Second, "Second-x, Second-9": 9 * time.Second, "Second--1": 0, "Second-": 0,
		"Second-4100000000": lock.MaxTimeout, "Second-99999999999999999999999": 0, "Second-0": time.Nanosecond,
	} {
		h := http.Header{}
		if in != "" {
			h.Set("Timeout", in)
		}
		if got := askedTimeout(h); got != want {
			t.Errorf("Timeout %q: got %s, want %s", in, got, want)
		}
	}
}
