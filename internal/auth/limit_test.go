package auth

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast"
)

// flood sends wrong passwords until one is limited, and returns how many were judged.
func (w *world) flood(name string, from func(i int) netip.Addr, most int) int {
	w.t.Helper()
	for i := range most {
		_, err := w.a.Check(w.t.Context(), name, fmt.Sprintf("wrong %d", i), from(i))
		var limit *LimitError
		if errors.As(err, &limit) {
			if limit.Wait < time.Second || limit.Wait > time.Minute {
				w.t.Errorf("wait %s", limit.Wait)
			}
			return i
		}
		if !errors.Is(err, holdfast.ErrDenied) {
			w.t.Fatalf("wrong password: %v", err)
		}
	}
	return most
}

func one(a netip.Addr) func(int) netip.Addr { return func(int) netip.Addr { return a } }

// many returns another /64 each time.
func many(i int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("2001:db8:%x:%x::1", i/65536, i%65536))
}

func TestLimitByAddress(t *testing.T) {
	w := newWorld(t)
	w.add("alice", "correct horse")
	if n := w.flood("alice", one(stranger), 100); n != perAddress.burst {
		t.Errorf("%d wrong passwords from one address were judged, want %d", n, perAddress.burst)
	}
	w.check("alice", "correct horse", home, Identity{Account: 1, Name: "alice"}, nil)
	w.clock.add(perAddress.interval)
	if n := w.flood("bob", one(stranger), 100); n != 1 {
		t.Errorf("%d after one interval, want 1", n)
	}
}

// One customer has a whole /64, so its addresses count together.
func TestLimitByNetwork(t *testing.T) {
	w := newWorld(t)
	n := w.flood("alice", func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1)) }, 100)
	if n != perAddress.burst {
		t.Errorf("%d were judged, want %d", n, perAddress.burst)
	}
}

// Strangers from everywhere run into the account's limit; the owner's devices do not notice.
func TestStrangersDoNotLockOut(t *testing.T) {
	w := newWorld(t)
	w.add("alice", "correct horse")
	_, phone := w.device("alice", "phone")
	_, tablet := w.device("alice", "tablet")
	alice := Identity{Account: 1, Name: "alice"}
	w.check("alice", "correct horse", home, alice, nil)
	// One address in a few thousand falls into the bucket of the account and counts twice.
	if n := w.flood("alice", many, 200); n != perAccount.burst && n != perAccount.burst-1 {
		t.Errorf("%d were judged, want %d", n, perAccount.burst)
	}
	w.check("alice", "correct horse", home, alice, nil) // remembered
	w.check("alice", phone, many(9999), Identity{Account: 1, Name: "alice", Device: 1}, nil)
	w.device("alice", "watch") // account 0 moves on: nothing is remembered now
	w.check("alice", "correct horse", home, alice, nil)
	w.check("alice", tablet, stranger, Identity{Account: 1, Name: "alice", Device: 2}, nil)
	w.check("alice", "correct horse", stranger, alice, nil) // the same credentials from elsewhere are no guess
}

// A device with an old password that never stops does not shut its own network out of app passwords.
func TestStubbornDevice(t *testing.T) {
	w := newWorld(t)
	w.add("alice", "correct horse")
	_, phone := w.device("alice", "phone")
	old := formatSecret(newSecret())
	limited := 0
	for range 100 {
		_, err := w.a.Check(t.Context(), "alice", old, home)
		var limit *LimitError
		if errors.As(err, &limit) {
			limited++
		} else if !errors.Is(err, holdfast.ErrDenied) {
			t.Fatal(err)
		}
	}
	if limited != 100-perAddress.burst {
		t.Errorf("%d of 100 were limited, want %d", limited, 100-perAddress.burst)
	}
	w.check("alice", phone, home, Identity{Account: 1, Name: "alice", Device: 1}, nil)
}

func TestUnknownAccountCostsTheSame(t *testing.T) {
	w := newWorld(t)
	w.add("alice", "correct horse")
	if a, b := w.flood("alice", many, 200), w.flood("nobody", many, 200); a != b {
		t.Errorf("limits tell a known account (%d) from an unknown one (%d)", a, b)
	}
}

func TestRequire(t *testing.T) {
	w := newWorld(t)
	w.add("alice", "correct horse: ä")
	var got Identity
	h := w.a.Require(func(*http.Request) netip.Addr { return stranger }, func(rw http.ResponseWriter, _ *http.Request, id Identity) {
		got = id
		rw.WriteHeader(http.StatusNoContent)
	})
	ask := func(name, password string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("PROPFIND", "/dav/", nil)
		if name != "" {
			r.SetBasicAuth(name, password)
		}
		res := httptest.NewRecorder()
		h.ServeHTTP(res, r)
		return res
	}
	if res := ask("alice", "correct horse: ä"); res.Code != http.StatusNoContent || got.Name != "alice" {
		t.Errorf("right password: %d, %+v", res.Code, got)
	}
	for _, c := range [][2]string{{"", ""}, {"alice", "wrong"}, {"nobody", "wrong"}, {"alice", ""}} {
		res := ask(c[0], c[1])
		if challenge := res.Header().Get("WWW-Authenticate"); res.Code != http.StatusUnauthorized || challenge != `Basic realm="Holdfast", charset="UTF-8"` {
			t.Errorf("%q: got %d, %q; want 401 with a challenge", c, res.Code, challenge)
		}
	}
	w.flood("alice", one(stranger), 100)
	res := ask("alice", "yet another")
	if n, err := strconv.Atoi(res.Header().Get("Retry-After")); res.Code != http.StatusTooManyRequests || err != nil || n < 1 {
		t.Errorf("too many: got %d, Retry-After %q; want 429 with seconds", res.Code, res.Header().Get("Retry-After"))
	}
}

func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := network(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("network(%s) = %s, want %s", in, got, want)
		}
	}
}

func TestGenerationsAreBounded(t *testing.T) {
	var g generations[int, int]
	const most = 10
	for i := range 1000 {
		g.put(i, i, most)
		if n := len(g.young) + len(g.old); n > 2*most {
			t.Fatalf("%d entries", n)
		}
	}
	if _, ok := g.get(999); !ok {
		t.Error("the newest entry is gone")
	}
}

func TestSecretRoundTrip(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		s := newSecret()
		text := formatSecret(s)
		if len(text) != secretText+secretText/4-1 || seen[text] {
			t.Fatalf("%q", text)
		}
		seen[text] = true
		sloppy := strings.NewReplacer("0", "O", "1", "l").Replace(text)
		for _, form := range []string{text, strings.ToUpper(text), strings.ReplaceAll(text, "-", ""), " " + text + " ", sloppy} {
			if got, ok := parseSecret(form); !ok || got != s {
				t.Fatalf("%q is not read back from %q", text, form)
			}
		}
	}
	for _, bad := range []string{"", "correct horse battery staple!", strings.Repeat("a", secretText), strings.Repeat("u", secretText), strings.Repeat("a", 200)} {
		if _, ok := parseSecret(bad); ok {
			t.Errorf("%q was taken for an app password", bad)
		}
	}
}

func FuzzParseSecret(f *testing.F) {
	f.Add(formatSecret(newSecret()))
	f.Add("0000-0000-0000-0000-0000-0000-0000")
	f.Fuzz(func(t *testing.T, s string) {
		secret, ok := parseSecret(s)
		if !ok {
			return
		}
		if again, ok := parseSecret(formatSecret(secret)); !ok || again != secret {
			t.Fatalf("%q: not read back", s)
		}
	})
}

func FuzzParsePHC(f *testing.F) {
	f.Add(phc{owasp, make([]byte, argonSalt), make([]byte, argonKey)}.String())
	f.Add("$argon2id$v=19$m=4294967295,t=4294967295,p=255$AAAA$AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePHC(s)
		if err == nil && (p.memory > 256<<10 || p.time > 16 || p.lanes > 16 || p.lanes == 0 || len(p.key) > 64) {
			t.Fatalf("%q: costs %+v", s, p)
		}
		if err != nil && !errors.Is(err, holdfast.ErrCorrupt) {
			t.Fatalf("%q: %v", s, err)
		}
	})
}

// A device that is revoked while its upload is on its way cannot finish it.
func TestRevokedDuringUpload(t *testing.T) {
	w := newWorld(t)
	w.add("alice", "correct horse")
	_, phone := w.device("alice", "phone")
	_, tablet := w.device("alice", "tablet")
	for _, c := range []struct {
		password string
		want     error
	}{{phone, holdfast.ErrDenied}, {tablet, nil}, {"correct horse", nil}} {
		var got error
		h := w.a.Require(func(*http.Request) netip.Addr { return home }, func(_ http.ResponseWriter, r *http.Request, _ Identity) {
			if c.password == phone {
				if _, err := w.a.RevokeDevice(t.Context(), "alice", "phone"); err != nil {
					t.Error(err)
				}
			}
			_, got = io.ReadAll(r.Body)
		})
		r := httptest.NewRequest("PUT", "/dav/alice/Files/x", strings.NewReader("body"))
		r.SetBasicAuth("alice", c.password)
		h.ServeHTTP(httptest.NewRecorder(), r)
		if !errors.Is(got, c.want) {
			t.Errorf("got %v, want %v", got, c.want)
		}
	}
}
