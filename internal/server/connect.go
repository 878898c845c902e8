package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/fence"
)

// How long a command waits: for a server that is starting or stopping, and for a fence whose state
// does not change any more.
const (
	lockPatience  = 15 * time.Second
	fencePatience = 2 * time.Second
	startPatience = time.Minute // while it compares store and mirrors
	poll          = 50 * time.Millisecond
)

// Conn is the way of a command to the admin operations of a data directory.
type Conn struct {
	client *http.Client
	dir    *Dir         // nil: a running server answers
	unused func() error // closes the first connection to it if no operation did use it
}

// Connect asks the server that runs on cfg.Dir or, when none does, takes the lock and opens the
// ledger in this process. tell is called with what it waits for, if it waits long. A fence that does
// not open is no error here: the operations say so.
func Connect(ctx context.Context, cfg Config, tell func(string)) (*Conn, error) {
	deadline := time.Now().Add(lockPatience)
	for told := false; ; {
		c, err := dialAdmin(ctx, cfg.Dir)
		if err == nil || !noServer(err) {
			return c, err
		}
		lock, err := takeLock(cfg.Dir)
		if err == nil {
			return openHere(ctx, cfg, lock, tell)
		}
		if !errors.Is(err, durable.ErrLocked) {
			return nil, err
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%w, which does not answer on %s: it is starting, stopping or another command; try again", err, filepath.Join(cfg.Dir, runName, socketName))
		}
		if !told {
			tell("waiting for the process that works on " + cfg.Dir)
			told = true
		}
		if err := pause(ctx, poll); err != nil {
			return nil, err
		}
	}
}

// Running connects to the server that runs on dir. It returns nil and no error when none does.
func Running(ctx context.Context, dir string) (*Conn, error) {
	c, err := dialAdmin(ctx, dir)
	if err != nil && noServer(err) {
		return nil, nil
	}
	return c, err
}

// awaitLock is takeLock for a server: it waits for a command that is at work, not for another server.
func awaitLock(ctx context.Context, dir string) (*durable.FileLock, error) {
	deadline := time.Now().Add(lockPatience)
	for {
		lock, err := takeLock(dir)
		if !errors.Is(err, durable.ErrLocked) {
			return lock, err
		}
		if c, derr := dialAdmin(ctx, dir); derr == nil {
			return nil, errors.Join(fmt.Errorf("a server runs on %s already: %w: %w", dir, err, holdfast.ErrDenied), c.Close())
		}
		if time.Now().After(deadline) {
			return nil, err
		}
		if err := pause(ctx, poll); err != nil {
			return nil, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func noServer(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

func openHere(ctx context.Context, cfg Config, lock *durable.FileLock, tell func(string)) (*Conn, error) {
	cfg.visit = true
	d, err := open(ctx, lock, cfg)
	if err != nil {
		return nil, err
	}
	c := &Conn{client: &http.Client{Transport: inProcess{d.Admin()}}, dir: d}
	if err := d.settle(ctx, tell); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// settle waits until the fence is open or has been in one other state for a while.
func (d *Dir) settle(ctx context.Context, tell func(string)) error {
	var last string
	since := time.Now()
	for start := since; ; {
		s := d.Ledger.Status()
		if s.State == fence.Open.String() {
			return nil
		}
		if now := strings.TrimSuffix(s.State+": "+s.Reason+" "+s.Detail, " "); now != last {
			last, since = now, time.Now()
			if time.Since(start) > time.Second {
				tell("fence " + last)
			}
		}
		if d.look && s.Code != string(fence.Starting) {
			return nil // it looks once
		}
		patience := fencePatience
		if s.Code == string(fence.Starting) || s.Code == string(fence.Healing) {
			patience = startPatience
		}
		if time.Since(since) > patience {
			return nil
		}
		if err := pause(ctx, poll); err != nil {
			return err
		}
	}
}

// Beside reports whether a running server answers.
func (c *Conn) Beside() bool { return c.dir == nil }

// Close ends what Connect began.
func (c *Conn) Close() error {
	if c.dir == nil {
		c.client.CloseIdleConnections()
		return c.unused()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return c.dir.Close(ctx)
}

// Call runs one operation. Its errors wrap the same sentinels beside a server and without one.
func (c *Conn) Call(ctx context.Context, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://admin/v1/"+operation, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	res, err := c.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask the running server: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		var e adminError
		if err := json.NewDecoder(res.Body).Decode(&e); err != nil {
			return fmt.Errorf("the server answered %s: %w", res.Status, err)
		}
		return e.error()
	}
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	return nil
}

// inProcess hands requests to a handler of this process.
type inProcess struct{ h http.Handler }

func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := &recorder{header: http.Header{}, status: http.StatusOK}
	t.h.ServeHTTP(w, r)
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Header: w.header,
		Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r,
	}, nil
}

type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(status int)      { w.status = status }
func (w *recorder) Write(p []byte) (int, error) { return w.body.Write(p) }

// maxSocketPath is the longest path that every system takes for a socket.
const maxSocketPath = 100 // bytes

// socket calls fn with a path of the admin socket that is short enough for the kernel: a deep data
// directory is reached through /proc/self/fd, which needs the directory to stay open meanwhile.
func socket(dir string, fn func(path string) error) (*os.File, error) {
	path := filepath.Join(dir, runName, socketName)
	if len(path) <= maxSocketPath {
		return nil, fn(path)
	}
	f, err := os.Open(filepath.Join(dir, runName))
	if err != nil {
		return nil, fmt.Errorf("open the directory of the admin socket: %w", err)
	}
	short := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	if _, err := os.Stat(short); err != nil {
		return nil, errors.Join(fmt.Errorf("the path of %s is longer than %d bytes and there is no /proc: move the data directory: %w", path, maxSocketPath, err), f.Close())
	}
	return f, fn(short + "/" + socketName)
}

// dialAdmin connects to a running server. The error is noServer when there is none.
func dialAdmin(ctx context.Context, dir string) (*Conn, error) {
	dial := func(ctx context.Context) (conn net.Conn, err error) {
		var d net.Dialer
		f, err := socket(dir, func(path string) (err error) {
			conn, err = d.DialContext(ctx, "unix", path)
			return err
		})
		if f != nil {
			_ = f.Close() // opened for reading only
		}
		return conn, err
	}
	first, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if c := first; c != nil {
			first = nil
			return c, nil
		}
		return dial(ctx)
	}, MaxConnsPerHost: 1}
	return &Conn{client: &http.Client{Transport: t}, unused: func() error {
		if c := first; c != nil {
			first = nil
			return c.Close()
		}
		return nil
	}}, nil
}

// serveAdmin opens the admin socket. The lock is held, so a socket that is there is a dead server's.
func (s *server) serveAdmin(ctx context.Context) (err error) {
	defer func() {
		if errors.Is(err, syscall.EROFS) { // as the kernel leaves a file system after a write that failed: 75, restart me
			err = fmt.Errorf("%w: %w", err, holdfast.ErrFatal)
		}
	}()
	run := filepath.Join(s.cfg.Dir, runName)
	if err := durable.MkdirBelow(durable.Disk, s.cfg.Dir, runName); err != nil {
		return fmt.Errorf("make %s: %w", run, err)
	}
	if err := durable.Remove(durable.Disk, filepath.Join(run, socketName)); err != nil && !errors.Is(err, holdfast.ErrNotFound) {
		return fmt.Errorf("remove the socket of an earlier server: %w", err)
	}
	var l net.Listener
	held, err := socket(s.cfg.Dir, func(path string) (err error) {
		var lc net.ListenConfig
		if l, err = lc.Listen(ctx, "unix", path); err != nil {
			return err
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		return fmt.Errorf("open the admin socket: %w", err)
	}
	s.dir.serving = true
	s.admin = &http.Server{Handler: s.adminHandler(), ReadHeaderTimeout: headerTimeout, BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) }}
	s.admin.RegisterOnShutdown(func() {
		if held != nil {
			_ = held.Close() // after the listener, which removed its name through it
		}
	})
	go func() { s.fail(fmt.Errorf("serve the admin socket: %w", s.admin.Serve(l))) }()
	return nil
}
