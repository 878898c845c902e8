package ical

import (
	"bytes"
	"errors"
	"fmt"

	"holdfast/internal/contentline"
)

// MaxAttendees is how many ATTENDEE properties one component may have (RFC 4791, 5.2.9).
const MaxAttendees = 10_000

// MinTime is the first instant of year 1: iCalendar has no year before (RFC 4791, 5.2.6).
const MinTime = -719162 * day

// ErrTooManyAttendees says that a component has more than MaxAttendees.
var ErrTooManyAttendees = errors.New("too many attendees")

// CheckLimits returns an error wrapping ErrTooMany or ErrTooManyAttendees for an object beyond what a
// calendar announces. Rules that are bounded by time or not at all are no matter here: an expansion is
// bounded anyhow. An object of ordinary size costs one search for "COUNT".
func (o *Object) CheckLimits() error {
	large := len(o.body) > MaxAttendees*len("RDATE")
	if !large && !bytes.Contains(o.body, []byte("COUNT=")) && !bytes.Contains(o.body, []byte("count=")) {
		return nil
	}
	instances := 0
	for _, c := range o.Calendar.Children {
		t := o.timesOf(c)
		for _, r := range t.rules {
			instances += int(r.count)
		}
		if instances += len(t.rdates); t.id.ok() {
			instances++
		}
		if instances > MaxInstances {
			return fmt.Errorf("more than %d instances: %w", MaxInstances, ErrTooMany)
		}
		attendees := 0
		if large {
			c.Each(func(l *contentline.Line) bool {
				if l.Is("ATTENDEE") {
					attendees++
				}
				return attendees <= MaxAttendees
			})
		}
		if attendees > MaxAttendees {
			return fmt.Errorf("more than %d attendees: %w", MaxAttendees, ErrTooManyAttendees)
		}
	}
	return nil
}

// HasZone reports whether body is an iCalendar object with a VTIMEZONE, as CALDAV:calendar-timezone must
// be (RFC 4791, 5.2.2), whether or not its rules can be used here.
func HasZone(body []byte) bool {
	o, err := Parse(body)
	if err != nil {
		return false
	}
	for _, c := range o.Calendar.Children {
		if c.Name == "VTIMEZONE" {
			return true
		}
	}
	return false
}
