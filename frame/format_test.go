package frame

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"holdfast"
)

var update = flag.Bool("update", false, "write the examples of docs/formats")

// checkTables adds up every byte table of a format document: the offsets follow from the sizes, and
// the sum is what the table's comment says.
func checkTables(t *testing.T, file string, want int) {
	t.Helper()
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, part := range strings.Split(string(doc), "<!-- table ")[1:] {
		name, rest, _ := strings.Cut(part, " -->")
		total, err := strconv.Atoi(name[strings.LastIndexByte(name, ' ')+1:])
		if err != nil {
			t.Fatalf("%s: table %q has no sum", file, name)
		}
		at := 0
		for _, line := range strings.Split(rest, "\n")[3:] {
			cells := strings.Split(line, "|")
			if len(cells) < 5 {
				break
			}
			off, err1 := strconv.Atoi(strings.TrimSpace(cells[1]))
			size, err2 := strconv.Atoi(strings.TrimSpace(cells[2]))
			if err1 != nil || err2 != nil || off != at {
				t.Errorf("%s: table %s: row %q, want offset %d", file, name, line, at)
			}
			at += size
		}
		if at != total {
			t.Errorf("%s: table %s adds up to %d", file, name, at)
		}
		found++
	}
	if found != want {
		t.Errorf("%s: %d tables, want %d", file, found, want)
	}
}

// checkExample compares a hex block of a format document with what the code writes.
func checkExample(t *testing.T, file, name string, want []byte) {
	t.Helper()
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	re := regexp.MustCompile("(?s)(<!-- example " + name + " -->\n```\n)(.*?)(```)")
	m := re.FindSubmatch(doc)
	if m == nil {
		t.Fatalf("%s: no example %q", file, name)
	}
	if *update {
		var b strings.Builder
		for i := 0; i < len(want); i += 32 {
			b.WriteString(hex.EncodeToString(want[i:min(i+32, len(want))]) + "\n")
		}
		doc = re.ReplaceAll(doc, []byte("${1}"+b.String()+"${3}"))
		if err := os.WriteFile(file, doc, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := hex.DecodeString(strings.ReplaceAll(string(m[2]), "\n", ""))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: example %s is\n%x\nthe code writes\n%x", file, name, got, want)
	}
}

func TestFormatTables(t *testing.T) {
	checkTables(t, "../docs/formats/frame.md", 4)
	checkTables(t, "../docs/formats/segment.md", 2)
	checkTables(t, "../docs/formats/change.md", 2)
	checkTables(t, "../docs/formats/mirror.md", 1)
	for name, size := range map[string][2]int{
		"frame header": {HeaderSize, 128}, "commit": {commitSize, 24}, "checkpoint": {checkpointHeader, 16}, "account head": {checkpointEntry, 56},
		"footer": {footerFixed, 96}, "segment header": {SegmentHeaderSize, 4096}, "change": {changeHeader, 57}, "operation": {opEntry, 33},
		"heads of one checkpoint": {MaxCheckpointHeads, 299592},
	} {
		if size[0] != size[1] {
			t.Errorf("%s: %d in the code, %d in the documents", name, size[0], size[1])
		}
	}
}

// exampleLog is the log of all examples.
func exampleLog() LogID {
	id := LogID{Term: holdfast.Term{Number: 7, Random: 99}}
	for i := range 16 {
		id.Server[i], id.Mirror[i] = byte(i), byte(16+i)
	}
	return id
}

func filled(b byte) (h holdfast.Hash) {
	for i := range h {
		h[i] = b
	}
	return h
}

func TestFormatExamples(t *testing.T) {
	id := exampleLog()
	payload := Commit{First: 1, Last: 2, Time: 1_800_000_000_000}.Encode()
	h := Header{Type: TypeCommit, Pos: 3, SyncedTo: 1, Term: id.Term, Hash: sum(payload)}
	h.Chain = h.Next(filled(0xaa))
	checkExample(t, "../docs/formats/frame.md", "commit frame", Append(nil, id.Seed(), &h, payload))

	sh := SegmentHeader{Log: id, First: 70, Prev: filled(0xbb), Chain: filled(0xaa), Created: 1_800_000_000_000}
	b := sh.Encode()
	checkExample(t, "../docs/formats/segment.md", "segment header", append(b[:160:160], b[SegmentHeaderSize-4:]...))

	c := Change{
		Account: 7, Epoch: 1, Seq: 3, Term: holdfast.Term{Number: 2, Random: 99}, Time: 1_700_000_000_123, Device: 5,
		Ops: []Op{{Type: OpPut, Collection: 2, Modified: 42, Name: "a.vcf", ContentType: "text/vcard", Body: []byte("hi")}},
	}
	checkExample(t, "../docs/formats/change.md", "change", encodeSalted(t, &c, 0x5a))
}

// encodeSalted is Encode with a salt that is known.
func encodeSalted(t *testing.T, c *Change, salt byte) []byte {
	t.Helper()
	p := mustEncode(t, c)
	got, err := ParseChange(p)
	if err != nil {
		t.Fatal(err)
	}
	canon, err := Canonical(p)
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.Clone(canon)
	for i := range got.Ops {
		o := &got.Ops[i]
		for k := range o.salt {
			o.salt[k] = salt
		}
		out = o.appendBeside(out, 0)
		copy(out[changeHeader+i*opEntry+1:], o.Commitment[:])
	}
	if _, err := ParseChange(out); err != nil {
		t.Fatalf("the example does not parse: %v", err)
	}
	return out
}
