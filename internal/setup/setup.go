// Package setup knows how each device and program is connected to a server: which words to look for on its
// screen, which address it wants, and what it shows meanwhile. The page at /setup, `holdfast client-setup`
// and the table in README are three views of one table (guides.go); nothing of it is written twice.
//
// It makes what a device can take without typing: a configuration profile for Apple's devices, a login
// link for DAVx5 and its QR code, DNS records for programs that find a server by its domain. It keeps
// nothing and knows no password but one it is handed for a profile.
package setup

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"strings"

	"holdfast"
	"holdfast/internal/dav"
)

// Path is where the server shows the page; below it lies what needs a login.
const (
	Path        = "/setup"
	AccountPath = Path + "/account"
	ProfilePath = AccountPath + "/holdfast.mobileconfig"
)

// Owns reports whether a request's path is one of the page's.
func Owns(path string) bool { return path == Path || path == AccountPath || path == ProfilePath }

// Facts are what differs from server to server and from person to person.
type Facts struct {
	Origin string            // scheme, host and port, without a slash at the end
	Name   string            // of the account; empty: a reader who has not said who it is
	Server holdfast.ServerID // makes the identifiers of a profile
}

// NewFacts reads an origin, as the setting public_url holds one. ErrInvalid.
func NewFacts(origin, name string, server holdfast.ServerID) (Facts, error) {
	u, err := url.Parse(origin)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(u.Host, `"'<>`) {
		return Facts{}, fmt.Errorf("address %q: want https:// and the name of the server, nothing behind it: %w", origin, holdfast.ErrInvalid)
	}
	return Facts{Origin: u.Scheme + "://" + strings.ToLower(u.Host), Name: name, Server: server}, nil
}

// Secure reports whether devices reach the server by TLS.
func (f Facts) Secure() bool { return strings.HasPrefix(f.Origin, "https://") }

// Host is the server with its port, if that is not the usual one.
func (f Facts) Host() string {
	_, host, _ := strings.Cut(f.Origin, "://")
	if h, port, err := net.SplitHostPort(host); err == nil && port == f.usualPort() {
		if strings.Contains(h, ":") {
			h = "[" + h + "]"
		}
		return h
	}
	return host
}

// hostname is the server without its port.
func (f Facts) hostname() string {
	u, err := url.Parse(f.Origin)
	if err != nil {
		return f.Host() // NewFacts has parsed it
	}
	return u.Hostname()
}

func (f Facts) port() string {
	u, err := url.Parse(f.Origin)
	if err != nil {
		return f.usualPort()
	}
	return cmp.Or(u.Port(), f.usualPort())
}

func (f Facts) usualPort() string {
	if f.Secure() {
		return "443"
	}
	return "80"
}

// Address is what most programs ask for.
func (f Facts) Address() string { return f.base() + "/" }

func (f Facts) base() string {
	scheme, _, _ := strings.Cut(f.Origin, "://")
	return scheme + "://" + f.Host()
}

// Page is the address of the page for people.
func (f Facts) Page() string { return f.base() + Path }

// account is the name of the account, or the word that stands for it.
func (f Facts) account() string { return cmp.Or(f.Name, "NAME") }

// home is the path of all that the account has.
func (f Facts) home() string { return dav.Base + f.account() + "/" }

// Files is the address for programs that know files only.
func (f Facts) Files() string { return f.base() + f.home() + "Files/" }

// DAVx5 is a link that opens DAVx5 with address and name filled in. DAVx5 (LoginActivity.kt, companion
// loginInfoFromIntent; AndroidManifest.xml) takes davx5, caldavs and carddavs for https, caldav and carddav
// for http, and name and password from the user info. A password never is in ours: links are kept and shown.
func (f Facts) DAVx5() string {
	scheme := "caldav"
	if f.Secure() {
		scheme = "davx5"
	}
	u := url.URL{Scheme: scheme, Host: f.Host(), Path: "/"}
	if f.Name != "" {
		u.User = url.User(f.Name)
	}
	return u.String()
}

// fill puts the facts into a text of guides.go.
func (f Facts) fill(text string) string {
	scheme, _, _ := strings.Cut(f.Origin, "://")
	return strings.NewReplacer(
		"{address}", f.Address(), "{host}", f.Host(), "{hostname}", f.hostname(), "{name}", f.account(), "{scheme}", scheme,
		"{files}", f.Files(), "{home}", f.home(), "{page}", f.Page(), "{davx5}", f.DAVx5(),
		"{davs}", map[bool]string{true: "davs", false: "dav"}[f.Secure()],
		"{webdavs}", map[bool]string{true: "webdavs", false: "webdav"}[f.Secure()],
	).Replace(text)
}
