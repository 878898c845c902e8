package push

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"holdfast"
	"holdfast/internal/dial"
)

// How often one registration is told, and how often a push service is asked again.
const (
	gapLeast   = 500 * time.Millisecond // between two messages, doubled while changes go on
	gapBurst   = 10                     // messages before that: people who edit in turns are not made to wait
	gapMost    = 30 * time.Second       // and as long must be quiet before it is least again
	retryLeast = 5 * time.Second        // after a failure, doubled with each
	retryMost  = 15 * time.Minute
	retryAsked = time.Hour // the longest wait that a push service can ask for
	maxTries   = 8         // for one change; then the next one is waited for
	maxFailed  = 16        // refusals in a row after which a registration is removed
	maxSending = 16        // messages on their way at once
	pushLife   = 24 * time.Hour
)

// outcome is what became of a message.
type outcome struct {
	result string        // of metrics: sent, gone, failed
	gone   bool          // the push service does not know the subscription any more
	again  bool          // it is worth trying again
	wait   time.Duration // that the push service asked for
	err    error
}

// send delivers one message (RFC 8030, section 5).
func (p *Push) send(ctx context.Context, g registration, k keys, m message) outcome {
	v := p.vapid.Load()
	if v == nil {
		return outcome{result: "failed", again: true, err: ErrUnavailable}
	}
	body, err := k.seal(m.body)
	if err != nil {
		return outcome{result: "failed", err: err}
	}
	auth, err := v.authorization(g.Endpoint, p.cfg.Now())
	if err != nil {
		return outcome{result: "failed", err: err}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.Endpoint, bytes.NewReader(body))
	if err != nil {
		return outcome{result: "failed", err: fmt.Errorf("push: %w", err)}
	}
	life := min(pushLife, g.Expires.Sub(p.cfg.Now()))
	for name, value := range map[string]string{
		"Authorization": auth, "Content-Encoding": "aes128gcm", "Content-Type": `application/xml; charset="UTF-8"`,
		"TTL": strconv.FormatInt(int64(max(life, 0)/time.Second), 10), "Urgency": "normal", "Topic": m.replaces,
	} {
		r.Header.Set(name, value)
	}
	res, err := p.cfg.Send(r)
	if err != nil {
		return outcome{result: "failed", again: !dial.Refused(err), err: fmt.Errorf("push: %w", err)}
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body) // bounded; so that the connection can be used again
	return judge(res, p.cfg.Now())
}

// judge says what an answer of a push service means.
func judge(res *http.Response, now time.Time) outcome {
	err := fmt.Errorf("the push service answers %d", res.StatusCode)
	switch c := res.StatusCode; {
	case c >= 200 && c < 300:
		return outcome{result: "sent"}
	case c == http.StatusNotFound, c == http.StatusGone: // RFC 8030, section 7.3
		return outcome{result: "gone", gone: true, err: err}
	case c == http.StatusTooManyRequests, c >= 500, c == http.StatusRequestTimeout:
		return outcome{result: "failed", again: true, wait: retryAfter(res.Header.Get("Retry-After"), now), err: err}
	}
	return outcome{result: "failed", err: err}
}

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3); 0: nothing that can be read.
func retryAfter(s string, now time.Time) time.Duration {
	var d time.Duration
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		d = time.Duration(n) * time.Second
	} else if t, err := http.ParseTime(s); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), retryAsked)
}

// deliver sends what a registration is to be told, and notes what became of it.
func (s *subject) deliver(g *enlisted, reg registration, k keys, m message) {
	p := s.p
	select {
	case p.sending <- struct{}{}:
		defer func() { <-p.sending }()
	case <-p.ctx.Done():
		return
	}
	began := p.cfg.Now()
	o := p.send(p.ctx, reg, k, m)
	if p.ctx.Err() != nil {
		return
	}
	p.counted[o.result].Add(1)
	if o.err != nil {
		p.log.Debug("push", "account", s.account.String(), "result", o.result, "err", o.err)
	}
	s.mu.Lock()
	s.note(g, m, o, began)
	remove := s.doomed(g, m, o)
	s.mu.Unlock()
	if len(remove) > 0 {
		if _, err := p.remove(p.ctx, remove); err != nil && !errors.Is(err, holdfast.ErrFenced) {
			p.log.Warn("remove a registration whose push service does not know it", "account", s.account.String(), "err", err)
		}
	}
	s.wake()
}

// note keeps what became of a message; the caller holds the lock.
func (s *subject) note(g *enlisted, m message, o outcome, began time.Time) {
	now := s.p.cfg.Now()
	g.sending = false
	switch {
	case o.err == nil:
		if began.Sub(g.sent) > gapMost {
			g.gap, g.burst = gapLeast, 0
		} else if g.burst++; g.burst >= gapBurst {
			g.gap = min(max(2*g.gap, gapLeast), gapMost)
		}
		g.sent, g.next, g.tries, g.failed = began, began.Add(g.gap), 0, 0
	default:
		g.tries++
		g.failed++
		wait := min(retryLeast<<min(g.failed-1, 10), retryMost)
		g.next = now.Add(max(o.wait, wait/2+rand.N(wait))) // jitter: many are told again at the same moment
	}
	if o.err == nil || !o.again || g.tries >= maxTries {
		g.tell(m.upTo)
		g.tries = 0
	}
}

// doomed returns the records that an outcome ends: all of that push resource if it is gone, that of a
// collection that is not there any more once it was told, and one that was refused again and again.
func (s *subject) doomed(g *enlisted, m message, o outcome) (names []string) {
	for id, h := range s.regs {
		switch {
		case o.gone && h.Endpoint == g.Endpoint,
			h == g && m.last && o.err == nil,
			h == g && o.err != nil && !o.again && g.failed >= maxFailed:
			h.denied = true
			names = append(names, recordName(s.account, id))
		}
	}
	return names
}
