package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/ledger"
)

// The acts that scenarios are made of. What they do to files they do as a careless hand or a broken disk
// would: without asking, without syncing.

const disaster = "DISASTER"

// removeStore is rm -rf of the store.
func (s *show) removeStore() error {
	files, size, err := weigh(s.host.storeDir())
	if err != nil {
		return err
	}
	s.say(disaster, "rm -rf %s/*   (%d files, %.1f MB)", s.host.storeDir(), files, float64(size)/1e6)
	return wipe(s.host.storeDir())
}

// zeroStore overwrites every byte of the database's file.
func (s *show) zeroStore() error {
	name := filepath.Join(s.host.storeDir(), "holdfast.db")
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("look at the store: %w", err)
	}
	s.say(disaster, "zeros are written over %s   (%.1f MB)", name, float64(info.Size())/1e6)
	return overwrite(name, 0, make([]byte, info.Size()))
}

func (s *show) switchOff() error {
	s.say("server", "is switched off")
	return s.host.switchOff()
}

func (s *show) switchOn() error {
	s.say("server", "is switched on again")
	return s.host.switchOn(s.ctx)
}

// putOldStore puts last night's copy in place of the store.
func (s *show) putOldStore() error {
	s.say(disaster, "%s is now what it was last night", s.host.storeDir())
	return replaceTree(s.host.storeDir(), filepath.Join(s.nightDir("server"), "store"))
}

// putBackup puts everything back to last night.
func (s *show) putBackup() error {
	s.say("operator", "puts last night's backup back: it is all there is")
	return s.restoreNight()
}

func (s *show) restoreNight() error {
	return errors.Join(replaceTree(s.host.config.Dir, s.nightDir("server")), replaceTree(s.host.mirrorDir(), s.nightDir("mirror")))
}

// cutMirror takes away the second half of the mirror's last segment.
func (s *show) cutMirror() error {
	name, size, err := s.lastSegment()
	if err != nil {
		return err
	}
	s.say(disaster, "the mirror's last segment %s loses its second half (%.1f MB)", filepath.Base(name), float64(size)/2e6)
	if err := os.Chmod(name, 0o600); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size/2), f.Close())
}

// spoilMirror writes garbage over the last frames of the mirror's last segment, while it is in use.
func (s *show) spoilMirror() error {
	if err := s.waitOpen(); err != nil {
		return err
	}
	before := s.journal.acknowledged()
	s.until(5*time.Second, func() bool { return s.journal.acknowledged() > before+3 })
	name, size, err := s.lastSegment()
	if err != nil {
		return err
	}
	const garbage = 4096
	s.say(disaster, "%d bytes of garbage are written over the end of the mirror's %s while it is in use", garbage, filepath.Base(name))
	b := make([]byte, garbage)
	r := s.maker.rand(kinds, 99, 0)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return overwrite(name, max(0, size-garbage-512), b)
}

// scrub is holdfast scrub: the server reads the mirror again while it runs, and mends it.
func (s *show) scrub() error {
	if err := s.host.ledger.Scrub("mirrors", ledger.ScrubFull); err != nil {
		return err
	}
	var st *ledger.ScrubStatus
	s.until(s.cfg.patience, func() bool {
		st = s.host.ledger.Status().Scrub
		return !st.Asked && !st.Running && st.Unhealed == 0 && st.Found > 0
	})
	s.say("operator", "holdfast scrub --only mirrors: %d damages found, %d healed, %d not", st.Found, st.Healed, st.Unhealed)
	return nil
}

// lastSegment returns the newest segment of the mirror that has frames, and where its last byte that is
// not zero stands.
func (s *show) lastSegment() (name string, size int64, err error) {
	var all []string
	err = filepath.WalkDir(filepath.Join(s.host.mirrorDir(), "log"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		return "", 0, fmt.Errorf("list segments: %w", err)
	}
	slices.Sort(all) // terms and positions are hexadecimal numbers of fixed length
	for _, name := range slices.Backward(all) {
		b, err := os.ReadFile(name)
		if err != nil {
			return "", 0, fmt.Errorf("read segment: %w", err)
		}
		if size := int64(len(strings.TrimRight(string(b), "\x00"))); size > 8192 {
			return name, size, nil
		}
	}
	return "", 0, fmt.Errorf("segment with frames: %w", holdfast.ErrNotFound)
}

// waitOpen waits until the server serves.
func (s *show) waitOpen() error {
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.patience)
	defer cancel()
	if err := s.host.ledger.WaitOpen(ctx); err != nil {
		return fmt.Errorf("wait for the server: %w", err)
	}
	return nil
}

func (s *show) awayDir() string { return filepath.Join(s.dir, "unmounted") }

// unmountMirror takes the mirror's disk away; what stays is an empty mount point.
func (s *show) unmountMirror() error {
	s.say(disaster, "umount %s   (an empty directory is left there)", s.host.mirrorDir())
	if err := durable.Rename(durable.Disk, s.host.mirrorDir(), s.awayDir(), false); err != nil {
		return err
	}
	s.away.from = time.Now()
	s.away.truly, s.away.waits, _ = s.watch.counts()
	return durable.MkdirAll(durable.Disk, s.host.mirrorDir())
}

// waitRefused waits until each device was told to wait, and a while longer.
func (s *show) waitRefused() error {
	s.until(5*time.Second, func() bool {
		for _, d := range s.devices {
			if d.remote.refused.Load() == 0 {
				return false
			}
		}
		return true
	})
	s.pause(time.Minute / s.cfg.pace) // of a device
	return nil
}

// mountMirror brings the mirror's disk back.
func (s *show) mountMirror() error {
	names, err := durable.List(durable.Disk, s.host.mirrorDir())
	if err != nil {
		return err
	}
	if len(names) > 0 {
		s.problem("the empty mount point was taken for a mirror: there is %s in it", strings.Join(names, ", "))
	}
	truly, waits, _ := s.watch.counts()
	s.away.truly, s.away.waits, s.away.to = truly-s.away.truly, waits-s.away.waits, time.Now()
	s.say("operator", "mounts it again; meanwhile %d reads were answered truly, %d refused", s.away.truly, s.away.waits)
	if err := os.RemoveAll(s.host.mirrorDir()); err != nil {
		return err
	}
	return durable.Rename(durable.Disk, s.awayDir(), s.host.mirrorDir(), false)
}

// startSecond starts another server over last night's copy of the data, on the same mirror. The laptop's
// network leads to the new one. Without a fence there is no mirror that could tell the two of each other,
// so each has its own.
func (s *show) startSecond() error {
	data, mirror := filepath.Join(s.dir, "server-2"), s.host.mirrorDir()
	if err := copyTree(data, s.nightDir("server")); err != nil {
		return err
	}
	if s.cfg.WithoutFence {
		mirror = filepath.Join(s.dir, "mirror-2")
		if err := copyTree(mirror, s.nightDir("mirror")); err != nil {
			return err
		}
	}
	s.second = s.host.sibling(data, mirror)
	if err := s.second.open(s.ctx); err != nil {
		return fmt.Errorf("start the second server: %w", err)
	}
	s.say(disaster, "a second server starts from last night's copy at %s; the first one runs on", s.second.url)
	s.say("laptop", "is led to the second server; phone and tablet stay with the first")
	return s.devices[2].remote.move(s.second.url)
}

// bothRun lets the two servers run side by side until the second one has acknowledged something.
func (s *show) bothRun() error {
	second := by(hostOf(s.second))
	s.until(10*time.Second, func() bool { return s.journal.count(second) >= 3 })
	s.pause(time.Minute / s.cfg.pace) // of a device
	s.say("people", "were told \"stored\" %d times by the first server, %d times by the second so far",
		s.journal.count(by(hostOf(s.host))), s.journal.count(second))
	return nil
}

// leaveFirst ends the first server and has everybody use the second one.
func (s *show) leaveFirst() error {
	s.say("operator", "switches the first server off; its name leads to the second one now")
	if err := s.host.switchOff(); err != nil {
		return err
	}
	s.host, s.second = s.second, s.host
	for _, r := range []*remote{s.reader, s.devices[0].remote, s.devices[1].remote} {
		if err := r.move(s.host.url); err != nil {
			return err
		}
	}
	return nil
}

// overwrite writes b into a file that exists, at off.
func overwrite(name string, off int64, b []byte) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("overwrite: %w", err)
	}
	_, err = f.WriteAt(b, off)
	return errors.Join(err, f.Close())
}

// copyTree copies a directory to a place where nothing is.
func copyTree(to, from string) error {
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return nil
}

// replaceTree puts a copy of from in place of what is in to.
func replaceTree(to, from string) error {
	if err := wipe(to); err != nil {
		return err
	}
	return copyTree(to, from)
}

// wipe removes all that is below dir, as `rm -rf dir/*` does.
func wipe(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read %s: %w", dir, err)
	}
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// weigh counts what is about to be removed.
func weigh(dir string) (files int, size int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, 0, fmt.Errorf("read %s: %w", dir, err)
	}
	for _, e := range entries {
		if i, err := e.Info(); err == nil { // a journal file may have gone meanwhile
			files, size = files+1, size+i.Size()
		}
	}
	return files, size, nil
}
