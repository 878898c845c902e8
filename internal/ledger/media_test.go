package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/fence"
)

// mediaCases is how many damages TestMediaDamage does; make crash sets MEDIA_CASES to do more.
func mediaCases(t *testing.T) int {
	if v := os.Getenv("MEDIA_CASES"); v != "" {
		n, err := strconv.Atoi(v)
		must(t, err)
		return n
	}
	if testing.Short() {
		return 50
	}
	return 2000
}

// media is a small server that is damaged again and again.
type media struct {
	*rig
	rng    *rand.Rand
	seed   uint64
	deltas map[holdfast.Seq]string // what a device hears that has seen everything up to a seq
	served int                     // answers that were right
	failed int                     // answers that were errors
	last   error                   // the last of them
	totals map[string]*mediaTotal
}

// mediaTotal counts the cases of one kind.
type mediaTotal struct{ cases, detected, harmless, healed, refused int }

// mediaDir is a directory for servers: no power cut is played here, memory is as good as a disk.
func mediaDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "media")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

// newMedia makes a server, which is closed, with two accounts' worth of pages: cards, versions of them, deleted ones, collections, blobs.
func newMedia(t *testing.T) *media {
	t.Helper()
	m := &media{
		rig: newRig(t, func(c *Config) {
			dir := mediaDir(t)
			c.SegmentSize, c.Dir, c.Mirrors[0].Path = 96<<10, filepath.Join(dir, "data"), filepath.Join(dir, "mirror")
		}), deltas: map[holdfast.Seq]string{},
	}
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test
	text := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte('a' + rng.IntN(26))
		}
		return string(b)
	}
	for i := range 90 {
		m.mustPut(fmt.Sprintf("card%02d.vcf", i%50), text(300+rng.IntN(6000)))
	}
	_, err := m.Update(t.Context(), person, 1, func(tx *Tx) error {
		for i := range 5 {
			tx.Delete(m.cards, fmt.Sprintf("card%02d.vcf", i))
		}
		tx.NewCollection(holdfast.Root, "photos", holdfast.KindFile, []holdfast.Property{{Name: "color", Value: "red"}})
		return nil
	})
	must(t, err)
	for i := range 5 {
		delete(m.acked, fmt.Sprintf("card%02d.vcf", i))
	}
	for i := range 3 {
		m.photo(fmt.Sprintf("p%d.jpg", i))
	}
	m.restart(func() {}) // another log; everything is in the database's file
	for i := range 20 {
		m.mustPut(fmt.Sprintf("late%02d.vcf", i), text(2000))
	}
	for _, since := range []holdfast.Seq{0, 10, 60, 95} {
		d, err := m.delta(since)
		must(t, err)
		m.deltas[since] = d
	}
	m.close(m.Ledger)
	return m
}

// clone opens a server on copies of m's directories; what it does next depends on seed alone.
func (m *media) clone(t *testing.T, seed uint64) *media {
	t.Helper()
	dir := mediaDir(t)
	c := &media{
		rig: &rig{t: t, cfg: m.cfg, cards: m.cards, acked: maps.Clone(m.acked)}, rng: rand.New(rand.NewPCG(seed, 2)), seed: seed, //nolint:gosec // a test
		deltas: m.deltas, totals: map[string]*mediaTotal{},
	}
	c.cfg.Dir, c.cfg.Mirrors = filepath.Join(dir, "data"), []MirrorConfig{{"disk2", filepath.Join(dir, "mirror")}}
	must(t, os.CopyFS(c.cfg.Dir, os.DirFS(m.cfg.Dir)))
	must(t, os.CopyFS(c.cfg.Mirrors[0].Path, os.DirFS(m.cfg.Mirrors[0].Path)))
	c.open()
	return c
}

// delta is what changed since a seq, as a device hears it.
func (m *media) delta(since holdfast.Seq) (s string, err error) {
	err = m.View(context.Background(), person, func(v *View) error {
		list, head, err := v.Changed(m.cards, since, 0)
		for _, d := range list {
			s += fmt.Sprintln(d.Name, d.Deleted, d.Seq, d.Body)
		}
		s += fmt.Sprintln(head)
		return err
	})
	return s, err
}

// ask reads everything: each answer is right, or an error. ErrNotFound is an answer, and wrong.
func (m *media) ask(what string) (errs int) {
	for name, want := range m.acked {
		got, err := m.get(name)
		switch {
		case errors.Is(err, holdfast.ErrNotFound), err == nil && got != want:
			m.t.Fatalf("seed %d, %s: WRONG answer for %s: %d bytes, %v", m.seed, what, name, len(got), err)
		case err != nil:
			m.last = err
			errs++
		}
	}
	for since, want := range m.deltas {
		got, err := m.delta(since)
		switch {
		case errors.Is(err, holdfast.ErrNotFound), err == nil && got != want:
			m.t.Fatalf("seed %d, %s: WRONG delta since %d: %v\ngot  %s\nwant %s", m.seed, what, since, err, got, want)
		case err != nil:
			m.last = err
			errs++
		}
	}
	m.failed += errs
	m.served += len(m.acked) + len(m.deltas) - errs
	return errs
}

// damage is one case: a file, and how it is damaged.
type damage struct {
	kind, how string
	files     []string
	restore   bool // no other copy has it: it is put back afterwards
}

func (m *media) glob(parts ...string) []string {
	names, err := filepath.Glob(filepath.Join(parts...))
	must(m.t, err)
	slices.Sort(names)
	return names
}

// draw chooses what is damaged, and how.
func (m *media) draw(running bool) damage {
	mirror := m.cfg.Mirrors[0].Path
	claims := m.glob(mirror, "term", "*")
	kinds := []damage{
		{kind: "store", files: m.glob(m.cfg.Dir, "store", "holdfast.db")},
		{kind: "store", files: m.glob(m.cfg.Dir, "store", "holdfast.db")},
		{kind: "log", files: m.glob(mirror, "log", "*", "*.seg")},
		{kind: "log", files: m.glob(mirror, "log", "*", "*.seg")},
		{kind: "blob", files: m.glob(m.cfg.Dir, "blobs", "*", "*")},
		{kind: "mirrored blob", files: m.glob(mirror, "blobs", "*", "*")},
		{kind: "old claim", files: claims[:len(claims)-1], restore: true},
	}
	if running {
		kinds = append(kinds, damage{kind: "store's log", files: m.glob(m.cfg.Dir, "store", "holdfast.db-wal")})
	} else {
		kinds = append(kinds, damage{kind: "head file", files: m.glob(m.cfg.Dir, "heads"), restore: true},
			damage{kind: "mirror's head file", files: m.glob(mirror, "heads")}, damage{kind: "newest claim", files: claims[len(claims)-1:], restore: true},
			damage{kind: "marker", files: m.glob(mirror, "holdfast-mirror.json"), restore: true})
	}
	d := kinds[m.rng.IntN(len(kinds))]
	if len(d.files) == 0 {
		return m.draw(running)
	}
	hows := []string{"flip", "flip", "flip", "zero", "cut", "lost"}
	if strings.HasPrefix(d.kind, "store") && running {
		hows = hows[:4] // a store that is cut or lost under a running server is F7's
	}
	d.how = hows[m.rng.IntN(len(hows))]
	d.files = d.files[m.rng.IntN(len(d.files)):][:1]
	return d
}

// do damages a file and returns what puts it back.
func (m *media) do(d damage) (undo func(), changed bool) {
	name := d.files[0]
	must(m.t, os.Chmod(name, 0o600))
	was, err := os.ReadFile(name)
	must(m.t, err)
	undo = func() { must(m.t, os.WriteFile(name, was, 0o600)) }
	if d.how == "lost" {
		must(m.t, os.Remove(name))
		return undo, true
	}
	if len(was) == 0 {
		return undo, false
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	must(m.t, err)
	defer f.Close()
	at := m.rng.IntN(len(was))
	switch d.how {
	case "flip":
		_, err = f.WriteAt([]byte{was[at] ^ 1<<m.rng.IntN(8)}, int64(at))
		changed = true
	case "zero":
		at &^= 511
		sector := was[at:min(at+512, len(was))]
		changed = len(bytes.Trim(sector, "\x00")) > 0
		_, err = f.WriteAt(make([]byte, len(sector)), int64(at))
	case "cut":
		err, changed = f.Truncate(int64(at)), true
	}
	must(m.t, err)
	return undo, changed
}

// evidence is a number that grows when damage is told to people.
func (m *media) evidence() int {
	n := len(m.incidents())
	if s := m.Status().Scrub; s != nil {
		n += s.Found
	}
	return n
}

// one plays one case.
func (m *media) one(i int) {
	running := m.rng.IntN(2) == 0
	d := m.draw(running)
	what := fmt.Sprintf("case %d, %s %s, running %v, %s", i, d.kind, d.how, running, filepath.Base(d.files[0]))
	total := m.totals[d.kind+" "+d.how]
	if total == nil {
		total = &mediaTotal{}
		m.totals[d.kind+" "+d.how] = total
	}
	total.cases++
	m.rebuilt.Store(0) // cases lie more than an hour apart: within one the store is not made anew twice
	before := m.evidence()
	var undo func()
	changed, refused := false, false
	if running {
		undo, changed = m.do(d)
	} else {
		m.close(m.Ledger)
		undo, changed = m.do(d)
		refused = !m.tryOpen()
	}
	if refused {
		if !d.restore {
			m.t.Fatalf("seed %d, %s: the server does not open: %s", m.seed, what, m.Status().Reason)
		}
		total.refused++
		total.detected++
		m.close(m.Ledger)
		undo()
		m.open()
		m.ask(what)
		return
	}
	m.ask(what)
	s := m.scrubAll()
	if d.restore { // claims and head files have no second copy
		undo()
		if s.Unhealed > 0 || m.evidence() > before {
			total.detected++
		} else {
			total.harmless++
		}
		m.ask(what)
		return
	}
	m.heal(what, total, changed && m.evidence() == before)
}

// heal proves that one scrub made everything whole; silent: nobody was told of anything, so nothing may be damaged.
func (m *media) heal(what string, total *mediaTotal, silent bool) {
	m.waitOpen()
	if errs := m.ask(what); errs > 0 {
		m.t.Fatalf("seed %d, %s: %d errors after the scrub, the last %v; fence %s, closed %+v; %+v; %s", m.seed, what, errs, m.last, m.Status().State, m.Status().Closed, m.Status().Scrub, m.lastReport())
	}
	if u := m.Status().Scrub.Unhealed; u > 0 {
		m.t.Fatalf("seed %d, %s: unhealed: %+v", m.seed, what, m.Status().Scrub.Damage)
	}
	total.healed++
	if !silent {
		total.detected++
		return
	}
	total.harmless++
	m.replayed()
	for name := range m.acked {
		if _, err := m.get(name); err != nil {
			m.t.Fatalf("seed %d, %s: %s: %v", m.seed, what, name, err)
		}
	}
}

// lastReport is the newest of the scrub's incident reports.
func (m *media) lastReport() string {
	names := m.glob(m.cfg.Dir, "incidents", "*-scrub-*.md")
	if len(names) == 0 {
		return "no report"
	}
	b, err := os.ReadFile(names[len(names)-1])
	must(m.t, err)
	return string(b)
}

// tryOpen starts the server; false: it refuses, and says so.
func (m *media) tryOpen() bool {
	l, err := Open(context.Background(), m.cfg)
	if err != nil {
		m.Ledger = &Ledger{ended: make(chan struct{}), cancel: func() {}, scrub: &scrubber{}, cfg: m.cfg.withDefaults()}
		close(m.Ledger.ended)
		return false
	}
	m.Ledger = l
	end := time.Now().Add(20 * time.Second)
	for time.Now().Before(end) {
		l.mu.RLock()
		state, reason, changed := l.state, l.reason, l.changed
		l.mu.RUnlock()
		if state == fence.Open {
			return true
		}
		switch reason.Code {
		case fence.TakenOver, fence.ClaimDamaged, fence.MirrorAbsent, fence.MirrorFailed:
			return false
		}
		select {
		case <-changed:
		case <-time.After(time.Second):
		}
	}
	return false
}

// DURABILITY.md T3, faults 4 and 5, E3: bits flip, sectors are zeroed, files are cut and lost in the store, in its log, in the
// mirror's logs, claims and head files, in bodies on both sides, while the server runs and while it does not. Every answer is right or an
// error; one scrub makes everything whole again.
func TestMediaDamage(t *testing.T) {
	const perServer = 25
	cases := mediaCases(t)
	type result struct {
		totals         map[string]*mediaTotal
		served, failed int
	}
	results := make(chan result, cases/perServer+1)
	image := newMedia(t)
	t.Run("servers", func(t *testing.T) {
		for n := 0; n < cases; n += perServer {
			t.Run(fmt.Sprint(n/perServer), func(t *testing.T) {
				t.Parallel()
				m := image.clone(t, uint64(n/perServer)+1)
				for i := range min(perServer, cases-n) {
					m.one(i)
				}
				results <- result{m.totals, m.served, m.failed}
			})
		}
	})
	close(results)
	sum := map[string]*mediaTotal{}
	all, served, failed := mediaTotal{}, 0, 0
	for r := range results {
		served, failed = served+r.served, failed+r.failed
		for k, v := range r.totals {
			if sum[k] == nil {
				sum[k] = &mediaTotal{}
			}
			for _, to := range []*mediaTotal{sum[k], &all} {
				to.cases += v.cases
				to.detected += v.detected
				to.harmless += v.harmless
				to.healed += v.healed
				to.refused += v.refused
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(sum)) {
		t.Logf("%-28s %+v", k, *sum[k])
	}
	t.Logf("media damage: %d cases, %d detected, %d harmless, %d healed, %d refused until put back; %d answers right, %d errors, 0 wrong",
		all.cases, all.detected, all.harmless, all.healed, all.refused, served, failed)
	if all.cases != cases {
		t.Errorf("%d cases of %d", all.cases, cases)
	}
}
