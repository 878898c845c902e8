package push

import (
	"errors"
	"slices"

	"holdfast"
	"holdfast/internal/ledger"
)

// keepStanding ends what belongs to somebody who must not come in any more, as soon as that is durable.
func (p *Push) keepStanding() {
	w := p.cfg.Ledger.Watch(holdfast.Server)
	defer w.Stop()
	var since holdfast.Seq
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-w.C:
		}
		seq, judged, err := p.judgedSince(since)
		if err == nil && judged {
			err = p.recheck()
		}
		if err != nil { // the watcher wakes us again when the fence opens
			if !errors.Is(err, holdfast.ErrFenced) && p.ctx.Err() == nil {
				p.log.Warn("look who may still listen", "err", err)
			}
			continue
		}
		since = seq
	}
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
