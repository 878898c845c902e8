package upload

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"path/filepath"

	"holdfast"
	"holdfast/internal/durable"
)

// A piece on disk is its bytes and a footer: magic and the SHA-256 of the bytes.
const (
	magic      = "HFPIECE1"
	footerSize = int64(len(magic) + sha256.Size)
)

// Incoming is a piece on its way.
type Incoming struct {
	Body io.Reader
	Size int64 // bytes, as announced; -1: not known
	Room int64 // bytes that all pieces of the account may take together, besides Config.MaxBytes; -1: no bound
}

// Put stores a piece, instead of one of the same name that is there already; created says that there
// was none. On nil it is on the medium. Until then nothing of it can be seen, and what was there stays.
//
// ErrNotFound: no such upload; ErrInvalid: no name for a piece, or its size is not what its name says;
// ErrQuota: the account's room is used up; ErrFull: the disk is nearly full. An error of the body is
// returned, wrapped.
func (a *Area) Put(id holdfast.AccountID, name, piece string, in Incoming) (created bool, err error) {
	first, last, err := numbers(piece)
	if err != nil {
		return false, fmt.Errorf("put piece: %w", err)
	}
	want := in.Size
	if last >= 0 {
		want = last - first + 1
		if in.Size >= 0 && in.Size != want {
			return false, fmt.Errorf("put piece: %d bytes for the places %s: %w", in.Size, piece, holdfast.ErrInvalid)
		}
	}
	acc, err := a.use(id)
	if err != nil {
		return false, fmt.Errorf("put piece: %w", err)
	}
	defer a.unuse(id, acc)
	w := &writer{area: a, acc: acc, in: in, sum: sha256.New()}
	u, err := w.begin(keyOf(name), piece)
	if err != nil {
		return false, fmt.Errorf("put piece: %w", err)
	}
	err = a.write(id, u, piece, w)
	if err == nil && want >= 0 && w.size != want {
		err = fmt.Errorf("%d bytes came, %d were announced: %w", w.size, want, holdfast.ErrInvalid)
	}
	if err == nil {
		created, err = w.commit(u, piece)
	}
	w.draft.discard()
	w.end(u)
	if err != nil {
		return false, fmt.Errorf("put piece: %w", err)
	}
	return created, nil
}

// write takes the bytes of a piece into a draft.
func (a *Area) write(id holdfast.AccountID, u *upload, piece string, w *writer) error {
	if n, err := durable.FreeOf(a.cfg.FS, a.cfg.Dir); err == nil && n-max(w.in.Size, 0) < a.cfg.MinFree {
		return fmt.Errorf("disk has %d MiB left, %d are kept free: %w", n>>20, a.cfg.MinFree>>20, holdfast.ErrFull)
	}
	d, err := durable.NewDraft(a.cfg.FS, filepath.Join(a.accountDir(id), u.dir), piece, durable.FilePerm)
	if err != nil {
		return err
	}
	w.draft.Draft = d
	_, err = d.ReadFrom(w)
	return err
}

// draft is a durable.Draft that may not have been made.
type draft struct{ *durable.Draft }

func (d draft) discard() {
	if d.Draft != nil {
		d.Discard()
	}
}

// writer is one piece on its way. What it takes is counted while it arrives.
type writer struct {
	area  *Area
	acc   *account
	in    Incoming
	sum   hash.Hash
	draft draft
	size  int64 // bytes read
	taken int64 // bytes counted for it
}

// begin finds the upload and counts the announced size.
func (w *writer) begin(key, piece string) (*upload, error) {
	a := w.area
	a.mu.Lock()
	defer a.mu.Unlock()
	u := w.acc.uploads[key]
	switch {
	case u == nil || u.done != nil:
		return nil, fmt.Errorf("no such upload: %w", holdfast.ErrNotFound)
	case u.busy:
		return nil, ErrBusy
	}
	if _, again := u.pieces[piece]; !again && w.acc.pieces >= maxPieces {
		return nil, fmt.Errorf("%d pieces are kept: %w", maxPieces, holdfast.ErrQuota)
	}
	if err := w.take(max(w.in.Size, 0)); err != nil {
		return nil, err
	}
	w.acc.pieces++
	u.writers++
	return u, nil
}

// take counts n more bytes. a.mu is held.
func (w *writer) take(n int64) error {
	total := w.acc.bytes + n
	if total < 0 || total > w.area.cfg.MaxBytes || w.in.Room >= 0 && total > w.in.Room {
		return fmt.Errorf("pieces of %d bytes: %w", total, holdfast.ErrQuota)
	}
	w.acc.bytes, w.taken = total, w.taken+n
	return nil
}

// takeAhead is how many bytes are counted at once for a piece of unknown size.
const takeAhead = 1 << 20

// Read reads the body, hashes it and counts it.
func (w *writer) Read(p []byte) (int, error) {
	n, err := w.in.Body.Read(p)
	w.sum.Write(p[:n])
	if w.size += int64(n); w.size > w.taken {
		w.area.mu.Lock()
		terr := w.take(max(w.size-w.taken, takeAhead))
		w.area.mu.Unlock()
		if terr != nil {
			return n, terr
		}
	}
	return n, err
}

// commit adds the footer, gives the piece its name and counts it.
func (w *writer) commit(u *upload, piece string) (created bool, err error) {
	if _, err := w.draft.Write(append([]byte(magic), w.sum.Sum(nil)...)); err != nil {
		return false, err
	}
	a := w.area
	u.commits.RLock()
	defer u.commits.RUnlock()
	a.mu.Lock()
	gone, busy := w.acc.uploads[u.key()] != u, u.busy
	a.mu.Unlock()
	switch {
	case gone:
		return false, fmt.Errorf("the upload was given up meanwhile: %w", holdfast.ErrNotFound)
	case busy:
		return false, ErrBusy
	}
	if err := w.draft.Commit(piece, true); err != nil {
		return false, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	old, again := u.pieces[piece]
	w.acc.bytes += w.size - old
	if !again {
		w.acc.pieces++
	}
	u.pieces[piece], u.last = w.size, a.cfg.Now()
	return !again, nil
}

// end gives back what was counted for the piece while it was on its way.
func (w *writer) end(u *upload) {
	w.area.mu.Lock()
	defer w.area.mu.Unlock()
	u.writers--
	w.acc.bytes -= w.taken
	w.acc.pieces--
}
