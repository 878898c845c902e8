package clients

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestHangingMirror plays faults 15 and 14 (DURABILITY.md) with the real kernel under load: the file system of the
// only mirror is frozen, so that what is written there does not return until it is thawed; or it is unmounted
// while it is used, and mounted again. Writes are answered with "wait" within the bound, reads go on, the server
// does not end, and it goes on by itself. Nothing acknowledged is missing.
func TestHangingMirror(t *testing.T) {
	r := seeded(t)
	if os.Getuid() != 0 {
		notRun(t, "hanging mirror", errors.New("loop devices need root"))
		return
	}
	if why := probeDisks(t, "ext4"); errors.Is(why, errCannot) {
		notRun(t, "hanging mirror", why)
		return
	} else if why != nil {
		t.Fatal(why)
	}
	h := newHanging(t)
	s := newSpan(2, 40)
	done := 0
	for ; s.goesOn(done); done++ {
		if done%2 == 0 {
			h.freeze(r)
		} else {
			h.away(r)
		}
	}
	h.s.stop()
	s.totals(t, "hanging mirror", h.frozen, "times frozen (fault 15)", h.gone, "times unmounted (fault 14)", h.acks, "acknowledged writes",
		h.longest.Milliseconds(), "ms the longest refusal took with mirror_timeout = 1s", 0, "lost", 0, "altered")
}

// hanging is a server whose mirror is a disk that hangs, or goes away.
type hanging struct {
	t            *testing.T
	s            *server
	j            *journal
	d            *disk
	run          *program
	keep         string // where the disk stays mounted while the server does not see it
	frozen, gone int
	acks         int64
	longest      time.Duration
}

func newHanging(t *testing.T) *hanging {
	t.Helper()
	root := t.TempDir()
	d, err := newDisk(t, filepath.Join(root, "disk"), "ext4")
	if err == nil {
		err = d.mount()
	}
	h := &hanging{t: t, j: newJournal(), d: d, run: newProgram(t), keep: filepath.Join(root, "keep")}
	if err == nil {
		err = os.Mkdir(h.keep, 0o700)
	}
	if err == nil {
		err = unix.Mount(d.at, h.keep, "", unix.MS_BIND, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = h.thaw() // if a part failed while it was frozen
		if err := unix.Unmount(h.keep, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	h.s = prepareServer(t, filepath.Join(root, "data"), filepath.Join(d.at, "mirror"))
	conf, err := os.OpenFile(filepath.Join(h.s.data, "holdfast.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = fmt.Fprintln(conf, "\nmirror_timeout = 1s")
		err = errors.Join(err, conf.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	h.s.start()
	return h
}

// The freeze and thaw of a file system, FIFREEZE and FITHAW.
const (
	freezeCall = 0xc0045877
	thawCall   = 0xc0045878
)

func (h *hanging) ioctl(call uint) error {
	f, err := os.Open(h.keep)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetPointerInt(int(f.Fd()), call, 0)
}

func (h *hanging) thaw() error { return h.ioctl(thawCall) }

func (h *hanging) freeze(r *rand.Rand) {
	h.t.Helper()
	h.frozen++
	h.trouble(r, "mirror-slow", func() error { return h.ioctl(freezeCall) }, h.thaw)
}

func (h *hanging) away(r *rand.Rand) {
	h.t.Helper()
	h.gone++
	h.trouble(r, "mirror-absent", func() error { return unix.Unmount(h.d.at, unix.MNT_DETACH) },
		func() error { return unix.Mount(h.keep, h.d.at, "", unix.MS_BIND, "") })
}

// trouble makes a trouble and ends it again, under load.
func (h *hanging) trouble(r *rand.Rand, code string, begin, end func() error) {
	h.t.Helper()
	l := startLoad(h.s, h.j, r, 3, false)
	l.waitAcks(20, 120*time.Second)
	if err := begin(); err != nil {
		h.t.Fatal(err)
	}
	n := 0
	refused := func() error { // as long as the answer takes, so long a device waits
		n++
		began := time.Now()
		err := h.j.write(h.s.client("alice"), fmt.Sprintf("/dav/alice/Files/refused%d-%d.txt", h.frozen+h.gone, n), version{body: "x"}, false)
		h.longest = max(h.longest, time.Since(began))
		if err == nil {
			return errors.New("it was acknowledged")
		}
		if !errors.Is(err, errWait) {
			return fatalError{err}
		}
		return nil
	}
	h.s.eventually(60*time.Second, "a write is refused", refused)
	h.s.eventually(60*time.Second, "the reason is "+code, func() error {
		out, _ := h.run.try("", binary, "status", "--data", h.s.data, "--json")
		if !strings.Contains(out, `"code": "`+code+`"`) && !strings.Contains(out, `"code":"`+code+`"`) {
			return errors.New(out)
		}
		return nil
	})
	for range 5 {
		if err := refused(); err != nil {
			h.t.Errorf("while the mirror is not there: %v", err)
		}
	}
	if err := h.j.look(h.s.client("alice"), h.j.any("alice", r)); err != nil {
		h.t.Errorf("a read while the mirror is not there: %v", err)
	}
	h.s.alive()
	if err := end(); err != nil {
		h.t.Fatal(err)
	}
	l.waitAcks(20, 120*time.Second)
	l.stop()
	h.acks += l.acks.Load()
	h.j.verify(h.t, h.s)
}
