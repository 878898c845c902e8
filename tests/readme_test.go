package clients

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runBlocks runs the commands that a document shows, as they stand there, one block after the other in
// one directory, and returns what they printed.
func runBlocks(p *program, doc string) string {
	p.t.Helper()
	b, err := os.ReadFile(filepath.Join("..", doc))
	if err != nil {
		p.t.Fatal(err)
	}
	blocks := strings.Split(string(b), "<!-- run by tests/readme_test.go -->\n```sh\n")[1:]
	if len(blocks) == 0 {
		p.t.Fatalf("%s has no block that is marked to be run", doc)
	}
	var out strings.Builder
	for _, block := range blocks {
		script, _, ok := strings.Cut(block, "```")
		if !ok {
			p.t.Fatalf("%s: block without an end: %.80q", doc, block)
		}
		out.WriteString(p.run("", "sh", "-eu", "-c", script))
	}
	return out.String()
}

// TestReadme runs the curl commands of README.md.
func TestReadme(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p := newProgram(t, "ADDRESS=http://"+s.addr, "NAME=alice", "PASSWORD="+s.passwords["alice"])
	p.write("letter.txt", "Dear all\n")
	runBlocks(p, "README.md")
	got, err := os.ReadFile(p.path("back.txt"))
	if err != nil || string(got) != "Dear all\n" {
		t.Errorf("what came back: %q, %v", got, err)
	}
	s.client("alice").get(t, "/dav/alice/Files/letter.txt", "Dear all\n")
}

// TestConnect runs the set-ups of docs/connect.md, and looks whether a second device gets all of it.
func TestConnect(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	p := newProgram(t, "ADDRESS=http://"+s.addr, "NAME=alice", "PASSWORD="+s.passwords["alice"])
	out := runBlocks(p, filepath.Join("docs", "connect.md"))
	for _, want := range []string{"10:00-11:00 Dentist", "Zoe Quinn", "Buy milk", "letter.txt"} {
		if !strings.Contains(out, want) {
			t.Errorf("the programs did not show %q:\n%s", want, out)
		}
	}
	other := newPhone(t, s, "")
	other.sync()
	other.find("card/contacts", "FN:Zoe Quinn")
	other.find("cal/calendar", "SUMMARY:Dentist")
	other.find("cal/tasks", "SUMMARY:Buy milk")
	s.client("alice").get(t, "/dav/alice/Files/papers/letter.txt", "Dear all\n")
}
