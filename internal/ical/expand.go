package ical

import "slices"

// stepBudget bounds the expansion of one object in one query: about as many days looked at. A
// weekly event of a century takes 40,000.
const stepBudget = 400_000

// instance is one occurrence of a component: instants in seconds since 1970 UTC.
type instance struct {
	start, end int64
	zone       *Zone // whose days its nominal durations follow
	wall       int64 // of start, as DTSTART has it; for dates and floating times only
	id         stamp // RECURRENCE-ID; none if nothing recurs
	period     bool  // a period of RDATE, with an end of its own
}

// shift moves an instant by a duration: days follow the wall, the rest is exact.
func (i *instance) shift(unix int64, d span) int64 {
	if d.days != 0 {
		unix = i.zone.unix(i.zone.wall(unix) + d.days*day)
	}
	return unix + d.secs
}

// expander walks through the instances of one object. It belongs to one query.
type expander struct {
	o        *Object
	floating *Zone
	budget   int
	known    map[*Component]*times
	series   map[string]*series
}

func newExpander(o *Object, floating *Zone) *expander {
	return &expander{o: o, floating: floating, budget: stepBudget, known: make(map[*Component]*times)}
}

// unix converts a stamp and charges for it; false if the budget is spent.
func (x *expander) unix(s stamp) (int64, bool) {
	x.budget -= s.cost()
	return s.unix(x.floating), x.budget > 0
}

func (x *expander) times(c *Component) *times {
	t := x.known[c]
	if t == nil {
		t = x.o.timesOf(c)
		x.known[c] = t
	}
	return t
}

// series is what the components of one type have in common: one recurrence set.
type series struct {
	master  *times
	ids     []int64    // sorted: instants that have their own component
	futures []override // sorted: RANGE=THISANDFUTURE
}

type override struct {
	id int64
	t  *times
}

// seriesOf gathers the recurrence set of a component type.
func (x *expander) seriesOf(name string) *series {
	if s := x.series[name]; s != nil {
		return s
	}
	s := &series{}
	for _, c := range x.o.Calendar.Children {
		if c.Name != name {
			continue
		}
		t := x.times(c)
		if !t.id.ok() {
			if s.master == nil {
				s.master = t
			}
			continue
		}
		id, _ := x.unix(t.id)
		s.ids = append(s.ids, id)
		if t.future && t.start.ok() {
			s.futures = append(s.futures, override{id, t})
		}
	}
	slices.Sort(s.ids)
	slices.SortStableFunc(s.futures, func(a, b override) int {
		switch {
		case a.id < b.id:
			return -1
		case a.id > b.id:
			return 1
		}
		return 0
	})
	if x.series == nil {
		x.series = make(map[string]*series)
	}
	x.series[name] = s
	return s
}

// future returns the override whose range holds the instance, nil for the master's own.
func (s *series) future(id int64) *times {
	var t *times
	i, _ := slices.BinarySearchFunc(s.futures, id, func(o override, id int64) int {
		if o.id <= id {
			return -1
		}
		return 1
	})
	if i > 0 {
		t = s.futures[i-1].t
	}
	return t
}

// zoneOf returns the zone whose wall the stamp shows.
func (x *expander) zoneOf(s stamp) *Zone {
	switch s.form {
	case formUTC:
		return nil
	case formZoned:
		return s.zone
	}
	return x.floating
}

// any reports whether test is true of an instance of the component; instances that start before
// low or after high need not be tried. It is also true if that cannot be known: the times are in
// doubt, or the budget is spent.
func (x *expander) any(c *Component, low, high int64, test func(i *instance) bool) bool {
	t := x.times(c)
	if t.doubt {
		return true
	}
	if !t.start.ok() {
		return false
	}
	if x.budget -= t.start.cost(); x.budget <= 0 {
		return true
	}
	w := walk{x: x, of: t, low: low, high: high, test: test}
	if !t.recurs() && !t.id.ok() {
		return w.try(t.start.wall)
	}
	if !t.id.ok() {
		w.master, w.s = t, x.seriesOf(c.Name)
		return w.run()
	}
	if w.try(t.start.wall) {
		return true
	}
	if !t.future {
		return false
	}
	w.s = x.seriesOf(c.Name)
	if w.master = w.s.master; w.master == nil || !w.master.start.ok() {
		return false
	}
	w.by = t.start.unix(x.floating) - t.id.unix(x.floating)
	return w.run()
}

// walk is one expansion: of the master's instances, those that are `of`'s.
type walk struct {
	x         *expander
	of        *times // whose instances are wanted: the master itself or a THISANDFUTURE override
	master    *times // whose rules make them
	s         *series
	by        int64 // how far the override moves them, in seconds
	low, high int64
	test      func(i *instance) bool
	exdates   []int64
}

// try tests the instance of w.of that starts at a wall of its own DTSTART.
func (w *walk) try(wall int64) bool {
	i := instance{
		start: w.of.start.at(wall, w.x.floating),
		end:   w.of.endAt(wall, w.x.floating),
		zone:  w.x.zoneOf(w.of.start),
		wall:  wall,
		id:    w.of.id,
	}
	return w.test(&i)
}

// run tries all instances that the master's DTSTART, RDATE and RRULE make.
func (w *walk) run() bool {
	m := w.master
	if m.doubt {
		return true
	}
	for _, e := range m.exdates {
		id, ok := w.x.unix(e)
		if !ok {
			return true
		}
		w.exdates = append(w.exdates, id)
	}
	slices.Sort(w.exdates)
	if w.made(m.start.unix(w.x.floating), m.start.wall, nil) {
		return true
	}
	for i := range m.rdates {
		r := &m.rdates[i]
		id, ok := w.x.unix(r.start)
		wall := r.start.wall
		if r.start.form != m.start.form {
			wall = w.x.zoneOf(m.start).wall(id)
		}
		if !ok || w.made(id, wall, r) {
			return true
		}
	}
	for _, r := range m.rules {
		if w.rule(r) {
			return true
		}
	}
	return false
}

func (w *walk) rule(r *rule) bool {
	m := w.master
	from, to := addSat(addSat(w.low, -w.by), -2*day), addSat(addSat(w.high, -w.by), 2*day)
	it := newIter(r, m.start, w.x.floating, from, &w.x.budget)
	it.limit = min(it.limit, to)
	for {
		wall, ok := it.next()
		if !ok {
			return it.exhausted
		}
		if wall >= from && w.made(m.start.at(wall, w.x.floating), wall, nil) {
			return true
		}
	}
}

// made tests the instance that the master starts at the instant id, when the wall of its DTSTART shows
// `wall`, if it is w.of's to have.
func (w *walk) made(id, wall int64, r *rdate) bool {
	w.x.budget -= w.of.start.cost() + w.master.start.cost()
	if _, gone := slices.BinarySearch(w.exdates, id); gone {
		return false
	}
	if _, own := slices.BinarySearch(w.s.ids, id); own {
		return false
	}
	f := w.s.future(id)
	if w.of == w.master && f != nil || w.of != w.master && f != w.of {
		return false
	}
	zone := w.x.zoneOf(w.of.start)
	i := instance{start: id + w.by, zone: zone, wall: wall, id: stamp{wall: wall, form: w.master.start.form}}
	switch {
	case w.master.start.tied():
		i.id = stamp{wall: id, form: formUTC}
		if !w.of.start.tied() {
			i.wall = zone.wall(i.start)
		}
	case w.of != w.master:
		i.wall += w.of.start.wall - w.of.id.wall
	}
	if r != nil && r.period && w.of == w.master {
		i.end, i.period = r.endOf(w.x.floating), true
	} else {
		i.end = w.of.endAt(zone.wall(i.start), w.x.floating)
	}
	return w.test(&i)
}
