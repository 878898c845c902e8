package contentline

import (
	"bytes"
	"unicode/utf8"
)

// Text returns the value as the text a person would see: unfolded, quoted-printable decoded,
// ISO-8859-1 of vCard 2.1 made UTF-8, backslash escapes undone (RFC 5545, 3.3.11; RFC 6350, 3.4).
func (l *Line) Text() []byte {
	v := l.Value()
	if len(l.params) > 0 && containsFold(l.params, quotedPrintable) {
		v = DecodeQuotedPrintable(v)
	}
	if len(l.params) > 0 && !utf8.Valid(v) && l.isLatin1() {
		v = latin1(v)
	}
	return Unescape(v)
}

func (l *Line) isLatin1() bool {
	c := l.Param("CHARSET")
	return EqualFoldString(c, "ISO-8859-1") || EqualFoldString(c, "LATIN1") || EqualFoldString(c, "WINDOWS-1252")
}

func latin1(b []byte) []byte {
	out := make([]byte, 0, len(b)+len(b)/4)
	for _, c := range b {
		out = utf8.AppendRune(out, rune(c))
	}
	return out
}

// Unescape undoes \\ \, \; \n and \N. Any other backslash stands for itself.
func Unescape(b []byte) []byte {
	first := bytes.IndexByte(b, '\\')
	if first < 0 {
		return b
	}
	out := make([]byte, 0, len(b))
	out = append(out, b[:first]...)
	for i := first; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) {
			switch b[i+1] {
			case '\\', ',', ';':
				out = append(out, b[i+1])
				i++
				continue
			case 'n', 'N':
				out = append(out, '\n')
				i++
				continue
			}
		}
		out = append(out, b[i])
	}
	return out
}

// DecodeQuotedPrintable decodes RFC 2045, 6.7. What is not valid stands for itself.
func DecodeQuotedPrintable(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] != '=' {
			out = append(out, b[i])
			continue
		}
		if i+2 < len(b) {
			hi, ok1 := unhex(b[i+1])
			lo, ok2 := unhex(b[i+2])
			if ok1 && ok2 {
				out = append(out, hi<<4|lo)
				i += 2
				continue
			}
		}
		j := i + 1
		for j < len(b) && b[j] == '\r' {
			j++
		}
		if j < len(b) && b[j] == '\n' || j == len(b) { // soft break, also a last one
			i = j
			continue
		}
		out = append(out, '=')
	}
	return out
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
