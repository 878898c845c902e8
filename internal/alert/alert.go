// Package alert tells people when the server is not as it should be: by webhook, by e-mail, and by a
// heartbeat that stays away.
//
// It asks for the ledger's status every second, because an event can be missed and a state cannot, and
// hears the ledger's events for what is no state. A trouble is told when it has lasted for a while, again
// at growing intervals while it lasts, and once when it is over. What was told is not kept over a restart:
// a trouble that is still there is told again.
//
// Invariant: nothing here makes the ledger wait. Event never blocks, every queue is bounded and every
// request has a deadline; what is dropped is counted and said in the next message. Messages hold ids,
// numbers and words of the ledger, no names of people and no contents. Redirects are not followed.
package alert

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/config"
	"holdfast/internal/ledger"
)

// Config says what to watch and whom to tell.
type Config struct {
	Dir       string // the data directory, for files of secrets
	Settings  *config.Watch
	Server    string               // server id
	PublicURL string               // may be empty
	Status    func() ledger.Status // may take a moment, not for ever
	Sent      func(way, result string)
	Beat      func(result string) // sent, failed or withheld
	Log       *slog.Logger

	roots *x509.CertPool // tests: whom to trust; nil = the system's
}

// Limits.
const (
	pollEvery  = time.Second
	maxEvents  = 64 // not yet judged
	maxQueue   = 32 // not yet sent, of each way
	sendWithin = 20 * time.Second
	retryFirst = 2 * time.Second
	retryMost  = 5 * time.Minute
	giveUp     = 24 * time.Hour
)

// Alerter watches and tells until it is stopped.
type Alerter struct {
	cfg     Config
	log     *slog.Logger
	book    *book
	events  chan ledger.Event
	missed  atomic.Int64 // events and messages that found a full queue
	senders []*sender
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

// New returns an alerter that does nothing before Start. It takes events from now on.
func New(cfg Config) *Alerter {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Sent == nil {
		cfg.Sent = func(string, string) {}
	}
	if cfg.Beat == nil {
		cfg.Beat = func(string) {}
	}
	a := &Alerter{cfg: cfg, log: cfg.Log.With("pkg", "alert"), book: newBook(cfg.Settings.AlertAfter), events: make(chan ledger.Event, maxEvents), cancel: func() {}}
	for _, w := range ways(&a.cfg) {
		a.senders = append(a.senders, &sender{way: w, queue: make(chan Message, maxQueue), sent: cfg.Sent, log: a.log})
	}
	return a
}

// Start begins to watch status. Stop must be called.
func (a *Alerter) Start(ctx context.Context, status func() ledger.Status) {
	a.cfg.Status = status
	ctx, a.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if len(a.senders) > 0 {
		a.done.Go(func() { a.watch(ctx) })
	}
	for _, s := range a.senders {
		a.done.Go(func() { s.run(ctx) })
	}
	if a.cfg.Settings.HeartbeatURL != "" {
		a.done.Go(func() { a.beat(ctx) })
	}
}

// Stop ends it; what was not sent yet is not sent. A nil Alerter does nothing.
func (a *Alerter) Stop() {
	if a == nil {
		return
	}
	a.cancel()
	a.done.Wait()
}

// Event takes an event of the ledger. It never blocks.
func (a *Alerter) Event(e ledger.Event) {
	if len(a.senders) == 0 {
		return
	}
	select {
	case a.events <- e:
	default:
		a.missed.Add(1)
	}
}

// watch judges status and events, and hands what is to be told to every sender.
func (a *Alerter) watch(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		var out []Message
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s := a.cfg.Status()
			out = a.book.status(time.Now(), &s)
		case e := <-a.events:
			out = a.book.event(time.Now(), e)
		}
		for _, m := range out {
			m.Server, m.URL, m.ID = a.cfg.Server, a.cfg.PublicURL, newID()
			m.Missed = int(a.missed.Swap(0)) + a.book.takeHeldBack()
			a.log.Info("alert", "kind", m.Kind, "phase", m.Phase)
			for _, s := range a.senders {
				s.put(m)
			}
		}
	}
}

func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never returns an error
	return hex.EncodeToString(b[:])
}

// Result is what a test message met on one way.
type Result struct {
	Way  string `json:"way"` // webhook or mail
	To   string `json:"to"`  // the host, or the recipient
	Err  string `json:"error,omitempty"`
	Took int64  `json:"took_ms"`
}

// Test sends one message through every way, once each, and says what happened.
func Test(ctx context.Context, cfg Config) []Result {
	m := Message{
		Kind: KindTest, Phase: PhaseHappened, At: time.Now().UTC(), Since: time.Now().UTC(), ID: newID(), Server: cfg.Server, URL: cfg.PublicURL, Number: 1,
		Text: "This is a test of the alerts, ordered by hand. Nothing is wrong.",
	}
	if cfg.Status != nil {
		m.State = cfg.Status().State
	}
	out := []Result{}
	for _, w := range ways(&cfg) {
		r, start := Result{Way: w.name(), To: w.to()}, time.Now()
		sctx, cancel := context.WithTimeout(ctx, sendWithin)
		if err := w.send(sctx, &m); err != nil {
			r.Err = err.Error()
		}
		cancel()
		r.Took = time.Since(start).Milliseconds()
		out = append(out, r)
	}
	return out
}
