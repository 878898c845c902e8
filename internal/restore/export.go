package restore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/ledger"
)

// ExportOrder says what to write where. Export is called again and again with the Next that it returned.
type ExportOrder struct {
	Account  holdfast.AccountID
	Snapshot string
	Dir      string // absolute; new or empty at the first call
	From     Cursor
	Files    int   // so far
	Bytes    int64 // so far
}

// Exported is what one step of an export did.
type Exported struct {
	Files int    `json:"files"` // written by all steps so far
	Bytes int64  `json:"bytes"`
	Next  Cursor `json:"next"`
	Done  bool   `json:"done"` // the last step: the export is complete
}

// One step of an export writes at most so many files and, but for one large one, bytes.
const (
	exportFiles = 200
	exportBytes = 64 << 20
)

// exportNote is written last: an export without it is not complete.
const exportNote = "ABOUT-THIS-EXPORT.txt"

// Export writes what was in a snapshot as plain files, each collection as a directory: .vcf, .ics, and files
// as they were put. It does one bounded step; every file is durable when it returns. The last step writes
// ABOUT-THIS-EXPORT.txt. Bodies are verified against their hashes. ErrExists: Dir is not empty.
func Export(ctx context.Context, l *ledger.Ledger, o ExportOrder) (*Exported, error) {
	if o.Account == holdfast.Server {
		return nil, fmt.Errorf("the server's own account is not exported: %w", holdfast.ErrDenied)
	}
	if !filepath.IsAbs(o.Dir) {
		return nil, fmt.Errorf("directory %q is not an absolute path: %w", o.Dir, holdfast.ErrInvalid)
	}
	s, err := l.Snapshot(ctx, o.Account, o.Snapshot)
	if err != nil {
		return nil, err
	}
	if o.From == (Cursor{}) {
		if err := newDir(o.Dir); err != nil {
			return nil, err
		}
	}
	e := &export{Exported: Exported{Next: o.From, Files: o.Files, Bytes: o.Bytes}, dir: o.Dir}
	if err := e.step(ctx, l, s); err != nil {
		return nil, fmt.Errorf("export snapshot %s: %w", s.Name, err)
	}
	return &e.Exported, nil
}

func newDir(dir string) error {
	names, err := durable.List(durable.Disk, dir)
	if errors.Is(err, holdfast.ErrNotFound) {
		return durable.MkdirAll(durable.Disk, dir)
	}
	if err == nil && len(names) > 0 {
		err = fmt.Errorf("%s is not empty, and an export overwrites nothing: %w", dir, holdfast.ErrExists)
	}
	return err
}

type export struct {
	Exported
	dir string
}

// exportFile is one member on its way to its file.
type exportFile struct {
	name string
	body io.ReadSeekCloser
}

func (e *export) step(ctx context.Context, l *ledger.Ledger, s *ledger.Snapshot) error {
	var path string
	var files []exportFile
	var made time.Time
	defer func() {
		for _, f := range files {
			_ = f.body.Close() // opened for reading
		}
	}()
	err := at(ctx, l, s, func(v *ledger.View) error {
		nodes, err := tree(v)
		if err != nil {
			return err
		}
		if e.Next.Collection >= len(nodes) {
			e.Done = true
			_, made, err = v.Made(s.Seq)
			return err
		}
		n := &nodes[e.Next.Collection]
		if path, err = freeDir(e.dir, fileNames(n.path)); err != nil {
			return err
		}
		page, err := v.Resources(n.ID, e.Next.After, exportFiles)
		if err != nil {
			return err
		}
		last := len(page) < exportFiles
		size := int64(0)
		for i := range page {
			if size += page[i].Size; i > 0 && size > exportBytes {
				page, last = page[:i], false
				break
			}
			body, err := v.OpenBody(&page[i])
			if err != nil {
				return err
			}
			files = append(files, exportFile{memberName(&page[i], n.Kind), body})
		}
		if e.Next.After = ""; last {
			e.Next.Collection++
		} else {
			e.Next.After = page[len(page)-1].Name
		}
		return nil
	})
	if err != nil {
		return err
	}
	if e.Done {
		return e.note(s, made)
	}
	return e.write(path, files)
}

// freeDir returns the directory of a collection. A member of the one above may have been written under that
// name: two names may be one as names of files. It finds the same again in every step, because the members of
// a collection are all written before the collections in it.
func freeDir(dir string, names []string) (string, error) {
	for _, name := range names {
		at := filepath.Join(dir, name)
		for n := 2; ; n++ {
			info, err := durable.Disk.Stat(at)
			if errors.Is(err, holdfast.ErrNotFound) || err == nil && info.Mode.IsDir() {
				break
			}
			if err != nil {
				return "", err
			}
			at = filepath.Join(dir, fmt.Sprintf("%s (%d)", name, n))
		}
		dir = at
	}
	return dir, nil
}

// write makes one collection's directory and the files of one page, durably, without the view.
func (e *export) write(dir string, files []exportFile) error {
	if err := durable.MkdirAll(durable.Disk, dir); err != nil {
		return err
	}
	for _, f := range files {
		size, err := writeFile(dir, f)
		if err != nil {
			return err
		}
		e.Files++
		e.Bytes += size
	}
	return nil
}

// writeFile finds a name that is free: two names may be one to the file system.
func writeFile(dir string, f exportFile) (int64, error) {
	name := f.name
	for n := 2; n < 1000; n++ {
		if _, err := f.body.Seek(0, io.SeekStart); err != nil {
			return 0, fmt.Errorf("read %s again: %w", name, err)
		}
		size, _, err := durable.CreateFrom(durable.Disk, filepath.Join(dir, name), f.body, durable.FilePerm)
		if !errors.Is(err, holdfast.ErrExists) {
			return size, err
		}
		ext := filepath.Ext(f.name)
		name = fmt.Sprintf("%s (%d)%s", strings.TrimSuffix(f.name, ext), n, ext)
	}
	return 0, fmt.Errorf("write %s: every name like it is taken: %w", filepath.Join(dir, f.name), holdfast.ErrExists)
}

func (e *export) note(s *ledger.Snapshot, made time.Time) error {
	text := fmt.Sprintf(`Account %d as of its change %d, made %s.
Snapshot %s: %s.
%d files, %d bytes. Each directory is a collection. Names that a file system cannot hold were changed a little.
This file was written last: the export is complete.
`, s.Account, s.Seq, made.Format("2006-01-02 15:04:05 UTC"), s.Name, s.Why, e.Files, e.Bytes)
	if err := durable.Create(durable.Disk, filepath.Join(e.dir, exportNote), []byte(text), durable.FilePerm); err != nil {
		return fmt.Errorf("finish the export: %w", err)
	}
	return nil
}

// maxFileName is the longest name of a file that every system takes, less room for a number, in bytes.
const maxFileName = 200

func fileNames(names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = fileName(n)
	}
	return out
}

// memberName adds the ending that programs know a contact or an event by, if there is none.
func memberName(r *ledger.Resource, k holdfast.Kind) string {
	name := fileName(r.Name)
	end := map[holdfast.Kind]string{holdfast.KindCard: ".vcf", holdfast.KindCalendar: ".ics", holdfast.KindMessage: ".eml"}[k]
	if end != "" && !strings.EqualFold(filepath.Ext(name), end) {
		name += end
	}
	if name == exportNote {
		name = "_" + name
	}
	return name
}

// fileName makes a file's name of a member's: no path, nothing hidden or reserved, nothing too long.
func fileName(name string) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || strings.ContainsRune(`/\:*?"<>|`, r) {
			return '_'
		}
		return r
	}, name)
	if strings.HasPrefix(clean, ".") || strings.Trim(clean, " .") == "" {
		clean = "_" + clean
	}
	clean = strings.TrimRight(clean, " .")
	if len(clean) > maxFileName {
		sum := sha256.Sum256([]byte(name))
		ext := filepath.Ext(clean)
		if len(ext) > 10 {
			ext = ""
		}
		clean = strings.ToValidUTF8(clean[:maxFileName-20-len(ext)], "") + "-" + hex.EncodeToString(sum[:8]) + ext
	}
	return clean
}
