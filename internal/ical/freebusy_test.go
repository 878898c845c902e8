package ical

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func freeBusy(t *testing.T, start, end string, bodies ...string) string {
	t.Helper()
	f := NewFreeBusy(TimeRange{at(t, start), at(t, end)})
	for _, b := range bodies {
		o, err := Parse([]byte(cal(b)))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Add(o, berlin(t)); err != nil {
			t.Fatal(err)
		}
	}
	var out []string
	for line := range strings.Lines(string(f.Append(nil, time.Unix(0, 0)))) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "FREEBUSY;FBTYPE="); ok {
			out = append(out, v)
		}
	}
	return strings.Join(out, " ")
}

func TestFreeBusy(t *testing.T) {
	for name, c := range map[string]struct {
		bodies []string
		want   string
	}{
		"nothing":     {nil, ""},
		"one":         {[]string{event("DTSTART:20260310T100000Z\nDURATION:PT1H")}, "BUSY:20260310T100000Z/20260310T110000Z"},
		"transparent": {[]string{event("TRANSP:transparent\nDTSTART:20260310T100000Z\nDURATION:PT1H")}, ""},
		"cancelled":   {[]string{event("STATUS:CANCELLED\nDTSTART:20260310T100000Z\nDURATION:PT1H")}, ""},
		"tentative":   {[]string{event("STATUS:tentative\nDTSTART:20260310T100000Z\nDURATION:PT1H")}, "BUSY-TENTATIVE:20260310T100000Z/20260310T110000Z"},
		"merged": {
			[]string{
				event("DTSTART:20260310T100000Z\nDURATION:PT1H"), event("DTSTART:20260310T103000Z\nDURATION:PT1H"), event("DTSTART:20260310T113000Z\nDURATION:PT1H"),
				event("STATUS:TENTATIVE\nDTSTART:20260310T110000Z\nDURATION:PT1H"),
			},
			"BUSY:20260310T100000Z/20260310T123000Z BUSY-TENTATIVE:20260310T110000Z/20260310T120000Z",
		},
		"cut to the range": {[]string{event("DTSTART:20260309T230000Z\nDTEND:20260311T010000Z")}, "BUSY:20260310T000000Z/20260311T000000Z"},
		"recurring, one moved, one cancelled": {
			[]string{event("DTSTART:20260301T100000Z\nDURATION:PT1H\nRRULE:FREQ=HOURLY;INTERVAL=8") +
				event("RECURRENCE-ID:20260310T100000Z\nDTSTART:20260310T140000Z\nDURATION:PT1H") + event("RECURRENCE-ID:20260310T180000Z\nSTATUS:CANCELLED\nDTSTART:20260310T180000Z\nDURATION:PT1H")},
			"BUSY:20260310T020000Z/20260310T030000Z BUSY:20260310T140000Z/20260310T150000Z",
		},
		"a day is a day in its zone": {[]string{event("DTSTART;VALUE=DATE:20260310")}, "BUSY:20260310T000000Z/20260310T230000Z"},
		"no time":                    {[]string{event("DTSTART:20260310T100000Z")}, ""},
		"stored": {
			[]string{comp("VFREEBUSY", "FREEBUSY:20260310T100000Z/PT1H,20260310T110000Z/20260310T120000Z\nFREEBUSY;FBTYPE=FREE:20260310T150000Z/PT1H\nFREEBUSY;FBTYPE=BUSY-UNAVAILABLE:20260310T180000Z/PT1H\nFREEBUSY;FBTYPE=X-ODD:20260310T200000Z/PT1H")},
			"BUSY:20260310T100000Z/20260310T120000Z BUSY:20260310T200000Z/20260310T210000Z BUSY-UNAVAILABLE:20260310T180000Z/20260310T190000Z",
		},
		"a to-do":       {[]string{comp("VTODO", "DTSTART:20260310T100000Z\nDUE:20260310T120000Z")}, ""},
		"a broken rule": {[]string{event("DTSTART:20260310T100000Z\nDURATION:PT1H\nRRULE:FREQ=NEVER")}, "BUSY:20260310T100000Z/20260310T110000Z"},
		"more steps than allowed": {[]string{event("DTSTART:20260310T000000Z\nDURATION:PT1S\nRRULE:FREQ=SECONDLY;INTERVAL=2\nRDATE:20260309T000000Z") +
			event("RECURRENCE-ID:20260310T000000Z\nDTSTART:20260301T000000Z\nTRANSP:TRANSPARENT\nDURATION:PT1S")}, "many"},
	} {
		got := freeBusy(t, "20260310T000000", "20260311T000000", c.bodies...)
		if c.want == "many" {
			if strings.Count(got, "BUSY:") < 39_000 {
				t.Errorf("%s: %d periods", name, strings.Count(got, "BUSY:"))
			}
			continue
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
	// Where the steps end, to say "free" could be wrong.
	if got := freeBusy(t, "20260310T000000", "20360311T000000", event("DTSTART:20260310T000000Z\nDURATION:PT1S\nRRULE:FREQ=SECONDLY")); got != "BUSY:20260310T000000Z/20360311T000000Z" {
		t.Errorf("every second: got %q", got)
	}
	f := NewFreeBusy(TimeRange{0, 1 << 40})
	var err error
	for i := 0; i < 20 && err == nil; i++ {
		o, perr := Parse([]byte(cal(event(fmt.Sprintf("DTSTART:20260310T0000%02dZ\nDURATION:PT1S\nRRULE:FREQ=MINUTELY;COUNT=4000", 2*i)))))
		if perr != nil {
			t.Fatal(perr)
		}
		err = f.Add(o, nil)
	}
	if !errors.Is(err, ErrTooMany) {
		t.Errorf("80,000 periods: got %v", err)
	}
}
