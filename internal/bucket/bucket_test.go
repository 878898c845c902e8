package bucket

import (
	"errors"
	"strings"
	"testing"

	"holdfast"
)

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "a/b", "log/0000000000000001-00000000000000ff/0000000000000001.open", "A-Z_a.z/0", strings.Repeat("a", MaxSegment)} {
		if err := CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		for _, prefix := range []string{name, name + "/"} {
			if err := CheckPrefix(prefix); err != nil {
				t.Errorf("prefix %q: %v", prefix, err)
			}
		}
	}
	if err := CheckPrefix(""); err != nil {
		t.Errorf("the empty prefix: %v", err)
	}
	for _, name := range []string{"", "/", "a/", "/a", "a//b", ".", "..", "a/..", ".tmp-a", "a b", "a\n", "é", strings.Repeat("a", MaxSegment+1), strings.Repeat("a/", MaxName) + "a"} {
		if err := CheckName(name); !errors.Is(err, holdfast.ErrInvalid) {
			t.Errorf("%q: got %v, want ErrInvalid", name, err)
		}
	}
}

func TestBlobName(t *testing.T) {
	h := holdfast.Hash{1, 2, 0xff}
	name := BlobName(0xab, h)
	if want := "blobs/00000000000000ab/0102ff" + strings.Repeat("0", 58); name != want {
		t.Errorf("got %q, want %q", name, want)
	}
	if err := CheckName(name); err != nil {
		t.Error(err)
	}
	a, got, err := ParseBlobName(name)
	if a != 0xab || got != h || err != nil {
		t.Errorf("got %v, %v, %v", a, got, err)
	}
}

func FuzzParseBlobName(f *testing.F) {
	f.Add(BlobName(7, holdfast.Hash{9}))
	f.Add("blobs/00000000000000AB/" + strings.Repeat("0", 64))
	f.Add("blobs//")
	f.Fuzz(func(t *testing.T, name string) {
		a, h, err := ParseBlobName(name)
		if err != nil {
			if !errors.Is(err, holdfast.ErrInvalid) {
				t.Errorf("%q: got %v, want ErrInvalid", name, err)
			}
			return
		}
		if BlobName(a, h) != name || CheckName(name) != nil {
			t.Errorf("%q is read as %v, %v", name, a, h)
		}
	})
}
