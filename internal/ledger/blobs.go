package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/blob"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/durable"
	"holdfast/internal/fence"
	"holdfast/internal/mirror"
)

// Body is what Tx.Put stores: bytes that travel inside the change, or a blob that is durable in the
// store and in every mirror already. The zero Body is invalid.
type Body struct {
	Hash   holdfast.Hash // SHA-256 of the bytes
	Size   int64         // bytes
	inline []byte
	blob   *frame.Blob
}

// InlineBody makes a body of at most holdfast.MaxInline bytes. It keeps b.
func InlineBody(b []byte) Body {
	if b == nil {
		b = []byte{}
	}
	return Body{Hash: sha256.Sum256(b), Size: int64(len(b)), inline: b}
}

// PutBlob reads a body of any size up to limit bytes (ErrTooLarge beyond). What is larger than
// holdfast.MaxInline is durable in the store's blobs and in every mirror when it returns (L7).
func (l *Ledger) PutBlob(ctx context.Context, a holdfast.AccountID, r io.Reader, limit int64) (Body, error) {
	head := make([]byte, holdfast.MaxInline+1)
	n, err := io.ReadFull(r, head)
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		if int64(n) > limit {
			return Body{}, fmt.Errorf("body of %d bytes: %w", n, holdfast.ErrTooLarge)
		}
		return InlineBody(head[:n]), nil
	case err != nil:
		return Body{}, fmt.Errorf("read body: %w", err)
	}
	if err := l.admit(a); err != nil {
		return Body{}, err
	}
	l.mu.RLock()
	mirrors, held, why := l.mirrors, l.state != fence.Open, l.reason.Full()
	l.mu.RUnlock()
	if held {
		return Body{}, fmt.Errorf("%s: %w", why, holdfast.ErrNotDurable)
	}
	if err := l.checkSpace(mirrors); err != nil {
		return Body{}, err
	}
	b, err := l.blobs.Put(ctx, a, io.MultiReader(bytes.NewReader(head), r), limit)
	if errors.Is(err, holdfast.ErrAbsent) {
		err = errors.Join(err, l.remakeBlobs(a)) // for the next attempt: of this one the body is read
	}
	if err != nil {
		return Body{}, fmt.Errorf("store blob: %w", err)
	}
	for _, m := range mirrors {
		if l.planted(blobLate) {
			break
		}
		if err := l.mirrorBlob(ctx, m, a, b); err != nil {
			err = &mirrorError{m.Name(), err}
			if errors.Is(err, holdfast.ErrAbsent) {
				l.tell(err)
			}
			return Body{}, fmt.Errorf("%w: %w", err, holdfast.ErrNotDurable)
		}
	}
	return Body{Hash: b.Hash, Size: b.Size, blob: &b}, nil
}

// mirrorBlob copies a blob of the store into a mirror, unless it is there.
func (l *Ledger) mirrorBlob(ctx context.Context, m *mirror.Mirror, a holdfast.AccountID, b frame.Blob) error {
	f, err := l.blobs.Open(ctx, a, b)
	if err != nil {
		return fmt.Errorf("open blob %s: %w", b.Hash, err)
	}
	return errors.Join(m.PutBlob(ctx, a, b, f), f.Close())
}

// openBlob opens a blob of the store; one that is missing or cut is fetched from a mirror first, one
// that turns out to be damaged while it is read is fetched for the next reader (L11).
func (l *Ledger) openBlob(ctx context.Context, r *Resource) (io.ReadSeekCloser, error) {
	b := frame.Blob{Hash: r.Body, Size: r.Size}
	f, err := l.blobs.Open(ctx, r.Account, b)
	if err != nil {
		if herr := l.healBlob(ctx, r.Account, b); herr != nil {
			return nil, &blobError{fmt.Errorf("%w; heal it: %w", err, herr)}
		}
		if f, err = l.blobs.Open(ctx, r.Account, b); err != nil {
			return nil, &blobError{fmt.Errorf("open healed blob %s: %w", b.Hash, err)}
		}
	}
	return &healingReader{ReadSeekCloser: f, heal: func() error { return l.healBlob(ctx, r.Account, b) }}, nil
}

// blobError is of one blob: what it says does not put the store in doubt.
type blobError struct{ err error }

func (e *blobError) Error() string { return e.err.Error() }
func (e *blobError) Unwrap() error { return e.err }

// healingReader has a damaged blob replaced; its own reader still hears that it was damaged.
type healingReader struct {
	io.ReadSeekCloser
	heal func() error
}

func (h *healingReader) Read(p []byte) (int, error) {
	n, err := h.ReadSeekCloser.Read(p)
	if errors.Is(err, holdfast.ErrCorrupt) && h.heal != nil {
		if herr := h.heal(); herr != nil {
			err = errors.Join(err, herr)
		}
		h.heal = nil
	}
	return n, err
}

// readBlob returns a whole blob; a damaged one is healed and read once more.
func (l *Ledger) readBlob(ctx context.Context, r *Resource) ([]byte, error) {
	b, err := l.readBlobOnce(ctx, r)
	if errors.Is(err, holdfast.ErrCorrupt) {
		b, err = l.readBlobOnce(ctx, r)
	}
	if err != nil {
		return nil, &blobError{err}
	}
	return b, nil
}

func (l *Ledger) readBlobOnce(ctx context.Context, r *Resource) ([]byte, error) {
	f, err := l.openBlob(ctx, r)
	if err != nil {
		return nil, err
	}
	b := make([]byte, r.Size)
	if _, err = io.ReadFull(f, b); err == nil {
		_, err = f.Read(make([]byte, 1)) // the end, where the hash is checked
		if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	return b, errors.Join(err, f.Close())
}

// healBlob copies a blob from the first mirror that has it whole into the store.
func (l *Ledger) healBlob(ctx context.Context, a holdfast.AccountID, b frame.Blob) error {
	l.mu.RLock()
	mirrors := l.mirrors
	l.mu.RUnlock()
	err := fmt.Errorf("no mirror has blob %s: %w", b.Hash, holdfast.ErrCorrupt)
	for _, m := range mirrors {
		if one := l.healBlobFrom(ctx, m, a, b); one != nil {
			err = errors.Join(err, &mirrorError{m.Name(), one})
			continue
		}
		l.log.Warn("blob healed from mirror", "account", a.String(), "blob", b.Hash.String(), "mirror", m.Name())
		n := &notice{copyName: storeCopy, part: partBlobs, blobs: 1}
		n.damage = []string{fmt.Sprintf("a reader of body %s of account %d found it missing or damaged in the store (%s)", b.Hash, a, l.now().UTC().Format(time.RFC3339Nano))}
		n.did = []string{"it was written again from mirror " + m.Name()}
		if err := l.scrub.conclude(n); err != nil {
			l.log.Error("write incident report", "err", err) // the body itself is healed
		}
		return nil
	}
	return err
}

func (l *Ledger) healBlobFrom(ctx context.Context, m *mirror.Mirror, a holdfast.AccountID, want frame.Blob) error {
	f, err := m.OpenBlob(ctx, a, want)
	if err != nil {
		return err
	}
	err = l.blobs.Restore(ctx, a, want, f)
	if err = errors.Join(err, f.Close()); !errors.Is(err, holdfast.ErrAbsent) {
		return err
	}
	if herr := l.remakeBlobs(a); herr != nil {
		return errors.Join(err, herr)
	}
	if f, err = m.OpenBlob(ctx, a, want); err != nil {
		return err
	}
	return errors.Join(l.blobs.Restore(ctx, a, want, f), f.Close())
}

// remakeBlobs makes an account's directory of blobs again when it was removed while this process runs.
// The head file proves that the data directory itself is there.
func (l *Ledger) remakeBlobs(a holdfast.AccountID) error {
	if err := l.blobs.home.Check(); err != nil {
		return err
	}
	if _, err := readHeadFile(l.cfg); err != nil {
		return err
	}
	return durable.MkdirBelow(l.cfg.FS, l.cfg.Dir, filepath.Join("blobs", a.String()))
}

func inlineReader(b []byte) io.ReadSeekCloser { return nopCloser{bytes.NewReader(b)} }

type nopCloser struct{ *bytes.Reader }

func (nopCloser) Close() error { return nil }

// homeBlobs is the store's side of the blobs: blobs/ in the data directory.
type homeBlobs struct {
	*blob.Store
	home *dir.Dir
}

func openBlobs(cfg Config) (*homeBlobs, error) {
	b, err := dir.Open(cfg.FS, cfg.Dir, dir.WithSpare(dir.Off), dir.WithCache())
	if err != nil {
		return nil, err
	}
	return &homeBlobs{blob.Open(b), b}, nil
}

// openMirror opens a mirror and the bucket it lies in, which the caller closes.
func openMirror(ctx context.Context, cfg Config, m MirrorConfig) (*mirror.Mirror, *dir.Dir, error) {
	fsys, err := cfg.place(m.Name, m.Path)
	if err != nil {
		return nil, nil, err
	}
	b, err := dir.Open(fsys, m.Path)
	if err != nil {
		return nil, nil, err
	}
	mi, err := mirror.Open(ctx, mirrorConfig(cfg, m, b))
	if err != nil {
		return nil, nil, errors.Join(err, b.Close())
	}
	return mi, b, nil
}

func createMirror(ctx context.Context, cfg Config, m MirrorConfig) error {
	fsys, err := cfg.place(m.Name, m.Path)
	if err != nil {
		return err
	}
	b, err := dir.Create(fsys, m.Path)
	if err != nil {
		return err
	}
	_, err = mirror.Create(ctx, mirrorConfig(cfg, m, b))
	return errors.Join(err, b.Close())
}

func mirrorConfig(cfg Config, m MirrorConfig, b *dir.Dir) mirror.Config {
	return mirror.Config{Server: cfg.Server, Bucket: b, Name: m.Name, SegmentSize: cfg.SegmentSize, VerifyBehind: true, Log: cfg.Log, Now: cfg.Now}
}
