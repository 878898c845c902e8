// Package fence compares heads and says what they prove. It is pure: it reads no disk and keeps no state, so that every case can be written down in a table.
//
// Invariant (DESIGN.md F1): what any copy or witness proves to have been acknowledged is never
// given up silently; two hashes at one seq are never settled by guessing.
package fence

import (
	"bytes"
	"fmt"

	"holdfast"
)

// State says what the ledger lets through.
type State uint8

// The states, from best to worst. The zero State is closed: nothing is served before it was proven.
const (
	Closed State = iota // the store may be false: no data is read or written
	Held                // a copy is missing or a disk is full: reads are true and served, writes are refused
	Open                // all copies agree
)

// String returns the word for people, metrics and logs.
func (s State) String() string {
	switch s {
	case Open:
		return "open"
	case Held:
		return "held"
	}
	return "closed"
}

// Verdict is what comparing one account's heads proved.
type Verdict uint8

// The verdicts. The zero Verdict is invalid.
const (
	Equal       Verdict = 1 // store and mirror agree
	StoreAhead  Verdict = 2 // the normal tail after a crash, or a mirror that lost data: ship it
	MirrorAhead Verdict = 3 // the store lost acknowledged data: heal
	Fork        Verdict = 4 // two hashes at one seq: the operator decides
	Lost        Verdict = 5 // a witness knows more than store and mirrors together
)

// String returns the word for logs and reports.
func (v Verdict) String() string {
	switch v {
	case Equal:
		return "equal"
	case StoreAhead:
		return "store ahead"
	case MirrorAhead:
		return "mirror ahead"
	case Fork:
		return "fork"
	case Lost:
		return "lost"
	}
	return "invalid"
}

// HashAt returns the chain hash of one copy at a seq, or holdfast.ErrNotFound beyond its head.
type HashAt func(holdfast.Seq) (holdfast.Hash, error)

// Compare judges one account from the head of the store and that of a mirror. storeHash reads the
// store's chain; it is asked only for a seq at or below the store's head. Whether a mirror that is
// ahead continues the store's chain shows when its frames are replayed: each is checked against the
// head it is put on.
func Compare(store, mirror holdfast.Head, storeHash HashAt) (Verdict, error) {
	switch {
	case store == mirror:
		return Equal, nil
	case store.Seq == mirror.Seq:
		return Fork, nil
	case store.Seq < mirror.Seq:
		return MirrorAhead, nil
	case mirror.Seq == 0:
		return StoreAhead, nil
	}
	h, err := storeHash(mirror.Seq)
	if err != nil {
		return 0, fmt.Errorf("read the store's hash at %s: %w", mirror.Seq, err)
	}
	if h != mirror.Hash {
		return Fork, nil
	}
	return StoreAhead, nil
}

// Witness is what something outside store and mirrors knows of an account: a head file knows the
// whole hash, a sync token its first bytes.
type Witness struct {
	Account holdfast.AccountID
	Epoch   holdfast.Epoch
	Seq     holdfast.Seq
	Prefix  []byte            // of the chain hash at Seq; may be shorter than a hash, never empty
	Source  string            // for people: "head file", "sync token of device 3"
	Device  holdfast.DeviceID // that showed a sync token; 0: not known
	Found   uint64            // number of the term in which it came to light, of a sync token; 0: before that term wrote anything
}

// Judge says whether a copy whose head is given bears a witness out: nil if it does, Lost if it ends
// before the witness, Fork if it has another hash there. A witness of an older epoch is satisfied:
// the operator has accepted what it knows as lost.
func (w Witness) Judge(head holdfast.AccountHead, hash HashAt) (Verdict, error) {
	switch {
	case w.Epoch < head.Epoch:
		return Equal, nil
	case w.Seq > head.Head.Seq || w.Epoch > head.Epoch:
		return Lost, nil
	case w.Seq == 0:
		return Equal, nil
	}
	h := head.Head.Hash
	if w.Seq < head.Head.Seq {
		var err error
		if h, err = hash(w.Seq); err != nil {
			return 0, fmt.Errorf("read the hash at %s: %w", w.Seq, err)
		}
	}
	if !bytes.HasPrefix(h[:], w.Prefix) {
		return Fork, nil
	}
	return Equal, nil
}
