// Package config reads holdfast.conf, the one settings file of a data directory.
//
// The file is lines of `key = value`. A line that starts with # is a comment, an empty line means
// nothing; there is no quoting and no continuation: a value is the rest of its line without the
// spaces around it. Unknown keys, doubled keys and values that do not fit are errors with their line
// number, all of them reported at once. Secrets are never in it, only the names of files that hold them.
//
// Invariant: what Render writes, Parse reads back as the same Config; a setting that could lose data
// is refused, never warned about.
package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"holdfast"
)

// FileName is the name of the settings file inside a data directory.
const FileName = "holdfast.conf"

// RestoreName is the name of the file that says that the restore into a directory has not finished.
const RestoreName = "restore"

// Limits of the file. Beyond them Parse refuses before it looks further.
const (
	maxFile   = 1 << 20 // bytes
	maxLine   = 4096    // bytes
	maxRepeat = 64      // values of one repeatable key
	maxErrors = 50      // reported at once
)

// Mirror names one required synchronous copy.
type Mirror struct {
	Name string // for people: letters, digits, `.`, `_`, `-`
	Path string // absolute path of its directory
}

// Config holds every setting. Use Default for the values that stand when the file says nothing.
type Config struct {
	ServerID holdfast.ServerID
	Mirrors  []Mirror
	Witness  string // absolute path of the head witness; empty: none
	Policy   string // strict or degraded: what is done while a mirror is away
	Copies   int    // mirrors that are to have every change; 0 = all

	MirrorTimeout time.Duration // how long a step waits for a mirror or the witness

	Listen             []string // HOST:PORT each
	PublicURL          string   // scheme and host, without a slash at the end; empty: unknown
	TLSCert, TLSKey    string   // PEM files; a relative path is below the data directory
	ACMEDomains        []string
	ACMEEmail          string
	ACMEDirectory      string // URL of the ACME directory
	TrustedProxies     []netip.Prefix
	PlainHTTPFromProxy bool

	LogLevel        slog.Level
	MaxConnections  int
	MaxUpload       int64         // bytes of one request body
	Quota           int64         // bytes of one account, unless its record says otherwise; 0 = no bound
	UploadKeep      time.Duration // of the pieces of an upload that nobody goes on with
	ScrubRate       int64         // bytes a second that a scrub reads at least
	ProgressTimeout time.Duration
	DrainTimeout    time.Duration

	Push   // devices are told of changes
	Limits // what accounts share
	Watch  // metrics, alerts, heartbeat
}

// Default returns the settings of an empty file. They lack a server id and mirrors, which only init makes.
func Default() *Config {
	return &Config{
		Policy:          "strict",
		MirrorTimeout:   5 * time.Second,
		Listen:          []string{"127.0.0.1:8480"},
		ACMEDirectory:   "https://acme-v02.api.letsencrypt.org/directory",
		LogLevel:        slog.LevelInfo,
		MaxConnections:  1024,
		MaxUpload:       16 << 30,
		UploadKeep:      48 * time.Hour,
		ScrubRate:       4 << 20,
		ProgressTimeout: time.Minute,
		DrainTimeout:    20 * time.Second,
		Push:            defaultPush,
		Limits:          defaultLimits,
		Watch:           defaultWatch,
	}
}

// LineError is one thing wrong in the file. Line counts from 1; 0 is the file as a whole.
type LineError struct {
	Line int
	Err  error
}

func (e *LineError) Error() string {
	if e.Line == 0 {
		return FileName + ": " + e.Err.Error()
	}
	return fmt.Sprintf("%s line %d: %v", FileName, e.Line, e.Err)
}

// Unwrap returns the cause.
func (e *LineError) Unwrap() error { return e.Err }

// Load reads and checks dir/holdfast.conf. ErrAbsent: dir has none, so it is not a data directory.
// ErrDenied: a restore into dir has not finished.
// ErrInvalid: the joined LineErrors of all that is wrong.
func Load(dir string) (*Config, error) {
	if _, err := os.Lstat(filepath.Join(dir, RestoreName)); err == nil {
		return nil, fmt.Errorf("a restore into %s is under way or was interrupted (its file %q is there): run the same holdfast restore again, it goes on where it was: %w", dir, RestoreName, holdfast.ErrDenied)
	}
	f, err := os.Open(filepath.Join(dir, FileName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s has no %s, so it is not a Holdfast data directory (make one with: holdfast init --data DIR --mirror DIR2): %w", dir, FileName, holdfast.ErrAbsent)
	}
	if err != nil {
		return nil, fmt.Errorf("open settings: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return Parse(data)
}

// Parse reads the text of a settings file and checks it. The error joins one LineError for each
// thing that is wrong; each wraps holdfast.ErrInvalid.
func Parse(data []byte) (*Config, error) {
	if len(data) > maxFile {
		return nil, &LineError{0, fmt.Errorf("more than %d bytes: %w", maxFile, holdfast.ErrTooLarge)}
	}
	c := Default()
	p := parser{c: c, seen: map[string]int{}, values: map[string]int{}}
	for i, line := range strings.Split(string(data), "\n") {
		if err := p.line(i+1, strings.TrimSuffix(line, "\r")); err != nil {
			p.errs = append(p.errs, &LineError{i + 1, err})
		}
		if len(p.errs) == maxErrors {
			p.errs = append(p.errs, &LineError{i + 1, fmt.Errorf("reading stopped after %d errors: %w", maxErrors, holdfast.ErrInvalid)})
			return nil, errors.Join(p.errs...)
		}
	}
	if len(p.errs) == 0 {
		if err := c.Check(); err != nil {
			p.errs = append(p.errs, err)
		}
	}
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	return c, nil
}

type parser struct {
	c      *Config
	seen   map[string]int // key: line of its first value
	values map[string]int // key: values so far
	errs   []error
}

func (p *parser) line(n int, line string) error {
	if len(line) > maxLine {
		return fmt.Errorf("longer than %d bytes: %w", maxLine, holdfast.ErrInvalid)
	}
	if !utf8.ValidString(line) {
		return fmt.Errorf("not UTF-8: %w", holdfast.ErrInvalid)
	}
	if err := noControl(line); err != nil {
		return err
	}
	line = strings.Trim(line, " \t")
	if line == "" || line[0] == '#' {
		return nil
	}
	name, value, ok := strings.Cut(line, "=")
	if !ok {
		return fmt.Errorf("%q is not `key = value`: %w", clip(line), holdfast.ErrInvalid)
	}
	name, value = strings.Trim(name, " \t"), strings.Trim(value, " \t")
	k := find(name)
	if k == nil {
		return fmt.Errorf("no setting is called %q%s (holdfast config describe lists all): %w", clip(name), resembling(name), holdfast.ErrInvalid)
	}
	if first := p.seen[name]; first > 0 && !k.repeat {
		return fmt.Errorf("%s stands on line %d already: %w", name, first, holdfast.ErrInvalid)
	}
	if p.values[name]++; p.values[name] > maxRepeat {
		return fmt.Errorf("more than %d values of %s: %w", maxRepeat, name, holdfast.ErrInvalid)
	}
	if p.seen[name] == 0 {
		p.seen[name] = n
		k.clear(p.c)
	}
	return k.set(p.c, value)
}

// Set gives key new values, as a flag on the command line does; what the file said is replaced.
// Call Check after the last one. ErrInvalid: no such key, or a value that does not fit it.
func (c *Config) Set(name string, values ...string) error {
	k := find(name)
	if k == nil {
		return fmt.Errorf("no setting is called %q: %w", name, holdfast.ErrInvalid)
	}
	if len(values) > 1 && !k.repeat || len(values) > maxRepeat {
		return fmt.Errorf("%s given %d times: %w", name, len(values), holdfast.ErrInvalid)
	}
	k.clear(c)
	for _, v := range values {
		if err := noControl(v); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := k.set(c, strings.Trim(v, " \t")); err != nil {
			return err
		}
	}
	return nil
}

func noControl(s string) error {
	if i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }); i >= 0 {
		return fmt.Errorf("a control character (%#x): %w", s[i], holdfast.ErrInvalid)
	}
	return nil
}

func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

// resembling names the key that differs from name in hyphens, case or one missing end only.
func resembling(name string) string {
	norm := strings.ReplaceAll(strings.ToLower(name), "-", "_")
	for i := range keys {
		k := keys[i].name
		if norm == k || len(norm) >= 4 && (strings.HasPrefix(k, norm) || strings.HasPrefix(norm, k)) {
			return ", did you mean " + k + "?"
		}
	}
	return ""
}
