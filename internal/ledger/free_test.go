package ledger

import (
	"errors"
	"strings"
	"testing"
	"time"

	"holdfast/internal/durable"
)

// hanging is a disk on which one path does not answer the question for room.
type hanging struct {
	durable.FS
	path string
	stop chan struct{}
	hung chan struct{} // one for each question that hangs
}

func (h *hanging) FreeBytes(name string) (int64, error) {
	if name == h.path {
		select {
		case h.hung <- struct{}{}:
		default:
		}
		<-h.stop
		return 0, errors.New("stale file handle")
	}
	return 5 << 30, nil
}

// TestStatusOfHangingDisk: a file system that does not answer makes the status say so, not wait; and it is
// asked by one goroutine only, however often the status is looked at.
func TestStatusOfHangingDisk(t *testing.T) {
	h := &hanging{durable.Disk, "/mnt/nas", make(chan struct{}), make(chan struct{}, 100)}
	l := &Ledger{cfg: Config{FS: h, Dir: "/data"}.withDefaults(), info: []MirrorStatus{{Name: "nas", Path: "/mnt/nas", State: "complete"}, {Name: "usb", Path: "/mnt/usb", State: "complete"}}}
	l.scrub = newScrubber(l)
	for range 5 {
		s := l.Status()
		if nas := s.Mirrors[0]; nas.FreeBytes != -1 || nas.Silent <= 0 || nas.Complete() {
			t.Fatalf("the mirror that hangs: got %+v", nas)
		}
		if usb := s.Mirrors[1]; usb.FreeBytes != 5<<30 || usb.Silent != 0 || !usb.Complete() || s.FreeBytes != 5<<30 {
			t.Fatalf("the others: got %+v, store %d", usb, s.FreeBytes)
		}
		if tr := strings.Join(s.Troubles(), "\n"); !strings.Contains(tr, "mirror nas has not answered") {
			t.Fatalf("troubles: %q", tr)
		}
	}
	if n := len(h.hung); n != 1 {
		t.Errorf("it was asked %d times, want 1", n)
	}
	close(h.stop)
	for end := time.After(10 * time.Second); ; {
		if s := l.Status(); s.Mirrors[0].Silent == 0 {
			if s.Mirrors[0].FreeBytes != -1 {
				t.Errorf("an error is no number: %+v", s.Mirrors[0])
			}
			return
		}
		select {
		case <-end:
			t.Fatal("the mirror that answers again is still said to hang")
		default:
		}
	}
}

// TestMirrorLag: a mirror that goes away keeps the number it had, and the time.
func TestMirrorLag(t *testing.T) {
	r := newRig(t)
	s := r.Status()
	if m := s.Mirrors[0]; m.Changes != s.Changes || m.Changes == 0 || m.Missing != nil || len(s.Troubles()) > 0 {
		t.Fatalf("complete: %+v of %d, %q", m, s.Changes, s.Troubles())
	}
	r.noteMirror(place{MirrorConfig: r.cfg.Mirrors[0]}, nil, errors.New("away"))
	r.Ledger.mu.Lock()
	h := r.heads[person]
	h.Head.Seq += 5
	r.heads[person] = h
	r.Ledger.mu.Unlock()
	got := r.Status()
	if m := got.Mirrors[0]; m.Changes != s.Changes || m.Missing == nil || got.Changes != s.Changes+5 || m.Complete() {
		t.Errorf("away: %+v of %d, want %d and a time", m, got.Changes, s.Changes)
	}
	if tr := got.Troubles(); len(tr) == 0 || tr[0] != "mirror disk2 is not complete: away" {
		t.Errorf("troubles: %q", got.Troubles())
	}
	h.Head.Seq -= 5
	r.Ledger.mu.Lock()
	r.heads[person] = h
	r.Ledger.mu.Unlock()
}

// TestStepUnderWay: a write that hangs in a step shows in the status while it hangs, and not after.
func TestStepUnderWay(t *testing.T) {
	r := newRig(t)
	hold, held := make(chan struct{}), make(chan struct{})
	r.Ledger.fault = func(step string) error {
		if step == "before append" {
			held <- struct{}{}
			<-hold
		}
		return nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.put("x", "y"); err != nil {
			t.Errorf("put: %v", err)
		}
	}()
	<-held
	if s := r.Status(); s.Step != "append" || s.StepTook <= 0 || s.Hangs() {
		t.Errorf("under way: %q, %v", s.Step, s.StepTook)
	}
	close(hold)
	<-done
	if s := r.Status(); s.Step != "" || s.StepTook != 0 {
		t.Errorf("after it: %q, %v", s.Step, s.StepTook)
	}
	hung := Status{State: "open", Step: "append", StepTook: 2 * hangsAfter}
	if tr := hung.Troubles(); len(tr) != 1 || !strings.Contains(tr[0], "a write has waited for 30s (step append)") {
		t.Errorf("troubles: %q", tr)
	}
}
