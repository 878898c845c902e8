package ledger

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"holdfast"
	"holdfast/internal/durable/simdisk"
	"holdfast/internal/store/simvfs"
)

// Fault 7: the sync of a commit fails and the process restarts, without a reboot. What the failed sync lost is still
// in the system's memory, where SQLite reads it and goes on behind it; the next change that is acknowledged must be on
// the store's medium all the same.
func TestFailedSyncOfStore(t *testing.T) {
	t.Parallel()
	d := simdisk.New(7)
	v, err := simvfs.Register(d, simvfs.Options{})
	must(t, err)
	t.Cleanup(v.Close)
	must(t, d.Mkdir("/data", 0o700))
	r := &rig{t: t, acked: map[string]string{}, cfg: Config{
		Dir: "/data", Server: simServer, MinFree: 1, FS: d, vfs: v.Name(), Mirrors: []MirrorConfig{{Name: "disk2", Path: "/mirror"}},
	}}
	must(t, Create(context.Background(), r.cfg))
	r.open()
	r.begin()
	failSync(d, "-wal")
	if err := r.put("a", "1"); !errors.Is(err, holdfast.ErrNotDurable) {
		t.Fatalf("a commit whose sync failed: %v", err)
	}
	if err := <-r.Fatal(); !errors.Is(err, holdfast.ErrFatal) {
		t.Errorf("fatal: %v", err)
	}
	r.close(r.Ledger)
	r.open()
	r.mustPut("b", "2")
	head, _ := r.AccountHead(person)
	if got, err := storeHead(d.Medium(9), person, head.Head.Seq); err != nil || got != head.Head {
		t.Errorf("the medium of the store has %s, %v; %s was acknowledged", got, err, head.Head)
	}
}

// begin makes the account's address book.
func (r *rig) begin() {
	_, err := r.Update(r.t.Context(), person, 0, func(tx *Tx) error {
		tx.PutCollection(&Collection{ID: holdfast.Root, Kind: holdfast.KindFile})
		r.cards = tx.NewCollection(holdfast.Root, "contacts", holdfast.KindCard, nil)
		return nil
	})
	must(r.t, err)
}

// failSync makes the next sync of a file whose name ends so fail.
func failSync(d *simdisk.Disk, suffix string) {
	d.FailNext(func(s simdisk.Step) bool { return s.Op == "sync" && strings.HasSuffix(s.Name, suffix) }, syscall.EIO)
}

// Fault 7: a store is made anew and the sync of a directory fails; the process restarts. The names that were made may
// be seen and yet never become durable: what is acknowledged next must be on the medium all the same.
func TestFailedSyncOfNewStore(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"/data", "/data/store"} {
		for seed := range uint64(8) { // which names a failed sync loses is drawn
			d := simdisk.New(100 + seed)
			v, err := simvfs.Register(d, simvfs.Options{})
			must(t, err)
			t.Cleanup(v.Close)
			must(t, d.Mkdir("/data", 0o700))
			r := &rig{t: t, acked: map[string]string{}, cfg: Config{
				Dir: "/data", Server: simServer, MinFree: 1, FS: d, vfs: v.Name(), Mirrors: []MirrorConfig{{Name: "disk2", Path: "/mirror"}},
			}}
			must(t, Create(t.Context(), r.cfg))
			r.open()
			r.begin()
			r.close(r.Ledger)
			made := false
			for _, name := range []string{"holdfast.db", "holdfast.db-wal", "holdfast.db-shm"} {
				if err := d.Remove("/data/store/" + name); err != nil && !errors.Is(err, holdfast.ErrNotFound) {
					t.Fatal(err)
				}
			}
			must(t, d.Remove("/data/store"))
			must(t, d.SyncDir("/data"))
			d.FailNext(func(s simdisk.Step) bool {
				made = made || s.Op == "mkdir" && s.Name == "/data/store"
				return made && s.Op == "syncdir" && s.Name == dir
			}, syscall.EIO)
			l, err := Open(t.Context(), r.cfg)
			must(t, err)
			if err := <-l.Fatal(); !errors.Is(err, holdfast.ErrFatal) {
				t.Errorf("fatal: %v", err)
			}
			r.close(l)
			r.open()
			r.mustPut("b", "2")
			head, _ := r.AccountHead(person)
			if got, err := storeHead(d.Medium(9), person, head.Head.Seq); err != nil || got != head.Head {
				t.Errorf("%s, seed %d: the medium of the store has %s, %v; %s was acknowledged", dir, seed, got, err, head.Head)
			}
			r.close(r.Ledger)
		}
	}
}
