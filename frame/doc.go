// Package frame reads and writes the frames of a mirror's log, so that anybody can read a mirror
// without the rest of Holdfast. The formats are those of docs/formats/change.md, frame.md and segment.md.
//
// Invariant: what was encoded decodes to the same bytes on every version from the one that wrote it on.
package frame
