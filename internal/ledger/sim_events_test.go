package ledger

import (
	"slices"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/durable"
	"holdfast/internal/durable/simdisk"
	"holdfast/internal/store/simvfs"
)

// event is something that happens to a running system. It reports whether it could.
type event func(s *sim, b *box) bool

// events are all that may happen; each schedule draws which of them do, and how often.
var events = []struct {
	name string
	do   event
}{
	{"kill", (*sim).killBox},
	{"stop", (*sim).stopBox},
	{"pause", (*sim).pauseBox},
	{"mirror cut", (*sim).cutMirror},
	{"fault", (*sim).faultAhead},
	{"flaky", (*sim).flaky},
	{"read fault", (*sim).readFault},
	{"full", (*sim).fillUp},
	{"unmount", (*sim).unmount},
	{"image", (*sim).image},
	{"clock", (*sim).jump},
	{"old data disk", (*sim).oldData},
	{"old store", (*sim).oldStore},
	{"store restored in place", (*sim).restoreStore},
	{"old mirror", (*sim).oldMirror},
	{"store removed", (*sim).removeStore},
	{"store zeroed", (*sim).zeroStore},
	{"second server", (*sim).second},
	{"beyond", (*sim).beyond},
}

// weather is how often each event happens in a schedule: not at all, or once in so many turns.
type weather []int

func (s *sim) forecast() weather {
	w := make(weather, len(events))
	for range 1 + s.rng.IntN(4) {
		w[s.rng.IntN(len(events))] = 150 + s.rng.IntN(2000)
	}
	often := func(least, most int, names ...string) {
		for i, e := range events {
			if slices.Contains(names, e.name) {
				w[i] = least + s.rng.IntN(most-least)
			}
		}
	}
	often(200, 800, "image") // others need it
	often(1000, 1001, "beyond")
	if s.rng.IntN(8) > 0 { // what is lost then excuses much
		w[len(w)-1] = 0
	}
	theme := s.rng.IntN(6) // one in two has a theme
	if s.bug.two {
		theme = 0
	}
	switch theme {
	case 0:
		often(40, 100, "second server")
		often(100, 400, "pause")
		often(300, 1000, "kill", "stop")
	case 1:
		often(150, 600, "store removed", "store restored in place", "old store")
	case 2:
		often(150, 600, "flaky", "fault", "read fault", "mirror cut")
	}
	return w
}

// happen is what the world does to the servers between two turns.
func (s *sim) happen() {
	for i, every := range s.weather {
		if every == 0 || s.rng.IntN(every) > 0 {
			continue
		}
		b := s.boxes[s.rng.IntN(len(s.boxes))]
		if events[i].do(s, b) {
			s.note(uint64(1000 + i))
			s.log("box %d: %s", b.no, events[i].name)
		}
	}
	for _, b := range s.boxes {
		if b.proc.buried && s.rng.IntN(10) == 0 && !b.data.Dead() {
			s.start(b)
		}
	}
	for i, m := range s.mirrors { // a mirror's own box starts again
		if m.Dead() && s.cutAlone && s.rng.IntN(50) == 0 {
			s.mirrors[i] = m.Crash()
		}
	}
}

// live lets everybody take turns until the power is cut.
func (s *sim) live() {
	for _, b := range s.boxes {
		s.start(b)
	}
	turns := 200 + s.rng.IntN(2000)
	s.cutAlone = s.rng.IntN(4) == 0
	if s.rng.IntN(4) > 0 {
		s.anyDisk().CrashAt(int64(1 + s.rng.IntN(900)))
	}
	for n := 0; n < turns && s.violated == nil && !s.dark(); n++ {
		s.turn()
		s.happen()
	}
}

// anyDisk returns a disk that something may happen to.
func (s *sim) anyDisk() *simdisk.Disk {
	if i := s.rng.IntN(len(s.mirrors) + 1); i > 0 {
		return s.mirrors[i-1]
	}
	return s.boxes[s.rng.IntN(len(s.boxes))].data
}

// dark says that the power is cut: of a box, or of a mirror's box and with it of all.
func (s *sim) dark() bool {
	for _, b := range s.boxes {
		if b.data.Dead() {
			return true
		}
	}
	return !s.cutAlone && slices.ContainsFunc(s.mirrors, (*simdisk.Disk).Dead)
}

// cut cuts the power of all boxes, and mostly that of the mirrors too, and gives the disks that survived.
func (s *sim) cut() {
	s.cuts++
	all := s.rng.IntN(4) > 0
	s.log("the power is cut, of the mirrors too: %t", all)
	for _, b := range s.boxes {
		s.kill(b)
		b.data = b.data.Crash()
	}
	for i, m := range s.mirrors {
		if all || m.Dead() {
			s.mirrors[i] = m.Crash()
		}
	}
	if s.rng.IntN(2) == 0 {
		s.heal()
	}
}

// heal ends all faults.
func (s *sim) heal() {
	for _, b := range s.boxes {
		b.unmounted = [3]bool{}
		b.data.Mend()
	}
	for i, m := range s.mirrors {
		if m.Dead() {
			s.mirrors[i] = m.Crash()
		}
		s.mirrors[i].Mend()
	}
}

func (s *sim) killBox(b *box) bool {
	s.kill(b)
	return true
}

func (s *sim) stopBox(b *box) bool {
	s.end(b.proc)
	return true
}

func (s *sim) pauseBox(b *box) bool {
	b.proc.parked = s.turns + 20 + s.rng.IntN(300)
	return true
}

func (s *sim) cutMirror(*box) bool {
	if !s.cutAlone {
		return false
	}
	s.mirrors[s.rng.IntN(len(s.mirrors))].CrashAt(int64(1 + s.rng.IntN(20)))
	return true
}

func (s *sim) faultAhead(*box) bool {
	d := s.anyDisk()
	kind := []simdisk.Fault{simdisk.FailBefore, simdisk.FailAfter}[s.rng.IntN(2)]
	why := []error{syscall.EIO, syscall.EIO, syscall.ENOSPC}[s.rng.IntN(3)]
	d.Inject(d.Steps()+1+int64(s.rng.IntN(40)), kind, why)
	return true
}

func (s *sim) flaky(*box) bool {
	s.anyDisk().FailSyncs([]float64{0, 0.01, 0.1}[s.rng.IntN(3)])
	return true
}

func (s *sim) readFault(b *box) bool {
	b.proc.failRead = 1 + s.rng.IntN(300)
	return true
}

// fillUp leaves little room on a disk, or gives it all back.
func (s *sim) fillUp(*box) bool {
	d := s.anyDisk()
	d.SetCapacity(1 << 40)
	free, err := d.FreeBytes("/")
	if room := (1<<40 - free) + int64(s.rng.IntN(128<<10)); err == nil && s.rng.IntN(2) == 0 {
		d.SetCapacity(room)
	} else {
		d.SetCapacity(0)
	}
	return err == nil
}

func (s *sim) unmount(b *box) bool {
	i := s.rng.IntN(len(s.mirrors))
	b.unmounted[i] = !b.unmounted[i]
	return true
}

func (s *sim) image(b *box) bool {
	if n := s.rng.IntN(len(s.mirrors) + 1); n > 0 {
		s.images[n-1] = keep(s.images[n-1], s.newDisk(s.mirrors[n-1]))
	} else {
		b.images = keep(b.images, s.newDisk(b.data))
	}
	return true
}

// keep remembers the last three.
func keep(all []*simdisk.Disk, d *simdisk.Disk) []*simdisk.Disk {
	return append(all, d)[max(0, len(all)-2):]
}

func (s *sim) jump(*box) bool {
	s.skew = time.Duration(s.rng.IntN(20*365*24)-10*365*24) * time.Hour
	return true
}

// lose reports whether copies (mirrors by number, -1 the store) may lose data now, and remembers that they do. As
// many may as there are mirrors; a second server's store counts as one that has lost.
func (s *sim) lose(copies ...int) bool {
	lost := map[int]bool{}
	for c := range s.lost {
		lost[c] = true
	}
	for _, c := range copies {
		lost[c] = true
	}
	for _, b := range s.boxes {
		if b.setAside() > b.aside {
			lost[-1] = true // it could not be read, and what is made in its place does not have everything yet
		}
	}
	if len(s.boxes) > 1 {
		lost[-1] = true
	}
	if len(lost) > len(s.mirrors) && !s.lossy {
		return false
	}
	s.lost = lost
	s.losses++
	return true
}

// setAside counts the damaged stores that a box's ledger has moved aside.
func (b *box) setAside() int {
	names, err := durable.List(b.data, "/data/incidents")
	if err != nil {
		return b.aside // no such directory, or the disk is dead
	}
	n := 0
	for _, name := range names {
		if strings.HasPrefix(name, "store-") {
			n++
		}
	}
	return n
}

// oldData puts an earlier state of a box's disk in its place.
func (s *sim) oldData(b *box) bool {
	if len(b.images) == 0 || !s.lose(-1) {
		return false
	}
	b.data = s.newDisk(b.images[s.rng.IntN(len(b.images))])
	return true
}

// oldStore puts an earlier state of the store's directory in its place, as a restore by hand does.
func (s *sim) oldStore(b *box) bool {
	if len(b.images) == 0 || b.data.Dead() || !s.lose(-1) {
		return false
	}
	old := b.images[s.rng.IntN(len(b.images))]
	b.data.ByHand(func() {
		removeTree(b.data, "/data/store")
		graft(b.data, old, "/data/store")
	})
	return true
}

// restoreStore puts an earlier state of the store into the database that a process has open.
func (s *sim) restoreStore(b *box) bool {
	p := b.proc
	if len(b.images) == 0 || b.data.Dead() || p.buried || p.l == nil || !p.l.hasStore() || !s.lose(-1) {
		return false
	}
	from, err := simvfs.Register(b.images[s.rng.IntN(len(b.images))].Medium(0), simvfs.Options{})
	check(err)
	defer from.Close()
	var done bool
	p.free = true // it is no other goroutine's turn meanwhile
	b.data.ByHand(func() { done = p.vfs.Restore("/data/store/holdfast.db", from) == nil })
	p.free = false
	return done
}

func (s *sim) oldMirror(*box) bool {
	i := s.rng.IntN(len(s.mirrors))
	if len(s.images[i]) == 0 || !s.lose(i) {
		return false
	}
	s.rolled = true
	s.mirrors[i] = s.newDisk(s.images[i][s.rng.IntN(len(s.images[i]))])
	return true
}

func (s *sim) removeStore(b *box) bool {
	if b.data.Dead() || !s.lose(-1) {
		return false
	}
	b.data.ByHand(func() { removeTree(b.data, "/data/store") })
	return true
}

// zeroStore overwrites the files of the store with zeros, or cuts them to nothing, in place.
func (s *sim) zeroStore(b *box) bool {
	if b.data.Dead() || !s.lose(-1) {
		return false
	}
	empty := s.rng.IntN(2) == 0
	b.data.ByHand(func() { wipe(b.data, "/data/store", empty) })
	return true
}

// second starts a copy of the data directory on another box, with the same mirrors.
func (s *sim) second(b *box) bool {
	if len(s.boxes) > 1 || b.data.Dead() || len(s.lost) > 0 && len(s.mirrors) == 1 {
		return false
	}
	c := &box{no: 1, data: s.newDisk(b.data), under: s.newDisk(b.under), claims: s.ownClaims()}
	s.boxes = append(s.boxes, c)
	s.losses++
	s.start(c)
	return true
}

// beyond sets all copies back together: more than is promised to be survived.
func (s *sim) beyond(b *box) bool {
	if len(s.boxes) > 1 || len(b.images) == 0 || slices.ContainsFunc(s.images, func(m []*simdisk.Disk) bool { return len(m) == 0 }) {
		return false
	}
	s.lossy = true
	s.kill(b)
	b.data = s.newDisk(b.images[s.rng.IntN(len(b.images))])
	for i, m := range s.images {
		s.mirrors[i] = s.newDisk(m[s.rng.IntN(len(m))])
	}
	return true
}
