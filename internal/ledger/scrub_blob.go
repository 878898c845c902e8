package ledger

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/bucket"
	"holdfast/internal/mirror"
	"holdfast/internal/store"
)

// scrubBlobs reads every body of one copy from the medium and compares it with its name, which is its
// hash. A damaged one is replaced by a copy that is whole; it stays in its place until that is durable.
func (s *scrubber) scrubBlobs(ctx context.Context, p *lap, c *copies, pace *pacer) error {
	list, err := s.blobsOf(ctx, p.Copy, c)
	if err != nil {
		return err
	}
	if p.Total == 0 {
		for b, err := range list(mirror.BlobInfo{}) {
			if err != nil {
				return err
			}
			s.mu.Lock()
			p.Total += b.Blob.Size
			s.mu.Unlock()
		}
	}
	n := &notice{copyName: p.Copy, part: p.Part}
	total, began := p.Total, p.Bytes
	var from mirror.BlobInfo
	if a, h, err := bucket.ParseBlobName(p.Cursor); err == nil {
		from = mirror.BlobInfo{Account: a, Blob: frame.Blob{Hash: h}}
	}
	for b, err := range list(from) {
		if err != nil {
			return err
		}
		err = s.readBlob(ctx, p.Copy, c, b, pace)
		if err != nil && (ctx.Err() != nil || errors.Is(err, holdfast.ErrAbsent)) {
			return err
		}
		if errors.Is(err, holdfast.ErrNotFound) { // removed meanwhile
			err = nil
		}
		if err != nil {
			n.damage = append(n.damage, fmt.Sprintf("body %s of account %d: %v", b.Blob.Hash, b.Account, err))
			if err := s.healBlobOf(ctx, n, p.Copy, c, b.Account, b.Blob.Hash); err != nil {
				return err
			}
		}
		s.moved(p, bucket.BlobName(b.Account, b.Blob.Hash), max(0, total-began-p.Bytes))
	}
	return s.conclude(n)
}

// scrubBuffer is how much of a body is read at once, in bytes.
const scrubBuffer = 1 << 20

// blobsOf returns a listing of the bodies of one copy, behind a given one.
func (s *scrubber) blobsOf(ctx context.Context, copyName string, c *copies) (func(after mirror.BlobInfo) iter.Seq2[mirror.BlobInfo, error], error) {
	if copyName != storeCopy {
		m, _, err := c.mirror(copyName)
		if err != nil {
			return nil, err
		}
		return func(after mirror.BlobInfo) iter.Seq2[mirror.BlobInfo, error] { return m.Blobs(ctx, after) }, nil
	}
	return func(after mirror.BlobInfo) iter.Seq2[mirror.BlobInfo, error] {
		return func(yield func(mirror.BlobInfo, error) bool) {
			for info, err := range s.l.blobs.home.List(ctx, "blobs/") {
				if err != nil {
					yield(mirror.BlobInfo{}, fmt.Errorf("list blobs: %w", err))
					return
				}
				a, h, err := bucket.ParseBlobName(info.Name)
				if err != nil || after.Blob.Hash != (holdfast.Hash{}) && strings.Compare(info.Name, bucket.BlobName(after.Account, after.Blob.Hash)) <= 0 {
					continue
				}
				if !yield(mirror.BlobInfo{Account: a, Blob: frame.Blob{Hash: h, Size: info.Size}}, nil) {
					return
				}
			}
		}
	}, nil
}

// readBlob reads a body from the medium. ErrCorrupt: it has another hash. Any error but ErrAbsent and
// ErrNotFound is damage.
func (s *scrubber) readBlob(ctx context.Context, copyName string, c *copies, b mirror.BlobInfo, pace *pacer) error {
	if copyName != storeCopy {
		m, _, err := c.mirror(copyName)
		if err != nil {
			return err
		}
		r, err := m.OpenBlob(ctx, b.Account, b.Blob)
		if err != nil {
			return err
		}
		_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, &pacedReader{ctx, r, pace}, pace.buffer())
		return errors.Join(err, r.Close())
	}
	o, err := s.l.blobs.home.Open(ctx, bucket.BlobName(b.Account, b.Blob.Hash))
	if err != nil {
		return err
	}
	if d, ok := o.(interface{ DropCache() }); ok {
		d.DropCache()
	}
	sum := sha256.New()
	_, err = io.CopyBuffer(sum, &pacedReader{ctx, io.NewSectionReader(o, 0, o.Size()), pace}, pace.buffer())
	if err == nil && holdfast.Hash(sum.Sum(nil)) != b.Blob.Hash {
		err = fmt.Errorf("%d bytes with another hash: %w", o.Size(), holdfast.ErrCorrupt)
	}
	return errors.Join(err, o.Close())
}

// healBlobOf brings one body of one copy back from another. What no copy has is noted; an error means
// that nobody knows.
func (s *scrubber) healBlobOf(ctx context.Context, n *notice, copyName string, c *copies, a holdfast.AccountID, h holdfast.Hash) error {
	var err error
	if copyName == storeCopy {
		err = s.healHome(ctx, c, a, h)
	} else {
		err = s.healMirrored(ctx, copyName, c, a, h)
	}
	if err == nil {
		n.blobs++
		n.did = append(n.did, fmt.Sprintf("body %s of account %d was written again in copy %s", h, a, copyName))
		return nil
	}
	if ctx.Err() != nil || !errors.Is(err, holdfast.ErrCorrupt) && !errors.Is(err, holdfast.ErrNotFound) {
		return fmt.Errorf("heal body %s: %w", h, err)
	}
	n.found(ScrubDamage{Account: a, Object: bucket.BlobName(a, h), Text: fmt.Sprintf("body %s of account %d is whole in no copy%s", h, a, s.namedBy(ctx, c, a, h))})
	return nil
}

// healHome brings a body of the store back from the first mirror that has it whole.
func (s *scrubber) healHome(ctx context.Context, c *copies, a holdfast.AccountID, h holdfast.Hash) error {
	all := fmt.Errorf("body %s: %w", h, holdfast.ErrNotFound)
	for _, m := range c.mirrors {
		b, err := m.StatBlob(ctx, a, h)
		if err == nil {
			err = s.l.step("rewrite blob", func() error { return s.l.healBlobFrom(ctx, m, a, b) })
		}
		if err == nil {
			return nil
		}
		if errors.Is(err, holdfast.ErrAbsent) || errors.Is(err, holdfast.ErrFatal) || errors.Is(err, holdfast.ErrFull) {
			return err
		}
		all = errors.Join(all, err)
	}
	return all
}

// healMirrored brings a body of a mirror back from the store, which gets it from another mirror first
// if its own is not whole.
func (s *scrubber) healMirrored(ctx context.Context, name string, c *copies, a holdfast.AccountID, h holdfast.Hash) error {
	m, _, err := c.mirror(name)
	if err != nil {
		return err
	}
	put := func() error {
		info, err := s.l.blobs.home.Stat(ctx, bucket.BlobName(a, h))
		if err != nil {
			return err
		}
		return s.l.step("rewrite blob", func() error { return s.l.mirrorBlob(ctx, m, a, frame.Blob{Hash: h, Size: info.Size}) })
	}
	err = put()
	if errors.Is(err, holdfast.ErrAbsent) || !errors.Is(err, holdfast.ErrCorrupt) && !errors.Is(err, holdfast.ErrNotFound) {
		return err
	}
	others := *c
	others.mirrors = slices.DeleteFunc(slices.Clone(c.mirrors), func(o *mirror.Mirror) bool { return o == m })
	if herr := s.healHome(ctx, &others, a, h); herr != nil {
		return errors.Join(err, herr)
	}
	return put()
}

// refillBlobs puts the bodies that a change names into a mirror that lacks them.
func (s *scrubber) refillBlobs(ctx context.Context, n *notice, c *copies, m *mirror.Mirror, ch *frame.Change) error {
	for i := range ch.Ops {
		b := ch.Ops[i].Blob
		if b == nil {
			continue
		}
		has, err := m.HasBlob(ctx, ch.Account, *b)
		if err == nil && !has {
			err = s.healBlobOf(ctx, n, m.Name(), c, ch.Account, b.Hash)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// namedBy says in words which resources have a body: by the number of their collection and of the
// change that put them there, for names are the owner's.
func (s *scrubber) namedBy(ctx context.Context, c *copies, a holdfast.AccountID, h holdfast.Hash) string {
	const most = 20
	var names []string
	err := c.read(ctx, func(r *store.Reader) error {
		return r.Changes(a, 1, store.Newest, func(seq holdfast.Seq, _ holdfast.Hash, payload []byte) error {
			ch, err := frame.ParseChange(payload)
			if err != nil {
				return err
			}
			for i := range ch.Ops {
				if b := ch.Ops[i].Blob; b != nil && b.Hash == h {
					names = append(names, fmt.Sprintf("collection %d, change %d", ch.Ops[i].Collection, seq))
				}
			}
			if len(names) >= most {
				return errDone
			}
			return nil
		})
	})
	switch {
	case err != nil && !errors.Is(err, errDone):
		return " (which resources have it cannot be read: " + err.Error() + ")"
	case len(names) == 0:
		return ", and no change names it"
	}
	return ": " + strings.Join(names, "; ")
}
