package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"holdfast"
	"holdfast/internal/bucket"
	"holdfast/internal/durable"
	"holdfast/internal/durable/simdisk"
)

var (
	older  = bytes.Repeat([]byte("older "), 700)
	newer  = bytes.Repeat([]byte("newer."), 1500)
	header = bytes.Repeat([]byte("H"), 4096)
)

func batch(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, 300+700*i) }

// content returns an object, nil when it is not there.
func content(b bucket.Bucket, name string) ([]byte, error) {
	o, err := b.Open(context.Background(), name)
	if errors.Is(err, holdfast.ErrNotFound) && !errors.Is(err, holdfast.ErrAbsent) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer o.Close()
	return io.ReadAll(io.NewSectionReader(o, 0, o.Size()))
}

func outcome(b bucket.Bucket, name string, allowed ...[]byte) error {
	got, err := content(b, name)
	if err != nil {
		return err
	}
	for _, a := range allowed {
		if bytes.Equal(got, a) && (got == nil) == (a == nil) {
			return nil
		}
	}
	return fmt.Errorf("%s has %d bytes, %.12q..., which is none of the %d allowed states", name, len(got), got, len(allowed))
}

// run opens the bucket, as a process would, and does something; its own spare stays behind as after a kill.
func run(do func(ctx context.Context, d *Dir) error) func(*simdisk.Disk) error {
	return func(s *simdisk.Disk) error {
		d, err := Open(s, "/bucket", WithSpare(InCall))
		if err != nil {
			return err
		}
		return do(context.Background(), d)
	}
}

func putBytes(ctx context.Context, d *Dir, name string, p []byte, exclusive bool) error {
	return d.Put(ctx, name, bytes.NewReader(p), exclusive)
}

// acked is what the last run of segmentLife was told is durable.
type acked struct {
	made, sealed bool
	data         []byte // appended and acknowledged
	all          []byte // appended, acknowledged or not
	revived      bool   // an append succeeded after one that failed
}

// segmentLife makes an object, appends three times and seals it.
func segmentLife(ctx context.Context, d *Dir, k *acked) error {
	*k = acked{data: bytes.Clone(header), all: bytes.Clone(header)}
	a, err := d.Append(ctx, "log/t/1.open", 16384, header)
	if err != nil {
		return err
	}
	defer a.Close()
	k.made = true
	for i := range 3 {
		k.all = append(k.all, batch(i)...)
		if err := a.Append(batch(i)); err != nil {
			k.revived = a.Append(batch(i)) == nil
			return err
		}
		k.data = append(k.data, batch(i)...)
	}
	if err := a.Seal(ctx, "log/t/1.seg"); err != nil {
		return err
	}
	k.sealed = true
	return nil
}

// check: the object is there if that was acknowledged, and begins with all that was; sealed, it is that exactly.
func (k *acked) check(b bucket.Bucket) error {
	if k.revived {
		return errors.New("an append succeeded after one that failed")
	}
	if k.sealed {
		return errors.Join(outcome(b, "log/t/1.seg", k.data), outcome(b, "log/t/1.open", nil))
	}
	open, err := content(b, "log/t/1.open")
	if err != nil {
		return err
	}
	seg, err := content(b, "log/t/1.seg")
	if err != nil {
		return err
	}
	if seg != nil {
		if !bytes.Equal(seg, k.all) {
			return fmt.Errorf("a sealed object of %d bytes, want %d", len(seg), len(k.all))
		}
		return nil
	}
	switch {
	case open == nil && k.made:
		return errors.New("the object is gone")
	case open != nil && !bytes.HasPrefix(open, k.data):
		return fmt.Errorf("the object has %d bytes and lacks what was acknowledged", len(open))
	}
	return nil
}

// faultTest is an operation under test and what it may leave.
type faultTest struct {
	what         string
	prepare, run func(*simdisk.Disk) error
	check        func(b bucket.Bucket, done bool) error // nil: checkCreated
}

// states: when it is done name holds the first, otherwise any of them (nil: it is not there).
func states(name string, allowed ...[]byte) func(b bucket.Bucket, done bool) error {
	return func(b bucket.Bucket, done bool) error {
		if done {
			return outcome(b, name, allowed[0])
		}
		return outcome(b, name, allowed...)
	}
}

func putTests() []faultTest {
	prepareOld := run(func(ctx context.Context, d *Dir) error { return putBytes(ctx, d, "a/b/x", older, true) })
	return []faultTest{
		{
			"put exclusive", nil,
			run(func(ctx context.Context, d *Dir) error { return putBytes(ctx, d, "a/b/x", newer, true) }),
			states("a/b/x", newer, nil),
		},
		{
			"replace", prepareOld,
			run(func(ctx context.Context, d *Dir) error { return putBytes(ctx, d, "a/b/x", newer, false) }),
			states("a/b/x", newer, older),
		},
		{
			"put taken", prepareOld,
			run(func(ctx context.Context, d *Dir) error {
				if err := putBytes(ctx, d, "a/b/x", newer, true); !errors.Is(err, holdfast.ErrExists) {
					return fmt.Errorf("want ErrExists: %w", err)
				}
				return nil
			}),
			states("a/b/x", older),
		},
		{
			"put named", nil,
			run(func(ctx context.Context, d *Dir) error {
				return d.PutNamed(ctx, "a/b", bytes.NewReader(newer), func() (string, bool, error) { return "x", false, nil })
			}),
			states("a/b/x", newer, nil),
		},
		{
			"remove", prepareOld,
			run(func(ctx context.Context, d *Dir) error { return d.Remove(ctx, "a/b/x") }),
			states("a/b/x", nil, older),
		},
	}
}

func otherTests() []faultTest {
	var k acked
	return []faultTest{
		{
			"append and seal", nil,
			run(func(ctx context.Context, d *Dir) error { return segmentLife(ctx, d, &k) }),
			func(b bucket.Bucket, _ bool) error { return k.check(b) },
		},
		{
			"create", nil,
			func(s *simdisk.Disk) error {
				d, err := Create(s, "/new/bucket")
				if err == nil {
					err = putBytes(context.Background(), d, "x", newer, true)
				}
				return err
			},
			nil,
		},
	}
}

// Each durable step of each operation, failed in every way: at once and after a crash there is the whole old
// state or the whole new one, the new one when nil was returned; and the operation can be done again.
func TestFaultTable(t *testing.T) {
	for _, test := range append(putTests(), otherTests()...) {
		prepare := func(s *simdisk.Disk) error {
			if _, err := Create(s, "/bucket"); err != nil || test.prepare == nil {
				return err
			}
			return test.prepare(s)
		}
		check := func(s *simdisk.Disk, done bool) error {
			if test.check == nil {
				return checkCreated(s, done)
			}
			d, err := Open(s, "/bucket", WithSpare(Off))
			if err != nil {
				return err
			}
			for _, err := range d.List(context.Background(), "") {
				if err != nil {
					return err
				}
			}
			return test.check(d, done)
		}
		n, err := simdisk.FaultTable(10, prepare, test.run, func(c simdisk.Case) error {
			if !c.Disk.Dead() {
				if err := check(c.Disk, c.Err == nil); err != nil {
					return fmt.Errorf("at once: %w", err)
				}
			}
			after := c.AfterCrash()
			if err := check(after, c.Err == nil); err != nil {
				return fmt.Errorf("after a crash: %w", err)
			}
			if test.check == nil || c.Err == nil {
				return nil
			}
			return again(after, test.run, check)
		})
		if err != nil {
			t.Errorf("%s: %v", test.what, err)
		}
		if n < 100 {
			t.Errorf("%s: only %d cases", test.what, n)
		}
	}
}

func checkCreated(s *simdisk.Disk, done bool) error {
	d, err := Open(s, "/new/bucket")
	if errors.Is(err, holdfast.ErrAbsent) && !done {
		return nil
	}
	if err != nil {
		return err
	}
	if done {
		return outcome(d, "x", newer)
	}
	return outcome(d, "x", newer, nil)
}

// again: what failed can be done once more after the restart, or is found done.
func again(s *simdisk.Disk, run func(*simdisk.Disk) error, check func(*simdisk.Disk, bool) error) error {
	err := run(s)
	if errors.Is(err, holdfast.ErrExists) || errors.Is(err, holdfast.ErrNotFound) { // done in the life before
		return nil
	}
	if err != nil {
		return fmt.Errorf("again: %w", err)
	}
	if err := check(s.CrashLosingAll(), true); err != nil {
		return fmt.Errorf("done again: %w", err)
	}
	return nil
}

// ErrExists is a statement about the medium: the name that another process made, and did not sync yet, is
// still taken after a crash.
func TestTakenIsDurable(t *testing.T) {
	s := simdisk.New(1)
	d, err := Create(s, "/bucket")
	if err != nil {
		t.Fatal(err)
	}
	put(t, d, "term/0", "")
	f, err := durable.NewDraft(s, "/bucket/term", "1", durable.FilePerm)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Commit("other", true); err != nil {
		t.Fatal(err)
	}
	if err := s.Rename("/bucket/term/other", "/bucket/term/1", false); err != nil {
		t.Fatal(err)
	}
	if err := putBytes(t.Context(), d, "term/1", newer, true); !errors.Is(err, holdfast.ErrExists) {
		t.Fatalf("got %v, want ErrExists", err)
	}
	if _, err := s.CrashLosingAll().Stat("/bucket/term/1"); err != nil {
		t.Error(err)
	}
}

// Each planted bug of the disk is noticed by the promises that the fault table checks.
func TestPlantedBugs(t *testing.T) {
	for what, c := range map[string]struct {
		bugs simdisk.Bugs
		eio  float64
	}{
		"ignore sync":           {simdisk.Bugs{IgnoreSync: true}, 0},
		"ignore directory sync": {simdisk.Bugs{IgnoreSyncDir: true}, 0},
		"ignore failed sync":    {simdisk.Bugs{IgnoreSyncError: true}, 0.1},
		"retry failed sync":     {simdisk.Bugs{RetrySync: true}, 0.1},
		"none":                  {},
		"failing syncs":         {simdisk.Bugs{}, 0.1},
	} {
		violations := 0
		for seed := range uint64(500) {
			s := simdisk.New(seed)
			if _, err := Create(s, "/bucket"); err != nil {
				t.Fatal(err)
			}
			s.Sync()
			s.SetBugs(c.bugs)
			s.FailSyncs(c.eio)
			s.CrashAt(int64(1 + s.Rand(60)))
			var k acked
			_ = run(func(ctx context.Context, d *Dir) error { return segmentLife(ctx, d, &k) })(s)
			s = s.Crash()
			d, err := Open(s, "/bucket", WithSpare(Off))
			if err != nil {
				t.Fatal(err)
			}
			if k.check(d) != nil {
				violations++
			}
		}
		if buggy := c.bugs != (simdisk.Bugs{}); buggy != (violations > 0) {
			t.Errorf("%s: %d of 500 schedules lost something", what, violations)
		} else {
			t.Logf("%s: %d of 500 schedules lost something", what, violations)
		}
	}
}

// The same seed gives the same trace through the whole bucket, over several lives.
func TestDeterministic(t *testing.T) {
	life := func(seed uint64) uint64 {
		s := simdisk.New(seed)
		if _, err := Create(s, "/bucket"); err != nil {
			t.Fatal(err)
		}
		s.Sync()
		for range 4 {
			s.FailSyncs(0.01)
			s.CrashAt(int64(1 + s.Rand(80)))
			var k acked
			_ = run(func(ctx context.Context, d *Dir) error {
				_ = putBytes(ctx, d, "heads", newer, false)
				_ = d.Remove(ctx, "log/t/1.seg")
				return segmentLife(ctx, d, &k)
			})(s)
			s = s.Crash()
		}
		return s.Trace()
	}
	for seed := range uint64(100) {
		if a, b := life(seed), life(seed); a != b {
			t.Fatalf("seed %d: got traces %x and %x", seed, a, b)
		}
	}
}

// BenchmarkSchedule is one life of a log on a simulated disk: open, 40 appends with a rotation after each 8,
// crash, read back.
func BenchmarkSchedule(b *testing.B) {
	ctx := context.Background()
	for i := 0; b.Loop(); i++ {
		s := simdisk.New(uint64(i))
		d, err := Create(s, "/bucket", WithSpare(InCall))
		if err != nil {
			b.Fatal(err)
		}
		s.CrashAt(int64(1 + s.Rand(200)))
		for n := range 5 {
			a, err := d.Append(ctx, fmt.Sprintf("log/t/%d.open", n), 32<<10, header)
			for k := 0; k < 8 && err == nil; k++ {
				err = a.Append(batch(k % 4))
			}
			if err == nil {
				err = a.Seal(ctx, fmt.Sprintf("log/t/%d.seg", n))
			}
			if err != nil {
				break
			}
		}
		d, err = Open(s.Crash(), "/bucket", WithSpare(Off))
		if err != nil {
			b.Fatal(err)
		}
		for i, err := range d.List(ctx, "") {
			if err != nil {
				b.Fatal(err)
			}
			if _, err := content(d, i.Name); err != nil {
				b.Fatal(err)
			}
		}
	}
}
