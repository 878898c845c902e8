// Package bucket is what Holdfast asks of a place that keeps objects: a directory today, S3 and SFTP by
// the same contract. A mirror is written on top of it and nothing else.
//
// Invariants: an object is visible with its whole content or not at all; what a call acknowledged survives
// a power cut; a bucket that is missing is holdfast.ErrAbsent and never made by using it.
//
// Names are slash-separated; CheckName says what they may hold. No name may be another's directory.
package bucket

import (
	"context"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"holdfast"
)

// Limits of names, in bytes. They leave room for what implementations add while an object is unfinished.
const (
	MaxName    = 512
	MaxSegment = 200
)

// Bucket keeps objects. All methods are safe concurrently. None retries: an error may mean that the
// work was done and the answer lost, and the caller decides. Errors wrap ErrNotFound, ErrExists, ErrFull,
// ErrInvalid (a bad name), ErrFatal (a sync failed: nobody knows what the medium holds) and ErrAbsent (the
// bucket itself is gone: unmounted, removed, another one in its place).
type Bucket interface {
	// Put stores an object durably; a part of it is never visible. With exclusive a taken name is
	// ErrExists, decided atomically; otherwise the object replaces what was there, atomically too.
	Put(ctx context.Context, name string, body io.Reader, exclusive bool) error
	// Open opens an object to read it from the medium, past caches where that can be done. ErrNotFound.
	Open(ctx context.Context, name string) (Object, error)
	// Stat returns ErrNotFound for what is not there.
	Stat(ctx context.Context, name string) (Info, error)
	// List yields every object whose name begins with prefix, sorted by name bytewise, in bounded memory. What
	// comes or goes meanwhile may be missing or not; unfinished objects are not listed. An error ends it.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
	// Remove removes an object durably. ErrNotFound.
	Remove(ctx context.Context, name string) error
	// Append makes an append-only object with room for about size bytes, whose first bytes are header.
	// It is durable under name when the call returns. ErrExists when the name is taken.
	Append(ctx context.Context, name string, size int64, header []byte) (Appender, error)
}

// Object is an open object. ReadAt is safe concurrently. Zeros may follow the data of an Appender that
// was not sealed; Size counts them.
type Object interface {
	io.ReaderAt
	Size() int64
	Close() error
}

// Info says what an object is.
type Info struct {
	Name     string
	Size     int64 // bytes
	Modified time.Time
}

// Appender writes one append-only object. One goroutine at a time uses it. The first error is final: every
// later call but Close returns it, for nobody knows what the object holds.
type Appender interface {
	// Append adds p. When it returns nil, p and all before it are durable and the name still leads to this
	// very object; if it does not, the error wraps ErrAbsent.
	Append(p []byte) error
	// Seal cuts the object to what was appended and gives it the name to, read-only and durable. ErrExists
	// when to is taken. Nothing can be appended afterwards; Close is still due.
	Seal(ctx context.Context, to string) error
	// Close gives up the handle and leaves the object as it is.
	Close() error
}

// CheckName returns ErrInvalid unless name is one or more segments joined by "/", each of 1 to MaxSegment
// bytes out of 0-9 A-Z a-z . _ - and not beginning with a dot, and at most MaxName bytes in all.
func CheckName(name string) error {
	if len(name) > MaxName {
		return fmt.Errorf("object name of %d bytes: %w", len(name), holdfast.ErrInvalid)
	}
	for seg := range strings.SplitSeq(name, "/") {
		if !ValidSegment(seg) {
			return fmt.Errorf("object name %q: %w", name, holdfast.ErrInvalid)
		}
	}
	return nil
}

// ValidSegment says whether s can stand between the slashes of a name.
func ValidSegment(s string) bool {
	if s == "" || len(s) > MaxSegment || s[0] == '.' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// CheckPrefix returns ErrInvalid unless prefix can begin a name. It may be empty.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return CheckName(strings.TrimSuffix(prefix, "/"))
}

// BlobName returns the name of a body in store and mirrors alike: blobs/<account>/<SHA-256 of the body>.
func BlobName(account holdfast.AccountID, body holdfast.Hash) string {
	return BlobDir(account) + "/" + body.String()
}

// BlobDir returns the name, without a slash at the end, below which an account's bodies lie.
func BlobDir(account holdfast.AccountID) string { return "blobs/" + account.String() }

// ParseBlobName reads what BlobName wrote.
func ParseBlobName(name string) (account holdfast.AccountID, body holdfast.Hash, err error) {
	a, h, ok := strings.Cut(strings.TrimPrefix(name, "blobs/"), "/")
	if ok {
		if body, err = holdfast.ParseHash(h); err == nil {
			_, err = fmt.Sscanf(a, "%016x", (*uint64)(&account))
		}
	}
	if !ok || err != nil || BlobName(account, body) != name {
		return 0, holdfast.Hash{}, fmt.Errorf("blob name %q: %w", name, holdfast.ErrInvalid)
	}
	return account, body, nil
}
