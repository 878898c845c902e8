package ledger

import (
	"sync"
	"time"
)

// underway knows since when each step of the write path has been going on. A disk that hangs shows in no
// error, only here.
type underway struct {
	mu    sync.Mutex
	since map[string]time.Time // by step; the committer and the shipper have one each
}

// begin notes a step until end is called.
func (u *underway) begin(step string) (end func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.since == nil {
		u.since = map[string]time.Time{}
	}
	u.since[step] = time.Now()
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.since, step)
	}
}

// oldest returns the step that has been going on for longest, and for how long; 0: none is under way.
func (u *underway) oldest() (step string, took time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for name, since := range u.since {
		if d := time.Since(since); step == "" || d > took {
			step, took = name, d
		}
	}
	return step, took
}
