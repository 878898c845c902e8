package mirror

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"holdfast"
)

const (
	membersName   = "members"
	membersFormat = 1
	maxMembers    = 256 // mirrors of one server; more is not a list of ours
)

// Member is one mirror of the set that a server writes to. Name and Path are for people.
type Member struct {
	ID   string `json:"id"` // mirror id, 32 hex digits
	Name string `json:"name"`
	Path string `json:"path"` // where the server that wrote the list found it
}

// membersFile is the JSON object that names a mirror's siblings.
type membersFile struct {
	Format  int      `json:"format"`
	Server  string   `json:"server"`
	Members []Member `json:"members"`
}

// SetMembers writes down which mirrors a change may be acknowledged by, this one included, so that who has
// one mirror alone knows what others to look for. It must be durable in every mirror of the old set that
// can be reached before a new member counts. It writes nothing if the list is there already.
func (m *Mirror) SetMembers(ctx context.Context, all []Member) error {
	have, err := m.Members(ctx)
	if err == nil && slices.Equal(have, all) {
		return nil
	}
	if err != nil && !errors.Is(err, holdfast.ErrNotFound) && !errors.Is(err, holdfast.ErrCorrupt) {
		return err
	}
	b, err := json.Marshal(membersFile{membersFormat, m.cfg.Server.String(), all})
	if err != nil {
		return fmt.Errorf("encode members: %w", err)
	}
	if _, err := parseMembers(b, m.cfg.Server); err != nil {
		return fmt.Errorf("write members: %w", err)
	}
	if err := m.cfg.Bucket.Put(ctx, membersName, bytes.NewReader(append(b, '\n')), false); err != nil {
		return fmt.Errorf("write members of mirror %s: %w", m.cfg.Name, err)
	}
	m.step("members")
	return nil
}

// Members returns the mirrors that this one's server wrote to when it was last told of a change of the
// set. ErrNotFound: no list was written yet. ErrCorrupt: it cannot be read.
func (m *Mirror) Members(ctx context.Context) ([]Member, error) {
	b, err := m.read(ctx, membersName, maxMarker)
	if err != nil {
		if errors.Is(err, holdfast.ErrTooLarge) {
			err = fmt.Errorf("%w: %w", err, holdfast.ErrCorrupt)
		}
		return nil, fmt.Errorf("read members of mirror %s: %w", m.cfg.Name, err)
	}
	all, err := parseMembers(b, m.cfg.Server)
	if err != nil {
		return nil, fmt.Errorf("read members of mirror %s: %w", m.cfg.Name, err)
	}
	return all, nil
}

func parseMembers(b []byte, server holdfast.ServerID) ([]Member, error) {
	var f membersFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("members is not JSON (%w): %w", err, holdfast.ErrCorrupt)
	}
	if f.Format != membersFormat || f.Server != server.String() || len(f.Members) == 0 || len(f.Members) > maxMembers {
		return nil, fmt.Errorf("members of format %d, server %q, with %d mirrors: %w", f.Format, f.Server, len(f.Members), holdfast.ErrCorrupt)
	}
	for _, k := range f.Members {
		if id, err := hex.DecodeString(k.ID); err != nil || len(id) != 16 {
			return nil, fmt.Errorf("members with mirror id %q: %w", k.ID, holdfast.ErrCorrupt)
		}
	}
	return f.Members, nil
}
