package auth

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// LimitError says that too many passwords were wrong; answer 429 (RFC 6585, 4) with Retry-After.
type LimitError struct {
	Wait time.Duration // at least a second
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("too many wrong passwords, try again in %s", e.Wait)
}

// rate allows burst failures at once and one more every interval.
type rate struct {
	burst    int
	interval time.Duration
}

// Failures allowed. A network that an account was used from has its own count, so that strangers
// cannot lock the owner's devices out; app passwords are not limited at all, only their failures slowed.
var (
	perAddress = rate{20, 6 * time.Second}
	perAccount = rate{30, 10 * time.Second}
	perKnown   = rate{20, 6 * time.Second}
)

const buckets = 8192 // a power of two

// limiter counts failures in a fixed number of buckets that names and addresses share by a keyed
// hash: its memory is bounded, and nobody can choose whose bucket to fill.
type limiter struct {
	seed maphash.Seed

	mu   sync.Mutex
	full [buckets]int64 // unix nanoseconds at which a bucket is empty again
}

func (l *limiter) init() { l.seed = maphash.MakeSeed() }

// count is one limit that applies to an attempt.
type count struct {
	bucket int
	rate   rate
}

func (l *limiter) byAddress(p netip.Prefix) count {
	return count{l.bucket("address", p.String(), ""), perAddress}
}

func (l *limiter) byAccount(name string) count {
	return count{l.bucket("account", name, ""), perAccount}
}

func (l *limiter) byKnown(name string, p netip.Prefix) count {
	return count{l.bucket("known", name, p.String()), perKnown}
}

func (l *limiter) bucket(kind, a, b string) int {
	return int(maphash.String(l.seed, kind+"\x00"+a+"\x00"+b) & (buckets - 1))
}

// take counts a failure before it happens, so that many attempts at once cannot all pass. Nothing is
// counted when it returns an error. give takes it back after a success.
func (l *limiter) take(now time.Time, counts ...count) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := now.UnixNano()
	for _, c := range counts {
		room := t + int64(c.rate.interval)*int64(c.rate.burst-1)
		if over := max(l.full[c.bucket], t) - room; over > 0 {
			return &LimitError{Wait: time.Duration(over).Truncate(time.Second) + time.Second}
		}
	}
	for _, c := range counts {
		l.full[c.bucket] = max(l.full[c.bucket], t) + int64(c.rate.interval)
	}
	return nil
}

func (l *limiter) give(counts ...count) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range counts {
		l.full[c.bucket] -= int64(c.rate.interval)
	}
}

// network returns what is counted as one address: a /32 of IPv4, a /64 of IPv6, which one customer has whole.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits) // the zero Prefix for the zero Addr, shared by all who have none
	return p
}
