package lock

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast"
)

// sign is what ledger.Sign does, with a key of zeros.
func sign(data []byte) []byte {
	m := hmac.New(sha256.New, make([]byte, 32))
	m.Write([]byte("purpose lock token 1\x00"))
	m.Write(data)
	return m.Sum(nil)
}

func newTable() *Table { return New(Config{Sign: sign}) }

func at(path string) Lock {
	return Lock{Account: 1, Epoch: 1, Device: 5, Place: 5, Seq: 7, Segs: strings.Split(path, "/")}
}

func (t *Table) must(tb testing.TB, l Lock) Lock {
	tb.Helper()
	l, err := t.Acquire(l)
	if err != nil {
		tb.Fatalf("lock %v: %v", l.Segs, err)
	}
	return l
}

// Which locks stand against each other: shared ones never do; else what covers the same path.
func TestConflicts(t *testing.T) {
	paths := []string{"a", "a/b", "a/b/c", "ab", "a/bc"}
	for _, first := range paths {
		for _, second := range paths {
			for mode := range 16 {
				x, y := at(first), at(second)
				x.Infinite, x.Shared, y.Infinite, y.Shared = mode&1 > 0, mode&2 > 0, mode&4 > 0, mode&8 > 0
				overlap := first == second || x.Infinite && strings.HasPrefix(second, first+"/") || y.Infinite && strings.HasPrefix(first, second+"/")
				tab := newTable()
				x = tab.must(t, x)
				_, err := tab.Acquire(y)
				var c *Conflict
				if want := overlap && !(x.Shared && y.Shared); errors.As(err, &c) != want || (err != nil) != want {
					t.Errorf("%s (infinite %v, shared %v), then %s (%v, %v): %v, want a conflict: %v", first, x.Infinite, x.Shared, second, y.Infinite, y.Shared, err, want)
				} else if want && (len(c.With) != 1 || c.With[0].Token != x.Token) {
					t.Errorf("conflict with %+v", c.With)
				}
				y.Account = 2
				tab.must(t, y) // another account has nothing to do with it
			}
		}
	}
}

func TestCovering(t *testing.T) {
	tab := newTable()
	top := at("a")
	top.Infinite, top.Shared = true, true
	top = tab.must(t, top)
	leaf := at("a/b/c")
	leaf.Shared = true
	leaf = tab.must(t, leaf)
	other := tab.must(t, at("ab"))
	for path, want := range map[string][]Lock{"a": {top}, "a/b": {top}, "a/b/c": {top, leaf}, "a/b/c/d": {top}, "ab": {other}, "ab/c": nil, "b": nil} {
		got := tab.Covering(1, strings.Split(path, "/"))
		ok := len(got) == len(want)
		for i := range got {
			ok = ok && got[i].Token == want[i].Token && got[i].Covers(strings.Split(path, "/"))
		}
		if !ok {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
	if got := tab.Below(1, []string{"a"}); len(got) != 1 || got[0].Token != leaf.Token {
		t.Errorf("below a: %+v", got)
	}
	if got := tab.List(1); len(got) != 3 {
		t.Errorf("all: %+v", got)
	}
	tab.Release(1, top.Token, leaf.Token, "urn:none")
	if got := tab.Covering(1, leaf.Segs); got != nil || !tab.Any(1) {
		t.Errorf("after the release: %+v", got)
	}
	tab.Release(1, other.Token)
	if tab.Any(1) || tab.bytes != 0 {
		t.Errorf("the empty table has %d bytes", tab.bytes)
	}
}

// A lock ends with its time, is refreshed before and not after, and is forgotten.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := newTable()
		for asked, want := range map[time.Duration]time.Duration{
			0: DefaultTimeout, time.Nanosecond: time.Second, time.Minute: time.Minute, 1000 * time.Hour: MaxTimeout,
		} {
			l := at(fmt.Sprint("x", asked))
			l.Timeout = asked
			if l = tab.must(t, l); l.Timeout != want || !l.Until.Equal(time.Now().Add(want)) {
				t.Errorf("asked %s: given %s until %s", asked, l.Timeout, l.Until)
			}
		}
		l := at("a")
		l.Timeout = time.Minute
		l = tab.must(t, l)
		time.Sleep(time.Minute - 1)
		if !tab.Refresh(1, l.Token, 0) {
			t.Error("not refreshed in time")
		}
		time.Sleep(time.Minute - 1)
		if got, ok := tab.Find(1, l.Token); !ok || got.Timeout != time.Minute {
			t.Errorf("after a refresh: %+v", got)
		}
		if !tab.Refresh(1, l.Token, 2*time.Minute) {
			t.Error("not refreshed again")
		}
		time.Sleep(2 * time.Minute)
		if _, ok := tab.Find(1, l.Token); ok || tab.Refresh(1, l.Token, 0) || len(tab.Covering(1, l.Segs)) != 0 {
			t.Error("a lock outlived its time")
		}
		if _, ok := tab.Claim(l.Token); ok {
			t.Error("a lock that has expired could be taken back")
		}
		tab.must(t, at("a"))
		time.Sleep(MaxTimeout)
		last := tab.must(t, at("b")) // sweeps
		if got := tab.List(1); len(got) != 1 || len(tab.accounts[1].byToken) != 1 {
			t.Errorf("kept: %+v", got)
		}
		tab.Release(1, last.Token)
		if tab.bytes != 0 {
			t.Errorf("%d bytes of nothing", tab.bytes)
		}
	})
}

// What one account may hold is bounded in number and in bytes, and what all hold together.
func TestBounds(t *testing.T) {
	fill := func(tab *Table, a holdfast.AccountID, owner int) (n int) {
		for ; ; n++ {
			l := at(fmt.Sprint(n))
			l.Account, l.Owner = a, strings.Repeat("x", owner)
			if _, err := tab.Acquire(l); err != nil {
				if !errors.Is(err, holdfast.ErrQuota) {
					t.Fatal(err)
				}
				return n
			}
		}
	}
	tab := newTable()
	if n := fill(tab, 1, 0); n != maxLocks {
		t.Errorf("%d locks, want %d", n, maxLocks)
	}
	if n := fill(tab, 2, MaxOwner); n < maxBytes/(2*MaxOwner) || n >= maxBytes/MaxOwner {
		t.Errorf("%d locks with long owners", n)
	}
	for a := range holdfast.AccountID(100) {
		fill(tab, 10+a, MaxOwner)
	}
	if tab.bytes > maxTotal || tab.bytes < maxTotal-maxBytes {
		t.Errorf("%d bytes in all", tab.bytes)
	}
	l := at("z")
	l.Owner = strings.Repeat("x", MaxOwner+1)
	if _, err := newTable().Acquire(l); !errors.Is(err, holdfast.ErrTooLarge) {
		t.Errorf("long owner: %v", err)
	}
	if _, err := New(Config{Sign: func([]byte) []byte { return nil }}).Acquire(at("a")); !errors.Is(err, holdfast.ErrFenced) {
		t.Errorf("without a key: %v", err)
	}
}

func TestReleaseDevice(t *testing.T) {
	tab := newTable()
	tab.must(t, at("a"))
	l := at("b")
	l.Device = 6
	l = tab.must(t, l)
	if n := tab.ReleaseDevice(1, 5); n != 1 {
		t.Errorf("released %d", n)
	}
	if got := tab.List(1); len(got) != 1 || got[0].Token != l.Token {
		t.Errorf("left: %+v", got)
	}
	if n := tab.ReleaseAll(1); n != 1 || tab.Any(1) {
		t.Errorf("released %d of all", n)
	}
}

// A process that comes after takes a lock back by its token alone, once.
func TestAdopt(t *testing.T) {
	old := at("a/b")
	old.Infinite, old.Collection, old.Shared, old.Timeout = true, true, true, 600*time.Second
	first := newTable()
	old = first.must(t, old)
	if _, ok := first.Claim(old.Token); ok {
		t.Error("a process takes back what it has ended itself")
	}
	next := newTable()
	for next.boot == first.boot { // once in 4 billion
		next = newTable()
	}
	c, ok := next.Claim(old.Token)
	if !ok || c.Root != 2 {
		t.Fatalf("claim: %+v, %v", c, ok)
	}
	head := holdfast.AccountHead{Account: 1, Epoch: 1}
	for name, open := range map[string]func() (Lock, bool){
		"account": func() (Lock, bool) { return next.Open(c, holdfast.AccountHead{Account: 2, Epoch: 1}, old.Segs, 5) },
		"epoch":   func() (Lock, bool) { return next.Open(c, holdfast.AccountHead{Account: 1, Epoch: 2}, old.Segs, 5) },
		"path":    func() (Lock, bool) { return next.Open(c, head, []string{"a", "c"}, 5) },
		"joined":  func() (Lock, bool) { return next.Open(c, head, []string{"a/b"}, 5) },
		"place":   func() (Lock, bool) { return next.Open(c, head, old.Segs, 6) },
	} {
		if l, ok := open(); ok {
			t.Errorf("another %s: %+v", name, l)
		}
	}
	l, ok := next.Open(c, head, old.Segs, 5)
	if !ok || l.Token != old.Token || !l.Infinite || !l.Collection || !l.Shared || l.Timeout != old.Timeout || l.Device != 5 || l.Seq != 7 || !l.Unsure || l.Issued.Unix() != old.Issued.Unix() {
		t.Fatalf("opened: %+v, %v", l, ok)
	}
	next.must(t, l)
	next.must(t, l) // two requests at once
	if got := next.List(1); len(got) != 1 {
		t.Errorf("adopted twice: %+v", got)
	}
	next.Release(1, l.Token)
	if _, ok := next.Claim(old.Token); ok {
		t.Error("what was released is taken back")
	}
	if _, err := next.Acquire(l); !errors.Is(err, holdfast.ErrPrecondition) {
		t.Errorf("what was released meanwhile: %v", err)
	}
	later := New(Config{Sign: sign, Now: func() time.Time { return time.Now().Add(adoptable + time.Hour) }})
	if _, ok := later.Claim(old.Token); ok {
		t.Error("a token of last year")
	}
}

// The token of docs/formats/lock-token.md is one.
func TestTokenFormat(t *testing.T) {
	doc, err := os.ReadFile("../../docs/formats/lock-token.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "Example")
	i := strings.Index(rest, "    "+Scheme)
	if i < 0 {
		t.Fatal("no example")
	}
	token := strings.TrimSpace(rest[i:])
	given := time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)
	tab := New(Config{Sign: sign, Now: func() time.Time { return given }})
	c, ok := tab.Claim(token)
	if !ok || len(token) != 100 {
		fresh := at("anna/Files/a.txt")
		t.Fatalf("the example is %d long and no token; this would be one: %s", len(token), tab.must(t, fresh).Token)
	}
	l, ok := tab.Open(c, holdfast.AccountHead{Account: 1, Epoch: 1}, []string{"anna", "Files", "a.txt"}, 5)
	if !ok || !l.Issued.Equal(given) || l.Timeout != time.Hour || l.Device != 5 || l.Seq != 7 || l.Shared || l.Infinite || l.Collection {
		t.Errorf("example: %+v, %v", l, ok)
	}
}

func FuzzClaim(f *testing.F) {
	l, err := newTable().Acquire(at("a/b"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(l.Token)
	f.Add(Scheme)
	f.Add(l.Token[:len(l.Token)-1] + "!")
	tab := newTable()
	f.Fuzz(func(t *testing.T, s string) {
		c, ok := tab.Claim(s)
		if !ok {
			return
		}
		if _, ok := tab.Open(c, holdfast.AccountHead{Account: 1, Epoch: 1}, []string{"a", "b"}, 5); ok && s != l.Token {
			t.Errorf("forged: %q", s)
		}
	})
}

// Many at once: never two exclusive locks on one path.
func TestTableRace(t *testing.T) {
	tab := newTable()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				l, err := tab.Acquire(at(fmt.Sprint("a/", i%3)))
				if err != nil {
					continue
				}
				if got := tab.Covering(1, l.Segs); len(got) != 1 || got[0].Token != l.Token {
					t.Errorf("held with others: %+v", got)
				}
				tab.Release(1, l.Token)
			}
		})
	}
	wg.Wait()
}
