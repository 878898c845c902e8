package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"holdfast"
)

// handler returns all that the listeners serve, from the outside in: pace (time limits, status for
// the log), recover, log, route. There is no ServeMux: it would clean and redirect DAV paths.
func (s *server) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		res, r := newResponse(w, r, s.cfg.Settings.ProgressTimeout)
		leave := s.metrics.enter()
		defer func() {
			cut := s.recovered(res, r, recover())
			res.finish()
			leave()
			s.metrics.request(r.Method, res.status, time.Since(start))
			s.logRequest(r, res, time.Since(start))
			if cut {
				panic(http.ErrAbortHandler) // net/http closes the connection, so that half an answer is not taken for a whole one
			}
		}()
		s.route(res, r)
	})
}

// recovered turns a panic into 500, or says that the connection must be cut because an answer has begun.
func (s *server) recovered(res *response, r *http.Request, p any) (cut bool) {
	if p == nil {
		return false
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		return true
	}
	s.log.Error("panic in a request", "method", r.Method, "panic", p, "stack", string(debug.Stack()))
	if res.status != 0 {
		return true
	}
	http.Error(res, "Something went wrong here. Nothing that was acknowledged is lost.", http.StatusInternalServerError)
	return false
}

// logRequest never writes a path: it holds names.
func (s *server) logRequest(r *http.Request, res *response, took time.Duration) {
	if !s.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	s.log.Debug("request", "method", r.Method, "status", res.status, "sent", res.sent, "received", res.received, "account", res.account.String(), "took", took)
}

// harmless is the policy of every answer that has none of its own: nothing in it runs or is fetched.
const harmless = "default-src 'none'; frame-ancestors 'none'"

func (s *server) route(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", harmless)
	h.Set("Referrer-Policy", "no-referrer")
	if s.probed(w, r) {
		return
	}
	for i := range routes {
		if routes[i].matches(s, r) {
			routes[i].serve(s, w, r)
			return
		}
	}
}

// client returns the address of the one who asks: of the connection, or what the nearest trusted
// proxy says. Entries of X-Forwarded-For left of the first untrusted one are the client's own claims.
func (s *server) client(r *http.Request) netip.Addr {
	a := addrOf(r.RemoteAddr)
	trusted := s.cfg.Settings.TrustedProxies
	if !within(trusted, a) {
		return a
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && within(trusted, a); i-- {
		hop := addrOf(strings.TrimSpace(hops[i]))
		if !hop.IsValid() {
			break
		}
		a = hop
	}
	return a
}

const (
	writeChunk = 64 << 10 // bytes that must reach the client within one progress timeout
	leastRate  = 1 << 10  // bytes a second that an upload must bring on average
)

// response passes an answer on with a deadline for each part of it, so that a client that takes or
// sends nothing does not hold a connection for ever, and keeps what the log wants to know.
type response struct {
	http.ResponseWriter
	control  *http.ResponseController
	timeout  time.Duration
	http2    bool
	status   int
	sent     int64
	received int64
	account  holdfast.AccountID
}

// newResponse returns the response and the request that the handlers get. The request is a copy:
// net/http looks at the body it made when it ends the original, for a client that still waits to be
// told to go on (RFC 9110, 10.1.1).
func newResponse(w http.ResponseWriter, r *http.Request, timeout time.Duration) (*response, *http.Request) {
	res := &response{ResponseWriter: w, control: http.NewResponseController(w), timeout: timeout, http2: r.ProtoMajor > 1}
	now := time.Now()
	if !res.http2 {
		_ = res.control.SetWriteDeadline(now.Add(timeout)) // that of the last request on this connection may have passed
	}
	if r.Body == nil || r.Body == http.NoBody {
		return res, r
	}
	if !res.http2 {
		// A body that no handler reads is read by net/http before it answers: it must not wait for ever,
		// nor until the answer's own deadline has passed.
		_ = res.control.SetReadDeadline(now.Add(timeout / 2))
	}
	paced := *r
	paced.Body = &pacedBody{body: r.Body, res: res, start: now}
	return res, &paced
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader notes the status.
func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write passes p on in chunks, each with its own deadline. HTTP/2 ends a stream whose deadline passes
// even while nothing is being written, so there it is taken away again.
func (w *response) Write(p []byte) (n int, err error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	for first := true; first || len(p) > 0; first = false {
		chunk := p[:min(len(p), writeChunk)]
		_ = w.control.SetWriteDeadline(time.Now().Add(w.timeout)) // unsupported in tests only
		m, err := w.ResponseWriter.Write(chunk)
		n, w.sent, p = n+m, w.sent+int64(m), p[m:]
		if err != nil {
			return n, err
		}
		if w.http2 {
			_ = w.control.SetWriteDeadline(time.Time{})
		}
	}
	return n, nil
}

// finish gives net/http time to flush what is left.
func (w *response) finish() {
	_ = w.control.SetWriteDeadline(time.Now().Add(w.timeout))
	if w.status == 0 {
		w.status = http.StatusOK
	}
}

// pacedBody reads a request's body with a deadline for each read, and one for all that the least rate gives.
type pacedBody struct {
	body  io.ReadCloser
	res   *response
	start time.Time
	set   time.Time // when the deadline was set last
}

// Read reads at most len(p) bytes.
func (b *pacedBody) Read(p []byte) (int, error) {
	now := time.Now()
	if b.res.http2 || now.Sub(b.set) > time.Second {
		deadline := now.Add(b.res.timeout)
		if most := b.start.Add(b.res.timeout + time.Duration(b.res.received/leastRate)*time.Second); most.Before(deadline) {
			deadline = most
		}
		_ = b.res.control.SetReadDeadline(deadline)
		b.set = now
	}
	n, err := b.body.Read(p)
	b.res.received += int64(n)
	if errors.Is(err, io.EOF) || err == nil && b.res.http2 {
		// The handler may think for long now; a deadline that passes meanwhile would end the request.
		// After any other error it stays: net/http reads what is left of the body before it answers.
		_ = b.res.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// Close closes the body.
func (b *pacedBody) Close() error { return b.body.Close() }
