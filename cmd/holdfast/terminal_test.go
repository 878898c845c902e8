package main

import (
	"bytes"
	"fmt"
	"testing"
)

// A name that a device or a stranger's mirror gave changes nothing on an operator's terminal.
func TestTerminal(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"a\tb\n": "a\tb\n", "Grüße 日本": "Grüße 日本", "\x1b[31mred\x07": `\u001b[31mred\u0007`, "\u009b31m": `\u009b31m`,
		"gpj\u202e.exe": `gpj\u202e.exe`, "over\rwrite\x7f": `over\u000dwrite\u007f`, "bad\xff": "bad\xff",
	} {
		var b bytes.Buffer
		if n, err := fmt.Fprint(terminal{&b}, in); err != nil || n != len(in) || b.String() != want {
			t.Errorf("%q: got %q, %d, %v, want %q", in, b.String(), n, err, want)
		}
	}
}
