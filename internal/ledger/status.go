package ledger

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/fence"
	"holdfast/internal/mirror"
)

// Status is what a person, a page or a metric is told. It holds ids and numbers only.
type Status struct {
	State     string         `json:"state"` // open, held, closed
	Reason    string         `json:"reason,omitempty"`
	Since     time.Time      `json:"since"`
	Server    string         `json:"server_id"`
	Term      uint64         `json:"term"`
	Accounts  int            `json:"accounts"` // with account 0
	Changes   uint64         `json:"changes"`  // durable, of all accounts
	Closed    []ClosedStatus `json:"closed_accounts,omitempty"`
	Mirrors   []MirrorStatus `json:"mirrors"`
	Witness   *WitnessStatus `json:"witness,omitempty"`
	FreeBytes int64          `json:"free_bytes"` // on the store's disk; -1 = not known
	Heals     []HealStatus   `json:"heals,omitempty"`
	Scrub     *ScrubStatus   `json:"scrub,omitempty"`
	Foreign   int            `json:"foreign_tokens"` // sync tokens refused for a wrong signature or server since the start
}

// ClosedStatus names an account whose own fence is closed.
type ClosedStatus struct {
	Account string `json:"account"`
	Reason  string `json:"reason"`
}

// MirrorStatus is one mirror as last seen.
type MirrorStatus struct {
	Name       string `json:"name"`
	Path       string `json:"path"`
	ID         string `json:"id,omitempty"`
	State      string `json:"state"`       // "complete", or what is wrong
	SameDevice bool   `json:"same_device"` // shares the store's disk: not an independent copy
	FreeBytes  int64  `json:"free_bytes"`  // -1 = not known
}

// HealStatus is one heal since the start of this process.
type HealStatus struct {
	At      time.Time     `json:"at"`
	Took    time.Duration `json:"took_ns"`
	Changes int           `json:"changes"`
	Report  string        `json:"report"` // file in incidents/
}

// Status returns the state of the fence and of every copy.
func (l *Ledger) Status() Status {
	s := l.status()
	s.Scrub = l.scrub.status()
	for i := range s.Mirrors { // without the lock: a mirror that hangs must stop nobody else
		if n, err := durable.FreeOf(l.cfg.FS, s.Mirrors[i].Path); err == nil {
			s.Mirrors[i].FreeBytes = n
		}
	}
	if n, err := durable.FreeOf(l.cfg.FS, l.cfg.Dir); err == nil {
		s.FreeBytes = n
	}
	return s
}

func (l *Ledger) status() Status {
	l.mu.RLock()
	defer l.mu.RUnlock()
	s := Status{
		State: l.state.String(), Reason: l.reason, Since: l.since, Server: l.cfg.Server.String(), Term: l.term.Number,
		Accounts: len(l.heads), Mirrors: slices.Clone(l.info), Heals: slices.Clone(l.heals), Foreign: l.foreign, FreeBytes: -1,
	}
	if l.third != nil {
		third := *l.third
		s.Witness = &third
	}
	for _, h := range l.heads {
		s.Changes += uint64(h.Head.Seq)
	}
	for _, a := range slices.Sorted(maps.Keys(l.shut)) {
		s.Closed = append(s.Closed, ClosedStatus{a.String(), l.shut[a]})
	}
	return s
}

// AccountHead returns the durable head of one account, and whether it has any change.
func (l *Ledger) AccountHead(a holdfast.AccountID) (holdfast.AccountHead, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	h, ok := l.heads[a]
	return h, ok
}

// noteMirror keeps what an attempt to open mirror i showed.
func (l *Ledger) noteMirror(i int, m *mirror.Mirror, err error) {
	same, derr := durable.SameDevice(l.cfg.FS, l.cfg.Dir, l.cfg.Mirrors[i].Path)
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.info[i]
	s.FreeBytes = -1
	if derr == nil {
		s.SameDevice = same
	}
	if err != nil {
		s.State = err.Error()
		return
	}
	s.ID, s.State = m.ID(), "complete"
}

// sharesDisk reports whether a place lies on the disk of the store or of a mirror.
func (l *Ledger) sharesDisk(path string) bool {
	same, err := durable.SameDevice(l.cfg.FS, l.cfg.Dir, path)
	for _, m := range l.cfg.Mirrors {
		if err == nil && same {
			return true
		}
		same, err = durable.SameDevice(l.cfg.FS, m.Path, path)
	}
	return err == nil && same
}

// progress tells of a long heal.
func (l *Ledger) progress(changes int) {
	l.setState(fence.Closed, fmt.Sprintf("healing the store from the mirror: %d changes so far", changes))
}

// skipUnfenced is true for what last night's backup, made right after set-up, does not have.
func (l *Ledger) skipUnfenced(a holdfast.AccountID, s holdfast.Seq) bool {
	return l.cfg.Unfenced && a != holdfast.Server && s > 1
}

func instanceID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never returns an error
	return hex.EncodeToString(b[:])
}

func incidentPath(cfg Config, name string) string { return filepath.Join(cfg.Dir, "incidents", name) }
