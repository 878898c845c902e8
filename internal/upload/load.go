package upload

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"

	"holdfast"
	"holdfast/internal/durable"
)

func hashOf(s string) [32]byte { return sha256.Sum256([]byte(s)) }

// random tells two uploads of one id apart, so that what is left of the first never becomes part of the second.
func random() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never returns an error
	return hex.EncodeToString(b[:])
}

// use returns what is known of an account, read from the disk if need be. unuse follows.
func (a *Area) use(id holdfast.AccountID) (*account, error) {
	a.mu.Lock()
	acc := a.accounts[id]
	if acc == nil {
		acc = &account{loading: make(chan struct{}), uploads: map[string]*upload{}, users: 1}
		a.accounts[id] = acc
		a.mu.Unlock()
		acc.err = a.load(id, acc)
		close(acc.loading)
	} else {
		acc.users++
		a.mu.Unlock()
		<-acc.loading
	}
	if acc.err != nil {
		err := acc.err
		a.unuse(id, acc)
		return nil, err
	}
	return acc, nil
}

// unuse forgets an account that has nothing, or could not be read.
func (a *Area) unuse(id holdfast.AccountID, acc *account) {
	a.mu.Lock()
	defer a.mu.Unlock()
	acc.users--
	if acc.users == 0 && (acc.err != nil || len(acc.uploads) == 0) && a.accounts[id] == acc {
		delete(a.accounts, id)
	}
}

// load reads which uploads an account has. This process has not touched them yet, so unfinished files
// are of one that died. Nobody else has acc.
func (a *Area) load(id holdfast.AccountID, acc *account) error {
	var dirs []string
	for e, err := range a.cfg.FS.ReadDir(a.accountDir(id)) {
		if errors.Is(err, holdfast.ErrNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read uploads of account %s: %w", id, err)
		}
		if e.Type.IsDir() {
			dirs = append(dirs, e.Name)
		}
	}
	for _, d := range dirs {
		u := &upload{dir: d, pieces: map[string]int64{}}
		if err := a.loadUpload(id, u); err != nil {
			return fmt.Errorf("read upload of account %s: %w", id, err)
		}
		key := u.key()
		if old := acc.uploads[key]; old != nil {
			// A crash came between the new one and the end of the old one.
			if old.last.After(u.last) {
				old, u = u, old
			}
			if err := a.removeDir(id, old); err != nil {
				return err
			}
			for _, size := range old.pieces {
				acc.bytes, acc.pieces = acc.bytes-size, acc.pieces-1
			}
			acc.uploads[key] = u
			if u.dir != d {
				continue // it is counted already
			}
		}
		acc.uploads[key] = u
		for _, size := range u.pieces {
			acc.bytes, acc.pieces = acc.bytes+size, acc.pieces+1
		}
	}
	return nil
}

// loadUpload reads one directory, and removes from it what is of no use.
func (a *Area) loadUpload(id holdfast.AccountID, u *upload) error {
	dir := filepath.Join(a.accountDir(id), u.dir)
	info, err := a.cfg.FS.Stat(dir)
	if err != nil {
		return err
	}
	u.last = info.Modified
	var useless []string
	for e, err := range a.cfg.FS.ReadDir(dir) {
		if err != nil {
			return err
		}
		info, err := a.cfg.FS.Stat(filepath.Join(dir, e.Name))
		if err != nil {
			return err
		}
		if info.Modified.After(u.last) {
			u.last = info.Modified
		}
		switch _, _, nerr := numbers(e.Name); {
		case e.Name == doneName:
			if u.done, err = readDone(a.cfg.FS, filepath.Join(dir, doneName)); err != nil {
				return err
			}
		case nerr != nil || info.Size < footerSize:
			useless = append(useless, e.Name)
		default:
			u.pieces[e.Name] = info.Size - footerSize
		}
	}
	if u.done != nil { // a crash came before they were removed
		for name := range u.pieces {
			useless = append(useless, name)
		}
		u.pieces = map[string]int64{}
	}
	return durable.RemoveIn(a.cfg.FS, dir, useless)
}

// Sweep removes the uploads that nobody has gone on with for Config.Keep, and returns how many.
func (a *Area) Sweep() (int, error) {
	var ids []holdfast.AccountID
	for e, err := range a.cfg.FS.ReadDir(filepath.Join(a.cfg.Dir, dirName)) {
		if errors.Is(err, holdfast.ErrNotFound) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("sweep uploads: %w", err)
		}
		var id uint64
		if n, err := fmt.Sscanf(e.Name, "%016x", &id); n == 1 && err == nil {
			ids = append(ids, holdfast.AccountID(id))
		}
	}
	removed := 0
	var errs []error
	for _, id := range ids {
		n, err := a.sweep(id)
		removed += n
		errs = append(errs, err)
	}
	return removed, errors.Join(errs...)
}

func (a *Area) sweep(id holdfast.AccountID) (int, error) {
	acc, err := a.use(id)
	if err != nil {
		return 0, fmt.Errorf("sweep uploads: %w", err)
	}
	defer a.unuse(id, acc)
	before := a.cfg.Now().Add(-a.cfg.Keep)
	old := map[string]*upload{}
	a.mu.Lock()
	for key, u := range acc.uploads {
		if !u.busy && u.writers == 0 && u.last.Before(before) {
			u.busy = true
			old[key] = u
		}
	}
	a.mu.Unlock()
	removed := 0
	var errs []error
	for key, u := range old {
		if err := a.drop(id, acc, key, u); err != nil {
			errs = append(errs, fmt.Errorf("sweep uploads of account %s: %w", id, err))
			continue
		}
		removed++
	}
	if removed > 0 {
		a.log.Info("uploads that nobody went on with were removed", "account", id, "uploads", removed)
	}
	return removed, errors.Join(errs...)
}
