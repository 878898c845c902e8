package demo

import (
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
	OnDevices    int           // of these, how many are only on devices: an operator accepted that the server lost them
	Altered      int           // of these, how many it has with other bytes than it acknowledged
	Deleted      int           // things that devices deleted because of the server and nobody's wish, over all devices
	Refused      int           // answers 503 to devices: "wait"
	How          string        // how the server comes back: healed, writes again
	Back         time.Duration // from the disaster to the first true answer after the last other one
	IsBack       bool          // it came back with all it had acknowledged
	Problems     []string      // anything else that should not be
}

// Good reports that nothing was lost and no device deleted anything it should not have.
func (v *Verdict) Good() bool {
	return v.Acknowledged > 0 && v.Present+v.OnDevices == v.Acknowledged && v.Altered == 0 && v.Deleted == 0 && v.IsBack && len(v.Problems) == 0
}

// String is the verdict in one line: `acknowledged N, present N, altered 0, deleted on devices 0, refused
// while closed N, healed in S s`. A server that did not come back has `not healed` as its last part.
func (v *Verdict) String() string {
	return fmt.Sprintf("acknowledged %d, present %s, altered %d, deleted on devices %d, refused while closed %d, %s",
		v.Acknowledged, v.present(), v.Altered, v.Deleted, v.Refused, v.back())
}

func (v *Verdict) present() string {
	if v.OnDevices > 0 {
		return fmt.Sprintf("%d+%d on devices", v.Present, v.OnDevices)
	}
	return fmt.Sprint(v.Present)
}

func (v *Verdict) back() string {
	if !v.IsBack {
		return "not " + v.How
	}
	return fmt.Sprintf("%s in %.1f s", v.How, v.Back.Seconds())
}

// tally counts, for each kind, what was acknowledged and how much of it each place has in the end.
type tally struct {
	owed   [kinds]int
	places []place
}

type place struct {
	name    string
	have    [kinds]int
	unequal [kinds]int // things there with other bytes than the server acknowledged
	back    int        // things there that were deleted by a person, with an acknowledgement
	unknown int        // things there that nobody ever wrote
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
		s.verdict.Deleted += sum(d.lost)
		if _, dirty := d.total(); dirty > 0 {
			s.problem("%s: %s still waiting for the server", d.name, things(dirty))
		}
	}
	for k := range kinds {
		s.verdict.Acknowledged += t.owed[k]
		s.verdict.Present += server.have[k]
	}
	s.verdict.Altered = sum(server.unequal)
	if s.accepted() {
		s.verdict.Present, s.verdict.Altered = 0, 0
		s.judgeAccepted(want)
	}
	if took, ok := s.returned(); ok && s.verdict.Present+s.verdict.OnDevices == s.verdict.Acknowledged {
		s.verdict.Back, s.verdict.IsBack = took, true
	}
	for _, p := range t.places {
		s.judgePlace(t, p)
	}
	t.print(s.cfg.Out)
}

// returned is when the server answered truly again; where its reads went on, when it took writes again.
func (s *show) returned() (took time.Duration, ok bool) {
	if s.away.to.IsZero() {
		return s.watch.returned()
	}
	first := s.journal.first(func(a ack) bool { return a.came.After(s.away.to) })
	return first.came.Sub(s.away.to), first.host != ""
}

func (s *show) judgePlace(t *tally, p place) {
	if s.accepted() {
		return // its places differ by what was accepted as lost; judgeAccepted looked at them together
	}
	var gone []string
	for k := range kinds {
		if n := t.owed[k] - p.have[k] - p.unequal[k]; n > 0 {
			gone = append(gone, fmt.Sprintf("%d %s", n, k))
		}
	}
	if len(gone) > 0 {
		s.problem("%s: not there any more: %s", p.name, strings.Join(gone, ", "))
	}
	if n := sum(p.unequal); n > 0 {
		s.problem("%s: %s other than it was acknowledged", p.name, things(n))
	}
	if p.back > 0 {
		s.problem("%s: %s there again after a deletion that was acknowledged", p.name, things(p.back))
	}
	if p.unknown > 0 {
		s.problem("%s: %s there that nobody wrote", p.name, things(p.unknown))
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
			p.unequal[r.kind]++
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
				p.unequal[r.kind]++
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

func sum(n [kinds]int) (all int) {
	for k := range kinds {
		all += n[k]
	}
	return all
}

// things says how many, with the verb: `1 thing is`.
func things(n int) string {
	if n == 1 {
		return "1 thing is"
	}
	return fmt.Sprintf("%d things are", n)
}
