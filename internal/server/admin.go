package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/alert"
	"holdfast/internal/auth"
	"holdfast/internal/ledger"
)

const maxAdminBody = 1 << 20 // bytes

// Status is what `holdfast status` shows.
type Status struct {
	ledger.Status
	People    int        `json:"people"` // accounts that can log in; -1: not known while the fence is closed
	Dir       string     `json:"dir"`
	Running   bool       `json:"running"` // a server serves, as opposed to this command having looked by itself
	PID       int        `json:"pid,omitempty"`
	Version   string     `json:"version"`
	Started   *time.Time `json:"started,omitempty"`
	URLs      []string   `json:"urls,omitempty"` // of the listeners
	PublicURL string     `json:"public_url,omitempty"`
}

// Requests and answers of the admin operations. Operation X is POST /v1/X with its request as JSON.
type (
	// AccountRequest names an account; which other fields count depends on the operation.
	AccountRequest struct {
		Name     string `json:"name,omitempty"`
		Password string `json:"password,omitempty"`
		All      bool   `json:"all,omitempty"` // account/list: removed ones too
		Quota    string `json:"quota,omitempty"`
	}
	// Account is one of account/list.
	Account struct {
		auth.Account
		Live    int64 `json:"live_bytes"`    // of the bodies that are there; -1: not known
		History int64 `json:"history_bytes"` // of those that were replaced or deleted and are kept; -1: not known
	}
	// DeviceRequest names an account and one of its devices.
	DeviceRequest struct {
		Account string `json:"account"`
		Device  string `json:"device,omitempty"`
		All     bool   `json:"all,omitempty"` // device/list: revoked ones too
	}
	// NewDevice is the answer of device/add. The password is shown this once.
	NewDevice struct {
		auth.Device
		Password string   `json:"password"`
		URLs     []string `json:"urls"` // where to connect it, best first
	}
	// ScrubRequest asks for a scrub (Start), or only how far it is.
	ScrubRequest struct {
		Start bool             `json:"start,omitempty"`
		Only  string           `json:"only,omitempty"` // store, mirrors, blobs; empty: all
		Mode  ledger.ScrubMode `json:"mode,omitempty"`
	}
	// Nothing is an empty request or answer.
	Nothing struct{}
)

// operation answers one request, given as JSON.
type operation func(ctx context.Context, body []byte) (any, error)

// op makes an operation of a function with typed request and answer.
func op[In, Out any](fn func(ctx context.Context, in In) (Out, error)) operation {
	return func(ctx context.Context, body []byte) (any, error) {
		var in In
		d := json.NewDecoder(strings.NewReader(string(body)))
		d.DisallowUnknownFields()
		if err := d.Decode(&in); err != nil {
			return nil, fmt.Errorf("read request (is the server of another version?): %w: %w", err, holdfast.ErrInvalid)
		}
		return fn(ctx, in)
	}
}

func (d *Dir) operations() map[string]operation {
	ops := d.ownOperations()
	maps.Copy(ops, d.fenceOperations())
	maps.Copy(ops, d.mirrorOperations())
	maps.Copy(ops, d.snapshotOperations())
	maps.Copy(ops, d.witnessOperations())
	return ops
}

func (d *Dir) ownOperations() map[string]operation {
	return map[string]operation{
		"status": op(func(ctx context.Context, _ Nothing) (Status, error) { return d.status(ctx), nil }),
		"alert/test": op(func(ctx context.Context, _ Nothing) ([]alert.Result, error) {
			return alert.Test(ctx, d.alertConfig()), nil
		}),
		"scrub": op(func(_ context.Context, in ScrubRequest) (*ledger.ScrubStatus, error) {
			if in.Start {
				if err := d.Ledger.Scrub(in.Only, in.Mode); err != nil {
					return nil, err
				}
			}
			return d.Ledger.Status().Scrub, nil
		}),
		"probe/begin": op(d.probe.begin),
		"probe/end":   op(d.probe.end),
		"account/add": op(func(ctx context.Context, in AccountRequest) (auth.Account, error) {
			return d.Auth.AddAccount(ctx, in.Name, in.Password)
		}),
		"account/list":  op(d.accounts),
		"account/quota": op(d.setQuota),
		"account/set-password": op(func(ctx context.Context, in AccountRequest) (Nothing, error) {
			return Nothing{}, d.Auth.SetPassword(ctx, in.Name, in.Password)
		}),
		"account/remove": op(func(ctx context.Context, in AccountRequest) (Nothing, error) {
			return Nothing{}, d.Auth.RemoveAccount(ctx, in.Name)
		}),
		"account/restore": op(func(ctx context.Context, in AccountRequest) (Nothing, error) {
			return Nothing{}, d.Auth.RestoreAccount(ctx, in.Name)
		}),
		"device/add": op(func(ctx context.Context, in DeviceRequest) (NewDevice, error) {
			dev, password, err := d.Auth.AddDevice(ctx, in.Account, in.Device)
			return NewDevice{dev, password, d.reach()}, err
		}),
		"device/list": op(func(ctx context.Context, in DeviceRequest) ([]auth.Device, error) {
			return d.Auth.Devices(ctx, in.Account, in.All)
		}),
		"device/revoke": op(func(ctx context.Context, in DeviceRequest) (auth.Device, error) {
			return d.Auth.RevokeDevice(ctx, in.Account, in.Device)
		}),
	}
}

func (d *Dir) status(ctx context.Context) Status {
	s := Status{Status: d.Ledger.Status(), People: -1, Dir: d.Path, Running: d.serving, Version: d.version, URLs: d.urls, PublicURL: d.Settings.PublicURL}
	if d.serving {
		s.PID, s.Started = os.Getpid(), &d.started
	}
	if accounts, err := d.Auth.Accounts(ctx, false); err == nil {
		s.People = len(accounts)
	}
	return s
}

// reach returns the addresses of this server for a person who connects a device.
func (d *Dir) reach() []string {
	if d.Settings.PublicURL != "" {
		return []string{d.Settings.PublicURL + "/"}
	}
	if len(d.urls) > 0 {
		return d.urls
	}
	scheme := "http://"
	if d.Settings.TLS() {
		scheme = "https://"
	}
	var out []string
	for _, l := range d.Settings.Listen {
		out = append(out, scheme+l+"/")
	}
	return out
}

// unsettled are the operations that do not wait until the fence has settled: they say or change what it does.
var unsettled = map[string]bool{
	"status": true, "alert/test": true, "probe/begin": true, "probe/end": true, "fence/status": true, "fence/adopt": true,
}

// reading are the operations that change nothing: a command runs them without a claim of the mirrors.
var reading = map[string]bool{
	"status": true, "fence/status": true, "fence/loss": true, "fence/diff": true, "fence/branches": true, "fence/export": true,
	"account/list": true, "device/list": true, "snapshot/list": true, "snapshot/show": true, "snapshot/export": true,
}

// OnlyReads reports whether an operation changes nothing.
func OnlyReads(operation string) bool { return reading[operation] }

// Admin returns the handler of all admin operations. It trusts whoever reaches it: the socket's
// directory lets only the owner in.
func (d *Dir) Admin() http.Handler {
	ops := d.operations()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, ok := strings.CutPrefix(r.URL.Path, "/v1/")
		run := ops[name]
		if !ok || run == nil || r.Method != http.MethodPost || d.look && !reading[name] {
			writeAdmin(w, http.StatusNotFound, adminError{"invalid", "the server does not know the operation " + r.URL.Path + "; it may be of another version"})
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAdminBody))
		var out any
		if err == nil && !unsettled[name] {
			err = d.settle(r.Context(), func(string) {})
		}
		if err == nil {
			out, err = run(r.Context(), body)
		}
		if err != nil {
			writeAdmin(w, http.StatusConflict, adminError{codeOf(err), err.Error()})
			return
		}
		writeAdmin(w, http.StatusOK, out)
	})
}

type adminError struct {
	Code string `json:"code"`
	Text string `json:"error"`
}

// codes names the errors that a command must be able to tell apart, so that they have the same exit
// code through the socket as without it. The first that fits counts.
var codes = []struct {
	code string
	err  error
}{
	{"fatal", holdfast.ErrFatal},
	{"fenced", holdfast.ErrFenced},
	{"not_durable", holdfast.ErrNotDurable},
	{"full", holdfast.ErrFull},
	{"absent", holdfast.ErrAbsent},
	{"corrupt", holdfast.ErrCorrupt},
	{"denied", holdfast.ErrDenied},
	{"exists", holdfast.ErrExists},
	{"not_found", holdfast.ErrNotFound},
	{"quota", holdfast.ErrQuota},
	{"too_large", holdfast.ErrTooLarge},
	{"invalid", holdfast.ErrInvalid},
}

func codeOf(err error) string {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return "error"
}

// remoteError is an error of the server as a command sees it: its text, and the sentinel it wraps.
type remoteError struct {
	text string
	kind error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

func (e adminError) error() error {
	for _, c := range codes {
		if c.code == e.Code {
			return &remoteError{e.Text, c.err}
		}
	}
	return &remoteError{e.Text, nil}
}

func writeAdmin(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"code":"error","error":"encode answer"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // a command that has gone away asks again
}
