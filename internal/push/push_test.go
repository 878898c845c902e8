package push

import (
	"crypto/ecdh"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast"
)

func un64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The example of RFC 8291, section 5 and appendix A.
func TestSealExample(t *testing.T) {
	t.Parallel()
	own, err := ecdh.P256().NewPrivateKey(un64(t, "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := parseKeys(un64(t, "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"), un64(t, "BTBZMqHH6r4Tts7J_aSIgg"))
	if err != nil {
		t.Fatal(err)
	}
	message := []byte("When I grow up, I want to be a watermelon")
	got, err := k.sealWith(own, un64(t, "DGv6ra1nlYgDCS1FRnbzlw"), message, len(message))
	const want = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
	if err != nil || b64.EncodeToString(got) != want {
		t.Errorf("got %s, %v; want %s", b64.EncodeToString(got), err, want)
	}
	short, _ := k.seal([]byte("a"))
	long, _ := k.seal([]byte(strings.Repeat("a", 1000)))
	if len(short) != len(long) || len(short) > recordSize {
		t.Errorf("messages of 1 and 1,000 bytes are %d and %d bytes", len(short), len(long))
	}
	if _, err := k.seal(make([]byte, recordSize)); err == nil {
		t.Error("a message that no push service takes was sealed")
	}
}

func TestParseKeys(t *testing.T) {
	t.Parallel()
	good := un64(t, "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4")
	bad := append([]byte{}, good...)
	bad[64] ^= 1
	for name, c := range map[string]struct{ public, secret []byte }{
		"no point of the curve": {bad, make([]byte, 16)}, "short key": {good[:64], make([]byte, 16)}, "nothing": {nil, nil},
		"short secret": {good, make([]byte, 15)}, "infinity": {[]byte{0}, make([]byte, 16)},
	} {
		if _, err := parseKeys(c.public, c.secret); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		status      int
		after       string
		result      string
		gone, again bool
		wait        time.Duration
	}{
		{201, "", "sent", false, false, 0},
		{202, "", "sent", false, false, 0},
		{404, "", "gone", true, false, 0},
		{410, "", "gone", true, false, 0},
		{429, "120", "failed", false, true, 2 * time.Minute},
		{503, now.Add(90 * time.Second).UTC().Format(http.TimeFormat), "failed", false, true, 90 * time.Second},
		{503, "999999999", "failed", false, true, retryAsked},
		{500, "-5", "failed", false, true, 0},
		{502, "soon", "failed", false, true, 0},
		{307, "", "failed", false, false, 0},
		{400, "", "failed", false, false, 0},
		{403, "60", "failed", false, false, 0},
		{413, "", "failed", false, false, 0},
	} {
		o := judge(&http.Response{StatusCode: c.status, Header: http.Header{"Retry-After": {c.after}}}, now)
		if o.result != c.result || o.gone != c.gone || o.again != c.again || o.wait != c.wait || (o.err == nil) != (c.result == "sent") {
			t.Errorf("%d, Retry-After %q: %+v", c.status, c.after, o)
		}
	}
}

// Failures are tried again later and later, and not for ever; a message that arrives ends that.
func TestBackoff(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	p := &Push{cfg: Config{Now: func() time.Time { return now }}}
	s := &subject{p: p, regs: map[string]*enlisted{}}
	g := &enlisted{told: 1}
	again := outcome{result: "failed", again: true, err: fmt.Errorf("503")}
	for try := 1; try < maxTries; try++ {
		s.note(g, message{upTo: 5}, again, now)
		base := min(retryLeast<<(try-1), retryMost)
		if wait := g.next.Sub(now); wait < base/2 || wait > base*3/2 || g.told != 1 {
			t.Errorf("after %d failures: wait %s, told %d; want about %s and 1", try, wait, g.told, base)
		}
	}
	s.note(g, message{upTo: 5}, again, now)
	if g.told != 5 {
		t.Errorf("after %d tries it is still being told: %d", maxTries, g.told)
	}
	s.note(g, message{upTo: 6}, outcome{result: "failed", again: true, wait: time.Hour, err: fmt.Errorf("429")}, now)
	if g.next.Sub(now) < time.Hour {
		t.Errorf("the push service asked for an hour, we wait %s", g.next.Sub(now))
	}
	s.note(g, message{upTo: 7}, outcome{result: "sent"}, now)
	if g.told != 7 || g.failed != 0 || g.next.Sub(now) != gapLeast {
		t.Errorf("after a message that arrived: %+v", g)
	}
}

// While changes go on a phone is told less and less often; after quiet it is told at once.
func TestGap(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	p := &Push{cfg: Config{Now: func() time.Time { return now }}}
	s, g := &subject{p: p}, &enlisted{}
	end, n := now.Add(10*time.Minute), 0
	for ; now.Before(end); n++ {
		s.note(g, message{}, outcome{result: "sent"}, now)
		now = g.next
	}
	if n > 40 {
		t.Errorf("%d messages in ten minutes of changes", n)
	}
	now = now.Add(time.Minute)
	s.note(g, message{}, outcome{result: "sent"}, now)
	if g.next.Sub(now) != gapLeast {
		t.Errorf("after a minute of quiet the next one waits %s", g.next.Sub(now))
	}
}

func TestDontNotify(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		header []string
		want   string
		all    bool
	}{
		{[]string{`"https://h.example/dav/principals/a/push/01ab"`}, "01ab", false},
		{[]string{`"https://h.example/dav/principals/a/push/01", "https://h.example/dav/principals/a/push/02"`}, "01 02", false},
		{[]string{`"https://h.example/push/01"`, ` "/dav/principals/a/push/02" `}, "01 02", false},
		{[]string{`*`}, "", true},
		{[]string{` * `}, "", true},
		{[]string{`"https://h.example/push/0\1"`}, "01", false},
		{[]string{`https://h.example/push/01`}, "", false},
		{[]string{`"https://h.example/push/01`}, "", false},
		{[]string{`"%zz/push/01"`}, "", false},
		{[]string{`""`, ``, `"`, `\`}, "", false},
	} {
		ids, all := parseDontNotify(c.header)
		for _, id := range strings.Fields(c.want) {
			if !ids[id] {
				t.Errorf("%q: %v lacks %s", c.header, ids, id)
			}
		}
		if len(ids) != len(strings.Fields(c.want)) || all != c.all {
			t.Errorf("%q: %v, %t; want %s", c.header, ids, all, c.want)
		}
	}
}

func FuzzDontNotify(f *testing.F) {
	f.Add(`"https://h.example/dav/principals/a/push/01ab", "x\"y"`)
	f.Add(`*`)
	f.Fuzz(func(t *testing.T, s string) {
		if ids, all := parseDontNotify([]string{s}); len(ids) > maxHeader || all && len(ids) > 0 {
			t.Errorf("%q: %v, %t", s, ids, all)
		}
	})
}

func TestLifeEnd(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0).UTC()
	for asked, want := range map[time.Duration]time.Duration{
		3 * 24 * time.Hour: 3 * 24 * time.Hour, 365 * 24 * time.Hour: mostLife, -time.Hour: leastLife, time.Minute: leastLife,
	} {
		if got := lifeEnd(now, now.Add(asked)).Sub(now); got != want {
			t.Errorf("asked for %s: %s, want %s", asked, got, want)
		}
	}
	if got := lifeEnd(now, time.Time{}).Sub(now); got != mostLife {
		t.Errorf("nothing asked: %s", got)
	}
}

// What was not wanted is forgotten once it lies behind.
func TestTellForgets(t *testing.T) {
	t.Parallel()
	g := &enlisted{told: 3, muted: map[holdfast.Seq]struct{}{4: {}, 7: {}}}
	g.tell(5)
	if _, left := g.muted[7]; !left || len(g.muted) != 1 || g.told != 5 {
		t.Errorf("%+v", g)
	}
	g.tell(2)
	if g.told != 5 {
		t.Errorf("told goes back to %d", g.told)
	}
}
