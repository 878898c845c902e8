package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"holdfast"
)

// retryFenced is what a client is told to wait when nothing can be said about its password.
const retryFenced = 30 * time.Second

// Require lets next see only requests with right credentials (RFC 7617), and tells it whose they are.
// client returns the address of the one who asks, behind a trusted proxy too.
//
// Wrong and missing credentials get 401 with a challenge, too many wrong ones 429, and while accounts
// cannot be read everybody gets 503: a device takes 401 as a reason to ask its owner for a password
// (DAVx5 SyncExceptionHandler.kt), 503 as a reason to wait.
func (a *Auth) Require(client func(*http.Request) netip.Addr, next func(w http.ResponseWriter, r *http.Request, id Identity)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, ok := r.BasicAuth()
		var id Identity
		var err error
		if ok {
			id, err = a.Check(r.Context(), name, password, client(r))
		} else if err = a.Ready(r.Context()); err == nil {
			err = holdfast.ErrDenied
		}
		if err != nil {
			a.answer(w, r, err)
			return
		}
		if r.Body != nil && r.Body != http.NoBody {
			held := *r // net/http wants to find the body it made in the original
			held.Body = &heldBody{ReadCloser: r.Body, still: func() error {
				_, err := a.Check(r.Context(), name, password, client(r))
				return err
			}}
			r = &held
		}
		next(w, r, id)
	})
}

// heldBody ends in an error if the credentials it came with were taken back while it was on its way:
// a revoked device cannot finish an upload.
type heldBody struct {
	io.ReadCloser
	still func() error
	ended bool
}

// Read checks once, at the end. Only a clear refusal counts; what cannot be judged now was judged before.
func (b *heldBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) && !b.ended {
		b.ended = true
		if denied := b.still(); errors.Is(denied, holdfast.ErrDenied) {
			return 0, fmt.Errorf("credentials taken back: %w", denied)
		}
	}
	return n, err
}

// answer maps an error of Check to a status; its text never reaches the client.
func (a *Auth) answer(w http.ResponseWriter, r *http.Request, err error) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	var limit *LimitError
	switch {
	case errors.As(err, &limit):
		h.Set("Retry-After", seconds(limit.Wait))
		http.Error(w, "Too many wrong passwords. Wait, then try again.", http.StatusTooManyRequests)
	case errors.Is(err, holdfast.ErrDenied):
		h.Set("WWW-Authenticate", `Basic realm="Holdfast", charset="UTF-8"`)
		http.Error(w, "Name and app password, please.", http.StatusUnauthorized)
	default:
		if !errors.Is(err, context.Canceled) {
			level := a.log.Warn
			if errors.Is(err, holdfast.ErrFenced) {
				level = a.log.Debug // the fence has said so once already
			}
			level("credentials cannot be checked", "err", err)
		}
		h.Set("Retry-After", seconds(retryFenced))
		http.Error(w, "Not at the moment. Nothing is lost; try again in a while.", http.StatusServiceUnavailable)
	}
}

func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
