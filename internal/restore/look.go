package restore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/mirror"
)

// Found is what mirrors say of themselves, before anything is claimed.
type Found struct {
	Server  holdfast.ServerID
	Mirrors []FoundMirror
	// Missing lists mirrors that the server had and that were not given. They may have newer changes.
	Missing []mirror.Member
	// Listed: at least one mirror says which others there are. If none does, nobody knows what is missing.
	Listed bool

	Accounts int       // of people
	Changes  uint64    // of all accounts
	Written  time.Time // when the newest batch was written, by the old server's clock; zero: not known
	Bytes    int64     // of the largest mirror: about what a data directory takes
}

// FoundMirror is one of the mirrors given.
type FoundMirror struct {
	ID      string
	Path    string
	Name    string // as its server called it, or the path
	Last    *mirror.Claim
	Changes uint64
	Bytes   int64
	Damage  []string
}

// Look reads what mirrors in directories are, and changes nothing. ErrAbsent: a path is no mirror.
// ErrInvalid: they are of different servers, or one is given twice, or there is nothing in them.
func Look(ctx context.Context, paths []string) (*Found, error) {
	if len(paths) == 0 {
		return nil, fmt.Errorf("no mirror was given: %w", holdfast.ErrInvalid)
	}
	f := &Found{}
	heads := map[holdfast.AccountID]holdfast.AccountHead{}
	var members []mirror.Member
	for _, p := range paths {
		m, list, err := f.look(ctx, p, heads)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		for _, o := range f.Mirrors {
			if o.ID == m.ID {
				return nil, fmt.Errorf("%s and %s are the same mirror, or one is a copy of the other; give one of them: %w", o.Path, p, holdfast.ErrInvalid)
			}
		}
		f.Mirrors = append(f.Mirrors, *m)
		members = append(members, list...)
	}
	for a, h := range heads {
		f.Changes += uint64(h.Head.Seq)
		if a != holdfast.Server {
			f.Accounts++
		}
	}
	if heads[holdfast.Server].Head.Seq == 0 {
		return nil, fmt.Errorf("no mirror given has the accounts of a server in it, so there is nothing to restore: %w", holdfast.ErrInvalid)
	}
	f.name(members)
	return f, nil
}

// look reads one mirror.
func (f *Found) look(ctx context.Context, path string, heads map[holdfast.AccountID]holdfast.AccountHead) (fm *FoundMirror, members []mirror.Member, err error) {
	b, err := dir.Open(durable.Disk, path, dir.WithSpare(dir.Off))
	if err != nil {
		return nil, nil, fmt.Errorf("%w; is its disk mounted?", err)
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	server, err := mirror.Whose(ctx, b)
	if err != nil {
		return nil, nil, fmt.Errorf("not a mirror that can be read: %w", err)
	}
	if f.Server != (holdfast.ServerID{}) && f.Server != server {
		return nil, nil, fmt.Errorf("this mirror is of server %s, the one before of server %s: %w", server, f.Server, holdfast.ErrInvalid)
	}
	f.Server = server
	m, err := mirror.Open(ctx, mirror.Config{Server: server, Bucket: b, Name: path})
	if err != nil {
		return nil, nil, err
	}
	fm = &FoundMirror{ID: m.ID(), Path: path, Name: path}
	claims, err := m.Terms(ctx)
	if err != nil {
		return nil, nil, err
	}
	if n := len(claims); n > 0 {
		fm.Last = &claims[n-1]
	}
	if err := f.contents(ctx, m, fm, heads); err != nil {
		return nil, nil, err
	}
	for info, err := range b.List(ctx, "") {
		if err != nil {
			return nil, nil, fmt.Errorf("list: %w", err)
		}
		fm.Bytes += info.Size
	}
	f.Bytes = max(f.Bytes, fm.Bytes)
	members, err = m.Members(ctx)
	switch {
	case errors.Is(err, holdfast.ErrNotFound):
		err = nil
	case errors.Is(err, holdfast.ErrCorrupt):
		fm.Damage = append(fm.Damage, err.Error())
		err = nil
	case err == nil:
		f.Listed = true
	}
	return fm, members, err
}

// contents reads the ends of the logs.
func (f *Found) contents(ctx context.Context, m *mirror.Mirror, fm *FoundMirror, heads map[holdfast.AccountID]holdfast.AccountHead) error {
	rec, err := m.Recover(ctx)
	if err != nil {
		return err
	}
	for a, h := range rec.Heads {
		fm.Changes += uint64(h.Head.Seq)
		if have := heads[a]; h.Head.Seq > have.Head.Seq {
			heads[a] = h
		}
	}
	if rec.Written.After(f.Written) {
		f.Written = rec.Written
	}
	for _, d := range rec.Damage {
		if d.Kind != mirror.Torn {
			fm.Damage = append(fm.Damage, d.String())
		}
	}
	return nil
}

// name gives the mirrors their names, and finds those that were not given.
func (f *Found) name(members []mirror.Member) {
	given := map[string]*FoundMirror{}
	for i := range f.Mirrors {
		given[f.Mirrors[i].ID] = &f.Mirrors[i]
	}
	told := map[string]bool{}
	for _, k := range members {
		if g, ok := given[k.ID]; ok {
			g.Name = k.Name
		} else if !told[k.ID] {
			told[k.ID] = true
			f.Missing = append(f.Missing, k)
		}
	}
}

// Settings returns settings for the new data directory: the server's id, and the mirrors that were given.
func (f *Found) Settings() *config.Config {
	c := config.Default()
	c.ServerID = f.Server
	used := map[string]bool{}
	for i, m := range f.Mirrors {
		name := m.Name
		if name == m.Path || used[name] || name == "" {
			name = fmt.Sprintf("mirror%d", i+1)
		}
		used[name] = true
		c.Mirrors = append(c.Mirrors, config.Mirror{Name: name, Path: m.Path})
	}
	return c
}
