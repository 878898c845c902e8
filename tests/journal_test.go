package clients

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A journal holds what the server acknowledged, kept by the test beside the server. A request whose
// answer was lost, or was 503, is in doubt: it may have happened (STYLE.md, errors), so until the next
// acknowledged write to the same path both outcomes are true.
type journal struct {
	mu      sync.Mutex
	entries map[string]*entry
	order   map[string][]string // account to its paths, in the order they were first written
	recent  map[string]bool     // paths written since they were verified last
}

// An entry is one path. Its lock is held for the whole of a request, so that writes to one path are in order.
type entry struct {
	mu    sync.Mutex
	acked version
	etag  string // of acked; empty if no answer has named it
	doubt []version
}

// A version is a body, or an absence.
type version struct {
	body string
	gone bool
}

var gone = version{gone: true}

func newJournal() *journal {
	return &journal{entries: map[string]*entry{}, order: map[string][]string{}, recent: map[string]bool{}}
}

// entry returns the entry of a path; a path never written is acknowledged as absent.
func (j *journal) entry(path string) *entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.entries[path]
	if e == nil {
		e = &entry{acked: gone}
		j.entries[path] = e
		account := accountOf(path)
		j.order[account] = append(j.order[account], path)
	}
	return e
}

// touch returns the entry of a path that is about to be written.
func (j *journal) touch(path string) *entry {
	e := j.entry(path)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.recent[path] = true
	return e
}

// any returns a random path of an account, or "" if it has none.
func (j *journal) any(account string, r *rand.Rand) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	paths := j.order[account]
	if len(paths) == 0 {
		return ""
	}
	return paths[r.IntN(len(paths))]
}

// paths returns all paths, sorted.
func (j *journal) paths() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Sorted(maps.Keys(j.entries))
}

// write sends a version and records what came of it. It returns nil if the answer was an
// acknowledgement, errTold if it was a true 404 to a delete, errWait if it was a proper "wait" or (lostOK) lost, and a violation otherwise.
func (j *journal) write(c *client, path string, v version, lostOK bool, full ...int) error {
	e := j.touch(path)
	e.mu.Lock()
	defer e.mu.Unlock()
	wasGone := e.mayBe(gone)
	e.doubt = append(e.doubt, v)
	var a *answer
	var err error
	if v.gone {
		a, err = c.do("DELETE", path, nil)
	} else {
		a, err = c.do("PUT", path, []byte(v.body), "Content-Type", contentType(path))
	}
	switch {
	case err != nil && lostOK:
		return errWait
	case err != nil:
		return err
	case a.status == http.StatusCreated, a.status == http.StatusNoContent:
		e.acked, e.etag, e.doubt = v, a.header.Get("ETag"), nil
		return nil
	case v.gone && wasGone && a.status == http.StatusNotFound:
		e.acked, e.etag, e.doubt = gone, "", nil
		return errTold
	case slices.Contains(full, a.status):
		return errWait
	}
	if bad := a.wait(); bad != nil {
		return bad
	}
	return errWait
}

var (
	// errWait says that the server asked to wait, or the connection was lost where it may be.
	errWait = errors.New("wait")
	// errTold says that the answer was true but acknowledged nothing: there was nothing to delete.
	errTold = errors.New("told")
)

// mayBe reports whether a version is one of the true outcomes. The caller holds mu.
func (e *entry) mayBe(v version) bool { return e.acked == v || slices.Contains(e.doubt, v) }

// look reads a path and judges the answer by the journal. A proper "wait" is errWait.
func (j *journal) look(c *client, path string) error {
	e := j.entry(path)
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.look(c, path)
}

func (e *entry) look(c *client, path string) error {
	a, err := c.do("GET", path, nil)
	if err != nil {
		return err
	}
	var saw version
	switch a.status {
	case http.StatusOK:
		saw = version{body: string(a.body)}
	case http.StatusNotFound:
		saw = gone
	default:
		if bad := a.wait(); bad != nil {
			return bad
		}
		return errWait
	}
	if !e.mayBe(saw) {
		return fmt.Errorf("GET %s: got %s; acknowledged was %s, in doubt %d others", path, saw, e.acked, len(e.doubt))
	}
	// What has been shown is as good as acknowledged: it may not change back. What was in doubt after
	// it may still come: a held server ships it when the mirror is back.
	tag := a.header.Get("ETag")
	if i := slices.Index(e.doubt, saw); e.acked != saw {
		e.acked, e.etag, e.doubt = saw, tag, slices.Clone(e.doubt[i+1:])
	} else if !saw.gone && e.etag != "" && tag != e.etag {
		return fmt.Errorf("GET %s: the acknowledged body has ETag %s, %s was acknowledged", path, tag, e.etag)
	}
	return nil
}

func (v version) String() string {
	if v.gone {
		return "nothing"
	}
	return fmt.Sprintf("%d bytes %.60q", len(v.body), v.body)
}

// verify reads every path and every listing and fails the test for each thing that is not as it was acknowledged.
func (j *journal) verify(t *testing.T, s *server) {
	t.Helper()
	there := j.verifyPaths(t, s, j.paths())
	collections := map[string]*client{}
	for path := range there {
		collections[path[:strings.LastIndexByte(path, '/')+1]] = s.client(accountOf(path))
	}
	lost := 0
	for collection, c := range collections {
		members, err := c.list(collection)
		if err != nil {
			t.Errorf("list %s: %v", collection, err)
			continue
		}
		for path, is := range there {
			if strings.HasPrefix(path, collection) && members[path] != "" != is {
				t.Errorf("listing of %s: has %s: %v, want %v", collection, path, !is, is)
				lost++
			}
		}
	}
	if lost > 0 {
		t.Fatalf("%d of %d paths are not listed as acknowledged", lost, len(there))
	}
}

// verifyRecent reads every path written since the last verification, and as many others drawn at random.
func (j *journal) verifyRecent(t *testing.T, s *server, r *rand.Rand) {
	t.Helper()
	j.mu.Lock()
	paths := maps.Clone(j.recent)
	j.mu.Unlock()
	for range len(paths) {
		for account := range s.passwords {
			if path := j.any(account, r); path != "" {
				paths[path] = true
			}
		}
	}
	j.verifyPaths(t, s, slices.Sorted(maps.Keys(paths)))
}

// verifyPaths reads paths, several at once, and fails the test for each that is not as acknowledged. It
// returns which of them are there.
func (j *journal) verifyPaths(t *testing.T, s *server, paths []string) map[string]bool {
	t.Helper()
	var mu sync.Mutex // guards there and bad
	there := make(map[string]bool, len(paths))
	var bad []error
	var group sync.WaitGroup
	var next atomic.Int64
	for range min(8, len(paths)) {
		clients := map[string]*client{}
		for account := range s.passwords {
			clients[account] = s.client(account)
		}
		group.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(paths); i = next.Add(1) - 1 {
				err := j.look(clients[accountOf(paths[i])], paths[i])
				if err != nil && isLost(err) { // a body found damaged while it was sent is cut off, and whole the next time
					err = j.look(clients[accountOf(paths[i])], paths[i])
				}
				mu.Lock()
				if err != nil {
					bad = append(bad, err)
				} else {
					there[paths[i]] = !j.entry(paths[i]).acked.gone
				}
				mu.Unlock()
			}
			for _, c := range clients {
				c.http.CloseIdleConnections()
			}
		})
	}
	group.Wait()
	for _, err := range bad[:min(20, len(bad))] {
		t.Errorf("%v", err)
	}
	if len(bad) > 0 {
		t.Fatalf("%d of %d paths are not as acknowledged", len(bad), len(paths))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, path := range paths {
		delete(j.recent, path)
	}
	return there
}

// etags reads the ETag of every path that is there.
func (j *journal) etags(t *testing.T, s *server) map[string]string {
	t.Helper()
	all := map[string]string{}
	for account := range s.passwords {
		c := s.client(account)
		for _, collection := range []string{"contacts/", "calendar/", "Files/"} {
			members, err := c.list("/dav/" + account + "/" + collection)
			if err != nil {
				t.Fatal(err)
			}
			maps.Copy(all, members)
		}
	}
	return all
}

// accountOf returns the account a path belongs to.
func accountOf(path string) string { return strings.Split(path, "/")[2] }

func contentType(path string) string {
	switch {
	case strings.HasSuffix(path, ".vcf"):
		return "text/vcard; charset=utf-8"
	case strings.HasSuffix(path, ".ics"):
		return "text/calendar; charset=utf-8"
	}
	return "application/octet-stream"
}
