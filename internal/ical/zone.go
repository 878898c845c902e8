package ical

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	_ "time/tzdata" // the server's own machine may have no zone files

	"holdfast"
)

// Zone tells local from universal time: an IANA zone or a VTIMEZONE. It may be used by several
// goroutines. The nil Zone is UTC.
type Zone struct {
	loc *time.Location // or
	vtz *vtimezone

	last atomic.Pointer[period] // the period used last
}

// period is a stretch of instants [from, to) with one offset. Seconds since 1970 UTC and seconds
// east of UTC; math.MinInt64 and MaxInt64 are unbounded.
type period struct {
	from, to, offset int64
}

// unix returns the instant at which a clock in the zone shows wall. RFC 5545, 3.3.5: a time that
// occurs twice is its first occurrence, one that does not occur is read with the offset before the
// gap. Offsets are less than a day.
func (z *Zone) unix(wall int64) int64 {
	if z == nil {
		return wall
	}
	if p := z.last.Load(); p != nil {
		u := wall - p.offset
		if u >= addSat(p.from, 2*day) && u < addSat(p.to, -2*day) {
			return u
		}
	}
	p := z.at(wall - day) // before every candidate
	for range 8 {         // more changes than that within two days are not a zone
		u := wall - p.offset
		if u < p.to {
			break
		}
		next := z.at(p.to)
		if wall-next.offset < p.to {
			break // in the gap
		}
		p = next
	}
	z.remember(p)
	return wall - p.offset
}

// wall is the inverse of unix.
func (z *Zone) wall(unix int64) int64 {
	if z == nil {
		return unix
	}
	if p := z.last.Load(); p != nil && unix >= p.from && unix < p.to {
		return unix + p.offset
	}
	p := z.at(unix)
	z.remember(p)
	return unix + p.offset
}

func (z *Zone) remember(p period) {
	if old := z.last.Load(); old == nil || *old != p {
		z.last.Store(&p)
	}
}

// at returns the period that holds the instant.
func (z *Zone) at(unix int64) period {
	if z.vtz != nil {
		return z.vtz.at(unix)
	}
	t := time.Unix(unix, 0).In(z.loc)
	_, offset := t.Zone()
	p := period{from: math.MinInt64, to: math.MaxInt64, offset: int64(offset)}
	from, to := t.ZoneBounds()
	if !from.IsZero() {
		p.from = from.Unix()
	}
	if !to.IsZero() {
		p.to = to.Unix()
	}
	return p
}

// zoneCache keeps zones by name, the unknown ones too. Both are bounded.
var zoneCache struct {
	sync.RWMutex
	zones   map[string]*Zone
	unknown int
}

const (
	maxZoneName     = 64
	maxUnknownZones = 1000
)

// LoadZone returns the zone of an IANA name. The error wraps holdfast.ErrNotFound.
func LoadZone(name string) (*Zone, error) {
	if z := loadZone(name); z != nil {
		return z, nil
	}
	return nil, fmt.Errorf("load time zone %.64q: %w", name, holdfast.ErrNotFound)
}

func loadZone(name string) *Zone {
	if name == "" || name == "Local" || len(name) > maxZoneName {
		return nil
	}
	zoneCache.RLock()
	z, ok := zoneCache.zones[name]
	full := zoneCache.unknown >= maxUnknownZones
	zoneCache.RUnlock()
	if ok {
		return z
	}
	loc, err := time.LoadLocation(name)
	if err == nil {
		z = &Zone{loc: loc}
	} else if full {
		return nil
	}
	zoneCache.Lock()
	defer zoneCache.Unlock()
	if zoneCache.zones == nil {
		zoneCache.zones = make(map[string]*Zone)
	}
	if known := zoneCache.zones[name]; known != nil {
		return known
	}
	zoneCache.zones[strings.Clone(name)] = z
	if z == nil {
		zoneCache.unknown++
	}
	return z
}

// zoneByName finds an IANA zone for a TZID that may have a prefix, as in
// "/freeassociation.sourceforge.net/Europe/Berlin".
func zoneByName(tzid string) *Zone {
	if z := loadZone(strings.TrimPrefix(tzid, "/")); z != nil {
		return z
	}
	parts := strings.Split(tzid, "/")
	if len(tzid) > 256 || len(parts) < 3 {
		return nil
	}
	for n := 3; n >= 2; n-- { // America/Argentina/Ushuaia, Europe/Berlin
		if len(parts) > n {
			if z := loadZone(strings.Join(parts[len(parts)-n:], "/")); z != nil {
				return z
			}
		}
	}
	return nil
}

// zone returns the zone a TZID means in this object: its VTIMEZONE, else the IANA zone of that name,
// else nil.
func (o *Object) zone(tzid string) *Zone {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.zones == nil {
		o.zones = make(map[string]*Zone)
		o.ownZones()
	}
	z, ok := o.zones[tzid]
	if !ok && o.misses < maxMisses {
		if z = zoneByName(tzid); z == nil {
			o.misses++
		}
		o.zones[tzid] = z
	}
	return z
}

// maxMisses is how many names of no zone are looked up for one object: each costs a search of the
// time zone database. Real objects have one or two.
const maxMisses = 200

// ownZones reads the VTIMEZONEs of the object.
func (o *Object) ownZones() {
	for _, c := range o.Calendar.Children {
		if c.Name != "VTIMEZONE" {
			continue
		}
		tzid := c.property("TZID")
		if tzid == "" || o.zones[tzid] != nil {
			continue
		}
		if v := newVTimezone(c); v != nil {
			o.zones[tzid] = &Zone{vtz: v}
		}
	}
}

// ParseZone returns the zone of the first VTIMEZONE of an iCalendar object, as in
// CALDAV:calendar-timezone and CALDAV:timezone (RFC 4791, 5.2.2 and 9.8). The error wraps
// holdfast.ErrInvalid.
func ParseZone(body []byte) (*Zone, error) {
	o, err := Parse(body)
	if err != nil {
		return nil, err
	}
	for _, c := range o.Calendar.Children {
		if c.Name != "VTIMEZONE" {
			continue
		}
		if z := o.zone(c.property("TZID")); z != nil {
			return z, nil
		}
		if v := newVTimezone(c); v != nil {
			return &Zone{vtz: v}, nil
		}
	}
	return nil, fmt.Errorf("parse time zone: no usable VTIMEZONE: %w", holdfast.ErrInvalid)
}
