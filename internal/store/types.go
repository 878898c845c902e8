package store

import (
	"holdfast"
)

// Resource is the thin row of one version of a resource: all but its body.
type Resource struct {
	Account     holdfast.AccountID
	Collection  holdfast.CollectionID
	Name        string
	Seq         holdfast.Seq  // of the change that made this version (body or properties)
	Body        holdfast.Hash // SHA-256 of the body; holdfast.ETag(Body) is the ETag
	Size        int64         // bytes of the body
	BodySeq     holdfast.Seq  // of the change that holds the body
	BodyOffset  int64         // of an inline body in that change's payload; -1 for a blob
	ContentType string        // as received with PUT; may be empty
	Created     int64         // milliseconds since 1970 UTC of the first version
	Modified    int64         // milliseconds since 1970 UTC
	Props       []holdfast.Property

	// Derived from the body by package kind, as far as it parses.
	UID       string
	Component string // "VEVENT", "VTODO", ... of a calendar object
	First     int64  // seconds since 1970 UTC: nothing of it is before
	Last      int64  // seconds since 1970 UTC: nothing of it is after
}

// ETag returns the strong entity tag of this version, quotes included.
func (r *Resource) ETag() string { return holdfast.ETag(r.Body) }

// IsBlob reports whether the body lies in a blob.
func (r *Resource) IsBlob() bool { return r.BodyOffset < 0 }

// Collection is one version of a collection.
type Collection struct {
	Account  holdfast.AccountID
	ID       holdfast.CollectionID
	Parent   holdfast.CollectionID // 0 for holdfast.Root
	Name     string                // one path segment; empty for holdfast.Root
	Kind     holdfast.Kind
	Seq      holdfast.Seq // of the change that made this version
	Created  int64        // milliseconds since 1970 UTC
	Modified int64        // milliseconds since 1970 UTC
	Props    []holdfast.Property
}

// Delta is one member of a collection that differs between two seqs: a resource that is there with
// its present version, or one that is gone.
type Delta struct {
	Resource
	Deleted bool
}
