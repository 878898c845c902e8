package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
)

// house is an open ledger with one account of two collections, one inside the other.
type house struct {
	*ledger.Ledger
	t          *testing.T
	cards, sub holdfast.CollectionID
}

func newHouse(t *testing.T) *house {
	t.Helper()
	root := t.TempDir()
	c := ledger.Config{
		Dir: filepath.Join(root, "data"), Server: holdfast.ServerID{7}, MinFree: 1, SegmentSize: 1 << 20,
		Mirrors: []ledger.MirrorConfig{{Name: "usb", Path: filepath.Join(root, "usb")}},
	}
	must(t, os.Mkdir(c.Dir, 0o700))
	must(t, ledger.Create(t.Context(), c))
	l, err := ledger.Open(context.WithoutCancel(t.Context()), c)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	must(t, l.WaitOpen(t.Context()))
	h := &house{Ledger: l, t: t}
	h.by(0, func(tx *ledger.Tx) {
		tx.PutCollection(&ledger.Collection{ID: holdfast.Root, Kind: holdfast.KindFile})
		h.cards = tx.NewCollection(holdfast.Root, "contacts", holdfast.KindCard, []holdfast.Property{{Name: "{DAV:}displayname", Value: "People"}})
		h.sub = tx.NewCollection(h.cards, "club", holdfast.KindCard, nil)
	})
	return h
}

func (h *house) by(d holdfast.DeviceID, fn func(tx *ledger.Tx)) {
	h.t.Helper()
	_, err := h.Update(context.Background(), person, d, func(tx *ledger.Tx) error { fn(tx); return nil })
	must(h.t, err)
}

func vcard(uid, text string) ledger.Body {
	return ledger.InlineBody([]byte("BEGIN:VCARD\r\nVERSION:3.0\r\nUID:" + uid + "\r\nFN:" + text + "\r\nN:" + text + ";;;;\r\nEND:VCARD\r\n"))
}

// fill makes n cards in a collection.
func (h *house) fill(c holdfast.CollectionID, n int) {
	h.by(9, func(tx *ledger.Tx) {
		for i := range n {
			tx.Put(c, fmt.Sprintf("%04d.vcf", i), "text/vcard", 0, vcard(fmt.Sprint("u", i), fmt.Sprint("Person ", i)))
		}
	})
}

// contents returns every member of every collection, by path and name: body and properties.
func (h *house) contents() map[string]string {
	h.t.Helper()
	all := map[string]string{}
	must(h.t, h.View(context.Background(), person, func(v *ledger.View) error {
		nodes, err := tree(v)
		if err != nil {
			return err
		}
		for _, n := range nodes {
			page, err := v.Resources(n.ID, "", 0)
			if err != nil {
				return err
			}
			for i := range page {
				b, err := v.Body(&page[i])
				if err != nil {
					return err
				}
				all[n.String()+"/"+page[i].Name] = fmt.Sprint(page[i].ContentType, page[i].Props, string(b))
			}
		}
		return nil
	}))
	return all
}

// undoAll runs an undo to its end.
func (h *house) undoAll(o UndoOrder) (sum Undone) {
	h.t.Helper()
	o.Account = person
	for range 1000 {
		u, err := Undo(context.Background(), h.Ledger, o)
		must(h.t, err)
		sum.Brought, sum.Same, sum.Others, sum.Taken, sum.Made = sum.Brought+u.Brought, sum.Same+u.Same, sum.Others+u.Others, sum.Taken+u.Taken, sum.Made+u.Made
		if u.Before != "" {
			sum.Before = u.Before
		}
		if u.Done {
			return sum
		}
		o.From = u.Next
	}
	h.t.Fatal("the undo does not end")
	return sum
}

func (h *house) same(what string, got, want map[string]string) {
	h.t.Helper()
	for name := range want {
		if got[name] != want[name] {
			h.t.Fatalf("%s: %s is %.60q, want %.60q", what, name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		h.t.Errorf("%s: %d members, want %d", what, len(got), len(want))
	}
}

// Fault 20: what a device encrypted and deleted comes back byte for byte; what others did since stays.
func TestUndoMassChange(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.fill(h.cards, 350)
	h.fill(h.sub, 30)
	before := h.contents()
	h.by(5, func(tx *ledger.Tx) {
		for i := range 250 {
			tx.Put(h.cards, fmt.Sprintf("%04d.vcf", i), "application/octet-stream", 0, ledger.InlineBody(fmt.Appendf(nil, "encrypted %d", i)))
		}
		for i := 250; i < 350; i++ {
			tx.Delete(h.cards, fmt.Sprintf("%04d.vcf", i))
		}
		tx.DeleteCollection(h.sub)
	})
	all, err := h.Snapshots(t.Context(), person)
	must(t, err)
	if len(all) != 2 || all[0].Seq != all[1].Seq && all[0].Seq > 3 {
		t.Fatalf("snapshots %+v", all)
	}
	name := all[0].Name
	h.by(2, func(tx *ledger.Tx) { // its owner repairs one by hand, and adds one
		tx.Put(h.cards, "0003.vcf", "text/vcard", 0, vcard("u3", "by hand"))
		tx.Put(h.cards, "new.vcf", "text/vcard", 0, vcard("new", "new"))
	})
	shown, err := Show(t.Context(), h.Ledger, person, name)
	must(t, err)
	for _, c := range shown.Collections {
		if c.Path == "contacts" && (c.Then != 350 || c.Now != 251 || c.Added != 1 || c.Changed != 250 || c.Deleted != 100) || c.Path == "contacts/club" && (!c.Gone || c.Deleted != 30) {
			t.Errorf("shown %+v", c)
		}
	}
	dry := h.undoAll(UndoOrder{Snapshot: name, DryRun: true})
	if dry.Brought != 349+30 || dry.Others != 1 || dry.Before != "" {
		t.Errorf("dry run %+v", dry)
	}
	got := h.undoAll(UndoOrder{Snapshot: name})
	if got.Brought != 349+30 || got.Others != 1 || got.Made != 1 || got.Before == "" {
		t.Errorf("undone %+v", got)
	}
	now := h.contents()
	if !strings.Contains(now["contacts/0003.vcf"], "by hand") || !strings.Contains(now["contacts/new.vcf"], "FN:new") {
		t.Errorf("what its owner did is gone: %q, %q", now["contacts/0003.vcf"], now["contacts/new.vcf"])
	}
	delete(now, "contacts/new.vcf")
	now["contacts/0003.vcf"] = before["contacts/0003.vcf"]
	h.same("after the undo", now, before)
	again := h.undoAll(UndoOrder{Snapshot: name})
	if again.Brought != 0 || again.Same != 379 || again.Others != 1 {
		t.Errorf("again %+v", again)
	}
	h.undoAll(UndoOrder{Snapshot: name, Everyone: true})
	now = h.contents()
	delete(now, "contacts/new.vcf")
	h.same("everyone's", now, before)
	if n := len(h.snapshots()); n != 2+3 {
		t.Errorf("%d snapshots, want one before each undo, and none that the guard named", n)
	}
}

func (h *house) snapshots() []ledger.Snapshot {
	h.t.Helper()
	all, err := h.Snapshots(context.Background(), person)
	must(h.t, err)
	return all
}

// An undo that was killed between any two steps is ordered again. Each step is one change, so that is all.
func TestUndoInterrupted(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.fill(h.cards, 250)
	before := h.contents()
	_, err := h.CreateSnapshot(t.Context(), person, "mine", "")
	must(t, err)
	h.by(5, func(tx *ledger.Tx) { tx.DeleteCollection(h.cards) })
	o := UndoOrder{Account: person, Snapshot: "mine"}
	for steps := range 6 {
		o.From = Cursor{}
		for range steps {
			u, err := Undo(t.Context(), h.Ledger, o)
			must(t, err)
			o.From = u.Next
		}
	}
	h.undoAll(UndoOrder{Snapshot: "mine"})
	h.same("in the end", h.contents(), before)
}

// A member with a UID that another one has by now is left; so is all outside the collection asked for.
func TestUndoUIDAndCollection(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.fill(h.cards, 5)
	h.fill(h.sub, 5)
	_, err := h.CreateSnapshot(t.Context(), person, "mine", "for a test")
	must(t, err)
	h.by(1, func(tx *ledger.Tx) {
		tx.Delete(h.cards, "0001.vcf")
		tx.Delete(h.sub, "0002.vcf")
		tx.Delete(h.sub, "0003.vcf")
	})
	h.by(1, func(tx *ledger.Tx) { tx.Put(h.sub, "other.vcf", "text/vcard", 0, vcard("u3", "uploaded again")) })
	got := h.undoAll(UndoOrder{Snapshot: "mine", Collection: "contacts/club"})
	if got.Brought != 1 || got.Taken != 1 {
		t.Errorf("undone %+v", got)
	}
	now := h.contents()
	if _, ok := now["contacts/0001.vcf"]; ok {
		t.Error("what was not asked for came back")
	}
	if now["contacts/club/0002.vcf"] == "" || now["contacts/club/0003.vcf"] != "" {
		t.Error("the wrong one came back")
	}
	_, err = Undo(t.Context(), h.Ledger, UndoOrder{Account: person, Snapshot: "mine", Collection: "nowhere"})
	if !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("unknown collection: got %v, want ErrNotFound", err)
	}
	if _, err := Undo(t.Context(), h.Ledger, UndoOrder{Account: holdfast.Server, Snapshot: "mine"}); !errors.Is(err, holdfast.ErrDenied) {
		t.Errorf("account 0: got %v, want ErrDenied", err)
	}
}

// An export is what was there, as plain files.
func TestExport(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.fill(h.cards, 450)
	big, err := h.PutBlob(t.Context(), person, strings.NewReader(strings.Repeat("photo", 50_000)), 1<<20)
	must(t, err)
	h.by(1, func(tx *ledger.Tx) {
		files := tx.NewCollection(holdfast.Root, "..", holdfast.KindFile, nil)
		tx.Put(files, "photo.jpg", "image/jpeg", 0, big)
		for _, name := range []string{".", "..", ".ssh", "a:b", "a?b", strings.Repeat("long", 200) + ".txt", "ABOUT-THIS-EXPORT.txt"} {
			tx.Put(files, name, "text/plain", 0, ledger.InlineBody([]byte(name)))
		}
	})
	want := h.contents()
	_, err = h.CreateSnapshot(t.Context(), person, "mine", "")
	must(t, err)
	h.by(1, func(tx *ledger.Tx) { tx.DeleteCollection(h.cards) })
	dir := filepath.Join(t.TempDir(), "export")
	o := ExportOrder{Account: person, Snapshot: "mine", Dir: dir}
	for range 100 {
		e, err := Export(t.Context(), h.Ledger, o)
		must(t, err)
		if o.From, o.Files, o.Bytes = e.Next, e.Files, e.Bytes; e.Done {
			break
		}
		if _, err := os.Stat(filepath.Join(dir, exportNote)); err == nil {
			t.Fatal("it says that it is complete and is not")
		}
	}
	files := 0
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		if rel, _ := filepath.Rel(dir, path); strings.HasPrefix(rel, "contacts") && !strings.HasSuffix(want[filepath.ToSlash(rel)], string(b)) {
			t.Errorf("%s: %.60q", rel, b)
		}
		return err
	}))
	if files != len(want)+1 || o.Files != len(want) {
		t.Errorf("%d files and %d counted, want %d and one note", files, o.Files, len(want))
	}
	b, err := os.ReadFile(filepath.Join(dir, "_", "photo.jpg"))
	if err != nil || len(b) != 250_000 {
		t.Errorf("photo: %d bytes, %v", len(b), err)
	}
	o.From = Cursor{}
	if _, err := Export(t.Context(), h.Ledger, o); !errors.Is(err, holdfast.ErrExists) {
		t.Errorf("into what is there: got %v, want ErrExists", err)
	}
}

// A member and a collection whose names are one to a file system stop no export.
func TestExportSameNames(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.by(1, func(tx *ledger.Tx) {
		tx.Put(holdfast.Root, "x:", "text/plain", 0, ledger.InlineBody([]byte("member")))
		below := tx.NewCollection(holdfast.Root, "x_", holdfast.KindFile, nil)
		tx.Put(below, "in", "text/plain", 0, ledger.InlineBody([]byte("inside")))
	})
	_, err := h.CreateSnapshot(t.Context(), person, "mine", "")
	must(t, err)
	dir := filepath.Join(t.TempDir(), "export")
	o := ExportOrder{Account: person, Snapshot: "mine", Dir: dir}
	for done := false; !done; {
		e, err := Export(t.Context(), h.Ledger, o)
		must(t, err)
		o.From, o.Files, o.Bytes, done = e.Next, e.Files, e.Bytes, e.Done
	}
	for name, want := range map[string]string{"x_": "member", "x_ (2)/in": "inside"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

func FuzzFileName(f *testing.F) {
	for _, s := range []string{"a.vcf", ".", "..", "", "a/b", "\x00", strings.Repeat("ü", 300), "x. ", "con"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := fileName(s)
		if n == "" || n == "." || n == ".." || len(n) > maxFileName || strings.ContainsAny(n, "/\x00") || strings.HasPrefix(n, ".") {
			t.Errorf("%q becomes %q", s, n)
		}
	})
}
