package store

import (
	"encoding/hex"
	"math"
	"os"
	"strings"
	"testing"
)

// TestFormatExample compares the example in docs/formats/store.md with the code, and its tables with the schema.
func TestFormatExample(t *testing.T) {
	doc, err := os.ReadFile("../../docs/formats/store.md")
	if err != nil {
		t.Fatal(err)
	}
	flat := strings.Join(strings.Fields(string(doc)), "")
	r := &Resource{
		Name: "a", Seq: 2, Body: hashBody([]byte("hello")), Size: 5, BodySeq: 2, BodyOffset: 200, ContentType: "text/plain",
		First: math.MinInt64, Last: math.MaxInt64,
	}
	if want := hex.EncodeToString(appendThin(nil, r)); !strings.Contains(flat, want) {
		t.Errorf("the document lacks the example %s", want)
	}
	for _, q := range sqlite.schema() {
		name, ok := strings.CutPrefix(q, "CREATE TABLE ")
		if name = strings.Fields(name)[0]; ok && !strings.Contains(string(doc), "\n| `"+name+"` |") {
			t.Errorf("the document lacks table %s", name)
		}
		keyed := strings.HasPrefix(q, "CREATE UNIQUE INDEX") || strings.Contains(q, "PRIMARY KEY")
		leads := strings.Contains(q, "(account_id") || strings.Contains(q, "account_id INTEGER NOT NULL PRIMARY KEY")
		if keyed && !leads && name != "meta" {
			t.Errorf("no key that leads with account_id: %s", q)
		}
	}
}
