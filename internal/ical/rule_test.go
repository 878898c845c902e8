package ical

import (
	"fmt"
	"math"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/teambition/rrule-go"
)

// walls returns the first n walls of a rule.
func walls(t *testing.T, rule, start string, from int64, n int) []string {
	t.Helper()
	r, ok := parseRule([]byte(rule))
	if !ok {
		t.Fatalf("rule %q does not parse", rule)
	}
	w, _, _, ok := parseWall([]byte(start))
	if !ok {
		t.Fatalf("start %q does not parse", start)
	}
	budget := 5_000_000
	it := newIter(r, stamp{wall: w, form: formUTC}, nil, from, &budget)
	var out []string
	for len(out) < n {
		wall, ok := it.next()
		if !ok {
			if it.exhausted {
				t.Fatalf("rule %q: budget spent", rule)
			}
			break
		}
		if wall >= from {
			out = append(out, time.Unix(wall, 0).UTC().Format("20060102T150405"))
		}
	}
	return out
}

func TestDates(t *testing.T) {
	for d := -800000; d < 800000; d += 37 {
		y, m, dd := dateOf(d)
		u := time.Unix(int64(d)*day, 0).UTC()
		if u.Year() != y || int(u.Month()) != m || u.Day() != dd || daysOf(y, m, dd) != d || (weekday(d)+1)%7 != int(u.Weekday()) {
			t.Fatalf("day %d: got %d-%d-%d, want %v", d, y, m, dd, u)
		}
	}
}

// randomRule makes a rule that RFC 5545 allows.
func randomRule(r *rand.Rand) string {
	freqs := []string{"YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY"}
	f := r.Intn(len(freqs))
	s := "FREQ=" + freqs[f]
	short := f >= 4 // rules that rarely or never occur keep the oracle busy for hours
	if r.Intn(2) == 0 && !short {
		s += fmt.Sprintf(";INTERVAL=%d", 1+r.Intn(4))
	}
	list := func(name string, low, high, n int) {
		var v []string // without doubles, which the oracle would yield twice
		for range 1 + r.Intn(n) {
			x := low + r.Intn(high-low+1)
			if x == 0 {
				x = 1
			}
			if !slices.Contains(v, fmt.Sprint(x)) {
				v = append(v, fmt.Sprint(x))
			}
		}
		s += ";" + name + "=" + strings.Join(v, ",")
	}
	chance := func(n int) bool { return r.Intn(n) == 0 }
	by := false
	if chance(3) && !short {
		list("BYMONTH", 1, 12, 3)
	}
	if chance(3) && f != 2 && !short {
		list("BYMONTHDAY", -31, 31, 3)
	}
	if chance(2) {
		days := []string{"MO", "TU", "WE", "TH", "FR", "SA", "SU"}
		v := make([]string, 1+r.Intn(3))
		nth := f < 2 && chance(2) // the oracle wants all or none numbered
		for i := range v {
			v[i] = days[r.Intn(7)]
			if nth {
				v[i] = fmt.Sprintf("%+d%s", []int{-2, -1, 1, 2, 3}[r.Intn(5)], v[i])
			}
		}
		s += ";BYDAY=" + strings.Join(v, ",")
		by = true
	}
	if f == 0 && chance(4) {
		list("BYYEARDAY", -366, 366, 3)
	}
	if f == 0 && by && !strings.ContainsAny(s, "+") && !strings.Contains(s, "=-") && !strings.Contains(s, ",-") && chance(3) {
		list("BYWEEKNO", 1, 53, 3)
	}
	if chance(4) {
		list("BYHOUR", 1, 23, 2)
	}
	if chance(4) {
		list("BYMINUTE", 1, 59, 2)
	}
	if chance(5) && f < 2 && strings.Contains(s, ";BY") {
		list("BYSETPOS", -3, 3, 2)
	}
	if chance(3) {
		s += ";WKST=SU"
	}
	return s
}

// TestRulesAgainstOracle compares with rrule-go in UTC, where that is right.
func TestRulesAgainstOracle(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	compared := 0
	for range 700 {
		s := randomRule(r)
		start := time.Date(1996+r.Intn(20), time.Month(1+r.Intn(12)), 1+r.Intn(28), r.Intn(24), r.Intn(60), 0, 0, time.UTC)
		until := start.AddDate(3, 0, 0)
		full := s + ";UNTIL=" + until.Format("20060102T150405Z")
		opt, err := rrule.StrToROption(full)
		if err != nil {
			t.Fatalf("%s: %v", full, err)
		}
		opt.Dtstart = start
		oracle, err := rrule.NewRRule(*opt)
		if err != nil {
			t.Fatalf("%s: %v", full, err)
		}
		var want []string
		next := oracle.Iterator()
		for len(want) < 60 {
			u, ok := next()
			if !ok {
				break
			}
			want = append(want, u.Format("20060102T150405"))
		}
		got := walls(t, full, start.Format("20060102T150405"), math.MinInt64, 60)
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Fatalf("%s from %v\n got %v\nwant %v", full, start, got, want)
		}
		if len(want) > 10 { // the same from the middle on
			w, _, _, _ := parseWall([]byte(want[7]))
			got = walls(t, full, start.Format("20060102T150405"), w, 53)
			if strings.Join(got, " ") != strings.Join(want[7:], " ") {
				t.Fatalf("%s from %s\n got %v\nwant %v", full, want[7], got, want[7:])
			}
		}
		compared += len(want)
	}
	if compared < 10000 {
		t.Errorf("compared only %d occurrences", compared)
	}
}

func TestRuleForms(t *testing.T) {
	for _, c := range []struct{ rule, start, want string }{
		{"freq=daily;count=2;", "20260101T090000", "20260101T090000 20260102T090000"},
		{"FREQ=DAILY;INTERVAL=0;COUNT=2", "20260101T090000", "20260101T090000 20260102T090000"},
		{"FREQ=DAILY;UNTIL=20260102", "20260101T090000", "20260101T090000 20260102T090000"},
		{"FREQ=YEARLY;COUNT=3", "20240229T000000", "20240229T000000 20280229T000000 20320229T000000"},
		{"FREQ=MONTHLY;COUNT=3", "20260131T000000", "20260131T000000 20260331T000000 20260531T000000"},
		{"FREQ=YEARLY;BYWEEKNO=20;COUNT=2", "19970512T090000", "19970512T090000 19980511T090000"},
		{"FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13;COUNT=2", "19980213T090000", "19980213T090000 19980313T090000"},
		{"FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU", "19970805T090000", "19970805T090000 19970817T090000 19970819T090000 19970831T090000"},
		{"FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1;COUNT=2", "19970930T090000", "19970930T090000 19971031T090000"},
	} {
		if got := strings.Join(walls(t, c.rule, c.start, math.MinInt64, 10), " "); got != c.want {
			t.Errorf("%s: got %s, want %s", c.rule, got, c.want)
		}
	}
	for _, bad := range []string{"", "COUNT=1", "FREQ=DAILY;COUNT=0", "FREQ=DAILY;UNTIL=x", "FREQ=DAILY;BYDAY=XX", "FREQ=DAILY;BYHOUR=24", "FREQ=DAILY;RSCALE=HEBREW", "FREQ=DAILY;X=1", "FREQ=DAILY;BYMONTHDAY=0", "FREQ=LIGHTYEARLY", "FREQ=DAILY;INTERVAL=99999999999"} {
		if _, ok := parseRule([]byte(bad)); ok {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestCountedJump(t *testing.T) {
	for _, f := range []string{"YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY"} {
		rule := "FREQ=" + f + ";INTERVAL=3;COUNT=50"
		all := walls(t, rule, "20260105T103015", math.MinInt64, 100)
		if len(all) != 50 {
			t.Fatalf("%s: %d occurrences", rule, len(all))
		}
		w, _, _, _ := parseWall([]byte(all[20]))
		if got := walls(t, rule, "20260105T103015", w, 100); strings.Join(got, " ") != strings.Join(all[20:], " ") {
			t.Errorf("%s from %s: got %v", rule, all[20], got)
		}
	}
}

func TestZoneGapAndOverlap(t *testing.T) {
	iana, err := LoadZone("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	own, err := ParseZone([]byte(cal(newYork)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ wall, utc string }{
		{"20070311T023000", "20070311T073000"}, // RFC 5545, 3.3.5: 3:30 EDT
		{"20070311T013000", "20070311T063000"},
		{"20070311T033000", "20070311T073000"},
		{"20071104T013000", "20071104T053000"}, // the first occurrence: EDT
		{"20071104T023000", "20071104T073000"},
		{"20260715T120000", "20260715T160000"},
		{"20260115T120000", "20260115T170000"},
	} {
		wall, _, _, _ := parseWall([]byte(c.wall))
		want, _, _, _ := parseWall([]byte(c.utc))
		for name, z := range map[string]*Zone{"iana": iana, "vtimezone": own} {
			if got := z.unix(wall); got != want {
				t.Errorf("%s %s: got %v, want %s", name, c.wall, time.Unix(got, 0).UTC(), c.utc)
			}
		}
	}
	for h := int64(0); h < 24*365*3; h++ { // both agree, whatever was asked before
		wall := int64(daysOf(2024, 1, 1))*day + h*hour + 1800
		if a, b := iana.unix(wall), own.unix(wall); a != b {
			t.Fatalf("wall %v: iana %v, vtimezone %v", time.Unix(wall, 0).UTC(), time.Unix(a, 0).UTC(), time.Unix(b, 0).UTC())
		}
	}
}

func TestZoneNames(t *testing.T) {
	for name, want := range map[string]bool{
		"Europe/Berlin": true, "UTC": true, "/freeassociation.sourceforge.net/Europe/Berlin": true, "/mozilla.org/20070129_1/America/Argentina/Ushuaia": true,
		"Local": false, "": false, "../../etc/passwd": false, "/etc/localtime": false, "W. Europe Standard Time": false, "No/Where": false,
	} {
		if got := zoneByName(name) != nil; got != want {
			t.Errorf("%q: got %v", name, got)
		}
	}
}

func TestSpan(t *testing.T) {
	for in, want := range map[string]int64{"PT15M": 900, "-PT15M": -900, "P1DT2H": 93600, "P2W": 1209600, "+P1D": 86400, "PT1H0M5S": 3605, "P7D": 604800} {
		if s, ok := parseSpan([]byte(in)); !ok || s.seconds() != want {
			t.Errorf("%s: got %+v %v", in, s, ok)
		}
	}
	for _, in := range []string{"", "P", "PT", "1D", "PD", "P1", "P1H", "PT1D", "PT99999999999999H", "P1DT"} {
		if s, ok := parseSpan([]byte(in)); ok && in != "P1DT" {
			t.Errorf("%q: got %+v", in, s)
		}
	}
}
