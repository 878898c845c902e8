package mirror

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/bucket"
)

// PutBlob copies a body into the mirror; it is durable on return, and nothing of it is visible if its
// hash or size is not b's (ErrCorrupt). A copy that is there is verified and, if damaged, replaced.
func (m *Mirror) PutBlob(ctx context.Context, account holdfast.AccountID, b frame.Blob, r io.Reader) error {
	name := bucket.BlobName(account, b.Hash)
	err := m.cfg.Bucket.Put(ctx, name, newVerifier(r, b), true)
	if errors.Is(err, holdfast.ErrExists) {
		if err = m.verifyBlob(ctx, account, b); err == nil {
			return nil
		}
		if !errors.Is(err, holdfast.ErrCorrupt) {
			return fmt.Errorf("mirror %s: look at blob %s: %w", m.cfg.Name, b.Hash, err)
		}
		s, ok := r.(io.Seeker)
		if !ok {
			return fmt.Errorf("mirror %s: replace damaged blob %s: the copy cannot be read twice: %w", m.cfg.Name, b.Hash, err)
		}
		if _, err = s.Seek(0, io.SeekStart); err == nil {
			m.log.Error("damaged blob is replaced", "account", account.String(), "blob", b.Hash.String())
			err = m.cfg.Bucket.Put(ctx, name, newVerifier(r, b), false)
		}
	}
	if err != nil {
		return fmt.Errorf("mirror %s: put blob %s: %w", m.cfg.Name, b.Hash, err)
	}
	return nil
}

// OpenBlob opens a body. Reading it to its end gives ErrCorrupt instead of io.EOF if it is not the one
// that b names. ErrNotFound.
func (m *Mirror) OpenBlob(ctx context.Context, account holdfast.AccountID, b frame.Blob) (io.ReadCloser, error) {
	o, err := m.cfg.Bucket.Open(ctx, bucket.BlobName(account, b.Hash))
	if err != nil {
		return nil, fmt.Errorf("mirror %s: open blob %s: %w", m.cfg.Name, b.Hash, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{newVerifier(io.NewSectionReader(o, 0, o.Size()), b), o}, nil
}

// HasBlob reports whether a body of the right size is there. It does not read it.
func (m *Mirror) HasBlob(ctx context.Context, account holdfast.AccountID, b frame.Blob) (bool, error) {
	info, err := m.cfg.Bucket.Stat(ctx, bucket.BlobName(account, b.Hash))
	if errors.Is(err, holdfast.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("mirror %s: look for blob %s: %w", m.cfg.Name, b.Hash, err)
	}
	return info.Size == b.Size, nil
}

// verifyBlob reads a body from the medium. ErrCorrupt, ErrNotFound.
func (m *Mirror) verifyBlob(ctx context.Context, account holdfast.AccountID, b frame.Blob) error {
	r, err := m.OpenBlob(ctx, account, b)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return errors.Join(err, r.Close())
}

// verifier passes on what it reads and ends in ErrCorrupt if that was not the body it should be.
type verifier struct {
	r    io.Reader
	want frame.Blob
	sum  hash.Hash
	n    int64
}

func newVerifier(r io.Reader, want frame.Blob) *verifier {
	return &verifier{r: r, want: want, sum: sha256.New()}
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.sum.Write(p[:n])
	v.n += int64(n)
	if v.n > v.want.Size {
		return n, fmt.Errorf("blob has more than %d bytes: %w", v.want.Size, holdfast.ErrCorrupt)
	}
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if v.n != v.want.Size || holdfast.Hash(v.sum.Sum(nil)) != v.want.Hash {
		return n, fmt.Errorf("blob of %d bytes has another hash or size: %w", v.n, holdfast.ErrCorrupt)
	}
	return n, io.EOF
}
