package ledger

import (
	"sync"
	"time"

	"holdfast/internal/durable"
)

// freePatience is how long a status waits for a file system to say how much room it has. One that
// hangs (a network mount whose server is gone) must not stop the status, the page or the metrics.
const freePatience = 250 * time.Millisecond

// probes asks file systems how much room they have, each with one goroutine at most.
type probes struct {
	mu sync.Mutex
	of map[string]*probe // by path
}

// probe is the question to one file system. All fields are guarded by probes.mu.
type probe struct {
	since time.Time     // when the question under way was asked
	done  chan struct{} // closed when it is answered; nil: none is under way
	free  int64         // the last answer in bytes; -1: there was none
}

// ask returns the bytes that are free at path. -1: not known. silent says for how long the file system
// has not answered; 0: it did.
func (p *probes) ask(fsys durable.FS, path string) (free int64, silent time.Duration) {
	p.mu.Lock()
	if p.of == nil {
		p.of = map[string]*probe{}
	}
	q := p.of[path]
	if q == nil {
		q = &probe{}
		p.of[path] = q
	}
	if q.done == nil {
		q.since, q.done = time.Now(), make(chan struct{})
		go p.answer(q, fsys, path)
	}
	since, done := q.since, q.done
	p.mu.Unlock()

	t := time.NewTimer(max(0, freePatience-time.Since(since))) // who comes later does not wait as long again
	defer t.Stop()
	select {
	case <-done:
		p.mu.Lock()
		defer p.mu.Unlock()
		return q.free, 0
	case <-t.C:
		return -1, time.Since(since)
	}
}

func (p *probes) answer(q *probe, fsys durable.FS, path string) {
	n, err := durable.FreeOf(fsys, path)
	if err != nil {
		n = -1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	q.free = n
	close(q.done)
	q.done = nil
}
