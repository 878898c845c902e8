package fence

import (
	"errors"
	"testing"

	"holdfast"
)

// chain is an account whose hash at seq n is {n, branch}; branch differs from seq `from` on.
func chain(n, branch, from byte) (holdfast.Head, HashAt) {
	at := func(s holdfast.Seq) (holdfast.Hash, error) {
		if s > holdfast.Seq(n) {
			return holdfast.Hash{}, holdfast.ErrNotFound
		}
		if byte(s) < from {
			return holdfast.Hash{byte(s)}, nil
		}
		return holdfast.Hash{byte(s), branch}, nil
	}
	if n == 0 {
		return holdfast.Head{}, at
	}
	h, _ := at(holdfast.Seq(n))
	return holdfast.Head{Seq: holdfast.Seq(n), Hash: h}, at
}

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		name          string
		store, mirror byte
		branch, from  byte // the mirror's
		want          Verdict
	}{
		{"both empty", 0, 0, 0, 0, Equal},
		{"equal", 5, 5, 0, 0, Equal},
		{"normal tail", 6, 5, 0, 0, StoreAhead},
		{"empty mirror", 6, 0, 0, 0, StoreAhead},
		{"store rolled back", 3, 5, 0, 0, MirrorAhead},
		{"store emptied", 0, 5, 0, 0, MirrorAhead},
		{"other hash at one seq", 5, 5, 9, 5, Fork},
		{"store ahead of another history", 6, 5, 9, 4, Fork},
	} {
		s, at := chain(c.store, 0, 0)
		m, _ := chain(c.mirror, c.branch, c.from)
		if c.branch == 0 {
			m, _ = chain(c.mirror, 0, 0)
		}
		got, err := Compare(s, m, at)
		if err != nil || got != c.want {
			t.Errorf("%s: got %v, %v; want %v", c.name, got, err, c.want)
		}
	}
	broken := func(holdfast.Seq) (holdfast.Hash, error) { return holdfast.Hash{}, holdfast.ErrCorrupt }
	s, _ := chain(6, 0, 0)
	m, _ := chain(5, 0, 0)
	if _, err := Compare(s, m, broken); !errors.Is(err, holdfast.ErrCorrupt) {
		t.Errorf("unreadable hash: got %v, want ErrCorrupt", err)
	}
}

func TestWitness(t *testing.T) {
	head, at := chain(5, 0, 0)
	now := holdfast.AccountHead{Account: 1, Epoch: 2, Head: head}
	for _, c := range []struct {
		name   string
		epoch  holdfast.Epoch
		seq    holdfast.Seq
		prefix []byte
		want   Verdict
	}{
		{"at the head", 2, 5, []byte{5, 0, 0, 0}, Equal},
		{"below the head", 2, 3, []byte{3, 0}, Equal},
		{"nothing yet", 2, 0, []byte{0}, Equal},
		{"ahead", 2, 6, []byte{6}, Lost},
		{"another hash at the head", 2, 5, []byte{5, 1}, Fork},
		{"another hash below", 2, 3, []byte{3, 9}, Fork},
		{"accepted epoch", 1, 9, []byte{9}, Equal},
		{"epoch from the future", 3, 2, []byte{2}, Lost},
	} {
		w := Witness{Account: 1, Epoch: c.epoch, Seq: c.seq, Prefix: c.prefix}
		if got, err := w.Judge(now, at); err != nil || got != c.want {
			t.Errorf("%s: got %v, %v; want %v", c.name, got, err, c.want)
		}
	}
}
