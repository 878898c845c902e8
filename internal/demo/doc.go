// Package demo shows the promise of Holdfast on one machine: a complete server over temporary
// directories, devices that speak to it over loopback as DAVx5 does, and a disaster while they write.
//
// A scenario (scenario.go) is a row of a table: what happens, what is done about it, what must be true
// in the end. show.go is the choreography that all share: fill, disaster, settle, compare.
//
// Invariant: the demo judges by what devices were told and what they hold. It keeps its own journal
// of acknowledged writes and compares it with the server and with every device; it never asks the
// ledger whether all is well. A lie can be planted (lie.go), and then it has to say so.
//
// The devices follow the public source of DAVx5 (bitfireAT/davx5-ose at 2534c16b) and dav4jvm
// (bitfireAT/dav4jvm at a29748c9); each rule names the file and line it follows. Short names stand for
// files below core/src/main/kotlin/at/bitfire/davdroid: SyncManager.kt is sync/SyncManager.kt, and so on.
// Their clock runs 60 times as fast: a minute of a phone is a second of the demo.
package demo
