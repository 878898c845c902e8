package server

import (
	"context"
	"net/http"
	"net/netip"

	"holdfast"
	"holdfast/internal/auth"
	"holdfast/internal/dav"
	"holdfast/internal/dial"
	"holdfast/internal/push"
)

// startPush builds what tells devices of changes, and the way in to it.
func (s *server) startPush(ctx context.Context) {
	c := s.cfg.Settings
	policy := dial.Policy{Own: s.listensOn}
	for _, a := range c.PushAllow {
		policy.Allow = append(policy.Allow, dial.Allow(a))
	}
	s.pushes = dial.New(policy)
	s.push = push.New(ctx, push.Config{
		Ledger: s.dir.Ledger, Log: s.cfg.Log, Href: dav.CollectionPath, Token: dav.SyncToken,
		Standing: func(ctx context.Context, ids []push.Who) ([]holdfast.Hash, error) {
			who := make([]auth.Identity, len(ids))
			for i, id := range ids {
				who[i] = auth.Identity{Account: id.Account, Name: id.Name, Device: id.Device}
			}
			return s.dir.Auth.Standing(ctx, who...)
		},
		Judges: auth.Judges, Streams: c.MaxStreams, Patience: c.ProgressTimeout,
		WebPush: c.WebPush, Server: c.ServerID, Contact: c.PublicURL, CheckURL: policy.CheckURL, Send: s.pushes.Do,
	})
	s.metrics.watchPush(s.push.Stats)
	s.events = s.dir.Auth.Require(s.client, s.serveEvents)
}

// stopPush ends what startPush began, before the listeners: they wait for every stream.
func (s *server) stopPush() {
	s.push.Stop()
	if s.pushes != nil {
		s.pushes.Close()
	}
}

// listensOn reports whether an address leads to one of the listeners. One for all addresses has every
// address of this machine.
func (s *server) listensOn(ap netip.AddrPort) bool {
	for _, l := range s.listeners {
		own, err := netip.ParseAddrPort(l.Addr().String())
		if err != nil || own.Port() == ap.Port() && (own.Addr().Unmap().WithZone("") == ap.Addr() || own.Addr().IsUnspecified() && dial.OfThisMachine(ap.Addr())) {
			return true
		}
	}
	return false
}

// serveEvents lets a client in twice: what its credentials are worth is noted in between, so that they were
// good when it was noted, and any later change of them ends the stream.
func (s *server) serveEvents(w http.ResponseWriter, r *http.Request, id auth.Identity) {
	standing, err := s.dir.Auth.Standing(r.Context(), id)
	s.dir.Auth.Require(s.client, func(w http.ResponseWriter, r *http.Request, again auth.Identity) {
		if err != nil || again != id || standing[0] == (holdfast.Hash{}) {
			w.Header().Set("Retry-After", "30")
			http.Error(w, "Not at the moment. Nothing is lost; try again in a while.", http.StatusServiceUnavailable)
			return
		}
		if rec, ok := w.(*response); ok {
			rec.account = id.Account
		}
		s.push.ServeEvents(w, r, push.Who{Account: id.Account, Name: id.Name, Device: id.Device}, standing[0])
	}).ServeHTTP(w, r)
}
