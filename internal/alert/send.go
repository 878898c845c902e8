package alert

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"
)

// way is one way to reach a person. send makes one attempt, within the context's time; retrying is the
// sender's job. It is called by one goroutine at a time.
type way interface {
	name() string // webhook or mail
	to() string   // for people: whom it reaches, no secret
	send(ctx context.Context, m *Message) error
}

var (
	_ way = (*webhook)(nil)
	_ way = (*mail)(nil)
)

// ways returns those that are set: the webhook, and mail to each recipient.
func ways(cfg *Config) []way {
	var all []way
	if cfg.Settings.AlertWebhook != "" {
		all = append(all, newWebhook(cfg))
	}
	for _, to := range cfg.Settings.AlertMailTo {
		all = append(all, &mail{cfg: cfg, recipient: to})
	}
	return all
}

// sender sends the messages of one way in order, each until it was taken.
type sender struct {
	way   way
	queue chan Message
	sent  func(way, result string)
	log   *slog.Logger
}

// put queues a message; when the queue is full the oldest is dropped for it. One goroutine calls it.
func (s *sender) put(m Message) {
	for {
		select {
		case s.queue <- m:
			return
		default:
		}
		select {
		case old := <-s.queue:
			m.Missed += 1 + old.Missed
			s.sent(s.way.name(), "lost")
		default:
		}
	}
}

func (s *sender) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-s.queue:
			s.deliver(ctx, &m)
		}
	}
}

// deliver tries until it is taken, too old, or the alerter ends.
func (s *sender) deliver(ctx context.Context, m *Message) {
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		actx, cancel := context.WithTimeout(ctx, sendWithin)
		err := s.way.send(actx, m)
		cancel()
		if err == nil {
			s.sent(s.way.name(), "sent")
			return
		}
		if ctx.Err() != nil {
			return
		}
		if time.Since(m.At) > giveUp {
			s.sent(s.way.name(), "lost")
			s.log.Error("an alert was given up", "way", s.way.name(), "kind", m.Kind, "err", err)
			return
		}
		s.sent(s.way.name(), "failed")
		s.log.Warn("an alert was not taken, it is tried again", "way", s.way.name(), "kind", m.Kind, "in", wait, "err", err)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

func (m *Message) json() []byte {
	m.Format = Format
	b, _ := json.Marshal(m) // strings, numbers and times of this era: cannot fail
	return b
}
