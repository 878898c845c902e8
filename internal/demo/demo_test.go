package demo

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast"
	formats "holdfast/internal/kind"
)

// shown is a show that a test held.
type shown struct {
	sc   Scenario
	v    *Verdict
	err  error
	text string // the timeline
}

// showAll holds one show of each scenario, all at once since they mostly wait, each with little in it. Where
// one stands for the others, a short run shows every fourth.
func showAll(t *testing.T, alike bool, change func(i int, cfg *Config)) []shown {
	t.Helper()
	var all []shown
	for i, sc := range Scenarios() {
		if !alike || !testing.Short() || i%4 == 0 {
			all = append(all, shown{sc: sc})
		}
	}
	var g sync.WaitGroup
	for i := range all {
		var out bytes.Buffer
		cfg := Config{
			Scenario: all[i].sc.Name, Seed: 3, Out: &out, Keep: t.TempDir(), Log: slog.New(slog.DiscardHandler),
			sizes: [kinds]int{40, 25, 15, 15}, beat: 10 * time.Millisecond, pace: 4 * usualPace,
		}
		change(i, &cfg)
		g.Go(func() {
			all[i].v, all[i].err = Run(t.Context(), cfg)
			all[i].text = out.String()
		})
	}
	g.Wait()
	return all
}

// Each scenario plays the rows of the design's table of faults that it names, under load, with devices
// that delete what a listing lacks: faults 3, 5, 9, 10, 11, 14, 17, 18, 20, 26.
func TestScenarios(t *testing.T) {
	t.Parallel()
	for _, s := range showAll(t, false, func(int, *Config) {}) {
		t.Run(s.sc.Name, func(t *testing.T) {
			t.Log("\n" + s.text)
			if s.err != nil {
				t.Fatal(s.err)
			}
			if !s.v.Good() {
				t.Errorf("verdict %s, problems %q", s.v, s.v.Problems)
			}
			line := regexp.MustCompile(`^acknowledged (\d+), present (\d+)(?:\+(\d+) on devices)?, altered 0, deleted on devices 0, refused while closed \d+, ` + s.sc.returns + ` in \d+\.\d s$`)
			if m := line.FindStringSubmatch(s.v.String()); m == nil || (m[1] != m[2]) != s.sc.accepts || (m[3] != "") != s.sc.accepts {
				t.Errorf("verdict line %q", s.v)
			}
			if s.v.Acknowledged < 60 || s.v.Acknowledged > 100 {
				t.Errorf("acknowledged %d, want 95 less some deletions, or 100", s.v.Acknowledged)
			}
			if !strings.Contains(s.text, disaster) {
				t.Error("no disaster in the timeline")
			}
		})
	}
}

// Without a fence each scenario that has something to show has to lose data on the server, and things on
// devices: else it would not show what the fence is for.
func TestWithoutFence(t *testing.T) {
	t.Parallel()
	for _, s := range showAll(t, true, func(_ int, cfg *Config) { cfg.WithoutFence = true }) {
		t.Run(s.sc.Name, func(t *testing.T) {
			if s.sc.OnlyFenced() {
				if !errors.Is(s.err, holdfast.ErrInvalid) {
					t.Errorf("got %v, want %v", s.err, holdfast.ErrInvalid)
				}
				return
			}
			t.Log("\n" + s.text)
			if s.err != nil {
				t.Fatal(s.err)
			}
			if s.v.Good() || s.v.IsBack || s.v.Present >= s.v.Acknowledged || s.v.Deleted == 0 {
				t.Errorf("verdict %s: want losses on server and devices", s.v)
			}
			if !strings.HasSuffix(s.v.String(), "not "+s.sc.returns) {
				t.Errorf("verdict line %q", s.v)
			}
		})
	}
}

// A verdict is worth something only if it can be a bad one: one acknowledged thing is removed, or altered,
// behind the demonstration's back, in every scenario.
func TestLiesAreNoticed(t *testing.T) {
	t.Parallel()
	lie := func(i int) string { return []string{"drop", "alter"}[i%2] }
	for i, s := range showAll(t, true, func(i int, cfg *Config) { cfg.Lie = lie(i) }) {
		t.Run(s.sc.Name+" "+lie(i), func(t *testing.T) {
			if s.err != nil {
				t.Fatal(s.err)
			}
			v := s.v
			if v.Good() || v.Present+v.OnDevices != v.Acknowledged-1 || (v.Deleted > 0) != (lie(i) == "drop") || (v.Altered == 1) != (lie(i) == "alter") {
				t.Errorf("verdict %s: want one thing that is not as it was acknowledged\n%s", v, s.text)
			}
		})
	}
}

func TestUnknownNames(t *testing.T) {
	for _, cfg := range []Config{{Scenario: "flood"}, {Lie: "white"}} {
		if _, err := Run(t.Context(), cfg); !errors.Is(err, holdfast.ErrNotFound) {
			t.Errorf("%+v: got %v, want %v", cfg, err, holdfast.ErrNotFound)
		}
	}
}

func TestKeepNeedsAnEmptyDirectory(t *testing.T) {
	cfg := Config{Keep: t.TempDir() + "/.."}
	if _, err := Run(t.Context(), cfg); !errors.Is(err, holdfast.ErrExists) {
		t.Errorf("got %v, want %v", err, holdfast.ErrExists)
	}
}

func TestVerdict(t *testing.T) {
	v := &Verdict{Acknowledged: 890, Present: 890, Refused: 7, How: "healed", Back: 1840 * time.Millisecond, IsBack: true}
	want := "acknowledged 890, present 890, altered 0, deleted on devices 0, refused while closed 7, healed in 1.8 s"
	if got := v.String(); got != want || !v.Good() {
		t.Errorf("got %q (good %v), want %q (good)", got, v.Good(), want)
	}
	for _, bad := range []Verdict{
		{},
		{Acknowledged: 2, Present: 1, IsBack: true},
		{Acknowledged: 2, Present: 2, Altered: 1, IsBack: true},
		{Acknowledged: 2, Present: 2, Deleted: 1, IsBack: true},
		{Acknowledged: 2, Present: 2},
		{Acknowledged: 2, Present: 2, IsBack: true, Problems: []string{"x"}},
	} {
		if bad.Good() {
			t.Errorf("%+v is called good", bad)
		}
	}
}

func TestThingsAreWellFormed(t *testing.T) {
	m := maker{9}
	for k := range kinds - 1 {
		want := [...]holdfast.Kind{holdfast.KindCard, holdfast.KindCalendar, holdfast.KindCalendar}[k]
		for n := range 20 {
			i, err := formats.Parse(want, k.contentType(), m.body(k, n, n%3))
			if err != nil || i.UID != m.uid(k, n) {
				t.Errorf("%s %d: UID %q, error %v", k, n, i.UID, err)
			}
		}
	}
	large := 0
	for n := range 40 {
		b := m.body(photos, n, 0)
		if len(b) > holdfast.MaxInline {
			large++
		}
		if !bytes.HasPrefix(b, []byte{0xFF, 0xD8}) || !bytes.HasSuffix(b, []byte{0xFF, 0xD9}) || !bytes.Equal(b, m.body(photos, n, 0)) {
			t.Errorf("photo %d is no JPEG or not the same twice", n)
		}
	}
	if large < 10 || large > 38 {
		t.Errorf("%d of 40 photos are larger than %d bytes, want some of both", large, holdfast.MaxInline)
	}
}

func TestJournal(t *testing.T) {
	j := newJournal()
	j.putTried("/a", contacts, []byte("1"))
	if j.owed("/a") {
		t.Error("owed before it was acknowledged")
	}
	j.putAcked("/a", contacts, []byte("1"))
	j.putTried("/a", contacts, []byte("2"))
	r := j.snapshot()["/a"]
	if !j.owed("/a") || !r.fine(hash("1")) || !r.fine(hash("2")) || r.fine(hash("3")) {
		t.Errorf("after one acknowledged and one tried write: %+v", r)
	}
	j.putAcked("/a", contacts, []byte("2"))
	if r := j.snapshot()["/a"]; r.fine(hash("1")) {
		t.Error("an older version is still fine")
	}
	j.deleteTried("/a", contacts)
	if j.owed("/a") || j.acknowledged() != 0 {
		t.Error("owed though a person asked for its deletion")
	}
	j.deleteAcked("/a", contacts)
	if r := j.snapshot()["/a"]; !r.removed || r.unsure {
		t.Errorf("after an acknowledged deletion: %+v", r)
	}
}
