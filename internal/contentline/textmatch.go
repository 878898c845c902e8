package contentline

import (
	"bytes"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// The errors of filters that cannot be answered truly. Protocols map them to
// CARDDAV:/CALDAV:supported-filter and supported-collation.
var (
	ErrUnsupportedFilter    = errors.New("filter not supported")
	ErrUnsupportedCollation = errors.New("collation not supported")
)

// Collation names how texts are compared (RFC 4790).
type Collation string

// The collations known here. Which of them a query may name is up to its protocol.
const (
	ASCIICasemap   Collation = "i;ascii-casemap"   // RFC 4790, 9.2
	Octet          Collation = "i;octet"           // RFC 4790, 9.3
	UnicodeCasemap Collation = "i;unicode-casemap" // RFC 5051
)

// MatchType says where in the value the text must be (RFC 6352, 10.5.4).
type MatchType string

// The match types; the empty one means Contains.
const (
	Contains   MatchType = "contains"
	Equals     MatchType = "equals"
	StartsWith MatchType = "starts-with"
	EndsWith   MatchType = "ends-with"
)

// TextMatch is the text-match element of RFC 4791, 9.7.5 and RFC 6352, 10.5.4.
type TextMatch struct {
	Text      string
	Collation Collation // empty or "default": the protocol's default
	Type      MatchType // empty: Contains
	Negate    bool
}

// Check returns ErrUnsupportedCollation or ErrUnsupportedFilter for what Match cannot do.
func (t *TextMatch) Check(allowed ...Collation) error {
	switch t.Type {
	case "", Contains, Equals, StartsWith, EndsWith:
	default:
		return fmt.Errorf("match type %q: %w", t.Type, ErrUnsupportedFilter)
	}
	if t.Collation == "" || t.Collation == "default" {
		return nil
	}
	for _, c := range allowed {
		if c == t.Collation {
			return nil
		}
	}
	return fmt.Errorf("collation %q: %w", t.Collation, ErrUnsupportedCollation)
}

// Match reports whether the value fulfils the text match, negation included. byDefault is the
// collation used when none is named.
func (t *TextMatch) Match(value []byte, byDefault Collation) bool {
	c := t.Collation
	if c == "" || c == "default" {
		c = byDefault
	}
	var store [256]byte
	text := fold(make([]byte, 0, 64), []byte(t.Text), c)
	v := fold(store[:0], value, c)
	var found bool
	switch t.Type {
	case Equals:
		found = bytes.Equal(v, text)
	case StartsWith:
		found = bytes.HasPrefix(v, text)
	case EndsWith:
		found = bytes.HasSuffix(v, text)
	default:
		found = bytes.Contains(v, text)
	}
	return found != t.Negate
}

// fold maps b so that an octet comparison of two results is the collation's comparison. It returns
// b itself or appends to dst.
func fold(dst, b []byte, c Collation) []byte {
	if c == Octet {
		return b
	}
	if c == UnicodeCasemap && !ascii(b) {
		return titlecase(b)
	}
	for _, x := range b {
		if 'a' <= x && x <= 'z' {
			x -= 'a' - 'A'
		}
		dst = append(dst, x)
	}
	return dst
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// titlecase makes the "titlecased canonicalized UTF-8" of RFC 5051, 2: titlecase and decompose each
// character until nothing changes. Text that is not UTF-8 stays as it is.
func titlecase(b []byte) []byte {
	if !utf8.Valid(b) {
		return b
	}
	once := norm.NFKD.Bytes(bytes.Map(unicode.ToTitle, b))
	return norm.NFKD.Bytes(bytes.Map(unicode.ToTitle, once))
}
