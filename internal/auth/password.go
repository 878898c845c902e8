package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"holdfast"
)

// cost is what one argon2id hash takes.
type cost struct {
	memory, time uint32 // KiB, passes
	lanes        uint8
}

// owasp is what OWASP's password storage guide has for 19 MiB.
var owasp = cost{memory: 19 << 10, time: 2, lanes: 1}

// At most maxHashing passwords are hashed at once, and maxWaiting wait, so that they cannot fill memory.
const (
	argonSalt = 16 // bytes
	argonKey  = 32 // bytes

	maxHashing = 2
	maxWaiting = 64

	maxPassword = 1024 // bytes
)

// hashPassword returns the PHC string of a new account password. ErrInvalid: it does not do.
func (a *Auth) hashPassword(ctx context.Context, password string) (string, error) {
	switch {
	case password == "":
		return "", fmt.Errorf("the password is empty: %w", holdfast.ErrInvalid)
	case len(password) > maxPassword:
		return "", fmt.Errorf("the password has more than %d bytes: %w", maxPassword, holdfast.ErrInvalid)
	case !utf8.ValidString(password):
		return "", fmt.Errorf("the password is not UTF-8: %w", holdfast.ErrInvalid)
	case strings.IndexFunc(password, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0:
		// RFC 7617, 2: neither user-id nor password may hold a control character.
		return "", fmt.Errorf("the password has a control character, perhaps a line break: %w", holdfast.ErrInvalid)
	}
	if _, ok := parseSecret(password); ok {
		return "", fmt.Errorf("the password has the form of an app password; choose another: %w", holdfast.ErrInvalid)
	}
	if err := a.slot(ctx); err != nil {
		return "", err
	}
	defer a.unslot()
	salt := make([]byte, argonSalt)
	_, _ = rand.Read(salt) // crypto/rand.Read never returns an error
	p := phc{cost: a.cost, salt: salt}
	p.key = p.hash(password, argonKey)
	return p.String(), nil
}

// slot waits for the right to hash one password.
func (a *Auth) slot(ctx context.Context) error {
	select {
	case a.queue <- struct{}{}:
	default:
		return &LimitError{Wait: 2 * time.Second}
	}
	defer func() { <-a.queue }()
	select {
	case a.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait to check a password: %w", ctx.Err())
	}
}

func (a *Auth) unslot() { <-a.slots }

// phc is a password hash with all that is needed to check it.
type phc struct {
	cost
	salt, key []byte
}

// String returns the PHC string form.
func (p phc) String() string {
	enc := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memory, p.time, p.lanes, enc(p.salt), enc(p.key))
}

// parsePHC reads an argon2id PHC string. Its costs are bounded, so that no record can exhaust memory.
func parsePHC(s string) (phc, error) {
	var p phc
	bad := fmt.Errorf("password hash: %w", holdfast.ErrCorrupt)
	f := strings.Split(s, "$")
	if len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return p, bad
	}
	if n, err := fmt.Sscanf(f[3], "m=%d,t=%d,p=%d", &p.memory, &p.time, &p.lanes); n != 3 || err != nil {
		return p, bad
	}
	if p.memory < 8 || p.memory > 256<<10 || p.time < 1 || p.time > 16 || p.lanes < 1 || p.lanes > 16 {
		return p, bad
	}
	var err1, err2 error
	p.salt, err1 = base64.RawStdEncoding.Strict().DecodeString(f[4])
	p.key, err2 = base64.RawStdEncoding.Strict().DecodeString(f[5])
	if err1 != nil || err2 != nil || len(p.salt) < 8 || len(p.salt) > 64 || len(p.key) < 16 || len(p.key) > 64 {
		return p, bad
	}
	return p, nil
}

func (p phc) matches(password string) bool {
	return subtle.ConstantTimeCompare(p.hash(password, len(p.key)), p.key) == 1
}

func (p phc) hash(password string, size int) []byte {
	return argon2.IDKey([]byte(password), p.salt, p.time, p.memory, p.lanes, uint32(size))
}

// nobody returns what a password is compared with when there is no such account: the same work, and never equal.
func (a *Auth) nobody() phc {
	return phc{cost: a.cost, salt: make([]byte, argonSalt), key: make([]byte, argonKey)}
}

// An app password is 28 characters: 128 random bits, then 12 bits of their hash, which tell a slip of the
// finger from a guess, in base 32 without i, l, o, u (read as 1, 1, 0 and refused), in groups of four.
const (
	secretSize = 16
	secretText = 28
	alphabet   = "0123456789abcdefghjkmnpqrstvwxyz"
)

func newSecret() [secretSize]byte {
	var s [secretSize]byte
	_, _ = rand.Read(s[:]) // crypto/rand.Read never returns an error
	return s
}

// secretHash binds an app password to its device. 128 random bits need no slow hash.
func secretHash(a holdfast.AccountID, d holdfast.DeviceID, secret [secretSize]byte) holdfast.Hash {
	h := sha256.New()
	h.Write([]byte("holdfast app password 1\x00"))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(a)))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(d)))
	h.Write(secret[:])
	return holdfast.Hash(h.Sum(nil))
}

// checkBits returns 12 bits over the secret.
func checkBits(secret [secretSize]byte) uint16 {
	h := sha256.Sum256(append([]byte("holdfast app password check 1\x00"), secret[:]...))
	return binary.BigEndian.Uint16(h[:]) >> 4
}

func formatSecret(secret [secretSize]byte) string {
	c := checkBits(secret)
	bits := append(secret[:], byte(c>>4), byte(c<<4)) // 144 bits, of which 140 are written
	var b strings.Builder
	for i := range secretText {
		if i > 0 && i%4 == 0 {
			b.WriteByte('-')
		}
		at := i * 5
		v := uint16(bits[at/8]) << 8
		if at/8+1 < len(bits) {
			v |= uint16(bits[at/8+1])
		}
		b.WriteByte(alphabet[v>>(11-at%8)&31])
	}
	return b.String()
}

// parseSecret reads an app password as a person typed it: any case, with or without hyphens and spaces.
func parseSecret(s string) (secret [secretSize]byte, ok bool) {
	if len(s) < secretText || len(s) > 2*secretText {
		return secret, false
	}
	var bits [secretSize + 2]byte
	n := 0
	for _, r := range strings.ToLower(s) {
		switch r {
		case '-', ' ':
			continue
		case 'i', 'l':
			r = '1'
		case 'o':
			r = '0'
		}
		v := strings.IndexRune(alphabet, r)
		if v < 0 || n == secretText {
			return secret, false
		}
		for i := range 5 {
			if v>>(4-i)&1 == 1 {
				bits[(n*5+i)/8] |= 0x80 >> ((n*5 + i) % 8)
			}
		}
		n++
	}
	copy(secret[:], bits[:])
	check := uint16(bits[secretSize])<<4 | uint16(bits[secretSize+1])>>4
	return secret, n == secretText && check == checkBits(secret)
}
