package mirror

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/bucket"
)

// Frame is one change to append.
type Frame struct {
	Account holdfast.AccountID
	Epoch   holdfast.Epoch
	Seq     holdfast.Seq
	Hash    holdfast.Hash // account chain hash up to and with this change
	Term    holdfast.Term // of the store history that committed the change
	Payload []byte        // what frame.Change.Encode wrote
	Erased  bool          // at least one operation was erased: written as a tombstone frame
}

// Log is the log of one term in this mirror, open for appending. Append, Seal and Close may be called
// at the same time; they run one after the other.
type Log struct {
	m  *Mirror
	id frame.LogID

	mu       sync.Mutex // owns all below
	err      error      // final
	app      bucket.Appender
	head     frame.SegmentHeader // of the open segment
	segments int                 // begun so far
	size     int64               // bytes that the open segment may take
	off      int64               // where the next batch starts
	pos      uint64              // of the next frame
	chain    holdfast.Hash       // log chain hash before the next frame
	index    []uint64            // of the open segment
	heads    map[holdfast.AccountID]holdfast.AccountHead
	buf      []byte

	behind    sync.WaitGroup // verifications of sealed segments under way
	behindErr atomic.Pointer[error]
}

// growth makes the first segments of a log small, because a crash leaves its preallocated rest behind.
const (
	firstSegment = 1 << 20 // bytes
	growth       = 4       // each segment may be this much larger than the one before
)

// MaxBatch is the most frames that Append takes at once. The first batch of the next log holds them
// again beside a checkpoint, so it is less than what a reader takes.
const MaxBatch = frame.MaxBatch / 2

// keepBuf is the largest encoding buffer, in bytes, that a Log keeps between batches.
const keepBuf = 4 << 20

// StartLog begins the log of a claimed term. heads is what this mirror holds, all logs together: what
// Recover found after the claim, or less where an operator accepted a loss. Its first segment is
// durable when it returns; it begins with one batch of the checkpoint and, again, the last batch of
// the log before, of which nobody knows whether it reached the medium. ErrInvalid: heads promise what Recover did not
// find. ErrFenced: the term is not, or no longer, ours. ErrExists: the term has a log.
func (m *Mirror) StartLog(ctx context.Context, t holdfast.Term, heads map[holdfast.AccountID]holdfast.AccountHead) (*Log, error) {
	if err := m.startable(ctx, t, heads); err != nil {
		return nil, fmt.Errorf("start log %s in mirror %s: %w", t, m.cfg.Name, err)
	}
	id := frame.LogID{Server: m.cfg.Server, Mirror: m.id, Term: t}
	l := &Log{m: m, id: id, pos: 1, chain: id.Start()}
	again, err := l.takeOver(ctx, heads)
	if err == nil {
		err = l.begin(ctx, holdfast.Hash{}, again, 0, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("start log %s in mirror %s: %w", t, m.cfg.Name, errors.Join(err, l.Close()))
	}
	l.heads = maps.Clone(heads)
	if l.heads == nil {
		l.heads = map[holdfast.AccountID]holdfast.AccountHead{}
	}
	if err := m.CheckTerm(ctx, t); err != nil {
		return nil, fmt.Errorf("start log %s in mirror %s: %w", t, m.cfg.Name, errors.Join(err, l.Close()))
	}
	m.mu.Lock()
	m.term = t
	m.mu.Unlock()
	m.log.Info("log started", "term", t.String(), "accounts", len(heads))
	return l, nil
}

func (m *Mirror) startable(ctx context.Context, t holdfast.Term, heads map[holdfast.AccountID]holdfast.AccountHead) error {
	if err := m.CheckTerm(ctx, t); err != nil {
		return err
	}
	for info, err := range m.cfg.Bucket.List(ctx, logPrefix+t.String()+"/") {
		if err != nil {
			return fmt.Errorf("list log: %w", err)
		}
		return fmt.Errorf("%s is there: %w", info.Name, holdfast.ErrExists)
	}
	if m.hooks.anyHeads {
		return nil
	}
	m.mu.Lock()
	found, seen := m.recovered, m.seen
	m.mu.Unlock()
	if found == nil || seen < t.Number {
		return fmt.Errorf("this mirror was not read after the claim: %w", holdfast.ErrInvalid)
	}
	for a, h := range heads {
		f := found.Heads[a].Head
		if a != h.Account || h.Head.Seq == 0 || h.Epoch == 0 || h.Head.Seq > f.Seq || (h.Head.Seq == f.Seq && h.Head.Hash != f.Hash) {
			return fmt.Errorf("account %s: head %s, but this mirror has %s: %w", a, h.Head, f, holdfast.ErrInvalid)
		}
	}
	return nil
}

// takeOver sets the heads to those below the last batch that Recover found, and returns that batch.
func (l *Log) takeOver(ctx context.Context, heads map[holdfast.AccountID]holdfast.AccountHead) ([]item, error) {
	l.heads = map[holdfast.AccountID]holdfast.AccountHead{}
	maps.Copy(l.heads, heads)
	l.m.mu.Lock()
	found := l.m.recovered
	l.m.mu.Unlock()
	if found == nil || found.last.segment == nil || l.m.hooks.trustLast {
		return nil, nil
	}
	for a, h := range found.last.before {
		if h.Head.Seq >= l.heads[a].Head.Seq {
			continue
		}
		if l.heads[a] = h; h.Head.Seq == 0 {
			delete(l.heads, a)
		}
	}
	name := found.last.segment.name
	r, done, err := l.m.reader(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read the last batch of %s again: %w", name, err)
	}
	defer done()
	var items []item
	for i := range found.last.frames {
		f := found.last.frames[i]
		if f.Seq > heads[f.Account].Head.Seq {
			continue // given up
		}
		payload, err := r.Load(&f)
		if err != nil {
			return nil, fmt.Errorf("read the last batch of %s again: %w", name, err)
		}
		items = append(items, item{h: f.Header, payload: slices.Clone(payload)})
	}
	return items, nil
}

// begin makes the next segment, with room for a batch of need bytes and n frames. Its first batch is
// a checkpoint and the frames of again.
func (l *Log) begin(ctx context.Context, prev holdfast.Hash, again []item, need int64, n int) error {
	l.head = frame.SegmentHeader{Log: l.id, First: l.pos, Prev: prev, Chain: l.chain, Created: l.m.cfg.Now().UnixMilli()}
	first := append(l.checkpoint(), again...)
	l.index = l.index[:0]
	l.off = frame.SegmentHeaderSize
	batch := l.encode(first)
	size := int64(firstSegment)
	for range l.segments {
		size = min(size*growth, l.m.cfg.SegmentSize)
	}
	least := l.off + int64(len(batch.bytes)) + need + frame.FooterLen(uint64(len(first)+n+2))
	l.size = max(min(size, l.m.cfg.SegmentSize), least)
	name := segmentName(l.id.Term, l.head.First, false)
	l.m.step("begin %s next", name)
	app, err := l.m.cfg.Bucket.Append(ctx, name, l.size, l.head.Encode())
	if err != nil {
		return fmt.Errorf("begin segment %s: %w", name, err)
	}
	l.app = app
	l.segments++
	l.m.step("begin %s", name)
	if err := l.write(batch); err != nil {
		return fmt.Errorf("write the first batch of %s: %w", name, err)
	}
	return nil
}

// item is one frame to encode: its header as far as the caller knows it, and its payload.
type item struct {
	h       frame.Header
	payload []byte
}

// checkpoint returns the frames that hold all heads.
func (l *Log) checkpoint() []item {
	heads := slices.SortedFunc(maps.Values(l.heads), func(a, b holdfast.AccountHead) int {
		if a.Account < b.Account {
			return -1
		}
		return 1
	})
	parts := max(1, (len(heads)+frame.MaxCheckpointHeads-1)/frame.MaxCheckpointHeads)
	items := make([]item, 0, parts)
	for i := range parts {
		part := heads[i*frame.MaxCheckpointHeads : min(len(heads), (i+1)*frame.MaxCheckpointHeads)]
		c := frame.Checkpoint{Part: i, Parts: parts, Heads: part}
		items = append(items, item{h: frame.Header{Type: frame.TypeCheckpoint}, payload: c.Encode(nil)})
	}
	return items
}

// encoded is a batch ready to be written, and what the log is after it.
type encoded struct {
	bytes []byte
	pos   uint64
	chain holdfast.Hash
	index []uint64 // to be added
}

// encode makes a batch of items and a commit frame at the log's present end.
func (l *Log) encode(items []item) encoded {
	e := encoded{bytes: l.buf[:0], pos: l.pos, chain: l.chain}
	for i := range items {
		l.add(&e, &items[i].h, items[i].payload)
	}
	commit := frame.Commit{First: l.pos, Last: e.pos - 1, Time: l.m.cfg.Now().UnixMilli()}
	l.add(&e, &frame.Header{Type: frame.TypeCommit}, commit.Encode())
	e.bytes = append(e.bytes, make([]byte, frame.AlignBatch(int64(len(e.bytes)))-int64(len(e.bytes)))...)
	if cap(e.bytes) <= keepBuf {
		l.buf = e.bytes
	}
	return e
}

func (l *Log) add(e *encoded, h *frame.Header, payload []byte) {
	if (e.pos-l.head.First)%frame.IndexStep == 0 {
		e.index = append(e.index, uint64(l.off)+uint64(len(e.bytes)))
	}
	h.Pos, h.SyncedTo = e.pos, l.pos
	if !h.IsChange() {
		h.Term, h.Hash = l.id.Term, sha256.Sum256(payload)
	}
	h.Chain = h.Next(e.chain)
	e.bytes = frame.Append(e.bytes, l.id.Seed(), h, payload)
	e.pos, e.chain = e.pos+1, h.Chain
}

// write appends a batch; it is durable on return. The first error is final.
func (l *Log) write(e encoded) error {
	if err := l.app.Append(e.bytes); err != nil {
		l.err = fmt.Errorf("append pos %d to %d: %w", l.pos, e.pos-1, err)
		return l.err
	}
	l.off += int64(len(e.bytes))
	l.pos, l.chain = e.pos, e.chain
	l.index = append(l.index, e.index...)
	l.m.step("append to %d", l.pos-1)
	return nil
}

// Append writes the frames and a commit frame in one write; all of them are durable when it returns
// nil, and none counts before. It may not be acknowledged before CheckTerm returned nil afterwards.
// Each frame must extend its account's head in this mirror, or lie at or below it (a refill).
// ErrInvalid, ErrTooLarge (more than MaxBatch frames): nothing was written, the log goes on. Any other error is final for the
// log: the batch may or may not be there. ErrFull: it is not.
func (l *Log) Append(ctx context.Context, batch []Frame) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed() != nil {
		return fmt.Errorf("mirror %s: log is closed: %w", l.m.cfg.Name, l.err)
	}
	if len(batch) == 0 {
		return nil
	}
	items, heads, err := l.check(batch)
	if err != nil {
		return fmt.Errorf("mirror %s: %w", l.m.cfg.Name, err)
	}
	if err := l.appendItems(ctx, items); err != nil {
		l.err = err
		return fmt.Errorf("mirror %s: %w", l.m.cfg.Name, err)
	}
	maps.Copy(l.heads, heads)
	return nil
}

func (l *Log) appendItems(ctx context.Context, items []item) error {
	need := batchLen(items)
	if l.off+need+l.footerLen(len(items)+1) > l.size {
		if l.m.hooks.crossRotation && len(items) > 1 {
			if err := l.write(l.encode(items[:1])); err != nil {
				return err
			}
			items = items[1:]
		}
		if err := l.rotate(ctx, need, len(items)+1); err != nil {
			return err
		}
	}
	return l.write(l.encode(items))
}

// footerLen returns the bytes of the footer of the open segment with n more frames.
func (l *Log) footerLen(n int) int64 { return frame.FooterLen(l.pos - l.head.First + uint64(n)) }

func batchLen(items []item) int64 {
	n := frame.Len(len(frame.Commit{}.Encode()))
	for i := range items {
		n += frame.Len(len(items[i].payload))
	}
	return frame.AlignBatch(n)
}

// check judges a batch and returns its frames and the heads after it. Nothing is changed.
func (l *Log) check(batch []Frame) ([]item, map[holdfast.AccountID]holdfast.AccountHead, error) {
	if len(batch) > MaxBatch {
		return nil, nil, fmt.Errorf("batch of %d frames: %w", len(batch), holdfast.ErrTooLarge)
	}
	items := make([]item, 0, len(batch))
	heads := map[holdfast.AccountID]holdfast.AccountHead{}
	for i := range batch {
		f := &batch[i]
		if len(f.Payload) > frame.MaxPayload {
			return nil, nil, fmt.Errorf("payload of %d bytes: %w", len(f.Payload), holdfast.ErrTooLarge)
		}
		id, err := frame.Identify(f.Payload)
		if err != nil {
			return nil, nil, fmt.Errorf("account %s seq %s (%w): %w", f.Account, f.Seq, err, holdfast.ErrInvalid)
		}
		if id.Account != f.Account || id.Epoch != f.Epoch || id.Seq != f.Seq || (f.Term != holdfast.Term{} && id.Term != f.Term) {
			return nil, nil, fmt.Errorf("account %s seq %s: the payload is of account %s seq %s: %w", f.Account, f.Seq, id.Account, id.Seq, holdfast.ErrInvalid)
		}
		head, ok := heads[f.Account]
		if !ok {
			head = l.heads[f.Account]
		}
		next, err := extend(head, f)
		if err != nil {
			return nil, nil, err
		}
		heads[f.Account] = next
		t := frame.TypeChange
		if f.Erased {
			t = frame.TypeTombstone
		}
		items = append(items, item{payload: f.Payload, h: frame.Header{
			Type: t, Epoch: f.Epoch, Account: f.Account, Seq: f.Seq, Term: id.Term, Hash: f.Hash,
		}})
	}
	return items, heads, nil
}

// extend returns the account's head after a frame.
func extend(head holdfast.AccountHead, f *Frame) (holdfast.AccountHead, error) {
	switch {
	case f.Seq < head.Head.Seq, f.Seq == head.Head.Seq && f.Hash == head.Head.Hash:
		return head, nil // a refill
	case f.Seq != head.Head.Seq+1:
		return head, fmt.Errorf("account %s: seq %s after head %s: %w", f.Account, f.Seq, head.Head, holdfast.ErrInvalid)
	case f.Epoch < head.Epoch:
		return head, fmt.Errorf("account %s: epoch %d after %d: %w", f.Account, f.Epoch, head.Epoch, holdfast.ErrInvalid)
	}
	hash, err := frame.ChainHash(head.Head.Hash, f.Payload)
	if err != nil || hash != f.Hash {
		return head, fmt.Errorf("account %s seq %s does not follow head %s: %w", f.Account, f.Seq, head.Head, holdfast.ErrInvalid)
	}
	return holdfast.AccountHead{Account: f.Account, Epoch: f.Epoch, Head: holdfast.Head{Seq: f.Seq, Hash: hash}}, nil
}

// Pos returns the pos of the last durable frame.
func (l *Log) Pos() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pos - 1
}

// Heads returns what this mirror holds by now, all logs together.
func (l *Log) Heads() map[holdfast.AccountID]holdfast.AccountHead {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.heads)
}

// rotate seals the open segment and begins the next.
func (l *Log) rotate(ctx context.Context, need int64, n int) error {
	prev, err := l.seal(ctx)
	if err != nil {
		return err
	}
	return l.begin(ctx, prev, nil, need, n)
}

// seal ends the open segment: footer, rename, and what the medium gives back must be what was written.
func (l *Log) seal(ctx context.Context) (holdfast.Hash, error) {
	f := frame.Footer{First: l.head.First, Last: l.pos - 1, Prev: l.head.Prev, Index: l.index, Offset: uint64(l.off)}
	f.Hash = frame.FooterHash(f.Prev, f.First, f.Last, l.chain)
	payload := f.Encode()
	h := frame.Header{Type: frame.TypeFooter, Pos: l.pos, SyncedTo: l.pos, Term: l.id.Term, Hash: sha256.Sum256(payload), Chain: l.chain}
	if err := l.app.Append(frame.Append(nil, l.id.Seed(), &h, payload)); err != nil {
		return f.Hash, fmt.Errorf("append footer at pos %d: %w", l.pos, err)
	}
	l.m.step("footer %d", l.pos)
	name := segmentName(l.id.Term, l.head.First, true)
	if err := l.app.Seal(ctx, name); err != nil {
		return f.Hash, fmt.Errorf("seal segment %s: %w", name, err)
	}
	l.m.step("seal %s", name)
	app := l.app
	l.app = nil
	if err := app.Close(); err != nil {
		return f.Hash, fmt.Errorf("close segment %s: %w", name, err)
	}
	return f.Hash, l.verify(ctx, name, &f)
}

// verify reads a sealed segment back, in the call or beside the next appends. Its bytes were durable
// before they were acknowledged; what a bad disk made of them must be known soon, not at once.
func (l *Log) verify(ctx context.Context, name string, f *frame.Footer) error {
	read := func(ctx context.Context) error {
		err := l.m.verifySealed(ctx, name, f)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, holdfast.ErrAbsent): // the mirror went away meanwhile: nothing is known of the segment
			return fmt.Errorf("read sealed segment %s back: %w", name, err)
		}
		return fmt.Errorf("sealed segment %s does not read back: %w: %w", name, err, holdfast.ErrCorrupt)
	}
	if !l.m.cfg.VerifyBehind {
		return read(ctx)
	}
	l.behind.Go(func() {
		if err := read(context.WithoutCancel(ctx)); err != nil {
			l.behindErr.CompareAndSwap(nil, &err)
		}
	})
	return nil
}

// failed returns the final error, also one that was found behind. l.mu is held.
func (l *Log) failed() error {
	if err := l.behindErr.Load(); err != nil && (l.err == nil || l.err == errSealed) {
		l.err = *err
	}
	return l.err
}

// verifySealed reads a sealed segment from the medium and compares it with the footer it should have.
func (m *Mirror) verifySealed(ctx context.Context, name string, want *frame.Footer) error {
	r, done, err := m.reader(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	for err == nil {
		_, err = r.Next()
	}
	if f := r.Footer(); f == nil || f.Hash != want.Hash {
		return fmt.Errorf("pos %d: %w", r.Pos(), err)
	}
	return nil
}

var errSealed = errors.New("log was closed")

// Seal ends the log for good: its last segment is sealed. ErrFatal and others as for Append.
func (l *Log) Seal(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed() != nil {
		return fmt.Errorf("mirror %s: seal log: %w", l.m.cfg.Name, l.err)
	}
	l.err = errSealed
	_, err := l.seal(ctx)
	l.behind.Wait()
	if err == nil {
		if err = l.failed(); err == errSealed {
			return nil
		}
	}
	l.err = err
	return fmt.Errorf("mirror %s: %w", l.m.cfg.Name, err)
}

// Close lets the log go without sealing it. It may be called after Seal and more than once.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.behind.Wait()
	if l.err == nil {
		l.err = errSealed
	}
	if l.app == nil {
		return nil
	}
	app := l.app
	l.app = nil
	if err := app.Close(); err != nil {
		return fmt.Errorf("mirror %s: close log: %w", l.m.cfg.Name, err)
	}
	return nil
}
