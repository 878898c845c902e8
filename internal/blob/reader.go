package blob

import (
	"context"
	"fmt"
	"hash"
	"io"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/bucket"
)

// hasher passes on what it reads, up to limit bytes, and hashes it.
type hasher struct {
	r     io.Reader
	limit int64
	size  int64
	sum   hash.Hash
}

func (h *hasher) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	h.size += int64(n)
	if h.size > h.limit {
		return 0, fmt.Errorf("more than %d bytes: %w", h.limit, holdfast.ErrTooLarge)
	}
	h.sum.Write(p[:n])
	return n, err
}

// streamAbove is the size in bytes above which a body that is read from its beginning is not verified as a whole
// first: at 0.85 GB/s that would keep the reader waiting too long for the first byte. Tests make it small.
var streamAbove int64 = 256 << 20

// Reader reads one body and verifies it: the whole before its first byte is handed out, unless this store
// verified it before; then, and from then on, each chunk is compared with what it was. Only a body above 256 MiB
// that is read from its beginning is hashed as it goes, and gives ErrCorrupt instead of its last bytes when the
// hash is wrong; who hands out only a part of such a body calls Verify first. One goroutine uses it.
type Reader struct {
	store  *Store
	object bucket.Object
	name   string
	blob   frame.Blob

	pos   int64    // of the next Read
	sum   *summer  // of the bytes from the first on, until the whole was verified
	sums  []uint64 // of the chunks, once the whole was verified
	chunk []byte   // the verified chunk that begins at at
	at    int64
	err   error // once damaged, always
}

var _ io.ReadSeekCloser = (*Reader)(nil)

// Open opens a body. ErrNotFound when it is not there, ErrCorrupt when its size is wrong.
func (s *Store) Open(ctx context.Context, account holdfast.AccountID, b frame.Blob) (*Reader, error) {
	r, err := s.open(ctx, account, b)
	if err != nil {
		return nil, err
	}
	r.sums = s.verified.get(r.name)
	return r, nil
}

// open opens a body of which nothing is believed.
func (s *Store) open(ctx context.Context, account holdfast.AccountID, b frame.Blob) (*Reader, error) {
	name := bucket.BlobName(account, b.Hash)
	o, err := s.bucket.Open(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	if err := checkSize(name, o.Size(), b.Size); err != nil {
		_ = o.Close()
		return nil, err
	}
	return &Reader{store: s, object: o, name: name, blob: b, sum: newSummer()}, nil
}

// Size returns the bytes of the body.
func (r *Reader) Size() int64 { return r.blob.Size }

// Read reads on from where the last Read or Seek left off.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.read(p)
	if err != nil && err != io.EOF {
		r.err = err
		r.store.verified.forget(r.name)
	}
	r.pos += int64(n)
	return n, err
}

func (r *Reader) read(p []byte) (int, error) {
	if r.sums == nil && r.pos == 0 && r.sum.size != 0 { // a second reading from the beginning
		r.sum = newSummer()
	}
	if r.sums == nil && (r.pos != r.sum.size || r.blob.Size <= streamAbove) {
		if err := r.verify(); err != nil {
			return 0, err
		}
	}
	if r.pos >= r.blob.Size { // verified, since a body in doubt was hashed up to pos
		return 0, io.EOF
	}
	if r.sums != nil {
		return r.readVerified(p)
	}
	p = p[:min(int64(len(p)), r.blob.Size-r.pos)]
	if err := r.fill(p, r.pos); err != nil {
		return 0, err
	}
	_, _ = r.sum.Write(p) // never fails
	if r.sum.size == r.blob.Size {
		if err := r.finish(); err != nil {
			return 0, err // the last bytes are withheld, so that nothing can pass for the whole
		}
	}
	return len(p), nil
}

// fill reads p from the object at off. Anything short is damage.
func (r *Reader) fill(p []byte, off int64) error {
	n, err := r.object.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		return fmt.Errorf("%s ends at %d of %d bytes: %w", r.name, off+int64(n), r.blob.Size, holdfast.ErrCorrupt)
	}
	return fmt.Errorf("read blob: %w", err)
}

// readVerified reads from the chunk that pos lies in.
func (r *Reader) readVerified(p []byte) (int, error) {
	start := r.pos / chunkSize * chunkSize
	if r.chunk == nil || r.at != start {
		buf := r.chunk[:0]
		if cap(buf) == 0 {
			buf = make([]byte, 0, min(chunkSize, r.blob.Size))
		}
		buf = buf[:min(chunkSize, r.blob.Size-start)]
		r.chunk = nil
		if err := r.fill(buf, start); err != nil {
			return 0, err
		}
		if i := start / chunkSize; i >= int64(len(r.sums)) || chunkSum(buf) != r.sums[i] {
			return 0, fmt.Errorf("%s changed at %d since it was verified: %w", r.name, start, holdfast.ErrCorrupt)
		}
		r.chunk, r.at = buf, start
	}
	return copy(p, r.chunk[r.pos-start:]), nil
}

// finish compares the hash of the whole body.
func (r *Reader) finish() error {
	hash, sums := r.sum.done()
	if hash != r.blob.Hash {
		return fmt.Errorf("%s has the hash %s: %w", r.name, hash, holdfast.ErrCorrupt)
	}
	r.sums = sums
	r.store.verified.add(r.name, sums)
	return nil
}

// Verify reads the whole body unless that was done before. ErrCorrupt when it is damaged; the reader is of no
// use then.
func (r *Reader) Verify() error {
	if r.err == nil && r.sums == nil {
		if r.err = r.verify(); r.err != nil {
			r.store.verified.forget(r.name)
		}
	}
	return r.err
}

// verify hashes what was not hashed yet.
func (r *Reader) verify() error {
	buf := make([]byte, min(4*chunkSize, r.blob.Size))
	for r.sum.size < r.blob.Size {
		p := buf[:min(int64(len(buf)), r.blob.Size-r.sum.size)]
		if err := r.fill(p, r.sum.size); err != nil {
			return err
		}
		_, _ = r.sum.Write(p) // never fails
	}
	return r.finish()
}

// Seek sets where the next Read begins. It reads nothing.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.blob.Size
	case io.SeekStart:
	default:
		return 0, fmt.Errorf("seek in %s: whence %d: %w", r.name, whence, holdfast.ErrInvalid)
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek in %s to %d: %w", r.name, offset, holdfast.ErrInvalid)
	}
	r.pos = offset
	return offset, nil
}

// Close closes the body.
func (r *Reader) Close() error { return r.object.Close() }
