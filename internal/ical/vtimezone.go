package ical

import (
	"math"
	"slices"
	"sort"

	"holdfast/internal/contentline"
)

// Bounds of one VTIMEZONE. One that is larger is not used.
const (
	maxOnsets    = 4000
	maxZoneRules = 24
)

// vtimezone is a VTIMEZONE (RFC 5545, 3.6.5): single onsets, sorted, and onsets that recur yearly.
type vtimezone struct {
	onsets []onset
	rules  []zoneRule
	before int64 // offset before the first onset
}

// onset is the instant at which an offset begins.
type onset struct {
	at, offset int64
}

// zoneRule is an observance that begins every year.
type zoneRule struct {
	rule  *rule
	start stamp // DTSTART as it would be read in UTC
	from  int64 // TZOFFSETFROM, in which the rule's walls are read
	to    int64
}

// newVTimezone returns nil if the component does not make a zone.
func newVTimezone(c *Component) *vtimezone {
	v := &vtimezone{}
	first := int64(math.MaxInt64)
	for _, sub := range c.Children {
		if sub.Name != "STANDARD" && sub.Name != "DAYLIGHT" {
			continue
		}
		at, from, ok := v.observance(sub)
		if !ok {
			return nil
		}
		if at < first {
			first, v.before = at, from
		}
	}
	if len(v.onsets) == 0 {
		return nil
	}
	sort.Slice(v.onsets, func(i, j int) bool { return v.onsets[i].at < v.onsets[j].at })
	return v
}

// observance adds a STANDARD or DAYLIGHT component and returns its first onset and TZOFFSETFROM.
func (v *vtimezone) observance(c *Component) (at, from int64, ok bool) {
	var (
		start  int64
		to     int64
		have   [3]bool
		rules  []*rule
		rdates []int64
		bad    bool
	)
	c.Each(func(l *contentline.Line) bool {
		switch {
		case l.Is("DTSTART"):
			start, _, _, have[0] = parseWall(l.Value())
		case l.Is("TZOFFSETFROM"):
			from, have[1] = parseOffset(l.Value())
		case l.Is("TZOFFSETTO"):
			to, have[2] = parseOffset(l.Value())
		case l.Is("RRULE"):
			r, ok := parseRule(l.Value())
			bad = bad || !ok || !r.onceAYear() || len(rules) > maxZoneRules
			rules = append(rules, r)
		case l.Is("RDATE"):
			eachValue(l.Value(), func(b []byte) bool {
				wall, _, _, ok := parseWall(b)
				bad = bad || !ok || len(rdates) > maxOnsets
				rdates = append(rdates, wall)
				return !bad
			})
		}
		return !bad
	})
	if bad || !have[0] || !have[1] || !have[2] {
		return 0, 0, false
	}
	v.onsets = append(v.onsets, onset{start - from, to})
	for _, w := range rdates {
		v.onsets = append(v.onsets, onset{w - from, to})
	}
	for _, r := range rules {
		if !v.add(zoneRule{rule: r, start: stamp{wall: start, form: formUTC}, from: from, to: to}) {
			return 0, 0, false
		}
	}
	return start - from, from, len(v.onsets) <= maxOnsets && len(v.rules) <= maxZoneRules
}

// onceAYear reports whether the rule is of the form that real zones have: a day or a weekday of one
// month, at one time, every year. Others would make each conversion expensive.
func (r *rule) onceAYear() bool {
	one := func(mask uint64) bool { return mask&(mask-1) == 0 }
	return r.freq == yearly && r.interval == 1 && one(r.seconds) && one(r.minutes) && one(uint64(r.hours)) &&
		one(uint64(r.months)) && (r.months != 0 || !r.byDate()) && len(r.yearDays)+len(r.weeks) == 0
}

// add takes a rule as such, or its onsets if they are counted.
func (v *vtimezone) add(zr zoneRule) bool {
	if zr.rule.untilForm == formUTC { // RFC 5545, 3.6.5: UNTIL is in UTC, our walls are not
		r := *zr.rule
		r.until += zr.from
		zr.rule = &r
	}
	if zr.rule.count == 0 {
		v.rules = append(v.rules, zr)
		return true
	}
	budget := maxOnsets * 32
	it := newIter(zr.rule, zr.start, nil, math.MinInt64, &budget)
	for {
		wall, ok := it.next()
		if !ok {
			return !it.exhausted
		}
		if len(v.onsets) > maxOnsets {
			return false
		}
		v.onsets = append(v.onsets, onset{wall - zr.from, zr.to})
	}
}

// at returns the period that holds the instant: from the last onset to the next one.
func (v *vtimezone) at(unix int64) period {
	p := period{from: math.MinInt64, to: math.MaxInt64, offset: v.before}
	i, _ := slices.BinarySearchFunc(v.onsets, unix+1, func(o onset, t int64) int {
		if o.at < t {
			return -1
		}
		return 1
	})
	if i > 0 {
		p.from, p.offset = v.onsets[i-1].at, v.onsets[i-1].offset
	}
	if i < len(v.onsets) {
		p.to = v.onsets[i].at
	}
	for k := range v.rules {
		v.rules[k].narrow(unix, &p)
	}
	return p
}

// narrow cuts p to the onsets of the rule next to the instant.
func (zr *zoneRule) narrow(unix int64, p *period) {
	const year = 370 * day
	from := unix + zr.from - year
	if r := zr.rule; r.untilForm != formNone && r.until-year < from {
		from = r.until - year
	}
	budget := 10 * 32
	it := newIter(zr.rule, zr.start, nil, from, &budget)
	for {
		wall, ok := it.next()
		if !ok {
			return
		}
		at := wall - zr.from
		if at > unix {
			p.to = min(p.to, at)
			return
		}
		if at >= p.from {
			p.from, p.offset = at, zr.to
		}
	}
}

// parseOffset reads an RFC 5545 UTC-OFFSET: +hhmm or +hhmmss.
func parseOffset(b []byte) (int64, bool) {
	b = trim(b)
	if len(b) != 5 && len(b) != 7 || b[0] != '+' && b[0] != '-' {
		return 0, false
	}
	h, ok1 := digits(b[1:], 2)
	m, ok2 := digits(b[3:], 2)
	s, ok3 := 0, true
	if len(b) == 7 {
		s, ok3 = digits(b[5:], 2)
	}
	if !ok1 || !ok2 || !ok3 || h > 23 || m > 59 || s > 59 {
		return 0, false
	}
	v := int64(h)*hour + int64(m)*minute + int64(s)
	if b[0] == '-' {
		v = -v
	}
	return v, true
}
