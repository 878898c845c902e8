package dav

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"strings"

	"holdfast"
	"holdfast/internal/ical"
	"holdfast/internal/kind"
	"holdfast/internal/ledger"
)

// put stores a body as received (RFC 4918, 9.7; RFC 4791, 5.3.2; RFC 6352, 6.3.2).
//
// A view comes first: a closed fence answers before a byte of the body is read, and the kind of the
// collection says what the body must be. What can be refused is refused there, before the update.
func put(q *request) error {
	w, err := q.putObject()
	if err != nil {
		return q.unmatched(err)
	}
	return q.stored(w.created)
}

// putObject stores the body of the request at its path.
func (q *request) putObject() (*putWork, error) {
	cond, err := parseConditions(q.Header)
	if err != nil {
		return nil, err
	}
	if err := checkPutHeader(q.Request); err != nil {
		return nil, err
	}
	sent, err := parseFileHeaders(q.Header)
	if err != nil {
		return nil, err
	}
	parent, err := q.putParent(cond)
	if err != nil {
		return nil, err
	}
	w, err := q.receive(parent, sent)
	if err != nil {
		return nil, err
	}
	w.cond = cond
	if err := w.store(); err != nil {
		return nil, err
	}
	w.answerHeaders()
	q.tell(w.body.Hash)
	return w, nil
}

// putParent returns the collection that a body goes to, or why none can: also because it is locked, before a
// long body is on its way. What an If header says is for the update to judge.
func (q *request) putParent(cond *conditions) (parent *ledger.Collection, err error) {
	err = q.view(func(v *ledger.View) error {
		t, err := resolve(collections{v}, q.path)
		if err != nil {
			return err
		}
		if parent = t.coll; parent == nil {
			if err := q.mayBeLost(v); err != nil {
				return err
			}
		}
		if err := putPlace(q, t); err != nil {
			return err
		}
		if len(cond.lists) == 0 {
			if err := q.permit(cond, t, contents); err != nil {
				return err
			}
		}
		return q.mayFit(v, max(q.ContentLength, 0))
	})
	return parent, err
}

// collections is a view that is asked for collections only, which the ledger knows by heart.
type collections struct{ *ledger.View }

// Resource finds none: whether the name is taken is for the update to say.
func (collections) Resource(holdfast.CollectionID, string) (*ledger.Resource, error) {
	return nil, holdfast.ErrNotFound
}

func checkPutHeader(r *http.Request) error {
	h := r.Header
	if r.ProtoMajor == 1 && r.ContentLength == 0 && len(r.TransferEncoding) == 0 && h.Get("Content-Length") == "" {
		// An empty body must be meant: an HTTP/1.0 client may end its body by closing, which nobody sees here.
		return &fault{status: http.StatusLengthRequired, detail: "Content-Length or chunked, please"}
	}
	if h.Get("Content-Range") != "" {
		return badRequest("Content-Range in a PUT") // RFC 9110, 14.5
	}
	if e := h.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return &fault{status: http.StatusUnsupportedMediaType, detail: "Content-Encoding is not supported"}
	}
	return nil
}

// putPlace refuses a PUT where no body can be.
func putPlace(q *request, t *target) error {
	switch {
	case t.collection():
		return methodNotAllowed(allowed(t), "a collection has no body") // RFC 4918, 9.7.2
	case t.coll == nil:
		return &fault{status: http.StatusConflict, detail: "the collection is missing"} // RFC 4918, 9.7.1
	case q.path.slash:
		return methodNotAllowed(allowed(t), "a name that ends in a slash is a collection's")
	case reserved(t.coll, t.name()):
		return forbidden("the name is kept for the server")
	}
	switch t.coll.Kind {
	case holdfast.KindCard, holdfast.KindCalendar, holdfast.KindFile:
		return nil
	}
	return forbidden("the collection cannot be written over WebDAV")
}

// firstBuffer is how much memory an object gets before its bytes are there.
const firstBuffer = 256 << 10

// putWork is a PUT between the reading of its body and its change.
type putWork struct {
	q           *request
	cond        *conditions
	kind        holdfast.Kind
	index       kind.Index
	contentType string
	body        ledger.Body
	sent        fileHeaders
	created     bool
	keep        *conflictCopy // nil until the server's version has to be kept
}

// receive reads the body and checks that the collection can hold it. What is over
// holdfast.MaxInline is durable when it returns.
func (q *request) receive(parent *ledger.Collection, sent fileHeaders) (*putWork, error) {
	w := &putWork{q: q, kind: parent.Kind, contentType: mediaType(q.Header), sent: sent}
	client := &clientBody{r: q.Body}
	in := checked(client, sent.claims)
	var err error
	if parent.Kind == holdfast.KindFile {
		if q.ContentLength > q.h.cfg.MaxFile {
			return nil, tooLarge(parent.Kind)
		}
		w.body, err = q.putBlob(in, q.h.cfg.MaxFile)
	} else {
		err = w.receiveObject(in, parent)
	}
	switch {
	case client.err != nil:
		// The client stopped in the middle, or lied about the length: nothing is written.
		return nil, badRequest("the body ended early")
	case errors.Is(err, holdfast.ErrTooLarge):
		return nil, tooLarge(parent.Kind)
	}
	return w, err
}

func (q *request) putBlob(r io.Reader, limit int64) (ledger.Body, error) {
	b, err := q.h.cfg.Ledger.PutBlob(q.Context(), q.who.Account, r, limit)
	if err != nil {
		return b, fmt.Errorf("put blob: %w", err)
	}
	return b, nil
}

// receiveObject takes a card or calendar object into memory, checks it and makes it a body.
func (w *putWork) receiveObject(in io.Reader, parent *ledger.Collection) error {
	limit := w.q.h.cfg.MaxObject
	if w.q.ContentLength > limit {
		return tooLarge(w.kind)
	}
	body, err := w.q.held(in, limit, objectCost)
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	if n := w.q.ContentLength; n > 0 {
		buf.Grow(int(min(n, firstBuffer)) + bytes.MinRead) // no more on the strength of a claim
	}
	if _, err := buf.ReadFrom(io.LimitReader(body, limit+1)); err != nil {
		return err
	}
	b := buf.Bytes()
	if int64(len(b)) > limit {
		return tooLarge(w.kind)
	}
	if w.index, err = checkObject(parent, w.contentType, b); err != nil {
		return err
	}
	if len(b) <= holdfast.MaxInline {
		w.body = ledger.InlineBody(b)
		return nil
	}
	w.body, err = w.q.putBlob(bytes.NewReader(b), limit)
	return err
}

// apply judges the preconditions by the newest state and records the change.
func (w *putWork) apply(tx *ledger.Tx) error {
	t, err := resolve(tx, w.q.path)
	if err != nil {
		return err
	}
	if err := putPlace(w.q, t); err != nil {
		return err
	}
	if t.coll.Kind != w.kind {
		return &fault{status: http.StatusConflict, detail: "the collection was replaced"}
	}
	both := false
	if err := w.cond.check(t.state(), w.q.stateOf(tx)); err != nil {
		if !errors.Is(err, holdfast.ErrPrecondition) {
			return err
		}
		var lerr error
		if both, lerr = w.lostVersion(tx, t); lerr != nil {
			return lerr
		}
		if !both {
			return w.unmet(tx, t, err)
		}
	}
	if err := w.q.permit(w.cond, t, w.reach(t, both)); err != nil {
		return err
	}
	if t.place == placeResource && t.res.Body == w.body.Hash && !w.newTime(t) && (w.kind != holdfast.KindFile || t.res.ContentType == w.contentType) {
		return nil // L8: it is there already; a ctag that moved would send every device to look
	}
	if err := uidFree(tx, t, w.index.UID); err != nil {
		return err
	}
	if both {
		if err := w.keepBoth(tx, t); err != nil {
			return err
		}
	}
	if err := w.q.fitsQuota(tx, w.body.Size); err != nil {
		return err
	}
	w.created = t.place == placeNothing
	w.record(tx, t)
	return nil
}

// reach says which locks a PUT needs the tokens of.
func (w *putWork) reach(t *target, both bool) reach {
	if t.place == placeNothing || both {
		return contents | naming
	}
	return contents
}

// unmet answers a PUT whose precondition does not hold.
func (w *putWork) unmet(tx *ledger.Tx, t *target, refused error) error {
	if t.place == placeNothing && w.cond.match != nil && tx.Head().Epoch > 1 {
		// A1: after an accepted loss a device that still has the resource must not be told that its
		// edit is out of date: on 404 DAVx5 uploads it as new.
		return errNotFound
	}
	if t.place != placeResource || t.res.Body != w.body.Hash || w.cond.tokens() {
		return refused // what was locked before, or what a sync token said, cannot be asked any more
	}
	before := &target{place: placeNothing, segs: t.segs, coll: t.coll}
	r, err := tx.Before(t.res)
	switch {
	case err == nil:
		before.place, before.res = placeResource, r
	case !errors.Is(err, holdfast.ErrNotFound):
		return fmt.Errorf("version before: %w", err)
	}
	if w.cond.noneMatch != nil && w.q.wasTold(w.body.Hash) {
		return refused // RFC 9110, 13.1.2: the answer was not lost
	}
	if w.cond.check(before.state(), w.q.stateOf(tx)) == nil {
		return nil // DESIGN.md 3, "Repeats": the answer was lost, the change was not (RFC 9110, 13.1.1)
	}
	return refused
}

// uidFree refuses a second resource with one UID, and another UID under one name (RFC 4791, 5.3.2.1;
// RFC 6352, 5.1 and 6.3.2.1). Status 409: the client can mend it.
func uidFree(tx *ledger.Tx, t *target, uid string) error {
	if uid == "" {
		return nil
	}
	condition := calName("no-uid-conflict")
	switch t.coll.Kind {
	case holdfast.KindCalendar:
	case holdfast.KindCard:
		condition = cardName("no-uid-conflict")
	default:
		return nil
	}
	f := &fault{status: http.StatusConflict, condition: condition, detail: "the UID is another resource's"}
	if t.place == placeResource && t.res.UID != "" && t.res.UID != uid {
		f.hrefs = [][]string{t.segs}
		return f
	}
	if t.place == placeResource && t.res.UID == uid {
		return nil // it had the UID before, so no other got it since
	}
	other, err := tx.ByUID(t.coll.ID, uid)
	switch {
	case errors.Is(err, holdfast.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("look for uid: %w", err)
	case other.Name == t.name():
		return nil
	}
	f.hrefs = [][]string{below(t.segs[:len(t.segs)-1], other.Name)}
	return f
}

// checkObject refuses a body that its collection cannot hold, with the condition that says why.
func checkObject(parent *ledger.Collection, contentType string, b []byte) (kind.Index, error) {
	x, err := kind.Parse(parent.Kind, contentType, b)
	if parent.Kind == holdfast.KindCard {
		switch {
		case err == nil:
			return x, nil
		case foreign(contentType, "text/vcard", "text/x-vcard", "text/directory"):
			return x, refuse(http.StatusForbidden, cardName("supported-address-data"), "only text/vcard is stored here")
		}
		return x, refuse(http.StatusForbidden, cardName("valid-address-data"), "not a vCard") // RFC 6352, 6.3.2.1
	}
	if err != nil {
		if foreign(contentType, "text/calendar", "text/x-vcalendar") {
			return x, refuse(http.StatusForbidden, calName("supported-calendar-data"), "only text/calendar is stored here")
		}
		return x, refuse(http.StatusForbidden, calName("valid-calendar-data"), "not an iCalendar object")
	}
	if x.First != math.MinInt64 && x.First < ical.MinTime-2*24*3600 { // bounds are wider than the object
		return x, refuse(http.StatusForbidden, calName("min-date-time"), "a time before year 1")
	}
	return x, checkComponent(parent, b)
}

// checkComponent is RFC 4791, 4.1 and 5.3.2.1: one component type, one that the collection takes.
func checkComponent(parent *ledger.Collection, b []byte) error {
	name, err := kind.Component(b)
	switch {
	case errors.Is(err, ical.ErrTooMany):
		return refuse(http.StatusForbidden, calName("max-instances"), "too many instances") // RFC 4791, 5.3.2.1
	case errors.Is(err, ical.ErrTooManyAttendees):
		return refuse(http.StatusForbidden, calName("max-attendees-per-instance"), "too many attendees")
	case err != nil:
		return refuse(http.StatusForbidden, calName("valid-calendar-object-resource"), "not one calendar component type")
	}
	for _, c := range componentSet(parent) {
		if c == name {
			return nil
		}
	}
	return refuse(http.StatusForbidden, calName("supported-calendar-component"), "the collection does not take this component")
}

// foreign reports whether a content type names a format of its own, other than those given. Types
// that programs send for want of a better one do not count.
func foreign(contentType string, own ...string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	for _, o := range append(own, "text/plain", "application/octet-stream") {
		if t == o {
			return false
		}
	}
	return true
}

// mediaType returns the Content-Type of a request, or nothing if it has none that can be served again.
func mediaType(h http.Header) string {
	s := h.Get("Content-Type")
	t, _, err := mime.ParseMediaType(s)
	// curl and others name a form for want of knowledge.
	if err != nil || len(s) > maxName || t == "application/x-www-form-urlencoded" || !strings.Contains(t, "/") {
		return ""
	}
	return s
}

func tooLarge(k holdfast.Kind) error {
	f := &fault{status: http.StatusRequestEntityTooLarge, detail: "too large"}
	switch k {
	case holdfast.KindCalendar:
		f.condition = calName("max-resource-size") // RFC 4791, 5.3.2.1
	case holdfast.KindCard:
		f.condition = cardName("max-resource-size") // RFC 6352, 6.3.2.1
	default:
		f.condition = xml.Name{}
	}
	return f
}

// clientBody notes that reading failed on the client's side, which is not the server's fault.
type clientBody struct {
	r   io.Reader
	err error
}

func (b *clientBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		b.err = err
	}
	return n, err
}
