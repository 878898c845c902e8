package dir

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"iter"
	"path"
	"sort"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/bucket"
	"holdfast/internal/durable"
)

// window is how many names of one directory are held in memory; a larger directory is read again for
// each further window, so that a listing is sorted whatever its size. Tests make it small.
var window = 16 << 10

// maxDepth bounds directories inside directories; a name cannot have more segments.
const maxDepth = bucket.MaxName / 2

// List yields the objects whose names begin with prefix.
func (d *Dir) List(ctx context.Context, prefix string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		if err := bucket.CheckPrefix(prefix); err != nil {
			yield(bucket.Info{}, fmt.Errorf("list: %w", err))
			return
		}
		rel := prefix[:strings.LastIndexByte(prefix, '/')+1]
		w := walk{d: d, ctx: ctx, yield: yield}
		err := w.directory(rel, prefix[len(rel):])
		if errors.Is(err, errStop) {
			return
		}
		if errors.Is(err, holdfast.ErrNotFound) && w.depth == 0 { // nothing was ever put below the prefix
			err = nil
		}
		// The end of a listing says "there is no more", which a bucket that is gone cannot say.
		if err = d.doubt(err); err != nil {
			yield(bucket.Info{}, fmt.Errorf("list %q: %w", prefix, err))
		}
	}
}

var errStop = errors.New("the listing is not wanted any more")

type walk struct {
	d     *Dir
	ctx   context.Context
	yield func(bucket.Info, error) bool
	depth int
}

// directory lists rel, which is "" or ends in a slash, as far as names in it begin with start.
func (w *walk) directory(rel, start string) error {
	after := ""
	for {
		keys, more, err := w.next(rel, start, after)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := w.entry(rel, k); err != nil {
				return err
			}
			after = k
		}
		if !more {
			return nil
		}
	}
}

// next returns the smallest names after the given one, at most window of them, sorted. The name of a
// directory ends in a slash, so that they sort as the names of the objects below them do.
func (w *walk) next(rel, start, after string) (keys []string, more bool, err error) {
	h := &largest{}
	for e, err := range w.d.fs.ReadDir(w.d.file(rel)) {
		if err != nil {
			return nil, false, err
		}
		if err := w.ctx.Err(); err != nil {
			return nil, false, err
		}
		key := e.Name
		if !bucket.ValidSegment(key) || !strings.HasPrefix(key, start) {
			continue
		}
		switch {
		case e.Type.IsDir():
			key += "/"
		case e.Type != 0:
			continue
		}
		if key <= after {
			continue
		}
		if h.Len() == window {
			more = true
			if key >= (*h)[0] {
				continue
			}
			(*h)[0] = key
			heap.Fix(h, 0)
			continue
		}
		heap.Push(h, key)
	}
	sort.Strings(*h)
	return *h, more, nil
}

func (w *walk) entry(rel, key string) error {
	name := rel + key
	if strings.HasSuffix(key, "/") {
		if w.depth++; w.depth > maxDepth {
			return fmt.Errorf("%s: %d directories deep: %w", name, w.depth, holdfast.ErrInvalid)
		}
		err := w.directory(name, "")
		if errors.Is(err, holdfast.ErrNotFound) {
			err = fmt.Errorf("%v: it was there a moment ago: %w", err, holdfast.ErrAbsent)
		}
		w.depth--
		return err
	}
	if len(name) > bucket.MaxName {
		return nil // no object can have it
	}
	i, err := w.d.fs.Stat(w.d.file(name))
	if errors.Is(err, holdfast.ErrNotFound) {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	if !w.yield(bucket.Info{Name: name, Size: i.Size, Modified: i.Modified}, nil) {
		return errStop
	}
	return nil
}

// largest is a heap with the largest name on top.
type largest []string

func (h largest) Len() int           { return len(h) }
func (h largest) Less(i, j int) bool { return h[i] > h[j] }
func (h largest) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *largest) Push(x any)        { *h = append(*h, x.(string)) }
func (h *largest) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	*h = (*h)[:last]
	return x
}

// sweep removes unfinished files in rel and below.
func (d *Dir) sweep(ctx context.Context, rel string, before time.Time) (int, error) {
	n, err := durable.Sweep(d.fs, d.file(rel), before, d.spares.name())
	if err != nil {
		return n, d.doubt(err)
	}
	w := walk{d: d, ctx: ctx}
	after := ""
	for {
		keys, more, err := w.next(rel, "", after)
		if err != nil {
			return n, d.doubt(err)
		}
		for _, k := range keys {
			after = k
			if !strings.HasSuffix(k, "/") {
				continue
			}
			m, err := d.sweep(ctx, path.Join(rel, k), before)
			n += m
			if err != nil {
				return n, err
			}
		}
		if !more {
			return n, nil
		}
	}
}
