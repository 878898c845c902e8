package alert

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/internal/ledger"
)

// script plays statuses to a book, second by second, and keeps what it said and when.
type script struct {
	*book
	now  time.Time
	said []string
}

func newScript(after time.Duration) *script {
	return &script{book: newBook(after), now: time.Unix(1800000000, 0)}
}

var begin = time.Unix(1800000000, 0)

// pass shows s once a second for d.
func (p *script) pass(d time.Duration, s ledger.Status) {
	for end := p.now.Add(d); p.now.Before(end); p.now = p.now.Add(time.Second) {
		p.hear(p.book.status(p.now, &s))
	}
}

func (p *script) hear(ms []Message) {
	for _, m := range ms {
		p.said = append(p.said, fmt.Sprintf("%s %s %s %s #%d", p.now.Sub(begin), m.Kind, m.Phase, m.State, m.Number))
	}
}

func (p *script) want(t *testing.T, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, p.said); d != "" {
		t.Errorf("(-want +said):\n%s", d)
	}
}

func state(s string) ledger.Status {
	return ledger.Status{State: s, Reason: "why", Mirrors: []ledger.MirrorStatus{{Name: "usb", State: "complete"}}}
}

// A restart is not told; what lasts is, again at growing intervals, and its end.
func TestTroubleLasts(t *testing.T) {
	p := newScript(30 * time.Second)
	p.pass(20*time.Second, state("closed"))
	p.pass(time.Minute, state("open"))
	p.want(t)
	p.pass(2*time.Hour, state("held"))
	p.pass(time.Minute, state("open"))
	p.want(t,
		"1m50s fence begins held #1", "16m50s fence lasts held #2", "46m50s fence lasts held #3", "1h46m50s fence lasts held #4",
		"2h1m50s fence over open #5")
}

// It becomes worse: that is told, once, and not before a minute has passed.
func TestTroubleWorse(t *testing.T) {
	p := newScript(30 * time.Second)
	p.pass(40*time.Second, state("held"))
	p.pass(10*time.Minute, state("closed"))
	p.pass(time.Minute, state("held"))
	p.pass(time.Minute, state("closed"))
	p.want(t, "30s fence begins held #1", "1m30s fence lasts closed #2")
}

// A fence that flaps is told, and is over only when it stays open.
func TestTroubleFlaps(t *testing.T) {
	p := newScript(30 * time.Second)
	for range 30 {
		p.pass(20*time.Second, state("held"))
		p.pass(20*time.Second, state("open"))
	}
	p.pass(time.Minute, state("open"))
	p.want(t, "40s fence begins held #1", "16m0s fence lasts held #2", "20m10s fence over open #3")
}

func TestTroubleAtOnce(t *testing.T) {
	p := newScript(0)
	p.pass(time.Second, state("closed"))
	p.pass(time.Second, state("open"))
	p.want(t, "0s fence begins closed #1", "1s fence over open #2")
}

// Accounts, mirrors and the witness are troubles of their own.
func TestTroublesOfParts(t *testing.T) {
	p := newScript(time.Second)
	s := state("open")
	for i := range 30 {
		s.Closed = append(s.Closed, ledger.ClosedStatus{Account: fmt.Sprint(i), Reason: "x"})
	}
	s.Mirrors[0].Silent = time.Second
	s.Mirrors = append(s.Mirrors, ledger.MirrorStatus{Name: "nas", State: "absent"})
	s.Witness = &ledger.WitnessStatus{State: "damaged"}
	s.Step, s.StepTook = "append", time.Minute
	p.pass(2*time.Second, s)
	p.want(t, "1s accounts begins open #1", "1s mirror begins open #1", "1s mirror begins open #1", "1s witness begins open #1", "1s write begins open #1")
	if got := p.troubles["accounts"].Accounts; len(got) != maxAccounts {
		t.Errorf("%d accounts are named", len(got))
	}
	s.Closed = append(s.Closed, ledger.ClosedStatus{Account: "more"})
	p.said = nil
	p.pass(2*time.Minute, s)
	p.want(t, "1m1s accounts lasts open #2")
}

// Events: the same again at growing intervals only, different ones a few in an hour.
func TestEvents(t *testing.T) {
	p := newScript(0)
	damage := ledger.Event{Kind: ledger.EventDamage, Bad: true, State: "open", Text: "segment 3"}
	for range 3 * 3600 {
		p.hear(p.event(p.now, damage))
		p.now = p.now.Add(time.Second)
	}
	p.want(t, "0s damage happened open #1", "15m0s damage happened open #901", "45m0s damage happened open #2701", "1h45m0s damage happened open #6301")
	for _, e := range []ledger.Event{
		{Kind: ledger.EventFence, Bad: true}, {Kind: ledger.EventAccount, Bad: true}, {Kind: ledger.EventMirror}, {Kind: "other", Bad: true},
	} {
		if got := p.event(p.now, e); len(got) > 0 {
			t.Errorf("%+v was told: %+v", e, got)
		}
	}
	for _, e := range []ledger.Event{{Kind: ledger.EventMirror, Bad: true}, {Kind: ledger.EventHealed}, {Kind: ledger.EventMassChange, Account: 7}} {
		if got := p.event(p.now, e); len(got) != 1 || (e.Account != 0) != (len(got[0].Accounts) == 1) {
			t.Errorf("%+v was told as %+v", e, got)
		}
	}
	p.now = p.now.Add(2 * time.Hour)
	n := 0
	for i := range 10 * maxKinds {
		n += len(p.event(p.now, ledger.Event{Kind: ledger.EventDamage, Text: fmt.Sprint(i)}))
	}
	if held := p.takeHeldBack(); n != maxHourly || held != 10*maxKinds-maxHourly || len(p.events) > maxKinds {
		t.Errorf("%d told, %d held back, %d remembered", n, held, len(p.events))
	}
}

// The text of a mail is bounded by nothing but the ledger's words, and no word of them becomes a header.
func FuzzMailText(f *testing.F) {
	f.Add("fence", "held", "a\r\nBcc: x@example.org", "todo", "https://cloud.example.org")
	f.Add("", "", ".\r\n.", "\x00\xff", "\r\n")
	f.Fuzz(func(t *testing.T, kind, state, text, todo, url string) {
		w := watchOf("127.0.0.1:1")
		m := &mail{cfg: &Config{Settings: w}, recipient: "b@example.org"}
		got := string(m.text(&Message{Kind: kind, State: state, Text: text, Todo: todo, URL: url, ID: "id", At: begin}))
		head, body, ok := strings.Cut(got, "\r\n\r\n")
		if !ok || strings.Count(head, "\r\n") != 8 {
			t.Fatalf("the head is not 9 lines:\n%q", got)
		}
		if strings.Contains(strings.ReplaceAll(got, "\r\n", ""), "\n") || strings.Contains(strings.ReplaceAll(got, "\r\n", ""), "\r") {
			t.Fatalf("a line that does not end in CR LF: %q", got)
		}
		for line := range strings.SplitSeq(body, "\r\n") {
			if len(line) > 76 {
				t.Fatalf("a line of %d bytes", len(line))
			}
		}
	})
}
