package dav

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	citation = regexp.MustCompile(`RFC ([0-9]+), ([0-9]+(?:\.[0-9]+)*(?:(?:-| and |, )[0-9]+(?:\.[0-9]+)*)*)`)
	section  = regexp.MustCompile(`[0-9]+(?:\.[0-9]+)*`)
)

// Every section that the code cites is in docs/rfc.tsv, itself or a section it belongs to; every row
// has a status, and what is kept says where.
func TestRFCTable(t *testing.T) {
	root := filepath.Join("..", "..")
	b, err := os.ReadFile(filepath.Join(root, "docs", "rfc.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for i, line := range strings.Split(strings.TrimRight(string(b), "\n"), "\n") {
		f := strings.Split(line, "\t")
		if len(f) != 5 {
			t.Fatalf("rfc.tsv:%d: %d columns, want RFC, section, status, where, note", i+1, len(f))
		}
		if i == 0 {
			continue
		}
		switch f[2] {
		case "yes", "partial":
			for _, where := range strings.Fields(f[3]) {
				if _, err := os.Stat(filepath.Join(root, where)); err != nil {
					t.Errorf("rfc.tsv:%d: %v", i+1, err)
				}
			}
			if f[3] == "" {
				t.Errorf("rfc.tsv:%d: %s without a place", i+1, f[2])
			}
		case "no":
		default:
			t.Errorf("rfc.tsv:%d: status %q", i+1, f[2])
		}
		if f[2] != "yes" && f[4] == "" {
			t.Errorf("rfc.tsv:%d: %s without a word why", i+1, f[2])
		}
		if listed[f[0]+" "+f[1]] {
			t.Errorf("rfc.tsv:%d: listed twice", i+1)
		}
		listed[f[0]+" "+f[1]] = true
	}
	for _, dir := range []string{"dav", "ical", "vcard", "contentline", "kind"} {
		files, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", dir, files, err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range citation.FindAllStringSubmatch(string(b), -1) {
				for _, s := range section.FindAllString(m[2], -1) {
					if !covered(listed, m[1], s) {
						t.Errorf("%s: RFC %s, %s is not in docs/rfc.tsv", f, m[1], s)
					}
				}
			}
		}
	}
}

func covered(listed map[string]bool, rfc, section string) bool {
	for {
		if listed[rfc+" "+section] {
			return true
		}
		i := strings.LastIndexByte(section, '.')
		if i < 0 {
			return false
		}
		section = section[:i]
	}
}
