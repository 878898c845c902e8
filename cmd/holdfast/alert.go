package main

import (
	"errors"
	"fmt"
	"time"

	"holdfast/internal/alert"
	"holdfast/internal/config"
	"holdfast/internal/server"
)

type alertCommand struct {
	Test alertTest `cmd:"" help:"Send a test alert through every way that is set."`
}

type alertTest struct {
	dataFlag
	jsonFlag
}

// Help teaches.
func (alertTest) Help() string {
	return `Sends one message through every way of DIR/holdfast.conf (alert_webhook, alert_mail_server) and says what each
answered. A running server sends it itself, with the settings it was started with; without one this command does.

Exit code 0: every way took it. 1: one did not, or no way is set.

  holdfast alert test --data /srv/holdfast`
}

// errAlerts makes the exit code 1; what went wrong has been printed.
var errAlerts = errors.New("not every alert would arrive")

// Run sends the test.
func (c *alertTest) Run(s *streams) error {
	dir, err := c.dir()
	if err != nil {
		return err
	}
	settings, err := config.Load(dir)
	if err != nil {
		return err
	}
	if !settings.Alerts() {
		return errors.New("nobody would be told: set alert_webhook or alert_mail_server in holdfast.conf (holdfast config describe explains them), then restart the server")
	}
	results, beside, err := c.send(s, dir, settings)
	if err != nil {
		return err
	}
	if c.JSON {
		err = printJSON(s.out, results)
	} else {
		err = printAlerts(s, results, beside, settings)
	}
	if err != nil {
		return err
	}
	if len(results) == 0 {
		return fmt.Errorf("the running server has no way to alert yet: restart it, so that it reads holdfast.conf: %w", errAlerts)
	}
	for _, r := range results {
		if r.Err != "" {
			return errAlerts
		}
	}
	return nil
}

// send has the running server do it, or does it here.
func (c *alertTest) send(s *streams, dir string, settings *config.Config) (results []alert.Result, beside bool, err error) {
	conn, err := server.Running(s.ctx, dir)
	if err != nil {
		return nil, false, err
	}
	if conn == nil {
		return server.TryAlerts(s.ctx, dir, settings), false, nil
	}
	err = conn.Call(s.ctx, "alert/test", server.Nothing{}, &results)
	return results, true, errors.Join(err, conn.Close())
}

func printAlerts(s *streams, results []alert.Result, beside bool, settings *config.Config) error {
	who := "this command (no server runs)"
	if beside {
		who = "the running server"
	}
	fmt.Fprintf(s.out, "Sent by %s:\n", who)
	for _, r := range results {
		took := (time.Duration(r.Took) * time.Millisecond).String()
		if r.Err != "" {
			fmt.Fprintf(s.out, "  %-7s  %s: NOT TAKEN after %s: %s\n", r.Way, r.To, took, r.Err)
			continue
		}
		fmt.Fprintf(s.out, "  %-7s  %s: taken in %s; look whether it arrives\n", r.Way, r.To, took)
	}
	if settings.HeartbeatURL != "" {
		fmt.Fprintf(s.out, "Heartbeat  every %s while all is well; a test does not send one\n", settings.HeartbeatEvery)
	}
	return nil
}
