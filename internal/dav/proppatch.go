package dav

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"

	"holdfast"
	"holdfast/internal/ical"
	"holdfast/internal/ledger"
)

// maxProperties bounds the dead properties of one resource, in bytes of names and values. The store
// takes 64 KiB; the rest is for what the server adds.
const maxProperties = 60 << 10

// proppatch changes dead properties, all or none (RFC 4918, 9.2).
func proppatch(q *request) error {
	body, err := q.xmlBody(maxXML)
	if err != nil {
		return err
	}
	if !body.is(davName("propertyupdate")) {
		return badRequest("propertyupdate expected")
	}
	changes, err := parseUpdate(body)
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		return badRequest("nothing to set or remove")
	}
	cond, err := parseConditions(q.Header)
	if err != nil {
		return err
	}
	var t *target
	err = q.update(func(tx *ledger.Tx) error {
		at, err := find(tx, q.path)
		if err != nil {
			return err
		}
		if err := cond.check(at.state(), q.stateOf(tx)); err != nil {
			return err
		}
		if err := q.permit(cond, at, contents); err != nil {
			return err
		}
		t = at
		return patch(tx, at, changes)
	})
	var refused refusedChanges
	if errors.As(err, &refused) {
		return sendPatched(q, refused.segs, refused.collection, changes)
	}
	if err != nil {
		return fmt.Errorf("proppatch: %w", err)
	}
	return sendPatched(q, t.segs, t.collection(), changes)
}

// propChange is one property to set or remove, and what became of it.
type propChange struct {
	name   xml.Name
	remove bool
	value  string
	fault  *fault

	allowed bool // although clients may not set the property as such
}

// refusedChanges says that some property could not be changed, so none was.
type refusedChanges struct {
	segs       []string
	collection bool
}

func (refusedChanges) Error() string { return "properties refused" }
func (refusedChanges) Unwrap() error { return holdfast.ErrDenied }

// parseUpdate reads set and remove instructions in their order.
func parseUpdate(n *node) ([]propChange, error) {
	var changes []propChange
	around := langWithin(n, "")
	for _, e := range n.elements() {
		remove := e.name == davName("remove")
		if !remove && e.name != davName("set") {
			continue
		}
		prop := e.child(davName("prop"))
		if prop == nil {
			return nil, badRequest("set or remove without prop")
		}
		for _, p := range prop.elements() {
			c := propChange{name: p.name, remove: remove}
			if !remove {
				c.value = storedValue(p, langWithin(prop, langWithin(e, around)))
				c.fault = unusable(p)
			}
			changes = append(changes, c)
		}
	}
	return changes, nil
}

// unusable refuses a time zone that is none (RFC 4791, 5.2.2; RFC 7809, 5.2).
func unusable(p *node) *fault {
	switch p.name {
	case calName("calendar-timezone"):
		if !ical.HasZone([]byte(p.content())) {
			return &fault{status: http.StatusForbidden, condition: calName("valid-calendar-data")}
		}
	case calName("calendar-timezone-id"):
		if _, err := ical.LoadZone(trimmed(p)); err != nil {
			return &fault{status: http.StatusForbidden, condition: calName("valid-timezone")}
		}
	}
	return nil
}

// patch applies changes to the properties of t, or refuses them all.
func patch(tx *ledger.Tx, t *target, changes []propChange) error {
	modified, rest, bad := setTimes(t, changes)
	for i := range changes {
		if c := &changes[i]; c.fault != nil {
			bad = true
		} else if t.isVirtual() || protected(c.name) && !c.allowed {
			c.fault = &fault{status: http.StatusForbidden, condition: davName("cannot-modify-protected-property")}
			bad = true
		}
	}
	var old []holdfast.Property
	switch t.place {
	case placeCollection:
		old = t.coll.Props
	case placeResource:
		old = t.res.Props
	}
	props, size := merge(old, rest)
	if !bad && size > maxProperties {
		for i := range changes {
			changes[i].fault = &fault{status: http.StatusInsufficientStorage}
		}
		bad = true
	}
	if bad {
		return refusedChanges{t.segs, t.collection()}
	}
	switch {
	case isFile(t) && modified != t.res.Modified:
		r := *t.res
		r.Modified, r.Props = modified, props
		tx.PutCopy(t.coll.ID, t.name(), &r)
	case equalProps(old, props):
	case t.place == placeCollection:
		c := *t.coll
		c.Props = props
		tx.PutCollection(&c)
	default:
		tx.SetProperties(t.coll.ID, t.name(), props)
	}
	return nil
}

// merge returns the properties after the changes, in stable order, and their size in bytes.
func merge(old []holdfast.Property, changes []propChange) ([]holdfast.Property, int) {
	props := append([]holdfast.Property{}, old...)
	at := make(map[string]int, len(props))
	for i, p := range props {
		at[p.Name] = i
	}
	gone := map[string]bool{}
	for _, c := range changes {
		name := clark(c.name)
		i, ok := at[name]
		gone[name] = c.remove
		switch {
		case c.remove:
		case ok:
			props[i].Value = c.value
		default:
			at[name] = len(props)
			props = append(props, holdfast.Property{Name: name, Value: c.value})
		}
	}
	kept, size := props[:0], 0
	for _, p := range props {
		if !gone[p.Name] {
			kept = append(kept, p)
			size += len(p.Name) + len(p.Value)
		}
	}
	return kept, size
}

func equalProps(a, b []holdfast.Property) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// sendPatched answers with the outcome of each property; 424 for those that others took down with them.
func sendPatched(q *request, segs []string, collection bool, changes []propChange) error {
	if q.minimal() && !refusedAny(changes) {
		return q.done(http.StatusOK) // RFC 8144, 2.3: nothing to tell
	}
	m := q.multistatus()
	defer m.release()
	m.buf = append(m.buf, "<D:response>"...)
	m.href(segs, collection)
	m.propstats(changes)
	m.buf = append(m.buf, "</D:response>\n"...)
	return m.end(http.StatusMultiStatus)
}

func refusedAny(changes []propChange) bool {
	for i := range changes {
		if changes[i].fault != nil {
			return true
		}
	}
	return false
}

// propstats groups changes by their outcome.
func (m *multistatus) propstats(changes []propChange) {
	rest := &fault{status: http.StatusOK}
	for i := range changes {
		if changes[i].fault != nil {
			rest = &fault{status: http.StatusFailedDependency}
		}
	}
	type outcome struct {
		fault *fault
		names []xml.Name
	}
	var outcomes []outcome
next:
	for i := range changes {
		f := changes[i].fault
		if f == nil {
			f = rest
		}
		for j := range outcomes {
			if outcomes[j].fault.status == f.status && outcomes[j].fault.condition == f.condition {
				outcomes[j].names = append(outcomes[j].names, changes[i].name)
				continue next
			}
		}
		outcomes = append(outcomes, outcome{f, []xml.Name{changes[i].name}})
	}
	for _, o := range outcomes {
		m.buf = append(m.buf, openFound...)
		seen := map[xml.Name]bool{}
		for _, n := range o.names {
			if !seen[n] {
				m.buf = appendEmpty(m.buf, n)
			}
			seen[n] = true
		}
		m.buf = append(m.buf, "</D:prop>"...)
		m.buf = appendStatus(m.buf, o.fault.status)
		m.buf = appendError(m.buf, o.fault, false)
		m.buf = append(m.buf, "</D:propstat>"...)
	}
}
