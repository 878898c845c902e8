package clients

import (
	"testing"
	"time"
)

// TestKill kills the server with SIGKILL at random moments while several clients of two accounts write
// and read. After each restart nothing acknowledged may be lost, no acknowledged delete undone, and the
// sync tokens given out before are valid. With -crash it goes on for that long.
func TestKill(t *testing.T) {
	r := seeded(t)
	s := newServer(t)
	j := newJournal()
	tokens := map[string]string{}
	for account := range s.passwords {
		tokens[account] = s.client(account).mustSync(t, "/dav/"+account+"/contacts/", "").token
	}
	const least = 8 // kills; a run that does fewer fails
	until := time.Now().Add(*crashFor)
	kills, acks := 0, int64(0)
	for ; kills < least || time.Now().Before(until); kills++ {
		l := startLoad(s, j, r, 3, true)
		l.waitAcks(1+r.IntN(60), 60*time.Second)
		s.kill()
		l.stop()
		acks += l.acks.Load()
		s.start()
		j.verify(t, s)
		for account, token := range tokens {
			tokens[account] = j.followToken(t, s.client(account), "/dav/"+account+"/contacts/", token)
		}
	}
	s.stop()
	s.start()
	j.verify(t, s)
	t.Logf("%d kills, %d acknowledged writes to %d paths, 0 lost", kills, acks, len(j.paths()))
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
