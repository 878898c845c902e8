package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/fence"
	"holdfast/internal/mirror"
)

// grade says what a mirror that could be opened is good for.
type grade uint8

const (
	complete grade = iota + 1 // it had everything when it was seen last
	behind                    // a session went on without it: it must be refilled before it counts
	joining                   // it never counted
)

// candidate is a mirror where one should be.
type candidate struct {
	place
	m       *mirror.Mirror
	b       *dir.Dir
	err     error // why it cannot be used; m and b are nil then
	grade   grade
	instead bool           // joining: it takes the place of a member that was given up
	claims  []mirror.Claim // of those that are not in the session
	told    []holdfast.AccountHead
}

// openMirrors opens every mirror and chooses those that the session begins with: all that are complete
// and, while the policy wants more, those that are filled first. One that is absent is never taken for an
// empty one (F2); the others join later, while it serves (join.go).
func (p *proof) openMirrors(ctx context.Context) error {
	places, members, rules := p.ledger.places()
	p.members, p.rules = members, rules
	all, err := p.openAll(ctx, places)
	if err == nil {
		err = vanished(members, all)
	}
	if err == nil {
		p.grade(all)
		p.chosen, err = p.choose(all, rules)
	}
	for _, c := range all {
		switch {
		case c.m == nil:
		case slices.Contains(p.chosen, c):
			p.session.mirrors = append(p.session.mirrors, c.m)
			p.session.buckets = append(p.session.buckets, c.b)
		default:
			if err == nil {
				err = p.pass(ctx, c)
			}
			closeBuckets(p.ledger, []*dir.Dir{c.b})
		}
	}
	return err
}

func (p *proof) openAll(ctx context.Context, places []place) ([]*candidate, error) {
	l := p.ledger
	seen := map[string]string{}
	var all []*candidate
	var same error
	for _, at := range places {
		c := &candidate{place: at}
		c.m, c.b, c.err = openMirror(ctx, l.cfg, at.MirrorConfig)
		if l.planted(absentIsNew) && errors.Is(c.err, holdfast.ErrAbsent) && createMirror(ctx, l.cfg, at.MirrorConfig) == nil {
			c.m, c.b, c.err = openMirror(ctx, l.cfg, at.MirrorConfig)
		}
		l.noteMirror(at, c.m, c.err)
		all = append(all, c)
		if c.err != nil {
			continue
		}
		if other, ok := seen[c.m.ID()]; ok {
			same = fmt.Errorf("mirrors %s and %s are the same place: one copy is not two: %w", other, at.Name, holdfast.ErrInvalid)
		}
		seen[c.m.ID()] = at.Name
	}
	return all, same
}

// vanished refuses to go on with fewer copies than there were because a line of the configuration is gone.
func vanished(members []member, all []*candidate) error {
	for _, m := range members {
		if !slices.ContainsFunc(all, func(c *candidate) bool {
			return c.Name == m.Name || c.m != nil && c.m.ID() == m.ID || c.old && c.Path == m.Path
		}) {
			return fmt.Errorf("mirror %s (%s) counts, but the configuration does not name it any more: put back the line `mirror = %s %s`, or run holdfast mirror remove %s: %w",
				m.Name, m.ID[:8], m.Name, m.Path, m.Name, holdfast.ErrDenied)
		}
	}
	return nil
}

// grade says of each mirror what it is, by the members that DIR/heads names.
func (p *proof) grade(all []*candidate) {
	there := func(id string) bool {
		return slices.ContainsFunc(all, func(c *candidate) bool { return c.m != nil && c.m.ID() == id })
	}
	for _, c := range all {
		if c.m == nil {
			continue
		}
		id := c.m.ID()
		own, named := memberByID(p.members, id), memberByName(p.members, c.Name)
		switch {
		case len(p.members) == 0, own != nil && own.Behind == 0, p.ledger.honest[id], p.ledger.planted(absentIsNew):
			c.grade = complete
		case own != nil:
			c.grade = behind
		case named != nil && named.ReplacedBy == id:
			c.grade, c.instead = joining, named.GivenUp && !there(named.ID)
		case named != nil && !there(named.ID):
			c.err = fmt.Errorf("another mirror of this server (%s) is in the place of mirror %s (%s): mount the right one, or run holdfast mirror replace %s DIR: %w",
				id[:8], c.Name, named.ID[:8], c.Name, holdfast.ErrAbsent)
			closeBuckets(p.ledger, []*dir.Dir{c.b})
			c.m, c.b = nil, nil
			p.ledger.noteMirror(c.place, nil, c.err)
		default:
			c.grade = joining
		}
	}
}

// choose returns the mirrors that the session begins with.
func (p *proof) choose(all []*candidate, r rules) ([]*candidate, error) {
	failing := func(c *candidate) bool { return p.ledger.failed(c.Name) != nil }
	need := r.required(len(p.members))
	if len(p.members) == 0 { // none is known: all must be there once
		need = len(all)
	}
	var chosen []*candidate
	take := func(enough int, fits func(*candidate) bool) {
		for _, c := range all {
			if c.m != nil && len(chosen) < enough && !slices.Contains(chosen, c) && fits(c) {
				chosen = append(chosen, c)
			}
		}
	}
	take(len(all), func(c *candidate) bool { return c.grade == complete && !failing(c) })
	take(need, func(c *candidate) bool { return c.grade == complete })
	proven := len(chosen) > 0 || p.ledger.hasStore() || p.givenUp()
	take(need, func(c *candidate) bool { return c.grade == behind && !failing(c) })
	take(need, func(c *candidate) bool { return c.grade == behind })
	take(need, func(c *candidate) bool { return c.instead })
	if len(chosen) >= need && proven {
		return chosen, nil
	}
	return nil, p.lacking(all, len(chosen), need, proven)
}

// givenUp reports whether an operator has given up every mirror that was complete: nothing but the store
// and its witnesses can be asked then.
func (p *proof) givenUp() bool {
	for _, m := range p.members {
		if m.Behind == 0 && !m.GivenUp {
			return false
		}
	}
	return len(p.members) > 0
}

// lacking says which mirror is waited for.
func (p *proof) lacking(all []*candidate, have, need int, proven bool) error {
	for _, c := range all {
		m := memberByName(p.members, c.Name)
		if c.err == nil || !proven && m != nil && m.Behind != 0 {
			continue
		}
		switch {
		case !proven && have > 0:
			return &mirrorError{c.Name, fmt.Errorf("%w; the mirrors that are there lack what was acknowledged last, so they prove nothing", c.err)}
		case len(p.members) > 1:
			return &mirrorError{c.Name, fmt.Errorf("%w; %d of the %d mirrors that must be complete are there", c.err, have, need)}
		}
		return &mirrorError{c.Name, c.err}
	}
	return fmt.Errorf("%d of the %d mirrors that must be complete are there: %w", have, need, holdfast.ErrNotDurable)
}

// pass reads what a mirror says that is not in the session yet: who claimed it, and what it was told.
func (p *proof) pass(ctx context.Context, c *candidate) error {
	if memberByID(p.members, c.m.ID()) == nil {
		return nil // it never counted: join.go looks at it
	}
	var err error
	if c.claims, err = c.m.Terms(ctx); err == nil {
		c.told, err = c.m.Told(ctx)
	}
	if err != nil { // it does not count; that it cannot be read stops nobody
		p.ledger.log.Warn("read a mirror that is behind", "mirror", c.Name, "err", err)
		c.claims, c.told = nil, nil
	}
	p.passed = append(p.passed, c)
	return nil
}

// judgeTold asks the mirrors that are behind what was acknowledged to their knowledge. One that knows
// more than the store is believed: the next attempt heals from it.
func (p *proof) judgeTold(ctx context.Context) error {
	ask := slices.Clone(p.passed)
	for i, c := range p.chosen {
		if c.grade == behind {
			c.told = p.recovered[i].Told
			ask = append(ask, c)
		}
	}
	for _, c := range ask {
		for _, h := range c.told {
			ok, err := p.bears(ctx, h)
			if err != nil {
				return storeError("judge mirror", err)
			}
			if !ok && !p.ledger.honest[c.m.ID()] {
				p.ledger.honest[c.m.ID()] = true
				return fmt.Errorf("mirror %s was told that change %d of account %s is acknowledged, and the store does not have it: %w", c.Name, h.Head.Seq, h.Account, holdfast.ErrFenced)
			}
		}
	}
	return nil
}

// bears reports whether the store has what a head says, or an operator has given it up.
func (p *proof) bears(ctx context.Context, h holdfast.AccountHead) (bool, error) {
	v, err := witnessOf(h, "").Judge(p.store[h.Account], func(s holdfast.Seq) (holdfast.Hash, error) { return p.hashAt(ctx, h.Account, s) })
	return v == fence.Equal, err
}

// lowerBehind sets the heads of mirrors that were not complete to what they have in common with the store. What
// they have beyond is a branch first (F6). Of an account that is closed nothing is lowered: nobody may take sides.
func (p *proof) lowerBehind(ctx context.Context) error {
	for i, c := range p.chosen {
		if c.grade == complete {
			continue
		}
		common := commonWith{ledger: p.ledger, db: p.session.db, whole: incomplete(p.recovered[i]) || p.ledger.doubts(c.Name)}
		low, err := common.heads(ctx, c.m, p.recovered[i])
		if err != nil {
			return err
		}
		for a, h := range p.recovered[i].Heads {
			if _, closed := p.shut[a]; closed {
				low.Heads[a] = h
			}
		}
		if err := p.keepStrays(ctx, i, low); err != nil {
			return err
		}
		p.recovered[i] = low
		p.report.stray(c.Name, common.stray)
	}
	return nil
}

// keepStrays writes as branches what mirror i has and the store has not, of the accounts that low sets back.
func (p *proof) keepStrays(ctx context.Context, i int, low *mirror.Recovered) error {
	for a, h := range p.recovered[i].Heads {
		if low.Heads[a] == h {
			continue
		}
		f, err := p.forkWith(ctx, i, a)
		if err == nil && f.theirs.changes > 0 {
			_, err = p.branchOfMirror(ctx, a, f, "the others went on without that mirror, and nobody was told of them")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// verifyFilled reads what mirrors that were not complete got back from their medium (R12).
func (p *proof) verifyFilled(ctx context.Context) error {
	for i, c := range p.chosen {
		if c.grade == complete {
			continue
		}
		if err := p.ledger.verifyLog(ctx, c.m, p.session.term, p.session.logs[i].Heads()); err != nil {
			return &mirrorError{c.Name, err}
		}
	}
	return nil
}

// noteOld reports complete mirrors that end before what DIR/heads knows: they lost data, or an older
// copy is in their place. What they lack is refilled.
func (p *proof) noteOld() {
	for i, c := range p.chosen {
		if c.grade != complete {
			continue
		}
		for _, e := range p.heads.Heads {
			if has := p.recovered[i].Heads[e.Account].Head.Seq; has < e.Seq && p.store[e.Account].Head.Seq >= e.Seq {
				p.report.damage = append(p.report.damage, fmt.Sprintf("mirror %s ends at change %d of account %d and had change %d: it lost data, or an older copy was put in its place", c.Name, has, e.Account, e.Seq))
			}
		}
	}
}

// settleMembers writes which mirrors are complete from now on. It is durable before anything is acknowledged
// without one that was left out.
func (p *proof) settleMembers() error {
	return p.ledger.saveMembers(p.settled)
}

func (p *proof) settled(members []member) []member {
	var out []member
	taken := map[*candidate]bool{}
	for _, m := range members {
		c := p.inSession(func(c *candidate) bool { return c.m.ID() == m.ID })
		if c == nil {
			if c = p.inSession(func(c *candidate) bool { return c.instead && c.m.ID() == m.ReplacedBy }); c != nil {
				m = member{ID: c.m.ID(), Name: c.Name, Path: c.Path}
			}
		}
		if c != nil {
			taken[c] = true
			m.Behind, m.GivenUp = 0, false
			if !c.old {
				m.Name, m.Path = c.Name, c.Path
			}
		} else if m.Behind == 0 {
			m.Behind = p.session.term.Number
		}
		out = append(out, m)
	}
	for _, c := range p.chosen {
		if !taken[c] && (len(p.members) == 0 || p.ledger.honest[c.m.ID()]) {
			out = append(out, member{ID: c.m.ID(), Name: c.Name, Path: c.Path})
		}
	}
	return out
}

func (p *proof) inSession(fits func(*candidate) bool) *candidate {
	if i := slices.IndexFunc(p.chosen, fits); i >= 0 {
		return p.chosen[i]
	}
	return nil
}

// leaveOut decides after a mirror failed whether the next session may go on without it, and remembers it.
func (l *Ledger) leaveOut(err error) bool {
	var in *mirrorError
	if !errors.As(err, &in) || errors.Is(err, holdfast.ErrFenced) || errors.Is(err, errTakenOver) {
		return false
	}
	name := strings.TrimSuffix(in.name, oldSuffix)
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.failing[name] != nil
	left := 0
	for _, m := range l.members {
		if m.Behind == 0 && m.Name != name && l.failing[m.Name] == nil {
			left++
		}
	}
	if memberByName(l.members, name) == nil || left < l.rules.required(len(l.members)) {
		return false
	}
	l.failing[name] = in.err
	return !known
}

// failed returns why a mirror was left out, or nil.
func (l *Ledger) failed(name string) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.failing[strings.TrimSuffix(name, oldSuffix)]
}

// condemn marks a mirror as behind whose disk failed, so that the process that comes next goes on without
// it and fills it again first.
func (l *Ledger) condemn(err error) {
	var in *mirrorError
	if !errors.As(err, &in) || l.failed(in.name) == nil {
		return
	}
	term := l.currentTerm().Number
	if err := l.saveMembers(func(members []member) []member {
		if m := memberByName(members, in.name); m != nil && m.Behind == 0 {
			m.Behind = max(term, 1)
		}
		return members
	}); err != nil {
		l.log.Error("remember that a mirror failed", "mirror", in.name, "err", err)
	}
}

// sameDisk reports whether two places share a disk; nobody knows: false.
func (l *Ledger) sameDisk(name, path string) bool {
	there, err := l.deviceOf(name, path)
	if err != nil {
		return false
	}
	home, err := l.cfg.FS.Stat(l.cfg.Dir)
	return err == nil && home.Dev == there
}
