package server

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"holdfast/internal/fence"
	"holdfast/internal/ledger"
)

// PublicStatus is what everybody may know: no names of people, no paths, no numbers of accounts.
type PublicStatus struct {
	State    string         `json:"state"` // open, held, closed
	Well     bool           `json:"well"`  // open, no account closed, every copy complete
	Means    string         `json:"means"` // in words
	Since    time.Time      `json:"since"`
	Changes  uint64         `json:"changes"` // durable ones
	Copies   int            `json:"copies"`  // that have all of them now
	Required int            `json:"copies_required"`
	Mirrors  []PublicMirror `json:"mirrors"`
	Fewer    bool           `json:"fewer_copies"`       // writes are acknowledged with fewer copies than configured
	Waiting  bool           `json:"some_accounts_wait"` // an account's own fence is closed, while others are served
	Events   []PublicEvent  `json:"events"`             // newest first

	damaged bool // something is damaged in every copy
}

// PublicMirror is one copy.
type PublicMirror struct {
	Name  string `json:"name"`
	State string `json:"state"` // complete, not complete, does not answer
}

const retryNotReady = 30 * time.Second

// Words says what a state of the fence means for people.
func Words(state string) string {
	switch state {
	case fence.Open.String():
		return "Everything is in order: what devices send is kept, with all its copies, before they are told so."
	case fence.Held.String():
		return "Reading works. Devices keep what they want to send and are asked to wait, because a copy is missing or a disk is full."
	}
	return "Wait: the store and its copies are being compared or repaired. Devices keep everything they have; nothing is served until it is known to be true."
}

// fewer says aloud what policy degraded does.
const fewer = "A COPY IS MISSING: new data is kept in fewer places than this server was set up for. Who runs it has to bring the missing mirror back, or replace it."

// Means says what a status means for people, in words that everybody may read.
func Means(s *ledger.Status) string {
	text := Words(s.State)
	lame := s.Hangs() || s.Witness != nil && s.Witness.State != "complete" ||
		slices.ContainsFunc(s.Mirrors, func(m ledger.MirrorStatus) bool { return m.State != "complete" || m.Silent > 0 })
	switch open := s.State == fence.Open.String(); {
	case s.Degraded:
		text = fewer
	case open && lame:
		text = "Reading works. A copy is not complete or its disk does not answer; what devices send may have to wait."
	case open && s.Damaged():
		text = "Something is damaged in every copy of it; who asks for it is told to wait. All else is served, and what devices send is kept."
	}
	if len(s.Closed) > 0 && s.State != fence.Closed.String() {
		text = "Not every account is served: who runs this server has to look at the newest report. Devices of an account that is not served keep everything they have. For the others: " + text
	}
	return text
}

func publicStatus(s ledger.Status, events []PublicEvent) PublicStatus {
	p := PublicStatus{
		State: s.State, Well: len(s.Troubles()) == 0, Means: Means(&s), Since: s.Since.UTC().Truncate(time.Second), Changes: s.Changes,
		Copies: int(copies(&s)), Required: int(required(&s)), Mirrors: []PublicMirror{}, Events: events,
	}
	p.Waiting, p.Fewer, p.damaged = len(s.Closed) > 0 && s.State != fence.Closed.String(), s.Degraded, s.Damaged()
	for _, m := range s.Mirrors {
		state := "complete"
		switch {
		case m.State != state:
			state = "not complete" // why may hold paths
		case m.Silent > 0:
			state = "does not answer"
		}
		p.Mirrors = append(p.Mirrors, PublicMirror{m.Name, state})
	}
	return p
}

// public answers GET and HEAD of what needs no password: / for people, /status.json and /readyz for programs, /healthz
// for supervisors: the process lives, whatever it has to say about the data.
func (s *server) public(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/metrics" {
		s.serveMetrics(w, r)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	status, body, ctype := http.StatusOK, []byte("alive\n"), "text/plain; charset=utf-8"
	p := publicStatus(s.dir.Ledger.Status(), s.history.list())
	switch r.URL.Path {
	case "/readyz":
		body = []byte(p.State + "\n")
		if p.State != fence.Open.String() {
			status = http.StatusServiceUnavailable
			h.Set("Retry-After", strconv.Itoa(int(retryNotReady/time.Second)))
		}
	case "/status.json":
		ctype = "application/json"
		body, _ = json.MarshalIndent(p, "", "  ") // strings and numbers only: cannot fail
		body = append(body, '\n')
	case "/":
		ctype = "text/html; charset=utf-8"
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		body = page(p)
	}
	h.Set("Content-Type", ctype)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // a reader that has gone away
	}
}
