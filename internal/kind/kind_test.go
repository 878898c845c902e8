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
