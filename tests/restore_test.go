package clients

import (
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestRestoreKilled plays faults 18 and 23: while the old server runs and takes writes, restores on a new
// box are killed with SIGKILL at random moments and run again until they finish. From then on the old one
// acknowledges nothing. In the end the new one has every acknowledged write of the old, the same ETags and
// sync tokens, and the mirror is whole.
func TestRestoreKilled(t *testing.T) {
	r := seeded(t)
	s := newServer(t)
	j := newJournal()
	st := preload(t, s, j)
	l := startLoad(s, j, r, 2, false)
	l.waitAcks(300, 60*time.Second)
	const rounds = 5 // each takes over from the one before
	kills := 0
	var box string
	for range rounds {
		box = filepath.Join(t.TempDir(), "box")
		kills += restoreKilled(t, r, s.mirror, box)
	}
	if kills < rounds {
		t.Errorf("%d kills, want at least %d", kills, rounds)
	}
	l.stop()
	s.kill()
	s.data = box
	s.start()
	j.verify(t, s)
	if waits := st.check(t); waits > 0 {
		t.Errorf("the new server said wait %d times", waits)
	}
	s.stop()
	s.holdfast("", "mirror", "check", s.mirror)
	t.Logf("%d kills in %d restores under load, %d acknowledged writes, 0 lost", kills, rounds, l.acks.Load())
}

// restoreKilled restores and kills, later each time, until a restore ends before its kill. It returns the kills.
func restoreKilled(t *testing.T, r *rand.Rand, mirror, box string) (kills int) {
	t.Helper()
	for most := 40 * time.Millisecond; ; most *= 2 {
		cmd := exec.Command(binary, "restore", "--from-mirror", mirror, "--to", box, "--yes")
		var out output
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		kill := time.NewTimer(time.Duration(r.Int64N(int64(most))))
		select {
		case err := <-ended:
			kill.Stop()
			if err != nil {
				t.Fatalf("restore after %d kills: %v\n%s", kills, err, out.last(20))
			}
			return kills
		case <-kill.C:
			_ = cmd.Process.Kill() // may have ended this moment
			if err := <-ended; err == nil {
				return kills
			}
			kills++
		}
	}
}
