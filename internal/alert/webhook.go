package alert

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/config"
)

// SignatureHeader holds "sha256=" and the HMAC-SHA256 of the body in hex, by the key of alert_webhook_secret.
const SignatureHeader = "Holdfast-Signature"

const maxAnswer = 4 << 10 // bytes of an answer that are read; more makes the connection end

// newClient follows no redirect, verifies certificates and keeps no connection.
func newClient(cfg *Config) *http.Client {
	return &http.Client{
		Timeout:       sendWithin,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSHandshakeTimeout: sendWithin / 2, MaxResponseHeaderBytes: 64 << 10,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.roots},
		},
	}
}

// do sends a request and judges the answer. Errors never hold the URL: whoever knows it may use it.
func do(c *http.Client, req *http.Request) error {
	req.Header.Set("User-Agent", "holdfast")
	res, err := c.Do(req)
	if err != nil {
		if ue := (*url.Error)(nil); errors.As(err, &ue) {
			err = ue.Err
		}
		return fmt.Errorf("ask %s: %w", req.URL.Host, err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer)) // only the status counts
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300:
		return nil
	case res.StatusCode >= 300 && res.StatusCode < 400:
		return fmt.Errorf("%s answered %d: it leads elsewhere, which is not followed; set the address it leads to: %w", req.URL.Host, res.StatusCode, holdfast.ErrDenied)
	}
	return fmt.Errorf("%s answered %d", req.URL.Host, res.StatusCode)
}

// webhook sends messages by POST.
type webhook struct {
	cfg    *Config
	client *http.Client
}

func newWebhook(cfg *Config) *webhook { return &webhook{cfg, newClient(cfg)} }

func (w *webhook) name() string { return "webhook" }

func (w *webhook) to() string {
	if u, err := url.Parse(w.cfg.Settings.AlertWebhook); err == nil && u.Host != "" {
		return u.Host
	}
	return strings.TrimPrefix(w.cfg.Settings.AlertWebhook, config.FilePrefix)
}

func (w *webhook) send(ctx context.Context, m *Message) error {
	target, err := w.cfg.Settings.URL(w.cfg.Dir, w.cfg.Settings.AlertWebhook)
	if err != nil {
		return err
	}
	body := m.json()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return errors.New("the webhook's address is no URL")
	}
	req.Header.Set("Content-Type", "application/json")
	if path := w.cfg.Settings.AlertWebhookSecret; path != "" {
		key, err := config.ReadSecret(w.cfg.Dir, path, config.LeastKey)
		if err != nil {
			return err
		}
		req.Header.Set(SignatureHeader, Sign(key, body))
	}
	return do(w.client, req)
}

// Sign returns the value of SignatureHeader.
func Sign(key string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(key))
	_, _ = mac.Write(body) // hash.Hash never returns an error
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// beat fetches the heartbeat's address while nothing is wrong, at once and then at each interval.
func (a *Alerter) beat(ctx context.Context) {
	client := newClient(&a.cfg)
	tick := time.NewTicker(a.cfg.Settings.HeartbeatEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		if !first {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
		if s := a.cfg.Status(); len(s.Troubles()) > 0 {
			a.cfg.Beat("withheld")
			continue
		}
		err := a.beatOnce(ctx, client)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			a.cfg.Beat("failed")
			a.log.Warn("the heartbeat was not taken", "err", err)
		default:
			a.cfg.Beat("sent")
		}
	}
}

func (a *Alerter) beatOnce(ctx context.Context, client *http.Client) error {
	target, err := a.cfg.Settings.URL(a.cfg.Dir, a.cfg.Settings.HeartbeatURL)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return errors.New("the heartbeat's address is no URL")
	}
	return do(client, req)
}
