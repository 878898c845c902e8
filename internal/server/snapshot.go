package server

import (
	"context"
	"fmt"
	"strconv"

	"holdfast"
	"holdfast/internal/ledger"
	"holdfast/internal/restore"
)

// Requests of the snapshot operations. Account is a name or a number.
type (
	// SnapshotRequest names a snapshot of an account.
	SnapshotRequest struct {
		Account string `json:"account"`
		Name    string `json:"name,omitempty"`
		Why     string `json:"why,omitempty"` // snapshot/create
	}
	// ExportRequest is one step of an export.
	ExportRequest struct {
		SnapshotRequest
		Dir   string         `json:"dir"`
		From  restore.Cursor `json:"from"`
		Files int            `json:"files"`
		Bytes int64          `json:"bytes"`
	}
	// UndoRequest is one step of an undo.
	UndoRequest struct {
		SnapshotRequest
		Collection string         `json:"collection,omitempty"`
		Everyone   bool           `json:"everyone,omitempty"`
		DryRun     bool           `json:"dry_run,omitempty"`
		From       restore.Cursor `json:"from"`
	}
)

func (d *Dir) snapshotOperations() map[string]operation {
	return map[string]operation{
		"snapshot/create": op(func(ctx context.Context, in SnapshotRequest) (*ledger.Snapshot, error) {
			a, err := d.accountID(ctx, in.Account)
			if err != nil {
				return nil, err
			}
			return d.Ledger.CreateSnapshot(ctx, a, in.Name, in.Why)
		}),
		"snapshot/list": op(func(ctx context.Context, in SnapshotRequest) ([]ledger.Snapshot, error) {
			a, err := d.accountID(ctx, in.Account)
			if err != nil {
				return nil, err
			}
			return d.Ledger.Snapshots(ctx, a)
		}),
		"snapshot/remove": op(func(ctx context.Context, in SnapshotRequest) (Nothing, error) {
			a, err := d.accountID(ctx, in.Account)
			if err != nil {
				return Nothing{}, err
			}
			return Nothing{}, d.Ledger.RemoveSnapshot(ctx, a, in.Name)
		}),
		"snapshot/show": op(func(ctx context.Context, in SnapshotRequest) (*restore.Shown, error) {
			a, err := d.accountID(ctx, in.Account)
			if err != nil {
				return nil, err
			}
			return restore.Show(ctx, d.Ledger, a, in.Name)
		}),
		"snapshot/export": op(func(ctx context.Context, in ExportRequest) (*restore.Exported, error) {
			a, err := d.accountID(ctx, in.Account)
			if err != nil {
				return nil, err
			}
			return restore.Export(ctx, d.Ledger, restore.ExportOrder{Account: a, Snapshot: in.Name, Dir: in.Dir, From: in.From, Files: in.Files, Bytes: in.Bytes})
		}),
		"snapshot/undo": op(func(ctx context.Context, in UndoRequest) (*restore.Undone, error) {
			a, err := d.accountID(ctx, in.Account)
			if err != nil {
				return nil, err
			}
			return restore.Undo(ctx, d.Ledger, restore.UndoOrder{Account: a, Snapshot: in.Name, Collection: in.Collection, Everyone: in.Everyone, DryRun: in.DryRun, From: in.From})
		}),
	}
}

// accountID finds an account by its name, also a removed one, or by its number as alerts give it.
func (d *Dir) accountID(ctx context.Context, name string) (holdfast.AccountID, error) {
	all, err := d.Auth.Accounts(ctx, true)
	if err != nil {
		return 0, err
	}
	for _, a := range all {
		if a.Name == name {
			return a.ID, nil
		}
	}
	if n, err := strconv.ParseUint(name, 10, 63); err == nil {
		for _, a := range all {
			if uint64(a.ID) == n {
				return a.ID, nil
			}
		}
	}
	return 0, fmt.Errorf("account %q: %w", name, holdfast.ErrNotFound)
}
