// Package upload keeps the pieces of uploads that are not finished, so that a device that was cut off
// goes on where it was: Nextcloud's chunked upload, version 2. It knows of accounts, ids and pieces;
// what becomes of the whole is for its caller.
//
// Invariants: a piece that was acknowledged is on the medium with its hash, whole, and is never part
// of anything else; a piece whose bytes have changed since is found before it becomes part of a file;
// the bytes and the number of pieces of an account are bounded; an upload that nobody goes on with is
// removed after Config.Keep.
//
// The pieces are passing data: they have one copy. Their loss costs sending them again, and is told
// as 404.
//
// Files on disk (docs/formats/upload.md), in the data directory:
// uploads/<account>/<hash of the id>-<random>/<piece>, and `done` there once the upload has become a file.
package upload

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/durable"
)

// Bounds of one account. With pieces of rclone's default of 10 MiB they let 200 GiB be under way.
const (
	maxUploads = 64
	maxPieces  = 20_000 // of all uploads together
	maxID      = 255    // bytes of an id
)

// dirName is the directory below the data directory.
const dirName = "uploads"

// ErrBusy says that the upload is being put together or removed, or a piece of it is on its way: try
// again a little later.
var ErrBusy = errors.New("upload is in use")

// ErrMissing says that the pieces are not all there, or one of them does not have its bytes any more.
var ErrMissing = errors.New("pieces are missing")

// Config says where pieces are kept, and for how long.
type Config struct {
	FS       durable.FS // nil = durable.Disk
	Dir      string     // the data directory
	Keep     time.Duration
	MaxBytes int64 // of all pieces of one account
	MinFree  int64 // bytes of the disk that pieces leave free; 0 = 256 MiB, well above what the ledger keeps
	Now      func() time.Time
	Log      *slog.Logger
}

const defaultMinFree = 256 << 20

// Area holds the pieces of all accounts. All methods are safe concurrently.
type Area struct {
	cfg Config
	log *slog.Logger

	mu       sync.Mutex // guards all below it, and what hangs from it
	accounts map[holdfast.AccountID]*account
}

// account is what is remembered of an account that has uploads. It is read from the disk once.
type account struct {
	loading chan struct{} // closed when what is below is there
	err     error         // why it could not be read
	bytes   int64         // of all pieces, those under way included
	pieces  int           // likewise
	uploads map[string]*upload
	users   int // calls that hold this pointer: it is not forgotten meanwhile
}

// upload is one that was begun. Its key in account.uploads is the hash of its id.
type upload struct {
	dir     string           // below the account's directory
	pieces  map[string]int64 // bytes, by name
	last    time.Time        // when something of it arrived
	done    *Done            // it has become a file
	busy    bool             // is being put together or removed: no piece gets its name any more
	writers int              // pieces on their way

	// commits is held for reading while a piece gets its name. Who has set busy takes it once: after
	// that no name changes. Taken before Area.mu.
	commits sync.RWMutex
}

// still waits, once busy is set, until no piece is getting its name.
func (u *upload) still() {
	u.commits.Lock()
	defer u.commits.Unlock() // later ones see busy
}

// key returns the hash of the id.
func (u *upload) key() string {
	key, _, _ := strings.Cut(u.dir, "-")
	return key
}

// Piece is one that has arrived.
type Piece struct {
	Name string
	Size int64
}

// New returns the area of a data directory. Nothing is read or made until it is used.
func New(cfg Config) *Area {
	if cfg.FS == nil {
		cfg.FS = durable.Disk
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MinFree == 0 {
		cfg.MinFree = defaultMinFree
	}
	return &Area{cfg: cfg, log: cfg.Log.With("pkg", "upload"), accounts: map[holdfast.AccountID]*account{}}
}

// Create begins an upload. ErrExists: one of that id is under way. ErrQuota: the account has too many.
func (a *Area) Create(id holdfast.AccountID, name string) error {
	if name == "" || len(name) > maxID {
		return fmt.Errorf("id of %d bytes: %w", len(name), holdfast.ErrInvalid)
	}
	acc, err := a.use(id)
	if err != nil {
		return fmt.Errorf("begin upload: %w", err)
	}
	defer a.unuse(id, acc)
	key := keyOf(name)
	a.mu.Lock()
	old := acc.uploads[key]
	switch {
	case old != nil && old.busy:
		a.mu.Unlock()
		return fmt.Errorf("begin upload: %w", ErrBusy)
	case old != nil && old.done == nil:
		a.mu.Unlock()
		return fmt.Errorf("begin upload: %w", holdfast.ErrExists)
	case old == nil && len(acc.uploads) >= maxUploads:
		a.mu.Unlock()
		return fmt.Errorf("begin upload: %d are under way: %w", maxUploads, holdfast.ErrQuota)
	}
	u := &upload{dir: key + "-" + random(), pieces: map[string]int64{}, last: a.cfg.Now(), busy: true}
	acc.uploads[key] = u // nobody else begins it meanwhile
	a.mu.Unlock()

	err = a.makeDir(id, u)
	if err == nil && old != nil {
		err = a.removeDir(id, old) // of a file that is there already
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	u.busy = false
	if err != nil {
		delete(acc.uploads, key)
		return fmt.Errorf("begin upload: %w", err)
	}
	return nil
}

// Pieces returns the pieces of an upload that have arrived, in the order in which they will be put
// together. ErrNotFound: no such upload is under way.
func (a *Area) Pieces(id holdfast.AccountID, name string) ([]Piece, error) {
	acc, err := a.use(id)
	if err != nil {
		return nil, fmt.Errorf("list pieces: %w", err)
	}
	defer a.unuse(id, acc)
	a.mu.Lock()
	defer a.mu.Unlock()
	u := acc.uploads[keyOf(name)]
	if u == nil || u.done != nil {
		return nil, fmt.Errorf("no such upload: %w", holdfast.ErrNotFound)
	}
	return u.inOrder(), nil
}

// inOrder returns the pieces by their number.
func (u *upload) inOrder() []Piece {
	out := make([]Piece, 0, len(u.pieces))
	for name, size := range u.pieces {
		out = append(out, Piece{name, size})
	}
	slices.SortFunc(out, func(x, y Piece) int {
		n, _, _ := numbers(x.Name)
		m, _, _ := numbers(y.Name)
		return cmp.Or(cmp.Compare(n, m), strings.Compare(x.Name, y.Name))
	})
	return out
}

// Remove gives an upload up. ErrNotFound: there is none.
func (a *Area) Remove(id holdfast.AccountID, name string) error {
	acc, err := a.use(id)
	if err != nil {
		return fmt.Errorf("give upload up: %w", err)
	}
	defer a.unuse(id, acc)
	a.mu.Lock()
	u := acc.uploads[keyOf(name)]
	switch {
	case u == nil:
		a.mu.Unlock()
		return fmt.Errorf("give upload up: %w", holdfast.ErrNotFound)
	case u.busy:
		a.mu.Unlock()
		return fmt.Errorf("give upload up: %w", ErrBusy)
	}
	u.busy = true
	a.mu.Unlock()
	u.still()
	if err := a.drop(id, acc, keyOf(name), u); err != nil {
		return fmt.Errorf("give upload up: %w", err)
	}
	return nil
}

// drop removes a busy upload from disk and memory. A piece that is on its way finds its upload gone.
func (a *Area) drop(id holdfast.AccountID, acc *account, key string, u *upload) error {
	err := a.removeDir(id, u)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		u.busy = false
		return err
	}
	if acc.uploads[key] == u {
		delete(acc.uploads, key)
	}
	for _, size := range u.pieces {
		acc.bytes -= size
		acc.pieces--
	}
	return nil
}

// Bytes returns what the pieces of an account take.
func (a *Area) Bytes(id holdfast.AccountID) (int64, error) {
	acc, err := a.use(id)
	if err != nil {
		return 0, fmt.Errorf("size of uploads: %w", err)
	}
	defer a.unuse(id, acc)
	a.mu.Lock()
	defer a.mu.Unlock()
	return acc.bytes, nil
}

// numbers reads the name of a piece: a number, or the places of its first and last byte. last is -1
// for a number alone.
func numbers(name string) (first, last int64, err error) {
	a, b, span := strings.Cut(name, "-")
	if first, err = digits(a); err != nil {
		return 0, 0, err
	}
	if !span {
		return first, -1, nil
	}
	if last, err = digits(b); err == nil && last < first {
		err = fmt.Errorf("piece ends before it begins: %w", holdfast.ErrInvalid)
	}
	return first, last, err
}

func digits(s string) (int64, error) {
	if s == "" || len(s) > 18 || strings.Trim(s, "0123456789") != "" {
		return 0, fmt.Errorf("a piece is named by a number, or by the places of its first and last byte: %w", holdfast.ErrInvalid)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("number of a piece: %w: %w", err, holdfast.ErrInvalid)
	}
	return n, nil
}

func (a *Area) accountDir(id holdfast.AccountID) string {
	return filepath.Join(a.cfg.Dir, dirName, id.String())
}

func (a *Area) path(id holdfast.AccountID, u *upload, name string) string {
	return filepath.Join(a.accountDir(id), u.dir, name)
}

// makeDir makes the directory of an upload. The data directory itself is never made.
func (a *Area) makeDir(id holdfast.AccountID, u *upload) error {
	return durable.MkdirBelow(a.cfg.FS, a.cfg.Dir, filepath.Join(dirName, id.String(), u.dir))
}

// removeDir removes the directory of an upload with all in it. One that is gone is as good. Each piece
// that is on its way can put one more file there before it hears that it is too late.
func (a *Area) removeDir(id holdfast.AccountID, u *upload) error {
	const tries = 100
	var err error
	for range tries {
		err = durable.RemoveFlat(a.cfg.FS, filepath.Join(a.accountDir(id), u.dir))
		if errors.Is(err, holdfast.ErrNotFound) {
			return nil
		}
		if !errors.Is(err, holdfast.ErrExists) {
			break
		}
	}
	return err
}

func keyOf(name string) string {
	h := hashOf(name)
	return hex.EncodeToString(h[:16])
}
