package ledger

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"holdfast"
	"holdfast/internal/mirror"
)

// A command that looks into a copy of a data directory takes the mirrors from no server that lives: what it
// says is that another one has them. Once that one is dead it looks as ever.
func TestVisitTakesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	r.close(r.Ledger)
	twin := filepath.Join(filepath.Dir(r.cfg.Dir), "copy")
	must(t, os.CopyFS(twin, os.DirFS(r.cfg.Dir)))
	r.open() // claims anew: the copy does not know it

	living := true
	look := func() *Ledger {
		cfg := r.cfg
		cfg.Dir, cfg.Visit = twin, true
		cfg.alive = func(c *mirror.Claim) bool { return living && c.PID == os.Getpid() }
		l, err := Open(context.Background(), cfg)
		must(t, err)
		return l
	}
	l := look()
	until(t, "the copy says who has the mirrors", func() bool { return l.Status().Code == "taken-over" })
	r.mustPut("b", "2") // and the server was not disturbed
	if s := r.Status(); s.Conflicts != 0 {
		t.Errorf("the server lost its mirrors %d times", s.Conflicts)
	}
	if err := l.View(t.Context(), person, func(*View) error { return nil }); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("the copy: got %v, want ErrFenced", err)
	}
	r.close(l)

	living = false
	l = look()
	must(t, l.WaitOpen(t.Context()))
	r.close(l)
}

func TestLives(t *testing.T) {
	t.Parallel()
	host, err := os.Hostname()
	must(t, err)
	for _, c := range []mirror.Claim{{Host: host, PID: os.Getpid()}, {Host: host, PID: 0}, {Host: host, PID: -1}, {Host: host, PID: 1}, {Host: host + "x", PID: 1}} {
		if lives(&c) {
			t.Errorf("%+v is not another process of this program", c)
		}
	}
}
