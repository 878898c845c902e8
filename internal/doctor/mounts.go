package doctor

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// mount is a line of /proc/self/mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	dev     string // major:minor
	point   string
	options []string // of the mount and of the file system
	kind    string   // ext4, nfs4, ...
	source  string
}

const maxMounts = 1 << 20 // bytes of mountinfo that are read

// readMounts returns what is mounted, in the order of mounting; nil where the system does not say.
func readMounts(name string) []mount {
	f, err := os.Open(name)
	if err != nil {
		return nil // no Linux: what needs it says that it does not know
	}
	defer f.Close()
	return parseMounts(io.LimitReader(f, maxMounts))
}

// parseMounts skips lines that it does not understand.
func parseMounts(r io.Reader) []mount {
	var all []mount
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<10)
	for lines.Scan() {
		left, right, ok := strings.Cut(lines.Text(), " - ")
		l, f := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 6 || len(f) < 2 {
			continue
		}
		m := mount{dev: l[2], point: unescape(l[4]), kind: f[0], source: unescape(f[1]), options: strings.Split(l[5], ",")}
		if len(f) > 2 {
			m.options = append(m.options, strings.Split(f[2], ",")...)
		}
		all = append(all, m)
	}
	return all
}

// unescape reads \040 and the like.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mountOf returns the mount that an absolute path without links lies on; nil: not known.
func (p *patient) mountOf(path string) *mount {
	var best *mount
	for i := range p.mounts {
		m := &p.mounts[i]
		below := m.point == "/" || path == m.point || strings.HasPrefix(path, m.point+"/")
		if below && (best == nil || len(m.point) >= len(best.point)) { // a later one covers an earlier one
			best = m
		}
	}
	return best
}

func (m *mount) has(options ...string) bool {
	return slices.ContainsFunc(m.options, func(o string) bool { return slices.Contains(options, o) })
}

const maxDepth = 6 // of devices upon devices

// disksOf returns the names of the physical disks below a mount, sorted; nil: not known.
func (p *patient) disksOf(m *mount) []string {
	if m == nil {
		return nil
	}
	dev := m.dev
	if strings.HasPrefix(dev, "0:") { // a device of the file system's own, as btrfs has
		var st syscall.Stat_t
		if !strings.HasPrefix(m.source, "/dev/") || syscall.Stat(m.source, &st) != nil {
			return nil
		}
		dev = devNumber(uint64(st.Rdev))
	}
	found := map[string]bool{}
	p.descend(filepath.Join(p.root, "sys/dev/block", dev), found, 0)
	var all []string
	for name := range found {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// devNumber writes a device number as Linux does (gnu_dev_major, gnu_dev_minor).
func devNumber(d uint64) string {
	major := d>>8&0xfff | d>>32&^0xfff
	minor := d&0xff | d>>12&^0xff
	return strconv.FormatUint(major, 10) + ":" + strconv.FormatUint(minor&0xffffffff, 10)
}

// descend follows a device in /sys to the disks it lies on: a partition's disk, the parts of a RAID or
// a mapped device, the disk of a loop device's file.
func (p *patient) descend(sysfs string, found map[string]bool, depth int) {
	path, err := filepath.EvalSymlinks(sysfs)
	if err != nil || depth > maxDepth {
		return
	}
	if _, err := os.Stat(filepath.Join(path, "partition")); err == nil {
		p.descend(filepath.Dir(path), found, depth+1)
		return
	}
	slaves, _ := os.ReadDir(filepath.Join(path, "slaves")) // none: it is a disk
	for _, s := range slaves {
		p.descend(filepath.Join(path, "slaves", s.Name()), found, depth+1)
	}
	if len(slaves) > 0 {
		return
	}
	if file, err := os.ReadFile(filepath.Join(path, "loop/backing_file")); err == nil {
		if m := p.mountOf(strings.TrimSpace(string(file))); m != nil && !strings.HasPrefix(m.dev, "0:") {
			p.descend(filepath.Join(p.root, "sys/dev/block", m.dev), found, depth+1)
			return
		}
	}
	found[filepath.Base(path)] = true
}
