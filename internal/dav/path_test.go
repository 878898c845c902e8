package dav

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParsePath(t *testing.T) {
	for in, want := range map[string]path{
		"/dav":                        {slash: true},
		"/dav/":                       {slash: true},
		"/dav/anna":                   {segs: []string{"anna"}},
		"/dav/anna/":                  {segs: []string{"anna"}, slash: true},
		"/dav/anna/Files/a%20b+c.txt": {segs: []string{"anna", "Files", "a b+c.txt"}},
		"/dav/anna/Files/%40ü%2B.txt": {segs: []string{"anna", "Files", "@ü+.txt"}},
		"/dav/a/b/...":                {segs: []string{"a", "b", "..."}},
		"/dav/a/%25":                  {segs: []string{"a", "%"}},
	} {
		got, err := parsePath(in)
		if err != nil || !cmp.Equal(got, want, cmp.AllowUnexported(path{})) {
			t.Errorf("%s: got %+v, %v; want %+v", in, got, err, want)
		}
	}
}

func TestParsePathRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"outside":         "/web/x",
		"parent":          "/dav/a/../b",
		"escaped parent":  "/dav/a/%2e%2E/b",
		"dot":             "/dav/a/.",
		"empty":           "/dav/a//b",
		"only slashes":    "/dav//",
		"encoded slash":   "/dav/a/b%2Fc",
		"nul":             "/dav/a/b%00",
		"control":         "/dav/a/b%0Ac",
		"delete":          "/dav/a/%7F",
		"c1 control":      "/dav/a/%C2%85",
		"not utf-8":       "/dav/a/%FF",
		"broken escape":   "/dav/a/%zz",
		"256 bytes":       "/dav/a/" + strings.Repeat("x", 256),
		"255 x 3 bytes":   "/dav/a/" + strings.Repeat("%E2%82%AC", 86),
		"too many levels": "/dav/" + strings.Repeat("a/", 65),
	} {
		if p, err := parsePath(in); err == nil {
			t.Errorf("%s: %q was taken as %+v", name, in, p)
		}
	}
}

func TestParseHref(t *testing.T) {
	base := path{segs: []string{"anna", "calendar"}, slash: true}
	for in, want := range map[string][]string{
		"/dav/anna/calendar/a%20b%40c.ics":               {"anna", "calendar", "a b@c.ics"},
		"/dav/anna/calendar/a b@c.ics":                   {"anna", "calendar", "a b@c.ics"},
		" https://x.example/dav/anna/calendar/1.ics\n":   {"anna", "calendar", "1.ics"},
		"HTTP://x.example:81/dav/anna/calendar/1.ics?a#": {"anna", "calendar", "1.ics"},
		"1.ics":                       {"anna", "calendar", "1.ics"},
		"/dav/anna/calendar/100%.ics": {"anna", "calendar", "100%.ics"},
	} {
		got, err := parseHref(in, base)
		if err != nil || !cmp.Equal(got.segs, want) {
			t.Errorf("%q: got %q, %v; want %q", in, got.segs, err, want)
		}
	}
}

// What is written as a href is read as the same name.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"/dav/", "/dav/anna/Files/a%20b", "/dav/%2e%2e/x", "/dav/a//", "/dav/ü/%C3%BC/+@"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, _ = parseHref(s, path{segs: []string{"a"}})
		p, err := parsePath(s)
		if err != nil {
			return
		}
		for _, seg := range p.segs {
			if err := checkName(seg); err != nil {
				t.Fatalf("%q: segment %q: %v", s, seg, err)
			}
		}
		href := string(appendPath(nil, p.segs, p.slash))
		again, err := parsePath(href)
		if err != nil || !cmp.Equal(again, p, cmp.AllowUnexported(path{})) {
			t.Fatalf("%q: %+v written as %q is read as %+v, %v", s, p, href, again, err)
		}
		if got, err := parseHref(href, path{}); err != nil || !cmp.Equal(got.segs, p.segs) {
			t.Fatalf("%q as a href is %+v, %v", href, got, err)
		}
	})
}
