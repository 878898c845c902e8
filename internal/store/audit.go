package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"holdfast"
	"holdfast/frame"
)

// Audit proves accounts against their changes, and repairs them in place (L5: the state is the fold of the
// changes). It has a connection of its own, which sees damaged pages as they are: what they hold must
// prove itself. The fold goes through Apply, into temporary tables that hide the store's.
// One goroutine uses it.
type Audit struct {
	s       *Store
	db      *sql.DB
	c       *conn
	release func()
}

// derivedTables hold what Apply makes of the changes, and how rows are told apart.
var derivedTables = map[string]string{
	"resource":           "account_id, collection_id, name, seq, size, uid_key, thin",
	"history":            "account_id, collection_id, name, to_seq, from_seq, size, uid_key, thin",
	"changed":            "account_id, collection_id, seq, name, digest",
	"collection":         "account_id, collection_id, parent, name, kind, seq, created, modified, props",
	"collection_history": "account_id, collection_id, to_seq, from_seq, parent, name, kind, created, modified, props",
	"epoch":              "account_id, epoch, seq, common",
	"account":            "account_id, epoch, seq, hash, resources, bytes, erased",
}

// NewAudit opens an audit. Close it.
func (s *Store) NewAudit(ctx context.Context) (*Audit, error) {
	uri, release, err := dsn(s.cfg, false)
	if err != nil {
		return nil, fmt.Errorf("audit store: %w", err)
	}
	db, err := sql.Open("sqlite", uri)
	if err != nil {
		release()
		return nil, fmt.Errorf("audit store: %w", sqlError("open database", err))
	}
	db.SetMaxIdleConns(-1)
	au := &Audit{s: s, db: db, release: release}
	if au.c, err = connect(ctx, db, writerCacheKiB); err == nil {
		err = au.tables()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("audit store: %w", asDamage(err)), au.Close())
	}
	return au, nil
}

// tables makes the temporary tables.
func (au *Audit) tables() error {
	if au.s.cfg.VFS == "" { // SQLite's own file system keeps what is large in a file without a name
		if err := au.c.run("PRAGMA temp_store = FILE"); err != nil {
			return err
		}
	}
	for _, q := range sqlite.schema() {
		name, rest, _ := strings.Cut(strings.TrimPrefix(q, "CREATE TABLE "), " ")
		if derivedTables[name] == "" || !strings.HasPrefix(q, "CREATE TABLE ") {
			continue
		}
		if err := au.c.run("CREATE TEMP TABLE " + name + " " + rest); err != nil {
			return err
		}
	}
	return au.c.run("CREATE INDEX temp.fold_child ON collection (account_id, parent, name)")
}

// Close ends the audit.
func (au *Audit) Close() error {
	var err error
	if au.c != nil {
		err = au.c.close()
	}
	err = errors.Join(err, au.db.Close())
	if au.release != nil {
		au.release()
		au.release = nil
	}
	return err
}

// asDamage says ErrCorrupt of what SQLite makes of damaged pages, which an audit reads as they are: a column that
// the schema has no more, a key that is there although it was deleted.
func asDamage(err error) error {
	var e *driver.Error
	if !errors.As(err, &e) || errors.Is(err, holdfast.ErrCorrupt) || errors.Is(err, holdfast.ErrFatal) || errors.Is(err, holdfast.ErrFull) {
		return err
	}
	switch e.Code() & 0xff {
	case lib.SQLITE_ERROR, lib.SQLITE_CONSTRAINT, lib.SQLITE_MISMATCH, lib.SQLITE_TOOBIG:
		return fmt.Errorf("%w: %w", holdfast.ErrCorrupt, err)
	}
	return err
}

// Accounts returns the heads that the rows of all accounts have, damaged or not.
func (au *Audit) Accounts() (heads []holdfast.AccountHead, err error) {
	err = au.c.each("SELECT account_id, epoch, seq, hash FROM main.account ORDER BY account_id", nil, func(read func(...any) error) error {
		var h holdfast.AccountHead
		var a int64
		var hash []byte
		if err := read(&a, &h.Epoch, &h.Head.Seq, &hash); err != nil {
			return err
		}
		h.Account = holdfast.AccountID(a)
		copy(h.Head.Hash[:], hash)
		heads = append(heads, h)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("audit store: %w", asDamage(err))
	}
	return heads, nil
}

// HashAt returns the chain hash that the row of a change has, damaged or not; the zero Hash at 0. ErrNotFound: there is none.
func (au *Audit) HashAt(a holdfast.AccountID, seq holdfast.Seq) (holdfast.Hash, error) {
	h, err := (&Reader{s: au.s, c: au.c}).HashAt(a, seq)
	return h, asDamage(err)
}

// Intact reads all derived rows of an account. ErrCorrupt: a page of them is not what was written.
func (r *Reader) Intact(a holdfast.AccountID) error {
	for name, columns := range derivedTables {
		row := make([]any, strings.Count(columns, ",")+1)
		for i := range row {
			row[i] = new(sql.RawBytes)
		}
		err := r.c.each("SELECT "+columns+" FROM "+name+" WHERE account_id = ?1", []any{int64(a)}, func(read func(...any) error) error { return read(row...) })
		if err != nil {
			return fmt.Errorf("read %s of account %s: %w", name, a, err)
		}
	}
	return nil
}

// Verdict is what an audit found of one account.
type Verdict struct {
	Head    holdfast.Head // that the changes were folded to
	Broken  holdfast.Seq  // first change that does not continue the chain, or is not what it commits to; 0: none
	Derived []string      // tables whose rows are not what the changes make of them
	Err     error         // what was wrong with the change
}

// Whole reports whether nothing was wrong.
func (v *Verdict) Whole() bool { return v.Broken == 0 && len(v.Derived) == 0 }

// foldAtOnce is how many changes are folded in one snapshot.
const foldAtOnce = 1000

// Account proves one account: its chain up to head, which must be at or below the store's, every commitment, and
// every derived row. pace, which may be nil, is told how many bytes were read. fn, which may be nil, gets each change.
// Damage is in the verdict. ErrCorrupt: SQLite cannot read the account at all.
func (au *Audit) Account(ctx context.Context, a holdfast.AccountID, pace func(n int64) error, fn func(*frame.Change) error) (v *Verdict, err error) {
	f := &folding{au: au, a: a, pace: pace, fn: fn}
	defer func() { err = asDamage(errors.Join(err, f.clear())) }()
	if err := f.clear(); err != nil {
		return nil, fmt.Errorf("audit account %s: %w", a, err)
	}
	for !f.done {
		if err := f.part(ctx); err != nil {
			return nil, fmt.Errorf("audit account %s: %w", a, err)
		}
	}
	return &f.v, nil
}

// folding is the audit of one account.
type folding struct {
	au   *Audit
	a    holdfast.AccountID
	tx   *Tx
	pace func(n int64) error
	fn   func(*frame.Change) error
	v    Verdict
	done bool
}

func (f *folding) clear() error {
	for name := range derivedTables {
		if _, err := f.au.c.exec("DELETE FROM temp." + name); err != nil {
			return err
		}
	}
	return nil
}

// begin starts a snapshot, in which temporary tables can be written.
func (f *folding) begin(ctx context.Context, how string) error {
	if _, err := f.au.c.exec(how); err != nil {
		return err
	}
	if f.tx == nil {
		f.tx = &Tx{s: f.au.s, c: f.au.c, accounts: map[holdfast.AccountID]*account{}, members: map[place]*membership{}, fold: true}
	}
	f.tx.Reader = &Reader{s: f.au.s, c: f.au.c, ctx: ctx, tx: f.tx}
	return nil
}

// part folds the next changes and, when all are folded, compares.
func (f *folding) part(ctx context.Context) (err error) {
	if err := f.begin(ctx, "BEGIN"); err != nil {
		return err
	}
	defer func() {
		end := "COMMIT" // of the temporary tables
		if err != nil {
			end = "ROLLBACK"
		}
		if _, eerr := f.au.c.exec(end); eerr != nil && !isNoTransaction(eerr) {
			err = errors.Join(err, eerr)
		}
	}()
	head, err := f.head()
	if err != nil {
		return err
	}
	if err := f.fold(ctx, head, foldAtOnce); err != nil || f.v.Broken != 0 {
		f.done = true
		return err
	}
	if f.v.Head.Seq < head.Seq {
		return nil
	}
	f.done = true
	if f.v.Head != head {
		f.v.Broken, f.v.Err = max(head.Seq, 1), fmt.Errorf("the account's row has head %s, its changes end at %s: %w", head, f.v.Head, holdfast.ErrCorrupt)
		return nil
	}
	return f.compare()
}

// head returns the head that the store's own row has.
func (f *folding) head() (h holdfast.Head, err error) {
	var hash []byte
	found, err := f.au.c.row("SELECT seq, hash FROM main.account WHERE account_id = ?1", []any{int64(f.a)}, &h.Seq, &hash)
	if err == nil && found && len(hash) == len(h.Hash) {
		copy(h.Hash[:], hash)
	}
	return h, err
}

// fold applies at most n more changes up to the head.
func (f *folding) fold(ctx context.Context, head holdfast.Head, n holdfast.Seq) error {
	from := f.v.Head.Seq + 1
	to := min(head.Seq, f.v.Head.Seq+n)
	broken := func(seq holdfast.Seq, err error) error {
		f.v.Broken, f.v.Err = seq, err
		return errBroken
	}
	err := f.tx.Changes(f.a, from, to, func(seq holdfast.Seq, hash holdfast.Hash, payload []byte) error {
		if f.pace != nil {
			if err := f.pace(int64(len(payload))); err != nil {
				return err
			}
		}
		want, err := frame.ChainHash(f.v.Head.Hash, payload)
		if err == nil && want != hash {
			err = fmt.Errorf("change %d does not continue the chain: %w", seq, holdfast.ErrCorrupt)
		}
		if err != nil {
			return broken(seq, err)
		}
		ch, err := frame.ParseChange(payload)
		if err == nil && (ch.Account != f.a || ch.Seq != seq) {
			err = fmt.Errorf("is change %d of account %d: %w", ch.Seq, ch.Account, holdfast.ErrCorrupt)
		}
		if err != nil {
			return broken(seq, err)
		}
		if err := f.tx.Apply(ch, payload, hash); err != nil {
			return fmt.Errorf("fold change %d: %w", seq, err)
		}
		f.v.Head = holdfast.Head{Seq: seq, Hash: hash}
		if f.fn != nil {
			return f.fn(ch)
		}
		return nil
	})
	switch {
	case errors.Is(err, errBroken):
		return nil
	case errors.Is(err, holdfast.ErrCorrupt):
		f.v.Broken, f.v.Err = f.v.Head.Seq+1, err
		return nil
	case err == nil && f.v.Head.Seq < to:
		f.v.Broken, f.v.Err = f.v.Head.Seq+1, fmt.Errorf("change %d is missing: %w", f.v.Head.Seq+1, holdfast.ErrCorrupt)
	}
	return err
}

var errBroken = errors.New("a change is broken")

// compare finds the tables whose rows differ from the fold.
func (f *folding) compare() error {
	if err := f.tx.writeHeads(); err != nil {
		return err
	}
	for name, columns := range derivedTables {
		var differs int64
		q := fmt.Sprintf(`SELECT EXISTS (SELECT * FROM (SELECT %[2]s FROM main.%[1]s WHERE account_id = ?1 EXCEPT SELECT %[2]s FROM temp.%[1]s))
OR EXISTS (SELECT * FROM (SELECT %[2]s FROM temp.%[1]s EXCEPT SELECT %[2]s FROM main.%[1]s WHERE account_id = ?1))`, name, columns)
		if _, err := f.au.c.row(q, []any{int64(f.a)}, &differs); err != nil {
			return fmt.Errorf("compare %s: %w", name, err)
		}
		if differs != 0 {
			f.v.Derived = append(f.v.Derived, name)
		}
	}
	return nil
}

// Good is one change as another copy has it, verified against the chain before it.
type Good struct {
	Seq     holdfast.Seq
	Hash    holdfast.Hash
	Payload []byte
}

// maxGood bounds the changes that Mend keeps in memory, in bytes.
const maxGood = 256 << 20

// Mend repairs one account in place, in one transaction: changes that are broken are replaced by those of
// good, and all derived rows are made anew from the changes. good gives the changes after a head, in order, up to the
// account's head. Reads of the account go on beside it; other accounts' writes wait. It returns how many changes
// were replaced. ErrCorrupt: it cannot be repaired in place.
func (au *Audit) Mend(ctx context.Context, a holdfast.AccountID, want holdfast.Head, good func(after holdfast.Head, fn func(Good) error) error) (replaced int, err error) {
	w, err := au.s.takeWriter(ctx)
	if err != nil {
		return 0, fmt.Errorf("mend account %s: %w", a, err)
	}
	defer func() { au.s.write <- w }()
	f := &folding{au: au, a: a}
	defer func() { err = asDamage(errors.Join(err, f.clear())) }()
	if err := f.clear(); err != nil {
		return 0, err
	}
	if err := f.begin(ctx, "BEGIN IMMEDIATE"); err != nil {
		return 0, au.s.note(err)
	}
	replaced, err = f.mend(ctx, want, good)
	if err == nil {
		_, err = au.c.exec("COMMIT")
		if err != nil && !errors.Is(err, holdfast.ErrFull) {
			err = fmt.Errorf("%w: %w", holdfast.ErrFatal, err) // not known to be clean
		}
	}
	if err != nil {
		if _, rerr := au.c.exec("ROLLBACK"); rerr != nil && !isNoTransaction(rerr) {
			err = errors.Join(err, rerr)
		}
		return 0, au.s.note(fmt.Errorf("mend account %s: %w", a, err))
	}
	if pages, perr := pagesWritten(au.c); perr == nil {
		au.s.check.wrote(pages)
	}
	return replaced, nil
}

// takeWriter takes the place of the one that writes.
func (s *Store) takeWriter(ctx context.Context) (*conn, error) {
	select {
	case c := <-s.write:
		err := s.failed()
		if err == nil {
			err = s.check.room(ctx)
		}
		if err != nil {
			s.write <- c
			return nil, err
		}
		return c, nil
	case <-s.closing:
		return nil, fmt.Errorf("the store is closed: %w", holdfast.ErrAbsent)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *folding) mend(ctx context.Context, want holdfast.Head, good func(after holdfast.Head, fn func(Good) error) error) (replaced int, err error) {
	for f.v.Head.Seq < want.Seq {
		if err := f.fold(ctx, want, want.Seq); err != nil {
			return replaced, err
		}
		if f.v.Broken == 0 && f.v.Head == want {
			break
		}
		if f.v.Broken == 0 && f.v.Head.Seq == want.Seq { // whole, and another history: somebody wrote it
			if err := f.anew(); err != nil {
				return replaced, err
			}
		}
		n, err := f.replace(want, good)
		if err != nil {
			return replaced, err
		}
		if replaced += n; n == 0 {
			return replaced, fmt.Errorf("change %d is broken, and no copy has another: %w", f.v.Head.Seq+1, errors.Join(holdfast.ErrCorrupt, f.v.Err))
		}
		f.v.Broken, f.v.Err = 0, nil
	}
	if f.v.Head != want {
		return replaced, fmt.Errorf("the changes end at %s, not at %s: %w", f.v.Head, want, holdfast.ErrCorrupt)
	}
	if _, err := f.au.c.exec("DELETE FROM main.change WHERE account_id = ?1 AND seq > ?2", int64(f.a), int64(want.Seq)); err != nil {
		return replaced, err
	}
	if err := f.tx.writeHeads(); err != nil {
		return replaced, err
	}
	for name, columns := range derivedTables {
		if _, err := f.au.c.exec("DELETE FROM main."+name+" WHERE account_id = ?1", int64(f.a)); err != nil {
			return replaced, err
		}
		if _, err := f.au.c.exec(fmt.Sprintf("INSERT INTO main.%[1]s (%[2]s) SELECT %[2]s FROM temp.%[1]s", name, columns)); err != nil {
			return replaced, err
		}
	}
	return replaced, nil
}

// anew begins the fold again, from nothing.
func (f *folding) anew() error {
	f.v = Verdict{Err: fmt.Errorf("the changes are not those of this head: %w", holdfast.ErrCorrupt)}
	clear(f.tx.accounts)
	clear(f.tx.members)
	return f.clear()
}

// replace writes the good changes from the broken one on, as far as the store's differ.
func (f *folding) replace(want holdfast.Head, good func(after holdfast.Head, fn func(Good) error) error) (n int, err error) {
	var list []Good
	size := 0
	err = good(f.v.Head, func(g Good) error {
		if g.Seq > want.Seq {
			return nil
		}
		var hash, first []byte
		found, err := f.au.c.row("SELECT hash, payload FROM main.change WHERE account_id = ?1 AND seq = ?2", []any{int64(f.a), int64(g.Seq)}, &hash, &first)
		if err == nil && found {
			first, err = f.au.c.wholePayload(f.a, g.Seq, first)
		}
		if err != nil && !errors.Is(err, holdfast.ErrCorrupt) {
			return err
		}
		if err == nil && found && bytes.Equal(hash, g.Hash[:]) && bytes.Equal(first, g.Payload) {
			return nil
		}
		if size += len(g.Payload); size > maxGood {
			return fmt.Errorf("more than %d bytes of changes are broken: %w", maxGood, holdfast.ErrCorrupt)
		}
		g.Payload = bytes.Clone(g.Payload)
		list = append(list, g)
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, g := range list {
		if err := f.put(g); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// put replaces one change.
func (f *folding) put(g Good) error {
	ch, err := frame.ParseChange(g.Payload)
	if err != nil {
		return err
	}
	for _, table := range []string{"change", "change_part"} {
		if _, err := f.au.c.exec("DELETE FROM main."+table+" WHERE account_id = ?1 AND seq = ?2", int64(f.a), int64(g.Seq)); err != nil {
			return err
		}
	}
	return f.tx.insertChange(ch, g.Payload, g.Hash)
}
