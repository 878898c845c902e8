package lock

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"holdfast"
)

// A token is a URI of the scheme opaquelocktoken (RFC 4918, Appendix C): a UUID, whose first bytes are of the
// process, and an extension that says what it is a token of. docs/formats/lock-token.md
//
//	opaquelocktoken:<UUID>/<base64url of fields and MAC>
//
// The MAC also covers the account, its epoch, the path and the collection there, which are not in the token: whoever
// shows it names the path. So a token of ours is good for nothing but the path it was given for. It has
// 100 characters: programs have buffers that are not much longer.
const (
	Scheme    = "opaquelocktoken:"
	uuidSize  = 36
	version   = 1
	fieldSize = 1 + 1 + 4 + 3 + 4 + 6
	macSize   = 16
	bootSize  = 4

	flagShared     = 1 << 7
	flagInfinite   = 1 << 6
	flagCollection = 1 << 5
	versionBits    = flagCollection - 1

	// adoptable is how long after its issue a token of a process before may be adopted: longer than a document
	// stays open, for nobody can say whether it was refreshed.
	adoptable = 30 * 24 * time.Hour
)

// Claim is what a token says of itself. Open proves it.
type Claim struct {
	Root int // how many segments of the path its root has
	raw  []byte
	uuid []byte
	all  string
}

func (c *Claim) issued() time.Time { return time.Unix(int64(binary.BigEndian.Uint32(c.raw[2:])), 0) }

// issue makes the token of a lock; empty if there is no key. The caller holds mu.
func (t *Table) issue(l *Lock) string {
	var id [16]byte
	_, _ = rand.Read(id[bootSize:]) // never returns an error
	copy(id[:], t.boot[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // RFC 9562, 5.4
	flags := byte(version)
	if l.Shared {
		flags |= flagShared
	}
	if l.Infinite {
		flags |= flagInfinite
	}
	if l.Collection {
		flags |= flagCollection
	}
	f := append(make([]byte, 0, fieldSize+macSize), flags, byte(len(l.Segs)))
	f = binary.BigEndian.AppendUint32(f, uint32(l.Issued.Unix()))
	f = appendInt(f, uint64(l.Timeout/time.Second), 3)
	f = binary.BigEndian.AppendUint32(f, uint32(l.Device))
	f = appendInt(f, uint64(l.Seq), 6)
	mac := t.mac(l, id[:], f)
	if mac == nil {
		return ""
	}
	return Scheme + uuidString(id[:]) + "/" + base64.RawURLEncoding.EncodeToString(append(f, mac...))
}

func uuidString(id []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// appendInt appends the low bytes of a number, the highest first.
func appendInt(dst []byte, v uint64, size int) []byte {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	return append(dst, b[8-size:]...)
}

func number(b []byte) uint64 {
	var v uint64
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

func (t *Table) mac(l *Lock, uuid, fields []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(l.Account))
	b = binary.BigEndian.AppendUint32(b, uint32(l.Epoch))
	b = binary.BigEndian.AppendUint64(b, uint64(l.Place))
	b = append(b, uuid...)
	b = append(b, fields...)
	b = append(b, l.key...) // the only part of no fixed length
	mac := t.cfg.Sign(b)
	if len(mac) < macSize {
		return nil
	}
	return mac[:macSize]
}

// Claim reads a token that the table does not have. False: not of our form, of this process, which has ended it
// (by UNLOCK, in time, or with what it locked), or too old.
func (t *Table) Claim(token string) (Claim, bool) {
	rest, ok := strings.CutPrefix(token, Scheme)
	if !ok || len(rest) != uuidSize+1+base64.RawURLEncoding.EncodedLen(fieldSize+macSize) || rest[uuidSize] != '/' {
		return Claim{}, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(rest[uuidSize+1:])
	if err != nil || raw[0]&versionBits != version {
		return Claim{}, false
	}
	uuid, err := hex.DecodeString(strings.ReplaceAll(rest[:uuidSize], "-", ""))
	if err != nil || len(uuid) != 16 || uuidString(uuid) != rest[:uuidSize] || [bootSize]byte(uuid) == t.boot {
		return Claim{}, false
	}
	c := Claim{Root: int(raw[1]), raw: raw, uuid: uuid, all: token}
	if t.cfg.Now().Sub(c.issued()) > adoptable || t.hasEnded(token) {
		return Claim{}, false
	}
	return c, true
}

// hasEnded reports whether this process has ended a lock that it had adopted.
func (t *Table) hasEnded(token string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.ended[token]
}

// Open proves a claim: this server gave the lock, in this epoch, to this account, for this path, whose collection
// is the same as then. The lock it returns is not in the table; Acquire adopts it.
func (t *Table) Open(c Claim, a holdfast.AccountHead, segs []string, place holdfast.CollectionID) (Lock, bool) {
	f := c.raw[:fieldSize]
	l := Lock{
		Token: c.all, Account: a.Account, Epoch: a.Epoch, Segs: segs, Place: place, Unsure: true, key: strings.Join(segs, "/"),
		Shared: f[0]&flagShared != 0, Infinite: f[0]&flagInfinite != 0, Collection: f[0]&flagCollection != 0,
		Issued: c.issued(), Timeout: time.Duration(number(f[6:9])) * time.Second,
		Device: holdfast.DeviceID(number(f[9:13])), Seq: holdfast.Seq(number(f[13:])),
	}
	mac := t.mac(&l, c.uuid, f)
	return l, mac != nil && hmac.Equal(mac, c.raw[fieldSize:]) && len(segs) == c.Root
}
