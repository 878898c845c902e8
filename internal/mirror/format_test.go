package mirror

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"holdfast"
	"holdfast/frame"
)

// TestHeadFileFormat compares the example of docs/formats/mirror.md with the code.
func TestHeadFileFormat(t *testing.T) {
	f := headFile{log: frame.LogID{Term: holdfast.Term{Number: 7, Random: 99}}, pos: 12}
	for i := range 16 {
		f.log.Server[i], f.log.Mirror[i] = byte(i), byte(16+i)
	}
	h := holdfast.AccountHead{Account: 7, Epoch: 1, Head: holdfast.Head{Seq: 3}}
	for i := range h.Head.Hash {
		h.Head.Hash[i] = 0xcc
	}
	f.heads = []holdfast.AccountHead{h}
	b := f.encode()
	const file, begin = "../../docs/formats/mirror.md", "<!-- example head file -->\n```\n"
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(raw), begin)
	block, after, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatalf("%s has no example", file)
	}
	if *update {
		var out strings.Builder
		for i := 0; i < len(b); i += 32 {
			out.WriteString(hex.EncodeToString(b[i:min(i+32, len(b))]) + "\n")
		}
		if err := os.WriteFile(file, []byte(before+begin+out.String()+"```"+after), 0o644); err != nil {
			t.Fatal(err)
		}
		block = out.String()
	}
	want, err := hex.DecodeString(strings.ReplaceAll(block, "\n", ""))
	if err != nil || !bytes.Equal(b, want) {
		t.Errorf("%s says\n%x\nthe code writes\n%x", file, want, b)
	}
	if headsHeader != 72 {
		t.Errorf("the header has %d bytes, %s says 72", headsHeader, file)
	}
	for bit := range len(b) * 8 {
		q := bytes.Clone(b)
		q[bit/8] ^= 1 << (bit % 8)
		if _, err := parseHeadFile(q); !errors.Is(err, holdfast.ErrCorrupt) {
			t.Fatalf("bit %d flipped: got %v, want ErrCorrupt", bit, err)
		}
	}
}

func FuzzHeadFile(f *testing.F) {
	f.Add((&headFile{pos: 3, heads: []holdfast.AccountHead{{Account: 1, Epoch: 1, Head: holdfast.Head{Seq: 1}}}}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeadFile(b)
		if err == nil && !bytes.Equal(h.encode(), b) {
			t.Errorf("encoded again differently: %x", b)
		}
	})
}

func FuzzClaim(f *testing.F) {
	f.Add([]byte(`{"format":1,"term":"0000000000000003-00000000000000ff","host":"h","pid":1,"started":"2026-01-01T00:00:00Z","note":"n"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseClaim(b, 3); err == nil && c.Term.Number != 3 {
			t.Errorf("claim 3 read as %s", c.Term)
		}
	})
}

func FuzzMarker(f *testing.F) {
	f.Add([]byte(`{"format":1,"server":"01020300000000000000000000000000","mirror":"abcd0000000000000000000000000000"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parseMarker(b, testServer); err == nil && !bytes.Contains(b, []byte(testServer.String())) {
			// JSON can escape the digits; then the text need not be there.
			if !bytes.Contains(b, []byte(`\u`)) {
				t.Errorf("a marker without the server id passes: %q", b)
			}
		}
	})
}

func FuzzSegmentName(f *testing.F) {
	f.Add("log/0000000000000001-00000000000000ff/0000000000000001.open")
	f.Fuzz(func(t *testing.T, name string) {
		if s, err := parseSegmentName(name); err == nil && segmentName(s.term, s.first, s.sealed) != name {
			t.Errorf("%q is written %q", name, segmentName(s.term, s.first, s.sealed))
		}
	})
}
