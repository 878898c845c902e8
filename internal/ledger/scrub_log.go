package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/fence"
	"holdfast/internal/mirror"
	"holdfast/internal/store"
)

// scrubLog reads every segment of a mirror and proves that all changes of the store can be had from it:
// each frame's checksums, commitments and place in the account's chain, which must be the store's own
// (fault 31). What is lacking at the end is refilled. Damage of which nothing is lacking is harmless:
// segments are never repaired in place, so one that was refilled stays damaged.
func (s *scrubber) scrubLog(ctx context.Context, p *lap, c *copies, pace *pacer) error {
	m, _, err := c.mirror(p.Copy)
	if err != nil {
		return err
	}
	s.wantAll(p)
	small, err := m.CheckSmall(ctx)
	if err != nil {
		return err
	}
	w := &logWalk{
		s: s, lap: p, c: c, pace: pace, behind: p.Cursor, seen: map[string]bool{},
		runs: map[holdfast.AccountID]*run{}, other: map[holdfast.AccountID]holdfast.Seq{},
	}
	w.damage = append(w.damage, small...)
	hurt, torn, err := w.read(ctx, m)
	// What hit the log may have hit changes that were in it and not durable yet when this began: they are
	// wanted too. A torn end may be that as well, or a batch on its way; a second look tells.
	for err == nil && (hurt || torn) {
		if err = w.wantMore(); err == nil {
			hurt, _, err = w.read(ctx, m)
			torn = false
		}
	}
	if err != nil {
		return err
	}
	return w.finish(ctx, m)
}

// read takes every segment behind w.behind. hurt: there is damage that was not seen before; torn: some log
// has no proper end.
func (w *logWalk) read(ctx context.Context, m *mirror.Mirror) (hurt, torn bool, err error) {
	sc, err := m.Scan(ctx, w.behind)
	if err != nil {
		return false, false, err
	}
	for {
		got, err := sc.Next(ctx, func(f *mirror.ScanFrame) error {
			if err := w.pace.pay(ctx, frame.Len(len(f.Payload))); err != nil {
				return err
			}
			return w.frame(ctx, f)
		})
		if errors.Is(err, io.EOF) {
			return hurt, torn, nil
		}
		if err == nil {
			err = w.settle(ctx)
		}
		if err != nil {
			return hurt, torn, err
		}
		for _, d := range got.Damage {
			switch {
			case d.Kind == mirror.Torn:
				torn = true
			case !w.seen[d.String()]:
				w.seen[d.String()], hurt = true, true
				w.damage = append(w.damage, d)
			}
		}
		cursor := ""
		if got.Sealed {
			w.behind = got.Name
			if !w.news() { // damage is judged at the end, in this process
				cursor = got.Name
			}
		}
		w.s.moved(w.lap, cursor, sc.Left())
	}
}

// wantAll sets what a lap must find: all that is durable when it begins.
func (s *scrubber) wantAll(p *lap) {
	s.l.mu.RLock()
	heads := maps.Clone(s.l.heads)
	s.l.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.Cover != nil && p.Cursor != "" { // it goes on
		for _, c := range p.Cover {
			c.trim() // what was found above may have been given up since
		}
		return
	}
	p.Cursor, p.Cover = "", make(map[holdfast.AccountID]*cover, len(heads))
	for a, h := range heads {
		p.Cover[a] = &cover{Want: h.Head.Seq}
	}
}

// wantMore adds all that is durable now, after what was on its way into the mirrors has arrived.
func (w *logWalk) wantMore() error {
	if !w.c.session.do(func() error { return nil }) {
		return fmt.Errorf("the session ended: %w", holdfast.ErrFenced)
	}
	heads := w.s.l.durableHeads()
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	for a, h := range heads {
		cov := w.lap.cover(a)
		cov.Want = max(cov.Want, h.Head.Seq)
	}
	return nil
}

// logWalk is one reading of a log.
type logWalk struct {
	s      *scrubber
	lap    *lap
	c      *copies
	pace   *pacer
	behind string          // the segment read last that is sealed
	seen   map[string]bool // damage
	runs   map[holdfast.AccountID]*run
	damage []mirror.Damage
	other  map[holdfast.AccountID]holdfast.Seq // first change that is whole and not the store's
}

// run is a row of changes of one account that follow one another. Its last hash commits to all of them.
type run struct {
	first, seq, kept holdfast.Seq // kept: up to here it was compared with the store
	hash             holdfast.Hash
}

// frame takes one change.
func (w *logWalk) frame(ctx context.Context, f *mirror.ScanFrame) error {
	if f.Orphan || f.Seq == 0 {
		return nil
	}
	r := w.runs[f.Account]
	if r == nil || f.Seq != r.seq+1 {
		if r != nil {
			if err := w.compare(ctx, f.Account, r); err != nil {
				return err
			}
		}
		before, ok, err := w.hashAt(ctx, f.Account, f.Seq-1)
		if err != nil || !ok {
			return err // damage of the store: the rows are scrubbed by themselves
		}
		r = &run{first: f.Seq, seq: f.Seq - 1, kept: f.Seq - 1, hash: before}
		w.runs[f.Account] = r
	}
	hash, err := frame.ChainHash(r.hash, f.Payload)
	if err == nil && hash == f.Hash {
		_, err = frame.ParseChange(f.Payload) // every operation against its commitment
	}
	if err != nil || hash != f.Hash {
		delete(w.runs, f.Account)
		if cerr := w.compare(ctx, f.Account, r); cerr != nil {
			return cerr
		}
		w.differs(f.Account, f.Seq)
		return nil
	}
	r.seq, r.hash = f.Seq, hash
	return nil
}

// settle compares all runs with the store, after each segment.
func (w *logWalk) settle(ctx context.Context) error {
	for a, r := range w.runs {
		if err := w.compare(ctx, a, r); err != nil {
			return err
		}
	}
	return nil
}

// compare marks a run as found if it ends as the store's chain does there.
func (w *logWalk) compare(ctx context.Context, a holdfast.AccountID, r *run) error {
	if r.seq <= r.kept {
		return nil
	}
	want, ok, err := w.hashAt(ctx, a, r.seq)
	if err != nil || !ok {
		return err
	}
	if want != r.hash {
		w.differs(a, r.kept+1)
		delete(w.runs, a)
		return nil
	}
	w.s.mu.Lock()
	w.lap.cover(a).add(r.kept+1, r.seq) // also what is not wanted: it may be, at the end
	w.s.mu.Unlock()
	r.kept = r.seq
	return nil
}

func (w *logWalk) differs(a holdfast.AccountID, at holdfast.Seq) {
	if was, ok := w.other[a]; !ok || at < was {
		w.other[a] = at
	}
}

// hashAt reads the store's chain; ok is false if its row there is missing or damaged.
func (w *logWalk) hashAt(ctx context.Context, a holdfast.AccountID, at holdfast.Seq) (h holdfast.Hash, ok bool, err error) {
	err = w.c.read(ctx, func(r *store.Reader) error {
		h, err = r.HashAt(a, at)
		return err
	})
	if errors.Is(err, holdfast.ErrNotFound) || errors.Is(err, holdfast.ErrCorrupt) {
		return h, false, nil
	}
	return h, err == nil, err
}

// news reports whether a lap met damage that no lap before it did.
func (w *logWalk) news() bool {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return slices.ContainsFunc(w.damage, func(d mirror.Damage) bool {
		return !slices.Contains(w.s.state.Known, w.lap.Copy+": "+d.String())
	})
}

// finish judges what a lap found and refills what is lacking.
func (w *logWalk) finish(ctx context.Context, m *mirror.Mirror) error {
	n := &notice{copyName: w.lap.Copy, part: w.lap.Part}
	for _, d := range w.damage {
		n.damage = append(n.damage, d.String())
		if strings.HasPrefix(d.Object, "term/") {
			n.did = append(n.did, d.Object+" is the claim of an older term, on which nothing depends any more: it stays as it is, leave it so")
		}
	}
	for _, a := range slices.Sorted(maps.Keys(w.lap.Cover)) {
		gaps := w.lap.Cover[a].lacking()
		if len(gaps) == 0 || w.s.l.isShut(a) {
			continue
		}
		if at, ok := w.other[a]; ok && !w.news() {
			if closed, err := w.fork(ctx, n, a, at); err != nil || closed {
				if err != nil {
					return err
				}
				continue
			}
		}
		for _, g := range gaps {
			if err := w.refill(ctx, n, m, a, g); err != nil {
				return err
			}
		}
	}
	return w.s.conclude(n)
}

// fork closes an account of which a mirror holds another history without a trace of damage, while the
// store's own chain is whole: somebody wrote it (fault 31). false: it is the store that is damaged.
func (w *logWalk) fork(ctx context.Context, n *notice, a holdfast.AccountID, at holdfast.Seq) (bool, error) {
	if err := w.whole(ctx, a, 1, w.lap.Cover[a].Want, func(*frame.Change, mirror.Frame) error { return nil }); err != nil {
		if errors.Is(err, holdfast.ErrCorrupt) {
			return false, nil
		}
		return false, err
	}
	why := fmt.Sprintf("store and mirror %s have different data from change %d on, and neither is damaged", w.lap.Copy, at)
	n.found(ScrubDamage{Account: a, Seq: at, Text: why})
	w.s.l.closeAccount(a, fence.Reason{Code: fence.Forked, Subject: "mirror " + w.lap.Copy, Detail: fmt.Sprintf("from change %d on", at)})
	return true, nil
}

// whole gives fn the store's changes from one seq to another, each verified against the chain before it and
// its own commitments: nothing else may be copied. ErrCorrupt: the store's are not whole.
func (w *logWalk) whole(ctx context.Context, a holdfast.AccountID, from, to holdfast.Seq, fn func(*frame.Change, mirror.Frame) error) error {
	for from <= to {
		end := min(to, from+maxBatch-1)
		var list []mirror.Frame
		size := 0
		err := w.c.read(ctx, func(r *store.Reader) error {
			prev, err := r.HashAt(a, from-1)
			if errors.Is(err, holdfast.ErrNotFound) {
				err = fmt.Errorf("change %d of account %d is missing: %w", from-1, a, holdfast.ErrCorrupt)
			}
			if err != nil {
				return err
			}
			err = r.Changes(a, from, end, func(seq holdfast.Seq, hash holdfast.Hash, payload []byte) error {
				want, err := frame.ChainHash(prev, payload)
				if err == nil && want != hash {
					err = fmt.Errorf("change %d of account %d does not continue the chain: %w", seq, a, holdfast.ErrCorrupt)
				}
				if err != nil {
					return err
				}
				list = append(list, mirror.Frame{Account: a, Seq: seq, Hash: hash, Payload: payload})
				prev = hash
				if size += len(payload); size >= maxBatchBytes {
					return errDone
				}
				return nil
			})
			if errors.Is(err, errDone) {
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return fmt.Errorf("change %d of account %d is missing: %w", from, a, holdfast.ErrCorrupt)
		}
		for _, f := range list {
			ch, err := frame.ParseChange(f.Payload)
			if err == nil {
				f.Epoch, f.Term = ch.Epoch, ch.Term
				err = fn(ch, f)
			}
			if err != nil {
				return err
			}
		}
		from += holdfast.Seq(len(list))
	}
	return nil
}

// errDone ends a walk over changes that has enough.
var errDone = errors.New("enough")

// refill appends what a mirror lacks to its log, blobs first (L7). The store's changes are read in short
// snapshots; what it cannot give itself is damage on both sides.
func (w *logWalk) refill(ctx context.Context, n *notice, m *mirror.Mirror, a holdfast.AccountID, gap [2]holdfast.Seq) error {
	var frames []mirror.Frame
	size, done := 0, 0
	flush := func() error {
		if len(frames) == 0 {
			return nil
		}
		batch := frames
		frames, size = nil, 0
		if err := w.refillLog(ctx, m.Name(), batch); err != nil {
			return err
		}
		done += len(batch)
		return nil
	}
	err := w.whole(ctx, a, gap[0], gap[1], func(ch *frame.Change, f mirror.Frame) error {
		if err := w.s.refillBlobs(ctx, n, w.c, m, ch); err != nil {
			return err
		}
		frames = append(frames, f)
		if size += len(f.Payload); len(frames) >= maxBatch || size >= maxBatchBytes {
			return flush()
		}
		return nil
	})
	if ferr := flush(); ferr != nil {
		return ferr
	}
	n.refilled += done
	at := gap[0] + holdfast.Seq(done)
	if done > 0 {
		n.did = append(n.did, fmt.Sprintf("account %d: changes %d to %d were lacking in mirror %s; %d were put into its log again from the store", a, gap[0], gap[1], m.Name(), done))
	}
	if errors.Is(err, holdfast.ErrCorrupt) {
		n.found(ScrubDamage{Account: a, Seq: at, Text: fmt.Sprintf("changes %d to %d are lacking in mirror %s, and the store does not give change %d", gap[0], gap[1], m.Name(), at)})
		return nil
	}
	return err
}

// refillLog appends frames at or below the heads to the log of a mirror, and proves that it is ours. The
// frames are of one session: what they say need not be the history of the next one.
func (w *logWalk) refillLog(ctx context.Context, name string, frames []mirror.Frame) error {
	l := w.s.l
	c, err := l.openCopies(ctx) // writes wait while a disk is full, and so does this
	if err != nil {
		return err
	}
	if c.session != w.c.session {
		return fmt.Errorf("another session serves by now: %w", holdfast.ErrFenced)
	}
	m, lg, err := c.mirror(name)
	if err != nil {
		return err
	}
	err = l.step("refill", func() error {
		err := lg.Append(context.WithoutCancel(ctx), frames)
		if err == nil {
			err = m.CheckTerm(ctx, c.term)
		}
		return err
	})
	if err == nil {
		return nil
	}
	mirrors, _ := c.session.live()
	switch {
	case l.serving() != c.session: // it ended meanwhile, and the next one may have claimed already
		return fmt.Errorf("the session ended: %w: %w", holdfast.ErrFenced, err)
	case !slices.Contains(mirrors, m):
		return fmt.Errorf("mirror %s was taken out: %w: %w", name, holdfast.ErrAbsent, err)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	err = &mirrorError{name, err}
	l.tell(err) // the log has ended: the mirror is proven anew, and refilled then
	return err
}

// isShut reports whether an account's own fence is closed by more than damage of the store.
func (l *Ledger) isShut(a holdfast.AccountID) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	c, ok := l.shut[a]
	return ok && !c.ofRows()
}

// closeAccount closes the fence of one account while the others are served.
func (l *Ledger) closeAccount(a holdfast.AccountID, why fence.Reason) {
	l.mu.Lock()
	if l.shut == nil {
		l.shut = map[holdfast.AccountID]closure{}
	}
	c, was := l.shut[a]
	if was = was && !c.ofRows(); !was { // what closed it before is not forgotten
		l.shut[a] = closure{Reason: why}
		l.wakeOf(a)
	}
	l.mu.Unlock()
	if !was {
		l.log.Error("fence of account closed", "account", a.String(), "reason", why.Full())
		l.tellClosed(a, closure{Reason: why})
	}
}
