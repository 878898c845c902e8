package server

import (
	"context"
	"net/http"

	"holdfast"
	"holdfast/internal/auth"
	"holdfast/internal/dav"
	"holdfast/internal/push"
)

// startPush builds what tells devices of changes, and the way in to it.
func (s *server) startPush(ctx context.Context) {
	s.push = push.New(ctx, push.Config{
		Ledger: s.dir.Ledger, Log: s.cfg.Log, Href: dav.CollectionPath, Token: dav.SyncToken,
		Standing: func(ctx context.Context, ids []push.Who) ([]holdfast.Hash, error) {
			who := make([]auth.Identity, len(ids))
			for i, id := range ids {
				who[i] = auth.Identity(id)
			}
			return s.dir.Auth.Standing(ctx, who...)
		},
		Judges: auth.Judges, Streams: s.cfg.Settings.MaxStreams, Patience: s.cfg.Settings.ProgressTimeout,
	})
	s.metrics.watchPush(s.push.Stats)
	s.events = s.dir.Auth.Require(s.client, s.serveEvents)
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
		s.push.ServeEvents(w, r, push.Who(id), standing[0])
	}).ServeHTTP(w, r)
}
