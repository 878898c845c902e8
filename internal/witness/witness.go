// Package witness keeps the heads of all accounts in a third place: a small record moved before each
// acknowledgement. It sees what store and mirrors cannot: that all of them were put back to an older
// state together.
//
// Invariants: what Move returned for is read by every later Heads; what Heads returns was durable in the
// mirrors before; a place without its marker is holdfast.ErrAbsent, never new. Format: docs/formats/witness.md.
//
// Objects in the bucket: the marker holdfast-witness.json, and heads/<term>-<n>, of which the newest
// begins with all heads and goes on with those that moved.
package witness

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/bucket"
)

const (
	markerName   = "holdfast-witness.json"
	markerFormat = 1
	maxMarker    = 64 << 10
	prefix       = "heads/"
	objectSize   = 4 << 20
	maxObjects   = 1 << 12 // each start leaves one at most before it removes the older ones
)

type marker struct {
	Format  int    `json:"format"`
	Server  string `json:"server"`
	Witness string `json:"witness"`
}

// Config says where a witness is and whose.
type Config struct {
	Server holdfast.ServerID
	Bucket bucket.Bucket
	Size   int64 // bytes of one object before the next is begun; 0 is 4 MiB
}

// Witness is an open witness. One goroutine at a time uses it.
type Witness struct {
	cfg   Config
	id    [16]byte
	term  holdfast.Term
	heads map[holdfast.AccountID]holdfast.AccountHead // all that is known
	bad   map[string]error                            // objects that are damaged: kept, and what could be read of them counts
	n     uint64                                      // of the object that is written
	out   bucket.Appender                             // nil before Begin
	room  int64                                       // bytes left in it
}

// Create makes a witness in an empty bucket. ErrExists: there is something in it.
func Create(ctx context.Context, cfg Config) (*Witness, error) {
	for info, err := range cfg.Bucket.List(ctx, "") {
		if err != nil {
			return nil, fmt.Errorf("create witness: %w", err)
		}
		return nil, fmt.Errorf("create witness: %q is there: %w", info.Name, holdfast.ErrExists)
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // crypto/rand.Read never returns an error
	b, err := json.Marshal(marker{markerFormat, cfg.Server.String(), hex.EncodeToString(id[:])})
	if err != nil {
		return nil, fmt.Errorf("create witness: encode marker: %w", err)
	}
	if err := cfg.Bucket.Put(ctx, markerName, bytes.NewReader(append(b, '\n')), true); err != nil {
		return nil, fmt.Errorf("create witness: write marker: %w", err)
	}
	return Open(ctx, cfg)
}

// Open opens what Create made and reads all heads. ErrAbsent: there is no marker, or it is another
// server's. ErrCorrupt: the marker is damaged. Damage of the heads is no error here: see Damage.
func Open(ctx context.Context, cfg Config) (*Witness, error) {
	if cfg.Size == 0 {
		cfg.Size = objectSize
	}
	w := &Witness{cfg: cfg, heads: map[holdfast.AccountID]holdfast.AccountHead{}, bad: map[string]error{}}
	if err := w.readMarker(ctx); err != nil {
		return nil, fmt.Errorf("open witness: %w", err)
	}
	if err := w.readAll(ctx); err != nil {
		return nil, fmt.Errorf("open witness: %w", err)
	}
	return w, nil
}

func (w *Witness) readMarker(ctx context.Context) error {
	b, err := w.read(ctx, markerName, maxMarker)
	if errors.Is(err, holdfast.ErrNotFound) {
		return fmt.Errorf("no marker %s, so this is no witness (is its disk mounted?): %w", markerName, holdfast.ErrAbsent)
	}
	if err != nil {
		return err
	}
	var m marker
	if err := json.Unmarshal(b, &m); err != nil || m.Format != markerFormat {
		return fmt.Errorf("marker %s is damaged or of a newer format: %w", markerName, holdfast.ErrCorrupt)
	}
	server, err := holdfast.ParseServerID(m.Server)
	if err != nil {
		return fmt.Errorf("marker %s: %w: %w", markerName, err, holdfast.ErrCorrupt)
	}
	id, err := hex.DecodeString(m.Witness)
	if err != nil || len(id) != len(w.id) {
		return fmt.Errorf("marker %s: witness id %q: %w", markerName, m.Witness, holdfast.ErrCorrupt)
	}
	if server != w.cfg.Server {
		return fmt.Errorf("it is the witness of server %s, not of %s: %w", server, w.cfg.Server, holdfast.ErrAbsent)
	}
	w.id = [16]byte(id)
	return nil
}

// read returns a whole object of at most limit bytes.
func (w *Witness) read(ctx context.Context, name string, limit int64) (b []byte, err error) {
	o, err := w.cfg.Bucket.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	if o.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d: %w", name, o.Size(), limit, holdfast.ErrTooLarge)
	}
	b = make([]byte, o.Size())
	if n, err := o.ReadAt(b, 0); err != nil && (n < len(b) || !errors.Is(err, io.EOF)) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// objects lists what holds heads, oldest first.
func (w *Witness) objects(ctx context.Context) ([]string, error) {
	var names []string
	for info, err := range w.cfg.Bucket.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("list heads: %w", err)
		}
		if _, _, err := parseName(info.Name); err != nil {
			w.bad[info.Name] = err
			continue
		}
		if names = append(names, info.Name); len(names) > maxObjects {
			return nil, fmt.Errorf("more than %d objects of heads: %w", maxObjects, holdfast.ErrTooLarge)
		}
	}
	return names, nil
}

// readAll takes the newest head of each account out of all objects.
func (w *Witness) readAll(ctx context.Context) error {
	names, err := w.objects(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := w.readObject(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (w *Witness) readObject(ctx context.Context, name string) (err error) {
	o, err := w.cfg.Bucket.Open(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	term, n, err := parseName(name)
	if err != nil {
		return err
	}
	err = scan(o, o.Size(), w.label(term, n), w.learn)
	if errors.Is(err, holdfast.ErrCorrupt) {
		w.bad[name], err = err, nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Damage says which objects are damaged; nil if none is. What they held may be known no more. They are
// never removed.
func (w *Witness) Damage() error {
	var err error
	for _, name := range slices.Sorted(maps.Keys(w.bad)) {
		err = errors.Join(err, fmt.Errorf("%s: %w", name, w.bad[name]))
	}
	return err
}

// learn keeps the head that is further on.
func (w *Witness) learn(h holdfast.AccountHead) {
	have, ok := w.heads[h.Account]
	if !ok || h.Epoch > have.Epoch || h.Epoch == have.Epoch && h.Head.Seq > have.Head.Seq {
		w.heads[h.Account] = h
	}
}

// ID names this witness for ever.
func (w *Witness) ID() string { return hex.EncodeToString(w.id[:]) }

// Heads returns the newest head that is known of each account.
func (w *Witness) Heads() map[holdfast.AccountID]holdfast.AccountHead { return maps.Clone(w.heads) }

// Begin starts this term's object with what is known and with heads, and removes the older objects. An
// account of which more is known than heads say keeps that: it has lost data, and nobody may forget it.
func (w *Witness) Begin(ctx context.Context, t holdfast.Term, heads map[holdfast.AccountID]holdfast.AccountHead) error {
	for _, h := range heads {
		w.learn(h)
	}
	w.term, w.n = t, 0
	if err := w.begin(ctx); err != nil {
		return fmt.Errorf("begin witness of term %d: %w", t.Number, err)
	}
	return nil
}

// begin makes the object w.n durable, and only then removes those before it.
func (w *Witness) begin(ctx context.Context) error {
	if err := w.Close(); err != nil {
		return err
	}
	name := objectName(w.term, w.n)
	header, err := encodeHeader(w.label(w.term, w.n), w.heads)
	if err != nil {
		return err
	}
	size := max(w.cfg.Size, 2*int64(len(header)))
	if w.out, err = w.cfg.Bucket.Append(ctx, name, size, header); err != nil {
		return err
	}
	w.room = size - int64(len(header))
	names, err := w.objects(ctx)
	if err != nil {
		return err
	}
	for _, old := range names {
		if w.bad[old] != nil || strings.Compare(old, name) >= 0 {
			continue
		}
		if err := w.cfg.Bucket.Remove(ctx, old); err != nil && !errors.Is(err, holdfast.ErrNotFound) {
			return fmt.Errorf("remove %s: %w", old, err)
		}
	}
	return nil
}

// Move makes heads durable. They must be durable in the mirrors already, and our claim must have been
// looked at after that: then whoever claims next finds in the mirrors what it finds here. The first
// error is final until Begin.
func (w *Witness) Move(ctx context.Context, heads map[holdfast.AccountID]holdfast.AccountHead) error {
	if len(heads) == 0 {
		return nil
	}
	if w.out == nil {
		return fmt.Errorf("move witness: it was not begun: %w", holdfast.ErrInvalid)
	}
	for _, h := range heads {
		w.learn(h)
	}
	rec := encodeRecord(w.label(w.term, w.n), heads)
	if int64(len(rec)) > w.room {
		w.n++
		if err := w.begin(ctx); err != nil {
			return fmt.Errorf("go on with the next object of the witness: %w", err)
		}
		return nil // its header has these heads too
	}
	w.room -= int64(len(rec))
	if err := w.out.Append(rec); err != nil {
		return fmt.Errorf("move witness: %w", err)
	}
	return nil
}

// Close gives up the handle. What was moved stays.
func (w *Witness) Close() error {
	if w.out == nil {
		return nil
	}
	out := w.out
	w.out = nil
	return out.Close()
}
