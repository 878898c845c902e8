package ical

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"holdfast/internal/contentline"
)

const newYork = `BEGIN:VTIMEZONE
TZID:Own/New_York
BEGIN:DAYLIGHT
TZOFFSETFROM:-0500
TZOFFSETTO:-0400
DTSTART:20070311T020000
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=2SU
END:DAYLIGHT
BEGIN:STANDARD
TZOFFSETFROM:-0400
TZOFFSETTO:-0500
DTSTART:20071104T020000
RRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=1SU
END:STANDARD
END:VTIMEZONE
`

func cal(in string) string {
	return "BEGIN:VCALENDAR\r\nVERSION:2.0\r\n" + strings.TrimRight(in, "\n") + "\r\nEND:VCALENDAR\r\n"
}

func comp(name, in string) string {
	return "BEGIN:" + name + "\nUID:u1\n" + in + "\nEND:" + name + "\n"
}

func event(in string) string { return comp("VEVENT", in) }

func at(t *testing.T, s string) int64 {
	t.Helper()
	switch s {
	case "-":
		return math.MinInt64
	case "+":
		return math.MaxInt64
	}
	w, _, _, ok := parseWall([]byte(s))
	if !ok {
		t.Fatalf("time %q", s)
	}
	return w
}

func match(t *testing.T, f *Filter, body string) bool {
	t.Helper()
	o, err := Parse([]byte(body))
	if err != nil {
		t.Fatalf("parse %q: %v", body, err)
	}
	got, err := f.Match(o)
	if err != nil {
		t.Fatalf("match: %v", err)
	}
	start, end := f.Window()
	if first, last := o.Bounds(); got && (last < start || first > end) {
		t.Errorf("matches outside its bounds %v..%v: range %v..%v\n%s", time.Unix(first, 0).UTC(), time.Unix(last, 0).UTC(), time.Unix(start, 0).UTC(), time.Unix(end, 0).UTC(), body)
	}
	return got
}

func rangeFilter(t *testing.T, start, end string, path ...string) *Filter {
	t.Helper()
	c := CompFilter{Name: path[len(path)-1], TimeRange: &TimeRange{at(t, start), at(t, end)}}
	for i := len(path) - 2; i >= 0; i-- {
		c = CompFilter{Name: path[i], Comps: []CompFilter{c}}
	}
	return &Filter{Comp: CompFilter{Name: "VCALENDAR", Comps: []CompFilter{c}}}
}

// TestTables walks the tables of RFC 4791, 9.9, each border from both sides.
func TestTables(t *testing.T) {
	const d = "20260310T"
	for _, c := range []struct {
		comp, body, start, end string
		want                   bool
	}{
		// VEVENT with DTEND
		{"VEVENT", "DTSTART:" + d + "100000Z\nDTEND:" + d + "110000Z", d + "110000", d + "120000", false},
		{"VEVENT", "DTSTART:" + d + "100000Z\nDTEND:" + d + "110000Z", d + "105959", d + "120000", true},
		{"VEVENT", "DTSTART:" + d + "100000Z\nDTEND:" + d + "110000Z", d + "090000", d + "100000", false},
		{"VEVENT", "DTSTART:" + d + "100000Z\nDTEND:" + d + "110000Z", d + "090000", d + "100001", true},
		{"VEVENT", "DTSTART:" + d + "100000Z\nDTEND:" + d + "110000Z", "-", d + "100001", true},
		{"VEVENT", "DTSTART:" + d + "100000Z\nDTEND:" + d + "110000Z", d + "105959", "+", true},
		{"VEVENT", "DTSTART:" + d + "100000Z\nDTEND:" + d + "110000Z", d + "110000", "+", false},
		// with DURATION
		{"VEVENT", "DTSTART:" + d + "100000Z\nDURATION:PT1H", d + "110000", d + "120000", false},
		{"VEVENT", "DTSTART:" + d + "100000Z\nDURATION:PT1H", d + "105959", d + "120000", true},
		{"VEVENT", "DTSTART:" + d + "100000Z\nDURATION:PT0S", d + "100000", d + "120000", true},
		{"VEVENT", "DTSTART:" + d + "100000Z\nDURATION:PT0S", d + "090000", d + "100000", false},
		{"VEVENT", "DTSTART:" + d + "100000Z\nDURATION:PT0S", d + "100001", d + "120000", false},
		// with neither
		{"VEVENT", "DTSTART:" + d + "100000Z", d + "100000", d + "100001", true},
		{"VEVENT", "DTSTART:" + d + "100000Z", d + "100001", d + "120000", false},
		{"VEVENT", "DTSTART;VALUE=DATE:20260310", "20260310T235959", "20260312T000000", true},
		{"VEVENT", "DTSTART;VALUE=DATE:20260310", "20260311T000000", "20260312T000000", false},
		{"VEVENT", "DTSTART;VALUE=DATE:20260310", "20260309T000000", "20260310T000000", false},
		{"VEVENT", "DTSTART;VALUE=DATE:20260310\nDTEND;VALUE=DATE:20260312", "20260311T235959", "20260313T000000", true},
		{"VEVENT", "DTSTART;VALUE=DATE:20260310\nDTEND;VALUE=DATE:20260312", "20260312T000000", "20260313T000000", false},
		{"VEVENT", "SUMMARY:no start", d + "000000", "+", false},
		{"VEVENT", "DTSTART:broken", d + "000000", "+", true},
		// VTODO
		{"VTODO", "DTSTART:" + d + "100000Z\nDURATION:PT1H", d + "110000", d + "120000", true},
		{"VTODO", "DTSTART:" + d + "100000Z\nDURATION:PT1H", d + "110001", d + "120000", false},
		{"VTODO", "DTSTART:" + d + "100000Z\nDUE:" + d + "110000Z", d + "110000", d + "120000", false},
		{"VTODO", "DTSTART:" + d + "100000Z\nDUE:" + d + "110000Z", d + "105959", d + "120000", true},
		{"VTODO", "DTSTART:" + d + "100000Z\nDUE:" + d + "100000Z", d + "100000", d + "120000", true},
		{"VTODO", "DTSTART:" + d + "100000Z\nDUE:" + d + "100000Z", d + "090000", d + "100000", true},
		{"VTODO", "DTSTART:" + d + "100000Z", d + "100000", d + "100001", true},
		{"VTODO", "DTSTART:" + d + "100000Z", d + "090000", d + "100000", false},
		{"VTODO", "DUE:" + d + "100000Z", d + "090000", d + "100000", true},
		{"VTODO", "DUE:" + d + "100000Z", d + "100000", d + "110000", false},
		{"VTODO", "COMPLETED:" + d + "100000Z\nCREATED:" + d + "080000Z", d + "085959", d + "093000", true},
		{"VTODO", "COMPLETED:" + d + "100000Z\nCREATED:" + d + "080000Z", d + "100001", d + "110000", false},
		{"VTODO", "COMPLETED:" + d + "100000Z\nCREATED:" + d + "080000Z", d + "060000", d + "075959", false},
		{"VTODO", "COMPLETED:" + d + "100000Z", d + "100000", d + "110000", true},
		{"VTODO", "COMPLETED:" + d + "100000Z", d + "090000", d + "100000", true},
		{"VTODO", "COMPLETED:" + d + "100000Z", d + "100001", d + "110000", false},
		{"VTODO", "CREATED:" + d + "100000Z", d + "090000", d + "100000", false},
		{"VTODO", "CREATED:" + d + "100000Z", "20990101T000000", "+", true},
		{"VTODO", "SUMMARY:whenever", d + "090000", d + "100000", true},
		// VJOURNAL
		{"VJOURNAL", "DTSTART:" + d + "100000Z", d + "100000", d + "100001", true},
		{"VJOURNAL", "DTSTART:" + d + "100000Z", d + "100001", "+", false},
		{"VJOURNAL", "DTSTART;VALUE=DATE:20260310", "20260310T235959", "+", true},
		{"VJOURNAL", "DTSTART;VALUE=DATE:20260310", "20260311T000000", "+", false},
		{"VJOURNAL", "SUMMARY:x", "-", d + "100000", false},
		// VFREEBUSY
		{"VFREEBUSY", "DTSTART:" + d + "100000Z\nDTEND:" + d + "110000Z", d + "110000", d + "120000", true},
		{"VFREEBUSY", "DTSTART:" + d + "100000Z\nDTEND:" + d + "110000Z", d + "110001", d + "120000", false},
		{"VFREEBUSY", "FREEBUSY:" + d + "100000Z/PT1H," + d + "150000Z/" + d + "160000Z", d + "110000", d + "150000", false},
		{"VFREEBUSY", "FREEBUSY:" + d + "100000Z/PT1H," + d + "150000Z/" + d + "160000Z", d + "110000", d + "150001", true},
		{"VFREEBUSY", "COMMENT:x", "-", d + "150001", false},
	} {
		f := rangeFilter(t, c.start, c.end, c.comp)
		if got := match(t, f, cal(comp(c.comp, c.body))); got != c.want {
			t.Errorf("%s %q in %s..%s: got %v", c.comp, c.body, c.start, c.end, got)
		}
	}
}

func TestAlarms(t *testing.T) {
	alarm := func(trigger string) string {
		return cal(event("DTSTART:20260310T100000Z\nDTEND:20260310T110000Z\nRRULE:FREQ=DAILY;COUNT=5\nBEGIN:VALARM\nACTION:AUDIO\n" + trigger + "\nEND:VALARM"))
	}
	for _, c := range []struct {
		trigger, start, end string
		want                bool
	}{
		{"TRIGGER:-PT15M", "20260310T094500", "20260310T094501", true},
		{"TRIGGER:-PT15M", "20260310T094501", "20260311T094500", false},
		{"TRIGGER:-PT15M", "20260314T094500", "20260314T094501", true},
		{"TRIGGER:-PT15M", "20260314T094501", "20270314T094501", false},
		{"TRIGGER;RELATED=END:PT5M", "20260312T110500", "20260312T110501", true},
		{"TRIGGER:-P30D", "20260208T100000", "20260208T100001", true},
		{"TRIGGER;VALUE=DATE-TIME:20250101T000000Z", "20250101T000000", "20250101T000001", true},
		{"TRIGGER;VALUE=DATE-TIME:20250101T000000Z", "20260310T000000", "20260311T000001", false},
		{"TRIGGER:PT0S\nREPEAT:3\nDURATION:PT2H", "20260314T160000", "20260314T160001", true},
		{"TRIGGER:PT0S\nREPEAT:3\nDURATION:PT2H", "20260314T160001", "20260314T190001", false},
		{"TRIGGER:PT0S\nREPEAT:999999999\nDURATION:P1D", "20460314T100000", "20460314T100001", true},
		{"TRIGGER:nonsense", "20260310T000000", "20260312T000000", false},
	} {
		f := rangeFilter(t, c.start, c.end, "VEVENT", "VALARM")
		if got := match(t, f, alarm(c.trigger)); got != c.want {
			t.Errorf("%q in %s..%s: got %v", c.trigger, c.start, c.end, got)
		}
	}
	f := rangeFilter(t, "20260310T100000", "20260310T100001", "VTODO", "VALARM")
	if !match(t, f, cal(comp("VTODO", "DUE:20260310T110000Z\nBEGIN:VALARM\nTRIGGER;RELATED=END:-PT1H\nEND:VALARM"))) {
		t.Error("alarm before DUE")
	}
}

func TestRecurrence(t *testing.T) {
	weekly := "DTSTART;TZID=Own/New_York:20260302T090000\nDTEND;TZID=Own/New_York:20260302T100000\nRRULE:FREQ=WEEKLY;COUNT=5\n"
	for name, c := range map[string]struct {
		body, start, end string
		want             bool
	}{
		"after DST, in summer time":    {event(weekly), "20260309T130000", "20260309T140000", true},
		"not in winter time":           {event(weekly), "20260309T140000", "20260309T150000", false},
		"last of five":                 {event(weekly), "20260330T130000", "20260330T130001", true},
		"after the last":               {event(weekly), "20260330T140000", "+", false},
		"excluded":                     {event(weekly + "EXDATE;TZID=Own/New_York:20260309T090000"), "20260309T130000", "20260309T140000", false},
		"excluded in UTC":              {event(weekly + "EXDATE:20260309T130000Z"), "20260309T130000", "20260309T140000", false},
		"extra":                        {event(weekly + "RDATE;TZID=Own/New_York:20260501T090000"), "20260501T133000", "20260501T134000", true},
		"extra period":                 {event(weekly + "RDATE;VALUE=PERIOD:20260501T090000Z/PT8H"), "20260501T163000", "20260501T163001", true},
		"moved away":                   {event(weekly) + event("RECURRENCE-ID;TZID=Own/New_York:20260309T090000\nDTSTART:20260310T200000Z\nDTEND:20260310T210000Z"), "20260309T130000", "20260309T140000", false},
		"moved to":                     {event(weekly) + event("RECURRENCE-ID:20260309T130000Z\nDTSTART:20260310T200000Z\nDTEND:20260310T210000Z"), "20260310T200000", "20260310T200001", true},
		"override without its master":  {event("RECURRENCE-ID:20260309T130000Z\nDTSTART:20260310T200000Z\nDTEND:20260310T210000Z"), "20260310T200000", "20260310T200001", true},
		"this and future: own":         {event(weekly) + event("RECURRENCE-ID;RANGE=THISANDFUTURE:20260316T130000Z\nDTSTART:20260316T180000Z\nDTEND:20260316T183000Z"), "20260316T180000", "20260316T180001", true},
		"this and future: later":       {event(weekly) + event("RECURRENCE-ID;RANGE=THISANDFUTURE:20260316T130000Z\nDTSTART:20260316T180000Z\nDTEND:20260316T183000Z"), "20260323T181500", "20260323T181501", true},
		"this and future: later, old":  {event(weekly) + event("RECURRENCE-ID;RANGE=THISANDFUTURE:20260316T130000Z\nDTSTART:20260316T180000Z\nDTEND:20260316T183000Z"), "20260323T130000", "20260323T140000", false},
		"this and future: before":      {event(weekly) + event("RECURRENCE-ID;RANGE=THISANDFUTURE:20260316T130000Z\nDTSTART:20260316T180000Z\nDTEND:20260316T183000Z"), "20260309T130000", "20260309T140000", true},
		"gap is shifted":               {event("DTSTART;TZID=Own/New_York:20260307T023000\nDURATION:PT10M\nRRULE:FREQ=DAILY;COUNT=3"), "20260308T073000", "20260308T074000", true},
		"gap: not an hour before":      {event("DTSTART;TZID=Own/New_York:20260307T023000\nDURATION:PT10M\nRRULE:FREQ=DAILY;COUNT=3"), "20260308T063000", "20260308T064000", false},
		"UNTIL in UTC, local start":    {event("DTSTART;TZID=Own/New_York:20260302T200000\nRRULE:FREQ=DAILY;UNTIL=20260305T010000Z"), "20260305T010000", "20260305T010001", true},
		"UNTIL one second short":       {event("DTSTART;TZID=Own/New_York:20260302T200000\nRRULE:FREQ=DAILY;UNTIL=20260305T005959Z"), "20260305T010000", "20260305T010001", false},
		"birthday":                     {event("DTSTART;VALUE=DATE:19700310\nRRULE:FREQ=YEARLY"), "20260310T120000", "20260310T130000", true},
		"every second from 1970":       {event("DTSTART:19700101T000000Z\nDURATION:PT1S\nRRULE:FREQ=SECONDLY"), "20260310T120000", "20260310T120001", true},
		"every second, counted":        {event("DTSTART:19700101T000000Z\nDURATION:PT1S\nRRULE:FREQ=SECONDLY;COUNT=100"), "20260310T120000", "20260310T120001", false},
		"a day that never comes":       {event("DTSTART:19700101T000000Z\nRRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"), "20260310T120000", "20260410T120001", false},
		"a second that never comes":    {event("DTSTART:19700101T000000Z\nRRULE:FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30"), "20260310T120000", "20260410T120001", false},
		"in doubt":                     {event("DTSTART:19700101T000000Z\nRRULE:FREQ=FORTNIGHTLY"), "20260310T120000", "20260410T120001", true},
		"beyond the budget":            {event("DTSTART:19700101T000000Z\nRRULE:FREQ=SECONDLY;BYSECOND=0,1;COUNT=99999999"), "20260310T120000", "20260410T120001", true},
		"long event that began before": {event("DTSTART:20260101T000000Z\nDURATION:P20D\nRRULE:FREQ=MONTHLY"), "20260320T000000", "20260320T120000", true},
		"unknown zone floats":          {event("DTSTART;TZID=No/Where:20260310T120000\nDURATION:PT1H"), "20260310T120000", "20260310T120001", true},
		"weekdays for ever":            {event("DTSTART:20000103T080000Z\nDURATION:PT1H\nRRULE:FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR"), "20260314T000000", "20260316T000000", false},
	} {
		f := rangeFilter(t, c.start, c.end, "VEVENT")
		began := time.Now()
		if got := match(t, f, cal(newYork+c.body)); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}

func TestFilterZone(t *testing.T) {
	f := rangeFilter(t, "20260310T040000", "20260310T041500", "VEVENT")
	body := cal(event("DTSTART;VALUE=DATE:20260309"))
	if match(t, f, body) {
		t.Error("a day in UTC ends at midnight UTC")
	}
	f.Zone, _ = ParseZone([]byte(cal(newYork)))
	if match(t, f, body) { // midnight EDT
		t.Error("a day in New York ends at 04:00 UTC")
	}
	f = rangeFilter(t, "20260310T033000", "20260310T041500", "VEVENT")
	f.Zone, _ = ParseZone([]byte(cal(newYork)))
	if !match(t, f, body) {
		t.Error("a day in New York ends at 04:00 UTC, not before")
	}
}

func TestFilterParts(t *testing.T) {
	body := cal(event("SUMMARY;LANGUAGE=en:Meeting\\, Test Person 1\nATTENDEE;PARTSTAT=NEEDS-ACTION;CN=\"Person, Test 2\":mailto:two@example.com\nATTENDEE;PARTSTAT=ACCEPTED:mailto:three@example.com\nDTSTART:20260310T100000Z\nDURATION:PT1H\nBEGIN:VALARM\nACTION:DISPLAY\nSUMMARY:inner\nEND:VALARM"))
	yes, no := true, false
	for name, c := range map[string]struct {
		f    CompFilter
		want bool
	}{
		"defined":                 {CompFilter{Name: "vevent"}, yes},
		"other":                   {CompFilter{Name: "VTODO"}, no},
		"not defined":             {CompFilter{Name: "VTODO", IsNotDefined: true}, yes},
		"not defined, but is":     {CompFilter{Name: "VEVENT", IsNotDefined: true}, no},
		"alarm":                   {CompFilter{Name: "VEVENT", Comps: []CompFilter{{Name: "VALARM"}}}, yes},
		"no alarm":                {CompFilter{Name: "VEVENT", Comps: []CompFilter{{Name: "VALARM", IsNotDefined: true}}}, no},
		"prop defined":            {CompFilter{Name: "VEVENT", Props: []PropFilter{{Name: "summary"}}}, yes},
		"prop of alarm only":      {CompFilter{Name: "VEVENT", Props: []PropFilter{{Name: "ACTION"}}}, no},
		"prop not defined":        {CompFilter{Name: "VEVENT", Props: []PropFilter{{Name: "LOCATION", IsNotDefined: true}}}, yes},
		"prop not defined, is":    {CompFilter{Name: "VEVENT", Props: []PropFilter{{Name: "SUMMARY", IsNotDefined: true}}}, no},
		"text":                    {CompFilter{Name: "VEVENT", Props: []PropFilter{{Name: "SUMMARY", Text: &TextMatch{Text: "meeting, test"}}}}, yes},
		"text octet":              {CompFilter{Name: "VEVENT", Props: []PropFilter{{Name: "SUMMARY", Text: &TextMatch{Text: "meeting", Collation: "i;octet"}}}}, no},
		"text negated":            {CompFilter{Name: "VEVENT", Props: []PropFilter{{Name: "SUMMARY", Text: &TextMatch{Text: "lunch", Negate: true}}}}, yes},
		"text negated, there":     {CompFilter{Name: "VEVENT", Props: []PropFilter{{Name: "SUMMARY", Text: &TextMatch{Text: "MEETING", Negate: true}}}}, no},
		"text negated, no prop":   {CompFilter{Name: "VEVENT", Props: []PropFilter{{Name: "LOCATION", Text: &TextMatch{Text: "x", Negate: true}}}}, no},
		"one attendee, both":      {CompFilter{Name: "VEVENT", Props: []PropFilter{{Name: "ATTENDEE", Text: &TextMatch{Text: "two@"}, Params: []ParamFilter{{Name: "PARTSTAT", Text: &TextMatch{Text: "needs-action"}}}}}}, yes},
		"conditions of two lines": {CompFilter{Name: "VEVENT", Props: []PropFilter{{Name: "ATTENDEE", Text: &TextMatch{Text: "three@"}, Params: []ParamFilter{{Name: "PARTSTAT", Text: &TextMatch{Text: "needs-action"}}}}}}, no},
		"param not defined":       {CompFilter{Name: "VEVENT", Props: []PropFilter{{Name: "ATTENDEE", Text: &TextMatch{Text: "three@"}, Params: []ParamFilter{{Name: "CN", IsNotDefined: true}}}}}, yes},
		"param with comma":        {CompFilter{Name: "VEVENT", Props: []PropFilter{{Name: "ATTENDEE", Params: []ParamFilter{{Name: "CN", Text: &TextMatch{Text: "person, test"}}}}}}, yes},
		"prop in range":           {CompFilter{Name: "VEVENT", Props: []PropFilter{{Name: "DTSTART", TimeRange: &TimeRange{at(t, "20260310T100000"), at(t, "20260310T100001")}}}}, yes},
		"prop not in range":       {CompFilter{Name: "VEVENT", Props: []PropFilter{{Name: "DTSTART", TimeRange: &TimeRange{at(t, "20260310T100001"), math.MaxInt64}}}}, no},
		"effective DTEND":         {CompFilter{Name: "VEVENT", Props: []PropFilter{{Name: "DTEND", TimeRange: &TimeRange{at(t, "20260310T110000"), at(t, "20260310T110001")}}}}, yes},
	} {
		f := &Filter{Comp: CompFilter{Name: "VCALENDAR", Comps: []CompFilter{c.f}}}
		if got := match(t, f, body); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestUnsupported(t *testing.T) {
	r := &TimeRange{0, 1}
	o, err := Parse([]byte(cal(event("SUMMARY:x"))))
	if err != nil {
		t.Fatal(err)
	}
	deep := CompFilter{Name: "X"}
	for range 20 {
		deep = CompFilter{Name: "X", Comps: []CompFilter{deep}}
	}
	text := func(m TextMatch) CompFilter {
		return CompFilter{Name: "VEVENT", Props: []PropFilter{{Name: "SUMMARY", Text: &m}}}
	}
	for i, c := range []struct {
		f    CompFilter
		want error
	}{
		{CompFilter{Name: "VTIMEZONE", TimeRange: r}, ErrUnsupportedFilter},
		{CompFilter{Name: "VALARM", TimeRange: r}, ErrUnsupportedFilter},
		{CompFilter{Name: "VEVENT", TimeRange: &TimeRange{1, 1}}, ErrUnsupportedFilter},
		{CompFilter{Name: "VEVENT", TimeRange: &TimeRange{math.MinInt64, math.MaxInt64}}, ErrUnsupportedFilter},
		{CompFilter{Name: "VEVENT", Props: []PropFilter{{Name: "SUMMARY", TimeRange: r}}}, ErrUnsupportedFilter},
		{CompFilter{Name: "VEVENT", Props: []PropFilter{{Name: ""}}}, ErrUnsupportedFilter},
		{CompFilter{Name: ""}, ErrUnsupportedFilter},
		{text(TextMatch{Text: "x", Type: "odd"}), ErrUnsupportedFilter},
		{text(TextMatch{Text: "x", Collation: "i;basic"}), ErrUnsupportedCollation},
		{deep, ErrUnsupportedFilter},
	} {
		f := &Filter{Comp: CompFilter{Name: "VCALENDAR", Comps: []CompFilter{c.f}}}
		if got, err := f.Match(o); got || !errors.Is(err, c.want) {
			t.Errorf("%d: got %v, %v; want %v", i, got, err, c.want)
		}
	}
}

func TestBounds(t *testing.T) {
	for _, c := range []struct{ body, first, last string }{
		{event("DTSTART:20260310T100000Z\nDTEND:20260310T110000Z"), "20260310T100000", "20260310T110000"},
		{event("DTSTART;VALUE=DATE:20260310"), "20260309T100000", "20260311T140000"},
		{event("DTSTART:20260310T100000Z\nRRULE:FREQ=DAILY"), "20260309T100000", "+"},
		{event("DTSTART:20260310T100000Z\nRRULE:FREQ=DAILY;COUNT=3"), "20260309T100000", "20260313T100000"},
		{event("SUMMARY:x"), "-", "+"},
		{comp("VTODO", "SUMMARY:x"), "-", "+"},
		{comp("VTODO", "CREATED:20260310T100000Z"), "20260310T100000", "+"},
		{comp("VTODO", "DUE:20260310T100000Z"), "20260310T100000", "20260310T100000"},
		{newYork, "-", "+"},
	} {
		o, err := Parse([]byte(cal(c.body)))
		if err != nil {
			t.Fatal(err)
		}
		if first, last := o.Bounds(); first != at(t, c.first) || last != at(t, c.last) {
			t.Errorf("%q: got %v..%v", c.body, time.Unix(first, 0).UTC(), time.Unix(last, 0).UTC())
		}
	}
}

func TestHostile(t *testing.T) {
	many := func(n int, s string) string { return strings.Repeat(s, n) }
	for name, body := range map[string]string{
		"seconds before UNTIL": newYork + event("DTSTART;TZID=Own/New_York:20260308T000000\nRRULE:FREQ=SECONDLY;UNTIL=20260309T000000Z\nEXDATE:20260308T000000"),
		"many hostile rules":   many(20000, event("DTSTART:19700101T000000Z\nRRULE:FREQ=SECONDLY;BYSECOND=0,1;COUNT=99999999")),
		"one with all times":   event("DTSTART:19700101T000000Z\nRRULE:FREQ=YEARLY;COUNT=99999;BYSECOND=" + list(60) + ";BYMINUTE=" + list(60) + ";BYHOUR=" + list(24)),
		"many exdates":         event("DTSTART:19700101T000000Z\nRRULE:FREQ=DAILY\nEXDATE:" + many(200000, "20260101T000000Z,") + "20260101T000000Z"),
		"many rdates":          event("DTSTART:19700101T000000Z\nRDATE:" + many(200000, "20260101T000000Z,") + "20260101T000000Z"),
		"many overrides":       event("DTSTART:19700101T000000Z\nRRULE:FREQ=DAILY") + many(20000, event("RECURRENCE-ID;RANGE=THISANDFUTURE:19800101T000000Z\nDTSTART:19800101T000000Z")),
		"many zones":           many(5000, newYork) + many(5000, event("DTSTART;TZID=X/Y:20200101T000000")),
		"many unknown zones": func() string {
			var b strings.Builder
			for i := range 5000 {
				b.WriteString(event(fmt.Sprintf("DTSTART;TZID=X/Y%d:20200101T000000", i)))
			}
			return b.String()
		}(),
		"zone of days":    "BEGIN:VTIMEZONE\nTZID:Z\nBEGIN:STANDARD\nDTSTART:19700101T000000\nTZOFFSETFROM:+0000\nTZOFFSETTO:+0100\nRRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=MO,TU,WE,TH,FR,SA,SU\n" + many(20, "RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=MO,TU,WE,TH,FR,SA,SU\n") + "END:STANDARD\nEND:VTIMEZONE\n" + event("DTSTART;TZID=Z:20200101T000000\nRRULE:FREQ=SECONDLY;UNTIL=20260311T000000Z;COUNT=99999999\nRDATE;TZID=Z:"+many(100000, "20260301T000000,20250201T000000,")+"20260301T000000"),
		"zone of seconds": "BEGIN:VTIMEZONE\nTZID:Z\nBEGIN:STANDARD\nDTSTART:19700101T000000\nTZOFFSETFROM:+0000\nTZOFFSETTO:+0100\nRRULE:FREQ=SECONDLY\nEND:STANDARD\nEND:VTIMEZONE\n" + event("DTSTART;TZID=Z:20200101T000000\nRRULE:FREQ=DAILY"),
	} {
		began := time.Now()
		o, err := Parse([]byte(cal(body)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		o.Bounds()
		f := rangeFilter(t, "20260310T120000", "20260310T120001", "VEVENT")
		if _, err := f.Match(o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
		t.Logf("%s: %v", name, time.Since(began))
	}
}

func list(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprint(&b, i)
	}
	return b.String()
}

// An object that names a new zone in each line costs a bounded number of searches of the database.
func TestManyZones(t *testing.T) {
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, "EXDATE;TZID=None%d:20260101T000000\r\n", i)
	}
	o, err := Parse([]byte("BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:u\r\nDTSTART;TZID=Europe/Berlin:20260101T000000\r\n" + b.String() + "END:VEVENT\r\nEND:VCALENDAR\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	o.Bounds()
	if o.misses != maxMisses || len(o.zones) > maxMisses+1 {
		t.Errorf("%d names looked up, %d remembered; want at most %d", o.misses, len(o.zones), maxMisses)
	}
	if o.zone("Europe/Berlin") == nil {
		t.Error("the zone that is one was lost")
	}
}

// FuzzMatch: no input makes Parse, Bounds or Match panic, or match outside its bounds.
func FuzzMatch(f *testing.F) {
	f.Add([]byte(cal(newYork + event("DTSTART;TZID=Own/New_York:20260302T090000\nDTEND;TZID=Own/New_York:20260302T100000\nRRULE:FREQ=WEEKLY;COUNT=5\nEXDATE:20260309T130000Z\nRDATE;VALUE=PERIOD:20260501T090000Z/PT8H\nBEGIN:VALARM\nTRIGGER:-PT15M\nREPEAT:2\nDURATION:PT5M\nEND:VALARM"))))
	f.Add([]byte(cal(event("DTSTART;VALUE=DATE:20260310\nRRULE:FREQ=YEARLY;BYDAY=-1SU;BYSETPOS=1") + event("RECURRENCE-ID;RANGE=THISANDFUTURE;VALUE=DATE:20260310\nDTSTART:20260311T000000"))))
	f.Add([]byte(cal(comp("VTODO", "DTSTART:20260310T100000\nDUE:20260311T100000Z\nCOMPLETED:20260310T000000Z\nCREATED:20260310T000000Z"))))
	f.Add([]byte(cal(comp("VFREEBUSY", "FREEBUSY:20260310T100000Z/PT1H"))))
	var filters []*Filter
	for _, path := range [][]string{{"VEVENT"}, {"VTODO"}, {"VJOURNAL"}, {"VFREEBUSY"}, {"VEVENT", "VALARM"}, {"VTODO", "VALARM"}} {
		c := CompFilter{Name: path[len(path)-1], TimeRange: &TimeRange{1773136800, 1773140400}}
		if len(path) == 2 {
			c = CompFilter{Name: path[0], Comps: []CompFilter{c}}
		}
		c.Props = []PropFilter{{Name: "X", IsNotDefined: true}}
		filters = append(filters, &Filter{Comp: CompFilter{Name: "VCALENDAR", Comps: []CompFilter{c}}})
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := Parse(body)
		if err != nil {
			return
		}
		first, last := o.Bounds()
		if first > last {
			t.Fatalf("bounds %d..%d", first, last)
		}
		for _, q := range filters {
			got, err := q.Match(o)
			if err != nil {
				t.Fatal(err)
			}
			start, end := q.Window()
			if got && (last < start || first > end) {
				t.Fatalf("matches outside its bounds %d..%d", first, last)
			}
		}
		r := contentline.NewReader(body)
		var l contentline.Line
		for r.Next(&l) {
			if l.Is("X-ZONE") {
				zoneByName(string(l.Value()))
			}
		}
	})
}

func BenchmarkMatch10000(b *testing.B) {
	body := []byte(cal(newYork + event("SUMMARY:Test Person 1\nDTSTART;TZID=Own/New_York:20200302T090000\nDTEND;TZID=Own/New_York:20200302T100000\nRRULE:FREQ=WEEKLY;BYDAY=MO,WE\nDESCRIPTION:some text\nBEGIN:VALARM\nTRIGGER:-PT15M\nEND:VALARM")))
	f := &Filter{Comp: CompFilter{Name: "VCALENDAR", Comps: []CompFilter{{Name: "VEVENT", TimeRange: &TimeRange{1773136800, 1773140400}}}}}
	for b.Loop() {
		for range 10000 {
			o, err := Parse(body)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := f.Match(o); err != nil {
				b.Fatal(err)
			}
		}
	}
}
