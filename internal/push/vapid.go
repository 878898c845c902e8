package push

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/ledger"
)

// The key that names this server to push services (RFC 8292) is a record of account 0: it is mirrored, so a
// server that was restored keeps its subscriptions, which are bound to the key.
const (
	keysCollection = "keys"
	vapidName      = "web-push"
)

const (
	tokenLife  = 12 * time.Hour // of one proof; RFC 8292, section 2: at most 24 hours
	maxOrigins = 256            // push services whose proofs are remembered
)

var b64 = base64.RawURLEncoding

type vapidRecord struct {
	Key []byte `json:"key"` // the scalar, 32 bytes
}

// vapid signs for this server.
type vapid struct {
	key     *ecdsa.PrivateKey
	public  string // uncompressed point, base64url
	contact string // sub of a proof; may be empty

	mu     sync.Mutex
	proofs map[string]proof
}

type proof struct {
	header string
	until  time.Time
}

func newVapid(raw []byte, contact string) (*vapid, error) {
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw)
	if err != nil {
		return nil, fmt.Errorf("key for push services: %w: %w", err, holdfast.ErrCorrupt)
	}
	public, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("key for push services: %w: %w", err, holdfast.ErrCorrupt)
	}
	return &vapid{key: key, public: b64.EncodeToString(public), contact: contact, proofs: map[string]proof{}}, nil
}

// readVapid returns the key of a server that has one, else ErrNotFound.
func readVapid(r interface {
	Child(holdfast.CollectionID, string) (*ledger.Collection, error)
	Resource(holdfast.CollectionID, string) (*ledger.Resource, error)
	Body(*ledger.Resource) ([]byte, error)
},
) (raw []byte, coll holdfast.CollectionID, err error) {
	c, err := r.Child(holdfast.Root, keysCollection)
	if err != nil {
		return nil, 0, fmt.Errorf("account 0 without keys: %w: %w", holdfast.ErrCorrupt, err)
	}
	res, err := r.Resource(c.ID, vapidName)
	if err != nil {
		return nil, c.ID, err
	}
	body, err := r.Body(res)
	if err != nil {
		return nil, c.ID, fmt.Errorf("read the key for push services: %w", err)
	}
	var rec vapidRecord
	if err := json.Unmarshal(body, &rec); err != nil {
		return nil, c.ID, fmt.Errorf("read the key for push services: %w: %w", err, holdfast.ErrCorrupt)
	}
	return rec.Key, c.ID, nil
}

// ensureVapid returns the server's key; a server that has none gets one, once, as a change of account 0.
func (p *Push) ensureVapid(ctx context.Context) (*vapid, error) {
	var raw []byte
	err := p.cfg.Ledger.View(ctx, holdfast.Server, func(v *ledger.View) (err error) {
		raw, _, err = readVapid(v)
		return err
	})
	if errors.Is(err, holdfast.ErrNotFound) && !errors.Is(err, holdfast.ErrCorrupt) {
		made, gerr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if gerr != nil {
			return nil, fmt.Errorf("make a key for push services: %w", gerr)
		}
		if raw, err = made.Bytes(); err != nil {
			return nil, fmt.Errorf("make a key for push services: %w", err)
		}
		body, _ := json.Marshal(vapidRecord{raw}) // bytes always marshal
		_, err = p.cfg.Ledger.Update(ctx, holdfast.Server, 0, func(tx *ledger.Tx) error {
			_, keys, err := readVapid(tx)
			switch {
			case err == nil:
				return fmt.Errorf("the key for push services: %w", holdfast.ErrExists)
			case !errors.Is(err, holdfast.ErrNotFound) || errors.Is(err, holdfast.ErrCorrupt):
				return err
			}
			tx.Put(keys, vapidName, "application/json", p.cfg.Now().UnixMilli(), ledger.InlineBody(body))
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("key for push services: %w", err)
	}
	return newVapid(raw, p.cfg.Contact)
}

// authorization proves to the push service of an endpoint who sends (RFC 8292, sections 2 and 3).
func (v *vapid) authorization(endpoint string, now time.Time) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", fmt.Errorf("push resource: %w", err)
	}
	origin := u.Scheme + "://" + u.Host
	v.mu.Lock()
	defer v.mu.Unlock()
	if p, ok := v.proofs[origin]; ok && now.Before(p.until) {
		return p.header, nil
	}
	claims := map[string]any{"aud": origin, "exp": now.Add(tokenLife).Unix()}
	if v.contact != "" {
		claims["sub"] = v.contact
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("proof for a push service: %w", err)
	}
	signed := b64.EncodeToString([]byte(`{"typ":"JWT","alg":"ES256"}`)) + "." + b64.EncodeToString(body)
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, v.key, sum[:])
	if err != nil {
		return "", fmt.Errorf("proof for a push service: %w", err)
	}
	sig := make([]byte, 64) // RFC 7518, section 3.4: r and s, not ASN.1
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	header := "vapid t=" + signed + "." + b64.EncodeToString(sig) + ", k=" + v.public
	if len(v.proofs) >= maxOrigins {
		clear(v.proofs)
	}
	v.proofs[origin] = proof{header, now.Add(tokenLife / 2)}
	return header, nil
}
