package dav

import (
	"crypto/rand"
	"fmt"

	"holdfast"
	"holdfast/internal/kind"
	"holdfast/internal/ledger"
)

// addMember is the query of the address that takes new members of a collection (RFC 5995, 3).
const addMember = "add-member"

// post stores a new card or calendar object under a name that the server chooses (RFC 5995, 3).
func post(q *request) error {
	err := q.view(func(v *ledger.View) error {
		t, err := find(v, q.path)
		if err != nil {
			return err
		}
		if q.URL.RawQuery != addMember || !takesMembers(t) {
			return methodNotAllowed(allowed(t), "POST goes to the address in DAV:add-member of a calendar or address book")
		}
		q.path.segs, q.path.slash = below(t.segs, newName()+kind.Extension(t.coll.Kind)), false
		return nil
	})
	if err != nil {
		return err
	}
	w, err := q.putObject()
	if err != nil {
		return err
	}
	q.w.Header().Set("Location", string(appendPath(nil, q.path.segs, false)))
	return q.stored(w.created)
}

// takesMembers reports whether POST can make a member. Files have names that people chose.
func takesMembers(t *target) bool {
	return t.place == placeCollection && (t.coll.Kind == holdfast.KindCalendar || t.coll.Kind == holdfast.KindCard)
}

// newName is a random UUID (RFC 9562, 5.4).
func newName() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func writeAddMember(c *propContext, dst []byte) ([]byte, bool, error) {
	if !takesMembers(c.t) {
		return dst, false, nil
	}
	dst = appendPath(append(dst, "<D:href>"...), c.t.segs, true)
	return append(dst, "?"+addMember+"</D:href>"...), true, nil
}
