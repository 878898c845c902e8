package ical

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast"
)

// part writes an object as d wants it.
func part(t *testing.T, d *Data, body string, floating *Zone) (string, error) {
	t.Helper()
	o, err := Parse([]byte(body))
	if err != nil {
		t.Fatalf("parse %q: %v", body, err)
	}
	out, err := d.Append(nil, o, floating)
	return string(out), err
}

// brief shows each component of an expansion in one line: what names it, what says when it is.
func brief(out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\r\n")
		name, _, _ := strings.Cut(line, ":")
		name, _, _ = strings.Cut(name, ";")
		switch name {
		case "BEGIN":
			if !strings.HasSuffix(line, "VCALENDAR") {
				b.WriteString(strings.TrimPrefix(line, "BEGIN:"))
			}
		case "DTSTART", "DTEND", "DUE", "DURATION", "RECURRENCE-ID", "SUMMARY", "RRULE", "RDATE", "EXDATE":
			b.WriteString(" " + line)
		case "END":
			if !strings.HasSuffix(line, "VCALENDAR") {
				b.WriteString("\n")
			}
		}
	}
	return b.String()
}

func berlin(t *testing.T) *Zone {
	t.Helper()
	z, err := LoadZone("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestExpand(t *testing.T) {
	for name, c := range map[string]struct {
		body       string
		start, end string
		want       string
	}{
		"over summer time": {
			event("DTSTART;TZID=Europe/Berlin:20260328T100000\nDTEND;TZID=Europe/Berlin:20260328T110000\nRRULE:FREQ=DAILY;COUNT=3"), "20260301T000000", "20260401T000000",
			"VEVENT DTSTART:20260328T090000Z RECURRENCE-ID:20260328T090000Z DTEND:20260328T100000Z\n" +
				"VEVENT DTSTART:20260329T080000Z RECURRENCE-ID:20260329T080000Z DTEND:20260329T090000Z\n" +
				"VEVENT DTSTART:20260330T080000Z RECURRENCE-ID:20260330T080000Z DTEND:20260330T090000Z\n",
		},
		"own time zone, over winter time": {
			newYork + event("DTSTART;TZID=Own/New_York:20261031T120000\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=2"), "20261001T000000", "20261201T000000",
			"VEVENT DTSTART:20261031T160000Z RECURRENCE-ID:20261031T160000Z DURATION:PT1H\n" +
				"VEVENT DTSTART:20261101T170000Z RECURRENCE-ID:20261101T170000Z DURATION:PT1H\n",
		},
		"a nominal day that has 23 hours": {
			event("DTSTART;TZID=Europe/Berlin:20260328T120000\nDURATION:P1D\nRRULE:FREQ=DAILY;COUNT=2"), "20260301T000000", "20260401T000000",
			"VEVENT DTSTART:20260328T110000Z RECURRENCE-ID:20260328T110000Z DURATION:PT23H\n" +
				"VEVENT DTSTART:20260329T100000Z RECURRENCE-ID:20260329T100000Z DURATION:P1D\n",
		},
		"borders: what ends at the start and what starts at the end is outside": {
			event("DTSTART:20260310T100000Z\nDTEND:20260310T110000Z\nRRULE:FREQ=HOURLY;COUNT=5"), "20260310T110000", "20260310T130000",
			"VEVENT DTSTART:20260310T110000Z RECURRENCE-ID:20260310T110000Z DTEND:20260310T120000Z\n" +
				"VEVENT DTSTART:20260310T120000Z RECURRENCE-ID:20260310T120000Z DTEND:20260310T130000Z\n",
		},
		"excluded, added, added as a period": {
			event("DTSTART:20260310T100000Z\nDTEND:20260310T110000Z\nRRULE:FREQ=DAILY;COUNT=3\nEXDATE:20260311T100000Z\nRDATE:20260310T100000Z,20260320T120000Z\nRDATE;VALUE=PERIOD:20260321T120000Z/PT3H"), "20260301T000000", "20260401T000000",
			"VEVENT DTSTART:20260310T100000Z RECURRENCE-ID:20260310T100000Z DTEND:20260310T110000Z\n" +
				"VEVENT DTSTART:20260312T100000Z RECURRENCE-ID:20260312T100000Z DTEND:20260312T110000Z\n" +
				"VEVENT DTSTART:20260320T120000Z RECURRENCE-ID:20260320T120000Z DTEND:20260320T130000Z\n" +
				"VEVENT DTSTART:20260321T120000Z RECURRENCE-ID:20260321T120000Z DTEND:20260321T150000Z\n",
		},
		"moved in and moved out": {
			event("SUMMARY:a\nDTSTART;TZID=Europe/Berlin:20260302T100000\nDURATION:PT1H\nRRULE:FREQ=WEEKLY") +
				event("SUMMARY:in\nRECURRENCE-ID;TZID=Europe/Berlin:20260316T100000\nDTSTART;TZID=Europe/Berlin:20260310T120000\nDURATION:PT2H") +
				event("SUMMARY:out\nRECURRENCE-ID;TZID=Europe/Berlin:20260309T100000\nDTSTART;TZID=Europe/Berlin:20260501T100000\nDURATION:PT1H"), "20260308T000000", "20260324T000000",
			"VEVENT SUMMARY:in DTSTART:20260310T110000Z RECURRENCE-ID:20260316T090000Z DURATION:PT2H\n" +
				"VEVENT SUMMARY:a DTSTART:20260323T090000Z RECURRENCE-ID:20260323T090000Z DURATION:PT1H\n",
		},
		"this and future": {
			event("SUMMARY:a\nDTSTART;TZID=Europe/Berlin:20260302T100000\nDTEND;TZID=Europe/Berlin:20260302T110000\nRRULE:FREQ=WEEKLY;COUNT=5") +
				event("SUMMARY:b\nRECURRENCE-ID;RANGE=THISANDFUTURE;TZID=Europe/Berlin:20260316T100000\nDTSTART;TZID=Europe/Berlin:20260317T140000\nDTEND;TZID=Europe/Berlin:20260317T160000"), "20260308T000000", "20260401T000000",
			"VEVENT SUMMARY:a DTSTART:20260309T090000Z RECURRENCE-ID:20260309T090000Z DTEND:20260309T100000Z\n" +
				"VEVENT SUMMARY:b DTSTART:20260317T130000Z RECURRENCE-ID:20260316T090000Z DTEND:20260317T150000Z\n" +
				"VEVENT SUMMARY:b DTSTART:20260324T130000Z RECURRENCE-ID:20260323T090000Z DTEND:20260324T150000Z\n" +
				"VEVENT SUMMARY:b DTSTART:20260331T120000Z RECURRENCE-ID:20260330T080000Z DTEND:20260331T140000Z\n",
		},
		"whole days": {
			event("DTSTART;VALUE=DATE:20260328\nDTEND;VALUE=DATE:20260330\nRRULE:FREQ=WEEKLY;COUNT=2\nEXDATE;VALUE=DATE:20260404") + event("RECURRENCE-ID;VALUE=DATE:20260404\nDTSTART;VALUE=DATE:20260405"), "20260301T000000", "20260501T000000",
			"VEVENT DTSTART;VALUE=DATE:20260328 RECURRENCE-ID;VALUE=DATE:20260328 DTEND;VALUE=DATE:20260330\n" +
				"VEVENT DTSTART;VALUE=DATE:20260405 RECURRENCE-ID;VALUE=DATE:20260404\n",
		},
		"floating, in the zone of the query": {
			event("DTSTART:20260328T233000\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=3"), "20260329T220000", "20260401T000000", // 00:00 in Berlin on the 30th
			"VEVENT DTSTART:20260329T233000 RECURRENCE-ID:20260329T233000 DURATION:PT1H\n" +
				"VEVENT DTSTART:20260330T233000 RECURRENCE-ID:20260330T233000 DURATION:PT1H\n",
		},
		"floating, in a gap": {
			event("DTSTART:20260328T023000\nDTEND:20260328T024500\nRRULE:FREQ=DAILY;COUNT=2"), "20260329T000000", "20260401T000000",
			"VEVENT DTSTART:20260329T023000 RECURRENCE-ID:20260329T023000 DTEND:20260329T024500\n",
		},
		"not recurring": {event("DTSTART;TZID=Europe/Berlin:20260310T100000"), "20260301T000000", "20260401T000000", "VEVENT DTSTART:20260310T090000Z\n"},
		"outside":       {event("DTSTART;TZID=Europe/Berlin:20260410T100000"), "20260301T000000", "20260401T000000", ""},
		"to-dos": {
			comp("VTODO", "SUMMARY:r\nDTSTART;TZID=Europe/Berlin:20260310T100000\nDUE;TZID=Europe/Berlin:20260310T120000\nRRULE:FREQ=DAILY;COUNT=2"), "20260311T000000", "20260401T000000",
			"VTODO SUMMARY:r DTSTART:20260311T090000Z RECURRENCE-ID:20260311T090000Z DUE:20260311T110000Z\n",
		},
		"a to-do without times":   {comp("VTODO", "SUMMARY:x"), "20260311T000000", "20260401T000000", "VTODO SUMMARY:x\n"},
		"a to-do with a due time": {comp("VTODO", "DUE;TZID=Europe/Berlin:20260320T120000"), "20260311T000000", "20260401T000000", "VTODO DUE:20260320T110000Z\n"},
		"a journal of days":       {comp("VJOURNAL", "DTSTART;VALUE=DATE:20260310\nRRULE:FREQ=DAILY;COUNT=3"), "20260311T120000", "20260311T230000", "VJOURNAL DTSTART;VALUE=DATE:20260311 RECURRENCE-ID;VALUE=DATE:20260311\n"},
		"parameters stay":         {event(`DTSTART;X-A="b;c";TZID=Europe/Berlin;X-D=e:20260310T100000`), "20260301T000000", "20260401T000000", `VEVENT DTSTART;X-A="b;c";X-D=e:20260310T090000Z` + "\n"},
	} {
		d := &Data{Expand: &TimeRange{at(t, c.start), at(t, c.end)}}
		out, err := part(t, d, cal(c.body), berlin(t))
		if got := brief(out); err != nil || got != c.want {
			t.Errorf("%s: %v\n got %s\nwant %s", name, err, got, c.want)
		}
		for _, not := range []string{"TZID", "VTIMEZONE", "RRULE", "EXDATE", "RDATE"} {
			if strings.Contains(out, not) {
				t.Errorf("%s: %s is in\n%s", name, not, out)
			}
		}
	}
}

// The example of RFC 4791, 7.8.3.
func TestExpandExample(t *testing.T) {
	body := cal(event("DTSTART;TZID=US/Eastern:20060102T120000\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=5\nSUMMARY:Event #2") +
		event("DTSTART;TZID=US/Eastern:20060104T140000\nDURATION:PT1H\nRECURRENCE-ID;TZID=US/Eastern:20060104T120000\nSUMMARY:Event #2 bis"))
	out, err := part(t, &Data{Expand: &TimeRange{at(t, "20060103T000000"), at(t, "20060105T000000")}}, body, nil)
	want := "VEVENT DTSTART:20060103T170000Z RECURRENCE-ID:20060103T170000Z DURATION:PT1H SUMMARY:Event #2\n" +
		"VEVENT DTSTART:20060104T190000Z RECURRENCE-ID:20060104T170000Z DURATION:PT1H SUMMARY:Event #2 bis\n"
	if got := brief(out); err != nil || got != want {
		t.Errorf("%v\n got %s\nwant %s", err, got, want)
	}
}

func TestExpandBounds(t *testing.T) {
	all := &TimeRange{at(t, "19700101T000000"), at(t, "99990101T000000")}
	for name, c := range map[string]struct {
		body string
		want error
	}{
		"every second":     {event("DTSTART:19700101T000000Z\nRRULE:FREQ=SECONDLY"), ErrTooMany},
		"never":            {event("DTSTART:19700101T000000Z\nRRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"), nil},
		"for ever":         {event("DTSTART:19700101T000000Z\nRRULE:FREQ=DAILY"), ErrTooMany},
		"long":             {event("DTSTART:19700101T000000Z\nRRULE:FREQ=DAILY;COUNT=9000\nDESCRIPTION:" + strings.Repeat("x", 2000)), ErrTooMany},
		"as many as fit":   {event(fmt.Sprintf("DTSTART:19700101T000000Z\nRRULE:FREQ=DAILY;COUNT=%d", MaxInstances)), nil},
		"one more":         {event(fmt.Sprintf("DTSTART:19700101T000000Z\nRRULE:FREQ=DAILY;COUNT=%d", MaxInstances+1)), ErrTooMany},
		"broken rule":      {event("DTSTART:19700101T000000Z\nRRULE:FREQ=NEVER"), holdfast.ErrInvalid},
		"broken start":     {event("DTSTART:yesterday"), holdfast.ErrInvalid},
		"large, but alone": {event("DTSTART:19700101T000000Z\nDESCRIPTION:" + strings.Repeat("x", 9<<20)), nil},
	} {
		began := time.Now()
		_, err := part(t, &Data{Expand: all}, cal(c.body), nil)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}

func TestLimitRecurrence(t *testing.T) {
	body := cal(newYork + event("SUMMARY:master\nDTSTART;TZID=Own/New_York:20260302T100000\nDURATION:PT1H\nRRULE:FREQ=WEEKLY") +
		event("SUMMARY:moved in\nRECURRENCE-ID;TZID=Own/New_York:20260316T100000\nDTSTART;TZID=Own/New_York:20260310T120000") +
		event("SUMMARY:moved out\nRECURRENCE-ID;TZID=Own/New_York:20260309T100000\nDTSTART;TZID=Own/New_York:20260501T100000") +
		event("SUMMARY:elsewhere\nRECURRENCE-ID;TZID=Own/New_York:20260406T100000\nDTSTART;TZID=Own/New_York:20260407T100000") +
		event("SUMMARY:ends before\nRECURRENCE-ID;TZID=Own/New_York:20260302T100000\nDTSTART;TZID=Own/New_York:20260302T110000"))
	out, err := part(t, &Data{LimitRecurrence: &TimeRange{at(t, "20260308T000000"), at(t, "20260312T000000")}}, body, nil)
	if err != nil || !strings.Contains(out, "BEGIN:VTIMEZONE") || !strings.Contains(out, "RRULE:FREQ=WEEKLY") {
		t.Errorf("%v\n%s", err, out)
	}
	for summary, want := range map[string]bool{"master": true, "moved in": true, "moved out": true, "elsewhere": false, "ends before": false} {
		if got := strings.Contains(out, "SUMMARY:"+summary+"\n"); got != want {
			t.Errorf("%s: got %v, want %v\n%s", summary, got, want, out)
		}
	}
	future := cal(event("SUMMARY:master\nDTSTART:20260302T100000Z\nRRULE:FREQ=WEEKLY") + event("SUMMARY:later\nRECURRENCE-ID;RANGE=THISANDFUTURE:20260309T100000Z\nDTSTART:20260309T120000Z"))
	for end, want := range map[string]bool{"20260305T000000": false, "20270305T000000": true} {
		r := &TimeRange{at(t, end) - 7*day, at(t, end)}
		if out, err := part(t, &Data{LimitRecurrence: r}, future, nil); err != nil || strings.Contains(out, "later") != want {
			t.Errorf("this and future before %s: want %v: %v\n%s", end, want, err, out)
		}
	}
}

func TestLimitFreeBusy(t *testing.T) {
	long := strings.Repeat("20260309T100000Z/PT1H,", 5) + "20260310T100000Z/PT1H,20260310T120000Z/20260310T130000Z,20260310T140000Z/PT1H"
	body := cal(comp("VFREEBUSY", "FREEBUSY:20260101T100000Z/PT1H\nFREEBUSY;FBTYPE=BUSY-TENTATIVE:"+long+"\nFREEBUSY:20260310T100000Z/PT2H"))
	out, err := part(t, &Data{LimitFreeBusy: &TimeRange{at(t, "20260310T103000"), at(t, "20260310T140000")}}, body, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.ReplaceAll(out, "\r\n ", "")
	if strings.Contains(got, "20260101") || strings.Contains(got, "20260309") || strings.Contains(got, "T140000Z/") ||
		!strings.Contains(got, "FREEBUSY;FBTYPE=BUSY-TENTATIVE:20260310T100000Z/PT1H,20260310T120000Z/20260310T130000Z\r\n") ||
		!strings.Contains(got, "FREEBUSY:20260310T100000Z/PT2H\n") {
		t.Errorf("got\n%s", out)
	}
	for line := range strings.Lines(out) {
		if len(strings.TrimRight(line, "\r\n")) > maxLine {
			t.Errorf("line of %d octets: %s", len(line), line)
		}
	}
}

func TestPartialRetrieval(t *testing.T) {
	body := "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\n" + strings.ReplaceAll(newYork, "\n", "\r\n") +
		"BEGIN:VEVENT\r\nUID:u\r\nSUMMARY;LANGUAGE=en:a long\r\n  one\r\nbegin:valarm\r\nACTION:DISPLAY\r\nTRIGGER:-PT5M\r\nEND:VALARM\r\nDTSTART:20260310T100000Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
	vevent := func(p CompPart) *CompPart {
		p.Name = "vevent"
		return &CompPart{Name: "VCALENDAR", Comps: []CompPart{p}}
	}
	for name, c := range map[string]struct {
		d    Data
		want string
	}{
		"everything":         {Data{}, body},
		"an empty comp":      {Data{Comp: &CompPart{Name: "VCALENDAR"}}, strings.Replace(body, "begin:valarm", "BEGIN:VALARM", 1)},
		"no components":      {Data{Comp: &CompPart{Name: "VCALENDAR", AllProps: true}}, "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nEND:VCALENDAR\r\n"},
		"two properties":     {Data{Comp: vevent(CompPart{Props: []PropPart{{Name: "uid"}, {Name: "SUMMARY", NoValue: true}}})}, "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nUID:u\r\nSUMMARY;LANGUAGE=en:\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"},
		"folds stay":         {Data{Comp: vevent(CompPart{Props: []PropPart{{Name: "SUMMARY"}}})}, "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nSUMMARY;LANGUAGE=en:a long\r\n  one\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"},
		"components within":  {Data{Comp: vevent(CompPart{AllComps: true})}, "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nBEGIN:VALARM\r\nACTION:DISPLAY\r\nTRIGGER:-PT5M\r\nEND:VALARM\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"},
		"part of one within": {Data{Comp: vevent(CompPart{AllProps: true, Comps: []CompPart{{Name: "VALARM", Props: []PropPart{{Name: "ACTION"}}}}})}, "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nUID:u\r\nSUMMARY;LANGUAGE=en:a long\r\n  one\r\nBEGIN:VALARM\r\nACTION:DISPLAY\r\nEND:VALARM\r\nDTSTART:20260310T100000Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"},
		"with an expansion": {
			Data{Comp: vevent(CompPart{Props: []PropPart{{Name: "DTSTART"}}}), Expand: &TimeRange{at(t, "20260301T000000"), at(t, "20260401T000000")}},
			"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nDTSTART:20260310T100000Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
		},
	} {
		if got, err := part(t, &c.d, body, nil); err != nil || got != c.want {
			t.Errorf("%s: %v\n got %q\nwant %q", name, err, got, c.want)
		}
	}
	deep := &CompPart{Name: "X"}
	for range 100 {
		deep = &CompPart{Name: "X", Comps: []CompPart{*deep}}
	}
	if err := (&Data{Comp: deep}).Check(); !errors.Is(err, ErrUnsupportedFilter) {
		t.Errorf("100 components deep: %v", err)
	}
}

// FuzzData: no object and no range makes it hang or grow beyond its bounds; what is written is an object
// again, and nothing in it recurs.
func FuzzData(f *testing.F) {
	f.Add([]byte(cal(newYork+event("DTSTART;TZID=Own/New_York:20260302T100000\nRRULE:FREQ=WEEKLY"))), int64(1772000000), int64(1782000000))
	f.Add([]byte(cal(event("DTSTART;VALUE=DATE:20260302\nRRULE:FREQ=DAILY\nRDATE;VALUE=PERIOD:20260302T100000Z/PT1H")+event("RECURRENCE-ID;RANGE=THISANDFUTURE;VALUE=DATE:20260309\nDTSTART:20260309T120000Z"))), int64(0), int64(1<<40))
	f.Add([]byte(cal(comp("VFREEBUSY", "FREEBUSY:20260310T100000Z/PT1H,20260310T120000Z/20260310T130000Z"))), int64(-1<<40), int64(1<<40))
	f.Add([]byte(cal(comp("VTODO", "DUE:20260310T100000\nBEGIN:VALARM\nTRIGGER:-PT5M\nEND:VALARM"))), int64(5), int64(6))
	f.Fuzz(func(t *testing.T, body []byte, start, end int64) {
		o, err := Parse(body)
		if err != nil || start >= end {
			return
		}
		r := TimeRange{start, end}
		for i, d := range []Data{{Expand: &r}, {LimitRecurrence: &r}, {LimitFreeBusy: &r}, {Comp: &CompPart{Name: "VCALENDAR", Comps: []CompPart{{Name: "VEVENT", AllComps: true}}}}} {
			out, err := d.Append(nil, o, nil)
			if err != nil {
				if !errors.Is(err, ErrTooMany) && !errors.Is(err, holdfast.ErrInvalid) {
					t.Fatalf("%d: %v", i, err)
				}
				continue
			}
			if len(out) > 3*max(maxWritten, len(body))+1000 {
				t.Fatalf("%d: %d bytes from %d", i, len(out), len(body))
			}
			if _, err := Parse(out); err != nil {
				t.Fatalf("%d: %v\n%q", i, err, out)
			}
		}
		busy := NewFreeBusy(r)
		if err := busy.Add(o, nil); err != nil && !errors.Is(err, ErrTooMany) {
			t.Fatal(err)
		}
		if _, err := Parse(busy.Append(nil, time.Unix(0, 0))); err != nil {
			t.Fatal(err)
		}
	})
}
