package config

import (
	"os/exec"
	"testing"
)

func TestShellWord(t *testing.T) {
	for in, want := range map[string]string{
		"/srv/holdfast": "/srv/holdfast", "my data": "'my data'", "it's": `'it'\''s'`, "": "''", "a$HOME`x`": "'a$HOME`x`'", "~": "'~'", "é\n": "'é\n'",
	} {
		if got := ShellWord(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+ShellWord(in)).Output(); err != nil || string(out) != in {
			t.Errorf("%q: the shell reads %q, %v", in, out, err)
		}
	}
}
