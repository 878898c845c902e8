package mirror

import (
	"bytes"
	"flag"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/frame"
	"holdfast/internal/bucket"
	"holdfast/internal/durable/simdisk"
)

// mendCRC reads an object so that every checksum fits, whatever the bytes are.
func mendCRC(o bucket.Object) io.ReaderAt {
	b := make([]byte, o.Size())
	if _, err := o.ReadAt(b, 0); err != nil {
		return o
	}
	sh, err := frame.ParseSegmentHeader(b)
	if err != nil {
		return o
	}
	for off := int64(frame.SegmentHeaderSize); off+frame.HeaderSize <= o.Size(); {
		h, err := frame.ParseHeader(b[off:])
		if err != nil || off+frame.Len(h.Size) > o.Size() {
			break
		}
		whole := frame.Append(nil, sh.Log.Seed(), &h, b[off+frame.HeaderSize:off+frame.HeaderSize+int64(h.Size)])
		copy(b[off:], whole)
		off += frame.Len(h.Size)
		if h.Type == frame.TypeCommit {
			off = frame.AlignBatch(off)
		}
	}
	return bytes.NewReader(b)
}

// The simulator prints what it did and fails below a floor.
const (
	simSchedules = 10_000
	simShort     = 300
	simFloor     = 5_000
)

var simBox = flag.Duration("sim-box", 3*time.Minute, "begin no schedule later than this; 0 is no bound")

func TestSimulator(t *testing.T) {
	want, floor := uint64(simSchedules), uint64(simFloor)
	if testing.Short() {
		want, floor = simShort, simShort
	}
	var next, done, cuts, starts, appends, acked atomic.Uint64
	var ended [8]atomic.Uint64
	begun := time.Now()
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !t.Failed() && (*simBox == 0 || time.Since(begun) < *simBox) {
				seed := next.Add(1)
				if seed > want {
					return
				}
				s := newSim(seed, bug{})
				s.run()
				if s.violated != nil {
					t.Errorf("seed %d: %v", seed, s.violated)
				}
				for i, n := range s.ended {
					ended[i].Add(n)
				}
				done.Add(1)
				cuts.Add(uint64(s.cuts))
				starts.Add(uint64(s.starts))
				appends.Add(uint64(s.appends))
				for _, chain := range s.acked {
					acked.Add(uint64(len(chain)))
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d schedules, %d power cuts, %d starts, %d appends, %d changes acknowledged, %v",
		done.Load(), cuts.Load(), starts.Load(), appends.Load(), acked.Load(), time.Since(begun).Round(time.Millisecond))
	for i, e := range outcomes {
		t.Logf("%7d turns ended with %v", ended[i].Load(), e)
		if ended[i].Load() == 0 && i < 6 {
			t.Errorf("no turn ended with %v: the schedules do not cover it", e)
		}
	}
	if done.Load() < floor {
		t.Errorf("%d schedules, at least %d are wanted", done.Load(), floor)
	}
}

func TestSimulatorRepeats(t *testing.T) {
	for seed := range uint64(40) {
		a, b := newSim(seed, bug{}), newSim(seed, bug{})
		a.run()
		b.run()
		if a.events != b.events || a.appends != b.appends {
			t.Errorf("seed %d: traces %x and %x differ", seed, a.events, b.events)
		}
	}
}

var bugs = []bug{
	{name: "no fsync", disk: simdisk.Bugs{IgnoreSync: true}},
	{name: "no directory fsync", disk: simdisk.Bugs{IgnoreSyncDir: true}},
	{name: "EIO ignored", disk: simdisk.Bugs{IgnoreSyncError: true}, needSyncErr: true},
	{name: "fsync retried after EIO", disk: simdisk.Bugs{RetrySync: true}, needSyncErr: true},
	{name: "head file ahead of the log", eagerHeads: true},
	{name: "header not synced before rename", lateHeader: true},
	{name: "no CRC check", noCRC: true},
	{name: "batch crosses a rotation", hooks: hooks{crossRotation: true}},
	{name: "commit frame not required", hooks: hooks{noCommit: true}},
	{name: "last batch of the log before not written again", hooks: hooks{trustLast: true}},
	{name: "replay ignores the next log's checkpoint", hooks: hooks{noBound: true}},
	{name: "claim checked before the append", checkFirst: true},
	{name: "claim not checked", noCheck: true},
	{name: "heads read before the claim", recoverThen: true, hooks: hooks{anyHeads: true}},
}

// TestPlantedBugs proves that the simulator would notice.
func TestPlantedBugs(t *testing.T) {
	const limit = 5000
	for _, b := range bugs {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= limit; seed++ {
				s := newSim(seed, b)
				s.run()
				if s.violated != nil {
					t.Logf("caught by seed %d: %v", seed, s.violated)
					return
				}
			}
			t.Errorf("not caught by %d schedules", limit)
		})
	}
}
