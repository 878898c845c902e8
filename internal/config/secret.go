package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"holdfast"
)

// LeastKey is how many characters a key or token in a file has at least. Passwords and URLs have their own rules.
const LeastKey = 16

// ReadSecret returns the first line of a file that a setting names; a relative path is below the data
// directory. ErrInvalid: it has less than least characters. No error holds anything of the content.
func ReadSecret(dir, path string, least int) (string, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("open secret: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxLine+1))
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	line = strings.TrimSpace(line)
	switch {
	case len(line) > maxLine:
		return "", fmt.Errorf("the first line of %s is longer than %d characters: %w", path, maxLine, holdfast.ErrInvalid)
	case len(line) < least:
		return "", fmt.Errorf("the first line of %s has less than %d characters: %w", path, least, holdfast.ErrInvalid)
	case noControl(line) != nil:
		return "", fmt.Errorf("the first line of %s has control characters: %w", path, holdfast.ErrInvalid)
	}
	return line, nil
}

// Secret is a setting that names a file, with the least length of its first line.
type Secret struct {
	Key, Path string
	Least     int
}

// Secrets lists every file of a secret that the settings name.
func (w *Watch) Secrets() []Secret {
	var all []Secret
	add := func(key, path string, least int) {
		if path != "" {
			all = append(all, Secret{key, path, least})
		}
	}
	add("metrics_token_file", w.MetricsTokenFile, LeastKey)
	add("alert_webhook_secret", w.AlertWebhookSecret, LeastKey)
	add("alert_mail_password", w.AlertMailPassword, 1)
	for _, u := range [][2]string{{"alert_webhook", w.AlertWebhook}, {"heartbeat_url", w.HeartbeatURL}} {
		if path, ok := strings.CutPrefix(u[1], FilePrefix); ok {
			add(u[0], path, 1)
		}
	}
	return all
}

// URL returns the address that a setting holds or whose file it names, checked.
func (w *Watch) URL(dir, setting string) (string, error) {
	path, ok := strings.CutPrefix(setting, FilePrefix)
	if !ok {
		return setting, w.CheckURL(setting)
	}
	u, err := ReadSecret(dir, path, 1)
	if err != nil {
		return "", err
	}
	if err := w.CheckURL(u); err != nil {
		return "", fmt.Errorf("the URL in %s: %w: %w", path, err, holdfast.ErrDenied)
	}
	return u, nil
}

// CheckSecrets reads every file of a secret, for `holdfast config check`.
func (w *Watch) CheckSecrets(dir string) error {
	for _, s := range w.Secrets() {
		if _, err := ReadSecret(dir, s.Path, s.Least); err != nil {
			return fmt.Errorf("%s: %w", s.Key, err)
		}
	}
	for _, u := range []string{w.AlertWebhook, w.HeartbeatURL} {
		if u == "" {
			continue
		}
		if _, err := w.URL(dir, u); err != nil {
			return err
		}
	}
	return nil
}
