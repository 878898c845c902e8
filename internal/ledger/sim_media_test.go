package ledger

import (
	"context"
	"fmt"

	"holdfast"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/durable/simdisk"
	"holdfast/internal/mirror"
	"holdfast/internal/store"
	"holdfast/internal/store/simvfs"
)

// inspect looks at the media themselves, without what was not synced: a head that was acknowledged or shown by p must
// be in the store and in every mirror (P4), but for copies that lost data and were not healed yet.
func (s *sim) inspect(p *proc, a holdfast.AccountID, h holdfast.Head) {
	if s.lossy {
		return
	}
	s.looks++
	for i, m := range s.mirrors {
		if s.lost[i] || m.Dead() {
			continue
		}
		got, err := mirrorHead(m.Medium(0), i, a, h.Seq)
		if got != h {
			s.fail("P4: account %s: %s was acknowledged or shown, the medium of mirror %d has %s, %v", a, h, i, got, err)
		}
	}
	if s.lost[-1] || p.box.data.Dead() || len(s.boxes) > 1 && s.losses > 0 {
		return
	}
	if got, err := storeHead(p.box.data.Medium(0), a, h.Seq); err != nil || got != h {
		s.fail("P4: account %s: %s was acknowledged or shown, the medium of the store has %s, %v", a, h, got, err)
	}
}

// mirrorHead returns what a mirror has of an account at a number.
func mirrorHead(d *simdisk.Disk, i int, a holdfast.AccountID, seq holdfast.Seq) (h holdfast.Head, err error) {
	b, err := dir.Open(d, fmt.Sprintf("/m%d", i), dir.WithSpare(dir.Off))
	if err != nil {
		return h, err
	}
	m, err := mirror.Open(context.Background(), mirror.Config{Server: simServer, Bucket: b, Name: "medium", SegmentSize: simSegment})
	if err != nil {
		return h, err
	}
	none := func(holdfast.AccountID) holdfast.AccountHead { return holdfast.AccountHead{} }
	err = m.Replay(context.Background(), none, func(r *mirror.Record) error {
		if r.Account == a && r.Seq == seq {
			h = holdfast.Head{Seq: seq, Hash: r.Hash}
		}
		return nil
	})
	return h, err
}

// storeHead returns what a store has of an account at a number.
func storeHead(d *simdisk.Disk, a holdfast.AccountID, seq holdfast.Seq) (h holdfast.Head, err error) {
	v, err := simvfs.Register(d, simvfs.Options{})
	if err != nil {
		return h, err
	}
	defer v.Close()
	c := store.Config{Path: "/data/store", Server: simServer, FS: d, VFS: v.Name()}
	tuneStore(&c)
	st, err := store.Open(context.Background(), c)
	if err != nil {
		return h, err
	}
	defer st.Close()
	r, err := st.Read(context.Background())
	if err != nil {
		return h, err
	}
	defer r.Close()
	hash, err := r.HashAt(a, seq)
	return holdfast.Head{Seq: seq, Hash: hash}, err
}
