package clients

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A load is several clients that write and read all the time, each its own paths.
type load struct {
	t        *testing.T
	s        *server
	j        *journal
	lostOK   bool // connections may break: the server is being killed
	full     []int
	cancel   context.CancelFunc
	group    sync.WaitGroup
	acks     atomic.Int64
	waits    atomic.Int64
	progress chan struct{}
	mu       sync.Mutex
	bad      []error
	run      string // part of the names, so that loads do not share paths
}

var loads atomic.Int64

// startLoad runs writers in each account, and as many readers of what has been written, but four at most.
func startLoad(s *server, j *journal, r *rand.Rand, writers int, lostOK bool, full ...int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{
		t: s.t, s: s, j: j, lostOK: lostOK, full: full, cancel: cancel,
		progress: make(chan struct{}, 1), run: fmt.Sprint(loads.Add(1)),
	}
	s.t.Cleanup(l.stop)
	for _, account := range slices.Sorted(maps.Keys(s.passwords)) {
		for n := range writers {
			seed := r.Uint64()
			l.group.Go(func() { l.write(ctx, account, n, rand.New(rand.NewPCG(seed, 2))) })
			if n >= 4 {
				continue
			}
			l.group.Go(func() { l.read(ctx, account, rand.New(rand.NewPCG(seed, 3))) })
		}
	}
	return l
}

// write is one writer: it makes, changes and deletes cards, events and files of its own.
func (l *load) write(ctx context.Context, account string, n int, r *rand.Rand) {
	c := l.s.client(account)
	defer c.http.CloseIdleConnections()
	for i := 0; ctx.Err() == nil; i++ {
		path, v := l.pick(account, n, i, r)
		switch err := l.j.write(c, path, v, l.lostOK, l.full...); {
		case err == nil:
			l.acks.Add(1)
			select {
			case l.progress <- struct{}{}:
			default:
			}
		case errors.Is(err, errTold):
		case errors.Is(err, errWait):
			l.waits.Add(1)
			l.pause(ctx)
		default:
			l.violation(err)
			l.pause(ctx)
		}
	}
}

// pick chooses the next thing to write: mostly new, sometimes a change or a delete of one of the last ten.
func (l *load) pick(account string, n, i int, r *rand.Rand) (string, version) {
	at := i
	choice := r.IntN(10)
	if i > 0 && choice >= 5 {
		at = max(0, i-1-r.IntN(10))
	}
	uid := fmt.Sprintf("l%s-w%d-%d", l.run, n, at)
	text := fmt.Sprintf("version %d %x", i, r.Uint64())
	home := "/dav/" + account + "/"
	var path, body string
	switch at % 4 {
	case 0, 1:
		path, body = home+"contacts/"+uid+".vcf", card(uid, "Load "+uid, text)
	case 2:
		path, body = home+"calendar/"+uid+".ics", event(uid, text, fmt.Sprintf("202612%02d", 1+at%28))
	default:
		path, body = home+"Files/"+uid+".txt", text
		if at%8 == 7 { // a blob: it takes the other way to the disk
			body = strings.Repeat(text+"\n", 3000)
		}
	}
	if choice >= 8 && at != i {
		return path, gone
	}
	return path, version{body: body}
}

// read is one reader: it looks at random paths and judges each answer.
func (l *load) read(ctx context.Context, account string, r *rand.Rand) {
	c := l.s.client(account)
	defer c.http.CloseIdleConnections()
	for ctx.Err() == nil {
		path := l.j.any(account, r)
		if path == "" {
			l.pause(ctx)
			continue
		}
		e := l.j.entry(path)
		if !e.mu.TryLock() {
			continue
		}
		err := e.look(c, path)
		e.mu.Unlock()
		if err != nil && !errors.Is(err, errWait) && (!l.lostOK || !isLost(err)) {
			l.violation(err)
		}
		l.pause(ctx)
	}
}

// isLost reports whether the request had no answer at all, or only part of one.
func isLost(err error) bool {
	var lost *url.Error
	return errors.As(err, &lost) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// pause is a client's patience: a moment, or the end of the load.
func (l *load) pause(ctx context.Context) {
	timer := time.NewTimer(5 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (l *load) violation(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.bad) < 20 {
		l.bad = append(l.bad, err)
	}
}

// waitAcks waits until n more writes have been acknowledged.
func (l *load) waitAcks(n int, limit time.Duration) {
	l.t.Helper()
	until := l.acks.Load() + int64(n)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for l.acks.Load() < until {
		select {
		case <-l.progress:
		case <-timer.C:
			l.t.Fatalf("in %s only %d of %d writes were acknowledged; first violations: %v",
				limit, int64(n)-(until-l.acks.Load()), n, l.violations())
		}
	}
}

func (l *load) violations() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bad
}

// stop ends the load and fails the test for every answer that was neither true nor "wait".
func (l *load) stop() {
	l.cancel()
	l.group.Wait()
	for _, err := range l.violations() {
		l.t.Errorf("neither true nor 503 with Retry-After: %v", err)
	}
	l.bad = nil
}
