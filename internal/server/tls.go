package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"holdfast/internal/config"
)

// tlsSource is where certificates come from: files, or ACME.
type tlsSource struct {
	config *tls.Config
	manage func(ctx context.Context) // starts to get certificates, once the listeners are open
	stop   func()
}

// newTLS returns nil when the settings want plain HTTP.
func newTLS(dir string, c *config.Config, log *slog.Logger) (*tlsSource, error) {
	switch {
	case c.TLSCert != "":
		f := &certFile{cert: Below(dir, c.TLSCert), key: Below(dir, c.TLSKey), log: log}
		if _, err := f.get(nil); err != nil {
			return nil, err
		}
		return &tlsSource{&tls.Config{GetCertificate: f.get, MinVersion: tls.VersionTLS12}, func(context.Context) {}, func() {}}, nil
	case len(c.ACMEDomains) > 0:
		return newACME(dir, c, log)
	}
	return nil, nil
}

// CheckTLS reads the certificate and key that the settings name, for `holdfast config check`.
func CheckTLS(dir string, c *config.Config) error {
	if c.TLSCert == "" {
		return nil
	}
	f := &certFile{cert: Below(dir, c.TLSCert), key: Below(dir, c.TLSKey), log: slog.New(slog.DiscardHandler)}
	_, err := f.get(nil)
	return err
}

// Below returns path, which is below dir if it is relative.
func Below(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// certFile is a certificate in files, read again when they change; one that cannot be read leaves the last good one.
type certFile struct {
	cert, key string
	log       *slog.Logger

	mu     sync.Mutex
	loaded *tls.Certificate
	stamp  [2]time.Time
	looked time.Time
}

const lookEvery = 5 * time.Second

func (f *certFile) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.loaded != nil && time.Since(f.looked) < lookEvery {
		return f.loaded, nil
	}
	f.looked = time.Now()
	var stamp [2]time.Time
	for i, name := range []string{f.cert, f.key} {
		if info, err := os.Stat(name); err == nil {
			stamp[i] = info.ModTime()
		}
	}
	if f.loaded != nil && stamp == f.stamp {
		return f.loaded, nil
	}
	c, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		if f.loaded != nil {
			f.log.Warn("read new certificate; the old one stays", "err", err)
			return f.loaded, nil
		}
		return nil, fmt.Errorf("read certificate %s and key %s: %w", f.cert, f.key, err)
	}
	f.loaded, f.stamp = &c, stamp
	return f.loaded, nil
}

// newACME gets certificates by the TLS-ALPN challenge (RFC 8737) on our own listeners.
func newACME(dir string, c *config.Config, log *slog.Logger) (*tlsSource, error) {
	_, port, err := net.SplitHostPort(c.Listen[0])
	if err != nil {
		return nil, fmt.Errorf("acme: %w", err)
	}
	alpn, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("acme: %w", err)
	}
	template := certmagic.Config{
		Storage: &certmagic.FileStorage{Path: filepath.Join(dir, runName, "acme")},
		Logger:  zap.NewNop(),
		OnEvent: func(_ context.Context, event string, data map[string]any) error {
			switch event {
			case "cert_obtained":
				log.Info("certificate obtained", "renewal", data["renewal"])
			case "cert_failed":
				log.Error("certificate not obtained; port 443 of every acme_domain must lead here", "err", data["error"])
			}
			return nil
		},
	}
	var magic *certmagic.Config
	cache := certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return magic, nil },
		Logger:           zap.NewNop(),
	})
	magic = certmagic.New(cache, template)
	magic.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(magic, certmagic.ACMEIssuer{
		CA: c.ACMEDirectory, Email: c.ACMEEmail, Agreed: true, DisableHTTPChallenge: true, AltTLSALPNPort: alpn, Logger: zap.NewNop(),
	})}
	tc := magic.TLSConfig()
	tc.NextProtos = append([]string{"h2", "http/1.1"}, tc.NextProtos...)
	return &tlsSource{
		config: tc,
		manage: func(ctx context.Context) {
			if err := magic.ManageAsync(ctx, c.ACMEDomains); err != nil {
				log.Error("manage certificates", "err", err)
			}
		},
		stop: cache.Stop,
	}, nil
}
