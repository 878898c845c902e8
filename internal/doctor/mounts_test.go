package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const mountinfo = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 8:2 / /srv rw - ext4 /dev/sda2 rw
31 22 8:17 / /mnt/usb\040disk rw,nosuid - vfat /dev/sdb1 rw
32 22 9:0 / /mnt/raid rw - xfs /dev/md0 rw
33 22 7:0 / /mnt/image ro - ext4 /dev/loop0 ro
34 22 0:50 / /mnt/nas rw - nfs4 nas:/export rw,soft,addr=192.0.2.1
35 22 0:51 / /run rw - tmpfs tmpfs rw
garbage
36 22 0:52 / /short - x
37 22 8:33 / /srv/over rw - ext4 /dev/sdc1 rw,nobarrier
38 22 0:53 / /srv/over rw - overlay overlay rw
`

// machine is a patient with disks of its own: sda (two partitions), sdb, a RAID of sda2 and sdc, a loop device on /srv.
func machine(t *testing.T) *patient {
	t.Helper()
	root := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := func(name string) { must(os.MkdirAll(filepath.Join(root, name), 0o700)) }
	file := func(name, text string) { must(os.WriteFile(filepath.Join(root, name), []byte(text), 0o600)) }
	link := func(to, name string) { must(os.Symlink(filepath.Join(root, to), filepath.Join(root, name))) }
	dir("sys/dev/block")
	for dev, name := range map[string]string{"8:1": "sda/sda1", "8:2": "sda/sda2", "8:17": "sdb/sdb1", "8:33": "sdc/sdc1"} {
		dir("sys/devices/" + name)
		file("sys/devices/"+name+"/partition", "1\n")
		link("sys/devices/"+name, "sys/dev/block/"+dev)
	}
	dir("sys/devices/md0/slaves")
	link("sys/devices/sda/sda2", "sys/devices/md0/slaves/sda2")
	link("sys/devices/sdc/sdc1", "sys/devices/md0/slaves/sdc1")
	link("sys/devices/md0", "sys/dev/block/9:0")
	dir("sys/devices/loop0/loop")
	file("sys/devices/loop0/loop/backing_file", "/srv/image.ext4\n")
	link("sys/devices/loop0", "sys/dev/block/7:0")
	return &patient{Options: Options{root: root}, mounts: parseMounts(strings.NewReader(mountinfo))}
}

func TestDisksOf(t *testing.T) {
	p := machine(t)
	for path, want := range map[string][]string{
		"/home/x": {"sda"}, "/srv/holdfast": {"sda"}, "/mnt/usb disk/m": {"sdb"}, "/mnt/raid": {"sda", "sdc"}, "/mnt/image/a": {"sda"}, "/mnt/nas": nil, "/srvx": {"sda"},
	} {
		if got := p.disksOf(p.mountOf(path)); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	if m := p.mountOf("/srv/over/x"); m == nil || m.kind != "overlay" {
		t.Errorf("the later mount counts: got %+v", m)
	}
	if p.disksOf(nil) != nil || (&patient{}).mountOf("/x") != nil {
		t.Error("what is not known is said to be known")
	}
}

func TestKinds(t *testing.T) {
	p := machine(t)
	for path, c := range map[string]struct {
		level Level
		text  string
	}{
		"/mnt/image":    {Problem, "read-only"},
		"/run/x":        {Problem, "lies in memory"},
		"/mnt/usb disk": {Warning, "no journal"},
		"/mnt/nas":      {Warning, "option soft"},
		"/srv/over":     {Warning, "container"},
	} {
		found := kindOf(p.mountOf(path), path)
		for i := range found {
			found[i].Check = path
		}
		want(t, found, path, c.level, c.text)
	}
	if found := kindOf(p.mountOf("/srv/a"), "/srv/a"); len(found) > 0 {
		t.Errorf("ext4: %+v", found)
	}
	if found := kindOf(&mount{kind: "ext4", options: []string{"rw", "nobarrier"}}, "/x"); len(found) != 1 {
		t.Errorf("nobarrier: %+v", found)
	}
}

func TestOpenFiles(t *testing.T) {
	p := machine(t)
	for text, want := range map[string]uint64{
		"Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096                 files\n": 1024,
		"Max open files            unlimited            unlimited            files\n":                                       1 << 40,
		"nothing": 0,
	} {
		dir := filepath.Join(p.root, "proc/77")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "limits"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := p.openFiles(77); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add(mountinfo)
	f.Add(`1 2 3:4 / /a\0 x - y \999`)
	f.Fuzz(func(t *testing.T, text string) {
		p := &patient{Options: Options{root: "/nowhere"}, mounts: parseMounts(strings.NewReader(text))}
		for i := range p.mounts {
			p.disksOf(&p.mounts[i])
			kindOf(&p.mounts[i], "/x")
		}
		p.mountOf("/a/b")
	})
}
