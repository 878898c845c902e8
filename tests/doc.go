// Package clients holds the tests that drive the built program from outside: stock clients that know
// nothing of Holdfast (vdirsyncer, khal, khard, todoman, calcurse, cadaver, rclone, davfs2, litmus,
// curl), and the faults a server meets: kill -9, a store that is deleted under it, a mirror that goes
// away, a full disk. Each test asserts what the other device sees, not what a program printed.
//
// HOLDFAST_BIN names a binary to test instead of one built from this tree. -crash keeps the kill -9
// test going for a while; -seed repeats a run; -update rewrites the golden files in testdata.
package clients
