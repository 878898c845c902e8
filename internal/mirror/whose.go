package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"holdfast"
	"holdfast/internal/bucket"
)

// Whose returns the server that a mirror belongs to, for who has nothing but the mirror. ErrAbsent:
// there is no marker.
func Whose(ctx context.Context, b bucket.Bucket) (holdfast.ServerID, error) {
	m := &Mirror{cfg: Config{Bucket: b}}
	raw, err := m.read(ctx, markerName, maxMarker)
	if errors.Is(err, holdfast.ErrNotFound) {
		return holdfast.ServerID{}, fmt.Errorf("no marker %s: %w", markerName, holdfast.ErrAbsent)
	}
	if err != nil {
		return holdfast.ServerID{}, fmt.Errorf("read marker: %w", err)
	}
	var k marker
	if err := json.Unmarshal(raw, &k); err != nil {
		return holdfast.ServerID{}, fmt.Errorf("marker is not JSON (%w): %w", err, holdfast.ErrCorrupt)
	}
	return holdfast.ParseServerID(k.Server)
}
