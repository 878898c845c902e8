package main

import (
	"errors"
	"fmt"
	"log/slog"
	"syscall"

	"holdfast/internal/config"
	"holdfast/internal/server"
)

type serveCommand struct {
	dataFlag
	Listen             []string `sep:"none" placeholder:"HOST:PORT" help:"Listen here instead of where the settings say; [HOST]:PORT for IPv6."`
	PublicURL          string   `name:"public-url" placeholder:"URL" help:"How clients reach this server, as https://cloud.example.org."`
	TLSCert            string   `name:"tls-cert" placeholder:"FILE" help:"PEM file with the certificate chain."`
	TLSKey             string   `name:"tls-key" placeholder:"FILE" help:"PEM file with its private key."`
	ACMEDomain         []string `name:"acme-domain" sep:"none" placeholder:"NAME" help:"Get a certificate for this DNS name by ACME; port 443 must lead here."`
	ACMEEmail          string   `name:"acme-email" placeholder:"ADDRESS" help:"Where the certificate authority may write to."`
	TrustedProxy       []string `sep:"none" placeholder:"ADDRESS" help:"Address or network of a reverse proxy whose X-Forwarded-For is believed."`
	PlainHTTPFromProxy bool     `name:"plain-http-from-proxy" help:"Listen without TLS on addresses that are not loopback, and serve there only peers that are a trusted proxy."`
	LogLevel           string   `placeholder:"LEVEL" help:"debug, info, warn or error."`
}

// Help teaches.
func (serveCommand) Help() string {
	return `Serves WebDAV, CalDAV and CardDAV until SIGTERM or Ctrl-C, then lets running requests finish. Flags override
holdfast.conf. Without TLS it listens on this machine's loopback addresses only.

  holdfast serve --data /srv/holdfast
  holdfast serve --data /srv/holdfast --listen 127.0.0.1:8480 --public-url https://cloud.example.org --trusted-proxy 127.0.0.1
  holdfast serve --data /srv/holdfast --listen :443 --acme-domain cloud.example.org

Exit code 75 asks the supervisor to start it again: an error was seen after which only a new process can prove
what is on the disks. docs/runbooks/systemd.md and docs/runbooks/reverse-proxy.md have complete set-ups.`
}

// settings returns the file's settings with the flags put over them.
func (c *serveCommand) settings(dir string) (*config.Config, error) {
	settings, err := config.Load(dir)
	if err != nil {
		return nil, err
	}
	var errs []error
	over := func(key string, values ...string) {
		if len(values) > 0 && values[0] != "" {
			errs = append(errs, settings.Set(key, values...))
		}
	}
	over("listen", c.Listen...)
	over("public_url", c.PublicURL)
	over("tls_cert", c.TLSCert)
	over("tls_key", c.TLSKey)
	over("acme_domain", c.ACMEDomain...)
	over("acme_email", c.ACMEEmail)
	over("trusted_proxy", c.TrustedProxy...)
	over("log_level", c.LogLevel)
	if c.PlainHTTPFromProxy {
		over("plain_http_from_proxy", "yes")
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errUsage)
	}
	return settings, settings.Check()
}

// Run serves.
func (c *serveCommand) Run(s *streams) error {
	dir, err := c.dir()
	if err != nil {
		return err
	}
	settings, err := c.settings(dir)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: settings.LogLevel}))
	err = server.Run(s.ctx, server.Config{
		Dir: dir, Settings: settings, Log: log, Version: version(),
		Ready: func(urls []string) {
			for _, u := range urls {
				fmt.Fprintln(s.out, "listening on", u)
			}
		},
	})
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w; another program has this port, choose another with --listen HOST:PORT", err)
	}
	return err
}
