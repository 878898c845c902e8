package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"holdfast"
)

// Bounds of what is remembered. Both generations of a table together hold twice as many at most.
const (
	maxVerdicts = 4096
	maxKnown    = 4096
	maxSeen     = 16384
)

// memory is what a process remembers of logins. Nothing in it is needed for a right answer.
type memory struct {
	key [32]byte // of this process; credentials are remembered by their keyed hash only

	mu       sync.Mutex
	head     holdfast.AccountHead // of account 0, that verdicts were made at
	verdicts generations[holdfast.Hash, verdict]
	known    generations[known, struct{}]
	last     map[device]time.Time
}

// verdict is what a name and password were found to be. The zero Identity.Account: refused.
type verdict struct{ Identity }

type known struct {
	name string
	from netip.Prefix
}

type device struct {
	account holdfast.AccountID
	id      holdfast.DeviceID
}

// credentials returns the keyed hash of a name and a password.
func (m *memory) credentials(name, password string) holdfast.Hash {
	h := hmac.New(sha256.New, m.key[:])
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(name))))
	h.Write([]byte(name))
	h.Write([]byte(password))
	return holdfast.Hash(h.Sum(nil))
}

// recall returns the verdict made at the present head of account 0, if there is one.
func (m *memory) recall(k holdfast.Hash, head holdfast.AccountHead, now time.Time) (verdict, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.head != head {
		m.head, m.verdicts = head, generations[holdfast.Hash, verdict]{}
	}
	v, ok := m.verdicts.get(k)
	if ok && v.Account != 0 {
		m.note(v.Identity, now)
	}
	return v, ok
}

// remember keeps a verdict that was made at head. It is of no use once account 0 has moved on.
func (m *memory) remember(k holdfast.Hash, head holdfast.AccountHead, v verdict, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.head == head {
		m.verdicts.put(k, v, maxVerdicts)
	}
	if v.Account != 0 {
		m.note(v.Identity, now)
	}
}

func (m *memory) note(id Identity, now time.Time) {
	if m.last == nil || len(m.last) >= maxSeen {
		m.last = map[device]time.Time{}
	}
	m.last[device{id.Account, id.Device}] = now
}

// seen returns when a device was last let in, nil if not since the start.
func (m *memory) seen(a holdfast.AccountID, d holdfast.DeviceID) *time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t, ok := m.last[device{a, d}]; ok {
		return &t
	}
	return nil
}

// befriend remembers that an account was used with success from a network.
func (m *memory) befriend(name string, from netip.Prefix) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known.put(known{name, from}, struct{}{}, maxKnown)
}

func (m *memory) isKnown(name string, from netip.Prefix) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.known.get(known{name, from})
	return ok
}

// generations is a bounded table that forgets what was not used for longest, roughly: when the young
// half is full the old half goes.
type generations[K comparable, V any] struct{ young, old map[K]V }

func (g *generations[K, V]) get(k K) (V, bool) {
	v, ok := g.young[k]
	if !ok {
		v, ok = g.old[k]
	}
	return v, ok
}

func (g *generations[K, V]) put(k K, v V, most int) {
	if g.young == nil || len(g.young) >= most {
		g.old, g.young = g.young, make(map[K]V)
	}
	g.young[k] = v
}
