package clients

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A span is how long a part that plays disasters goes on: until it has done its least, and until the
// time given with -crash is over.
type span struct {
	began, until time.Time
	least        int
	long         bool // -crash was given
}

// newSpan returns a span of few rounds in `make test`, of many in `make crash`.
func newSpan(few, many int) span {
	s := span{began: time.Now(), least: few, long: *crashFor > 0}
	if s.long {
		s.least, s.until = many, s.began.Add(*crashFor)
	}
	return s
}

// goesOn reports whether another round follows after done rounds.
func (s span) goesOn(done int) bool { return done < s.least || time.Now().Before(s.until) }

// count returns few in `make test`, many in `make crash`.
func (s span) count(few, many int) int {
	if s.long {
		return many
	}
	return few
}

// totals says what a part did, on one line that scripts/crash and scripts/test collect. Pairs are a count
// and its noun.
func (s span) totals(t *testing.T, part string, pairs ...any) {
	t.Helper()
	var facts []string
	for i := 0; i+1 < len(pairs); i += 2 {
		facts = append(facts, fmt.Sprint(pairs[i], " ", pairs[i+1]))
	}
	fmt.Printf("totals: %s: %s, in %.0f s\n", part, strings.Join(facts, ", "), time.Since(s.began).Seconds())
}

// notRun says that a part did not run on this machine, and why, where totals would have been.
func notRun(t *testing.T, part string, why error) {
	t.Helper()
	fmt.Printf("totals: %s: NOT RUN: %v\n", part, why)
}
