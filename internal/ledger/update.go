package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/fence"
	"holdfast/internal/mirror"
	"holdfast/internal/store"
)

// Bounds of one batch. A batch is what queued while the last one committed; there is no timer.
const (
	maxBatch      = 512
	maxBatchBytes = 16 << 20
)

// request is one Update on its way.
type request struct {
	account holdfast.AccountID
	device  holdfast.DeviceID
	fn      func(*Tx) error
	quiet   bool // brings back what was there: the mass-change guard does not count it
	head    holdfast.Head
	err     error
	done    chan struct{}
}

// queue holds the requests that wait for the committer.
type queue struct {
	mu      sync.Mutex
	waiting []*request
	refuse  error         // not nil: nothing is taken
	ready   chan struct{} // has one item when waiting is not empty
}

func newQueue() *queue {
	return &queue{refuse: fmt.Errorf("starting: %w", holdfast.ErrFenced), ready: make(chan struct{}, 1)}
}

func (q *queue) put(r *request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.refuse != nil {
		return q.refuse
	}
	q.waiting = append(q.waiting, r)
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return nil
}

func (q *queue) take(n int) []*request {
	q.mu.Lock()
	defer q.mu.Unlock()
	taken, rest := fairly(q.waiting, n)
	q.waiting = rest
	if len(q.waiting) > 0 {
		select {
		case q.ready <- struct{}{}:
		default:
		}
	}
	return taken
}

// giveBack puts requests that were taken, and not begun, before those that wait.
func (q *queue) giveBack(rs []*request) {
	if len(rs) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = slices.Concat(rs, q.waiting)
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// open lets requests in; stop refuses them from now on and answers those that wait. None of them was begun.
func (q *queue) open() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refuse = nil
}

func (q *queue) stop(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refuse = err
	for _, r := range q.waiting {
		r.err = err
		close(r.done)
	}
	q.waiting = nil
}

// Update runs fn against the newest state of an account and makes what it records one change. It
// returns once the change is durable in the store and in every mirror and the claims still hold.
//
// fn runs at most once, in the committer: it must be quick and do nothing but read tx and record
// operations. If fn returns an error nothing is written, and Update returns that error once the
// state it was judged by is durable (R11). Otherwise the errors are ErrFenced (closed; nothing was
// written), ErrFull (nothing was written) and ErrNotDurable (the change may exist).
func (l *Ledger) Update(ctx context.Context, a holdfast.AccountID, by holdfast.DeviceID, fn func(tx *Tx) error) (holdfast.Head, error) {
	return l.update(ctx, &request{account: a, device: by, fn: fn})
}

// BringBack is Update for changes of the server that only bring back what was there before: the
// mass-change guard does not count them.
func (l *Ledger) BringBack(ctx context.Context, a holdfast.AccountID, fn func(tx *Tx) error) (holdfast.Head, error) {
	return l.update(ctx, &request{account: a, fn: fn, quiet: true})
}

func (l *Ledger) update(ctx context.Context, r *request) (holdfast.Head, error) {
	if err := l.admit(r.account); err != nil {
		return holdfast.Head{}, err
	}
	defer l.observe("ack", time.Now())
	r.done = make(chan struct{})
	if err := l.queue.put(r); err != nil {
		return holdfast.Head{}, err
	}
	select {
	case <-r.done:
		return r.head, r.err
	case <-ctx.Done():
		return holdfast.Head{}, fmt.Errorf("update: %w: %w", ctx.Err(), holdfast.ErrNotDurable)
	}
}

// admit refuses a write that the fence does not let through.
func (l *Ledger) admit(a holdfast.AccountID) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.state == fence.Closed {
		return fmt.Errorf("fence closed: %s: %w", l.reason.Full(), holdfast.ErrFenced)
	}
	if why, ok := l.shut[a]; ok {
		return fmt.Errorf("fence of account %s closed: %s: %w", a, why.Full(), holdfast.ErrFenced)
	}
	return nil
}

// batch is what one store transaction committed, on its way to the mirrors.
type batch struct {
	requests []*request
	frames   []mirror.Frame
	bytes    int       // of the frames' payloads
	blobs    []ownBlob // that the frames name
	events   []Event   // to be told once it is acknowledged
	named    []string  // records of snapshots that the events tell of
	heads    map[holdfast.AccountID]holdfast.AccountHead
	touched  map[holdfast.AccountID][]touchedBy // of accounts that somebody watches
}

// ownBlob is a body over 64 KiB and whose it is.
type ownBlob struct {
	account holdfast.AccountID
	frame.Blob
}

func (b *batch) answer(err error) {
	for _, r := range b.requests {
		if err != nil {
			r.err = err
		}
		close(r.done)
	}
}

// commit runs the requests in one store transaction (W1). An error means that this store must not be
// used any more; the requests have then been answered.
func (s *session) commit(reqs []*request) (*batch, error) {
	b := &batch{requests: reqs, heads: map[holdfast.AccountID]holdfast.AccountHead{}}
	if err := s.room(); err != nil {
		s.ledger.noteSpace(err)
		for _, r := range reqs {
			r.err = err // nothing was begun; the answer still waits for what is under way (R11)
		}
		return b, nil
	}
	tx, err := s.db.Begin(context.Background())
	if err != nil {
		err = fmt.Errorf("begin: %w", err)
		s.ledger.demote(err)
		b.answer(fmt.Errorf("%w: %w", err, holdfast.ErrNotDurable))
		return nil, err
	}
	at, err := s.runAll(tx, reqs, b)
	reqs = b.requests
	if err == nil && len(b.frames) > 0 {
		err = s.ledger.step("commit", tx.Commit)
	}
	err = errors.Join(err, tx.Rollback()) // nothing after a commit
	switch {
	case err == nil:
		for a, h := range b.heads {
			s.committed[a] = h
		}
		return b, nil
	case errors.Is(err, holdfast.ErrCorrupt) && !errors.Is(err, holdfast.ErrFatal): // clean: what it needed could not be read
		s.damagedAt(b, reqs, at, err)
		return b, nil
	case errors.Is(err, holdfast.ErrFull): // clean: rolled back, nothing was mirrored
		b.frames, b.heads, b.blobs, b.events, b.named, b.touched = nil, nil, nil, nil, nil, nil
		s.guard = nil // what it counted did not happen
		s.paths.forget()
		for _, r := range reqs { // refusals too: they were judged by a state that never came to be (R11)
			r.head, r.err = holdfast.Head{}, fmt.Errorf("commit: %w", err)
		}
		return b, nil
	}
	s.ledger.demote(err)
	b.answer(fmt.Errorf("commit: %w: %w", err, holdfast.ErrNotDurable))
	return nil, storeError("commit", err)
}

// runAll lets the requests of a batch decide, one after the other, and gives back those that it has no room for: of
// all when the batch is large, of one account when others are in it and it has brought its share. With an error comes
// whose rows it is from.
func (s *session) runAll(tx *store.Tx, reqs []*request, b *batch) (at []holdfast.AccountID, err error) {
	portions := newPortions(reqs)
	var later []*request
	begun := reqs[:0:0]
	for i, r := range reqs {
		if portions.spent(r) {
			later = append(later, r)
			continue
		}
		begun = append(begun, r)
		before := b.bytes
		if err = s.run(tx, r, b); err != nil {
			at = []holdfast.AccountID{r.account}
			begun = append(begun, reqs[i+1:]...)
			break
		}
		portions.spend(r, b.bytes-before)
		if b.bytes >= maxBatchBytes { // the rest is for the next batch
			later = append(later, reqs[i+1:]...)
			break
		}
	}
	b.requests = begun
	s.ledger.queue.giveBack(later)
	return at, err
}

// damagedAt answers a batch of which nothing was written because an account's rows are damaged. That account takes no
// more writes until it was proven and repaired; the others of the batch try again.
func (s *session) damagedAt(b *batch, reqs []*request, at []holdfast.AccountID, err error) {
	if len(at) == 0 { // the heads themselves
		at = slices.Collect(maps.Keys(b.heads))
	}
	s.paths.forget()
	b.frames, b.heads, b.blobs, b.events, b.named, b.touched = nil, nil, nil, nil, nil, nil
	s.guard = nil // what it counted did not happen
	for _, r := range reqs {
		r.head, r.err = holdfast.Head{}, fmt.Errorf("nothing was written, an account's rows are damaged: %w: %w", err, holdfast.ErrNotDurable)
	}
	for _, a := range at {
		if !s.ledger.scrub.known(a) { // else it answers with errors where it is damaged, and with all else
			s.ledger.closeFor(a, fence.Mending)
			s.ledger.scrub.reprove(a)
		}
	}
}

// run lets one request decide and applies what it recorded. An error condemns the whole transaction.
func (s *session) run(tx *store.Tx, r *request, b *batch) error {
	head, err := s.newest(tx, r.account, b)
	if err != nil {
		return err
	}
	open := func() (*store.Reader, error) { return tx.Reader, nil }
	t := &Tx{reads: reads{open: open, account: r.account, seq: head.Head.Seq, at: store.Newest, ledger: s.ledger, paths: s.paths}, head: head}
	if r.err = t.call(r.fn); r.err != nil {
		s.recordPanic(r.err)
		if errors.Is(r.err, errStoreGone) {
			return r.err
		}
		return nil
	}
	if len(t.ops) == 0 {
		r.head = head.Head
		return nil
	}
	c := &frame.Change{
		Account: r.account, Epoch: max(head.Epoch, 1), Seq: head.Head.Seq + 1, Term: s.term,
		Time: s.ledger.now().UnixMilli(), Device: r.device, Ops: t.ops,
	}
	payload, err := c.Encode(nil)
	if err != nil {
		r.err = err
		return nil
	}
	hash, err := frame.ChainHash(head.Head.Hash, payload)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(c.Ops, changesCollections) {
		s.paths.change(r.account, c.Seq)
	}
	if err := tx.Apply(c, payload, hash); errors.Is(err, holdfast.ErrInvalid) {
		r.err = err // it does not fit, and nothing of it was written; the others go on
		return nil
	} else if err != nil {
		return fmt.Errorf("apply change %s of account %s: %w", c.Seq, r.account, err)
	}
	r.head = holdfast.Head{Seq: c.Seq, Hash: hash}
	if s.ledger.cfg.hooks.attempt != nil {
		s.ledger.cfg.hooks.attempt(r.device, r.head)
	}
	b.heads[r.account] = holdfast.AccountHead{Account: r.account, Epoch: c.Epoch, Head: r.head}
	b.bytes += len(payload)
	if s.ledger.isWatched(r.account) {
		b.touch(r.account, c.Seq, tx.Touched())
	}
	for _, o := range c.Ops {
		if o.Blob != nil {
			b.blobs = append(b.blobs, ownBlob{r.account, *o.Blob})
		}
	}
	b.frames = append(b.frames, mirror.Frame{Account: r.account, Epoch: c.Epoch, Seq: c.Seq, Hash: hash, Term: c.Term, Payload: payload})
	return s.guardChange(tx, r, c, b)
}

func changesCollections(o frame.Op) bool {
	return o.Type == frame.OpPutCollection || o.Type == frame.OpDeleteCollection
}

// newest returns the head that the next change of an account extends, and proves that the store
// still has the one this process committed last (R9).
func (s *session) newest(tx *store.Tx, a holdfast.AccountID, b *batch) (holdfast.AccountHead, error) {
	if h, ok := b.heads[a]; ok {
		return h, nil
	}
	h, err := tx.Head(a)
	if err != nil {
		return h, fmt.Errorf("read head of account %s: %w", a, err)
	}
	if want := s.committed[a]; h.Head != want.Head && !s.ledger.planted(anyHead) {
		return h, fmt.Errorf("store changed under this process: %w",
			&holdfast.HeadMismatchError{Account: a, Store: h.Head, Mirror: want.Head, Where: "the last commit"})
	}
	h.Account = a
	return h, nil
}

// errPanic marks a request whose fn panicked.
var errPanic = errors.New("internal error")

// call runs fn; a panic in it fails the request alone, for nothing was written yet.
func (t *Tx) call(fn func(*Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: panic in update: %v\n%s", errPanic, p, debug.Stack())
		}
	}()
	if err = fn(t); err == nil {
		err = t.err
	}
	return err
}

func (s *session) recordPanic(err error) {
	if errors.Is(err, errPanic) {
		s.ledger.log.Error("update panicked", "err", err)
	}
}
