package kind

import (
	"errors"
	"math"
	"strings"
	"testing"

	"holdfast"
)

func TestParseCard(t *testing.T) {
	x, err := Parse(holdfast.KindCard, "text/vcard", []byte("BEGIN:VCARD\r\nVERSION:3.0\r\nUID:u1\r\nFN:Test Person 1\r\nEND:VCARD\r\n"))
	if err != nil || x.UID != "u1" || x.First != math.MinInt64 || x.Last != math.MaxInt64 {
		t.Fatalf("got %+v, %v", x, err)
	}
}

func TestRefused(t *testing.T) {
	card := "BEGIN:VCARD\r\nUID:1\r\nEND:VCARD\r\n"
	event := func(uid string) string { return "BEGIN:VEVENT\r\nUID:" + uid + "\r\nEND:VEVENT\r\n" }
	cal := func(in string) string { return "BEGIN:VCALENDAR\r\n" + in + "END:VCALENDAR\r\n" }
	for name, c := range map[string]struct {
		kind holdfast.Kind
		body string
	}{
		"empty card":         {holdfast.KindCard, ""},
		"empty object":       {holdfast.KindCalendar, ""},
		"blank card":         {holdfast.KindCard, "\r\n\r\n"},
		"no end":             {holdfast.KindCard, "BEGIN:VCARD\r\nFN:x\r\n"},
		"end only":           {holdfast.KindCard, "END:VCARD\r\n"},
		"two cards":          {holdfast.KindCard, card + card},
		"calendar as card":   {holdfast.KindCard, cal(event("1"))},
		"card as calendar":   {holdfast.KindCalendar, card},
		"two calendars":      {holdfast.KindCalendar, cal("") + cal("")},
		"unbalanced":         {holdfast.KindCalendar, "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nEND:VCALENDAR\r\n"},
		"two uids":           {holdfast.KindCalendar, cal(event("1") + event("2"))},
		"too deep":           {holdfast.KindCalendar, cal(strings.Repeat("BEGIN:A\r\n", 99) + strings.Repeat("END:A\r\n", 99))},
		"unknown kind":       {holdfast.Kind(99), card},
		"zero kind":          {holdfast.Kind(0), card},
		"html":               {holdfast.KindCard, "<html><body>503</body></html>"},
		"end of another":     {holdfast.KindCard, "BEGIN:VCARD\r\nEND:VCALENDAR\r\n"},
		"only a BEGIN value": {holdfast.KindCard, "X-BEGIN:VCARD\r\nX-END:VCARD\r\n"},
	} {
		if x, err := Parse(c.kind, "", []byte(c.body)); !errors.Is(err, holdfast.ErrInvalid) {
			t.Errorf("%s: got %+v, %v; want ErrInvalid", name, x, err)
		}
	}
}

func TestAccepted(t *testing.T) {
	for name, c := range map[string]struct {
		kind holdfast.Kind
		body string
		want Index
	}{
		"card without anything":  {holdfast.KindCard, "BEGIN:VCARD\r\nEND:VCARD\r\n", unbounded},
		"card with junk":         {holdfast.KindCard, "\xef\xbb\xbf\r\nbegin:vcard\nUID: 7 \nno colon\nX;=;:\xff\x00\nend:vcard", Index{UID: "7", First: math.MinInt64, Last: math.MaxInt64}},
		"object without UID":     {holdfast.KindCalendar, "BEGIN:VCALENDAR\nBEGIN:VTODO\nEND:VTODO\nEND:VCALENDAR\n", Index{Component: "VTODO", First: math.MinInt64, Last: math.MaxInt64}},
		"object without content": {holdfast.KindCalendar, "BEGIN:VCALENDAR\nEND:VCALENDAR\n", unbounded},
		"mixed types":            {holdfast.KindCalendar, "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nDTSTART:20260310T100000Z\nEND:VEVENT\nBEGIN:VTODO\nUID:1\nDUE:20260310T100000Z\nEND:VTODO\nEND:VCALENDAR\n", Index{UID: "1", Component: "VEVENT", First: 1773136800, Last: 1773136800}},
		"override":               {holdfast.KindCalendar, "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nDTSTART:20260310T100000Z\nEND:VEVENT\nBEGIN:VEVENT\nUID:1\nRECURRENCE-ID:20260310T100000Z\nDTSTART:20260310T110000Z\nEND:VEVENT\nEND:VCALENDAR\n", Index{UID: "1", Component: "VEVENT", First: 1773136800, Last: 1773140400}},
		"broken start":           {holdfast.KindCalendar, "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nDTSTART:yesterday\nEND:VEVENT\nEND:VCALENDAR\n", Index{UID: "1", Component: "VEVENT", First: math.MinInt64, Last: math.MaxInt64}},
		"message":                {holdfast.KindMessage, "", unbounded},
		"file":                   {holdfast.KindFile, "\x00\x01", unbounded},
		"record":                 {holdfast.KindRecord, "{}", unbounded},
	} {
		got, err := Parse(c.kind, "", []byte(c.body))
		if err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, c.want)
		}
	}
}

func TestComponent(t *testing.T) {
	comp := func(names ...string) []byte {
		s := "BEGIN:VCALENDAR\nBEGIN:VTIMEZONE\nTZID:x\nEND:VTIMEZONE\n"
		for _, n := range names {
			s += "BEGIN:" + n + "\nUID:1\nEND:" + n + "\n"
		}
		return []byte(s + "END:VCALENDAR\n")
	}
	for _, name := range []string{"VEVENT", "VTODO", "VJOURNAL", "VFREEBUSY", "VPOLL"} {
		if got, err := Component(comp(name, name)); err != nil || got != name {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
	for _, body := range [][]byte{comp(), comp("VEVENT", "VTODO"), []byte("x")} {
		if got, err := Component(body); !errors.Is(err, holdfast.ErrInvalid) {
			t.Errorf("%q: got %q, %v", body, got, err)
		}
	}
}

func TestRows(t *testing.T) {
	for k := holdfast.KindCard; k <= holdfast.KindRecord; k++ {
		if ContentType(k) == "" || k != holdfast.KindFile && !strings.HasPrefix(Extension(k), ".") {
			t.Errorf("%v: %q %q", k, ContentType(k), Extension(k))
		}
		if dav := k == holdfast.KindCard || k == holdfast.KindCalendar; dav != (ResourceType(k) != "") || dav != (len(Properties(k)) > 0) {
			t.Errorf("%v: resource type %q, properties %v", k, ResourceType(k), Properties(k))
		}
	}
	if Extension(0) != "" || ResourceType(200) != "" || Properties(0) != nil || ContentType(0) == "" {
		t.Error("an unknown kind has a row")
	}
}

// FuzzParse: no body of any kind panics, and what is accepted has sane bounds.
func FuzzParse(f *testing.F) {
	f.Add(uint8(holdfast.KindCard), []byte("BEGIN:VCARD\r\nUID:u\r\nEND:VCARD\r\n"))
	f.Add(uint8(holdfast.KindCalendar), []byte("BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:u\r\nDTSTART:20260310T100000Z\r\nRRULE:FREQ=DAILY;COUNT=2\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"))
	f.Fuzz(func(t *testing.T, k uint8, body []byte) {
		x, err := Parse(holdfast.Kind(k), "", body)
		if err == nil && x.First > x.Last {
			t.Fatalf("%+v", x)
		}
		if err != nil && !errors.Is(err, holdfast.ErrInvalid) {
			t.Fatalf("%v", err)
		}
	})
}

func BenchmarkParseCard(b *testing.B) {
	body := []byte("BEGIN:VCARD\r\nVERSION:3.0\r\nUID:00000000-0000-4000-8000-000000000001\r\nFN:Test Person 1\r\nN:Person 1;Test;;;\r\n" +
		"item1.EMAIL;type=INTERNET;type=pref:one@example.com\r\nitem1.X-ABLabel:_$!<Other>!$_\r\nTEL;type=CELL;type=VOICE;type=pref:+1 555 0100\r\n" +
		"NOTE:" + strings.Repeat("text ", 70) + "\r\nREV:2026-01-01T00:00:00Z\r\nEND:VCARD\r\n")
	benchmark(b, holdfast.KindCard, body)
}

func BenchmarkParseEvent(b *testing.B) {
	body := []byte("BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nUID:00000000-0000-4000-8000-000000000001\r\nDTSTAMP:20260101T000000Z\r\n" +
		"DTSTART;TZID=Europe/Berlin:20260310T100000\r\nDTEND;TZID=Europe/Berlin:20260310T110000\r\nRRULE:FREQ=WEEKLY;COUNT=10\r\nSUMMARY:Test\r\n" +
		"DESCRIPTION:" + strings.Repeat("text ", 70) + "\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n")
	benchmark(b, holdfast.KindCalendar, body)
}

func benchmark(b *testing.B, k holdfast.Kind, body []byte) {
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(k, "", body); err != nil {
			b.Fatal(err)
		}
	}
}
