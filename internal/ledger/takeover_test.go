package ledger

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"holdfast"
	"holdfast/internal/mirror"
)

// claims returns the claims of the rig's first mirror.
func (r *rig) claims() []mirror.Claim {
	r.t.Helper()
	m, b, err := openMirror(r.t.Context(), r.cfg.withDefaults(), r.cfg.Mirrors[0])
	must(r.t, err)
	all, err := m.Terms(r.t.Context())
	must(r.t, errors.Join(err, b.Close()))
	return all
}

// claimAs claims the first mirror as another server does.
func (r *rig) claimAs(note string) holdfast.Term {
	r.t.Helper()
	all := r.claims()
	m, b, err := openMirror(r.t.Context(), r.cfg.withDefaults(), r.cfg.Mirrors[0])
	must(r.t, err)
	term := holdfast.Term{Number: all[len(all)-1].Term.Number + 1, Random: 4711 + uint64(len(all))}
	must(r.t, errors.Join(m.Claim(r.t.Context(), term, note), b.Close()))
	return term
}

// shown are the claims that an operator sees.
func (r *rig) shown() (terms []holdfast.Term, words string) {
	r.t.Helper()
	until(r.t, "the claims are shown", func() bool { return len(r.Status().Claimants) > 0 })
	for _, c := range r.Status().Claimants {
		t, err := holdfast.ParseTerm(c.Term)
		must(r.t, err)
		terms, words = append(terms, t), words+c.Words
	}
	return terms, words
}

// An operator's word to take the mirrors over is about the claims that were shown: a server that claims them
// after that, before the word or while it is being carried out, is not overruled.
func TestTakeOverIsBoundToTheClaim(t *testing.T) {
	t.Parallel()
	var between atomic.Pointer[func()]
	r := newRig(t, func(c *Config) {
		c.hooks.proof = func() {
			if f := between.Swap(nil); f != nil {
				(*f)()
			}
		}
	})
	r.mustPut("a", "1")
	if err := r.TakeOver(t.Context(), nil); !errors.Is(err, holdfast.ErrInvalid) {
		t.Errorf("nobody has taken over: got %v, want ErrInvalid", err)
	}
	r.claimAs("instance aaaa; the second server")
	r.waitReason("the second server")
	first, words := r.shown()
	if !strings.Contains(words, "the second server") {
		t.Errorf("shown: %s", words)
	}
	if err := r.TakeOver(t.Context(), nil); !errors.Is(err, holdfast.ErrDenied) {
		t.Errorf("a word about nothing: got %v, want ErrDenied", err)
	}

	third := r.claimAs("instance bbbb; the third server") // after it was shown, before the word
	err := r.TakeOver(t.Context(), first)
	if !errors.Is(err, holdfast.ErrDenied) || !strings.Contains(err.Error(), "the third server") {
		t.Errorf("another claim since: got %v, want ErrDenied and who it is", err)
	}
	if all := r.claims(); all[len(all)-1].Term != third {
		t.Errorf("the third server was overruled by %+v", all[len(all)-1])
	}

	second, words := r.shown()
	if !strings.Contains(words, "the third server") {
		t.Errorf("shown: %s", words)
	}
	var fourth holdfast.Term
	claim := func() { fourth = r.claimAs("instance " + r.instance + "; a twin") } // while it is being carried out
	between.Store(&claim)
	err = r.TakeOver(t.Context(), second)
	if !errors.Is(err, holdfast.ErrDenied) {
		t.Errorf("a claim in that moment: got %v, want ErrDenied", err)
	}
	if all := r.claims(); all[len(all)-1].Term != fourth {
		t.Errorf("the fourth server was overruled by %+v", all[len(all)-1])
	}

	last, _ := r.shown()
	again := make(chan error)
	claim = func() { go func() { again <- r.TakeOver(context.Background(), last) }() }
	between.Store(&claim) // asked twice
	must(t, r.TakeOver(t.Context(), last))
	if err := <-again; err != nil && !errors.Is(err, holdfast.ErrInvalid) {
		t.Errorf("asked twice: %v", err)
	}
	r.verify()
	r.mustPut("b", "2")
	if s := r.Status(); len(s.Claimants) > 0 {
		t.Errorf("open, and still claimed by %+v", s.Claimants)
	}

	fifth := r.claimAs("instance cccc; the fifth server") // the word is spent
	r.waitReason("the fifth server")
	r.shown()
	if all := r.claims(); all[len(all)-1].Term != fifth {
		t.Errorf("the fifth server was overruled by %+v", all[len(all)-1])
	}
}

// The word holds for every mirror that was there when it was given, and for the own older claims of one that was not.
func TestTakeOverOfTwoMirrors(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) {
		c.Mirrors = append(c.Mirrors, MirrorConfig{Name: "disk3", Path: filepath.Join(filepath.Dir(c.Dir), "mirror3")})
	})
	r.mustPut("a", "1")
	box := r.newBox()
	_, err := Restore(context.Background(), box, "restored", nil)
	must(t, err)
	r.waitReason("restored")
	shown, _ := r.shown()
	if len(shown) != 2 || shown[0] != shown[1] {
		t.Fatalf("shown %v, want one claim in two mirrors", shown)
	}
	must(t, r.TakeOver(t.Context(), shown))
	r.verify()
}
