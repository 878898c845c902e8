package ledger

import (
	"fmt"
	"time"

	"holdfast"
)

// Gone returns the seq of the change that took a member away which is not there any more. ErrNotFound:
// there never was one of that name.
func (q *reads) Gone(c holdfast.CollectionID, name string) (holdfast.Seq, error) {
	r, err := q.open()
	if err != nil {
		return 0, err
	}
	return r.Gone(q.account, c, name)
}

// Made returns which device made a change and when, by the clock of then.
func (q *reads) Made(s holdfast.Seq) (holdfast.DeviceID, time.Time, error) {
	r, err := q.open()
	if err != nil {
		return 0, time.Time{}, err
	}
	list, err := r.Stamps(q.account, s, 1)
	if err != nil {
		return 0, time.Time{}, err
	}
	if len(list) == 0 || list[0].Seq != s {
		return 0, time.Time{}, fmt.Errorf("change %s: %w", s, holdfast.ErrNotFound)
	}
	return list[0].Device, time.UnixMilli(list[0].Time).UTC(), nil
}
