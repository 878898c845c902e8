package ical

import (
	"math/bits"
	"slices"
)

// iter yields the walls of a rule in ascending order, from DTSTART on. All arithmetic is on walls:
// what a gap or a doubled hour makes of one is for stamp.at to say (RFC 5545, 3.3.10).
type iter struct {
	r         rule // complete: withStart
	start     stamp
	floating  *Zone
	budget    *int // steps left; shared by all iterators of one object
	exhausted bool // the budget ended the iteration, not the rule
	left      int64
	counted   bool
	limit     int64 // walls after it are not wanted

	k     int64   // number of the next period
	days  []int   // candidate days of this period (daily and longer)
	base  int64   // start of this period (hourly and shorter)
	times []int32 // seconds after the day or period, ascending
	picks []int   // positions chosen by BYSETPOS; nil: all
	pos   int     // next position
	size  int     // positions in this period
}

// lastWall is the end of the year 9999.
var lastWall = int64(daysOf(maxYear+1, 1, 1)) * day

// newIter starts at the first occurrence, or, where that is possible without counting, in the
// period that holds the wall `from`: the first walls may still be before it.
func newIter(r *rule, start stamp, floating *Zone, from int64, budget *int) *iter {
	it := &iter{r: r.withStart(start.wall), start: start, floating: floating, budget: budget, left: r.count, counted: r.count > 0, limit: lastWall}
	if r.untilForm != formNone {
		it.limit = min(it.limit, r.until+2*day)
	}
	it.makeTimes()
	if from > start.wall {
		it.jump(r, min(from, lastWall))
	}
	return it
}

// makeTimes lists the times of day, or of the hour or minute for shorter frequencies.
func (it *iter) makeTimes() {
	hours, minutes, seconds := uint64(it.r.hours), it.r.minutes, it.r.seconds
	if it.r.freq <= hourly {
		hours = 1
	}
	if it.r.freq <= minutely {
		minutes = 1
	}
	if it.r.freq <= secondly {
		seconds = 1
	}
	n := bits.OnesCount64(hours) * bits.OnesCount64(minutes) * bits.OnesCount64(seconds)
	it.times = make([]int32, 0, n)
	*it.budget -= n - 1
	for h := hours; h != 0; h &= h - 1 {
		for m := minutes; m != 0; m &= m - 1 {
			for s := seconds; s != 0; s &= s - 1 {
				it.times = append(it.times, int32(bits.TrailingZeros64(h)*hour+bits.TrailingZeros64(m)*minute+bits.TrailingZeros64(s)))
			}
		}
	}
}

// jump moves to the period of wall `to`, at or after the start. A counted rule can only be moved if
// each of its periods has exactly one occurrence.
func (it *iter) jump(r *rule, to int64) {
	days, first := floorDiv64(to, day), floorDiv64(it.start.wall, day)
	var k int64
	switch r.freq {
	case yearly, monthly:
		y0, m0, d0 := dateOf(int(first))
		y1, m1, _ := dateOf(int(days))
		k = int64(y1 - y0)
		if r.freq == monthly {
			k = k*12 + int64(m1-m0)
		}
		if it.counted && d0 > 28 {
			return
		}
	case weekly:
		k = (days - it.weekOf(first)) / 7
	case daily:
		k = days - first
	default:
		k = (to - it.unitStart()) / it.unit()
	}
	k = max(k/r.interval-1, 0)
	if it.counted {
		if !r.isPlain() {
			return
		}
		it.left -= min(k, it.left)
	}
	it.k = k
}

// next returns the next wall; false when there is none, or the budget is spent.
func (it *iter) next() (int64, bool) {
	for {
		if it.counted && it.left <= 0 {
			return 0, false
		}
		for it.pos >= it.size {
			if *it.budget <= 0 {
				it.exhausted = true
				return 0, false
			}
			if !it.period() {
				return 0, false
			}
		}
		*it.budget--
		if *it.budget <= 0 {
			it.exhausted = true
			return 0, false
		}
		i := it.pos
		it.pos++
		if it.picks != nil {
			i = it.picks[i]
		}
		wall := it.base
		if it.r.freq >= daily {
			wall = int64(it.days[i/len(it.times)]) * day
		}
		wall += int64(it.times[i%len(it.times)])
		if wall < it.start.wall {
			continue
		}
		if wall > it.limit || wall >= lastWall || it.past(wall) {
			it.left, it.counted = 0, true
			return 0, false
		}
		it.left--
		return wall, true
	}
}

// past reports whether the wall is beyond UNTIL.
func (it *iter) past(wall int64) bool {
	switch it.r.untilForm {
	case formNone:
		return false
	case formUTC:
		if it.start.form != formDate && wall > it.r.until-2*day {
			*it.budget -= it.start.cost()
			return it.start.at(wall, it.floating) > it.r.until
		}
	}
	return wall > it.r.until
}

// period moves to the next period, which may be empty; false at the end of time.
func (it *iter) period() bool {
	n := it.k * it.r.interval
	it.k++
	it.pos, it.size, it.days = 0, 0, it.days[:0]
	first := int(floorDiv64(it.start.wall, day))
	if n > maxYear*366 && it.r.freq >= daily {
		return false
	}
	var from int // first day of the period
	y, m, _ := dateOf(first)
	switch it.r.freq {
	case yearly:
		y, m = y+int(n), 1
		from = daysOf(y, m, 1)
	case monthly:
		m += int(n) - 1
		y, m = y+m/12, m%12+1
		from = daysOf(y, m, 1)
	case weekly:
		from = int(it.weekOf(int64(first))) + int(n)*7
	case daily:
		from = first + int(n)
	default:
		return it.shortPeriod(n)
	}
	if int64(from)*day > it.limit {
		return false
	}
	switch it.r.freq {
	case yearly:
		*it.budget--
		for m := 1; m <= 12; m++ {
			it.month(y, m)
		}
	case monthly:
		*it.budget--
		it.month(y, m)
	case weekly:
		it.addDays(from, 7)
	default:
		it.addDays(from, 1)
	}
	it.size = len(it.days) * len(it.times)
	it.pick()
	return true
}

// month adds the days of a month that the rule chooses.
func (it *iter) month(y, m int) {
	if it.r.months != 0 && it.r.months&(1<<m) == 0 {
		return
	}
	it.addDays(daysOf(y, m, 1), monthDays(y, m))
}

func (it *iter) addDays(first, n int) {
	*it.budget -= n
	for d := first; d < first+n; d++ {
		if it.r.chooses(d) {
			it.days = append(it.days, d)
		}
	}
}

// weekOf returns the first day of the week of a day, by WKST.
func (it *iter) weekOf(days int64) int64 {
	return days - int64((weekday(int(days))-it.r.weekStart+7)%7)
}

// pick applies BYSETPOS to the positions of the period.
func (it *iter) pick() {
	if len(it.r.positions) == 0 {
		return
	}
	it.picks = it.picks[:0]
	for _, p := range it.r.positions {
		if p < 0 {
			p += it.size + 1
		}
		if p >= 1 && p <= it.size {
			it.picks = append(it.picks, p-1)
		}
	}
	slices.Sort(it.picks)
	it.picks = slices.Compact(it.picks)
	if it.picks == nil {
		it.picks = []int{}
	}
	it.size = len(it.picks)
}

func (it *iter) unit() int64 {
	switch it.r.freq {
	case hourly:
		return hour
	case minutely:
		return minute
	}
	return 1
}

func (it *iter) unitStart() int64 { return floorDiv64(it.start.wall, it.unit()) * it.unit() }

// shortPeriod is period for hours, minutes and seconds. What a larger unit rules out is jumped over.
func (it *iter) shortPeriod(n int64) bool {
	*it.budget--
	if n > lastWall {
		return false
	}
	it.base = it.unitStart() + n*it.unit()
	if it.base > it.limit {
		return false
	}
	days := floorDiv64(it.base, day)
	sec := it.base - days*day
	switch {
	case !it.r.chooses(int(days)):
		it.skipTo((days + 1) * day)
	case it.r.hours != 0 && it.r.hours&(1<<(sec/hour)) == 0:
		it.skipTo(it.base - sec%hour + hour)
	case it.r.freq <= minutely && it.r.minutes != 0 && it.r.minutes&(1<<(sec/minute%60)) == 0:
		it.skipTo(it.base - sec%minute + minute)
	case it.r.freq == secondly && it.r.seconds != 0 && it.r.seconds&(1<<(sec%60)) == 0:
	default:
		it.size = len(it.times)
		it.pick()
	}
	return true
}

// skipTo makes the next period the first one at or after the wall.
func (it *iter) skipTo(wall int64) {
	step := it.unit() * it.r.interval
	it.k = max(it.k, (wall-it.unitStart()+step-1)/step)
}

// chooses reports whether all BY parts that speak of days choose the day (RFC 5545, 3.3.10: the
// table of parts that expand and limit, read as one filter over the days of the period).
func (r *rule) chooses(days int) bool {
	if r.months == 0 && !r.byDate() {
		return true
	}
	wd := weekday(days)
	if (r.days != 0 || len(r.nthDays) > 0) && (r.days|r.nthMask)&(1<<wd) == 0 { // the cheapest question first
		return false
	}
	y, m, d := dateOf(days)
	if r.months != 0 && r.months&(1<<m) == 0 {
		return false
	}
	length := monthDays(y, m)
	if (r.monthDays != 0 || r.monthDaysEnd != 0) && r.monthDays&(1<<d) == 0 && r.monthDaysEnd&(1<<(length-d+1)) == 0 {
		return false
	}
	if len(r.nthDays) > 0 && r.days&(1<<wd) == 0 && !r.choosesNth(days, y, d, length) {
		return false
	}
	if len(r.yearDays) > 0 {
		yd, size := yearDay(days, y)
		if !slices.Contains(r.yearDays, yd) && !slices.Contains(r.yearDays, yd-size-1) {
			return false
		}
	}
	if len(r.weeks) > 0 {
		week, size := r.week(days)
		return slices.Contains(r.weeks, week) || slices.Contains(r.weeks, week-size-1)
	}
	return true
}

// choosesNth tells the n-th weekday of the month, or of the year in a yearly rule without BYMONTH.
func (r *rule) choosesNth(days, y, d, length int) bool {
	if r.freq == yearly && r.months == 0 {
		d, length = yearDay(days, y)
	}
	wd := weekday(days)
	for _, nd := range r.nthDays {
		if nd.weekday == wd && (nd.n == (d-1)/7+1 || nd.n == -((length-d)/7+1)) {
			return true
		}
	}
	return false
}

// yearDay returns the number of a day in its year, from 1, and the days of the year.
func yearDay(days, y int) (n, size int) {
	size = 365
	if leap(y) {
		size = 366
	}
	return days - daysOf(y, 1, 1) + 1, size
}

// week returns the number of the week that holds the day, and of the last week of that week's year.
// A week belongs to the year that has at least four of its days (RFC 5545, 3.3.10).
func (r *rule) week(days int) (n, size int) {
	y, n := r.weekIn(days)
	_, size = r.weekIn(daysOf(y, 12, 28)) // always in the last week
	return n, size
}

func (r *rule) weekIn(days int) (y, n int) {
	middle := days - (weekday(days)-r.weekStart+7)%7 + 3
	y, _, _ = dateOf(middle)
	return y, (middle-daysOf(y, 1, 1))/7 + 1
}
