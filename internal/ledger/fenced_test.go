package ledger

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
)

// F4: what each kind of sync token gets.
func TestSyncTokens(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	good, head := r.token()
	if seq, err := r.parse(good); err != nil || seq != head.Seq {
		t.Errorf("good token: %v, %v", seq, err)
	}
	for name, token := range map[string]string{
		"empty":   "",
		"foreign": "http://sabre.io/ns/sync/12",
		"uuid":    "0F0C9F0A-58A5-4F50-9E2F-7A6A9B2B7D11",
		"short":   good[:40],
	} {
		if _, err := r.parse(token); !errors.Is(err, holdfast.ErrToken) {
			t.Errorf("%s: got %v, want ErrToken", name, err)
		}
	}
	last := good[:len(good)-1] + string("01"[btoi(good[len(good)-1] == '0')])
	if _, err := r.parse(last); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("wrong MAC: got %v, want ErrFenced", err)
	}
	if _, err := r.get("a"); err != nil {
		t.Errorf("a wrong MAC closed the account: %v", err)
	}
	if n := r.Status().Foreign; n != 1 {
		t.Errorf("status counts %d foreign tokens, want 1", n)
	}
	var ahead string
	must(t, r.View(t.Context(), person, func(v *View) error {
		ahead = v.SyncToken(holdfast.Head{Seq: head.Seq + 5, Hash: head.Hash})
		return nil
	}))
	if _, err := r.parse(ahead); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("token ahead: got %v, want ErrFenced", err)
	}
	if _, err := r.get("a"); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("after proof of loss the account answers %v, want ErrFenced", err)
	}
	if err := r.View(t.Context(), holdfast.Server, func(*View) error { return nil }); err != nil {
		t.Errorf("another account: %v", err)
	}
	r.close(r.Ledger)
	r.open()
	if _, err := r.get("a"); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("a restart forgot the witness: %v", err)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Row 18: a copy of the data directory is started on the same mirror. The first server must stop.
func TestTwoServersOneMirror(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	copied := r.cfg
	copied.Dir = filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(copied.Dir, os.DirFS(r.cfg.Dir)))
	second := &rig{t: t, cfg: copied, cards: r.cards, acked: map[string]string{"a": "1"}}
	second.open()
	second.mustPut("b", "2")
	if err := r.put("c", "3"); err == nil {
		t.Error("the first server still acknowledges")
	}
	if _, err := r.get("a"); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("the first server still shows data: %v", err)
	}
	second.verify()
	if got := r.Status(); got.State != "closed" {
		t.Errorf("first server is %s: %s", got.State, got.Reason)
	}
}

// A data directory that was replaced (restored elsewhere, under another instance) finds itself fenced.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	r.close(r.Ledger)
	must(t, editHeads(r.cfg.Dir, func(f *headFile) { f.Instance = "00000000deadbeef" }))
	l, err := Open(t.Context(), r.cfg)
	must(t, err)
	defer r.close(l)
	r.Ledger = l
	r.waitReason("taken over")
}

func (r *rig) waitReason(text string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for {
		r.Ledger.mu.RLock()
		changed, reason := r.changed, r.reason.Full()
		r.Ledger.mu.RUnlock()
		if strings.Contains(reason, text) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			r.t.Fatalf("reason is %q, want %q", reason, text)
		}
	}
}

// Store and mirror are rolled back together under the running server, faster than the head files
// follow: the process itself knows what it has acknowledged.
func TestProcessIsAWitness(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPut("a", "1")
	r.close(r.Ledger)
	store, mirror, old := filepath.Join(r.cfg.Dir, "store"), r.cfg.Mirrors[0].Path, t.TempDir()
	heads, err := os.ReadFile(filepath.Join(r.cfg.Dir, "heads"))
	must(t, err)
	for dst, src := range map[string]string{"store": store, "mirror": mirror} {
		must(t, os.CopyFS(filepath.Join(old, dst), os.DirFS(src)))
	}
	r.open()
	for i := range 20 {
		r.mustPut(fmt.Sprint("b", i), "2")
	}
	// The claims stay as they are: it is the data that is old.
	must(t, os.CopyFS(filepath.Join(old, "term"), os.DirFS(filepath.Join(mirror, "term"))))
	for _, dir := range []string{store, mirror} {
		must(t, os.Rename(dir, dir+".newer"))
	}
	must(t, os.CopyFS(mirror, os.DirFS(filepath.Join(old, "mirror"))))
	must(t, os.RemoveAll(filepath.Join(mirror, "term")))
	must(t, os.CopyFS(filepath.Join(mirror, "term"), os.DirFS(filepath.Join(old, "term"))))
	must(t, os.CopyFS(store, os.DirFS(filepath.Join(old, "store"))))
	must(t, os.WriteFile(filepath.Join(r.cfg.Dir, "heads"), heads, 0o600))
	r.waitOpen()
	until(t, "the account is closed", func() bool {
		_, err := r.get("a")
		return r.Status().State == "open" && errors.Is(err, holdfast.ErrFenced) && len(r.Status().Closed) == 1
	})
	if err := r.View(t.Context(), holdfast.Server, func(*View) error { return nil }); err != nil {
		t.Errorf("another account: %v", err)
	}
	r.close(r.Ledger)
	r.open()
	if _, err := r.get("a"); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("a restart forgot it: %v", err)
	}
}
