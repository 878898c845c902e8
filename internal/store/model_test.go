package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"holdfast"
	"holdfast/frame"
)

// state is all an account holds at one seq, the plain way.
type state struct {
	cols map[holdfast.CollectionID]Collection
	res  map[holdfast.CollectionID]map[string]member
	last map[holdfast.CollectionID]holdfast.Seq // newest change of it or a direct member
}

type member struct {
	Resource
	body string
}

func (s *state) clone() *state {
	n := &state{cols: maps.Clone(s.cols), res: map[holdfast.CollectionID]map[string]member{}, last: maps.Clone(s.last)}
	for c, m := range s.res {
		n.res[c] = maps.Clone(m)
	}
	return n
}

// do applies one operation to the state; false if it cannot be done.
func (s *state) do(a holdfast.AccountID, seq holdfast.Seq, o frame.Op) bool {
	time := int64(seq) * 1000
	switch o.Type {
	case frame.OpPut:
		if _, ok := s.cols[o.Collection]; !ok {
			return false
		}
		old, had := s.res[o.Collection][o.Name]
		m := member{body: string(o.Body)}
		m.Resource = Resource{
			Account: a, Collection: o.Collection, Name: o.Name, Seq: seq, Body: sha256.Sum256(o.Body), Size: int64(len(o.Body)),
			BodySeq: seq, ContentType: o.ContentType, Created: time, Modified: o.Modified, Props: o.Props,
		}
		if had {
			m.Created = old.Created
			if o.Props == nil {
				m.Props = old.Props
			}
		}
		if uid, ok := strings.CutPrefix(m.body, "uid:"); ok {
			m.UID = uid
		}
		s.res[o.Collection][o.Name] = m
		s.last[o.Collection] = seq
	case frame.OpDelete, frame.OpSetProperties:
		m, ok := s.res[o.Collection][o.Name]
		if !ok {
			return false
		}
		if o.Type == frame.OpDelete {
			delete(s.res[o.Collection], o.Name)
		} else {
			m.Props, m.Seq = o.Props, seq
			s.res[o.Collection][o.Name] = m
		}
		s.last[o.Collection] = seq
	case frame.OpPutCollection:
		return s.putCollection(a, seq, o)
	case frame.OpDeleteCollection:
		k, ok := s.cols[o.Collection]
		if !ok || o.Collection == holdfast.Root {
			return false
		}
		s.bury(o.Collection)
		s.last[k.Parent] = seq
	}
	return true
}

func (s *state) bury(id holdfast.CollectionID) {
	for _, k := range s.cols {
		if k.Parent == id {
			s.bury(k.ID)
		}
	}
	delete(s.cols, id)
	delete(s.res, id)
	delete(s.last, id)
}

func (s *state) putCollection(a holdfast.AccountID, seq holdfast.Seq, o frame.Op) bool {
	for up := o.Parent; up != 0; up = s.cols[up].Parent {
		if _, ok := s.cols[up]; !ok || up == o.Collection {
			return false
		}
	}
	for _, k := range s.cols {
		if k.Parent == o.Parent && k.Name == o.Name && k.ID != o.Collection {
			return false
		}
	}
	k := Collection{
		Account: a, ID: o.Collection, Parent: o.Parent, Name: o.Name, Kind: o.Kind, Seq: seq,
		Created: int64(seq) * 1000, Modified: o.Modified, Props: o.Props,
	}
	if old, ok := s.cols[o.Collection]; ok {
		k.Created = old.Created
		if old.Parent != 0 {
			s.last[old.Parent] = seq
		}
	} else {
		s.res[o.Collection] = map[string]member{}
	}
	s.cols[o.Collection] = k
	s.last[o.Collection] = seq
	if o.Parent != 0 {
		s.last[o.Parent] = seq
	}
	return true
}

// history is every state of an account, by seq; [0] is empty.
type history struct {
	account holdfast.AccountID
	at      []*state
	nextID  holdfast.CollectionID
}

func newHistory(a holdfast.AccountID) *history {
	return &history{account: a, nextID: 2, at: []*state{{
		cols: map[holdfast.CollectionID]Collection{}, res: map[holdfast.CollectionID]map[string]member{}, last: map[holdfast.CollectionID]holdfast.Seq{},
	}}}
}

func (h *history) now() *state { return h.at[len(h.at)-1] }

var (
	memberNames = []string{"a", "b", "c.txt", "ä", "\U0010FFFF", "Z"}
	colNames    = []string{"x", "y", "Z"}
)

func (h *history) drawOp(t *rapid.T, s *state) frame.Op {
	ids := slices.Sorted(maps.Keys(s.cols))
	if len(ids) == 0 {
		return root()
	}
	c := rapid.SampledFrom(append(ids, h.nextID+1000)).Draw(t, "collection")
	name := rapid.SampledFrom(memberNames).Draw(t, "name")
	var props []holdfast.Property
	if n := rapid.IntRange(-1, 2).Draw(t, "props"); n >= 0 {
		props = append([]holdfast.Property{}, []holdfast.Property{{Name: "{b}z", Value: "1"}, {Name: "{a}y", Value: "2"}}[:n]...)
	}
	switch rapid.IntRange(0, 15).Draw(t, "type") {
	default:
		o := put(c, name, rapid.SampledFrom([]string{"", "one", "two", "uid:1", "uid:2"}).Draw(t, "body"))
		o.Props = props
		return o
	case 1, 2, 3:
		return remove(c, name)
	case 4:
		return frame.Op{Type: frame.OpSetProperties, Collection: c, Name: name, Props: append([]holdfast.Property{}, props...)}
	case 5, 6:
		h.nextID++
		o := mkcol(h.nextID, c, rapid.SampledFrom(colNames).Draw(t, "as"))
		o.Props = props
		return o
	case 7, 8:
		o := mkcol(c, rapid.SampledFrom(ids).Draw(t, "to"), rapid.SampledFrom(colNames).Draw(t, "as"))
		if c == holdfast.Root {
			o = root()
		}
		if _, ok := s.cols[c]; !ok {
			o.Parent = h.nextID + 2000
		}
		o.Props, o.Modified = props, 77
		return o
	case 9:
		return frame.Op{Type: frame.OpDeleteCollection, Collection: c}
	}
}

// parseUID stands for kind.Parse: "uid:x" has the UID x.
func parseUID(t testing.TB) {
	was := parse
	parse = func(_ holdfast.Kind, _ string, b []byte) (x kindIndex, err error) {
		if uid, ok := strings.CutPrefix(string(b), "uid:"); ok {
			x.UID = uid
		}
		return x, nil
	}
	t.Cleanup(func() { parse = was })
}

func TestModel(t *testing.T) {
	parseUID(t)
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "model")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		cfg := Config{Path: dir, Server: testServer, Readers: 1}
		s, err := Create(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { s.Close() }()
		s.near = holdfast.Seq(rapid.SampledFrom([]int{0, 3, 512}).Draw(t, "near"))
		accounts := []*history{newHistory(1), newHistory(1 << 63)}
		for range rapid.IntRange(1, 6).Draw(t, "transactions") {
			runTx(t, s, accounts)
			if rapid.IntRange(0, 5).Draw(t, "reopen") == 0 {
				near := s.near
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if s, err = Open(context.Background(), cfg); err != nil {
					t.Fatal(err)
				}
				s.near = near
			}
		}
		r, err := s.Read(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for _, h := range accounts {
			h.compare(t, r)
		}
	})
}

// runTx does some changes in one transaction, right and wrong ones, and commits or rolls back.
func runTx(t *rapid.T, s *Store, accounts []*history) {
	tx, err := s.Begin(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	before := []int{len(accounts[0].at), len(accounts[1].at)}
	for range rapid.IntRange(1, 8).Draw(t, "changes") {
		h := accounts[rapid.IntRange(0, 3).Draw(t, "account")/3]
		next, fits := h.now().clone(), true
		var ops []frame.Op
		for range rapid.SampledFrom([]int{1, 1, 1, 2, 5}).Draw(t, "operations") {
			o := h.drawOp(t, next)
			ops = append(ops, o)
			fits = fits && next.do(h.account, holdfast.Seq(len(h.at)), o)
		}
		_, err := change(tx, h.account, ops...)
		if fits != (err == nil) || (!fits && !errors.Is(err, holdfast.ErrInvalid)) {
			t.Fatalf("apply: %v, want fits %v: %+v", err, fits, ops)
		}
		if fits {
			h.at = append(h.at, next)
		}
	}
	for _, h := range accounts { // the writer sees its own changes
		h.compareAt(t, tx.Reader, Newest, h.now())
	}
	if rapid.IntRange(0, 4).Draw(t, "rollback") > 0 {
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	for i, h := range accounts {
		h.at = h.at[:before[i]]
	}
}

func (h *history) compare(t *rapid.T, r *Reader) {
	head, err := r.Head(h.account)
	if err != nil || int(head.Head.Seq) != len(h.at)-1 {
		t.Fatalf("Head: %v, %v, want seq %d", head, err, len(h.at)-1)
	}
	digests := map[holdfast.Hash]string{}
	for at, s := range h.at {
		h.compareAt(t, r, holdfast.Seq(at), s)
		h.compareDigests(t, r, holdfast.Seq(at), s, digests)
		for since := range at + 1 {
			for id := range s.cols {
				h.compareDelta(t, r, id, holdfast.Seq(since), holdfast.Seq(at))
				h.compareChildren(t, r, id, holdfast.Seq(since), holdfast.Seq(at))
			}
		}
	}
	var n, bytes int64
	for _, m := range h.now().res {
		for _, r := range m {
			n++
			bytes += r.Size
		}
	}
	if gn, gb, err := r.Usage(h.account); err != nil || gn != n || gb != bytes {
		t.Fatalf("Usage: %d, %d, %v, want %d, %d", gn, gb, err, n, bytes)
	}
	var prev holdfast.Hash
	next := holdfast.Seq(1)
	err = r.Changes(h.account, 0, Newest, func(seq holdfast.Seq, hash holdfast.Hash, payload []byte) error {
		want, err := frame.ChainHash(prev, payload)
		if err != nil || want != hash || seq != next {
			return fmt.Errorf("change %d: hash %v, want %v: %v", seq, hash, want, err)
		}
		prev = hash
		next++
		return nil
	})
	if err != nil || prev != head.Head.Hash || next != head.Head.Seq+1 {
		t.Fatalf("Changes: %v, ends at %d", err, next)
	}
}

// ignoring drops what the model does not know.
func ignoring(r Resource) Resource {
	r.BodyOffset = 0
	if len(r.Props) == 0 {
		r.Props = nil
	}
	return r
}

func ignoringProps(k Collection) Collection {
	if len(k.Props) == 0 {
		k.Props = nil
	}
	return k
}

func (h *history) compareAt(t *rapid.T, r *Reader, at holdfast.Seq, s *state) {
	a := h.account
	cols, err := r.Collections(a, at)
	if err != nil {
		t.Fatal(err)
	}
	var want []Collection
	for _, id := range slices.Sorted(maps.Keys(s.cols)) {
		want = append(want, ignoringProps(s.cols[id]))
	}
	for i := range cols {
		cols[i] = ignoringProps(cols[i])
	}
	if d := cmp.Diff(want, cols); d != "" {
		t.Fatalf("Collections at %d (-want +got):\n%s", at, d)
	}
	for id := range h.nextID + 1 {
		k, err := r.Collection(a, id, at)
		if w, ok := s.cols[id]; ok != (err == nil) || (ok && cmp.Diff(ignoringProps(w), ignoringProps(*k)) != "") {
			t.Fatalf("Collection %d at %d: %+v, %v, want %+v", id, at, k, err, w)
		}
		h.compareMembers(t, r, id, at, s)
		var below []string
		for _, k := range want {
			if k.Parent == id && id != 0 {
				below = append(below, k.Name)
			}
		}
		slices.Sort(below)
		kids, err := r.Children(a, id, at)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, k := range kids {
			if k.Parent == id && id != 0 {
				got = append(got, k.Name)
			}
		}
		if !slices.Equal(got, below) {
			t.Fatalf("Children of %d at %d: %q, want %q", id, at, got, below)
		}
		for _, name := range colNames {
			k, err := r.Child(a, id, name, at)
			if slices.Contains(below, name) != (err == nil) || (err == nil && (k.Name != name || k.Parent != id)) {
				t.Fatalf("Child %q of %d at %d: %+v, %v", name, id, at, k, err)
			}
		}
		last, err := r.LastChange(a, id, at)
		if w, ok := s.last[id]; ok != (err == nil) || (ok && w != last) {
			t.Fatalf("LastChange of %d at %d: %d, %v, want %d", id, at, last, err, w)
		}
	}
}

func (h *history) compareMembers(t *rapid.T, r *Reader, id holdfast.CollectionID, at holdfast.Seq, s *state) {
	a := h.account
	var want []Resource
	for _, name := range slices.Sorted(maps.Keys(s.res[id])) {
		want = append(want, ignoring(s.res[id][name].Resource))
	}
	for _, limit := range []int{0, 2} {
		var got []Resource
		after := ""
		for {
			page, err := r.Resources(a, id, after, limit, at)
			if err != nil || (limit > 0 && len(page) > limit) {
				t.Fatalf("Resources: %d, %v", len(page), err)
			}
			for _, x := range page {
				got = append(got, ignoring(x))
			}
			if limit == 0 || len(page) < limit {
				break
			}
			after = page[len(page)-1].Name
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("Resources of %d at %d (-want +got):\n%s", id, at, d)
		}
	}
	for _, name := range memberNames {
		x, err := r.Resource(a, id, name, at)
		w, ok := s.res[id][name]
		if ok != (err == nil) || (!ok && !errors.Is(err, holdfast.ErrNotFound)) {
			t.Fatalf("Resource %d/%q at %d: %v, want %v", id, name, at, err, ok)
		}
		if !ok {
			continue
		}
		b, err := r.Body(x)
		if err != nil || string(b) != w.body || cmp.Diff(ignoring(w.Resource), ignoring(*x)) != "" {
			t.Fatalf("Resource %d/%q at %d: %+v, body %q, %v, want %+v", id, name, at, x, b, err, w)
		}
	}
	for _, uid := range []string{"1", "2"} {
		x, err := r.ByUID(a, id, uid, at)
		i := slices.IndexFunc(want, func(r Resource) bool { return r.UID == uid })
		if (i >= 0) != (err == nil) || (i >= 0 && x.Name != want[i].Name) {
			t.Fatalf("ByUID %d %q at %d: %+v, %v", id, uid, at, x, err)
		}
	}
}

// compareDigests checks that digests are equal exactly if contents are.
func (h *history) compareDigests(t *rapid.T, r *Reader, at holdfast.Seq, s *state, seen map[holdfast.Hash]string) {
	for id := range h.nextID + 1 {
		d, err := r.DigestAt(h.account, id, at)
		if err != nil {
			t.Fatal(err)
		}
		k, ok := s.cols[id]
		content := ""
		if ok {
			content = fmt.Sprint(k.Kind, sorted(k.Props))
			for _, name := range slices.Sorted(maps.Keys(s.res[id])) {
				m := s.res[id][name]
				content += fmt.Sprintf("\n%q %q %q %v", name, m.body, m.ContentType, sorted(m.Props))
			}
		}
		if before, ok := seen[d]; ok && before != content {
			t.Fatalf("digest %v of %d at %d for both\n%s\nand\n%s", d, id, at, before, content)
		}
		seen[d] = content
		for other, c := range seen {
			if c == content && other != d {
				t.Fatalf("digests %v and %v for one content\n%s", d, other, c)
			}
		}
	}
}

// compareDelta pages through what changed and compares it with the difference of two states.
func (h *history) compareDelta(t *rapid.T, r *Reader, id holdfast.CollectionID, since, at holdfast.Seq) {
	was, is := h.at[since].res[id], h.at[at].res[id]
	for _, limit := range []int{0, 1, 3} {
		client := map[string]holdfast.Seq{}
		for name, m := range was {
			client[name] = m.Seq
		}
		reached, calls := since, 0
		for calls == 0 || reached < at {
			list, next, err := r.Changed(h.account, id, reached, at, limit)
			if err != nil {
				t.Fatal(err)
			}
			calls++
			if next > at || (next <= reached && next != at) || (limit == 0 && next != at) {
				t.Fatalf("Changed from %d to %d reached %d", reached, at, next)
			}
			if !slices.IsSortedFunc(list, func(a, b Delta) int { return int(a.Seq) - int(b.Seq) }) {
				t.Fatalf("Changed is not in order: %+v", list)
			}
			if limit > 0 && len(list) > limit && list[0].Seq != list[len(list)-1].Seq {
				t.Fatalf("Changed returned %d members of several changes with limit %d", len(list), limit)
			}
			for _, d := range list {
				_, there := h.at[reached].res[id][d.Name]
				now, stays := is[d.Name]
				if d.Seq <= reached || d.Seq > next || d.Deleted == stays || (d.Deleted && !there && reached == 0) {
					t.Fatalf("Changed from %d to %d reached %d: %+v, was there %v, is there %v", reached, at, next, d, there, stays)
				}
				if d.Deleted {
					delete(client, d.Name)
				} else {
					client[d.Name] = d.Seq
					if cmp.Diff(ignoring(now.Resource), ignoring(d.Resource)) != "" {
						t.Fatalf("Changed has %+v, want %+v", d.Resource, now.Resource)
					}
				}
			}
			reached = next
		}
		want := map[string]holdfast.Seq{}
		for name, m := range is {
			want[name] = m.Seq
		}
		if d := cmp.Diff(want, client); d != "" {
			t.Fatalf("collection %d from %d to %d by %d (-want +got):\n%s", id, since, at, limit, d)
		}
	}
}

// compareChildren brings a client that knows the child collections at since to those at `at`.
func (h *history) compareChildren(t *rapid.T, r *Reader, id holdfast.CollectionID, since, at holdfast.Seq) {
	below := func(s *state) map[string]holdfast.Seq {
		m := map[string]holdfast.Seq{}
		for _, k := range s.cols {
			if k.Parent == id {
				m[k.Name] = k.Seq
			}
		}
		return m
	}
	client := below(h.at[since])
	present, removed, err := r.ChangedChildren(h.account, id, since, at)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range removed {
		if _, ok := client[name]; !ok {
			t.Fatalf("ChangedChildren of %d from %d to %d removes %q, which was not there", id, since, at, name)
		}
		delete(client, name)
	}
	for _, k := range present {
		if k.Seq <= since {
			t.Fatalf("ChangedChildren of %d from %d to %d has %+v", id, since, at, k)
		}
		client[k.Name] = k.Seq
	}
	if d := cmp.Diff(below(h.at[at]), client); d != "" {
		t.Fatalf("children of %d from %d to %d (-want +got):\n%s", id, since, at, d)
	}
}
