// Package holdfast holds the nouns and errors that every part of Holdfast shares. It imports the
// standard library only; the words are those of the glossary in ARCHITECTURE.md.
package holdfast

import (
	"encoding/hex"
	"fmt"
	"strconv"
)

// AccountID numbers an account. Account 0 is the server itself: its collections hold the accounts,
// devices and keys.
type AccountID uint64

// Server is the account of the server itself.
const Server AccountID = 0

// String returns 16 hex digits, so that names sort.
func (a AccountID) String() string { return fmt.Sprintf("%016x", uint64(a)) }

// DeviceID numbers the holder of an app password. 0 is the server or an operator.
type DeviceID uint64

// CollectionID numbers a collection inside its account; it is never reused. 0 is invalid.
type CollectionID uint64

// Root is the collection that holds all others of an account: its home set.
const Root CollectionID = 1

// Seq is the dense number of a change in its account; the first change is 1. 0 means "before the first change".
type Seq uint64

// String returns 16 hex digits, so that names sort.
func (s Seq) String() string { return fmt.Sprintf("%016x", uint64(s)) }

// Epoch is the lineage of an account. It starts at 1 and rises only when an operator accepted a loss.
type Epoch uint32

// Hash is a SHA-256 digest. The zero Hash is the chain hash before the first change.
type Hash [32]byte

// String returns 64 hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ParseHash reads 64 hex digits.
func ParseHash(s string) (Hash, error) {
	var h Hash
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("parse hash %q: %w", s, ErrInvalid)
	}
	copy(h[:], b)
	return h, nil
}

// Head is the newest change of an account: its number and the hash of the chain up to it.
// The zero Head is an account without changes.
type Head struct {
	Seq  Seq
	Hash Hash
}

// String returns the seq in hex and the first 8 hex digits of the hash.
func (h Head) String() string { return h.Seq.String() + "/" + hex.EncodeToString(h.Hash[:4]) }

// AccountHead is the head of one account in one epoch.
type AccountHead struct {
	Account AccountID
	Epoch   Epoch
	Head    Head
}

// ServerID names one server for ever; init makes it from random bits.
type ServerID [16]byte

// String returns 32 hex digits.
func (s ServerID) String() string { return hex.EncodeToString(s[:]) }

// ParseServerID reads 32 hex digits.
func ParseServerID(s string) (ServerID, error) {
	var id ServerID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("parse server id %q: %w", s, ErrInvalid)
	}
	copy(id[:], b)
	return id, nil
}

// Term is one store history's claim of the mirrors, the fencing token: a number that only rises and
// 64 random bits that tell two claimants of one number apart. The zero Term is invalid.
type Term struct {
	Number uint64
	Random uint64
}

// String returns number and random bits as 16 hex digits each, joined by a hyphen.
func (t Term) String() string { return fmt.Sprintf("%016x-%016x", t.Number, t.Random) }

// ParseTerm reads what String wrote.
func ParseTerm(s string) (Term, error) {
	var t Term
	if len(s) != 33 || s[16] != '-' {
		return t, fmt.Errorf("parse term %q: %w", s, ErrInvalid)
	}
	n, err1 := strconv.ParseUint(s[:16], 16, 64)
	r, err2 := strconv.ParseUint(s[17:], 16, 64)
	if err1 != nil || err2 != nil {
		return t, fmt.Errorf("parse term %q: %w", s, ErrInvalid)
	}
	return Term{n, r}, nil
}

// Kind says what a collection holds. The zero Kind is invalid.
type Kind uint8

// The kinds of collections. KindRecord is account 0's own: JSON documents, one a resource.
const (
	KindCard     Kind = 1 // vCard (RFC 2426, RFC 6350)
	KindCalendar Kind = 2 // iCalendar (RFC 5545)
	KindMessage  Kind = 3 // Internet message (RFC 5322)
	KindFile     Kind = 4 // any bytes
	KindRecord   Kind = 5 // a JSON document of the server
)

// String returns the word for the kind.
func (k Kind) String() string {
	switch k {
	case KindCard:
		return "card"
	case KindCalendar:
		return "calendar"
	case KindMessage:
		return "message"
	case KindFile:
		return "file"
	case KindRecord:
		return "record"
	}
	return "invalid"
}

// MaxInline is the largest body, in bytes, that travels inside a change. Anything larger is a blob.
const MaxInline = 64 << 10

// Property is a dead property of a collection or resource: its name in Clark notation,
// "{namespace}local", and its value as the XML fragment that was received.
type Property struct {
	Name  string
	Value string
}

// ETag returns the strong entity tag of a body, quotes included, from the SHA-256 of the body.
func ETag(body Hash) string {
	const digits = 16
	buf := make([]byte, 0, 2+2*digits)
	buf = append(buf, '"')
	buf = hex.AppendEncode(buf, body[:digits])
	return string(append(buf, '"'))
}
