package clients

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestAccountInTrouble shows that one account does not slow or stop the others (F8): store and mirror were
// rolled back together, so a device's newer sync token closes the fence of its account, whose devices go on
// asking; and another account floods the server with large bodies. Every request of a third one is answered
// as on a quiet day. How long that took is printed beside the quiet run, and not judged.
func TestAccountInTrouble(t *testing.T) {
	r := seeded(t)
	s := newSpan(0, 0)
	n := s.count(200, 2000)
	v := newTroubled(t)
	quiet := v.ordinary("quiet", n, r)
	v.closeAlice()
	closed := v.beside(v.aliceAsks, func() []time.Duration { return v.ordinary("closed", n, r) })
	flooded := v.beside(v.carolFloods, func() []time.Duration { return v.ordinary("flooded", n, r) })
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, err := range v.bad {
		t.Error(err)
	}
	if v.refused == 0 || v.flooded == 0 {
		t.Errorf("%d requests of the closed account, %d large bodies: there was no trouble", v.refused, v.flooded)
	}
	if !t.Failed() {
		s.totals(t, "an account in trouble", 3*n, "requests of another account answered", v.refused, "of the closed account refused", v.flooded, "bodies of 4 MiB beside them",
			"p50 "+at(quiet, 50), "and p99 "+at(quiet, 99)+" quiet", "p50 "+at(closed, 50), "and p99 "+at(closed, 99)+" beside the closed account",
			"p50 "+at(flooded, 50), "and p99 "+at(flooded, 99)+" beside the flood")
	}
}

// troubled is a server of alice, whose data was rolled back, carol, who floods it, and bob.
type troubled struct {
	t     *testing.T
	s     *server
	token string // of alice, newer than all copies

	mu               sync.Mutex // guards all below
	refused, flooded int
	bad              []error
}

func newTroubled(t *testing.T) *troubled {
	t.Helper()
	v := &troubled{t: t, s: newServer(t)}
	s := v.s
	s.passwords["carol"] = "correct horse of carol"
	s.holdfast(s.passwords["carol"]+"\n", "account", "add", "carol", "--password-stdin", "--data", s.data)
	alice := s.client("alice")
	alice.put(t, "/dav/alice/contacts/before.vcf", card("before", "Before", "1"))
	s.stop()
	for _, dir := range []string{s.data, s.mirror} {
		if out, err := exec.Command("cp", "-a", dir, dir+".old").CombinedOutput(); err != nil {
			t.Fatalf("copy %s: %v: %s", dir, err, out)
		}
	}
	s.start()
	alice.put(t, "/dav/alice/contacts/after.vcf", card("after", "After", "1"))
	v.token = alice.mustSync(t, "/dav/alice/contacts/", "").token
	s.stop()
	for _, dir := range []string{s.data, s.mirror} {
		if err := errors.Join(os.RemoveAll(dir), os.Rename(dir+".old", dir)); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	return v
}

// closeAlice shows the server the newer token: the fence of alice's account closes, for every request.
func (v *troubled) closeAlice() {
	v.t.Helper()
	c := v.s.client("alice")
	if _, err := c.sync("/dav/alice/contacts/", v.token); err == nil {
		v.t.Fatal("a token newer than all copies was taken")
	} else if wait, bad := waiting(err); !wait {
		v.t.Fatalf("a token newer than all copies: %v: %v", err, bad)
	}
	a, err := c.do("GET", "/dav/alice/contacts/before.vcf", nil)
	if err != nil {
		v.t.Fatal(err)
	}
	if bad := a.wait(); bad != nil {
		v.t.Fatalf("the account is not closed: %v", bad)
	}
}

// ordinary is bob's day: writes and reads, each of which must be answered. It returns how long each took, sorted.
func (v *troubled) ordinary(name string, n int, r *rand.Rand) []time.Duration {
	v.t.Helper()
	c := v.s.client("bob")
	var took []time.Duration
	for i := range n {
		uid := fmt.Sprintf("%s-%d", name, i)
		path := "/dav/bob/contacts/" + uid + ".vcf"
		began := time.Now()
		if i%2 == 0 {
			c.must(v.t, []int{http.StatusCreated}, "PUT", path, []byte(card(uid, "Bob", "at work")), "Content-Type", contentType(path))
		} else {
			c.must(v.t, read, "GET", fmt.Sprintf("/dav/bob/contacts/%s-%d.vcf", name, r.IntN(i/2+1)*2), nil)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took
}

// at returns a percentile.
func at(took []time.Duration, percent int) string {
	return took[(len(took)-1)*percent/100].Round(10 * time.Microsecond).String()
}

// beside runs measure while four others make trouble.
func (v *troubled) beside(trouble func(context.Context), measure func() []time.Duration) []time.Duration {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	for range 4 {
		group.Go(func() { trouble(ctx) })
	}
	return measure()
}

// aliceAsks is a device with little patience: every answer must be "wait".
func (v *troubled) aliceAsks(ctx context.Context) {
	c := v.s.client("alice")
	defer c.http.CloseIdleConnections()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		<-tick.C
		var a *answer
		var err error
		switch i % 3 {
		case 0:
			a, err = c.do("PROPFIND", "/dav/alice/contacts/", []byte(propfindETag), "Depth", "1")
		case 1:
			a, err = c.do("PUT", "/dav/alice/contacts/more.vcf", []byte(card("more", "More", "1")), "Content-Type", contentType("more.vcf"))
		default:
			a, err = c.do("GET", "/dav/alice/contacts/before.vcf", nil)
		}
		if err == nil {
			err = a.wait()
		}
		v.note(&v.refused, err)
	}
}

// carolFloods writes large bodies as fast as the server takes them.
func (v *troubled) carolFloods(ctx context.Context) {
	c := v.s.client("carol")
	defer c.http.CloseIdleConnections()
	body := []byte(strings.Repeat("flood", 4<<20/5))
	for i := 0; ctx.Err() == nil; i++ {
		copy(body, fmt.Sprintf("%p %d", c, i)) // no two are the same
		a, err := c.do("PUT", fmt.Sprintf("/dav/carol/Files/flood-%p", c), body)
		if err == nil {
			err = a.want(written...)
		}
		v.note(&v.flooded, err)
	}
}

func (v *troubled) note(count *int, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err == nil {
		*count++
	} else if len(v.bad) < 10 {
		v.bad = append(v.bad, err)
	}
}
