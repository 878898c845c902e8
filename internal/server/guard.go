package server

import (
	"net"
	"net/netip"
	"sync"
)

// guard is a listener that bounds the connections open at once, over all listeners that share slots;
// further ones wait in the kernel's queue. With only set it hangs up on everybody else, with shares
// set on who has too many already.
type guard struct {
	net.Listener
	slots  chan struct{}
	only   []netip.Prefix
	shares *shares
	ended  chan struct{}
	once   sync.Once
}

// leastShare is how many connections one network may always have.
const leastShare = 16

// shares bounds the connections of one network (a /32 of IPv4, a /64 of IPv6), so that one stranger
// who opens connections and says nothing does not keep everybody else out. Loopback and trusted
// proxies, which bring the connections of many, are not counted.
type shares struct {
	most   int
	exempt []netip.Prefix

	mu   sync.Mutex
	open map[netip.Prefix]int // never zero
}

func newShares(connections int, exempt []netip.Prefix) *shares {
	return &shares{most: max(connections/4, leastShare), exempt: exempt, open: map[netip.Prefix]int{}}
}

// take counts one more connection of a; false: it has its share. give ends it. A nil shares counts nothing.
func (s *shares) take(a netip.Addr) (give func(), ok bool) {
	if s == nil || !a.IsValid() || a.IsLoopback() || within(s.exempt, a) {
		return func() {}, true
	}
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits) // valid, so no error
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[p] >= s.most {
		return nil, false
	}
	s.open[p]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open[p]--; s.open[p] == 0 {
			delete(s.open, p)
		}
	}, true
}

// Accept waits for a free slot and then for a connection.
func (g *guard) Accept() (net.Conn, error) {
	select {
	case g.slots <- struct{}{}:
	case <-g.ended:
		return nil, net.ErrClosed
	}
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			<-g.slots
			return nil, err
		}
		a := addrOf(c.RemoteAddr().String())
		if g.only == nil || within(g.only, a) {
			if give, ok := g.shares.take(a); ok {
				return &slotConn{Conn: c, slots: g.slots, give: give}, nil
			}
		}
		_ = c.Close() // a stranger, or one with too many: nothing was said
	}
}

// Close stops accepting.
func (g *guard) Close() error {
	g.once.Do(func() { close(g.ended) })
	return g.Listener.Close()
}

type slotConn struct {
	net.Conn
	slots chan struct{}
	give  func()
	once  sync.Once
}

func (c *slotConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.give()
		<-c.slots
	})
	return err
}

// within reports whether one of the networks holds a; loopback counts only if it is named.
func within(nets []netip.Prefix, a netip.Addr) bool {
	for _, n := range nets {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// addrOf returns the IP address of HOST:PORT or HOST, without a zone; the zero Addr if it has none.
func addrOf(s string) netip.Addr {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone("")
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}
