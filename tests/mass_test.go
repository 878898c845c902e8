package clients

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMassChange plays fault 20: a client on a phone encrypts the files of a folder and deletes the rest (with
// -crash it encrypts 10,000).
// Nothing is refused; the state before has a name by then, one alert was sent, other devices' work is not
// touched by the undo, and every body is back byte for byte.
func TestMassChange(t *testing.T) {
	rewritten, rest := 1000, 60
	if *crashFor > 0 {
		rewritten, rest = 10_000, 400
	}
	alerts := newAlerts(t)
	root := t.TempDir()
	s := prepareServer(t, filepath.Join(root, "data"), filepath.Join(root, "mirror"))
	conf, err := os.OpenFile(filepath.Join(s.data, "holdfast.conf"), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(conf, "\nalert_webhook = %s\n", alerts.url); err != nil {
		t.Fatal(err)
	}
	if err := conf.Close(); err != nil {
		t.Fatal(err)
	}
	s.start()
	out := s.holdfast("", "device", "add", "alice", "phone", "--data", s.data)
	phone := s.client("alice")
	phone.password = regexp.MustCompile(`password +(\S+)`).FindStringSubmatch(out)[1]
	own := s.client("alice")

	name := func(i int) string { return fmt.Sprintf("/dav/alice/Files/%05d.txt", i) }
	began := time.Now()
	all(t, rewritten+rest, func(i int) error { return status(own, "PUT", name(i), fmt.Sprintf("letter %d", i)) })
	before := etags(t, own)
	if n := len(alerts.of("mass-change")); n > 0 || len(before) != rewritten+rest {
		t.Fatalf("%d alerts after an import of %d new files", n, len(before))
	}
	all(t, rewritten, func(i int) error { return status(phone, "PUT", name(i), fmt.Sprintf("%x encrypted", i*7919)) })
	all(t, rest, func(i int) error { return status(phone, "DELETE", name(rewritten+i), "") })
	s.eventually(30*time.Second, "an alert was sent", func() error {
		if len(alerts.of("mass-change")) == 0 {
			return fmt.Errorf("none of %d", len(alerts.of("")))
		}
		return nil
	})
	var snapshots []struct{ Name string }
	if err := json.Unmarshal([]byte(s.holdfast("", "snapshot", "list", "alice", "--json", "--data", s.data)), &snapshots); err != nil || len(snapshots) != 1 {
		t.Fatalf("snapshots %v, %v; want one", snapshots, err)
	}
	snapshot := snapshots[0].Name
	text := s.holdfast("", "snapshot", "show", "alice", snapshot, "--data", s.data)
	want := fmt.Sprintf(`Files +file +%d +%d +0 +%d +%d`, rewritten+rest, rewritten, rewritten, rest)
	if !regexp.MustCompile(want).MatchString(text) {
		t.Errorf("show says\n%s\nwant %s", text, want)
	}
	if err := status(own, "PUT", name(3), "repaired by hand"); err != nil {
		t.Fatal(err)
	}
	s.holdfast("", "device", "revoke", "alice", "phone", "--data", s.data)
	attack := time.Since(began)
	began = time.Now()
	out = s.holdfast("", "snapshot", "undo", "alice", snapshot, "--data", s.data)
	if !strings.Contains(out, fmt.Sprintf("Brought back %d items", rewritten+rest-1)) || !strings.Contains(out, "1 item was left") {
		t.Errorf("undo says %s", out)
	}
	undo := time.Since(began)
	after := etags(t, own)
	own.get(t, name(3), "repaired by hand")
	own.get(t, name(0), "letter 0")
	own.get(t, name(rewritten+rest-1), fmt.Sprintf("letter %d", rewritten+rest-1))
	for path, etag := range before {
		if after[path] != etag && path != name(3) {
			t.Fatalf("%s has ETag %s, want %s", path, after[path], etag)
		}
	}
	if told := alerts.of("mass-change"); len(told) != 1 || !strings.Contains(told[0], snapshot) || len(after) != len(before) {
		t.Errorf("%d files of %d; alerts %q, want one that names %s", len(after), len(before), told, snapshot)
	}
	s.stop()
	s.holdfast("", "mirror", "check", s.mirror)
	t.Logf("%d files made, %d rewritten and %d deleted in %s; undone in %s", rewritten+rest, rewritten, rest, attack.Round(time.Millisecond), undo.Round(time.Millisecond))
}

// status sends one request that must succeed.
func status(c *client, method, path, body string) error {
	a, err := c.do(method, path, []byte(body))
	if err != nil {
		return err
	}
	return a.want(http.StatusCreated, http.StatusNoContent)
}

// etags lists a folder.
func etags(t *testing.T, c *client) map[string]string {
	t.Helper()
	m, err := c.list("/dav/alice/Files/")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// all runs do(0..n-1), many at a time.
func all(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	next, failed := make(chan int), make(chan error, 1)
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					select {
					case failed <- fmt.Errorf("%d: %w", i, err):
					default:
					}
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	group.Wait()
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
}

// alerts receives what a server sends to its webhook.
type alerts struct {
	url string
	mu  sync.Mutex
	got []string
}

func newAlerts(t *testing.T) *alerts {
	t.Helper()
	a := &alerts{}
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return // a sender that was cut off sends again
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.got = append(a.got, string(b))
	}))
	t.Cleanup(srv.Close)
	a.url = srv.URL + "/"
	return a
}

// of returns the messages of one kind.
func (a *alerts) of(kind string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for _, m := range a.got {
		if strings.Contains(m, kind) {
			out = append(out, m)
		}
	}
	return out
}
