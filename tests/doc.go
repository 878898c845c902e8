// Package clients holds the tests that drive the built program from outside: stock clients that know
// nothing of Holdfast (vdirsyncer, khal, khard, todoman, calcurse, syncevolution, cadaver, rclone, davfs2, litmus,
// curl), and the faults a server meets: kill -9, a store that is deleted under it, a mirror that goes
// away, a full disk, power cuts and failing syncs on file systems of the real kernel, a second server on
// the same mirror, a clock that jumps. Each test asserts what the other device sees, not what a program printed.
//
// HOLDFAST_BIN names a binary to test instead of one built from this tree. -crash keeps the tests that
// play disasters going for a while, and at least to a floor (scripts/crash); -seed repeats a run; -update
// rewrites the golden files in testdata. Lines that begin with `totals:` say what such a test did, or that
// and why it could not run here.
package clients
