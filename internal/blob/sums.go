package blob

import (
	"crypto/sha256"
	"hash"
	"hash/maphash"
	"sync"

	"holdfast"
)

const (
	chunkSize = 64 << 10 // bytes that are verified together when a range is read
	maxSums   = 1 << 20  // sums remembered, of 8 bytes: those of 64 GiB of bodies
)

// seed is drawn anew by each process. The sums never leave it: they show that bytes are those that had the
// right SHA-256 before, at a tenth of its price.
var seed = maphash.MakeSeed()

func chunkSum(p []byte) uint64 { return maphash.Bytes(seed, p) }

// summer makes the SHA-256 of all that is written to it, and the sum of each chunk.
type summer struct {
	size  int64
	whole hash.Hash
	chunk maphash.Hash
	sums  []uint64
}

func newSummer() *summer {
	s := &summer{whole: sha256.New()}
	s.chunk.SetSeed(seed)
	return s
}

// Write never fails.
func (s *summer) Write(p []byte) (int, error) {
	n := len(p)
	s.whole.Write(p)
	for len(p) > 0 {
		q := p[:min(int64(len(p)), chunkSize-s.size%chunkSize)]
		_, _ = s.chunk.Write(q)
		s.size += int64(len(q))
		if s.size%chunkSize == 0 {
			s.cut()
		}
		p = p[len(q):]
	}
	return n, nil
}

func (s *summer) cut() {
	s.sums = append(s.sums, s.chunk.Sum64())
	s.chunk.Reset()
}

// done returns the hash and the sums, which are not nil. Nothing can be written afterwards.
func (s *summer) done() (holdfast.Hash, []uint64) {
	if s.size%chunkSize != 0 || s.sums == nil {
		s.cut()
	}
	return holdfast.Hash(s.whole.Sum(nil)), s.sums
}

// verified remembers the chunk sums of bodies that were found whole, so that a video watched by ranges is not
// hashed for each of them.
type verified struct {
	mu    sync.Mutex
	sums  map[string][]uint64 // by name
	count int                 // of sums
}

func (v *verified) get(name string) []uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.sums[name]
}

func (v *verified) add(name string, sums []uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.drop(name)
	if v.sums == nil || v.count+len(sums) > maxSums {
		v.sums, v.count = map[string][]uint64{}, 0
	}
	v.sums[name] = sums
	v.count += len(sums)
}

func (v *verified) forget(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.drop(name)
}

func (v *verified) drop(name string) {
	v.count -= len(v.sums[name])
	delete(v.sums, name)
}
