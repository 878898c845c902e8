package ledger

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"holdfast"
	"holdfast/internal/durable"
)

// member is a mirror that counts, as DIR/heads knows it. A configured mirror that is no member yet is
// joining: it is being filled, and nothing is acknowledged because of it.
type member struct {
	ID         string `json:"id"`                    // as in the mirror's marker
	Name       string `json:"name"`                  // in the configuration
	Path       string `json:"path"`                  // where it was seen last
	Behind     uint64 `json:"behind,omitempty"`      // number of the first term that acknowledged without it; 0: it is complete
	GivenUp    bool   `json:"given_up,omitempty"`    // an operator said that it will not come back
	ReplacedBy string `json:"replaced_by,omitempty"` // id of the mirror that takes its place once that is complete
}

const maxMembers = 1 << 10

// checkMembers verifies what a head file says of mirrors.
func checkMembers(members []member) error {
	seen := map[string]bool{}
	for _, m := range members {
		if b, err := hex.DecodeString(m.ID); err != nil || len(b) != 16 || m.Name == "" || seen[m.ID] {
			return fmt.Errorf("member %q (%q): %w", m.Name, m.ID, holdfast.ErrCorrupt)
		}
		seen[m.ID] = true
	}
	if len(members) > maxMembers {
		return fmt.Errorf("%d members: %w", len(members), holdfast.ErrCorrupt)
	}
	return nil
}

func memberByID(members []member, id string) *member {
	for i := range members {
		if members[i].ID == id {
			return &members[i]
		}
	}
	return nil
}

func memberByName(members []member, name string) *member {
	for i := range members {
		if members[i].Name == name {
			return &members[i]
		}
	}
	return nil
}

// saveMembers writes to DIR/heads which mirrors count; all else in it stays. It is durable on return,
// and only then does the ledger go by it. After an error the file may say either; the session then ends, and
// the next proof writes it again before anything is acknowledged.
func (l *Ledger) saveMembers(edit func([]member) []member) error {
	return l.faulty("members", func() error {
		l.headsMu.Lock()
		defer l.headsMu.Unlock()
		l.mu.RLock()
		before, doubt := l.members, l.membersDoubt
		l.mu.RUnlock()
		after := edit(slices.Clone(before))
		if slices.Equal(before, after) && !doubt {
			return nil
		}
		err := l.replaceMembers(after)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.membersDoubt = err != nil; err != nil {
			return fmt.Errorf("write which mirrors count: %w", err)
		}
		l.members = after
		return nil
	})
}

func (l *Ledger) replaceMembers(members []member) error {
	if err := errors.Join(l.blobs.home.Check(), checkMembers(members)); err != nil {
		return err
	}
	f, err := readHeadFile(l.cfg)
	if err != nil {
		return err
	}
	f.Members = members
	b, err := f.encode()
	if err != nil {
		return err
	}
	return durable.Replace(l.cfg.FS, headPath(l.cfg), b, durable.FilePerm)
}

func (l *Ledger) memberList() []member {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return slices.Clone(l.members)
}

// place is where a mirror should be: a line of the configuration, or where a member was that is being replaced.
type place struct {
	MirrorConfig
	old bool // being replaced: not in the configuration any more
}

// places returns where mirrors should be, and the members that nothing leads to any more.
func (l *Ledger) places() (ps []place, members []member, r rules) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, c := range l.mirrorsAt {
		ps = append(ps, place{MirrorConfig: c})
	}
	for _, m := range l.members {
		if m.ReplacedBy == "" || slices.ContainsFunc(l.mirrorsAt, func(c MirrorConfig) bool { return c.Path == m.Path }) {
			continue
		}
		ps = append(ps, place{MirrorConfig{Name: m.Name + oldSuffix, Path: m.Path}, true})
	}
	return ps, slices.Clone(l.members), l.rules
}
