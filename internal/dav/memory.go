package dav

import (
	"fmt"
	"io"

	"holdfast"
	"holdfast/internal/ledger"
	"holdfast/internal/limit"
)

// Memory that one byte of a body costs while it is worked on, besides the first limit.Free bytes.
const (
	xmlCost    = 4 // its text and the tree that is made of it
	objectCost = 3 // the buffer while it grows, and what is parsed of it
	shownCost  = 3 // of a stored body: itself, what is parsed of it, and its place in an answer
)

// held returns body, which reads that of the request, with the memory for it taken: at once if its length is known, else as soon as it
// turns out to be more than limit.Free bytes, for the most it may be. No view may be open.
func (q *request) held(body io.Reader, most, cost int64) (io.Reader, error) {
	if q.ContentLength < 0 {
		return &heldBody{Reader: body, q: q, need: most * cost}, nil
	}
	if q.ContentLength <= limit.Free {
		return body, nil
	}
	return body, limit.Hold(q.Context(), min(q.ContentLength, most)*cost)
}

// heldBody is a body of unknown length.
type heldBody struct {
	io.Reader
	q    *request
	need int64
	read int64
}

// Read takes the memory once it is clear that the body is no small one.
func (b *heldBody) Read(p []byte) (int, error) {
	if b.read > limit.Free && b.need > 0 {
		if err := limit.Hold(b.q.Context(), b.need); err != nil {
			return 0, fmt.Errorf("read body: %w", err)
		}
		b.need = 0
	}
	n, err := b.Reader.Read(p)
	b.read += int64(n)
	return n, err
}

// shown returns a stored body that goes into the answer or is looked at for it. Of large ones no more are in memory
// than there is room for.
func (m *multistatus) shown(v *ledger.View, r *ledger.Resource) ([]byte, error) {
	if need := r.Size*shownCost - m.weight; r.IsBlob() && need > 0 {
		if !limit.TryHold(m.req.Context(), need) {
			return nil, fmt.Errorf("no memory for a body of %d bytes: %w", r.Size, holdfast.ErrBusy)
		}
		m.weight += need
	}
	b, err := v.Body(r)
	if err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	return b, nil
}
