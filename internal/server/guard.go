package server

import (
	"net"
	"net/netip"
	"sync"
)

// guard is a listener that bounds the connections open at once, over all listeners that share slots;
// further ones wait in the kernel's queue. With only set it hangs up on everybody else.
type guard struct {
	net.Listener
	slots chan struct{}
	only  []netip.Prefix
	ended chan struct{}
	once  sync.Once
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
		if g.only == nil || within(g.only, addrOf(c.RemoteAddr().String())) {
			return &slotConn{Conn: c, slots: g.slots}, nil
		}
		_ = c.Close() // a stranger: nothing was said
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
	once  sync.Once
}

func (c *slotConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.slots })
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
