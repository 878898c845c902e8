// Package mirror keeps an independent, synchronous copy of every frame and blob in a bucket, from
// which alone the whole server can be rebuilt.
//
// Invariants: bytes below the durable pos of a log never change; a log is written only by the process
// that claimed its term, and nobody else truncates or repairs it; a missing mirror is absent, never
// empty; only Create makes one. The order that makes it safe is: claim, then read, then serve; and
// append, fsync, look at the claim, then acknowledge (rules R1 and R3 of the model).
//
// The files of a mirror, all described in docs/formats:
//
//	holdfast-mirror.json          the marker: format, server id, mirror id (mirror.md)
//	term/<number>                 a claim (mirror.md)
//	log/<term>/<first pos>.open   a segment being written (segment.md, frame.md, change.md)
//	log/<term>/<first pos>.seg    a sealed segment
//	heads                         the head file: a lower bound of what is durable (mirror.md)
//	blobs/<account>/<sha256>      bodies over 64 KiB (mirror.md)
package mirror
