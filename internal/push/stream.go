package push

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
)

// pace is the least time between two events of one stream: many changes become few events.
const pace = 200 * time.Millisecond

// ending is why a stream ends.
type ending uint8

const (
	endDenied   ending = iota + 1 // credentials were replaced or taken back
	endCrowded                    // the account opened more than it may have
	endStopping                   // this process ends
)

// stream is one client that listens. It holds what it knows, not what it missed.
type stream struct {
	p        *Push
	who      Who
	standing holdfast.Hash
	feed     *feed
	watch    *ledger.Watcher
	since    holdfast.AccountHead // what the client was told up to; the stream's own goroutine alone uses it
	ended    chan ending          // has one item once it is to end
}

func (s *stream) end(why ending) {
	select {
	case s.ended <- why:
	default: // it is ending
	}
}

// sink is where a stream's bytes go.
type sink struct {
	conn     net.Conn // HTTP/1: taken from net/http, whose buffers and goroutines would cost five times the stream
	w        http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
}

func (k *sink) write(b []byte) error {
	if k.conn != nil {
		if err := k.conn.SetWriteDeadline(time.Now().Add(k.patience)); err != nil {
			return err
		}
		_, err := k.conn.Write(b)
		return err
	}
	_, err := k.w.Write(b)
	if err == nil {
		// HTTP/2 ends a stream whose deadline passes even while nothing is being written.
		_ = k.control.SetWriteDeadline(time.Now().Add(k.patience))
		err = k.control.Flush()
		_ = k.control.SetWriteDeadline(time.Time{})
	}
	return err
}

// serve begins the answer. Over HTTP/1 the stream gets a goroutine of its own and the request ends here, so
// that its memory is free again; over HTTP/2 it lasts as long as the request.
func (s *stream) serve(w http.ResponseWriter, r *http.Request, first []byte) {
	k := &sink{w: w, control: http.NewResponseController(w), patience: s.p.cfg.Patience}
	if r.ProtoMajor == 1 {
		conn, buf, err := k.control.Hijack()
		if err == nil {
			head := responseHead(w.Header())
			_ = buf.Writer.Flush() // empty
			k = &sink{conn: conn, patience: s.p.cfg.Patience}
			go func() {
				defer s.p.leave(s)
				defer conn.Close()
				s.run(k, append(head, first...), nil)
			}()
			return
		}
		if !errors.Is(err, http.ErrNotSupported) {
			s.p.leave(s)
			panic(http.ErrAbortHandler) // the connection is in a state that nobody knows
		}
	}
	defer s.p.leave(s)
	for name, value := range streamHeader {
		w.Header().Set(name, value)
	}
	w.WriteHeader(http.StatusOK)
	s.run(k, first, r.Context().Done())
}

// streamHeader is of every stream: neither a cache nor a proxy may hold back what it has read of it.
var streamHeader = map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}

// responseHead writes the head of an answer that ends with its connection (RFC 9112, 6.3).
func responseHead(h http.Header) []byte {
	for name, value := range streamHeader {
		h.Set(name, value)
	}
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	h.Set("Connection", "close")
	b := []byte("HTTP/1.1 200 OK\r\n")
	for name, values := range h {
		for _, v := range values {
			b = append(append(append(append(b, name...), ": "...), v...), "\r\n"...)
		}
	}
	return append(b, "\r\n"...)
}

// run writes events until the client is gone or the stream is to end. gone may be nil: then the client is
// found gone when a sign of life cannot be written.
func (s *stream) run(k *sink, first []byte, gone <-chan struct{}) {
	if k.write(first) != nil {
		return
	}
	first = nil
	beat := time.NewTimer(time.Duration(rand.Int64N(int64(s.p.cfg.Heartbeat)))) // not all at once after a restart
	defer beat.Stop()
	var news <-chan struct{} = s.watch.C
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		var err error
		select {
		case <-gone:
			return
		case why := <-s.ended:
			_ = k.write(why.text()) // it may be gone
			return
		case <-beat.C:
			err = k.write([]byte(":\n\n"))
			beat.Reset(s.p.cfg.Heartbeat)
		case <-rest.C:
			news = s.watch.C
		case <-news:
			err = s.tell(k)
			news = nil
			rest.Reset(pace)
		}
		if err != nil {
			return
		}
	}
}

// tell writes what is new. It is read in a goroutine of its own: a store needs a deep stack, and a stream
// that waits would keep it.
func (s *stream) tell(k *sink) error {
	var e event
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err = s.watch.State(); err == nil {
			e, err = s.p.next(s.feed, s.who, s.since)
		}
	}()
	<-done
	switch {
	case err != nil: // whatever it is: come again, and be answered by a request
		if !errors.Is(err, holdfast.ErrFenced) && s.p.ctx.Err() == nil {
			s.p.log.Warn("read what changed", "account", s.who.Account.String(), "err", err)
		}
		return errors.Join(err, k.write(waitText(retryFenced)))
	case e.text != nil:
		s.p.events.Add(1)
		err = k.write(e.text)
	}
	s.since = e.upTo
	return err
}

// text is the last event of a stream.
func (e ending) text() []byte {
	switch e {
	case endDenied:
		return []byte("event: end\ndata: {\"reason\":\"credentials\"}\n\n")
	case endCrowded:
		return fmt.Appendf(nil, "retry: %d\nevent: end\ndata: {\"reason\":\"too many streams\"}\n\n", retryCrowded.Milliseconds())
	}
	return waitText(retryDropped)
}

// waitText asks a client to come again after a while: it keeps what it has (F3).
func waitText(d time.Duration) []byte {
	return fmt.Appendf(nil, "retry: %d\nevent: wait\ndata: {\"retry_after\":%d}\n\n", d.Milliseconds(), d/time.Second)
}
