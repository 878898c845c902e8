package frame

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"holdfast"
)

// OpType says what one operation of a change does. Zero is invalid.
type OpType uint8

// The operations. docs/formats/change.md has the byte table.
const (
	OpPut              OpType = 1 // create or replace the body of a resource
	OpDelete           OpType = 2 // remove a resource
	OpPutCollection    OpType = 3 // create a collection, or replace its name, place and properties
	OpDeleteCollection OpType = 4 // remove a collection and all below it
	OpSetProperties    OpType = 5 // replace the dead properties of a resource; its body stays
	OpAcceptLoss       OpType = 6 // begin a new epoch: an operator accepted a loss (see Loss); alone in its change
)

// Limits that a reader may rely on. A change that breaks one is not encoded and not accepted.
const (
	MaxPayload = 16 << 20 // bytes of one frame's payload
	MaxOps     = 4096     // operations of one change
	maxDetail  = 1 << 20  // bytes of one operation's detail
	maxProps   = 4096
)

// Body states, stored beside each operation.
const (
	bodyNone   = 0
	bodyInline = 1
	bodyBlob   = 2
	bodyErased = 3 // salt, detail and body are gone; the commitment stays
)

const (
	changeVersion = 1
	changeHeader  = 1 + 8 + 4 + 8 + 8 + 8 + 8 + 8 + 4 // version, account, epoch, seq, term (2), time, device, ops
	opEntry       = 1 + 32                            // type, commitment
	saltSize      = 16
)

// Blob names a body that lies in blobs/<account>/<hash>.
type Blob struct {
	Hash holdfast.Hash // SHA-256 of the body
	Size int64         // bytes
}

// Op is one operation of a change. Which fields count depends on Type; the others are zero.
type Op struct {
	Type        OpType
	Collection  holdfast.CollectionID // the collection acted in, or the collection itself
	Parent      holdfast.CollectionID // OpPutCollection
	Kind        holdfast.Kind         // OpPutCollection
	Modified    int64                 // OpPut, OpPutCollection: milliseconds since 1970 UTC
	Name        string                // resource, or OpPutCollection: the collection's own name
	ContentType string                // OpPut
	Props       []holdfast.Property   // OpPutCollection, OpSetProperties: the complete set; OpPut: set only if not nil

	Body []byte // OpPut: the body itself, at most holdfast.MaxInline bytes; nil when Blob is set
	Blob *Blob  // OpPut: the body elsewhere

	// Filled by Encode and ParseChange.
	BodyHash   holdfast.Hash // SHA-256 of the body, zero without one
	BodyOffset int           // of Body in the payload
	Commitment holdfast.Hash // SHA-256 over salt, detail, body hash and size; see docs/formats/change.md
	Erased     bool          // salt, detail and body are gone for good

	salt       [saltSize]byte
	detailSize int
}

// BodySize returns the bytes of the body, wherever it lies.
func (o *Op) BodySize() int64 {
	if o.Blob != nil {
		return o.Blob.Size
	}
	return int64(len(o.Body))
}

// Change is one transaction of one account: operations that happen together or not at all.
type Change struct {
	Account holdfast.AccountID
	Epoch   holdfast.Epoch
	Seq     holdfast.Seq
	Term    holdfast.Term // of the store history that committed it
	Time    int64         // milliseconds since 1970 UTC; for people, never for order
	Device  holdfast.DeviceID
	Ops     []Op
}

// Encode appends the payload of a change frame to dst and returns it. It draws a salt for each
// operation and fills its BodyHash, BodyOffset (counted from the payload's first byte) and Commitment.
func (c *Change) Encode(dst []byte) ([]byte, error) {
	if len(c.Ops) == 0 || len(c.Ops) > MaxOps {
		return nil, fmt.Errorf("encode change with %d operations: %w", len(c.Ops), holdfast.ErrTooLarge)
	}
	if c.Seq == 0 || c.Epoch == 0 || c.Term.Number == 0 {
		return nil, fmt.Errorf("encode change without seq, epoch or term: %w", holdfast.ErrInvalid)
	}
	if err := c.alone(); err != nil {
		return nil, fmt.Errorf("encode change: %w", err)
	}
	base := len(dst)
	dst = append(dst, changeVersion)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(c.Account))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(c.Epoch))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(c.Seq))
	dst = binary.LittleEndian.AppendUint64(dst, c.Term.Number)
	dst = binary.LittleEndian.AppendUint64(dst, c.Term.Random)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(c.Time))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(c.Device))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(c.Ops)))
	entries := len(dst)
	dst = append(dst, make([]byte, len(c.Ops)*opEntry)...)
	for i := range c.Ops {
		o := &c.Ops[i]
		if err := o.check(); err != nil {
			return nil, fmt.Errorf("encode operation %d: %w", i, err)
		}
		_, _ = rand.Read(o.salt[:]) // crypto/rand.Read never returns an error
		if dst = o.appendBeside(dst, base); o.detailSize > maxDetail {
			return nil, fmt.Errorf("encode operation %d with %d bytes of names and properties: %w", i, o.detailSize, holdfast.ErrTooLarge)
		}
		e := dst[entries+i*opEntry:]
		e[0] = byte(o.Type)
		copy(e[1:opEntry], o.Commitment[:])
		if len(dst)-base > MaxPayload {
			return nil, fmt.Errorf("encode change of more than %d bytes: %w", MaxPayload, holdfast.ErrTooLarge)
		}
	}
	return dst, nil
}

func (o *Op) check() error {
	switch {
	case o.Type < OpPut || o.Type > OpAcceptLoss:
		return fmt.Errorf("type %d: %w", o.Type, holdfast.ErrInvalid)
	case o.Collection == 0:
		return fmt.Errorf("no collection: %w", holdfast.ErrInvalid)
	case len(o.Body) > holdfast.MaxInline:
		return fmt.Errorf("inline body of %d bytes: %w", len(o.Body), holdfast.ErrTooLarge)
	case o.Type == OpPut && o.Body == nil && o.Blob == nil:
		return fmt.Errorf("put without a body: %w", holdfast.ErrInvalid)
	case o.Type != OpPut && (o.Body != nil || o.Blob != nil):
		return fmt.Errorf("a body where none belongs: %w", holdfast.ErrInvalid)
	case len(o.Props) > maxProps:
		return fmt.Errorf("%d properties: %w", len(o.Props), holdfast.ErrTooLarge)
	case o.Type == OpAcceptLoss:
		_, err := o.Loss()
		return err
	}
	return nil
}

// alone refuses an accepted loss beside other operations.
func (c *Change) alone() error {
	if len(c.Ops) < 2 {
		return nil
	}
	for i := range c.Ops {
		if c.Ops[i].Type == OpAcceptLoss {
			return fmt.Errorf("operation %d accepts a loss beside others: %w", i, holdfast.ErrInvalid)
		}
	}
	return nil
}

// appendBeside writes what stands beside the canonical part: state, salt, detail, body.
func (o *Op) appendBeside(dst []byte, base int) []byte {
	state := byte(bodyNone)
	switch {
	case o.Blob != nil:
		state, o.BodyHash = bodyBlob, o.Blob.Hash
	case o.Type == OpPut:
		state, o.BodyHash = bodyInline, sha256.Sum256(o.Body)
	}
	dst = append(dst, state)
	dst = append(dst, o.salt[:]...)
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = o.appendDetail(dst)
	detail := dst[at+4:]
	o.detailSize = len(detail)
	binary.LittleEndian.PutUint32(dst[at:], uint32(len(detail)))
	o.Commitment = commit(o.salt, detail, o.BodyHash, o.BodySize())
	switch state {
	case bodyInline:
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(o.Body)))
		o.BodyOffset = len(dst) - base
		dst = append(dst, o.Body...)
	case bodyBlob:
		dst = append(dst, o.Blob.Hash[:]...)
		dst = binary.LittleEndian.AppendUint64(dst, uint64(o.Blob.Size))
	}
	return dst
}

func (o *Op) appendDetail(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, uint64(o.Collection))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(o.Parent))
	dst = append(dst, byte(o.Kind))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(o.Modified))
	dst = appendString(dst, o.Name)
	dst = appendString(dst, o.ContentType)
	n := uint32(len(o.Props))
	if o.Props == nil {
		n = 1<<32 - 1 // "not given", which is not the same as none
	}
	dst = binary.LittleEndian.AppendUint32(dst, n)
	for _, p := range o.Props {
		dst = appendString(dst, p.Name)
		dst = appendString(dst, p.Value)
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

// commit returns SHA-256(salt || u32 length of detail || detail || body hash || u64 body size). Without the salt
// nobody can tell from it what was committed to.
func commit(salt [saltSize]byte, detail []byte, body holdfast.Hash, size int64) holdfast.Hash {
	h := sha256.New()
	h.Write(salt[:])
	var n [4]byte
	binary.LittleEndian.PutUint32(n[:], uint32(len(detail)))
	h.Write(n[:])
	h.Write(detail)
	h.Write(body[:])
	h.Write(binary.LittleEndian.AppendUint64(nil, uint64(size)))
	return holdfast.Hash(h.Sum(nil))
}

// Canonical returns the part of a change payload that the account chain covers: all but what stands
// beside the commitments. It aliases payload.
func Canonical(payload []byte) ([]byte, error) {
	if len(payload) < changeHeader {
		return nil, fmt.Errorf("change of %d bytes: %w", len(payload), holdfast.ErrCorrupt)
	}
	if payload[0] != changeVersion {
		return nil, fmt.Errorf("change of version %d, this program reads version %d: %w", payload[0], changeVersion, holdfast.ErrCorrupt)
	}
	n := binary.LittleEndian.Uint32(payload[changeHeader-4:])
	if n == 0 || n > MaxOps || len(payload) < changeHeader+int(n)*opEntry {
		return nil, fmt.Errorf("change with %d operations in %d bytes: %w", n, len(payload), holdfast.ErrCorrupt)
	}
	return payload[:changeHeader+int(n)*opEntry], nil
}

// ChainHash returns the account chain's next hash: SHA-256(prev || canonical part of payload).
func ChainHash(prev holdfast.Hash, payload []byte) (holdfast.Hash, error) {
	c, err := Canonical(payload)
	if err != nil {
		return holdfast.Hash{}, err
	}
	h := sha256.New()
	h.Write(prev[:])
	h.Write(c)
	return holdfast.Hash(h.Sum(nil)), nil
}

// ParseChange reads a payload that Encode wrote and verifies every commitment. Bodies alias payload.
func ParseChange(payload []byte) (*Change, error) {
	c := &Change{}
	if err := c.parse(payload); err != nil {
		return nil, fmt.Errorf("parse change: %w", err)
	}
	return c, nil
}

func (c *Change) parse(payload []byte) error {
	canon, err := Canonical(payload)
	if err != nil {
		return err
	}
	if len(payload) > MaxPayload {
		return fmt.Errorf("%d bytes: %w", len(payload), holdfast.ErrTooLarge)
	}
	r := reader{buf: canon, at: 1}
	c.Account = holdfast.AccountID(r.u64())
	c.Epoch = holdfast.Epoch(r.u32())
	c.Seq = holdfast.Seq(r.u64())
	c.Term = holdfast.Term{Number: r.u64(), Random: r.u64()}
	c.Time = int64(r.u64())
	c.Device = holdfast.DeviceID(r.u64())
	c.Ops = make([]Op, r.u32())
	for i := range c.Ops {
		c.Ops[i].Type = OpType(r.u8())
		copy(c.Ops[i].Commitment[:], r.bytes(32))
	}
	if c.Seq == 0 || c.Epoch == 0 || c.Term.Number == 0 {
		return fmt.Errorf("no seq, epoch or term: %w", holdfast.ErrCorrupt)
	}
	if err := c.alone(); err != nil {
		return fmt.Errorf("%w: %w", holdfast.ErrCorrupt, err)
	}
	r = reader{buf: payload, at: len(canon)}
	for i := range c.Ops {
		if err := c.Ops[i].parseBeside(&r); err != nil {
			return fmt.Errorf("operation %d: %w", i, err)
		}
	}
	if r.at != len(payload) {
		return fmt.Errorf("%d bytes after the last operation: %w", len(payload)-r.at, holdfast.ErrCorrupt)
	}
	return nil
}

func (o *Op) parseBeside(r *reader) error {
	if o.Type < OpPut || o.Type > OpAcceptLoss {
		return fmt.Errorf("type %d: %w", o.Type, holdfast.ErrCorrupt)
	}
	state := r.u8()
	if state == bodyErased {
		o.Erased = true
		return r.err
	}
	copy(o.salt[:], r.bytes(saltSize))
	n := r.u32()
	if n > maxDetail {
		return fmt.Errorf("detail of %d bytes: %w", n, holdfast.ErrCorrupt)
	}
	detail := r.bytes(int(n))
	switch state {
	case bodyNone:
	case bodyInline:
		n := r.u32()
		if n > holdfast.MaxInline {
			return fmt.Errorf("inline body of %d bytes: %w", n, holdfast.ErrCorrupt)
		}
		o.BodyOffset = r.at
		if o.Body = r.bytes(int(n)); o.Body == nil {
			o.Body = []byte{}
		}
		o.BodyHash = sha256.Sum256(o.Body)
	case bodyBlob:
		o.Blob = &Blob{}
		copy(o.Blob.Hash[:], r.bytes(32))
		o.Blob.Size = int64(r.u64())
		o.BodyHash = o.Blob.Hash
	default:
		return fmt.Errorf("body state %d: %w", state, holdfast.ErrCorrupt)
	}
	if r.err != nil {
		return r.err
	}
	if commit(o.salt, detail, o.BodyHash, o.BodySize()) != o.Commitment {
		return fmt.Errorf("commitment does not match: %w", holdfast.ErrCorrupt)
	}
	if err := o.parseDetail(detail); err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return fmt.Errorf("%w: %w", holdfast.ErrCorrupt, err)
	}
	return nil
}

func (o *Op) parseDetail(detail []byte) error {
	r := reader{buf: detail}
	o.Collection = holdfast.CollectionID(r.u64())
	o.Parent = holdfast.CollectionID(r.u64())
	o.Kind = holdfast.Kind(r.u8())
	o.Modified = int64(r.u64())
	o.Name = r.str()
	o.ContentType = r.str()
	if n := r.u32(); n != 1<<32-1 {
		if n > maxProps {
			return fmt.Errorf("%d properties: %w", n, holdfast.ErrCorrupt)
		}
		o.Props = make([]holdfast.Property, n)
		for i := range o.Props {
			o.Props[i].Name, o.Props[i].Value = r.str(), r.str()
			if r.err != nil {
				break
			}
		}
	}
	if r.err == nil && r.at != len(detail) {
		r.err = fmt.Errorf("%d bytes after the detail: %w", len(detail)-r.at, holdfast.ErrCorrupt)
	}
	return r.err
}

// Erase returns a copy of payload in which the chosen operations keep their commitment only. The
// chain hash of the copy is that of the original.
func Erase(payload []byte, chosen func(i int) bool) ([]byte, error) {
	c, err := ParseChange(payload)
	if err != nil {
		return nil, err
	}
	canon, err := Canonical(payload)
	if err != nil {
		return nil, err
	}
	out := append([]byte(nil), canon...)
	for i := range c.Ops {
		if o := &c.Ops[i]; o.Erased || chosen(i) {
			out = append(out, bodyErased)
		} else {
			out = o.appendBeside(out, 0)
		}
	}
	return out, nil
}

// reader takes little-endian values from a buffer; after the first one that does not fit, err is set
// and all further values are zero.
type reader struct {
	buf []byte
	at  int
	err error
}

func (r *reader) bytes(n int) []byte {
	if r.err != nil || n < 0 || len(r.buf)-r.at < n {
		if r.err == nil {
			r.err = fmt.Errorf("%d bytes wanted at %d of %d: %w", n, r.at, len(r.buf), holdfast.ErrCorrupt)
		}
		return nil
	}
	b := r.buf[r.at : r.at+n : r.at+n]
	r.at += n
	return b
}

func (r *reader) u8() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) str() string {
	return string(r.bytes(int(r.u32())))
}
