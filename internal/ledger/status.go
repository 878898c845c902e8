package ledger

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/fence"
	"holdfast/internal/mirror"
)

// Status is what a person, a page or a metric is told. It holds ids and numbers only.
type Status struct {
	State     string          `json:"state"`            // open, held, closed
	Code      string          `json:"code,omitempty"`   // names the reason; does not change with its words
	Reason    string          `json:"reason,omitempty"` // one sentence without a full stop
	Detail    string          `json:"detail,omitempty"` // the chain of errors
	Todo      string          `json:"todo,omitempty"`   // what a person does next
	Since     time.Time       `json:"since"`
	Server    string          `json:"server_id"`
	Term      uint64          `json:"term"`
	Accounts  int             `json:"accounts"` // with account 0
	Changes   uint64          `json:"changes"`  // durable, of all accounts
	Closed    []ClosedStatus  `json:"closed_accounts,omitempty"`
	Mirrors   []MirrorStatus  `json:"mirrors"`
	Witness   *WitnessStatus  `json:"witness,omitempty"`
	Policy    string          `json:"policy"`     // strict, degraded: what is done while a mirror is away
	Copies    int             `json:"copies"`     // mirrors that are to have every change
	Live      int             `json:"live"`       // mirrors that have every change
	Degraded  bool            `json:"degraded"`   // writes are acknowledged with fewer copies than configured
	FreeBytes int64           `json:"free_bytes"` // on the store's disk; -1 = not known
	Heals     []HealStatus    `json:"heals,omitempty"`
	Scrub     *ScrubStatus    `json:"scrub,omitempty"`
	Foreign   int             `json:"foreign_tokens"`            // sync tokens refused for a wrong signature or server since the start
	Devices   []ForeignStatus `json:"foreign_devices,omitempty"` // which showed them, at most 100
	Conflicts int             `json:"term_conflicts"`            // times since the start that another server was found to own the mirrors
	Claimants []Claimant      `json:"claimed_by,omitempty"`      // who claimed the mirrors last, while that keeps the fence closed

	Step     string        `json:"step_under_way,omitempty"`    // of the write path: commit, append, look, witness
	StepTook time.Duration `json:"step_under_way_ns,omitempty"` // for how long so far
}

// ClosedStatus names an account whose own fence is closed.
type ClosedStatus struct {
	Account string `json:"account"`
	Code    string `json:"code"`
	Reason  string `json:"reason"` // one sentence without a full stop
	Detail  string `json:"detail,omitempty"`
	Todo    string `json:"todo,omitempty"`
}

// MirrorStatus is one mirror as last seen.
type MirrorStatus struct {
	Name       string `json:"name"`
	Path       string `json:"path"`
	ID         string `json:"id,omitempty"`
	State      string `json:"state"`       // "complete", or what is wrong
	Counts     bool   `json:"counts"`      // every acknowledged change is in it
	SameDevice bool   `json:"same_device"` // shares the store's disk: not an independent copy
	FreeBytes  int64  `json:"free_bytes"`  // -1 = not known

	Changes uint64        `json:"changes"`                 // acknowledged ones of all accounts that it had when it was complete last
	Missing *time.Time    `json:"missing_since,omitempty"` // since when it is not complete; absent while it is
	Silent  time.Duration `json:"silent_ns,omitempty"`     // how long its file system has not answered; 0: it does
	Slow    int           `json:"slow"`                    // times since the start that it did not answer within Config.MirrorTimeout
}

// Complete reports whether a mirror has everything that was acknowledged, and answers.
func (m *MirrorStatus) Complete() bool { return m.State == isComplete && m.Silent == 0 }

// HealStatus is one heal since the start of this process.
type HealStatus struct {
	At      time.Time     `json:"at"`
	Took    time.Duration `json:"took_ns"`
	Changes int           `json:"changes"`
	Report  string        `json:"report"` // file in incidents/
}

// hangsAfter is how long a step of the write path may take before it is a trouble: a disk that wakes up
// takes less.
const hangsAfter = 15 * time.Second

// Hangs reports whether a write has waited for a disk for too long.
func (s *Status) Hangs() bool { return s.StepTook > hangsAfter }

// Damaged reports whether the scrub found damage that no copy can heal.
func (s *Status) Damaged() bool { return s.Scrub != nil && s.Scrub.Unhealed > 0 }

// Number is the account's number as commands take and print it, in decimal.
func (c *ClosedStatus) Number() string {
	n, err := strconv.ParseUint(c.Account, 16, 64)
	if err != nil {
		return c.Account
	}
	return strconv.FormatUint(n, 10)
}

// Troubles says in words what is not as it should be; empty: the fence is open, no account is closed and
// every copy is complete and without damage that cannot be healed. The exit code of `holdfast status`, the heartbeat and the page go by it.
func (s *Status) Troubles() []string {
	var all []string
	if s.State != fence.Open.String() {
		all = append(all, strings.TrimSuffix("the fence is "+s.State+": "+s.Reason, ": "))
	}
	if n := len(s.Closed); n > 0 {
		var which []string
		for _, c := range s.Closed[:min(n, 10)] {
			which = append(which, c.Number())
		}
		if n > 10 {
			which = append(which, "...")
		}
		all = append(all, fmt.Sprintf("closed alone, and their devices told to wait: account %s", strings.Join(which, ", ")))
	}
	for i := range s.Mirrors {
		switch m := &s.Mirrors[i]; {
		case m.State != "complete":
			all = append(all, fmt.Sprintf("mirror %s is not complete: %s", m.Name, m.State))
		case m.Silent > 0:
			all = append(all, fmt.Sprintf("mirror %s has not answered for %s", m.Name, m.Silent.Round(time.Millisecond)))
		}
	}
	if s.Degraded {
		all = append(all, "writes are acknowledged with fewer copies than configured (policy degraded)")
	}
	if s.Hangs() {
		all = append(all, fmt.Sprintf("a write has waited for %s (step %s): a disk hangs", s.StepTook.Round(time.Second), s.Step))
	}
	if w := s.Witness; w != nil && w.State != "complete" {
		all = append(all, "the head witness is not complete: "+w.State)
	}
	if s.Damaged() {
		all = append(all, fmt.Sprintf("%d things are damaged and no copy can heal them: holdfast scrub --full lists them", s.Scrub.Unhealed))
	}
	return all
}

// Status returns the state of the fence and of every copy. It waits for a disk that hangs for a moment at most.
func (l *Ledger) Status() Status {
	s := l.status()
	if l.scrub != nil { // nil in tests of single parts
		s.Scrub = l.scrub.status()
	}
	for i := range s.Mirrors { // without the lock: a mirror that hangs must stop nobody else
		m := &s.Mirrors[i]
		m.FreeBytes, m.Silent = l.free.ask(l.cfg.FS, m.Path)
		m.Slow = l.slow(m.Path)
	}
	if s.Witness != nil {
		s.Witness.Slow = l.slow(s.Witness.Path)
	}
	s.FreeBytes, _ = l.free.ask(l.cfg.FS, l.cfg.Dir)
	s.Step, s.StepTook = l.under.oldest()
	return s
}

func (l *Ledger) status() Status {
	l.mu.RLock()
	defer l.mu.RUnlock()
	s := Status{
		State: l.state.String(), Code: string(l.reason.Code), Reason: l.reason.String(), Detail: l.reason.Detail, Todo: l.reason.Todo(), Since: l.since, Server: l.cfg.Server.String(), Term: l.term.Number,
		Accounts: len(l.heads), Mirrors: slices.Clone(l.info), Heals: slices.Clone(l.heals), Foreign: l.foreign, FreeBytes: -1,
		Conflicts: l.conflicts, Changes: l.changes(), Claimants: slices.Clone(l.claimants),
	}
	if l.third != nil {
		third := *l.third
		s.Witness = &third
	}
	s.copies(l)
	for i := range s.Mirrors {
		if m := &s.Mirrors[i]; m.Missing == nil {
			m.Changes = s.Changes // nothing was acknowledged without it
		}
	}
	for _, a := range slices.Sorted(maps.Keys(l.shut)) {
		c := l.shut[a]
		s.Closed = append(s.Closed, ClosedStatus{Account: a.String(), Code: string(c.Code), Reason: c.String(), Detail: c.Detail, Todo: c.Todo()})
	}
	for _, f := range l.foreigners {
		s.Devices = append(s.Devices, f)
	}
	slices.SortFunc(s.Devices, func(a, b ForeignStatus) int {
		return cmp.Or(strings.Compare(a.Account, b.Account), cmp.Compare(a.Device, b.Device))
	})
	return s
}

// changes sums the durable heads; the caller holds the lock.
func (l *Ledger) changes() (n uint64) {
	for _, h := range l.heads {
		n += uint64(h.Head.Seq)
	}
	return n
}

// AccountHead returns the durable head of one account, and whether it has any change.
func (l *Ledger) AccountHead(a holdfast.AccountID) (holdfast.AccountHead, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	h, ok := l.heads[a]
	return h, ok
}

// noteMirror keeps what an attempt to open a mirror showed. Whether it is complete is seen later.
func (l *Ledger) noteMirror(at place, m *mirror.Mirror, err error) {
	same := l.sameDisk(at.Name, at.Path)
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.infoOf(at)
	s.FreeBytes, s.SameDevice, s.Path = -1, same, at.Path
	if err != nil {
		s.State = err.Error()
		s.count(false, l)
		return
	}
	s.ID = m.ID()
}

// count notes whether a mirror has every acknowledged change, and since when it has not. l.mu is held.
func (m *MirrorStatus) count(counts bool, l *Ledger) {
	if !counts && m.Missing == nil {
		now := l.now()
		m.Missing, m.Changes = &now, l.changes()
	}
	if m.Counts = counts; counts {
		m.Missing = nil
	}
}

// infoOf returns the status of the mirror at a place. l.mu is held.
func (l *Ledger) infoOf(at place) *MirrorStatus {
	for i := range l.info {
		if l.info[i].Name == at.Name {
			return &l.info[i]
		}
	}
	l.info = append(l.info, MirrorStatus{Name: at.Name, Path: at.Path, State: notRead})
	return &l.info[len(l.info)-1]
}

// sharesDisk reports whether the witness's place lies on the disk of the store or of a mirror.
func (l *Ledger) sharesDisk(path string) bool {
	if l.sameDisk("", path) {
		return true
	}
	own, err := l.deviceOf("", path)
	if err != nil {
		return false
	}
	places, _, _ := l.places()
	for _, m := range places {
		if dev, err := l.deviceOf(m.Name, m.Path); err == nil && dev == own {
			return true
		}
	}
	return false
}

// HealProgress is how far a heal of the store has come.
type HealProgress struct {
	Changes, Total int   // put back so far, and to be put back
	Blobs          int   // large bodies put back so far
	Bytes          int64 // of both so far
}

// progress tells of a long heal.
func (l *Ledger) progress(p HealProgress) {
	l.setState(fence.Closed, fence.Reason{Code: fence.Healing, Detail: fmt.Sprintf("%d of %d changes so far", p.Changes, p.Total)})
	if l.takeOver != nil {
		l.takeOver.progress(p)
	}
}

func instanceID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never returns an error
	return hex.EncodeToString(b[:])
}

func incidentPath(cfg Config, name string) string { return filepath.Join(cfg.Dir, "incidents", name) }
