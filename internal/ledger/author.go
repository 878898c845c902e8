package ledger

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"holdfast"
)

// Author returns the device that made a change of this account.
func (q *reads) Author(seq holdfast.Seq) (holdfast.DeviceID, error) {
	r, err := q.open()
	if err != nil {
		return 0, err
	}
	stamps, err := r.Stamps(q.account, seq, 1)
	if err != nil {
		return 0, err
	}
	if len(stamps) == 0 || stamps[0].Seq != seq {
		return 0, fmt.Errorf("change %s of account %s: %w", seq, q.account, holdfast.ErrNotFound)
	}
	return stamps[0].Device, nil
}

// LastSeq returns the seq of the newest change of collection c or one of its direct members.
func (q *reads) LastSeq(c holdfast.CollectionID) (holdfast.Seq, error) {
	r, err := q.open()
	if err != nil {
		return 0, err
	}
	return r.LastChange(q.account, c, q.seq)
}

// ParseSyncToken is that of View, judged by the newest state.
func (t *Tx) ParseSyncToken(s string, by holdfast.DeviceID) (SyncPoint, error) {
	v := View{reads: t.reads, head: t.head}
	return v.ParseSyncToken(s, by)
}

// Sign returns a MAC over data for a purpose, with the key that signs sync tokens: it is in account 0, so every
// later process of this server has it. Nil before the store was proven for the first time.
func (l *Ledger) Sign(purpose string, data []byte) []byte {
	l.mu.RLock()
	key := l.macKey
	l.mu.RUnlock()
	if len(key) == 0 {
		return nil
	}
	m := hmac.New(sha256.New, key)
	// A sync token begins otherwise (tokenScheme), so no MAC is good for both.
	m.Write([]byte("purpose " + purpose + "\x00"))
	m.Write(data)
	return m.Sum(nil)
}
