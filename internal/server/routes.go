package server

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/dav"
	"holdfast/internal/fence"
	"holdfast/internal/push"
	"holdfast/internal/setup"
)

// route is what answers some of the paths. What dav says of other accounts is held by its TestNothingOfOthers;
// the other routes know of no account but the one that is logged in.
type route struct {
	name    string
	matches func(s *server, r *http.Request) bool
	serve   func(s *server, w http.ResponseWriter, r *http.Request)
}

// routes are all of them; the first that matches answers.
var routes = []route{
	{"dav", func(_ *server, r *http.Request) bool { return dav.Serves(r.URL.Path) }, func(s *server, w http.ResponseWriter, r *http.Request) {
		s.dav.ServeHTTP(w, r)
	}},
	{"events", func(_ *server, r *http.Request) bool { return r.URL.Path == push.Route }, func(s *server, w http.ResponseWriter, r *http.Request) {
		s.events.ServeHTTP(w, r)
	}},
	{"public", func(_ *server, r *http.Request) bool {
		return isPublic(r.URL.Path) && (r.Method == http.MethodGet || r.Method == http.MethodHead)
	}, (*server).public},
	{"setup", func(_ *server, r *http.Request) bool { return setup.Owns(r.URL.Path) }, (*server).setup},
	{"closed", (*server).isClosed, answerClosed},
	{"dav without its slash", func(_ *server, r *http.Request) bool { return r.URL.Path+"/" == dav.Base }, func(_ *server, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", dav.Base) // a path only: right behind any proxy
		w.WriteHeader(http.StatusPermanentRedirect)
	}},
	{"well-known", func(_ *server, r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/.well-known/") }, func(_ *server, w http.ResponseWriter, r *http.Request) {
		dav.WellKnown(w, r)
	}},
	{"public, other methods", func(_ *server, r *http.Request) bool { return isPublic(r.URL.Path) }, func(_ *server, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "GET or HEAD only; DAV is at /dav/", http.StatusMethodNotAllowed)
	}},
	{"nothing", func(*server, *http.Request) bool { return true }, func(_ *server, w http.ResponseWriter, r *http.Request) {
		http.NotFound(w, r)
	}},
}

// isPublic reports whether a path is one of the pages and documents about the server itself.
func isPublic(path string) bool {
	switch path {
	case "/", "/healthz", "/readyz", "/status.json", "/metrics":
		return true
	}
	return false
}

// isClosed is F3: a client that looks for its data is told nothing but to wait, at whatever address.
func (s *server) isClosed(*http.Request) bool {
	return s.dir != nil && s.dir.Ledger.Status().State == fence.Closed.String()
}

func answerClosed(_ *server, w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Retry-After", strconv.Itoa(int(retryNotReady/time.Second)))
	http.Error(w, "Not at the moment. Nothing is lost; try again in a while.", http.StatusServiceUnavailable)
}
