package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
)

var (
	home     = netip.MustParseAddr("192.0.2.7")
	stranger = netip.MustParseAddr("198.51.100.1")
)

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// world is an Auth over a real ledger.
type world struct {
	t     *testing.T
	cfg   ledger.Config
	l     *ledger.Ledger
	a     *Auth
	clock *clock
}

func newWorld(t *testing.T) *world {
	t.Helper()
	root := t.TempDir()
	cfg := ledger.Config{
		Dir: filepath.Join(root, "data"), Server: holdfast.ServerID{1}, SegmentSize: 1 << 20,
		Mirrors: []ledger.MirrorConfig{{Name: "mirror", Path: filepath.Join(root, "mirror")}},
	}
	if err := ledger.Create(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, cfg: cfg, clock: &clock{t: time.Unix(1_800_000_000, 0)}}
	w.open()
	t.Cleanup(w.close)
	return w
}

func (w *world) open() {
	w.t.Helper()
	l, err := ledger.Open(w.t.Context(), w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.l, w.a = l, New(Config{Ledger: l, Now: w.clock.now})
	w.a.cost = cost{memory: 64, time: 1, lanes: 1} // hundreds of guesses in a test
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	if err := l.WaitOpen(ctx); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) close() {
	if err := w.l.Close(context.Background()); err != nil {
		w.t.Error(err)
	}
}

func (w *world) add(name, password string) Account {
	w.t.Helper()
	a, err := w.a.AddAccount(w.t.Context(), name, password)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func (w *world) device(account, name string) (Device, string) {
	w.t.Helper()
	d, password, err := w.a.AddDevice(w.t.Context(), account, name)
	if err != nil {
		w.t.Fatal(err)
	}
	return d, password
}

// check wants Check to give an identity, or an error of a kind.
func (w *world) check(name, password string, from netip.Addr, want Identity, kind error) {
	w.t.Helper()
	got, err := w.a.Check(w.t.Context(), name, password, from)
	if kind == nil && err != nil || kind != nil && !errors.Is(err, kind) || got != want {
		w.t.Errorf("Check(%q, %q): got %+v, %v; want %+v, %v", name, password, got, err, want, kind)
	}
}

func TestAccountLifecycle(t *testing.T) {
	w := newWorld(t)
	alice := w.add("alice", "correct horse")
	bob := w.add("bob", "battery staple")
	if alice.ID != 1 || bob.ID != 2 {
		t.Errorf("ids %d and %d, want 1 and 2", alice.ID, bob.ID)
	}
	w.check("alice", "correct horse", home, Identity{Account: 1, Name: "alice"}, nil)
	w.check("Alice ", "correct horse", home, Identity{Account: 1, Name: "alice"}, nil)
	w.check("alice", "battery staple", home, Identity{}, holdfast.ErrDenied)
	w.check("nobody", "correct horse", home, Identity{}, holdfast.ErrDenied)
	w.check("", "", home, Identity{}, holdfast.ErrDenied)
	w.check("../accounts", "x", home, Identity{}, holdfast.ErrDenied)
	w.check("alice", strings.Repeat("x", maxPassword+1), home, Identity{}, holdfast.ErrDenied)

	if err := w.a.SetPassword(t.Context(), "alice", "new password"); err != nil {
		t.Fatal(err)
	}
	w.check("alice", "correct horse", home, Identity{}, holdfast.ErrDenied)
	w.check("alice", "new password", home, Identity{Account: 1, Name: "alice"}, nil)

	if _, err := w.a.AddAccount(t.Context(), "alice", "other"); !errors.Is(err, holdfast.ErrExists) {
		t.Errorf("second alice: got %v, want ErrExists", err)
	}
	if err := w.a.SetPassword(t.Context(), "carol", "x"); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("set password of nobody: got %v, want ErrNotFound", err)
	}
}

func TestRemoveAndRestore(t *testing.T) {
	w := newWorld(t)
	w.add("alice", "correct horse")
	_, phone := w.device("alice", "phone")
	w.check("alice", phone, home, Identity{Account: 1, Name: "alice", Device: 1}, nil)
	if err := w.a.RemoveAccount(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	w.check("alice", "correct horse", home, Identity{}, holdfast.ErrDenied)
	w.check("alice", phone, home, Identity{}, holdfast.ErrDenied)
	if _, err := w.a.AddAccount(t.Context(), "alice", "other"); !errors.Is(err, holdfast.ErrDenied) || !strings.Contains(err.Error(), "account restore alice") {
		t.Errorf("name of a removed account: got %v, want ErrDenied that names the way back", err)
	}
	if _, _, err := w.a.AddDevice(t.Context(), "alice", "tablet"); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("device of a removed account: got %v, want ErrNotFound", err)
	}
	if got, err := w.a.Accounts(t.Context(), false); err != nil || len(got) != 0 {
		t.Errorf("accounts after removal: %v, %v", got, err)
	}
	if got, err := w.a.Accounts(t.Context(), true); err != nil || len(got) != 1 || got[0].Removed == nil {
		t.Errorf("all accounts after removal: %v, %v", got, err)
	}
	if b := w.add("bob", "battery staple"); b.ID != 2 {
		t.Errorf("bob has id %d, want 2: an id is never given twice", b.ID)
	}
	if err := w.a.RestoreAccount(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	w.check("alice", "correct horse", home, Identity{Account: 1, Name: "alice"}, nil)
	w.check("alice", phone, home, Identity{}, holdfast.ErrDenied)
	if err := w.a.RestoreAccount(t.Context(), "alice"); !errors.Is(err, holdfast.ErrExists) {
		t.Errorf("restore of an open account: got %v, want ErrExists", err)
	}
}

func TestHome(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", "correct horse")
	err := w.l.View(t.Context(), a.ID, func(v *ledger.View) error {
		root, err := v.Collection(holdfast.Root)
		if err != nil || root.Kind != holdfast.KindFile {
			t.Errorf("root: %+v, %v", root, err)
		}
		children, err := v.Children(holdfast.Root)
		var got []string
		for _, c := range children {
			got = append(got, fmt.Sprintf("%s %s %d", c.Name, c.Kind, len(c.Props)))
		}
		slices.Sort(got)
		want := []string{"Files file 1", "Photos file 1", "calendar calendar 2", "contacts card 1", "tasks calendar 2"}
		if !slices.Equal(got, want) {
			t.Errorf("collections: got %q, want %q", got, want)
		}
		if v.Head().Head.Seq != 1 {
			t.Errorf("made in %d changes, want 1", v.Head().Head.Seq)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A crash after the first of AddAccount's two changes leaves nothing to see, and the next one takes over.
func TestAddAccountAfterCrash(t *testing.T) {
	w := newWorld(t)
	if _, err := w.l.Update(t.Context(), 1, 0, makeHome); err != nil {
		t.Fatal(err)
	}
	w.close()
	w.open()
	if got, err := w.a.Accounts(t.Context(), true); err != nil || len(got) != 0 {
		t.Errorf("accounts: %v, %v; want none", got, err)
	}
	if a := w.add("alice", "correct horse"); a.ID != 1 {
		t.Errorf("id %d, want 1", a.ID)
	}
	if h, _ := w.l.AccountHead(1); h.Head.Seq != 1 {
		t.Errorf("head %d, want 1: its collections were there already", h.Head.Seq)
	}
}

// An account with data is never given to somebody else, even if its record is gone.
func TestAddAccountNeverTakesData(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		_, err := w.l.Update(t.Context(), 1, 0, func(tx *ledger.Tx) error {
			if tx.Head().Head.Seq == 0 {
				return makeHome(tx)
			}
			tx.Put(holdfast.Root, "diary", "text/plain", 0, ledger.InlineBody([]byte("mine")))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if a := w.add("mallory", "correct horse"); a.ID != 2 {
		t.Errorf("id %d, want 2", a.ID)
	}
}

func TestNames(t *testing.T) {
	for _, good := range []string{"a", "alice", "a.b_c-d", "0", strings.Repeat("x", 64)} {
		if err := CheckName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "Alice", "a b", "ä", ".", "..", "-a", "_a", "a/b", "principals", "dav", strings.Repeat("x", 65), "a\x00"} {
		if err := CheckName(bad); !errors.Is(err, holdfast.ErrInvalid) {
			t.Errorf("%q: got %v, want ErrInvalid", bad, err)
		}
	}
}

func TestPasswordsRefused(t *testing.T) {
	w := newWorld(t)
	for _, bad := range []string{"", "line\nbreak", "\xff", strings.Repeat("x", maxPassword+1), formatSecret(newSecret())} {
		if _, err := w.a.AddAccount(t.Context(), "alice", bad); !errors.Is(err, holdfast.ErrInvalid) {
			t.Errorf("%q: got %v, want ErrInvalid", bad, err)
		}
	}
}

func TestDevices(t *testing.T) {
	w := newWorld(t)
	w.add("alice", "correct horse")
	w.add("bob", "battery staple")
	phone, p1 := w.device("alice", "phone")
	tablet, p2 := w.device("alice", "tablet")
	if phone.ID != 1 || tablet.ID != 2 {
		t.Errorf("ids %d, %d, want 1, 2", phone.ID, tablet.ID)
	}
	w.check("alice", p1, home, Identity{Account: 1, Name: "alice", Device: 1}, nil)
	w.check("alice", strings.ToUpper(strings.ReplaceAll(p2, "-", " ")), home, Identity{Account: 1, Name: "alice", Device: 2}, nil)
	w.check("bob", p1, home, Identity{}, holdfast.ErrDenied)
	if _, _, err := w.a.AddDevice(t.Context(), "alice", "phone"); !errors.Is(err, holdfast.ErrExists) {
		t.Errorf("second phone: got %v, want ErrExists", err)
	}
	for _, bad := range []string{"", " x", "7", "a\tb", strings.Repeat("x", 65)} {
		if _, _, err := w.a.AddDevice(t.Context(), "alice", bad); !errors.Is(err, holdfast.ErrInvalid) {
			t.Errorf("device name %q: got %v, want ErrInvalid", bad, err)
		}
	}

	if _, err := w.a.RevokeDevice(t.Context(), "alice", "phone"); err != nil {
		t.Fatal(err)
	}
	w.check("alice", p1, home, Identity{}, holdfast.ErrDenied)
	w.check("alice", p2, home, Identity{Account: 1, Name: "alice", Device: 2}, nil)
	if _, err := w.a.RevokeDevice(t.Context(), "alice", "phone"); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("revoked twice: got %v, want ErrNotFound", err)
	}
	if d, _ := w.device("alice", "phone"); d.ID != 3 {
		t.Errorf("new phone has id %d, want 3: ids are not used again", d.ID)
	}
	list, err := w.a.Devices(t.Context(), "alice", false)
	if err != nil || len(list) != 2 || list[0].ID != 2 || list[0].LastSeen == nil || list[1].LastSeen != nil {
		t.Errorf("devices: %+v, %v", list, err)
	}
	if list, err := w.a.Devices(t.Context(), "alice", true); err != nil || len(list) != 3 || list[0].Revoked == nil {
		t.Errorf("all devices: %+v, %v", list, err)
	}
	if _, err := w.a.Devices(t.Context(), "nobody", true); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("devices of nobody: got %v, want ErrNotFound", err)
	}
}

func TestDeviceLimit(t *testing.T) {
	w := newWorld(t)
	w.add("alice", "correct horse")
	for i := range maxDevices {
		w.device("alice", fmt.Sprintf("device %d", i))
	}
	if _, _, err := w.a.AddDevice(t.Context(), "alice", "one more"); !errors.Is(err, holdfast.ErrQuota) {
		t.Errorf("got %v, want ErrQuota", err)
	}
}

// No app password and no account password is in the ledger as it is typed.
func TestSecretsAreHashed(t *testing.T) {
	w := newWorld(t)
	w.a.cost = owasp
	w.add("alice", "correct horse")
	_, password := w.device("alice", "phone")
	err := w.l.View(t.Context(), holdfast.Server, func(v *ledger.View) error {
		c, err := collection(v, devicesCollection)
		if err != nil {
			return err
		}
		recs, err := records[deviceRecord](v, c, "")
		if err != nil {
			return err
		}
		text, err := json.Marshal(recs)
		if strings.Contains(string(text), strings.ReplaceAll(password, "-", "")) || strings.Contains(string(text), password) || len(recs[0].Secret) != 64 {
			t.Errorf("the record shows the secret: %s", text)
		}
		_, acc, err2 := find(v, "alice")
		if p, perr := parsePHC(acc.Password); perr != nil || p.cost != owasp {
			t.Errorf("password record %q: %+v, %v", acc.Password, p, perr)
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What was set before a restart holds after it.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	w.add("alice", "correct horse")
	_, p1 := w.device("alice", "phone")
	_, p2 := w.device("alice", "tablet")
	if _, err := w.a.RevokeDevice(t.Context(), "alice", "1"); err != nil {
		t.Fatal(err)
	}
	w.close()
	w.open()
	w.check("alice", p1, home, Identity{}, holdfast.ErrDenied)
	w.check("alice", p2, home, Identity{Account: 1, Name: "alice", Device: 2}, nil)
	w.check("alice", "correct horse", home, Identity{Account: 1, Name: "alice"}, nil)
}

// While account 0 cannot be read nothing is called wrong: not the credentials, not their absence.
func TestFencedIsNotDenied(t *testing.T) {
	w := newWorld(t)
	w.add("alice", "correct horse")
	_, phone := w.device("alice", "phone")
	w.check("alice", "wrong", home, Identity{}, holdfast.ErrDenied)
	w.close()
	defer w.open()
	l, err := ledger.Open(t.Context(), ledger.Config{Dir: w.cfg.Dir, Server: w.cfg.Server, Mirrors: []ledger.MirrorConfig{{Name: "mirror", Path: w.cfg.Mirrors[0].Path + "-unmounted"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(context.Background())
	a := New(Config{Ledger: l})
	h := a.Require(func(*http.Request) netip.Addr { return home }, func(http.ResponseWriter, *http.Request, Identity) {
		t.Error("let in while the fence is closed")
	})
	for _, password := range []string{"", "wrong", "correct horse", phone} {
		for range 2 {
			r := httptest.NewRequest("PROPFIND", "/dav/", nil)
			if password != "" {
				r.SetBasicAuth("alice", password)
			}
			res := httptest.NewRecorder()
			h.ServeHTTP(res, r)
			if res.Code != http.StatusServiceUnavailable || res.Header().Get("Retry-After") == "" {
				t.Errorf("password %q: got %d, Retry-After %q; want 503 with Retry-After", password, res.Code, res.Header().Get("Retry-After"))
			}
		}
	}
}
