package dav

import (
	"net/http"
	"slices"
	"strconv"

	"holdfast"
	"holdfast/internal/ledger"
)

// fileHeaders is what a client says beside the body of a file.
type fileHeaders struct {
	claims      []claim // checksums, of any kind of body
	modified    int64   // milliseconds since 1970
	hasModified bool
	created     int64
	hasCreated  bool
}

// parseFileHeaders reads checksums and the times that programs of ownCloud and Nextcloud, rclone and
// uploaders of photos send with a file.
func parseFileHeaders(h http.Header) (f fileHeaders, err error) {
	if f.claims, err = parseDigests(h); err != nil {
		return f, err
	}
	if f.modified, f.hasModified, err = headerTime(h, "X-OC-Mtime"); err != nil {
		return f, err
	}
	f.created, f.hasCreated, err = headerTime(h, "X-OC-CTime")
	return f, err
}

// answerHeaders says what was stored.
func (w *putWork) answerHeaders() {
	h := w.q.w.Header()
	h.Set("ETag", holdfast.ETag(w.body.Hash)) // RFC 4791, 5.3.4: what is stored is what was sent
	if w.kind != holdfast.KindFile {
		return
	}
	if w.sent.hasModified {
		h.Set("X-OC-Mtime", "accepted") // rclone would set the time once more without it
	}
	if w.sent.hasCreated {
		h.Set("X-OC-CTime", "accepted")
	}
}

// newTime reports whether a file is to get another time of change although its bytes stay: a program
// that compares times would send it again and again.
func (w *putWork) newTime(t *target) bool {
	return w.kind == holdfast.KindFile && w.sent.hasModified && w.sent.modified != t.res.Modified
}

// record records the change: the body, and of a file what the client said beside it.
func (w *putWork) record(tx *ledger.Tx, t *target) {
	at := w.q.h.cfg.Now().UnixMilli()
	if w.kind == holdfast.KindFile && w.sent.hasModified {
		at = w.sent.modified
	}
	tx.Put(t.coll.ID, t.name(), w.contentType, at, w.body)
	if w.kind != holdfast.KindFile {
		return
	}
	var old []holdfast.Property
	if t.place == placeResource {
		old = t.res.Props
	}
	if props := w.properties(old); !equalProps(old, props) {
		tx.Properties(props)
	}
}

// properties returns those of a file after this PUT: the old checksums were another body's.
func (w *putWork) properties(old []holdfast.Property) []holdfast.Property {
	replaced := []string{clark(checksumsName)}
	var props []holdfast.Property
	if p, ok := checksumsProp(w.body.Hash, w.sent.claims); ok {
		props = append(props, p)
	}
	if w.sent.hasCreated {
		replaced = append(replaced, clark(createdName))
		props = append(props, holdfast.Property{Name: clark(createdName), Value: strconv.FormatInt(w.sent.created, 10)})
	}
	kept := make([]holdfast.Property, 0, len(old)+len(props))
	for _, p := range old {
		if !slices.Contains(replaced, p.Name) {
			kept = append(kept, p)
		}
	}
	return append(kept, props...)
}
