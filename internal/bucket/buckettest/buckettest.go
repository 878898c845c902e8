// Package buckettest checks that a bucket keeps its contract. The tests of every implementation run it, and an
// operator runs the same checks on a real one with `holdfast bucket test`.
//
// It writes only below Prefix and removes what it made. What a power cut does it cannot show.
package buckettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing/iotest"
	"time"

	"holdfast"
	"holdfast/internal/bucket"
)

// Prefix begins the name of every object that the checks make.
const Prefix = "holdfast-bucket-test/"

// Check is one promise. Run returns nil when the bucket keeps it. Checks may run at the same time.
type Check struct {
	Name string
	run  func(t *tester) error
}

// Checks returns all checks.
func Checks() []Check {
	return []Check{
		{"round-trip", roundTrip},
		{"absent", absent},
		{"exclusive", exclusive},
		{"exclusive-race", exclusiveRace},
		{"replace", replace},
		{"broken-body", brokenBody},
		{"list", list},
		{"bad-names", badNames},
		{"cancelled", cancelled},
		{"append", appendObject},
		{"append-beyond-size", appendBeyond},
		{"append-exclusive", appendExclusive},
		{"append-removed", appendRemoved},
		{"seal-taken", sealTaken},
	}
}

// Run runs the check and removes what it made.
func (c Check) Run(ctx context.Context, b bucket.Bucket) error {
	t := &tester{ctx, b, Prefix + c.Name + "/"}
	if err := t.clean(); err != nil { // of a run that died
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	err := c.run(t)
	if cerr := t.clean(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	return nil
}

type tester struct {
	ctx    context.Context
	b      bucket.Bucket
	prefix string
}

func (t *tester) clean() error {
	names, err := t.names("")
	for _, n := range names {
		err = errors.Join(err, t.b.Remove(t.ctx, t.prefix+n))
	}
	return err
}

func (t *tester) put(name string, p []byte, exclusive bool) error {
	return t.b.Put(t.ctx, t.prefix+name, bytes.NewReader(p), exclusive)
}

// names lists what lies below the check's own prefix, without that prefix.
func (t *tester) names(prefix string) ([]string, error) {
	var out []string
	for i, err := range t.b.List(t.ctx, t.prefix+prefix) {
		if err != nil {
			return out, err
		}
		out = append(out, strings.TrimPrefix(i.Name, t.prefix))
	}
	return out, nil
}

// holds checks the content of an object, read whole and in pieces.
func (t *tester) holds(name string, want []byte) error {
	o, err := t.b.Open(t.ctx, t.prefix+name)
	if err != nil {
		return err
	}
	defer o.Close() //nolint:errcheck // opened to read
	if o.Size() != int64(len(want)) {
		return fmt.Errorf("%s: got size %d, want %d", name, o.Size(), len(want))
	}
	got, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size()))
	if err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("%s: got %d other bytes (%w)", name, len(got), err)
	}
	if len(want) > 2 {
		p := make([]byte, len(want))
		n, err := o.ReadAt(p, 1)
		if n != len(want)-1 || !errors.Is(err, io.EOF) || !bytes.Equal(p[:n], want[1:]) {
			return fmt.Errorf("%s: read beyond the end: got %d bytes, %w; want %d and io.EOF", name, n, err, len(want)-1)
		}
	}
	i, err := t.b.Stat(t.ctx, t.prefix+name)
	if err != nil || i.Size != int64(len(want)) || i.Name != t.prefix+name || i.Modified.IsZero() {
		return fmt.Errorf("%s: stat: got %+v, %w", name, i, err)
	}
	return nil
}

// is checks an error.
func is(what string, got, want error) error {
	if !errors.Is(got, want) {
		return fmt.Errorf("%s: got error %v, want %v", what, got, want)
	}
	return nil
}

// noise returns n bytes that do not compress, the same for the same n.
func noise(n int) []byte {
	var seed [32]byte
	seed[0], seed[1], seed[2] = byte(n), byte(n>>8), byte(n>>16)
	p := make([]byte, n)
	_, _ = rand.NewChaCha8(seed).Read(p) // never fails
	return p
}

func roundTrip(t *tester) error {
	for _, n := range []int{0, 1, 511, 512, 4096, 65537, 1 << 20} {
		name := fmt.Sprintf("size-%d", n)
		if err := t.put(name, noise(n), false); err != nil {
			return err
		}
		if err := t.holds(name, noise(n)); err != nil {
			return err
		}
	}
	if err := t.put("a/b/c/d.txt", []byte("deep"), true); err != nil {
		return err
	}
	return t.holds("a/b/c/d.txt", []byte("deep"))
}

func absent(t *tester) error {
	_, openErr := t.b.Open(t.ctx, t.prefix+"none")
	_, statErr := t.b.Stat(t.ctx, t.prefix+"none")
	_, deepErr := t.b.Open(t.ctx, t.prefix+"no/such/thing")
	if err := errors.Join(
		is("open", openErr, holdfast.ErrNotFound),
		is("open below nothing", deepErr, holdfast.ErrNotFound),
		is("stat", statErr, holdfast.ErrNotFound),
		is("remove", t.b.Remove(t.ctx, t.prefix+"none"), holdfast.ErrNotFound),
	); err != nil {
		return err
	}
	if errors.Is(openErr, holdfast.ErrAbsent) {
		return fmt.Errorf("an object that is not there was called an absent bucket: %w", openErr)
	}
	if err := t.put("here/x", nil, false); err != nil {
		return err
	}
	if err := t.put("here/x/y", nil, false); err == nil || errors.Is(err, holdfast.ErrAbsent) {
		// A bucket may allow it (S3 does), but must not mistake itself for gone.
		if err != nil {
			return fmt.Errorf("put below an object: %w", err)
		}
		if err := t.b.Remove(t.ctx, t.prefix+"here/x/y"); err != nil {
			return err
		}
	}
	_, err := t.b.Open(t.ctx, t.prefix+"here") // what lies below it does not make it an object
	return is("open a directory", err, holdfast.ErrNotFound)
}

func exclusive(t *tester) error {
	if err := t.put("x", []byte("first"), true); err != nil {
		return err
	}
	if err := is("second", t.put("x", []byte("second"), true), holdfast.ErrExists); err != nil {
		return err
	}
	return t.holds("x", []byte("first"))
}

// exclusiveRace: of many at once, exactly one gets the name, and it is that one's body that stays.
func exclusiveRace(t *tester) error {
	const racers = 16
	errs := make([]error, racers)
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() { errs[i] = t.put("x", noise(1000+i), true) })
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			return fmt.Errorf("both %d and %d got the name", winner, i)
		case err == nil:
			winner = i
		case !errors.Is(err, holdfast.ErrExists):
			return err
		}
	}
	if winner < 0 {
		return errors.New("nobody got the name")
	}
	return t.holds("x", noise(1000+winner))
}

func replace(t *tester) error {
	for _, n := range []int{3000, 10, 0, 5000} {
		if err := t.put("x", noise(n), false); err != nil {
			return err
		}
		if err := t.holds("x", noise(n)); err != nil {
			return err
		}
	}
	o, err := t.b.Open(t.ctx, t.prefix+"x") // an open object is not changed by its successor
	if err != nil {
		return err
	}
	defer o.Close() //nolint:errcheck // opened to read
	if err := t.put("x", noise(100), false); err != nil {
		return err
	}
	got, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size()))
	if err == nil && !bytes.Equal(got, noise(5000)) {
		return errors.New("an open object changed")
	}
	return nil
}

// brokenBody: a body that ends in an error leaves nothing, or what was there.
func brokenBody(t *tester) error {
	broken := errors.New("the sender went away")
	body := func() io.Reader { return io.MultiReader(bytes.NewReader(noise(300_000)), iotest.ErrReader(broken)) }
	if err := is("put", t.b.Put(t.ctx, t.prefix+"x", body(), true), broken); err != nil {
		return err
	}
	if names, err := t.names(""); err != nil || len(names) != 0 {
		return fmt.Errorf("a broken body left %q (%w)", names, err)
	}
	if err := t.put("x", []byte("whole"), false); err != nil {
		return err
	}
	if err := is("replace", t.b.Put(t.ctx, t.prefix+"x", body(), false), broken); err != nil {
		return err
	}
	return t.holds("x", []byte("whole"))
}

func list(t *tester) error {
	names := []string{"a", "a-b", "a.b", "a/0", "a/b/c", "a/b.c", "a0", "b/x", "bb/x", "log/01/1.seg", "log/01/2.open", "log/010/1", "z"}
	names = slices.DeleteFunc(names, func(n string) bool { return n == "a" }) // the name of a directory
	for _, n := range names {
		if err := t.put(n, []byte(n), true); err != nil {
			return err
		}
	}
	slices.Sort(names)
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/b/", "b", "log/01", "log/01/", "z", "zz", "no/such/"} {
		var want []string
		for _, n := range names {
			if strings.HasPrefix(n, prefix) {
				want = append(want, n)
			}
		}
		got, err := t.names(prefix)
		if err != nil || !slices.Equal(got, want) {
			return fmt.Errorf("list %q: got %q (%w), want %q", prefix, got, err, want)
		}
	}
	for i, err := range t.b.List(t.ctx, t.prefix) { // ended early
		if err != nil || i.Size != int64(len(i.Name)-len(t.prefix)) || time.Since(i.Modified) > 100*365*24*time.Hour {
			return fmt.Errorf("list: got %+v, %w", i, err)
		}
		break
	}
	return nil
}

func badNames(t *tester) error {
	for _, n := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", ".a", "a/.b", "a b", "a\x00", "ä", "a\\b", "a:b", strings.Repeat("a", bucket.MaxSegment+1), strings.Repeat("a/", bucket.MaxName/2) + "a"} {
		_, openErr := t.b.Open(t.ctx, n)
		_, statErr := t.b.Stat(t.ctx, n)
		_, appendErr := t.b.Append(t.ctx, n, 10, nil)
		for what, err := range map[string]error{
			"put": t.b.Put(t.ctx, n, bytes.NewReader(nil), false), "open": openErr, "stat": statErr, "append": appendErr, "remove": t.b.Remove(t.ctx, n),
		} {
			if !errors.Is(err, holdfast.ErrInvalid) {
				return fmt.Errorf("%s of %q: got %w, want ErrInvalid", what, n, err)
			}
		}
	}
	return t.put(strings.Repeat("a", bucket.MaxSegment), nil, true)
}

func cancelled(t *tester) error {
	ctx, cancel := context.WithCancel(t.ctx)
	cancel()
	if err := is("put", t.b.Put(ctx, t.prefix+"x", bytes.NewReader(noise(10)), true), context.Canceled); err != nil {
		return err
	}
	_, err := t.b.Stat(t.ctx, t.prefix+"x")
	return is("stat", err, holdfast.ErrNotFound)
}

func appendObject(t *tester) error {
	const size = 100_000
	a, err := t.b.Append(t.ctx, t.prefix+"log/1.open", size, []byte("header"))
	if err != nil {
		return err
	}
	defer a.Close() //nolint:errcheck // closed below where it counts
	want := []byte("header")
	for i := range 50 {
		o, err := t.b.Open(t.ctx, t.prefix+"log/1.open")
		if err != nil {
			return err
		}
		got := make([]byte, len(want))
		_, err = o.ReadAt(got, 0)
		_ = o.Close()
		if err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(got, want) {
			return fmt.Errorf("after %d appends another content is read (%w)", i, err)
		}
		p := noise(1 + i*37)
		if err := a.Append(p); err != nil {
			return err
		}
		want = append(want, p...)
	}
	if err := a.Seal(t.ctx, t.prefix+"log/1.seg"); err != nil {
		return err
	}
	if err := a.Append([]byte("x")); err == nil {
		return errors.New("a sealed object was appended to")
	}
	if err := a.Close(); err != nil {
		return err
	}
	_, err = t.b.Stat(t.ctx, t.prefix+"log/1.open")
	if err := is("stat of the old name", err, holdfast.ErrNotFound); err != nil {
		return err
	}
	return t.holds("log/1.seg", want)
}

// appendBeyond: more than was asked for still goes in; closed unsealed, what was appended stays.
func appendBeyond(t *tester) error {
	a, err := t.b.Append(t.ctx, t.prefix+"x", 10, noise(4096))
	if err != nil {
		return err
	}
	err = a.Append(noise(10_000))
	if cerr := a.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return t.holds("x", append(noise(4096), noise(10_000)...))
}

func appendExclusive(t *tester) error {
	if err := t.put("x", []byte("here"), true); err != nil {
		return err
	}
	_, err := t.b.Append(t.ctx, t.prefix+"x", 1000, []byte("header"))
	if err := is("append", err, holdfast.ErrExists); err != nil {
		return err
	}
	return t.holds("x", []byte("here"))
}

// appendRemoved: what is appended to an object without a name is not durable, and must not be acknowledged.
func appendRemoved(t *tester) error {
	for what, do := range map[string]func() error{
		"removed":  func() error { return t.b.Remove(t.ctx, t.prefix+"x") },
		"replaced": func() error { return t.put("x", []byte("another"), false) },
	} {
		a, err := t.b.Append(t.ctx, t.prefix+"x", 1000, []byte("header"))
		if err != nil {
			return err
		}
		err = errors.Join(a.Append([]byte("one")), do())
		if err == nil {
			err = is("append to an object that was "+what, a.Append([]byte("two")), holdfast.ErrAbsent)
		}
		if err == nil {
			err = is("the append after that", a.Append([]byte("three")), holdfast.ErrAbsent)
		}
		if err == nil {
			err = is("seal", a.Seal(t.ctx, t.prefix+"y"), holdfast.ErrAbsent)
		}
		_ = a.Close()
		if err != nil {
			return err
		}
		if err := t.clean(); err != nil {
			return err
		}
	}
	return nil
}

func sealTaken(t *tester) error {
	if err := t.put("y", []byte("here"), true); err != nil {
		return err
	}
	a, err := t.b.Append(t.ctx, t.prefix+"x", 1000, []byte("header"))
	if err != nil {
		return err
	}
	err = is("seal", a.Seal(t.ctx, t.prefix+"y"), holdfast.ErrExists)
	_ = a.Close()
	if err != nil {
		return err
	}
	if err := t.holds("y", []byte("here")); err != nil {
		return err
	}
	o, err := t.b.Open(t.ctx, t.prefix+"x") // what was appended is still under the old name
	if err != nil {
		return err
	}
	defer o.Close() //nolint:errcheck // opened to read
	p := make([]byte, 6)
	if _, err := o.ReadAt(p, 0); err != nil && !errors.Is(err, io.EOF) || string(p) != "header" {
		return fmt.Errorf("got %q (%w), want the header", p, err)
	}
	return nil
}
