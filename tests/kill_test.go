package clients

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestKill plays fault 1 (DURABILITY.md): it kills the server with SIGKILL at random moments while many
// clients of two accounts write, overwrite, delete and read over connections that are kept. After each
// restart nothing acknowledged may be lost or altered, no acknowledged delete undone, and the sync tokens
// given out before are valid. From time to time the store is deleted, so that all must come from the
// mirror, and a new server begins. With -crash it goes on for that long.
func TestKill(t *testing.T) {
	r := seeded(t)
	s := newSpan(8, 200)
	leastAcks := s.count(0, 100_000)
	kills, acks, paths := 0, 0, 0
	for s.goesOn(kills) || acks < leastAcks {
		k := newKilled(t)
		for n := 0; n < 25 && (s.goesOn(kills) || acks < leastAcks); n++ {
			acks += k.round(r, s.count(100, 1200))
			kills++
		}
		k.finish()
		paths += len(k.j.paths())
	}
	s.totals(t, "kill -9", kills, "kills", acks, "acknowledged writes", paths, "paths", 0, "lost", 0, "altered")
}

// killed is one server that is killed again and again.
type killed struct {
	t      *testing.T
	s      *server
	j      *journal
	tokens map[string]string // account to sync token
}

func newKilled(t *testing.T) *killed {
	k := &killed{t: t, s: newServer(t), j: newJournal(), tokens: map[string]string{}}
	for account := range k.s.passwords {
		k.tokens[account] = k.s.client(account).mustSync(t, "/dav/"+account+"/contacts/", "").token
	}
	return k
}

// round kills the server somewhere within the next most writes, starts it again, looks at everything that
// was written since the last kill and at as much of the rest, and returns how many writes were acknowledged.
func (k *killed) round(r *rand.Rand, most int) int {
	l := startLoad(k.s, k.j, r, 12, true)
	l.waitAcks(1+r.IntN(most), 120*time.Second)
	k.s.kill()
	l.stop()
	k.s.start()
	k.j.verifyRecent(k.t, k.s, r)
	for account, token := range k.tokens {
		k.tokens[account] = k.j.followToken(k.t, k.s.client(account), "/dav/"+account+"/contacts/", token)
	}
	return int(l.acks.Load())
}

// finish looks at everything and at every listing, then deletes the store and looks again.
func (k *killed) finish() {
	k.s.stop()
	k.s.start()
	k.j.verify(k.t, k.s)
	k.s.stop()
	k.s.healsFromMirror(k.j)
	k.s.stop()
}

// healsFromMirror deletes the store of a stopped server and starts it: all must come from the mirror.
func (s *server) healsFromMirror(j *journal) {
	s.t.Helper()
	if err := os.RemoveAll(filepath.Join(s.data, "store")); err != nil {
		s.t.Fatal(err)
	}
	s.start()
	j.verify(s.t, s)
}

// followToken asks with a token from before: it must be valid, and what it says is removed must be gone.
func (j *journal) followToken(t *testing.T, c *client, collection, token string) string {
	t.Helper()
	d, err := c.sync(collection, token)
	if err != nil {
		t.Fatalf("the sync token given out before is not valid: %v", err)
	}
	for path := range d.removed {
		if e := j.entry(path); !e.acked.gone {
			t.Errorf("sync of %s tells the phone to delete %s, which nobody deleted", collection, path)
		}
	}
	for path := range d.changed {
		if e := j.entry(path); e.acked.gone {
			t.Errorf("sync of %s brings back %s, whose delete was acknowledged", collection, path)
		}
	}
	return d.token
}
