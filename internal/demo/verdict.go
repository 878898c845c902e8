package demo

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Verdict is what a show came to.
type Verdict struct {
	Acknowledged int           // things the server said it has, and nobody asked to delete
	Present      int           // of these, how many it has in the end, byte for byte
	Deleted      int           // things that devices deleted because of the server and nobody's wish, over all devices
	Healed       time.Duration // from the disaster to the first true answer after the last untrue or missing one
	HasHealed    bool          // the server came back by itself with what it had acknowledged
	Problems     []string      // anything else that should not be
}

// Good reports that nothing was lost and no device deleted anything it should not have.
func (v *Verdict) Good() bool {
	return v.Acknowledged > 0 && v.Present == v.Acknowledged && v.Deleted == 0 && v.HasHealed && len(v.Problems) == 0
}

// String is the verdict in one line: `acknowledged N, present N, deleted on devices N, healed in S s`.
// A server that did not heal has `not healed` as its last part.
func (v *Verdict) String() string {
	healed := "not healed"
	if v.HasHealed {
		healed = fmt.Sprintf("healed in %.1f s", v.Healed.Seconds())
	}
	return fmt.Sprintf("acknowledged %d, present %d, deleted on devices %d, %s", v.Acknowledged, v.Present, v.Deleted, healed)
}

// tally counts, for each kind, what was acknowledged and how much of it each place has in the end.
type tally struct {
	owed   [kinds]int
	places []place
}

type place struct {
	name    string
	have    [kinds]int
	unequal int // things there with other bytes than the server acknowledged
	back    int // things there that were deleted by a person, with an acknowledgement
	unknown int // things there that nobody ever wrote
}

// judge compares every acknowledged thing with the server, read afresh, and with every device. The
// devices that lived through the disaster are those of the show; more signed in afterwards.
func (s *show) judge(more ...*device) {
	want := s.journal.snapshot()
	t := &tally{}
	for _, r := range want {
		if r.acked {
			t.owed[r.kind]++
		}
	}
	server := s.judgeServer(want)
	t.places = append(t.places, server)
	for _, d := range append(slices.Clone(s.devices), more...) {
		t.places = append(t.places, d.judge(want))
	}
	for _, d := range s.devices {
		for k := range kinds {
			s.verdict.Deleted += d.lost[k]
		}
		if _, dirty := d.total(); dirty > 0 {
			s.problem("%s: %d changes that the server refuses for ever (412: it does not know the version they are based on)", d.name, dirty)
		}
	}
	for k := range kinds {
		s.verdict.Acknowledged += t.owed[k]
		s.verdict.Present += server.have[k]
	}
	for _, p := range t.places {
		s.judgePlace(t, p)
	}
	t.print(s.cfg.Out)
}

func (s *show) judgePlace(t *tally, p place) {
	var gone []string
	missing := -p.unequal
	for k := range kinds {
		if n := t.owed[k] - p.have[k]; n > 0 {
			missing += n
			gone = append(gone, fmt.Sprintf("%d %s", n, k))
		}
	}
	if missing > 0 {
		s.problem("%s: not there any more: %s", p.name, strings.Join(gone, ", "))
	}
	if p.unequal > 0 {
		s.problem("%s: %d things differ from what was acknowledged", p.name, p.unequal)
	}
	if p.back > 0 {
		s.problem("%s: %d deleted things are there again", p.name, p.back)
	}
	if p.unknown > 0 {
		s.problem("%s: %d things that nobody wrote", p.name, p.unknown)
	}
}

// judgeServer fetches everything the journal knows with plain GET requests. What it cannot get is not there.
func (s *show) judgeServer(want map[string]record) place {
	p := place{name: "server"}
	var failed error
	for path, r := range want {
		if !r.acked && !r.removed {
			continue
		}
		a, err := s.reader.do(s.ctx, http.MethodGet, path, nil, nil)
		if status(err) != http.StatusNotFound && err != nil {
			failed = err
		}
		switch {
		case err == nil && r.removed:
			p.back++
		case err != nil:
		case r.fine(sha256.Sum256(a.body)):
			p.have[r.kind]++
		default:
			p.unequal++
		}
	}
	if failed != nil {
		s.problem("server: does not answer as it should: %v", failed)
	}
	return p
}

// judge compares what a device holds.
func (d *device) judge(want map[string]record) place {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := place{name: d.name}
	for _, c := range d.shelves {
		for _, it := range c.items {
			r, known := want[c.path(it.name)]
			switch {
			case !known:
				p.unknown++
			case r.removed:
				p.back++
			case !r.acked:
			case r.fine(sha256.Sum256(it.body)):
				p.have[r.kind]++
			default:
				p.unequal++
			}
		}
	}
	return p
}

func (t *tally) print(w io.Writer) {
	fmt.Fprintf(w, "\n  %-10s %12s", "", "acknowledged")
	for _, p := range t.places {
		fmt.Fprintf(w, " %10s", p.name)
	}
	fmt.Fprintln(w)
	for k := range kinds {
		fmt.Fprintf(w, "  %-10s %12d", k, t.owed[k])
		for _, p := range t.places {
			fmt.Fprintf(w, " %10d", p.have[k])
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
}

// watch reads one acknowledged thing over and over from the disaster on, as a person who keeps
// pressing "refresh" would, and measures when the answers became true again.
type watch struct {
	show  *show
	path  string
	began time.Time

	lastBad time.Time // of the last answer that was not the thing itself
	good    time.Time // of the first true answer after it
	status  int       // of the last bad answer; -1: of none yet
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
	now := time.Now()
	want := w.show.journal.snapshotOne(w.path)
	if err == nil && want.fine(sha256.Sum256(a.body)) {
		if w.good.IsZero() {
			w.good = now
			if !w.lastBad.IsZero() {
				w.show.say("The server answers again, and truly.")
			}
		}
		return
	}
	n := status(err)
	if n != w.status {
		w.show.say("The server answers %s to a contact it has acknowledged.", answerWords(n))
	}
	w.lastBad, w.good, w.status = now, time.Time{}, n
}

func answerWords(n int) string {
	switch n {
	case http.StatusServiceUnavailable:
		return `503, "wait",`
	case http.StatusNotFound:
		return `404, "there is no such thing",`
	case 0:
		return "nothing or something else"
	}
	return fmt.Sprintf("%d, %q,", n, http.StatusText(n))
}
