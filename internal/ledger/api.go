package ledger

import (
	"context"
	"io"

	"holdfast"
	"holdfast/internal/store"
)

// The nouns of the store that protocols see.
type (
	Resource   = store.Resource
	Collection = store.Collection
	Delta      = store.Delta
)

type Ledger struct{}
type View struct{}
type Tx struct{}
type Body struct {
	Hash   holdfast.Hash
	Size   int64
	inline []byte
	blob   bool
}

func (l *Ledger) View(ctx context.Context, a holdfast.AccountID, fn func(v *View) error) error {
	panic("being written")
}
func (l *Ledger) Update(ctx context.Context, a holdfast.AccountID, by holdfast.DeviceID, fn func(tx *Tx) error) (holdfast.Head, error) {
	panic("being written")
}
func InlineBody(b []byte) Body { panic("being written") }
func (l *Ledger) PutBlob(ctx context.Context, a holdfast.AccountID, r io.Reader, limit int64) (Body, error) {
	panic("being written")
}

func (v *View) Head() holdfast.AccountHead                               { panic("being written") }
func (v *View) Collection(id holdfast.CollectionID) (*Collection, error) { panic("being written") }
func (v *View) Child(parent holdfast.CollectionID, name string) (*Collection, error) {
	panic("being written")
}
func (v *View) Children(parent holdfast.CollectionID) ([]Collection, error) { panic("being written") }
func (v *View) Resource(c holdfast.CollectionID, name string) (*Resource, error) {
	panic("being written")
}
func (v *View) ByUID(c holdfast.CollectionID, uid string) (*Resource, error) { panic("being written") }
func (v *View) Resources(c holdfast.CollectionID, after string, limit int) ([]Resource, error) {
	panic("being written")
}
func (v *View) Changed(c holdfast.CollectionID, since holdfast.Seq, limit int) ([]Delta, holdfast.Head, error) {
	panic("being written")
}
func (v *View) LastChange(c holdfast.CollectionID) (holdfast.Head, error) { panic("being written") }
func (v *View) Body(r *Resource) ([]byte, error)                          { panic("being written") }
func (v *View) OpenBody(r *Resource) (io.ReadSeekCloser, error)           { panic("being written") }
func (v *View) Usage() (resources, bytes int64, err error)                { panic("being written") }
func (v *View) SyncToken(h holdfast.Head) string                          { panic("being written") }
func (v *View) ParseSyncToken(s string) (holdfast.Seq, error)             { panic("being written") }

func (t *Tx) Collection(id holdfast.CollectionID) (*Collection, error) { panic("being written") }
func (t *Tx) Child(parent holdfast.CollectionID, name string) (*Collection, error) {
	panic("being written")
}
func (t *Tx) Children(parent holdfast.CollectionID) ([]Collection, error) { panic("being written") }
func (t *Tx) Resource(c holdfast.CollectionID, name string) (*Resource, error) {
	panic("being written")
}
func (t *Tx) ByUID(c holdfast.CollectionID, uid string) (*Resource, error) { panic("being written") }
func (t *Tx) Body(r *Resource) ([]byte, error)                             { panic("being written") }
func (t *Tx) Put(c holdfast.CollectionID, name, contentType string, modified int64, b Body) {
	panic("being written")
}
func (t *Tx) Delete(c holdfast.CollectionID, name string) { panic("being written") }
func (t *Tx) SetProperties(c holdfast.CollectionID, name string, props []holdfast.Property) {
	panic("being written")
}
func (t *Tx) NewCollection(parent holdfast.CollectionID, name string, k holdfast.Kind, props []holdfast.Property) holdfast.CollectionID {
	panic("being written")
}
func (t *Tx) PutCollection(c *Collection)               { panic("being written") }
func (t *Tx) DeleteCollection(id holdfast.CollectionID) { panic("being written") }
