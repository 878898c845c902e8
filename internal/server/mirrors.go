package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/ledger"
)

// MirrorRequest asks for a change of the mirrors; which fields count depends on the operation.
type MirrorRequest struct {
	Name   string `json:"name,omitempty"`
	Path   string `json:"path,omitempty"`    // absolute, free of links
	GiveUp bool   `json:"give_up,omitempty"` // mirror/replace: the operator has said that the old one is lost
	Policy string `json:"policy,omitempty"`  // mirror/policy: strict or degraded; empty: as it is
	Copies string `json:"copies,omitempty"`  // mirror/policy: all or a number; empty: as it is
}

// MirrorAnswer says what the mirrors are then.
type MirrorAnswer struct {
	Warnings []string      `json:"warnings,omitempty"` // for a person
	Status   ledger.Status `json:"status"`
}

// mirrorOperations are the admin operations that change mirrors and their policy.
func (d *Dir) mirrorOperations() map[string]operation {
	return map[string]operation{
		"mirror/add":     op(d.addMirror),
		"mirror/replace": op(d.replaceMirror),
		"mirror/remove":  op(d.removeMirror),
		"mirror/policy":  op(d.setPolicy),
	}
}

// addMirror makes a mirror and lets it join: marker, then settings, then the ledger. After a crash between
// two of them the same command goes on.
func (d *Dir) addMirror(ctx context.Context, in MirrorRequest) (MirrorAnswer, error) {
	d.confMu.Lock()
	defer d.confMu.Unlock()
	text, c, err := d.readConf()
	if err != nil {
		return MirrorAnswer{}, err
	}
	if asked(c, in) { // before a crash, or the same command twice
		return d.mirrorAnswer(in.Path), nil
	}
	at := ledger.MirrorConfig{Name: in.Name, Path: in.Path}
	if err := d.freePlace(in.Path); err != nil {
		return MirrorAnswer{}, err
	}
	if slices.ContainsFunc(c.Mirrors, func(m config.Mirror) bool { return m.Name == in.Name }) {
		return MirrorAnswer{}, fmt.Errorf("a mirror is called %s already; give another name, or see holdfast mirror replace --help: %w", in.Name, holdfast.ErrExists)
	}
	text, c, err = config.Edit(text, "mirror", "", in.Name+" "+in.Path)
	if err != nil {
		return MirrorAnswer{}, err
	}
	if _, err := d.Ledger.CreateMirror(ctx, at); err != nil {
		return MirrorAnswer{}, inUse(err, in.Path)
	}
	if err := d.writeConf(text, c); err != nil {
		return MirrorAnswer{}, err
	}
	if err := d.Ledger.AddMirror(at); err != nil {
		return MirrorAnswer{}, err
	}
	return d.mirrorAnswer(in.Path), nil
}

// replaceMirror lets a new directory take the place of a mirror: marker, members, settings, ledger.
func (d *Dir) replaceMirror(ctx context.Context, in MirrorRequest) (MirrorAnswer, error) {
	d.confMu.Lock()
	defer d.confMu.Unlock()
	text, c, err := d.readConf()
	if err != nil {
		return MirrorAnswer{}, err
	}
	i := slices.IndexFunc(c.Mirrors, func(m config.Mirror) bool { return m.Name == in.Name })
	if i < 0 {
		return MirrorAnswer{}, fmt.Errorf("no mirror is called %s: %w", in.Name, holdfast.ErrNotFound)
	}
	if asked(c, in) { // an order before put it there
		if err := d.Ledger.MirrorThere(ctx, in.Name); err != nil {
			return MirrorAnswer{}, fmt.Errorf("%s is the place of mirror %s already, and the mirror is not there (%w). If its disk comes back, mount it; nothing else is needed. "+
				"If it is lost, give the new one a directory of another name, on a new disk too: %w", in.Path, in.Name, err, holdfast.ErrDenied)
		}
		return d.mirrorAnswer(in.Path), nil
	}
	if err := d.freePlace(in.Path); err != nil {
		return MirrorAnswer{}, err
	}
	if err := d.Ledger.MirrorReadable(ctx, in.Name); err != nil && !in.GiveUp {
		return MirrorAnswer{}, fmt.Errorf("mirror %s cannot be read, or is not complete (%w). If it comes back, bring it back instead: it gets what it lacks by itself. "+
			"If it is lost, its place is taken at once, and what only it knew is lost with it: say so with --yes: %w", in.Name, err, holdfast.ErrDenied)
	}
	old := c.Mirrors[i]
	text, c, err = config.Edit(text, "mirror", old.Name+" "+old.Path, in.Name+" "+in.Path)
	if err != nil {
		return MirrorAnswer{}, err
	}
	at := ledger.MirrorConfig{Name: in.Name, Path: in.Path}
	id, err := d.Ledger.CreateMirror(ctx, at)
	if err != nil {
		return MirrorAnswer{}, inUse(err, in.Path)
	}
	save := func() error { return d.writeConf(text, c) }
	if err := d.Ledger.ReplaceMirror(at, id, in.GiveUp, save); err != nil {
		return MirrorAnswer{}, err
	}
	return d.mirrorAnswer(in.Path), nil
}

// removeMirror takes a mirror out of the members, then out of the settings.
func (d *Dir) removeMirror(_ context.Context, in MirrorRequest) (MirrorAnswer, error) {
	d.confMu.Lock()
	defer d.confMu.Unlock()
	text, c, err := d.readConf()
	if err != nil {
		return MirrorAnswer{}, err
	}
	i := slices.IndexFunc(c.Mirrors, func(m config.Mirror) bool { return m.Name == in.Name })
	if err := d.Ledger.CanRemove(in.Name); err != nil && (i < 0 || !errors.Is(err, holdfast.ErrNotFound)) {
		return MirrorAnswer{}, err
	}
	if i >= 0 {
		if text, c, err = config.Edit(text, "mirror", c.Mirrors[i].Name+" "+c.Mirrors[i].Path, ""); err != nil {
			return MirrorAnswer{}, fmt.Errorf("%w: %w", err, holdfast.ErrDenied)
		}
	}
	if err := d.Ledger.RemoveMirror(in.Name); err != nil && (i < 0 || !errors.Is(err, holdfast.ErrNotFound)) {
		return MirrorAnswer{}, err
	}
	if i >= 0 {
		if err := d.writeConf(text, c); err != nil {
			return MirrorAnswer{}, err
		}
	}
	return d.mirrorAnswer(""), nil
}

// setPolicy changes the policy, or only shows it.
func (d *Dir) setPolicy(_ context.Context, in MirrorRequest) (MirrorAnswer, error) {
	if in.Policy == "" && in.Copies == "" {
		return d.mirrorAnswer(""), nil
	}
	d.confMu.Lock()
	defer d.confMu.Unlock()
	text, c, err := d.readConf()
	for _, e := range []struct{ key, value string }{{"policy", in.Policy}, {"copies", in.Copies}} {
		if err == nil && e.value != "" {
			text, c, err = config.Edit(text, e.key, "", e.value)
		}
	}
	if err != nil {
		return MirrorAnswer{}, err
	}
	if err := d.writeConf(text, c); err != nil {
		return MirrorAnswer{}, err
	}
	if err := d.Ledger.SetPolicy(ledger.Policy(c.Policy), c.Copies); err != nil {
		return MirrorAnswer{}, err
	}
	return d.mirrorAnswer(""), nil
}

// asked reports whether the settings say already what is asked for.
func asked(c *config.Config, in MirrorRequest) bool {
	return slices.Contains(c.Mirrors, config.Mirror{Name: in.Name, Path: in.Path})
}

// freePlace refuses a place that lies in another copy's.
func (d *Dir) freePlace(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("path %q does not begin with /: %w", path, holdfast.ErrInvalid)
	}
	if in := d.Ledger.NestedIn(filepath.Clean(path), config.Inside); in != "" {
		return fmt.Errorf("%s and %s lie one inside the other, so both would be lost together: %w", path, in, holdfast.ErrDenied)
	}
	return nil
}

func inUse(err error, path string) error {
	if errors.Is(err, holdfast.ErrExists) {
		return fmt.Errorf("%s is not empty, and nothing that is there is touched; give a new or empty directory: %w: %w", path, err, holdfast.ErrDenied)
	}
	return err
}

func (d *Dir) mirrorAnswer(path string) MirrorAnswer {
	a := MirrorAnswer{Status: d.Ledger.Status()}
	if same, err := durable.SameDevice(durable.Disk, d.Path, path); path != "" && err == nil && same {
		a.Warnings = append(a.Warnings, fmt.Sprintf("%s is on the same disk as %s: when that disk dies, both copies die with it", path, d.Path))
	}
	return a
}

const maxConf = 1 << 20 // bytes; config refuses more too

func (d *Dir) readConf() ([]byte, *config.Config, error) {
	text, err := durable.ReadFile(durable.Disk, filepath.Join(d.Path, config.FileName), maxConf)
	if err != nil {
		return nil, nil, fmt.Errorf("read settings: %w", err)
	}
	c, err := config.Parse(text)
	return text, c, err
}

// writeConf replaces the settings file; it is durable on return.
func (d *Dir) writeConf(text []byte, c *config.Config) error {
	name := filepath.Join(d.Path, config.FileName)
	info, err := durable.Disk.Stat(name)
	if err == nil {
		err = durable.Replace(durable.Disk, name, text, info.Mode.Perm())
	}
	if err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	d.Settings.Mirrors, d.Settings.Policy, d.Settings.Copies = c.Mirrors, c.Policy, c.Copies
	return nil
}
