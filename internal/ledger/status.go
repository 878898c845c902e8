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
	Policy    string         `json:"policy"`     // strict, degraded: what is done while a mirror is away
	Copies    int            `json:"copies"`     // mirrors that are to have every change
	Live      int            `json:"live"`       // mirrors that have every change
	Degraded  bool           `json:"degraded"`   // writes are acknowledged with fewer copies than configured
	FreeBytes int64          `json:"free_bytes"` // on the store's disk; -1 = not known
	Heals     []HealStatus   `json:"heals,omitempty"`
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
	Counts     bool   `json:"counts"`      // every acknowledged change is in it
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
	s.copies(l)
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

// noteMirror keeps what an attempt to open a mirror showed. Whether it is complete is seen later.
func (l *Ledger) noteMirror(at place, m *mirror.Mirror, err error) {
	same := l.sameDisk(at.Path)
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.infoOf(at)
	s.FreeBytes, s.SameDevice, s.Path = -1, same, at.Path
	if err != nil {
		s.State, s.Counts = err.Error(), false
		return
	}
	s.ID = m.ID()
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
