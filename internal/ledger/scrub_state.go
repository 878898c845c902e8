package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/durable"
)

// The parts that a copy has for a scrub.
const (
	partRows  = "rows"  // of the store
	partLog   = "log"   // of a mirror
	partBlobs = "blobs" // of either
)

const storeCopy = "store" // the name of the store among the copies

const (
	scrubFormat  = "holdfast scrub 1"
	maxScrubFile = 1 << 28 // bytes
	maxFindings  = 1000    // that are kept by name; more are counted
)

// scrubState is DIR/scrub (docs/formats/scrub.md): how far the scrub is, and what it found that is not
// healed. It is passing state: without it the scrub begins anew and finds again what is damaged.
type scrubState struct {
	Format string        `json:"format"`
	Made   time.Time     `json:"made"`
	Laps   []*lap        `json:"laps"`
	Damage []ScrubDamage `json:"damage,omitempty"` // unhealed
	Known  []string      `json:"known,omitempty"`  // damage of which nothing is lacking any more
	Found  int           `json:"found"`            // damages since Made
	Healed int           `json:"healed"`
}

// lap is one reading of one part of one copy, from its beginning to its end.
type lap struct {
	Copy   string    `json:"copy"`
	Part   string    `json:"part"`
	Began  time.Time `json:"began"`            // of the lap under way; zero: none is
	Cursor string    `json:"cursor,omitempty"` // what was read last
	Bytes  int64     `json:"bytes"`            // read in this lap
	Total  int64     `json:"total"`            // that it will have read, as far as known
	Last   time.Time `json:"last"`             // when the last complete lap ended; zero: none did
	From   time.Time `json:"from"`             // when that one began: everything was read since then

	Cover map[holdfast.AccountID]*cover `json:"cover,omitempty"` // of a log: what was found whole

	since time.Time // of the bytes that Rate counts
	at    int64
}

func (p *lap) name() string { return p.Copy + " " + p.Part }

func scrubPath(cfg Config) string { return filepath.Join(cfg.Dir, "scrub") }

// readScrub returns the state that was kept, or a new one; why says what was wrong with the old.
func readScrub(cfg Config) (s *scrubState, why error) {
	fresh := &scrubState{Format: scrubFormat, Made: cfg.Now().UTC()}
	b, err := durable.ReadFile(cfg.FS, scrubPath(cfg), maxScrubFile)
	if errors.Is(err, holdfast.ErrNotFound) {
		return fresh, nil
	}
	if err != nil {
		return fresh, fmt.Errorf("read scrub state: %w", err)
	}
	if s, err = parseScrub(b); err != nil {
		return fresh, err
	}
	return s, nil
}

func parseScrub(b []byte) (*scrubState, error) {
	var s scrubState
	if err := json.Unmarshal(b, &s); err != nil || s.Format != scrubFormat {
		return nil, fmt.Errorf("scrub state is not readable: %w", holdfast.ErrCorrupt)
	}
	if slices.Contains(s.Laps, nil) {
		return nil, fmt.Errorf("scrub state has a lap of nothing: %w", holdfast.ErrCorrupt)
	}
	for _, p := range s.Laps {
		for _, c := range p.Cover {
			if c == nil || !c.valid() {
				return nil, fmt.Errorf("scrub state of %s: %w", p.name(), holdfast.ErrCorrupt)
			}
		}
	}
	return &s, nil
}

// save writes the state durably. The caller holds s.mu.
func (s *scrubber) save() error {
	b, err := json.Marshal(&s.state)
	if err != nil {
		return fmt.Errorf("encode scrub state: %w", err)
	}
	if err := s.l.blobs.home.Check(); err != nil { // nothing is written to what lies beneath an unmounted directory
		return err
	}
	if err := durable.Replace(s.l.cfg.FS, scrubPath(s.l.cfg), append(b, '\n'), durable.FilePerm); err != nil {
		return fmt.Errorf("write scrub state: %w", err)
	}
	s.saved = s.l.now()
	return nil
}

// lap returns the lap of a part, which is made if there was none.
func (s *scrubState) lap(copyName, part string) *lap {
	for _, p := range s.Laps {
		if p.Copy == copyName && p.Part == part {
			return p
		}
	}
	p := &lap{Copy: copyName, Part: part}
	s.Laps = append(s.Laps, p)
	return p
}

// cover is which changes of an account were found whole in a log, and up to which all are wanted.
type cover struct {
	Want  holdfast.Seq      `json:"want"`
	Spans [][2]holdfast.Seq `json:"spans,omitempty"` // first and last, ascending, with gaps between
}

func (c *cover) valid() bool {
	end := holdfast.Seq(0)
	for i, s := range c.Spans {
		if s[0] == 0 || s[0] > s[1] || i > 0 && s[0] <= end+1 {
			return false
		}
		end = s[1]
	}
	return true
}

// cover returns what is known of an account, which is made if nothing was.
func (p *lap) cover(a holdfast.AccountID) *cover {
	c := p.Cover[a]
	if c == nil {
		c = &cover{}
		p.Cover[a] = c
	}
	return c
}

// trim forgets what was found above what is wanted.
func (c *cover) trim() {
	for i, s := range c.Spans {
		if s[1] > c.Want {
			if c.Spans = c.Spans[:i]; s[0] <= c.Want {
				c.Spans = append(c.Spans, [2]holdfast.Seq{s[0], c.Want})
			}
			return
		}
	}
}

// add marks from to to, both included, as there.
func (c *cover) add(from, to holdfast.Seq) {
	i, _ := slices.BinarySearchFunc(c.Spans, from, func(s [2]holdfast.Seq, f holdfast.Seq) int {
		if s[1]+1 < f {
			return -1
		}
		return 1
	})
	k := i // spans i..k-1 touch the new one
	for k < len(c.Spans) && c.Spans[k][0] <= to+1 {
		from, to = min(from, c.Spans[k][0]), max(to, c.Spans[k][1])
		k++
	}
	c.Spans = slices.Replace(c.Spans, i, k, [2]holdfast.Seq{from, to})
}

// lacking returns what is wanted and is not there.
func (c *cover) lacking() (gaps [][2]holdfast.Seq) {
	next := holdfast.Seq(1)
	for _, s := range c.Spans {
		if s[0] > next && next <= c.Want {
			gaps = append(gaps, [2]holdfast.Seq{next, min(s[0]-1, c.Want)})
		}
		next = s[1] + 1
	}
	if next <= c.Want {
		gaps = append(gaps, [2]holdfast.Seq{next, c.Want})
	}
	return gaps
}
