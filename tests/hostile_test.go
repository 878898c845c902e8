package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// maxResident is what no load may raise the server's memory above, in MiB. It is a bound against growth without end;
// what each load takes is printed.
const maxResident = 600

// TestHostileLoads lets one account do its worst, one way after another, while another account has an ordinary day. Every
// request of the well-behaved one is answered as on a quiet day; every answer to the hostile one is one that it has to
// get. How long the ordinary requests took, and the server's memory, are printed beside the quiet run, and not judged:
// the machine may be busy.
func TestHostileLoads(t *testing.T) {
	span := newSpan(0, 0)
	n := span.count(60, 1500)
	b := newBesieged(t)
	b.fill()
	quiet := b.ordinary(n)
	report := []any{2 * n, "requests a load", "p50 " + at(quiet, 50), "and p99 " + at(quiet, 99) + " quiet"}
	for _, l := range b.loads() {
		done, took := b.under(l, n)
		if done == 0 {
			t.Errorf("%s: nothing was done, so it was no load", l.name)
		}
		now, peak := b.memory()
		fmt.Printf("totals: beside %s (%d): p50 %s and p99 %s, quiet %s and %s; server %d MiB, at most %d MiB\n",
			l.name, done, at(took, 50), at(took, 99), at(quiet, 50), at(quiet, 99), now, peak)
		if peak > maxResident {
			t.Fatalf("%s: the server took %d MiB", l.name, peak)
		}
	}
	b.s.alive()
	b.judge()
	if _, peak := b.memory(); !t.Failed() {
		span.totals(t, "hostile loads", append([]any{len(b.loads()), "ways"}, append(report, peak, "MiB at most")...)...)
	}
}

// besieged is a server of mallory, who is hostile, and bob.
type besieged struct {
	t *testing.T
	s *server

	mu  sync.Mutex // guards bad
	bad []error
}

// A siege is one way to be hostile: what one of its workers does again and again until ctx ends. once does it one time
// and says how often something hostile was done.
type siege struct {
	name    string
	workers int
	once    func(ctx context.Context, c *client, worker, round int) (int, error)
}

// members is how many members the collections have that hostile listings and queries go through.
const members = 3000

func newBesieged(t *testing.T, settings ...string) *besieged {
	t.Helper()
	root := t.TempDir()
	b := &besieged{t: t, s: prepareServer(t, filepath.Join(root, "data"), filepath.Join(root, "mirror"))}
	b.s.configure(settings...)
	b.s.passwords["mallory"] = "correct horse of mallory"
	b.s.holdfast(b.s.passwords["mallory"]+"\n", "account", "add", "mallory", "--password-stdin", "--data", b.s.data)
	b.s.start()
	return b
}

// configure adds lines to the settings of a server that does not run.
func (s *server) configure(lines ...string) {
	s.t.Helper()
	f, err := os.OpenFile(filepath.Join(s.data, "holdfast.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = io.WriteString(f, strings.Join(lines, "\n")+"\n")
	if err := errors.Join(err, f.Close()); err != nil {
		s.t.Fatal(err)
	}
}

// fill gives mallory's collections members.
func (b *besieged) fill() {
	b.t.Helper()
	var group sync.WaitGroup
	for w := range 16 {
		group.Go(func() {
			c := b.s.client("mallory")
			defer c.http.CloseIdleConnections()
			for i := w; i < members; i += 16 {
				uid := fmt.Sprintf("m-%d", i)
				path := "/dav/mallory/contacts/" + uid + ".vcf"
				a, err := c.do("PUT", path, []byte(card(uid, "Mallory", "1")), "Content-Type", contentType(path))
				if err == nil {
					err = a.want(written...)
				}
				if err == nil && i%10 == 0 {
					path = "/dav/mallory/calendar/" + uid + ".ics"
					if a, err = c.do("PUT", path, []byte(endless(uid)), "Content-Type", contentType(path)); err == nil {
						err = a.want(written...)
					}
				}
				b.note(err)
			}
		})
	}
	group.Wait()
	b.judge()
}

// endless is an event that happens every second since 1970, on a day that never comes.
func endless(uid string) string {
	return "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//hostile//EN\r\nBEGIN:VEVENT\r\nUID:" + uid + "\r\nDTSTAMP:20260101T000000Z\r\n" +
		"DTSTART:19700101T000000Z\r\nDURATION:PT1S\r\nRRULE:FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30\r\nSUMMARY:endless\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
}

// ordinary is bob's day: n writes and n reads. It returns how long each took, sorted.
func (b *besieged) ordinary(n int) []time.Duration {
	b.t.Helper()
	c := b.s.client("bob")
	defer c.http.CloseIdleConnections()
	var took []time.Duration
	for i := range n {
		path := fmt.Sprintf("/dav/bob/contacts/day-%d.vcf", i%50)
		body := card(fmt.Sprintf("day-%d", i%50), "Bob", strconv.Itoa(i)+time.Now().String())
		began := time.Now()
		c.must(b.t, written, "PUT", path, []byte(body), "Content-Type", contentType(path))
		took = append(took, time.Since(began))
		began = time.Now()
		if a := c.must(b.t, read, "GET", path, nil); string(a.body) != body {
			b.t.Fatalf("GET %s: not what was put", path)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took
}

// under measures bob's day while mallory does l. It returns how much she did, too.
func (b *besieged) under(l siege, n int) (done int, took []time.Duration) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	var mu sync.Mutex
	for w := range l.workers {
		group.Go(func() {
			c := b.s.client("mallory")
			defer c.http.CloseIdleConnections()
			for round := 0; ctx.Err() == nil; round++ {
				k, err := l.once(ctx, c, w, round)
				mu.Lock()
				done += k
				mu.Unlock()
				if err != nil && ctx.Err() == nil {
					b.note(fmt.Errorf("%s: %w", l.name, err))
					return
				}
			}
		})
	}
	took = b.ordinary(n)
	cancel()
	group.Wait()
	return done, took
}

func (b *besieged) note(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil && len(b.bad) < 10 {
		b.bad = append(b.bad, err)
	}
}

func (b *besieged) judge() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, err := range b.bad {
		b.t.Error(err)
	}
}

// memory returns what of the server's process is in memory now, and was at most, in MiB.
func (b *besieged) memory() (now, peak int) {
	b.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.s.cmd.Process.Pid))
	if err != nil {
		b.t.Fatal(err)
	}
	field := func(name string) int {
		_, rest, _ := strings.Cut(string(text), name+":")
		kib, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil {
			b.t.Fatalf("%s in %s: %v", name, text, err)
		}
		return kib >> 10
	}
	return field("VmRSS"), field("VmHWM")
}

// dial opens a raw connection that ends with ctx.
func (b *besieged) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", b.s.addr)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = c.Close() })
	return c, nil
}

// refusedOr is nil for an answer with one of the statuses, or one that says "later" as it has to.
func (a *answer) refusedOr(status ...int) error {
	if a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable {
		if a.header.Get("Retry-After") == "" {
			return fmt.Errorf("%s: %d without Retry-After", a.request, a.status)
		}
		return nil
	}
	return a.want(status...)
}

// hungUp reports whether an error says that the server closed the connection.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, net.ErrClosed) || err != nil && strings.Contains(err.Error(), "server closed")
}
