package dav

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
	"holdfast/internal/lock"
	"holdfast/internal/push"
	"holdfast/internal/upload"
)

const (
	xmlType          = "application/xml; charset=utf-8"
	defaultMaxObject = 10 << 20
	defaultMaxFile   = 64 << 30
	// compliance is the DAV header (RFC 4918, 10.1 and 18).
	compliance = "1, 2, 3, access-control, calendar-access, addressbook, extended-mkcol"
)

// Config is what a Handler needs.
type Config struct {
	Ledger    *ledger.Ledger
	Log       *slog.Logger
	Now       func() time.Time // nil = time.Now; for Last-Modified, never for order
	Host      string           // of the public URL, which a Destination may name besides the Host of the request; may be empty
	Domain    string           // of the mail address a principal without one in its name is given; empty = the request's host
	Origin    string           // scheme and host that clients know this server by; empty: those of each request
	Push      *push.Push       // nil: nothing can be registered
	MaxObject int64            // bytes of a card or calendar object; 0 = 10 MiB
	MaxFile   int64            // bytes of a file; 0 = 64 GiB
	Locks     *lock.Table      // nil: New makes one
	Uploads   *upload.Area     // where the pieces of large files lie; nil: they are not taken
}

// Principal is who sends a request, as package auth found out. Name is the account's one name: the
// segment of all its paths.
type Principal struct {
	Account holdfast.AccountID
	Name    string
	Device  holdfast.DeviceID
	Quota   int64 // bytes the account may keep, its history included; 0: no bound
}

type principalKey struct{}

// WithPrincipal returns a context that carries who sends the request. A request without one is
// answered 503: it did not come through authentication.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// Handler serves everything below Base, to authenticated principals only.
type Handler struct {
	cfg Config
	log *slog.Logger
}

// New makes a handler. It must be mounted without a mux that cleans paths: "//" and encoded dots are
// refused here, and a redirect would turn a PUT into a GET.
func New(cfg Config) *Handler {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.MaxObject == 0 {
		cfg.MaxObject = defaultMaxObject
	}
	if cfg.MaxFile == 0 {
		cfg.MaxFile = defaultMaxFile
	}
	if cfg.Locks == nil {
		cfg.Locks = NewLocks(cfg.Ledger, cfg.Now)
	}
	return &Handler{cfg: cfg, log: cfg.Log.With("pkg", "dav")}
}

// methods maps each method to what serves it. A nil error means that the answer was sent.
var methods = map[string]func(*request) error{
	"OPTIONS": options, "PROPFIND": propfind, "PROPPATCH": proppatch, "MKCOL": mkcol, "MKCALENDAR": mkcalendar,
	"GET": get, "HEAD": get, "PUT": put, "DELETE": del, "COPY": copyOrMove, "MOVE": copyOrMove, "REPORT": report,
	"POST": post, "LOCK": lockMethod, "UNLOCK": unlock,
}

const allMethods = "OPTIONS, GET, HEAD, PUT, DELETE, PROPFIND, PROPPATCH, MKCOL, MKCALENDAR, COPY, MOVE, LOCK, UNLOCK, REPORT, POST"

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("DAV", h.classes())
	req := &request{Request: r, h: h, w: w}
	err := req.serve()
	if err == nil {
		return
	}
	if errors.Is(err, errAnswered) {
		panic(http.ErrAbortHandler) // net/http's way to cut the connection, so that half an answer is not taken for a whole one
	}
	f := statusOf(err).about(r.Method, req.path.segs)
	if f.status != http.StatusServiceUnavailable && !req.proven {
		// F3: a refusal of any kind is sent only by a server whose fence is open.
		if gate := req.view(func(*ledger.View) error { return nil }); gate != nil {
			f = statusOf(gate)
		}
	}
	level := slog.LevelDebug
	if f.status == http.StatusInternalServerError {
		level = slog.LevelError
	}
	h.log.Log(r.Context(), level, "request refused", "method", r.Method, "status", f.status, "account", req.who.Account.String(), "err", err)
	f.write(w, r.Method == http.MethodHead)
}

// classes is the DAV header.
func (h *Handler) classes() string {
	if h.cfg.Push.Key() == "" {
		return compliance
	}
	return compliance + pushClass
}

// errAnswered says that bytes of an answer are out already: nothing but cutting the connection is left.
var errAnswered = errors.New("answer cut off")

// request is one request on its way through a method.
type request struct {
	*http.Request
	h      *Handler
	w      http.ResponseWriter
	who    Principal
	path   path
	proven bool // the ledger has let this request read or write: the fence is open
}

func (q *request) serve() error {
	var ok bool
	if q.who, ok = q.Context().Value(principalKey{}).(Principal); !ok || q.who.Account == holdfast.Server {
		q.proven = true // nobody to ask the ledger for
		return fmt.Errorf("request without a principal: %w", holdfast.ErrAbsent)
	}
	serve, ok := methods[q.Method]
	if !ok {
		return &fault{status: http.StatusNotImplemented, detail: "method not known"}
	}
	var err error
	if rest, ok := strings.CutPrefix(q.URL.EscapedPath(), uploadsBase); ok {
		return q.upload(rest)
	}
	if q.path, err = parsePath(q.URL.EscapedPath()); err != nil {
		return fmt.Errorf("parse path: %w", err)
	}
	if about, ok := q.pushMethod(); ok {
		return about(q)
	}
	if strings.IndexByte(q.RequestURI, '#') >= 0 {
		return badRequest("a fragment in the request target")
	}
	if !q.owns(q.path) {
		return errNotFound
	}
	return serve(q)
}

// owns reports whether a path is the principal's own or everybody's.
func (q *request) owns(p path) bool {
	switch {
	case p.files:
		return len(p.segs) > 0 && p.segs[0] == q.who.Name
	case len(p.segs) == 0:
		return true
	case p.segs[0] == principals:
		return len(p.segs) == 1 || len(p.segs) == 2 && p.segs[1] == q.who.Name
	}
	return p.segs[0] == q.who.Name
}

// view reads the principal's account. An account that is missing was there when the principal was
// authenticated: that is absent, never 404.
func (q *request) view(fn func(v *ledger.View) error) error {
	ran := false
	err := q.h.cfg.Ledger.View(q.Context(), q.who.Account, func(v *ledger.View) error {
		ran, q.proven = true, true
		return fn(v)
	})
	if err != nil && !ran && errors.Is(err, holdfast.ErrNotFound) {
		return fmt.Errorf("%w: %w", holdfast.ErrAbsent, err)
	}
	return err
}

// update changes the principal's account. fn must leave alone what the caller reads after an error.
func (q *request) update(fn func(tx *ledger.Tx) error) error {
	var err error
	if q.Header[dontNotify] == nil {
		_, err = q.h.cfg.Ledger.Update(q.Context(), q.who.Account, q.who.Device, fn)
	} else {
		err = q.mutedUpdate(fn)
	}
	if err == nil {
		q.proven = true
	}
	return err
}

// xmlBody reads the request's body as XML; nil if there is none.
func (q *request) xmlBody(limit int64) (*node, error) {
	if q.ContentLength > limit {
		return nil, fmt.Errorf("xml request of %d bytes: %w", q.ContentLength, holdfast.ErrTooLarge)
	}
	body, err := q.held(q.Body, limit, xmlCost)
	if err != nil {
		return nil, err
	}
	return readXML(body, limit)
}

// drained reports whether the request has no body.
func (q *request) drained() bool {
	var one [1]byte
	n, err := io.ReadFull(q.Body, one[:])
	return n == 0 && errors.Is(err, io.EOF)
}

// depth reads the Depth header: 0, 1 or infinity; missing is what the method says.
func (q *request) depth(missing string) (string, error) {
	switch d := strings.ToLower(strings.TrimSpace(q.Header.Get("Depth"))); d {
	case "":
		return missing, nil
	case "0", "1", "infinity":
		return d, nil
	}
	return "", badRequest("depth is not 0, 1 or infinity")
}

// done sends an answer without a body.
func (q *request) done(status int) error {
	if status != http.StatusNoContent {
		q.w.Header().Set("Content-Length", "0")
	}
	q.w.WriteHeader(status)
	return nil
}
