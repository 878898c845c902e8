package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"testing"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/durable/simdisk"
	"holdfast/internal/store/simvfs"
)

// badSectors is a disk of which the database's file has sectors that it does not give any more: EIO. Writing one maps
// another in its place, unless stuck. A file that takes its name later lies elsewhere on the disk.
type badSectors struct {
	durable.FS
	mu    sync.Mutex
	of    *sectors
	stuck bool
	file  string // in the store's directory; "" is the database's
}

// sectors of one file, by page; nil: all.
type sectors struct {
	bad map[int64]bool
	all bool
	hit int // reads that failed
}

const dbPage = 4096

// spoil makes pages unreadable; none: the whole file.
func (d *badSectors) spoil(pages ...int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.of = &sectors{bad: map[int64]bool{}, all: len(pages) == 0}
	for _, p := range pages {
		d.of.bad[p] = true
	}
}

func (d *badSectors) hits() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.of.hit
}

func (d *badSectors) Rename(from, to string, replace bool) error {
	if strings.HasSuffix(from, "/store") {
		d.mu.Lock()
		d.of = &sectors{hit: d.of.hit}
		d.mu.Unlock()
	}
	return d.FS.Rename(from, to, replace)
}

func (d *badSectors) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil || !strings.HasSuffix(name, "/store/holdfast.db"+d.file) {
		return f, err
	}
	return &sectorFile{f, d}, nil
}

type sectorFile struct {
	durable.File
	d *badSectors
}

func (f *sectorFile) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	s, bad := f.d.of, f.d.of.all
	for at := off / dbPage; at*dbPage < off+int64(len(p)); at++ {
		bad = bad || s.bad[at]
	}
	if bad {
		s.hit++
	}
	f.d.mu.Unlock()
	if bad {
		return 0, fmt.Errorf("read at %d: %w", off, syscall.EIO)
	}
	return f.File.ReadAt(p, off)
}

func (f *sectorFile) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	if !f.d.stuck {
		delete(f.d.of.bad, off/dbPage)
	}
	f.d.mu.Unlock()
	return f.File.WriteAt(p, off)
}

// sectorRig is a server on a simulated disk, with its database written to the file.
func sectorRig(t *testing.T, stuck bool) (*rig, *badSectors) {
	t.Helper()
	d := &badSectors{FS: simdisk.New(31), of: &sectors{}, stuck: stuck}
	v, err := simvfs.Register(d, simvfs.Options{})
	must(t, err)
	t.Cleanup(v.Close)
	must(t, d.Mkdir("/data", 0o700))
	r := &rig{t: t, acked: map[string]string{}, cfg: Config{
		Dir: "/data", Server: simServer, MinFree: 1, FS: d, vfs: v.Name(), Mirrors: []MirrorConfig{{Name: "disk2", Path: "/mirror"}},
	}}
	must(t, Create(context.Background(), r.cfg))
	r.open()
	_, err = r.Update(t.Context(), person, 0, func(tx *Tx) error {
		tx.PutCollection(&Collection{ID: holdfast.Root, Kind: holdfast.KindFile})
		r.cards = tx.NewCollection(holdfast.Root, "contacts", holdfast.KindCard, nil)
		return nil
	})
	must(t, err)
	for i := range 40 {
		r.mustPut(fmt.Sprintf("card%02d", i), strings.Repeat(string(rune('a'+i%26)), 3000))
	}
	r.restart(func() {}) // the log's pages get into the file
	return r, d
}

// pages returns how many the database's file has.
func (r *rig) pages() int64 {
	r.t.Helper()
	i, err := r.cfg.FS.Stat("/data/store/holdfast.db")
	must(r.t, err)
	return i.Size / dbPage
}

// Fault 6: sectors of the store cannot be read (EIO), when the server starts. It mends the store or makes it anew from the mirror, and
// serves everything; it does not end for a restart that would meet the same.
func TestSectorsAtOpen(t *testing.T) {
	t.Parallel()
	for name, pages := range map[string]func(n int64) []int64{
		"the whole file":    func(int64) []int64 { return nil },
		"the first page":    func(int64) []int64 { return []int64{0} },
		"one of the middle": func(n int64) []int64 { return []int64{n / 2} },
		"the last":          func(n int64) []int64 { return []int64{n - 1} },
		"every third": func(n int64) (all []int64) {
			for at := int64(2); at < n; at += 3 {
				all = append(all, at)
			}
			return all
		},
	} {
		for _, stuck := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stuck %v", name, stuck), func(t *testing.T) {
				t.Parallel()
				r, d := sectorRig(t, stuck)
				r.restart(func() { d.spoil(pages(r.pages())...) })
				if d.hits() == 0 {
					t.Fatal("nothing was read from the bad sectors")
				}
				r.wholeSectors()
			})
		}
	}
}

// wholeSectors proves that everything is served, after a scrub at the latest, and that writes are taken.
func (r *rig) wholeSectors() {
	r.t.Helper()
	r.waitOpen()
	r.scrubAll()
	until(r.t, "everything is served", func() bool {
		for name, want := range r.acked {
			got, err := r.get(name)
			if err == nil && got != want {
				r.t.Fatalf("%s: %.20q was served", name, got)
			}
			if err != nil {
				return false
			}
		}
		return true
	})
	r.mustPut("new", "1")
	r.verify()
	if s := r.scrubAll(); s.Unhealed > 0 || len(r.Status().Closed) > 0 {
		r.t.Errorf("unhealed %+v, closed %+v", s.Damage, r.Status().Closed)
	}
	select {
	case err := <-r.Fatal():
		r.t.Errorf("the process was to end: %v", err)
	default:
	}
	r.restart(func() {})
	r.verify()
}

// Fault 6: sectors become unreadable while the server serves. What lies in them is an error until it is whole again; nothing is
// served that is wrong, and the process does not end.
func TestSectorsWhileServing(t *testing.T) {
	t.Parallel()
	for _, stuck := range []bool{false, true} {
		t.Run(fmt.Sprint("stuck ", stuck), func(t *testing.T) {
			t.Parallel()
			r, d := sectorRig(t, stuck)
			var pages []int64
			for at := int64(5); at < r.pages(); at += 4 {
				pages = append(pages, at)
			}
			d.spoil(pages...)
			failed := 0
			for name, want := range r.acked {
				got, err := r.get(name)
				switch {
				case err == nil && got != want, errors.Is(err, holdfast.ErrNotFound):
					t.Fatalf("%s: %.20q, %v", name, got, err)
				case err != nil:
					failed++
				}
			}
			if failed == 0 || d.hits() == 0 {
				t.Fatalf("%d reads failed, %d sectors were met", failed, d.hits())
			}
			r.wholeSectors()
		})
	}
}

// Fault 6: the same for the store's log.
func TestSectorsOfLog(t *testing.T) {
	t.Parallel()
	r, d := sectorRig(t, true)
	d.mu.Lock()
	d.file = "-wal"
	d.mu.Unlock()
	r.restart(func() {})
	for i := range 20 {
		r.mustPut(fmt.Sprintf("late%02d", i), strings.Repeat("l", 3000))
	}
	d.spoil()
	r.wholeSectors()
	if d.hits() == 0 {
		t.Error("nothing was read from the bad sectors")
	}
}

// Fault 7: an error of a write, or of a sync, of the store is the end of the process: only what is read again from the medium
// is known.
func TestWriteErrorIsFatal(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"write", "sync"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			r, d := sectorRig(t, false)
			d.FS.(*simdisk.Disk).FailNext(func(s simdisk.Step) bool { return s.Op == op && strings.HasSuffix(s.Name, "-wal") }, syscall.EIO)
			if err := r.put("x", "1"); !errors.Is(err, holdfast.ErrNotDurable) {
				t.Errorf("a write: %v, want ErrNotDurable", err)
			}
			if err := <-r.Fatal(); !errors.Is(err, holdfast.ErrFatal) {
				t.Errorf("fatal: %v", err)
			}
			r.close(r.Ledger)
			r.open()
			r.verify()
		})
	}
}
