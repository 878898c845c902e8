package dav

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"holdfast"
	"holdfast/internal/ledger"
)

// mkcol makes a folder, or with a body what the body says (RFC 4918, 9.3; RFC 5689, 3).
func mkcol(q *request) error {
	w := &newCollection{q: q, kind: holdfast.KindFile, answer: davName("mkcol-response"), failed: http.StatusFailedDependency}
	body, err := q.mkcolBody("mkcol")
	if err != nil {
		return err
	}
	if body != nil {
		if err := w.parse(body); err != nil {
			return err
		}
	}
	return w.make()
}

// mkcalendar makes a calendar (RFC 4791, 5.3.1).
func mkcalendar(q *request) error {
	w := &newCollection{q: q, kind: holdfast.KindCalendar, answer: calName("mkcalendar-response"), failed: http.StatusForbidden}
	body, err := q.mkcolBody("mkcalendar")
	if err != nil {
		return err
	}
	if body != nil {
		if err := w.parse(body); err != nil {
			return err
		}
		w.kind = holdfast.KindCalendar
	}
	return w.make()
}

// mkcolBody reads the body of MKCOL or MKCALENDAR; nil without one.
func (q *request) mkcolBody(root string) (*node, error) {
	want := davName(root)
	if root == "mkcalendar" {
		want = calName(root)
	}
	t := q.Header.Get("Content-Type")
	if t != "" && !strings.Contains(t, "xml") {
		if q.drained() {
			return nil, nil
		}
		// RFC 4918, 9.3: a body that is not understood is 415.
		return nil, &fault{status: http.StatusUnsupportedMediaType, detail: "the body must be XML"}
	}
	body, err := q.xmlBody(maxXML)
	if err != nil {
		var f *fault
		if t == "" && errors.As(err, &f) && f.status == http.StatusBadRequest {
			return nil, &fault{status: http.StatusUnsupportedMediaType, detail: "the body must be XML"}
		}
		return nil, err
	}
	if body != nil && !body.is(want) {
		return nil, &fault{status: http.StatusUnsupportedMediaType, detail: root + " expected"}
	}
	return body, nil
}

// newCollection is a collection about to be made.
type newCollection struct {
	q      *request
	kind   holdfast.Kind
	props  []propChange
	answer xml.Name // root element of the answer that names refused properties
	failed int      // its status
}

// parse reads the properties of the new collection; resourcetype decides its kind.
func (w *newCollection) parse(body *node) error {
	for _, set := range body.elements() {
		if set.name != davName("set") {
			continue
		}
		prop := set.child(davName("prop"))
		for _, p := range prop.elements() {
			switch {
			case p.name == davName("resourcetype"):
				k, err := collectionKind(p)
				if err != nil {
					return err
				}
				w.kind = k
			case p.name == calName("supported-calendar-component-set"):
				value, ok := parseComponents(p)
				c := propChange{name: p.name, value: value}
				if !ok {
					c.fault = &fault{status: http.StatusForbidden, condition: calName("supported-calendar-component")}
				}
				w.props = append(w.props, c)
			default:
				c := propChange{name: p.name, value: storedValue(p, langWithin(prop, langWithin(set, langWithin(body, "")))), fault: unusable(p)}
				if protected(p.name) {
					c.fault = &fault{status: http.StatusForbidden, condition: davName("cannot-modify-protected-property")}
				}
				w.props = append(w.props, c)
			}
		}
	}
	return nil
}

// collectionKind reads DAV:resourcetype (RFC 5689, 3.3).
func collectionKind(n *node) (holdfast.Kind, error) {
	k := holdfast.Kind(0)
	for _, e := range n.elements() {
		t := holdfast.KindFile
		switch e.name {
		case davName("collection"):
			continue
		case calName("calendar"):
			t = holdfast.KindCalendar
		case cardName("addressbook"):
			t = holdfast.KindCard
		default:
			return 0, refuse(http.StatusForbidden, davName("valid-resourcetype"), "resource type not known")
		}
		if k != 0 {
			return 0, refuse(http.StatusForbidden, davName("valid-resourcetype"), "two resource types")
		}
		k = t
	}
	if n.child(davName("collection")) == nil {
		return 0, refuse(http.StatusForbidden, davName("valid-resourcetype"), "not a collection")
	}
	if k == 0 {
		k = holdfast.KindFile
	}
	return k, nil
}

// parseComponents reads a component set into the form it is stored in; false: one that nothing here understands.
func parseComponents(n *node) (string, bool) {
	var b []byte
	for _, e := range n.elements() {
		name, _ := e.attr("name")
		name = strings.ToUpper(name)
		switch name {
		case "VEVENT", "VTODO", "VJOURNAL":
			b = append(b, `<comp xmlns="`+nsCal+`" name="`+name+`"/>`...)
		case "VFREEBUSY", "VAVAILABILITY", "VALARM", "VTIMEZONE": // announced by some clients beside the others; nothing to store
		default:
			return "", false
		}
	}
	return string(b), len(b) > 0
}

// make creates the collection, or nothing.
func (w *newCollection) make() error {
	q := w.q
	for _, c := range w.props {
		if c.fault != nil {
			return w.refused()
		}
	}
	cond, err := parseConditions(q.Header)
	if err != nil {
		return err
	}
	props, size := merge(nil, w.props)
	if size > maxProperties {
		return fmt.Errorf("properties of %d bytes: %w", size, holdfast.ErrTooLarge)
	}
	err = q.update(func(tx *ledger.Tx) error {
		t, err := resolve(tx, q.path)
		if err != nil {
			return err
		}
		if err := w.place(t); err != nil {
			return err
		}
		if err := cond.check(t.state(), q.stateOf(tx)); err != nil {
			return err
		}
		if err := q.permit(cond, t, contents|naming); err != nil {
			return err
		}
		tx.NewCollection(t.coll.ID, t.name(), w.kind, markPlaced(tx, props))
		return nil
	})
	if err != nil {
		return fmt.Errorf("make collection: %w", err)
	}
	q.w.Header().Set("Cache-Control", "no-cache") // RFC 4791, 5.3.1
	return q.done(http.StatusCreated)
}

// place refuses a collection where it cannot be.
func (w *newCollection) place(t *target) error {
	switch {
	case t.place != placeNothing:
		return &fault{status: http.StatusMethodNotAllowed, condition: davName("resource-must-be-null"), detail: "something is there", allow: allowed(t)}
	case t.coll == nil:
		return &fault{status: http.StatusConflict, detail: "the collection above is missing"} // RFC 4918, 9.3.1
	}
	return collectionPlace(w.kind, t.coll, t.name())
}

// collectionPlace is RFC 4791, 5.3.1.1 and RFC 6352, 5.2: calendars and address books lie in the
// home and hold no collections.
func collectionPlace(k holdfast.Kind, parent *ledger.Collection, name string) error {
	if reserved(parent, name) {
		return forbidden("the name is kept for the server")
	}
	if parent.Kind == holdfast.KindFile && (k == holdfast.KindFile || parent.ID == holdfast.Root) {
		return nil
	}
	switch k {
	case holdfast.KindCalendar:
		return refuse(http.StatusForbidden, calName("calendar-collection-location-ok"), "calendars lie in the home")
	case holdfast.KindCard:
		return refuse(http.StatusForbidden, cardName("addressbook-collection-location-ok"), "address books lie in the home")
	}
	return forbidden("no collection can be made here")
}

// refused answers with the properties that stood in the way (RFC 5689, 3; RFC 4791, 5.3.1).
func (w *newCollection) refused() error {
	if err := w.q.view(func(*ledger.View) error { return nil }); err != nil {
		return err
	}
	m := w.q.answer(w.answer)
	defer m.release()
	m.propstats(w.props)
	return m.end(w.failed)
}
