package frame

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"holdfast"
)

func sample() *Change {
	return &Change{
		Account: 7, Epoch: 1, Seq: 3, Term: holdfast.Term{Number: 2, Random: 99}, Time: 1700000000123, Device: 5,
		Ops: []Op{
			{Type: OpPutCollection, Collection: 2, Parent: 1, Kind: holdfast.KindCard, Name: "contacts", Props: []holdfast.Property{{Name: "{DAV:}displayname", Value: "Kontakte"}}},
			{Type: OpPut, Collection: 2, Modified: 42, Name: "a b+@ü.vcf", ContentType: "text/vcard", Body: []byte("BEGIN:VCARD\r\nEND:VCARD\r\n")},
			{Type: OpPut, Collection: 2, Name: "empty", Body: []byte{}},
			{Type: OpPut, Collection: 3, Name: "big.jpg", ContentType: "image/jpeg", Blob: &Blob{Hash: holdfast.Hash{1, 2}, Size: 1 << 33}},
			{Type: OpSetProperties, Collection: 3, Name: "big.jpg", Props: []holdfast.Property{}},
			{Type: OpDelete, Collection: 2, Name: "old.vcf"},
			{Type: OpDeleteCollection, Collection: 9},
		},
	}
}

func sampleLoss() *Change {
	return &Change{
		Account: 7, Epoch: 2, Seq: 21, Term: holdfast.Term{Number: 2, Random: 99}, Time: 1700000000123,
		Ops: []Op{LossOp(&Loss{Common: 15, Witnesses: []LossWitness{
			{Epoch: 1, Seq: 25, Prefix: []byte{1, 2, 3, 4, 5, 6, 7, 8}, Source: "sync token of device 3"},
			{Epoch: 1, Seq: 24, Prefix: make([]byte, 32), Source: "head file"},
		}})},
	}
}

func TestLoss(t *testing.T) {
	c := sampleLoss()
	want, err := c.Ops[0].Loss()
	if err != nil || want.Common != 15 || len(want.Witnesses) != 2 || want.Witnesses[0].Source != "sync token of device 3" {
		t.Fatalf("got %+v, %v", want, err)
	}
	read, err := ParseChange(mustEncode(t, c))
	if err != nil {
		t.Fatal(err)
	}
	got, err := read.Ops[0].Loss()
	if d := cmp.Diff(want, got); err != nil || d != "" || !read.RaisesEpoch() || sample().RaisesEpoch() {
		t.Errorf("round trip: %v, raises %v (-want +got):\n%s", err, read.RaisesEpoch(), d)
	}
	for name, edit := range map[string]func(o *Op){
		"no common":  func(o *Op) { o.Props = nil },
		"a name":     func(o *Op) { o.Name = "x" },
		"short seq":  func(o *Op) { o.Props[0].Value = "f" },
		"no witness": func(o *Op) { o.Props[1].Value = "1 2" },
		"no hash":    func(o *Op) { o.Props[1].Value = "1 0000000000000002  x" },
		"too many":   func(o *Op) { o.Props = append(o.Props, make([]holdfast.Property, MaxLossWitnesses)...) },
	} {
		c := sampleLoss()
		edit(&c.Ops[0])
		if _, err := c.Encode(nil); !errors.Is(err, holdfast.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	c.Ops = append(c.Ops, Op{Type: OpDelete, Collection: 1, Name: "x"})
	if _, err := c.Encode(nil); !errors.Is(err, holdfast.ErrInvalid) {
		t.Errorf("beside another operation: got %v, want ErrInvalid", err)
	}
}

func mustEncode(t testing.TB, c *Change) []byte {
	t.Helper()
	p, err := c.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestChangeRoundTrip(t *testing.T) {
	c := sample()
	p := mustEncode(t, c)
	got, err := ParseChange(p)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(c, got, cmpopts.IgnoreUnexported(Op{})); d != "" {
		t.Errorf("round trip (-want +got):\n%s", d)
	}
	for i, o := range got.Ops {
		if o.Body != nil && !bytes.Equal(p[o.BodyOffset:o.BodyOffset+len(o.Body)], o.Body) {
			t.Errorf("operation %d: BodyOffset %d does not point at the body", i, o.BodyOffset)
		}
	}
}

// Every single flipped bit is found, by a commitment or by the chain.
func TestChangeBitFlips(t *testing.T) {
	p := mustEncode(t, sample())
	want, err := ChainHash(holdfast.Hash{}, p)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(p) * 8 {
		q := bytes.Clone(p)
		q[bit/8] ^= 1 << (bit % 8)
		h, err := ChainHash(holdfast.Hash{}, q)
		if err == nil && h == want {
			if _, err := ParseChange(q); err == nil {
				t.Fatalf("bit %d flipped unseen", bit)
			}
		}
	}
}

func TestChangeTruncated(t *testing.T) {
	p := mustEncode(t, sample())
	for n := range p {
		if _, err := ParseChange(p[:n]); !errors.Is(err, holdfast.ErrCorrupt) {
			t.Fatalf("%d of %d bytes: got %v, want ErrCorrupt", n, len(p), err)
		}
	}
	if _, err := ParseChange(append(bytes.Clone(p), 0)); !errors.Is(err, holdfast.ErrCorrupt) {
		t.Fatalf("one byte too many: got %v, want ErrCorrupt", err)
	}
}

func TestErase(t *testing.T) {
	p := mustEncode(t, sample())
	q, err := Erase(p, func(i int) bool { return i == 1 })
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(q, []byte("VCARD\r\n")) || bytes.Contains(q, []byte("a b+@")) {
		t.Error("the erased operation can still be read")
	}
	h1, _ := ChainHash(holdfast.Hash{9}, p)
	h2, err := ChainHash(holdfast.Hash{9}, q)
	if err != nil || h1 != h2 {
		t.Errorf("chain hash changed: %v, %v, %v", h1, h2, err)
	}
	c, err := ParseChange(q)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Ops[1].Erased || c.Ops[0].Erased || c.Ops[0].Name != "contacts" {
		t.Errorf("wrong operations erased: %+v", c.Ops)
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, edit := range map[string]func(*Change){
		"no operations":  func(c *Change) { c.Ops = nil },
		"no term":        func(c *Change) { c.Term.Number = 0 },
		"no collection":  func(c *Change) { c.Ops[0].Collection = 0 },
		"type 0":         func(c *Change) { c.Ops[0].Type = 0 },
		"large body":     func(c *Change) { c.Ops[1].Body = make([]byte, holdfast.MaxInline+1) },
		"put no body":    func(c *Change) { c.Ops[1].Body = nil },
		"long name":      func(c *Change) { c.Ops[1].Name = string(make([]byte, maxDetail)) },
		"delete a body":  func(c *Change) { c.Ops[5].Body = []byte{1} },
		"too many ops":   func(c *Change) { c.Ops = make([]Op, MaxOps+1) },
		"too many props": func(c *Change) { c.Ops[0].Props = make([]holdfast.Property, maxProps+1) },
	} {
		c := sample()
		edit(c)
		if _, err := c.Encode(nil); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

func FuzzParseChange(f *testing.F) {
	f.Add(mustEncode(f, sample()))
	f.Add(mustEncode(f, sampleLoss()))
	f.Fuzz(func(t *testing.T, p []byte) {
		c, err := ParseChange(p)
		if err != nil {
			return
		}
		q, err := Erase(p, func(int) bool { return false })
		if err != nil {
			t.Fatalf("parsed, but not encoded again: %v", err)
		}
		if !bytes.Equal(p, q) {
			t.Fatalf("encoded again differently:\n%x\n%x", p, q)
		}
		_ = c
	})
}
