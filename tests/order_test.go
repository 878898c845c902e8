package clients

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestPutOrder looks at the system calls of one PUT: the store's log is durable, then the mirror's, then
// the claim is read, and only then the answer leaves (DESIGN.md, L2 and F10). Either order reversed loses
// data in a crash, and no other test would see it.
func TestPutOrder(t *testing.T) {
	root := t.TempDir()
	trace := filepath.Join(root, "trace")
	s := prepareServer(t, filepath.Join(root, "data"), filepath.Join(root, "mirror"))
	s.wrap = []string{
		"strace", "-f", "-qq", "-y", "-s", "64", "-o", trace, "-e",
		"trace=read,write,writev,sendto,pwrite64,pwritev,fsync,fdatasync,sync_file_range,newfstatat,statx,openat,rename,renameat,renameat2,unlink,unlinkat",
	}
	if lookPath("strace") == "" {
		t.Fatal("this test needs strace; make deps installs it")
	}
	s.start()
	c := s.client("alice")
	for i := range 3 {
		c.put(t, fmt.Sprintf("/dav/alice/contacts/warm-%d.vcf", i), card(fmt.Sprint("warm-", i), "Warm", "up"))
	}
	c.must(t, []int{201}, "PUT", "/dav/alice/contacts/traced.vcf", []byte(card("traced", "Traced", "yes")))
	s.eventually(30*time.Second, "the trace has the answer", func() error {
		b, err := os.ReadFile(trace)
		if err == nil && !strings.Contains(afterRequest(string(b)), `"HTTP/1.1 201`) {
			err = fmt.Errorf("%d bytes without it", len(b))
		}
		return err
	})
	s.stop()
	b, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	got := s.orderOf(afterRequest(string(b)))
	golden := filepath.Join("testdata", "put.order")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the durable steps of one PUT (-golden +got):\n%s", diff)
	}
}

// afterRequest cuts a trace to what follows the arrival of the traced request; net/http may have read its first byte apart.
func afterRequest(trace string) string {
	_, rest, _ := strings.Cut(trace, "UT /dav/alice/contacts/traced.vcf HTTP/1.1")
	return rest
}

var (
	call    = regexp.MustCompile(`^(\d+) +(\w+)\((.*)$`)
	resumed = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>`)
	onFile  = regexp.MustCompile(`^\d+<([^>]*)>`)
	quoted  = regexp.MustCompile(`"([^"]*)"`)
	hexName = regexp.MustCompile(`[0-9a-f]{16}(-[0-9a-f]{16})?`)
)

// orderOf turns the trace into one line for each step that matters, up to the answer. A sync counts when it
// has returned, the answer when it starts to leave. Steps that repeat at once are one line.
func (s *server) orderOf(trace string) string {
	var steps []string
	add := func(step string) {
		last := ""
		if len(steps) > 0 {
			last = steps[len(steps)-1]
		}
		// The claim is looked at from time to time; what counts is the look after the mirror's sync.
		early := strings.HasPrefix(step, "term: look at") && !strings.HasPrefix(last, "log: sync")
		if step != "" && step != last && !early {
			steps = append(steps, step)
		}
	}
	pending := map[string]string{} // thread to the arguments of its unfinished call
	lines := bufio.NewScanner(strings.NewReader(trace))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if m := resumed.FindStringSubmatch(line); m != nil {
			add(s.step(m[2], pending[m[1]]))
			delete(pending, m[1])
			continue
		}
		m := call.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if strings.Contains(m[3], `"HTTP/1.1 201`) {
			add("answer 201")
			break
		}
		if strings.HasSuffix(line, "<unfinished ...>") {
			pending[m[1]] = m[3]
			continue
		}
		add(s.step(m[2], m[3]))
	}
	return strings.Join(steps, "\n") + "\n"
}

// step names a finished call on our files, or returns "".
func (s *server) step(name, args string) string {
	file := ""
	if m := onFile.FindStringSubmatch(args); m != nil {
		file = m[1]
	}
	switch {
	case strings.HasPrefix(name, "unlink"), strings.HasPrefix(name, "rename"), name == "newfstatat", name == "statx", name == "openat":
		if m := quoted.FindStringSubmatch(args); m != nil {
			if file = m[1]; !filepath.IsAbs(file) {
				return ""
			}
		}
		if name == "newfstatat" || name == "statx" || name == "openat" {
			if !strings.HasPrefix(file, filepath.Join(s.mirror, "term")+"/") {
				return ""
			}
			name = "look at"
		}
	case strings.Contains(name, "sync"):
		name = "sync"
	case strings.Contains(name, "write"), name == "sendto":
		name = "write"
	default:
		return ""
	}
	// The head files, which follow in the background, are left out.
	for _, dir := range []string{filepath.Join(s.data, "store"), filepath.Join(s.mirror, "log"), filepath.Join(s.mirror, "term")} {
		if rel, err := filepath.Rel(dir, file); err == nil && !strings.HasPrefix(rel, "..") {
			return fmt.Sprintf("%s: %s %s", filepath.Base(dir), name, hexName.ReplaceAllString(rel, "*"))
		}
	}
	return ""
}
