package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"

	"holdfast"
	"holdfast/frame"
	"holdfast/internal/mirror"
	"holdfast/internal/store"
)

// reads are the questions that View and Tx answer alike: one account, as of one seq. What is not
// there is ErrNotFound.
type reads struct {
	open    func() (*store.Reader, error) // the store's snapshot, taken when it is first needed
	account holdfast.AccountID
	seq     holdfast.Seq // the state that is shown
	at      holdfast.Seq // the same for the store; store.Newest spares it a look at the history
	ledger  *Ledger
	paths   *paths
	gone    bool // of emptyListing
}

// found returns the collection of key, from memory or by ask.
func (q *reads) found(key pathKey, ask func(r *store.Reader) (*Collection, error)) (*Collection, error) {
	if c, ok := q.paths.get(key, q.seq); ok {
		return c, nil
	}
	r, err := q.open()
	if err != nil {
		return nil, err
	}
	c, err := ask(r)
	if err != nil {
		return nil, err
	}
	q.paths.put(key, c, q.seq)
	return c, nil
}

// Collection returns a collection by its id.
func (q *reads) Collection(id holdfast.CollectionID) (*Collection, error) {
	return q.found(pathKey{account: q.account, id: id}, func(r *store.Reader) (*Collection, error) {
		return r.Collection(q.account, id, q.at)
	})
}

// Child returns the collection of one name directly below parent.
func (q *reads) Child(parent holdfast.CollectionID, name string) (*Collection, error) {
	leaf := pathKey{account: q.account, parent: parent} // remembered for a collection that has no others in it
	if _, ok := q.paths.get(leaf, q.seq); ok {
		return nil, fmt.Errorf("collection %q: %w", name, holdfast.ErrNotFound)
	}
	return q.found(pathKey{account: q.account, parent: parent, name: name}, func(r *store.Reader) (*Collection, error) {
		c, err := r.Child(q.account, parent, name, q.at)
		if errors.Is(err, holdfast.ErrNotFound) {
			if all, lerr := r.Children(q.account, parent, q.at); lerr == nil && len(all) == 0 {
				q.paths.put(leaf, &Collection{}, q.seq)
			}
		}
		return c, err
	})
}

// Children returns the collections directly below parent, sorted by name.
func (q *reads) Children(parent holdfast.CollectionID) ([]Collection, error) {
	r, err := q.open()
	if err != nil {
		return nil, err
	}
	return r.Children(q.account, parent, q.at)
}

// Resource returns the thin row of a member of collection c.
func (q *reads) Resource(c holdfast.CollectionID, name string) (*Resource, error) {
	r, err := q.open()
	if err != nil {
		return nil, err
	}
	return r.Resource(q.account, c, name, q.at)
}

// Before returns the version of a resource that the present body of res replaced. ErrNotFound: res was
// not there just before.
func (q *reads) Before(res *Resource) (*Resource, error) {
	r, err := q.open()
	if err != nil {
		return nil, err
	}
	return r.Resource(q.account, res.Collection, res.Name, res.BodySeq-1)
}

// Had reports whether a member of collection c ever had an ETag.
func (q *reads) Had(c holdfast.CollectionID, name, etag string) (bool, error) {
	r, err := q.open()
	if err != nil {
		return false, err
	}
	return r.Had(q.account, c, name, etag)
}

// HadChild reports whether a collection of a name was directly below parent once.
func (q *reads) HadChild(parent holdfast.CollectionID, name string) (bool, error) {
	r, err := q.open()
	if err != nil {
		return false, err
	}
	return r.HadChild(q.account, parent, name)
}

// ByUID returns the thin row of the member of collection c that has a UID.
func (q *reads) ByUID(c holdfast.CollectionID, uid string) (*Resource, error) {
	r, err := q.open()
	if err != nil {
		return nil, err
	}
	return r.ByUID(q.account, c, uid, q.at)
}

// Resources returns at most limit members of collection c, sorted bytewise by name, from the first name above after.
func (q *reads) Resources(c holdfast.CollectionID, after string, limit int) ([]Resource, error) {
	if q.gone {
		return nil, nil
	}
	r, err := q.open()
	if err != nil {
		return nil, err
	}
	return r.Resources(q.account, c, after, limit, q.at)
}

// Body returns the body of res, verified against its hash. A blob is read whole: use OpenBody for what may be large.
func (q *reads) Body(res *Resource) ([]byte, error) {
	if res.IsBlob() {
		return q.ledger.readBlob(context.Background(), res)
	}
	r, err := q.open()
	if err != nil {
		return nil, err
	}
	b, err := r.Body(res)
	if errors.Is(err, holdfast.ErrCorrupt) {
		return nil, storeError("read", err)
	}
	return b, err
}

// View is one account at its durable head. It is valid only inside the function it was given to.
type View struct {
	reads
	head    holdfast.AccountHead
	db      *sharedStore
	ctx     context.Context // of the request this view answers
	mirrors []*mirror.Mirror
	term    holdfast.Term
	r       *store.Reader // nil until the first question that memory cannot answer
}

// Head returns the durable head this view shows.
func (v *View) Head() holdfast.AccountHead { return v.head }

// OpenBody opens the body of r for reading; the result outlives the view. A damaged blob ends in ErrCorrupt, never in EOF.
func (v *View) OpenBody(r *Resource) (io.ReadSeekCloser, error) {
	if r.IsBlob() {
		return v.ledger.openBlob(context.Background(), r)
	}
	b, err := v.Body(r)
	if err != nil {
		return nil, err
	}
	return inlineReader(b), nil
}

// Changed returns what differs in collection c between since and this view, in order of seq, at most
// limit members, and the head reached: that of the view, or an earlier one if there is more to come.
func (v *View) Changed(c holdfast.CollectionID, since holdfast.Seq, limit int) ([]Delta, holdfast.Head, error) {
	r, err := v.open()
	if err != nil {
		return nil, holdfast.Head{}, err
	}
	d, reached, err := r.Changed(v.account, c, since, v.seq, limit)
	if err != nil {
		return nil, holdfast.Head{}, err
	}
	if reached >= v.seq {
		return d, v.head.Head, nil
	}
	h, err := v.headAt(reached)
	return d, h, err
}

// ChangedCollections returns how the collections directly below parent differ between since and this
// view: those that are new or changed themselves, and the names of those that are gone.
func (v *View) ChangedCollections(parent holdfast.CollectionID, since holdfast.Seq) (present []Collection, removed []string, err error) {
	r, err := v.open()
	if err != nil {
		return nil, nil, err
	}
	return r.ChangedChildren(v.account, parent, since, v.seq)
}

// LastChange returns the head at the newest change of collection c or one of its direct members.
func (v *View) LastChange(c holdfast.CollectionID) (holdfast.Head, error) {
	r, err := v.open()
	if err != nil {
		return holdfast.Head{}, err
	}
	seq, err := r.LastChange(v.account, c, v.seq)
	if err != nil {
		return holdfast.Head{}, err
	}
	return v.headAt(seq)
}

func (v *View) headAt(s holdfast.Seq) (holdfast.Head, error) {
	switch s {
	case v.seq:
		return v.head.Head, nil
	case 0:
		return holdfast.Head{}, nil
	}
	h, err := v.hashAt(s)
	return holdfast.Head{Seq: s, Hash: h}, err
}

// hashAt returns the hash of the account's chain at a seq up to the store's head.
func (v *View) hashAt(s holdfast.Seq) (holdfast.Hash, error) {
	r, err := v.open()
	if err != nil {
		return holdfast.Hash{}, err
	}
	return r.HashAt(v.account, s)
}

// Usage returns how many resources the account holds, and the bytes of their bodies.
func (v *View) Usage() (resources, bytes int64, err error) {
	r, err := v.open()
	if err != nil {
		return 0, 0, err
	}
	return r.Usage(v.account)
}

// Stored returns the bytes of the bodies that the account has now, and of those that it keeps although
// they were replaced or deleted.
func (q *reads) Stored() (live, history int64, err error) {
	r, err := q.open()
	if err != nil {
		return 0, 0, err
	}
	if _, live, err = r.Usage(q.account); err == nil {
		history, err = r.History(q.account)
	}
	return live, history, err
}

// Digest returns the order-independent digest of a collection's members: equal digests, equal contents.
func (v *View) Digest(c holdfast.CollectionID) (holdfast.Hash, error) {
	r, err := v.open()
	if err != nil {
		return holdfast.Hash{}, err
	}
	return r.DigestAt(v.account, c, v.at)
}

// Tx is the newest state of one account, which may not be durable yet, and what is to be done to it.
// Reads do not see what this Tx has recorded.
type Tx struct {
	reads
	head holdfast.AccountHead
	ops  []frame.Op
	err  error
}

// Head returns the head that the change will extend.
func (t *Tx) Head() holdfast.AccountHead { return t.head }

// Put creates or replaces the body of a resource. contentType may be empty; modified is in
// milliseconds since 1970 UTC. Properties of an existing resource stay.
func (t *Tx) Put(c holdfast.CollectionID, name, contentType string, modified int64, b Body) {
	op := frame.Op{Type: frame.OpPut, Collection: c, Name: name, ContentType: contentType, Modified: modified}
	switch {
	case b.blob != nil:
		op.Blob = b.blob
	case b.inline != nil:
		op.Body = b.inline
	default:
		t.fail(fmt.Errorf("put %q without a body: %w", name, holdfast.ErrInvalid))
	}
	t.add(op)
}

// Properties gives what the Put before it stores exactly these dead properties.
func (t *Tx) Properties(props []holdfast.Property) {
	if len(t.ops) == 0 || t.ops[len(t.ops)-1].Type != frame.OpPut {
		t.fail(fmt.Errorf("properties without a put before: %w", holdfast.ErrInvalid))
		return
	}
	if props == nil {
		props = []holdfast.Property{}
	}
	t.ops[len(t.ops)-1].Props = props
}

// PutCopy makes a resource of the body and properties that r has, also from another collection.
func (t *Tx) PutCopy(c holdfast.CollectionID, name string, r *Resource) {
	op := frame.Op{Type: frame.OpPut, Collection: c, Name: name, ContentType: r.ContentType, Modified: r.Modified, Props: r.Props}
	if op.Props == nil {
		op.Props = []holdfast.Property{}
	}
	if r.IsBlob() {
		op.Blob = &frame.Blob{Hash: r.Body, Size: r.Size}
	} else {
		b, err := t.Body(r)
		t.fail(err)
		op.Body = b
	}
	t.add(op)
}

// Delete removes a resource.
func (t *Tx) Delete(c holdfast.CollectionID, name string) {
	t.add(frame.Op{Type: frame.OpDelete, Collection: c, Name: name})
}

// SetProperties replaces the dead properties of a resource; its body and ETag stay.
func (t *Tx) SetProperties(c holdfast.CollectionID, name string, props []holdfast.Property) {
	if props == nil {
		props = []holdfast.Property{}
	}
	t.add(frame.Op{Type: frame.OpSetProperties, Collection: c, Name: name, Props: props})
}

// NewCollection creates a collection below parent and returns its id, which is never used again.
func (t *Tx) NewCollection(parent holdfast.CollectionID, name string, k holdfast.Kind, props []holdfast.Property) holdfast.CollectionID {
	// Unique for ever without a counter: the seq of the change that makes it, and the place in that change.
	id := holdfast.CollectionID(uint64(t.head.Head.Seq+1)*frame.MaxOps + uint64(len(t.ops)))
	t.PutCollection(&Collection{ID: id, Parent: parent, Name: name, Kind: k, Props: props})
	return id
}

// PutCollection creates a collection, or replaces name, place and properties of the one with c's id.
func (t *Tx) PutCollection(c *Collection) {
	props := c.Props
	if props == nil {
		props = []holdfast.Property{}
	}
	t.add(frame.Op{
		Type: frame.OpPutCollection, Collection: c.ID, Parent: c.Parent, Kind: c.Kind, Name: c.Name,
		Modified: t.ledger.now().UnixMilli(), Props: props,
	})
}

// DeleteCollection removes a collection and all below it.
func (t *Tx) DeleteCollection(id holdfast.CollectionID) {
	t.add(frame.Op{Type: frame.OpDeleteCollection, Collection: id})
}

func (t *Tx) add(op frame.Op) {
	if len(t.ops) >= frame.MaxOps {
		t.fail(fmt.Errorf("more than %d operations in one change: %w", frame.MaxOps, holdfast.ErrTooLarge))
		return
	}
	t.ops = append(t.ops, op)
}

// fail refuses the whole change with the first error.
func (t *Tx) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}
