package main

import (
	"bytes"
	"regexp"
	"testing"
	"time"
)

// TestPeers runs every row once, small, over the real server and the least one; a wrong answer fails it. The
// other servers are not needed for it.
func TestPeers(t *testing.T) {
	var out bytes.Buffer
	s := peersSize{
		name: "test", cards: []int{120, 200}, slice: 20 * time.Millisecond, rounds: 1, clients: []int{1, 3}, readers: []int{1},
		patience: time.Minute, warm: time.Minute, servers: "holdfast,generator",
	}
	if err := measurePeers(t.Context(), &out, t.TempDir(), s); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	rows := regexp.MustCompile(`(?m)(Holdfast|generator) +[\d,.]+ .* (\d+) +([\d,]+) *$`).FindAllStringSubmatch(out.String(), -1)
	const want = 2 * (14 + 15) // servers; rows of the first size and, with the events, of the second
	if len(rows) != want {
		t.Errorf("%d rows, want %d", len(rows), want)
	}
	for _, r := range rows {
		if r[2] != "0" || r[3] == "0" {
			t.Errorf("%s: %s wrong answers of %s", r[0], r[2], r[3])
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

func TestSameObject(t *testing.T) {
	sent := []byte("BEGIN:VCARD\r\nUID:1\r\nNOTE:long text\r\nEND:VCARD\r\n")
	for got, want := range map[string]bool{
		string(sent): true,
		"BEGIN:VCARD\nUID:1\nNOTE:long\n  text\nPRODID:x\nEND:VCARD\n": true,
		"BEGIN:VCARD\r\nUID:1\r\nEND:VCARD\r\n":                        false,
		"BEGIN:VCARD\r\nUID:2\r\nNOTE:long text\r\nEND:VCARD\r\n":      false,
		"": false,
	} {
		if sameObject([]byte(got), sent) != want {
			t.Errorf("%q: not %v", got, want)
		}
	}
}

// TestHappens checks borders (RFC 4791, 9.9) and the time that an EXDATE takes out.
func TestHappens(t *testing.T) {
	at := func(n int, d time.Duration) time.Time { return eventStart(n).Add(d) }
	for _, c := range []struct {
		n        int
		from, to time.Time
		want     bool
	}{
		{1, at(1, 0), at(1, time.Second), true},
		{1, at(1, -time.Hour), at(1, 0), false},
		{1, at(1, time.Hour), at(1, 2*time.Hour), false},
		{1, at(1, time.Hour-time.Second), at(1, 2*time.Hour), true},
		{20, at(20, 19*7*day), at(20, 19*7*day+time.Second), true},
		{20, at(20, 20*7*day), at(20, 20*7*day+time.Second), false},
		{10, at(10, day), at(10, day+time.Hour), false},
		{10, at(10, 2*day), at(10, 2*day+time.Hour), true},
		{10, at(10, 30*day), at(10, 30*day+time.Hour), false},
	} {
		if happens(c.n, c.from, c.to) != c.want {
			t.Errorf("event %d from %s to %s: not %v", c.n, c.from, c.to, c.want)
		}
	}
}

func TestParseObjects(t *testing.T) {
	answer := []byte(`<x:multistatus xmlns:x="DAV:"><x:response><x:href>/a/response%201.vcf</x:href><x:propstat><x:prop><x:getetag>"1"</x:getetag>` +
		`<c:address-data content-type="text/vcard">A&amp;B&#13;
</c:address-data></x:prop></x:propstat></x:response><x:response><x:href>/a/2.vcf</x:href></x:response></x:multistatus>`)
	n := 0
	eachObject(answer, func(href, etag string, data []byte) {
		n++
		if href != "/a/response%201.vcf" || etag != `"1"` || string(data) != "A&B\r\n" {
			t.Errorf("got %q %q %q", href, etag, data)
		}
	})
	if n != 1 {
		t.Errorf("%d objects, want 1", n)
	}
}
