package holdfast_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestFaultMatrix finds each test that docs/durability.md names for a fault, and a row for each fault that is promised.
func TestFaultMatrix(t *testing.T) {
	text, err := os.ReadFile("docs/durability.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "<!-- fault matrix -->")
	if !ok {
		t.Fatal("docs/durability.md has no fault matrix")
	}
	row := regexp.MustCompile(`(?m)^\| (\d+) .*$`)
	named := regexp.MustCompile("([a-z]+) `(Test[A-Za-z0-9]+)`")
	rows := map[string]bool{}
	for _, m := range row.FindAllStringSubmatch(table, -1) {
		tests := named.FindAllStringSubmatch(m[0], -1)
		if rows[m[1]] = true; len(tests) == 0 {
			t.Errorf("fault %s names no test", m[1])
		}
		for _, n := range tests {
			if !hasTest(t, n[1], n[2]) {
				t.Errorf("fault %s: package %s has no %s", m[1], n[1], n[2])
			}
		}
	}
	for _, want := range strings.Fields("1 2 3 4 5 7 8 9 10 11 12 14 15 16 17 18 20 21 26 31") {
		if !rows[want] {
			t.Errorf("fault %s has no row", want)
		}
	}
}

// hasTest reports whether the tests of a package have one that begins with a name.
func hasTest(t *testing.T, pkg, name string) bool {
	dir := filepath.Join("internal", pkg)
	if pkg == "tests" {
		dir = pkg
	}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "func "+name) {
			return true
		}
	}
	return false
}
