package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"holdfast/internal/config"
)

// serveMetrics answers GET /metrics for whoever may read it: this machine, or the holder of the token.
func (s *server) serveMetrics(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if !onThisMachine(r) {
		switch ok, err := s.tokenFits(r); {
		case err != nil:
			s.log.Warn("read metrics_token_file", "err", err)
			http.Error(w, "The token of this server cannot be read.", http.StatusServiceUnavailable)
			return
		case s.cfg.Settings.MetricsTokenFile == "":
			http.Error(w, "Metrics are for programs on this machine; metrics_token_file lets others in.", http.StatusForbidden)
			return
		case !ok:
			h.Set("WWW-Authenticate", `Bearer realm="metrics"`)
			http.Error(w, "Send the token of metrics_token_file.", http.StatusUnauthorized)
			return
		}
	}
	s.metrics.handler.ServeHTTP(w, r)
}

// adminHandler is what the admin socket serves: its operations, and the metrics. Who reaches it may have both.
func (s *server) adminHandler() http.Handler {
	operations := s.dir.Admin()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" && r.Method == http.MethodGet {
			s.metrics.handler.ServeHTTP(w, r)
			return
		}
		operations.ServeHTTP(w, r)
	})
}

// onThisMachine reports whether a program on this machine asks for itself: the peer is a loopback
// address, it names a loopback address (a page in a browser that was led here by DNS names another), and
// no proxy says that it asks for somebody else.
func onThisMachine(r *http.Request) bool {
	if !addrOf(r.RemoteAddr).IsLoopback() {
		return false
	}
	for name := range r.Header {
		switch {
		case strings.HasPrefix(name, "X-Forwarded"), strings.HasPrefix(name, "X-Real-"), strings.HasSuffix(name, "-Client-Ip"),
			name == "Forwarded", name == "Via", name == "X-Client-Ip", name == "Cf-Connecting-Ip":
			return false
		}
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return host == "localhost" || addrOf(strings.Trim(host, "[]")).IsLoopback()
}

// tokenFits compares in constant time.
func (s *server) tokenFits(r *http.Request) (bool, error) {
	if s.cfg.Settings.MetricsTokenFile == "" {
		return false, nil
	}
	want, err := config.ReadSecret(s.cfg.Dir, s.cfg.Settings.MetricsTokenFile, config.LeastKey)
	if err != nil {
		return false, err
	}
	scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	a, b := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(strings.TrimSpace(got)))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && strings.EqualFold(scheme, "Bearer"), nil
}

// incidents counts the reports that were written for people.
func (d *Dir) incidents() (int, error) {
	f, err := os.Open(filepath.Join(d.Path, "incidents"))
	if err != nil {
		return 0, fmt.Errorf("list incidents: %w", err)
	}
	defer f.Close()
	n := 0
	for {
		names, err := f.Readdirnames(256)
		for _, name := range names {
			if strings.HasSuffix(name, ".md") {
				n++
			}
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return 0, fmt.Errorf("list incidents: %w", err)
		}
	}
}
