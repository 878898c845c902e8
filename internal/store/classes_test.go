package store

import (
	"os"
	"strings"
	"testing"
)

// TestClasses finds every table in ARCHITECTURE.md, which says in which class its data is: whether a loss
// of it is a loss, can be computed again, or costs a new login.
func TestClasses(t *testing.T) {
	doc, err := os.ReadFile("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(doc), "\n## What is stored, in three classes\n")
	section, _, _ = strings.Cut(section, "\n## ")
	if !ok {
		t.Fatal("ARCHITECTURE.md has no section on the classes")
	}
	tables := 0
	for _, q := range sqlite.schema() {
		rest, ok := strings.CutPrefix(q, "CREATE TABLE ")
		if !ok {
			continue
		}
		tables++
		if name := strings.Fields(rest)[0]; !strings.Contains(section, "`"+name+"`") {
			t.Errorf("ARCHITECTURE.md does not say of which class table %s is", name)
		}
	}
	if tables == 0 {
		t.Fatal("the schema has no tables")
	}
}
