package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"holdfast"
)

// A thin row keeps all fields of a resource but account, collection and name in one byte string,
// because reading a column costs more than decoding a field. docs/formats/store.md has the layout.
// It ends by itself, so that thin strings and names can be read one after the other.
const thinVersion = 1

// appendThin appends the thin string of r.
func appendThin(dst []byte, r *Resource) []byte {
	dst = append(dst, thinVersion)
	dst = binary.AppendUvarint(dst, uint64(len(r.Name)))
	dst = append(dst, r.Body[:]...)
	dst = binary.AppendUvarint(dst, uint64(r.Seq))
	dst = binary.AppendUvarint(dst, uint64(r.Size))
	dst = binary.AppendUvarint(dst, uint64(r.BodySeq))
	dst = binary.AppendUvarint(dst, uint64(r.BodyOffset+1))
	dst = binary.AppendVarint(dst, r.Created)
	dst = binary.AppendVarint(dst, r.Modified)
	dst = binary.AppendVarint(dst, r.First)
	dst = binary.AppendVarint(dst, r.Last)
	dst = appendString(dst, r.ContentType)
	dst = appendString(dst, r.UID)
	dst = appendString(dst, r.Component)
	return appendProps(dst, r.Props)
}

// parseThin fills r from the front of b; what r has is used again where it is equal. It returns the length of the name and what follows the thin string.
func parseThin(b []byte, r *Resource) (name int, rest []byte, err error) {
	d := decoder{buf: b}
	if v := d.byte(); d.err == nil && v != thinVersion {
		return 0, nil, fmt.Errorf("thin row of version %d, this program reads version %d: %w", v, thinVersion, holdfast.ErrCorrupt)
	}
	n := d.uvarint()
	copy(r.Body[:], d.bytes(uint64(len(r.Body))))
	r.Seq = holdfast.Seq(d.uvarint())
	r.Size = int64(d.uvarint())
	r.BodySeq = holdfast.Seq(d.uvarint())
	r.BodyOffset = int64(d.uvarint()) - 1
	r.Created = d.varint()
	r.Modified = d.varint()
	r.First = d.varint()
	r.Last = d.varint()
	r.ContentType = d.stringLike(r.ContentType)
	r.UID = d.string()
	r.Component = d.stringLike(r.Component)
	r.Props = d.props()
	if d.err == nil && (r.Size < 0 || r.BodyOffset < -1 || n > maxName) {
		d.fail()
	}
	return int(n), d.buf, d.err
}

// appendProps appends a count and the names and values. No properties and nil are the same here.
func appendProps(dst []byte, props []holdfast.Property) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(props)))
	for _, p := range props {
		dst = appendString(dst, p.Name)
		dst = appendString(dst, p.Value)
	}
	return dst
}

// parseProps reads what appendProps wrote, and nothing else.
func parseProps(b []byte) ([]holdfast.Property, error) {
	d := decoder{buf: b}
	props := d.props()
	if d.err == nil && len(d.buf) > 0 {
		d.fail()
	}
	return props, d.err
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// decoder takes values from the front of buf. After the first that does not fit, err is set and all
// further values are zero.
type decoder struct {
	buf []byte
	err error
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = fmt.Errorf("thin row ends early or has a value out of range: %w", holdfast.ErrCorrupt)
	}
	d.buf = nil
}

func (d *decoder) byte() byte {
	if len(d.buf) == 0 {
		d.fail()
		return 0
	}
	v := d.buf[0]
	d.buf = d.buf[1:]
	return v
}

func (d *decoder) bytes(n uint64) []byte {
	if uint64(len(d.buf)) < n {
		d.fail()
		return nil
	}
	v := d.buf[:n]
	d.buf = d.buf[n:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.buf)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.buf = d.buf[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.buf)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.buf = d.buf[n:]
	return v
}

func (d *decoder) string() string { return string(d.bytes(d.uvarint())) }

// stringLike is string, without an allocation if it is like again.
func (d *decoder) stringLike(like string) string {
	b := d.bytes(d.uvarint())
	if string(b) == like {
		return like
	}
	return string(b)
}

func (d *decoder) props() []holdfast.Property {
	n := d.uvarint()
	if n == 0 || d.err != nil {
		return nil
	}
	if n > uint64(len(d.buf)) { // each takes two bytes at least
		d.fail()
		return nil
	}
	props := make([]holdfast.Property, 0, min(n, 64))
	for range n {
		props = append(props, holdfast.Property{Name: d.string(), Value: d.string()})
		if d.err != nil {
			return nil
		}
	}
	return props
}

// uidKey returns what the index of UIDs holds: 0 for none, else 64 bits of its SHA-256.
func uidKey(uid string) int64 {
	if uid == "" {
		return 0
	}
	h := sha256.Sum256([]byte(uid))
	return int64(binary.LittleEndian.Uint64(h[:]) | 1)
}
