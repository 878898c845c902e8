package alert

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/fence"
	"holdfast/internal/ledger"
)

// Message is what is told. Its JSON is the body of a webhook (docs/monitoring.md).
type Message struct {
	Format   string    `json:"format"` // "holdfast alert 1"
	ID       string    `json:"id"`     // the same for every attempt to send it
	At       time.Time `json:"at"`
	Server   string    `json:"server_id"`
	URL      string    `json:"public_url,omitempty"`
	Kind     string    `json:"kind"`   // fence, accounts, mirror, witness, write, healed, damage, mass-change, test
	Phase    string    `json:"phase"`  // begins, lasts, over, happened
	State    string    `json:"state"`  // of the fence: open, held, closed
	Since    time.Time `json:"since"`  // when the trouble began, or the event was
	Number   int       `json:"number"` // how often this was told, from 1
	Text     string    `json:"text"`
	Todo     string    `json:"todo,omitempty"`
	Accounts []string  `json:"accounts,omitempty"` // ids, at most 20
	Missed   int       `json:"missed,omitempty"`   // earlier ones that were dropped
}

// Kinds that are no ledger.EventKind, and phases.
const (
	KindAccounts = "accounts"
	KindWrite    = "write"
	KindTest     = "test"

	PhaseBegins   = "begins"
	PhaseLasts    = "lasts"
	PhaseOver     = "over"
	PhaseHappened = "happened"
)

// Format names the version of a message.
const Format = "holdfast alert 1"

// How often the same thing is told.
const (
	againFirst  = 15 * time.Minute
	againMost   = 24 * time.Hour
	leastChange = time.Minute // between a message and the next one because it became worse
	maxKinds    = 256         // events that are remembered as told
	maxHourly   = 20          // messages about events in an hour
	maxAccounts = 20          // named in a message
)

// trouble is a state that should not last.
type trouble struct {
	Message
	level   int       // how bad; a higher one is told without waiting
	count   int       // how often it was told
	toldAt  time.Time // last
	toldMax int       // the highest level that was told
	every   time.Duration
	good    time.Time // since when it has not been seen; zero: it is there
}

// told is an event that was told.
type told struct {
	at    time.Time // last
	every time.Duration
	times int // seen
}

// book knows what is wrong and what was told of it. One goroutine owns it.
type book struct {
	after    time.Duration
	troubles map[string]*trouble
	events   map[string]*told
	hour     time.Time // in which hourly messages about events were sent
	hourly   int
	heldBack int // messages that were one too many
}

func newBook(after time.Duration) *book {
	return &book{after: after, troubles: map[string]*trouble{}, events: map[string]*told{}}
}

func (b *book) takeHeldBack() int {
	n := b.heldBack
	b.heldBack = 0
	return n
}

// status returns what a status asks to tell.
func (b *book) status(now time.Time, s *ledger.Status) []Message {
	var out []Message
	there := troubles(s)
	for key, m := range there {
		t := b.troubles[key]
		if t == nil {
			t = &trouble{}
			t.Since = now
			b.troubles[key] = t
		}
		since := t.Since
		t.Message, t.level, t.good = m.Message, m.level, time.Time{}
		t.Since = since
		if phase := t.due(now, b.after); phase != "" {
			out = append(out, t.tell(now, phase))
		}
	}
	for key, t := range b.troubles {
		if _, ok := there[key]; ok {
			continue
		}
		if t.good.IsZero() {
			t.good = now
		}
		if now.Sub(t.good) < b.after { // it may come back
			continue
		}
		delete(b.troubles, key)
		if t.toldMax > 0 {
			out = append(out, t.over(now, s))
		}
	}
	slices.SortStableFunc(out, func(x, y Message) int { return strings.Compare(x.Kind, y.Kind) })
	return out
}

// due says whether a trouble is to be told now, and how.
func (t *trouble) due(now time.Time, after time.Duration) string {
	switch {
	case t.toldMax == 0 && now.Sub(t.Since) >= after:
		t.every = againFirst
		return PhaseBegins
	case t.toldMax == 0:
		return ""
	case t.level > t.toldMax && now.Sub(t.toldAt) >= leastChange:
		return PhaseLasts
	case now.Sub(t.toldAt) >= t.every:
		t.every = min(2*t.every, againMost)
		return PhaseLasts
	}
	return ""
}

func (t *trouble) tell(now time.Time, phase string) Message {
	t.count++
	t.toldAt, t.toldMax = now, max(t.toldMax, t.level)
	m := t.Message
	m.Format, m.At, m.Phase, m.Since, m.Number = Format, now.UTC(), phase, t.Since.UTC(), t.count
	return m
}

func (t *trouble) over(now time.Time, s *ledger.Status) Message {
	m := t.tell(now, PhaseOver)
	m.State, m.Accounts, m.Todo = s.State, nil, ""
	m.Text = fmt.Sprintf("Over after %s. It was: %s", t.good.Sub(t.Since).Round(time.Second), m.Text)
	return m
}

// troubles returns what is wrong in a status. Keys are bounded by the number of mirrors.
func troubles(s *ledger.Status) map[string]*trouble {
	all := map[string]*trouble{}
	add := func(key, kind string, level int, text, todo string) *trouble {
		t := &trouble{level: level}
		t.Kind, t.State, t.Text, t.Todo = kind, s.State, text, todo
		all[key] = t
		return t
	}
	switch s.State {
	case fence.Open.String():
	case fence.Held.String():
		add("fence", string(ledger.EventFence), 1, "The fence is held: reads are served, writes have to wait. "+s.Reason,
			cmp.Or(s.Todo, "Mount the mirror that is missing, or make room on the disk that is full; it goes on by itself. docs/runbooks/mirror.md"))
	default:
		add("fence", string(ledger.EventFence), 2, "The fence is closed: devices are told to wait, nothing is served. "+s.Reason,
			cmp.Or(s.Todo, "Run holdfast status. Remove nothing and restore nothing by hand; devices keep what they have. docs/runbooks/lost-store.md"))
	}
	if n := len(s.Closed); n > 0 {
		t := add("accounts", KindAccounts, n, fmt.Sprintf("Accounts whose own fence is closed: %d. The others are served.", n),
			"Read the newest report in DIR/incidents. docs/runbooks/lost-store.md, part 4")
		for _, c := range s.Closed[:min(n, maxAccounts)] {
			t.Accounts = append(t.Accounts, c.Account)
		}
	}
	for i := range s.Mirrors {
		m := &s.Mirrors[i]
		key := "mirror " + m.Name
		switch {
		case m.Silent > 0:
			add(key, string(ledger.EventMirror), 1, fmt.Sprintf("Mirror %s does not answer: its file system hangs. Writes wait for it.", m.Name),
				"Look at its disk or its network mount. docs/runbooks/mirror.md")
		case s.State == fence.Open.String() && !m.Complete():
			text := fmt.Sprintf("Mirror %s is not complete: %s", m.Name, m.State)
			if s.Degraded {
				text += " WRITES ARE ACKNOWLEDGED WITH FEWER COPIES than configured (policy degraded)."
			}
			add(key, string(ledger.EventMirror), 1, text, "Run holdfast status. docs/runbooks/mirror.md")
		}
	}
	if s.Hangs() {
		add("write", KindWrite, 1, fmt.Sprintf("A write has waited for a disk for %s, in the step %s, and others wait behind it.", s.StepTook.Round(time.Second), s.Step),
			"Run holdfast doctor and look at dmesg: a disk or a network mount hangs. docs/runbooks/mirror.md")
	}
	if w := s.Witness; w != nil && w.State != "complete" && s.State == fence.Open.String() {
		add("witness", "witness", 1, "The head witness is not complete: "+w.State, "Run holdfast status. Look for a failing disk in the third place")
	}
	return all
}

// event returns what an event asks to tell. States are told by status.
func (b *book) event(now time.Time, e ledger.Event) []Message {
	switch e.Kind {
	case ledger.EventDamage, ledger.EventMassChange, ledger.EventHealed:
	case ledger.EventMirror:
		if !e.Bad {
			return nil
		}
	default:
		return nil
	}
	m := Message{Kind: string(e.Kind), State: e.State, Since: e.At, Text: e.Text, Todo: e.Todo}
	if e.Kind == ledger.EventMassChange {
		m.Accounts = []string{e.Account.String()}
	}
	return b.happened(now, m)
}

// happened tells of something that is no state: the same again at growing intervals only, and not more
// than a few in an hour.
func (b *book) happened(now time.Time, m Message) []Message {
	key := fmt.Sprint(m.Kind, m.Accounts, m.Text)
	t := b.events[key]
	if t == nil {
		b.forget(now)
		t = &told{}
		b.events[key] = t
	}
	t.times++
	if !t.at.IsZero() && now.Sub(t.at) < t.every {
		return nil
	}
	if now.Sub(b.hour) >= time.Hour {
		b.hour, b.hourly = now, 0
	}
	if b.hourly++; b.hourly > maxHourly {
		b.heldBack++
		return nil
	}
	t.at, t.every = now, min(max(2*t.every, againFirst), againMost)
	m.Format, m.At, m.Phase, m.Number, m.Since = Format, now.UTC(), PhaseHappened, t.times, m.Since.UTC()
	return []Message{m}
}

// forget makes room for one more event that was told.
func (b *book) forget(now time.Time) {
	if len(b.events) < maxKinds {
		return
	}
	maps.DeleteFunc(b.events, func(_ string, t *told) bool { return now.Sub(t.at) >= 2*againMost })
	for len(b.events) >= maxKinds {
		oldest := ""
		for key, t := range b.events {
			if oldest == "" || t.at.Before(b.events[oldest].at) {
				oldest = key
			}
		}
		delete(b.events, oldest)
	}
}
