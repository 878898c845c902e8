package ledger

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"holdfast/internal/durable"
)

// rotting is a disk that writes one byte of a large write to the mirror wrong, once it is told to, and says nothing.
type rotting struct {
	durable.FS
	armed atomic.Bool
}

func (d *rotting) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil || !strings.Contains(name, "/mirror/") {
		return f, err
	}
	return &rottingFile{f, d}, nil
}

type rottingFile struct {
	durable.File
	d *rotting
}

func (f *rottingFile) WriteAt(p []byte, off int64) (int, error) {
	if len(p) > 30_000 && f.d.armed.CompareAndSwap(true, false) {
		p = slices.Clone(p)
		p[len(p)/2] ^= 1
	}
	return f.File.WriteAt(p, off)
}

// Fault 5: a segment that was sealed does not read back, and the process is killed as soon as it knows. DIR/heads remembers: the
// next start reads that mirror whole and refills it before it counts again. Without the memory nobody would look.
func TestDoubtSurvivesKill(t *testing.T) {
	t.Parallel()
	d := &rotting{FS: durable.Disk}
	image := t.TempDir()
	var r *rig
	var once sync.Once
	killed := false
	r = newRig(t, func(c *Config) {
		c.FS, c.SegmentSize = d, 96<<10
		c.hooks.proof = func() {
			if hf, err := readHeadFile(*c); err == nil && len(hf.Doubted) > 0 {
				once.Do(func() {
					killed = true
					must(t, os.CopyFS(filepath.Join(image, "data"), os.DirFS(c.Dir)))
					must(t, os.CopyFS(filepath.Join(image, "disk2"), os.DirFS(c.Mirrors[0].Path)))
				})
			}
		}
	})
	r.cfg.hooks.proof = nil
	d.armed.Store(true)
	body := strings.Repeat("x", 31_000)
	for i := range 12 {
		until(t, "a write is taken", func() bool { return r.put("card"+string(rune('a'+i)), body) == nil })
	}
	r.waitOpen()
	r.verify()
	r.close(r.Ledger)
	if !killed {
		t.Fatal("the segment that does not read back was not seen")
	}
	for _, remembers := range []bool{true, false} {
		dir := t.TempDir()
		must(t, os.CopyFS(dir, os.DirFS(image)))
		k := &rig{t: t, cfg: r.cfg, cards: r.cards, acked: map[string]string{}}
		k.cfg.FS, k.cfg.Dir, k.cfg.Mirrors = nil, filepath.Join(dir, "data"), []MirrorConfig{{"disk2", filepath.Join(dir, "disk2")}}
		if !remembers {
			must(t, editHeads(k.cfg.Dir, func(f *headFile) { f.Doubted = nil }))
		}
		k.open()
		k.close(k.Ledger)
		hf, err := readHeadFile(k.cfg.withDefaults())
		must(t, err)
		if len(hf.Doubted) > 0 {
			t.Errorf("still doubted: %v", hf.Doubted)
		}
		m, b, err := openMirror(t.Context(), k.cfg.withDefaults(), k.cfg.Mirrors[0])
		must(t, err)
		if _, err = readWhole(t.Context(), m); (err == nil) != remembers {
			t.Errorf("the mirror read alone, the doubt remembered %v: %v", remembers, err)
		}
		must(t, b.Close())
	}
}
