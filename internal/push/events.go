package push

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
)

// Route is where events are served.
const Route = "/events"

// Times that clients are told.
const (
	retryDropped = 5 * time.Second  // a connection that broke
	retryFenced  = 30 * time.Second // a fence that is closed
	retryCrowded = time.Minute      // a stream that ended for a newer one: both would push each other out
)

// maxNamed bounds the collections that one event names; beyond, it says that all are to be asked for.
const maxNamed = 100

// feed is what the open streams of one account share.
type feed struct {
	streams []*stream // in the order in which they came

	mu    sync.Mutex // of the last event made: streams that know as much are told the same
	since holdfast.Seq
	last  event
}

// event is a piece of a stream, and what one who was told it knows. text is empty if nothing is to be told.
type event struct {
	text []byte
	upTo holdfast.AccountHead
}

// ServeEvents answers with the stream of what changes in an account (WHATWG HTML, 9.2). who has just been let
// in, and standing is what Config.Standing said of them before that.
func (p *Push) ServeEvents(w http.ResponseWriter, r *http.Request, who Who, standing holdfast.Hash) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if r.Method != http.MethodGet {
		h.Set("Allow", "GET")
		http.Error(w, "GET only; see docs/events.md", http.StatusMethodNotAllowed)
		return
	}
	s := &stream{p: p, who: who, standing: standing, ended: make(chan ending, 1), watch: p.cfg.Ledger.Watch(who.Account)}
	select {
	case <-s.watch.C: // what is there already is read below
	default:
	}
	first, err := p.begin(s, r.Header.Get("Last-Event-ID"))
	if err == nil && !p.enter(s) {
		err = fmt.Errorf("stopping: %w", holdfast.ErrFenced)
	}
	if err != nil {
		s.watch.Stop()
		level := p.log.Debug
		if !errors.Is(err, holdfast.ErrFenced) && r.Context().Err() == nil {
			level = p.log.Warn
		}
		level("events refused", "account", who.Account.String(), "err", err)
		h.Set("Retry-After", strconv.Itoa(int(retryFenced/time.Second)))
		http.Error(w, "Not at the moment. Nothing is lost; try again in a while.", http.StatusServiceUnavailable)
		return
	}
	s.serve(w, r, first)
}

// begin makes what a stream begins with: what changed since the event that the client saw last, or where it
// stands now. An id that is not one of ours is one that says nothing; ErrFenced, as of a sync token (F4), ends it.
func (p *Push) begin(s *stream, lastID string) (text []byte, err error) {
	text = append(text, "retry: "...)
	text = strconv.AppendInt(text, retryDropped.Milliseconds(), 10)
	text = append(text, "\n\n"...)
	known := ledger.SyncPoint{}
	if lastID != "" {
		err = p.cfg.Ledger.View(p.ctx, s.who.Account, func(v *ledger.View) (err error) {
			known, err = v.ParseSyncToken(lastID, s.who.Device)
			return err
		})
		if err != nil && !errors.Is(err, holdfast.ErrToken) {
			return nil, fmt.Errorf("event id: %w", err)
		}
	}
	var e event
	err = p.cfg.Ledger.View(p.ctx, s.who.Account, func(v *ledger.View) (err error) {
		if lastID == "" {
			e = event{eventText(v, "ready", news{}), v.Head()}
			return nil
		}
		if e, err = p.changed(v, s.who, known.Since); err == nil && e.text == nil {
			e.text = eventText(v, "ready", news{})
		}
		return err
	})
	s.since = e.upTo
	return append(text, e.text...), err
}

// news is the data of an event.
type news struct {
	All         bool    `json:"all,omitempty"` // anything may have changed: ask every collection
	Collections []named `json:"collections,omitempty"`
}

type named struct {
	Href      string `json:"href"`
	SyncToken string `json:"sync_token"`
}

// next makes the event that tells what changed since; streams that know as much share it.
func (p *Push) next(f *feed, who Who, since holdfast.AccountHead) (e event, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	err = p.cfg.Ledger.View(p.ctx, who.Account, func(v *ledger.View) (err error) {
		if f.since == since.Head.Seq && f.last.upTo == v.Head() {
			e = f.last
			return nil
		}
		e, err = p.changed(v, who, since.Head.Seq)
		if err == nil && e.text == nil && e.upTo.Epoch != since.Epoch { // an accepted loss: from here on the ids are others
			e.text = eventText(v, "ready", news{})
		}
		return err
	})
	if err == nil {
		f.since, f.last = since.Head.Seq, e
	}
	return e, err
}

func (p *Push) changed(v *ledger.View, who Who, since holdfast.Seq) (event, error) {
	e := event{upTo: v.Head()}
	list, err := v.ChangedSince(since)
	if err != nil || len(list) == 0 {
		return e, err
	}
	if len(list) > maxNamed {
		e.text = eventText(v, "change", news{All: true})
		return e, nil
	}
	var n news
	for i := range list {
		href, err := p.href(v, who.Name, &list[i].Collection)
		if err != nil {
			return e, err
		}
		n.Collections = append(n.Collections, named{href, p.cfg.Token(v, &list[i].Collection, list[i].Last)})
	}
	slices.SortFunc(n.Collections, func(a, b named) int { return strings.Compare(a.Href, b.Href) })
	e.text = eventText(v, "change", n)
	return e, nil
}

// href returns the path of a collection.
func (p *Push) href(v *ledger.View, account string, c *ledger.Collection) (string, error) {
	segs := []string{}
	for c.ID != holdfast.Root {
		segs = append(segs, c.Name)
		var err error
		if c, err = v.Collection(c.Parent); err != nil {
			return "", fmt.Errorf("path of a collection: %w", err)
		}
	}
	segs = append(segs, account)
	slices.Reverse(segs)
	return p.cfg.Href(segs), nil
}

// eventText writes one event. Its id is the account's sync token at the head of the view: what a client that
// shows it as Last-Event-ID knows.
func eventText(v *ledger.View, name string, n news) []byte {
	data, _ := json.Marshal(n) // strings only: cannot fail; it has no line break
	b := append([]byte("id: "), v.SyncToken(v.Head().Head)...)
	b = append(append(b, "\nevent: "...), name...)
	b = append(append(b, "\ndata: "...), data...)
	return append(b, "\n\n"...)
}

// enter counts a stream in; false: this Push has been stopped. If the account has too many the oldest ends.
func (p *Push) enter(s *stream) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return false
	}
	f := p.feeds[s.who.Account]
	if f == nil {
		f = &feed{}
		p.feeds[s.who.Account] = f
	}
	if len(f.streams) >= p.cfg.Streams {
		f.streams[0].end(endCrowded)
		f.streams = slices.Delete(f.streams, 0, 1)
	}
	s.feed = f
	f.streams = append(f.streams, s)
	p.streams.Add(1)
	p.work.Add(1)
	return true
}

// leave ends what enter began.
func (p *Push) leave(s *stream) {
	s.watch.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(s.feed.streams, s); i >= 0 {
		s.feed.streams = slices.Delete(s.feed.streams, i, i+1)
	}
	if len(s.feed.streams) == 0 && p.feeds[s.who.Account] == s.feed {
		delete(p.feeds, s.who.Account)
	}
	p.streams.Add(-1)
	p.work.Done()
}
