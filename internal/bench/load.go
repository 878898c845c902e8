package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"holdfast"
	"holdfast/internal/auth"
	"holdfast/internal/config"
	"holdfast/internal/ledger"
	"holdfast/internal/server"
)

// user is one account with one collection that was filled.
type user struct {
	id             holdfast.AccountID
	name, password string
	loaded         int               // cards in contacts
	etags          map[string]string // of the collection that is listed
}

// world is what was loaded.
type world struct {
	clients []*user // each written and read by one client
	deltas  []*user // as size.colls
	listed  *user
	total   int
	took    time.Duration
}

// loadedName is the name of loaded card n, without its extension.
func loadedName(n int) string { return "c" + strconv.Itoa(n) }

// card is a contact of about 300 bytes; its name and revision say all of it, so every answer can be checked.
func card(name string, revision int) []byte {
	b := make([]byte, 0, 400)
	b = append(b, "BEGIN:VCARD\r\nVERSION:3.0\r\nUID:"...)
	b = append(b, name...)
	b = append(b, "\r\nFN:Contact "...)
	b = append(b, name...)
	b = append(b, "\r\nN:"...)
	b = append(b, name...)
	b = append(b, ";Contact;;;\r\nTEL;TYPE=CELL:+1 555 0100\r\nEMAIL;TYPE=INTERNET:contact@example.org\r\nADR;TYPE=HOME:;;1 Example Street;Example;;00000;\r\nNOTE:The notes that people keep with a contact are longer than one would think. Version "...)
	b = strconv.AppendInt(b, int64(revision), 10)
	return append(b, "\r\nEND:VCARD\r\n"...)
}

// load makes a server and fills it through the ledger, in changes of thousands of operations.
func load(ctx context.Context, out io.Writer, dir string, s size) (*world, error) {
	w := &world{}
	began := time.Now()
	l, err := createServer(ctx, dir)
	if err != nil {
		return nil, err
	}
	if err = w.accounts(ctx, l, s); err == nil {
		fmt.Fprintf(out, "%d accounts after %.0f s\n", len(w.all()), time.Since(began).Seconds())
		err = w.fill(ctx, out, l)
	}
	if err := errors.Join(err, l.Close(context.WithoutCancel(ctx))); err != nil {
		return nil, err
	}
	w.took = time.Since(began)
	fmt.Fprintf(out, "%d resources in %d accounts loaded in %.0f s\n", w.total, len(w.all()), w.took.Seconds())
	return w, nil
}

// createServer makes a server below dir and opens its ledger.
func createServer(ctx context.Context, dir string) (*ledger.Ledger, error) {
	c := config.Default()
	_, _ = rand.Read(c.ServerID[:]) // crypto/rand.Read never returns an error
	c.Listen = []string{"127.0.0.1:0"}
	c.Mirrors = []config.Mirror{{Name: "mirror", Path: filepath.Join(dir, "mirror")}}
	if err := server.Create(ctx, serverDir(dir), c, logger()); err != nil {
		return nil, err
	}
	l, err := ledger.Open(ctx, ledger.Config{
		Dir: serverDir(dir), Server: c.ServerID, Log: logger(),
		Mirrors: []ledger.MirrorConfig{{Name: c.Mirrors[0].Name, Path: c.Mirrors[0].Path}},
	})
	if err != nil {
		return nil, err
	}
	if err := l.WaitOpen(ctx); err != nil {
		return nil, errors.Join(err, l.Close(context.WithoutCancel(ctx)))
	}
	return l, nil
}

func (w *world) all() []*user {
	return append(append(append([]*user(nil), w.deltas...), w.listed), w.clients...)
}

// accounts makes all accounts and says how much each will hold.
func (w *world) accounts(ctx context.Context, l *ledger.Ledger, s size) error {
	a := auth.New(auth.Config{Ledger: l, Log: logger()})
	left := s.resources - s.listing
	for _, n := range s.colls {
		w.deltas = append(w.deltas, &user{name: fmt.Sprintf("delta%d", n), loaded: n})
		left -= n
	}
	w.listed = &user{name: "listed", loaded: s.listing, etags: make(map[string]string, s.listing)}
	most := slices.Max(append(slices.Clone(s.puts), s.gets...))
	for i := range most {
		n := left / (most - i)
		left -= n
		w.clients = append(w.clients, &user{name: fmt.Sprintf("client%d", i), loaded: n})
	}
	for n := range s.listing {
		w.listed.etags[loadedName(n)] = holdfast.ETag(sha256.Sum256(card(loadedName(n), 0)))
	}
	for _, u := range w.all() {
		acct, err := a.AddAccount(ctx, u.name, rand.Text())
		if err != nil {
			return err
		}
		u.id = acct.ID
		if _, u.password, err = a.AddDevice(ctx, u.name, "bench"); err != nil {
			return err
		}
		w.total += u.loaded
	}
	return nil
}

// fill loads four accounts at a time, so that what one commits the others prepare.
func (w *world) fill(ctx context.Context, out io.Writer, l *ledger.Ledger) error {
	var g sync.WaitGroup
	var done atomic.Int64
	users := make(chan *user)
	failed := make(chan error, 4)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range cap(failed) {
		g.Go(func() {
			for u := range users {
				if err := u.fill(ctx, l, out, &done); err != nil {
					failed <- err
					cancel()
					return
				}
			}
		})
	}
feed:
	for _, u := range w.all() {
		select {
		case users <- u:
		case <-ctx.Done():
			break feed
		}
	}
	close(users)
	g.Wait()
	close(failed)
	err := ctx.Err()
	for e := range failed {
		err = errors.Join(e, err)
	}
	return err
}

func (u *user) fill(ctx context.Context, l *ledger.Ledger, out io.Writer, done *atomic.Int64) error {
	const perChange = 4000 // operations; frame.MaxOps is 4096
	for from := 0; from < u.loaded; from += perChange {
		n := min(perChange, u.loaded-from)
		bodies := make([]ledger.Body, n)
		for i := range bodies {
			bodies[i] = ledger.InlineBody(card(loadedName(from+i), 0))
		}
		now := time.Now().UnixMilli()
		_, err := l.Update(ctx, u.id, 0, func(tx *ledger.Tx) error {
			c, err := tx.Child(holdfast.Root, "contacts")
			if err != nil {
				return err
			}
			for i, b := range bodies {
				tx.Put(c.ID, loadedName(from+i)+".vcf", "text/vcard; charset=utf-8", now, b)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("fill %s from %d: %w", u.name, from, err)
		}
		const line = 100_000
		if after := done.Add(int64(n)); after/line != (after-int64(n))/line {
			fmt.Fprintf(out, "%d resources loaded\n", after/line*line)
		}
	}
	return nil
}
