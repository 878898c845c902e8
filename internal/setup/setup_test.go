package setup

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"rsc.io/qr"

	"holdfast"
)

var update = flag.Bool("update", false, "rewrite the table of README.md")

func facts(t *testing.T, origin, name string) Facts {
	t.Helper()
	f, err := NewFacts(origin, name, holdfast.ServerID{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFacts(t *testing.T) {
	for _, c := range []struct{ origin, name, host, address, files, davx5 string }{
		{"https://Cloud.example.org", "alice", "cloud.example.org", "https://cloud.example.org/", "https://cloud.example.org/dav/alice/Files/", "davx5://alice@cloud.example.org/"},
		{"https://cloud.example.org:443", "", "cloud.example.org", "https://cloud.example.org/", "https://cloud.example.org/dav/NAME/Files/", "davx5://cloud.example.org/"},
		{"https://cloud.example.org:8443/", "a.b-c", "cloud.example.org:8443", "https://cloud.example.org:8443/", "https://cloud.example.org:8443/dav/a.b-c/Files/", "davx5://a.b-c@cloud.example.org:8443/"},
		{"http://127.0.0.1:80", "alice", "127.0.0.1", "http://127.0.0.1/", "http://127.0.0.1/dav/alice/Files/", "caldav://alice@127.0.0.1/"},
		{"https://[2001:db8::1]:443", "alice", "[2001:db8::1]", "https://[2001:db8::1]/", "https://[2001:db8::1]/dav/alice/Files/", "davx5://alice@[2001:db8::1]/"},
	} {
		f := facts(t, c.origin, c.name)
		for what, got := range map[string][2]string{
			"host": {f.Host(), c.host}, "address": {f.Address(), c.address}, "files": {f.Files(), c.files}, "davx5": {f.DAVx5(), c.davx5},
		} {
			if got[0] != got[1] {
				t.Errorf("%s of %s: got %s, want %s", what, c.origin, got[0], got[1])
			}
		}
	}
	for _, bad := range []string{"", "cloud.example.org", "ftp://cloud.example.org", "https://", "https://a:b@c", "https://cloud.example.org/dav/", "https://x/?q", "https://x/#f", "https://:443", `https://a"b`, "https://a<b"} {
		if _, err := NewFacts(bad, "", holdfast.ServerID{}); !errors.Is(err, holdfast.ErrInvalid) {
			t.Errorf("origin %q: got %v, want ErrInvalid", bad, err)
		}
	}
}

// Every fact a text names is known, every mark has its end, every id is a word and there once.
func TestGuides(t *testing.T) {
	f := facts(t, "https://cloud.example.org", "alice")
	seen := map[string]bool{}
	for _, g := range Guides() {
		if seen[g.ID] || !regexp.MustCompile(`^[a-z0-9]+$`).MatchString(g.ID) || g.ID == "main" || g.ID == "what" {
			t.Errorf("id %q", g.ID)
		}
		seen[g.ID] = true
		if found, ok := Find(g.ID); !ok || found.Name != g.Name {
			t.Errorf("find %q: %v", g.ID, ok)
		}
		if g.Name == "" || g.Group == "" || g.For == "" || g.Tried == "" || len(g.Steps)+len(g.Shell) == 0 {
			t.Errorf("%s lacks something", g.ID)
		}
		text := g.Text(f)
		if strings.ContainsAny(text, "{}*`") {
			t.Errorf("%s is not filled in, or a mark has no end:\n%s", g.ID, text)
		}
		for line := range strings.Lines(text) {
			if n := len([]rune(line)); n > lineWidth+1 && !strings.HasPrefix(line, "  $ ") && len(strings.Fields(line)) > 2 {
				t.Errorf("%s: a line of %d characters: %s", g.ID, n, line)
			}
		}
	}
}

// The table of README is the table of this package.
func TestReadme(t *testing.T) {
	const file, begin, end = "../../README.md", "<!-- the table of internal/setup; go test ./internal/setup -update writes it -->\n", "<!-- end -->\n"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(b), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has not the marks %q and %q", file, begin, end)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+Markdown()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != Markdown() {
		t.Errorf("the table of %s is not that of internal/setup: go test ./internal/setup -run TestReadme -update", file)
	}
}

// A profile is a property list that says what it should, twice the same, and another one for another account or server.
func TestProfile(t *testing.T) {
	f := facts(t, "https://cloud.example.org:8443", "alice")
	b, err := f.Profile("")
	if err != nil {
		t.Fatal(err)
	}
	flat := flatten(t, b)
	for _, want := range []string{
		"PayloadType=Configuration", "PayloadType=com.apple.carddav.account", "PayloadType=com.apple.caldav.account",
		"CardDAVHostName=cloud.example.org", "CardDAVPort=8443", "CardDAVUseSSL=true", "CardDAVUsername=alice", "CardDAVPrincipalURL=/dav/principals/alice/",
		"CalDAVHostName=cloud.example.org", "CalDAVPort=8443", "CalDAVUseSSL=true", "CalDAVUsername=alice", "CalDAVPrincipalURL=/dav/principals/alice/",
		"PayloadIdentifier=holdfast.01020300000000000000000000000000.alice",
	} {
		if !strings.Contains(flat, want+"\n") {
			t.Errorf("no %s in\n%s", want, flat)
		}
	}
	if strings.Contains(flat, "Password") {
		t.Errorf("a password that nobody asked for:\n%s", flat)
	}
	again, _ := f.Profile("")
	if !bytes.Equal(b, again) {
		t.Error("two profiles of one account differ: installing the second would add a second account")
	}
	uuids := regexp.MustCompile(`[0-9A-F]{8}-[0-9A-F]{4}-8[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}`)
	all := map[string]bool{}
	other := f
	other.Server[0] = 9
	for _, o := range []Facts{f, facts(t, f.Origin, "bob"), other} {
		p, err := o.Profile("")
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range uuids.FindAllString(string(p), -1) {
			all[u] = true
		}
	}
	if len(all) != 9 {
		t.Errorf("%d different UUIDs in three profiles of three parts, want 9", len(all))
	}
	secret, err := f.Profile(`a<b>&"c`)
	if err != nil {
		t.Fatal(err)
	}
	if flat := flatten(t, secret); !strings.Contains(flat, `CardDAVPassword=a<b>&"c`+"\n") || !strings.Contains(flat, `CalDAVPassword=a<b>&"c`+"\n") {
		t.Errorf("the password that was asked for:\n%s", flat)
	}
	if _, err := facts(t, f.Origin, "").Profile(""); !errors.Is(err, holdfast.ErrInvalid) {
		t.Errorf("a profile for nobody: %v", err)
	}
}

// flatten reads a property list as lines of key=value.
func flatten(t *testing.T, b []byte) string {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(b))
	var out strings.Builder
	key, text := "", ""
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			text = ""
		case xml.CharData:
			text += string(tok)
		case xml.EndElement:
			switch tok.Name.Local {
			case "key":
				key = text
			case "string", "integer":
				out.WriteString(key + "=" + text + "\n")
			case "true", "false":
				out.WriteString(key + "=" + tok.Name.Local + "\n")
			}
		}
	}
}

func TestRecords(t *testing.T) {
	got, err := facts(t, "https://cloud.example.org:8443", "").Records("Example.org.")
	if err != nil {
		t.Fatal(err)
	}
	want := `_carddavs._tcp.example.org. 3600 IN SRV 0 1 8443 cloud.example.org.
_carddavs._tcp.example.org. 3600 IN TXT "path=/dav/"
_carddav._tcp.example.org. 3600 IN SRV 0 0 0 .
_caldavs._tcp.example.org. 3600 IN SRV 0 1 8443 cloud.example.org.
_caldavs._tcp.example.org. 3600 IN TXT "path=/dav/"
_caldav._tcp.example.org. 3600 IN SRV 0 0 0 .
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for _, c := range [][2]string{{"https://127.0.0.1", ""}, {"https://[::1]", ""}, {"http://localhost", ""}, {"https://cloud.example.org", "exa mple.org"}, {"https://cloud.example.org", "-x.org"}, {"https://cloud.example.org", "127.0.0.1"}} {
		if got, err := facts(t, c[0], "").Records(c[1]); !errors.Is(err, holdfast.ErrInvalid) {
			t.Errorf("records for %q at %q: %q, %v; want ErrInvalid", c[1], c[0], got, err)
		}
	}
}

// Both drawings have the modules of the code, and white around them.
func TestQR(t *testing.T) {
	const text = "davx5://alice@cloud.example.org/"
	c, err := qr.Encode(text, qr.M)
	if err != nil {
		t.Fatal(err)
	}
	path, size, err := QRPath(text)
	if err != nil || size != c.Size+2*quiet {
		t.Fatalf("size %d, %v", size, err)
	}
	black := map[[2]int]bool{}
	for _, m := range regexp.MustCompile(`M(\d+) (\d+)h(\d+)v1h-(\d+)z`).FindAllStringSubmatch(path, -1) {
		x, y, n := atoi(m[1]), atoi(m[2]), atoi(m[3])
		if m[3] != m[4] {
			t.Fatalf("a bar that does not come back: %s", m[0])
		}
		for i := range n {
			black[[2]int{x + i - quiet, y - quiet}] = true
		}
	}
	light, err1 := QRText(text, true)
	dark, err2 := QRText(text, false)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	upper := map[rune]bool{'█': true, '▀': true}
	lower := map[rune]bool{'█': true, '▄': true}
	rows := map[bool][]string{true: strings.Split(light, "\n"), false: strings.Split(dark, "\n")}
	for y := -quiet; y < c.Size+quiet; y++ {
		for x := -quiet; x < c.Size+quiet; x++ {
			want := c.Black(x, y)
			if black[[2]int{x, y}] != want {
				t.Fatalf("picture at %d, %d: %v", x, y, !want)
			}
			for isLight, lines := range rows {
				half := upper
				if (y+quiet)%2 == 1 {
					half = lower
				}
				if got := half[[]rune(lines[(y+quiet)/2])[x+quiet]] == isLight; got != want {
					t.Fatalf("text (light %v) at %d, %d: %v", isLight, x, y, got)
				}
			}
		}
	}
	if _, err := QRText(strings.Repeat("x", 1<<14), true); err == nil {
		t.Error("no error for a text that fits no code")
	}
}

func atoi(s string) (n int) {
	for _, d := range s {
		n = n*10 + int(d-'0')
	}
	return n
}

// The page holds every guide; nothing in it runs or is fetched; its policy lets its own style in and nothing else.
func TestPage(t *testing.T) {
	for _, f := range []Facts{facts(t, "https://cloud.example.org", ""), facts(t, "https://cloud.example.org", "alice"), facts(t, "http://127.0.0.1:8443", "bob")} {
		b, err := Page(f)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for _, g := range Guides() {
			if !strings.Contains(text, `<h3 id="`+g.ID+`">`) || !strings.Contains(text, `<a href="#`+g.ID+`">`) {
				t.Errorf("%s is not on the page", g.ID)
			}
		}
		for _, bad := range []string{"ZgotmplZ", "<script", " style=", "<img", "<link", " onclick", "{name}", "{address}"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s has %q", f.Origin, bad)
			}
		}
		_, rest, _ := strings.Cut(text, "<style>")
		css, _, ok := strings.Cut(rest, "</style>")
		if !ok || css != style || strings.Count(text, "<style>") != 1 {
			t.Error("the style is not the one that the policy lets in")
		}
		if got, want := strings.Contains(text, ProfilePath), f.Name != ""; got != want {
			t.Errorf("profile for %q offered: %v", f.Name, got)
		}
		if got, want := strings.Contains(text, "begins with http:, not"), !f.Secure(); got != want {
			t.Errorf("warning at %s: %v", f.Origin, got)
		}
		if !strings.Contains(text, `href="`+f.DAVx5()+`"`) {
			t.Errorf("no link %s", f.DAVx5())
		}
		ids := map[string]bool{}
		for _, m := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(text, -1) {
			if ids[m[1]] {
				t.Errorf("id %s twice", m[1])
			}
			ids[m[1]] = true
		}
		for _, m := range regexp.MustCompile(` (?:href="#|aria-labelledby=")([^"]+)"`).FindAllStringSubmatch(text, -1) {
			if !ids[m[1]] {
				t.Errorf("%s leads nowhere", m[0])
			}
		}
	}
	b, err := WaitPage(facts(t, "https://cloud.example.org", ""))
	if err != nil || !strings.Contains(string(b), "Please wait") || strings.Contains(string(b), "davx5") {
		t.Errorf("wait page: %v\n%s", err, b)
	}
}

func FuzzFacts(f *testing.F) {
	f.Add("https://cloud.example.org", "alice", "example.org")
	f.Add("http://[::1]:80/", "", "")
	f.Add("https://a%2fb", "a b", "x")
	f.Fuzz(func(t *testing.T, origin, name, domain string) {
		facts, err := NewFacts(origin, name, holdfast.ServerID{})
		if err != nil {
			return
		}
		if len(origin)+len(name) < 200 {
			if b, err := Page(facts); err != nil || bytes.Contains(b, []byte("ZgotmplZ")) {
				t.Errorf("page of %q: %v", origin, err)
			}
		}
		if name != "" {
			b, err := facts.Profile(name)
			if err != nil {
				t.Fatal(err)
			}
			flatten(t, b)
		}
		if r, err := facts.Records(domain); err == nil && strings.Count(r, "\n") != 6 {
			t.Errorf("records of %q: %q", domain, r)
		}
	})
}
