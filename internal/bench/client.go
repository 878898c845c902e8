package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// client is one keep-alive connection of one account. It is written for little CPU: the generator
// shares its cores with the server. Not safe for concurrent use.
type client struct {
	addr     string
	conn     net.Conn // nil: to be dialed by the next request
	in       *bufio.Reader
	out      []byte
	header   string // Host and Authorization
	home     string // path of the account's contacts
	body     bytes.Buffer
	patience time.Duration // how long one answer may take; 0: for ever
	last     bool          // the server closes the connection after this answer
	took     time.Duration // of the last request, to the last byte of its answer
}

func dialServer(addr, user, password string) (*client, error) {
	basic := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	c := &client{
		addr: addr, in: bufio.NewReaderSize(nil, 64<<10), home: "/dav/" + user + "/contacts/",
		header: "\r\nHost: " + addr + "\r\nAuthorization: Basic " + basic,
	}
	return c, c.dial()
}

func (c *client) dial() error {
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	c.conn, c.last = conn, false
	c.in.Reset(conn)
	return nil
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close() // nothing is buffered in it
		c.conn = nil
	}
}

// do sends one request and returns status, ETag and body; the body is valid until the next call.
func (c *client) do(method, path, extra string, body []byte) (status int, etag string, got []byte, err error) {
	c.out = append(c.out[:0], method...)
	c.out = append(c.out, ' ')
	c.out = append(c.out, path...)
	c.out = append(c.out, " HTTP/1.1"...)
	c.out = append(c.out, c.header...)
	c.out = append(c.out, extra...)
	if body != nil {
		c.out = append(c.out, "\r\nContent-Length: "...)
		c.out = strconv.AppendInt(c.out, int64(len(body)), 10)
	}
	c.out = append(c.out, "\r\n\r\n"...)
	c.out = append(c.out, body...)
	start := time.Now()
	if c.conn == nil {
		if err := c.dial(); err != nil {
			return 0, "", nil, err
		}
	}
	if c.patience > 0 {
		_ = c.conn.SetDeadline(start.Add(c.patience)) // of a TCP connection; it fails only where the next call fails too
	}
	if _, err := c.conn.Write(c.out); err != nil {
		return 0, "", nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	status, etag, got, err = c.read(method, path)
	c.took = time.Since(start)
	if c.last || err != nil {
		c.close() // the next request pays for a new connection, as with any client of such a server
	}
	return status, etag, got, err
}

func (c *client) read(method, path string) (status int, etag string, got []byte, err error) {
	line, err := c.line()
	if err != nil {
		return 0, "", nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if len(line) < 12 {
		return 0, "", nil, fmt.Errorf("%s %s: status line %q", method, path, line)
	}
	if status, err = strconv.Atoi(line[9:12]); err != nil {
		return 0, "", nil, fmt.Errorf("%s %s: status line %q", method, path, line)
	}
	length, chunked := int64(0), false
	c.last = strings.HasPrefix(line, "HTTP/1.0")
	for {
		if line, err = c.line(); err != nil {
			return 0, "", nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		name, value, found := strings.Cut(line, ":")
		if !found {
			break
		}
		value = strings.TrimSpace(value)
		switch {
		case strings.EqualFold(name, "ETag"):
			etag = value
		case strings.EqualFold(name, "Content-Length"):
			if length, err = strconv.ParseInt(value, 10, 64); err != nil {
				return 0, "", nil, fmt.Errorf("%s %s: length %q", method, path, value)
			}
		case strings.EqualFold(name, "Transfer-Encoding"):
			chunked = true
		case strings.EqualFold(name, "Connection"):
			c.last = strings.EqualFold(value, "close")
		}
	}
	c.body.Reset()
	if status == http.StatusNoContent {
		length = 0
	}
	if chunked {
		err = c.chunks()
	} else {
		_, err = io.CopyN(&c.body, c.in, length)
	}
	if err != nil {
		return 0, "", nil, fmt.Errorf("%s %s: read body: %w", method, path, err)
	}
	return status, etag, c.body.Bytes(), nil
}

func (c *client) line() (string, error) {
	b, err := c.in.ReadSlice('\n')
	if err != nil {
		return "", fmt.Errorf("read line: %w", err)
	}
	return string(bytes.TrimRight(b, "\r\n")), nil
}

func (c *client) chunks() error {
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(line, 16, 64)
		if err != nil {
			return fmt.Errorf("chunk of %q: %w", line, err)
		}
		if _, err := io.CopyN(&c.body, c.in, n); err != nil {
			return fmt.Errorf("read chunk: %w", err)
		}
		if _, err := c.line(); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
}
