package mirror

import (
	"context"
	"errors"
	"io"
	"testing"

	"holdfast"
	"holdfast/internal/bucket"
	"holdfast/internal/bucket/dir"
	"holdfast/internal/durable"
)

// zeros is a disk that gives back nothing of what it was told, from some offset on.
type zeros struct{ bucket.Object }

func (z zeros) ReadAt(p []byte, off int64) (int, error) {
	n, err := z.Object.ReadAt(p, off)
	for i := range p[:n] {
		if off+int64(i) >= 8192 {
			p[i] = 0
		}
	}
	return n, err
}

// A sealed segment that does not read back is found behind the appends and ends the log as damage of
// this mirror, not as a fault of the process.
func TestVerifyBehind(t *testing.T) {
	for name, lies := range map[string]bool{"true disk": false, "lying disk": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			b, err := dir.Create(durable.Disk, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			m, err := Create(ctx, Config{Server: testServer, Bucket: b, Name: "behind", SegmentSize: minSegment, VerifyBehind: true})
			if err != nil {
				t.Fatal(err)
			}
			term := holdfast.Term{Number: 1, Random: 7}
			if err := m.Claim(ctx, term, "test"); err != nil {
				t.Fatal(err)
			}
			if _, err := m.Recover(ctx); err != nil {
				t.Fatal(err)
			}
			l, err := m.StartLog(ctx, term, nil)
			if err != nil {
				t.Fatal(err)
			}
			if lies {
				m.hooks.object = func(o bucket.Object) io.ReaderAt { return zeros{o} }
			}
			head := holdfast.AccountHead{Account: 1}
			for i := 0; i < 200 && err == nil; i++ {
				f := change(t, head, term, "n", 3000)
				if err = l.Append(ctx, []Frame{f}); err == nil {
					head = f.head()
				}
			}
			if err == nil {
				err = l.Seal(ctx)
			}
			if got := errors.Is(err, holdfast.ErrCorrupt); got != lies || errors.Is(err, holdfast.ErrFatal) {
				t.Errorf("got %v; damage expected: %v", err, lies)
			}
			if err := errors.Join(l.Close(), b.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}
