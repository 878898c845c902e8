// Package pushtest is a push service and a phone for tests: it takes messages as RFC 8030 says, verifies who
// sent them (RFC 8292) and decrypts them (RFC 8291).
package pushtest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

var b64 = base64.RawURLEncoding

// Message is one that arrived.
type Message struct {
	Text   string
	Header http.Header
	At     time.Time
	Err    error // it was not right: who sent it, or how it was encrypted
}

// Phone is a subscription at the service.
type Phone struct {
	URL      string
	Messages chan Message

	private *ecdh.PrivateKey
	secret  []byte

	mu     sync.Mutex
	status int
}

// Service is a push service on this machine.
type Service struct {
	*httptest.Server
	key    string // of the server that may send; empty: any
	mu     sync.Mutex
	phones map[string]*Phone
}

// New starts a service that ends with the test.
func New(t *testing.T) *Service {
	t.Helper()
	s := &Service{phones: map[string]*Phone{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.take))
	t.Cleanup(s.Close)
	return s
}

// Restrict makes the service refuse messages that another key signed (RFC 8292, 4).
func (s *Service) Restrict(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = key
}

// Phone makes a subscription.
func (s *Service) Phone(t *testing.T) *Phone {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &Phone{Messages: make(chan Message, 100), private: key, secret: make([]byte, 16), status: http.StatusCreated}
	_, _ = rand.Read(p.secret)
	path := "/push/" + rand.Text()
	p.URL = s.URL + path
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phones[path] = p
	return p
}

// Answer sets what the service answers from now on.
func (p *Phone) Answer(status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = status
}

// Register is the body that DAVx5 registers a subscription with; more stands in push-register too.
func (p *Phone) Register(more string) string {
	return `<?xml version='1.0' encoding='UTF-8' ?><push-register xmlns="https://bitfire.at/webdav-push"><subscription><web-push-subscription><push-resource>` + p.URL +
		`</push-resource><subscription-public-key type="p256dh">` + b64.EncodeToString(p.private.PublicKey().Bytes()) +
		`</subscription-public-key><auth-secret>` + b64.EncodeToString(p.secret) + `</auth-secret></web-push-subscription></subscription>` + more + `</push-register>`
}

// Next waits for the next message, which must be right.
func (p *Phone) Next(t *testing.T) Message {
	t.Helper()
	select {
	case m := <-p.Messages:
		if m.Err != nil {
			t.Fatalf("message: %v", m.Err)
		}
		return m
	case <-time.After(30 * time.Second):
		t.Fatal("no message came")
	}
	return Message{}
}

func (s *Service) take(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	p, key := s.phones[r.URL.Path], s.key
	s.mu.Unlock()
	if p == nil || r.Method != http.MethodPost {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	m := Message{Header: r.Header, At: time.Now()}
	if err == nil {
		err = verify(r.Header.Get("Authorization"), s.URL, key)
	}
	if err == nil {
		m.Text, err = p.open(body)
	}
	m.Err = err
	p.mu.Lock()
	status := p.status
	p.mu.Unlock()
	p.Messages <- m
	w.WriteHeader(status)
}

// verify checks the proof of who sends.
func verify(header, audience, want string) error {
	rest, ok := strings.CutPrefix(header, "vapid ")
	fields := map[string]string{}
	for f := range strings.SplitSeq(rest, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(f), "=")
		fields[k] = v
	}
	parts := strings.Split(fields["t"], ".")
	point, err := b64.DecodeString(fields["k"])
	if !ok || err != nil || len(parts) != 3 || want != "" && fields["k"] != want {
		return fmt.Errorf("authorization %q", header)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return err
	}
	sig, err := b64.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err != nil || len(sig) != 64 || !ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		return errors.New("the signature is wrong")
	}
	var head struct{ Typ, Alg string }
	var claims struct {
		Aud, Sub string
		Exp      int64
	}
	for i, v := range []any{&head, &claims} {
		b, err := b64.DecodeString(parts[i])
		if err == nil {
			err = json.Unmarshal(b, v)
		}
		if err != nil {
			return err
		}
	}
	left := time.Until(time.Unix(claims.Exp, 0))
	if head.Alg != "ES256" || claims.Aud != audience || left <= 0 || left > 24*time.Hour {
		return fmt.Errorf("claims %+v of %+v, %s left", claims, head, left)
	}
	return nil
}

// open decrypts a message.
func (p *Phone) open(b []byte) (string, error) {
	if len(b) < 21 || len(b) < 21+int(b[20])+17 {
		return "", errors.New("too short")
	}
	salt, size, id := b[:16], binary.BigEndian.Uint32(b[16:]), b[21:21+int(b[20])]
	sealed := b[21+len(id):]
	if size < 18 || len(sealed) > int(size) {
		return "", fmt.Errorf("record of %d bytes, record size %d", len(sealed), size)
	}
	theirs, err := ecdh.P256().NewPublicKey(id)
	if err != nil {
		return "", err
	}
	shared, err := p.private.ECDH(theirs)
	if err != nil {
		return "", err
	}
	derive := func(secret, salt []byte, info string, n int) []byte {
		out, derr := hkdf.Key(sha256.New, secret, salt, info, n)
		err = errors.Join(err, derr)
		return out
	}
	input := derive(shared, p.secret, "WebPush: info\x00"+string(p.private.PublicKey().Bytes())+string(id), 32)
	key, nonce := derive(input, salt, "Content-Encoding: aes128gcm\x00", 16), derive(input, salt, "Content-Encoding: nonce\x00", 12)
	block, berr := aes.NewCipher(key)
	if err = errors.Join(err, berr); err != nil {
		return "", err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return "", err
	}
	plain, err := gcm.Open(nil, nonce, sealed, nil)
	if err != nil {
		return "", err
	}
	text := strings.TrimRight(string(plain), "\x00")
	if !strings.HasSuffix(text, "\x02") {
		return "", errors.New("no delimiter of the last record")
	}
	return text[:len(text)-1], nil
}
