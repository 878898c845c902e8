package store

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"

	"holdfast"
)

// digest is the sum, modulo 2^256, of one SHA-256 for each member of a collection and one for its
// kind and properties. It does not depend on the order in which they came, so each change updates
// it, and two collections are equal if their digests are. Times, seqs and the collection's own name
// do not count: what was undone or restored elsewhere has the digest it had.
type digest [4]uint64 // little-endian

func (d *digest) add(h holdfast.Hash) {
	var carry uint64
	for i := range d {
		d[i], carry = bits.Add64(d[i], binary.LittleEndian.Uint64(h[i*8:]), carry)
	}
}

func (d *digest) sub(h holdfast.Hash) {
	var borrow uint64
	for i := range d {
		d[i], borrow = bits.Sub64(d[i], binary.LittleEndian.Uint64(h[i*8:]), borrow)
	}
}

func (d *digest) hash() holdfast.Hash {
	var h holdfast.Hash
	for i, v := range d {
		binary.LittleEndian.PutUint64(h[i*8:], v)
	}
	return h
}

// set reads what hash wrote. Anything but 32 bytes is refused.
func (d *digest) set(b []byte) bool {
	if len(b) != 32 {
		return false
	}
	for i := range d {
		d[i] = binary.LittleEndian.Uint64(b[i*8:])
	}
	return true
}

// memberHash is what a resource adds to the digest of its collection.
func memberHash(r *Resource) holdfast.Hash {
	b := make([]byte, 0, 256)
	b = append(b, 'r')
	b = appendString(b, r.Name)
	b = append(b, r.Body[:]...)
	b = binary.AppendUvarint(b, uint64(r.Size))
	b = appendString(b, r.ContentType)
	return sha256.Sum256(appendProps(b, sorted(r.Props)))
}

// selfHash is what a collection adds to its own digest.
func selfHash(c *Collection) holdfast.Hash {
	b := append(make([]byte, 0, 256), 'c', byte(c.Kind))
	return sha256.Sum256(appendProps(b, sorted(c.Props)))
}

// sorted returns props in order of name: their order means nothing.
func sorted(props []holdfast.Property) []holdfast.Property {
	byName := func(a, b holdfast.Property) int {
		return strings.Compare(a.Name, b.Name)
	}
	if slices.IsSortedFunc(props, byName) {
		return props
	}
	props = slices.Clone(props)
	slices.SortStableFunc(props, byName)
	return props
}
