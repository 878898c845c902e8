package server

import (
	"context"
	"fmt"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/ledger"
)

// WitnessRequest asks for a change of the head witness.
type WitnessRequest struct {
	Path   string `json:"path,omitempty"`    // witness/add: absolute, free of links, new or empty
	GiveUp bool   `json:"give_up,omitempty"` // the operator has said that what the present one knows may be lost
}

// witnessOperations are the admin operations that make, take out and show the head witness.
func (d *Dir) witnessOperations() map[string]operation {
	return map[string]operation{
		"witness/add":    op(d.addWitness),
		"witness/remove": op(d.removeWitness),
	}
}

// addWitness makes a witness and has it moved from now on: marker, then settings, then the ledger. After a
// crash between two of them the same command goes on.
func (d *Dir) addWitness(ctx context.Context, in WitnessRequest) (ledger.Status, error) {
	d.confMu.Lock()
	defer d.confMu.Unlock()
	text, c, err := d.readConf()
	if err != nil {
		return ledger.Status{}, err
	}
	if c.Witness == in.Path {
		return d.Ledger.Status(), nil
	}
	if err := d.giveUpWitness(c, in); err != nil {
		return ledger.Status{}, err
	}
	if err := d.freePlace(in.Path); err != nil {
		return ledger.Status{}, err
	}
	if text, c, err = config.Edit(text, "witness", "", in.Path); err != nil {
		return ledger.Status{}, err
	}
	if err := d.Ledger.CreateWitness(ctx, in.Path); err != nil {
		return ledger.Status{}, inUse(err, in.Path)
	}
	if err := d.writeConf(text, c); err != nil {
		return ledger.Status{}, err
	}
	d.Settings.Witness = c.Witness
	d.setWitness(ctx, in.Path)
	return d.Ledger.Status(), nil
}

// removeWitness takes the witness out of the settings, then out of the write path. Its directory stays.
func (d *Dir) removeWitness(ctx context.Context, in WitnessRequest) (ledger.Status, error) {
	d.confMu.Lock()
	defer d.confMu.Unlock()
	text, c, err := d.readConf()
	if err != nil {
		return ledger.Status{}, err
	}
	if c.Witness == "" {
		return ledger.Status{}, fmt.Errorf("no witness is configured: %w", holdfast.ErrNotFound)
	}
	if err := d.giveUpWitness(c, in); err != nil {
		return ledger.Status{}, err
	}
	if text, c, err = config.Edit(text, "witness", c.Witness, ""); err != nil {
		return ledger.Status{}, err
	}
	if err := d.writeConf(text, c); err != nil {
		return ledger.Status{}, err
	}
	d.Settings.Witness = ""
	d.setWitness(ctx, "")
	return d.Ledger.Status(), nil
}

// setWitness waits a moment for a session that goes by the change.
func (d *Dir) setWitness(ctx context.Context, path string) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	d.Ledger.SetWitness(ctx, path)
}

// giveUpWitness refuses to leave a witness behind that may know of a loss which nobody has heard of.
func (d *Dir) giveUpWitness(c *config.Config, in WitnessRequest) error {
	if s := d.Ledger.Status().Witness; c.Witness != "" && !in.GiveUp && (s == nil || s.State != "complete") {
		return fmt.Errorf("the witness in %s cannot be read, and it may know of changes that all copies have lost. Bring it back, or, if it is lost for good, "+
			"say so with --yes: %w", c.Witness, holdfast.ErrDenied)
	}
	return nil
}
