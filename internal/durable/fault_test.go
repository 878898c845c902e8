package durable_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/durable/simdisk"
)

var (
	older = bytes.Repeat([]byte("older "), 1000)
	newer = bytes.Repeat([]byte("newer."), 1500)
)

// read returns what a file holds, nil when there is none.
func read(fsys durable.FS, name string) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, holdfast.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	i, err := f.Stat()
	if err != nil {
		return nil, err
	}
	p := make([]byte, i.Size)
	if _, err := f.ReadAt(p, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return p, nil
}

// outcome checks that name holds one of the allowed contents (nil: it is not there).
func outcome(fsys durable.FS, name string, allowed ...[]byte) error {
	got, err := read(fsys, name)
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

// faultTest is a function under test and what it may leave.
type faultTest struct {
	what         string
	prepare, run func(d *simdisk.Disk) error
	check        func(fsys durable.FS, done bool) error
}

// states: when it is done name holds the first, otherwise any of them (nil: it is not there).
func states(name string, allowed ...[]byte) func(fsys durable.FS, done bool) error {
	return func(fsys durable.FS, done bool) error {
		if done {
			return outcome(fsys, name, allowed[0])
		}
		return outcome(fsys, name, allowed...)
	}
}

func prepareOld(d *simdisk.Disk) error {
	return durable.Create(d, "/d/x", older, durable.FilePerm)
}

func fileTests() []faultTest {
	return []faultTest{
		{
			"Create", nil,
			func(d *simdisk.Disk) error { return durable.Create(d, "/d/x", newer, durable.FilePerm) },
			states("/d/x", newer, nil),
		},
		{
			"CreateFrom", nil,
			func(d *simdisk.Disk) error {
				n, _, err := durable.CreateFrom(d, "/d/x", bytes.NewReader(newer), durable.FilePerm)
				if err == nil && n != int64(len(newer)) {
					return fmt.Errorf("got size %d", n)
				}
				return err
			},
			states("/d/x", newer, nil),
		},
		{
			"Replace", prepareOld,
			func(d *simdisk.Disk) error { return durable.Replace(d, "/d/x", newer, durable.FilePerm) },
			states("/d/x", newer, older),
		},
		{
			"Remove", prepareOld,
			func(d *simdisk.Disk) error { return durable.Remove(d, "/d/x") },
			states("/d/x", nil, older),
		},
		{
			"Reserve and Release", nil,
			func(d *simdisk.Disk) error {
				for range 2 {
					if err := durable.Reserve(d, "/d/reserve", 8192); err != nil {
						return err
					}
				}
				return durable.Release(d, "/d/reserve")
			},
			states("/d/reserve", nil, make([]byte, 8192)),
		},
	}
}

func nameTests() []faultTest {
	return []faultTest{
		{
			"Rename across directories",
			func(d *simdisk.Disk) error { return errors.Join(d.Mkdir("/e", durable.DirPerm), prepareOld(d)) },
			func(d *simdisk.Disk) error { return durable.Rename(d, "/d/x", "/e/y", false) },
			func(f durable.FS, done bool) error {
				if !done && outcome(f, "/d/x", older) == nil { // both names, or the old one only
					return outcome(f, "/e/y", older, nil)
				}
				return errors.Join(outcome(f, "/d/x", nil), outcome(f, "/e/y", older))
			},
		},
		{
			"MkdirAll", nil,
			func(d *simdisk.Disk) error { return durable.MkdirAll(d, "/d/e/f") },
			func(f durable.FS, done bool) error {
				if _, err := f.Stat("/d/e/f"); done && err != nil {
					return err
				}
				return nil
			},
		},
		{
			"MkdirBelow and Create", nil,
			func(d *simdisk.Disk) error {
				if err := durable.MkdirBelow(d, "/d", "e/f"); err != nil {
					return err
				}
				return durable.Create(d, "/d/e/f/x", newer, durable.FilePerm)
			},
			states("/d/e/f/x", newer, nil),
		},
	}
}

// Every durable step of every function, failed in every way: what is there afterwards, before and after a
// crash, is the whole old state or the whole new one, and the new one when nil was returned.
func TestFaultTable(t *testing.T) {
	for _, test := range append(fileTests(), nameTests()...) {
		prepare := func(d *simdisk.Disk) error {
			if err := d.Mkdir("/d", durable.DirPerm); err != nil || test.prepare == nil {
				return err
			}
			return test.prepare(d)
		}
		n, err := simdisk.FaultTable(10, prepare, test.run, func(c simdisk.Case) error {
			if c.Errno != nil && c.Err == nil {
				return fmt.Errorf("a fault was swallowed")
			}
			if !c.Disk.Dead() {
				if err := test.check(c.Disk, c.Err == nil); err != nil {
					return fmt.Errorf("at once: %w", err)
				}
			}
			if err := test.check(c.AfterCrash(), c.Err == nil); err != nil {
				return fmt.Errorf("after a crash: %w", err)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", test.what, err)
		}
		if n < 80 {
			t.Errorf("%s: only %d cases", test.what, n)
		}
	}
}

// A failed sync is ErrFatal and never ErrFull; a full disk is ErrFull, leaves nothing, and works again with room.
func TestFull(t *testing.T) {
	d := simdisk.New(1)
	d.SetCapacity(int64(len(newer)) - 1)
	err := durable.Create(d, "/x", newer, durable.FilePerm)
	if !errors.Is(err, holdfast.ErrFull) || errors.Is(err, holdfast.ErrFatal) {
		t.Fatalf("got %v, want ErrFull", err)
	}
	for e := range d.ReadDir("/") {
		t.Errorf("%s is left", e.Name)
	}
	d.SetCapacity(0)
	if err := durable.Create(d, "/x", newer, durable.FilePerm); err != nil {
		t.Fatal(err)
	}
	d.FailSyncs(1)
	if err := durable.Replace(d, "/x", older, durable.FilePerm); !errors.Is(err, holdfast.ErrFatal) {
		t.Errorf("got %v, want ErrFatal", err)
	}
	if err := outcome(d, "/x", newer); err != nil {
		t.Error(err)
	}
}

func TestSweep(t *testing.T) {
	d := simdisk.New(1)
	for _, name := range []string{".tmp-a.0", ".tmp-b.0", "a", ".hidden"} {
		if err := durable.Create(d, name, []byte("x"), durable.FilePerm); err != nil {
			t.Fatal(err)
		}
	}
	i, err := d.Stat("a")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		before time.Time
		want   int
	}{{i.Modified.Add(-time.Hour), 0}, {i.Modified.Add(time.Hour), 1}} {
		n, err := durable.Sweep(d, "/", c.before, "/.tmp-b.0")
		if err != nil || n != c.want {
			t.Errorf("before %v: got %d, %v, want %d", c.before, n, err, c.want)
		}
	}
	for name, want := range map[string]bool{".tmp-a.0": false, ".tmp-b.0": true, "a": true, ".hidden": true} {
		if _, err := d.Stat(name); (err == nil) != want {
			t.Errorf("%s: there: %v, want %v", name, err == nil, want)
		}
	}
}
