package server

import (
	"context"
	"log/slog"
	"time"

	"holdfast/internal/alert"
	"holdfast/internal/config"
	"holdfast/internal/ledger"
)

// watchWith has metrics and alerts hear what the ledger reports. Neither blocks it.
func (s *server) watchWith(c *config.Config) {
	cfg := alertConfig(s.cfg.Dir, c, s.cfg.Log)
	cfg.Sent = func(way, result string) { s.metrics.alerts.WithLabelValues(way, result).Inc() }
	cfg.Beat = func(result string) { s.metrics.heartbeats.WithLabelValues(result).Inc() }
	s.alerts = alert.New(cfg)
	s.cfg.notify = func(e ledger.Event) {
		s.metrics.event(e)
		s.alerts.Event(e)
		s.history.add(e)
	}
	s.cfg.observe = func(step string, took time.Duration) { s.metrics.observe(step, took) }
}

func alertConfig(dir string, c *config.Config, log *slog.Logger) alert.Config {
	return alert.Config{Dir: dir, Settings: &c.Watch, Server: c.ServerID.String(), PublicURL: c.PublicURL, Log: log}
}

func (d *Dir) alertConfig() alert.Config {
	cfg := alertConfig(d.Path, d.Settings, nil)
	cfg.Status = d.Ledger.Status
	return cfg
}

// TryAlerts sends a test message as a server on dir with these settings would.
func TryAlerts(ctx context.Context, dir string, c *config.Config) []alert.Result {
	return alert.Test(ctx, alertConfig(dir, c, nil))
}
