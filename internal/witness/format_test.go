package witness

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"strings"
	"testing"

	"holdfast"
)

var update = flag.Bool("update", false, "write the example of docs/formats/witness.md")

// TestFormat compares the example of docs/formats/witness.md with the code.
func TestFormat(t *testing.T) {
	l := label{term: holdfast.Term{Number: 7, Random: 99}}
	for i := range 16 {
		l.server[i], l.witness[i] = byte(i), byte(16+i)
	}
	h := holdfast.AccountHead{Account: 7, Epoch: 1, Head: holdfast.Head{Seq: 3}}
	for i := range h.Head.Hash {
		h.Head.Hash[i] = 0xcc
	}
	b, err := encodeHeader(l, of(h))
	if err != nil || len(b) != page || len(bytes.Trim(b[fixedSize+headSize:], "\x00")) != 0 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	b = b[:fixedSize+headSize]
	const file, begin = "../../docs/formats/witness.md", "<!-- example witness -->\n```\n"
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
	if fixedSize != 72 {
		t.Errorf("the fixed part has %d bytes, %s says 72", fixedSize, file)
	}
}
