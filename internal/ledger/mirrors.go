package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/fence"
	"holdfast/internal/mirror"
)

// What a mirror's status says besides a reason why it is not complete.
const (
	isComplete = "complete"
	notRead    = "not yet read"
	oldSuffix  = " (old)"
)

// CreateMirror makes an empty mirror of this server in a directory that is new or empty, and returns its id.
// A directory that has nothing but such a mirror's marker is taken as it is: an attempt before was
// interrupted. ErrExists: there is something in it.
func (l *Ledger) CreateMirror(ctx context.Context, c MirrorConfig) (id string, err error) {
	err = l.faulty("create mirror", func() error {
		err := createMirror(ctx, l.cfg, c)
		if err != nil && !errors.Is(err, holdfast.ErrExists) {
			return err
		}
		m, b, oerr := openMirror(ctx, l.cfg, c)
		if oerr != nil {
			return errors.Join(err, oerr)
		}
		if err != nil {
			err = onlyMarker(ctx, b, err)
		}
		id = m.ID()
		return errors.Join(err, b.Close())
	})
	if err != nil {
		return "", fmt.Errorf("create mirror %s in %s: %w", c.Name, c.Path, err)
	}
	return id, nil
}

// onlyMarker returns nil if a bucket has one object.
func onlyMarker(ctx context.Context, b *dir.Dir, otherwise error) error {
	n := 0
	for _, err := range b.List(ctx, "") {
		if err != nil {
			return err
		}
		if n++; n > 1 {
			return otherwise
		}
	}
	return nil
}

// AddMirror lets a mirror of the configuration that CreateMirror made join. It counts once its status says
// so; Status tells how far it is.
func (l *Ledger) AddMirror(c MirrorConfig) error {
	l.mu.Lock()
	if slices.ContainsFunc(l.mirrorsAt, func(m MirrorConfig) bool { return m.Name == c.Name || m.Path == c.Path }) {
		l.mu.Unlock()
		return fmt.Errorf("mirror %s: %w", c.Name, holdfast.ErrExists)
	}
	l.mirrorsAt = append(slices.Clone(l.mirrorsAt), c)
	l.infoOf(place{MirrorConfig: c}).State = "joining: not yet begun"
	l.mu.Unlock()
	l.wake()
	return nil
}

// ReplaceMirror lets the mirror of the given id, in c.Path, take the place of the member c.Name. The old one
// counts until the new one is complete, or is given up: then the new one is filled from what is left, which
// the operator has said to be enough. It is durable on return. save writes the new place to the
// configuration, after the members are durable. ErrNotFound: no such member.
func (l *Ledger) ReplaceMirror(c MirrorConfig, id string, giveUp bool, save func() error) error {
	var found bool
	err := l.saveMembers(func(members []member) []member {
		if m := memberByName(members, c.Name); m != nil {
			found = true
			m.ReplacedBy, m.GivenUp = id, giveUp
		}
		return members
	})
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("no mirror that counts is called %s: %w", c.Name, holdfast.ErrNotFound)
	}
	if err := save(); err != nil {
		return err
	}
	l.mu.Lock()
	l.mirrorsAt = slices.Clone(l.mirrorsAt)
	for i := range l.mirrorsAt {
		if l.mirrorsAt[i].Name == c.Name {
			l.mirrorsAt[i] = c
		}
	}
	now := l.infoOf(place{MirrorConfig: c})
	was := *now
	now.ID, now.Path, now.State = id, c.Path, "joining: not yet begun"
	now.count(false, l)
	if was.Path != c.Path { // shown until the new one counts
		was.Name += oldSuffix
		l.info = append(slices.DeleteFunc(l.info, func(s MirrorStatus) bool { return s.Name == was.Name }), was)
	}
	l.mu.Unlock()
	l.wake()
	return nil
}

// CanRemove says whether a mirror may be taken out. ErrDenied: too few complete ones would be left. ErrNotFound.
func (l *Ledger) CanRemove(name string) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	m := memberByName(l.members, name)
	if m == nil {
		if slices.ContainsFunc(l.mirrorsAt, func(c MirrorConfig) bool { return c.Name == name }) && len(l.members) > 0 {
			return nil // it was joining
		}
		return fmt.Errorf("no mirror is called %s: %w", name, holdfast.ErrNotFound)
	}
	left := len(l.members) - 1
	whole := 0
	for _, o := range l.members {
		if o.Name != name && o.Behind == 0 && !o.GivenUp {
			whole++
		}
	}
	switch {
	case left == 0:
		return fmt.Errorf("%s is the only mirror: without a second copy nothing may be acknowledged; add another first: %w", name, holdfast.ErrDenied)
	case l.rules.copies > left:
		return fmt.Errorf("the policy wants %d copies beside the store, and %d mirrors would be left: %w", l.rules.copies, left, holdfast.ErrDenied)
	case whole < l.rules.required(left):
		return fmt.Errorf("%d of the mirrors that would be left are complete, and %d are wanted: wait until they are, or add another first: %w", whole, l.rules.required(left), holdfast.ErrDenied)
	}
	return nil
}

// RemoveMirror takes a mirror out: from the next batch on nothing waits for it. Its directory stays as it is.
// It is durable on return. Errors as of CanRemove.
func (l *Ledger) RemoveMirror(name string) error {
	if err := l.CanRemove(name); err != nil {
		return err
	}
	var id string
	remove := func() error {
		return l.saveMembers(func(members []member) []member {
			return slices.DeleteFunc(members, func(m member) bool {
				if m.Name == name {
					id = m.ID
				}
				return m.Name == name
			})
		})
	}
	var err error
	forget := func() {
		l.mu.Lock()
		l.mirrorsAt = slices.DeleteFunc(slices.Clone(l.mirrorsAt), func(c MirrorConfig) bool { return c.Name == name })
		l.info = slices.DeleteFunc(slices.Clone(l.info), func(s MirrorStatus) bool { return s.Name == name || s.Name == name+oldSuffix })
		delete(l.failing, name)
		l.mu.Unlock()
	}
	s := l.serving()
	if s == nil || !s.do(func() error {
		if err = remove(); err != nil {
			return err
		}
		forget()
		s.drop(id)
		s.publishLive()
		live, _ := s.live()
		if err := tellMembers(context.Background(), live, l.memberList()); err != nil {
			l.log.Warn("tell the mirrors that one was taken out; the next start does", "err", err)
		}
		return nil
	}) {
		if err = remove(); err == nil {
			forget()
		}
	}
	if err != nil {
		return err
	}
	l.emit(Event{Kind: EventMirror, Text: fmt.Sprintf("mirror %s was removed; its directory stays as it is", name)})
	l.wake()
	return nil
}

// SetPolicy changes the rules. What is stricter holds at once: writes wait until enough mirrors are complete.
// ErrInvalid: more copies than mirrors.
func (l *Ledger) SetPolicy(p Policy, copies int) error {
	l.mu.Lock()
	r := rules{p, copies}
	if err := r.check(len(l.mirrorsAt)); err != nil {
		l.mu.Unlock()
		return err
	}
	l.rules = r
	short := len(l.mirrors) < r.required(len(l.members))
	l.mu.Unlock()
	if s := l.serving(); s != nil && short {
		s.do(func() error { return fmt.Errorf("policy %s: %w", p, errAgain) })
	}
	if p == Degraded {
		l.emit(Event{Kind: EventMirror, Bad: true, Text: "policy degraded: from now on writes are acknowledged with fewer copies than are configured while a mirror is away"})
	}
	l.wake()
	return nil
}

// wake has the keeper or the session look at mirrors and rules again.
func (l *Ledger) wake() {
	select {
	case l.joinNow <- struct{}{}:
	default:
	}
}

// serving returns the session that serves, or nil.
func (l *Ledger) serving() *session {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.session
}

func (l *Ledger) durableHeads() map[holdfast.AccountID]holdfast.AccountHead {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return maps.Clone(l.heads)
}

// stillWanted returns an error if a mirror was taken out while it was joining.
func (l *Ledger) stillWanted(at place) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if !slices.Contains(l.mirrorsAt, at.MirrorConfig) {
		return fmt.Errorf("mirror %s was taken out of the configuration: %w", at.Name, holdfast.ErrNotFound)
	}
	return nil
}

// noteLive shows which mirrors a new session has, and tells of those that it had to leave out.
func (l *Ledger) noteLive(p *proof) {
	var out []string
	l.mu.Lock()
	for _, c := range p.chosen {
		s := l.infoOf(c.place)
		s.State = isComplete
		s.count(true, l)
		delete(l.failing, c.Name)
	}
	for _, m := range l.members {
		if m.Behind == 0 {
			continue
		}
		s := l.infoOf(place{MirrorConfig: MirrorConfig{Name: m.Name, Path: m.Path}})
		if s.count(false, l); s.State == isComplete {
			s.State = "behind: it lacks what was acknowledged since term " + fmt.Sprint(m.Behind)
		}
		if err := l.failing[m.Name]; err != nil {
			s.State = err.Error()
		}
		if m.Behind == p.session.term.Number {
			out = append(out, fmt.Sprintf("mirror %s was left out: %s", m.Name, s.State))
		}
	}
	l.info = slices.DeleteFunc(l.info, func(s MirrorStatus) bool { // it was replaced
		name, old := strings.CutSuffix(s.Name, oldSuffix)
		m := memberByName(l.members, name)
		return old && (m == nil || m.ReplacedBy == "")
	})
	l.mu.Unlock()
	for _, text := range out {
		todo := "bring it back; it gets what it lacks and joins by itself. docs/runbooks/mirror.md"
		if l.Status().Degraded {
			text += ". WRITES ARE ACKNOWLEDGED WITH FEWER COPIES THAN CONFIGURED"
		}
		l.log.Error("mirror left out", "reason", text)
		l.emit(Event{Kind: EventMirror, Bad: true, Text: text, Todo: todo})
	}
}

// noteJoin shows how far a joining mirror is.
func (l *Ledger) noteJoin(at place, m *mirror.Mirror, text string) {
	same := l.sameDisk(at.Name, at.Path)
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.infoOf(at)
	s.ID, s.Path, s.State, s.SameDevice = m.ID(), at.Path, text, same
	s.count(false, l)
}

// noteAway shows why a mirror could not join.
func (l *Ledger) noteAway(at place, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.infoOf(at)
	if s.State != err.Error() {
		l.log.Warn("mirror cannot join", "mirror", at.Name, "err", err)
	}
	s.State, s.Path = err.Error(), at.Path
	s.count(false, l)
}

// noteJoined shows that a mirror counts.
func (l *Ledger) noteJoined(j *join) {
	l.mu.Lock()
	s := l.infoOf(j.at)
	s.State, s.ID, s.Path = isComplete, j.m.ID(), j.at.Path
	s.count(true, l)
	l.info = slices.DeleteFunc(l.info, func(i MirrorStatus) bool { return i.Name == j.at.Name+oldSuffix })
	l.mu.Unlock()
	l.log.Info("mirror joined", "mirror", j.at.Name, "copied", j.copied)
	text := fmt.Sprintf("mirror %s counts: it has every change, %d were copied, and what was copied was read back", j.at.Name, j.copied)
	if j.missing > 0 {
		text += fmt.Sprintf("; %d large bodies are in no readable copy", j.missing)
	}
	l.emit(Event{Kind: EventMirror, Bad: j.missing > 0, Text: text})
}

// MirrorReadable reports whether the mirror of a name can be opened now, for who wants to replace it.
func (l *Ledger) MirrorReadable(ctx context.Context, name string) error {
	places, members, _ := l.places()
	for _, at := range places {
		if at.Name != name {
			continue
		}
		m, b, err := openMirror(ctx, l.cfg, at.MirrorConfig)
		if err != nil {
			return err
		}
		if own := memberByName(members, name); own != nil && own.ID != m.ID() {
			return errors.Join(fmt.Errorf("another mirror is in its place: %w", holdfast.ErrAbsent), b.Close())
		}
		if own := memberByName(members, name); own != nil && own.Behind != 0 {
			return errors.Join(fmt.Errorf("it is behind: %w", holdfast.ErrNotDurable), b.Close())
		}
		return b.Close()
	}
	return fmt.Errorf("mirror %s: %w", name, holdfast.ErrNotFound)
}

// MirrorThere reports whether a mirror of this server is where the settings have the one of a name, complete
// or not. ErrAbsent: it is not.
func (l *Ledger) MirrorThere(ctx context.Context, name string) error {
	places, _, _ := l.places()
	for _, at := range places {
		if at.Name != name {
			continue
		}
		_, b, err := openMirror(ctx, l.cfg, at.MirrorConfig)
		if err != nil {
			return err
		}
		return b.Close()
	}
	return fmt.Errorf("mirror %s: %w", name, holdfast.ErrNotFound)
}

// copies fills in what Status says of the number of copies. l.mu is held.
func (s *Status) copies(l *Ledger) {
	s.Policy = string(l.rules.policy)
	if s.Policy == "" {
		s.Policy = string(Strict)
	}
	m := max(len(l.members), 1)
	s.Copies = l.rules.wanted(m)
	for _, i := range s.Mirrors {
		if i.Counts {
			s.Live++
		}
	}
	s.Degraded = l.state == fence.Open && s.Live < s.Copies
}

// NestedIn says what place of this server a path is, lies in, or holds; empty: none.
func (l *Ledger) NestedIn(path string, inside func(path, dir string) bool) string {
	places, _, _ := l.places()
	if inside(path, l.cfg.Dir) || inside(l.cfg.Dir, path) {
		return "the data directory " + l.cfg.Dir
	}
	for _, at := range places {
		if inside(path, at.Path) || inside(at.Path, path) {
			return "mirror " + at.Name + " in " + at.Path
		}
	}
	return ""
}
