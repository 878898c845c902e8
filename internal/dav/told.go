package dav

import (
	"context"
	"crypto/sha256"
	"net"
	"net/http"
	"sync"

	"holdfast"
)

// A PUT that comes twice with the same body may be the repeat of one whose answer was lost, and then it is no
// conflict. RFC 9110, 13.1.1 says so for If-Match; of If-None-Match 13.1.2 wants 412. Both are kept where it is
// known that the answer was not lost: HTTP/1.1 answers in order, so a client that asks again on the same
// connection has read what it was told before.

// maxTold is how many answers a connection remembers.
const maxTold = 16

type toldKey struct{}

// told is what a connection remembers: passing data, gone with it.
type told struct {
	mu   sync.Mutex
	last []toldPut // newest last
}

type toldPut struct{ path, body holdfast.Hash }

// ConnContext gives the context of a connection what the handler remembers of it. It is the ConnContext of an
// http.Server. Without it a repeat is always taken for one whose answer was lost.
func ConnContext(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, toldKey{}, &told{})
}

// connection returns the memory of the client's own connection; nil if it may be shared, by HTTP/2 streams of
// which one can be lost alone, or by the clients of a proxy.
func (q *request) connection() *told {
	for _, h := range []string{"X-Forwarded-For", "Forwarded", "Via"} {
		if q.Header.Get(h) != "" {
			return nil
		}
	}
	if q.ProtoMajor != 1 {
		return nil
	}
	c, _ := q.Context().Value(toldKey{}).(*told)
	return c
}

func (q *request) toldPut(body holdfast.Hash) toldPut {
	return toldPut{sha256.Sum256(appendPath(nil, q.path.segs, false)), body}
}

// tell notes that a PUT is answered as stored.
func (q *request) tell(body holdfast.Hash) {
	c := q.connection()
	if c == nil || q.Method != http.MethodPut {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.last) == maxTold {
		c.last = append(c.last[:0], c.last[1:]...)
	}
	c.last = append(c.last, q.toldPut(body))
}

// wasTold reports whether the client knows that this body is stored at this path.
func (q *request) wasTold(body holdfast.Hash) bool {
	c := q.connection()
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.last {
		if p == q.toldPut(body) {
			return true
		}
	}
	return false
}
