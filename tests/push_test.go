package clients

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pushed is a message that a phone or a desktop got.
type pushed struct {
	text string
	at   time.Time
}

// pushPhone is a phone with a subscription at a push service of this test.
type pushPhone struct {
	key    *ecdh.PrivateKey
	secret []byte
	url    string
	told   chan pushed
}

func newPushPhone(t *testing.T) *pushPhone {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &pushPhone{key: key, secret: make([]byte, 16), told: make(chan pushed, 100)}
	_, _ = rand.Read(p.secret) // never fails
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := time.Now()
		body, err := io.ReadAll(r.Body)
		if err != nil || !strings.HasPrefix(r.Header.Get("Authorization"), "vapid t=") {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		text, err := p.open(body)
		if err != nil {
			t.Errorf("a message cannot be decrypted: %v", err)
		}
		w.WriteHeader(http.StatusCreated)
		p.told <- pushed{text, at}
	}))
	t.Cleanup(service.Close)
	p.url = service.URL + "/push"
	return p
}

// open decrypts a message (RFC 8291), which is one record.
func (p *pushPhone) open(b []byte) (string, error) {
	if len(b) < 86+17 || b[20] != 65 {
		return "", errors.New("too short")
	}
	salt, id, sealed := b[:16], b[21:86], b[86:]
	theirs, err := ecdh.P256().NewPublicKey(id)
	if err != nil {
		return "", err
	}
	shared, err := p.key.ECDH(theirs)
	if err != nil {
		return "", err
	}
	input, err1 := hkdf.Key(sha256.New, shared, p.secret, "WebPush: info\x00"+string(p.key.PublicKey().Bytes())+string(id), 32)
	key, err2 := hkdf.Key(sha256.New, input, salt, "Content-Encoding: aes128gcm\x00", 16)
	nonce, err3 := hkdf.Key(sha256.New, input, salt, "Content-Encoding: nonce\x00", 12)
	block, err4 := aes.NewCipher(key)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return "", err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return "", err
	}
	plain, err := gcm.Open(nil, nonce, sealed, nil)
	return strings.TrimRight(string(plain), "\x00\x02"), err
}

func (p *pushPhone) register(t *testing.T, c *client, path string) string {
	t.Helper()
	b64 := base64.RawURLEncoding
	body := `<push-register xmlns="https://bitfire.at/webdav-push"><subscription><web-push-subscription><push-resource>` + p.url +
		`</push-resource><subscription-public-key type="p256dh">` + b64.EncodeToString(p.key.PublicKey().Bytes()) +
		`</subscription-public-key><auth-secret>` + b64.EncodeToString(p.secret) + `</auth-secret></web-push-subscription></subscription></push-register>`
	at := ""
	eventually(t, 30*time.Second, "a phone can register", func() error { // the key is made once the fence is open
		a, err := c.do("POST", path, []byte(body), "Content-Type", "application/xml")
		if err != nil {
			return err
		}
		at = a.header.Get("Location")
		return a.want(http.StatusCreated)
	})
	return at
}

// listenEvents opens an event stream and passes its changes on.
func listenEvents(t *testing.T, s *server, account string) chan pushed {
	t.Helper()
	out := make(chan pushed, 100)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(account, s.passwords[account])
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("events: %v, %v", res, err)
	}
	t.Cleanup(func() { res.Body.Close() })
	in := bufio.NewScanner(res.Body)
	for in.Scan() && in.Text() != "event: ready" {
	}
	go func() {
		for in.Scan() {
			if strings.HasPrefix(in.Text(), `data: {"collections"`) {
				out <- pushed{in.Text(), time.Now()}
			}
		}
	}()
	return out
}

var tokenIn = regexp.MustCompile(`holdfast:1/[^"<]+`)

// Two phones and a desktop hear of each other's changes, and the phone that made one is not told of it. How
// long it took is printed.
func TestPush(t *testing.T) {
	t.Parallel()
	one, two := newPushPhone(t), newPushPhone(t)
	root := t.TempDir()
	s := prepareServer(t, filepath.Join(root, "data"), filepath.Join(root, "mirror"))
	conf := filepath.Join(s.data, "holdfast.conf")
	settings, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*pushPhone{one, two} {
		settings = fmt.Appendf(settings, "\npush_allow = 127.0.0.1 %s\n", strings.TrimSuffix(p.url[strings.LastIndexByte(p.url, ':')+1:], "/push"))
	}
	if err := os.WriteFile(conf, settings, 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	c := s.client("alice")
	const folder = "/dav/alice/Files/"
	at1, at2 := one.register(t, c, folder), two.register(t, c, folder)
	desktop := listenEvents(t, s, "alice")
	var took []time.Duration
	hears := func(name string, from chan pushed, began time.Time, want string) {
		t.Helper()
		for {
			select {
			case m := <-from:
				if tokenIn.FindString(m.text) == want {
					took = append(took, m.at.Sub(began))
					return
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("%s was not told of a change", name)
			}
		}
	}
	change := func(i int, header ...string) (time.Time, string) {
		t.Helper()
		began := time.Now()
		c.must(t, []int{http.StatusCreated}, "PUT", fmt.Sprintf("%s%d.txt", folder, i), []byte("hello"), header...)
		a := c.must(t, []int{http.StatusMultiStatus}, "PROPFIND", folder, []byte(`<propfind xmlns="DAV:"><prop><sync-token/></prop></propfind>`), "Depth", "0")
		return began, tokenIn.FindString(string(a.body))
	}
	for i := range 3 {
		began, token := change(3*i, "Push-Dont-Notify", `"`+at1+`"`)
		hears("the second phone", two.told, began, token)
		hears("the desktop", desktop, began, token)
		if len(one.told) > 0 {
			t.Errorf("the first phone was told of its own change: %s", (<-one.told).text)
		}
		began, token = change(3*i+1, "Push-Dont-Notify", `"`+at2+`"`)
		hears("the first phone", one.told, began, token)
		hears("the desktop", desktop, began, token)
		began, token = change(3*i + 2)
		hears("the first phone", one.told, began, token)
		hears("the second phone", two.told, began, token)
	}
	slices.Sort(took)
	t.Logf("totals: %d messages, told after %s in the median, %s at most, from the begin of the write", len(took), took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
}

// Many devices listen, and what each costs is printed: HOLDFAST_STREAMS says how many, 1,000 if it is not set.
func TestStreams(t *testing.T) {
	n := 1000
	if v, err := strconv.Atoi(os.Getenv("HOLDFAST_STREAMS")); err == nil {
		n = v
	}
	root := t.TempDir()
	s := prepareServer(t, filepath.Join(root, "data"), filepath.Join(root, "mirror"))
	conf := filepath.Join(s.data, "holdfast.conf")
	settings, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`(?m)^#?\s*(max_connections|max_streams) = .*$`).ReplaceAllString(string(settings), "")
	if err := os.WriteFile(conf, fmt.Appendf([]byte(text), "\nmax_connections = %d\nmax_streams = %d\n", n+100, n), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	before := resident(t, s.cmd.Process.Pid)
	head := "GET /events HTTP/1.1\r\nHost: " + s.addr + "\r\nAuthorization: Basic " + base64.StdEncoding.EncodeToString([]byte("alice:"+s.passwords["alice"])) + "\r\n\r\n"
	conns := make([]net.Conn, n)
	wait := func(c net.Conn, what string) {
		t.Helper()
		var got []byte
		buf := make([]byte, 4096)
		_ = c.SetReadDeadline(time.Now().Add(60 * time.Second))
		for !strings.Contains(string(got), what) {
			m, err := c.Read(buf)
			if err != nil {
				t.Fatalf("wait for %q: %v, after %q", what, err, got)
			}
			got = append(got, buf[:m]...)
		}
	}
	for i := range conns {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := c.Write([]byte(head)); err != nil {
			t.Fatal(err)
		}
		conns[i] = c
		wait(c, "event: ready")
	}
	open := resident(t, s.cmd.Process.Pid)
	began := time.Now()
	s.client("alice").must(t, []int{http.StatusCreated}, "PUT", "/dav/alice/Files/a.txt", []byte("hello"))
	for _, c := range conns {
		wait(c, "event: change")
	}
	t.Logf("totals: %d streams, %d bytes of resident memory each (%d after each was told of a change), all told after %s",
		n, (open-before)/int64(n), (resident(t, s.cmd.Process.Pid)-before)/int64(n), time.Since(began).Round(time.Millisecond))
	if each := (open - before) / int64(n); each > 64<<10 {
		t.Errorf("a stream costs %d bytes", each)
	}
}

// resident returns the bytes of memory that a process has.
func resident(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(b)
	kib, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
