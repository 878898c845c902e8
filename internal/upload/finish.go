package upload

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"holdfast"
	"holdfast/internal/durable"
)

const (
	doneName = "done"
	maxDone  = 4096 // bytes of that file
)

// Done says what an upload has become. It is kept as long as pieces would be, so that a client whose
// answer was lost and who asks again hears that its file is there.
type Done struct {
	Body string `json:"body"` // SHA-256 of the whole, in hex
}

// total returns the bytes of the pieces that have arrived, and says whether they can be a whole:
// places must follow each other from 0, numbers from 0 or 1; ErrMissing otherwise. If the client has
// said how long the whole is (size is not negative), numbers may have gaps and the length decides.
func total(pieces []Piece, size int64) (int64, error) {
	var sum int64
	next := int64(0)
	for i, p := range pieces {
		first, last, err := numbers(p.Name)
		if err != nil {
			return 0, err
		}
		if i == 0 && last < 0 && first == 1 {
			next = 1
		}
		switch {
		case last >= 0 && first != sum, last < 0 && first < next, last < 0 && first > next && size < 0:
			return 0, fmt.Errorf("before piece %s: %w", p.Name, ErrMissing)
		}
		next = first + 1
		sum += p.Size
	}
	if size >= 0 && sum != size {
		return 0, fmt.Errorf("pieces of %d bytes for a whole of %d: %w", sum, size, ErrMissing)
	}
	return sum, nil
}

// Finish gives make all pieces of an upload as one body, in order. When make returns nil, what it made
// is durable: the pieces are removed, and Done is kept instead. size is how long the client says the
// whole is; -1: it does not say.
//
// ErrNotFound: no such upload. A *Done that is not nil, without an error: the upload has become that
// before, and make was not called. ErrMissing, ErrBusy: see there. Errors of make are returned, and
// all pieces stay.
func (a *Area) Finish(id holdfast.AccountID, name string, size int64, make func(body io.Reader, size int64) (Done, error)) (*Done, error) {
	acc, err := a.use(id)
	if err != nil {
		return nil, fmt.Errorf("finish upload: %w", err)
	}
	defer a.unuse(id, acc)
	a.mu.Lock()
	u := acc.uploads[keyOf(name)]
	switch {
	case u == nil:
		a.mu.Unlock()
		return nil, fmt.Errorf("finish upload: %w", holdfast.ErrNotFound)
	case u.busy:
		a.mu.Unlock()
		return nil, fmt.Errorf("finish upload: %w", ErrBusy)
	case u.done != nil:
		d := *u.done
		a.mu.Unlock()
		return &d, nil
	}
	u.busy = true
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		u.busy = false
		a.mu.Unlock()
	}()
	u.still()
	a.mu.Lock()
	pieces := u.inOrder()
	a.mu.Unlock()
	n, err := total(pieces, size)
	if err != nil {
		return nil, fmt.Errorf("finish upload: %w", err)
	}
	body := &whole{area: a, id: id, upload: u, left: pieces}
	d, err := make(body, n)
	if cerr := body.close(); err == nil {
		err = cerr
	}
	if body.bad != "" {
		err = errors.Join(err, a.forget(id, acc, u, body.bad))
	}
	if err != nil {
		return nil, fmt.Errorf("finish upload: %w", err)
	}
	a.finished(id, acc, u, d)
	return nil, nil
}

// forget removes a piece that does not have its bytes any more, so that the client sends it again.
func (a *Area) forget(id holdfast.AccountID, acc *account, u *upload, piece string) error {
	a.log.Warn("a piece of an upload was damaged on disk; the client is told to send it again", "account", id)
	err := durable.Remove(a.cfg.FS, a.path(id, u, piece))
	if err != nil && !errors.Is(err, holdfast.ErrNotFound) {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	acc.bytes -= u.pieces[piece]
	acc.pieces--
	delete(u.pieces, piece)
	return nil
}

// finished keeps Done instead of the pieces. The file is there already: what fails here is told to the
// log only, costs room until Sweep, and a client that asks again has the same file made again.
func (a *Area) finished(id holdfast.AccountID, acc *account, u *upload, d Done) {
	b, err := json.Marshal(d)
	if err == nil {
		err = durable.Create(a.cfg.FS, a.path(id, u, doneName), b, durable.FilePerm)
	}
	if err != nil {
		a.log.Warn("keep what an upload has become", "account", id, "err", err)
		return
	}
	a.mu.Lock()
	names := make([]string, 0, len(u.pieces))
	for name, size := range u.pieces {
		names = append(names, name)
		acc.bytes -= size
		acc.pieces--
	}
	u.pieces, u.done, u.last = map[string]int64{}, &d, a.cfg.Now()
	a.mu.Unlock()
	if err := durable.RemoveIn(a.cfg.FS, filepath.Join(a.accountDir(id), u.dir), names); err != nil {
		a.log.Warn("remove the pieces of a finished upload", "account", id, "err", err)
	}
}

func readDone(fsys durable.FS, name string) (*Done, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxDone))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	d := &Done{}
	if err := json.Unmarshal(b, d); err != nil {
		return nil, nil // of no use, and of no harm: the pieces are made into the same file again
	}
	return d, nil
}

// whole reads the pieces of an upload one after the other, with one file open at a time. Each is
// verified before its last bytes are given.
type whole struct {
	area   *Area
	id     holdfast.AccountID
	upload *upload
	left   []Piece
	f      durable.File // of left[0]; nil: not open yet
	at     int64
	sum    hash.Hash
	bad    string // the piece that does not have its bytes any more
}

func (w *whole) Read(p []byte) (int, error) {
	for len(w.left) > 0 {
		piece := w.left[0]
		if w.f == nil {
			f, err := w.area.cfg.FS.OpenFile(w.area.path(w.id, w.upload, piece.Name), os.O_RDONLY, 0)
			if errors.Is(err, holdfast.ErrNotFound) {
				return 0, w.damaged(piece)
			}
			if err != nil {
				return 0, err
			}
			w.f, w.at, w.sum = f, 0, sha256.New()
		}
		if len(p) == 0 {
			return 0, nil
		}
		n, err := w.f.ReadAt(p[:min(int64(len(p)), piece.Size-w.at)], w.at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("read piece: %w", err)
		}
		w.sum.Write(p[:n])
		if w.at += int64(n); w.at == piece.Size {
			if err := w.verify(piece); err != nil {
				return 0, err
			}
			w.left = w.left[1:]
			err := w.f.Close()
			if w.f = nil; err != nil {
				return n, err
			}
		} else if n == 0 {
			return 0, w.damaged(piece) // shorter than it was
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, io.EOF
}

func (w *whole) verify(piece Piece) error {
	footer := make([]byte, footerSize)
	if n, err := w.f.ReadAt(footer, piece.Size); n < len(footer) {
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read piece: %w", err)
		}
		return w.damaged(piece)
	}
	if string(footer) != magic+string(w.sum.Sum(nil)) {
		return w.damaged(piece)
	}
	return nil
}

func (w *whole) damaged(piece Piece) error {
	w.bad = piece.Name
	return fmt.Errorf("piece %s is damaged: %w", piece.Name, ErrMissing)
}

func (w *whole) close() error {
	if w.f == nil {
		return nil
	}
	err := w.f.Close()
	w.f = nil
	return err
}
