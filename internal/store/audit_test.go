package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast"
	"holdfast/frame"
)

// audited returns a store of two accounts with some history, and what is good of account 1.
func audited(t *testing.T) (*Store, Config, []Good) {
	t.Helper()
	s, cfg := newStore(t)
	for _, a := range []holdfast.AccountID{1, 2} {
		write(t, s, a, root(), mkcol(2, 1, "a"))
		for i := range 40 {
			write(t, s, a, put(2, string(rune('a'+i%20)), strings.Repeat("a body ", 20+i)))
		}
	}
	r := read(t, s)
	var good []Good
	err := r.Changes(1, 1, Newest, func(seq holdfast.Seq, hash holdfast.Hash, payload []byte) error {
		good = append(good, Good{seq, hash, payload})
		return nil
	})
	if err = errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	return s, cfg, good
}

// TestAuditMends damages rows of one account behind the back of the pages' checksums: the audit names what is
// wrong, and Mend makes it what it was, in place.
func TestAuditMends(t *testing.T) {
	for name, v := range map[string]struct {
		query   string
		derived string // "" a change
	}{
		"thin":       {"UPDATE resource SET thin = zeroblob(80) WHERE name = 'c' AND account_id = 1", "resource"},
		"name":       {"UPDATE resource SET name = 'zz' WHERE name = 'c' AND account_id = 1", "resource"},
		"stray":      {"INSERT INTO history SELECT account_id, collection_id, 'no', 9, 2, size, uid_key, thin FROM resource WHERE name = 'c' AND account_id = 1", "history"},
		"history":    {"DELETE FROM history WHERE name = 'd' AND account_id = 1", "history"},
		"changed":    {"DELETE FROM changed WHERE seq = 7 AND account_id = 1", "changed"},
		"digest":     {"UPDATE changed SET digest = zeroblob(32) WHERE seq = 7 AND account_id = 1", "changed"},
		"collection": {"UPDATE collection SET name = 'b' WHERE collection_id = 2 AND account_id = 1", "collection"},
		"sums":       {"UPDATE account SET bytes = 1 WHERE account_id = 1", "account"},
		"payload":    {"UPDATE change SET payload = CAST(replace(CAST(payload AS TEXT), 'body', 'b0dy') AS BLOB) WHERE seq = 9 AND account_id = 1", ""},
		"hash":       {"UPDATE change SET hash = zeroblob(32) WHERE seq IN (9, 10, 20) AND account_id = 1", ""},
		"lost":       {"DELETE FROM change WHERE seq = 12 AND account_id = 1", ""},
		"last":       {"DELETE FROM change WHERE seq = 41 AND account_id = 1", ""},
		"head":       {"UPDATE account SET seq = 3, hash = zeroblob(32) WHERE account_id = 1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, cfg, good := audited(t)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			execRaw(t, filepath.Join(cfg.Path, fileName), v.query)
			s, err := Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			au, err := s.NewAudit(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer au.Close()
			got, err := au.Account(t.Context(), 1, nil, nil)
			if err != nil || got.Whole() {
				t.Fatalf("audit: %+v, %v", got, err)
			}
			if v.derived == "" && got.Broken == 0 || v.derived != "" && (len(got.Derived) == 0 || got.Broken != 0) {
				t.Errorf("audit of %q: %+v", v.derived, got)
			}
			if other, err := au.Account(t.Context(), 2, nil, nil); err != nil || !other.Whole() {
				t.Errorf("audit of the other: %+v, %v", other, err)
			}
			last := good[len(good)-1]
			_, err = au.Mend(t.Context(), 1, holdfast.Head{Seq: last.Seq, Hash: last.Hash}, func(after holdfast.Head, fn func(Good) error) error {
				for _, g := range good[after.Seq:] {
					if err := fn(g); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if got, err = au.Account(t.Context(), 1, nil, func(*frame.Change) error { return nil }); err != nil || !got.Whole() {
				t.Errorf("after mending: %+v, %v", got, err)
			}
			if err := s.Check(context.Background(), nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBadPages flips a bit in each page of a store, one at a time: what needs it is ErrCorrupt, never something
// else; BadPages names the page; a page whose rows are whole is rewritten.
func TestBadPages(t *testing.T) {
	s, cfg, _ := audited(t)
	name := filepath.Join(cfg.Path, fileName)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for page := 1; page < len(whole)/pageSize; page++ {
		overwrite(t, name, int64(page)*pageSize+100, string([]byte{whole[page*pageSize+100] ^ 4}))
		s, err := Open(t.Context(), cfg)
		if err != nil {
			if !errors.Is(err, holdfast.ErrCorrupt) {
				t.Errorf("page %d: %v", page+1, err)
			}
		} else {
			bad, err := s.BadPages(t.Context(), nil)
			if err != nil || len(bad) != 1 || bad[0] != uint32(page+1) {
				t.Errorf("page %d: bad pages %v, %v", page+1, bad, err)
			}
			if err := s.Check(t.Context(), nil); !errors.Is(err, holdfast.ErrCorrupt) {
				t.Errorf("page %d: check: %v", page+1, err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("page %d: close: %v", page+1, err)
			}
		}
		overwrite(t, name, int64(page)*pageSize+100, string(whole[page*pageSize+100:page*pageSize+101]))
	}
	// The checksum itself: nothing else is wrong.
	last := int64(len(whole)) - 3
	overwrite(t, name, last, string([]byte{whole[last] ^ 1}))
	if s, err = Open(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	au, err := s.NewAudit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer au.Close()
	bad, err := s.BadPages(t.Context(), nil)
	if err != nil || len(bad) != 1 {
		t.Fatalf("bad pages %v, %v", bad, err)
	}
	if err := errors.Join(au.Structure(t.Context()), au.Rewrite(t.Context(), bad)); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context(), nil); err != nil {
		t.Errorf("after rewriting: %v", err)
	}
}

// TestBadLogPage flips a bit in each frame of the write-ahead log of an open store, one at a time: what needs it is right
// or ErrCorrupt, BadPages finds it if it is in use, and Rewrite of a page whose rows are whole makes it good.
func TestBadLogPage(t *testing.T) {
	s, cfg, good := audited(t)
	defer s.Close()
	wal := filepath.Join(cfg.Path, fileName+"-wal")
	b, err := os.ReadFile(wal)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for off := walHead; off+walFrame+pageSize <= len(b); off += pageSize + walFrame {
		for _, at := range []int{off + 2, off + walFrame + 700} {
			overwrite(t, wal, int64(at), string([]byte{b[at] ^ 1}))
			bad, err := s.BadPages(t.Context(), nil)
			if err != nil {
				t.Fatalf("offset %d: %v", at, err)
			}
			found += min(1, len(bad))
			r := read(t, s)
			err = r.Changes(1, 1, Newest, func(seq holdfast.Seq, hash holdfast.Hash, _ []byte) error {
				if good[seq-1].Hash != hash {
					t.Errorf("offset %d: change %d is false", at, seq)
				}
				return nil
			})
			if err = errors.Join(err, r.Close()); err != nil && !errors.Is(err, holdfast.ErrCorrupt) {
				t.Errorf("offset %d: %v", at, err)
			}
			overwrite(t, wal, int64(at), string(b[at:at+1]))
		}
	}
	if found == 0 {
		t.Error("no flip was found")
	}
	if bad, err := s.BadPages(t.Context(), nil); err != nil || len(bad) > 0 {
		t.Errorf("whole again: %v, %v", bad, err)
	}
	last := int64(len(b)) - 3 // of the last page's tail, which holds no row
	overwrite(t, wal, last, string([]byte{b[last] ^ 1}))
	bad, err := s.BadPages(t.Context(), nil)
	if err != nil || len(bad) != 1 {
		t.Fatalf("bad pages %v, %v", bad, err)
	}
	au, err := s.NewAudit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer au.Close()
	if err := au.Rewrite(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context(), nil); err != nil {
		t.Errorf("after rewriting: %v", err)
	}
}

// What Apply makes must be folded into tables that hide the store's, all of them and all their columns: an audit that misses one
// writes into the store itself.
func TestAuditHidesEveryTable(t *testing.T) {
	for _, q := range sqlite.schema() {
		rest, ok := strings.CutPrefix(q, "CREATE TABLE ")
		if !ok {
			continue
		}
		name, body, _ := strings.Cut(rest, " ")
		if slices.Contains([]string{"meta", "change", "change_part"}, name) {
			continue
		}
		var columns []string
		for line := range strings.Lines(body) {
			if f := strings.Fields(line); len(f) > 2 && f[0] != "PRIMARY" && f[0] != ")" {
				columns = append(columns, f[0])
			}
		}
		if got, want := derivedTables[name], strings.Join(columns, ", "); got != want {
			t.Errorf("table %s: an audit has %q, the schema %q", name, got, want)
		}
	}
}

// Where an epoch began is what the changes make too: an account with an accepted loss is whole, and mended when its
// row is lost or false.
func TestAuditEpochs(t *testing.T) {
	for name, query := range map[string]string{
		"whole": "",
		"lost":  "DELETE FROM epoch WHERE account_id = 1 AND epoch = 2",
		"false": "UPDATE epoch SET common = 3 WHERE account_id = 1 AND epoch = 3",
		"stray": "INSERT INTO epoch VALUES (1, 9, 3, 2)",
	} {
		t.Run(name, func(t *testing.T) {
			s, cfg, _ := audited(t)
			raise(t, s, 1, 20)
			write(t, s, 1, put(2, "x", "2"))
			raise(t, s, 1, 42)
			r := read(t, s)
			head, err := r.Head(1)
			if err = errors.Join(err, r.Close(), s.Close()); err != nil {
				t.Fatal(err)
			}
			if query != "" {
				execRaw(t, filepath.Join(cfg.Path, fileName), query)
			}
			if s, err = Open(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			au, err := s.NewAudit(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer au.Close()
			v, err := au.Account(t.Context(), 1, nil, nil)
			if err != nil || v.Broken != 0 || v.Whole() != (query == "") {
				t.Fatalf("audit: %+v, %v", v, err)
			}
			n, err := au.Mend(t.Context(), 1, head.Head, func(holdfast.Head, func(Good) error) error { return nil })
			if err != nil || n != 0 {
				t.Errorf("mended %d, %v", n, err)
			}
			if err := s.Check(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
	}
}
