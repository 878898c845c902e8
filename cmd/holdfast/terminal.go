package main

import (
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"

	"holdfast/internal/config"
)

// terminal writes for one. Names come from devices and mirrors, and a terminal obeys what is
// in them: control characters, and those that turn the direction of writing, are shown as \u001b, which is
// what JSON means by it too.
type terminal struct{ w io.Writer }

func (p terminal) Write(b []byte) (int, error) {
	out := make([]byte, 0, len(b))
	for rest := b; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		if obeyed(r) {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = append(out, rest[:n]...)
		}
		rest = rest[n:]
	}
	if _, err := p.w.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// obeyed reports whether a terminal does something other than show r, or wait for the next line or column.
func obeyed(r rune) bool {
	if r == '\n' || r == '\t' {
		return false
	}
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029'
}

// shell returns a path as one word of a shell, for commands that are printed to be copied.
func shell(path string) string { return config.ShellWord(path) }
