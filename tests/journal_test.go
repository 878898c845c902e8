package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A journal holds what the server acknowledged, kept by the test beside the server. A request whose
// answer was lost, or was 503, is in doubt: it may have happened (STYLE.md, errors), so until the next
// acknowledged write to the same path both outcomes are true.
type journal struct {
	mu      sync.Mutex
	entries map[string]*entry
}

// An entry is one path. Its lock is held for the whole of a request, so that writes to one path are in order.
type entry struct {
	mu    sync.Mutex
	acked version
	doubt []version
}

// A version is a body, or an absence.
type version struct {
	body string
	gone bool
}

var gone = version{gone: true}

func newJournal() *journal { return &journal{entries: map[string]*entry{}} }

// entry returns the entry of a path; a path never written is acknowledged as absent.
func (j *journal) entry(path string) *entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	e := j.entries[path]
	if e == nil {
		e = &entry{acked: gone}
		j.entries[path] = e
	}
	return e
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
	e := j.entry(path)
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
		e.acked, e.doubt = v, nil
		return nil
	case v.gone && wasGone && a.status == http.StatusNotFound:
		e.acked, e.doubt = gone, nil
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
	if i := slices.Index(e.doubt, saw); e.acked != saw {
		e.acked, e.doubt = saw, slices.Clone(e.doubt[i+1:])
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
	clients := map[string]*client{}
	for account := range s.passwords {
		clients[account] = s.client(account)
	}
	lost := 0
	paths := j.paths()
	there := map[string]bool{}
	collections := map[string]bool{}
	for _, path := range paths {
		if err := j.look(clients[accountOf(path)], path); err != nil {
			t.Errorf("%v", err)
			lost++
			continue
		}
		collections[path[:strings.LastIndexByte(path, '/')+1]] = true
		there[path] = !j.entry(path).acked.gone
	}
	for collection := range collections {
		members, err := clients[accountOf(collection)].list(collection)
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
		t.Fatalf("%d of %d paths are not as acknowledged", lost, len(paths))
	}
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

// A load is several clients that write and read all the time, each its own paths.
type load struct {
	t        *testing.T
	s        *server
	j        *journal
	lostOK   bool // connections may break: the server is being killed
	full     []int
	cancel   context.CancelFunc
	group    sync.WaitGroup
	acks     atomic.Int64
	waits    atomic.Int64
	progress chan struct{}
	mu       sync.Mutex
	bad      []error
	run      string // part of the names, so that loads do not share paths
}

var loads atomic.Int64

// startLoad runs writers writers in each account, and as many readers of what has been written.
func startLoad(s *server, j *journal, r *rand.Rand, writers int, lostOK bool, full ...int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{
		t: s.t, s: s, j: j, lostOK: lostOK, full: full, cancel: cancel,
		progress: make(chan struct{}, 1), run: fmt.Sprint(loads.Add(1)),
	}
	s.t.Cleanup(l.stop)
	for account := range s.passwords {
		for n := range writers {
			seed := r.Uint64()
			l.group.Go(func() { l.write(ctx, account, n, rand.New(rand.NewPCG(seed, 2))) })
			l.group.Go(func() { l.read(ctx, account, rand.New(rand.NewPCG(seed, 3))) })
		}
	}
	return l
}

// write is one writer: it makes, changes and deletes cards, events and files of its own.
func (l *load) write(ctx context.Context, account string, n int, r *rand.Rand) {
	c := l.s.client(account)
	for i := 0; ctx.Err() == nil; i++ {
		path, v := l.pick(account, n, i, r)
		switch err := l.j.write(c, path, v, l.lostOK, l.full...); {
		case err == nil:
			l.acks.Add(1)
			select {
			case l.progress <- struct{}{}:
			default:
			}
		case errors.Is(err, errTold):
		case errors.Is(err, errWait):
			l.waits.Add(1)
			l.pause(ctx)
		default:
			l.violation(err)
			l.pause(ctx)
		}
	}
}

// pick chooses the next thing to write: mostly new, sometimes a change or a delete of one of the last ten.
func (l *load) pick(account string, n, i int, r *rand.Rand) (string, version) {
	at := i
	choice := r.IntN(10)
	if i > 0 && choice >= 5 {
		at = max(0, i-1-r.IntN(10))
	}
	uid := fmt.Sprintf("l%s-w%d-%d", l.run, n, at)
	text := fmt.Sprintf("version %d %x", i, r.Uint64())
	home := "/dav/" + account + "/"
	var path, body string
	switch at % 4 {
	case 0, 1:
		path, body = home+"contacts/"+uid+".vcf", card(uid, "Load "+uid, text)
	case 2:
		path, body = home+"calendar/"+uid+".ics", event(uid, text, fmt.Sprintf("202612%02d", 1+at%28))
	default:
		path, body = home+"Files/"+uid+".txt", text
		if at%8 == 7 { // a blob: it takes the other way to the disk
			body = strings.Repeat(text+"\n", 3000)
		}
	}
	if choice >= 8 && at != i {
		return path, gone
	}
	return path, version{body: body}
}

// read is one reader: it looks at random paths and judges each answer.
func (l *load) read(ctx context.Context, account string, r *rand.Rand) {
	c := l.s.client(account)
	prefix := "/dav/" + account + "/"
	for ctx.Err() == nil {
		paths := l.j.paths()
		paths = slices.DeleteFunc(paths, func(p string) bool { return !strings.HasPrefix(p, prefix) })
		if len(paths) == 0 {
			l.pause(ctx)
			continue
		}
		path := paths[r.IntN(len(paths))]
		e := l.j.entry(path)
		if !e.mu.TryLock() {
			continue
		}
		err := e.look(c, path)
		e.mu.Unlock()
		if err != nil && !errors.Is(err, errWait) && (!l.lostOK || !isLost(err)) {
			l.violation(err)
		}
		l.pause(ctx)
	}
}

// isLost reports whether the request had no answer at all, or only part of one.
func isLost(err error) bool {
	var lost *url.Error
	return errors.As(err, &lost) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// pause is a client's patience: a moment, or the end of the load.
func (l *load) pause(ctx context.Context) {
	timer := time.NewTimer(5 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (l *load) violation(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.bad) < 20 {
		l.bad = append(l.bad, err)
	}
}

// waitAcks waits until n more writes have been acknowledged.
func (l *load) waitAcks(n int, limit time.Duration) {
	l.t.Helper()
	until := l.acks.Load() + int64(n)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for l.acks.Load() < until {
		select {
		case <-l.progress:
		case <-timer.C:
			l.t.Fatalf("in %s only %d of %d writes were acknowledged; first violations: %v",
				limit, int64(n)-(until-l.acks.Load()), n, l.violations())
		}
	}
}

func (l *load) violations() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bad
}

// stop ends the load and fails the test for every answer that was neither true nor "wait".
func (l *load) stop() {
	l.cancel()
	l.group.Wait()
	for _, err := range l.violations() {
		l.t.Errorf("neither true nor 503 with Retry-After: %v", err)
	}
	l.bad = nil
}
