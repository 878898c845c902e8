package dav

import (
	"bytes"
	"encoding/xml"
	"errors"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"holdfast"
)

func TestParseXML(t *testing.T) {
	n, err := parseXML([]byte(`<?xml version="1.0"?><!-- c --><propfind xmlns="DAV:" xmlns:c='urn:ietf:params:xml:ns:caldav'>
<prop><c:x a="1" c:b="2" xml:lang="de">t&amp;<![CDATA[<u>]]></c:x><y xmlns=""/></prop></propfind>`))
	if err != nil {
		t.Fatal(err)
	}
	p := n.child(davName("prop"))
	x := p.child(calName("x"))
	if got := x.content(); got != "t&<u>" {
		t.Errorf("content: %q", got)
	}
	want := []xml.Attr{{Name: xml.Name{Local: "a"}, Value: "1"}, {Name: calName("b"), Value: "2"}, {Name: xml.Name{Space: nsXML, Local: "lang"}, Value: "de"}}
	if d := cmp.Diff(want, x.attrs); d != "" {
		t.Errorf("attributes (-want +got):\n%s", d)
	}
	if p.child(xml.Name{Local: "y"}) == nil {
		t.Error("element without a namespace was not found")
	}
}

// Hostile and broken requests are refused before they cost anything.
func TestParseXMLRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"entity bomb":         `<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><a>&c;</a>`,
		"external entity":     `<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>`,
		"unknown entity":      `<a>&nbsp;</a>`,
		"not closed":          `<a><b></b>`,
		"crossed":             `<a><b></a></b>`,
		"closed twice":        `<a></a></a>`,
		"two roots":           `<a/><b/>`,
		"no root":             `<!-- nothing -->`,
		"text":                `hello`,
		"text after":          `<a/>hello`,
		"undeclared prefix":   `<d:a/>`,
		"empty declaration":   `<a xmlns:b=""><b:c/></a>`,
		"undeclared on attr":  `<a b:c="1"/>`,
		"attribute twice":     `<a b="1" b="2"/>`,
		"attribute twice, ns": `<a xmlns:x="u" xmlns:y="u" x:b="1" y:b="2"/>`,
		"two colons":          `<a:b:c xmlns:a="x"/>`,
		"control character":   "<a>\x01</a>",
		"not utf-8":           "<a>\xff</a>",
		"latin-1":             `<?xml version="1.0" encoding="iso-8859-1"?><a/>`,
		"deep":                strings.Repeat("<a>", 100) + strings.Repeat("</a>", 100),
		"deeper":              strings.Repeat("<a>", 300_000),
		"attributes in all":   "<a>" + strings.Repeat(`<b a="" b="" c="" d=""/>`, maxPieces/4+1) + "</a>",
		"text in pieces":      "<a>" + strings.Repeat("x<!---->", maxPieces+2) + "</a>",
		"text in sections":    "<a>" + strings.Repeat("<![CDATA[x]]>", maxPieces+2) + "</a>",
		"digit first":         `<p:1a xmlns:p="u"/>`,
		"wide":                "<a>" + strings.Repeat("<b/>", maxElements) + "</a>",
		"attributes":          "<a " + strings.Repeat(` x="1"`, 1) + manyAttributes(100) + "/>",
		"namespaces":          strings.Repeat("<a "+manyNamespaces(60)+">", 10) + strings.Repeat("</a>", 10),
		"odd utf-16":          "\xff\xfe<",
	} {
		if n, err := parseXML([]byte(in)); err == nil {
			t.Errorf("%s: parsed as %+v", name, n)
		}
	}
}

func manyAttributes(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(" a" + strings.Repeat("b", i) + `="1"`)
	}
	return b.String()
}

func manyNamespaces(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(" xmlns:a" + strings.Repeat("b", i) + `="u"`)
	}
	return b.String()
}

func TestParseXMLUTF16(t *testing.T) {
	for name, order := range map[string][2]int{"big": {1, 0}, "little": {0, 1}} {
		var b []byte
		for _, u := range append([]uint16{0xfeff}, utf16.Encode([]rune(`<?xml version="1.0" encoding="utf-16"?><a xmlns="DAV:">ü😀</a>`))...) {
			two := []byte{byte(u), byte(u >> 8)}
			b = append(b, two[order[0]], two[order[1]])
		}
		n, err := parseXML(b)
		if err != nil || n.content() != "ü😀" {
			t.Errorf("%s endian: %+v, %v", name, n, err)
		}
	}
}

func TestReadXMLBounds(t *testing.T) {
	if _, err := readXML(strings.NewReader(strings.Repeat(" ", maxXML+1)), maxXML); !errors.Is(err, holdfast.ErrTooLarge) {
		t.Errorf("too long: %v", err)
	}
	if n, err := readXML(strings.NewReader(" \r\n"), maxXML); n != nil || err != nil {
		t.Errorf("blank: %v, %v", n, err)
	}
	if _, err := readXML(strings.NewReader("<"), maxXML); !errors.Is(err, holdfast.ErrInvalid) {
		t.Errorf("broken: %v", err)
	}
	long := `<a xmlns="DAV:">` + strings.Repeat("x", 10<<20-100) + `</a>`
	if n, err := readXML(strings.NewReader(long), maxReport); err != nil || len(n.content()) != 10<<20-100 {
		t.Errorf("10 MB of text: %v", err)
	}
}

// Text comes back as it was, but for what XML cannot carry.
func TestAppendText(t *testing.T) {
	for in, want := range map[string]string{
		"a\r\nb\tc":     "a&#13;\nb\tc",
		`<&>"'`:         `&lt;&amp;&gt;"'`,
		"ü😀":            "ü😀",
		"a\x0bb":        "a\uFFFDb",
		"a\xffb":        "a\uFFFDb",
		"\uFFFEx\uFFFF": "\uFFFDx\uFFFD",
		"\uFFFD":        "\uFFFD",
		"":              "",
	} {
		if got := string(appendText(nil, in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
		if got := string(appendText(nil, []byte(in))); got != want {
			t.Errorf("bytes %q: got %q, want %q", in, got, want)
		}
	}
}

// A property's value stands for itself wherever it is written.
func TestFragmentRoundTrip(t *testing.T) {
	n, err := parseXML([]byte(`<p xmlns="urn:x" xmlns:q="urn:y" xmlns:r="DAV:">a &lt; b<q:c k="1" r:l="&quot;"><d/>t</q:c><e xmlns=""/></p>`))
	if err != nil {
		t.Fatal(err)
	}
	value := string(appendNodes(nil, n.kids, ""))
	again := fragment(value)
	if d := cmp.Diff(n.kids, again, cmp.AllowUnexported(node{})); d != "" {
		t.Errorf("value %s (-want +got):\n%s", value, d)
	}
	if got := string(appendFragment(nil, "no <xml & so on")); got != "no &lt;xml &amp; so on" {
		t.Errorf("broken value: %s", got)
	}
}

func FuzzXML(f *testing.F) {
	for _, s := range []string{
		`<propfind xmlns="DAV:"><prop><getetag/></prop></propfind>`,
		`<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop><x:a xmlns:x="u" x:b="c">t<y/></x:a></D:prop></D:set></D:propertyupdate>`,
		`<C:calendar-query xmlns:C="urn:ietf:params:xml:ns:caldav"><C:filter><C:comp-filter name="VCALENDAR"/></C:filter></C:calendar-query>`,
		`<!DOCTYPE a><a/>`, "\xff\xfe<\x00a\x00/\x00>\x00", `<a xmlns:b=""/>`, `<a>&#13;&#x41;</a>`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := parseXML(b)
		if err != nil {
			return
		}
		_, _ = parsePropfind(n)
		_, _ = parseUpdate(n)
		_ = (&newCollection{}).parse(n)
		// What was read can be written, and is read as the same.
		out := appendNodes(nil, []node{*n}, "")
		again, err := parseXML(out)
		if err != nil {
			t.Fatalf("%q written as %q: %v", b, out, err)
		}
		if twice := appendNodes(nil, []node{*again}, ""); !bytes.Equal(out, twice) {
			t.Fatalf("%q written as %q and then as %q", b, out, twice)
		}
	})
}
