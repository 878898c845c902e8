// Package server builds a Holdfast server from its settings and runs it: the data directory and its
// lock, listeners, TLS, the order of handlers, the admin socket, the talk with the supervisor, and the end.
//
// The data directory holds holdfast.conf, store/, blobs/, heads, incidents/, run/ and lock, mode
// 0700; it can be moved with mv while no server runs. run/ is passing: admin.sock, which only the
// owner can open, and acme/ (certificates, issued again when lost).
//
// Invariant: whoever works on a data directory holds its lock; a command beside a running server
// asks that server. Both ways end in the same handler (admin.go), so there is one code path.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/alert"
	"holdfast/internal/auth"
	"holdfast/internal/config"
	"holdfast/internal/dav"
	"holdfast/internal/dial"
	"holdfast/internal/ledger"
	"holdfast/internal/limit"
	"holdfast/internal/push"
	"holdfast/internal/upload"
)

const (
	headerTimeout = 10 * time.Second // for the head of a request, and a TLS handshake
	idleTimeout   = 3 * time.Minute  // of a kept connection between requests
	maxHeader     = 64 << 10         // bytes
	maxStreams    = 64               // requests at once on one connection of HTTP/2
	closeTimeout  = 30 * time.Second // for the ledger to seal its logs
)

// Config says what to serve.
type Config struct {
	Dir      string
	Settings *config.Config // checked
	Version  string
	Log      *slog.Logger
	Ready    func(urls []string) // called once the listeners are open; may be nil

	Look bool // Connect, when no server runs: for operations that OnlyReads; nothing is claimed or healed

	visit   bool               // a command, no server
	notify  func(ledger.Event) // of a server: what the ledger reports and measures
	observe func(string, time.Duration)
}

// server is a running one.
type server struct {
	cfg       Config
	log       *slog.Logger
	dir       *Dir
	dav       http.Handler
	events    http.Handler
	push      *push.Push
	pushes    *dial.Client
	tls       *tlsSource // nil: plain HTTP
	listeners []net.Listener
	http      *http.Server
	admin     *http.Server
	failed    chan error   // the first error of a listener
	fatal     <-chan error // of the ledger
	notify    *notifier
	metrics   *metrics // nil in tests of single handlers
	gate      *limit.Gate
	alerts    *alert.Alerter
	history   history
	uploads   *upload.Area
	endSweep  context.CancelFunc
	swept     chan struct{} // closed when the sweeping of uploads has ended; nil: it was not begun
}

// Run serves until ctx ends or the ledger says that only a new process can know what is true; the
// error then wraps holdfast.ErrFatal and the exit code is 75. It stops taking connections first, lets
// running requests finish within the drain time, and closes the ledger last.
//
// Errors: ErrDenied, the settings would be unsafe or another server runs; durable.ErrLocked, a command
// has worked on the directory for long; ErrAbsent, it is no data directory.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.Settings.Check(); err != nil {
		return err
	}
	s := newServer(cfg)
	err := s.start(ctx)
	if err == nil {
		err = s.wait(ctx)
	}
	return errors.Join(err, s.stop())
}

func newServer(cfg Config) *server {
	s := &server{cfg: cfg, log: cfg.Log.With("pkg", "server"), failed: make(chan error, 8), metrics: newMetrics(cfg.Version)}
	l := cfg.Settings.Limits
	s.gate = limit.New(limit.Config{Requests: l.MaxRequests, AccountRequests: l.AccountRequests, Memory: l.RequestMemory})
	s.watchWith(s.cfg.Settings)
	return s
}

// start opens the listeners before the ledger, so that a port that is taken costs no claim of the mirrors.
func (s *server) start(ctx context.Context) error {
	lock, err := awaitLock(ctx, s.cfg.Dir)
	if err != nil {
		return err
	}
	if s.tls, err = newTLS(s.cfg.Dir, s.cfg.Settings, s.log); err != nil {
		return errors.Join(err, lock.Unlock())
	}
	if err := s.listen(ctx); err != nil {
		return errors.Join(err, lock.Unlock())
	}
	if s.dir, err = open(ctx, lock, s.cfg); err != nil {
		return err
	}
	s.metrics.watch(s.dir)
	s.alerts.Start(ctx, s.dir.Ledger.Status)
	s.dir.urls, s.fatal = s.urls(), s.dir.Ledger.Fatal()
	if err := s.serveAdmin(ctx); err != nil {
		return err
	}
	s.startPush(ctx)
	s.keepUploads(ctx)
	s.dav = s.protected()
	s.serveHTTP(ctx)
	if s.tls != nil {
		s.tls.manage(ctx)
	}
	s.notify = newNotifier(s.log)
	s.notify.ready(s.dir.Ledger)
	s.dir.Ledger.KeepScrubbing()
	s.log.Info("serving", "listeners", len(s.listeners), "tls", s.tls != nil)
	if s.cfg.Ready != nil {
		s.cfg.Ready(s.dir.urls)
	}
	return nil
}

func (s *server) listen(ctx context.Context) error {
	slots := make(chan struct{}, s.cfg.Settings.MaxConnections)
	shares := newShares(s.cfg.Settings.MaxConnections, s.cfg.Settings.TrustedProxies)
	for _, addr := range s.cfg.Settings.Listen {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", addr, err)
		}
		g := &guard{Listener: l, slots: slots, shares: shares, ended: make(chan struct{})}
		if s.tls == nil && !config.Loopback(addr) {
			g.only = s.cfg.Settings.TrustedProxies
		}
		s.listeners = append(s.listeners, g)
	}
	return nil
}

func (s *server) urls() []string {
	scheme := "http://"
	if s.tls != nil {
		scheme = "https://"
	}
	var urls []string
	for _, l := range s.listeners {
		urls = append(urls, scheme+l.Addr().String()+"/")
	}
	return urls
}

// protected returns the DAV handler behind authentication.
func (s *server) protected() http.Handler {
	_, host, _ := strings.Cut(s.cfg.Settings.PublicURL, "://") // an origin: nothing follows the host
	h := dav.New(dav.Config{Ledger: s.dir.Ledger, Log: s.cfg.Log, MaxFile: s.cfg.Settings.MaxUpload, Host: host, Origin: s.cfg.Settings.PublicURL, Push: s.push, Uploads: s.uploads, Locks: s.dir.Locks})
	return s.dir.Auth.Require(s.client, s.admitted(h))
}

// admitted gives h what it may have of the server: a turn, and what it takes besides (package limit).
func (s *server) admitted(h http.Handler) func(w http.ResponseWriter, r *http.Request, id auth.Identity) {
	return func(w http.ResponseWriter, r *http.Request, id auth.Identity) {
		if rec, ok := w.(*response); ok {
			rec.account = id.Account
		}
		slot, err := s.gate.Enter(r.Context(), limit.Who{Account: id.Account, Device: id.Device})
		if err != nil {
			limit.Refuse(w, err)
			return
		}
		defer slot.Leave()
		ctx := dav.WithPrincipal(limit.With(r.Context(), slot), dav.Principal{Account: id.Account, Name: id.Name, Device: id.Device, Quota: id.Quota})
		h.ServeHTTP(w, r.WithContext(ctx))
	}
}

func (s *server) serveHTTP(ctx context.Context) {
	s.http = s.newHTTP(ctx, s.handler())
	for _, l := range s.listeners {
		go func() {
			var err error
			if s.tls != nil {
				err = s.http.ServeTLS(l, "", "")
			} else {
				err = s.http.Serve(l)
			}
			s.fail(fmt.Errorf("serve %s: %w", l.Addr(), err))
		}()
	}
}

func (s *server) newHTTP(ctx context.Context, h http.Handler) *http.Server {
	base := context.WithoutCancel(ctx) // a request under way may finish after SIGTERM
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return base }, ConnContext: dav.ConnContext,
		// RFC 9113, 6.5.2; net/http also ends a connection whose streams are opened and reset without end (rapid reset).
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	if s.tls != nil {
		srv.TLSConfig = s.tls.config
	}
	return srv
}

func (s *server) fail(err error) {
	if errors.Is(err, http.ErrServerClosed) {
		return
	}
	select {
	case s.failed <- err:
	default:
	}
}

func (s *server) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		s.log.Info("stopping", "drain", s.cfg.Settings.DrainTimeout)
		return nil
	case err := <-s.fatal:
		s.log.Error("this process cannot know what is true any more, a new one must prove it", "err", err)
		if !errors.Is(err, holdfast.ErrFatal) {
			err = fmt.Errorf("%w: %w", err, holdfast.ErrFatal)
		}
		return err
	case err := <-s.failed:
		return err
	}
}

// stop ends whatever start began, in the reverse order.
func (s *server) stop() error {
	s.notify.stopping()
	s.alerts.Stop()
	s.stopPush()
	var errs []error
	if s.http != nil {
		ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Settings.DrainTimeout)
		if err := s.http.Shutdown(ctx); err != nil {
			s.log.Warn("requests were still running at the end of the drain time", "err", err)
			errs = append(errs, s.http.Close())
		}
		cancel()
	}
	for _, l := range s.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if s.tls != nil {
		s.tls.stop()
	}
	s.stopUploads()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if s.admin != nil {
		if err := s.admin.Shutdown(ctx); err != nil {
			errs = append(errs, s.admin.Close())
		}
	}
	if s.dir != nil {
		errs = append(errs, s.dir.Close(ctx))
	}
	return errors.Join(errs...)
}
