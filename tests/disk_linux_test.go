package clients

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A disk is a file system of the real kernel in a sparse file behind a loop device. It can lose its power:
// what was not synced is gone then, as the file system's own shutdown ioctl has it.
type disk struct {
	t         *testing.T
	kind      string // ext4 or xfs
	image, at string
	mounted   bool
}

// errCannot says that this machine cannot play the part: no root, no loop devices, no mkfs.
var errCannot = errors.New("this machine cannot do it")

// probeDisks says why disks of a kind cannot be had here, or nil.
func probeDisks(t *testing.T, kind string) error {
	t.Helper()
	if os.Getuid() != 0 {
		return fmt.Errorf("loop devices need root: %w", errCannot)
	}
	d, err := newDisk(t, t.TempDir(), kind)
	if err == nil {
		err = d.mount()
	}
	if err == nil {
		err = d.cut()
	}
	if d != nil {
		err = errors.Join(err, d.unmount())
	}
	return err
}

// newDisk makes a file system in dir/image, to be mounted at dir/at.
func newDisk(t *testing.T, dir, kind string) (*disk, error) {
	t.Helper()
	d := &disk{t: t, kind: kind, image: filepath.Join(dir, "image"), at: filepath.Join(dir, "at")}
	if err := os.MkdirAll(d.at, 0o700); err != nil {
		return nil, err
	}
	// 320 MiB, of which few are ever written: the least xfs takes is 300.
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(d.image, 320<<20); err != nil {
		return nil, err
	}
	args := map[string][]string{
		"ext4": {"mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", "-J", "size=4", "-E", "nodiscard"},
		"xfs":  {"mkfs.xfs", "-q", "-f", "-K"},
	}[kind]
	program := lookPath(args[0])
	if program == "" {
		return nil, fmt.Errorf("%s is not installed (make deps): %w", args[0], errCannot)
	}
	if out, err := exec.Command(program, append(args[1:], d.image)...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", args[0], err, out)
	}
	t.Cleanup(func() {
		if err := d.unmount(); err != nil {
			t.Error(err)
		}
	})
	return d, nil
}

// mount attaches the image to a free loop device, which goes away with the mount, and mounts it.
func (d *disk) mount() error {
	loop, err := attach(d.image)
	if err != nil {
		return err
	}
	defer loop.Close()
	options := ""
	if d.kind == "xfs" {
		options = "nouuid"
	}
	if err := unix.Mount(loop.Name(), d.at, d.kind, 0, options); err != nil {
		return fmt.Errorf("mount %s: %w: %w", d.kind, err, errCannot)
	}
	d.mounted = true
	return nil
}

// attach opens a loop device over a file.
func attach(image string) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("no loop devices: %w: %w", err, errCannot)
	}
	defer control.Close()
	back, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer back.Close()
	for range 50 { // another process may take the free one first
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("no free loop device: %w: %w", err, errCannot)
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("no loop device: %w: %w", err, errCannot)
		}
		config := unix.LoopConfig{Fd: uint32(back.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		if err = unix.IoctlLoopConfigure(int(loop.Fd()), &config); err == nil {
			return loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("loop device: %w: %w", err, errCannot)
		}
	}
	return nil, fmt.Errorf("no loop device stays free: %w", errCannot)
}

// The shutdown of ext4 and xfs, EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN; the flag says that the journal is
// not flushed either.
const (
	shutdownCall  = 0x8004587d
	shutdownNoLog = 2
)

// cut takes the power away: nothing more reaches the image, and every call on the file system fails.
func (d *disk) cut() error {
	f, err := os.Open(d.at)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), shutdownCall, shutdownNoLog); err != nil {
		return fmt.Errorf("shutdown of %s: %w: %w", d.kind, err, errCannot)
	}
	return nil
}

// unmount unmounts; who held files open may take a moment to be gone.
func (d *disk) unmount() error {
	if !d.mounted {
		return nil
	}
	var err error
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); <-time.After(2 * time.Millisecond) {
		if err = unix.Unmount(d.at, 0); err == nil {
			d.mounted = false
			return nil
		}
		if !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	return fmt.Errorf("unmount %s: %w", d.at, err)
}

// A thin is memory that holds the image of a disk and can be made smaller than the disk believes to be, as
// a thin pool that nobody watches: writes to the page cache succeed, and the sync fails.
type thin struct {
	*disk
	memory string
}

// thinMost is the size of a thin's memory while there is room.
const thinMost = 640 << 20 // bytes

// newThin makes an ext4 over memory at dir. What ext4 keeps of its own has its room beforehand, all else is
// given back, so that it is mostly data that does not find any.
func newThin(t *testing.T, dir string) (*thin, error) {
	t.Helper()
	mountSmall(t, dir, fmt.Sprint(thinMost))
	d, err := newDisk(t, filepath.Join(dir, "disk"), "ext4")
	if err != nil {
		return nil, err
	}
	if err := writeBack(d.image); err != nil {
		return nil, err
	}
	if err := d.mount(); err != nil {
		return nil, err
	}
	if out, err := exec.Command("fstrim", d.at).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("fstrim: %w: %s: %w", err, out, errCannot)
	}
	return &thin{d, dir}, d.unmount()
}

// writeBack writes what a file holds over itself, so that no part of it is a hole.
func writeBack(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for off := int64(0); ; off += int64(len(block)) {
		n, err := f.ReadAt(block, off)
		if _, werr := f.WriteAt(block[:n], off); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// shrink leaves room for so many more bytes and no more.
func (d *thin) shrink(room int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(d.memory, &st); err != nil {
		return err
	}
	return d.resize(int64(st.Blocks-st.Bfree)*st.Bsize + room)
}

// grow makes room again.
func (d *thin) grow() error { return d.resize(thinMost) }

func (d *thin) resize(bytes int64) error {
	if err := unix.Mount("", d.memory, "", unix.MS_REMOUNT, fmt.Sprintf("size=%d", bytes)); err != nil {
		return fmt.Errorf("resize %s: %w: %w", d.memory, err, errCannot)
	}
	return nil
}

// usable reports whether a file can be written and synced: a journal that met the end of the room leaves
// the whole file system read-only until it is mounted again.
func (d *thin) usable() bool {
	f, err := os.Create(filepath.Join(d.at, "usable"))
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = f.WriteString("usable")
	return err == nil && f.Sync() == nil
}
