package vcard

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
)

func sample(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func card(t *testing.T, body []byte) *Card {
	t.Helper()
	c, err := Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSamples(t *testing.T) {
	for name, want := range map[string]Card{
		"ios.vcf":         {Version: "3.0", UID: "00000000-0000-4000-8000-000000000001", FN: "Test Person 1"},
		"apple-group.vcf": {Version: "3.0", UID: "00000000-0000-4000-8000-000000000002", FN: "Test Group 1"},
		"davx5.vcf":       {Version: "4.0", UID: "00000000-0000-4000-8000-000000000003", FN: "Test Pérson 3"},
		"thunderbird.vcf": {Version: "4.0", UID: "00000000-0000-4000-8000-000000000004", FN: "Test Person 4"},
		"evolution.vcf":   {Version: "3.0", UID: "pas-id-000000000005", FN: "Test Person 5"},
		"phone21.vcf":     {Version: "2.1", FN: "Test Pérson 6"},
		"outlook.vcf":     {Version: "2.1", FN: "Test Person 7"},
	} {
		c := card(t, sample(t, name))
		if c.Version != want.Version || c.UID != want.UID || c.FN != want.FN {
			t.Errorf("%s: got %q %q %q", name, c.Version, c.UID, c.FN)
		}
		if uid, err := UID(sample(t, name)); err != nil || uid != want.UID {
			t.Errorf("%s: UID %q, %v", name, uid, err)
		}
	}
}

func TestFrame(t *testing.T) {
	for in, ok := range map[string]bool{
		"begin:vcard\nend:vcard":                                          true,
		"BEGIN:VCARD \r\nEND: VCARD\r\n\r\n":                              true,
		"junk\r\nBEGIN:VCARD\r\nnonsense\r\nEND:VCARD\r\n":                true,
		"BEGIN:VCARD\nAGENT:\nBEGIN:VCARD\nUID:x\nEND:VCARD\nEND:VCARD\n": true,
		"": false,
		"BEGIN:VCARD\nEND:VCARD\nBEGIN:VCARD\nEND:VCARD\n": false,
		"BEGIN:VCARD\n": false, "END:VCARD\n": false, "BEGIN:VCALENDAR\nEND:VCALENDAR\n": false,
		"BEGIN:VCARD\nBEGIN:X\nEND:VCARD\nEND:X\n": false,
		"BEGIN:VCARD\nX:END:VCARD\n":               false,
	} {
		c, err := Parse([]byte(in))
		if (err == nil) != ok || err != nil && !errors.Is(err, holdfast.ErrInvalid) {
			t.Errorf("%q: %v", in, err)
		}
		if c != nil && c.UID != "" {
			t.Errorf("%q: UID of an inner card", in)
		}
	}
}

func TestMatch(t *testing.T) {
	text := func(s string, typ string) TextMatch {
		return TextMatch{Text: s, Type: map[string]TextMatch{"equals": {Type: "equals"}, "starts-with": {Type: "starts-with"}, "ends-with": {Type: "ends-with"}, "": {}}[typ].Type}
	}
	prop := func(name string, m ...TextMatch) PropFilter { return PropFilter{Name: name, Texts: m} }
	typ := func(name, v string) PropFilter {
		return PropFilter{Name: name, Params: []ParamFilter{{Name: "TYPE", Text: &TextMatch{Text: v, Type: "equals"}}}}
	}
	for name, c := range map[string]struct {
		file string
		f    Filter
		want bool
	}{
		"everything":                {"ios.vcf", Filter{}, true},
		"defined":                   {"ios.vcf", Filter{Props: []PropFilter{{Name: "photo"}}}, true},
		"not defined":               {"ios.vcf", Filter{Props: []PropFilter{{Name: "NICKNAME", IsNotDefined: true}}}, true},
		"not defined, but is":       {"ios.vcf", Filter{Props: []PropFilter{{Name: "NOTE", IsNotDefined: true}}}, false},
		"contains":                  {"ios.vcf", Filter{Props: []PropFilter{prop("FN", text("person", ""))}}, true},
		"equals":                    {"ios.vcf", Filter{Props: []PropFilter{prop("FN", text("person", "equals"))}}, false},
		"starts":                    {"ios.vcf", Filter{Props: []PropFilter{prop("FN", text("TEST", "starts-with"))}}, true},
		"ends":                      {"ios.vcf", Filter{Props: []PropFilter{prop("FN", text("person 1", "ends-with"))}}, true},
		"unicode":                   {"davx5.vcf", Filter{Props: []PropFilter{prop("FN", text("PÉRSON", ""))}}, true},
		"any group":                 {"ios.vcf", Filter{Props: []PropFilter{prop("EMAIL", text("one@", ""))}}, true},
		"this group":                {"ios.vcf", Filter{Props: []PropFilter{prop("ITEM1.email", text("one@", ""))}}, true},
		"other group":               {"ios.vcf", Filter{Props: []PropFilter{prop("item2.EMAIL", text("one@", ""))}}, false},
		"escapes":                   {"ios.vcf", Filter{Props: []PropFilter{prop("NOTE", text("second, with comma; and", ""))}}, true},
		"quoted-printable":          {"phone21.vcf", Filter{Props: []PropFilter{prop("NOTE", text("second line and the end", ""))}}, true},
		"latin-1":                   {"phone21.vcf", Filter{Props: []PropFilter{prop("ADR", text("Straße", ""))}}, true},
		"folded":                    {"thunderbird.vcf", Filter{Props: []PropFilter{prop("NOTE", text("goes on with a blank", ""))}}, true},
		"param":                     {"ios.vcf", Filter{Props: []PropFilter{typ("TEL", "cell")}}, true},
		"param of a list":           {"evolution.vcf", Filter{Props: []PropFilter{{Name: "TEL", Params: []ParamFilter{{Name: "TYPE", Text: &TextMatch{Text: "voice"}}}}}}, true},
		"param 2.1":                 {"phone21.vcf", Filter{Props: []PropFilter{typ("TEL", "cell")}}, true},
		"param not there":           {"ios.vcf", Filter{Props: []PropFilter{{Name: "BDAY", Params: []ParamFilter{{Name: "TYPE", IsNotDefined: true}}}}}, true},
		"param there":               {"ios.vcf", Filter{Props: []PropFilter{{Name: "BDAY", Params: []ParamFilter{{Name: "X-APPLE-OMIT-YEAR", IsNotDefined: true}}}}}, false},
		"group member":              {"apple-group.vcf", Filter{Props: []PropFilter{prop("X-ADDRESSBOOKSERVER-KIND", text("group", "equals"))}}, true},
		"any of two":                {"ios.vcf", Filter{Props: []PropFilter{prop("FN", text("nobody", "")), prop("EMAIL", text("one@", ""))}}, true},
		"all of two":                {"ios.vcf", Filter{Test: AllOf, Props: []PropFilter{prop("FN", text("nobody", "")), prop("EMAIL", text("one@", ""))}}, false},
		"all of two, both":          {"ios.vcf", Filter{Test: AllOf, Props: []PropFilter{prop("FN", text("test", "")), prop("EMAIL", text("one@", ""))}}, true},
		"inner any":                 {"ios.vcf", Filter{Props: []PropFilter{{Name: "FN", Texts: []TextMatch{{Text: "nobody"}, {Text: "test"}}}}}, true},
		"inner all":                 {"ios.vcf", Filter{Props: []PropFilter{{Name: "FN", Test: AllOf, Texts: []TextMatch{{Text: "nobody"}, {Text: "test"}}}}}, false},
		"inner all, text and param": {"ios.vcf", Filter{Props: []PropFilter{{Name: "EMAIL", Test: AllOf, Texts: []TextMatch{{Text: "one"}}, Params: []ParamFilter{{Name: "TYPE", Text: &TextMatch{Text: "internet"}}}}}}, true},
		"negated":                   {"ios.vcf", Filter{Props: []PropFilter{{Name: "FN", Texts: []TextMatch{{Text: "nobody", Negate: true}}}}}, true},
		"octet":                     {"ios.vcf", Filter{Props: []PropFilter{{Name: "FN", Texts: []TextMatch{{Text: "test", Collation: "i;octet"}}}}}, false},
	} {
		got, err := c.f.Match(card(t, sample(t, c.file)))
		if err != nil || got != c.want {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

func TestUnsupported(t *testing.T) {
	c := card(t, sample(t, "ios.vcf"))
	many := make([]PropFilter, maxFilterParts+1)
	for i := range many {
		many[i].Name = "FN"
	}
	for i, u := range []struct {
		f    Filter
		want error
	}{
		{Filter{Test: "oneof"}, ErrUnsupportedFilter},
		{Filter{Props: []PropFilter{{Name: ""}}}, ErrUnsupportedFilter},
		{Filter{Props: []PropFilter{{Name: "FN", Test: "noneof"}}}, ErrUnsupportedFilter},
		{Filter{Props: []PropFilter{{Name: "FN", IsNotDefined: true, Texts: []TextMatch{{}}}}}, ErrUnsupportedFilter},
		{Filter{Props: []PropFilter{{Name: "FN", Texts: []TextMatch{{Type: "sounds-like"}}}}}, ErrUnsupportedFilter},
		{Filter{Props: []PropFilter{{Name: "FN", Texts: []TextMatch{{Collation: "i;ascii-numeric"}}}}}, ErrUnsupportedCollation},
		{Filter{Props: []PropFilter{{Name: "FN", Params: []ParamFilter{{Name: "TYPE", Text: &TextMatch{Collation: "x"}}}}}}, ErrUnsupportedCollation},
		{Filter{Props: many}, ErrUnsupportedFilter},
	} {
		if got, err := u.f.Match(c); got || !errors.Is(err, u.want) {
			t.Errorf("%d: got %v, %v", i, got, err)
		}
	}
}

func TestSelect(t *testing.T) {
	c := card(t, sample(t, "ios.vcf"))
	got := string(c.Select([]Prop{{Name: "UID"}, {Name: "item1.X-ABLabel"}, {Name: "PHOTO", NoValue: true}, {Name: "FN"}}))
	want := "BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Test Person 1\r\nitem1.X-ABLabel:_$!<Other>!$_\r\nPHOTO;ENCODING=b;TYPE=JPEG:\r\nUID:00000000-0000-4000-8000-000000000001\r\nEND:VCARD\r\n"
	if got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	whole := sample(t, "ios.vcf")
	photo := card(t, whole).Select([]Prop{{Name: "PHOTO"}})
	i := bytes.Index(whole, []byte("PHOTO"))
	j := bytes.Index(whole, []byte("X-IMAGEHASH"))
	if !bytes.Contains(photo, whole[i:j]) {
		t.Error("a folded PHOTO is not copied as it was")
	}
	bare := card(t, []byte("\xef\xbb\xbfBEGIN:VCARD\nFN:x\nEND:VCARD"))
	if got := string(bare.Select([]Prop{{Name: "FN"}})); got != "BEGIN:VCARD\nFN:x\nEND:VCARD\r\n" {
		t.Errorf("got %q", got)
	}
}

// FuzzCard: parsing, matching and selecting never panic, and what Select makes is a card again.
func FuzzCard(f *testing.F) {
	names, _ := filepath.Glob("testdata/*.vcf")
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	filter := Filter{Test: AllOf, Props: []PropFilter{
		{Name: "FN", Texts: []TextMatch{{Text: "é", Negate: true}}},
		{Name: "TEL", Params: []ParamFilter{{Name: "TYPE", Text: &TextMatch{Text: "cell"}}}},
	}}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := Parse(body)
		uid, err2 := UID(body)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("Parse: %v, UID: %v", err, err2)
		}
		if err != nil {
			return
		}
		if uid != c.UID {
			t.Fatalf("UID %q and %q", uid, c.UID)
		}
		if _, err := filter.Match(c); err != nil {
			t.Fatal(err)
		}
		some := c.Select([]Prop{{Name: "UID"}, {Name: "TEL"}, {Name: "NOTE", NoValue: true}})
		again, err := Parse(some)
		if err != nil {
			t.Fatalf("selected %q: %v", some, err)
		}
		if again.UID != c.UID {
			t.Fatalf("selected UID %q, was %q", again.UID, c.UID)
		}
	})
}

func BenchmarkUID(b *testing.B) {
	body := sample(b, "davx5.vcf")
	body = bytes.Replace(body, []byte("REV:"), []byte("NOTE:"+strings.Repeat("text ", 50)+"\r\nREV:"), 1)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := UID(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	body := sample(b, "davx5.vcf")
	f := Filter{Props: []PropFilter{{Name: "FN", Texts: []TextMatch{{Text: "nobody"}}}, {Name: "EMAIL", Texts: []TextMatch{{Text: "nobody"}}}}}
	b.ReportAllocs()
	for b.Loop() {
		c, err := Parse(body)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := f.Match(c); err != nil {
			b.Fatal(err)
		}
	}
}
