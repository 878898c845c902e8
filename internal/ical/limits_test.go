package ical

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestCheckLimits(t *testing.T) {
	attendees := func(n int) string { return "DTSTART:20260310T100000Z" + strings.Repeat("\nATTENDEE:x", n) }
	for name, c := range map[string]struct {
		body string
		want error
	}{
		"ordinary":              {event("DTSTART:20260310T100000Z\nRRULE:FREQ=DAILY;COUNT=10"), nil},
		"for ever":              {event("DTSTART:20260310T100000Z\nRRULE:FREQ=DAILY"), nil},
		"until":                 {event("DTSTART:20260310T100000Z\nRRULE:FREQ=SECONDLY;UNTIL=20990101T000000Z"), nil},
		"most instances":        {event(fmt.Sprintf("DTSTART:20260310T100000Z\nRRULE:FREQ=DAILY;COUNT=%d", MaxInstances)), nil},
		"one instance too many": {event(fmt.Sprintf("DTSTART:20260310T100000Z\nRRULE:FREQ=DAILY;COUNT=%d", MaxInstances+1)), ErrTooMany},
		"lower case":            {event(fmt.Sprintf("DTSTART:20260310T100000Z\nRRULE:freq=daily;count=%d", MaxInstances+1)), ErrTooMany},
		"dates":                 {event("DTSTART:20260310T100000Z\nRDATE;VALUE=DATE:" + strings.Repeat("20260101,", MaxInstances) + "20260102"), ErrTooMany},
		"most attendees":        {event(attendees(MaxAttendees)), nil},
		"one attendee too many": {event(attendees(MaxAttendees + 1)), ErrTooManyAttendees},
		"in two instances":      {event(attendees(MaxAttendees-1)) + event("RECURRENCE-ID:20260310T100000Z\n"+attendees(MaxAttendees-1)), nil},
	} {
		o, err := Parse([]byte(cal(c.body)))
		if err != nil {
			t.Fatal(err)
		}
		if err := o.CheckLimits(); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	if got := time.Unix(MinTime, 0).UTC().Format(time.RFC3339); got != "0001-01-01T00:00:00Z" {
		t.Errorf("MinTime is %s", got)
	}
}

func TestHasZone(t *testing.T) {
	for body, want := range map[string]bool{cal(newYork): true, cal(event("DTSTART:20260310T100000Z")): false, "x": false, cal("BEGIN:VTIMEZONE\nTZID:odd\nEND:VTIMEZONE"): true} {
		if got := HasZone([]byte(body)); got != want {
			t.Errorf("%q: got %v", body, got)
		}
	}
}
