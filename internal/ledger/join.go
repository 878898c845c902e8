package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/fence"
	"holdfast/internal/mirror"
)

// Joining (R12). A mirror that is not live gets everything it lacks from the store while the others serve,
// in rounds until little is left; what was copied is read back from its medium; then, between two batches,
// the shipper appends the rest, looks at the claim, writes to DIR/heads that it counts, and from the next
// batch on waits for it. Until that line in DIR/heads is durable nothing is acknowledged because of it, so
// a process that dies at any step leaves a mirror that is joining, and the next one goes on.

// Bounds of joining.
const (
	joinEvery    = time.Second     // how often it is looked whether a mirror can join
	joinPauseMax = 2 * time.Minute // between attempts that failed after something had been written
	joinRest     = 512             // changes that the shipper may append while a batch waits
	joinChunk    = 4 << 20         // bytes of changes copied at once
)

// joinAll brings mirrors into the session, one after the other.
func (s *session) joinAll(ctx context.Context) {
	t := time.NewTicker(joinEvery)
	defer t.Stop()
	for {
		for _, at := range s.absent() {
			if ctx.Err() != nil {
				return
			}
			s.tryJoin(ctx, at)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-s.ledger.joinNow:
			clear(s.ledger.joinWait)
		}
	}
}

// absent returns the places whose mirror is not live.
func (s *session) absent() []place {
	places, _, _ := s.ledger.places()
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.DeleteFunc(places, func(at place) bool {
		return at.old || slices.ContainsFunc(s.buckets, func(b *dir.Dir) bool { return b.Path() == at.Path })
	})
}

// joinWait is when a mirror is tried again.
type joinWait struct {
	next  time.Time
	pause time.Duration
}

func (s *session) tryJoin(ctx context.Context, at place) {
	l := s.ledger
	w := l.joinWait[at.Name]
	if time.Now().Before(w.next) {
		return
	}
	j := &join{session: s, at: at}
	err := j.run(ctx)
	if err != nil {
		j.abandon()
	}
	switch {
	case err == nil || j.live:
		delete(l.joinWait, at.Name)
		return
	case ctx.Err() != nil:
		return
	case errors.Is(err, errAgain): // its log of this term was begun and failed: it needs another term
		s.do(func() error { return fmt.Errorf("mirror %s joins: %w", at.Name, errAgain) })
		return
	case j.began:
		w.pause = min(max(2*w.pause, joinEvery), joinPauseMax)
		w.next = time.Now().Add(w.pause)
		l.joinWait[at.Name] = w
	}
	if errors.Is(err, holdfast.ErrFatal) { // its disk failed: only another process may use it
		l.joinWait[at.Name] = joinWait{next: time.Now().AddDate(1, 0, 0)}
	}
	l.noteAway(at, err)
}

// do runs fn in the shipper, between two batches; an error of fn ends the session. It reports false if the
// session ended before.
func (s *session) do(fn func() error) bool {
	done := make(chan struct{})
	select {
	case s.between <- func() error { defer close(done); return fn() }:
		<-done
		return true
	case <-s.ended:
		return false
	}
}

// join is one attempt of one mirror.
type join struct {
	session *session
	at      place
	m       *mirror.Mirror
	b       *dir.Dir
	log     *mirror.Log
	heads   map[holdfast.AccountID]holdfast.AccountHead // what it has by now
	skip    map[holdfast.AccountID]bool                 // closed accounts of which it has something else
	live    bool                                        // it is the session's
	began   bool                                        // something was written to it
	copied  uint64
	missing int // bodies that no copy has
	told    time.Time
}

func (j *join) run(ctx context.Context) error {
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"join open", j.open},
		{"join claim", j.claim},
		{"join start", j.start},
		{"join copy", func(ctx context.Context) error { return j.copyAll(ctx) }},
		{"join verify", j.verify},
		{"join copy", func(ctx context.Context) error { return j.copyAll(ctx) }},
		{"join finish", j.finish},
	} {
		if err := j.session.ledger.faulty(step.name, func() error { return step.do(ctx) }); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// abandon closes what a failed attempt opened. What has joined is the session's.
func (j *join) abandon() {
	if j.live {
		return
	}
	if j.log != nil {
		if err := j.log.Close(); err != nil {
			j.session.ledger.log.Warn("close log", "mirror", j.at.Name, "err", err)
		}
	}
	if j.b != nil {
		closeBuckets(j.session.ledger, []*dir.Dir{j.b})
	}
}

// open opens the mirror and proves that it is one that may join.
func (j *join) open(ctx context.Context) (err error) {
	l := j.session.ledger
	if j.m, j.b, err = openMirror(ctx, l.cfg, j.at.MirrorConfig); err != nil {
		return err
	}
	id := j.m.ID()
	_, members, _ := l.places()
	own, named := memberByID(members, id), memberByName(members, j.at.Name)
	if own == nil && named != nil && named.ReplacedBy != id {
		return fmt.Errorf("another mirror of this server (%s) is in the place of mirror %s (%s): mount the right one, or run holdfast mirror replace %s DIR: %w",
			id[:8], j.at.Name, named.ID[:8], j.at.Name, holdfast.ErrAbsent)
	}
	mirrors, _ := j.session.live()
	for _, m := range mirrors {
		if m.ID() == id {
			return fmt.Errorf("it is the same mirror as %s, in another place: one copy is not two: %w", m.Name(), holdfast.ErrInvalid)
		}
	}
	claims, err := j.m.Terms(ctx)
	if err != nil || len(claims) == 0 {
		return err
	}
	last := claims[len(claims)-1]
	switch {
	case !strings.Contains(last.Note, l.instance):
	case last.Term.Number >= j.session.term.Number && last.Term != j.session.term:
		l.floor = max(l.floor, last.Term.Number) // an attempt that claimed this mirror and not the others
		return fmt.Errorf("term %d is claimed in it already: %w", last.Term.Number, errAgain)
	default:
		return nil
	}
	err = fmt.Errorf("term %d was claimed by %s (process %d, %s): %w", last.Term.Number, last.Host, last.PID,
		last.Started.UTC().Format("2006-01-02 15:04:05 UTC"), errTakenOver)
	if own != nil {
		l.raise(&mirrorError{j.at.Name, err}) // a server that has taken over by this mirror may serve by now
	}
	return err
}

// claim takes the session's term in the mirror, also all numbers that it has missed.
func (j *join) claim(ctx context.Context) error {
	j.session.ledger.noteJoin(j.at, j.m, "joining: claiming its terms")
	return j.m.ClaimFar(ctx, j.session.term, "instance "+j.session.ledger.instance)
}

// start reads what the mirror has, after the claim, and begins the log of this term in it.
func (j *join) start(ctx context.Context) error {
	l := j.session.ledger
	l.noteJoin(j.at, j.m, "joining: reading what it has")
	rec, err := j.m.Recover(ctx)
	if err != nil {
		return err
	}
	l.mu.RLock()
	shut := maps.Clone(l.shut)
	l.mu.RUnlock()
	if err := j.judgeTold(ctx, rec); err != nil {
		return err
	}
	common := commonWith{ledger: l, db: j.session.db, whole: incomplete(rec) || l.doubts(j.at.Name)}
	low, err := common.heads(ctx, j.m, rec)
	if err != nil {
		return err
	}
	j.skip = map[holdfast.AccountID]bool{}
	for a, h := range rec.Heads {
		if _, closed := shut[a]; closed && low.Heads[a] != h { // nobody may take sides here
			low.Heads[a], j.skip[a] = h, true
		}
	}
	if common.stray > 0 {
		if err := j.keepStrays(ctx, rec, low); err != nil {
			return err
		}
		l.emit(Event{Kind: EventMirror, Text: fmt.Sprintf("mirror %s held %d changes that were never acknowledged and that the store does not have; they are kept as branches: holdfast fence branches", j.at.Name, common.stray)})
	}
	j.log, err = j.m.StartLog(ctx, j.session.term, low.Heads)
	if errors.Is(err, holdfast.ErrExists) {
		return fmt.Errorf("%w: %w", err, errAgain)
	}
	j.began = true
	if err != nil {
		return err
	}
	j.heads = maps.Clone(low.Heads)
	if j.heads == nil {
		j.heads = map[holdfast.AccountID]holdfast.AccountHead{}
	}
	return nil
}

// keepStrays writes as branches what the mirror has and the store has not (F6).
func (j *join) keepStrays(ctx context.Context, rec, low *mirror.Recovered) error {
	db := j.session.db
	if !db.acquire() {
		return fmt.Errorf("store is being closed: %w", holdfast.ErrFenced)
	}
	defer db.release()
	l := j.session.ledger
	p := &proof{
		ledger: l, session: &session{ledger: l, db: db, mirrors: []*mirror.Mirror{j.m}}, store: l.durableHeads(),
		recovered: []*mirror.Recovered{rec}, known: []fence.Witness{},
	}
	return p.keepStrays(ctx, 0, low)
}

// judgeTold believes a mirror that knows of acknowledged changes which the store lacks: the store and the
// live mirrors have lost them together. The next proof heals from it.
func (j *join) judgeTold(ctx context.Context, rec *mirror.Recovered) error {
	l := j.session.ledger
	if l.honest[j.m.ID()] {
		return nil
	}
	p := &proof{ledger: l, session: j.session, store: l.durableHeads()}
	for _, h := range rec.Told {
		ok, err := p.bears(ctx, h)
		if err != nil {
			return storeError("judge mirror", err)
		}
		if !ok {
			l.honest[j.m.ID()] = true
			err := fmt.Errorf("mirror %s was told that change %d of account %s is acknowledged, and the store does not have it: %w", j.at.Name, h.Head.Seq, h.Account, holdfast.ErrFenced)
			l.raise(err)
			return err
		}
	}
	return nil
}

// copyAll copies in rounds until little is left; who writes fast makes it accept more.
func (j *join) copyAll(ctx context.Context) error {
	for enough := joinRest; ; enough += joinRest / 4 {
		n, err := j.round(ctx, true)
		if err != nil || n <= enough {
			return err
		}
	}
}

// round copies what the durable heads have and the mirror lacks, and returns how many changes that were.
func (j *join) round(ctx context.Context, paced bool) (n int, err error) {
	l := j.session.ledger
	durable := l.durableHeads()
	var lacks uint64
	for a, h := range durable {
		lacks += uint64(h.Head.Seq - min(j.heads[a].Head.Seq, h.Head.Seq))
	}
	for _, a := range slices.Sorted(maps.Keys(durable)) {
		for !j.skip[a] && j.heads[a].Head.Seq < durable[a].Head.Seq {
			began := time.Now()
			if time.Since(j.told) > 200*time.Millisecond {
				j.told = began
				l.noteJoin(j.at, j.m, fmt.Sprintf("joining: %d changes copied, %d to go", j.copied, lacks-uint64(n)))
			}
			did, err := j.chunk(ctx, durable[a])
			n += did
			if err != nil {
				return n, err
			}
			if paced {
				if err := rest(ctx, time.Since(began)); err != nil {
					return n, err
				}
			}
		}
	}
	return n, nil
}

// rest leaves the disks to the writes as long as a piece of copying took them.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(min(d, time.Second))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

var errEnough = errors.New("enough for one chunk")

// chunk copies the next changes of one account, bodies first (L7).
func (j *join) chunk(ctx context.Context, to holdfast.AccountHead) (int, error) {
	frames, blobs, err := j.read(ctx, to)
	if err != nil {
		return 0, storeError("read changes to copy", err)
	}
	for _, b := range blobs {
		has, err := j.m.HasBlob(ctx, b.account, b.Blob)
		if err != nil {
			return 0, err
		}
		if has {
			continue
		}
		missing, err := j.session.ledger.fillBlob(ctx, j.m, b.account, b.Blob)
		if err != nil {
			return 0, err
		}
		if missing {
			j.missing++
		}
	}
	if err := j.log.Append(ctx, frames); err != nil {
		return 0, err
	}
	last := frames[len(frames)-1]
	j.heads[to.Account] = holdfast.AccountHead{Account: to.Account, Epoch: last.Epoch, Head: holdfast.Head{Seq: last.Seq, Hash: last.Hash}}
	j.copied += uint64(len(frames))
	return len(frames), nil
}

// read takes the next changes of an account out of the store, and the bodies that they name.
func (j *join) read(ctx context.Context, to holdfast.AccountHead) (frames []mirror.Frame, blobs []ownBlob, err error) {
	db := j.session.db
	if !db.acquire() {
		return nil, nil, fmt.Errorf("store is being closed: %w", holdfast.ErrFenced)
	}
	defer db.release()
	r, err := db.Read(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	size := 0
	err = r.Changes(to.Account, j.heads[to.Account].Head.Seq+1, to.Head.Seq, func(seq holdfast.Seq, hash holdfast.Hash, payload []byte) error {
		c, err := frame.ParseChange(payload)
		if err != nil {
			return err
		}
		for _, o := range c.Ops {
			if o.Blob != nil {
				blobs = append(blobs, ownBlob{to.Account, *o.Blob})
			}
		}
		frames = append(frames, mirror.Frame{Account: to.Account, Epoch: c.Epoch, Seq: seq, Hash: hash, Term: c.Term, Payload: payload})
		if size += len(payload); len(frames) >= maxBatch || size >= joinChunk {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	if err == nil && len(frames) == 0 {
		err = fmt.Errorf("account %s has no change after %d, its head is %d: %w", to.Account, j.heads[to.Account].Head.Seq, to.Head.Seq, holdfast.ErrCorrupt)
	}
	return frames, blobs, err
}

// verify reads back what was copied.
func (j *join) verify(ctx context.Context) error {
	j.session.ledger.noteJoin(j.at, j.m, "joining: reading back what was copied")
	return j.session.ledger.verifyLog(ctx, j.m, j.session.term, j.log.Heads())
}

// finish makes the mirror one of the session's, between two batches.
func (j *join) finish(ctx context.Context) error {
	s := j.session
	var own error // of the joining mirror: the session goes on without it
	ran := s.do(func() error {
		defer s.ledger.within("join", j.at.Path)() // batches wait
		if _, own = j.round(ctx, false); own != nil {
			return nil
		}
		if own = j.m.CheckTerm(ctx, s.term); own != nil {
			return nil
		}
		if own = s.ledger.stillWanted(j.at); own != nil {
			return nil
		}
		live, _ := s.live()
		if own = tellMembers(ctx, append(slices.Clone(live), j.m), j.joined(slices.Clone(s.ledger.memberList()))); own != nil {
			return nil
		}
		if err := s.ledger.saveMembers(j.joined); err != nil {
			own = err
			return fmt.Errorf("let mirror %s join: %w", j.at.Name, err)
		}
		s.add(j)
		return nil
	})
	if !ran {
		return fmt.Errorf("the session ended: %w", context.Canceled)
	}
	return own
}

// joined is the list of members with this one.
func (j *join) joined(members []member) []member {
	now := member{ID: j.m.ID(), Name: j.at.Name, Path: j.at.Path}
	for i, m := range members {
		if m.ID == now.ID || m.ReplacedBy == now.ID {
			members[i] = now
			return members
		}
	}
	return append(members, now)
}

// add puts the mirror among those that every batch goes to, and takes out the one that it replaces.
func (s *session) add(j *join) {
	l := s.ledger
	j.live = true
	s.mu.Lock()
	s.mirrors = append(slices.Clone(s.mirrors), j.m)
	s.buckets = append(slices.Clone(s.buckets), j.b)
	s.logs = append(slices.Clone(s.logs), j.log)
	s.mu.Unlock()
	for _, m := range s.mirrors {
		if memberByID(l.memberList(), m.ID()) == nil {
			s.drop(m.ID())
		}
	}
	s.publishLive()
	l.mu.Lock()
	delete(l.failing, strings.TrimSuffix(j.at.Name, oldSuffix))
	delete(l.doubted, j.m.Name()) // all of it was read, and filled
	l.mu.Unlock()
	l.noteJoined(j)
}

// drop takes a mirror out of the session, between two batches: nothing waits for it any more. What its log
// has is complete; it is sealed.
func (s *session) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.mirrors, func(m *mirror.Mirror) bool { return m.ID() == id })
	if i < 0 {
		return
	}
	lg, b, name := s.logs[i], s.buckets[i], s.mirrors[i].Name()
	s.mirrors = slices.Delete(slices.Clone(s.mirrors), i, i+1)
	s.buckets = slices.Delete(slices.Clone(s.buckets), i, i+1)
	s.logs = slices.Delete(slices.Clone(s.logs), i, i+1)
	go func() {
		if err := errors.Join(lg.Seal(context.Background()), lg.Close(), b.Close()); err != nil {
			s.ledger.log.Warn("end the log of a mirror that was taken out", "mirror", name, "err", err)
		}
	}()
}

// publishLive tells the ledger which mirrors the session has now.
func (s *session) publishLive() {
	positions := s.positions()
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	s.ledger.mirrors, s.ledger.buckets, s.ledger.positions, s.ledger.headsDue = s.mirrors, s.buckets, positions, true
}
