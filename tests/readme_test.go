package clients

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadme runs the curl commands that README.md shows, as they stand there.
func TestReadme(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	p := newProgram(t, "ADDRESS=http://"+s.addr, "NAME=alice", "PASSWORD="+s.passwords["alice"])
	p.write("letter.txt", "Dear all\n")
	blocks := strings.Split(string(b), "<!-- run by tests/readme_test.go -->\n```sh\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("README.md has no block that is marked to be run")
	}
	for _, block := range blocks {
		script, _, ok := strings.Cut(block, "```")
		if !ok {
			t.Fatalf("block without an end: %.80q", block)
		}
		p.run("", "sh", "-eu", "-c", script)
	}
	got, err := os.ReadFile(p.path("back.txt"))
	if err != nil || string(got) != "Dear all\n" {
		t.Errorf("what came back: %q, %v", got, err)
	}
	s.client("alice").get(t, "/dav/alice/Files/letter.txt", "Dear all\n")
}
