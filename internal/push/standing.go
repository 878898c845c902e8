package push

import (
	"errors"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
)

// How often account 0 is looked at although nothing in it changed: for what has ended, and after an error.
const (
	lookEvery = time.Hour
	lookAgain = 10 * time.Second
)

// follow does what changes of account 0 ask for, as soon as they are durable: it ends what belongs to somebody
// who must not come in any more, and keeps the book of registrations.
func (p *Push) follow() {
	w := p.cfg.Ledger.Watch(holdfast.Server)
	defer w.Stop()
	t := time.NewTimer(lookEvery)
	defer t.Stop()
	var since holdfast.Seq
	for {
		ended := false
		select {
		case <-p.ctx.Done():
			return
		case <-w.C:
		case <-t.C:
			ended = true
		}
		t.Reset(lookEvery)
		if _, err := w.State(); err != nil {
			continue // the watcher wakes us when the fence opens
		}
		seq, err := p.followTo(since, ended)
		if err == nil {
			since = seq
			continue
		}
		if p.ctx.Err() != nil {
			return
		}
		if !errors.Is(err, holdfast.ErrFenced) && !errors.Is(err, holdfast.ErrNotDurable) {
			p.log.Warn("follow who may listen and what is registered", "err", err)
		}
		t.Reset(lookAgain)
	}
}

// followTo does what changed after since, and returns the head it has seen.
func (p *Push) followTo(since holdfast.Seq, ended bool) (holdfast.Seq, error) {
	if p.cfg.WebPush && p.vapid.Load() == nil {
		v, err := p.ensureVapid(p.ctx)
		if err != nil {
			return since, err
		}
		p.vapid.Store(v)
	}
	seq, judged, err := p.judgedSince(since)
	if err != nil {
		return since, err
	}
	if judged {
		if err := p.recheck(); err != nil {
			return since, err
		}
	}
	if !p.cfg.WebPush {
		return seq, nil
	}
	if err := p.keepBook(); err != nil {
		return since, err
	}
	if judged || ended {
		err = p.recheckBook(p.ctx, p.cfg.Now())
	}
	return seq, err
}

// judgedSince reports whether the records of who may come in changed since, and the head it looked at.
func (p *Push) judgedSince(since holdfast.Seq) (seq holdfast.Seq, judged bool, err error) {
	err = p.cfg.Ledger.View(p.ctx, holdfast.Server, func(v *ledger.View) error {
		seq = v.Head().Head.Seq
		list, err := v.ChangedSince(since)
		for _, c := range list {
			judged = judged || p.cfg.Judges(c.Collection.Name)
		}
		return err
	})
	return seq, judged, err
}

// recheck ends the streams of those whose credentials are not what they came in with.
func (p *Push) recheck() error {
	p.mu.Lock()
	var all []*stream
	for _, f := range p.feeds {
		all = append(all, f.streams...)
	}
	p.mu.Unlock()
	for some := range slices.Chunk(all, 500) {
		ids := make([]Who, len(some))
		for i, s := range some {
			ids[i] = s.who
		}
		now, err := p.cfg.Standing(p.ctx, ids)
		if err != nil {
			return err
		}
		for i, s := range some {
			if now[i] != s.standing {
				s.end(endDenied)
			}
		}
	}
	return nil
}
