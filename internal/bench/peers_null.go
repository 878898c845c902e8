package main

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"time"
)

// null answers the generator from a map in memory: no HTTP library, no XML, no login, no disk. What it
// reaches is the generator's own limit on this machine, with the least server there can be beside it.
type null struct {
	mu      sync.RWMutex
	cards   map[string][]byte // by path
	log     []string          // paths in order of their changes; the sync token is its length
	listing []byte            // of the cards; nil: to be made
	events  [][]byte          // the response element of each
}

const (
	nullContacts = "/contacts/"
	nullEvents   = "/events/"
)

// serveNull serves cards and events that are the same as the other servers'. It writes its address to out and
// ends with its process.
func serveNull(out io.Writer, cards int) error {
	n := &null{cards: make(map[string][]byte, cards)}
	for i := range cards {
		n.cards[nullContacts+loadedName(i)+".vcf"] = card(loadedName(i), 0)
	}
	for i := range eventCount {
		n.events = append(n.events, appendMember(nil, nullEvents+eventName(i)+".ics", "calendar-data", event(i)))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	fmt.Fprintln(out, l.Addr())
	for {
		conn, err := l.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		go n.connection(conn)
	}
}

func (n *null) connection(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	r := textproto.NewReader(in)
	var out, body []byte
	for {
		line, err := r.ReadLine()
		if err != nil {
			return
		}
		method, rest, _ := strings.Cut(line, " ")
		path, _, _ := strings.Cut(rest, " ")
		length, depth := 0, ""
		for line != "" {
			if line, err = r.ReadLine(); err != nil {
				return
			}
			switch name, value, _ := strings.Cut(line, ": "); name {
			case "Content-Length":
				if length, err = strconv.Atoi(value); err != nil || length > 1<<20 {
					return
				}
			case "Depth":
				depth = value
			}
		}
		body = append(body[:0], make([]byte, length)...)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		status, etag, answer := n.answer(method, path, depth, body)
		out = append(append(append(out[:0], "HTTP/1.1 "...), status...), etag...)
		out = strconv.AppendInt(append(out, "\r\nContent-Length: "...), int64(len(answer)), 10)
		out = append(append(out, "\r\n\r\n"...), answer...)
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}

func (n *null) answer(method, path, depth string, body []byte) (status, etag string, answer []byte) {
	const multistatus = "207 Multi-Status"
	switch {
	case method == "GET":
		n.mu.RLock()
		b := n.cards[path]
		n.mu.RUnlock()
		return "200 OK", "\r\nETag: " + nullETag(b), b
	case method == "PUT":
		return n.put(path, bytes.Clone(body))
	case bytes.Contains(body, []byte("calendar-query")):
		return multistatus, "", n.query(body)
	case bytes.Contains(body, []byte("multiget")):
		return multistatus, "", n.multiget(body)
	case bytes.Contains(body, []byte("<propfind")) && depth == "0":
		n.mu.RLock()
		defer n.mu.RUnlock()
		return multistatus, "", n.token(nil)
	}
	token, _, _ := elementText(body, "sync-token")
	if len(token) == 0 {
		return multistatus, "", n.all()
	}
	since, err := strconv.Atoi(strings.TrimPrefix(string(token), "data:"))
	n.mu.RLock()
	defer n.mu.RUnlock()
	if err != nil || since > len(n.log) {
		return "403 Forbidden", "", nil
	}
	var dst []byte
	for _, p := range n.log[since:] {
		dst = appendMember(dst, p, "", n.cards[p])
	}
	return multistatus, "", n.token(dst)
}

func (n *null) put(path string, body []byte) (status, etag string, answer []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	status = "201 Created"
	if _, ok := n.cards[path]; ok {
		status = "204 No Content"
	}
	n.cards[path], n.listing = body, nil
	n.log = append(n.log, path)
	return status, "\r\nETag: " + nullETag(body), nil
}

func (n *null) token(dst []byte) []byte {
	return fmt.Appendf(dst, "<sync-token>data:%d</sync-token>", len(n.log))
}

// all is the listing and the sync from empty: made once, for it is the generator that is measured.
func (n *null) all() []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listing == nil {
		for path, b := range n.cards {
			n.listing = appendMember(n.listing, path, "", b)
		}
		n.listing = n.token(n.listing)
	}
	return n.listing
}

func (n *null) multiget(body []byte) (dst []byte) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for {
		href, rest, ok := elementText(body, "href")
		if !ok {
			return dst
		}
		dst = appendMember(dst, string(href), "address-data", n.cards[string(href)])
		body = rest
	}
}

func (n *null) query(body []byte) (dst []byte) {
	_, start, _ := bytes.Cut(body, []byte(`start="`))
	_, end, _ := bytes.Cut(body, []byte(`end="`))
	from, err1 := time.Parse(utcFormat, string(start[:min(len(start), len(utcFormat))]))
	to, err2 := time.Parse(utcFormat, string(end[:min(len(end), len(utcFormat))]))
	if err1 != nil || err2 != nil {
		return nil
	}
	for i, e := range n.events {
		if happens(i, from, to) {
			dst = append(dst, e...)
		}
	}
	return dst
}

func nullETag(b []byte) string {
	return `"` + strconv.FormatUint(uint64(crc32.ChecksumIEEE(b)), 16) + `"`
}

func appendMember(dst []byte, path, element string, data []byte) []byte {
	dst = append(append(append(dst, "<response><href>"...), path...), "</href><getetag>"...)
	dst = append(append(dst, nullETag(data)...), "</getetag>"...)
	if element != "" {
		dst = append(append(append(dst, '<'), element...), '>')
		dst = append(append(append(append(dst, data...), "</"...), element...), '>')
	}
	return append(dst, "</response>"...)
}
