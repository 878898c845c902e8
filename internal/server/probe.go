package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast"
)

// ProbeHeader and ProbePath make a request that `holdfast doctor` sends through the proxy to see what
// arrives here. The server answers it with 503, as it answers data while the fence is closed: a proxy
// must hand that on. A request without the right nonce is like any other.
const (
	ProbeHeader = "Holdfast-Probe"
	ProbePath   = "/.well-known/holdfast-probe/a%2Fb+c%20d" // no proxy may change a byte of it
	ProbeBody   = "holdfast probe\n"
)

const probeFor = time.Minute // a nonce is good

// ProbeRequest names a probe; empty begins one.
type ProbeRequest struct {
	Nonce string `json:"nonce,omitempty"`
}

// ProbeSeen is what the server saw of a probe.
type ProbeSeen struct {
	Nonce         string `json:"nonce"`
	Arrived       bool   `json:"arrived"`
	Method        string `json:"method,omitempty"`
	URI           string `json:"uri,omitempty"` // as it came
	Host          string `json:"host,omitempty"`
	Authorization bool   `json:"authorization"` // the header came through
	Forwarded     bool   `json:"forwarded"`     // X-Forwarded-For came
	Trusted       bool   `json:"trusted"`       // from a trusted_proxy
	Proto         string `json:"proto,omitempty"`
	TLS           bool   `json:"tls"` // the connection to this process
}

// probe is the one that doctor runs now.
type probe struct {
	mu    sync.Mutex
	until time.Time
	seen  ProbeSeen
}

// begin makes a new probe; the one before ends.
func (p *probe) begin(context.Context, Nothing) (ProbeSeen, error) {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never returns an error
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until, p.seen = time.Now().Add(probeFor), ProbeSeen{Nonce: hex.EncodeToString(b[:])}
	return p.seen, nil
}

// end says what came of a probe.
func (p *probe) end(_ context.Context, in ProbeRequest) (ProbeSeen, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if in.Nonce == "" || in.Nonce != p.seen.Nonce {
		return ProbeSeen{}, fmt.Errorf("this probe is not running any more: %w", holdfast.ErrNotFound)
	}
	return p.seen, nil
}

// probed answers a request if it is the probe.
func (s *server) probed(w http.ResponseWriter, r *http.Request) bool {
	nonce := r.Header.Get(ProbeHeader)
	if nonce == "" || s.dir == nil {
		return false
	}
	p := &s.dir.probe
	p.mu.Lock()
	defer p.mu.Unlock()
	if nonce != p.seen.Nonce || time.Now().After(p.until) {
		return false
	}
	p.seen = ProbeSeen{
		Nonce: nonce, Arrived: true, Method: r.Method, URI: r.RequestURI, Host: r.Host, Authorization: r.Header.Get("Authorization") != "",
		Forwarded: len(r.Header["X-Forwarded-For"]) > 0, Trusted: within(s.cfg.Settings.TrustedProxies, addrOf(r.RemoteAddr)),
		Proto: strings.ToLower(r.Header.Get("X-Forwarded-Proto")), TLS: r.TLS != nil,
	}
	w.Header().Set("Retry-After", strconv.Itoa(int(retryNotReady/time.Second)))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write([]byte(ProbeBody))
	return true
}
