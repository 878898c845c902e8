package ical

import (
	"math"

	"holdfast/internal/contentline"
)

const (
	minute = 60
	hour   = 3600
	day    = 86400
)

// form says how a time is tied to the world.
type form uint8

const (
	formNone     form = iota
	formDate          // a whole day wherever one is (RFC 5545, 3.3.4)
	formFloating      // a time of day wherever one is (3.3.5, form 1)
	formUTC           // 3.3.5, form 2
	formZoned         // 3.3.5, form 3
)

// stamp is a DATE or DATE-TIME value: what the clock on the wall shows, as seconds since 1970 as if
// it were UTC, and whose wall it is.
type stamp struct {
	wall int64
	form form
	zone *Zone // formZoned only
}

func (s stamp) ok() bool { return s.form != formNone }

// tied reports whether the value names an instant whatever the time zone of the reader.
func (s stamp) tied() bool { return s.form == formUTC || s.form == formZoned }

// unix returns the instant, in seconds since 1970 UTC; floating is the zone of formDate and
// formFloating, nil for UTC.
func (s stamp) unix(floating *Zone) int64 { return s.at(s.wall, floating) }

// cost returns the steps that converting the stamp may take, for the budget of an expansion.
func (s stamp) cost() int {
	if s.form == formZoned && s.zone.vtz != nil {
		return 4 + 8*len(s.zone.vtz.rules)
	}
	return 4
}

// at returns the instant at which a wall like that of s shows the given time.
func (s stamp) at(wall int64, floating *Zone) int64 {
	switch s.form {
	case formUTC:
		return wall
	case formZoned:
		return s.zone.unix(wall)
	}
	return floating.unix(wall)
}

// maxYear bounds dates; RFC 5545 has four digits.
const maxYear = 9999

// daysOf returns the day number since 1970-01-01 of a date in the proleptic Gregorian calendar.
// Months beyond 1..12 count on.
func daysOf(y, m, d int) int {
	m--
	y += m / 12
	m %= 12
	if m < 0 {
		m += 12
		y--
	}
	// Days before the month, counted from March, so that the leap day is last.
	if m < 2 {
		y--
		m += 10
	} else {
		m -= 2
	}
	era := floorDiv(y, 400)
	yoe := y - era*400
	doy := (153*m+2)/5 + d - 1
	return era*146097 + yoe*365 + yoe/4 - yoe/100 + doy - 719468
}

// dateOf is the inverse of daysOf.
func dateOf(days int) (y, m, d int) {
	days += 719468
	era := floorDiv(days, 146097)
	doe := days - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	d = doy - (153*mp+2)/5 + 1
	m = mp + 3
	y = yoe + era*400
	if m > 12 {
		m -= 12
		y++
	}
	return y, m, d
}

func floorDiv(a, b int) int {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}

func floorDiv64(a, b int64) int64 {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}

func leap(y int) bool { return y%4 == 0 && (y%100 != 0 || y%400 == 0) }

func monthDays(y, m int) int {
	switch m {
	case 2:
		if leap(y) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// weekday returns 0 for Monday ... 6 for Sunday.
func weekday(days int) int {
	w := (days + 3) % 7
	if w < 0 {
		w += 7
	}
	return w
}

// digits reads n decimal digits.
func digits(b []byte, n int) (int, bool) {
	if len(b) < n {
		return 0, false
	}
	v := 0
	for _, c := range b[:n] {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + int(c-'0')
	}
	return v, true
}

// parseWall reads YYYYMMDD or YYYYMMDDTHHMMSS[Z], the dashes and colons of RFC 3339 tolerated.
func parseWall(b []byte) (wall int64, date, utc, ok bool) {
	b = trim(b)
	var compact [16]byte
	n := 0
	for _, c := range b {
		if c == '-' || c == ':' {
			continue
		}
		if n == len(compact) {
			return 0, false, false, false
		}
		compact[n] = c
		n++
	}
	b = compact[:n]
	y, ok1 := digits(b, 4)
	if !ok1 || len(b) < 8 {
		return 0, false, false, false
	}
	m, ok2 := digits(b[4:], 2)
	d, ok3 := digits(b[6:], 2)
	if !ok2 || !ok3 || m < 1 || m > 12 || d < 1 || d > monthDays(y, m) {
		return 0, false, false, false
	}
	wall = int64(daysOf(y, m, d)) * day
	b = b[8:]
	if len(b) == 0 {
		return wall, true, false, true
	}
	if len(b) < 7 || (b[0] != 'T' && b[0] != 't') {
		return 0, false, false, false
	}
	hh, ok1 := digits(b[1:], 2)
	mm, ok2 := digits(b[3:], 2)
	ss, ok3 := digits(b[5:], 2)
	if !ok1 || !ok2 || !ok3 || hh > 24 || mm > 59 || ss > 60 {
		return 0, false, false, false
	}
	if ss == 60 { // RFC 5545, 3.3.12: a leap second may be taken as 59
		ss = 59
	}
	wall += int64(hh)*hour + int64(mm)*minute + int64(ss)
	rest := b[7:]
	utc = len(rest) == 1 && (rest[0] == 'Z' || rest[0] == 'z')
	return wall, false, utc, utc || len(rest) == 0
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// stampOf reads one DATE or DATE-TIME value with the parameters of its line.
func (o *Object) stampOf(l *contentline.Line, value []byte) stamp {
	wall, date, utc, ok := parseWall(value)
	switch {
	case !ok:
		return stamp{}
	case date:
		return stamp{wall: wall, form: formDate}
	case utc:
		return stamp{wall: wall, form: formUTC}
	}
	if tzid := l.Param("TZID"); tzid != nil {
		if z := o.zone(string(tzid)); z != nil {
			return stamp{wall: wall, form: formZoned, zone: z}
		}
	}
	return stamp{wall: wall, form: formFloating}
}

// span is a duration: nominal days (they follow the wall) and exact seconds (RFC 5545, 3.3.6).
type span struct {
	days int64
	secs int64
}

// maxSpan bounds durations: 3,000 years.
const maxSpan = 3000 * 366 * day

// parseSpan reads an RFC 5545 DURATION.
func parseSpan(b []byte) (span, bool) {
	b = trim(b)
	sign := int64(1)
	if len(b) > 0 && (b[0] == '+' || b[0] == '-') {
		if b[0] == '-' {
			sign = -1
		}
		b = b[1:]
	}
	if len(b) < 2 || (b[0] != 'P' && b[0] != 'p') {
		return span{}, false
	}
	var s span
	n, have, inTime, parts := int64(0), false, false, 0
	for _, c := range b[1:] {
		if '0' <= c && c <= '9' {
			n, have = n*10+int64(c-'0'), true
			if n > maxSpan {
				return span{}, false
			}
			continue
		}
		if c == 'T' || c == 't' {
			if inTime || have {
				return span{}, false
			}
			inTime = true
			continue
		}
		if !have || !s.add(n, c, inTime) {
			return span{}, false
		}
		n, have = 0, false
		parts++
	}
	if have || parts == 0 {
		return span{}, false
	}
	s.days *= sign
	s.secs *= sign
	return s, true
}

// add adds one part of a duration and reports whether it is one and within bounds.
func (s *span) add(n int64, unit byte, inTime bool) bool {
	switch {
	case !inTime && (unit == 'W' || unit == 'w'):
		s.days += n * 7
	case !inTime && (unit == 'D' || unit == 'd'):
		s.days += n
	case inTime && (unit == 'H' || unit == 'h'):
		s.secs += n * hour
	case inTime && (unit == 'M' || unit == 'm'):
		s.secs += n * minute
	case inTime && (unit == 'S' || unit == 's'):
		s.secs += n
	default:
		return false
	}
	return s.days <= maxSpan/day && s.secs <= maxSpan
}

func (s span) seconds() int64 { return s.days*day + s.secs }

// addSat adds with saturation, for bounds that may be math.MinInt64 or MaxInt64.
func addSat(a, b int64) int64 {
	switch {
	case a == math.MinInt64 || a == math.MaxInt64:
		return a
	case b > 0 && a > math.MaxInt64-b:
		return math.MaxInt64
	case b < 0 && a < math.MinInt64-b:
		return math.MinInt64
	}
	return a + b
}
