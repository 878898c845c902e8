package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"holdfast/internal/auth"
	"holdfast/internal/dav"
	"holdfast/internal/durable"
	"holdfast/internal/ledger"
)

// account is the name of the one account of a show.
const account = "demo"

// host is the server of a show: ledger over SQLite and a directory mirror, authentication and DAV
// over a loopback listener. It is put together here and not by package server, because no
// configuration of a real server may lead to a ledger without a fence.
type host struct {
	url      string
	storeDir string
	password string // an app password
	ledger   *ledger.Ledger
	http     *http.Server
	served   chan error
}

func newHost(ctx context.Context, dir string, cfg Config) (*host, error) {
	lc := ledger.Config{
		Dir:         filepath.Join(dir, "server"),
		Mirrors:     []ledger.MirrorConfig{{Name: "mirror", Path: filepath.Join(dir, "mirror")}},
		SegmentSize: 8 << 20,
		Log:         cfg.Log,
	}
	_, _ = rand.Read(lc.Server[:]) // crypto/rand.Read never returns an error
	if err := durable.MkdirAll(durable.Disk, lc.Dir); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	if err := ledger.Create(ctx, lc); err != nil {
		return nil, fmt.Errorf("create ledger: %w", err)
	}
	lc.Unfenced = cfg.WithoutFence
	l, err := ledger.Open(ctx, lc)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	h := &host{storeDir: filepath.Join(lc.Dir, "store"), ledger: l, served: make(chan error, 1)}
	if err := h.start(ctx, cfg.Log); err != nil {
		return nil, errors.Join(err, l.Close(context.WithoutCancel(ctx)))
	}
	return h, nil
}

func (h *host) start(ctx context.Context, log *slog.Logger) error {
	if err := h.ledger.WaitOpen(ctx); err != nil {
		return fmt.Errorf("wait for ledger: %w", err)
	}
	a := auth.New(auth.Config{Ledger: h.ledger, Log: log})
	if _, err := a.AddAccount(ctx, account, rand.Text()); err != nil {
		return err
	}
	_, password, err := a.AddDevice(ctx, account, "demo devices")
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen on loopback: %w", err)
	}
	h.password, h.url = password, "http://"+listener.Addr().String()+"/"
	h.http = &http.Server{
		Handler:           handler(a, dav.New(dav.Config{Ledger: h.ledger, Log: log})),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	go func() { h.served <- h.http.Serve(listener) }()
	return nil
}

// handler gives DAV to those who sign in.
func handler(a *auth.Auth, d *dav.Handler) http.Handler {
	loopback := netip.MustParseAddr("127.0.0.1")
	signedIn := a.Require(func(*http.Request) netip.Addr { return loopback },
		func(w http.ResponseWriter, r *http.Request, id auth.Identity) {
			d.ServeHTTP(w, r.WithContext(dav.WithPrincipal(r.Context(), dav.Principal{Account: id.Account, Name: id.Name, Device: id.Device})))
		})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/.well-known/"):
			dav.WellKnown(w, r)
		case strings.HasPrefix(r.URL.Path, dav.Base):
			signedIn.ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	})
}

// remote returns a new connection of the account.
func (h *host) remote() (*remote, error) { return newRemote(h.url, account, h.password) }

// close stops the server. Its data is temporary or judged already, so errors change nothing.
func (h *host) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = h.http.Shutdown(ctx)
	<-h.served
	_ = h.ledger.Close(ctx)
}
