package config

import (
	"errors"
	"strings"
	"testing"

	"holdfast"
)

const edited = `# my notes
server_id = 01020300000000000000000000000000

# the disk in the attic
  mirror  =  usb   /mnt/usb/m
# the other
mirror = nas /mnt/nas
#policy = strict
log_level = debug`

// Edit touches one line; whatever else a person wrote stays.
func TestEdit(t *testing.T) {
	for _, c := range []struct {
		name, key, from, to string
		old, want           string // one replacement in the text
		err                 error
	}{
		{"add", "mirror", "", "new /mnt/new", "mirror = nas /mnt/nas\n", "mirror = nas /mnt/nas\nmirror = new /mnt/new\n", nil},
		{"replace", "mirror", "usb /mnt/usb/m", "usb /mnt/usb2", "  mirror  =  usb   /mnt/usb/m\n", "mirror = usb /mnt/usb2\n", nil},
		{"remove", "mirror", "nas /mnt/nas", "", "mirror = nas /mnt/nas\n", "", nil},
		{"remove what is not there", "mirror", "nas /mnt/other", "", "", "", holdfast.ErrNotFound},
		{"set behind its comment", "policy", "", "degraded", "#policy = strict\n", "#policy = strict\npolicy = degraded\n", nil},
		{"set at the end", "copies", "", "1", "log_level = debug", "log_level = debug\ncopies = 1\n", nil},
		{"set again", "log_level", "", "warn", "log_level = debug", "log_level = warn\n", nil},
		{"a value that does not fit", "policy", "", "perhaps", "", "", holdfast.ErrInvalid},
		{"nested mirrors", "mirror", "", "new /mnt/nas/below", "", "", holdfast.ErrDenied},
		{"two of one name", "mirror", "", "nas /mnt/x", "", "", holdfast.ErrInvalid},
		{"another line", "mirror", "", "x /y\nlog_level = error", "", "", holdfast.ErrInvalid},
		{"more copies than mirrors", "copies", "", "3", "", "", holdfast.ErrInvalid},
		{"no such key", "mirrors", "", "x", "", "", holdfast.ErrInvalid},
	} {
		got, conf, err := Edit([]byte(edited), c.key, c.from, c.to)
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: got error %v, want %v", c.name, err, c.err)
			continue
		}
		if want := strings.Replace(edited, c.old, c.want, 1); err == nil && (string(got) != want || conf == nil) {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, want)
		}
	}
	text := Render(Default())
	text = append(text, "server_id = 01020300000000000000000000000000\nmirror = a /a\n"...)
	for _, e := range [][3]string{{"mirror", "", "b /b"}, {"policy", "", "degraded"}, {"policy", "", "strict"}, {"copies", "", "1"}, {"mirror", "a /a", ""}} {
		var err error
		if text, _, err = Edit(text, e[0], e[1], e[2]); err != nil {
			t.Fatalf("%v: %v", e, err)
		}
	}
	if c, err := Parse(text); err != nil || len(c.Mirrors) != 1 || c.Mirrors[0].Name != "b" || c.Policy != "strict" || c.Copies != 1 {
		t.Errorf("after all: %+v, %v", c, err)
	}
}

// Whatever a file holds, an edit leaves one that reads back, or the error says why not.
func FuzzEdit(f *testing.F) {
	f.Add([]byte(edited), "mirror", "nas /mnt/nas", "nas /mnt/n2")
	f.Add([]byte(edited), "policy", "", "degraded")
	f.Fuzz(func(t *testing.T, text []byte, key, from, to string) {
		out, _, err := Edit(text, key, from, to)
		if err != nil {
			return
		}
		if _, err := Parse(out); err != nil {
			t.Errorf("edited file does not parse: %v", err)
		}
	})
}
