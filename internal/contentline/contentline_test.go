package contentline

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type parsed struct {
	Group, Name, Value string
	Params             []string
}

func parse(t *testing.T, in string) []parsed {
	t.Helper()
	var (
		out []parsed
		r   = NewReader([]byte(in))
		l   Line
	)
	for r.Next(&l) {
		p := parsed{Group: string(l.Group), Name: string(l.Name), Value: string(l.Value())}
		for params := l.Params(); ; {
			n, v, ok := params.Next()
			if !ok {
				break
			}
			p.Params = append(p.Params, string(n)+"="+string(v))
		}
		out = append(out, p)
	}
	return out
}

func TestReader(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want []parsed
	}{
		"crlf and lf":        {"A:1\r\nB:2\nC:3", []parsed{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}, {Name: "C", Value: "3"}}},
		"bom":                {"\xef\xbb\xbfA:1\r\n", []parsed{{Name: "A", Value: "1"}}},
		"folded with space":  {"A:12\r\n 34\r\n  56\r\n", []parsed{{Name: "A", Value: "1234 56"}}},
		"folded with tab":    {"A:12\n\t34\n", []parsed{{Name: "A", Value: "1234"}}},
		"folded in name":     {"SUM\r\n MARY;X=1\r\n 2:a:b\r\n", []parsed{{Name: "SUMMARY", Value: "a:b", Params: []string{"X=12"}}}},
		"folded in utf-8":    {"A:\xc3\r\n \xa9\r\n", []parsed{{Name: "A", Value: "é"}}},
		"group":              {"item1.TEL:1\r\n", []parsed{{Group: "item1", Name: "TEL", Value: "1"}}},
		"quoted colon":       {`A;X="a:b;c,d":v` + "\r\n", []parsed{{Name: "A", Value: "v", Params: []string{"X=a:b;c,d"}}}},
		"unbalanced quote":   {`A;X="a:v` + "\r\n", []parsed{{Name: "A", Value: "v", Params: []string{`X="a`}}}},
		"list":               {"TEL;TYPE=home,\"work\",x:1\r\n", []parsed{{Name: "TEL", Value: "1", Params: []string{"TYPE=home", "TYPE=work", "TYPE=x"}}}},
		"caret":              {"A;X=a^nb^^c^'d^e:1\r\n", []parsed{{Name: "A", Value: "1", Params: []string{"X=a\nb^c\"d^e"}}}},
		"2.1 bare":           {"TEL;HOME;VOICE;QUOTED-PRINTABLE;URL:1\r\n", []parsed{{Name: "TEL", Value: "1", Params: []string{"TYPE=HOME", "TYPE=VOICE", "ENCODING=QUOTED-PRINTABLE", "VALUE=URL"}}}},
		"empty parameters":   {"A;;X=;:1\r\n", []parsed{{Name: "A", Value: "1", Params: []string{"X="}}}},
		"blank lines":        {"\r\nA:1\r\n\r\n", []parsed{{}, {Name: "A", Value: "1"}, {}}},
		"no colon":           {"hello\r\nA:1\r\n", []parsed{{Name: "hello"}, {Name: "A", Value: "1"}}},
		"value with dot":     {"A:x.y:z\r\n", []parsed{{Name: "A", Value: "x.y:z"}}},
		"nul":                {"A\x00B;X=\x00:\x00\r\n", []parsed{{Name: "A\x00B", Value: "\x00", Params: []string{"X=\x00"}}}},
		"cr only inside":     {"A:1\r2\r\r\nB:2\r\n", []parsed{{Name: "A", Value: "1\r2"}, {Name: "B", Value: "2"}}},
		"base64 is not soft": {"PHOTO;ENCODING=b:AAA=\r\nA:1\r\n", []parsed{{Name: "PHOTO", Value: "AAA=", Params: []string{"ENCODING=b"}}, {Name: "A", Value: "1"}}},
		"soft break": {
			"NOTE;ENCODING=QUOTED-PRINTABLE:a=\r\nb=\r\n c\r\nA:1\r\n",
			[]parsed{{Name: "NOTE", Value: "a=\r\nb=\r\n c", Params: []string{"ENCODING=QUOTED-PRINTABLE"}}, {Name: "A", Value: "1"}},
		},
		"soft break spares END": {
			"NOTE;QUOTED-PRINTABLE:a=\r\nEND:VCARD\r\n",
			[]parsed{{Name: "NOTE", Value: "a=", Params: []string{"ENCODING=QUOTED-PRINTABLE"}}, {Name: "END", Value: "VCARD"}},
		},
	} {
		if d := cmp.Diff(c.want, parse(t, c.in)); d != "" {
			t.Errorf("%s: %q (-want +got)\n%s", name, c.in, d)
		}
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		`A:a\, b\; c\\ d\n e\N f\x`:                                "a, b; c\\ d\n e\n f\\x",
		"A;ENCODING=QUOTED-PRINTABLE:=C3=A9=\r\n=20x=3D=\r\n y=zz": "é x= y=zz",
		"A;QUOTED-PRINTABLE;CHARSET=ISO-8859-1:caf=E9":             "café",
		"A;CHARSET=LATIN1:caf\xe9":                                 "café",
		"A;CHARSET=UTF-8;QUOTED-PRINTABLE:ab=\r\n =C3=A9":          "ab é",
		"A:\xff":    "\xff",
		"A:x\\":     "x\\",
		"A:1\r\n 2": "12",
	} {
		r := NewReader([]byte(in))
		var l Line
		if !r.Next(&l) || string(l.Text()) != want {
			t.Errorf("%q: got %q, want %q", in, l.Text(), want)
		}
	}
}

func TestLinearTime(t *testing.T) {
	const size = 10 << 20
	rep := func(s string) string { return strings.Repeat(s, size/len(s)) }
	for name, in := range map[string]string{
		"one value":        "A:" + rep("x"),
		"folds":            "A:" + rep("\r\n x"),
		"empty folds":      "A:" + rep("\n "),
		"quotes":           "A;X=" + rep(`"`) + ":1",
		"open quotes":      "A;X=" + rep(`"a:`),
		"parameters":       "A" + rep(";X=1") + ":1",
		"bare parameters":  "A" + rep(";X") + ":1",
		"semicolons":       "A" + rep(";") + ":1",
		"commas":           "A;X=" + rep(",") + ":1",
		"carets":           "A;X=" + rep("^") + ":1",
		"soft breaks":      "A;QUOTED-PRINTABLE:" + rep("=\n"),
		"soft and folds":   "A;QUOTED-PRINTABLE:" + rep("=\n x=\n"),
		"folds in head":    "A" + rep("\n x"),
		"nul":              rep("\x00"),
		"blank lines":      rep("\n"),
		"colons":           rep(":\n"),
		"lone equal signs": "A;QUOTED-PRINTABLE:" + rep("="),
		"returns":          "A:" + rep("\r") + "\n",
		"broken utf-8":     "A;CHARSET=LATIN1:" + rep("\xff"),
	} {
		began := time.Now()
		r := NewReader([]byte(in))
		var l Line
		n := 0
		for r.Next(&l) {
			n += len(l.Raw) + 0*len(l.Text())
			for p := l.Params(); ; {
				if _, _, ok := p.Next(); !ok {
					break
				}
			}
		}
		if n != len(in) {
			t.Errorf("%s: lines cover %d of %d bytes", name, n, len(in))
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: took %v for 10 MB", name, took)
		}
	}
}

func TestTextMatch(t *testing.T) {
	for _, c := range []struct {
		text      string
		collation Collation
		kind      MatchType
		value     string
		want      bool
	}{
		{"person", ASCIICasemap, "", "Test PERSON 1", true},
		{"person", Octet, "", "Test PERSON 1", false},
		{"É", ASCIICasemap, "", "é", false},
		{"É", UnicodeCasemap, "", "é", true},
		{"e", UnicodeCasemap, "", "É", true}, // decomposed: E and an accent (RFC 5051, 2)
		{"e\u0301", UnicodeCasemap, Equals, "É", true},
		{"ﬁ", UnicodeCasemap, Equals, "FI", true},
		{"ǆ", UnicodeCasemap, Equals, "Ǆ", true},
		{"straße", UnicodeCasemap, Equals, "STRAßE", true},
		{"test", "", StartsWith, "Test Person 1", true},
		{"person", "", StartsWith, "Test Person 1", false},
		{"1", "", EndsWith, "Test Person 1", true},
		{"", "", Contains, "", true},
		{"test person 1", "default", Equals, "Test Person 1", true},
		{"\xff", UnicodeCasemap, Contains, "a\xffb", true},
	} {
		m := TextMatch{Text: c.text, Collation: c.collation, Type: c.kind}
		if got := m.Match([]byte(c.value), UnicodeCasemap); got != c.want {
			t.Errorf("%+v in %q: got %v", m, c.value, got)
		}
		m.Negate = true
		if got := m.Match([]byte(c.value), UnicodeCasemap); got == c.want {
			t.Errorf("%+v in %q: got %v", m, c.value, got)
		}
	}
}

// FuzzReader checks the invariant: the lines are the input, and reading terminates.
func FuzzReader(f *testing.F) {
	for _, dir := range []string{"testdata", "../vcard/testdata", "../ical/testdata"} {
		names, _ := filepath.Glob(filepath.Join(dir, "*.[iv]c[sf]"))
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Add([]byte("A;QUOTED-PRINTABLE:=\n =\n\nEND:x"))
	f.Add([]byte("\xef\xbb\xbfA\r\n ;X=\"\r\n :\":1"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out []byte
		r := NewReader(in)
		var l Line
		for r.Next(&l) {
			if l.Start != len(out) || l.End != len(out)+len(l.Raw) || len(l.Raw) == 0 {
				t.Fatalf("line at %d..%d after %d bytes", l.Start, l.End, len(out))
			}
			out = append(out, l.Raw...)
			if v := l.Value(); len(v) > len(l.Raw) || len(v) > l.ValueSize() {
				t.Fatalf("value of %d bytes from a line of %d", len(v), len(l.Raw))
			}
			l.Text()
			l.Head()
			n := 0
			for p := l.Params(); ; n++ {
				if _, _, ok := p.Next(); !ok {
					break
				}
			}
			if n > len(l.Raw) {
				t.Fatalf("%d parameters in %d bytes", n, len(l.Raw))
			}
		}
		if !bytes.Equal(in, out) {
			t.Fatalf("lines are not the input")
		}
	})
}
