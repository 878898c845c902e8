package ledger

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/fence"
)

// again ends the session, as a mirror that joins or a new policy does, and waits until the next one is proven.
func (r *rig) again() {
	r.t.Helper()
	was := r.serving()
	r.tell(fmt.Errorf("a test: %w", errAgain))
	until(r.t, "the next session", func() bool { s := r.serving(); return s != nil && s != was })
}

func (r *rig) closedBy(a holdfast.AccountID) fence.Code { return r.closures()[a].Code }

// An account whose rows are damaged stays closed when the session ends before it is repaired: the proof of the next
// one does not read rows. The scrub opens it when it has proven them.
func TestDamagedRowsStayClosed(t *testing.T) {
	t.Parallel()
	for _, code := range []fence.Code{fence.Mending, fence.Unmended} {
		r := newRig(t)
		r.mustPut("a", "1")
		r.scrub.mu.Lock() // it does nothing meanwhile
		r.closeFor(person, code)
		r.again()
		if got := r.closedBy(person); got != code {
			t.Errorf("in the next session the account is closed by %q, want %q", got, code)
		}
		r.scrub.mu.Unlock()
		until(t, "the account is proven", func() bool { return r.closedBy(person) == "" })
		r.verify()
	}
}

// An account whose rows are damaged is closed over a kill, and until the scrub has proven it: no start reads all rows.
func TestDamagedRowsStayClosedOverRestart(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	closed := 0
	r := newRig(t, func(c *Config) {
		c.Notify = func(e Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Kind == EventAccount && e.Bad && e.Account == person {
				closed++
			}
		}
	})
	r.mustPut("a", "1")
	r.scrub.mu.Lock() // it does nothing meanwhile
	r.closeFor(person, fence.Unmended)
	must(t, r.keepDamaged(person))
	image := r.snapshot() // as a kill leaves it
	r.scrub.mu.Unlock()
	r.close(r.Ledger)
	r.rollBack(image)
	look := r.look(r.cfg)
	if got := look.closures()[person].Code; got != fence.Mending {
		t.Errorf("to a command that only reads the account is closed by %q, want %q", got, fence.Mending)
	}
	r.close(look)
	closed = 0
	r.open()
	mu.Lock()
	if closed == 0 {
		t.Error("the account was open after the start")
	}
	mu.Unlock()
	until(t, "the account is proven, and DIR/heads has forgotten it", func() bool {
		hf, err := readHeadFile(r.cfg.withDefaults())
		return r.closedBy(person) == "" && err == nil && len(hf.Damaged) == 0
	})
	r.verify()
}

// A device proves a loss while rows of its account are being repaired: the repair does not open the account.
func TestTokenWhileMending(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	r.closeFor(person, fence.Mending)
	r.shutByToken(fence.Witness{Account: person, Epoch: 1, Seq: 99, Prefix: []byte("12345678"), Source: "a test", Device: 3})
	if got := r.closedBy(person); got != fence.Loss {
		t.Errorf("closed by %q, want a loss", got)
	}
	r.scrubAll()
	if got := r.closedBy(person); got != fence.Loss {
		t.Errorf("after a scrub closed by %q, want a loss", got)
	}
	r.restart(func() {})
	if got := r.closedBy(person); got != fence.Loss {
		t.Errorf("after a restart closed by %q, want a loss", got)
	}
}

// A stricter policy that comes while a session without a mirror is being proven holds for that session.
func TestPolicyWhileProving(t *testing.T) {
	t.Parallel()
	r := newRig(t, withMirrors(2, Degraded, 0))
	r.away("m2")
	r.putAgain("a", "1")
	r.once("before members", func() { must(t, r.SetPolicy(Strict, 0)) })
	r.tell(fmt.Errorf("a test: %w", errAgain))
	r.waitReason("m2")
	if err := r.put("b", "2"); err == nil {
		t.Error("a write was acknowledged with one copy")
	}
	r.back("m2")
	r.counts("m1", "m2")
	r.putAgain("c", "3")
	r.alone("m2")
}

// A head witness that is named while a session is being proven is that of the next one, at once.
func TestWitnessWhileProving(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	place := filepath.Join(t.TempDir(), "third")
	must(t, r.CreateWitness(t.Context(), place))
	r.once("before members", func() {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // it does not wait
		r.SetWitness(ctx, place)
	})
	r.tell(fmt.Errorf("a test: %w", errAgain))
	until(t, "the witness is used", func() bool { s := r.serving(); return s != nil && s.third != nil })
	r.putAgain("a", "1")
}

// The store is removed while the scrub reads it as slowly as it may: healing does not wait for that.
func TestStoreGoneWhileScrubbed(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.ScrubRate = 1 })
	r.many(20)
	r.KeepScrubbing()
	until(t, "the scrub reads rows", func() bool {
		for _, p := range r.Status().Scrub.Laps {
			if p.Part == partRows && p.Running && p.Bytes > 0 {
				return true
			}
		}
		return false
	})
	must(t, os.RemoveAll(filepath.Join(r.cfg.Dir, "store")))
	before := time.Now()
	until(t, "the store is healed", func() bool {
		_, err := os.Stat(filepath.Join(r.cfg.Dir, "store"))
		return err == nil && r.Status().State == "open"
	})
	t.Logf("healed after %s", time.Since(before))
	r.verify()
}
