package holdfast_test

import (
	"os"
	"strings"
	"testing"
)

// TestModules finds every module that go.mod requires directly, and every tool, in the decision that says
// what it replaces, under which licence, and why we do not write it ourselves.
func TestModules(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("docs/decisions/20261121-third-party-modules.md")
	if err != nil {
		t.Fatal(err)
	}
	named, inside := 0, ""
	for line := range strings.Lines(string(mod)) {
		f := strings.Fields(line)
		switch {
		case len(f) == 0 || f[0] == ")":
			inside = ""
			continue
		case len(f) == 2 && f[1] == "(":
			inside = f[0]
			continue
		case inside == "require" && strings.HasSuffix(strings.TrimSpace(line), "// indirect"):
			continue
		case inside != "require" && inside != "tool":
			continue
		}
		named++
		module := strings.TrimSuffix(f[0], "/cmd/staticcheck")
		if !strings.Contains(string(doc), "\n| `"+module+"` |") {
			t.Errorf("docs/decisions/20261121-third-party-modules.md says nothing of %s", module)
		}
	}
	if named < 10 {
		t.Fatalf("found %d modules in go.mod", named)
	}
}
