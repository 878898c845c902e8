package dav

import (
	"encoding/xml"
	"net/http"
	"strconv"

	"holdfast/internal/ledger"
	"holdfast/internal/limit"
)

// flushAt is how many bytes of an answer are collected before the view is closed and they are sent. A
// client that reads slowly holds that much, in a buffer that can be used again.
const flushAt = keepBuffer * 3 / 4

// multistatus writes a 207 answer (RFC 4918, 13) into a pooled buffer. An answer that fits goes out
// with its length; a longer one is streamed in pieces, each collected in a view of its own that is
// closed before a byte of it is sent.
type multistatus struct {
	req   *request
	pool  *[]byte
	buf   []byte
	began bool // bytes are out
	root  xml.Name

	roomy  bool  // has the memory of a whole buffer
	weight int64 // memory for the largest body that was shown
}

func (q *request) multistatus() *multistatus { return q.answer(davName("multistatus")) }

// answer begins an XML answer with a root element of the given name.
func (q *request) answer(root xml.Name) *multistatus {
	m := &multistatus{req: q, pool: buffers.Get().(*[]byte), root: root}
	m.reset()
	return m
}

// reset drops what was rendered and not sent.
func (m *multistatus) reset() {
	m.buf = append((*m.pool)[:0], xmlHeader...)
	open, _ := tags(m.root)
	m.buf = append(m.buf, open...)
	m.buf = append(appendPrefixes(m.buf), '>')
}

func appendPrefixes(dst []byte) []byte {
	for _, p := range prefixes {
		dst = append(dst, " xmlns:"...)
		dst = append(dst, p.prefix...)
		dst = append(dst, `="`...)
		dst = append(append(dst, p.space...), '"')
	}
	return dst
}

// release gives the buffer back.
func (m *multistatus) release() {
	if cap(m.buf) <= keepBuffer {
		*m.pool = m.buf[:0]
		buffers.Put(m.pool)
	}
	m.buf = nil
}

// full says that it is time to end the view: the buffer is to be sent, or its memory has to be waited for.
func (m *multistatus) full() bool {
	if len(m.buf) > limit.Free && !m.roomy {
		m.roomy = limit.TryHold(m.req.Context(), keepBuffer)
		return !m.roomy
	}
	return len(m.buf) >= flushAt
}

// pages calls page in one view after another until it has no more, sends what each rendered after
// its view is closed, and ends the answer.
func (m *multistatus) pages(page func(v *ledger.View) (more bool, err error)) error {
	for more := true; more; {
		err := m.req.view(func(v *ledger.View) (err error) {
			more, err = page(v)
			return err
		})
		if err != nil {
			return m.cut(err)
		}
		if more {
			if err := m.next(); err != nil {
				return m.cut(err)
			}
		}
	}
	return m.end(http.StatusMultiStatus)
}

// cut makes an error after the first bytes end the connection: a shorter listing must not pass for a whole one.
func (m *multistatus) cut(err error) error {
	if m.began {
		m.req.h.log.Debug("answer cut off", "account", m.req.who.Account.String(), "err", err)
		return errAnswered
	}
	return err
}

// next makes room for what comes: more memory, or what is collected is sent.
func (m *multistatus) next() error {
	if m.roomy || len(m.buf) <= limit.Free {
		return m.flush()
	}
	m.roomy = true
	return limit.Hold(m.req.Context(), keepBuffer)
}

func (m *multistatus) flush() error {
	if !m.began {
		m.began = true
		m.req.w.Header().Set("Content-Type", xmlType)
		m.req.w.WriteHeader(http.StatusMultiStatus)
	}
	_, err := m.req.w.Write(m.buf)
	m.buf = m.buf[:0]
	return err
}

// end closes the root element and sends what is left.
func (m *multistatus) end(status int) error {
	_, end := tags(m.root)
	m.buf = append(append(m.buf, end...), '\n')
	if !m.began {
		h := m.req.w.Header()
		h.Set("Content-Type", xmlType)
		h.Set("Content-Length", strconv.Itoa(len(m.buf)))
		m.req.w.WriteHeader(status)
	}
	if _, err := m.req.w.Write(m.buf); err != nil {
		return errAnswered
	}
	return nil
}

// status appends a response with a status and no properties (RFC 6578, 3.6: a removed member).
func (m *multistatus) status(segs []string, collection bool, status int, f *fault) {
	m.buf = append(m.buf, "<D:response>"...)
	m.href(segs, collection)
	m.buf = appendStatus(m.buf, status)
	if f != nil {
		m.buf = appendError(m.buf, f, false)
	}
	m.buf = append(m.buf, "</D:response>\n"...)
}

// href appends a DAV:href below the base that the request came to.
func (m *multistatus) href(segs []string, collection bool) {
	m.buf = append(m.buf, "<D:href>"...)
	m.buf = m.req.path.append(m.buf, segs, collection) // escaped octets need no escaping in XML
	m.buf = append(m.buf, "</D:href>"...)
}

// rawStatus is status for a reference that could not be read as one of ours.
func (m *multistatus) rawStatus(href string, status int) {
	m.buf = append(m.buf, "<D:response><D:href>"...)
	m.buf = appendText(m.buf, href)
	m.buf = append(m.buf, "</D:href>"...)
	m.buf = appendStatus(m.buf, status)
	m.buf = append(m.buf, "</D:response>\n"...)
}

func appendStatus(dst []byte, status int) []byte {
	dst = append(dst, "<D:status>HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, http.StatusText(status)...)
	return append(dst, "</D:status>"...)
}

// element appends an element with text.
func (m *multistatus) element(n xml.Name, text string) {
	open, end := tags(n)
	m.buf = append(append(m.buf, open...), '>')
	m.buf = append(appendText(m.buf, text), end...)
}
