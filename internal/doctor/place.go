package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/config"
	"holdfast/internal/durable"
	"holdfast/internal/server"
)

const (
	markerName  = "holdfast-mirror.json"  // docs/formats/mirror.md
	witnessName = "holdfast-witness.json" // docs/formats/witness.md
	headsName   = "heads"
	maxSmall    = 64 << 10 // bytes of a small file that is read
	leastFree   = 64 << 20 // bytes; near the 32 MiB that the ledger keeps free
	littleFree  = 2 << 30
)

const unmountedTodo = "if it lies on a disk of its own, mount that disk; create nothing in its place. docs/runbooks/mirror.md"

// data looks at the data directory. If it is none, nothing else can be looked at.
func (p *patient) data(context.Context) []Finding {
	info, err := os.Stat(p.Dir)
	if err != nil {
		return []Finding{bad(unmountedTodo, "%s: %v", p.Dir, reason(err))}
	}
	if !info.IsDir() {
		return []Finding{bad("give --data the directory that holdfast init made", "%s is a file", p.Dir)}
	}
	if _, err := os.Stat(filepath.Join(p.Dir, config.FileName)); err != nil {
		return []Finding{bad(unmountedTodo+" If there never was one: holdfast init --data DIR --mirror DIR2", "%s has no %s, so it is no data directory", p.Dir, config.FileName)}
	}
	p.there = true
	var out []Finding
	if _, err := os.Stat(filepath.Join(p.Dir, headsName)); err != nil {
		out = append(out, bad("do not start a server on it: see docs/formats/heads.md and docs/runbooks/lost-store.md", "%s has no file %q: the data directory is not whole", p.Dir, headsName))
	}
	out = append(out, private(p.Dir, info)...)
	return append(p.place("data", p.Dir), out...)
}

// private says whether others can look into a directory or file of ours.
func private(name string, info os.FileInfo) []Finding {
	if open := info.Mode().Perm() & 0o077; open != 0 {
		mode := "0600"
		if info.IsDir() {
			mode = "0700"
		}
		return []Finding{warn("chmod "+mode+" "+name, "%s can be read by others on this machine (mode %04o)", name, info.Mode().Perm())}
	}
	return nil
}

// place looks at the file system under a path that exists. The first finding is what it is.
func (p *patient) place(what, path string) []Finding {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return []Finding{bad("", "%s: %v", path, reason(err))}
	}
	free, ferr := durable.FreeOf(durable.Disk, real)
	if ferr != nil {
		free = -1
	}
	m := p.mountOf(real)
	out := []Finding{ok("%s is there%s, %s free", path, on(m), size(free))}
	if free >= 0 && free < leastFree {
		out = append(out, bad("make room on it; writes are refused until there is", "only %s are free on the disk of %s", size(free), what))
	} else if free >= 0 && free < littleFree {
		out = append(out, warn("make room before it is full", "only %s are free on the disk of %s", size(free), what))
	}
	if err := syncs(real); err != nil {
		out = append(out, bad("use a file system on which fsync works; without it nothing is durable", "fsync does not work in %s: %v", path, reason(err)))
	}
	return append(out, kindOf(m, path)...)
}

func on(m *mount) string {
	if m == nil {
		return ""
	}
	return fmt.Sprintf(", on %s (%s at %s)", m.kind, m.source, m.point)
}

// syncs tries fsync on a directory: it writes nothing that was not to be written.
func syncs(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// kindOf says what is to be known of a kind of file system.
func kindOf(m *mount, path string) []Finding {
	if m == nil {
		return nil
	}
	var out []Finding
	if m.has("ro") {
		out = append(out, bad("mount it writable; a disk that failed is often mounted again read-only: look at dmesg", "%s is mounted read-only", path))
	}
	if m.has("nobarrier", "barrier=0", "nobarriers") {
		out = append(out, warn("mount it without nobarrier", "%s is mounted without write barriers: a power cut may take what was synced", path))
	}
	switch {
	case m.kind == "tmpfs" || m.kind == "ramfs":
		out = append(out, bad("put it on a disk", "%s lies in memory (%s): a restart of the machine empties it", path, m.kind))
	case m.kind == "overlay" || m.kind == "aufs":
		out = append(out, warn("give the container a volume for it", "%s lies inside a container's own file system: it goes when the container goes", path))
	case strings.HasPrefix(m.kind, "nfs") && m.has("soft"):
		out = append(out, warn("mount it with hard", "%s is an NFS mount with the option soft: writes can get lost on a slow network", path))
	case strings.HasPrefix(m.kind, "nfs"), m.kind == "cifs", m.kind == "smb3", m.kind == "9p", m.kind == "ceph", strings.HasPrefix(m.kind, "fuse"):
		out = append(out, warn("fine if its server really syncs to disk; each write waits for it, and hangs when it hangs", "%s lies on %s: what fsync means there is up to the other side", path, m.kind))
	case m.kind == "vfat" || m.kind == "exfat" || m.kind == "msdos":
		out = append(out, warn("use ext4 or xfs on it", "%s lies on %s, which has no journal and no permissions", path, m.kind))
	}
	return out
}

// mirror looks at one mirror's place.
func (p *patient) mirror(c config.Mirror) []Finding {
	return p.marked("mirror "+c.Name, c.Path, markerName)
}

// witness looks at the third place.
func (p *patient) witness(context.Context) []Finding {
	return p.marked("the head witness", p.settings.Witness, witnessName)
}

// marked looks at a place that has a marker file of ours. Without it the place is absent.
func (p *patient) marked(what, path, file string) []Finding {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = errors.New("it is a file")
	}
	if err != nil {
		return []Finding{bad(unmountedTodo, "%s: %v", path, reason(err))}
	}
	var marker struct {
		Server string `json:"server"`
	}
	b, err := readSmall(filepath.Join(path, file))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return []Finding{bad(unmountedTodo, "%s has no %s, so it is not there%s", path, file, on(p.mountOf(path)))}
	case err != nil:
		return []Finding{bad("can the user that runs the server read it? Look at dmesg for disk errors", "%s: %v", path, reason(err))}
	}
	if err := json.Unmarshal(b, &marker); err != nil {
		return []Finding{bad("look at dmesg for disk errors; docs/runbooks/mirror.md", "the marker %s of %s cannot be read", file, path)}
	}
	if marker.Server != p.settings.ServerID.String() {
		return []Finding{bad("is another server's disk mounted here? docs/runbooks/mirror.md", "%s belongs to another server (%.32q)", path, marker.Server)}
	}
	out := append(p.place(what, path), private(path, info)...)
	if mine, err := os.Stat(p.Dir); err == nil && owner(mine) != owner(info) {
		out = append(out, warn("chown it to the user that runs the server", "%s belongs to another user than %s", path, p.Dir))
	}
	return out
}

func owner(i os.FileInfo) uint32 {
	if st, ok := i.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return 0
}

const diskTodo = "give each copy a disk of its own: docs/runbooks/mirror.md"

// disks says whether copies share a disk.
func (p *patient) disks(context.Context) []Finding {
	type spot struct {
		name, path string
		disks      []string
	}
	spots := []spot{{"the store", p.Dir, nil}}
	for _, m := range p.settings.Mirrors {
		spots = append(spots, spot{"mirror " + m.Name, m.Path, nil})
	}
	if p.settings.Witness != "" {
		spots = append(spots, spot{"the head witness", p.settings.Witness, nil})
	}
	var out []Finding
	unknown, absent := false, false
	for i := range spots {
		real, err := filepath.EvalSymlinks(spots[i].path)
		if err != nil {
			absent = true // said by its own check
			continue
		}
		spots[i].disks = p.disksOf(p.mountOf(real))
		unknown = unknown || spots[i].disks == nil
		for _, o := range spots[:i] {
			if same, err := durable.SameDevice(durable.Disk, o.path, real); err == nil && same {
				out = append(out, warn(diskTodo, "%s and %s lie on the same file system: when its disk dies both are gone", o.name, spots[i].name))
				continue
			}
			for _, d := range spots[i].disks {
				if slices.Contains(o.disks, d) {
					out = append(out, warn(diskTodo, "%s and %s lie on the same disk (%s): when it dies both are gone", o.name, spots[i].name, d))
				}
			}
		}
	}
	switch {
	case len(out) > 0:
		return out
	case absent:
		return []Finding{ok("not compared: not every mirror is there")}
	case unknown:
		return []Finding{ok("different file systems; which disks they lie on cannot be told here")}
	}
	return []Finding{ok("store and mirrors lie on different disks")}
}

// readSettings checks holdfast.conf and what it names.
func (p *patient) readSettings(context.Context) []Finding {
	file := filepath.Join(p.Dir, config.FileName)
	c, err := config.Load(p.Dir)
	if err != nil {
		var out []Finding
		for line := range strings.SplitSeq(err.Error(), "\n") {
			out = append(out, bad("edit "+file+", then: holdfast config check --data "+config.ShellWord(p.Dir), "%s", line))
		}
		return out
	}
	p.settings = c
	out := []Finding{ok("%s: well", file)}
	for _, s := range c.Secrets() {
		path := s.Path
		if !filepath.IsAbs(path) {
			path = filepath.Join(p.Dir, path)
		}
		if _, err := config.ReadSecret(p.Dir, s.Path, s.Least); err != nil {
			out = append(out, bad("write it, readable by the user that runs the server alone", "%s: %v", s.Key, reason(err)))
		} else if info, err := os.Stat(path); err == nil {
			out = append(out, private(path, info)...)
		}
	}
	if c.TLSKey != "" {
		if info, err := os.Stat(server.Below(p.Dir, c.TLSKey)); err == nil && info.Mode().Perm()&0o007 != 0 {
			out = append(out, private(server.Below(p.Dir, c.TLSKey), info)...)
		}
	}
	return out
}

// incidents says when something happened last.
func (p *patient) incidents(context.Context) []Finding {
	newest, n := "", 0
	f, err := os.Open(filepath.Join(p.Dir, "incidents"))
	if err != nil {
		return []Finding{bad("look at the disk of "+p.Dir, "incidents cannot be listed: %v", reason(err))}
	}
	defer f.Close()
	for {
		names, err := f.Readdirnames(256)
		for _, name := range names {
			if strings.HasSuffix(name, ".md") {
				newest, n = max(newest, name), n+1 // names begin with the time
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return []Finding{bad("look at the disk of "+p.Dir, "incidents cannot be listed: %v", reason(err))}
		}
	}
	if n == 0 {
		return []Finding{ok("none so far")}
	}
	path := filepath.Join(p.Dir, "incidents", newest)
	stamp, _, _ := strings.Cut(newest, "Z-")
	if at, err := time.Parse("20060102T150405.000", stamp); err == nil && p.Now().Sub(at) < 7*24*time.Hour {
		return []Finding{warn("read "+path, "%d reports, the newest of %s", n, at.Format("2006-01-02 15:04 UTC"))}
	}
	return []Finding{ok("%d reports, all older than a week; the newest is %s", n, path)}
}

// readSmall reads a file that is small or wrong.
func readSmall(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSmall))
}

// reason takes the path out of an error of the system: the sentence around it has it.
func reason(err error) error {
	if pe := (*os.PathError)(nil); errors.As(err, &pe) && errors.Is(err, os.ErrNotExist) {
		return errors.New("it is not there")
	}
	return err
}

// size writes bytes for people.
func size(n int64) string {
	switch {
	case n < 0:
		return "unknown room"
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
