package clients

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf16"
)

// loads are the ways to be hostile. Each answer is looked at.
func (b *besieged) loads() []siege {
	return []siege{
		{"a storm of listings", 16, b.listing},
		{"the same sync from nothing again and again", 8, b.syncAgain},
		{"a loop of PUTs that conflict", 8, b.conflict},
		{"multigets of 100,000 hrefs", 2, b.hugeMultiget},
		{"queries for rules that never come true", 4, b.endlessRules},
		{"filters in filters", 4, b.deepFilters},
		{"XML bombs", 2, b.bombs},
		{"a GiB for a calendar", 2, b.hugeObject},
		{"ranges by the thousand", 4, b.ranges},
		{"floods of header lines", 4, b.headers},
		{"requests without reading the answers", 4, b.pipeline},
		{"bodies of one byte at a time", 60, b.slowBody},
		{"heads of one byte at a time", 100, b.slowHead},
		{"answers that nobody reads", 30, b.slowReader},
		{"copies of a whole collection", 1, b.copies},
		{"large files", 2, b.files},
		{"guesses of passwords", 4, b.guesses},
	}
}

func (b *besieged) listing(_ context.Context, c *client, _, _ int) (int, error) {
	a, err := c.do("PROPFIND", "/dav/mallory/contacts/", nil, "Depth", "1")
	if err == nil {
		err = a.refusedOr(http.StatusMultiStatus)
	}
	return 1, err
}

func (b *besieged) syncAgain(_ context.Context, c *client, _, _ int) (int, error) {
	a, err := c.do("REPORT", "/dav/mallory/contacts/", []byte(`<D:sync-collection xmlns:D="DAV:"><D:sync-token/><D:sync-level>1</D:sync-level><D:prop><D:getetag/></D:prop></D:sync-collection>`), "Depth", "0")
	if err == nil {
		err = a.refusedOr(http.StatusMultiStatus)
	}
	return 1, err
}

func (b *besieged) conflict(_ context.Context, c *client, w, round int) (int, error) {
	path := "/dav/mallory/contacts/m-0.vcf"
	a, err := c.do("PUT", path, []byte(card("m-0", "Mallory", fmt.Sprint(w, round))), "Content-Type", contentType(path), "If-Match", `"0000"`)
	if err == nil {
		err = a.refusedOr(http.StatusPreconditionFailed)
	}
	return 1, err
}

func (b *besieged) hugeMultiget(_ context.Context, c *client, _, round int) (int, error) {
	n, want := 99_000, http.StatusMultiStatus
	if round%2 == 1 {
		n, want = 120_000, http.StatusBadRequest // more elements than a request may have
	}
	var body bytes.Buffer
	body.WriteString(`<C:addressbook-multiget xmlns:C="urn:ietf:params:xml:ns:carddav" xmlns:D="DAV:"><D:prop><D:getetag/></D:prop>`)
	for i := range n {
		fmt.Fprintf(&body, "<D:href>/dav/mallory/contacts/m-%d.vcf</D:href>", i)
	}
	body.WriteString(`</C:addressbook-multiget>`)
	a, err := c.do("REPORT", "/dav/mallory/contacts/", body.Bytes())
	if err == nil {
		err = a.refusedOr(want)
	}
	return n, err
}

func (b *besieged) endlessRules(_ context.Context, c *client, _, _ int) (int, error) {
	a, err := c.do("REPORT", "/dav/mallory/calendar/", []byte(`<C:calendar-query xmlns:C="urn:ietf:params:xml:ns:caldav" xmlns:D="DAV:"><D:prop><D:getetag/></D:prop>`+
		`<C:filter><C:comp-filter name="VCALENDAR"><C:comp-filter name="VEVENT"><C:time-range start="20990101T000000Z" end="20990102T000000Z"/></C:comp-filter></C:comp-filter></C:filter></C:calendar-query>`), "Depth", "1")
	if err == nil {
		err = a.refusedOr(http.StatusMultiStatus)
	}
	return 1, err
}

func (b *besieged) deepFilters(_ context.Context, c *client, _, round int) (int, error) {
	depth := 30
	if round%2 == 1 {
		depth = 50_000 // too deep for any request
	}
	filter := strings.Repeat(`<C:comp-filter name="VCALENDAR">`, depth) + strings.Repeat(`</C:comp-filter>`, depth)
	a, err := c.do("REPORT", "/dav/mallory/calendar/", []byte(`<C:calendar-query xmlns:C="urn:ietf:params:xml:ns:caldav" xmlns:D="DAV:"><D:prop><D:getetag/></D:prop><C:filter>`+filter+`</C:filter></C:calendar-query>`))
	if err == nil {
		if depth > 1000 {
			err = a.refusedOr(http.StatusBadRequest)
		} else {
			err = a.refusedOr(http.StatusMultiStatus, http.StatusBadRequest, http.StatusForbidden)
		}
	}
	return 1, err
}

// bombs are bodies that take a careless parser's memory or time; none is taken.
func (b *besieged) bombs(_ context.Context, c *client, _, round int) (int, error) {
	a, err := c.do("PROPFIND", "/dav/mallory/", bombs[round%len(bombs)](), "Depth", "0")
	if err == nil {
		err = a.refusedOr(http.StatusBadRequest, http.StatusRequestEntityTooLarge)
	}
	return 1, err
}

var bombs = []func() []byte{
	func() []byte { // a billion laughs
		s := `<!DOCTYPE l [<!ENTITY a "lol">`
		for r := 'b'; r < 'k'; r++ {
			s += fmt.Sprintf("<!ENTITY %c %q>", r, strings.Repeat(fmt.Sprintf("&%c;", r-1), 10))
		}
		return []byte(s + `]><D:propfind xmlns:D="DAV:"><D:prop><D:j>&j;</D:j></D:prop></D:propfind>`)
	},
	func() []byte {
		return []byte(`<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><D:propfind xmlns:D="DAV:"><D:prop>&e;</D:prop></D:propfind>`)
	},
	func() []byte { return []byte(strings.Repeat("<a>", 300_000)) },
	func() []byte {
		return []byte(`<D:propfind xmlns:D="DAV:"><D:prop>` + strings.Repeat(`<D:x/>`, 150_000) + `</D:prop></D:propfind>`)
	},
	func() []byte {
		var s bytes.Buffer
		s.WriteString(`<D:propfind xmlns:D="DAV:"`)
		for i := range 80_000 {
			fmt.Fprintf(&s, ` a%d=""`, i)
		}
		return append(s.Bytes(), `/>`...)
	},
	func() []byte {
		return []byte(`<D:propfind xmlns:D="DAV:"><D:` + strings.Repeat("n", 2<<20) + `/></D:propfind>`)
	},
	func() []byte {
		return []byte("<D:propfind xmlns:D=\"DAV:\"><D:prop>\xff\xfe\xc0\x80</D:prop></D:propfind>")
	},
	func() []byte { // UTF-16 that ends in the middle of a character
		out := []byte{0xff, 0xfe}
		for _, u := range utf16.Encode([]rune(`<D:propfind xmlns:D="DAV:">` + strings.Repeat("<a>", 100_000))) {
			out = append(out, byte(u), byte(u>>8))
		}
		return append(out, 'x')
	},
}

// endlessBody is n bytes that begin as a calendar and never end one.
type endlessBody struct{ left, sent int64 }

func (r *endlessBody) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := int64(min(len(p), 64<<10))
	n = min(n, r.left)
	for i := range p[:n] {
		p[i] = "BEGIN:VCALENDAR\r\n"[(r.sent+int64(i))%17]
	}
	r.left, r.sent = r.left-n, r.sent+n
	return int(n), nil
}

func (b *besieged) hugeObject(ctx context.Context, c *client, _, round int) (int, error) {
	const gib = 1 << 30
	body := &endlessBody{left: gib}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.base+"/dav/mallory/calendar/huge.ics", body)
	if err != nil {
		return 0, err
	}
	req.SetBasicAuth(c.user, c.password)
	req.Header.Set("Content-Type", "text/calendar")
	if round%2 == 0 {
		req.ContentLength = gib // says so, and is refused before it is sent
	}
	res, err := c.http.Do(req)
	switch {
	case body.sent > 64<<20:
		return 1, fmt.Errorf("the server took %d MiB for a calendar object", body.sent>>20)
	case err != nil && (hungUp(err) || strings.Contains(err.Error(), "write")):
		return 1, nil // it hung up while the body was on its way
	case err != nil:
		return 1, err
	}
	defer res.Body.Close()
	a := &answer{status: res.StatusCode, header: res.Header, request: "PUT of a GiB"}
	return 1, a.refusedOr(http.StatusRequestEntityTooLarge)
}

func (b *besieged) ranges(_ context.Context, c *client, _, _ int) (int, error) {
	var s strings.Builder
	s.WriteString("bytes=0-0")
	for i := range 4000 {
		fmt.Fprintf(&s, ",%d-%d", i%100, i%100+9)
	}
	a, err := c.do("GET", "/dav/mallory/contacts/m-1.vcf", nil, "Range", s.String())
	if err == nil {
		if err = a.refusedOr(http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable); err == nil && len(a.body) > 1<<20 {
			err = fmt.Errorf("%d bytes of a small card came back", len(a.body))
		}
	}
	return 4000, err
}

func (b *besieged) headers(ctx context.Context, c *client, _, round int) (int, error) {
	conn, err := b.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	head := "PROPFIND /dav/mallory/ HTTP/1.1\r\nHost: x\r\n"
	if round%2 == 0 {
		head += strings.Repeat("X-Flood: 0123456789\r\n", 50_000)
	} else {
		head += "X-Flood: " + strings.Repeat("0", 1<<20) + "\r\n"
	}
	_, werr := io.WriteString(conn, head+"\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		if hungUp(err) || hungUp(werr) || ctx.Err() != nil {
			return 1, nil
		}
		return 1, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		return 1, fmt.Errorf("a head of a MiB got %d, want 431", res.StatusCode)
	}
	return 1, nil
}

func basic(c *client) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(c.user+":"+c.password)) + "\r\n"
}

func (b *besieged) pipeline(ctx context.Context, c *client, _, _ int) (int, error) {
	conn, err := b.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil { // it takes no more: the answers are not read
		return 0, err
	}
	one := "GET /dav/mallory/contacts/m-2.vcf HTTP/1.1\r\nHost: x\r\n" + basic(c) + "\r\n"
	n, err := io.WriteString(conn, strings.Repeat(one, 20_000))
	if err == nil && n < len(one) {
		err = errors.New("nothing was taken")
	} else if n >= len(one) {
		err = nil
	}
	return n / len(one), err
}

// drip sends one byte now and then until ctx ends or the server hangs up.
func drip(ctx context.Context, w io.Writer) int {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return n
		case <-tick.C:
			if _, err := w.Write([]byte("x")); err != nil {
				return n
			}
		}
	}
}

func (b *besieged) slowBody(ctx context.Context, c *client, _, _ int) (int, error) {
	conn, err := b.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "PUT /dav/mallory/calendar/slow.ics HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n"+basic(c)+"\r\n"); err != nil {
		return 0, err
	}
	return drip(ctx, conn), nil
}

func (b *besieged) slowHead(ctx context.Context, _ *client, _, _ int) (int, error) {
	conn, err := b.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /dav/ HTTP/1.1\r\nX-Slow: "); err != nil {
		return 0, err
	}
	return drip(ctx, conn), nil
}

// slowReader asks for long answers and takes nothing of them.
func (b *besieged) slowReader(ctx context.Context, c *client, _, _ int) (int, error) {
	conn, err := b.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "PROPFIND /dav/mallory/contacts/ HTTP/1.1\r\nHost: x\r\nDepth: 1\r\nContent-Length: 0\r\n"+basic(c)+"\r\n"); err != nil {
		return 0, err
	}
	<-ctx.Done()
	return 1, nil
}

func (b *besieged) copies(_ context.Context, c *client, _, round int) (int, error) {
	to := fmt.Sprintf("/dav/mallory/copy-%d/", round%2)
	a, err := c.do("COPY", "/dav/mallory/contacts/", nil, "Destination", c.base+to, "Depth", "infinity")
	if err == nil {
		err = a.refusedOr(written...)
	}
	return members, err
}

func (b *besieged) files(_ context.Context, c *client, w, round int) (int, error) {
	body := bytes.Repeat([]byte(fmt.Sprintf("%d-%d ", w, round)), 16<<20/8)
	a, err := c.do("PUT", fmt.Sprintf("/dav/mallory/Files/large-%d", w), body)
	if err == nil {
		err = a.refusedOr(written...)
	}
	return 1, err
}

// guesses come from bob's own address, for bob's name and for others. Bob himself is not kept out.
func (b *besieged) guesses(_ context.Context, _ *client, w, round int) (int, error) {
	c := b.s.client("bob")
	defer c.http.CloseIdleConnections()
	c.password = fmt.Sprintf("guess %d %d", w, round)
	if round%2 == 1 {
		c.user = fmt.Sprintf("nobody-%d", round)
	}
	a, err := c.do("PROPFIND", "/dav/bob/", nil, "Depth", "0")
	if err == nil {
		err = a.refusedOr(http.StatusUnauthorized)
	}
	return 1, err
}
