package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"holdfast"
	"holdfast/internal/auth"
	"holdfast/internal/config"
	"holdfast/internal/limit"
)

// A device that opens too many requests gets 429 and a time to come again; the other accounts are answered meanwhile.
func TestTooManyRequests(t *testing.T) {
	s := newServer(Config{Settings: config.Default(), Log: quiet()})
	s.gate = limit.New(limit.Config{Requests: 100, AccountRequests: 2, Memory: 1 << 20})
	begun, end := make(chan struct{}), make(chan struct{})
	admitted := s.admitted(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			begun <- struct{}{}
			<-end
		}
	}))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := auth.Identity{Account: 1, Device: 1}
		if user, _, _ := r.BasicAuth(); user == "bob" {
			id.Account = holdfast.AccountID(2)
		}
		admitted(w, r, id)
	}))
	defer srv.Close()
	get := func(user, path string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, nil)
		if err != nil {
			t.Error(err)
			return nil
		}
		req.SetBasicAuth(user, "")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return nil
		}
		defer res.Body.Close()
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			t.Error(err)
		}
		return res
	}
	answers := make(chan *http.Response, 5)
	for range 5 { // two are answered, two wait, one is too many
		go func() { answers <- get("alice", "/wait") }()
	}
	<-begun
	<-begun
	if res := <-answers; res == nil || res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" {
		t.Errorf("the fifth request got %v, want 429 with Retry-After", res)
	}
	if res := get("bob", "/"); res == nil || res.StatusCode != http.StatusOK {
		t.Errorf("bob got %v, want 200", res)
	}
	close(end)
	<-begun
	<-begun
	for range 4 {
		if res := <-answers; res == nil || res.StatusCode != http.StatusOK {
			t.Errorf("got %v, want 200", res)
		}
	}
}
