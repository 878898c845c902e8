package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary be the server process, as bench itself is.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "-null" {
		cards, err := strconv.Atoi(os.Args[2])
		if err == nil {
			err = serveNull(os.Stdout, cards)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if len(os.Args) > 2 && os.Args[1] == "-serve" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := serve(ctx, os.Args[2])
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestMeasure runs every row once, small, over the real server; a wrong answer fails it.
func TestMeasure(t *testing.T) {
	var out bytes.Buffer
	s := size{
		name: "test", resources: 400, colls: []int{30, 60}, listing: 100, puts: []int{1, 2}, gets: []int{2},
		round: 50 * time.Millisecond, rounds: 1, deltas: 4, listings: 2, scrub: 1,
	}
	if err := measure(t.Context(), &out, t.TempDir(), s); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	t.Log("\n" + out.String())
	row := regexp.MustCompile(`(?m)^ *(new PUT|GET|delta|listing).* (\d+) +([\d,]+) *$`)
	rows := row.FindAllStringSubmatch(out.String(), -1)
	if len(rows) != 6 {
		t.Fatalf("%d rows, want 6", len(rows))
	}
	for _, r := range rows {
		if r[2] != "0" || r[3] == "0" {
			t.Errorf("%s: %s wrong answers of %s", r[0], r[2], r[3])
		}
	}
	if n := strings.Count(out.String(), " of SHA-256"); n != 3 {
		t.Errorf("%d rows of the scrub, want 3", n)
	}
	if !strings.Contains(out.String(), "start with 400 resources") || strings.Contains(out.String(), " 0 MB") {
		t.Error("no start time, or no memory")
	}
}

func TestParseAnswer(t *testing.T) {
	got := parseAnswer([]byte(`<d:multistatus xmlns:d="DAV:"><d:response><d:href>/c/</d:href></d:response>` +
		`<d:response><d:href>/c/a.vcf</d:href><d:propstat><d:prop><d:getetag>&quot;1&quot;</d:getetag></d:prop></d:propstat></d:response>` +
		`<d:sync-token>data:2</d:sync-token></d:multistatus>`))
	if got.token != "data:2" || !got.equal("/c/", map[string]string{"a": `"1"`}) {
		t.Errorf("got %+v", got)
	}
	if got.equal("/c/", map[string]string{"a": `"2"`}) || got.equal("/c/", nil) {
		t.Error("another ETag or a missing name is called equal")
	}
}

func TestReadAnswer(t *testing.T) {
	for _, tc := range []struct {
		wire, body, etag string
		status           int
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: \"x\"\r\n\r\nhi", "hi", `"x"`, 200},
		{"HTTP/1.1 207 Multi-Status\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n", "hi!", "", 207},
		{"HTTP/1.1 204 No Content\r\n\r\n", "", "", 204},
	} {
		c := &client{in: bufio.NewReader(strings.NewReader(tc.wire))}
		status, etag, body, err := c.read("GET", "/")
		if err != nil || status != tc.status || etag != tc.etag || string(body) != tc.body {
			t.Errorf("%q: got %d, %s, %q, %v", tc.wire, status, etag, body, err)
		}
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		c := &client{in: bufio.NewReader(bytes.NewReader(wire))}
		_, _, body, err := c.read("GET", "/")
		if err == nil && len(body) > len(wire) {
			t.Errorf("%d bytes of body from %d bytes", len(body), len(wire))
		}
		parseAnswer(wire)
		eachObject(wire, func(_, _ string, data []byte) {
			if len(data) > len(wire) {
				t.Errorf("%d bytes of data from %d bytes", len(data), len(wire))
			}
		})
	})
}

func TestStatistics(t *testing.T) {
	if got := count(1234567); got != "1,234,567" {
		t.Errorf("count: %s", got)
	}
	if got := count(123); got != "123" {
		t.Errorf("count: %s", got)
	}
	rounds := []sample{{limit: 3}, {limit: 1}, {limit: 2}, {limit: 10}}
	if got := median(rounds, func(s sample) float64 { return s.limit }); got != 2.5 {
		t.Errorf("median of four: %v, want 2.5", got)
	}
	u := usage{at: time.Unix(0, 0)}
	to := usage{at: time.Unix(10, 0), busy: 15 * time.Second, self: 4 * time.Second, server: 6 * time.Second}
	if got := u.foreign(to); got != 50 {
		t.Errorf("foreign CPU: %v %%, want 50", got)
	}
	if rss(os.Getpid()) == 0 || processTime(os.Getpid()) < 0 || systemBusy() == 0 {
		t.Error("cannot read /proc")
	}
}

func TestLimit(t *testing.T) {
	l, err := newLimit(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	got, err := l.run(4, 30*time.Millisecond)
	if err != nil || got <= 0 {
		t.Errorf("got %v answers a second, %v", got, err)
	}
}
