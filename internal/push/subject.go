package push

import (
	"errors"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
)

// subject is an account that something is registered for. It has a goroutine that watches the account.
type subject struct {
	p       *Push
	account holdfast.AccountID
	poke    chan struct{} // has one item when registrations changed, or a message was delivered
	ended   chan struct{}
	once    sync.Once

	mu   sync.Mutex // guards what is in regs too
	regs map[string]*enlisted
}

// enlisted is a registration and what is known of it here.
type enlisted struct {
	registration
	keys     keys
	standing holdfast.Hash
	denied   bool // nothing is sent any more

	told    holdfast.Seq // what came later is to be told
	news    time.Time    // since when there is something; zero: nothing
	sending bool
	sent    time.Time // the last one that arrived
	next    time.Time // not before
	gap     time.Duration
	burst   int // messages since it was quiet
	tries   int // for what is to be told now
	failed  int // in a row
	held    int // changes ever under way that it may not want to hear of
	holds   int // those that are under way now
	muted   map[holdfast.Seq]struct{}
}

// tell notes that nothing up to seq is to be told any more.
func (g *enlisted) tell(seq holdfast.Seq) {
	g.told, g.news = max(g.told, seq), time.Time{}
	for s := range g.muted {
		if s <= g.told {
			delete(g.muted, s)
		}
	}
}

func (p *Push) newSubject(a holdfast.AccountID) *subject {
	s := &subject{p: p, account: a, poke: make(chan struct{}, 1), ended: make(chan struct{}), regs: map[string]*enlisted{}}
	p.work.Go(s.run)
	return s
}

func (s *subject) stop() { s.once.Do(func() { close(s.ended) }) }

func (s *subject) wake() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

func (s *subject) run() {
	w := s.p.cfg.Ledger.Watch(s.account)
	defer w.Stop()
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-s.p.ctx.Done():
			return
		case <-s.ended:
			return
		case <-w.C:
		case <-s.poke:
		case <-t.C:
		}
		if _, err := w.State(); err != nil {
			continue // the watcher wakes us when the fence opens
		}
		next, err := s.round()
		if err != nil {
			if !errors.Is(err, holdfast.ErrFenced) && s.p.ctx.Err() == nil {
				s.p.log.Warn("read what changed", "account", s.account.String(), "err", err)
			}
			next = retryLeast
		}
		t.Stop()
		if next > 0 {
			t.Reset(next)
		}
	}
}

// due is a registration that may be told something now.
type due struct {
	g    *enlisted
	reg  registration
	keys keys
	told holdfast.Seq
	held int
}

// round sends what is to be told now, and returns when to look again; 0: only when something happens.
func (s *subject) round() (next time.Duration, err error) {
	head, _ := s.p.cfg.Ledger.AccountHead(s.account)
	list, next := s.dueNow(head.Head.Seq)
	if len(list) == 0 {
		return next, nil
	}
	messages := make([]message, len(list))
	err = s.p.cfg.Ledger.View(s.p.ctx, s.account, func(v *ledger.View) error { return s.compose(v, list, messages) })
	if err != nil {
		return next, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, d := range list {
		m, g := messages[i], d.g
		if g.denied || g.holds > 0 || g.sending || g.held != d.held || g.told != d.told {
			continue // a change began meanwhile that it may not want to hear of: release wakes us
		}
		if m.body == nil {
			g.tell(m.upTo)
			continue
		}
		g.sending = true
		s.p.work.Go(func() { s.deliver(g, d.reg, d.keys, m) })
	}
	return next, nil
}

// dueNow returns those that something may be new for and that may be told now.
func (s *subject) dueNow(head holdfast.Seq) (list []due, next time.Duration) {
	now := s.p.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.regs {
		if g.denied || head <= g.told || now.After(g.Expires) {
			continue
		}
		if g.news.IsZero() {
			g.news = now
		}
		if g.sending || g.holds > 0 {
			continue // wakes us
		}
		if wait := g.next.Sub(now); wait > 0 {
			if next == 0 || wait < next {
				next = wait
			}
			continue
		}
		list = append(list, due{g, g.registration, g.keys, g.told, g.held})
	}
	return list, next
}
