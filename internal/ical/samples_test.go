package ical

import (
	"os"
	"path/filepath"
	"testing"
)

// TestSamples: what clients write is read as they mean it.
func TestSamples(t *testing.T) {
	for _, c := range []struct {
		file, kind, uid string
		start, end      string
		want            bool
	}{
		{"ios.ics", "VEVENT", "00000000-0000-4000-8000-000000000011", "20260310T090000", "20260310T090001", true},
		{"ios.ics", "VEVENT", "00000000-0000-4000-8000-000000000011", "20260310T100000", "20260310T110000", false},
		{"ios.ics", "VEVENT", "00000000-0000-4000-8000-000000000011", "20260317T090000", "20260317T100000", false}, // moved
		{"ios.ics", "VEVENT", "00000000-0000-4000-8000-000000000011", "20260318T130000", "20260318T130001", true},
		{"ios.ics", "VEVENT", "00000000-0000-4000-8000-000000000011", "20260331T080000", "20260331T080001", true}, // summer time
		{"ios.ics", "VEVENT", "00000000-0000-4000-8000-000000000011", "20260407T000000", "20270407T000000", false},
		{"outlook.ics", "VEVENT", "040000008200E00074C5B7101A82E0080000000000000000", "20260710T080000", "20260710T080001", true},
		{"outlook.ics", "VEVENT", "040000008200E00074C5B7101A82E0080000000000000000", "20260710T090000", "20260710T100000", false},
		{"evolution.ics", "VEVENT", "00000000-0000-4000-8000-000000000014", "20260310T090000", "20260310T090001", true},
		{"thunderbird.ics", "VEVENT", "00000000-0000-4000-8000-000000000015", "20260310T090000", "20260310T090001", true},
		{"thunderbird.ics", "VEVENT", "00000000-0000-4000-8000-000000000015", "20260311T000000", "20270310T000000", false},
		{"tasks.ics", "VTODO", "00000000-0000-4000-8000-000000000013", "20260309T000000", "20260311T000000", true},
		{"tasks.ics", "VTODO", "00000000-0000-4000-8000-000000000013", "20260311T000000", "20260312T000000", false},
	} {
		body, err := os.ReadFile(filepath.Join("testdata", c.file))
		if err != nil {
			t.Fatal(err)
		}
		o, err := Parse(body)
		if err != nil {
			t.Fatal(err)
		}
		kind, err := o.Type()
		if err != nil || kind != c.kind || o.UID != c.uid {
			t.Errorf("%s: got %s %s, %v", c.file, kind, o.UID, err)
		}
		if got := match(t, rangeFilter(t, c.start, c.end, c.kind), string(body)); got != c.want {
			t.Errorf("%s in %s..%s: got %v", c.file, c.start, c.end, got)
		}
	}
}
