package durable

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast"
)

// How a Bound treats one place.
const (
	// boundSlots is how many calls to one place may be under way. It bounds the goroutines, and the
	// threads below them, that a disk which hangs can hold.
	boundSlots = 16
	// boundReads times the limit is how long one read of data may take: a disk tries a bad sector for up to
	// a minute, and nothing that waits for an answer reads data there.
	boundReads = 12
	// boundDirty is how many bytes are written before they are synced, so that no single sync has to move more
	// than a slow disk does within the limit.
	boundDirty = 4 << 20
)

// Bound limits how long anybody waits for one place of a file system: a system call on a network mount whose
// server is gone, on a dying disk or on a frozen file system may never return, and cannot be called off.
//
// Calls go through a use of the place (Use). Each runs in a goroutine of its own; when one has not returned
// within the limit, its caller goes on with an error that is ErrSlow and ErrAbsent (nothing is known of what
// is there), and so does every other caller of that use, now and for ever. What was abandoned is left alone:
// it works on memory of its own, its file is closed after it has returned, its late result goes to nobody.
// Only when all calls of a use have returned is there another one. So at no time does anything that came after
// run beside a late call: what a late call did has happened before the place is looked at again.
//
// A late call may have failed in a way that is final for the process (ErrFatal, a failed sync): then there
// is no other use, and Use returns that error.
type Bound struct {
	fs    FS
	limit time.Duration
	told  func(BoundNews)
	after func(time.Duration) (c <-chan time.Time, stop func() bool)
	slots chan struct{}

	mu       sync.Mutex // guards all below, and the fields of a use
	use      *use       // the newest one
	underway int        // calls of all uses that have not returned
	final    error      // why there is no other use: of a late call, or GiveUp
	slow     int
}

// BoundNews says that a place stopped answering, or answers again.
type BoundNews struct {
	Err  error         // what did not return in time; nil: all calls have returned
	Took time.Duration // how long the place was silent, when it answers again
}

// use is one use of a place, from Use until a call is late.
type use struct {
	b        *Bound
	dead     chan struct{} // closed when a call was late
	err      error         // set before dead is closed
	since    time.Time     // when the late call began
	underway int           // calls that have not returned
	orphans  []func()      // what is to be done after the last call has returned
	said     bool          // that all calls have returned
}

// NewBound returns the bound of one place of fsys. told hears what happens there, without any lock held. after
// makes the timers.
func NewBound(fsys FS, limit time.Duration, told func(BoundNews), after func(time.Duration) (<-chan time.Time, func() bool)) *Bound {
	return &Bound{fs: fsys, limit: limit, told: told, after: after, slots: make(chan struct{}, boundSlots)}
}

// Use returns the file system to use the place by, as long as no call is late. The error is that of the late
// call while it, or another one of its use, has not returned; or one that is final.
func (b *Bound) Use() (FS, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.final != nil:
		return nil, b.final
	case b.use != nil && b.use.err == nil:
	case b.use != nil && b.underway > 0:
		return nil, b.use.err
	default:
		b.use = &use{b: b, dead: make(chan struct{})}
	}
	return bounded{b.use}, nil
}

// Within limits a step of several calls to the place as a whole. The caller calls stop when the step has ended.
func (b *Bound) Within(step string) (stop func()) {
	b.mu.Lock()
	u := b.use
	b.mu.Unlock()
	if u == nil {
		return func() {}
	}
	began := time.Now()
	t := time.AfterFunc(b.limit, func() { u.end(step, began) })
	return func() { t.Stop() }
}

// GiveUp ends every use for good: for who cannot wait any longer.
func (b *Bound) GiveUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.final == nil {
		b.final = fmt.Errorf("it was given up at the end of the process: %w: %w", holdfast.ErrSlow, holdfast.ErrAbsent)
	}
	if u := b.use; u != nil && u.err == nil {
		u.err = b.final
		close(u.dead)
	}
}

// Slow returns how often the place did not answer in time, and what has not returned yet; nil: all has.
func (b *Bound) Slow() (n int, hangs error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if u := b.use; u != nil && u.err != nil && b.underway > 0 {
		hangs = u.err
	}
	return b.slow, hangs
}

// end makes a use unusable because something that began then was not over in time.
func (u *use) end(what string, began time.Time) {
	b := u.b
	b.mu.Lock()
	if u.err != nil {
		b.mu.Unlock()
		return
	}
	u.since = began
	// The same words for as long as it hangs, so that nobody is told again and again.
	u.err = fmt.Errorf("%s was not over within %v (it began at %s): %w: %w", what, b.limit, began.UTC().Format("15:04:05 UTC"), holdfast.ErrSlow, holdfast.ErrAbsent)
	b.slow++
	close(u.dead)
	b.mu.Unlock()
	b.told(BoundNews{Err: u.err})
}

// enter counts a call; its end is leave.
func (u *use) enter(what string) error {
	b := u.b
	select {
	case b.slots <- struct{}{}:
	default:
		began := time.Now()
		c, stop := b.after(b.limit)
		defer stop()
		select {
		case b.slots <- struct{}{}:
		case <-u.dead:
			return u.err
		case <-c:
			u.end(what, began)
			return u.err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if u.err != nil {
		<-b.slots
		return u.err
	}
	u.underway++
	b.underway++
	return nil
}

// leave is called by the goroutine of a call when that has returned.
func (u *use) leave() {
	<-u.b.slots
	u.finish()
}

// finish ends a call. The last one of a dead use does what was left to be done; only then may the place be
// used again.
func (u *use) finish() {
	b := u.b
	b.mu.Lock()
	for u.underway == 1 && len(u.orphans) > 0 {
		all := u.orphans
		u.orphans = nil
		b.mu.Unlock()
		for _, do := range all {
			do()
		}
		b.mu.Lock()
	}
	u.underway--
	b.underway--
	back := u.err != nil && u.underway == 0 && u == b.use && b.final == nil && !u.said
	u.said = u.said || back
	took := time.Since(u.since)
	b.mu.Unlock()
	if back {
		b.told(BoundNews{Took: took})
	}
}

// later does something to what a dead use left, after all its calls have returned.
func (u *use) later(do func()) {
	b := u.b
	b.mu.Lock()
	defer b.mu.Unlock()
	u.orphans = append(u.orphans, do)
	if u.underway == 0 {
		u.underway++
		b.underway++
		go u.finish()
	}
}

// late takes note of what an abandoned call returned after all.
func (u *use) late(err error) {
	if errors.Is(err, holdfast.ErrFatal) {
		u.b.mu.Lock()
		if u.b.final == nil {
			u.b.final = fmt.Errorf("a call that was given up as too slow failed later: %w", err)
		}
		u.b.mu.Unlock()
	}
}

// answer is what a call returned.
type answer[T any] struct {
	v   T
	err error
}

// within runs call and waits for it as long as the bound allows. drop gets what an abandoned call returned
// without an error; it may be nil.
func within[T any](u *use, what string, patience int, call func() (T, error), drop func(T)) (T, error) {
	var zero T
	if err := u.enter(what); err != nil {
		return zero, err
	}
	began := time.Now()
	done := make(chan answer[T], 1)
	var mu sync.Mutex
	abandoned := false
	go func() {
		defer u.leave()
		v, err := call()
		mu.Lock()
		defer mu.Unlock()
		if !abandoned {
			done <- answer[T]{v, err}
			return
		}
		u.late(err)
		if err == nil && drop != nil {
			drop(v)
		}
	}()
	c, stop := u.b.after(time.Duration(patience) * u.b.limit)
	defer stop()
	select {
	case a := <-done:
		return a.v, a.err
	case <-c:
		u.end(what, began)
	case <-u.dead:
	}
	mu.Lock()
	defer mu.Unlock()
	select {
	case a := <-done: // in the last moment
		if a.err == nil && drop != nil {
			u.later(func() { drop(a.v) })
		}
		u.late(a.err)
	default:
		abandoned = true
	}
	return zero, u.err
}

// do is within for a call that returns nothing else.
func (u *use) do(what string, call func() error) error {
	_, err := within(u, what, 1, func() (struct{}, error) { return struct{}{}, call() }, nil)
	return err
}
