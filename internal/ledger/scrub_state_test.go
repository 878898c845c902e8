package ledger

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"holdfast"
)

// FuzzScrubState: whatever lies in DIR/scrub, it is refused or usable, and what is usable is written and read again as it is.
func FuzzScrubState(f *testing.F) {
	s := scrubState{
		Format: scrubFormat, Made: time.Unix(1, 0).UTC(), Found: 2, Healed: 1, Known: []string{"disk2: x"},
		Laps: []*lap{
			{Copy: storeCopy, Part: partRows, Began: time.Unix(2, 0).UTC(), Cursor: "0000000000000007", Bytes: 10, Total: 20},
			{Copy: "disk2", Part: partLog, Cover: map[holdfast.AccountID]*cover{7: {Want: 9, Spans: [][2]holdfast.Seq{{1, 3}, {5, 9}}}}},
		},
		Damage: []ScrubDamage{{Copy: "disk2", Part: partBlobs, Account: 7, Object: "blobs/0000000000000007/00", Text: "gone"}},
	}
	b, err := json.Marshal(&s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"format":"holdfast scrub 1","laps":[null]}`))
	f.Add([]byte(`{"format":"holdfast scrub 1","laps":[{"cover":{"7":{"want":18446744073709551615,"spans":[[1,18446744073709551615]]}}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseScrub(b)
		if err != nil {
			return
		}
		for _, p := range s.Laps {
			for _, c := range p.Cover {
				before := len(c.lacking())
				c.add(2, 3)
				if !c.valid() {
					t.Errorf("spans %v are not valid after 2 to 3 were added", c.Spans)
				}
				if after := len(c.lacking()); after > before+1 {
					t.Errorf("%d gaps became %d", before, after)
				}
			}
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseScrub(again); err != nil {
			t.Errorf("was written and is refused: %v\n%s", err, again)
		}
	})
}

// A damaged DIR/scrub costs reading again, and nothing else.
func TestScrubStateDamaged(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.many(12)
	r.photo("p.jpg")
	r.scrubAll()
	for name, do := range map[string]func(b []byte) []byte{
		"lost":    nil,
		"empty":   func([]byte) []byte { return nil },
		"zeros":   func(b []byte) []byte { clear(b); return b },
		"cut":     func(b []byte) []byte { return b[:len(b)/2] },
		"flipped": func(b []byte) []byte { b[3] ^= 4; return b },
		"cursor": func([]byte) []byte {
			return []byte(`{"format":"holdfast scrub 1","laps":[{"copy":"disk2","part":"log","began":"2026-01-01T00:00:00Z","cursor":"log/x"},{"copy":"store","part":"rows","cursor":"zzz"},{"copy":"store","part":"blobs","cursor":"../x"}]}`)
		},
	} {
		r.restart(func() {
			if do == nil {
				must(t, os.Remove(scrubPath(r.cfg)))
				return
			}
			damageFile(t, scrubPath(r.cfg), do)
		})
		r.verify()
		s := r.scrubAll()
		if s.Unhealed != 0 || s.Found != 0 || len(r.incidents()) != 0 {
			t.Errorf("%s: %+v, reports %v", name, s, r.incidents())
		}
		for _, l := range s.Laps {
			if l.Last == nil {
				t.Errorf("%s: %s %s was not read", name, l.Copy, l.Part)
			}
		}
		if _, why := readScrub(r.cfg.withDefaults()); why != nil {
			t.Errorf("%s: afterwards: %v", name, why)
		}
	}
}
