// Package blob keeps the bodies over 64 KiB of the store's side, each under the hash of its content.
//
// Invariants: a body is durable before Put returns, so before any change names it (L7); no reader
// hands out a body whose hash is wrong (L11); see Reader for very large ones.
//
// Files on disk, in the data directory: blobs/<account, 16 hex digits>/<SHA-256, 64 hex digits>; the same names
// as in a mirror. Bodies are shared inside an account only.
package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/bucket"
)

// Bucket is where bodies lie: one that can take a body before its name is known, as bucket/dir can.
type Bucket interface {
	bucket.Bucket
	// PutNamed stores a durable object in the directory under, and asks for its base name, and whether to
	// replace what has it, once the body was read. ErrExists, after a sync of the directory, when it is taken.
	PutNamed(ctx context.Context, under string, body io.Reader, name func() (base string, replace bool, err error)) error
}

// Store holds the bodies. All methods are safe concurrently.
type Store struct {
	bucket   Bucket
	verified verified
}

// Open returns a store of the bodies in b, which holds the data directory. What is missing there is found
// when it is used: ErrAbsent for the bucket, ErrNotFound for a body.
func Open(b Bucket) *Store { return &Store{bucket: b} }

// Put stores a body and returns its hash and size. On nil it is durable. A body that is there already is
// verified, and replaced if it is damaged. More than limit bytes are ErrTooLarge; an error of r is returned,
// wrapped; in both cases nothing is stored.
func (s *Store) Put(ctx context.Context, account holdfast.AccountID, r io.Reader, limit int64) (frame.Blob, error) {
	b, err := s.put(ctx, account, r, limit, nil)
	if err != nil {
		return frame.Blob{}, fmt.Errorf("put blob of account %s: %w", account, err)
	}
	return b, nil
}

// Restore stores the body b again from r, whatever is there under its name. ErrCorrupt, and nothing stored,
// when r does not give that body.
func (s *Store) Restore(ctx context.Context, account holdfast.AccountID, b frame.Blob, r io.Reader) error {
	if _, err := s.put(ctx, account, r, b.Size, &b); err != nil {
		return fmt.Errorf("restore blob: %w", err)
	}
	return nil
}

// put stores r; if want is set, only when r is that body, and over whatever has its name.
func (s *Store) put(ctx context.Context, account holdfast.AccountID, r io.Reader, limit int64, want *frame.Blob) (frame.Blob, error) {
	in := &hasher{r: r, limit: limit, sum: sha256.New()}
	var b frame.Blob
	name := func() (string, bool, error) {
		b = frame.Blob{Hash: holdfast.Hash(in.sum.Sum(nil)), Size: in.size}
		if want != nil {
			if b != *want {
				return "", false, fmt.Errorf("%d bytes with hash %s came for %d with hash %s: %w", b.Size, b.Hash, want.Size, want.Hash, holdfast.ErrCorrupt)
			}
			return b.Hash.String(), true, nil
		}
		// A damaged body of that name must give way. Looking costs a read of it, but only on a repeat.
		err := s.Verify(ctx, account, b)
		if errors.Is(err, holdfast.ErrNotFound) {
			return b.Hash.String(), false, nil
		}
		if err != nil && !errors.Is(err, holdfast.ErrCorrupt) {
			return "", false, err
		}
		return b.Hash.String(), err != nil, nil
	}
	err := s.bucket.PutNamed(ctx, bucket.BlobDir(account), in, name)
	if errors.Is(err, holdfast.ErrExists) && b.Hash != (holdfast.Hash{}) {
		err = nil // the same bytes, durable
	}
	return b, err
}

// Has says whether the body is there with its size. ErrCorrupt when it has another; its bytes are not read.
func (s *Store) Has(ctx context.Context, account holdfast.AccountID, b frame.Blob) (bool, error) {
	name := bucket.BlobName(account, b.Hash)
	i, err := s.bucket.Stat(ctx, name)
	if errors.Is(err, holdfast.ErrNotFound) && !errors.Is(err, holdfast.ErrAbsent) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for blob: %w", err)
	}
	return true, checkSize(name, i.Size, b.Size)
}

func checkSize(name string, got, want int64) error {
	if got != want {
		return fmt.Errorf("%s has %d bytes instead of %d: %w", name, got, want, holdfast.ErrCorrupt)
	}
	return nil
}

// Verify reads the whole body from the medium. ErrCorrupt when it is not what its name says, ErrNotFound when it
// is not there.
func (s *Store) Verify(ctx context.Context, account holdfast.AccountID, b frame.Blob) error {
	r, err := s.open(ctx, account, b)
	if err != nil {
		return err
	}
	defer r.Close() //nolint:errcheck // opened to read
	if d, ok := r.object.(interface{ DropCache() }); ok {
		d.DropCache()
	}
	return r.Verify()
}

// Remove removes a body durably. It is for retention and erasure alone (L7). ErrNotFound.
func (s *Store) Remove(ctx context.Context, account holdfast.AccountID, b frame.Blob) error {
	s.verified.forget(bucket.BlobName(account, b.Hash))
	if err := s.bucket.Remove(ctx, bucket.BlobName(account, b.Hash)); err != nil {
		return fmt.Errorf("remove blob: %w", err)
	}
	return nil
}

// Entry is a body in a listing. Its size is that of the file.
type Entry struct {
	Account  holdfast.AccountID
	Blob     frame.Blob
	Modified time.Time
}

// List yields all bodies of all accounts, by account and hash, in bounded memory. An error ends it; an object
// that is no body is ErrCorrupt.
func (s *Store) List(ctx context.Context) iter.Seq2[Entry, error] { return s.list(ctx, "blobs/") }

// ListAccount yields the bodies of one account, by hash.
func (s *Store) ListAccount(ctx context.Context, account holdfast.AccountID) iter.Seq2[Entry, error] {
	return s.list(ctx, bucket.BlobDir(account)+"/")
}

func (s *Store) list(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for i, err := range s.bucket.List(ctx, prefix) {
			var e Entry
			if err == nil {
				e.Account, e.Blob.Hash, err = bucket.ParseBlobName(i.Name)
				if err != nil {
					err = fmt.Errorf("%w: %w", err, holdfast.ErrCorrupt)
				}
			}
			if err != nil {
				yield(Entry{}, fmt.Errorf("list blobs: %w", err))
				return
			}
			e.Blob.Size, e.Modified = i.Size, i.Modified
			if !yield(e, nil) {
				return
			}
		}
	}
}
