package dav

import (
	"net/http"

	"holdfast/internal/ledger"
)

// options answers what can be done at a path (RFC 4918, 10.1; RFC 4791, 5.1; RFC 6352, 6.1).
func options(q *request) error {
	allow := allMethods
	err := q.view(func(v *ledger.View) error {
		t, err := resolve(v, q.path)
		if err != nil {
			return err
		}
		allow = allowed(t)
		return nil
	})
	if err != nil {
		return err
	}
	q.w.Header().Set("Allow", allow)
	return q.done(http.StatusOK)
}

// allowed lists the methods that make sense at a target.
func allowed(t *target) string {
	switch t.place {
	case placeResource:
		return "OPTIONS, GET, HEAD, PUT, DELETE, PROPFIND, PROPPATCH, COPY, MOVE, LOCK, UNLOCK, REPORT"
	case placeNothing:
		return "OPTIONS, PUT, MKCOL, MKCALENDAR, LOCK"
	case placeCollection:
		if !t.isHome() {
			if takesMembers(t) {
				return "OPTIONS, GET, HEAD, POST, DELETE, PROPFIND, PROPPATCH, COPY, MOVE, LOCK, UNLOCK, REPORT"
			}
			return "OPTIONS, GET, HEAD, DELETE, PROPFIND, PROPPATCH, COPY, MOVE, LOCK, UNLOCK, REPORT"
		}
		return "OPTIONS, GET, HEAD, PROPFIND, PROPPATCH, REPORT"
	}
	return "OPTIONS, GET, HEAD, PROPFIND, REPORT"
}
