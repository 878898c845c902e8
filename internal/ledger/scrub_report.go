package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// ScrubDamage is damage that no copy could heal yet. It names by numbers; names are the owner's.
type ScrubDamage struct {
	At      time.Time          `json:"at"`
	Copy    string             `json:"copy"` // "store", or the name of a mirror
	Part    string             `json:"part"` // "rows", "log", "blobs"
	Account holdfast.AccountID `json:"account"`
	Seq     holdfast.Seq       `json:"seq,omitempty"`    // first change that is affected; 0: a body
	Object  string             `json:"object,omitempty"` // of a body: its name in the copy
	Text    string             `json:"text"`             // for a person
}

// ScrubStatus is how far the scrub is and what it found.
type ScrubStatus struct {
	Rate     int64         `json:"rate_bytes"` // a second, at least; 0: as fast as it can
	Always   bool          `json:"always"`     // all the time, not only when somebody asks
	Running  bool          `json:"running"`    // a part is being read now
	Asked    bool          `json:"asked"`      // somebody asked for a scrub, which is not done
	Found    int           `json:"found"`      // damages, since the scrub's state was made
	Healed   int           `json:"healed"`
	Unhealed int           `json:"unhealed"`
	Laps     []ScrubLap    `json:"laps"`
	Damage   []ScrubDamage `json:"damage,omitempty"` // unhealed
	Fault    string        `json:"fault,omitempty"`  // why the last lap ended early
}

// ScrubLap is one part of one copy.
type ScrubLap struct {
	Copy     string     `json:"copy"`           // "store", or the name of a mirror
	Part     string     `json:"part"`           // "rows", "log", "blobs"
	Last     *time.Time `json:"last,omitempty"` // when all of it had been read last; nil: never yet
	Oldest   float64    `json:"oldest_seconds"` // what was read longest ago was read so long ago, at most
	Running  bool       `json:"running"`
	Ratio    float64    `json:"ratio"` // of the lap under way that is done, 0 to 1
	Bytes    int64      `json:"bytes"` // read in it, or in the last one if none is under way
	Total    int64      `json:"total"`
	Speed    float64    `json:"bytes_per_second"` // now
	Left     float64    `json:"left_seconds"`     // at that speed
	Unhealed int        `json:"unhealed"`
}

// status tells of the scrub.
func (s *scrubber) status() *ScrubStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &ScrubStatus{
		Rate: max(0, s.l.cfg.ScrubRate), Always: s.always, Running: len(s.doing) > 0, Asked: len(s.asked) > 0, Found: s.state.Found,
		Healed: s.state.Healed, Unhealed: len(s.state.Damage), Damage: slices.Clone(s.state.Damage), Laps: []ScrubLap{},
	}
	for _, name := range slices.Sorted(maps.Keys(s.faults)) {
		st.Fault = s.faults[name].Error()
	}
	now := s.l.now()
	for _, p := range s.state.Laps {
		l := ScrubLap{Copy: p.Copy, Part: p.Part, Running: s.doing[p.name()], Bytes: p.Bytes, Total: max(p.Total, p.Bytes)}
		l.Oldest = now.Sub(s.state.Made).Seconds()
		if !p.Last.IsZero() {
			last := p.Last
			l.Last, l.Oldest = &last, now.Sub(p.From).Seconds()
		}
		if l.Total > 0 {
			l.Ratio = float64(l.Bytes) / float64(l.Total)
		} else if !p.Last.IsZero() {
			l.Ratio = 1
		}
		if took := now.Sub(p.since).Seconds(); l.Running && took > 0 {
			if l.Speed = float64(p.Bytes-p.at) / took; l.Speed > 0 {
				l.Left = float64(l.Total-l.Bytes) / l.Speed
			}
		}
		for _, d := range s.state.Damage {
			if d.Copy == p.Copy && d.Part == p.Part {
				l.Unhealed++
			}
		}
		st.Laps = append(st.Laps, l)
	}
	return st
}

// notice collects what one lap found and did, for the incident report.
type notice struct {
	copyName, part string
	damage         []string // what is not as it should be
	did            []string
	refilled       int // changes put into a log again
	rows           int // changes and accounts put right in the store
	blobs          int // bodies written again
	bad            []ScrubDamage
}

// found notes damage that cannot be healed.
func (n *notice) found(d ScrubDamage) {
	d.Copy, d.Part = n.copyName, n.part
	n.bad = append(n.bad, d)
}

func (n *notice) healed() int { return n.refilled + n.rows + n.blobs }

// conclude keeps what was found, and tells people once: damage that is known and of which nothing is
// lacking is not news.
func (s *scrubber) conclude(n *notice) error {
	now := s.l.now().UTC()
	s.mu.Lock()
	news := n.healed() > 0
	for _, d := range n.damage {
		key := n.copyName + ": " + d
		if slices.Contains(s.state.Known, key) {
			continue
		}
		news = true
		s.state.Found++
		if len(n.bad) == 0 {
			s.state.Healed++
		}
		if len(s.state.Known) < maxFindings {
			s.state.Known = append(s.state.Known, key)
		}
	}
	for i := range n.bad {
		d := &n.bad[i]
		d.At = now
		at := slices.IndexFunc(s.state.Damage, func(o ScrubDamage) bool {
			return o.Copy == d.Copy && o.Part == d.Part && o.Account == d.Account && o.Seq == d.Seq && o.Object == d.Object
		})
		switch {
		case at >= 0:
			s.state.Damage[at] = *d
		case len(s.state.Damage) < maxFindings:
			s.state.Damage = append(s.state.Damage, *d)
			news = true
		default:
			news = true
		}
	}
	err := s.save()
	s.mu.Unlock()
	if !news {
		return err
	}
	return errors.Join(err, s.l.tellScrub(n, now))
}

// tellScrub writes the incident report and emits the event.
func (l *Ledger) tellScrub(n *notice, now time.Time) error {
	what := "scrub-healed"
	if len(n.bad) > 0 {
		what = "scrub-damage"
	}
	base := now.Format("20060102T150405.000Z") + "-" + what + "-" + n.copyName + "-" + n.part
	name := base + ".md"
	err := l.putReport(name, n.text(l, now))
	for i := 2; errors.Is(err, holdfast.ErrExists) && i < 1000; i++ { // two in one millisecond
		name = fmt.Sprintf("%s-%d.md", base, i)
		err = l.putReport(name, n.text(l, now))
	}
	if err != nil {
		return err
	}
	l.log.Error("incident", "report", name, "changes_refilled", n.refilled, "rows_repaired", n.rows, "blobs_healed", n.blobs, "unhealed", len(n.bad))
	e := Event{Kind: EventHealed, Text: fmt.Sprintf("The scrub found damage in copy %s (%s) and made it whole again; see incidents/%s.", n.copyName, n.part, name), Todo: "Look at that disk."}
	if len(n.bad) > 0 {
		e = Event{Kind: EventDamage, Bad: true, Text: fmt.Sprintf("The scrub found damage in copy %s (%s) that no copy can heal; see incidents/%s.", n.copyName, n.part, name), Todo: "See docs/runbooks/scrub.md before you do anything."}
	}
	l.emit(e)
	return nil
}

// maxLines bounds each list of a report.
const maxLines = 200

func (n *notice) text(l *Ledger, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Damage found by the scrub, %s\n\n", now.Format("2 January 2006, 15:04:05 UTC"))
	fmt.Fprintf(&b, "Server %s, copy %s, %s.\n\n## What was found\n\n", l.cfg.Server, n.copyName, n.part)
	lines(&b, n.damage)
	for i, d := range n.bad {
		if i == maxLines {
			break
		}
		fmt.Fprintf(&b, "- NOT HEALED: %s.\n", d.Text)
	}
	if len(n.damage)+len(n.bad) == 0 {
		b.WriteString("- Something was lacking that no damage explains; what was done says what.\n")
	}
	b.WriteString("\n## What was done\n\n")
	lines(&b, n.did)
	if len(n.did) == 0 {
		b.WriteString("- Nothing had to be copied.\n")
	}
	b.WriteString("- Everything that was copied was verified first. A damaged segment of a log stays as it is; what it had is in a newer one too.\n")
	b.WriteString("\n## What is left to do\n\n")
	if len(n.bad) == 0 {
		b.WriteString("- Nothing is missing. Look at the disk of that copy (system log, SMART): one that has begun to lose bits seldom stops. See docs/runbooks/scrub.md.\n")
	} else {
		b.WriteString("- What is not healed answers with an error, never with wrong bytes. Keep every copy as it is, and see docs/runbooks/scrub.md before you do anything.\n")
	}
	return b.String()
}

func lines(b *strings.Builder, list []string) {
	for i, d := range list {
		if i == maxLines {
			fmt.Fprintf(b, "- and %d more.\n", len(list)-i)
			return
		}
		fmt.Fprintf(b, "- %s.\n", strings.TrimSuffix(d, "."))
	}
}
