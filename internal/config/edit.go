package config

import (
	"bytes"
	"fmt"
	"strings"

	"holdfast"
)

// Edit changes one value of a key in the text of a settings file and leaves every other line, comments
// included, as it is. from is the value that is there, "" to add one; to is the new one, "" to take the line
// out. A line that is added follows the last of its key, or the comment that shows the key's default. A key
// that is not repeatable has its value replaced whatever it was. The result has been parsed and checked.
// ErrNotFound: from is not there. ErrInvalid and ErrDenied: the settings would not be good.
func Edit(text []byte, name, from, to string) ([]byte, *Config, error) {
	k := find(name)
	if k == nil || from == "" && to == "" {
		return nil, nil, fmt.Errorf("edit %q: %w", name, holdfast.ErrInvalid)
	}
	if err := noControl(to); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	at, after := -1, -1
	for i, line := range lines {
		value, set, shown := k.on(line)
		switch {
		case set && (value == from || !k.repeat):
			at = i
		case set, shown && (after < 0 || !k.isSet(lines[after])):
			after = i
		}
	}
	if from != "" && at < 0 && k.repeat {
		return nil, nil, fmt.Errorf("%s = %s: %w", name, from, holdfast.ErrNotFound)
	}
	line := fmt.Sprintf("%s = %s\n", name, to)
	switch {
	case at >= 0 && to == "":
		lines = append(lines[:at:at], lines[at+1:]...)
	case at >= 0:
		lines[at] = line
	default:
		lines = insert(lines, after, line)
	}
	out := []byte(strings.Join(lines, ""))
	c, err := Parse(out)
	if err != nil {
		return nil, nil, err
	}
	return out, c, nil
}

// on says what a line has to do with the key: it sets a value, or it is a comment that shows one.
func (k *key) on(line string) (value string, set, shown bool) {
	line = strings.Trim(line, " \t\r\n")
	rest, comment := strings.CutPrefix(line, "#")
	name, value, ok := strings.Cut(rest, "=")
	if !ok || strings.Trim(name, " \t") != k.name {
		return "", false, false
	}
	value = strings.Trim(value, " \t")
	if comment {
		return "", false, true
	}
	if k.repeat { // as the program writes it: two spaces are one
		c := Default()
		k.clear(c)
		if k.set(c, value) == nil && len(k.get(c)) == 1 {
			value = k.get(c)[0]
		}
	}
	return value, true, false
}

func (k *key) isSet(line string) bool {
	_, set, _ := k.on(line)
	return set
}

// insert puts a line behind line after; behind the last if there is no such.
func insert(lines []string, after int, line string) []string {
	if after < 0 {
		if n := len(lines); n > 0 && lines[n-1] != "" && !bytes.HasSuffix([]byte(lines[n-1]), []byte("\n")) {
			lines[n-1] += "\n"
		}
		return append(lines, line)
	}
	if !strings.HasSuffix(lines[after], "\n") {
		lines[after] += "\n"
	}
	return append(lines[:after+1:after+1], append([]string{line}, lines[after+1:]...)...)
}
