package clients

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// TestTwoServers plays fault 18 (DURABILITY.md): under load the server is stopped with SIGSTOP, a second one
// takes its mirror over, from a copy of the data directory or from `holdfast restore`, and then the first one
// goes on where it was. From then on only the second acknowledges. The history of all requests to both, with
// their ETags, is linearizable: every acknowledged write of both is explained. Then the first is started
// anew: one of two copies may take over again, since they are the same data directory twice; the one that was
// restored from stays fenced. Never do both acknowledge.
func TestTwoServers(t *testing.T) {
	r := seeded(t)
	s := newSpan(2, 20)
	rounds, asked, acks, fenced, divided := 0, 0, 0, 0, 0
	for ; s.goesOn(rounds); rounds++ {
		v := newRivals(t, rand.New(rand.NewPCG(r.Uint64(), 5)), rounds%2 == 0)
		v.play()
		asked, acks, fenced, divided = asked+len(v.history), acks+int(v.acks.Load()), fenced+v.fenced, divided+v.divided
	}
	s.totals(t, "two servers", rounds, "takeovers of a paused server", asked, "requests to both judged linearizable", acks, "acknowledged writes",
		fenced, "requests to the old one refused", divided, "old ones with a change that was not continued", 0, "acknowledged by both")
}

// rivals are two servers with one mirror, and clients that ask both.
type rivals struct {
	t        *testing.T
	r        *rand.Rand
	restored bool    // the second data directory comes from `holdfast restore`; else it is a copy
	old, new *server // new is nil until the takeover
	last     *server // the one that serves in the end
	divided  int     // times the first had a change of its own that the second did not continue
	acks     atomic.Int64
	fenced   int
	values   atomic.Int64

	mu       sync.Mutex // guards all below
	servers  []*server  // that are asked
	began    time.Time
	history  []porcupine.Operation
	etags    map[string]string // of a value
	failures []error
}

// An ask is the input of one operation on a register, told its outcome.
type ask struct {
	path, method string
	value        string // of a PUT
	match        string // the value that If-Match names; empty: no precondition
	server       *server
}

// A told is what came back. Unknown: no answer, or one that says "wait".
type told struct {
	status int // 0: unknown
	value  string
}

func newRivals(t *testing.T, r *rand.Rand, restored bool) *rivals {
	t.Helper()
	v := &rivals{t: t, r: r, restored: restored, old: newServer(t), began: time.Now(), etags: map[string]string{}}
	v.servers = []*server{v.old}
	return v
}

// play is one takeover.
func (v *rivals) play() {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for n := range 6 {
		seed := v.r.Uint64()
		group.Go(func() { v.client(ctx, n, rand.New(rand.NewPCG(seed, 6))) })
	}
	defer group.Wait()
	defer cancel()
	v.waitAcks(30 + v.r.IntN(30))
	v.old.stopThreads() // wherever each of them is
	v.takeOver()
	taken := v.now()
	v.waitAcks(20)
	if err := syscall.Kill(-v.old.cmd.Process.Pid, syscall.SIGCONT); err != nil {
		v.t.Fatal(err)
	}
	v.waitAcks(30)
	v.wait(30, taken, v.old) // answers of the old one after it woke
	v.acknowledgedBy(v.old, taken, "it was taken over")
	v.old.alive()

	v.old.kill()
	v.old.launch()
	v.last = v.new
	if v.restored {
		v.waitAcks(20)
		v.wait(10, taken, v.old)
		v.acknowledgedBy(v.old, taken, "it was taken over and started again")
	} else {
		v.copyAgain()
	}
	cancel()
	group.Wait()
	v.judge()
}

// copyAgain is the first server started again on the same data directory twice: who started last has the
// mirror. If it had committed a change that it could not mirror any more, its store and the mirror have
// different data under one number: it serves nothing of that account, and the second server, started again,
// goes on.
func (v *rivals) copyAgain() {
	v.t.Helper()
	alice := v.old.client("alice")
	v.old.eventually(60*time.Second, "the first server serves again, or says why not", func() error {
		a, err := alice.do("PROPFIND", "/dav/alice/", nil, "Depth", "0")
		if err != nil {
			return err
		}
		if strings.Contains(v.old.out.last(10), "accounts_closed=1") {
			v.divided++
			return nil
		}
		return a.want(http.StatusMultiStatus)
	})
	woken := v.now()
	if v.divided == 0 {
		v.last = v.old
		v.waitAcks(20)
		v.acknowledgedBy(v.new, woken, "the first was started again")
		return
	}
	v.old.kill()
	v.new.kill()
	v.new.start()
	v.waitAcks(20)
}

// takeOver makes the second server and starts it.
func (v *rivals) takeOver() {
	v.t.Helper()
	data := filepath.Join(filepath.Dir(v.old.data), "data-2")
	if v.restored {
		v.old.holdfast("", "restore", "--from-mirror", v.old.mirror, "--to", data, "--yes")
	} else if out, err := exec.Command("cp", "-a", v.old.data, data).CombinedOutput(); err != nil {
		v.t.Fatalf("copy the data directory: %v: %s", err, out)
	}
	v.new = &server{t: v.t, data: data, mirror: v.old.mirror, addr: freeAddr(v.t), passwords: v.old.passwords}
	v.t.Cleanup(v.new.end)
	v.new.start()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.servers = append(v.servers, v.new)
}

// client asks one server after the other, drawn at random.
func (v *rivals) client(ctx context.Context, n int, r *rand.Rand) {
	clients := map[*server]*client{}
	seen := map[string]string{} // path to the value this client saw last
	for i := 0; ctx.Err() == nil; i++ {
		v.mu.Lock()
		s := v.servers[r.IntN(len(v.servers))]
		v.mu.Unlock()
		c := clients[s]
		if c == nil {
			c = s.client("alice")
			c.http.Timeout = 300 * time.Millisecond // a paused server does not answer
			defer c.http.CloseIdleConnections()
			clients[s] = c
		}
		a := ask{path: fmt.Sprintf("/dav/alice/Files/register-%d", r.IntN(8)), method: "GET", server: s}
		switch choice := r.IntN(10); {
		case choice < 4:
			a.method, a.value = "PUT", fmt.Sprint("value ", v.values.Add(1))
		case choice < 7:
			a.method, a.value, a.match = "PUT", fmt.Sprint("value ", v.values.Add(1)), seen[a.path]
		case choice == 7:
			a.method = "DELETE"
		}
		out := v.ask(c, n, a)
		switch {
		case out.status == http.StatusOK:
			seen[a.path] = out.value
		case out.status == 0:
			timer := time.NewTimer(20 * time.Millisecond)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		case a.method == "PUT" && out.status < 300:
			seen[a.path] = a.value
		default:
			delete(seen, a.path)
		}
	}
}

// ask sends one request and writes it into the history.
func (v *rivals) ask(c *client, n int, in ask) told {
	var headers []string
	if in.match != "" {
		v.mu.Lock()
		headers = []string{"If-Match", v.etags[in.match]}
		v.mu.Unlock()
	}
	call := v.now()
	a, err := c.do(in.method, in.path, []byte(in.value), headers...)
	out, etag, bad := told{}, "", error(nil)
	if err == nil {
		switch a.status {
		case http.StatusOK:
			out, etag = told{a.status, string(a.body)}, a.header.Get("ETag")
		case http.StatusCreated, http.StatusNoContent:
			out, etag = told{a.status, in.value}, a.header.Get("ETag")
		case http.StatusNotFound, http.StatusPreconditionFailed:
			out = told{status: a.status}
		default:
			bad = a.wait()
		}
	}
	if in.method != "GET" && out.status/100 == 2 {
		v.acks.Add(1)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if bad != nil {
		v.failures = append(v.failures, bad)
	}
	if out.value != "" && etag != "" {
		if was := v.etags[out.value]; was != "" && was != etag {
			v.failures = append(v.failures, fmt.Errorf("%s: ETag of %q was %s, is %s", in.path, out.value, was, etag))
		}
		v.etags[out.value] = etag
	}
	v.history = append(v.history, porcupine.Operation{ClientId: n, Input: in, Call: call, Output: out, Return: v.now()})
	return out
}

func (v *rivals) now() int64 { return time.Since(v.began).Nanoseconds() }

// waitAcks waits until n more writes have been acknowledged, by whomever.
func (v *rivals) waitAcks(n int) {
	v.t.Helper()
	until := v.acks.Load() + int64(n)
	eventually(v.t, 60*time.Second, "writes are acknowledged", func() error {
		if now := v.acks.Load(); now < until {
			return fmt.Errorf("%d of %d", int64(n)-(until-now), n)
		}
		return nil
	})
}

// wait waits until a server has had n requests that were sent after a moment.
func (v *rivals) wait(n int, after int64, s *server) {
	v.t.Helper()
	eventually(v.t, 60*time.Second, "the server is asked", func() error {
		v.mu.Lock()
		defer v.mu.Unlock()
		count := 0
		for _, op := range v.history {
			if op.Input.(ask).server == s && op.Call > after {
				count++
			}
		}
		if count < n {
			return fmt.Errorf("%d of %d requests", count, n)
		}
		return nil
	})
}

// acknowledgedBy fails the test for each request to a server, sent after a moment, that was acknowledged.
func (v *rivals) acknowledgedBy(s *server, after int64, since string) {
	v.t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, op := range v.history {
		in, out := op.Input.(ask), op.Output.(told)
		if in.server != s || op.Call <= after {
			continue
		}
		if out.status != 0 {
			v.t.Errorf("%s %s: a server answered %d after %s", in.method, in.path, out.status, since)
		}
		v.fenced++
	}
}

// judge reads every register once more and asks porcupine.
func (v *rivals) judge() {
	v.t.Helper()
	c := v.last.client("alice")
	paths := map[string]bool{}
	for _, op := range v.history {
		paths[op.Input.(ask).path] = true
	}
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		if out := v.ask(c, 6, ask{path: path, method: "GET", server: v.last}); out.status == 0 {
			v.t.Errorf("GET %s: no answer in the end", path)
		}
	}
	for _, err := range v.failures {
		v.t.Error(err)
	}
	if v.t.Failed() {
		return
	}
	for _, one := range registers.Partition(known(v.history)) {
		switch porcupine.CheckOperationsTimeout(registers, one, time.Minute) {
		case porcupine.Illegal:
			v.t.Errorf("the history of one register at both servers is not linearizable:\n%s", describe(one))
		case porcupine.Unknown:
			v.t.Error("porcupine did not come to an end in a minute")
		}
	}
}

// known leaves out reads without an answer, which say nothing. Writes without one may have happened at any
// time after they were sent, or never, which is the same as at the very end.
func known(history []porcupine.Operation) []porcupine.Operation {
	var all []porcupine.Operation
	for _, op := range history {
		if op.Output.(told).status == 0 {
			if op.Input.(ask).method == "GET" {
				continue
			}
			op.Return = math.MaxInt64
		}
		all = append(all, op)
	}
	return all
}

// registers is the model: each path is a register whose state is its value, empty if it is absent.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		by := map[string][]porcupine.Operation{}
		for _, op := range history {
			path := op.Input.(ask).path
			by[path] = append(by[path], op)
		}
		return slices.Collect(maps.Values(by))
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		return step(state.(string), input.(ask), output.(told))
	},
}

func step(state string, in ask, out told) (bool, any) {
	matches := in.match == "" || in.match == state
	switch {
	case in.method == "GET":
		return out.value == state, state
	case out.status == http.StatusPreconditionFailed:
		return !matches, state
	case out.status == http.StatusNotFound:
		return in.method == "DELETE" && state == "", state
	case out.status == 0 && !matches:
		return true, state
	case in.method == "DELETE":
		return out.status == 0 || state != "", ""
	}
	return matches, in.value
}

func describe(history []porcupine.Operation) string {
	history = slices.SortedFunc(slices.Values(history), func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	text := ""
	for _, op := range history {
		in, out := op.Input.(ask), op.Output.(told)
		text += fmt.Sprintf("%d..%d us %s %s %s %q if %q: %d %q\n", op.Call/1000, op.Return/1000, in.server.addr, in.method, in.path, in.value, in.match, out.status, out.value)
	}
	return text
}

// TestRegisters shows that the model finds what it is there for.
func TestRegisters(t *testing.T) {
	op := func(call, end int64, method, value, match string, status int, got string) porcupine.Operation {
		return porcupine.Operation{Call: call, Return: end, Input: ask{path: "/r", method: method, value: value, match: match}, Output: told{status, got}}
	}
	put := op(1, 2, "PUT", "a", "", 201, "a")
	for name, c := range map[string]struct {
		more []porcupine.Operation
		want bool
	}{
		"read back":                   {[]porcupine.Operation{op(3, 4, "GET", "", "", 200, "a")}, true},
		"lost":                        {[]porcupine.Operation{op(3, 4, "GET", "", "", 404, "")}, false},
		"stale":                       {[]porcupine.Operation{op(3, 4, "PUT", "b", "", 204, "b"), op(5, 6, "GET", "", "", 200, "a")}, false},
		"both acknowledge on one tag": {[]porcupine.Operation{op(3, 4, "PUT", "b", "a", 204, "b"), op(3, 4, "PUT", "c", "a", 204, "c")}, false},
		"no answer, seen later":       {[]porcupine.Operation{op(3, 4, "PUT", "b", "", 0, ""), op(5, 6, "GET", "", "", 200, "a"), op(7, 8, "GET", "", "", 200, "b")}, true},
		"no answer, seen and lost":    {[]porcupine.Operation{op(3, 4, "PUT", "b", "", 0, ""), op(5, 6, "GET", "", "", 200, "b"), op(7, 8, "GET", "", "", 200, "a")}, false},
	} {
		if got := porcupine.CheckOperations(registers, known(append([]porcupine.Operation{put}, c.more...))); got != c.want {
			t.Errorf("%s: linearizable %v, want %v", name, got, c.want)
		}
	}
}
