package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"
	"time"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/durable"
	"holdfast/internal/store"
)

// branchListing is the file in an export that says what every change of the branch did.
const branchListing = "holdfast-branch.txt"

// ExportBranch writes what a branch put as plain files below dir, which must be missing or empty: one directory
// for each collection, the resources under their own names, older versions of the branch beside them with
// their seq, and a listing of all changes. It returns the number of files. What no copy has any more of large
// bodies is named in the listing and in the error, after all else was written.
func (l *Ledger) ExportBranch(ctx context.Context, name, dir string) (files int, err error) {
	if filepath.Base(name) != name || !strings.HasSuffix(name, branchSuffix) {
		return 0, fmt.Errorf("branch %q: %w", name, holdfast.ErrNotFound)
	}
	if there, lerr := durable.List(l.cfg.FS, dir); lerr == nil && len(there) > 0 {
		return 0, fmt.Errorf("%s is not empty: %w", dir, holdfast.ErrExists)
	} else if lerr != nil && !errors.Is(lerr, holdfast.ErrNotFound) {
		return 0, fmt.Errorf("look at %s: %w", dir, lerr)
	}
	x := &exporter{l: l, ctx: ctx, dir: dir, last: map[branched]holdfast.Seq{}, names: l.namer(ctx)}
	defer func() { err = errors.Join(err, x.names.close()) }()
	h, _, err := readBranchFile(l.cfg, name, x.look)
	if err != nil {
		return 0, err
	}
	x.names.account = h.Account
	if err := durable.MkdirAll(l.cfg.FS, dir); err != nil {
		return 0, fmt.Errorf("export branch: %w", err)
	}
	fmt.Fprintf(&x.listing, "Branch %s of account %d, found in %s, kept %s\nWhy: %s\n\n", name, h.Account, h.Source, h.Time.Format(time.RFC3339), h.Why)
	if _, _, err := readBranchFile(l.cfg, name, x.change); err != nil {
		return x.files, err
	}
	if err := durable.Create(l.cfg.FS, filepath.Join(dir, branchListing), x.listing.Bytes(), durable.FilePerm); err != nil {
		return x.files, fmt.Errorf("export branch: %w", err)
	}
	return x.files, x.missing
}

// branched is a resource of a collection.
type branched struct {
	collection holdfast.CollectionID
	name       string
}

type exporter struct {
	l       *Ledger
	ctx     context.Context
	dir     string
	last    map[branched]holdfast.Seq // the change with the last version of each
	names   *namer
	listing bytes.Buffer
	files   int
	missing error
}

// look finds out which versions are the last, and what the branch calls its collections.
func (x *exporter) look(c *branchChange) error {
	for i := range c.Ops {
		o := &c.Ops[i]
		x.names.learn(o)
		if o.Type == frame.OpPut && !o.Erased {
			x.last[branched{o.Collection, o.Name}] = c.Seq
		}
	}
	return x.ctx.Err()
}

func (x *exporter) change(c *branchChange) error {
	fmt.Fprintf(&x.listing, "change %d of %s, device %d\n", c.Seq, time.UnixMilli(c.Time).UTC().Format(time.RFC3339), c.Device)
	for i := range c.Ops {
		o := &c.Ops[i]
		fmt.Fprintf(&x.listing, "  %s\n", x.names.words(o))
		if o.Type != frame.OpPut || o.Erased {
			continue
		}
		if err := x.put(c, o); err != nil {
			return err
		}
	}
	return nil
}

// put writes one version.
func (x *exporter) put(c *branchChange, o *frame.Op) error {
	name := plainName(o.Name)
	if x.last[branched{o.Collection, o.Name}] != c.Seq {
		ext := path.Ext(name)
		name = fmt.Sprintf("%s.change-%d%s", strings.TrimSuffix(name, ext), c.Seq, ext)
	}
	var parts []string
	for _, p := range x.names.path(o.Collection) {
		parts = append(parts, plainName(p))
	}
	rel := filepath.Join(parts...)
	if err := durable.MkdirBelow(x.l.cfg.FS, x.dir, rel); err != nil {
		return fmt.Errorf("export branch: %w", err)
	}
	var body io.Reader = bytes.NewReader(o.Body)
	if o.Blob != nil {
		f, err := x.l.openBlob(x.ctx, &Resource{Account: c.Account, Body: o.Blob.Hash, Size: o.Blob.Size, BodyOffset: -1})
		if err != nil {
			x.missing = errors.Join(x.missing, fmt.Errorf("%s: %w", filepath.Join(rel, name), err))
			fmt.Fprintf(&x.listing, "    its body is in no readable copy: %v\n", err)
			return nil
		}
		defer f.Close() //nolint:errcheck // read only
		body = f
	}
	at := filepath.Join(x.dir, rel, name)
	_, _, err := durable.CreateFrom(x.l.cfg.FS, at, body, durable.FilePerm)
	if errors.Is(err, holdfast.ErrExists) { // put twice in one change, or two names that are one here
		_, _, err = durable.CreateFrom(x.l.cfg.FS, at+"."+o.BodyHash.String()[:8], body, durable.FilePerm)
	}
	if err != nil {
		return fmt.Errorf("export branch: %w", err)
	}
	x.files++
	return nil
}

// plainName makes a name one that a directory can hold.
func plainName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\\' || r == '/' {
			return '_'
		}
		return r
	}, s)
	switch {
	case s == "" || s == "." || s == "..":
		return "_" + s
	case len(s) > 200: // room for what is added
		return strings.ToValidUTF8(s[:200], "")
	}
	return s
}

// namer knows what collections are called: by the changes it was shown, else by the store as it is now.
type namer struct {
	account holdfast.AccountID
	learned map[holdfast.CollectionID]*frame.Op
	r       *store.Reader // nil: the store cannot be asked
	done    func() error
}

// namer returns one that asks the store if it can; close ends that.
func (l *Ledger) namer(ctx context.Context) *namer {
	n := &namer{learned: map[holdfast.CollectionID]*frame.Op{}, done: func() error { return nil }}
	l.mu.RLock()
	db := l.db
	l.mu.RUnlock()
	if db == nil || !db.acquire() {
		return n
	}
	r, err := db.Read(ctx)
	if err != nil {
		db.release()
		return n // numbers do as well
	}
	n.r, n.done = r, func() error { err := r.Close(); db.release(); return err }
	return n
}

func (n *namer) close() error { return n.done() }

func (n *namer) learn(o *frame.Op) {
	if o.Type == frame.OpPutCollection && !o.Erased {
		n.learned[o.Collection] = o
	}
}

// path returns the names from the home down to a collection; of one that nobody knows its number.
func (n *namer) path(id holdfast.CollectionID) []string {
	var names []string
	for depth := 0; id != holdfast.Root && id != 0 && depth < 256; depth++ {
		name, parent := "", holdfast.CollectionID(0)
		if o, ok := n.learned[id]; ok {
			name, parent = o.Name, o.Parent
		} else if n.r != nil {
			if c, err := n.r.Collection(n.account, id, store.Newest); err == nil {
				name, parent = c.Name, c.Parent
			}
		}
		if name == "" {
			name = fmt.Sprintf("collection-%d", id)
		}
		names = append([]string{name}, names...)
		id = parent
	}
	return names
}

// words says what an operation does, for an operator's terminal.
func (n *namer) words(o *frame.Op) string {
	at := strings.Join(n.path(o.Collection), "/")
	if o.Erased {
		return "erased"
	}
	switch o.Type {
	case frame.OpPut:
		return fmt.Sprintf("put %s/%s (%d bytes, ETag %s)", at, o.Name, o.BodySize(), holdfast.ETag(o.BodyHash))
	case frame.OpDelete:
		return fmt.Sprintf("delete %s/%s", at, o.Name)
	case frame.OpPutCollection:
		return fmt.Sprintf("collection %s/", at)
	case frame.OpDeleteCollection:
		return fmt.Sprintf("delete collection %s/ and all in it", at)
	case frame.OpSetProperties:
		return fmt.Sprintf("properties of %s/%s", at, o.Name)
	case frame.OpAcceptLoss:
		return "an operator accepted a loss: a new epoch"
	}
	return "unknown"
}
