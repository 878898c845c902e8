package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/alert"
)

// TestServerTells: a running server whose mirror goes away and whose store is removed tells it by webhook,
// and its heartbeat stays away meanwhile.
func TestServerTells(t *testing.T) {
	told := make(chan alert.Message, 100)
	beats := make(chan struct{}, 1000)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/beat" {
			beats <- struct{}{}
			return
		}
		var m alert.Message
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		told <- m
	}))
	defer srv.Close()
	cfg := made(t, filepath.Join(t.TempDir(), "data"))
	w := &cfg.Settings.Watch
	w.AlertWebhook, w.AlertAfter, w.HeartbeatURL, w.HeartbeatEvery = srv.URL+"/hook", 0, srv.URL+"/beat", 10*time.Millisecond
	r := start(t, cfg).open()
	await := func(what string, fits func(m alert.Message) bool) {
		t.Helper()
		for end := time.After(30 * time.Second); ; {
			select {
			case m := <-told:
				if m.Server != cfg.Settings.ServerID.String() || m.Text == "" || strings.Contains(m.Text, "alice") {
					t.Errorf("%+v", m)
				}
				if fits(m) {
					return
				}
			case <-end:
				t.Fatalf("nobody was told that %s", what)
			}
		}
	}
	beat := func() {
		t.Helper()
		select {
		case <-beats:
		case <-time.After(30 * time.Second):
			t.Fatal("no heartbeat")
		}
	}
	beat()
	mirror := cfg.Settings.Mirrors[0].Path
	if err := os.Rename(mirror, mirror+"-away"); err != nil {
		t.Fatal(err)
	}
	await("the fence is held", func(m alert.Message) bool { return m.Kind == "fence" && m.Phase == "begins" && m.State == "held" })
	if body := text(r.do("GET", "metrics", nil)); !strings.Contains(body, "holdfast_fence_state 1\n") || !strings.Contains(body, `holdfast_copy_complete{copy="mirror"} 0`) {
		t.Error("the metrics do not say that the fence is held")
	}
	if err := os.Rename(mirror+"-away", mirror); err != nil {
		t.Fatal(err)
	}
	await("it is over", func(m alert.Message) bool { return m.Kind == "fence" && m.Phase == "over" && m.State == "open" })
	for len(beats) > 0 {
		<-beats
	}
	beat()
	if err := os.RemoveAll(filepath.Join(cfg.Dir, "store")); err != nil {
		t.Fatal(err)
	}
	await("the store was healed", func(m alert.Message) bool {
		return m.Kind == "healed" && m.Phase == "happened" && strings.Contains(m.Todo, "incidents/")
	})
	r.open()
	if body := text(r.do("GET", "metrics", nil)); !strings.Contains(body, "holdfast_heals_total 1\n") || !strings.Contains(body, `holdfast_alerts_total{result="sent",way="webhook"}`) {
		t.Error("the metrics do not count the heal or the alerts")
	}
}
