package dav

import (
	"fmt"
	"testing"
)

// The memory of repeats is bounded, and the oldest goes first.
func TestRepeatsBounded(t *testing.T) {
	var r repeats
	at := func(i int) version { return version{account: anna, collection: 2, name: fmt.Sprint(i)} }
	for i := range maxRepeats + 10 {
		r.add(at(i), state{exists: true, etag: fmt.Sprint(i)})
		r.add(at(i), state{exists: true, etag: fmt.Sprint(i)})
	}
	if len(r.before) != maxRepeats || len(r.ring) != maxRepeats {
		t.Errorf("%d versions in %d places, want %d", len(r.before), len(r.ring), maxRepeats)
	}
	if _, ok := r.replaced(at(9)); ok {
		t.Error("the oldest is still known")
	}
	if s, ok := r.replaced(at(10)); !ok || s.etag != "10" {
		t.Errorf("got %+v, %v", s, ok)
	}
}
