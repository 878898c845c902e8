// Package push tells devices at once that something changed: by server-sent events (events.go), and by
// Web Push through a push service of the device's choice (WebDAV-Push, register.go and send.go). It tells
// which collections changed, never what is in them.
//
// Invariants: nothing is told beyond the durable head, for what is told is read through ledger.View (L3);
// nobody who listens slowly slows the ledger, and what waits for a listener is bounded: it knows since
// which seq it was told nothing, not what it missed; who must not come in any more is told nothing more.
package push

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
)

// Who is somebody that authentication let in.
type Who struct {
	Account holdfast.AccountID
	Name    string            // of the account
	Device  holdfast.DeviceID // 0: the account's own password
}

// Config is what a Push needs.
type Config struct {
	Ledger *ledger.Ledger
	Log    *slog.Logger     // nil: silent
	Now    func() time.Time // nil: time.Now

	// Href and Token name a collection and its state as DAV answers do; segs begins with the account's name.
	Href  func(segs []string) string
	Token func(v *ledger.View, c *ledger.Collection, h holdfast.Head) string

	// Standing returns for each a hash that changes when what they came in with is replaced, and is zero when it
	// was taken back. Judges reports whether a change of a collection of account 0 can do that.
	Standing func(ctx context.Context, ids []Who) ([]holdfast.Hash, error)
	Judges   func(collection string) bool

	// WebPush has registrations taken and messages sent, by way of Send, to what CheckURL lets pass.
	WebPush  bool
	Server   holdfast.ServerID
	Contact  string // of the operator, for push services: a URL; may be empty
	CheckURL func(string) error
	Send     func(*http.Request) (*http.Response, error)

	Streams   int           // that one account may have open; the oldest ends for a new one
	Heartbeat time.Duration // between two signs of life on a stream; 0 = 25 s
	Patience  time.Duration // how long a client may take nothing; 0 = 30 s
}

// Push is running from New to Stop. All methods may be called at the same time.
type Push struct {
	cfg  Config
	log  *slog.Logger
	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup

	mu      sync.Mutex // guards what follows
	stopped bool
	feeds   map[holdfast.AccountID]*feed

	vapid   atomic.Pointer[vapid] // nil until the fence was open once
	book    book
	sending chan struct{} // one item for each message on its way
	counted map[string]*atomic.Int64

	streams atomic.Int64
	events  atomic.Int64
}

// New starts.
func New(ctx context.Context, cfg Config) *Push {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 25 * time.Second
	}
	if cfg.Patience == 0 {
		cfg.Patience = 30 * time.Second
	}
	p := &Push{cfg: cfg, log: cfg.Log.With("pkg", "push"), feeds: map[holdfast.AccountID]*feed{}, sending: make(chan struct{}, maxSending)}
	p.book.subjects = map[holdfast.AccountID]*subject{}
	p.counted = map[string]*atomic.Int64{"sent": {}, "gone": {}, "failed": {}}
	p.ctx, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	p.work.Go(p.follow)
	return p
}

// Stop ends every stream, each with a word to come again, and waits for it.
func (p *Push) Stop() {
	if p == nil {
		return
	}
	p.mu.Lock()
	p.stopped = true
	for _, f := range p.feeds {
		for _, s := range f.streams {
			s.end(endStopping)
		}
	}
	p.mu.Unlock()
	p.stop()
	p.work.Wait()
}

// Stats are numbers for metrics.
type Stats struct {
	Streams       int64         // open now
	Events        int64         // told on streams since the start
	Registrations int64         // for Web Push
	Sent          int64         // messages that push services took
	Gone          int64         // that came back because the subscription is not there any more
	Failed        int64         // that did not get there; most are tried again
	Oldest        time.Duration // how long the change that waits longest has waited to be told
}

// Stats returns them.
func (p *Push) Stats() Stats {
	s := Stats{
		Streams: p.streams.Load(), Events: p.events.Load(),
		Sent: p.counted["sent"].Load(), Gone: p.counted["gone"].Load(), Failed: p.counted["failed"].Load(),
	}
	now := p.cfg.Now()
	for _, j := range p.book.all() {
		j.mu.Lock()
		for _, g := range j.regs {
			s.Registrations++
			if !g.news.IsZero() && !g.denied {
				s.Oldest = max(s.Oldest, now.Sub(g.news))
			}
		}
		j.mu.Unlock()
	}
	return s
}
