package ical

import (
	"bytes"
	"slices"

	"holdfast/internal/contentline"
)

// freq is the FREQ of a rule. Zero is invalid.
type freq uint8

const (
	secondly freq = iota + 1
	minutely
	hourly
	daily
	weekly
	monthly
	yearly
)

var freqs = map[string]freq{
	"SECONDLY": secondly, "MINUTELY": minutely, "HOURLY": hourly, "DAILY": daily,
	"WEEKLY": weekly, "MONTHLY": monthly, "YEARLY": yearly,
}

const maxInterval = 1 << 30

// rule is a RECUR value (RFC 5545, 3.3.10). Sets of small numbers are bit masks; the lists are
// sorted and without doubles, so a rule has a bounded size.
type rule struct {
	freq      freq
	interval  int64
	count     int64 // 0: not counted
	until     int64 // a wall, or an instant if untilForm is formUTC
	untilForm form  // formNone: for ever

	seconds, minutes uint64 // bit n: BYSECOND, BYMINUTE n
	hours            uint32
	months           uint16
	monthDays        uint32 // bit n: the n-th day
	monthDaysEnd     uint32 // bit n: the n-th day from the end
	days             uint8  // bit n: weekday n, Monday = 0
	nthDays          []nthDay
	nthMask          uint8 // bit n: weekday n is in nthDays
	yearDays         []int
	weeks            []int
	positions        []int // BYSETPOS
	weekStart        int
}

// nthDay is "-1SU": the last Sunday of the month or year.
type nthDay struct {
	n, weekday int
}

// parseRule reads a RECUR value. Case, blanks, a trailing ';' and INTERVAL=0 are tolerated. It
// reports false for what it does not know: its meaning is then in doubt.
func parseRule(b []byte) (*rule, bool) {
	r := &rule{interval: 1}
	for len(b) > 0 {
		var part []byte
		if i := bytes.IndexByte(b, ';'); i >= 0 {
			part, b = b[:i], b[i+1:]
		} else {
			part, b = b, nil
		}
		part = trim(part)
		if len(part) == 0 {
			continue
		}
		eq := bytes.IndexByte(part, '=')
		if eq < 0 || eq > 16 {
			return r, false
		}
		if !r.part(string(asciiUpper(trim(part[:eq]))), trim(part[eq+1:])) {
			return r, false
		}
	}
	return r, r.freq != 0
}

// part sets one part of the rule.
func (r *rule) part(name string, v []byte) bool {
	switch name {
	case "FREQ":
		if len(v) > 8 {
			return false
		}
		r.freq = freqs[string(asciiUpper(v))]
		return r.freq != 0
	case "INTERVAL":
		n, ok := number(v)
		if n > maxInterval || n < 0 {
			return false
		}
		r.interval = max(int64(n), 1)
		return ok
	case "COUNT":
		n, ok := number(v)
		r.count = int64(n)
		return ok && n > 0
	case "UNTIL":
		return r.setUntil(v)
	case "WKST":
		n, ok := weekdays[string(asciiUpper(v))]
		r.weekStart = n
		return ok
	case "RSCALE": // RFC 7529: another calendar is beyond us
		return contentline.EqualFoldString(v, "GREGORIAN")
	case "SKIP":
		return contentline.EqualFoldString(v, "OMIT")
	case "BYDAY":
		return eachValue(v, r.addDay)
	}
	add := r.adder(name)
	return add != nil && eachValue(v, func(b []byte) bool {
		n, ok := number(b)
		return ok && add(n)
	})
}

func (r *rule) setUntil(v []byte) bool {
	wall, date, utc, ok := parseWall(v)
	r.until = wall
	switch {
	case date:
		r.until, r.untilForm = wall+day-1, formDate
	case utc:
		r.untilForm = formUTC
	default:
		r.untilForm = formFloating
	}
	return ok
}

// adder returns what takes in one number of a list, and refuses it out of range.
func (r *rule) adder(name string) func(n int) bool {
	switch name {
	case "BYSECOND":
		return func(n int) bool { return setBit(&r.seconds, min(n, 59), 0, 59) && n <= 60 }
	case "BYMINUTE":
		return func(n int) bool { return setBit(&r.minutes, n, 0, 59) }
	case "BYHOUR":
		return func(n int) bool { return setBit(&r.hours, n, 0, 23) }
	case "BYMONTH":
		return func(n int) bool { return setBit(&r.months, n, 1, 12) }
	case "BYMONTHDAY":
		return func(n int) bool {
			if n < 0 {
				return setBit(&r.monthDaysEnd, -n, 1, 31)
			}
			return setBit(&r.monthDays, n, 1, 31)
		}
	case "BYYEARDAY":
		return func(n int) bool { return addNumber(&r.yearDays, n, 366) }
	case "BYWEEKNO":
		return func(n int) bool { return addNumber(&r.weeks, n, 53) }
	case "BYSETPOS":
		return func(n int) bool { return addNumber(&r.positions, n, 366) }
	}
	return nil
}

var weekdays = map[string]int{"MO": 0, "TU": 1, "WE": 2, "TH": 3, "FR": 4, "SA": 5, "SU": 6}

// addDay takes in "SU", "-1SU" or "+2SU".
func (r *rule) addDay(b []byte) bool {
	if len(b) < 2 || len(b) > 5 {
		return false
	}
	wd, ok := weekdays[string(asciiUpper(b[len(b)-2:]))]
	if !ok {
		return false
	}
	if len(b) == 2 {
		r.days |= 1 << wd
		return true
	}
	n, ok := number(b[:len(b)-2])
	if !ok || n == 0 || n > 53 || n < -53 {
		return false
	}
	d := nthDay{n, wd}
	r.nthMask |= 1 << wd
	if !slices.Contains(r.nthDays, d) {
		r.nthDays = append(r.nthDays, d)
	}
	return true
}

func setBit[T uint16 | uint32 | uint64](mask *T, n, low, high int) bool {
	if n < low || n > high {
		return false
	}
	*mask |= 1 << n
	return true
}

func addNumber(list *[]int, n, limit int) bool {
	if n == 0 || n > limit || n < -limit {
		return false
	}
	if i, found := slices.BinarySearch(*list, n); !found {
		*list = slices.Insert(*list, i, n)
	}
	return true
}

// number reads a decimal number of at most 10 digits with an optional sign.
func number(b []byte) (int, bool) {
	sign := 1
	if len(b) > 0 && (b[0] == '+' || b[0] == '-') {
		if b[0] == '-' {
			sign = -1
		}
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 10 {
		return 0, false
	}
	n, ok := digits(b, len(b))
	return sign * n, ok
}

// eachValue calls fn for each value of a comma-separated list until fn returns false, and reports
// whether it never did.
func eachValue(b []byte, fn func(b []byte) bool) bool {
	for {
		i := bytes.IndexByte(b, ',')
		if i < 0 {
			return fn(trim(b))
		}
		if !fn(trim(b[:i])) {
			return false
		}
		b = b[i+1:]
	}
}

// isPlain reports whether the rule has no BY part.
func (r *rule) isPlain() bool {
	return r.seconds == 0 && r.minutes == 0 && r.hours == 0 && r.months == 0 && !r.byDate() && len(r.positions) == 0
}

// byDate reports whether a part other than BYMONTH chooses days.
func (r *rule) byDate() bool {
	return r.monthDays != 0 || r.monthDaysEnd != 0 || r.days != 0 || len(r.nthDays) > 0 ||
		len(r.yearDays) > 0 || len(r.weeks) > 0
}

// withStart returns the rule with what it lacks taken from DTSTART (RFC 5545, 3.3.10: "Information,
// not contained in the rule, ... would be the same as what is specified for DTSTART").
func (r *rule) withStart(start int64) rule {
	f := *r
	days := floorDiv64(start, day)
	_, m, d := dateOf(int(days))
	wd := weekday(int(days))
	if !r.byDate() {
		switch r.freq {
		case yearly:
			if f.months == 0 {
				f.months = 1 << m
			}
			f.monthDays = 1 << d
		case monthly:
			f.monthDays = 1 << d
		case weekly:
			f.days = 1 << wd
		}
	} else if r.freq == yearly && len(r.weeks) > 0 && r.days == 0 && len(r.nthDays) == 0 &&
		r.monthDays == 0 && r.monthDaysEnd == 0 && len(r.yearDays) == 0 {
		f.days = 1 << wd
	}
	sec := start - days*day
	if f.seconds == 0 && r.freq > secondly {
		f.seconds = 1 << (sec % 60)
	}
	if f.minutes == 0 && r.freq > minutely {
		f.minutes = 1 << (sec / minute % 60)
	}
	if f.hours == 0 && r.freq > hourly {
		f.hours = 1 << (sec / hour)
	}
	if r.freq < monthly { // RFC 5545: a number means nothing there
		f.days, f.nthMask, f.nthDays = f.days|r.nthMask, 0, nil
	}
	return f
}
