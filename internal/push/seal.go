package push

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"holdfast"
)

// Sizes of RFC 8188, section 2, and RFC 8291, section 2.
const (
	publicSize = 65 // of a point of P-256, not compressed
	secretSize = 16
	saltSize   = 16
	recordSize = 4096 // the whole message is one record: push services take no more (RFC 8291, section 4)
	keySize    = 16
	nonceSize  = 12
	padTo      = 1024 // plain bytes: a push service sees one length, whatever collection it is about
)

// keys are what a subscription's owner gave to encrypt for it.
type keys struct {
	public *ecdh.PublicKey
	secret []byte
}

// parseKeys checks what a client gave. ErrInvalid: no point of the curve, or a secret of another length.
func parseKeys(public, secret []byte) (keys, error) {
	if len(public) != publicSize || len(secret) != secretSize {
		return keys{}, fmt.Errorf("key of %d and secret of %d bytes, want %d and %d: %w", len(public), len(secret), publicSize, secretSize, holdfast.ErrInvalid)
	}
	p, err := ecdh.P256().NewPublicKey(public)
	if err != nil {
		return keys{}, fmt.Errorf("key: %w: %w", err, holdfast.ErrInvalid)
	}
	return keys{p, secret}, nil
}

// seal encrypts a message for one subscription (RFC 8291, section 3; aes128gcm of RFC 8188, section 2).
func (k keys) seal(message []byte) ([]byte, error) {
	own, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // crypto/rand.Read never returns an error
	return k.sealWith(own, salt, message, (len(message)+padTo)/padTo*padTo)
}

// sealWith is seal with everything that is drawn by chance; size is the length that the message is padded to.
func (k keys) sealWith(own *ecdh.PrivateKey, salt, message []byte, size int) ([]byte, error) {
	const overhead = saltSize + 4 + 1 + publicSize + 1 + 16 // head, delimiter, tag
	if size < len(message) || size+overhead > recordSize {
		return nil, fmt.Errorf("message of %d bytes: %w", len(message), holdfast.ErrTooLarge)
	}
	shared, err := own.ECDH(k.public)
	if err != nil {
		return nil, fmt.Errorf("agree on a key: %w", err)
	}
	mine := own.PublicKey().Bytes()
	input, err := derive(shared, k.secret, "WebPush: info\x00"+string(k.public.Bytes())+string(mine), sha256.Size)
	if err != nil {
		return nil, err
	}
	key, err := derive(input, salt, "Content-Encoding: aes128gcm\x00", keySize)
	if err != nil {
		return nil, err
	}
	nonce, err := derive(input, salt, "Content-Encoding: nonce\x00", nonceSize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("cipher: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("cipher: %w", err)
	}
	out := binary.BigEndian.AppendUint32(append([]byte{}, salt...), recordSize)
	out = append(append(out, publicSize), mine...)
	plain := make([]byte, size+1)
	copy(plain, message)
	plain[len(message)] = 2 // the last record; zeros follow
	return gcm.Seal(out, nonce, plain, nil), nil
}

func derive(secret, salt []byte, info string, size int) ([]byte, error) {
	prk, err := hkdf.Extract(sha256.New, secret, salt)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	out, err := hkdf.Expand(sha256.New, prk, info, size)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	return out, nil
}
