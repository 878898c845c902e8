package ledger

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
	"holdfast/internal/mirror"
	"holdfast/internal/store"
)

// Fault 31: somebody with write access rewrites a change and recomputes everything after it: commitments, chain, rows,
// digests, page checksums in the store; frames, checkpoints, commits, log chain, footers, head file in the mirror. What
// was rewritten proves itself. Only what lies elsewhere knows better.

const (
	trueBody   = "the meeting is at nine"
	forgedBody = "the meeting is at four"
)

// forgedRig has a change that will be rewritten, in the middle of a log that is not the last one.
func forgedRig(t *testing.T) (r *rig, at holdfast.Seq) {
	t.Helper()
	r = newRig(t, func(c *Config) { c.SegmentSize = 96 << 10 })
	body := strings.Repeat("x", 30_000)
	for i := range 4 {
		r.mustPut("before"+string(rune('a'+i)), body)
	}
	r.mustPut("note", trueBody)
	_, head := r.token()
	for i := range 6 {
		r.mustPut("after"+string(rune('a'+i)), body)
	}
	r.restart(func() {})
	r.mustPut("last", "1")
	return r, head.Seq
}

// history is all changes of a store, in a forged version: from change at on of one account.
type history struct {
	term   holdfast.Term
	frames []mirror.Frame
}

// forge reads the store of r, which is closed, and makes another history of it.
func forge(t *testing.T, r *rig, at holdfast.Seq) *history {
	t.Helper()
	st, err := store.Open(t.Context(), storeConfig(r.cfg.withDefaults()))
	must(t, err)
	defer func() { must(t, st.Close()) }()
	h := &history{}
	h.term, err = st.Term(t.Context())
	must(t, err)
	heads, err := st.Heads(t.Context())
	must(t, err)
	rd, err := st.Read(t.Context())
	must(t, err)
	defer func() { must(t, rd.Close()) }()
	for _, a := range heads {
		var prev holdfast.Hash
		must(t, rd.Changes(a.Account, 1, store.Newest, func(seq holdfast.Seq, _ holdfast.Hash, payload []byte) error {
			c, err := frame.ParseChange(payload)
			must(t, err)
			payload = slices.Clone(payload)
			if a.Account == person && seq == at {
				if string(c.Ops[0].Body) != trueBody {
					t.Fatalf("change %d has %q", seq, c.Ops[0].Body)
				}
				c.Ops[0].Body = []byte(forgedBody)
				payload, err = c.Encode(nil)
				must(t, err)
			}
			prev, err = frame.ChainHash(prev, payload)
			must(t, err)
			h.frames = append(h.frames, mirror.Frame{Account: a.Account, Epoch: c.Epoch, Seq: seq, Hash: prev, Term: c.Term, Payload: payload})
			return nil
		}))
	}
	return h
}

// heads of the forged history.
func (h *history) heads() map[holdfast.AccountID]holdfast.AccountHead {
	m := map[holdfast.AccountID]holdfast.AccountHead{}
	for _, f := range h.frames {
		m[f.Account] = holdfast.AccountHead{Account: f.Account, Epoch: f.Epoch, Head: holdfast.Head{Seq: f.Seq, Hash: f.Hash}}
	}
	return m
}

// toStore rewrites the store: the rows are made by Apply, so that nothing in it contradicts anything.
func (h *history) toStore(t *testing.T, r *rig, at holdfast.Seq) {
	t.Helper()
	st, err := store.Open(t.Context(), storeConfig(r.cfg.withDefaults()))
	must(t, err)
	tx, err := st.Begin(t.Context())
	must(t, err)
	must(t, tx.Rewind(t.Context(), person, at-1))
	for _, f := range h.frames {
		if f.Account != person || f.Seq < at {
			continue
		}
		c, err := frame.ParseChange(f.Payload)
		must(t, err)
		must(t, tx.Apply(c, f.Payload, f.Hash))
	}
	must(t, tx.Commit())
	must(t, st.Close())
}

// toMirror replaces all logs of a mirror by one of term, with the changes that keep picks.
func (h *history) toMirror(t *testing.T, r *rig, path string, term holdfast.Term, keep func(f mirror.Frame) bool) {
	t.Helper()
	m, b, err := openMirror(t.Context(), r.cfg.withDefaults(), MirrorConfig{"disk2", path})
	must(t, err)
	defer b.Close()
	must(t, os.RemoveAll(filepath.Join(path, "log")))
	must(t, os.RemoveAll(filepath.Join(path, "heads")))
	_, err = m.Recover(t.Context())
	must(t, err)
	lg, err := m.StartLog(t.Context(), term, nil)
	must(t, err)
	for _, f := range h.frames {
		if keep == nil || keep(f) {
			must(t, lg.Append(t.Context(), []mirror.Frame{f}))
		}
	}
	must(t, m.WriteHeads(t.Context(), lg.Heads(), lg.Pos()))
	must(t, lg.Seal(context.Background()))
}

// toOldLog replaces the first log of the mirror that has the rewritten change by one that proves itself; later logs, and the heads
// that their checkpoints name, stay.
func (h *history) toOldLog(t *testing.T, r *rig, at holdfast.Seq) {
	t.Helper()
	path := r.cfg.Mirrors[0].Path
	copied := filepath.Join(t.TempDir(), "mirror")
	must(t, os.CopyFS(copied, os.DirFS(path)))
	var term holdfast.Term
	last := map[holdfast.AccountID]holdfast.Seq{} // of the log that is replaced
	m, b, err := openMirror(t.Context(), r.cfg.withDefaults(), MirrorConfig{"disk2", path})
	must(t, err)
	defer b.Close()
	none := func(holdfast.AccountID) holdfast.AccountHead { return holdfast.AccountHead{} }
	must(t, m.Replay(t.Context(), none, func(rec *mirror.Record) error {
		if rec.Account == person && rec.Seq == at {
			term = rec.LogTerm
		}
		return nil
	}))
	must(t, m.Replay(t.Context(), none, func(rec *mirror.Record) error {
		if rec.LogTerm.Number <= term.Number {
			last[rec.Account] = rec.Seq
		}
		return nil
	}))
	claims, err := m.Terms(t.Context())
	must(t, err)
	for i, f := range r.glob(copied, "term", "*") {
		if claims[i].Term.Number > term.Number {
			must(t, os.Remove(f))
		}
	}
	h.toMirror(t, r, copied, term, func(f mirror.Frame) bool { return f.Seq <= last[f.Account] })
	old := filepath.Join(path, "log", term.String())
	must(t, os.RemoveAll(old))
	must(t, os.CopyFS(old, os.DirFS(filepath.Join(copied, "log", term.String()))))
}

// toHeads rewrites DIR/heads.
func (h *history) toHeads(t *testing.T, r *rig) {
	t.Helper()
	must(t, editHeads(r.cfg.Dir, func(f *headFile) {
		for i, e := range f.Heads {
			head := h.heads()[e.Account]
			f.Heads[i].Seq, f.Heads[i].Hash = head.Head.Seq, head.Head.Hash.String()
		}
	}))
}

// never fails if the forged body was served.
func (r *rig) never(what string) {
	r.t.Helper()
	if got, err := r.get("note"); err == nil && got != trueBody {
		r.t.Fatalf("%s: %q was served as true", what, got)
	}
}

// closedFor fails unless the account is closed, for that reason.
func (r *rig) closedFor(code string) {
	r.t.Helper()
	if _, err := r.get("note"); !errors.Is(err, holdfast.ErrFenced) {
		r.t.Errorf("a read: %v, want ErrFenced", err)
	}
	if c := r.Status().Closed; len(c) != 1 || c[0].Account != person.String() || string(c[0].Code) != code || c[0].Todo == "" {
		r.t.Errorf("closed: %+v, want account %d for %s", c, person, code)
	}
}

// wholeFrom proves that everything acknowledged is there, that a scrub has nothing to say, and that the mirror alone has it all.
func (r *rig) wholeFrom(what string) {
	r.t.Helper()
	r.verify()
	if s := r.scrubAll(); s.Unhealed > 0 || len(r.Status().Closed) > 0 {
		r.t.Errorf("%s: %+v, closed %+v", what, s.Damage, r.Status().Closed)
	}
	r.restart(func() { must(r.t, r.cfg.removeStore()) })
	r.verify()
}

// Fault 31: the store is rewritten. The mirror knows better: the account is closed before anything of it is served.
func TestForgedStore(t *testing.T) {
	t.Parallel()
	r, at := forgedRig(t)
	r.restart(func() { forge(t, r, at).toStore(t, r, at) })
	r.closedFor("fork")
	must(t, r.AdoptHistory(t.Context(), person, "disk2"))
	r.wholeFrom("the mirror's history")
}

// Fault 31: all logs of the mirror are rewritten. The store knows better.
func TestForgedMirror(t *testing.T) {
	t.Parallel()
	r, at := forgedRig(t)
	r.restart(func() {
		h := forge(t, r, at)
		h.toMirror(t, r, r.cfg.Mirrors[0].Path, h.term, nil)
	})
	r.closedFor("fork")
	must(t, r.AdoptHistory(t.Context(), person, "store"))
	r.verify()
}

// Fault 31: store and mirror are rewritten alike, down to what they say of each other. DIR/heads knows better.
func TestForgedBoth(t *testing.T) {
	t.Parallel()
	r, at := forgedRig(t)
	r.restart(func() {
		h := forge(t, r, at)
		h.toStore(t, r, at)
		h.toMirror(t, r, r.cfg.Mirrors[0].Path, h.term, nil)
	})
	r.closedFor("loss")
	r.restart(func() {})
	r.closedFor("loss")
}

// Fault 31: store, mirror and DIR/heads are rewritten alike. A device's sync token knows better: the account is closed
// as soon as it asks, and stays so.
func TestForgedAll(t *testing.T) {
	t.Parallel()
	r, at := forgedRig(t)
	token, _ := r.token()
	r.restart(func() {
		h := forge(t, r, at)
		h.toStore(t, r, at)
		h.toMirror(t, r, r.cfg.Mirrors[0].Path, h.term, nil)
		h.toHeads(t, r)
	})
	if got, err := r.get("note"); err != nil || got != forgedBody {
		t.Fatalf("before any device asked: %q, %v", got, err) // nobody can know
	}
	if _, err := r.parse(token); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("a token of the true history: %v, want ErrFenced", err)
	}
	r.closedFor("loss")
	r.restart(func() {})
	r.closedFor("loss")
}

// Fault 31: an old log of the mirror is rewritten, nobody looks at it when the server starts. The scrub finds it, whose fence it
// closes meanwhile serves nothing false, and the store's history is not touched.
func TestForgedOldLog(t *testing.T) {
	t.Parallel()
	r, at := forgedRig(t)
	r.restart(func() { forge(t, r, at).toOldLog(t, r, at) })
	r.never("at the start")
	s := r.scrubAll()
	if s.Found == 0 && s.Unhealed == 0 {
		t.Fatal("the scrub passed over a rewritten log")
	}
	r.never("after the scrub")
	t.Logf("%+v\n%+v", s.Damage, r.Status().Closed)
	r.restart(func() { must(t, r.cfg.removeStore()) }) // the worst moment
	r.never("made anew from what is left")
	t.Logf("%+v", r.Status().Closed)
}

// Fault 31: the mirror's logs are rewritten under a running server.
func TestForgedMirrorRunning(t *testing.T) {
	t.Parallel()
	r, at := forgedRig(t)
	copied := filepath.Join(t.TempDir(), "mirror")
	path := r.cfg.Mirrors[0].Path
	r.close(r.Ledger)
	h := forge(t, r, at)
	r.open()
	must(t, os.CopyFS(copied, os.DirFS(path)))
	h.toMirror(t, r, copied, r.currentTerm(), nil)
	must(t, os.Rename(filepath.Join(path, "log"), filepath.Join(path, "log.true")))
	must(t, os.CopyFS(filepath.Join(path, "log"), os.DirFS(filepath.Join(copied, "log"))))
	s := r.scrubAll()
	if s.Found == 0 && s.Unhealed == 0 {
		t.Fatal("the scrub passed over a rewritten mirror")
	}
	r.never("after the scrub")
	t.Logf("%+v\n%+v", s.Damage, r.Status().Closed)
	r.restart(func() {})
	r.never("after a restart")
	t.Logf("%+v", r.Status().Closed)
}

// Fault 31: the store is rewritten under a running server, through SQLite.
func TestForgedStoreRunning(t *testing.T) {
	t.Parallel()
	r, at := forgedRig(t)
	r.close(r.Ledger)
	h := forge(t, r, at)
	r.open()
	h.toStore(t, r, at)
	s := r.scrubAll()
	if s.Found == 0 && s.Unhealed == 0 {
		t.Fatal("the scrub passed over a rewritten store")
	}
	r.never("after the scrub")
	t.Logf("%+v\n%+v\n%v", s.Damage, r.Status().Closed, r.incidents())
	r.wholeFrom("after the scrub")
}
