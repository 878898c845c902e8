package ledger

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/fence"
	"holdfast/internal/store"
)

// A sync token is a URI, docs/formats/sync-token.md:
//
//	holdfast:1/<server>/<account>/<epoch>/<seq>/<first 8 bytes of hash>/<first 16 bytes of HMAC-SHA-256>
const (
	tokenScheme    = "holdfast:1/"
	tokenParts     = 6
	prefixSize     = 8
	macSize        = 16
	maxToken       = 200
	keysCollection = "keys"
	tokenKeyName   = "sync-token"
)

// SyncToken returns the token for a head of this view's account (RFC 6578, 4: it is a URI).
func (v *View) SyncToken(h holdfast.Head) string {
	t := fmt.Sprintf("%s%s/%s/%d/%s/%x", tokenScheme, v.ledger.cfg.Server, v.account, v.head.Epoch, h.Seq, h.Hash[:prefixSize])
	return t + "/" + v.ledger.tokenMAC(t)
}

func (l *Ledger) tokenMAC(t string) string {
	l.mu.RLock()
	key := l.macKey
	l.mu.RUnlock()
	m := hmac.New(sha256.New, key)
	m.Write([]byte(t))
	return hex.EncodeToString(m.Sum(nil)[:macSize])
}

// SyncPoint is what a device that shows a sync token knows.
type SyncPoint struct {
	Since holdfast.Seq // tell what changed after this
	Renew bool         // the token is of an older epoch: give a new one even if nothing changed
	// Lost: the device knows changes that an operator accepted as lost. It keeps what it has: it must not
	// be told to list everything anew, because it would delete what the listing lacks (A1, A2).
	Lost bool
}

// ParseSyncToken returns what the device by knows that shows a token. ErrToken: not our form, or of another account: a full listing is right.
// ErrFenced: another server's token or a wrong MAC (this request alone), or proof that acknowledged
// data is gone, in which case the account's fence closes (F4).
func (v *View) ParseSyncToken(s string, by holdfast.DeviceID) (SyncPoint, error) {
	rest, ok := strings.CutPrefix(s, tokenScheme)
	parts := strings.Split(rest, "/")
	if !ok || len(s) > maxToken || len(parts) != tokenParts {
		return SyncPoint{}, fmt.Errorf("not a token of this program: %w", holdfast.ErrToken)
	}
	account, err1 := strconv.ParseUint(parts[1], 16, 64)
	epoch, err2 := strconv.ParseUint(parts[2], 10, 32)
	seq, err3 := strconv.ParseUint(parts[3], 16, 64)
	prefix, err4 := hex.DecodeString(parts[4])
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || len(prefix) != prefixSize {
		return SyncPoint{}, fmt.Errorf("not a token of this program: %w", holdfast.ErrToken)
	}
	signed := s[:len(s)-len(parts[5])-1]
	if parts[0] != v.ledger.cfg.Server.String() || !hmac.Equal([]byte(parts[5]), []byte(v.ledger.tokenMAC(signed))) {
		v.ledger.noteForeign(v.account, by)
		return SyncPoint{}, fmt.Errorf("token of another server, or with a wrong signature: %w", holdfast.ErrFenced)
	}
	if holdfast.AccountID(account) != v.account {
		return SyncPoint{}, fmt.Errorf("token of another account: %w", holdfast.ErrToken)
	}
	w := fence.Witness{Account: v.account, Epoch: holdfast.Epoch(epoch), Seq: holdfast.Seq(seq), Prefix: prefix, Source: tokenOf(by), Device: by}
	if w.Epoch < v.head.Epoch {
		return v.olderEpoch(w)
	}
	verdict, err := w.Judge(v.head, v.hashAt)
	if err != nil {
		return SyncPoint{}, err
	}
	if verdict != fence.Equal {
		if v.ledger.cfg.Unfenced || v.ledger.planted(tokenUnknown) {
			return SyncPoint{}, fmt.Errorf("unknown token: %w", holdfast.ErrToken)
		}
		v.ledger.shutByToken(w)
		return SyncPoint{}, fmt.Errorf("a device knows change %s of account %s, the server does not: %w", w.Seq, v.account, holdfast.ErrFenced)
	}
	return SyncPoint{Since: w.Seq}, nil
}

// tokenOf names the sync token of a device as a witness.
func tokenOf(by holdfast.DeviceID) string {
	if by == 0 {
		return "a device's sync token"
	}
	return fmt.Sprintf("the sync token of device %d", by)
}

// olderEpoch says what a token of an epoch before an accepted loss is worth: where this history has its
// hash it is an ordinary one; else the device knows what was lost, and is told what changed since the
// lost history and this one parted.
func (v *View) olderEpoch(w fence.Witness) (SyncPoint, error) {
	r, err := v.open()
	if err != nil {
		return SyncPoint{}, err
	}
	next, err := r.EpochAfter(v.account, w.Epoch, v.seq)
	if err != nil {
		return SyncPoint{}, fmt.Errorf("%w: %w", holdfast.ErrCorrupt, err) // the head says that there is one
	}
	if w.Seq < next.Seq {
		h, err := v.headAt(w.Seq)
		if err != nil {
			return SyncPoint{}, err
		}
		if w.Seq == 0 || bytes.HasPrefix(h.Hash[:], w.Prefix) {
			return SyncPoint{Since: w.Seq, Renew: true}, nil
		}
	}
	return SyncPoint{Since: min(next.Common, w.Seq-1), Renew: true, Lost: true}, nil
}

// noteForeign counts a token that this server never signed, and remembers which device showed it: the
// status names it (F4).
func (l *Ledger) noteForeign(a holdfast.AccountID, by holdfast.DeviceID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.foreign++
	key := foreignDevice{a, by}
	f, ok := l.foreigners[key]
	if !ok && len(l.foreigners) >= maxForeigners {
		return
	}
	f.Account, f.Device, f.Last = a.String(), uint64(by), l.now()
	f.Times++
	l.foreigners[key] = f
}

// maxForeigners bounds the devices that are named.
const maxForeigners = 100

type foreignDevice struct {
	account holdfast.AccountID
	device  holdfast.DeviceID
}

// ForeignStatus is a device that showed a sync token of another server, or one with a wrong signature,
// since the start of this process.
type ForeignStatus struct {
	Account string    `json:"account"`
	Device  uint64    `json:"device"` // 0: the account's own password was used
	Times   int       `json:"times"`
	Last    time.Time `json:"last"`
}

// shutByToken closes one account's fence: a device proved that acknowledged data is gone. The witness
// is kept in the head file, so that a restart does not forget it.
func (l *Ledger) shutByToken(w fence.Witness) {
	l.mu.Lock()
	was, known := l.shut[w.Account]
	known = known && !was.ofRows()
	w.Found = l.term.Number
	if !known {
		l.shutFor(w)
		l.tokens = append(l.tokens, w)
		l.headsDue = true
	}
	l.mu.Unlock()
	if !known {
		l.tellClosed(w.Account, lossBy(w))
		l.log.Error("sync token ahead of the head: acknowledged data is gone, account closed", "account", w.Account.String(), "seq", w.Seq.String())
		l.reportToken(w)
	}
}

type tokenKey struct {
	Key []byte `json:"key"`
}

func encodeTokenKey(key []byte) []byte {
	b, _ := json.Marshal(tokenKey{key}) // bytes always marshal
	return b
}

// readTokenKey reads the key that signs sync tokens from a proven store. A new server has none
// before account 0 is made; then it returns nil.
func (l *Ledger) readTokenKey(ctx context.Context, st *store.Store, head holdfast.Head) (key []byte, err error) {
	if head.Seq == 0 {
		return nil, nil
	}
	r, err := st.Read(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the key of sync tokens: %w", err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	open := func() (*store.Reader, error) { return r, nil }
	q := reads{open: open, account: holdfast.Server, seq: head.Seq, at: head.Seq, ledger: l, paths: newPaths()}
	b, err := q.record(keysCollection, tokenKeyName)
	if err != nil {
		return nil, fmt.Errorf("read the key of sync tokens: %w", err)
	}
	var k tokenKey
	if err := json.Unmarshal(b, &k); err != nil || len(k.Key) < 16 {
		return nil, fmt.Errorf("the key of sync tokens is not readable: %w", holdfast.ErrCorrupt)
	}
	return k.Key, nil
}

// record returns the body of a resource in a collection directly below the account's root.
func (q *reads) record(collection, name string) ([]byte, error) {
	c, err := q.Child(holdfast.Root, collection)
	if err != nil {
		return nil, err
	}
	r, err := q.Resource(c.ID, name)
	if err != nil {
		return nil, err
	}
	return q.Body(r)
}
