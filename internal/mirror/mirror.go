package mirror

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/bucket"
)

// Config says where a mirror is and whose it is.
type Config struct {
	Server      holdfast.ServerID
	Bucket      bucket.Bucket
	Name        string // for people: messages and logs
	SegmentSize int64  // bytes of a full segment; 0 is 64 MiB
	Log         *slog.Logger
	// VerifyBehind reads sealed segments back beside the next appends, not in the append that rotates.
	VerifyBehind bool
	Now          func() time.Time // nil is time.Now; the time is for people, never for order
}

const (
	markerName    = "holdfast-mirror.json"
	markerFormat  = 1
	maxMarker     = 64 << 10
	segmentSize   = 64 << 20
	minSegment    = 32 << 10 // below this a segment is hardly more than its header and checkpoint
	maxSmallFiles = 1 << 20  // claims and segments that are listed; more is not a mirror of ours
)

// marker is the JSON object that makes a bucket a mirror.
type marker struct {
	Format int    `json:"format"`
	Server string `json:"server"`
	Mirror string `json:"mirror"`
}

// Mirror is one mirror. Its methods may be called at the same time.
type Mirror struct {
	cfg   Config
	id    [16]byte
	log   *slog.Logger
	hooks hooks

	mu        sync.Mutex
	claimed   map[holdfast.Term]bucket.Info // own claims, as they were when made
	term      holdfast.Term                 // of the newest own log
	recovered *Recovered                    // what the last Recover found
	seen      uint64                        // highest claim that the last Recover found before it read any log
}

// hooks let the simulator plant bugs in a mirror; they are all nil in a real one.
type hooks struct {
	crossRotation bool                             // rotate in the middle of a batch
	trustLast     bool                             // take the last batch of the log before for durable
	noCommit      bool                             // take frames that have no commit frame
	noBound       bool                             // replay past the next log's checkpoint
	anyHeads      bool                             // start a log from heads that were not read after the claim
	object        func(bucket.Object) io.ReaderAt  // what segments are read through
	step          func(format string, args ...any) // told of each durable step
}

// Create makes a mirror in an empty bucket. ErrExists: there is something in it.
func Create(ctx context.Context, cfg Config) (*Mirror, error) {
	for info, err := range cfg.Bucket.List(ctx, "") {
		if err != nil {
			return nil, fmt.Errorf("create mirror %s: %w", cfg.Name, err)
		}
		return nil, fmt.Errorf("create mirror %s: %q is there: %w", cfg.Name, info.Name, holdfast.ErrExists)
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // crypto/rand.Read never returns an error
	return create(ctx, cfg, id)
}

func create(ctx context.Context, cfg Config, id [16]byte) (*Mirror, error) {
	b, err := json.Marshal(marker{Format: markerFormat, Server: cfg.Server.String(), Mirror: hex.EncodeToString(id[:])})
	if err != nil {
		return nil, fmt.Errorf("create mirror %s: encode marker: %w", cfg.Name, err)
	}
	if err := cfg.Bucket.Put(ctx, markerName, bytes.NewReader(append(b, '\n')), true); err != nil {
		return nil, fmt.Errorf("create mirror %s: write marker: %w", cfg.Name, err)
	}
	return Open(ctx, cfg)
}

// Open opens a mirror that Create made. It never creates anything. ErrAbsent: there is no marker, or
// it is another server's. ErrCorrupt: the marker cannot be read, or is of a newer format.
func Open(ctx context.Context, cfg Config) (*Mirror, error) {
	if cfg.SegmentSize == 0 {
		cfg.SegmentSize = segmentSize
	}
	if cfg.SegmentSize < minSegment {
		return nil, fmt.Errorf("open mirror %s: segments of %d bytes, the least is %d: %w", cfg.Name, cfg.SegmentSize, minSegment, holdfast.ErrInvalid)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	m := &Mirror{cfg: cfg, log: cfg.Log.With("pkg", "mirror", "mirror", cfg.Name), claimed: map[holdfast.Term]bucket.Info{}}
	id, err := m.readMarker(ctx)
	if err != nil {
		return nil, fmt.Errorf("open mirror %s: %w", cfg.Name, err)
	}
	m.id = id
	return m, nil
}

// readMarker returns the mirror id of the marker that is there now.
func (m *Mirror) readMarker(ctx context.Context) (id [16]byte, err error) {
	b, err := m.read(ctx, markerName, maxMarker)
	if errors.Is(err, holdfast.ErrNotFound) {
		return id, fmt.Errorf("no marker %s: %w", markerName, holdfast.ErrAbsent)
	}
	if err != nil {
		return id, fmt.Errorf("read marker: %w", err)
	}
	return parseMarker(b, m.cfg.Server)
}

func parseMarker(b []byte, server holdfast.ServerID) (id [16]byte, err error) {
	var k marker
	if err := json.Unmarshal(b, &k); err != nil {
		return id, fmt.Errorf("marker is not JSON (%w): %w", err, holdfast.ErrCorrupt)
	}
	if k.Format != markerFormat {
		return id, fmt.Errorf("marker of format %d, this program reads format %d: %w", k.Format, markerFormat, holdfast.ErrCorrupt)
	}
	raw, err := hex.DecodeString(k.Mirror)
	if err != nil || len(raw) != len(id) {
		return id, fmt.Errorf("marker with mirror id %q: %w", k.Mirror, holdfast.ErrCorrupt)
	}
	if k.Server != server.String() {
		return id, fmt.Errorf("mirror of server %q, ours is %s: %w", k.Server, server, holdfast.ErrAbsent)
	}
	return [16]byte(raw), nil
}

// ID returns the mirror id: 32 hex digits that Create drew.
func (m *Mirror) ID() string { return hex.EncodeToString(m.id[:]) }

// Name returns the name for people.
func (m *Mirror) Name() string { return m.cfg.Name }

// Free returns the bytes that are free where the mirror lies; ok is false if the bucket cannot say.
func (m *Mirror) Free() (free int64, ok bool, err error) {
	f, ok := m.cfg.Bucket.(interface{ FreeBytes() (int64, error) })
	if !ok {
		return 0, false, nil
	}
	if free, err = f.FreeBytes(); err != nil {
		return 0, true, fmt.Errorf("free bytes of mirror %s: %w", m.cfg.Name, err)
	}
	return free, true, nil
}

// read returns a whole small object. ErrTooLarge: it has more than limit bytes.
func (m *Mirror) read(ctx context.Context, name string, limit int64) ([]byte, error) {
	o, err := m.cfg.Bucket.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer o.Close() //nolint:errcheck // read only
	if o.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes: %w", name, o.Size(), holdfast.ErrTooLarge)
	}
	b := make([]byte, o.Size())
	if n, err := o.ReadAt(b, 0); n < len(b) {
		if err == nil || errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s ends at %d of %d: %w", name, n, len(b), holdfast.ErrCorrupt)
		}
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

func (m *Mirror) step(format string, args ...any) {
	if m.hooks.step != nil {
		m.hooks.step(format, args...)
	}
}
