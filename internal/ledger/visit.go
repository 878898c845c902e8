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

// stranger reports whether a claim of this data directory's instance is of another process that lives on
// this machine. The lock of the data directory is held, so that process works on a copy of it, or this
// directory is a copy of its: for a command that only comes by no reason to take the mirrors from a server.
func (p *proof) stranger(c *mirror.Claim) bool {
	l := p.ledger
	if !l.cfg.Visit || c.Damaged || c.Term == l.term || c.Term.String() == p.heads.Term {
		return false
	}
	if l.cfg.alive != nil {
		return l.cfg.alive(c)
	}
	return lives(c)
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
