package ledger

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"holdfast"
)

const person = holdfast.AccountID(7)

// rig is a ledger in temporary directories, with what it acknowledged.
type rig struct {
	*Ledger
	t     *testing.T
	cfg   Config
	cards holdfast.CollectionID
	mu    sync.Mutex
	acked map[string]string // name: body
}

func config(t testing.TB) Config {
	t.Helper()
	root := t.TempDir()
	return Config{
		Dir: filepath.Join(root, "data"), Server: holdfast.ServerID{1, 2, 3}, SegmentSize: 1 << 20, MinFree: 1,
		Mirrors: []MirrorConfig{{Name: "disk2", Path: filepath.Join(root, "mirror")}},
	}
}

func newRig(t *testing.T, edit ...func(*Config)) *rig {
	t.Helper()
	cfg := config(t)
	for _, e := range edit {
		e(&cfg)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Create(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, cfg: cfg, acked: map[string]string{}}
	r.open()
	if _, err := r.Update(t.Context(), person, 0, func(tx *Tx) error {
		tx.PutCollection(&Collection{ID: holdfast.Root, Kind: holdfast.KindFile})
		r.cards = tx.NewCollection(holdfast.Root, "contacts", holdfast.KindCard, nil)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return r
}

// open starts the ledger and waits for its fence; it is closed when the test ends.
func (r *rig) open() {
	r.t.Helper()
	l, err := Open(context.Background(), r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Ledger = l
	r.t.Cleanup(func() { r.close(l) })
	r.waitOpen()
}

func (r *rig) close(l *Ledger) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		r.t.Error(err)
	}
}

func (r *rig) waitOpen() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := r.WaitOpen(ctx); err != nil {
		r.t.Fatal(err)
	}
}

// waitState waits until the fence is in a state.
func (r *rig) waitState(want string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		r.Ledger.mu.RLock()
		state, changed, reason := r.state.String(), r.changed, r.reason
		r.Ledger.mu.RUnlock()
		if state == want {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			r.t.Fatalf("fence is %s (%s), want %s", state, reason, want)
		}
	}
}

// put writes one card; an acknowledged one is remembered.
func (r *rig) put(name, body string) error {
	_, err := r.Update(context.Background(), person, 1, func(tx *Tx) error {
		tx.Put(r.cards, name, "text/vcard", 0, InlineBody([]byte(body)))
		return nil
	})
	if err == nil {
		r.mu.Lock()
		r.acked[name] = body
		r.mu.Unlock()
	}
	return err
}

func (r *rig) mustPut(name, body string) {
	r.t.Helper()
	if err := r.put(name, body); err != nil {
		r.t.Fatalf("put %s: %v", name, err)
	}
}

func (r *rig) get(name string) (body string, err error) {
	err = r.View(context.Background(), person, func(v *View) error {
		res, err := v.Resource(r.cards, name)
		if err != nil {
			return err
		}
		b, err := v.Body(res)
		body = string(b)
		return err
	})
	return body, err
}

// verify checks that everything acknowledged is there.
func (r *rig) verify() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, want := range r.acked {
		if got, err := r.get(name); err != nil || got != want {
			r.t.Errorf("%s: got %.40q, %v; want %.40q", name, got, err, want)
		}
	}
}

func (r *rig) token() (token string, head holdfast.Head) {
	r.t.Helper()
	if err := r.View(context.Background(), person, func(v *View) (err error) {
		head, err = v.LastChange(r.cards)
		token = v.SyncToken(head)
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	return token, head
}

func (r *rig) parse(token string) (seq holdfast.Seq, err error) {
	err = r.View(context.Background(), person, func(v *View) error {
		p, err := v.ParseSyncToken(token, 3)
		seq = p.Since
		return err
	})
	return seq, err
}

func (r *rig) incidents() []string {
	r.t.Helper()
	entries, err := os.ReadDir(filepath.Join(r.cfg.Dir, "incidents"))
	if err != nil {
		r.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// editMembers changes which mirrors count, in the head file of a data directory that nobody uses.
func editMembers(dir string, edit func([]member) []member) error {
	return editHeads(dir, func(f *headFile) { f.Members = edit(f.Members) })
}

// editHeads changes the head file of a data directory that nobody uses.
func editHeads(dir string, edit func(f *headFile)) error {
	name := filepath.Join(dir, "heads")
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var f headFile
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	edit(&f)
	if b, err = f.encode(); err != nil {
		return err
	}
	return os.WriteFile(name, b, 0o600)
}
