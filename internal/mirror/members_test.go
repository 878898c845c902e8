package mirror

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"holdfast"
)

// TestMembers: the list is written once, read back, and a damaged one is told from a missing one.
func TestMembers(t *testing.T) {
	t.Parallel()
	m := newWorld(t, 1).m
	if _, err := m.Members(t.Context()); !errors.Is(err, holdfast.ErrNotFound) {
		t.Errorf("before it was written: got %v, want ErrNotFound", err)
	}
	all := []Member{{m.ID(), "usb", "/mnt/usb/mirror"}, {strings.Repeat("ab", 16), "shed", "/mnt/shed"}}
	if err := m.SetMembers(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	steps := 0
	m.hooks.step = func(string, ...any) { steps++ }
	if err := m.SetMembers(t.Context(), all); err != nil || steps != 0 {
		t.Errorf("the same list again: %v, %d writes", err, steps)
	}
	got, err := m.Members(t.Context())
	if err != nil || !reflect.DeepEqual(got, all) {
		t.Errorf("got %v, %v; want %v", got, err, all)
	}
	if err := m.SetMembers(t.Context(), nil); !errors.Is(err, holdfast.ErrCorrupt) {
		t.Errorf("an empty list: got %v, want ErrCorrupt", err)
	}
	if err := m.cfg.Bucket.Put(t.Context(), membersName, strings.NewReader("{"), false); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Members(t.Context()); !errors.Is(err, holdfast.ErrCorrupt) {
		t.Errorf("damaged: got %v, want ErrCorrupt", err)
	}
	if err := m.SetMembers(t.Context(), all); err != nil {
		t.Errorf("replace a damaged list: %v", err)
	}
}

func FuzzMembers(f *testing.F) {
	f.Add([]byte(`{"format":1,"server":"01020300000000000000000000000000","members":[{"id":"00112233445566778899aabbccddeeff","name":"usb","path":"/mnt"}]}`))
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := parseMembers(b, holdfast.ServerID{1, 2, 3})
		if err == nil && len(all) == 0 {
			t.Error("no error and no member")
		}
		if err != nil && !errors.Is(err, holdfast.ErrCorrupt) {
			t.Errorf("got %v, want ErrCorrupt", err)
		}
	})
}
