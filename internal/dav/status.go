package dav

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"holdfast"
)

// retryAfter is what a 503 asks a client to wait, in seconds. A heal or a restart takes less.
const retryAfter = 30

// fault is a refusal: its status and, where a standard names one, the condition that stands in DAV:error.
type fault struct {
	status    int
	condition xml.Name // none if Local is empty
	hrefs     [][]string
	privilege string        // that is missing, of need-privileges: a name of RFC 3744, 3
	detail    string        // for people who read the answer; never internal text
	allow     string        // of a 405
	members   []memberFault // of a 207
}

// memberFault is what stood in the way at one path of many.
type memberFault struct {
	segs       []string
	collection bool
	fault      *fault
}

func (f *fault) Error() string {
	if f.detail == "" {
		return f.condition.Local
	}
	return f.detail
}

// Unwrap tells the sentinel that a status stands for, for callers that look at errors alone.
func (f *fault) Unwrap() error {
	switch f.status {
	case http.StatusNotFound:
		return holdfast.ErrNotFound
	case http.StatusPreconditionFailed:
		return holdfast.ErrPrecondition
	case http.StatusRequestEntityTooLarge:
		return holdfast.ErrTooLarge
	case http.StatusBadRequest:
		return holdfast.ErrInvalid
	}
	return holdfast.ErrDenied
}

func refuse(status int, condition xml.Name, detail string) error {
	return &fault{status: status, condition: condition, detail: detail}
}

func badRequest(format string, args ...any) error {
	return &fault{status: http.StatusBadRequest, detail: fmt.Sprintf(format, args...)}
}

func forbidden(detail string) error {
	// RFC 3744, 7.1.1; DAVx5 gives up on a 403 without it.
	return &fault{status: http.StatusForbidden, condition: davName("need-privileges"), detail: detail}
}

func methodNotAllowed(allow, detail string) error {
	return &fault{status: http.StatusMethodNotAllowed, allow: allow, detail: detail}
}

var errNotFound = fmt.Errorf("nothing here: %w", holdfast.ErrNotFound)

// unavailable are the errors that say nothing about the data: the client keeps what it has and tries
// again (F3). They are looked for first, whatever else an error wraps.
var unavailable = []error{
	holdfast.ErrFenced, holdfast.ErrNotDurable, holdfast.ErrAbsent, holdfast.ErrFatal, holdfast.ErrCorrupt,
	holdfast.ErrBusy, context.Canceled, context.DeadlineExceeded,
}

// statuses maps the sentinels to answers, in this order.
var statuses = []struct {
	err    error
	answer fault
}{
	{holdfast.ErrQuota, fault{status: http.StatusInsufficientStorage, condition: davName("quota-not-exceeded"), detail: "over quota"}}, // RFC 4331, 6
	{holdfast.ErrFull, fault{status: http.StatusInsufficientStorage, condition: davName("sufficient-disk-space"), detail: "the server's disk is full"}},
	{holdfast.ErrToken, fault{status: http.StatusForbidden, condition: davName("valid-sync-token"), detail: "unknown sync token"}}, // RFC 6578, 3.2
	{holdfast.ErrPrecondition, fault{status: http.StatusPreconditionFailed, detail: "precondition failed"}},
	{holdfast.ErrTooLarge, fault{status: http.StatusRequestEntityTooLarge, detail: "too large"}},
	{holdfast.ErrNotFound, fault{status: http.StatusNotFound, detail: "not found"}},
	{holdfast.ErrInvalid, fault{status: http.StatusBadRequest, detail: "bad request"}},
	{holdfast.ErrExists, fault{status: http.StatusMethodNotAllowed, detail: "already exists"}},
	{holdfast.ErrDenied, fault{status: http.StatusForbidden, condition: davName("need-privileges"), detail: "not allowed"}},
}

// statusOf is the one place where an error becomes an answer.
func statusOf(err error) *fault {
	for _, u := range unavailable {
		if errors.Is(err, u) {
			return &fault{status: http.StatusServiceUnavailable, detail: "try again later"}
		}
	}
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	for i := range statuses {
		if errors.Is(err, statuses[i].err) {
			return &statuses[i].answer
		}
	}
	return &fault{status: http.StatusInternalServerError, detail: "internal error"}
}

// privileges are what a method needs (RFC 3744, appendix B), for refusals that do not say.
var privileges = map[string]string{
	"PUT": "write-content", "PROPPATCH": "write-properties", "DELETE": "unbind", "MOVE": "bind", "COPY": "bind", "MKCOL": "bind", "MKCALENDAR": "bind",
	"POST": "bind", "LOCK": "write-content", "UNLOCK": "unlock",
}

// about returns the refusal with what need-privileges has inside: the resource and the privilege.
func (f *fault) about(method string, segs []string) *fault {
	if f.condition != davName("need-privileges") || f.hrefs != nil {
		return f
	}
	g := *f
	g.hrefs, g.privilege = [][]string{segs}, privileges[method]
	if g.privilege == "" {
		g.privilege = "read"
	}
	return &g
}

// write sends the refusal. A DAV:error is never empty: Thunderbird takes that for a rate limit.
func (f *fault) write(w http.ResponseWriter, head bool) {
	h := w.Header()
	for _, k := range []string{"ETag", "Last-Modified", "Content-Disposition", "Content-Location", "Cache-Control"} {
		h.Del(k)
	}
	if f.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	if f.allow != "" {
		h.Set("Allow", f.allow)
	}
	var b []byte
	if f.members != nil {
		h.Set("Content-Type", xmlType)
		b = appendMembers(append(b, xmlHeader...), f.members)
	} else if f.condition.Local == "" {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		b = append(append(b, f.detail...), '\n')
	} else {
		h.Set("Content-Type", xmlType)
		b = appendError(append(b, xmlHeader...), f, true)
	}
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(f.status)
	if !head {
		_, _ = w.Write(b) // a client that is gone has no use for the answer
	}
}

// appendMembers appends a multistatus of refusals alone.
func appendMembers(dst []byte, members []memberFault) []byte {
	dst = append(appendPrefixes(append(dst, "<D:multistatus"...)), '>')
	for i := range members {
		m := &members[i]
		dst = append(dst, "<D:response>"...)
		dst = appendHref(dst, m.segs, m.collection)
		dst = appendStatus(dst, m.fault.status)
		dst = appendError(dst, m.fault, false)
		dst = append(dst, "</D:response>\n"...)
	}
	return append(dst, "</D:multistatus>\n"...)
}

// appendError appends a DAV:error element (RFC 4918, 14.5) with the condition in it.
func appendError(dst []byte, f *fault, root bool) []byte {
	if f.condition.Local == "" {
		return dst
	}
	dst = append(dst, "<D:error"...)
	if root {
		dst = appendPrefixes(dst)
	}
	dst = append(dst, '>')
	open, end := tags(f.condition)
	dst = append(dst, open...)
	if len(f.hrefs) == 0 {
		dst = append(dst, "/>"...)
		return append(dst, "</D:error>"...)
	}
	dst = append(dst, '>')
	for _, segs := range f.hrefs {
		if f.privilege == "" {
			dst = appendHref(dst, segs, false)
			continue
		}
		dst = appendHref(append(dst, "<D:resource>"...), segs, false) // RFC 3744, 7.1.1
		dst = append(dst, "<D:privilege><D:"+f.privilege+"/></D:privilege></D:resource>"...)
	}
	dst = append(dst, end...)
	return append(dst, "</D:error>"...)
}
