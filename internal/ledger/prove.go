package ledger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"holdfast"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/durable"
	"holdfast/internal/fence"
	"holdfast/internal/mirror"
	"holdfast/internal/store"
)

// errTakenOver says that the newest claim of a mirror is not of this data directory.
var errTakenOver = errors.New("the mirrors belong to another data directory now")

// proof is one attempt to open the fence. Its order is R1 and F10: claim the next term in every
// mirror, then read all of them to their ends, heal the store, append what the mirrors lack, look at
// the claims once more. Start, restart, outage and takeover are this one procedure.
type proof struct {
	ledger    *Ledger
	session   *session
	recovered []*mirror.Recovered
	merged    map[holdfast.AccountID]holdfast.AccountHead // what the mirrors have together
	store     map[holdfast.AccountID]holdfast.AccountHead // what the store has
	shut      map[holdfast.AccountID]closure
	decisions map[holdfast.AccountID]*decision // taken from the ledger
	heads     *headFile
	known     []fence.Witness                             // see witnesses
	tokens    int                                         // of the ledger's that were judged
	lost      map[holdfast.AccountID]holdfast.AccountHead // of accounts that end before a witness
	report    report
	members   []member     // the mirrors that count, as DIR/heads has them
	chosen    []*candidate // what the session's mirrors are, in their order
	passed    []*candidate // members that could be read and are not in the session
	rules     rules        // by which they were chosen
	witnessAt string       // where the head witness was looked for
}

// prove opens the fence or says why not.
func (l *Ledger) prove(ctx context.Context) (*session, error) {
	l.gate("prove")
	if l.cfg.hooks.proof != nil {
		l.cfg.hooks.proof()
	}
	p := l.newProof()
	hf, err := readHeadFile(l.cfg) // the data directory's marker: an unmounted one is absent, never empty
	if err == nil {
		if err = l.blobs.home.Check(); err != nil {
			err = fmt.Errorf("the data directory was replaced while this process ran: %w: %w", err, holdfast.ErrFatal)
		}
	}
	if err != nil {
		p.answer(err)
		return nil, err
	}
	p.heads = hf
	if err := p.all(ctx); err != nil {
		p.abandon(err)
		p.answer(err)
		return nil, err
	}
	p.session.decided = func() { p.answer(nil) }
	return p.session, nil
}

func (l *Ledger) newProof() *proof {
	p := &proof{
		ledger: l, session: &session{ledger: l, paths: newPaths(), between: make(chan func() error), ended: make(chan struct{})},
		shut: map[holdfast.AccountID]closure{}, decisions: l.takeDecisions(), lost: map[holdfast.AccountID]holdfast.AccountHead{},
	}
	p.report.began = l.now()
	return p
}

func (p *proof) all(ctx context.Context) error {
	if err := p.openMirrors(ctx); err != nil {
		return err
	}
	if err := p.openWitness(ctx); err != nil {
		return err
	}
	if err := p.claimAndRead(ctx); err != nil {
		return err
	}
	if err := p.openStore(ctx); err != nil {
		return err
	}
	return p.equalise(ctx)
}

// claimAndRead takes the next term, then reads the mirrors: what is read before the claim may grow (F10).
func (p *proof) claimAndRead(ctx context.Context) error {
	if p.ledger.planted(readThenClaim) {
		return p.plantReadThenClaim(ctx)
	}
	if err := p.claim(ctx); err != nil {
		return err
	}
	return p.readMirrors(ctx)
}

// equalise makes store and mirrors equal and hands the session to the ledger.
func (p *proof) equalise(ctx context.Context) error {
	if err := p.compare(ctx); err != nil {
		return err
	}
	if err := p.judgeTold(ctx); err != nil {
		return err
	}
	if err := p.settle(ctx); err != nil {
		return err
	}
	if err := p.lowerDamaged(ctx); err != nil {
		return err
	}
	if err := p.lowerBehind(ctx); err != nil {
		return err
	}
	p.noteOld()
	if err := p.judgeWitnesses(ctx); err != nil {
		return err
	}
	if err := p.acceptLosses(ctx); err != nil {
		return err
	}
	if err := p.startLogs(ctx); err != nil {
		return err
	}
	if p.ledger.planted(serveEarly) {
		return p.plantServeEarly(ctx)
	}
	if p.ledger.planted(redo) {
		if err := p.plantRedo(ctx); err != nil {
			return err
		}
	}
	if err := p.shipTails(ctx); err != nil {
		return err
	}
	if err := p.verifyFilled(ctx); err != nil {
		return err
	}
	return p.open(ctx)
}

// open is the last look at the claims (W3), then the session is the ledger's.
func (p *proof) open(ctx context.Context) error {
	if err := p.settleMembers(); err != nil {
		return err
	}
	if err := tellMembers(ctx, p.session.mirrors, p.ledger.memberList()); err != nil {
		return err
	}
	if err := p.beginWitness(ctx); err != nil {
		return err
	}
	if err := p.session.look(ctx); err != nil {
		return err
	}
	if err := p.session.db.SetTerm(ctx, p.session.term); err != nil {
		return storeError("write term", err)
	}
	p.session.committed = p.store
	key, err := p.ledger.readTokenKey(ctx, p.session.db.Store, p.store[holdfast.Server].Head)
	if err != nil {
		return storeError("read account 0", err)
	}
	if err := p.ledger.recordProof(&p.report, p.shut); errors.Is(err, holdfast.ErrFatal) {
		return err
	} else if err != nil { // the log has what it would say; no reason to stay closed
		p.ledger.log.Error("write incident report", "err", err)
	}
	select {
	case <-p.ledger.alarm: // raised before this was proven
	default:
	}
	old := p.ledger.closures()
	if len(p.decisions) > 0 {
		if err := p.ledger.step("accepted", func() error { return nil }); err != nil { // durable in every copy
			return err
		}
	}
	p.ledger.adopt(p, key)
	p.ledger.noteLive(p)
	p.ledger.tellClosures(old)
	return nil
}

// abandon closes what this attempt opened. A store that was open before stays open: it is still true.
func (p *proof) abandon(cause error) {
	for _, lg := range p.session.logs {
		if err := lg.Close(); err != nil {
			p.ledger.log.Warn("close log", "err", err, "cause", cause)
		}
	}
	closeBuckets(p.ledger, p.session.buckets)
	p.session.third.close(p.ledger)
	if p.session.db == nil || p.ledger.hasStore() {
		return
	}
	if err := p.session.db.end(); err != nil {
		p.ledger.log.Warn("close store", "err", err, "cause", cause)
	}
}

// claim takes the next term in every mirror of the session (R1, R7).
func (p *proof) claim(ctx context.Context) error {
	l := p.ledger
	newest, err := p.newest(ctx)
	if err != nil {
		return err
	}
	if p.reclaim(ctx) {
		return nil
	}
	var random [8]byte
	l.cfg.hooks.draw(random[:])
	p.session.term = holdfast.Term{Number: newest + 1, Random: binary.LittleEndian.Uint64(random[:])}
	l.mu.Lock() // reads of a held server go on; they must not take our own next claim for somebody else's
	l.term, l.mirrors = p.session.term, nil
	l.mu.Unlock()
	for _, m := range p.session.mirrors {
		if err := m.ClaimFar(ctx, p.session.term, l.claimNote()); err != nil {
			return &mirrorError{m.Name(), err}
		}
	}
	l.unused = p.session.term
	l.takeOver.done()
	l.mu.Lock()
	clear(l.granted) // it is carried out
	l.mu.Unlock()
	p.sweep(ctx)
	return nil
}

// newest returns the highest term that a mirror or DIR/heads knows, unless it is of another data directory.
func (p *proof) newest(ctx context.Context) (uint64, error) {
	newest := p.ledger.floor
	if t, err := holdfast.ParseTerm(p.heads.Term); err == nil {
		newest = max(newest, t.Number) // a mirror that is older than it has its claims filled up
	}
	look := func(name string, claims []mirror.Claim) error {
		if n := len(claims); n > 0 {
			newest = max(newest, claims[n-1].Term.Number)
		}
		return p.ours(name, claims)
	}
	for _, m := range p.session.mirrors {
		claims, err := m.Terms(ctx)
		if err != nil {
			return 0, &mirrorError{m.Name(), err}
		}
		if err := look(m.Name(), claims); err != nil {
			return 0, err
		}
	}
	for _, c := range p.passed {
		if err := look(c.Name, c.claims); err != nil {
			return 0, err
		}
	}
	return newest, nil
}

// ours says why a mirror with these claims may not be taken; nil: it may.
func (p *proof) ours(name string, claims []mirror.Claim) error {
	if len(claims) == 0 {
		return nil
	}
	last := claims[len(claims)-1]
	if p.mayTake(&last) {
		return nil
	}
	if last.Damaged {
		return &mirrorError{name, fmt.Errorf("claim %d: %s: %w: %w", last.Term.Number, last.Note, errClaimDamaged, errTakenOver)}
	}
	if p.stranger(&last) && elsewhere(p.ledger.cfg.host, &last) {
		return &mirrorError{name, fmt.Errorf("%s, on another machine, and was not ended in good order: that server may be running: %w", last.Words(), errTakenOver)}
	}
	return &mirrorError{name, fmt.Errorf("%s: %w", p.ledger.taker(claims).Words(), errTakenOver)}
}

// reclaim takes the claim that an attempt before made in every mirror and did not use: no log of it was
// begun. Hours of attempts leave one claim then, not thousands.
func (p *proof) reclaim(ctx context.Context) bool {
	t := p.ledger.unused
	if t.Number == 0 {
		return false
	}
	for _, m := range p.session.mirrors {
		if m.CheckTerm(ctx, t) != nil {
			return false
		}
	}
	p.session.term = t
	return true
}

// sweep removes what dead processes left unfinished: spare segments, uploads. Whoever wrote them has
// lost the claim. What cannot be swept only costs room, so it is no reason to stay closed.
func (p *proof) sweep(ctx context.Context) {
	l := p.ledger
	for _, b := range append([]*dir.Dir{l.blobs.home}, p.session.buckets...) {
		if n, err := b.Sweep(ctx, l.started); err != nil {
			l.log.Warn("sweep unfinished files", "path", b.Path(), "err", err)
		} else if n > 0 {
			l.log.Info("swept unfinished files", "path", b.Path(), "files", n)
		}
	}
}

// readMirrors reads every mirror to its end and merges their heads.
func (p *proof) readMirrors(ctx context.Context) error {
	p.merged = map[holdfast.AccountID]holdfast.AccountHead{}
	for i, m := range p.session.mirrors {
		rec, err := m.Recover(ctx)
		if err != nil {
			return &mirrorError{m.Name(), err}
		}
		if p.ledger.planted(readOne) && len(p.recovered) > 0 {
			rec = plantBelieve(rec, p.recovered[0])
		}
		p.recovered = append(p.recovered, rec)
		p.report.noteMirror(m.Name(), rec)
		if p.chosen[i].grade != complete {
			continue // it proves nothing of what is newest
		}
		for a, h := range rec.Heads {
			have, ok := p.merged[a]
			if ok && have.Head.Seq == h.Head.Seq && have.Head.Hash != h.Head.Hash {
				p.fork(a, m.Name(), "two mirrors have different data under one number")
			}
			if !ok || h.Head.Seq > have.Head.Seq {
				p.merged[a] = h
			}
		}
	}
	return nil
}

// close closes one account's own fence; the others go on (F8).
func (p *proof) close(a holdfast.AccountID, why fence.Reason) {
	if _, ok := p.shut[a]; !ok {
		p.shut[a] = closure{Reason: why}
	}
}

// fork closes an account of which a mirror has another history.
func (p *proof) fork(a holdfast.AccountID, mirror, detail string) {
	p.close(a, fence.Reason{Code: fence.Forked, Subject: "mirror " + mirror, Detail: detail})
}

// openStore opens the store, or makes an empty one to heal if the mirrors prove that there was one.
func (p *proof) openStore(ctx context.Context) error {
	l := p.ledger
	l.mu.RLock()
	p.session.db = l.db
	l.mu.RUnlock()
	if p.session.db != nil { // only a mirror was missing; this store is the one we committed to
		return nil
	}
	st, err := store.Open(ctx, storeConfig(l.cfg))
	if errors.Is(err, holdfast.ErrCorrupt) { // a read that failed once is no reason to give up a store
		l.log.Warn("open the store once more", "err", err)
		st, err = store.Open(ctx, storeConfig(l.cfg))
	}
	if err == nil && st.Damaged() {
		if merr := p.mendStore(ctx, st); errors.Is(merr, holdfast.ErrFatal) {
			return errors.Join(merr, st.Close())
		} else if merr != nil && l.suspect == nil {
			l.suspect = merr
		}
	}
	if err == nil {
		st, err = p.distrust(ctx, st)
	}
	switch {
	case err == nil:
	case errors.Is(err, holdfast.ErrNewer):
		return fmt.Errorf("open store: %w", err) // it is whole: an older program must not replace it
	case errors.Is(err, holdfast.ErrAbsent), errors.Is(err, holdfast.ErrCorrupt):
		p.report.storeProblem = err
		if len(p.merged) == 0 {
			return fmt.Errorf("the store is unusable and the mirrors have nothing: nothing can be served: %w: %w", err, holdfast.ErrFenced)
		}
		if st, err = l.replaceStore(ctx, err); err != nil {
			return fmt.Errorf("make a new store: %w", err)
		}
	default:
		return fmt.Errorf("open store: %w", err)
	}
	p.session.db = share(st)
	return nil
}

// distrust gives up a store that gave what is false when it was read (L11), if the mirrors have all of
// its changes; the error says why. One that has more stays until that was shipped. It does so once an
// hour at most: a second time the fault is not in the file.
func (p *proof) distrust(ctx context.Context, st *store.Store) (*store.Store, error) {
	l := p.ledger
	if l.suspect == nil || l.rebuiltLately() {
		return st, nil
	}
	heads, err := st.Heads(ctx)
	for _, h := range heads {
		if m := p.merged[h.Account].Head; m != h.Head && m.Seq <= h.Head.Seq {
			return st, nil
		}
	}
	if err == nil {
		if rerr := p.rebuildable(ctx); rerr != nil {
			l.log.Error("the store is damaged and stays as it is", "damage", l.suspect, "err", rerr)
			l.rebuilt.Store(time.Now().Unix())
			return st, nil
		}
		err = fmt.Errorf("%w: %w", l.suspect, holdfast.ErrCorrupt)
		l.rebuilt.Store(time.Now().Unix())
		l.suspect = nil
	}
	return nil, errors.Join(err, st.Close())
}

// rebuiltLately says that rebuilding the store was tried within the hour. What is damaged now answers
// with its error; the rest is served.
func (l *Ledger) rebuiltLately() bool {
	return time.Since(time.Unix(l.rebuilt.Load(), 0)) < time.Hour
}

// replaceStore moves what is left of the store to incidents/ and makes an empty one in its place.
func (l *Ledger) replaceStore(ctx context.Context, why error) (*store.Store, error) {
	path := filepath.Join(l.cfg.Dir, "store")
	names, err := durable.List(l.cfg.FS, path)
	switch {
	case err == nil && len(names) == 0:
		// Whoever made it did not come to its end. If that was a sync that failed, its name is seen and may never
		// become durable: what is made now gets a name of its own.
		if err := durable.Remove(l.cfg.FS, path); err != nil {
			return nil, err
		}
	case err == nil:
		aside := filepath.Join(l.cfg.Dir, "incidents", "store-"+l.now().UTC().Format("20060102T150405.000Z"))
		if err := durable.MkdirAll(l.cfg.FS, filepath.Dir(aside)); err != nil {
			return nil, err
		}
		if err := durable.Rename(l.cfg.FS, path, aside, false); err != nil {
			return nil, fmt.Errorf("move the damaged store aside: %w", err)
		}
		l.log.Error("damaged store moved aside", "path", aside, "err", why)
	}
	st, err := l.makeStore(ctx, path)
	if err != nil {
		err = errors.Join(err, l.unmakeStore(path))
	}
	return st, err
}

func (l *Ledger) makeStore(ctx context.Context, path string) (*store.Store, error) {
	if err := durable.MkdirAll(l.cfg.FS, path); err != nil {
		return nil, err
	}
	return store.Create(ctx, storeConfig(l.cfg))
}

// unmakeStore removes a store that could not be made whole, as far as it can. After a directory's sync that failed the
// next process would see the names, open the store and acknowledge with it, and a power cut could take it away.
func (l *Ledger) unmakeStore(path string) error {
	names, err := durable.List(l.cfg.FS, path)
	if err != nil {
		return nil //nolint:nilerr // it was not made, or what has its name is not ours to remove; why nothing was made is known
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, l.cfg.FS.Remove(filepath.Join(path, name)))
	}
	return errors.Join(append(errs, l.cfg.FS.Remove(path))...)
}

// compare judges every account and heals the store where the mirrors are ahead.
func (p *proof) compare(ctx context.Context) error {
	if err := p.readStoreHeads(ctx); err != nil {
		return err
	}
	behind, err := p.behind(ctx)
	if err != nil || !behind {
		return err
	}
	if err := p.heal(ctx); err != nil {
		return err
	}
	if err := p.readStoreHeads(ctx); err != nil {
		return err
	}
	_, err = p.behind(ctx) // what one mirror healed may differ from what another has
	return err
}

// behind compares the store with every mirror, closes accounts of which they differ, and reports
// whether a mirror has more than the store.
func (p *proof) behind(ctx context.Context) (behind bool, err error) {
	for i, rec := range p.recovered {
		if p.chosen[i].grade != complete {
			continue
		}
		for a, m := range rec.Heads {
			v, err := fence.Compare(p.store[a].Head, m.Head, func(s holdfast.Seq) (holdfast.Hash, error) { return p.hashAt(ctx, a, s) })
			if err != nil {
				return false, storeError("compare", err)
			}
			switch v {
			case fence.Fork:
				p.fork(a, p.session.mirrors[i].Name(), fmt.Sprintf("the store ends at %s, the mirror at %s", p.store[a].Head, m.Head))
			case fence.MirrorAhead:
				behind = true
			}
		}
	}
	return behind, nil
}

func (p *proof) readStoreHeads(ctx context.Context) error {
	heads, err := p.session.db.Heads(ctx)
	if err != nil {
		return storeError("read heads", err)
	}
	p.store = make(map[holdfast.AccountID]holdfast.AccountHead, len(heads))
	for _, h := range heads {
		p.store[h.Account] = h
	}
	return nil
}

// hashAt reads the store's chain.
func (p *proof) hashAt(ctx context.Context, a holdfast.AccountID, s holdfast.Seq) (h holdfast.Hash, err error) {
	r, err := p.session.db.Read(ctx)
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return r.HashAt(a, s)
}

// judgeWitnesses asks everything outside store and mirrors that knows a head. An account whose
// witness knows more than all copies has lost acknowledged data: its fence stays closed.
func (p *proof) judgeWitnesses(ctx context.Context) error {
	for _, w := range p.witnesses() {
		v, err := w.Judge(p.store[w.Account], func(s holdfast.Seq) (holdfast.Hash, error) { return p.hashAt(ctx, w.Account, s) })
		if err != nil {
			return storeError("judge witness", err)
		}
		if v != fence.Equal {
			p.close(w.Account, fence.Reason{Code: fence.Loss, Subject: w.Source, Detail: fmt.Sprintf("it knows change %d; store and mirrors end at %d", w.Seq, p.store[w.Account].Head.Seq)})
			p.prove(w)
			p.report.lost = append(p.report.lost, w)
			p.remember(w)
		}
	}
	return nil
}

// witnesses returns everything outside store and mirrors that knows a head, as it was when the proof first asked.
func (p *proof) witnesses() []fence.Witness {
	if p.known != nil {
		return p.known
	}
	tokens := p.ledger.tokenWitnesses()
	p.tokens = len(tokens)
	all := append(p.heads.witnesses(), tokens...)
	all = append(all, p.ledger.ownWitnesses()...)
	all = append(all, p.thirdWitnesses()...)
	for i, rec := range p.recovered {
		if p.chosen[i].grade != complete {
			continue // judgeTold has asked it
		}
		for _, h := range rec.Witness {
			all = append(all, witnessOf(h, "mirror "+p.session.mirrors[i].Name()))
		}
	}
	p.known = all
	return all
}

// ownWitnesses is what this process itself has acknowledged, or knew to be lost, before this proof.
func (l *Ledger) ownWitnesses() []fence.Witness {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var all []fence.Witness
	for _, known := range []map[holdfast.AccountID]holdfast.AccountHead{l.heads, l.lost} {
		for _, h := range known {
			all = append(all, witnessOf(h, "this process"))
		}
	}
	return all
}

// remember keeps the highest head that proves a loss, so that the head files go on saying so after
// they were written anew. A sync token knows no whole hash; DIR/heads has a place of its own for it.
func (p *proof) remember(w fence.Witness) {
	if len(w.Prefix) != len(holdfast.Hash{}) || w.Seq < p.lost[w.Account].Head.Seq {
		return
	}
	p.lost[w.Account] = holdfast.AccountHead{Account: w.Account, Epoch: w.Epoch, Head: holdfast.Head{Seq: w.Seq, Hash: holdfast.Hash(w.Prefix)}}
}

func witnessOf(h holdfast.AccountHead, source string) fence.Witness {
	return fence.Witness{Account: h.Account, Epoch: h.Epoch, Seq: h.Head.Seq, Prefix: h.Head.Hash[:], Source: source}
}

// startLogs begins this term's log in every mirror; its first checkpoint says what the mirror has.
func (p *proof) startLogs(ctx context.Context) error {
	for i, m := range p.session.mirrors {
		lg, err := m.StartLog(ctx, p.session.term, p.recovered[i].Heads)
		if i > 0 || !errors.Is(err, holdfast.ErrFull) { // without room for the first log nothing was begun
			p.ledger.unused = holdfast.Term{}
			p.ledger.begun++
		}
		if err != nil {
			return &mirrorError{m.Name(), err}
		}
		p.session.logs = append(p.session.logs, lg)
	}
	return nil
}
