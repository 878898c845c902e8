package simdisk

import (
	"fmt"
	"syscall"
)

// Case is one line of a fault table: one fault at one step of something that has many.
type Case struct {
	Seed  uint64
	Step  int64 // of the run, from 1
	Fault Fault
	Errno error // what the step returned, if it failed
	Err   error // what the whole run returned
	Disk  *Disk // as the run left it; the power may be cut
}

// String describes the case.
func (c Case) String() string {
	what := map[Fault]string{FailBefore: "fails, nothing done", FailAfter: "fails, but done", CrashAt: "crash during", CrashAfter: "crash after"}[c.Fault]
	return fmt.Sprintf("seed %d, step %d: %s (%v), result: %v", c.Seed, c.Step, what, c.Errno, c.Err)
}

// FaultTable prepares a disk, makes it durable, and runs something on it once for each of its steps, each kind
// of fault and each of the given number of seeds; check judges what is left. It returns how many cases there
// were, and the first error of prepare or check. A run without a fault must return nil.
func FaultTable(seeds uint64, prepare, run func(*Disk) error, check func(Case) error) (cases int, err error) {
	fresh := func(seed uint64) (*Disk, error) {
		d := New(seed)
		err := prepare(d)
		d.Sync()
		return d, err
	}
	d, err := fresh(0)
	if err != nil {
		return 0, err
	}
	before := d.Steps()
	if err := run(d); err != nil {
		return 0, fmt.Errorf("without a fault: %w", err)
	}
	steps := d.Steps() - before
	faults := []struct {
		f   Fault
		err error
	}{
		{FailBefore, syscall.EIO},
		{FailBefore, syscall.ENOSPC},
		{FailAfter, syscall.EIO},
		{CrashAt, ErrCrashed},
		{CrashAfter, nil},
	}
	for step := int64(1); step <= steps; step++ {
		for _, f := range faults {
			for seed := range seeds {
				d, err := fresh(seed)
				if err != nil {
					return cases, err
				}
				d.Inject(d.Steps()+step, f.f, f.err)
				c := Case{Seed: seed, Step: step, Fault: f.f, Errno: f.err, Disk: d}
				c.Err = run(d)
				cases++
				if err := check(c); err != nil {
					return cases, fmt.Errorf("%v: %w", c, err)
				}
			}
		}
	}
	return cases, nil
}

// AfterCrash returns what the next start finds: in even seeds by chance, in odd ones without all that was not
// synced.
func (c Case) AfterCrash() *Disk {
	if c.Seed%2 == 1 {
		return c.Disk.CrashLosingAll()
	}
	return c.Disk.Crash()
}
