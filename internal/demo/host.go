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
	"sync/atomic"
	"time"

	"holdfast"
	"holdfast/internal/auth"
	"holdfast/internal/dav"
	"holdfast/internal/durable"
	"holdfast/internal/ledger"
)

// The accounts of a show: the one that it is about, and one beside it.
const (
	account   = "demo"
	neighbour = "neighbour"
)

// host is a server of a show: ledger over SQLite and a directory mirror, authentication and DAV
// over a loopback listener. It is put together here and not by package server, because no
// configuration of a real server may lead to a ledger without a fence.
//
// It can be switched off and on. Its address stays: while it is off, connections are cut.
type host struct {
	url       string
	config    ledger.Config
	account   holdfast.AccountID // that the show is about
	passwords map[string]string  // app passwords by account and device
	ledger    *ledger.Ledger     // of the last start
	auth      *auth.Auth
	running   bool
	front     front
	http      *http.Server
	served    chan error
}

// newHost makes a new server with its data in dir/server and its mirror in dir/mirror, and switches it on.
func newHost(ctx context.Context, dir string, cfg Config, notify func(ledger.Event)) (*host, error) {
	lc := ledger.Config{
		Dir:         filepath.Join(dir, "server"),
		Mirrors:     []ledger.MirrorConfig{{Name: "mirror", Path: filepath.Join(dir, "mirror")}},
		SegmentSize: 8 << 20,
		Log:         cfg.Log,
		Notify:      notify,
	}
	_, _ = rand.Read(lc.Server[:]) // crypto/rand.Read never returns an error
	if err := durable.MkdirAll(durable.Disk, lc.Dir); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	if err := ledger.Create(ctx, lc); err != nil {
		return nil, fmt.Errorf("create ledger: %w", err)
	}
	lc.Unfenced = cfg.WithoutFence
	h := &host{config: lc, passwords: make(map[string]string)}
	if err := h.open(ctx); err != nil {
		return nil, err
	}
	if err := h.addAccounts(ctx); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// sibling is a server with the same accounts over other directories, not switched on yet.
func (h *host) sibling(data, mirror string) *host {
	c := h.config
	c.Dir = data
	c.Mirrors = []ledger.MirrorConfig{{Name: "mirror", Path: mirror}}
	return &host{config: c, account: h.account, passwords: h.passwords}
}

// hostOf returns the address as requests name it.
func hostOf(h *host) string { return strings.Trim(strings.TrimPrefix(h.url, "http://"), "/") }

func (h *host) storeDir() string  { return filepath.Join(h.config.Dir, "store") }
func (h *host) mirrorDir() string { return h.config.Mirrors[0].Path }

// open takes an address and switches the server on.
func (h *host) open(ctx context.Context) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen on loopback: %w", err)
	}
	h.url, h.served = "http://"+listener.Addr().String()+"/", make(chan error, 1)
	h.http = &http.Server{
		Handler:           &h.front,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(h.config.Log.Handler(), slog.LevelDebug),
	}
	go func() { h.served <- h.http.Serve(listener) }()
	return h.switchOn(ctx)
}

// switchOn starts the process, so to speak. It answers at once; what it answers is the ledger's affair.
func (h *host) switchOn(ctx context.Context) error {
	l, err := ledger.Open(ctx, h.config)
	if err != nil {
		return fmt.Errorf("open ledger: %w", err)
	}
	h.ledger, h.running = l, true
	h.auth = auth.New(auth.Config{Ledger: l, Log: h.config.Log})
	h.front.serve(handler(h.auth, dav.New(dav.Config{Ledger: l, Log: h.config.Log})))
	return nil
}

// switchOff ends the process; the address stays and cuts every connection.
func (h *host) switchOff() error {
	h.front.serve(nil)
	h.running = false
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return h.ledger.Close(ctx)
}

func (h *host) addAccounts(ctx context.Context) error {
	if err := h.ledger.WaitOpen(ctx); err != nil {
		return fmt.Errorf("wait for ledger: %w", err)
	}
	a, err := h.auth.AddAccount(ctx, account, rand.Text())
	if err != nil {
		return err
	}
	h.account = a.ID
	_, err = h.auth.AddAccount(ctx, neighbour, rand.Text())
	return err
}

// addDevice makes an app password for a device of an account, or finds the one it has.
func (h *host) addDevice(ctx context.Context, account, name string) (*remote, error) {
	key := account + " " + name
	if h.passwords[key] == "" {
		_, password, err := h.auth.AddDevice(ctx, account, name)
		if err != nil {
			return nil, err
		}
		h.passwords[key] = password
	}
	return newRemote(h.url, account, h.passwords[key])
}

// front is what listens. It is safe for concurrent use; the zero front is switched off.
type front struct {
	next atomic.Pointer[http.Handler]
}

func (f *front) serve(h http.Handler) {
	if h == nil {
		f.next.Store(nil)
		return
	}
	f.next.Store(&h)
}

// ServeHTTP gives the request to the server, or cuts the connection when there is none.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	next := f.next.Load()
	if next == nil {
		panic(http.ErrAbortHandler) // net/http closes the connection and says nothing
	}
	(*next).ServeHTTP(w, r)
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

// close switches the server off for good.
func (h *host) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := h.http.Shutdown(ctx)
	<-h.served
	if h.running {
		err = errors.Join(err, h.switchOff())
	}
	return err
}
