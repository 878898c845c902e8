package ledger

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"holdfast/internal/mirror"
)

// stranger reports whether a claim of this data directory's instance is of another process that lives, or may
// live. The lock of the data directory is held, so that process works on a copy of it, or this directory is a copy of
// its: for a command that only comes by no reason to take the mirrors from a server. On this machine the process table
// knows. Of another machine nothing is known but what the mirror says: a log that was not ended in good order may be
// written to at this moment.
func (p *proof) stranger(c *mirror.Claim) bool {
	l := p.ledger
	if !l.cfg.Visit || c.Damaged || c.Term == l.term {
		return false
	}
	if elsewhere(l.cfg.host, c) {
		return !c.Sealed && !l.cfg.Look // who only looks takes nothing from anybody
	}
	if c.Term.String() == p.heads.Term {
		return false // it may be about to end: the lock was given back
	}
	if l.cfg.alive != nil {
		return l.cfg.alive(c)
	}
	return lives(c)
}

// elsewhere reports whether another machine than host made a claim. host "" is this one.
func elsewhere(host string, c *mirror.Claim) bool {
	if host == "" {
		own, err := os.Hostname()
		if err != nil {
			return false
		}
		host = own
	}
	return c.Host != host
}

// lives reports whether the process of a claim runs on this machine. In doubt it does not.
func lives(c *mirror.Claim) bool {
	host, err := os.Hostname()
	if err != nil || host != c.Host || c.PID <= 0 || c.PID == os.Getpid() {
		return false
	}
	if err := syscall.Kill(c.PID, 0); err != nil && !errors.Is(err, syscall.EPERM) {
		return false
	}
	own, err := os.Executable()
	if err != nil {
		return false
	}
	exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(c.PID), "exe"))
	return err == nil && filepath.Base(strings.TrimSuffix(exe, " (deleted)")) == filepath.Base(own)
}
