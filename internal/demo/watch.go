package demo

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"sync"
	"time"

	"holdfast"
)

// watch reads one acknowledged thing over and over from the disaster on, as a person who keeps
// pressing "refresh" would, and measures when the answers became true again.
type watch struct {
	show  *show
	path  string
	began time.Time

	mu      sync.Mutex // guards what follows
	true    int        // answers that were the thing itself
	waits   int        // answers 503, and connections cut: nothing is said about the thing
	false   int        // all others: 404, other bytes
	lastBad time.Time  // of the last answer that was not the thing itself
	good    time.Time  // of the first true answer after it
	status  int        // of the last bad answer; -1: of none yet
}

// newWatch is for the first contact, which nobody edits.
func (s *show) newWatch() (*watch, error) {
	c := s.devices[s.owner(contacts, 0)].shelf(contacts)
	if c == nil {
		return nil, fmt.Errorf("find contacts: %w", holdfast.ErrNotFound)
	}
	return &watch{show: s, path: c.path(s.maker.name(contacts, 0)), began: time.Now(), status: -1}, nil
}

func (w *watch) run(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (w *watch) look(ctx context.Context) {
	a, err := w.show.reader.do(ctx, http.MethodGet, w.path, nil, nil)
	if ctx.Err() != nil {
		return
	}
	want := w.show.journal.snapshotOne(w.path)
	good, n := false, status(err)
	if err == nil {
		good, n = want.fine(sha256.Sum256(a.body)), http.StatusOK
	}
	if text := w.judge(good, n); text != "" {
		w.show.say("server", "%s", text)
	}
}

// judge counts an answer and returns what is new about it.
func (w *watch) judge(good bool, status int) (text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if good {
		w.true++
		if !w.good.IsZero() {
			return ""
		}
		w.good = now
		if w.lastBad.IsZero() {
			return ""
		}
		w.status = -1
		return "answers again, and truly"
	}
	switch status {
	case http.StatusServiceUnavailable, noAnswer:
		w.waits++
	default:
		w.false++
	}
	w.lastBad, w.good = now, time.Time{}
	if status == w.status {
		return ""
	}
	w.status = status
	return fmt.Sprintf("answers %s to a contact that it has acknowledged", answerWords(status))
}

// noAnswer is the status of a connection that was cut.
const noAnswer = 0

func answerWords(n int) string {
	switch n {
	case http.StatusServiceUnavailable:
		return `503, "wait",`
	case http.StatusNotFound:
		return `404, "there is no such thing",`
	case noAnswer:
		return "nothing"
	case http.StatusOK:
		return "something else"
	}
	return fmt.Sprintf("%d, %q,", n, http.StatusText(n))
}

// answersTruly reports that the newest answer was the thing itself.
func (w *watch) answersTruly() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.good.IsZero()
}

// counts returns how many answers were true, were no answer about the thing, were false.
func (w *watch) counts() (truly, waits, falsely int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.true, w.waits, w.false
}

// returned is how long it took from the disaster to the first true answer after the last other one.
func (w *watch) returned() (took time.Duration, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(0, w.good.Sub(w.began)), !w.good.IsZero()
}
