package dav

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"holdfast"
)

// otherIs is the state of all that an If header names besides; the token of each is urn:held.
type otherIs state

func (o otherIs) state(string) (state, error)             { return state(o), nil }
func (o otherIs) token(s state, tok string) (bool, error) { return s.exists && tok == "urn:held", nil }

func TestConditions(t *testing.T) {
	there := state{exists: true, etag: `"a"`, modified: 1700000000123}
	none := state{}
	coll := state{exists: true}
	for _, c := range []struct {
		header, value string
		state         state
		want          bool
	}{
		{"If-Match", `"a"`, there, true},
		{"If-Match", `"b"`, there, false},
		{"If-Match", `"b", "a"`, there, true},
		{"If-Match", `W/"a"`, there, false},
		{"If-Match", `a`, there, true}, // some clients leave the quotes out
		{"If-Match", `*`, there, true},
		{"If-Match", `*`, none, false},
		{"If-Match", `*`, coll, true},
		{"If-Match", `"a"`, none, false},
		{"If-Match", `""`, coll, false},
		{"If-None-Match", `*`, there, false},
		{"If-None-Match", `*`, none, true},
		{"If-None-Match", `"a"`, there, false},
		{"If-None-Match", `W/"a"`, there, false},
		{"If-None-Match", `"b"`, there, true},
		{"If-Unmodified-Since", "Tue, 14 Nov 2023 22:13:20 GMT", there, true},
		{"If-Unmodified-Since", "Tue, 14 Nov 2023 22:13:19 GMT", there, false},
		{"If-Unmodified-Since", "some day", there, true},
		{"If", `(["a"])`, there, true},
		{"If", `(["b"])`, there, false},
		{"If", `(["b"]) (Not ["b"])`, there, true},
		{"If", `(["a"] <urn:uuid:x>)`, there, false},
		{"If", `(<DAV:no-lock>)`, there, false},
		{"If", `(Not <DAV:no-lock>)`, there, true},
		{"If", `(not <DAV:no-lock> ["a"])`, there, true},
		{"If", `(<urn:held>)`, there, true},
		{"If", `(<urn:held> ["a"])`, there, true},
		{"If", `(<urn:held> ["b"])`, there, false},
		{"If", `(Not <urn:held>)`, there, false},
		{"If", `(Not <urn:held>) (["a"])`, there, true},
		{"If", `(<urn:other> <urn:held>)`, there, false},
		{"If", `(<urn:other>)(<urn:held>)`, there, true},
		{"If", `</dav/other> (<urn:held>)`, none, true},
		{"If", `<http://host/dav/other>(<urn:held>)</dav/third>(["x"])`, none, true},
		{"If", `</dav/other> (["o"])`, there, true},
		{"If", `</dav/other> (["x"]) (["y"])`, there, false},
	} {
		h := http.Header{}
		h.Set(c.header, c.value)
		p, err := parseConditions(h)
		if err != nil {
			t.Errorf("%s: %s: %v", c.header, c.value, err)
			continue
		}
		err = p.check(c.state, otherIs{exists: true, etag: `"o"`})
		if (err == nil) != c.want || err != nil && !errors.Is(err, holdfast.ErrPrecondition) {
			t.Errorf("%s: %s with %+v: got %v, want %v", c.header, c.value, c.state, err, c.want)
		}
	}
}

// A write never goes ahead on a condition that was not understood.
func TestConditionsRefused(t *testing.T) {
	for _, c := range [][2]string{
		{"If-Match", `"a`},
		{"If-Match", ` , `},
		{"If-None-Match", `*, "a"`},
		{"If", `()`},
		{"If", `(Not)`},
		{"If", `(<a>`},
		{"If", `<a>`},
		{"If", `<a> <b> (<c>)`},
		{"If", `(<c>) <a> (<c>)`},
		{"If", `(["a)`},
		{"If", `nonsense`},
		{"If", strings.Repeat("(<a>)", 1000)},
		{"If", "(" + strings.Repeat("<a>", 1000) + ")"},
	} {
		h := http.Header{}
		h.Set(c[0], c[1])
		if p, err := parseConditions(h); !errors.Is(err, holdfast.ErrInvalid) {
			t.Errorf("%s: %.40s: got %+v, %v; want ErrInvalid", c[0], c[1], p, err)
		}
	}
}

func FuzzConditions(f *testing.F) {
	for _, s := range []string{`"a"`, `W/"a", "b"`, `*`, `(["a"] Not <b>)`, `<x> (<y>) ([W/"z"])`} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		h := http.Header{"If-Match": {a}, "If-None-Match": {b}, "If": {b}}
		c, err := parseConditions(h)
		if err != nil {
			if !errors.Is(err, holdfast.ErrInvalid) {
				t.Fatalf("%q %q: %v", a, b, err)
			}
			return
		}
		if c.none() {
			t.Fatalf("%q %q: the condition was lost", a, b)
		}
		// A resource that is missing never meets an If-Match.
		if err := c.check(state{}, otherIs{}); err == nil {
			t.Fatalf("%q %q: met by nothing", a, b)
		}
	})
}
