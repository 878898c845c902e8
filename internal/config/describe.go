package config

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

const preamble = `# Settings of a Holdfast server. Lines are "key = value"; a line that begins with # is a
# comment. Check a change with "holdfast config check", then restart the server.
# A key that is commented out has its default.
`

// Render returns the text of a documented settings file: what differs from the default is set, all
// else is shown as a comment.
func Render(c *Config) []byte {
	var b bytes.Buffer
	b.WriteString(preamble)
	def := Default()
	for i := range keys {
		k := &keys[i]
		b.WriteByte('\n')
		comment(&b, "# ", k.about)
		values := k.get(c)
		if slices.Equal(values, k.get(def)) {
			for _, v := range k.shown(def) {
				fmt.Fprintf(&b, "#%s = %s\n", k.name, v)
			}
			continue
		}
		for _, v := range values {
			fmt.Fprintf(&b, "%s = %s\n", k.name, v)
		}
	}
	return b.Bytes()
}

// shown returns the default for a new file's comments, or an example where there is none.
func (k *key) shown(def *Config) []string {
	if v := k.get(def); len(v) > 0 || k.sample == "" {
		return v
	}
	return []string{k.sample}
}

// Setting is one key with its meaning and values, for `holdfast config describe`.
type Setting struct {
	Key       string   `json:"key"`
	About     string   `json:"about"`
	Repeat    bool     `json:"repeatable"`
	Default   []string `json:"default"`
	Effective []string `json:"effective"`
}

// Describe returns every setting in the order of the file.
func Describe(c *Config) []Setting {
	def := Default()
	var out []Setting
	for i := range keys {
		k := &keys[i]
		out = append(out, Setting{
			Key: k.name, About: strings.ReplaceAll(k.about, "\n", " "), Repeat: k.repeat,
			Default: append([]string{}, k.get(def)...), Effective: append([]string{}, k.get(c)...),
		})
	}
	return out
}

func comment(b *bytes.Buffer, prefix, text string) {
	for line := range strings.SplitSeq(text, "\n") {
		b.WriteString(prefix + line + "\n")
	}
}
