package server

import (
	"bytes"
	"encoding/json"
	"html/template"
	"net/http"
	"strconv"
	"time"

	"holdfast/internal/fence"
	"holdfast/internal/ledger"
)

// PublicStatus is what everybody may know: no names of people, no paths, no numbers of accounts.
type PublicStatus struct {
	State   string         `json:"state"` // open, held, closed
	Means   string         `json:"means"` // in words
	Since   time.Time      `json:"since"`
	Changes uint64         `json:"changes"` // durable ones
	Mirrors []PublicMirror `json:"mirrors"`
}

// PublicMirror is one copy.
type PublicMirror struct {
	Name  string `json:"name"`
	State string `json:"state"` // complete, or not complete
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

func publicStatus(s ledger.Status) PublicStatus {
	p := PublicStatus{State: s.State, Means: Words(s.State), Since: s.Since.UTC().Truncate(time.Second), Changes: s.Changes, Mirrors: []PublicMirror{}}
	for _, m := range s.Mirrors {
		state := "complete"
		if m.State != state {
			state = "not complete" // why may hold paths
		}
		p.Mirrors = append(p.Mirrors, PublicMirror{m.Name, state})
	}
	return p
}

// public answers what needs no password: / for people, /status.json and /readyz for programs, /healthz
// for supervisors: the process lives, whatever it has to say about the data.
func (s *server) public(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "GET or HEAD only; DAV is at /dav/", http.StatusMethodNotAllowed)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	status, body, ctype := http.StatusOK, []byte("alive\n"), "text/plain; charset=utf-8"
	p := publicStatus(s.dir.Ledger.Status())
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

var front = template.Must(template.New("front").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Holdfast: {{.State}}</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}b.open{color:#176}b.held{color:#950}b.closed{color:#a11}</style></head><body>
<h1>Holdfast</h1>
<p>A personal data cloud for contacts, calendars, to-dos, photos and files, which does not lose what it has acknowledged.</p>
<p>State: <b class="{{.State}}">{{.State}}</b> since {{.Since.Format "2006-01-02 15:04:05 UTC"}}.<br>{{.Means}}</p>
<p>{{.Changes}} changes are kept in the store and in {{len .Mirrors}} other {{if eq (len .Mirrors) 1}}copy{{else}}copies{{end}}:</p>
<ul>{{range .Mirrors}}<li>{{.Name}}: {{.State}}</li>{{end}}</ul>
<p>To connect a device, give its contacts, calendar or files app the address of this page with the account's name and an app password. The operator makes one with <code>holdfast device add</code>.</p>
</body></html>
`))

func page(p PublicStatus) []byte {
	var b bytes.Buffer
	if err := front.Execute(&b, p); err != nil {
		return []byte("Holdfast: " + p.State + "\n")
	}
	return b.Bytes()
}
