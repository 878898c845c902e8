package demo

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"holdfast"
	formats "holdfast/internal/kind"
)

func small(t *testing.T, out *bytes.Buffer) Config {
	t.Helper()
	return Config{
		Seed: 3, Out: out, Keep: t.TempDir(), Log: slog.New(slog.DiscardHandler),
		sizes: [kinds]int{80, 50, 15, 15}, beat: 10 * time.Millisecond,
	}
}

func TestStoreRemoved(t *testing.T) {
	var out bytes.Buffer
	v, err := Run(t.Context(), small(t, &out))
	t.Log("\n" + out.String())
	if err != nil {
		t.Fatal(err)
	}
	if !v.Good() {
		t.Errorf("verdict %s, problems %q", v, v.Problems)
	}
	line := regexp.MustCompile(`^acknowledged (\d+), present (\d+), deleted on devices 0, healed in \d+\.\d s$`)
	if m := line.FindStringSubmatch(v.String()); m == nil || m[1] != m[2] {
		t.Errorf("verdict line %q", v)
	}
	if v.Acknowledged < 140 || v.Acknowledged > 160 {
		t.Errorf("acknowledged %d, want 160 less a few deletions", v.Acknowledged)
	}
	if !strings.Contains(out.String(), "DISASTER") {
		t.Error("no disaster in the timeline")
	}
}

func TestStoreRemovedWithoutFence(t *testing.T) {
	var out bytes.Buffer
	cfg := small(t, &out)
	cfg.WithoutFence = true
	v, err := Run(t.Context(), cfg)
	t.Log("\n" + out.String())
	if err != nil {
		t.Fatal(err)
	}
	if v.Good() || v.HasHealed || v.Present >= v.Acknowledged || v.Deleted == 0 {
		t.Errorf("verdict %s: want losses on server and devices", v)
	}
	if !strings.Contains(v.String(), "not healed") {
		t.Errorf("verdict line %q", v)
	}
}

func TestUnknownScenario(t *testing.T) {
	if _, err := Run(t.Context(), Config{Scenario: "flood"}); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("got %v, want %v", err, holdfast.ErrNotFound)
	}
}

func TestKeepNeedsAnEmptyDirectory(t *testing.T) {
	cfg := Config{Keep: t.TempDir() + "/.."}
	if _, err := Run(t.Context(), cfg); !errors.Is(err, holdfast.ErrExists) {
		t.Errorf("got %v, want %v", err, holdfast.ErrExists)
	}
}

func TestVerdict(t *testing.T) {
	v := &Verdict{Acknowledged: 890, Present: 890, Healed: 1840 * time.Millisecond, HasHealed: true}
	if got, want := v.String(), "acknowledged 890, present 890, deleted on devices 0, healed in 1.8 s"; got != want || !v.Good() {
		t.Errorf("got %q (good %v), want %q (good)", got, v.Good(), want)
	}
	for _, bad := range []Verdict{
		{},
		{Acknowledged: 2, Present: 1, HasHealed: true},
		{Acknowledged: 2, Present: 2, Deleted: 1, HasHealed: true},
		{Acknowledged: 2, Present: 2},
		{Acknowledged: 2, Present: 2, HasHealed: true, Problems: []string{"x"}},
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
