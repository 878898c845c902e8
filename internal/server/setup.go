package server

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/auth"
	"holdfast/internal/fence"
	"holdfast/internal/ledger"
	"holdfast/internal/setup"
)

// setup answers what is below setup.Path: the page for everybody, which knows no account, and with a login the
// page and a configuration profile for that account. While the fence is closed, the server's or the account's
// own, it says wait and nothing else (F3).
func (s *server) setup(w http.ResponseWriter, r *http.Request) {
	if s.dir.Ledger.Status().State == fence.Closed.String() {
		s.setupWait(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "GET or HEAD only; DAV is at /dav/", http.StatusMethodNotAllowed)
		return
	}
	if r.URL.Path == setup.Path {
		s.setupPage(w, r, "")
		return
	}
	s.dir.Auth.Require(s.client, func(w http.ResponseWriter, r *http.Request, id auth.Identity) {
		if err := s.dir.Ledger.View(r.Context(), id.Account, func(*ledger.View) error { return nil }); err != nil {
			s.setupWait(w, r)
			return
		}
		if r.URL.Path == setup.ProfilePath {
			s.setupProfile(w, r, id.Name)
			return
		}
		s.setupPage(w, r, id.Name)
	}).ServeHTTP(w, r)
}

func (s *server) setupPage(w http.ResponseWriter, r *http.Request, name string) {
	b, err := setup.Page(s.facts(r, name))
	s.setupAnswer(w, r, http.StatusOK, "text/html; charset=utf-8", b, err)
}

func (s *server) setupWait(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Retry-After", strconv.Itoa(int(retryNotReady/time.Second)))
	b, err := setup.WaitPage(s.facts(r, ""))
	s.setupAnswer(w, r, http.StatusServiceUnavailable, "text/html; charset=utf-8", b, err)
}

// setupProfile has no password in it: the one of this request may be that of another device.
func (s *server) setupProfile(w http.ResponseWriter, r *http.Request, name string) {
	b, err := s.facts(r, name).Profile("")
	w.Header().Set("Content-Disposition", `attachment; filename="holdfast-`+name+`.mobileconfig"`) // an account's name is plain
	s.setupAnswer(w, r, http.StatusOK, setup.ProfileType, b, err)
}

func (s *server) setupAnswer(w http.ResponseWriter, r *http.Request, status int, ctype string, body []byte, err error) {
	if err != nil {
		s.log.Error("set-up page", "err", err)
		http.Error(w, "Something went wrong here. Nothing that was acknowledged is lost.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Security-Policy", setup.Policy)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", ctype)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a reader that has gone away
	}
}

// facts are those of public_url or, without it, of the address that the reader used.
func (s *server) facts(r *http.Request, name string) setup.Facts {
	id := s.cfg.Settings.ServerID
	scheme := "http://"
	if r.TLS != nil || within(s.cfg.Settings.TrustedProxies, addrOf(r.RemoteAddr)) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		scheme = "https://"
	}
	for _, origin := range []string{s.cfg.Settings.PublicURL, scheme + r.Host} {
		if f, err := setup.NewFacts(origin, name, id); err == nil {
			return f
		}
	}
	return setup.Facts{Origin: strings.TrimSuffix(s.urls()[0], "/"), Name: name, Server: id} // a Host that is none
}
